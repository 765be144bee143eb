package attack

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// liar is an OpenID provider whose tokens and documents are whatever a test wants.
type liar struct {
	t       *testing.T
	url     string
	kid     string
	key     *rsa.PrivateKey
	fetches atomic.Int64 // of the key set

	mu      sync.Mutex
	nonces  map[string]string                                 // code → nonce
	claims  func(claims map[string]any)                       // of the next ID tokens
	header  map[string]any                                    // of the next ID tokens
	forge   func(signed string, claims map[string]any) string // replaces the next ID tokens
	keySet  http.HandlerFunc                                  // nil: the honest one
	subject string
}

func newLiar(t *testing.T, kid string) *liar {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{t: t, kid: kid, key: key, nonces: map[string]string{}, subject: "onlya"}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	l.url = server.URL
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]any{"issuer": l.url, "jwks_uri": l.url + "/keys", "authorization_endpoint": l.url + "/authorize", "token_endpoint": l.url + "/token"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		l.fetches.Add(1)
		l.mu.Lock()
		instead := l.keySet
		l.mu.Unlock()
		if instead != nil {
			instead(w, r)
			return
		}
		writeJSON(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: kid, Algorithm: "RS256", Use: "sig"}}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		nonce := l.nonces[r.FormValue("code")]
		l.mu.Unlock()
		writeJSON(w, map[string]any{"access_token": "access", "token_type": "Bearer", "expires_in": 60, "id_token": l.idToken(nonce)})
	})
	return l
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// lie sets what the next tokens are like.
func (l *liar) lie(claims func(map[string]any), header map[string]any, forge func(string, map[string]any) string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.claims, l.header, l.forge = claims, header, forge
}

func (l *liar) idToken(nonce string) string { return l.token("gate", map[string]any{"nonce": nonce}) }

// token is one for audience, after the lies.
func (l *liar) token(audience string, extra map[string]any) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	claims := map[string]any{"iss": l.url, "aud": audience, "sub": l.subject, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
	maps.Copy(claims, extra)
	if l.claims != nil {
		l.claims(claims)
	}
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	payload, err := json.Marshal(claims)
	if err != nil {
		l.t.Error(err)
	}
	signed := l.sign(l.kid, payload, l.header)
	if l.forge != nil {
		return l.forge(signed, claims)
	}
	return signed
}

func (l *liar) sign(kid string, payload []byte, header map[string]any) string {
	options := (&jose.SignerOptions{}).WithType("JWT")
	for k, v := range header {
		options.WithHeader(jose.HeaderKey(k), v)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: l.key, KeyID: kid}}, options)
	if err != nil {
		l.t.Error(err)
		return ""
	}
	signature, err := signer.Sign(payload)
	if err != nil {
		l.t.Error(err)
		return ""
	}
	text, err := signature.CompactSerialize()
	if err != nil {
		l.t.Error(err)
	}
	return text
}

// hostileWorld is a gate with three providers: the liar under "liar" (bearer tokens, addresses trusted) and under "open"
// (no prefix, which is the other two's to be told apart from), and an honest other.
func hostileWorld(t *testing.T) (w *gatetest.World, l, other *liar) {
	t.Helper()
	l, other = newLiar(t, "liar-key"), newLiar(t, "other-key")
	dsn := sqliteURL(t)
	seed(t, dsn)
	execSQL(t, dsn, `UPDATE core_users SET oauth_id = 'h|onlya' WHERE id = 'uid-onlya'`)
	execSQL(t, dsn, `UPDATE core_users SET oauth_id = NULL WHERE id = 'uid-both'`)
	w = gate(t, gatetest.Options{HostURL: dsn, App: http.HandlerFunc(echo), Configure: func(c *config.Config) {
		byName(c)
		client := func(name, issuer, prefix string) auth.Provider {
			return auth.Provider{Name: name, Issuer: issuer, ClientID: "gate", ClientSecret: secret.New("a secret of the gate"), SubjectPrefix: prefix}
		}
		open := client("open", l.url, "")
		lying := client("liar", l.url, "h|")
		lying.TrustEmail, lying.Bearer = true, auth.BearerConfig{Audiences: []string{"api"}}
		third := client("other", other.url, "o|")
		third.Bearer = auth.BearerConfig{Audiences: []string{"api"}}
		c.Identity.Providers, c.Identity.InsecureEmptyPrefix = []auth.Provider{open, lying, third}, true
	}})
	return w, l, other
}

// callback begins a sign-in with a provider, lets l answer it, and returns the gate's answer and whether it signed
// anybody in.
func callback(t *testing.T, w *gatetest.World, l *liar, provider string) (answer, bool) {
	t.Helper()
	c := client(t, w)
	away := do(t, c, request(t, "GET", w.URL+"/_gate/login?provider="+provider))
	to, err := url.Parse(away.header.Get("Location"))
	if err != nil || away.status != http.StatusFound {
		t.Fatalf("login: %d %s", away.status, away.body)
	}
	code := rand.Text()
	l.mu.Lock()
	l.nonces[code] = to.Query().Get("nonce")
	l.mu.Unlock()
	back := url.Values{"code": {code}, "state": {to.Query().Get("state")}}
	got := do(t, c, request(t, "GET", w.URL+"/_gate/callback/"+provider+"?"+back.Encode()))
	return got, strings.Contains(strings.Join(got.header["Set-Cookie"], "\n"), sessionName+"=")
}

// withToken asks for alpha's page with a bearer token.
func withToken(t *testing.T, w *gatetest.World, token string) answer {
	t.Helper()
	req := request(t, "GET", w.URL+"/t/"+alpha.id()+"/x")
	req.Header.Set("Authorization", "Bearer "+token)
	return do(t, client(t, w), req)
}

func encoded(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// Each fault of a token, where people sign in and where programs present it: refused with the right answer.
func TestTokensOfAHostileIssuer(t *testing.T) { // JWT-1, JWT-2, JWT-3, AUD-1, AZP-1, TIME-2, TEN-4
	t.Parallel()
	w, l, other := hostileWorld(t)
	set := func(name string, v any) func(map[string]any) { return func(c map[string]any) { c[name] = v } }
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	payload := func(claims map[string]any) string {
		b, err := json.Marshal(claims)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	const anywhere, signIn, program = "sign-in and bearer", "sign-in", "bearer"
	for name, f := range map[string]struct {
		where  string
		claims func(map[string]any)
		header map[string]any
		forge  func(string, map[string]any) string
	}{
		"alg none": {anywhere, nil, nil, func(_ string, c map[string]any) string {
			return encoded(`{"alg":"none","kid":"liar-key"}`) + "." + encoded(payload(c)) + "."
		}},
		"alg None with the true signature": {anywhere, nil, nil, func(s string, c map[string]any) string {
			return encoded(`{"alg":"None","kid":"liar-key"}`) + "." + encoded(payload(c)) + s[strings.LastIndexByte(s, '.'):]
		}},
		"HS256 with the public key": {anywhere, nil, nil, func(_ string, c map[string]any) string {
			der, err := x509.MarshalPKIXPublicKey(l.key.Public())
			if err != nil {
				t.Error(err)
			}
			text := encoded(`{"alg":"HS256","kid":"liar-key"}`) + "." + encoded(payload(c))
			m := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
			m.Write([]byte(text))
			return text + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
		}},
		"duplicate claims": {anywhere, nil, nil, func(_ string, c map[string]any) string {
			return l.sign(l.kid, []byte(`{"sub":"root",`+payload(c)[1:]), nil)
		}},
		"claim in another case":       {anywhere, set("Sub", "root"), nil, nil},
		"key named in the header":     {anywhere, nil, map[string]any{"jku": "https://evil.example.com/keys"}, nil},
		"logout token's type":         {anywhere, nil, map[string]any{"typ": "logout+jwt"}, nil},
		"wrong iss":                   {anywhere, set("iss", "https://evil.example.com"), nil, nil},
		"iss of the other provider":   {anywhere, set("iss", other.url), nil, nil},
		"wrong aud":                   {anywhere, set("aud", "another-client"), nil, nil},
		"no aud":                      {anywhere, set("aud", nil), nil, nil},
		"wrong azp":                   {signIn, set("azp", "another-client"), nil, nil},
		"ID token of another client":  {program, func(c map[string]any) { c["nonce"], c["azp"] = "n", "another-client" }, nil, nil},
		"wrong nonce":                 {signIn, set("nonce", "another sign-in's"), nil, nil},
		"no nonce":                    {signIn, set("nonce", nil), nil, nil},
		"wrong at_hash":               {signIn, set("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), nil, nil},
		"expired":                     {anywhere, set("exp", at(-2*time.Minute)), nil, nil},
		"no exp":                      {anywhere, set("exp", nil), nil, nil},
		"not yet valid":               {anywhere, set("nbf", at(time.Hour)), nil, nil},
		"issued in the future":        {anywhere, set("iat", at(time.Hour)), nil, nil},
		"no sub":                      {anywhere, set("sub", nil), nil, nil},
		"other provider's token":      {anywhere, nil, nil, func(string, map[string]any) string { return other.token("gate", nil) }},
		"unknown key":                 {anywhere, nil, nil, func(_ string, c map[string]any) string { return l.sign("unknown", []byte(payload(c)), nil) }},
		"other key under a known kid": {anywhere, nil, nil, func(_ string, c map[string]any) string { return other.sign(l.kid, []byte(payload(c)), nil) }},
		"claims changed after": {anywhere, nil, nil, func(s string, c map[string]any) string {
			c["sub"] = "root"
			p := strings.Split(s, ".")
			return p[0] + "." + encoded(payload(c)) + "." + p[2]
		}},
	} {
		l.lie(f.claims, f.header, f.forge)
		if f.where != program {
			if got, in := callback(t, w, l, "liar"); got.status != http.StatusBadRequest || in || !strings.Contains(got.body, "Nothing was signed in") {
				t.Errorf("%s: sign-in: %d, signed in %v\n%s", name, got.status, in, got.body)
			}
		}
		if f.where != signIn {
			if got := withToken(t, w, l.token("api", nil)); got.status != http.StatusUnauthorized || got.code() != "invalid_token" || !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s: bearer: %d %s", name, got.status, got.body)
			}
		}
	}
	l.lie(nil, nil, nil)
	if got, in := callback(t, w, l, "liar"); got.status != http.StatusFound || !in {
		t.Errorf("the honest sign-in: %d %s", got.status, got.body)
	}
	if got := withToken(t, w, l.token("api", nil)); got.status != http.StatusOK {
		t.Errorf("the honest token: %d %s", got.status, got.body)
	}
	if got, in := callback(t, w, other, "liar"); got.status == http.StatusFound || in { // mix-up: another issuer's code
		t.Errorf("a code of the other provider: %d", got.status)
	}
}

// What a hostile issuer says of subjects and addresses makes nobody another provider's or row's user.
func TestSubjectsAndAddressesOfAHostileIssuer(t *testing.T) { // ID-1, LINK-1, LINK-2, TEN-4
	t.Parallel()
	w, l, _ := hostileWorld(t)
	mail := func(address, verified any) func(map[string]any) {
		return func(c map[string]any) {
			c["sub"], c["email"], c["email_verified"] = "newcomer", address, verified
		}
	}
	for name, f := range map[string]struct {
		provider string
		claims   func(map[string]any)
	}{
		"sub that spells another prefix":       {"open", func(c map[string]any) { c["sub"] = "h|onlya" }},
		"sub that spells a third one's prefix": {"open", func(c map[string]any) { c["sub"] = "o|" }},
		"sub that spells its own prefix":       {"liar", func(c map[string]any) { c["sub"] = "h|onlya" }},
		"address not verified":                 {"liar", mail("both@people.test", false)},
		"address verified by a text":           {"liar", mail("both@people.test", "true")},
		"address verified by a number":         {"liar", mail("both@people.test", 1)},
		"address without a word on it":         {"liar", mail("both@people.test", nil)},
		"address with two @":                   {"liar", mail("both@people.test@evil.example.com", true)},
		"address with two @, the other way":    {"liar", mail("evil@evil.example.com@people.test", true)},
		"address in quotes":                    {"liar", mail(`"both@people.test"@evil.example.com`, true)},
		"address with a line end":              {"liar", mail("both@people.test\n", true)},
		"address in another script":            {"liar", mail("bоth@people.test", true)}, // the o is Cyrillic
		"address of an administrator":          {"liar", mail("root@people.test", true)},
		"address of somebody with a subject":   {"liar", mail("onlya@people.test", true)},
		"address where none is trusted":        {"open", mail("both@people.test", true)},
	} {
		l.lie(f.claims, nil, nil)
		got, in := callback(t, w, l, f.provider)
		if got.status != http.StatusForbidden || in || !strings.Contains(got.text(), "No account here") && got.code() != "unknown_user" {
			t.Errorf("%s: %d, signed in %v\n%s", name, got.status, in, got.body)
		}
		if f.provider == "liar" {
			if got := withToken(t, w, l.token("api", nil)); got.status != http.StatusForbidden || got.code() != "unknown_user" {
				t.Errorf("%s: bearer: %d %s", name, got.status, got.body)
			}
		}
	}
	l.lie(mail("Both@People.test", true), nil, nil)
	if got := withToken(t, w, l.token("api", nil)); got.code() != "unknown_user" {
		t.Errorf("a bearer token links nobody: %d %s", got.status, got.body)
	}
	if got, in := callback(t, w, l, "liar"); got.status != http.StatusFound || !in {
		t.Errorf("the one honest address: %d %s", got.status, got.body)
	}
}

// Key sets that are too large or lead in circles: nobody gets in, nothing grows, and keys of others go on. Not beside
// other tests: it measures memory.
func TestKeySetsOfAHostileIssuer(t *testing.T) { // JWKS-2, LIM-1
	for name, f := range map[string]http.HandlerFunc{
		"100 MB": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"keys":[`)
			chunk := []byte(strings.Repeat(" ", 64<<10))
			for range (100 << 20) / len(chunk) {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
		"endless redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/keys?"+rand.Text(), http.StatusFound)
		},
		"redirect to another host": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:9/keys", http.StatusTemporaryRedirect)
		},
		"a hundred thousand keys": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"keys":[`+strings.Repeat(`{},`, 100_000)+`{}]}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, l, other := hostileWorld(t)
			if got := withToken(t, w, other.token("api", nil)); got.code() != "unknown_user" { // known keys, unknown subject
				t.Fatalf("%d %s", got.status, got.body)
			}
			l.keySet = f
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			noKeys(t, w, l)
			if got, in := callback(t, w, l, "liar"); got.status != http.StatusServiceUnavailable || in {
				t.Errorf("sign-in: %d, signed in %v", got.status, in)
			}
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 40<<20 {
				t.Errorf("%d MiB were allocated", grown>>20)
			}
			if got := withToken(t, w, other.token("api", map[string]any{"jti": "2"})); got.code() != "unknown_user" {
				t.Errorf("the other provider's tokens: %d %s", got.status, got.body)
			}
		})
	}
}

// noKeys: a token whose provider's keys cannot be had is not called bad.
func noKeys(t *testing.T, w *gatetest.World, l *liar) {
	t.Helper()
	if got := withToken(t, w, l.token("api", nil)); got.status != http.StatusServiceUnavailable || got.code() != "provider_unavailable" || got.header.Get("Retry-After") == "" {
		t.Errorf("bearer: %d %s", got.status, got.body)
	}
}

func TestSlowKeySetOfAHostileIssuerHoldsNobodyForLong(t *testing.T) { // JWKS-2
	t.Parallel()
	w, l, other := hostileWorld(t)
	asked := make(chan struct{}, 16)
	l.keySet = func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}
	began := time.Now()
	var group sync.WaitGroup
	for range 5 {
		group.Go(func() { noKeys(t, w, l) })
	}
	<-asked
	for i := range 20 { // while five wait
		if got := withToken(t, w, other.token("api", map[string]any{"jti": i})); got.code() != "unknown_user" {
			t.Errorf("the other provider's tokens: %d %s", got.status, got.body)
		}
	}
	group.Wait()
	if took := time.Since(began); took > patience {
		t.Errorf("a request waited %s", took)
	}
}

// A flood of tokens with keys that nobody has: at most one fetch a second, and good tokens are unharmed.
func TestKeyFloodOfAHostileClient(t *testing.T) { // JWKS-1
	t.Parallel()
	w, l, _ := hostileWorld(t)
	if got := withToken(t, w, l.token("api", nil)); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	payload, err := json.Marshal(map[string]any{"iss": l.url, "aud": "api", "sub": "onlya", "exp": time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	signed := l.sign(l.kid, payload, nil)
	rest := signed[strings.IndexByte(signed, '.'):]
	began, fetched := time.Now(), l.fetches.Load()
	var group sync.WaitGroup
	var bad, good atomic.Int64
	for worker := range 4 {
		group.Go(func() {
			for i := 0; time.Since(began) < 2500*time.Millisecond || bad.Load() < 20 || good.Load() < 4; i++ {
				token := encoded(fmt.Sprintf(`{"alg":"RS256","kid":"flood-%d-%d"}`, worker, i)) + rest
				if got := withToken(t, w, token); got.code() != "invalid_token" {
					t.Errorf("unknown key: %d %s", got.status, got.body)
					return
				}
				bad.Add(1)
				if i%10 == 0 {
					if got := withToken(t, w, l.token("api", map[string]any{"jti": fmt.Sprint(worker, i)})); got.status != http.StatusOK {
						t.Errorf("a good token during the flood: %d %s", got.status, got.body)
						return
					}
					good.Add(1)
				}
			}
		})
	}
	group.Wait()
	took := time.Since(began)
	if n := l.fetches.Load() - fetched; n > int64(took/time.Second)+1 {
		t.Errorf("%d fetches in %s", n, took)
	}
}
