package webhook

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/catalog"
)

func TestASubscriptionsLifeIsWrittenAndAudited(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		s := r.acme("active")
		if got := r.deliver(event("evt_1", "customer.subscription.created", start, s.object(currentShape), nil)); got != "processed" {
			t.Fatalf("outcome %q", got)
		}
		row := r.only("acme")
		want := catalog.Subscription{
			ID: row.ID, TenantID: "acme", StripeSubID: new("sub_1"), StripeCustID: new("cus_1"), PlanTier: new("basic"), Status: new("active"),
			CurrentPeriodEnd: new("2026-07-01T12:00:00"), CancelAtPeriodEnd: new(false), PaymentType: new("subscription"),
			AmountCents: new(int64(1900)), CreatedAt: new("2026-06-01T12:00:00"),
		}
		if describe(row) != describe(want) {
			t.Errorf("row\n%s\nwant\n%s", describe(row), describe(want))
		}
		if r.tier("acme") != "basic" || r.tier("globex") != "free" {
			t.Errorf("plan tiers %q, %q", r.tier("acme"), r.tier("globex"))
		}
		late := s.but(func(s *sub) { s.status, s.end, s.invoice = "past_due", start.AddDate(0, 2, 0), "in_2" })
		r.deliver(event("evt_2", "customer.subscription.updated", at(60), late.object(oldShape), obj{"status": "active"}))
		if row := r.only("acme"); str(row.Status) != "past_due" || str(row.CurrentPeriodEnd) != "2026-08-01T12:00:00" {
			t.Errorf("row %s", describe(row))
		}
		r.deliver(event("evt_3", "invoice.paid", at(120), invoice(currentShape, "in_2", late), nil))
		if row := r.only("acme"); str(row.Status) != "active" {
			t.Errorf("paid, but the row says %s", str(row.Status))
		}
		up := late.but(func(s *sub) { s.status, s.price = "active", "price_pro_y" })
		r.deliver(event("evt_4", "customer.subscription.updated", at(180), up.object(currentShape), obj{"plan": obj{"id": "price_basic_m"}}))
		if row := r.only("acme"); str(row.PlanTier) != "pro" || r.tier("acme") != "pro" {
			t.Errorf("upgraded: row %s, tenant %s", str(row.PlanTier), r.tier("acme"))
		}
		end := up.but(func(s *sub) { s.status = "canceled" })
		r.deliver(event("evt_5", "customer.subscription.deleted", at(240), end.object(currentShape), nil))
		if row := r.only("acme"); str(row.Status) != "canceled" || r.tier("acme") != "free" || r.entitled("acme", billing.Config{}) {
			t.Errorf("canceled: row %s, tenant %s", str(row.Status), r.tier("acme"))
		}
		for i := 1; i <= 5; i++ {
			if got := r.webhookRows("evt_" + string(rune('0'+i))); !slices.Equal(got, []string{"processed"}) {
				t.Errorf("rows of event %d: %q", i, got)
			}
		}
		if n := r.audits("subscription.created"); n != 1 {
			t.Errorf("%d rows say subscription.created", n)
		}
		if n := r.audits("subscription.updated"); n != 4 {
			t.Errorf("%d rows say subscription.updated, want 4", n)
		}
		page, _, err := r.host.AuditLogs.List(t.Context(), catalog.Page{Limit: 100})
		r.must(err)
		for _, a := range page {
			if kind := str(a.EventType); strings.HasPrefix(kind, "subscription.") && str(a.ActorUserID) != "stripe" {
				t.Errorf("%s by %s", kind, str(a.ActorUserID))
			}
		}
	})
}

func TestNothingOfThePayloadIsKeptThatIsAboutPeople(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db", rigConfig{})
	s := r.acme("active")
	r.deliver(event("evt_1", "customer.subscription.created", start, s.object(currentShape).with(obj{"description": "ada@example.com"}), nil))
	e, err := r.host.Stripe.Event(t.Context(), "evt_1")
	r.must(err)
	marks, err := r.host.Stripe.WatermarksOfTenant(t.Context(), "acme")
	r.must(err)
	rows, _, err := r.host.WebhookEvents.List(t.Context(), catalog.Page{Limit: 10})
	r.must(err)
	for _, text := range []string{e.Facts, marks[0].State, str(rows[0].PayloadJSON), r.log.String()} {
		if strings.Contains(text, "ada@") {
			t.Errorf("kept: %s", text)
		}
	}
}

func TestAnEventIsAppliedOnceAndItsDuplicatesSaySo(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		e := event("evt_1", "customer.subscription.created", start, r.acme("active").object(currentShape), nil)
		if got := r.deliver(e); got != "processed" {
			t.Fatal(got)
		}
		for range 3 {
			if got := r.deliver(e); got != "duplicate" {
				t.Errorf("again: %q", got)
			}
		}
		if got := r.webhookRows("evt_1"); len(got) != 1 || len(r.rows("acme")) != 1 {
			t.Errorf("%d event rows, %d subscription rows", len(got), len(r.rows("acme")))
		}
		// A row that fh-saas wrote for the same event says nothing about our effect.
		r.must(r.host.WebhookEvents.Insert(t.Context(), &catalog.StripeWebhookEvent{EventID: new("evt_2"), Status: new("processed")}))
		end := event("evt_2", "customer.subscription.deleted", at(9), r.acme("canceled").object(currentShape), nil)
		if got := r.deliver(end); got != "processed" || str(r.only("acme").Status) != "canceled" {
			t.Errorf("beside another program's row: %q, %s", got, str(r.only("acme").Status))
		}
	})
}

func TestNeverBackInTimeAndNeverAliveAgain(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		s := r.acme("active")
		r.deliver(event("evt_3", "customer.subscription.updated", at(30), s.but(func(s *sub) { s.price = "price_pro_m" }).object(currentShape), obj{}))
		if got := r.deliver(event("evt_2", "customer.subscription.updated", at(20), s.but(func(s *sub) { s.status = "past_due" }).object(currentShape), obj{})); got != "skipped_out_of_order" {
			t.Errorf("an older update: %q", got)
		}
		if row := r.only("acme"); str(row.Status) != "active" || str(row.PlanTier) != "pro" {
			t.Errorf("row %s", describe(row))
		}
		r.deliver(event("evt_4", "customer.subscription.deleted", at(40), s.but(func(s *sub) { s.status = "canceled" }).object(oldShape), nil))
		for i, when := range []int{10, 40, 50} {
			id := "evt_a" + string(rune('0'+i))
			if got := r.deliver(event(id, "customer.subscription.updated", at(when), s.object(currentShape), obj{})); got != "skipped_out_of_order" {
				t.Errorf("active at %d: %q", when, got)
			}
			if got := r.webhookRows(id); !slices.Equal(got, []string{"skipped_out_of_order"}) {
				t.Errorf("its rows: %q", got)
			}
		}
		r.deliver(event("evt_5", "invoice.paid", at(60), invoice(oldShape, "in_1", s), nil))
		if row := r.only("acme"); str(row.Status) != "canceled" || r.tier("acme") != "free" {
			t.Errorf("revived: %s, %s", str(row.Status), r.tier("acme"))
		}
	})
}

func TestASubscriptionThatNeverEntitledGetsNoRow(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		s := r.acme("incomplete")
		r.deliver(event("evt_1", "customer.subscription.created", start, s.object(currentShape), nil))
		r.deliver(event("evt_2", "customer.subscription.updated", at(9), s.but(func(s *sub) { s.status = "incomplete_expired" }).object(currentShape), obj{"status": "incomplete"}))
		if rows := r.rows("acme"); len(rows) != 0 || r.tier("acme") != "free" {
			t.Errorf("%d rows, %s", len(rows), r.tier("acme"))
		}
		// One whose trial ended unpaid did entitle.
		trial := s.but(func(s *sub) {
			s.id, s.status = "sub_2", "paused"
			s.more = obj{"trial_start": start.Add(-time.Hour).Unix(), "trial_end": start.Unix()}
		})
		r.deliver(event("evt_3", "customer.subscription.updated", at(19), trial.object(currentShape), nil))
		if row := r.only("acme"); str(row.Status) != "paused" || str(row.TrialEnd) != "2026-06-01T12:00:00" {
			t.Errorf("row %s", describe(row))
		}
		// And one that is paid in the end.
		r.deliver(event("evt_4", "customer.subscription.created", start, s.but(func(s *sub) { s.id, s.invoice = "sub_3", "in_3" }).object(currentShape), nil))
		r.deliver(event("evt_5", "invoice.paid", at(1), invoice(currentShape, "in_3", s.but(func(s *sub) { s.id = "sub_3" })), nil))
		if !r.entitled("acme", billing.Config{}) {
			t.Error("who paid is locked out")
		}
	})
}

func TestAnEventOfNobodyIsKeptAndAppliedOnceItsTenantIsThere(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		s := r.acme("active").but(func(s *sub) { s.metadata = r.signed("late", "cus_1") })
		e := event("evt_1", "customer.subscription.created", start, s.object(currentShape), nil)
		if got := r.deliver(e); got != "kept" {
			t.Fatalf("outcome %q", got)
		}
		r.must(r.ledger.Sweep(t.Context()))
		if got := r.deliver(e); got != "duplicate" || len(r.webhookRows("evt_1")) != 0 || len(r.rows("late")) != 0 {
			t.Errorf("before there is a tenant: %q, %d rows", got, len(r.rows("late")))
		}
		r.must(r.host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: "late"}))
		r.must(r.ledger.Sweep(t.Context()))
		if row := r.only("late"); str(row.Status) != "active" || r.tier("late") != "basic" {
			t.Errorf("row %s, tenant %s", describe(row), r.tier("late"))
		}
		if got := r.webhookRows("evt_1"); !slices.Equal(got, []string{"processed"}) || r.deliver(e) != "duplicate" {
			t.Errorf("rows of the event: %q", got)
		}
	})
}

func TestAKeptEventFindsItsTenantByRowsAndByLaterEvents(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		unsigned := r.acme("active").but(func(s *sub) { s.metadata = nil })
		if got := r.deliver(event("evt_1", "customer.subscription.created", start, unsigned.object(currentShape), nil)); got != "kept" {
			t.Fatal(got)
		}
		// fh-saas writes the row: the tenant is on record now.
		r.must(r.host.Subscriptions.Insert(t.Context(), &catalog.Subscription{TenantID: "globex", StripeSubID: new("sub_1"), Status: new("incomplete")}))
		r.must(r.ledger.Sweep(t.Context()))
		if row := r.only("globex"); str(row.Status) != "active" || r.tier("globex") != "basic" {
			t.Errorf("row %s", describe(row))
		}
		// The customer is known by that: its next subscription is the same tenant's.
		second := unsigned.but(func(s *sub) { s.id = "sub_2" })
		if got := r.deliver(event("evt_2", "customer.subscription.created", at(5), second.object(currentShape), nil)); got != "processed" || len(r.rows("globex")) != 2 {
			t.Errorf("of a known customer: %q, %d rows", got, len(r.rows("globex")))
		}
		// A session that our checkout signed says whose a kept subscription is.
		third := unsigned.but(func(s *sub) { s.id, s.customer = "sub_3", "cus_3" })
		if got := r.deliver(event("evt_3", "customer.subscription.created", at(6), third.object(currentShape), nil)); got != "kept" {
			t.Fatal(got)
		}
		session := obj{"id": "cs_3", "object": "checkout.session", "mode": "subscription", "status": "complete", "payment_status": "paid", "customer": "cus_3", "subscription": "sub_3", "created": at(1).Unix(), "metadata": r.signed("acme", "cus_3")}
		if got := r.deliver(event("evt_4", "checkout.session.completed", at(7), session, nil)); got != "processed" || str(r.only("acme").StripeSubID) != "sub_3" {
			t.Errorf("the session: %q", got)
		}
		if got := r.webhookRows("evt_3"); !slices.Equal(got, []string{"processed"}) {
			t.Errorf("rows of the kept event: %q", got)
		}
	})
}

// An operator who makes the subscription in Stripe's dashboard, for the customer that our checkout made, signs nothing.
func TestASubscriptionOfTheCustomerThatWasMadeForATenantIsThatTenants(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		made := func(tenant catalog.TenantID) {
			_, err := r.host.ChangeStripeCustomer(t.Context(), tenant, func(_ *catalog.Tx, row *catalog.StripeCustomer) error {
				row.CustomerID, row.CreationKey = "cus_1", "key"
				return nil
			})
			r.must(err)
		}
		unsigned := r.acme("active").but(func(s *sub) { s.metadata = nil })
		if got := r.deliver(event("evt_1", "customer.subscription.created", start, unsigned.object(currentShape), nil)); got != "kept" {
			t.Fatal(got)
		}
		made("globex")
		r.must(r.ledger.Sweep(t.Context()))
		if row := r.only("globex"); str(row.Status) != "active" || r.tier("globex") != "basic" {
			t.Errorf("row %s", describe(row))
		}
		second := unsigned.but(func(s *sub) { s.id = "sub_2" })
		if got := r.deliver(event("evt_2", "customer.subscription.created", at(5), second.object(currentShape), nil)); got != "processed" || len(r.rows("globex")) != 2 {
			t.Errorf("of a known customer: %q, %d rows", got, len(r.rows("globex")))
		}
		// A customer that two tenants are said to pay as is nobody's.
		made("acme")
		third := unsigned.but(func(s *sub) { s.id = "sub_3" })
		if got := r.deliver(event("evt_3", "customer.subscription.created", at(6), third.object(currentShape), nil)); got != "kept" || len(r.rows("acme")) != 0 {
			t.Errorf("of two tenants' customer: %q", got)
		}
	})
}

func TestAOneTimePaymentIsARowThatEntitlesNobody(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		session := obj{"id": "cs_1", "object": "checkout.session", "mode": "payment", "status": "complete", "payment_status": "unpaid", "customer": "cus_1", "payment_intent": "pi_1", "amount_total": 4900, "currency": "usd", "created": start.Unix(), "metadata": r.signed("acme", "cus_1")}
		if got := r.deliver(event("evt_1", "checkout.session.completed", start, session, nil)); got != "processed" || len(r.rows("acme")) != 0 {
			t.Fatalf("not paid yet: %q, %d rows", got, len(r.rows("acme")))
		}
		session = session.with(obj{"payment_status": "paid"})
		if got := r.deliver(event("evt_2", "checkout.session.async_payment_succeeded", at(60), session, nil)); got != "processed" {
			t.Fatal(got)
		}
		row := r.only("acme")
		if str(row.PaymentType) != "one_time" || str(row.StripeSubID) != "cs_1" || str(row.Status) != "completed" || *row.AmountCents != 4900 || str(row.PlanTier) != "one_time" {
			t.Errorf("row %s", describe(row))
		}
		if r.entitled("acme", billing.Config{}) || r.tier("acme") != "free" {
			t.Error("a one-time payment entitles")
		}
	})
}

func TestADeletedCustomerPaysNothingMore(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url, rigConfig{})
		s := r.acme("active")
		r.deliver(event("evt_1", "customer.subscription.created", start, s.object(currentShape), nil))
		gone := event("evt_2", "customer.deleted", at(5), obj{"id": "cus_1", "object": "customer"}, nil)
		if got := r.deliver(gone); got != "processed" || str(r.only("acme").Status) != "canceled" || r.tier("acme") != "free" {
			t.Errorf("%q, %s, %s", got, str(r.only("acme").Status), r.tier("acme"))
		}
		if r.deliver(gone) != "duplicate" {
			t.Error("applied twice")
		}
		r.deliver(event("evt_3", "customer.subscription.updated", at(4), s.object(currentShape), obj{}))
		if str(r.only("acme").Status) != "canceled" {
			t.Error("revived")
		}
		if got := r.deliver(event("evt_4", "customer.deleted", at(5), obj{"id": "cus_9", "object": "customer"}, nil)); got != "kept" {
			t.Errorf("of a customer that nobody knows: %q", got)
		}
	})
}

func TestOtherEventsAreIgnoredAndLeaveNoTrace(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db", rigConfig{})
	for _, kind := range []string{"charge.succeeded", "customer.updated", "invoice.created", "v1.something", "customer.subscription"} {
		code, got := r.post(event("evt_"+kind, kind, start, obj{"id": "x_1"}, nil).json())
		if code != http.StatusOK || got != "ignored" || len(r.webhookRows("evt_"+kind)) != 0 {
			t.Errorf("%s: %d %q", kind, code, got)
		}
	}
	noSubscription := obj{"id": "in_1", "object": "invoice", "customer": "cus_1"}
	if got := r.deliver(event("evt_1", "invoice.paid", start, noSubscription, nil)); got != "ignored" {
		t.Errorf("an invoice of no subscription: %q", got)
	}
}

func describe(s catalog.Subscription) string {
	amount, flag := "NULL", "NULL"
	if s.AmountCents != nil {
		amount = time.Duration(*s.AmountCents).String()
	}
	if s.CancelAtPeriodEnd != nil && *s.CancelAtPeriodEnd {
		flag = "true"
	} else if s.CancelAtPeriodEnd != nil {
		flag = "false"
	}
	return strings.Join([]string{
		string(s.TenantID), str(s.StripeSubID), str(s.StripeCustID), str(s.PlanTier), str(s.Status), str(s.CurrentPeriodEnd), flag,
		str(s.PaymentType), amount, str(s.ProductName), str(s.TrialEnd), str(s.CreatedAt),
	}, " ")
}
