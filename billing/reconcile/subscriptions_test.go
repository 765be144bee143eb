package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/billing/webhook"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/stripefake"
)

// brokenLedger cannot repair one subscription.
type brokenLedger struct {
	Ledger
	id ledger.StripeID
}

func (l brokenLedger) Preview(ctx context.Context, sub ledger.Subscription) (ledger.Change, error) {
	if sub.ID == l.id {
		return ledger.Change{}, errors.New("cannot be repaired")
	}
	return l.Ledger.Preview(ctx, sub)
}

func (r *rig) deps() Deps {
	r.t.Helper()
	rules, err := billing.New(billing.Config{})
	if err != nil {
		r.t.Fatal(err)
	}
	return Deps{
		Host: r.host, Stripe: r.api, Clock: r.Now, Parse: webhook.Parse,
		Ledger: func(source ledger.Source) Ledger {
			return ledger.New(ledger.Config{Rules: rules, Mode: r.api.Mode()}, ledger.Deps{Host: r.host, Source: source, Signer: r.signer, Clock: r.Now})
		},
	}
}

func (r *rig) run(dryRun bool) *Report {
	r.t.Helper()
	report, err := Run(r.t.Context(), Config{DryRun: dryRun}, r.deps())
	if err != nil {
		r.t.Fatal(err)
	}
	return report
}

// said is a report's changes, as "sub column=value", sorted.
func said(report *Report) []string {
	out := []string{}
	for _, c := range report.Changes {
		for _, e := range c.Edits {
			out = append(out, fmt.Sprintf("%s %s=%v", c.Subscription, e.Column, e.To))
		}
	}
	slices.Sort(out)
	return out
}

// missed are the events that a report names, sorted.
func missed(report *Report) []string {
	var out []string
	for _, m := range report.Missed {
		out = append(out, string(m.Event))
	}
	slices.Sort(out)
	return out
}

// subscribe makes a tenant with a subscription that is recorded.
func (r *rig) subscribe(tenant string, price string) string {
	r.t.Helper()
	if err := r.host.Tenants.Insert(r.t.Context(), &catalog.TenantCatalog{ID: catalog.TenantID(tenant), Name: new(tenant)}); err != nil {
		r.t.Fatal(err)
	}
	customer := r.AddCustomer(stripefake.Customer{Card: stripefake.CardPays})
	return r.AddSubscription(stripefake.Subscribe{Customer: customer, Price: price, Metadata: map[string]string{
		"tenant_id": tenant, "tenant_sig": r.signer.Sign(catalog.TenantID(tenant), customer),
	}})
}

func (r *rig) price() string {
	return r.AddPrice(stripefake.Price{Product: r.AddProduct(stripefake.Product{Name: "Pro"}), Cents: 4900})
}

// equal reports whether every recorded subscription stands as the account has it.
func (r *rig) equal() {
	r.t.Helper()
	rows, _, err := r.host.Subscriptions.List(r.t.Context(), catalog.Page{Limit: 1000})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, row := range rows {
		if row.StripeSubID == nil || !strings.HasPrefix(*row.StripeSubID, "sub_") || *row.PaymentType != "subscription" {
			continue
		}
		want := "canceled"
		if o := r.Get(*row.StripeSubID); o != nil {
			want = fmt.Sprint(o["status"])
		}
		if got := deref(row.Status); got != want {
			r.t.Errorf("%s: %s, Stripe has %s", *row.StripeSubID, got, want)
		}
	}
}

// Show 8: a week without events.
func TestAWeekWithoutEventsIsRepaired(t *testing.T) {
	engines(t, func(t *testing.T, r *rig) {
		price := r.price()
		subs := map[string]string{}
		for _, name := range []string{"renewed", "declined", "canceled", "same"} {
			subs[name] = r.subscribe(name, price)
		}
		subs["unowned"] = r.AddSubscription(stripefake.Subscribe{Customer: r.AddCustomer(stripefake.Customer{Card: stripefake.CardPays}), Price: price})
		if got := len(r.run(false).Changes); got != 4 {
			t.Fatalf("%d changes at first", got)
		}
		for _, row := range []catalog.Subscription{
			{ID: "trial", TenantID: "same", Status: new("trialing")},
			{ID: "manual", TenantID: "same", Status: new("active"), StripeSubID: new("by hand")},
			{ID: "bought", TenantID: "same", Status: new("active"), StripeSubID: new("sub_x"), PaymentType: new("one_time")},
		} {
			if err := r.host.Subscriptions.Insert(t.Context(), &row); err != nil {
				t.Fatal(err)
			}
		}
		// The week begins a day before the periods end; that of "same" is a year.
		r.SwitchPrice(subs["same"], r.AddPrice(stripefake.Price{Product: r.AddProduct(stripefake.Product{Name: "Year"}), Cents: 1, Interval: "year"}))
		r.run(false)
		r.Advance(27 * 24 * time.Hour)
		r.run(false)
		start := r.Now()
		r.SetCard(fmt.Sprint(r.Get(subs["declined"])["customer"]), stripefake.CardDeclines)
		r.Advance(7 * 24 * time.Hour)
		r.Cancel(subs["canceled"])
		late := r.subscribe("late", price)

		before := r.dump()
		dry := r.run(true)
		if r.dump() != before {
			t.Fatal("a dry run wrote")
		}
		named := map[ledger.StripeID]bool{}
		for _, c := range dry.Changes {
			named[c.Subscription] = true
		}
		for name, want := range map[string]bool{"renewed": true, "declined": true, "canceled": true, "same": false, "unowned": false} {
			if named[ledger.StripeID(subs[name])] != want {
				t.Errorf("%s is named: %v", name, !want)
			}
		}
		if !named[ledger.StripeID(late)] || len(named) != 4 || dry.Looked != 6 || dry.Unowned != 1 {
			t.Errorf("%v, %d looked at, %d unowned", named, dry.Looked, dry.Unowned)
		}
		var week []string // what was sent in it, and what of it matters
		for _, e := range r.All("event") {
			at, err := e["created"].(json.Number).Int64()
			if err != nil {
				t.Fatal(err)
			}
			if kind := fmt.Sprint(e["type"]); time.Unix(at, 0).After(start) && slices.Contains(eventTypes(), kind) {
				week = append(week, fmt.Sprint(e["id"]))
			}
		}
		slices.Sort(week)
		if got := missed(dry); !slices.Equal(got, week) {
			t.Errorf("events missed: %q, want %q", got, week)
		}
		done := r.run(false)
		if got, want := said(done), said(dry); !slices.Equal(got, want) {
			t.Errorf("done\n%q\nsaid\n%q", got, want)
		}
		if got := missed(done); !slices.Equal(got, week) {
			t.Errorf("events applied: %q, want %q", got, week)
		}
		r.equal()
		after := r.dump()
		audit := len(r.audited(""))
		if again := r.run(false); len(again.Changes) != 0 || len(again.Missed) != 0 || r.dump() != after || len(r.audited("")) != audit {
			t.Errorf("a second time: %q, %v", said(again), again.Missed)
		}
		for _, id := range []catalog.SubscriptionID{"trial", "manual", "bought"} {
			if row, err := r.host.Subscriptions.Get(t.Context(), id); err != nil || *row.Status == "canceled" {
				t.Errorf("%s: %v, %v", id, row, err)
			}
		}
	})
}

func TestWhatStripeDoesNotHaveAnyMoreEnds(t *testing.T) {
	engines(t, func(t *testing.T, r *rig) {
		price := r.price()
		r.subscribe("acme", price)
		r.run(false)
		if err := r.host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: "haunted"}); err != nil {
			t.Fatal(err)
		}
		if err := r.host.Subscriptions.Insert(t.Context(), &catalog.Subscription{
			ID: "ghost", TenantID: "haunted", StripeSubID: new("sub_ghost"), Status: new("active"), CurrentPeriodEnd: new("2027-01-01T00:00:00"),
		}); err != nil {
			t.Fatal(err)
		}
		dry := said(r.run(true))
		if len(dry) != 1 || dry[0] != "sub_ghost status=canceled" {
			t.Errorf("a dry run says %q", dry)
		}
		if got := said(r.run(false)); !slices.Equal(got, dry) {
			t.Errorf("%q", got)
		}
		if row, err := r.host.Subscriptions.Get(t.Context(), "ghost"); err != nil || *row.Status != "canceled" || *row.CurrentPeriodEnd != "2027-01-01T00:00:00" {
			t.Errorf("%s, %v", jsonOf(t, row), err)
		}
		if got := said(r.run(false)); len(got) != 0 {
			t.Errorf("a second time: %q", got)
		}
	})
}

func TestAKeyOfAnotherAccountOrModeChangesNothing(t *testing.T) {
	sqlite(t, func(t *testing.T, r *rig) {
		r.subscribe("acme", r.price())
		r.run(false)
		before := r.dump()
		deps := r.deps()
		deps.Stripe = r.client("sk_live_fake")
		if _, err := Run(t.Context(), Config{}, deps); err == nil || !strings.Contains(err.Error(), "other mode") {
			t.Errorf("of the other mode: %v", err)
		}
		other := newRig(t, "sqlite:"+t.TempDir()+"/other.db")
		other.price()
		deps.Stripe = other.api
		if _, err := Run(t.Context(), Config{}, deps); err == nil || !strings.Contains(err.Error(), "another account") {
			t.Errorf("of another account: %v", err)
		}
		deps.Stripe = r.client("sk_test_wrong")
		if _, err := Run(t.Context(), Config{}, deps); err == nil || !strings.Contains(err.Error(), "not accepted") || strings.Contains(err.Error(), "wrong") {
			t.Errorf("a wrong key: %v", err)
		}
		if r.dump() != before {
			t.Error("something has changed")
		}
	})
}

func TestOneBrokenObjectStopsNoOther(t *testing.T) {
	sqlite(t, func(t *testing.T, r *rig) {
		price := r.price()
		var subs []string
		for i := range 5 {
			subs = append(subs, r.subscribe(fmt.Sprintf("t%d", i), price))
		}
		r.Edit(subs[2], func(o stripefake.Object) { o["ended_at"] = -5 })
		r.Edit(subs[3], func(o stripefake.Object) { o["created"] = "yesterday" })
		deps := r.deps()
		whole := deps.Ledger
		deps.Ledger = func(s ledger.Source) Ledger { return brokenLedger{whole(s), ledger.StripeID(subs[1])} }
		report, err := Run(t.Context(), Config{}, deps)
		if err != nil {
			t.Fatal(err)
		}
		if len(report.Problems) != 3 || len(report.Changes) != 2 {
			t.Errorf("problems %q, changes %q", report.Problems, said(report))
		}
		for _, id := range []string{subs[1], subs[2], subs[3]} {
			if !strings.Contains(strings.Join(report.Problems, "\n"), id) {
				t.Errorf("%s is not reported: %q", id, report.Problems)
			}
		}
	})
}

func TestFaultsOfStripeAreRiddenOut(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db")
	price := r.price()
	for i := range 101 {
		r.subscribe(fmt.Sprintf("t%d", i), price)
	}
	n := 0
	faults := []stripefake.Fault{{Status: 429, RetryAfter: time.Second}, {Status: 500}, {Cut: true, Done: true}, {Status: 429}}
	r.SetFaults(func(*http.Request) *stripefake.Fault {
		if n++; n%3 == 0 {
			return &faults[n/3%len(faults)]
		}
		return nil
	})
	if report := r.run(false); len(report.Changes) != 101 || len(report.Problems) != 0 {
		t.Errorf("%d changes, problems %q", len(report.Changes), report.Problems)
	}
	r.equal()
	r.SetFaults(func(q *http.Request) *stripefake.Fault {
		if q.URL.Query().Get("starting_after") != "" {
			return &stripefake.Fault{Status: 503}
		}
		return nil
	})
	if report, err := Run(t.Context(), Config{}, r.deps()); err == nil || report.Looked != 100 {
		t.Errorf("a list that breaks off: %v, %d looked at", err, report.Looked)
	}
}

func TestAListThatLagsEndsNobody(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db")
	sub := r.subscribe("acme", r.price())
	r.run(false)
	r.SetListLag(time.Hour)
	if report := r.run(false); report.Looked != 0 || len(report.Changes) != 0 {
		t.Errorf("%d looked at, %q", report.Looked, said(report))
	}
	r.Cancel(sub)
	if got := said(r.run(false)); len(got) != 1 || got[0] != sub+" status=canceled" {
		t.Errorf("%q", got)
	}
}

// TestARestrictedKeyIsEnough holds docs/billing.md to the permissions that it names.
func TestARestrictedKeyIsEnough(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db")
	r.subscribe("acme", r.price())
	r.api = r.client("rk_test_fake")
	if report := r.run(false); len(report.Changes) != 1 || len(report.Problems) != 0 {
		t.Errorf("%q, problems %q", said(report), report.Problems)
	}
	r.sync(true)
}

// A payment without a subscription is found by its event alone.
func TestAPaymentWithoutASubscriptionIsFound(t *testing.T) {
	sqlite(t, func(t *testing.T, r *rig) {
		r.subscribe("acme", r.price())
		r.run(false)
		customer := fmt.Sprint(r.All("customer")[0]["id"])
		once := r.AddPrice(stripefake.Price{Product: r.AddProduct(stripefake.Product{Name: "Setup"}), Cents: 9900, Interval: "once"})
		session := r.checkout("mode=payment&customer=" + customer + "&line_items[0][price]=" + once + "&success_url=http://127.0.0.1:1/")
		r.Pay(session, stripefake.CardPays)
		if got := missed(r.run(true)); len(got) != 1 {
			t.Errorf("a dry run names %q", got)
		}
		if got := missed(r.run(false)); len(got) != 1 {
			t.Errorf("applied %q", got)
		}
		rows, _, err := r.host.Subscriptions.List(t.Context(), catalog.Page{Filter: map[string]string{"payment_type": "one_time"}})
		if err != nil || len(rows) != 1 || rows[0].TenantID != "acme" || *rows[0].AmountCents != 9900 {
			t.Errorf("%s, %v", jsonOf(t, rows), err)
		}
		if again := r.run(false); len(again.Missed) != 0 || len(again.Changes) != 0 {
			t.Errorf("a second time: %v, %q", again.Missed, said(again))
		}
	})
}

// checkout makes a session and returns its id.
func (r *rig) checkout(form string) string {
	r.t.Helper()
	r.post("/v1/checkout/sessions", form)
	all := r.All("checkout.session")
	return fmt.Sprint(all[len(all)-1]["id"])
}

// Two at once do the same work twice and no harm.
func TestTwoRunsAtOnceDoNoHarm(t *testing.T) {
	engines(t, func(t *testing.T, r *rig) {
		price := r.price()
		for i := range 10 {
			r.subscribe(fmt.Sprintf("t%d", i), price)
		}
		var group errgroup.Group
		for range 3 {
			group.Go(func() error {
				_, err := Run(t.Context(), Config{}, r.deps())
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		rows, _, err := r.host.Subscriptions.List(t.Context(), catalog.Page{Limit: 1000})
		if err != nil || len(rows) != 10 {
			t.Errorf("%d rows, %v", len(rows), err)
		}
		r.equal()
	})
}

// TestTheKeyIsInNoReportAndNoAuditRow: the key that Stripe is asked with.
func TestTheKeyIsInNoReportAndNoAuditRow(t *testing.T) {
	r := newRig(t, "sqlite:"+t.TempDir()+"/host.db")
	sub := r.subscribe("acme", r.price())
	r.Edit(sub, func(o stripefake.Object) { o["created"] = testKey })
	report := r.run(false)
	rows, _, err := r.host.AuditLogs.List(t.Context(), catalog.Page{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprintf("%+v", report), jsonOf(t, rows), fmt.Sprintf("%+v %#v", r.deps(), r.deps())} {
		if strings.Contains(text, "canary") {
			t.Errorf("it shows in %s", text)
		}
	}
}
