package demoapp

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	issuer   = "http://127.0.0.1:8080"
	audience = "app"
)

// gate stands for the proxy: it signs assertions, serves their keys and seeds two tenants.
type gate struct {
	t      *testing.T
	app    *App
	keys   *httptest.Server
	signer jose.Signer
	client *http.Client
	dir    string
}

func newGate(t *testing.T) *gate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{t: t, dir: t.TempDir(), client: &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}}
	if g.signer, err = jose.NewSigner(jose.SigningKey{
		Algorithm: jose.ES256, Key: &jose.JSONWebKey{Key: key, KeyID: "k1"},
	}, (&jose.SignerOptions{}).WithType("JWT")); err != nil {
		t.Fatal(err)
	}
	g.keys = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
			{Key: key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"},
		}})
	}))
	t.Cleanup(func() {
		g.client.CloseIdleConnections()
		g.keys.Close()
	})
	if g.app, err = New(Config{JWKSURL: g.keys.URL, Issuer: issuer, Audience: audience, HTTPClient: g.client, Tick: 2 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	for file, name := range map[string]string{"acme": "Acme GmbH", "globex": "Globex Corporation"} {
		if err := SeedTenant(t.Context(), g.path(file), name); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func (g *gate) path(tenant string) string { return filepath.Join(g.dir, tenant+".db") }
func (g *gate) uri(tenant string) string  { return "sqlite:" + g.path(tenant) }

func hashOf(uri string) string {
	sum := sha256.Sum256([]byte(uri))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (g *gate) sign(claims map[string]any) string {
	g.t.Helper()
	token, err := jwt.Signed(g.signer).Claims(claims).Serialize()
	if err != nil {
		g.t.Fatal(err)
	}
	return token
}

func claimsFor(uri string) map[string]any {
	now := time.Now()
	c := map[string]any{
		"iss": issuer, "aud": audience, "sub": "u1", "email": "olivia@acme.example", "tenant": "acme", "role": "owner",
		"plan": "pro", "subscription": "active", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}
	if uri != "" {
		c["db_uri_sha256"] = hashOf(uri)
	}
	return c
}

// request is what the proxy sends for a person in acme.
func (g *gate) request(path, uri string) *http.Request {
	g.t.Helper()
	r := httptest.NewRequestWithContext(g.t.Context(), "GET", path, nil)
	for name, value := range map[string]string{
		"X-Tenant-Id": "acme", "X-Tenant-Plan": "pro", "X-Tenant-Features": "advanced_analytics,api%2Caccess",
		"X-Subscription-Status": "active", "X-User-Id": "u1", "X-User-Email": "olivia%C3%A9@acme.example", "X-User-Role": "owner",
		"X-Request-Id": "req-1", "X-Forwarded-Prefix": "/t/acme", "X-Gate-Assertion": g.sign(claimsFor(uri)),
	} {
		r.Header.Set(name, value)
	}
	if uri != "" {
		r.Header.Set("X-Tenant-Db-Uri", uri)
	}
	return r
}

func (g *gate) do(r *http.Request) (int, string) {
	rec := httptest.NewRecorder()
	g.app.ServeHTTP(rec, r)
	return rec.Code, rec.Body.String()
}

func TestTenantSeesItsOwnRowsAndNoOther(t *testing.T) {
	g := newGate(t)
	for tenant, want := range map[string]struct{ own, other string }{
		"acme":   {"Nordlicht Bäckerei", "Cascade Outfitters"},
		"globex": {"Cascade Outfitters", "Nordlicht Bäckerei"},
	} {
		for _, form := range []string{"sqlite:", "sqlite://", "sqlite:///"} {
			for _, path := range []string{"/", "/api/rows"} {
				status, body := g.do(g.request(path, form+g.path(tenant)))
				if status != http.StatusOK || !strings.Contains(body, want.own) || strings.Contains(body, want.other) {
					t.Errorf("%s %s%s: %d", tenant, form, path, status)
				}
			}
		}
	}
}

func TestPagesShowWhoIsThereAndStayBelowThePrefix(t *testing.T) {
	g := newGate(t)
	for _, path := range []string{"/", "/reports/", "/settings/", "/live/", "/request/"} {
		status, body := g.do(g.request(path, g.uri("acme")))
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, status, body)
		}
		for _, want := range []string{
			"oliviaé@acme.example", "owner", "Acme GmbH", "pro plan", "active",
			`href="/t/acme/reports/"`, `href="/t/acme/assets/style.css"`, `href="/_gate/tenants"`, `href="/_gate/logout"`,
		} {
			if !strings.Contains(body, want) {
				t.Errorf("%s lacks %q", path, want)
			}
		}
		if strings.Contains(body, `href="/reports`) || strings.Contains(body, " style=") {
			t.Errorf("%s has a link outside the prefix or an inline style", path)
		}
	}
}

func TestPrefixLeadsNowhereElse(t *testing.T) {
	for prefix, want := range map[string]string{
		"/t/acme": "/t/acme", "/t/acme/": "/t/acme", "/t/%41": "/t/%41", "": "", "/": "",
		"//evil.example": "", "https://evil.example": "", "/t/\"><script>": "", "javascript:1": "", "/a//b": "", "/" + strings.Repeat("x", 300): "",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("X-Forwarded-Prefix", prefix)
		if got := prefixOf(r); got != want {
			t.Errorf("%q: %q, want %q", prefix, got, want)
		}
	}
}

func TestRequestPageShowsHeadersAndVerifiedClaims(t *testing.T) {
	g := newGate(t)
	r := g.request("/request/", g.uri("acme"))
	r.Header.Set("Cookie", "app=canary-cookie")
	_, body := g.do(r)
	for _, want := range []string{"X-Tenant-Id", "X-Request-Id", "req-1", "sqlite:" + g.path("acme"), "db_uri_sha256", hashOf(g.uri("acme")), "verified"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	token := r.Header.Get("X-Gate-Assertion")
	if strings.Contains(body, token) || strings.Contains(body, token[strings.LastIndex(token, ".")+1:]) || strings.Contains(body, "canary-cookie") {
		t.Error("the page shows the assertion or a cookie")
	}
}

// LEAK-4: a database URI with a password is never shown, whatever the app cannot do with it.
func TestPasswordsAreNeverShown(t *testing.T) {
	g := newGate(t)
	for _, uri := range []string{
		"postgresql://acme:canary-password@db.internal:5432/acme", "postgresql+psycopg2://acme:canary-password@db/acme?password=canary-password",
		"sqlite:canary-password.db", "mysql:canary-password", "sqlite:" + g.dir + "/none.db?key=canary-password",
	} {
		for _, path := range []string{"/", "/request/", "/api/rows", "/events", "/account/"} {
			for _, accept := range []string{"", "text/html"} {
				r := g.request(path, uri)
				r.Header.Set("Accept", accept)
				status, body := g.do(r)
				if strings.Contains(body, "canary-password") {
					t.Errorf("%s %s shows the password", path, uri)
				}
				if path != "/account/" && status < 500 {
					t.Errorf("%s %s: %d", path, uri, status)
				}
			}
		}
	}
	if got := shownURI("postgresql://acme:canary-password@db/acme"); strings.Contains(got, "canary") || got == "" {
		t.Errorf("shown as %q", got)
	}
}

func TestNothingIsShownWithoutAGoodAssertion(t *testing.T) {
	g := newGate(t)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forger, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: &jose.JSONWebKey{Key: other, KeyID: "k1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := jwt.Signed(forger).Claims(claimsFor(g.uri("acme"))).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	with := func(name string, value any) string {
		c := maps.Clone(claimsFor(g.uri("acme")))
		c[name] = value
		return g.sign(c)
	}
	for name, change := range map[string]func(http.Header){
		"no header at all":      func(h http.Header) { clear(h) },
		"no assertion":          func(h http.Header) { h.Del("X-Gate-Assertion") },
		"no database":           func(h http.Header) { h.Del("X-Tenant-Db-Uri") },
		"another tenant's":      func(h http.Header) { h.Set("X-Tenant-Db-Uri", g.uri("globex")) },
		"forged":                func(h http.Header) { h.Set("X-Gate-Assertion", forged) },
		"garbage":               func(h http.Header) { h.Set("X-Gate-Assertion", "a.b.c") },
		"two assertions":        func(h http.Header) { h.Add("X-Gate-Assertion", h.Get("X-Gate-Assertion")) },
		"two databases":         func(h http.Header) { h.Add("X-Tenant-Db-Uri", g.uri("globex")) },
		"expired":               func(h http.Header) { h.Set("X-Gate-Assertion", with("exp", time.Now().Add(-time.Hour).Unix())) },
		"for another app":       func(h http.Header) { h.Set("X-Gate-Assertion", with("aud", "other")) },
		"of another proxy":      func(h http.Header) { h.Set("X-Gate-Assertion", with("iss", "http://evil.example")) },
		"speaks of no database": func(h http.Header) { h.Set("X-Gate-Assertion", g.sign(claimsFor(""))) },
		"a file that is not one": func(h http.Header) {
			h.Set("X-Tenant-Db-Uri", "sqlite:/nonexistent/x.db")
			h.Set("X-Gate-Assertion", g.sign(claimsFor("sqlite:/nonexistent/x.db")))
		},
	} {
		for _, path := range []string{"/", "/api/rows", "/events", "/request/"} {
			r := g.request(path, g.uri("acme"))
			change(r.Header)
			status, body := g.do(r)
			if status < 500 || strings.Contains(body, "Nordlicht") || strings.Contains(body, "Cascade") {
				t.Errorf("%s %s: %d", name, path, status)
			}
			if len(strings.TrimSpace(body)) < 20 {
				t.Errorf("%s %s: the answer says nothing: %q", name, path, body)
			}
		}
	}
	if status, _ := g.do(g.request("/assets/style.css", "")); status != http.StatusOK {
		t.Errorf("style: %d", status)
	}
}

func TestOpeningADatabaseNeverMakesOne(t *testing.T) {
	g := newGate(t)
	path := filepath.Join(g.dir, "none.db")
	if status, _ := g.do(g.request("/", "sqlite:"+path)); status != http.StatusServiceUnavailable {
		t.Errorf("status %d", status)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("a file was made")
	}
}

func TestAccountPageNeedsNoTenant(t *testing.T) {
	g := newGate(t)
	r := g.request("/account/", "")
	for _, name := range []string{"X-Tenant-Id", "X-Tenant-Plan", "X-Tenant-Features", "X-Subscription-Status", "X-Forwarded-Prefix"} {
		r.Header.Del(name)
	}
	status, body := g.do(r)
	if status != http.StatusOK || !strings.Contains(body, "oliviaé@acme.example") || strings.Contains(body, "Invoices</a>") {
		t.Fatalf("%d %s", status, body)
	}
	if status, body := g.do(g.request("/", "")); status != http.StatusInternalServerError || !strings.Contains(body, "no X-Tenant-Db-Uri") {
		t.Errorf("tenant page without a tenant: %d %s", status, body)
	}
}

func TestUnknownPagesAndMethods(t *testing.T) {
	g := newGate(t)
	for path, want := range map[string]int{"/nothing": 404, "/t/acme/": 404, "/healthz": 200, "/assets/live.js": 200} {
		if status, _ := g.do(g.request(path, g.uri("acme"))); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	r := g.request("/", g.uri("acme"))
	r.Method = "DELETE"
	if status, _ := g.do(r); status != http.StatusNotFound {
		t.Errorf("DELETE: %d", status)
	}
}

func TestEventsFlowAndEndWithTheClient(t *testing.T) {
	g := newGate(t)
	ended := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		r.Header = g.request("/events", g.uri("acme")).Header
		g.app.ServeHTTP(w, r)
	}))
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL+"/events", nil)
	res, err := g.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("content type %q", res.Header.Get("Content-Type"))
	}
	lines := bufio.NewScanner(res.Body)
	for n := 0; n < 3 && lines.Scan(); {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			n++
			var event struct{ Company, Tenant string }
			if err := json.Unmarshal([]byte(data), &event); err != nil || event.Company != "Acme GmbH" || event.Tenant != "acme" {
				t.Fatalf("event %s: %v", data, err)
			}
		}
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the stream outlives its client")
	}
	if n := len(g.app.streams); n != 0 {
		t.Errorf("%d streams are still counted", n)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	g := newGate(t)
	for range maxStreams {
		g.app.streams <- struct{}{}
	}
	rec := httptest.NewRecorder()
	g.app.ServeHTTP(rec, g.request("/events", g.uri("acme")))
	if rec.Code != http.StatusServiceUnavailable || rec.Header().Get("Retry-After") == "" {
		t.Errorf("%d", rec.Code)
	}
}

func TestManyTenantsAtOnceNeverMix(t *testing.T) {
	g := newGate(t)
	var wg sync.WaitGroup
	for i := range 40 {
		tenant, own, other := "acme", "Fahrradhaus Elbe", "Summit Robotics"
		if i%2 == 1 {
			tenant, own, other = "globex", other, own
		}
		r := g.request("/api/rows", g.uri(tenant))
		wg.Go(func() {
			status, body := g.do(r)
			if status != 200 || !strings.Contains(body, own) || strings.Contains(body, other) {
				t.Errorf("%s: %d", tenant, status)
			}
		})
	}
	wg.Wait()
}

func TestRowsAreStableDifferentAndKept(t *testing.T) {
	dir := t.TempDir()
	read := func(file, name string) string {
		t.Helper()
		path := filepath.Join(dir, file)
		if err := SeedTenant(t.Context(), path, name); err != nil {
			t.Fatal(err)
		}
		open, err := openerOf("sqlite:" + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := readBooks(t.Context(), open)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Invoices) != seedInvoices || len(b.Customers) < 5 || b.Total("paid") <= 0 || b.Total("open") <= 0 {
			t.Errorf("%s: %d invoices, %d customers", name, len(b.Invoices), len(b.Customers))
		}
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	seen := make(map[string]string)
	for _, name := range []string{"Acme GmbH", "Globex Corporation", "Initech", "Umbrella Ltd", "Hooli", "Vandelay"} {
		rows := read(name+".db", name)
		if rows != read(name+" again.db", name) || rows != read(name+".db", "Renamed") {
			t.Errorf("%s: rows change", name)
		}
		if before, ok := seen[rows]; ok {
			t.Errorf("%s has the rows of %s", name, before)
		}
		seen[rows] = name
	}
	info, err := os.Stat(filepath.Join(dir, "Hooli.db"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := SeedTenant(t.Context(), filepath.Join(dir, "no", "such", "dir.db"), "x"); err == nil {
		t.Error("a directory that is not there is no error")
	}
}

func TestMoneyAndPaths(t *testing.T) {
	for cents, want := range map[int64]string{0: "0.00", 5: "0.05", 123456: "1,234.56", 100000000: "1,000,000.00", -250: "−2.50"} {
		if got := money(cents); got != want {
			t.Errorf("%d: %s, want %s", cents, got, want)
		}
	}
	for uri, want := range map[string]string{
		"sqlite:/a/b.db": "/a/b.db", "sqlite:///a/b.db": "/a/b.db", "sqlite:////a/b.db": "/a/b.db", "sqlite:/a/b.db?mode=rwc": "/a/b.db",
		"sqlite:a.db": "", "sqlite:": "", "sqlite://host/a.db": "", "postgresql://h/a": "", "": "", "file:/a": "", "sqlite:/a\x00b": "",
	} {
		if got, err := sqlitePath(uri); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", uri, got, err)
		}
	}
}

func FuzzPrefixStaysAPlainPath(f *testing.F) {
	for _, seed := range []string{"/t/acme", "//evil", "/t/%2e%2e", "/a\\b", "/\"", "/t/acme/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, prefix string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["X-Forwarded-Prefix"] = []string{prefix}
		got := prefixOf(r)
		if got != "" && (got[0] != '/' || strings.Contains(got, "//") || strings.ContainsAny(got, "\"'<>:\\ \r\n?#")) {
			t.Fatalf("%q became %q", prefix, got)
		}
	})
}

func FuzzShownURIHidesThePassword(f *testing.F) {
	f.Add("acme", "s3cret-pass", "db:5432")
	f.Add("a@b", "p:@/?#[]ss", "h")
	f.Fuzz(func(t *testing.T, user, password, host string) {
		secretURI := url.URL{Scheme: "postgresql", User: url.UserPassword(user, "canary"+password), Host: host, Path: "/app"}
		if strings.Contains(user+host, "canary") {
			return
		}
		if got := shownURI(secretURI.String()); strings.Contains(got, "canary") {
			t.Fatalf("shown as %q", got)
		}
	})
}
