package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	clientID     = "tenantgate"
	clientSecret = "client secret with: odd % characters" // canary: must show up nowhere
)

// issuer is a small OpenID provider that lies on demand. The zero value of every field is the honest answer.
type issuer struct {
	t      testing.TB
	server *httptest.Server
	clock  func() time.Time

	discoveries, keyFetches, exchanges, userInfos atomic.Int64

	mu   sync.Mutex
	keys []signingKey // the first signs

	// grants are the codes that were given out, each good once.
	grants map[string]grant
	// Lies.
	discovery   func(doc map[string]any)               // changes the discovery document
	idToken     func(claims, header map[string]any)    // changes the ID token before it is signed
	forge       func(signed string, g grant) string    // replaces the signed ID token
	tokenAnswer func(answer map[string]any)            // changes the token response
	userInfo    map[string]any                         // nil: sub alone
	instead     map[string]http.HandlerFunc            // path → what is answered instead
	checkClient func(r *http.Request, form url.Values) // besides the checks made always
}

type signingKey struct {
	kid, alg string
	private  crypto.Signer
}

type grant struct {
	challenge, redirect, nonce, subject string
	claims                              map[string]any
}

func newIssuer(t testing.TB, clock func() time.Time) *issuer {
	op := &issuer{t: t, clock: clock, grants: map[string]grant{}, instead: map[string]http.HandlerFunc{}}
	op.keys = []signingKey{newKey(t, "rsa-1", algRS256)}
	op.server = httptest.NewServer(http.HandlerFunc(op.serve))
	t.Cleanup(op.server.Close)
	return op
}

// RSA keys are slow to make: one for each kid, shared by all tests.
var testKeys sync.Map

func newKey(t testing.TB, kid, alg string) signingKey {
	if k, ok := testKeys.Load(kid + alg); ok {
		return k.(signingKey)
	}
	var private crypto.Signer
	var err error
	switch alg {
	case algRS256:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case algES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case algEdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		t.Fatalf("no keys for %s", alg)
	}
	if err != nil {
		t.Fatal(err)
	}
	k, _ := testKeys.LoadOrStore(kid+alg, signingKey{kid, alg, private})
	return k.(signingKey)
}

func (op *issuer) url() string { return op.server.URL }

func (op *issuer) answer(path string, f http.HandlerFunc) {
	op.mu.Lock()
	defer op.mu.Unlock()
	op.instead[path] = f
}

func (op *issuer) serve(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case wellKnown:
		op.discoveries.Add(1)
	case "/jwks":
		op.keyFetches.Add(1)
	case "/token":
		op.exchanges.Add(1)
	case "/userinfo":
		op.userInfos.Add(1)
	}
	op.mu.Lock()
	instead := op.instead[r.URL.Path]
	op.mu.Unlock()
	if instead != nil {
		instead(w, r)
		return
	}
	switch r.URL.Path {
	case wellKnown:
		op.serveDiscovery(w)
	case "/jwks":
		_, _ = w.Write(op.jwks())
	case "/token":
		op.serveToken(w, r)
	case "/userinfo":
		op.serveUserInfo(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (op *issuer) serveDiscovery(w http.ResponseWriter) {
	doc := map[string]any{
		"issuer": op.url(), "authorization_endpoint": op.url() + "/authorize?tenant=x", "token_endpoint": op.url() + "/token",
		"jwks_uri": op.url() + "/jwks", "userinfo_endpoint": op.url() + "/userinfo", "end_session_endpoint": op.url() + "/logout?x=1",
	}
	op.mu.Lock()
	if op.discovery != nil {
		op.discovery(doc)
	}
	op.mu.Unlock()
	writeJSON(w, doc)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (op *issuer) jwks() []byte {
	op.mu.Lock()
	defer op.mu.Unlock()
	var set jose.JSONWebKeySet
	for _, k := range op.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.private.Public(), KeyID: k.kid, Algorithm: k.alg, Use: "sig"})
	}
	b, err := json.Marshal(set)
	if err != nil {
		op.t.Error(err)
	}
	return b
}

// grant gives out a code for what Login asked for.
func (op *issuer) grant(authorize *url.URL, subject string, claims map[string]any) (code string) {
	q := authorize.Query()
	if q.Get("response_type") != "code" || q.Get("client_id") != clientID || q.Get("code_challenge_method") != "S256" {
		op.t.Fatalf("authorization request %v", q)
	}
	b := make([]byte, 12)
	_, _ = rand.Read(b)
	code = "code-canary-" + base64.RawURLEncoding.EncodeToString(b)
	op.mu.Lock()
	defer op.mu.Unlock()
	op.grants[code] = grant{
		challenge: q.Get("code_challenge"), redirect: q.Get("redirect_uri"), nonce: q.Get("nonce"), subject: subject, claims: claims,
	}
	return code
}

func (op *issuer) serveToken(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		op.t.Error(err)
	}
	refuse := func(code string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": "echo " + r.PostForm.Get("code") + clientSecret})
	}
	id, secret, ok := r.BasicAuth()
	if ok {
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
	} else {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	if id != clientID || secret != clientSecret {
		refuse("invalid_client")
		return
	}
	if op.checkClient != nil {
		op.checkClient(r, r.PostForm)
	}
	op.mu.Lock()
	g, ok := op.grants[r.PostForm.Get("code")]
	delete(op.grants, r.PostForm.Get("code"))
	op.mu.Unlock()
	sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	if !ok || g.challenge != base64.RawURLEncoding.EncodeToString(sum[:]) || g.redirect != r.PostForm.Get("redirect_uri") { // PKCE-1
		refuse("invalid_grant")
		return
	}
	answer := map[string]any{"access_token": "access-canary", "token_type": "Bearer", "expires_in": 300, "id_token": op.makeIDToken(g)}
	if op.tokenAnswer != nil {
		op.tokenAnswer(answer)
	}
	writeJSON(w, answer)
}

func (op *issuer) makeIDToken(g grant) string {
	claims := map[string]any{
		"iss": op.url(), "aud": clientID, "sub": g.subject, "nonce": g.nonce,
		"iat": op.clock().Unix(), "exp": op.clock().Add(5 * time.Minute).Unix(), "sid": "op-session",
	}
	for k, v := range g.claims {
		claims[k] = v
	}
	header := map[string]any{"typ": "JWT"}
	if op.idToken != nil {
		op.idToken(claims, header)
	}
	signed := op.sign(claims, header)
	if op.forge != nil {
		return op.forge(signed, g)
	}
	return signed
}

func (op *issuer) serveUserInfo(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer access-canary" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if op.userInfo == nil {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	writeJSON(w, op.userInfo)
}

// sign makes a compact JWS with the first key; header members override alg and kid, nil removes one.
func (op *issuer) sign(claims, header map[string]any) string {
	op.mu.Lock()
	key := op.keys[0]
	op.mu.Unlock()
	payload, err := json.Marshal(claims)
	if err != nil {
		op.t.Fatal(err)
	}
	return signRaw(op.t, key, header, payload)
}

func signRaw(t testing.TB, key signingKey, header map[string]any, payload []byte) string {
	full := map[string]any{"alg": key.alg, "kid": key.kid}
	for k, v := range header {
		full[k] = v
		if v == nil {
			delete(full, k)
		}
	}
	h, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(payload)
	return text + "." + base64.RawURLEncoding.EncodeToString(rawSignature(t, key, text))
}

func rawSignature(t testing.TB, key signingKey, text string) []byte {
	sum := sha256.Sum256([]byte(text))
	switch private := key.private.(type) {
	case *rsa.PrivateKey:
		s, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return s
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, private, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case ed25519.PrivateKey:
		return ed25519.Sign(private, []byte(text))
	}
	t.Fatal(fmt.Errorf("key %T", key.private))
	return nil
}
