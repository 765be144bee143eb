package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/sealing"
)

// The life of an assertion key. Everything follows from the rows' created_at and the clock, so that replicas agree
// without talking to each other: a key is published at once, signs after publishFor, and goes out of the key set
// maxAssertion after its successor began to sign.
const (
	// publishFor is how long a new key is published before it signs: longer than a replica takes to read it (keyLook)
	// and an app to fetch the key set again (max-age=300; ten minutes in some libraries), both together.
	publishFor = 15 * time.Minute
	// maxAssertion is the longest lifetime of an assertion, and of the router's memory of one, with an allowance for
	// clocks: config allows an hour.
	maxAssertion   = time.Hour
	assertionSlack = 10 * time.Minute
	// renewAfter is the age at which the newest key gets a successor, without anybody's doing.
	renewAfter = 90 * 24 * time.Hour
	// keyLook is how often a replica looks for keys that others made or retired.
	keyLook        = 5 * time.Second
	keyLookTimeout = 5 * time.Second
)

// signers are the assertion's keys at one time. Immutable.
type signers struct {
	signer *ecdsa.PrivateKey
	kid    string
	jwks   []byte   // the published keys, as served
	past   []string // ids that no assertion needs any more
	newest time.Time
	keys   []sealing.Key // what it was derived from, newest first
}

// newAssertionKey makes a P-256 key (ES256, RFC 7518 3.4) in PKCS #8.
func newAssertionKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

// newSigners decides which of the keys, newest first, signs now and which are published. With none old enough the
// oldest signs: the very first key, or one beside which all others were retired.
func newSigners(keys []sealing.Key, now time.Time) (*signers, error) {
	s := &signers{keys: keys}
	at := len(keys) - 1
	for i, key := range keys {
		created, err := catalog.ParseTimestamp(key.Created)
		if err != nil {
			continue // no time of ours: it never becomes the signer by age
		}
		if i == 0 {
			s.newest = created
		}
		if !now.Before(created.Add(publishFor)) {
			at = i
			break
		}
	}
	began, err := catalog.ParseTimestamp(keys[at].Created)
	over := err == nil && !now.Before(began.Add(publishFor+maxAssertion+assertionSlack))
	published := keys
	if over {
		published = keys[:at+1]
		for _, key := range keys[at+1:] {
			s.past = append(s.past, key.ID)
		}
	}
	return s, s.publish(published, keys[at].ID)
}

// jwk is a public P-256 key (RFC 7517, RFC 7518 6.2).
type jwk struct {
	KeyType string `json:"kty"`
	Use     string `json:"use"`
	Alg     string `json:"alg"`
	Curve   string `json:"crv"`
	ID      string `json:"kid"`
	X       string `json:"x"`
	Y       string `json:"y"`
}

// publish makes the key set, and the signer of the key of that id.
func (s *signers) publish(keys []sealing.Key, signer string) error {
	var doc struct {
		Keys []jwk `json:"keys"`
	}
	for _, key := range keys {
		parsed, err := x509.ParsePKCS8PrivateKey(key.Plain)
		if err != nil {
			return fmt.Errorf("key %s (%s): not a private key", key.ID, purposeAssertion)
		}
		private, ok := parsed.(*ecdsa.PrivateKey)
		if !ok || private.Curve != elliptic.P256() {
			return fmt.Errorf("key %s (%s): not a P-256 key", key.ID, purposeAssertion)
		}
		if key.ID == signer {
			s.signer, s.kid = private, key.ID
		}
		point, err := private.PublicKey.Bytes() // 4, X, Y
		if err != nil {
			return fmt.Errorf("key %s (%s): %w", key.ID, purposeAssertion, err)
		}
		doc.Keys = append(doc.Keys, jwk{
			KeyType: "EC", Use: "sig", Alg: "ES256", Curve: "P-256", ID: key.ID,
			X: base64.RawURLEncoding.EncodeToString(point[1:33]), Y: base64.RawURLEncoding.EncodeToString(point[33:65]),
		})
	}
	var err error
	if s.jwks, err = json.Marshal(doc); err != nil {
		return fmt.Errorf("key set: %w", err)
	}
	return nil
}

// startKeyLooks starts the one goroutine that follows the keys of the host database.
func (a *Auth) startKeyLooks() {
	a.owner.run(func(ctx context.Context) {
		tick := time.NewTicker(keyLook)
		defer tick.Stop()
		said := ""
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			err := a.lookForKeys(ctx)
			switch {
			case ctx.Err() != nil:
				return
			case err == nil:
				said = ""
			case err.Error() != said: // not at every look
				said = err.Error()
				a.log.WarnContext(ctx, "the assertion's keys could not be followed; those known are used on", "error", err)
			}
		}
	})
}

// lookForKeys takes over keys that were made or retired anywhere, retires those that are over, and makes a successor to
// a newest key that has become old. Whatever fails, the clock goes on for the keys that are known.
func (a *Auth) lookForKeys(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keyLookTimeout)
	defer cancel()
	now := a.clock()
	known := a.keys.signing.Load()
	keys, err := sealing.ReadKeys(ctx, a.host, a.secrets, purposeAssertion)
	if err != nil {
		keys = known.keys
	}
	next, failed := newSigners(keys, now)
	if failed != nil {
		return failed
	}
	if next.kid != known.kid || string(next.jwks) != string(known.jwks) {
		a.log.InfoContext(ctx, "the assertion's keys have changed", "signing", next.kid)
	}
	a.keys.signing.Store(next)
	if err != nil {
		return err
	}
	for _, id := range next.past {
		if err := a.host.Keys.Retire(ctx, id, catalog.Timestamp(now)); err != nil {
			return fmt.Errorf("retire key %s: %w", id, err)
		}
	}
	if next.newest.IsZero() || now.Sub(next.newest) < renewAfter {
		return nil
	}
	if _, err := renewAssertion(ctx, a.host, a.secrets, now, renewAfter, false); err != nil {
		return fmt.Errorf("renew the assertion's key: %w", err)
	}
	return nil
}

// Renewal is what RenewAssertionKey did.
type Renewal struct {
	// ID is the newest key's kid.
	ID string
	// Created is false where a new key was on its way already: nothing was done.
	Created bool
	// Signs is when it signs assertions, on every replica.
	Signs time.Time
}

// RenewAssertionKey makes a new key for assertions. Published at once, it signs after a quarter of an hour, and the old
// one verifies until the last assertion under it has ended: no request fails. With instead the old ones are retired now
// and the new one signs as soon as replicas have read it: for a key that has become known to others. Apps that know only
// the old ones then refuse requests until they fetch the key set again. Audited. ctx names the actor.
func RenewAssertionKey(ctx context.Context, host *catalog.HostDatabase, secrets seal.Keyset, now time.Time, instead bool) (Renewal, error) {
	keys, err := sealing.Keys(ctx, host, secrets, purposeAssertion, newAssertionKey)
	if err != nil {
		return Renewal{}, err // secrets that do not open the present ones must not make another
	}
	least := publishFor
	if len(keys) == 1 {
		least = 0 // it signs, however young it is
	}
	return renewAssertion(ctx, host, secrets, now, least, instead)
}

func renewAssertion(ctx context.Context, host *catalog.HostDatabase, secrets seal.Keyset, now time.Time, least time.Duration, instead bool) (Renewal, error) {
	key, created, err := host.Keys.Renew(ctx, purposeAssertion, now, least, instead, func() (string, string, error) {
		plain, err := newAssertionKey()
		if err != nil {
			return "", "", fmt.Errorf("make key: %w", err)
		}
		return sealing.SealKey(secrets, purposeAssertion, plain)
	})
	if err != nil {
		return Renewal{}, err
	}
	r := Renewal{ID: key.ID, Created: created, Signs: now}
	if at, err := catalog.ParseTimestamp(key.CreatedAt); err == nil && !instead {
		r.Signs = at.Add(publishFor)
	}
	return r, nil
}
