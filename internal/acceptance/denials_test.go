package acceptance

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/router"
)

// refusal is a request that is denied, and how.
type refusal struct {
	code   string
	status int
	method string // "": GET
	path   string
	header map[string]string
	body   string
	client *http.Client // nil: one without cookies
}

// denialWorld has a route for every rule.
func denialWorld(t *testing.T) (*gatetest.World, string) {
	t.Helper()
	l := listen(t, "tcp", "127.0.0.1:0")
	dead := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dsn := sqliteURL(t)
	seed(t, dsn)
	app := newStreamApp()
	app.chunks = make(chan int, 64)
	return gatetest.New(t, gatetest.Options{
		HostURL: dsn, App: app.handler(), People: people,
		Configure: func(cfg *config.Config) {
			cfg.Identity.InsecureEmptyPrefix = true
			cfg.Identity.Providers = append(cfg.Identity.Providers, auth.Provider{
				Name: "down", Issuer: "http://" + dead, ClientID: "c", ClientSecret: secret.New("s"), SubjectPrefix: "down|",
			})
			cfg.Tenants.BaseDomain = "apps.localhost"
			cfg.Upstreams["dead"] = router.UpstreamConfig{URLs: []string{"http://" + dead}}
			cfg.Limits.BodyBytes = 1 << 10
			cfg.Routes = []router.RouteConfig{
				{Path: "/slow/", Upstream: "app", Timeout: 100 * time.Millisecond},
				{Path: "/dead/", Upstream: "dead"},
				{Path: "/admin/", Upstream: "app", MinRole: "admin"},
				{Path: "/gold/", Upstream: "app", MinTier: new(int64(3))},
				{Path: "/analytics/", Upstream: "app", Feature: "advanced_analytics"},
				{Path: "/app/", Upstream: "app"},
				{Path: "/upload", Upstream: "app"},
			}
		},
	}), dsn
}

// asked sends the refusal's request as an API client or as a person's browser would.
func (r refusal) asked(t *testing.T, w *gatetest.World, plain *http.Client, as map[string]string) (*http.Response, string) {
	t.Helper()
	c := plain
	if r.client != nil {
		c = stays(r.client)
	}
	header := maps.Clone(as)
	maps.Copy(header, r.header)
	method := r.method
	if method == "" {
		method = "GET"
	}
	if _, sends := as["Content-Type"]; sends && method == "GET" {
		method = "POST" // a GET would be redirected
	}
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	res, text, err := do(c, method, w.URL+r.path, header, body)
	if err != nil {
		t.Fatalf("%s: %v", r.code, err)
	}
	return res, text
}

// check holds an answer against what every denial has.
func (r refusal) check(t *testing.T, res *http.Response, body string, page bool) {
	t.Helper()
	h := res.Header
	if res.StatusCode != r.status || h.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: %s, Cache-Control %q; want %d, no-store\n%s", r.code, res.Status, h.Get("Cache-Control"), r.status, body)
	}
	if wants := r.status == 429 || r.status == 503; wants != (h.Get("Retry-After") != "") {
		t.Errorf("%s: Retry-After %q", r.code, h.Get("Retry-After"))
	}
	challenge := h.Get("Www-Authenticate")
	if wants := r.status == 401; wants != strings.HasPrefix(challenge, "Bearer ") {
		t.Errorf("%s: WWW-Authenticate %q", r.code, challenge)
	}
	if r.code == "invalid_token" && !strings.Contains(challenge, `error="invalid_token"`) { // RFC 6750 3.1
		t.Errorf("%s: WWW-Authenticate %q", r.code, challenge)
	}
	if r.code == "session_expired" && !strings.Contains(strings.Join(h["Set-Cookie"], "\n"), "tg_session=; Path=/; Max-Age=0") {
		t.Errorf("%s does not clear the cookie: %q", r.code, h["Set-Cookie"])
	}
	if r.status == 405 && h.Get("Allow") == "" { // RFC 9110 15.5.6
		t.Errorf("%s: no Allow", r.code)
	}
	if page {
		if !strings.HasPrefix(h.Get("Content-Type"), "text/html") || !strings.Contains(body, "<code>"+r.code+"</code>") || !strings.Contains(body, "<h1>") {
			t.Errorf("%s: no page of it: %s\n%s", r.code, h.Get("Content-Type"), body)
		}
		return
	}
	var p struct {
		Type, Title, Detail, Code string
		Status                    int
		RequestID                 string `json:"request_id"`
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil || h.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s: %s %s", r.code, h.Get("Content-Type"), body)
		return
	}
	if p.Code != r.code || p.Status != r.status || p.Type == "" || p.Title == "" || p.Detail == "" || p.RequestID == "" {
		t.Errorf("%s: %+v", r.code, p)
	}
}

func TestEveryDenialHasItsStatusAndBothItsForms(t *testing.T) {
	t.Parallel()
	w, dsn := denialWorld(t)
	ada := signedInWith(t, w, "ada", "dev")
	lou, cyd, dan, adaToken := bearer(t, w, "lou"), bearer(t, w, "cyd"), bearer(t, w, "dan"), bearer(t, w, "ada")
	garbage := map[string]string{"Authorization": "Bearer nonsense"}
	list := []refusal{
		{code: "bad_path", status: 400, path: "/app/a%2Fb", header: dan},
		{code: "bad_path", status: 400, path: "/app/..%2fadmin/", header: dan},
		{code: "bad_host", status: 400, path: "/app/", header: map[string]string{"Host": "two..dots"}},
		{code: "bad_host", status: 400, path: "/_gate/login", header: map[string]string{"Host": "elsewhere.test"}},
		{code: "bad_return_to", status: 400, path: "/_gate/login?return_to=https%3A%2F%2Fevil.example%2F"},
		{code: "tenant_required", status: 400, path: "/app/", header: adaToken},
		{code: "tenant_conflict", status: 400, path: "/t/acme/app/", header: with(adaToken, "X-Tenant", "globex")},
		{code: "unauthenticated", status: 401, path: "/t/acme/app/"},
		{code: "invalid_token", status: 401, path: "/t/acme/app/", header: garbage},
		{code: "invalid_token", status: 401, path: "/t/acme/app/", header: garbage, client: ada}, // beside a good cookie
		{code: "invalid_token", status: 401, path: "/t/acme/app/", header: map[string]string{"Authorization": "Bearer tg_x"}},
		{code: "session_expired", status: 401, path: "/t/acme/app/", header: map[string]string{"Cookie": "tg_session=" + strings.Repeat("A", 64)}},
		{code: "subscription_required", status: 402, path: "/t/lapsed/app/", header: lou},
		{code: "no_access", status: 403, path: "/t/globex/app/", header: lou},
		{code: "no_access", status: 403, path: "/t/nothing/app/", header: lou},
		{code: "no_access", status: 403, path: "/app/", header: bearer(t, w, "max")},
		{code: "cross_origin", status: 403, method: "POST", path: "/t/acme/app/", header: map[string]string{"Sec-Fetch-Site": "cross-site"}, client: ada},
		{code: "membership_inactive", status: 403, path: "/t/acme/app/", header: cyd},
		{code: "tenant_inactive", status: 403, path: "/t/umbrella/app/", header: lou},
		{code: "unknown_user", status: 403, path: "/t/acme/app/", header: bearer(t, w, "stranger")},
		{code: "no_route", status: 403, path: "/t/acme/nowhere", header: dan},
		{code: "role_required", status: 403, path: "/admin/", header: dan},
		{code: "tier_required", status: 403, path: "/gold/", header: dan},
		{code: "feature_required", status: 403, path: "/analytics/", header: dan},
		{code: "not_found", status: 404, path: "/_gate/decide", header: dan},
		{code: "not_found", status: 404, path: "/t/acme/_gate/whoami", header: dan},
		{code: "method_not_allowed", status: 405, method: "TRACE", path: "/t/acme/app/", header: dan},
		{code: "method_not_allowed", status: 405, method: "DELETE", path: "/_gate/whoami", header: dan},
		{code: "tenant_changed", status: 409, path: "/t/acme/app/", header: with(dan, "X-Gate-Tenant", "globex")},
		{code: "body_too_large", status: 413, method: "POST", path: "/t/acme/app/", header: dan, body: strings.Repeat("x", 1<<10+1)},
		{code: "upstream_unavailable", status: 502, path: "/dead/", header: dan},
		{code: "upstream_timeout", status: 504, path: "/slow/", header: dan},
		{code: "tenant_misconfigured", status: 503, path: "/t/broken/app/", header: lou},
		{code: "tenant_paused", status: 503, path: "/t/paused/app/", header: lou},
		{code: "provider_unavailable", status: 503, path: "/_gate/login?provider=down"},
	}
	plain := stays(client(t, w))
	// A GET navigation is sent on from these; what answers a form is their page.
	sentOn := []string{"unauthenticated", "session_expired", "tenant_required"}
	ask := func(r refusal) {
		res, body := r.asked(t, w, plain, callsAPI)
		r.check(t, res, body, false)
		as := navigates
		if slices.Contains(sentOn, r.code) {
			as = submits
		}
		res, body = r.asked(t, w, plain, as)
		r.check(t, res, body, true)
	}
	for _, r := range list {
		ask(r)
	}
	// What cannot be read is never a pass.
	execSQL(t, dsn, `ALTER TABLE core_memberships RENAME TO elsewhere`)
	ask(refusal{code: "host_database_unavailable", status: 503, path: "/t/unheard-of/app/", header: dan})
}

// signedInWith signs in where several providers are to choose from.
func signedInWith(t *testing.T, w *gatetest.World, subject, provider string) *http.Client {
	t.Helper()
	c := client(t, w)
	res, body := fetch(t, c, "GET", w.URL+"/_gate/login", navigates)
	link := `href="/_gate/login?provider=` + provider + `"`
	if res.StatusCode != 200 || !strings.Contains(body, link) {
		t.Fatalf("the page to choose a provider: %s, without %s\n%s", res.Status, link, body)
	}
	finish := signingInAt(t, w, c, "/_gate/login?provider="+provider+"&return_to=/_gate/ping", subject)
	if res, body := finish(t); res.StatusCode != 200 || res.Request.URL.Path != "/_gate/ping" {
		t.Fatalf("sign-in ended at %s: %s %s", res.Request.URL.Path, res.Status, body)
	}
	return c
}

func TestABodyOfUnknownLengthIsCutAtTheLimit(t *testing.T) {
	t.Parallel()
	w, _ := denialWorld(t)
	c := client(t, w)
	res, body, err := do(c, "POST", w.URL+"/upload", bearer(t, w, "dan"), io.MultiReader(strings.NewReader(strings.Repeat("x", 4<<10))))
	if err != nil || res.StatusCode != 413 || codeOf(body) != "body_too_large" {
		t.Errorf("%v %v %s", err, res, body)
	}
}

func TestATenantOfOthersIsAnsweredLikeOneThatDoesNotExist(t *testing.T) { // ENUM-1
	t.Parallel()
	w, _ := denialWorld(t)
	c := client(t, w)
	for _, as := range []map[string]string{callsAPI, navigates} {
		var answers []string
		for _, tenant := range []string{"globex", "nothing", "umbrella", "lapsed", "paused", "broken"} {
			res, body := fetch(t, c, "GET", w.URL+"/t/"+tenant+"/app/", with(as, "Authorization", bearer(t, w, "dan")["Authorization"]))
			res.Header.Del("Date")
			id := requestID(body)
			if id == "" {
				t.Errorf("%s: no request id in %s", tenant, body)
			}
			var head strings.Builder
			_ = res.Header.Write(&head)
			answers = append(answers, res.Status+"\n"+head.String()+strings.ReplaceAll(body, id, "ID"))
		}
		for _, a := range answers[1:] {
			if a != answers[0] {
				t.Errorf("two answers:\n%s\n\n%s", answers[0], a)
			}
		}
	}
}

// requestID finds the id in a problem or on a page.
func requestID(body string) string {
	var p struct {
		RequestID string `json:"request_id"`
	}
	if json.Unmarshal([]byte(body), &p) == nil {
		return p.RequestID
	}
	_, after, _ := strings.Cut(body, "Request <code>")
	id, _, _ := strings.Cut(after, "</code>")
	return id
}

func TestSignUpsBeyondTheLimitAreRefusedForAWhile(t *testing.T) {
	t.Parallel()
	w, dsn := newWorld(t, func(cfg *config.Config) {
		cfg.Identity.SignUp, cfg.Identity.SignUpLimit, cfg.Identity.InsecureOpenSignUp = "create_user", 1, true
	})
	if res, body := signingIn(t, w, "new")(t); res.StatusCode != 403 || codeOf(body) != "no_access" {
		t.Errorf("the first new user, in no tenant yet: %s %s", res.Status, body)
	}
	r := refusal{code: "rate_limited", status: 429}
	res, body := signingIn(t, w, "stranger")(t)
	r.check(t, res, body, false)
	if wait, err := strconv.Atoi(res.Header.Get("Retry-After")); err != nil || wait < 3000 || wait > 3600 {
		t.Errorf("one an hour, and the next one after %q seconds", res.Header.Get("Retry-After"))
	}
	var users int
	db := openSQL(t, dsn)
	if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM core_users WHERE oauth_id IN ('new', 'stranger')`).Scan(&users); err != nil || users != 1 {
		t.Errorf("%d new users, %v; want 1", users, err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
