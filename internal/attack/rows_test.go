package attack

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
)

// hostile values that a row of the host database may hold, and the header value that the app must receive for each:
// bytes 0x21 to 0x7E but "%" as they are, all others percent-encoded.
var hostileValues = []struct{ value, header string }{
	{"a b", "a%20b"},
	{"a\r\nX-User-Role: root", "a%0D%0AX-User-Role:%20root"},
	{"a\nb", "a%0Ab"},
	{"\ttab\x0b", "%09tab%0B"},
	{"100%", "100%25"},
	{"%0d%0a", "%250d%250a"},
	{"é", "%C3%A9"},
	{"日本", "%E6%97%A5%E6%9C%AC"},
	{"\u2028", "%E2%80%A8"},
	{"\x7f\x1b[2J", "%7F%1B[2J"},
	{"<script>alert(1)</script>", "<script>alert(1)</script>"},
	{"\"quoted\", list; x=y", "\"quoted\",%20list;%20x=y"},
	{"{{.Secret}} ${ENV} `id`", "{{.Secret}}%20${ENV}%20`id`"},
}

// TestHostileRowsMakeNoHeaders: HDR-4, TPL-1, SQL-1. Whatever stands in the rows, the app receives each header once,
// with one visible token as its value, and nothing is expanded.
func TestHostileRowsMakeNoHeaders(t *testing.T) {
	r := newRigged(t, byName)
	host := r.Gate.Host()
	ctx := t.Context()
	for i, c := range hostileValues {
		user, tenant, plan := catalog.UserID("user-"+c.value), catalog.TenantID("tenant-"+c.value), catalog.PlanID("plan-"+c.value)
		features, err := json.Marshal([]string{c.value, "x," + c.value, c.value, ""})
		if err != nil {
			t.Fatal(err)
		}
		// The person of the bearer token gets another row each time.
		execSQL(t, r.hostURL(), "DELETE FROM core_users WHERE oauth_id = 'stranger'")
		for _, err := range []error{
			host.GlobalUsers.Insert(ctx, &catalog.GlobalUser{ID: user, Email: new(c.value + "@people.test"), OAuthID: new("stranger")}),
			host.PricingPlans.Insert(ctx, &catalog.PricingPlan{ID: plan, Features: new(string(features))}),
			host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: tenant, Name: &c.value, DBURL: catalog.NewDBURI("postgresql://h/d"), PlanTier: new(string(plan))}),
			host.Subscriptions.Insert(ctx, &catalog.Subscription{TenantID: tenant, Status: new("active"), PaymentType: new("subscription"), PlanTier: new(string(plan))}),
			host.Memberships.Insert(ctx, &catalog.Membership{UserID: user, TenantID: tenant, Role: &c.value, ProfileID: &c.value}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		reload(t, r.World)
		token := "Authorization: Bearer " + bearer(t, r.World, "stranger", hour, map[string]any{"n": i})
		got, ok := r.one(t, c.value, head("GET /x HTTP/1.1", "Host: localhost", token))
		if !ok {
			continue
		}
		feature := strings.ReplaceAll(c.header, ",", "%2C")
		for name, want := range map[string]string{
			"X-User-Id": "user-" + c.header, "X-User-Email": c.header + "@people.test", "X-Tenant-Id": "tenant-" + c.header, "X-Tenant-Plan": "plan-" + c.header,
			"X-User-Role": c.header, "X-User-Profile-Id": c.header, "X-Tenant-Features": feature + ",x%2C" + feature, "X-Subscription-Status": "active",
			"X-Tenant-Db-Uri": "postgresql://h/d",
		} {
			if v := got.values(name); len(v) != 1 || v[0] != want {
				t.Errorf("%q: the app received %s %q; want %q", c.value, name, v, want)
			}
		}
		claims := assertionClaims(t, got.values("X-Gate-Assertion")[0])
		if claims["tenant"] != "tenant-"+c.value || claims["role"] != c.value {
			t.Errorf("%q: the assertion says %v", c.value, claims)
		}
	}
}

// hostURL is the gate's host database.
func (r *rigged) hostURL() string { return r.Config.HostDatabase.URL.Reveal() }

// TestHostileRowsStayTextOnPages: names, addresses and roles from the rows are text on our pages, which no other site
// may frame and no script may run on.
func TestHostileRowsStayTextOnPages(t *testing.T) {
	r := newRigged(t, byName)
	host := r.Gate.Host()
	markup := `"><img src=x onerror=alert(1)><script>alert(1)</script><a href="javascript:alert(1)">x</a>`
	for _, statement := range []string{
		"UPDATE core_tenants SET name = '" + strings.ReplaceAll(markup, "'", "''") + "'",
		"UPDATE core_users SET email = '" + strings.ReplaceAll(markup, "'", "''") + "'",
		"UPDATE core_memberships SET role = '" + strings.ReplaceAll(markup, "'", "''") + "'",
		"UPDATE core_subscriptions SET plan_tier = '" + strings.ReplaceAll(markup, "'", "''") + "'",
	} {
		execSQL(t, r.hostURL(), statement)
	}
	if err := host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: catalog.TenantID("javascript:alert(1)//" + markup), Name: new("x"), DBURL: catalog.NewDBURI("postgresql://h/d")}); err != nil {
		t.Fatal(err)
	}
	if err := host.Memberships.Insert(t.Context(), &catalog.Membership{UserID: "uid-both", TenantID: catalog.TenantID("javascript:alert(1)//" + markup)}); err != nil {
		t.Fatal(err)
	}
	reload(t, r.World)
	for _, path := range []string{
		"/_gate/tenants", "/_gate/tenants?return_to=" + url.QueryEscape(`/x"><script>`), "/_gate/logout", "/t/" + susp.id() + "/x", "/t/" + alpha.id() + "/x/../y", "/_gate/nothing<script>",
		"/t/<script>/x", "/_gate/login?return_to=<script>", "/_gate/callback/dev?error=<script>&state=<script>",
	} {
		a := first(t, send(t, r.Addr, head("GET "+path+" HTTP/1.1", "Host: localhost", "Accept: text/html", "Cookie: "+sessionName+"="+r.cookie)))
		if a.status/100 == 3 {
			continue
		}
		lower := strings.ToLower(a.body)
		for _, bad := range []string{"<script", "<img", "onerror=alert(1)>", `href="javascript:`, `action="javascript:`} {
			if strings.Contains(lower, bad) {
				t.Errorf("%s: the page holds %s:\n%s", path, bad, a.body)
			}
		}
		policy := a.header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "script-src") ||
			a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("X-Frame-Options") != "DENY" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html; charset=utf-8") {
			t.Errorf("%s: %d, %v", path, a.status, a.header)
		}
	}
}
