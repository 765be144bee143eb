package assertion

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	issuer   = "https://app.example.com"
	audience = "app"
	dbURI    = "postgresql://acme:secret@db/acme"
)

// gate is a stand-in for tenantgate: keys, and a count of how often they were asked for.
type gate struct {
	t      *testing.T
	server *httptest.Server
	asked  atomic.Int64

	mu     sync.Mutex
	keys   map[string]*ecdsa.PrivateKey
	answer http.HandlerFunc // nil: the keys
	now    time.Time
}

func newGate(t *testing.T) *gate {
	g := &gate{t: t, keys: map[string]*ecdsa.PrivateKey{}, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	g.addKey("k1")
	g.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.asked.Add(1)
		g.mu.Lock()
		answer := g.answer
		g.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		_, _ = w.Write(g.jwks())
	}))
	t.Cleanup(g.server.Close)
	return g
}

func (g *gate) addKey(kid string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		g.t.Fatal(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keys[kid] = key
}

func (g *gate) jwks() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []map[string]string
	for kid, key := range g.keys {
		point, err := key.PublicKey.Bytes()
		if err != nil {
			g.t.Error(err)
		}
		list = append(list, map[string]string{
			"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid,
			"x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:]),
		})
	}
	b, err := json.Marshal(map[string]any{"keys": list})
	if err != nil {
		g.t.Error(err)
	}
	return b
}

func (g *gate) respond(f http.HandlerFunc) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answer = f
}

func (g *gate) clock() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now
}

func (g *gate) advance(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now = g.now.Add(d)
}

func (g *gate) verifier() *Verifier {
	v, err := New(Config{JWKSURL: g.server.URL, Issuer: issuer, Audience: audience, Clock: g.clock, HTTPClient: g.server.Client()})
	if err != nil {
		g.t.Fatal(err)
	}
	return v
}

func (g *gate) claims() jwt.MapClaims {
	sum := sha256.Sum256([]byte(dbURI))
	return jwt.MapClaims{
		"iss": issuer, "aud": audience, "sub": "u1", "email": "o@example.com", "tenant": "acme", "role": "owner", "plan": "pro",
		"db_uri_sha256": base64.RawURLEncoding.EncodeToString(sum[:]), "iat": g.clock().Unix(), "exp": g.clock().Add(time.Minute).Unix(),
	}
}

func (g *gate) sign(kid string, change func(jwt.MapClaims, map[string]any)) string {
	c := g.claims()
	t := jwt.NewWithClaims(jwt.SigningMethodES256, c)
	t.Header["kid"] = kid
	if change != nil {
		change(c, t.Header)
	}
	g.mu.Lock()
	key := g.keys[kid]
	g.mu.Unlock()
	if key == nil {
		key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	s, err := t.SignedString(key)
	if err != nil {
		g.t.Fatal(err)
	}
	return s
}

func TestGoodAssertionIsReadFromTheRequest(t *testing.T) {
	g := newGate(t)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set(Header, g.sign("k1", nil))
	c, err := g.verifier().FromRequest(r)
	if err != nil {
		t.Fatal(err)
	}
	if c.User != "u1" || c.Tenant != "acme" || c.Role != "owner" || c.Plan != "pro" || c.Email != "o@example.com" {
		t.Fatalf("claims %+v", c)
	}
	if !c.MatchesDBURI(dbURI) || c.MatchesDBURI(dbURI+"x") || c.MatchesDBURI("") || (Claims{}).MatchesDBURI(dbURI) {
		t.Fatal("the database URI is not judged by its hash")
	}
	if !c.Expires.Equal(g.clock().Add(time.Minute)) || !c.IssuedAt.Equal(g.clock()) {
		t.Fatalf("times %v %v", c.IssuedAt, c.Expires)
	}
}

func TestMissingOrDoubledAssertionIsRefused(t *testing.T) {
	g := newGate(t)
	v := g.verifier()
	for name, values := range map[string][]string{"none": nil, "empty": {""}, "two": {g.sign("k1", nil), g.sign("k1", nil)}} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header[Header] = values
		if _, err := v.FromRequest(r); !errors.Is(err, ErrMissing) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestForgedAssertionIsRefused(t *testing.T) {
	g := newGate(t)
	v := g.verifier()
	set := func(k string, val any) func(jwt.MapClaims, map[string]any) {
		return func(c jwt.MapClaims, _ map[string]any) {
			if val == nil {
				delete(c, k)
				return
			}
			c[k] = val
		}
	}
	ago := func(d time.Duration) int64 { return g.clock().Add(-d).Unix() }
	good := g.sign("k1", nil)
	tokens := map[string]string{
		"other issuer": g.sign("k1", set("iss", "https://evil.example.com")), "no issuer": g.sign("k1", set("iss", nil)),
		"other audience": g.sign("k1", set("aud", "other")), "no audience": g.sign("k1", set("aud", nil)),
		"expired": g.sign("k1", set("exp", ago(6*time.Second))), "no exp": g.sign("k1", set("exp", nil)),
		"future iat": g.sign("k1", set("iat", ago(-time.Hour))), "no iat": g.sign("k1", set("iat", nil)), "no sub": g.sign("k1", set("sub", nil)),
		"not yet": g.sign("k1", set("nbf", ago(-time.Hour))),
		"crit":    g.sign("k1", func(_ jwt.MapClaims, h map[string]any) { h["crit"] = []string{"x"} }),
		"no kid":  g.sign("k1", func(_ jwt.MapClaims, h map[string]any) { delete(h, "kid") }),
		"other's key under our kid": func() string {
			other := newGate(t)
			return other.sign("k1", nil)
		}(),
		"cut": good[:len(good)-10], "two parts": good[:strings.LastIndexByte(good, '.')], "five parts": good + ".a.b", "words": "not a token",
		"too long": strings.Repeat("a", MaxToken+1), "empty": "",
		"alg none": unsigned(t, g.claims()), "HS256 with the public key": symmetric(t, g),
	}
	for name, token := range tokens {
		if c, err := v.Verify(context.Background(), token); !errors.Is(err, ErrInvalid) || c.User != "" {
			t.Errorf("%s: %v %+v", name, err, c)
		}
	}
	if _, err := v.Verify(context.Background(), good); err != nil {
		t.Fatal(err)
	}
}

func unsigned(t *testing.T, c jwt.MapClaims) string {
	tok := jwt.NewWithClaims(jwt.SigningMethodNone, c)
	tok.Header["kid"] = "k1"
	s, err := tok.SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func symmetric(t *testing.T, g *gate) string {
	tok := jwt.NewWithClaims(jwt.SigningMethodHS256, g.claims())
	tok.Header["kid"] = "k1"
	text, err := tok.SigningString()
	if err != nil {
		t.Fatal(err)
	}
	point, err := g.keys["k1"].PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	m := hmac.New(crypto.SHA256.New, point)
	m.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func TestUnknownKeysAreLookedForOnceASecondAndHarmNobody(t *testing.T) { // JWKS-1
	g := newGate(t)
	v := g.verifier()
	good := g.sign("k1", nil)
	if _, err := v.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	g.advance(2 * time.Second)
	for i := range 200 {
		if _, err := v.Verify(t.Context(), g.sign(fmt.Sprint("flood-", i), nil)); !errors.Is(err, ErrInvalid) {
			t.Fatalf("unknown key: %v", err)
		}
		if _, err := v.Verify(t.Context(), good); err != nil {
			t.Fatalf("good assertion during the flood: %v", err)
		}
	}
	if n := g.asked.Load(); n != 2 {
		t.Fatalf("%d fetches within one second, want the first and one more", n)
	}
}

func TestRotatedKeyIsFoundAndTheOldOneStillVerifies(t *testing.T) {
	g := newGate(t)
	v := g.verifier()
	if _, err := v.Verify(t.Context(), g.sign("k1", nil)); err != nil {
		t.Fatal(err)
	}
	g.advance(time.Minute)
	g.addKey("k2")
	for _, kid := range []string{"k2", "k1"} {
		if _, err := v.Verify(t.Context(), g.sign(kid, nil)); err != nil {
			t.Fatalf("%s: %v", kid, err)
		}
	}
}

func TestKeysThatCannotBeHadRefuseAndLastGoodOnesServeADay(t *testing.T) {
	g := newGate(t)
	v := g.verifier()
	g.respond(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	if _, err := v.Verify(t.Context(), g.sign("k1", nil)); !errors.Is(err, ErrKeys) {
		t.Fatalf("gate down: %v", err)
	}
	if _, err := v.Verify(t.Context(), g.sign("k1", nil)); !errors.Is(err, ErrKeys) || g.asked.Load() != 1 {
		t.Fatalf("asked again within a second: %v, %d", err, g.asked.Load())
	}
	g.respond(nil)
	g.advance(2 * time.Second)
	if _, err := v.Verify(t.Context(), g.sign("k1", nil)); err != nil {
		t.Fatal(err)
	}
	g.respond(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	g.advance(23 * time.Hour)
	if _, err := v.Verify(t.Context(), g.sign("k1", nil)); err != nil {
		t.Fatalf("last good keys: %v", err)
	}
	g.advance(2 * time.Hour)
	if _, err := v.Verify(t.Context(), g.sign("k1", nil)); !errors.Is(err, ErrKeys) {
		t.Fatalf("keys a day old: %v", err)
	}
}

func TestHostileKeySetsAreRefused(t *testing.T) { // JWKS-2
	for name, f := range map[string]http.HandlerFunc{
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[`))
			for range 2 * maxKeySet / 1024 {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 1024)); err != nil {
					return
				}
			}
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"no keys":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
		"symmetric": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[{"kty":"oct","kid":"k1","k":"c2VjcmV0"}]}`))
		},
		"not on the curve": func(w http.ResponseWriter, _ *http.Request) {
			zero := strings.Repeat("A", 43)
			_, _ = fmt.Fprintf(w, `{"keys":[{"kty":"EC","crv":"P-256","kid":"k1","x":%q,"y":%q}]}`, zero, zero)
		},
		"words": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t)
			g.respond(f)
			if _, err := g.verifier().Verify(t.Context(), g.sign("k1", nil)); !errors.Is(err, ErrKeys) {
				t.Fatal(err)
			}
			if n := g.asked.Load(); n != 1 {
				t.Fatalf("%d requests", n)
			}
		})
	}
}

func TestCallerThatGivesUpDoesNotWaitAndSpoilsNothing(t *testing.T) {
	g := newGate(t)
	v := g.verifier()
	entered, leave := make(chan struct{}), make(chan struct{})
	g.respond(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		_, _ = w.Write(g.jwks())
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	token := g.sign("k1", nil)
	go func() {
		_, err := v.Verify(ctx, token)
		done <- err
	}()
	<-entered
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	g.respond(nil)
	close(leave)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Fatalf("next caller: %v", err)
	}
}

func TestConfigurationWithoutNeedsIsRefused(t *testing.T) {
	good := Config{JWKSURL: "https://app.example.com/_gate/jwks.json", Issuer: issuer, Audience: audience}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no issuer": func(c *Config) { c.Issuer = "" }, "no audience": func(c *Config) { c.Audience = "" },
		"no url": func(c *Config) { c.JWKSURL = "" }, "plain http": func(c *Config) { c.JWKSURL = "http://gate:8080/_gate/jwks.json" },
		"file": func(c *Config) { c.JWKSURL = "file:///etc/passwd" },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	plain := good
	plain.JWKSURL, plain.InsecurePlaintext = "http://gate:8080/_gate/jwks.json", true
	if _, err := New(plain); err != nil {
		t.Error(err)
	}
}

func FuzzVerifyNeverPanicsNorAcceptsWhatWasNotSigned(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	v, err := New(Config{JWKSURL: "http://localhost/", Issuer: issuer, Audience: audience, Clock: func() time.Time { return now }})
	if err != nil {
		f.Fatal(err)
	}
	v.keys.byID, v.keys.fetched, v.keys.began, v.keys.tried = map[string]*ecdsa.PublicKey{"k1": &key.PublicKey}, now, now, true
	c := jwt.MapClaims{"iss": issuer, "aud": audience, "sub": "u1", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
	tok := jwt.NewWithClaims(jwt.SigningMethodES256, c)
	tok.Header["kid"] = "k1"
	good, err := tok.SignedString(key)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := v.Verify(context.Background(), good); err != nil {
		f.Fatal(err)
	}
	text := good[:strings.LastIndexByte(good, '.')]
	f.Add(good)
	f.Add(text)
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		if got, err := v.Verify(context.Background(), token); err == nil && !strings.HasPrefix(token, text+".") {
			t.Fatalf("accepted %q: %+v", token, got)
		}
	})
}

func FuzzKeySetNeverPanics(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"AA","y":"AA"}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		set, err := parse(b)
		if (err == nil) != (len(set) > 0) {
			t.Fatalf("%d keys and error %v", len(set), err)
		}
		for range maps.Keys(set) {
			return
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	v, err := New(Config{JWKSURL: "http://localhost/", Issuer: issuer, Audience: audience})
	if err != nil {
		b.Fatal(err)
	}
	v.keys.byID, v.keys.fetched = map[string]*ecdsa.PublicKey{"k1": &key.PublicKey}, now
	tok := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": issuer, "aud": audience, "sub": "u1", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	})
	tok.Header["kid"] = "k1"
	token, err := tok.SignedString(key)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}

func TestACallerThatIsGoneIsToldNothingFalse(t *testing.T) {
	g := newGate(t)
	v := g.verifier()
	good := g.sign("k1", nil)
	if _, err := v.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := v.Verify(gone, good); err == nil && (c.User == "" || c.Tenant == "") {
		t.Errorf("empty claims without an error: %+v", c)
	}
	nobody := g.sign("k1", func(c jwt.MapClaims, _ map[string]any) { delete(c, "sub") })
	if c, err := v.Verify(gone, nobody); err == nil {
		t.Errorf("an assertion without sub passes: %+v", c)
	}
}
