package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
)

// Purposes of sys_keys rows.
const (
	purposeSessionMAC = "session_mac"
	purposeTokenMAC   = "api_token_mac"
	purposeAssertion  = "assertion"
)

const macKeyBytes = 32

// keyring holds the keys that are made once, kept in the host database and sealed under the master secrets. Immutable.
type keyring struct {
	macs      [][]byte // of session tokens; the first signs, all verify
	tokenMACs [][]byte // of API tokens, likewise
	signer    *ecdsa.PrivateKey
	kid       string
	jwks      []byte // the public keys, as served
}

// loadKeyring reads the keys and makes those that are missing; of many replicas at once one makes them. A key that
// is in force and cannot be opened is an error: nothing would verify, and a new one would end every session.
func loadKeyring(ctx context.Context, host *catalog.HostDatabase, secrets seal.Keyset) (*keyring, error) {
	macs, err := loadMACKeys(ctx, host, secrets, purposeSessionMAC)
	if err != nil {
		return nil, err
	}
	tokenMACs, err := loadMACKeys(ctx, host, secrets, purposeTokenMAC)
	if err != nil {
		return nil, err
	}
	signers, err := loadKeys(ctx, host, secrets, purposeAssertion, func() ([]byte, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		return x509.MarshalPKCS8PrivateKey(key)
	})
	if err != nil {
		return nil, err
	}
	ring := &keyring{macs: macs, tokenMACs: tokenMACs}
	return ring, ring.setSigners(signers)
}

// loadMACKeys are the keys of one purpose that MACs are made with; the first signs, all verify.
func loadMACKeys(ctx context.Context, host *catalog.HostDatabase, secrets seal.Keyset, purpose string) ([][]byte, error) {
	keys, err := loadKeys(ctx, host, secrets, purpose, func() ([]byte, error) {
		b := make([]byte, macKeyBytes)
		_, err := rand.Read(b)
		return b, err
	})
	if err != nil {
		return nil, err
	}
	macs := make([][]byte, 0, len(keys))
	for _, k := range keys {
		if len(k.plain) != macKeyBytes {
			return nil, fmt.Errorf("key %s (%s) has %d bytes instead of %d", k.id, purpose, len(k.plain), macKeyBytes)
		}
		macs = append(macs, k.plain)
	}
	return macs, nil
}

// opened is a key as it is used.
type opened struct {
	id    string
	plain []byte
}

func loadKeys(ctx context.Context, host *catalog.HostDatabase, secrets seal.Keyset, purpose string, generate func() ([]byte, error)) ([]opened, error) {
	current, err := host.Keys.Ensure(ctx, purpose, func() (string, string, error) {
		plain, err := generate()
		if err != nil {
			return "", "", fmt.Errorf("make key: %w", err)
		}
		id := catalog.GenID()
		sealed, err := secrets.Seal(keyPurpose(purpose, id), plain)
		return id, sealed, err
	})
	if err != nil {
		return nil, fmt.Errorf("key for %s: %w", purpose, err)
	}
	rows, err := host.Keys.List(ctx, purpose)
	if err != nil {
		return nil, fmt.Errorf("keys for %s: %w", purpose, err)
	}
	keys := make([]opened, 0, 1+len(rows))
	for _, row := range append([]catalog.Key{current}, rows...) {
		if row.RetiredAt != nil || (row.ID == current.ID && len(keys) > 0) {
			continue
		}
		plain, err := secrets.Open(keyPurpose(purpose, row.ID), row.Sealed)
		if errors.Is(err, seal.ErrOtherSecret) {
			return nil, fmt.Errorf("key %s (%s): %w; put the line it was sealed under back", row.ID, purpose, err)
		}
		if err != nil {
			return nil, fmt.Errorf("key %s (%s): %w; the row was changed", row.ID, purpose, err)
		}
		keys = append(keys, opened{row.ID, plain})
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no key for %s is in force", purpose)
	}
	return keys, nil
}

// keyPurpose names the row, so that a sealed key cannot be moved to another id or purpose.
func keyPurpose(purpose, id string) string { return "sys_keys/" + purpose + "/" + id }

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

func (k *keyring) setSigners(keys []opened) error {
	var doc struct {
		Keys []jwk `json:"keys"`
	}
	for _, key := range keys {
		parsed, err := x509.ParsePKCS8PrivateKey(key.plain)
		if err != nil {
			return fmt.Errorf("key %s (%s): not a private key", key.id, purposeAssertion)
		}
		private, ok := parsed.(*ecdsa.PrivateKey)
		if !ok || private.Curve != elliptic.P256() {
			return fmt.Errorf("key %s (%s): not a P-256 key", key.id, purposeAssertion)
		}
		if k.signer == nil {
			k.signer, k.kid = private, key.id
		}
		point, err := private.PublicKey.Bytes() // 4, X, Y
		if err != nil {
			return fmt.Errorf("key %s (%s): %w", key.id, purposeAssertion, err)
		}
		doc.Keys = append(doc.Keys, jwk{
			KeyType: "EC", Use: "sig", Alg: "ES256", Curve: "P-256", ID: key.id,
			X: base64.RawURLEncoding.EncodeToString(point[1:33]), Y: base64.RawURLEncoding.EncodeToString(point[33:65]),
		})
	}
	var err error
	if k.jwks, err = json.Marshal(doc); err != nil {
		return fmt.Errorf("key set: %w", err)
	}
	return nil
}
