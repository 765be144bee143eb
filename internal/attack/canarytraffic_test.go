package attack

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/internal/stripefake"
	"github.com/tenantgate/tenantgate/router"
)

// probe is a request that ends in a known way.
type probe struct {
	method, path string
	header       map[string]string
	code         string // "" forwarded, "panic"
	body         string
}

// carried makes the headers of a request that holds a secret wherever a client puts one.
func (n *nest) carried(session string) map[string]string {
	return map[string]string{
		"Cookie":              sessionName + "=" + session + "; app_session=" + n.plant("cookie of the app"),
		"Authorization":       "Basic " + n.plant("credentials of another scheme"),
		"Proxy-Authorization": "Basic " + n.plant("credentials of a proxy"),
		"X-Api-Key":           n.plant("API key of the app"), "Tracestate": "vendor=" + strings.ToLower(rand.Text()),
	}
}

func (n *nest) table(t *testing.T, session string) []probe {
	t.Helper()
	good := n.carried(session)
	with := func(name, value string) map[string]string { return map[string]string{name: value} }
	token := func(token string) map[string]string { return with("Authorization", "Bearer "+token) }
	cookie := func(value string) map[string]string { return with("Cookie", sessionName+"="+value) }
	list := []probe{
		{path: "/public/x", header: good},
		{path: "/t/plain/app/x", header: token(n.provider.mint(t, "owner", gatetest.Audience, 0))},
		{path: "/t/plain/app/x", header: token(n.provider.mint(t, "owner", gatetest.Audience, 3*hour)), code: "invalid_token"},
		{path: "/t/plain/app/x", header: token(n.provider.mint(t, "owner", "https://other.test", 0)), code: "invalid_token"},
		{path: "/t/plain/app/x", header: token(n.provider.mint(t, "unknown", gatetest.Audience, 0)), code: "unknown_user"},
		{path: "/t/plain/app/x", header: token(n.plant("garbage bearer token")), code: "invalid_token"},
		{path: "/t/plain/app/x", header: token("eyJhbGciOiJub25lIn0." + n.plant("unsigned token") + "."), code: "invalid_token"},
		{path: "/t/plain/app/x", header: token("tga_" + n.plant("admin token")), code: "invalid_token"},
		{path: "/t/plain/app/x", header: cookie(n.plant("garbage session cookie")), code: "session_expired"},
		{path: "/t/plain/app/x", header: with("Cookie", sessionName+"="+n.plant("first of two cookies")+"; "+sessionName+"="+session+n.plant("second of two cookies")), code: "session_expired"},
		{path: "/t/plain/app/x", header: with("X-Nothing", "1"), code: "unauthenticated"},
		{path: "/t/foreign/app/x", header: good, code: "no_access"},
		{path: "/t/nobody/app/x", header: good, code: "no_access"},
		{path: "/t/suspended/app/x", header: good, code: "tenant_inactive"},
		{path: "/t/left/app/x", header: good, code: "membership_inactive"},
		{path: "/t/lapsed/app/x", header: good, code: "subscription_required"},
		{path: "/t/plain/role/", header: good, code: "role_required"},
		{path: "/t/plain/tier/", header: good, code: "tier_required"},
		{path: "/t/plain/feature/", header: good, code: "feature_required"},
		{path: "/t/plain/nowhere", header: good, code: "no_route"},
		{path: "/app/x", header: good, code: "tenant_required"},
		{path: "/t/plain/app/%2e%2e/x", header: good, code: "bad_path"},
		{path: "/_gate/nothing", header: good, code: "not_found"},
		{method: "TRACE", path: "/t/plain/app/x", header: good, code: "method_not_allowed"},
		{method: "POST", path: "/t/plain/app/x", header: maps.Collect(maps.All(good)), code: "cross_origin"},
		{path: "/_gate/login?return_to=https://x.test/" + n.plant("foreign return_to"), header: good, code: "bad_return_to"},
	}
	for i := range list {
		if list[i].code == "cross_origin" {
			list[i].header["Sec-Fetch-Site"] = "cross-site"
		}
	}
	for _, id := range []string{"plain", "escaped", "unescaped", "query", "opened", "referred", "variable"} {
		list = append(list, probe{path: "/t/" + id + "/app/x", header: good})
		if n.middleware {
			list = append(list, probe{path: "/t/" + id + "/app/panic", header: good, code: "internal_error"},
				probe{path: "/t/" + id + "/app/late", header: good, code: "panic"})
		} else {
			list = append(list, probe{path: "/t/" + id + "/app/garble", header: good, code: "upstream_unavailable"},
				probe{method: "POST", path: "/t/" + id + "/app/x", header: good, body: strings.Repeat(n.plant("body"), 100), code: "body_too_large"})
		}
	}
	if !n.middleware {
		list = append(list, probe{path: "/t/plain/dead/", header: good, code: "upstream_unavailable"}, probe{path: "/t/plain/slow/", header: good, code: "upstream_timeout"})
	}
	for _, id := range []string{"control", "unicode", "words", "sealed", "reference", "moved", "misplaced"} {
		list = append(list, probe{path: "/t/" + id + "/app/x", header: good, code: "tenant_misconfigured"})
	}
	return list
}

// probes sends every request as a program and as a browser would, with a query that holds what looks like a token.
func (n *nest) probes(t *testing.T, session string) {
	t.Helper()
	for _, p := range n.table(t, session) {
		n.send(t, p)
	}
}

func (n *nest) send(t *testing.T, p probe) {
	t.Helper()
	for _, accept := range []string{"application/json", "text/html"} {
		c := &http.Client{Transport: &tap{s: n.spill, provider: n.provider.addr, next: n.world.Transport()}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		target := n.world.URL + p.path + map[bool]string{true: "&", false: "?"}[strings.Contains(p.path, "?")]
		query := n.plantOwn("token in a query")
		if p.method == "" {
			p.method = http.MethodGet
		}
		req, err := http.NewRequestWithContext(t.Context(), p.method, target+"access_token="+query+"&sig=tg_"+query+"&q="+query, strings.NewReader(n.input(p.body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		for k, v := range p.header {
			req.Header.Set(k, v)
		}
		req.Close = true
		res, err := c.Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", p.method, p.path, err)
		}
		body, _ := io.ReadAll(res.Body)
		a := answer{res.StatusCode, res.Header, string(body)}
		if cut := strings.HasSuffix(a.body, "(cut)"); accept == "application/json" && (a.code() != p.code && p.code != "panic" || cut != (p.code == "panic") || p.code == "" && a.status != 200) {
			t.Errorf("%s %s (middleware: %v): %d %q, want %q", p.method, p.path, n.middleware, a.status, a.body, p.code)
		}
	}
}

// pages looks at everything that the gate shows by itself, at its metrics and at what it says of a decision.
func (n *nest) pages(t *testing.T, session string) {
	t.Helper()
	for _, path := range []string{"/_gate/whoami", "/_gate/tenants", "/_gate/jwks.json", "/_gate/ping", "/_gate/logout", "/_gate/login"} {
		n.look(t, http.MethodGet, path, session)
	}
	n.look(t, http.MethodPost, "/_gate/logout", session)
	for _, path := range []string{"/metrics", "/readyz", "/healthz", "/nothing"} {
		rec := httptest.NewRecorder()
		n.world.Gate.AdminHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://127.0.0.1:9901"+path, http.NoBody))
		n.tell(path, rec.Body.String()+fmt.Sprint(rec.Header()))
	}
	for id := range n.uris {
		e, err := n.world.Gate.Explain(t.Context(), router.Question{User: "uid-owner", Path: "/t/" + id + "/app/x"})
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		n.tell("explain", string(text))
	}
}

func (n *nest) look(t *testing.T, method, path, session string) {
	t.Helper()
	for _, accept := range []string{"application/json", "text/html"} {
		req := request(t, method, n.world.URL+path)
		for k, v := range n.carried(session) {
			req.Header.Set(k, v)
		}
		req.Header.Set("Accept", accept)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		do(t, n.client(t), req)
	}
}

// outage asks while the host database is down: what begins, what ends, and what nothing is remembered of.
func (n *nest) outage(t *testing.T) {
	t.Helper()
	c := n.client(t)
	back := n.begin(t, c, "owner")
	strange := n.provider.mint(t, "inactive", gatetest.Audience, 0)
	late := n.subscriptionEvent("late", `"cus_canary"`)
	n.server.Stop(t)
	if a := do(t, c, request(t, http.MethodGet, back)); a.status != 503 {
		t.Errorf("the end of a sign-in while the host database is down: %d %s", a.status, a.body)
	}
	n.send(t, probe{path: "/t/plain/app/x", header: map[string]string{"Authorization": "Bearer " + strange}, code: "host_database_unavailable"})
	n.send(t, probe{path: "/_gate/whoami", header: map[string]string{"Authorization": "Bearer " + strange}, code: "host_database_unavailable"})
	n.look(t, http.MethodGet, "/_gate/login", n.plant("session cookie during an outage")+n.plant("session cookie's other half"))
	n.event(t, late, stripefake.Sign([]byte(late), time.Now(), secret.New(n.stripe.current)), 503)
	n.server.Start(t)
}

// reload puts other secrets in force, and tries to with faults beside them. A secret is one from then on, wherever a
// client writes it.
func (n *nest) reload(t *testing.T) {
	t.Helper()
	ctx, gate := t.Context(), n.world.Gate
	bad := func(what string, change func(c *config.Config)) {
		c := *n.world.Config
		c.Identity.Providers = slices.Clone(c.Identity.Providers)
		change(&c)
		n.fails(t, what, gate.Reload(ctx, &c))
	}
	bad("reload: secret_key", func(c *config.Config) { c.SecretKey = secret.New(n.input(n.plant("bad master secret") + "!")) })
	bad("reload: host database", func(c *config.Config) {
		c.HostDatabase.URL = catalog.NewDBURI(n.input("postgresql://u:" + n.plant("another host database's password") + "@h/d"))
	})
	bad("reload: provider", func(c *config.Config) {
		c.Identity.Providers[0].ClientSecret = secret.New(n.input(n.plant("client secret beside a fault")))
		c.Identity.Providers[0].Issuer = "https://u:" + n.input(n.plant("password in an issuer")) + "@idp.test"
	})
	bad("reload: upstream", func(c *config.Config) {
		c.Upstreams = map[string]router.UpstreamConfig{"app": {URLs: []string{"http://u:" + n.input(n.plant("password in an upstream")) + "@127.0.0.1:1"}}}
	})
	next := *n.world.Config
	next.Identity.Providers = slices.Clone(next.Identity.Providers)
	client, master := n.plant("client secret after a reload"), n.plant("master secret after a reload")+n.plant("its second half")
	next.Identity.Providers[0].ClientSecret = secret.New(n.input(client))
	next.SecretKey = secret.New(n.masterSecret + "\n" + n.input(master))
	if err := gate.Reload(ctx, &next); err != nil {
		t.Fatal(err)
	}
	n.send(t, probe{path: "/public/" + client + "/" + master})
	n.send(t, probe{path: "/public/" + url.PathEscape(n.clientSecret), code: "bad_path"})
	up := n.provider.down(t) // whose documents the gate has not read since
	n.send(t, probe{path: "/_gate/login", code: "provider_unavailable"})
	n.send(t, probe{path: "/t/plain/app/x", header: map[string]string{"Authorization": "Bearer " + n.provider.mint(t, "owner", gatetest.Audience, 0)}, code: "provider_unavailable"})
	up()
}
