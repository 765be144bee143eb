package checkout

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/billing/stripeapi"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/internal/stripefake"
)

func TestMain(m *testing.M) { pgtest.Main(m) } // looks for leaked goroutines too

const apiKey = "sk_test_canary7f3aSecretOfTheAccount"

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

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

// rig is a host database with two tenants and three plans, an account of Stripe's, and the pages of two replicas.
type rig struct {
	t      *testing.T
	host   *catalog.HostDatabase
	stripe *stripefake.Server
	client *stripeapi.Client
	signer *ledger.Signer
	rules  billing.Rules
	pages  *Pages
	log    *logBuffer

	mu  sync.Mutex
	now time.Time
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	r.now = r.now.Add(d)
	r.mu.Unlock()
}

func onBothEngines(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, newRig(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db"))) })
	t.Run("postgresql", func(t *testing.T) { f(t, newRig(t, pgtest.New(t))) })
}

func onSQLite(t *testing.T) *rig {
	t.Helper()
	return newRig(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db"))
}

func newRig(t *testing.T, hostURL string) *rig {
	t.Helper()
	r := &rig{t: t, now: begin, log: new(logBuffer)}
	var err error
	if r.host, err = catalog.New(t.Context(), catalog.Config{URL: catalog.NewDBURI(hostURL), Clock: r.clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.host.Close() })
	var h http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { h.ServeHTTP(w, req) }))
	t.Cleanup(server.Close)
	r.stripe, err = stripefake.New(stripefake.Config{
		Origin: server.URL, Clock: r.clock,
		Keys: []stripefake.Key{{Secret: secret.New(apiKey)}, {Secret: secret.New("sk_live_fake"), Live: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	h = r.stripe
	r.client, err = stripeapi.New(stripeapi.Config{
		Key: secret.New(apiKey), URL: server.URL, Attempts: 2,
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.client.Close)
	if r.signer, err = ledger.NewSigner([][]byte{bytes.Repeat([]byte{7}, 32)}); err != nil {
		t.Fatal(err)
	}
	if r.rules, err = billing.New(billing.Config{}); err != nil {
		t.Fatal(err)
	}
	r.pages = r.replica(server.URL)
	r.fill()
	return r
}

// replica makes one more Pages on the same database and account.
func (r *rig) replica(apiURL string) *Pages {
	r.t.Helper()
	book := ledger.New(ledger.Config{Rules: r.rules}, ledger.Deps{Host: r.host, Source: r.client, Signer: r.signer, Clock: r.clock})
	p, err := New(Config{Rules: r.rules, APIURL: apiURL}, Deps{
		Host: r.host, Stripe: r.client, Ledger: book, Signer: r.signer, Clock: r.clock,
		Log: slog.New(slog.NewTextHandler(r.log, nil)),
		Refuse: func(w http.ResponseWriter, _ *http.Request, code string, err error) {
			if err != nil {
				slog.New(slog.NewTextHandler(r.log, nil)).Warn("denied", "code", code, "error", err)
			}
			status := map[string]int{codeBadRequest: 400, codeRateLimited: 429, codeUnavailable: 503, codeHostDown: 503, codeNoAccess: 403}[code]
			http.Error(w, code, status)
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

func (r *rig) fill() {
	r.t.Helper()
	ctx := r.t.Context()
	for _, id := range []string{"acme", "globex"} {
		r.must(r.host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: catalog.TenantID(id), Name: new(strings.ToUpper(id)), DBURL: catalog.NewDBURI("sqlite:" + id)}))
	}
	r.must(r.host.GlobalUsers.Insert(ctx, &catalog.GlobalUser{ID: "olivia", Email: new("olivia@acme.example")}))
	for i, id := range []string{"basic", "pro"} {
		r.stripe.AddProduct(stripefake.Product{ID: "prod_" + id, Name: strings.ToUpper(id)})
		cents := int64(1900 * (i + 1))
		r.stripe.AddPrice(stripefake.Price{ID: "price_" + id + "_m", Product: "prod_" + id, Currency: "eur", Cents: cents})
		r.stripe.AddPrice(stripefake.Price{ID: "price_" + id + "_y", Product: "prod_" + id, Currency: "eur", Cents: cents * 10, Interval: "year"})
		r.must(r.host.PricingPlans.Insert(ctx, &catalog.PricingPlan{
			ID: catalog.PlanID(id), Name: new(strings.ToUpper(id)), StripePriceMonthly: new("price_" + id + "_m"), StripePriceYearly: new("price_" + id + "_y"),
			AmountMonthly: &cents, AmountYearly: new(cents * 10), Currency: new("eur"), TrialDays: new(int64(14 * i)), SortOrder: new(int64(i)),
			Features: new(`["advanced_analytics"]`),
		}))
	}
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func visit(tenant string) Visit {
	return Visit{
		Tenant: catalog.TenantID(tenant), Name: strings.ToUpper(tenant), User: "olivia", Email: "olivia@acme.example", Address: "192.0.2.7",
		Parameter: tenant, Origin: "https://app.example.com", App: "/t/" + tenant + "/",
	}
}

// get opens the plans page; query is without the tenant.
func (r *rig) get(v Visit, query string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r.pages.Plans(w, httptest.NewRequest("GET", Path+"?"+query, nil), v)
	return w
}

func (r *rig) post(serve func(http.ResponseWriter, *http.Request, Visit), v Visit, form url.Values) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	req := httptest.NewRequest("POST", CheckoutPath, strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	serve(w, req, v)
	return w
}

// buy presses a plan's button and returns where that leads.
func (r *rig) buy(v Visit, plan, interval string) string {
	r.t.Helper()
	w := r.post(r.pages.Checkout, v, url.Values{"plan": {plan}, "interval": {interval}})
	if w.Code != http.StatusSeeOther {
		r.t.Fatalf("%d %s\n%s", w.Code, w.Body, r.log)
	}
	return w.Header().Get("Location")
}

// session is the id of the session that is paid at an address.
func session(t *testing.T, target string) string {
	t.Helper()
	_, id, ok := strings.Cut(target, "/c/pay/")
	if !ok {
		t.Fatalf("%q is not a checkout", target)
	}
	return id
}

// pay pays at an address and returns the query with which the browser comes back.
func (r *rig) pay(target string) string {
	r.t.Helper()
	back := r.stripe.Pay(session(r.t, target), stripefake.CardPays)
	u, err := url.Parse(back)
	if err != nil || u.Path != Path {
		r.t.Fatalf("paying leads to %q", back)
	}
	return u.RawQuery
}

func (r *rig) newest(tenant string) *catalog.Subscription {
	r.t.Helper()
	f, err := r.host.GrantFacts(r.t.Context(), catalog.GrantQuery{User: "olivia", Tenant: catalog.TenantID(tenant)})
	r.must(err)
	return f.Subscription
}

// events are the audit's, oldest first, of the pages.
func (r *rig) events() []catalog.HostAuditLog {
	r.t.Helper()
	logs, _, err := r.host.AuditLogs.List(r.t.Context(), catalog.Page{Limit: 1000})
	r.must(err)
	var out []catalog.HostAuditLog
	for i := len(logs) - 1; i >= 0; i-- {
		if strings.HasPrefix(text(logs[i].EventType), "billing.") {
			out = append(out, logs[i])
		}
	}
	return out
}

func (r *rig) count(event string) int {
	n := 0
	for _, e := range r.events() {
		if text(e.EventType) == event {
			n++
		}
	}
	return n
}
