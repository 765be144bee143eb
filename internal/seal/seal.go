// Package seal encrypts what the host database keeps but must not show: under master secrets that stand outside of it.
//
// Purpose: one Keyset of master secrets (secret_key), of which the first seals and all open, each value bound to the
// purpose and the row that it was sealed for.
//
// Concurrency: a Keyset is immutable and safe for concurrent use.
//
// Failure mode: closed. A value that was moved, changed, cut, or sealed under another secret does not open, and the
// error says nothing of the content.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/tenantgate/tenantgate/internal/secret"
)

const (
	minSecretBytes = 32
	maxSecretLine  = 1024
	maxSecrets     = 64
	keyIDBytes     = 8
	sealVersion    = "v1"
	derivePrefix   = "tenantgate/v1/"
)

// Errors of Open. Neither says anything of the content.
var (
	// ErrOtherSecret: sealed under a master secret that is not in this Keyset.
	ErrOtherSecret = errors.New("sealed under a master secret that secret_key does not hold")
	// ErrBroken: not something that Seal made for this purpose.
	ErrBroken = errors.New("sealed value does not authenticate")
)

// Keyset holds the master secrets: the first seals and signs, all open and verify. Everything else is derived from
// them by HKDF-SHA256 (RFC 5869), one key for each purpose. Immutable; the zero value holds none. It prints as a count.
type Keyset struct{ secrets []master }

// master is one secret. id is derived from it and says nothing about it.
type master struct {
	id    string
	bytes secret.Text
}

// ParseKeyset reads secret_key's content: one secret a line, base64 of at least 32 bytes, standard or URL alphabet,
// padding optional. Empty lines are passed over. All bad lines are reported at once, by number, never by content.
func ParseKeyset(content secret.Text) (Keyset, error) {
	var set Keyset
	var faults []error
	for i, line := range strings.Split(content.Reveal(), "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		m, err := parseMaster(line)
		if err != nil {
			faults = append(faults, fmt.Errorf("line %d: %w", i+1, err))
			continue
		}
		if !set.has(m.id) {
			set.secrets = append(set.secrets, m)
		}
	}
	switch {
	case len(faults) > 0:
		return Keyset{}, errors.Join(faults...)
	case len(set.secrets) == 0:
		return Keyset{}, errors.New("holds no secret; `tenantgate key generate` makes one")
	case len(set.secrets) > maxSecrets:
		return Keyset{}, fmt.Errorf("holds %d secrets, more than %d; remove those that nothing is sealed under", len(set.secrets), maxSecrets)
	}
	return set, nil
}

func parseMaster(line string) (master, error) {
	if len(line) > maxSecretLine {
		return master{}, fmt.Errorf("is longer than %d characters", maxSecretLine)
	}
	enc := base64.RawStdEncoding
	if strings.ContainsAny(line, "-_") {
		enc = base64.RawURLEncoding
	}
	raw, err := enc.Strict().DecodeString(strings.TrimRight(line, "="))
	if err != nil {
		return master{}, errors.New("is not base64") // the decoder's error would say where, which is more than needed
	}
	if len(raw) < minSecretBytes {
		return master{}, fmt.Errorf("is base64 of %d bytes, at least %d are needed", len(raw), minSecretBytes)
	}
	if strings.Count(string(raw), string(raw[:1])) == len(raw) {
		return master{}, errors.New("is one byte repeated, not a secret; `tenantgate key generate` makes one")
	}
	m := master{bytes: secret.New(string(raw))}
	id, err := m.derive("key id", keyIDBytes)
	if err != nil {
		return master{}, err
	}
	m.id = hex.EncodeToString(id)
	return m, nil
}

// GenerateSecret makes a line for secret_key: base64 of 32 random bytes.
func GenerateSecret() secret.Text {
	b := make([]byte, minSecretBytes)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return secret.New(base64.StdEncoding.EncodeToString(b))
}

// Format implements fmt.Formatter: no verb shows the secrets, which fmt would read past their own redaction here.
func (k Keyset) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// String says how many secrets there are.
func (k Keyset) String() string { return fmt.Sprintf("%d master secrets", len(k.secrets)) }

// LogValue implements slog.LogValuer.
func (k Keyset) LogValue() slog.Value { return slog.StringValue(k.String()) }

// IsZero reports whether there is no secret.
func (k Keyset) IsZero() bool { return len(k.secrets) == 0 }

// Len is the number of secrets.
func (k Keyset) Len() int { return len(k.secrets) }

func (k Keyset) has(id string) bool {
	for _, m := range k.secrets {
		if m.id == id {
			return true
		}
	}
	return false
}

func (m master) derive(purpose string, n int) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, []byte(m.bytes.Reveal()), nil, derivePrefix+purpose, n)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return key, nil
}

// aead is AES-256-GCM under the key of that purpose. Nonces are random: purposes that are sealed often carry an id of
// their own, so that no key comes near 2^32 uses.
func (m master) aead(purpose string) (cipher.AEAD, error) {
	key, err := m.derive("seal/"+purpose, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return gcm, nil
}

// associated binds a sealed value to its version, key and purpose. The id has a fixed length, so that no two triples
// meet in one text.
func associated(id, purpose string) []byte { return []byte(sealVersion + ":" + id + ":" + purpose) }

// Seal encrypts plain under the first secret: v1:<key id>:<base64url of nonce and ciphertext>. Only Open with the same
// purpose reads it; name the row in the purpose, so that a value cannot be moved to another.
func (k Keyset) Seal(purpose string, plain []byte) (string, error) {
	if k.IsZero() {
		return "", errors.New("seal: no master secret")
	}
	m := k.secrets[0]
	gcm, err := m.aead(purpose)
	if err != nil {
		return "", err
	}
	sealed := gcm.Seal(nil, nil, plain, associated(m.id, purpose))
	return sealVersion + ":" + m.id + ":" + base64.RawURLEncoding.EncodeToString(sealed), nil
}

// Open decrypts what Seal made, with any of the secrets. Errors: ErrOtherSecret, ErrBroken.
func (k Keyset) Open(purpose, sealed string) ([]byte, error) {
	version, rest, _ := strings.Cut(sealed, ":")
	id, text, ok := strings.Cut(rest, ":")
	if !ok || version != sealVersion || len(id) != 2*keyIDBytes || strings.ContainsAny(text, "\r\n") {
		return nil, ErrBroken
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, ErrBroken
	}
	for _, m := range k.secrets {
		if m.id != id {
			continue
		}
		gcm, err := m.aead(purpose)
		if err != nil {
			return nil, err
		}
		plain, err := gcm.Open(nil, nil, raw, associated(id, purpose))
		if err != nil {
			return nil, ErrBroken
		}
		return plain, nil
	}
	return nil, ErrOtherSecret
}

// FirstID is the key id of the first secret, by which a sealed value says what it lies under; "" without one. It says
// nothing about the secret.
func (k Keyset) FirstID() string {
	if k.IsZero() {
		return ""
	}
	return k.secrets[0].id
}

// UnderFirst reports whether a sealed value says that it lies under the first secret. Whether it opens is Open's to say.
func (k Keyset) UnderFirst(sealed string) bool {
	return !k.IsZero() && strings.HasPrefix(sealed, sealVersion+":"+k.FirstID()+":")
}
