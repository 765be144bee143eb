package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/secret"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const testSecret = "whsec_test_of_this_endpoint"

// start is when the tests' Stripe begins, and the clock of the rig.
var start = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// rig is an endpoint on a host database with two tenants and two plans.
type rig struct {
	t      testing.TB
	host   *catalog.HostDatabase
	signer *ledger.Signer
	ledger *ledger.Ledger
	h      *Handler
	log    *bytes.Buffer

	mu  sync.Mutex
	now time.Time
}

type rigConfig struct {
	trust  bool
	mode   ledger.Mode
	source ledger.Source
	rules  billing.Config
}

func onBothEngines(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	t.Run(catalog.EnginePostgreSQL, func(t *testing.T) {
		t.Parallel()
		test(t, pgtest.New(t))
	})
	t.Run(catalog.EngineSQLite, func(t *testing.T) {
		t.Parallel()
		test(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db"))
	})
}

func newRig(t testing.TB, url string, cfg rigConfig) *rig {
	t.Helper()
	r := openRig(t, url, cfg)
	for _, tenant := range []catalog.TenantID{"acme", "globex"} {
		r.must(r.host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: tenant}))
	}
	for _, p := range []string{"basic", "pro"} {
		r.must(r.host.PricingPlans.Insert(t.Context(), &catalog.PricingPlan{
			ID: catalog.PlanID(p), StripePriceMonthly: new("price_" + p + "_m"), StripePriceYearly: new("price_" + p + "_y"),
		}))
	}
	return r
}

// openRig is a replica: another endpoint on the same database.
func openRig(t testing.TB, url string, cfg rigConfig) *rig {
	t.Helper()
	r := &rig{t: t, log: &bytes.Buffer{}, now: start}
	var err error
	r.host, err = catalog.New(t.Context(), catalog.Config{URL: catalog.NewDBURI(url), Clock: r.clock})
	r.must(err)
	t.Cleanup(func() { _ = r.host.Close() })
	r.signer, err = ledger.NewSigner([][]byte{bytes.Repeat([]byte{7}, 32)})
	r.must(err)
	rules, err := billing.New(cfg.rules)
	r.must(err)
	r.ledger = ledger.New(ledger.Config{Rules: rules, TrustMetadata: cfg.trust, Mode: cfg.mode}, ledger.Deps{
		Host: r.host, Source: cfg.source, Signer: r.signer, Clock: r.clock,
	})
	r.h = New(Config{Secrets: secret.New(testSecret)}, Deps{
		Ledger: r.ledger, Clock: r.clock, Log: slog.New(slog.NewTextHandler(r.log, nil)),
	})
	return r
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// sign is Stripe's header for a body at that moment.
func sign(key string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "%d.", at.Unix())
	mac.Write(body)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}

// post sends a signed body and returns status and reply.
func (r *rig) post(body []byte) (int, string) {
	return r.postWith(body, sign(testSecret, r.clock(), body))
}

func (r *rig) postWith(body []byte, signature string) (int, string) {
	req := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/_gate/webhooks/stripe", bytes.NewReader(body))
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	if signature != "" {
		req.Header.Set("Stripe-Signature", signature)
	}
	w := httptest.NewRecorder()
	r.h.ServeHTTP(w, req)
	var reply struct{ Status any }
	_ = json.Unmarshal(w.Body.Bytes(), &reply)
	if s, ok := reply.Status.(string); ok {
		return w.Code, s
	}
	return w.Code, w.Body.String()
}

// deliver sends an event that must be taken, and returns what became of it.
func (r *rig) deliver(e obj) string {
	r.t.Helper()
	code, outcome := r.post(e.json())
	if code != http.StatusOK {
		r.t.Fatalf("%v: %d %s; log %s", e["id"], code, outcome, r.log)
	}
	return outcome
}

// obj is a JSON object.
type obj map[string]any

func (o obj) json() []byte {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return b
}

func (o obj) with(more obj) obj {
	out := obj{}
	for k, v := range o {
		out[k] = v
	}
	for k, v := range more {
		out[k] = v
	}
	return out
}

// event is an event's JSON.
func event(id, kind string, at time.Time, object, before obj) obj {
	data := obj{"object": object}
	if before != nil {
		data["previous_attributes"] = before
	}
	return obj{"id": id, "object": "event", "type": kind, "created": at.Unix(), "livemode": false, "api_version": "x", "data": data}
}

// shape spells a subscription as an API version does.
type shape string

const (
	oldShape     shape = "old"
	currentShape shape = "current"
)

// sub describes a subscription.
type sub struct {
	id, customer, status, price, invoice string
	created, end                         time.Time
	metadata                             obj
	more                                 obj
}

func (s sub) object(v shape) obj {
	price := obj{"id": s.price, "object": "price", "product": "prod_x", "unit_amount": 1900, "currency": "usd", "nickname": nil}
	item := obj{"id": "si_1", "object": "subscription_item", "price": price, "quantity": 1}
	o := obj{
		"id": s.id, "object": "subscription", "customer": s.customer, "status": s.status, "created": s.created.Unix(), "livemode": false,
		"cancel_at_period_end": false, "cancel_at": nil, "canceled_at": nil, "ended_at": nil, "trial_start": nil, "trial_end": nil,
		"latest_invoice": s.invoice, "metadata": s.metadata, "currency": "usd",
	}
	if v == oldShape {
		o["current_period_end"] = s.end.Unix()
		o["plan"] = obj{"id": s.price, "object": "plan", "product": "prod_x", "amount": 1900, "currency": "usd"}
		o["quantity"] = 1
	} else {
		item["current_period_end"] = s.end.Unix()
	}
	o["items"] = obj{"object": "list", "data": []any{item}}
	return o.with(s.more)
}

// invoice is an invoice's JSON.
func invoice(v shape, id string, s sub) obj {
	o := obj{
		"id": id, "object": "invoice", "customer": s.customer, "status": "paid",
		"lines": obj{"data": []any{obj{"period": obj{"start": s.end.Add(-time.Hour).Unix(), "end": s.end.Unix()}}}},
	}
	if v == oldShape {
		return o.with(obj{"subscription": s.id, "subscription_details": obj{"metadata": s.metadata}})
	}
	return o.with(obj{"parent": obj{"type": "subscription_details", "subscription_details": obj{"subscription": s.id, "metadata": s.metadata}}})
}

// signed is the metadata that our checkout writes.
func (r *rig) signed(tenant, customer string) obj {
	return obj{"tenant_id": tenant, "tenant_sig": r.signer.Sign(catalog.TenantID(tenant), customer), "user_email": "ada@example.com"}
}

// acme is acme's subscription at the start.
func (r *rig) acme(status string) sub {
	return sub{
		id: "sub_1", customer: "cus_1", status: status, price: "price_basic_m", invoice: "in_1", created: start,
		end: start.AddDate(0, 1, 0), metadata: r.signed("acme", "cus_1"),
	}
}

func (s sub) but(change func(*sub)) sub {
	change(&s)
	return s
}

// rows are a tenant's subscription rows, oldest first, without ids.
func (r *rig) rows(tenant catalog.TenantID) []catalog.Subscription {
	r.t.Helper()
	var rows []catalog.Subscription
	r.must(r.host.InTx(context.Background(), func(tx *catalog.Tx) error {
		all, err := tx.SettledSubscriptions(context.Background(), tenant)
		for _, s := range all {
			if s.TenantID == tenant {
				rows = append(rows, s)
			}
		}
		return err
	}))
	return rows
}

// only is a tenant's one row.
func (r *rig) only(tenant catalog.TenantID) catalog.Subscription {
	r.t.Helper()
	rows := r.rows(tenant)
	if len(rows) != 1 {
		r.t.Fatalf("%s has %d rows, want 1", tenant, len(rows))
	}
	return rows[0]
}

// tier is a tenant's plan_tier.
func (r *rig) tier(tenant catalog.TenantID) string {
	r.t.Helper()
	row, err := r.host.Tenants.Get(context.Background(), tenant)
	r.must(err)
	return str(row.PlanTier)
}

// entitled says whether a decision at the rig's clock lets the tenant in.
func (r *rig) entitled(tenant catalog.TenantID, cfg billing.Config) bool {
	r.t.Helper()
	facts, err := r.host.GrantFacts(context.Background(), catalog.GrantQuery{User: "u", Tenant: tenant})
	r.must(err)
	rules, err := billing.New(cfg)
	r.must(err)
	parsed := billing.ParseSince(facts.Subscription, facts.PastDueSince)
	return rules.Entitled(r.clock(), &parsed)
}

// webhookRows are the statuses of the rows of one event in core_stripe_webhook_events.
func (r *rig) webhookRows(id string) []string {
	r.t.Helper()
	all, _, err := r.host.WebhookEvents.List(context.Background(), catalog.Page{Limit: 1000})
	r.must(err)
	var found []string
	for _, e := range all {
		if str(e.EventID) == id {
			found = append(found, str(e.Status))
		}
	}
	return found
}

func (r *rig) audits(kind string) (n int) {
	r.t.Helper()
	all, _, err := r.host.AuditLogs.List(context.Background(), catalog.Page{Limit: 1000})
	r.must(err)
	for _, a := range all {
		if str(a.EventType) == kind {
			n++
		}
	}
	return n
}

func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

var errTest = errors.New("made up by a test")
