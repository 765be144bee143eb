package ledger

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var start = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// rig is a ledger on a host database with a clock of its own.
type rig struct {
	t      *testing.T
	host   *catalog.HostDatabase
	ledger *Ledger
	signer *Signer

	mu  sync.Mutex
	now time.Time
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

func newRig(t *testing.T, url string) *rig {
	t.Helper()
	r := &rig{t: t, now: start}
	clock := func() time.Time {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.now
	}
	var err error
	r.host, err = catalog.New(t.Context(), catalog.Config{URL: catalog.NewDBURI(url), Clock: clock})
	r.must(err)
	t.Cleanup(func() { _ = r.host.Close() })
	r.signer, err = NewSigner([][]byte{bytes.Repeat([]byte{7}, 32)})
	r.must(err)
	rules, err := billing.New(billing.Config{})
	r.must(err)
	r.ledger = New(Config{Rules: rules}, Deps{Host: r.host, Signer: r.signer, Clock: clock})
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

// told has the ledger apply that an active subscription was created, and says what became of the event.
func (r *rig) told(object, customer StripeID, metadata map[string]string) Outcome {
	r.t.Helper()
	r.mu.Lock()
	now := r.now
	r.mu.Unlock()
	outcome, err := r.ledger.ApplyEvent(r.t.Context(), &Event{
		ID: "evt_" + object, Type: "customer.subscription.created", Created: now, Subscription: &Subscription{
			ID: object, Customer: customer, Status: "active", Created: now, PeriodEnd: now.AddDate(0, 1, 0), Metadata: metadata,
		},
	})
	r.must(err)
	return outcome
}

func (r *rig) kept(object, customer StripeID, metadata map[string]string) {
	r.t.Helper()
	if got := r.told(object, customer, metadata); got != Kept {
		r.t.Fatalf("%s: %s, want kept", object, got)
	}
}

func (r *rig) tenant(ids ...catalog.TenantID) {
	r.t.Helper()
	for _, id := range ids {
		r.must(r.host.Tenants.Insert(r.t.Context(), &catalog.TenantCatalog{ID: id}))
	}
}

// subs are the subscriptions that a tenant's rows name, sorted.
func (r *rig) subs(tenant catalog.TenantID) []string {
	r.t.Helper()
	rows, _, err := r.host.Subscriptions.List(r.t.Context(), catalog.Page{Limit: 1000, Filter: map[string]string{"tenant_id": string(tenant)}})
	r.must(err)
	var found []string
	for i := range rows {
		found = append(found, text(rows[i].StripeSubID)+" "+text(rows[i].Status))
	}
	slices.Sort(found)
	return found
}

func (r *rig) mark(object StripeID) *catalog.StripeWatermark {
	r.t.Helper()
	w, _, err := r.host.Stripe.Watermarks(r.t.Context(), object, "")
	r.must(err)
	return w
}

// heard is who hears of changes as a Gate does.
type heard struct {
	tenants chan catalog.TenantID
}

func (h heard) Changed(changes []catalog.Change) {
	for i := range changes {
		if changes[i].Kind == catalog.ChangedSubscription || changes[i].Kind == catalog.ChangedTenant {
			h.tenants <- changes[i].Tenant
		}
	}
}

func (h heard) Reset() {}

// What waits is looked for by what has become known since, however much else waits; each of the ways in which a tenant
// becomes known tells whom to look at.
func TestWhatWaitsIsFoundByWhatBecameKnown(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url)
		r.tenant("by_sub", "by_customer", "by_object", "by_checkout")
		r.kept("sub_named", "cus_1", map[string]string{MetadataTenant: "late", MetadataSignature: r.signer.Sign("late", "cus_1")})
		r.kept("sub_row", "cus_2", nil)
		r.kept("sub_customer", "cus_3", nil)
		r.kept("sub_first", "cus_4", nil)
		r.kept("sub_nobody", "cus_5", nil)
		r.kept("sub_byhand", "cus_6", nil)
		r.advance(2 * recent)
		heard := heard{make(chan catalog.TenantID, 1000)}
		feed, err := r.host.Watch(catalog.WatchConfig{Subscribers: []catalog.Subscriber{heard}})
		r.must(err)
		defer feed.Close()
		<-feed.First()

		r.tenant("late")
		for tenant, row := range map[catalog.TenantID]*catalog.Subscription{
			"by_sub":      {StripeSubID: new("sub_row"), Status: new("incomplete")},
			"by_customer": {StripeSubID: new("sub_other"), StripeCustID: new("cus_3"), Status: new("canceled")},
		} {
			row.TenantID = tenant
			r.must(r.host.Subscriptions.Insert(t.Context(), row))
		}
		_, err = r.host.ChangeStripeCustomer(t.Context(), "by_checkout", func(_ *catalog.Tx, row *catalog.StripeCustomer) error {
			row.CustomerID, row.CreationKey = "cus_6", "key"
			return nil
		})
		r.must(err)
		// A session that was not paid makes no row, and says whose the customer is all the same.
		outcome, err := r.ledger.ApplyEvent(t.Context(), &Event{ID: "evt_cs", Type: "checkout.session.completed", Created: start, Session: &Session{
			ID: "cs_1", Mode: modePayment, PaymentStatus: "unpaid", Customer: "cus_4",
			Metadata: map[string]string{MetadataTenant: "by_object", MetadataSignature: r.signer.Sign("by_object", "cus_4")},
		}})
		if err != nil || outcome != Processed || len(r.subs("by_object")) != 0 {
			t.Fatalf("%s, %v, rows %q", outcome, err, r.subs("by_object"))
		}
		dirty := map[catalog.TenantID]bool{}
		for len(dirty) < 5 {
			select {
			case tenant := <-heard.tenants:
				dirty[tenant] = true
			case <-time.After(30 * time.Second):
				t.Fatalf("only %v were announced", dirty)
			}
		}
		r.must(r.ledger.sweep(t.Context(), nil, false))
		if got := r.subs("late"); got != nil {
			t.Errorf("%q: it was found without being looked for", got)
		}
		r.must(r.ledger.sweep(t.Context(), dirty, false))
		for tenant, want := range map[catalog.TenantID][]string{
			"late": {"sub_named active"}, "by_sub": {"sub_row active"}, "by_customer": {"sub_customer active", "sub_other canceled"},
			"by_object": {"sub_first active"}, "by_checkout": {"sub_byhand active"},
		} {
			if got := r.subs(tenant); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", tenant, got, want)
			}
		}
		if w := r.mark("sub_nobody"); w.TenantID != "" {
			t.Errorf("nobody's is %s's", w.TenantID)
		}
	})
}

// Two transactions that do not see each other, one that makes the tenant known and one that keeps, leave nothing that
// waits for long: what came lately is looked at in each sweep.
func TestWhatCameLatelyIsLookedAtInEachSweep(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url)
		r.kept("sub_1", "cus_1", map[string]string{MetadataTenant: "late", MetadataSignature: r.signer.Sign("late", "cus_1")})
		r.tenant("late")
		r.must(r.ledger.sweep(t.Context(), nil, false))
		if got := r.subs("late"); !slices.Equal(got, []string{"sub_1 active"}) {
			t.Errorf("%q", got)
		}
	})
}

// What belongs to nobody does not stay for ever, and stays long enough for who pays by the year.
func TestWhatNobodyHasIsForgottenInTheEnd(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		r := newRig(t, url)
		r.kept("sub_late", "cus_1", map[string]string{MetadataTenant: "late", MetadataSignature: r.signer.Sign("late", "cus_1")})
		r.kept("sub_other", "cus_2", nil)
		r.tenant("acme")
		if got := r.told("sub_acme", "cus_3", map[string]string{MetadataTenant: "acme", MetadataSignature: r.signer.Sign("acme", "cus_3")}); got != Processed {
			t.Fatal(got)
		}
		r.advance(eventsKept - time.Hour)
		r.must(r.ledger.Sweep(t.Context()))
		if got := r.told("sub_other", "cus_2", nil); got != Duplicate {
			t.Errorf("the same event within the time: %s", got)
		}
		r.advance(2 * time.Hour)
		r.must(r.ledger.Sweep(t.Context()))
		for _, id := range []StripeID{"evt_sub_late", "evt_sub_other", "evt_sub_acme"} {
			if status, err := r.host.Stripe.EventStatus(t.Context(), id); err != nil || status != "" {
				t.Errorf("%s is kept as %q, %v", id, status, err)
			}
		}
		r.advance(365*24*time.Hour - eventsKept)
		r.tenant("late")
		r.must(r.ledger.Sweep(t.Context()))
		if got := r.subs("late"); !slices.Equal(got, []string{"sub_late active"}) {
			t.Errorf("after a year: %q", got)
		}
		r.advance(nobodysKept)
		r.must(r.ledger.Sweep(t.Context()))
		if w := r.mark("sub_other"); w != nil {
			t.Error("what nobody has is still known")
		}
		if r.mark("sub_acme") == nil || r.mark("sub_late") == nil {
			t.Error("what a tenant has is forgotten")
		}
	})
}

// One replica sweeps; when it ends another does.
func TestWhenTheReplicaThatKeepsTheBooksEndsAnotherDoes(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		a := newRig(t, url)
		b := newRig(t, url)
		first := a.ledger.keep(10*time.Millisecond, time.Second)
		defer first.Close()
		late := func(n int) func() bool {
			tenant, customer := catalog.TenantID(fmt.Sprintf("late%d", n)), fmt.Sprintf("cus_%d", n)
			a.kept(StripeID("sub_"+customer), StripeID(customer), map[string]string{
				MetadataTenant: string(tenant), MetadataSignature: a.signer.Sign(tenant, customer),
			})
			a.tenant(tenant)
			return func() bool { return len(a.subs(tenant)) == 1 }
		}
		inTime(t, "the first one brings nothing in", late(1))
		second := b.ledger.keep(10*time.Millisecond, time.Second)
		defer second.Close()
		first.Close()
		inTime(t, "the second one brings nothing in", late(2))
	})
}

// inTime asks until the answer is yes: another goroutine's clock is concerned.
func inTime(t *testing.T, what string, yes func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); !yes(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(what)
		}
	}
}
