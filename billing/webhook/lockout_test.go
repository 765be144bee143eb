package webhook

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/catalog"
)

// A tenant that has bought credits a thousand times is still let in when it subscribes, and out when it ends.
func TestAThousandPaymentsHideNoSubscription(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		r.must(r.host.InTx(t.Context(), func(tx *catalog.Tx) error {
			for i := range 1000 {
				id := catalog.StripeID(fmt.Sprintf("cs_%04d", i))
				if err := tx.Stripe.PutWatermark(t.Context(), &catalog.StripeWatermark{
					Object: id, Customer: "cus_1", TenantID: "acme", Status: "completed", UpdatedAt: catalog.Timestamp(start.Add(time.Hour)),
					State: fmt.Sprintf(`{"session":{"ID":%q,"Mode":"payment","PaymentStatus":"paid"}}`, id),
				}); err != nil {
					return err
				}
			}
			return nil
		}))
		r.deliver(event("evt_1", "customer.subscription.created", start, r.acme("active").object(currentShape), nil))
		if !r.entitled("acme", billing.Config{}) || r.tier("acme") != "basic" {
			t.Errorf("a payer is locked out: plan %s", r.tier("acme"))
		}
		r.deliver(event("evt_2", "customer.deleted", at(60), obj{"id": "cus_1", "object": "customer"}, nil))
		if r.entitled("acme", billing.Config{}) || r.tier("acme") != "free" {
			t.Errorf("who does not pay any more is let in: plan %s", r.tier("acme"))
		}
	})
}

// What was kept when the customer was deleted has ended once its tenant is known.
func TestAKeptSubscriptionOfADeletedCustomerEntitlesNobody(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		s := r.acme("active").but(func(s *sub) { s.metadata = r.signed("initech", "cus_1") })
		for _, e := range []obj{
			event("evt_1", "customer.subscription.created", start, s.object(currentShape), nil),
			event("evt_2", "customer.deleted", at(60), obj{"id": "cus_1", "object": "customer"}, nil),
		} {
			if got := r.deliver(e); got != "kept" {
				t.Fatal(got)
			}
		}
		r.must(r.host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: "initech"}))
		r.must(r.ledger.Sweep(t.Context()))
		if r.entitled("initech", billing.Config{}) || str(r.only("initech").Status) != "canceled" {
			t.Errorf("row %s", describe(r.only("initech")))
		}
	})
}

// said is an API that says one thing.
type said struct{ sub ledger.Subscription }

func (s *said) Subscription(context.Context, ledger.StripeID) (ledger.Subscription, error) {
	return s.sub, nil
}

func (s *said) Session(context.Context, ledger.StripeID) (ledger.Session, error) {
	return ledger.Session{}, ledger.ErrGone
}

// A payer whose delay only the API told of has its grace from when it was told, and has it once.
func TestGraceBeginsOnceAndNotBeforeTheDelay(t *testing.T) {
	rules := billing.Config{GraceFrom: "past_due", GracePeriod: new(72 * time.Hour)}
	onBothEngines(t, func(t *testing.T, url string) {
		api := &said{}
		r := newRig(t, url, rigConfig{rules: rules, source: api})
		s := r.acme("active").but(func(s *sub) { s.end = start.AddDate(2, 0, 0) })
		deliver := func(id, kind string, object obj) {
			r.deliver(event(id, kind, r.clock(), object, nil))
		}
		tell := func(status string) {
			s.status = status
			api.sub = fetched(t, event("evt_x", "customer.subscription.updated", start, s.object(currentShape), nil))
		}
		tell("active")
		deliver("evt_1", "customer.subscription.created", s.object(currentShape))
		r.advance(200 * 24 * time.Hour)
		tell("past_due") // and its event is lost
		if _, err := r.ledger.Refresh(t.Context(), "sub_1", "reconcile"); err != nil {
			t.Fatal(err)
		}
		if !r.entitled("acme", rules) {
			t.Error("grace began before the delay: a payer is locked out")
		}
		r.advance(71 * time.Hour)
		deliver("evt_2", "invoice.payment_failed", invoice(currentShape, "in_2", s))
		r.advance(time.Hour)
		if r.entitled("acme", rules) {
			t.Error("grace begins anew with every attempt to collect")
		}
		// Events are forgotten; since when it is late is not.
		r.advance(eventsForgotten)
		r.must(r.ledger.Sweep(t.Context()))
		deliver("evt_3", "customer.subscription.updated", s.object(currentShape))
		if r.entitled("acme", rules) {
			t.Error("grace begins anew once older events are forgotten")
		}
		tell("active")
		deliver("evt_4", "customer.subscription.updated", s.object(currentShape))
		r.advance(24 * time.Hour)
		tell("past_due")
		deliver("evt_5", "customer.subscription.updated", s.object(currentShape))
		if !r.entitled("acme", rules) {
			t.Error("who has paid meanwhile has no grace again")
		}
	})
}

// eventsForgotten is longer than events are remembered.
const eventsForgotten = 120 * 24 * time.Hour

// One tenant, or one object, that cannot be brought in keeps no other from it.
func TestWhatCannotBeMendedKeepsNoOtherFromIt(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		for _, tenant := range []string{"acme", "globex"} {
			s := r.acme("active").but(func(s *sub) {
				s.id, s.customer, s.metadata = "sub_"+tenant, "cus_"+tenant, r.signed(tenant, "cus_"+tenant)
			})
			r.deliver(event("evt_"+tenant, "customer.subscription.created", start, s.object(currentShape), nil))
			r.sets(r.only(catalog.TenantID(tenant)).ID, "canceled")
		}
		kept := r.acme("active").but(func(s *sub) { s.id, s.customer, s.metadata = "sub_kept", "cus_kept", r.signed("initech", "cus_kept") })
		r.deliver(event("evt_kept", "customer.subscription.created", start, kept.object(currentShape), nil))
		r.must(r.host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: "initech"}))
		r.must(r.host.InTx(t.Context(), func(tx *catalog.Tx) error {
			for _, w := range []catalog.StripeWatermark{
				{Object: "sub_acme", Customer: "cus_acme", TenantID: "acme", Status: "active", Entitles: true, State: "broken"},
				{Object: "sub_a", Customer: "cus_a", NamedTenant: "acme", State: "broken"},
			} {
				if err := tx.Stripe.PutWatermark(t.Context(), &w); err != nil {
					return err
				}
			}
			return nil
		}))
		if err := r.ledger.Sweep(t.Context()); err == nil {
			t.Error("nothing is said of what cannot be read")
		}
		if !r.entitled("globex", billing.Config{}) || !r.entitled("initech", billing.Config{}) {
			t.Errorf("locked out because of another: globex %v, initech %v", r.entitled("globex", billing.Config{}), r.entitled("initech", billing.Config{}))
		}
	})
}

// What waits and cannot be claimed is looked at again and again, and not written again and again.
func TestWhatWaitsIsNotWrittenAnew(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db", rigConfig{})
	for i, tenant := range []catalog.TenantID{"acme", "globex"} {
		r.must(r.host.Subscriptions.Insert(t.Context(), &catalog.Subscription{
			TenantID: tenant, StripeCustID: new("cus_1"), StripeSubID: new(fmt.Sprintf("sub_other%d", i)), Status: new("active"),
		}))
	}
	s := r.acme("active").but(func(s *sub) { s.metadata = nil })
	if got := r.deliver(event("evt_1", "customer.subscription.created", start, s.object(currentShape), nil)); got != "kept" {
		t.Fatal(got)
	}
	mark := func() string {
		w, _, err := r.host.Stripe.Watermarks(t.Context(), "sub_1", "")
		r.must(err)
		return w.UpdatedAt
	}
	was := mark()
	r.advance(time.Minute)
	r.must(r.ledger.Sweep(t.Context()))
	if now := mark(); now != was {
		t.Errorf("written at %s", now)
	}
}

// A tenant that is gone gets no rows any more, and the next one of its id neither pays nor is paid for by it.
func TestATenantThatIsGoneGetsNoRows(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		r.fhsaas("acme", "sub_1", "active", start) // its own checkout: nothing is signed
		s := r.acme("active").but(func(s *sub) { s.metadata = nil })
		if got := r.deliver(event("evt_1", "customer.subscription.created", start, s.object(currentShape), nil)); got != "processed" {
			t.Fatal(got)
		}
		r.must(r.host.Subscriptions.Delete(t.Context(), r.only("acme").ID))
		r.must(r.host.Tenants.Delete(t.Context(), "acme"))
		r.must(r.ledger.Sweep(t.Context()))
		if rows := r.rows("acme"); len(rows) != 0 {
			t.Errorf("swept in: %s", describe(rows[0]))
		}
		if got := r.deliver(event("evt_2", "customer.subscription.updated", at(60), s.object(currentShape), obj{})); got != "kept" || len(r.rows("acme")) != 0 {
			t.Errorf("%s, %d rows", got, len(r.rows("acme")))
		}
		r.must(r.host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: "acme"}))
		r.must(r.ledger.Sweep(t.Context()))
		if r.entitled("acme", billing.Config{}) {
			t.Error("the next one of its id is paid for by it")
		}
	})
}
