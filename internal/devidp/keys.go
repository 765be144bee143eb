package devidp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	minRSABits  = 2048
	pemType     = "PRIVATE KEY"
	maxTokenTTL = 30 * 24 * time.Hour
)

// NewKey makes an RSA key of 2048 bits, which signs with RS256.
func NewKey() (crypto.Signer, error) {
	key, err := rsa.GenerateKey(rand.Reader, minRSABits)
	if err != nil {
		return nil, fmt.Errorf("make provider key: %w", err)
	}
	return key, nil
}

// MarshalKey returns key as PEM (PKCS #8). The text is a secret: whoever has it can sign in as anybody.
func MarshalKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("marshal provider key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), nil
}

// ParseKey reads what MarshalKey wrote. Its errors never carry the text.
func ParseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemType {
		return nil, errors.New("provider key: not a PEM file with a PRIVATE KEY block")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("provider key: not PKCS #8")
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errors.New("provider key: not a signing key")
	}
	if _, err := algorithmOf(key); err != nil {
		return nil, err
	}
	return key, nil
}

func algorithmOf(key crypto.Signer) (jose.SignatureAlgorithm, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() >= minRSABits {
			return jose.RS256, nil
		}
		return "", fmt.Errorf("provider key: RSA needs %d bits or more", minRSABits)
	case *ecdsa.PrivateKey:
		if k.Curve == elliptic.P256() {
			return jose.ES256, nil
		}
	}
	return "", errors.New("provider key: neither RSA nor ECDSA P-256")
}

// signingKey is the provider's one key, in the two forms that op.Storage returns.
type signingKey struct {
	id        string // RFC 7638 thumbprint, so that a kept key keeps its kid
	algorithm jose.SignatureAlgorithm
	private   crypto.Signer
}

func newSigningKey(key crypto.Signer) (*signingKey, error) {
	if key == nil {
		var err error
		if key, err = NewKey(); err != nil {
			return nil, err
		}
	}
	algorithm, err := algorithmOf(key)
	if err != nil {
		return nil, err
	}
	thumb, err := (&jose.JSONWebKey{Key: key.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("provider key: %w", err)
	}
	return &signingKey{id: base64.RawURLEncoding.EncodeToString(thumb), algorithm: algorithm, private: key}, nil
}

// SignatureAlgorithm, Key and ID implement op.SigningKey.
func (k *signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return k.algorithm }
func (k *signingKey) Key() any                                    { return k.private }
func (k *signingKey) ID() string                                  { return k.id }

// publicKey implements op.Key.
type publicKey struct{ *signingKey }

func (k publicKey) Algorithm() jose.SignatureAlgorithm { return k.algorithm }
func (k publicKey) Use() string                        { return "sig" }
func (k publicKey) Key() any                           { return k.private.Public() }

// accessTokenSigner marks what it signs as an access token (RFC 9068, section 2.1), so that it passes nowhere as an
// ID token.
func (k *signingKey) accessTokenSigner() (jose.Signer, error) {
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: k.algorithm,
		Key:       &jose.JSONWebKey{Key: k.private, KeyID: k.id},
	}, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		return nil, fmt.Errorf("token signer: %w", err)
	}
	return signer, nil
}

// MintAccessToken signs a JWT access token (RFC 9068) for one of the people: iss, sub, aud, client_id, email and
// email_verified, iat, nbf, exp and jti, and extra's claims, which cannot replace those. ttl must be positive and at most
// 30 days. The token works wherever the provider's JWKS is trusted for that audience; userinfo does not take it.
func (p *Provider) MintAccessToken(subject, audience string, ttl time.Duration, extra map[string]any) (string, error) {
	who, ok := p.store.person(subject)
	if !ok {
		return "", fmt.Errorf("mint access token: nobody has subject %q", subject)
	}
	if audience == "" || ttl <= 0 || ttl > maxTokenTTL {
		return "", fmt.Errorf("mint access token: an audience and a lifetime of at most %s are required", maxTokenTTL)
	}
	now := p.clock()
	claims := maps.Clone(extra)
	if claims == nil {
		claims = make(map[string]any)
	}
	maps.Copy(claims, map[string]any{
		"iss":            p.issuer,
		"sub":            who.Subject,
		"aud":            []string{audience},
		"client_id":      p.store.client.id,
		"email":          who.Email,
		"email_verified": who.EmailVerified,
		"iat":            now.Unix(),
		"nbf":            now.Unix(),
		"exp":            now.Add(ttl).Unix(),
		"jti":            rand.Text(),
	})
	token, err := jwt.Signed(p.signer).Claims(claims).Serialize()
	if err != nil {
		return "", fmt.Errorf("mint access token: %w", err)
	}
	return token, nil
}
