package auth

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// The hosts of these tests: public_url is app.example.com.
const (
	acmeHost   = "acme.app.example.com"
	betaHost   = "beta.app.example.com"
	voidHost   = "void.app.example.com"
	domainHost = "portal.acme.org"
)

func withHosts(g *rig) { g.deps.BaseDomain = "app.example.com" }

// people is a rig with two tenants: alice is in both, bob in beta alone, eve's membership of acme has ended.
func people(t testing.TB, options ...rigOption) (g *rig, alice, bob catalog.UserID) {
	t.Helper()
	g = newRig(t, append([]rigOption{withHosts}, options...)...)
	alice, bob = g.addUser("main|alice", "alice@example.com"), g.addUser("main|bob", "bob@example.com")
	eve := g.addUser("main|eve", "eve@example.com")
	ctx := context.Background()
	var errs []error
	for _, id := range []catalog.TenantID{"acme", "beta"} {
		errs = append(errs, g.host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: id, DBURL: catalog.NewDBURI("sqlite:x.db"), IsActive: new(true)}))
	}
	for _, m := range []catalog.Membership{
		{UserID: alice, TenantID: "acme", IsActive: new(true)},
		{UserID: alice, TenantID: "beta", IsActive: new(true)},
		{UserID: bob, TenantID: "beta", IsActive: new(true)},
		{UserID: eve, TenantID: "acme", IsActive: new(false)},
	} {
		errs = append(errs, g.host.Memberships.Insert(ctx, &m))
	}
	errs = append(errs,
		g.host.Domains.Insert(ctx, &catalog.Domain{Host: domainHost, TenantID: "acme", Kind: "host", Verified: true}),
		g.host.Domains.Insert(ctx, &catalog.Domain{Host: "unverified.acme.org", TenantID: "acme", Kind: "host"}))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return g, alice, bob
}

// surfer is a browser with cookies of several hosts.
type surfer struct {
	g     *rig
	hosts map[string]*browser
}

func (g *rig) surfer() *surfer { return &surfer{g, map[string]*browser{}} }

func (p *surfer) at(host string) *browser {
	if p.hosts[host] == nil {
		p.hosts[host] = p.g.browser()
		p.hosts[host].host = host
	}
	return p.hosts[host]
}

func (p *surfer) get(target string) *httptest.ResponseRecorder {
	p.g.t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		p.g.t.Fatal(err)
	}
	return p.at(u.Host).do(http.MethodGet, u.RequestURI())
}

func location(t testing.TB, w *httptest.ResponseRecorder) string {
	t.Helper()
	if w.Code != http.StatusFound {
		t.Fatalf("status %d, code %q instead of a redirect", w.Code, w.Header().Get("X-Code"))
	}
	return w.Header().Get("Location")
}

// ask begins a hand-off at host and returns public_url's address.
func (p *surfer) ask(host, query string) string {
	p.g.t.Helper()
	to := location(p.g.t, p.get("https://"+host+"/_gate/login"+query))
	if !strings.HasPrefix(to, "https://app.example.com/_gate/login?") {
		p.g.t.Fatalf("sent to %s", to)
	}
	return to
}

// signIn signs in on public_url at that address and returns its last answer.
func (p *surfer) signIn(at, subject string) *httptest.ResponseRecorder {
	p.g.t.Helper()
	b := p.at("app.example.com")
	authorize, err := url.Parse(location(p.g.t, p.get(at)))
	if err != nil {
		p.g.t.Fatal(err)
	}
	return b.back(p.g.op, "main", authorize, subject, nil)
}

// enter goes to host as somebody without any session and ends with one there.
func (p *surfer) enter(host, subject string) {
	p.g.t.Helper()
	to := location(p.g.t, p.signIn(p.ask(host, "?return_to=/x%3Fy"), subject))
	if end := location(p.g.t, p.get(to)); end != "/x?y" {
		p.g.t.Fatalf("ended at %s", end)
	}
}

// codes counts the hand-off codes that exist, used ones aside.
func (g *rig) codes() (n int) {
	g.t.Helper()
	driver, name, table := "pgx", g.host.URI(), "tenantgate.sys_handoffs"
	if path, lite := strings.CutPrefix(name, "sqlite:"); lite {
		driver, name, table = "sqlite", "file:"+path, "sys_handoffs"
	}
	db, err := sql.Open(driver, name)
	if err == nil {
		err = errors.Join(db.QueryRowContext(context.Background(), "SELECT count(*) FROM "+table).Scan(&n), db.Close())
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return n
}

func TestHandoffSignsInAtATenantsHostAndAtACustomDomain(t *testing.T) {
	onBothEngines(t, func(t *testing.T, engine rigOption) {
		g, alice, _ := people(t, engine)
		p := g.surfer()
		p.enter(acmeHost, "alice")
		id, err := p.at(acmeHost).identity()
		if err != nil || id.User != alice || id.OnlyTenant != "" || id.Subject != "alice" {
			t.Fatalf("%+v %v", id, err)
		}
		if len(p.at(acmeHost).cookies) != 1 || p.at(acmeHost).maxAge["__Host-tg_session"] != 86400 {
			t.Errorf("cookies %v %v", p.at(acmeHost).cookies, p.at(acmeHost).maxAge)
		}
		// No second sign-in: public_url's own session is used.
		g.clock.advance(time.Minute)
		for _, host := range []string{betaHost, domainHost} {
			to := location(t, p.get(p.ask(host, "")))
			if !strings.HasPrefix(to, "https://"+host+"/_gate/handoff?code=") {
				t.Fatalf("sent to %s", to)
			}
			if end := location(t, p.get(to)); end != "/" {
				t.Fatalf("ended at %s", end)
			}
			if got := p.at(host).maxAge["__Host-tg_session"]; got != 86400-60 {
				t.Errorf("%s: cookie for %d s outlives the sign-in", host, got)
			}
		}
		if id, err := p.at(domainHost).identity(); err != nil || id.OnlyTenant != "acme" {
			t.Errorf("%+v %v", id, err)
		}
		if n := len(g.audits("sign_in")); n != 4 || g.sessionCount(alice) != 4 {
			t.Errorf("%d audit rows, %d sessions", n, g.sessionCount(alice))
		}
		tokens := map[string]string{}
		for host, b := range p.hosts {
			tokens[host] = b.cookies["__Host-tg_session"]
		}
		for of, token := range tokens { // each is good on its host alone
			for on := range tokens {
				if _, err := g.auth.present(on, sessionName+token); (err == nil) != (of == on) {
					t.Errorf("the session of %s on %s: %v", of, on, err)
				}
			}
		}
		g.clock.advance(24*time.Hour - time.Minute)
		for host, b := range p.hosts {
			if _, err := b.identity(); !errors.Is(err, ErrSessionExpired) {
				t.Errorf("%s outlives the sign-in: %v", host, err)
			}
		}
	})
}

func TestNoCodeExistsForWhoMayNotPass(t *testing.T) {
	onBothEngines(t, func(t *testing.T, engine rigOption) {
		g, _, _ := people(t, engine)
		var answers []string
		for _, tc := range []struct{ host, subject string }{
			{acmeHost, "bob"}, {voidHost, "bob"}, {acmeHost, "eve"}, {domainHost, "bob"}, {betaHost, "eve"}, {voidHost, "alice"},
		} {
			p := g.surfer()
			first := p.get("https://" + tc.host + "/_gate/login")
			answers = append(answers, first.Header().Get("Location")[:len("https://app.example.com/_gate/login?handoff=")])
			w := p.signIn(first.Header().Get("Location"), tc.subject)
			if w.Code != http.StatusForbidden || w.Header().Get("X-Code") != codeNoAccess || w.Header().Get("Location") != "" {
				t.Errorf("%v: %d %s %s", tc, w.Code, w.Header().Get("X-Code"), w.Header().Get("Location"))
			}
			if w := p.get(p.ask(tc.host, "")); w.Header().Get("X-Code") != codeNoAccess { // with the session that is there now
				t.Errorf("%v again: %d", tc, w.Code)
			}
		}
		if n := g.codes(); n != 0 {
			t.Errorf("%d codes exist", n)
		}
		for _, a := range answers {
			if a != answers[0] {
				t.Errorf("before sign-in %q tells from %q", a, answers[0])
			}
		}
	})
}

func TestNobodySignsInElsewhere(t *testing.T) {
	g, _, _ := people(t)
	for _, host := range []string{
		"unverified.acme.org", "evil.com", "a.acme.app.example.com", "127.0.0.1", "localhost", "gate", "example.com", "-x.app.example.com",
		"app.example.com.evil.com",
	} {
		for _, path := range []string{"/_gate/login", "/_gate/handoff?code=x", "/_gate/callback/main?code=x&state=y"} {
			p := g.surfer()
			if w := p.at(host).do(http.MethodGet, path); w.Header().Get("X-Code") != codeBadHost || len(p.at(host).cookies) != 0 {
				t.Errorf("%s%s: %d %s", host, path, w.Code, w.Header().Get("X-Code"))
			}
		}
	}
	if !strings.Contains(g.log.String(), "https://app.example.com") {
		t.Error("public_url is not named")
	}
	p := g.surfer()
	if w := p.at(acmeHost).do(http.MethodGet, "/_gate/callback/main?code=x&state=y"); w.Header().Get("X-Code") != codeBadHost {
		t.Errorf("a callback elsewhere: %d", w.Code)
	}
}

// readyCode brings alice to the moment before the exchange at host.
func readyCode(g *rig, host string) (p *surfer, to string) {
	g.t.Helper()
	p = g.surfer()
	return p, location(g.t, p.signIn(p.ask(host, "?return_to=/x"), "alice"))
}

// refused: no session came of it, and the page offers a way on.
func refused(t *testing.T, name string, b *browser, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code != http.StatusBadRequest || b.cookies["__Host-tg_session"] != "" || !strings.Contains(w.Body.String(), `href="/_gate/login`) {
		t.Errorf("%s: %d, cookies %v\n%s", name, w.Code, b.cookies, w.Body)
	}
	if h := w.Header(); h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("%s: %v", name, h)
	}
}

func TestHandoffAttacks(t *testing.T) {
	onBothEngines(t, func(t *testing.T, engine rigOption) {
		g, alice, _ := people(t, engine)
		t.Run("another browser", func(t *testing.T) {
			p, to := readyCode(g, acmeHost)
			thief := g.surfer()
			refused(t, "without a nonce", thief.at(acmeHost), thief.get(to))
			thief.ask(acmeHost, "")
			refused(t, "with a nonce of its own", thief.at(acmeHost), thief.get(to))
			if end := location(t, p.get(to)); end != "/x" {
				t.Errorf("the thief used it up: %s", end)
			}
		})
		t.Run("another host", func(t *testing.T) {
			p, to := readyCode(g, acmeHost)
			p.ask(betaHost, "")
			for _, host := range []string{betaHost, domainHost, voidHost} {
				refused(t, host, p.at(host), p.get(strings.Replace(to, acmeHost, host, 1)))
			}
			for name, value := range p.at(acmeHost).cookies { // the flow cookie taken along
				p.at(betaHost).cookies[name] = value
			}
			refused(t, "with its cookie", p.at(betaHost), p.get(strings.Replace(to, acmeHost, betaHost, 1)))
		})
		t.Run("replayed", func(t *testing.T) {
			p, to := readyCode(g, acmeHost)
			flow := p.at(acmeHost).cookieHeader()
			location(t, p.get(to))
			token := p.at(acmeHost).cookies["__Host-tg_session"]
			if end := location(t, p.get(to)); end != "/x" || p.at(acmeHost).cookies["__Host-tg_session"] != token {
				t.Errorf("who is signed in already goes on: %s", end)
			}
			again := g.surfer()
			name, value, _ := strings.Cut(flow[0], "=")
			again.at(acmeHost).cookies[name] = value
			refused(t, "with the flow cookie", again.at(acmeHost), again.get(to))
		})
		t.Run("expired", func(t *testing.T) {
			p, to := readyCode(g, acmeHost)
			g.clock.advance(codeLifetime)
			refused(t, "after a minute", p.at(acmeHost), p.get(to))
			p, to = readyCode(g, acmeHost)
			g.clock.advance(codeLifetime - time.Microsecond)
			location(t, p.get(to))
		})
		t.Run("signed out meanwhile", func(t *testing.T) {
			p, to := readyCode(g, acmeHost)
			p.at("app.example.com").do(http.MethodPost, logoutPath)
			refused(t, "after the sign-out", p.at(acmeHost), p.get(to))
		})
		t.Run("blocked meanwhile", func(t *testing.T) {
			p, to := readyCode(g, acmeHost)
			if err := g.host.BlockUser(t.Context(), alice, "x"); err != nil {
				t.Fatal(err)
			}
			refused(t, "blocked", p.at(acmeHost), p.get(to))
			if err := g.host.UnblockUser(t.Context(), alice); err != nil {
				t.Fatal(err)
			}
		})
		t.Run("domain unverified meanwhile", func(t *testing.T) {
			p, to := readyCode(g, domainHost)
			if err := g.host.Domains.Update(t.Context(), &catalog.Domain{Host: domainHost, TenantID: "acme", Kind: "host"}); err != nil {
				t.Fatal(err)
			}
			g.clock.advance(maxFactsAge)
			if w := p.get(to); w.Header().Get("X-Code") != codeBadHost {
				t.Errorf("%d %s", w.Code, w.Header().Get("X-Code"))
			}
			if err := g.host.Domains.Update(t.Context(), &catalog.Domain{Host: domainHost, TenantID: "acme", Kind: "host", Verified: true}); err != nil {
				t.Fatal(err)
			}
			g.clock.advance(maxFactsAge)
		})
		t.Run("malformed", func(t *testing.T) {
			p, to := readyCode(g, acmeHost)
			code := to[strings.Index(to, "code=")+5:]
			code, _, _ = strings.Cut(code, "&")
			for _, query := range []string{
				"", "?code=", "?code=" + code + "&code=" + code, "?code=" + code[:42], "?code=" + code + "=", "?code=" + strings.Repeat("a", 43),
				"?code=" + strings.Repeat("a", 100_000), "?code=%00", "?code=" + code + "&return_to=/a&return_to=/b", "?%zz",
			} {
				refused(t, query[:min(len(query), 60)], p.at(acmeHost), p.at(acmeHost).do(http.MethodGet, handoffPath+query))
			}
			if w := p.at(acmeHost).do(http.MethodPost, to[len("https://"+acmeHost):]); w.Code != http.StatusMethodNotAllowed {
				t.Errorf("POST: %d", w.Code)
			}
			if w := p.at(acmeHost).do(http.MethodHead, to[len("https://"+acmeHost):]); w.Code != http.StatusMethodNotAllowed {
				t.Errorf("HEAD, as a link scanner asks: %d", w.Code)
			}
			if end := location(t, p.get(strings.Replace(to, "return_to=%2Fx", "return_to=https://evil.com", 1))); end != "/" {
				t.Errorf("sent to %s", end)
			}
		})
	})
}

func TestOfManyThatExchangeACodeOneGetsASession(t *testing.T) {
	onBothEngines(t, func(t *testing.T, engine rigOption) {
		g, alice, _ := people(t, engine)
		other := g.replica()
		p, to := readyCode(g, acmeHost)
		before := g.sessionCount(alice)
		var won atomic.Int32
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				r := httptest.NewRequest(http.MethodGet, to, nil)
				r.Header["Cookie"] = p.at(acmeHost).cookieHeader()
				w := httptest.NewRecorder()
				[]*Auth{g.auth, other}[i%2].Handoff(w, r)
				if strings.Contains(strings.Join(w.Header()["Set-Cookie"], "\n"), sessionName) {
					won.Add(1)
				} else if w.Code != http.StatusBadRequest {
					t.Errorf("status %d", w.Code)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 || g.sessionCount(alice) != before+1 {
			t.Errorf("%d got a session, %d are there beside public_url's", won.Load(), g.sessionCount(alice)-before)
		}
	})
}

func TestRowsOfOtherProgramsHandNothingOn(t *testing.T) {
	g, alice, bob := people(t)
	p, to := readyCode(g, acmeHost)
	code := to[strings.Index(to, "code=")+5:]
	code, _, _ = strings.Cut(code, "&")
	ctx := context.Background()
	row, err := g.host.Handoffs.Get(ctx, hashOf(code))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(row.CodeHash+row.NonceHash+row.MAC, code) || row.TenantID != "" {
		t.Fatalf("%+v", row)
	}
	for name, change := range map[string]func(*catalog.Handoff){
		"another user":        func(h *catalog.Handoff) { h.UserID = bob },
		"another sign-in":     func(h *catalog.Handoff) { h.SignIn = "x" },
		"a later end":         func(h *catalog.Handoff) { h.ExpiresAt = "2099-01-01T00:00:00" },
		"a longer session":    func(h *catalog.Handoff) { h.SessionExpiresAt = "2099-01-01T00:00:00" },
		"another provider":    func(h *catalog.Handoff) { h.Provider = "x" },
		"another subject":     func(h *catalog.Handoff) { h.Subject = "x" },
		"a limit taken away":  func(h *catalog.Handoff) { h.OnlyTenant = "beta" },
		"a MAC that is none":  func(h *catalog.Handoff) { h.MAC = "" },
		"a MAC under no key":  func(h *catalog.Handoff) { h.MAC = hex.EncodeToString(handoffMAC(nil, code, h)) },
		"a later sign-in":     func(h *catalog.Handoff) { h.SignedInAt = "2099-01-01T00:00:00" },
		"the hash of nothing": func(h *catalog.Handoff) { h.MAC = hashOf("") },
	} {
		if _, err := g.host.Handoffs.Take(ctx, row.CodeHash, row.Host, row.NonceHash, "0"); err != nil {
			t.Fatal(err)
		}
		forged := *row
		change(&forged)
		if err := g.host.Handoffs.Insert(ctx, &forged); err != nil {
			t.Fatal(err)
		}
		refused(t, name, p.at(acmeHost), p.get(to))
	}
	if g.sessionCount(bob) != 0 || g.sessionCount(alice) != 1 {
		t.Error("a session came of it")
	}
}

func TestAsksThatNoHostOfOursMade(t *testing.T) {
	g, _, _ := people(t)
	p := g.surfer()
	at := p.ask(acmeHost, "")
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	good := u.Query().Get("handoff")
	for name, sealed := range map[string]string{
		"another secret": strings.Repeat("a", len(good)), "changed": good[:len(good)-2] + "AA", "empty": ".", "none": "x", "long": strings.Repeat("x", 100_000),
	} {
		if w := p.at("app.example.com").do(http.MethodGet, loginPath+"?handoff="+sealed); w.Code != http.StatusBadRequest || len(p.at("app.example.com").cookies) != 0 {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	if w := p.at("app.example.com").do(http.MethodGet, loginPath+"?handoff="+good+"&handoff="+good); w.Code != http.StatusBadRequest {
		t.Errorf("doubled: %d", w.Code)
	}
	state, err := newFlow("main", g.clock.Now()).state(g.auth.secrets, journey{returnTo: "/"})
	if err != nil {
		t.Fatal(err)
	}
	if w := p.at("app.example.com").do(http.MethodGet, loginPath+"?handoff="+url.QueryEscape(state)); w.Code != http.StatusBadRequest {
		t.Errorf("a state in its place: %d", w.Code)
	}
	g.clock.advance(flowLifetime)
	if w := p.get(at); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "This sign-in is over") {
		t.Errorf("after ten minutes: %d", w.Code)
	}
}

func TestSignOutOnAnyHostEndsTheSignInOnAll(t *testing.T) { // LOGOUT-1
	onBothEngines(t, func(t *testing.T, engine rigOption) {
		g, alice, _ := people(t, engine)
		for _, from := range []string{acmeHost, domainHost, "app.example.com"} {
			p, elsewhere := g.surfer(), g.surfer()
			elsewhere.enter(betaHost, "alice")
			p.enter(acmeHost, "alice")
			location(t, p.get(location(t, p.get(p.ask(domainHost, "")))))
			b := p.at(from)
			if w := b.do(http.MethodGet, logoutPath); !strings.Contains(w.Body.String(), "Sign out everywhere") || !strings.Contains(w.Body.String(), "alice@example.com") {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			b.header = http.Header{"Origin": {"https://" + from}, "Sec-Fetch-Site": {"same-origin"}}
			w := b.do(http.MethodPost, logoutPath)
			to, err := url.Parse(w.Header().Get("Location"))
			if w.Code != http.StatusSeeOther || err != nil || to.Query().Get("id_token_hint") == "" ||
				to.Query().Get("post_logout_redirect_uri") != "https://app.example.com/_gate/logout" {
				t.Fatalf("from %s: %d %v", from, w.Code, to)
			}
			for host, b := range p.hosts {
				if _, err := b.identity(); err == nil {
					t.Errorf("signed out at %s, and %s is signed in", from, host)
				}
			}
			if _, err := elsewhere.at(betaHost).identity(); err != nil {
				t.Errorf("another browser's sign-in ended too: %v", err)
			}
			if w := p.at("app.example.com").do(http.MethodGet, logoutPath); !strings.Contains(w.Body.String(), "You are signed out") || len(p.at("app.example.com").cookies) != 0 {
				t.Errorf("where the provider sends people back to: cookies %v", p.at("app.example.com").cookies)
			}
			if n := g.sessionCount(alice); n != 2 {
				t.Errorf("%d sessions are left instead of the other browser's two", n)
			}
			if err := g.host.BlockUser(t.Context(), alice, ""); err != nil {
				t.Fatal(err)
			}
			if err := g.host.UnblockUser(t.Context(), alice); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestSignOutEverywhereEndsOtherBrowsersToo(t *testing.T) {
	g, alice, bob := people(t)
	p, elsewhere, other := g.surfer(), g.surfer(), g.surfer()
	p.enter(acmeHost, "alice")
	elsewhere.enter(betaHost, "alice")
	other.enter(betaHost, "bob")
	old := p.at(acmeHost).cookieHeader()
	post := func(cookies []string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "https://"+acmeHost+logoutPath, strings.NewReader("everywhere=1"))
		r.Header["Content-Type"] = []string{"application/x-www-form-urlencoded"}
		r.Header["Cookie"] = cookies
		w := httptest.NewRecorder()
		g.auth.Logout(w, r)
		return w
	}
	if w := post(old); w.Code != http.StatusSeeOther || g.sessionCount(alice) != 0 || g.sessionCount(bob) != 2 {
		t.Fatalf("%d, %d sessions", w.Code, g.sessionCount(alice))
	}
	if _, err := elsewhere.at(betaHost).identity(); err == nil {
		t.Error("the other browser is signed in")
	}
	// A session that has ended may have been found anywhere: it ends nobody else's.
	p.enter(acmeHost, "alice")
	stale := p.at(acmeHost).cookieHeader()
	g.clock.advance(2 * time.Hour)
	elsewhere.enter(betaHost, "alice")
	post(stale)
	if n := g.sessionCount(alice); n != 2 {
		t.Errorf("%d sessions of the other browser", n)
	}
}

func TestNewSignInInOneBrowser(t *testing.T) { // SESS-1
	g, alice, bob := people(t)
	p := g.surfer()
	p.enter(betaHost, "alice")
	public := p.at("app.example.com")
	first := public.cookieHeader()
	g.clock.advance(time.Minute)
	// The same person again: a new token, the old one is dead, the hosts go on and end with the new one.
	public.mustSignIn("alice")
	if _, err := g.auth.present("app.example.com", first...); !errors.Is(err, ErrSessionExpired) {
		t.Errorf("the old token: %v", err)
	}
	if _, err := p.at(betaHost).identity(); err != nil {
		t.Errorf("the host's session: %v", err)
	}
	public.do(http.MethodPost, logoutPath)
	if _, err := p.at(betaHost).identity(); err == nil || g.sessionCount(alice) != 0 {
		t.Error("the host's session outlived the sign-out")
	}
	// Somebody else: everything of the one before ends, on every host.
	p.enter(betaHost, "alice")
	g.clock.advance(time.Minute)
	public.mustSignIn("bob")
	if _, err := p.at(betaHost).identity(); err == nil || g.sessionCount(alice) != 0 || g.sessionCount(bob) != 1 {
		t.Errorf("alice has %d sessions", g.sessionCount(alice))
	}
	// A hand-off replaces what the host had.
	location(t, p.get(location(t, p.get(p.ask(betaHost, "")))))
	before := p.at(betaHost).cookieHeader()
	g.clock.advance(time.Minute)
	location(t, p.get(location(t, p.get(p.ask(betaHost, "")))))
	if _, err := g.auth.present(betaHost, before...); !errors.Is(err, ErrSessionExpired) || g.sessionCount(bob) != 2 {
		t.Errorf("the replaced session: %v, %d sessions", err, g.sessionCount(bob))
	}
}

func TestTenTabsAtOnceOnATenantHostAllSucceed(t *testing.T) { // CK-2
	g, alice, _ := people(t)
	p := g.surfer()
	const tabs = 10
	var asks, authorizes, codes [tabs]string
	for i := range tabs { // none has an answer before all have asked
		g.clock.advance(time.Millisecond)
		asks[i] = p.ask(acmeHost, "?return_to=/tab")
	}
	for i := range tabs {
		g.clock.advance(time.Millisecond)
		authorizes[i] = location(t, p.get(asks[i]))
	}
	public := p.at("app.example.com")
	early := public.cookieHeader() // what a browser sends that has no answer yet
	for i := range tabs {
		g.clock.advance(time.Millisecond)
		u, err := url.Parse(authorizes[i])
		if err != nil {
			t.Fatal(err)
		}
		if i < 3 { // the first three come back at the same moment
			at := g.browser()
			at.cookies = map[string]string{}
			for _, pair := range strings.Split(early[0], "; ") {
				name, value, _ := strings.Cut(pair, "=")
				at.cookies[name] = value
			}
			codes[i] = location(t, at.back(g.op, "main", u, "alice", nil))
			public.cookies["__Host-tg_session"] = at.cookies["__Host-tg_session"]
			continue
		}
		codes[i] = location(t, public.back(g.op, "main", u, "alice", nil))
	}
	var tokens []string
	for i := range tabs {
		g.clock.advance(time.Millisecond)
		if end := location(t, p.get(codes[i])); end != "/tab" {
			t.Fatalf("tab %d ended at %s", i, end)
		}
		tokens = append(tokens, p.at(acmeHost).cookies["__Host-tg_session"])
	}
	for i, token := range tokens { // a tab may still be loading its page with the one before
		if _, err := g.auth.present(acmeHost, sessionName+token); err != nil {
			t.Errorf("tab %d: %v", i, err)
		}
	}
	p.at(acmeHost).do(http.MethodPost, logoutPath)
	if _, err := public.identity(); err == nil || g.sessionCount(alice) != 0 {
		t.Errorf("%d sessions are left: %v", g.sessionCount(alice), err)
	}
}

func TestStaleFlowCookiesOfAHostBlockNothing(t *testing.T) { // CK-2
	g, _, _ := people(t)
	p := g.surfer()
	b := p.at(acmeHost)
	for range 60 {
		b.cookies["__Host-tg_flow_"+newFlow("", g.clock.Now()).id.String()] = "stale"
	}
	for range 30 {
		p.ask(acmeHost, "")
		n := 0
		for name, value := range b.cookies {
			if strings.HasPrefix(name, "__Host-tg_flow_") {
				n++
				if len(name)+len(value) > maxFlowBytes {
					t.Errorf("a cookie of %d bytes", len(name)+len(value))
				}
			}
		}
		if n > maxFlows {
			t.Fatalf("%d flow cookies", n)
		}
	}
	p.enter(acmeHost, "alice")
}

func TestSignInOnAHostWhileTheDatabaseIsDown(t *testing.T) {
	g, _, _ := people(t)
	p, to := readyCode(g, acmeHost)
	at := p.ask(acmeHost, "")
	if err := g.host.Close(); err != nil {
		t.Fatal(err)
	}
	g.clock.advance(maxFactsAge)
	for name, target := range map[string]string{"login": "https://" + acmeHost + "/_gate/login", "public_url": at, "handoff": to, "domain": "https://" + domainHost + "/_gate/login"} {
		if w := p.get(target); w.Header().Get("X-Code") != codeHostDatabase {
			t.Errorf("%s: %d %s", name, w.Code, w.Header().Get("X-Code"))
		}
	}
}

func TestHostsThatNameNobodyNeedAnyMembership(t *testing.T) {
	g, _, _ := people(t, func(g *rig) { g.deps.IgnoreHost = true })
	p := g.surfer()
	p.enter(voidHost, "bob")
	stranger := g.surfer()
	if w := stranger.signIn(stranger.ask(voidHost, ""), "eve"); w.Header().Get("X-Code") != codeNoAccess {
		t.Errorf("%d", w.Code)
	}
	other := g.surfer() // a custom domain is its tenant's all the same
	if w := other.signIn(other.ask(domainHost, ""), "bob"); w.Header().Get("X-Code") != codeNoAccess {
		t.Errorf("%d", w.Code)
	}
}

func TestReturnToOfAHostIsKept(t *testing.T) {
	g, _, _ := people(t)
	for raw, want := range map[string]string{
		"": "/", "/a?b=c%26d#e": "/a?b=c%26d#e", "https://" + acmeHost + "/own": "/own", "https://" + betaHost + "/other": "https://" + betaHost + "/other",
		"https://app.example.com/p": "https://app.example.com/p", "/" + strings.Repeat("a", maxReturnTo-1): "/" + strings.Repeat("a", maxReturnTo-1),
	} {
		p := g.surfer()
		to := location(t, p.signIn(p.ask(acmeHost, "?return_to="+url.QueryEscape(raw)), "alice"))
		if got := location(t, p.get(to)); got != want {
			t.Errorf("%.60q: %.60q, want %.60q", raw, got, want)
		}
	}
	p := g.surfer()
	if w := p.at(acmeHost).do(http.MethodGet, loginPath+"?return_to=https://evil.com"); w.Header().Get("X-Code") != codeBadReturnTo {
		t.Errorf("%d", w.Code)
	}
}

func FuzzCutAsk(f *testing.F) {
	k := &ask{issued: time.Unix(1, 0), kind: labelDoor, host: acmeHost}
	f.Add(k.append(nil))
	f.Add([]byte{0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, rest, ok := cutAsk(b)
		if ok && string(append(got.append(nil), rest...)) != string(b) {
			t.Fatalf("%x read as %+v %x", b, got, rest)
		}
	})
}
