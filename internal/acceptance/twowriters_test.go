package acceptance

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/fhsaas"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// twoWriters are a running gate and fh-saas's own handlers on one database, both told by Stripe.
type twoWriters struct {
	t      *testing.T
	gate   *gatetest.World
	theirs *fhsaas.Stripe
	client *http.Client
	n      int
	now    time.Time // of the events, a second apart
}

func newTwoWriters(t *testing.T, dsn string) *twoWriters {
	t.Helper()
	seed(t, dsn)
	db := openSQL(t, dsn)
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	w := &twoWriters{t: t, theirs: &fhsaas.Stripe{DB: db, Now: time.Now}, now: time.Now().Truncate(time.Second).Add(-time.Hour)}
	w.gate = gatetest.New(t, gatetest.Options{HostURL: dsn, App: echo, People: people, Configure: func(cfg *config.Config) {
		cfg.Billing.Stripe.WebhookSecret, cfg.Billing.Stripe.TrustMetadata = secret.New(webhookSecret), true
	}})
	host := w.gate.Gate.Host()
	for _, err := range []error{
		host.PricingPlans.Insert(t.Context(), &catalog.PricingPlan{ID: "gold", StripePriceMonthly: new("price_gold"), TierLevel: new(int64(3))}),
		host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: "buys", DBURL: catalog.NewDBURI("postgresql://db.internal/buys"), IsActive: new(true)}),
		host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: "is_late", DBURL: catalog.NewDBURI("postgresql://db.internal/is_late"), IsActive: new(true)}),
		host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: "has_left", DBURL: catalog.NewDBURI("postgresql://db.internal/has_left"), IsActive: new(true)}),
		host.Memberships.Insert(t.Context(), &catalog.Membership{UserID: "id-lou", TenantID: "buys", Role: new("owner"), IsActive: new(true)}),
		host.Memberships.Insert(t.Context(), &catalog.Membership{UserID: "id-lou", TenantID: "is_late", Role: new("owner"), IsActive: new(true)}),
		host.Memberships.Insert(t.Context(), &catalog.Membership{UserID: "id-lou", TenantID: "has_left", Role: new("owner"), IsActive: new(true)}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w.client = signedIn(t, w.gate, "lou")
	return w
}

// event is Stripe's, of a tenant's subscription or, where kind says so, its invoice, in the current shape or an old one.
func (w *twoWriters) event(kind, tenant, status string, old bool) map[string]any {
	w.n++
	w.now = w.now.Add(time.Second)
	end := w.now.AddDate(0, 1, 0).Unix()
	item := map[string]any{"id": "si_1", "quantity": 1, "price": map[string]any{"id": "price_gold", "unit_amount": 900, "currency": "usd"}}
	object := map[string]any{
		"id": "sub_" + tenant, "object": "subscription", "customer": "cus_" + tenant, "status": status, "created": w.now.Unix(),
		"metadata": map[string]any{"tenant_id": tenant, "plan_type": "monthly", "user_email": "lou@example.com"},
		"items":    map[string]any{"data": []any{item}},
	}
	if old {
		object["current_period_end"] = end
	} else {
		item["current_period_end"] = end
	}
	if kind == "invoice.payment_succeeded" || kind == "invoice.payment_failed" {
		object = map[string]any{"id": "in_" + tenant, "object": "invoice", "customer": "cus_" + tenant, "subscription": "sub_" + tenant}
	}
	text, err := json.Marshal(map[string]any{
		"id": fmt.Sprintf("evt_%d", w.n), "object": "event", "type": kind, "created": w.now.Unix(), "livemode": false, "data": map[string]any{"object": object},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	var event map[string]any
	if err := json.Unmarshal(text, &event); err != nil {
		w.t.Fatal(err)
	}
	return event
}

// toOurs delivers to the gate, toTheirs to fh-saas's handlers.
func (w *twoWriters) toOurs(event map[string]any) {
	w.t.Helper()
	body, err := json.Marshal(event)
	if err != nil {
		w.t.Fatal(err)
	}
	now := time.Now().Unix()
	mac := hmac.New(sha256.New, []byte(webhookSecret))
	fmt.Fprintf(mac, "%d.%s", now, body)
	res, answer, err := do(w.client, http.MethodPost, w.gate.URL+"/_gate/webhooks/stripe", map[string]string{
		"Content-Type": "application/json", "Stripe-Signature": fmt.Sprintf("t=%d,v1=%s", now, hex.EncodeToString(mac.Sum(nil))),
	}, bytes.NewReader(body))
	if err != nil || res.StatusCode != http.StatusOK {
		w.t.Fatalf("%v: %v, %s", event["type"], err, answer)
	}
}

func (w *twoWriters) toTheirs(event map[string]any) {
	w.t.Helper()
	if err := w.theirs.Handle(w.t.Context(), event); err != nil {
		w.t.Fatalf("fh-saas: %v: %v", event["type"], err)
	}
}

// row is status, plan and whether the period's end is known, of the tenant's one row; "" if it has not one.
func (w *twoWriters) row(tenant string) string {
	w.t.Helper()
	rows, _, err := w.gate.Gate.Host().Subscriptions.List(w.t.Context(), catalog.Page{Limit: 10, Filter: map[string]string{"tenant_id": tenant}})
	if err != nil {
		w.t.Fatal(err)
	}
	if len(rows) != 1 || rows[0].Status == nil || rows[0].PlanTier == nil {
		return ""
	}
	return fmt.Sprint(*rows[0].Status, " ", *rows[0].PlanTier, " ", rows[0].CurrentPeriodEnd != nil)
}

// becomes waits for the gate's own keeper: within a minute all is as Stripe said, and decisions follow.
func (w *twoWriters) becomes(tenant, row string, status int) {
	w.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		res, _ := fetch(w.t, w.client, "GET", w.gate.URL+"/t/"+tenant+"/", nil)
		got := w.row(tenant)
		if got == row && res.StatusCode == status {
			return
		}
		select {
		case <-deadline:
			w.t.Fatalf("%s: row %q, want %q; status %d, want %d", tenant, got, row, res.StatusCode, status)
		case <-tick.C:
		}
	}
}

// fh-saas's handlers beside our webhooks, told the same in an order of their own: nobody who pays is locked out, nobody who does
// not gets in, and no plan is lost; the gate that runs sees to it by itself.
func TestFhSaaSHandlersBesideOursLockNobodyOutAndLetNobodyIn(t *testing.T) {
	for _, engine := range []string{"postgresql", "sqlite"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			dsn := sqliteURL(t)
			if engine == "postgresql" {
				dsn = pgtest.New(t)
			}
			w := newTwoWriters(t, dsn)
			for _, tenant := range []string{"buys", "is_late", "has_left"} {
				created := w.event("customer.subscription.created", tenant, "active", tenant == "has_left")
				w.toOurs(created)
				w.toTheirs(created) // the plan is its own word now, and the period's end gone
			}
			late := w.event("customer.subscription.updated", "is_late", "past_due", false)
			w.toOurs(late)
			w.toTheirs(late)
			w.toTheirs(w.event("invoice.payment_failed", "is_late", "", true))
			ended := w.event("customer.subscription.deleted", "has_left", "canceled", true)
			w.toOurs(ended)
			w.toTheirs(ended)
			w.toTheirs(w.event("invoice.payment_succeeded", "has_left", "", true)) // a late one: active again, by its word
			w.becomes("buys", "active gold true", http.StatusOK)
			w.becomes("is_late", "past_due gold true", http.StatusOK)
			w.becomes("has_left", "canceled gold true", http.StatusPaymentRequired)
		})
	}
}
