package reconcile

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/billing/stripeapi"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/internal/stripefake"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const testKey = "sk_test_canary51Fake7f3a"

// begin is when the fake's clock starts; the host database's clock is the system's.
var begin = time.Now().UTC().Truncate(time.Second).AddDate(0, 0, -90)

// rig is an account, a client of it and a host database.
type rig struct {
	*stripefake.Server
	t    *testing.T
	api  *stripeapi.Client
	host *catalog.HostDatabase
	url  string
	// signer signs as our checkout does.
	signer *ledger.Signer
}

// engines runs a test on both engines.
func engines(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Run("sqlite", func(t *testing.T) { test(t, newRig(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db"))) })
	t.Run("postgresql", func(t *testing.T) { test(t, newRig(t, pgtest.New(t))) })
}

// sqlite runs a test on SQLite alone, where the engine makes no difference.
func sqlite(t *testing.T, test func(t *testing.T, r *rig)) {
	test(t, newRig(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db")))
}

func newRig(t *testing.T, hostURL string) *rig {
	t.Helper()
	var h http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	fake, err := stripefake.New(stripefake.Config{
		Origin: server.URL, Clock: func() time.Time { return begin },
		Keys: []stripefake.Key{
			{Secret: secret.New(testKey)},
			{Secret: secret.New("sk_live_fake"), Live: true},
			{Secret: secret.New("rk_test_fake"), May: []string{"subscriptions:read", "events:read", "checkout/sessions:read", "products:read", "prices:read"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h = fake
	host, err := catalog.Open(t.Context(), hostURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close() })
	signer, err := ledger.NewSigner([][]byte{bytes.Repeat([]byte{1}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Server: fake, t: t, host: host, url: server.URL, signer: signer}
	r.api = r.client(testKey)
	return r
}

func (r *rig) client(key string) *stripeapi.Client {
	r.t.Helper()
	api, err := stripeapi.New(stripeapi.Config{
		Key: secret.New(key), URL: r.url, Timeout: time.Minute, Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(api.Close)
	return api
}

// audited are the audit's rows of these event types, as "type target".
func (r *rig) audited(prefix string) []string {
	r.t.Helper()
	rows, _, err := r.host.AuditLogs.List(r.t.Context(), catalog.Page{Limit: 1000})
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, row := range rows {
		if strings.HasPrefix(*row.EventType, prefix) {
			out = append(out, fmt.Sprintf("%s %s", *row.EventType, *row.TargetID))
		}
	}
	slices.Sort(out)
	return out
}

// dump is every row of these tables, to compare.
func (r *rig) dump() string {
	r.t.Helper()
	var b strings.Builder
	subs, _, err := r.host.Subscriptions.List(r.t.Context(), catalog.Page{Limit: 1000})
	if err != nil {
		r.t.Fatal(err)
	}
	plans, _, err := r.host.PricingPlans.List(r.t.Context(), catalog.Page{Limit: 1000})
	if err != nil {
		r.t.Fatal(err)
	}
	tenants, _, err := r.host.Tenants.List(r.t.Context(), catalog.Page{Limit: 1000})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, v := range []any{subs, plans, tenants} {
		fmt.Fprintf(&b, "%s\n", jsonOf(r.t, v))
	}
	return b.String()
}
