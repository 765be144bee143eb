package acceptance

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/router"
)

// The headers that a browser adds of its own accord.
var (
	navigates = map[string]string{"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
	submits   = map[string]string{
		"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin",
		"Content-Type": "application/x-www-form-urlencoded",
	}
	callsAPI = map[string]string{"Accept": "application/json", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
)

// stays is the browser, which does not follow redirects.
func stays(c *http.Client) *http.Client {
	still := *c
	still.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &still
}

func newWorld(t *testing.T, configure func(*config.Config)) (*gatetest.World, string) {
	t.Helper()
	dsn := sqliteURL(t)
	seed(t, dsn)
	return gatetest.New(t, gatetest.Options{HostURL: dsn, App: echo, People: people, Configure: configure}), dsn
}

type whoami struct {
	User    struct{ ID, Email string }
	Tenants []struct {
		ID, Name, Role, Plan, Access string
	}
	CurrentTenant *string `json:"current_tenant"`
	Session       struct {
		Kind      string
		ExpiresAt time.Time `json:"expires_at"`
	}
}

func askWhoami(t *testing.T, c *http.Client, w *gatetest.World, header map[string]string) whoami {
	t.Helper()
	res, body := fetch(t, c, "GET", w.URL+"/_gate/whoami", header)
	var who whoami
	if err := json.Unmarshal([]byte(body), &who); res.StatusCode != 200 || err != nil {
		t.Fatalf("whoami: %s %s", res.Status, body)
	}
	if res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("whoami: Cache-Control %q", res.Header.Get("Cache-Control"))
	}
	if strings.Contains(body, "postgresql") || strings.Contains(body, "pw-of") {
		t.Errorf("whoami shows a database URI: %s", body)
	}
	return who
}

func TestWhoamiTellsUserTenantsAndUntilWhen(t *testing.T) {
	t.Parallel()
	w, _ := newWorld(t, nil)
	lou := askWhoami(t, signedIn(t, w, "lou"), w, nil)
	if lou.User.ID != "id-lou" || lou.User.Email != "lou@example.com" || lou.CurrentTenant != nil || lou.Session.Kind != "session" {
		t.Errorf("%+v", lou)
	}
	if left := time.Until(lou.Session.ExpiresAt); left < 23*time.Hour || left > 24*time.Hour {
		t.Errorf("the session ends in %s, not in a day", left)
	}
	access := map[string]string{}
	for _, tenant := range lou.Tenants {
		if tenant.Role != "owner" || tenant.Name != strings.ToUpper(tenant.ID) {
			t.Errorf("%+v", tenant)
		}
		access[tenant.ID] = tenant.Access
	}
	want := map[string]string{
		"umbrella": "tenant_inactive", "lapsed": "subscription_required", "paused": "tenant_paused", "broken": "tenant_misconfigured",
	}
	for id, code := range want {
		if access[id] != code {
			t.Errorf("%s: access %q, want %s", id, access[id], code)
		}
	}
	if len(access) != len(want) {
		t.Errorf("tenants %v", access)
	}
	c := client(t, w)
	dan := askWhoami(t, c, w, bearer(t, w, "dan"))
	if dan.Session.Kind != "bearer" || dan.CurrentTenant == nil || *dan.CurrentTenant != "acme" || len(dan.Tenants) != 1 || dan.Tenants[0].Plan != "pro" {
		t.Errorf("by bearer, in the only tenant: %+v", dan)
	}
	ada := askWhoami(t, c, w, with(bearer(t, w, "ada"), "X-Tenant", "globex"))
	if ada.CurrentTenant == nil || *ada.CurrentTenant != "globex" || len(ada.Tenants) != 2 {
		t.Errorf("with a tenant named: %+v", ada)
	}
	if res, body := fetch(t, c, "GET", w.URL+"/_gate/whoami", nil); res.StatusCode != 401 || codeOf(body) != "unauthenticated" {
		t.Errorf("signed out: %s %s", res.Status, body)
	}
}

func TestWhereTenantsHavePathsChoosingRedirectsThereAndStoresNothing(t *testing.T) {
	t.Parallel()
	w, _ := newWorld(t, nil)
	ada := signedIn(t, w, "ada")
	res, body := fetch(t, ada, "GET", w.URL+"/reports?x=1", navigates)
	if res.StatusCode != 200 || res.Request.URL.Path != "/_gate/tenants" || res.Request.URL.Query().Get("return_to") != "/reports?x=1" {
		t.Fatalf("a navigation that names no tenant ended at %s: %s", res.Request.URL, res.Status)
	}
	for _, link := range []string{`href="/t/acme/reports?x=1"`, `href="/t/globex/reports?x=1"`} {
		if !strings.Contains(body, link) {
			t.Errorf("the picker has no %s:\n%s", link, body)
		}
	}
	if strings.Contains(body, "umbrella") || strings.Contains(body, "LAPSED") || res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the picker shows tenants of others, or may be stored:\n%s", body)
	}
	res, body = choose(t, stays(ada), w, "globex", "/reports?x=1")
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/t/globex/reports?x=1" {
		t.Errorf("choosing: %s to %q %s", res.Status, res.Header.Get("Location"), body)
	}
	if res, body := fetch(t, ada, "GET", w.URL+"/reports", callsAPI); codeOf(body) != "tenant_required" {
		t.Errorf("after choosing, a request that names no tenant: %s %s", res.Status, body)
	}
	for tenant, code := range map[string]string{"umbrella": "no_access", "nothing": "no_access", "": "no_access"} {
		if res, body := choose(t, stays(ada), w, tenant, "/"); res.StatusCode != 403 || !strings.Contains(body, code) {
			t.Errorf("choosing %q: %s %s", tenant, res.Status, body)
		}
	}
	for _, to := range []string{"https://evil.example/", "//evil.example/", "/\\evil.example"} { // REDIR-1
		if res, body := choose(t, stays(ada), w, "acme", to); res.StatusCode != 400 || !strings.Contains(body, "bad_return_to") {
			t.Errorf("return_to %s: %s to %q %s", to, res.Status, res.Header.Get("Location"), body)
		}
	}
}

func choose(t *testing.T, c *http.Client, w *gatetest.World, tenant, to string) (*http.Response, string) {
	t.Helper()
	form := url.Values{"tenant": {tenant}, "return_to": {to}}
	res, body, err := do(c, "POST", w.URL+"/_gate/tenants", submits, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	return res, body
}

func TestWhereTenantsHaveNoAddressTheSessionKeepsTheChoice(t *testing.T) {
	t.Parallel()
	w, _ := newWorld(t, func(cfg *config.Config) { cfg.Tenants = router.TenantsConfig{} })
	ada := signedIn(t, w, "ada")
	in := func(want string) {
		t.Helper()
		res, body := fetch(t, ada, "GET", w.URL+"/x", callsAPI)
		var app echoed
		if res.StatusCode != 200 || json.Unmarshal([]byte(body), &app) != nil || app.Header.Get("X-Tenant-Id") != want {
			t.Errorf("in %s: %s %s", want, res.Status, body)
		}
	}
	if res, body := fetch(t, ada, "GET", w.URL+"/x", callsAPI); codeOf(body) != "tenant_required" {
		t.Errorf("before choosing: %s %s", res.Status, body)
	}
	for _, id := range []string{"acme", "globex"} {
		res, body := choose(t, stays(ada), w, id, "/x")
		if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/x" {
			t.Fatalf("choosing %s: %s to %q %s", id, res.Status, res.Header.Get("Location"), body)
		}
		in(id)
		if who := askWhoami(t, ada, w, nil); who.CurrentTenant == nil || *who.CurrentTenant != id {
			t.Errorf("whoami in %s: %+v", id, who)
		}
	}
	// A page that was rendered for acme must not write into globex.
	if res, body := fetch(t, ada, "POST", w.URL+"/x", with(callsAPI, "X-Gate-Tenant", "acme")); res.StatusCode != 409 || codeOf(body) != "tenant_changed" {
		t.Errorf("X-Gate-Tenant of another tenant: %s %s", res.Status, body)
	}
	res, body := fetch(t, ada, "POST", w.URL+"/x", with(callsAPI, "X-Gate-Tenant", "globex"))
	if res.StatusCode != 200 || strings.Contains(body, "X-Gate-Tenant") {
		t.Errorf("X-Gate-Tenant of this tenant: %s %s", res.Status, body)
	}
	// An explicit name comes first and leaves the choice alone.
	if res, body := fetch(t, ada, "GET", w.URL+"/x", with(callsAPI, "X-Tenant", "acme")); !strings.Contains(body, `"X-Tenant-Id":["acme"]`) {
		t.Errorf("named by header: %s %s", res.Status, body)
	}
	in("globex")
}

func TestSignOutEndsTheSessionForWhoeverHasTheCookie(t *testing.T) {
	t.Parallel()
	w, dsn := newWorld(t, nil)
	ada := signedIn(t, w, "ada")
	stolen := map[string]string{"Cookie": cookies(t, ada, w.URL)}
	thief := client(t, w)
	if res, _ := fetch(t, thief, "GET", w.URL+"/t/acme/", stolen); res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	res, body := fetch(t, ada, "GET", w.URL+"/_gate/logout", navigates)
	if res.StatusCode != 200 || !strings.Contains(body, `<form method="post" action="/_gate/logout">`) || !strings.Contains(body, "ada@example.com") {
		t.Errorf("the page that asks: %s\n%s", res.Status, body)
	}
	if res, _ := fetch(t, thief, "GET", w.URL+"/t/acme/", stolen); res.StatusCode != 200 {
		t.Errorf("opening the page has ended the session: %s", res.Status)
	}
	if res, body := fetch(t, stays(ada), "POST", w.URL+"/_gate/logout", with(submits, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")); res.StatusCode != 403 || !strings.Contains(body, "cross_origin") {
		t.Errorf("sign-out by another site: %s", res.Status) // CSRF-1
	}
	res, _ = fetch(t, stays(ada), "POST", w.URL+"/_gate/logout", submits)
	if to := res.Header.Get("Location"); res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to, w.Provider.Issuer()) || !strings.Contains(to, "id_token_hint=") {
		t.Errorf("sign-out: %s to %q", res.Status, to)
	}
	if res, body := fetch(t, thief, "GET", w.URL+"/t/acme/", stolen); codeOf(body) != "session_expired" || len(res.Header["Set-Cookie"]) == 0 {
		t.Errorf("the old cookie: %s %s %v", res.Status, body, res.Header["Set-Cookie"])
	}
	if res, body := fetch(t, ada, "GET", w.URL+"/t/acme/", callsAPI); codeOf(body) != "unauthenticated" {
		t.Errorf("the browser after sign-out: %s %s", res.Status, body)
	}
	db := openSQL(t, dsn)
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	for event, want := range map[string]int{"sign_in": 1, "sign_out": 1} {
		var n int
		if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM sys_audit_logs WHERE event_type = ? AND actor_user_id = 'id-ada'`, event).Scan(&n); err != nil || n != want {
			t.Errorf("%d rows of %s in the audit log, %v; want %d", n, event, err, want)
		}
	}
}

func TestWhoIsNotSignedInIsSentToSignInAsTheClientCanTakeIt(t *testing.T) {
	t.Parallel()
	w, _ := newWorld(t, nil)
	for _, expired := range []bool{false, true} {
		cookie := []string{}
		if expired {
			cookie = []string{"Cookie", "tg_session=" + strings.Repeat("A", 64)}
		}
		code := map[bool]string{false: "unauthenticated", true: "session_expired"}[expired]
		c := stays(client(t, w))
		res, _ := fetch(t, c, "GET", w.URL+"/t/acme/a%2Db?x=1&y=/z", with(navigates, cookie...))
		if to := res.Header.Get("Location"); res.StatusCode != http.StatusFound || to != "/_gate/login?return_to="+url.QueryEscape("/t/acme/a%2Db?x=1&y=/z") {
			t.Errorf("%s, navigation: %s to %q", code, res.Status, to)
		}
		res, body := fetch(t, c, "GET", w.URL+"/t/acme/part", with(callsAPI, append(cookie, "HX-Request", "true", "HX-Current-URL", w.URL+"/t/acme/page?q=1")...))
		if res.StatusCode != 401 || res.Header.Get("HX-Redirect") != "/_gate/login?return_to="+url.QueryEscape("/t/acme/page?q=1") || codeOf(body) != code {
			t.Errorf("%s, htmx: %s, HX-Redirect %q", code, res.Status, res.Header.Get("HX-Redirect"))
		}
		for name, ask := range map[string][2]any{"fetch": {"GET", callsAPI}, "form": {"POST", submits}, "tool": {"GET", map[string]string{"Accept": "*/*"}}} {
			res, _ := fetch(t, c, ask[0].(string), w.URL+"/t/acme/", with(ask[1].(map[string]string), cookie...))
			if res.StatusCode != 401 || res.Header.Get("Location") != "" || !strings.HasPrefix(res.Header.Get("Www-Authenticate"), "Bearer ") {
				t.Errorf("%s, %s: %s %v", code, name, res.Status, res.Header)
			}
		}
	}
	// Signing in goes back to where the browser wanted to be.
	browser := client(t, w)
	if res, _ := fetch(t, browser, "GET", w.URL+"/t/acme/deep?x=1", navigates); !strings.HasPrefix(res.Request.URL.String(), w.Provider.Issuer()) {
		t.Fatalf("a navigation ended at %s", res.Request.URL.Host)
	} else {
		form := url.Values{"id": {res.Request.URL.Query().Get("id")}, "subject": {"ada"}}
		res, body, err := do(browser, "POST", res.Request.URL.String(), map[string]string{"Content-Type": submits["Content-Type"]}, strings.NewReader(form.Encode()))
		if err != nil || res.StatusCode != 200 || res.Request.URL.RequestURI() != "/t/acme/deep?x=1" || !strings.Contains(body, `"X-Tenant-Id":["acme"]`) {
			t.Errorf("after signing in: %v %v %s", err, res, body)
		}
	}
}
