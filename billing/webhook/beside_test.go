package webhook

import (
	"fmt"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/catalog"
)

// fhsaas inserts a row as fh-saas's own handler does: whose it is it takes from unsigned metadata, and created_at is its now.
func (r *rig) fhsaas(tenant catalog.TenantID, subID, status string, created time.Time) catalog.SubscriptionID {
	r.t.Helper()
	row := &catalog.Subscription{
		TenantID: tenant, StripeSubID: &subID, StripeCustID: new("cus_1"), PlanTier: new("monthly"), Status: &status,
		CurrentPeriodEnd: new(catalog.Timestamp(start.AddDate(0, 1, 0))), CreatedAt: new(catalog.Timestamp(created)),
	}
	r.must(r.host.Subscriptions.Insert(r.t.Context(), row))
	return row.ID
}

func (r *rig) sets(id catalog.SubscriptionID, status string) {
	r.t.Helper()
	_, err := r.host.Subscriptions.Change(r.t.Context(), id, func(row *catalog.Subscription) error {
		row.Status = &status
		return nil
	})
	r.must(err)
}

func TestRowsOfAnotherProgramFollowOurEventsToo(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		s := r.acme("active")
		r.fhsaas("acme", "sub_1", "active", at(90))
		r.fhsaas("acme", "sub_1", "incomplete", at(95)) // two of its threads
		r.deliver(event("evt_1", "customer.subscription.created", start, s.object(currentShape), nil))
		if rows := r.rows("acme"); len(rows) != 2 || !r.entitled("acme", billing.Config{}) {
			t.Fatalf("%d rows; a payer is locked out", len(rows))
		}
		r.fhsaas("acme", "sub_1", "active", at(99)) // and one more, after us
		r.deliver(event("evt_2", "customer.subscription.deleted", at(100), s.but(func(s *sub) { s.status = "canceled" }).object(currentShape), nil))
		for _, row := range r.rows("acme") {
			if str(row.Status) != "canceled" {
				t.Errorf("row %s", describe(row))
			}
		}
		if r.entitled("acme", billing.Config{}) || r.tier("acme") != "free" {
			t.Error("who does not pay gets in")
		}
	})
}

func TestWhatAnotherProgramWritesPastUsIsPutRight(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		s := r.acme("active")
		r.deliver(event("evt_1", "customer.subscription.created", start, s.object(currentShape), nil))
		// A stale `incomplete` of the same subscription, inserted after ours, is the newest row.
		stale := r.fhsaas("acme", "sub_1", "incomplete", at(50))
		r.must(r.ledger.Sweep(t.Context()))
		if !r.entitled("acme", billing.Config{}) {
			t.Error("a payer is locked out")
		}
		// A canceled row of a subscription that we never heard of is newer than the one that pays.
		r.fhsaas("acme", "sub_0", "canceled", at(70))
		r.must(r.ledger.Sweep(t.Context()))
		if !r.entitled("acme", billing.Config{}) {
			t.Error("a payer is locked out by another subscription's row")
		}
		r.deliver(event("evt_2", "customer.subscription.deleted", at(100), s.but(func(s *sub) { s.status = "canceled" }).object(currentShape), nil))
		// fh-saas handles a late invoice.payment_succeeded: it sets active.
		r.sets(stale, "active")
		r.must(r.ledger.Sweep(t.Context()))
		if r.entitled("acme", billing.Config{}) || r.tier("acme") != "free" {
			t.Error("who does not pay gets in")
		}
		// And inserts the subscription for another tenant, as unsigned metadata told it.
		r.fhsaas("globex", "sub_1", "active", at(130))
		r.must(r.ledger.Sweep(t.Context()))
		if r.entitled("globex", billing.Config{}) {
			t.Error("another tenant gets in by it")
		}
	})
}

// fh-saas's handler of an update reads the period's end where current API versions do not have it, and the plan from metadata
// of its own: what it writes locks a late payer out before its grace ends, and takes a plan's features away.
func TestPeriodAndPlanThatAnotherProgramWritesPastUsArePutRight(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		late := r.acme("past_due").but(func(s *sub) { s.price = "price_pro_m" })
		r.deliver(event("evt_1", "customer.subscription.updated", start, late.object(currentShape), obj{"status": "active"}))
		upserts := func(end *string) {
			_, err := r.host.Subscriptions.Change(t.Context(), r.only("acme").ID, func(row *catalog.Subscription) error {
				row.PlanTier, row.CurrentPeriodEnd = new("monthly"), end
				return nil
			})
			r.must(err)
			r.must(r.ledger.Sweep(t.Context()))
			if row := r.only("acme"); str(row.PlanTier) != "pro" || str(row.CurrentPeriodEnd) != "2026-07-01T12:00:00" {
				t.Errorf("row %s", describe(row))
			}
		}
		upserts(nil)
		if !r.entitled("acme", billing.Config{}) {
			t.Error("a payer in grace is locked out")
		}
		upserts(new("2036-07-01T12:00:00"))
		r.advance(40 * 24 * time.Hour)
		if r.entitled("acme", billing.Config{}) {
			t.Error("who does not pay gets in for ten years")
		}
	})
}

func TestWhenOneSubscriptionEndsTheOtherBecomesTheNewest(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		first := r.acme("active").but(func(s *sub) { s.price = "price_pro_m" })
		second := r.acme("active").but(func(s *sub) { s.id, s.created = "sub_2", at(60) })
		r.deliver(event("evt_1", "customer.subscription.created", start, first.object(currentShape), nil))
		r.deliver(event("evt_2", "customer.subscription.created", at(60), second.object(currentShape), nil))
		if r.tier("acme") != "basic" {
			t.Errorf("the newest is basic, the tenant's plan %s", r.tier("acme"))
		}
		r.deliver(event("evt_3", "customer.subscription.deleted", at(100), second.but(func(s *sub) { s.status = "canceled" }).object(currentShape), nil))
		if !r.entitled("acme", billing.Config{}) || r.tier("acme") != "pro" {
			t.Errorf("entitled %v, plan %s", r.entitled("acme", billing.Config{}), r.tier("acme"))
		}
		for _, row := range r.rows("acme") {
			if str(row.StripeSubID) == "sub_1" && str(row.CreatedAt) != "2026-06-01T12:01:40" {
				t.Errorf("created_at %s is not the event's time", str(row.CreatedAt))
			}
		}
	})
}

// The clock ends a late payment's grace without any event.
func TestWhatTheClockEndsIsFollowed(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		rules := billing.Config{GraceFrom: "past_due", GracePeriod: new(time.Hour)}
		r := newRig(t, url, rigConfig{rules: rules})
		late := r.acme("past_due").but(func(s *sub) { s.price = "price_pro_m" })
		r.deliver(event("evt_1", "customer.subscription.updated", start, late.object(currentShape), obj{"status": "active"}))
		if !r.entitled("acme", rules) || r.tier("acme") != "pro" {
			t.Fatalf("in grace: %v, %s", r.entitled("acme", rules), r.tier("acme"))
		}
		r.advance(time.Hour)
		if r.entitled("acme", rules) {
			t.Error("the period's end counts")
		}
		r.must(r.ledger.Sweep(t.Context()))
		if r.tier("acme") != "free" {
			t.Errorf("plan %s", r.tier("acme"))
		}
		// With another one, the tenant is at no moment without.
		other := r.acme("active").but(func(s *sub) {
			s.id, s.customer, s.created, s.metadata = "sub_2", "cus_2", at(-60), r.signed("globex", "cus_2")
		})
		late = late.but(func(s *sub) { s.id, s.customer, s.metadata = "sub_3", "cus_2", r.signed("globex", "cus_2") })
		r.deliver(event("evt_2", "customer.subscription.created", at(-60), other.object(currentShape), nil))
		r.deliver(event("evt_3", "customer.subscription.updated", at(3600), late.object(currentShape), obj{"status": "active"}))
		for _, step := range []time.Duration{58*time.Minute + 30*time.Second, time.Minute, 31 * time.Second, time.Hour} {
			r.advance(step)
			if !r.entitled("globex", rules) {
				t.Fatal("locked out although one subscription pays")
			}
			r.must(r.ledger.Sweep(t.Context()))
		}
		if r.tier("globex") != "basic" {
			t.Errorf("plan %s", r.tier("globex"))
		}
	})
}

func TestSinceWhenItIsLateDoesNotDependOnTheOrder(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db", rigConfig{})
	for n, order := range permutations(4) {
		id, tenant := fmt.Sprintf("sub_%d", n), catalog.TenantID(fmt.Sprintf("t%d", n))
		r.must(r.host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: tenant}))
		s := r.acme("active").but(func(s *sub) { s.id, s.customer, s.metadata = id, "cus_"+id, r.signed(string(tenant), "cus_"+id) })
		late := s.but(func(s *sub) { s.status = "past_due" })
		events := []obj{
			event("evt_a"+id, "customer.subscription.created", start, s.object(currentShape), nil),
			event("evt_b"+id, "customer.subscription.updated", at(60), late.object(currentShape), obj{"status": "active"}),
			event("evt_c"+id, "customer.subscription.updated", at(120), late.object(currentShape), obj{}),
			event("evt_d"+id, "customer.subscription.updated", at(180), late.object(currentShape), obj{}),
		}
		for _, i := range order {
			r.deliver(events[i])
		}
		facts, err := r.host.GrantFacts(t.Context(), catalog.GrantQuery{User: "u", Tenant: tenant})
		r.must(err)
		if facts.PastDueSince != "2026-06-01T12:01:00" {
			t.Errorf("order %v: since %q", order, facts.PastDueSince)
		}
	}
}

func TestAnOperatorsExemptionStays(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db", rigConfig{rules: billing.Config{ExemptPlans: []string{"internal"}}})
	_, err := r.host.Tenants.Change(t.Context(), "acme", func(row *catalog.TenantCatalog) error {
		row.PlanTier = new("internal")
		return nil
	})
	r.must(err)
	r.deliver(event("evt_1", "customer.subscription.created", start, r.acme("active").object(currentShape), nil))
	r.deliver(event("evt_2", "customer.subscription.deleted", at(9), r.acme("canceled").object(currentShape), nil))
	if r.tier("acme") != "internal" {
		t.Errorf("plan %s: a purchase took an exemption away", r.tier("acme"))
	}
}
