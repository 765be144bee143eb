package acceptance

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/devidp"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// deadListener drops every connection until it is told that its server is up.
type deadListener struct {
	net.Listener
	up atomic.Bool
}

func (l *deadListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || l.up.Load() {
			return conn, err
		}
		_ = conn.Close()
	}
}

func TestAProviderThatIsDownAtTheStartStopsItsOwnSignInsAlone(t *testing.T) {
	t.Parallel()
	dsn := sqliteURL(t)
	seed(t, dsn)
	inner, err := gatetest.NewListener()
	if err != nil {
		t.Fatal(err)
	}
	gateListener, err := gatetest.NewListener()
	if err != nil {
		t.Fatal(err)
	}
	down := &deadListener{Listener: inner}
	provider, err := devidp.New(devidp.Config{
		Issuer: "http://" + inner.Addr().String(), People: people, ClientID: "late", ClientSecret: secret.New("late secret"),
		RedirectURIs: []string{gatetest.PublicURL(gateListener) + "/_gate/callback/late"},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: provider, ReadHeaderTimeout: patience}
	served := make(chan error, 1)
	go func() { served <- server.Serve(down) }()
	t.Cleanup(func() {
		if err := errors.Join(server.Close(), provider.Close()); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	other := newIssuer(t, time.Now)
	w := gatetest.New(t, gatetest.Options{
		HostURL: dsn, App: echo, People: people, Listener: gateListener,
		Configure: func(cfg *config.Config) {
			cfg.Identity.InsecureEmptyPrefix = true
			cfg.Identity.Providers = []auth.Provider{
				{Name: "late", Issuer: provider.Issuer(), ClientID: "late", ClientSecret: secret.New("late secret"), Bearer: auth.BearerConfig{Audiences: []string{gatetest.Audience}}},
				{Name: "other", Issuer: other.url, SubjectPrefix: "other|", Bearer: auth.BearerConfig{Audiences: []string{gatetest.Audience}}},
			}
		},
	})
	execSQL(t, dsn, `UPDATE core_users SET oauth_id = 'other|bob' WHERE id = 'id-bob'`)
	c := client(t, w)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

	bob := map[string]string{"Authorization": "Bearer " + other.mint(t, jose.EdDSA, gatetest.Audience, "bob", nil), "X-Tenant": "acme"}
	if res, body := fetch(t, c, "GET", w.URL+"/", bob); res.StatusCode != 200 {
		t.Errorf("bearer of the other provider: %s %s", res.Status, body)
	}
	token, err := provider.MintAccessToken("ada", gatetest.Audience, time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, ask := range map[string]func() (*http.Response, string){
		"sign-in": func() (*http.Response, string) { return fetch(t, c, "GET", w.URL+"/_gate/login", nil) },
		"bearer of the provider that is down": func() (*http.Response, string) {
			return fetch(t, c, "GET", w.URL+"/t/acme/", map[string]string{"Authorization": "Bearer " + token})
		},
	} {
		if res, body := ask(); res.StatusCode != 503 || codeOf(body) != "provider_unavailable" || res.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %s %s, Retry-After %q", name, res.Status, body, res.Header.Get("Retry-After"))
		}
	}

	down.up.Store(true)
	eventually(t, patience, "sign-in leads to the provider again", func() bool {
		res, _ := fetch(t, c, "GET", w.URL+"/_gate/login", nil)
		return res.StatusCode == http.StatusFound && strings.HasPrefix(res.Header.Get("Location"), provider.Issuer())
	})
	browser := signedIn(t, w, "ada")
	if res, body := fetch(t, browser, "GET", w.URL+"/t/acme/", nil); res.StatusCode != 200 {
		t.Errorf("signed in once the provider was up: %s %s", res.Status, body)
	}
	eventually(t, patience, "bearer tokens of the provider work once it is up", func() bool {
		res, _ := fetch(t, c, "GET", w.URL+"/t/acme/", map[string]string{"Authorization": "Bearer " + token})
		return res.StatusCode == 200
	})
}

func TestWithoutTheHostDatabaseNothingPassesThatIsNotRememberedAndNothingAfterMaxStale(t *testing.T) {
	t.Parallel()
	pg := pgtest.NewServer(t)
	dsn := pg.URL(t)
	seed(t, dsn)
	const heartbeat, maxStale = 500 * time.Millisecond, 2 * time.Second
	w := gatetest.New(t, gatetest.Options{HostURL: dsn, App: echo, People: people, Configure: func(cfg *config.Config) {
		cfg.Cache.Heartbeat, cfg.Cache.MaxStale = heartbeat, new(maxStale)
	}})
	ada, leaving := signedIn(t, w, "ada"), signedIn(t, w, "eve")
	arriving := signingIn(t, w, "bob")
	byToken := bearer(t, w, "dan")
	warm := map[string]func() (*http.Response, string){
		"session": func() (*http.Response, string) { return fetch(t, ada, "GET", w.URL+"/t/acme/", nil) },
		"bearer":  func() (*http.Response, string) { return fetch(t, ada, "GET", w.URL+"/t/acme/", byToken) },
	}
	for name, ask := range warm {
		if res, body := ask(); res.StatusCode != 200 {
			t.Fatalf("%s before the outage: %s %s", name, res.Status, body)
		}
	}

	pg.Stop(t)
	stopped := time.Now()
	unavailable := func(name string, res *http.Response, body string) {
		t.Helper()
		if res.StatusCode != 503 || codeOf(body) != "host_database_unavailable" || res.Header.Get("Retry-After") == "" || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s %s %v", name, res.Status, body, res.Header)
		}
	}
	// What nobody has asked for yet cannot be known: another tenant, another name of it, another person.
	for path, header := range map[string]map[string]string{"/t/globex/": nil, "/t/nothing/": nil, "/_gate/whoami": nil, "/": bearer(t, w, "bob")} {
		res, body := fetch(t, ada, "GET", w.URL+path, header)
		unavailable(path, res, body)
	}
	for name, ask := range warm {
		eventually(t, patience, name+" is refused too", func() bool {
			asked := time.Since(stopped)
			res, body := ask()
			if res.StatusCode != 200 {
				unavailable(name, res, body)
			} else if asked > heartbeat+maxStale {
				t.Fatalf("%s: asked %s after the end of the host database and answered", name, asked)
			}
			return res.StatusCode != 200
		})
	}
	for name, ask := range warm {
		res, body := ask()
		unavailable(name+" thereafter", res, body)
	}
	res, body := arriving(t)
	if res.Request.URL.Path != "/_gate/callback/dev" {
		t.Errorf("a sign-in ended at %s", res.Request.URL.Path)
	}
	unavailable("a sign-in", res, body)
	signOutWhileDown(t, w, leaving)

	pg.Start(t)
	for name, ask := range warm {
		eventually(t, patience, name+" passes again", func() bool {
			res, body := ask()
			if res.StatusCode != 200 {
				unavailable(name+" while healing", res, body)
			}
			return res.StatusCode == 200
		})
	}
	if res, body := fetch(t, signedIn(t, w, "bob"), "GET", w.URL+"/t/acme/", nil); res.StatusCode != 200 {
		t.Errorf("a sign-in after the outage: %s %s", res.Status, body)
	}
}

// signingIn goes as far as the provider's page; the returned function picks the person and gives the answer that the
// browser ends up with.
func signingIn(t *testing.T, w *gatetest.World, subject string) func(*testing.T) (*http.Response, string) {
	t.Helper()
	return signingInAt(t, w, client(t, w), "/_gate/login", subject)
}

func signingInAt(t *testing.T, w *gatetest.World, c *http.Client, login, subject string) func(*testing.T) (*http.Response, string) {
	t.Helper()
	page, body := fetch(t, c, "GET", w.URL+login, nil)
	if !strings.HasPrefix(page.Request.URL.String(), w.Provider.Issuer()) {
		t.Fatalf("sign-in leads to %s: %s %s", page.Request.URL, page.Status, body)
	}
	return func(t *testing.T) (*http.Response, string) {
		t.Helper()
		form := url.Values{"id": {page.Request.URL.Query().Get("id")}, "subject": {subject}}
		header := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
		res, body, err := do(c, "POST", page.Request.URL.String(), header, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		return res, body
	}
}

func signOutWhileDown(t *testing.T, w *gatetest.World, browser *http.Client) {
	t.Helper()
	before := cookies(t, browser, w.URL)
	res, body := fetch(t, browser, "POST", w.URL+"/_gate/logout", map[string]string{"Origin": w.URL})
	if res.StatusCode != 503 || codeOf(body) != "host_database_unavailable" {
		t.Errorf("sign-out: %s %s", res.Status, body)
	}
	u, err := url.Parse(w.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range browser.Jar.Cookies(u) {
		if strings.Contains(k.Name, "tg_session") {
			t.Errorf("sign-out left the cookie in the browser (%s before)", strings.SplitN(before, "=", 2)[0])
		}
	}
}
