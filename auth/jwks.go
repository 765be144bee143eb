package auth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxKeys        = 100 // of one key set; more are a fault of the provider
	maxCandidates  = 4   // keys that are tried for one token
	minRSABits     = 2048
	maxRSABits     = 8192
	maxRSAExponent = 1<<31 - 1
)

// keySet is a provider's public keys as fetched. Immutable.
type keySet struct {
	keys []providerKey
	sum  [32]byte // of the keys: whether a new answer is another one
}

// providerKey is one public key and the one algorithm it verifies.
type providerKey struct {
	kid, alg string
	public   crypto.PublicKey
}

// parseKeySet reads a JWK set (RFC 7517 5). Keys of other types, uses and algorithms, too small ones and unreadable
// ones are passed over, symmetric ones above all; a set in which none is left is an error.
func parseKeySet(body []byte) (*keySet, error) {
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, errors.New("is not a JWK set")
	}
	if len(doc.Keys) > maxKeys {
		return nil, fmt.Errorf("holds %d keys, at most %d are read", len(doc.Keys), maxKeys)
	}
	set := &keySet{}
	hash := sha256.New()
	for _, raw := range doc.Keys {
		var k jose.JSONWebKey
		if json.Unmarshal(raw, &k) != nil || !k.Valid() || (k.Use != "" && k.Use != "sig") || len(k.KeyID) > maxKid {
			continue
		}
		alg := algorithmOf(k.Key)
		if alg == "" || (k.Algorithm != "" && k.Algorithm != alg) {
			continue
		}
		der, err := x509.MarshalPKIXPublicKey(k.Key)
		if err != nil {
			continue
		}
		fmt.Fprintf(hash, "%d:%s%s%d:", len(k.KeyID), k.KeyID, alg, len(der))
		hash.Write(der)
		set.keys = append(set.keys, providerKey{kid: k.KeyID, alg: alg, public: k.Key})
	}
	if len(set.keys) == 0 {
		return nil, errors.New("holds no key for RS256, ES256 or EdDSA")
	}
	hash.Sum(set.sum[:0])
	return set, nil
}

// algorithmOf is the one algorithm that a key verifies, "" for none that we accept. A private key in a public set is
// none.
func algorithmOf(key any) string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits || k.E < 3 || k.E%2 == 0 || k.E > maxRSAExponent {
			return ""
		}
		return algRS256
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return algES256
		}
	case ed25519.PublicKey:
		return algEdDSA
	}
	return ""
}

func sameKeys(a, b *keySet) bool { return bytes.Equal(a.sum[:], b.sum[:]) }

// candidates are the keys that a token may have been signed with: those of its kid and algorithm, or, without a kid,
// those of its algorithm. kid is compared and nothing else is done with it.
func (s *keySet) candidates(t *jws) []crypto.PublicKey {
	var keys []crypto.PublicKey
	for _, k := range s.keys {
		if k.alg == t.alg && (t.kid == "" || k.kid == t.kid) {
			keys = append(keys, k.public)
		}
		if len(keys) == maxCandidates {
			break
		}
	}
	return keys
}

func (s *keySet) verifies(t *jws) bool {
	return slices.ContainsFunc(s.candidates(t), t.verify)
}

// verifySignature checks a token against the provider's keys and says by which generation of them. A kid that is not
// among them is looked for once more at the provider, at most once a second whoever asks (JWKS-1). Errors:
// ErrProviderUnavailable if the keys cannot be had, otherwise the token is bad.
func (p *provider) verifySignature(ctx context.Context, t *jws) (generation uint64, err error) {
	have, err := p.keys.get(ctx)
	if err != nil {
		return 0, err
	}
	if have.value.verifies(t) {
		return have.generation, nil
	}
	if t.kid != "" && len(have.value.candidates(t)) > 0 {
		return 0, errors.New("signature does not verify") // its key is known: nothing newer would help
	}
	fresh, err := p.keys.newer(ctx, have.generation)
	if errors.Is(err, errLimited) {
		return 0, errors.New("signed with a key that the provider does not have")
	}
	if err != nil {
		return 0, err
	}
	if !fresh.value.verifies(t) {
		return 0, errors.New("signature does not verify")
	}
	return fresh.generation, nil
}
