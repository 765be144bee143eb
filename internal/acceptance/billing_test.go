package acceptance

import (
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// canaryKey opens nothing: Stripe is at an address that nobody serves.
const canaryKey = "sk_test_canary4b1dNeverShown"

// paid makes a configuration that has billing pages.
func paid(cfg *config.Config) {
	cfg.Billing.Stripe = billing.StripeConfig{APIKey: secret.New(canaryKey), APIURL: "http://127.0.0.1:1"}
	cfg.Tenants.BaseDomain = "apps.localhost"
}

// billed asks for a page of billing with these credentials.
func billed(t *testing.T, w *gatetest.World, c *http.Client, method, at string, as, more map[string]string) (*http.Response, string) {
	t.Helper()
	header := map[string]string{"Accept": "application/json"}
	maps.Copy(header, as)
	body := ""
	for k, v := range more {
		if k == "body" {
			body, header["Content-Type"] = v, "application/x-www-form-urlencoded"
			continue
		}
		header[k] = v
	}
	if !strings.HasPrefix(at, "http") {
		at = w.URL + at
	}
	res, text, err := do(c, method, at, header, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return res, text
}

func TestWhoMayPayForWhichTenant(t *testing.T) {
	t.Parallel()
	w, _ := newWorld(t, paid)
	plain := stays(client(t, w))
	port := w.URL[strings.LastIndexByte(w.URL, ':'):]
	for _, tc := range []struct {
		name, who, method, at, body string
		status                      int
		code                        string
	}{
		{"an owner", "ada", "GET", "/_gate/billing?tenant=acme", "", 200, ""},
		{"an admin", "eve", "GET", "/_gate/billing?tenant=globex", "", 200, ""},
		{"HEAD", "ada", "HEAD", "/_gate/billing?tenant=acme", "", 200, ""},
		{"an unpaid tenant", "lou", "GET", "/_gate/billing?tenant=lapsed", "", 200, ""},
		{"a tenant without a usable database", "lou", "GET", "/_gate/billing?tenant=broken", "", 200, ""},
		{"a tenant's own host", "ada", "GET", "http://acme.apps.localhost" + port + "/_gate/billing", "", 200, ""},
		{"host and parameter agree", "ada", "GET", "http://acme.apps.localhost" + port + "/_gate/billing?tenant=acme", "", 200, ""},
		{"query and form agree", "ada", "POST", "/_gate/billing/portal?tenant=acme", "tenant=acme", 303, ""},
		{"without a customer the portal is the plans", "ada", "POST", "/_gate/billing/portal", "tenant=acme", 303, ""},

		{"a member", "bob", "GET", "/_gate/billing?tenant=acme", "", 403, "role_required"},
		{"a member who buys", "bob", "POST", "/_gate/billing/checkout", "tenant=acme&plan=pro&interval=month", 403, "role_required"},
		{"a member at the portal", "bob", "POST", "/_gate/billing/portal", "tenant=acme", 403, "role_required"},
		{"a member here, owner there", "ada", "GET", "/_gate/billing?tenant=globex", "", 403, "role_required"},
		{"a tenant of others", "ada", "GET", "/_gate/billing?tenant=umbrella", "", 403, "no_access"},
		{"no tenant", "ada", "GET", "/_gate/billing?tenant=nobody", "", 403, "no_access"},
		{"a member no more", "cyd", "GET", "/_gate/billing?tenant=acme", "", 403, "membership_inactive"},
		{"suspended", "lou", "GET", "/_gate/billing?tenant=umbrella", "", 403, "tenant_inactive"},
		{"paused", "lou", "GET", "/_gate/billing?tenant=paused", "", 503, "tenant_paused"},
		{"a stranger", "stranger", "GET", "/_gate/billing?tenant=acme", "", 403, "unknown_user"},
		{"nobody", "", "GET", "/_gate/billing?tenant=acme", "", 401, "unauthenticated"},
		{"no tenant named", "ada", "GET", "/_gate/billing", "", 400, "tenant_required"},
		{"two in the query", "ada", "GET", "/_gate/billing?tenant=acme&tenant=globex", "", 400, "tenant_conflict"},
		{"query and form differ", "ada", "POST", "/_gate/billing/portal?tenant=acme", "tenant=globex", 400, "tenant_conflict"},
		{"host and parameter differ", "ada", "GET", "http://acme.apps.localhost" + port + "/_gate/billing?tenant=globex", "", 400, "tenant_conflict"},
		{"below a tenant's path", "ada", "GET", "/t/acme/_gate/billing", "", 404, "not_found"},
		{"another path", "ada", "GET", "/_gate/billing/", "", 404, "not_found"},
		{"another page", "ada", "GET", "/_gate/billingx", "", 404, "not_found"},
		{"buying by GET", "ada", "GET", "/_gate/billing/checkout?tenant=acme&plan=pro&interval=month", "", 405, "method_not_allowed"},
		{"plans by POST", "ada", "POST", "/_gate/billing", "tenant=acme", 405, "method_not_allowed"},
		{"a form beyond measure", "ada", "POST", "/_gate/billing/portal", "tenant=acme&x=" + strings.Repeat("x", 20<<10), 400, "bad_request"},
		{"a plan that is not for sale", "ada", "POST", "/_gate/billing/checkout", "tenant=acme&plan=gold&interval=month", 400, "bad_request"},
	} {
		var as map[string]string
		if tc.who != "" {
			as = bearer(t, w, tc.who)
		}
		more := map[string]string{}
		if tc.method == "POST" {
			more["body"] = tc.body
		}
		res, body := billed(t, w, plain, tc.method, tc.at, as, more)
		if res.StatusCode != tc.status || tc.code != "" && !strings.Contains(body, `"code":"`+tc.code+`"`) {
			t.Errorf("%s: %d, want %d %s\n%s", tc.name, res.StatusCode, tc.status, tc.code, body)
		}
		if res.Header.Get("Cache-Control") != "no-store" || strings.Contains(body, canaryKey) || strings.Contains(body, "db.internal") {
			t.Errorf("%s: %v %s", tc.name, res.Header, body)
		}
	}
}

func TestWithoutAKeyNobodyPaysHere(t *testing.T) {
	t.Parallel()
	w, _ := newWorld(t, nil)
	plain := stays(client(t, w))
	for _, at := range []string{"/_gate/billing?tenant=acme", "/_gate/billing/checkout", "/_gate/billing/portal"} {
		for _, as := range []map[string]string{nil, bearer(t, w, "ada")} {
			if res, body := billed(t, w, plain, "GET", at, as, nil); res.StatusCode != 404 || !strings.Contains(body, "not_found") {
				t.Errorf("%s: %d %s", at, res.StatusCode, body)
			}
		}
	}
	res, body := billed(t, w, plain, "GET", "/t/lapsed/", bearer(t, w, "lou"), nil)
	if res.StatusCode != 402 || strings.Contains(body, "billing_url") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

func TestUnpaidLeadsThoseWhoMayPay(t *testing.T) {
	t.Parallel()
	w, dsn := newWorld(t, paid)
	execSQL(t, dsn, `INSERT INTO core_memberships (id, user_id, tenant_id, role, is_active) VALUES ('m-bob-lapsed', 'id-bob', 'lapsed', 'member', true)`)
	plain := stays(client(t, w))
	res, body := billed(t, w, plain, "GET", "/t/lapsed/app", bearer(t, w, "lou"), nil)
	if res.StatusCode != 402 || !strings.Contains(body, `"billing_url":"/_gate/billing?tenant=lapsed"`) {
		t.Errorf("owner: %d %s", res.StatusCode, body)
	}
	port := w.URL[strings.LastIndexByte(w.URL, ':'):]
	if _, body = billed(t, w, plain, "GET", "http://lapsed.apps.localhost"+port+"/app", bearer(t, w, "lou"), nil); !strings.Contains(body, `"billing_url":"/_gate/billing"`) {
		t.Errorf("on the tenant's host: %s", body)
	}
	res, body = billed(t, w, plain, "GET", "/t/lapsed/app", bearer(t, w, "bob"), nil)
	if res.StatusCode != 402 || strings.Contains(body, "billing_url") {
		t.Errorf("member: %d %s", res.StatusCode, body)
	}
	for who, want := range map[string]bool{"lou": true, "bob": false} {
		_, page := billed(t, w, plain, "GET", "/t/lapsed/app", bearer(t, w, who), navigates)
		if got := strings.Contains(page, `href="/_gate/billing?tenant=lapsed"`); got != want || strings.Contains(page, "Ask one of its owners") == want {
			t.Errorf("%s: %s", who, page)
		}
	}
}

func TestAnotherSitesFormStartsNoPayment(t *testing.T) { // CSRF-1
	t.Parallel()
	w, _ := newWorld(t, paid)
	ada := stays(signedIn(t, w, "ada"))
	form := url.Values{"tenant": {"acme"}, "plan": {"pro"}, "interval": {"month"}}.Encode()
	for name, h := range map[string]map[string]string{
		"cross-site": {"Sec-Fetch-Site": "cross-site"}, "same-site": {"Sec-Fetch-Site": "same-site"},
		"another origin": {"Origin": "https://evil.example"}, "null": {"Origin": "null"},
	} {
		h["body"] = form
		for _, at := range []string{"/_gate/billing/checkout", "/_gate/billing/portal"} {
			if res, body := billed(t, w, ada, "POST", at, nil, h); res.StatusCode != 403 || !strings.Contains(body, "cross_origin") {
				t.Errorf("%s at %s: %d %s", name, at, res.StatusCode, body)
			}
		}
	}
	if res, body := billed(t, w, ada, "POST", "/_gate/billing/portal", nil, map[string]string{"Sec-Fetch-Site": "same-origin", "body": form}); res.StatusCode != 303 {
		t.Errorf("our own form: %d %s", res.StatusCode, body)
	}
	// The page, and the way there through the picker and through sign-in.
	res, body := billed(t, w, ada, "GET", "/_gate/billing?tenant=acme", nil, navigates)
	csp := res.Header.Get("Content-Security-Policy")
	if res.StatusCode != 200 || !strings.Contains(csp, "default-src 'none'") || !strings.HasSuffix(csp, "http://127.0.0.1:1") && !strings.HasSuffix(csp, "form-action 'none'") {
		t.Errorf("%d %s\n%s", res.StatusCode, csp, body)
	}
	if res, _ = billed(t, w, ada, "GET", "/_gate/billing", nil, navigates); res.StatusCode != 302 || res.Header.Get("Location") != "/_gate/tenants?return_to=%2F_gate%2Fbilling" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	if _, body = billed(t, w, ada, "GET", "/_gate/tenants?return_to=/_gate/billing", nil, navigates); !strings.Contains(body, "http://acme.apps.localhost") || !strings.Contains(body, "/_gate/billing\"") {
		t.Errorf("the picker does not lead there: %s", body)
	}
	nobody := stays(client(t, w))
	if res, _ = billed(t, w, nobody, "GET", "/_gate/billing?tenant=acme", nil, navigates); res.StatusCode != 302 || res.Header.Get("Location") != "/_gate/login?return_to=%2F_gate%2Fbilling%3Ftenant%3Dacme" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
}

func TestRolesOfAConfigurationThatHasNoOwner(t *testing.T) {
	t.Parallel()
	w, dsn := newWorld(t, func(cfg *config.Config) {
		paid(cfg)
		cfg.Roles = []string{"reader", "writer", "boss"}
	})
	execSQL(t, dsn, `UPDATE core_memberships SET role = 'boss' WHERE user_id = 'id-bob'`)
	execSQL(t, dsn, `UPDATE core_memberships SET role = 'writer' WHERE user_id = 'id-dan'`)
	plain := stays(client(t, w))
	for who, want := range map[string]int{"bob": 200, "dan": 403, "ada": 403} { // ada is an owner, which is no role here
		if res, body := billed(t, w, plain, "GET", "/_gate/billing?tenant=acme", bearer(t, w, who), nil); res.StatusCode != want {
			t.Errorf("%s: %d %s", who, res.StatusCode, body)
		}
	}
}

func TestStripeThatIsNotThereIsSaidSo(t *testing.T) {
	t.Parallel()
	w, dsn := newWorld(t, paid)
	execSQL(t, dsn, `UPDATE core_pricing_plans SET stripe_price_monthly = 'price_1', amount_monthly = 1900, currency = 'eur', is_active = true`)
	plain := stays(client(t, w))
	res, body := billed(t, w, plain, "GET", "/_gate/billing?tenant=lapsed&session_id=cs_test_1", bearer(t, w, "lou"), nil)
	if res.StatusCode != 200 || !strings.Contains(body, "Basic") || strings.Contains(body, canaryKey) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}
