package tenantgate_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/devidp"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var people = []devidp.Person{
	{Subject: "ada", Email: "ada@example.com", EmailVerified: true, Name: "Ada"},
	{Subject: "bob", Email: "bob@example.com", EmailVerified: true, Name: "Bob"},
	{Subject: "lou", Email: "lou@example.com", EmailVerified: true, Name: "Lou"},
	{Subject: "stranger", Email: "stranger@example.com", EmailVerified: true, Name: "Stranger"},
}

// sqliteURL is a new SQLite host database.
func sqliteURL(t testing.TB) string {
	return "sqlite:" + filepath.Join(t.TempDir(), "host.db")
}

// seed makes ada owner of acme and member of globex, bob member of acme, lou owner of a suspended tenant.
func seed(t testing.TB, dsn string) {
	t.Helper()
	ctx := context.Background()
	host, err := catalog.Open(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	}()
	err = host.InTx(ctx, func(tx *catalog.Tx) error {
		var errs []error
		for _, u := range []string{"ada", "bob", "lou"} {
			errs = append(errs, tx.GlobalUsers.Insert(ctx, &catalog.GlobalUser{ID: catalog.UserID("id-" + u), Email: new(u + "@example.com"), OAuthID: &u}))
		}
		errs = append(errs, tx.PricingPlans.Insert(ctx, &catalog.PricingPlan{ID: "pro", Name: new("Pro"), TierLevel: new(int64(2)), Features: new(`["exports","api, access"]`)}))
		for _, id := range []string{"acme", "globex", "umbrella", "lapsed"} {
			status := "active"
			if id == "lapsed" {
				status = "canceled"
			}
			errs = append(errs,
				tx.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: catalog.TenantID(id), Name: new(strings.ToUpper(id)), DBURL: catalog.NewDBURI("postgresql://" + id + ":pw-of-" + id + "@db.internal/" + id), IsActive: new(id != "umbrella"), PlanTier: new("free")}),
				tx.Subscriptions.Insert(ctx, &catalog.Subscription{TenantID: catalog.TenantID(id), Status: &status, PaymentType: new("subscription"), PlanTier: new("pro")}))
		}
		for _, m := range [][3]string{{"ada", "acme", "owner"}, {"ada", "globex", "member"}, {"bob", "acme", "member"}, {"lou", "umbrella", "owner"}, {"lou", "lapsed", "owner"}} {
			errs = append(errs, tx.Memberships.Insert(ctx, &catalog.Membership{UserID: catalog.UserID("id-" + m[0]), TenantID: catalog.TenantID(m[1]), Role: &m[2], ProfileID: new("profile-" + m[0])}))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// echo is an app that answers with the request that reached it.
type echoed struct {
	Method, Host, URI string
	Header            http.Header
}

var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(echoed{Method: r.Method, Host: r.Host, URI: r.RequestURI, Header: r.Header})
})

func fetch(t testing.TB, c *http.Client, method, target string, header map[string]string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestSignInAndTheRightTenant(t *testing.T) {
	for _, engine := range []struct {
		name string
		dsn  func(testing.TB) string
	}{{"sqlite", sqliteURL}, {"postgresql", pgtest.New}} {
		t.Run(engine.name, func(t *testing.T) {
			dsn := engine.dsn(t)
			seed(t, dsn)
			w := gatetest.New(t, gatetest.Options{HostURL: dsn, App: echo, People: people})
			c := w.Client()
			defer c.CloseIdleConnections()
			res, body := fetch(t, c, "GET", w.URL+"/t/acme/x?a=1&a=2", nil)
			if res.StatusCode != 401 || !strings.Contains(body, `"unauthenticated"`) {
				t.Fatalf("before sign-in: %s %s", res.Status, body)
			}
			if err := w.SignIn(t.Context(), c, "ada"); err != nil {
				t.Fatal(err)
			}
			res, body = fetch(t, c, "GET", w.URL+"/t/acme/x%2Dy?a=1&a=2;%zz", nil)
			if res.StatusCode != 200 {
				t.Fatalf("acme: %s %s", res.Status, body)
			}
			var got echoed
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{
				"X-Tenant-Id": "acme", "X-Tenant-Db-Uri": "postgresql://acme:pw-of-acme@db.internal/acme", "X-Tenant-Plan": "pro",
				"X-Tenant-Features": "exports,api%2C%20access", "X-Subscription-Status": "active", "X-User-Id": "id-ada",
				"X-User-Email": "ada@example.com", "X-User-Role": "owner", "X-User-Profile-Id": "profile-ada",
				"X-Forwarded-Prefix": "/t/acme", "X-Forwarded-Proto": "http", "X-Forwarded-For": "127.0.0.1",
				"X-Forwarded-Host": strings.TrimPrefix(w.URL, "http://"),
			}
			for k, v := range want {
				if len(got.Header[k]) != 1 || got.Header[k][0] != v {
					t.Errorf("%s = %q; want %q", k, got.Header[k], v)
				}
			}
			if got.URI != "/x-y?a=1&a=2;%zz" || got.Header.Get("Cookie") != "" || got.Header.Get("X-Gate-Assertion") == "" {
				t.Errorf("the app received %s, cookie %q, assertion %q", got.URI, got.Header.Get("Cookie"), got.Header.Get("X-Gate-Assertion"))
			}
			if res.Header.Get("Cache-Control") != "private" {
				t.Errorf("Cache-Control = %q", res.Header.Get("Cache-Control"))
			}
			for path, code := range map[string]string{"/t/umbrella/": "no_access", "/t/nothing/": "no_access", "/": "tenant_required"} {
				if res, body := fetch(t, c, "GET", w.URL+path, nil); !strings.Contains(body, `"`+code+`"`) {
					t.Errorf("%s: %s %s", path, res.Status, body)
				}
			}
		})
	}
}
