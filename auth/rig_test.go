package auth

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
)

func TestMain(m *testing.M) { pgtest.Main(m) } // looks for leaked goroutines too

// clock is the time of a test.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 23, 7, 31, 0, 123456000, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// logBuffer collects a log that several goroutines write.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const masterLine = "bWFzdGVyIHNlY3JldCBvZiB0aGUgdGVzdHMsIDMyIGJ5dGVzIG9yIG1vcmU="

func testKeyset(t testing.TB, lines ...string) seal.Keyset {
	t.Helper()
	if len(lines) == 0 {
		lines = []string{masterLine}
	}
	k, err := seal.ParseKeyset(secret.New(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rig is an Auth on a real SQLite host database, with one provider that can lie.
type rig struct {
	t     testing.TB
	clock *clock
	host  *catalog.HostDatabase
	op    *issuer
	cfg   Config
	deps  Deps
	auth  *Auth
	log   *logBuffer
	ip    string
}

// rigOption changes what a rig is made with.
type rigOption func(*rig)

func newRig(t testing.TB, options ...rigOption) *rig {
	t.Helper()
	g := &rig{t: t, clock: newClock(), log: &logBuffer{}, ip: "192.0.2.1"}
	g.op = newIssuer(t, g.clock.Now)
	public, err := url.Parse("https://app.example.com")
	if err != nil {
		t.Fatal(err)
	}
	g.cfg = Config{Providers: []Provider{{
		Name: "main", Issuer: g.op.url(), ClientID: clientID, ClientSecret: secret.New(clientSecret), SubjectPrefix: "main|",
		Bearer: BearerConfig{Audiences: []string{"api"}},
	}}}
	g.deps = Deps{
		PublicURL: public, Secrets: testKeyset(t), Clock: g.clock.Now, TenantClaim: "tenant",
		Log:      slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		ClientIP: func(*http.Request) netip.Addr { return netip.MustParseAddr(g.ip) },
		Refuse: func(w http.ResponseWriter, _ *http.Request, code string, err error) {
			w.Header().Set("X-Code", code)
			if err != nil {
				g.log.Write([]byte("refused " + code + ": " + err.Error() + "\n"))
			}
			w.WriteHeader(statusOf(code))
		},
	}
	for _, o := range options {
		o(g)
	}
	if g.host == nil {
		g.host = openHost(t)
	}
	g.deps.Host = g.host
	g.auth = g.replica()
	return g
}

// emptyHost is a migrated host database as a file: made once, copied by each test.
var emptyHost = sync.OnceValues(func() (content []byte, err error) {
	dir, err := os.MkdirTemp("", "tenantgate-auth")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "host.db")
	h, err := catalog.Open(context.Background(), "sqlite:"+path)
	if err != nil {
		return nil, err
	}
	if err := h.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func openHost(t testing.TB) *catalog.HostDatabase {
	t.Helper()
	path := filepath.Join(t.TempDir(), "host.db")
	empty, err := emptyHost()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, empty, 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := catalog.Open(context.Background(), "sqlite:"+path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// onBothEngines runs a test on PostgreSQL and on SQLite.
func onBothEngines(t *testing.T, test func(t *testing.T, engine rigOption)) {
	t.Helper()
	t.Run(catalog.EngineSQLite, func(t *testing.T) { test(t, func(*rig) {}) })
	t.Run(catalog.EnginePostgreSQL, func(t *testing.T) {
		h, err := catalog.Open(t.Context(), pgtest.New(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
		test(t, func(g *rig) { g.host = h })
	})
}

// replica is one more Auth on the same database, as another process would be.
func (g *rig) replica() *Auth {
	g.t.Helper()
	a, err := New(context.Background(), g.cfg, g.deps)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = a.Close() })
	return a
}

// statusOf is the part of the denial table that this package uses.
func statusOf(code string) int {
	return map[string]int{
		codeBadHost: 400, codeBadReturnTo: 400, codeCrossOrigin: 403, codeNoAccess: 403, codeHostDatabase: 503, codeMethodNotAllowed: 405,
		codeNotFound: 404, codeProviderUnavailable: 503, codeRateLimited: 429, codeUnknownUser: 403,
	}[code]
}

func plainHTTP(g *rig) {
	g.deps.PublicURL = &url.URL{Scheme: "http", Host: "localhost:8080"}
}

func (g *rig) addUser(subject, email string) catalog.UserID {
	g.t.Helper()
	u := &catalog.GlobalUser{}
	if subject != "" {
		u.OAuthID = &subject
	}
	if email != "" {
		u.Email = &email
	}
	if err := g.host.GlobalUsers.Insert(context.Background(), u); err != nil {
		g.t.Fatal(err)
	}
	return u.ID
}

// browser keeps cookies as a browser does for one host.
type browser struct {
	g       *rig
	auth    *Auth
	host    string
	cookies map[string]string
	maxAge  map[string]int
	header  http.Header
}

func (g *rig) browser() *browser {
	return &browser{g: g, auth: g.auth, host: g.deps.PublicURL.Host, cookies: map[string]string{}, maxAge: map[string]int{}, header: http.Header{}}
}

func (b *browser) cookieHeader() []string {
	if len(b.cookies) == 0 {
		return nil
	}
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(b.cookies)) {
		pairs = append(pairs, name+"="+b.cookies[name])
	}
	return []string{strings.Join(pairs, "; ")}
}

func (b *browser) do(method, target string) *httptest.ResponseRecorder {
	b.g.t.Helper()
	r := httptest.NewRequest(method, target, nil)
	r.Host = b.host
	for k, v := range b.header {
		r.Header[k] = v
	}
	if c := b.cookieHeader(); c != nil {
		r.Header["Cookie"] = c
	}
	w := httptest.NewRecorder()
	switch path := r.URL.Path; {
	case path == loginPath:
		b.auth.Login(w, r)
	case strings.HasPrefix(path, callbackPath):
		b.auth.Callback(w, r)
	case path == handoffPath:
		b.auth.Handoff(w, r)
	case path == logoutPath:
		b.auth.Logout(w, r)
	case path == "/_gate/jwks.json":
		b.auth.JWKS(w, r)
	default:
		b.g.t.Fatalf("no page at %s", path)
	}
	b.keep(w)
	return w
}

func (b *browser) keep(w *httptest.ResponseRecorder) {
	for _, line := range w.Header()["Set-Cookie"] {
		c, err := http.ParseSetCookie(line)
		if err != nil {
			b.g.t.Fatalf("%q: %v", line, err)
		}
		if strings.HasPrefix(c.Name, hostPrefix) && (!c.Secure || c.Path != "/" || c.Domain != "") {
			b.g.t.Errorf("a browser refuses %q", line)
		}
		if c.MaxAge < 0 || strings.Contains(line, "Max-Age=0") {
			delete(b.cookies, c.Name)
			continue
		}
		b.cookies[c.Name] = c.Value
		b.maxAge[c.Name] = c.MaxAge
	}
}

// away begins a sign-in and returns where the browser is sent.
func (b *browser) away(query string) *url.URL {
	b.g.t.Helper()
	w := b.do(http.MethodGet, loginPath+query)
	if w.Code != http.StatusFound {
		b.g.t.Fatalf("login: status %d, code %s", w.Code, w.Header().Get("X-Code"))
	}
	u, err := url.Parse(w.Header().Get("Location"))
	if err != nil {
		b.g.t.Fatal(err)
	}
	return u
}

// back returns from the provider with a code for that subject.
func (b *browser) back(op *issuer, provider string, authorize *url.URL, subject string, claims map[string]any) *httptest.ResponseRecorder {
	b.g.t.Helper()
	q := url.Values{"state": {authorize.Query().Get("state")}, "code": {op.grant(authorize, subject, claims)}}
	return b.do(http.MethodGet, callbackPath+provider+"?"+q.Encode())
}

func (b *browser) signIn(subject string, claims map[string]any) *httptest.ResponseRecorder {
	b.g.t.Helper()
	return b.back(b.g.op, "main", b.away("?return_to=/after%3Fx=1"), subject, claims)
}

// mustSignIn signs in and returns the cookie's value.
func (b *browser) mustSignIn(subject string) string {
	b.g.t.Helper()
	w := b.signIn(subject, nil)
	if w.Code != http.StatusFound || w.Header().Get("Location") != "/after?x=1" {
		b.g.t.Fatalf("sign-in: status %d, code %q, location %q\n%s", w.Code, w.Header().Get("X-Code"), w.Header().Get("Location"), b.g.log)
	}
	return b.cookies[b.auth.names.session]
}

func (b *browser) identity() (Identity, error) {
	return b.auth.Authenticate(context.Background(), Credentials{Cookies: b.cookieHeader(), Host: b.host})
}

// bearer presents a token.
func (g *rig) bearer(token string) (Identity, error) {
	return g.auth.Authenticate(context.Background(), Credentials{Authorization: []string{"Bearer " + token}, Host: "app.example.com"})
}

func (g *rig) audits(event string) []catalog.HostAuditLog {
	g.t.Helper()
	rows, _, err := g.host.AuditLogs.List(context.Background(), catalog.Page{Limit: 1000, Filter: map[string]string{"event_type": event}})
	if err != nil {
		g.t.Fatal(err)
	}
	return rows
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (g *rig) sessionCount(user catalog.UserID) int {
	g.t.Helper()
	rows, err := g.host.Sessions.ListByUser(context.Background(), user)
	if err != nil {
		g.t.Fatal(err)
	}
	return len(rows)
}

func maxAgeOf(t testing.TB, line string) int {
	t.Helper()
	_, rest, ok := strings.Cut(line, "Max-Age=")
	digits, _, _ := strings.Cut(rest, ";")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil {
		t.Fatalf("no Max-Age in %q", line)
	}
	return n
}
