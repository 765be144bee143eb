package acceptance

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// issuer is a provider that has documents and keys alone: its tokens are whatever the test wants them to be.
type issuer struct {
	url     string
	clock   func() time.Time
	signers map[jose.SignatureAlgorithm]jose.Signer
}

// newIssuer serves a provider with a key of each algorithm until the test ends.
func newIssuer(t testing.TB, clock func() time.Time) *issuer {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	es, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{clock: clock, signers: map[jose.SignatureAlgorithm]jose.Signer{}}
	var set jose.JSONWebKeySet
	for _, k := range []jose.JSONWebKey{
		{Key: rs, KeyID: "rs", Algorithm: "RS256", Use: "sig"},
		{Key: es, KeyID: "es", Algorithm: "ES256", Use: "sig"},
		{Key: ed, KeyID: "ed", Algorithm: "EdDSA", Use: "sig"},
	} {
		alg := jose.SignatureAlgorithm(k.Algorithm)
		if i.signers[alg], err = jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: k}, (&jose.SignerOptions{}).WithType("at+jwt")); err != nil {
			t.Fatal(err)
		}
		set.Keys = append(set.Keys, k.Public())
	}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	i.url = server.URL
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": i.url, "jwks_uri": i.url + "/keys", "authorization_endpoint": i.url + "/authorize", "token_endpoint": i.url + "/token",
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(set) })
	return i
}

// mint signs an access token for audience, good for an hour of the issuer's clock; extra's claims replace the usual ones.
func (i *issuer) mint(t testing.TB, alg jose.SignatureAlgorithm, audience, subject string, extra map[string]any) string {
	t.Helper()
	now := i.clock()
	claims := map[string]any{
		"iss": i.url, "aud": audience, "sub": subject, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "jti": rand.Text(),
	}
	for k, v := range extra {
		claims[k] = v
	}
	token, err := jwt.Signed(i.signers[alg]).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}
