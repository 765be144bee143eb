package audit

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/sealing"
)

// keyPurpose is that of the key in sys_keys: an Ed25519 seed (RFC 8032), made once.
const keyPurpose = "audit_checkpoint"

// What is signed begins with one of these: a checkpoint is no archive's record.
const (
	checkpointForm = "tenantgate-audit-1"
	archiveForm    = "tenantgate-archive-1"
)

// Errors of checkpoints.
var (
	// ErrCheckpoint: the text is no checkpoint.
	ErrCheckpoint = errors.New("no checkpoint: want the text of the log's field `checkpoint`, whole")
	// ErrForged: the signature is not that of a key of this host database.
	ErrForged = errors.New("checkpoint refused: its signature is not of this host database's key")
)

// Keys sign checkpoints; the first signs, all verify. Immutable.
type Keys struct{ all []signingKey }

// Format keeps the private halves out of whatever is printed.
func (*Keys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "audit.Keys") }

// LogValue implements slog.LogValuer.
func (*Keys) LogValue() slog.Value { return slog.StringValue("audit.Keys") }

type signingKey struct {
	id      string
	private ed25519.PrivateKey
}

// LoadKeys reads the keys from sys_keys, where they lie sealed, and makes the one that there is none of.
func LoadKeys(ctx context.Context, host *catalog.HostDatabase, secrets seal.Keyset) (*Keys, error) {
	rows, err := sealing.Keys(ctx, host, secrets, keyPurpose, func() ([]byte, error) {
		seed := make([]byte, ed25519.SeedSize)
		_, err := rand.Read(seed)
		return seed, err
	})
	if err != nil {
		return nil, err
	}
	return newKeys(rows)
}

// ReadKeys is LoadKeys for one who makes none: where there is none, what it returns verifies nothing.
func ReadKeys(ctx context.Context, host *catalog.HostDatabase, secrets seal.Keyset) (*Keys, error) {
	stored, err := host.Keys.List(ctx, keyPurpose)
	if err != nil || len(stored) == 0 {
		return &Keys{}, err
	}
	rows, err := sealing.ReadKeys(ctx, host, secrets, keyPurpose)
	if err != nil {
		return nil, err
	}
	return newKeys(rows)
}

func newKeys(rows []sealing.Key) (*Keys, error) {
	k := &Keys{}
	for _, row := range rows {
		if len(row.Plain) != ed25519.SeedSize {
			return nil, fmt.Errorf("key %s (%s) has %d bytes instead of %d", row.ID, keyPurpose, len(row.Plain), ed25519.SeedSize)
		}
		k.all = append(k.all, signingKey{row.ID, ed25519.NewKeyFromSeed(row.Plain)})
	}
	return k, nil
}

// sign returns the first key's id and its signature of a text.
func (k *Keys) sign(text string) (id, signature string) {
	key := k.all[0]
	return key.id, base64.RawURLEncoding.EncodeToString(ed25519.Sign(key.private, []byte(text)))
}

func (k *Keys) verify(id, text, signature string) bool {
	sig, err := base64.RawURLEncoding.Strict().DecodeString(signature)
	if err != nil || strings.ContainsAny(signature, "\r\n") { // which base64 passes over
		return false
	}
	for _, key := range k.all {
		if key.id == id && ed25519.Verify(key.private.Public().(ed25519.PublicKey), []byte(text), sig) {
			return true
		}
	}
	return false
}

// PublicKeys are the public halves, base64url, by key id: for whoever verifies signatures elsewhere.
func (k *Keys) PublicKeys() map[string]string {
	out := map[string]string{}
	for _, key := range k.all {
		out[key.id] = base64.RawURLEncoding.EncodeToString(key.private.Public().(ed25519.PublicKey))
	}
	return out
}

// Checkpoint says how far the chain had come. Entries are numbered without a gap: Seq is also how many there were.
type Checkpoint struct {
	Seq  int64
	Hash string // of entry Seq; "" for a chain without entries
	At   string // UTC, see catalog.Timestamp
}

// body is what is signed: form/seq/hash/time.
func (c Checkpoint) body() string {
	return checkpointForm + "/" + strconv.FormatInt(c.Seq, 10) + "/" + c.Hash + "/" + c.At
}

// Sign renders a checkpoint: tenantgate-audit-1/SEQ/HASH/TIME/KEY ID/SIGNATURE, without a blank. The signature is
// Ed25519's, base64url without padding, of all that stands before the key's id and its slash.
func (k *Keys) Sign(c Checkpoint) string {
	id, signature := k.sign(c.body())
	return c.body() + "/" + id + "/" + signature
}

// ParseCheckpoint reads a checkpoint and refuses a forged one. Errors: ErrCheckpoint, ErrForged.
func (k *Keys) ParseCheckpoint(text string) (Checkpoint, error) {
	c, id, signature, err := splitCheckpoint(text)
	if err != nil {
		return Checkpoint{}, err
	}
	if !k.verify(id, c.body(), signature) {
		return Checkpoint{}, ErrForged
	}
	return c, nil
}

// maxCheckpoint bounds the text, in bytes.
const maxCheckpoint = 1024

func splitCheckpoint(text string) (c Checkpoint, id, signature string, err error) {
	parts := strings.Split(text, "/")
	if len(text) > maxCheckpoint || len(parts) != 6 || parts[0] != checkpointForm {
		return c, "", "", ErrCheckpoint
	}
	c.Seq, err = strconv.ParseInt(parts[1], 10, 64)
	if err != nil || c.Seq < 0 || strconv.FormatInt(c.Seq, 10) != parts[1] {
		return c, "", "", ErrCheckpoint
	}
	c.Hash, c.At = parts[2], parts[3]
	if _, err := catalog.ParseTimestamp(c.At); err != nil {
		return c, "", "", ErrCheckpoint
	}
	return c, parts[4], parts[5], nil
}

func newCheckpoint(head catalog.ChainHead, now time.Time) Checkpoint {
	return Checkpoint{Seq: head.Seq, Hash: head.Hash, At: catalog.Timestamp(now)}
}
