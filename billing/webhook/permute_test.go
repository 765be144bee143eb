package webhook

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// life is a subscription's life as the issue has it, all of it at those seconds.
func (r *rig) life(v shape, id, customer, tenant string, seconds [5]int) []obj {
	s := r.acme("active").but(func(s *sub) { s.id, s.customer, s.metadata = id, customer, r.signed(tenant, customer) })
	end2 := start.AddDate(0, 2, 0)
	late := s.but(func(s *sub) { s.status, s.invoice, s.end = "past_due", "in_2", end2 })
	up := late.but(func(s *sub) { s.status, s.price = "active", "price_pro_m" })
	end := up.but(func(s *sub) { s.status = "canceled" })
	before := obj{"status": "active", "latest_invoice": "in_1"}
	if v == oldShape {
		before["current_period_end"] = s.end.Unix()
	} else {
		before["items"] = s.object(v)["items"]
	}
	name := func(n string) string { return "evt_" + id + "_" + n }
	return []obj{
		event(name("created"), "customer.subscription.created", at(seconds[0]), s.object(v), nil),
		event(name("late"), "customer.subscription.updated", at(seconds[1]), late.object(v), before),
		event(name("paid"), "invoice.paid", at(seconds[2]), invoice(v, "in_2", late), nil),
		event(name("upgraded"), "customer.subscription.updated", at(seconds[3]), up.object(v), obj{"status": "past_due", "plan": obj{"id": "price_basic_m"}, "items": late.object(v)["items"]}),
		event(name("canceled"), "customer.subscription.deleted", at(seconds[4]), end.object(v), nil),
	}
}

// permutations of 0…n-1.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var all [][]int
	for _, p := range permutations(n - 1) {
		for i := range n {
			all = append(all, slices.Insert(slices.Clone(p), i, n-1))
		}
	}
	return all
}

// outcome is what a life leads to: the row without its id, the tenant's plan, whether it is let in, since when it is late.
func (r *rig) outcome(tenant catalog.TenantID, id string) string {
	r.t.Helper()
	text := fmt.Sprint(r.entitled(tenant, billing.Config{}), " ", r.tier(tenant))
	for _, row := range r.rows(tenant) {
		row.TenantID, row.StripeSubID, row.StripeCustID = "", nil, nil
		text += " | " + describe(row)
	}
	since, err := r.host.Stripe.RecordedPastDue(r.t.Context(), catalog.StripeID(id))
	r.must(err)
	return text + " | " + since
}

var everything = flag.Bool("permute.all", false, "try every permutation in every rhythm and both shapes")

// Each permutation of each beginning of a life (the first n events) is a subscription of its own, of a tenant of its own.
func TestEveryPermutationOfALifeEndsInOneState(t *testing.T) {
	r := newRig(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db"), rigConfig{})
	n := 0
	for _, rhythm := range []struct {
		name    string
		seconds [5]int
		shapes  []shape
		longest int
	}{
		{"one a minute", [5]int{0, 60, 120, 180, 240}, []shape{oldShape, currentShape}, 4},
		{"all in one second", [5]int{0, 0, 0, 0, 0}, []shape{currentShape}, 4},
		{"late, paid and upgraded in one second", [5]int{0, 60, 60, 60, 61}, []shape{oldShape}, 4},
		{"one a minute", [5]int{0, 60, 120, 180, 240}, []shape{currentShape}, 5},
		{"paid, upgraded and canceled in one second", [5]int{0, 60, 120, 120, 120}, []shape{currentShape}, 0},
		{"begun and late in one second", [5]int{0, 0, 60, 61, 62}, []shape{currentShape}, 0},
	} {
		if *everything {
			rhythm.longest, rhythm.shapes = 5, []shape{oldShape, currentShape}
		}
		for length := 1; length <= rhythm.longest; length++ {
			want := ""
			for _, order := range permutations(length) {
				for _, v := range rhythm.shapes {
					n++
					got := r.live(n, v, order, rhythm.seconds)
					if want == "" {
						want = got
					}
					if got != want {
						t.Fatalf("%s, %d events in the order %v (%s):\n%s\nwant\n%s", rhythm.name, length, order, v, got, want)
					}
				}
			}
			if end := stripeSays(length); want[:len(end)] != end {
				t.Errorf("%s, %d events: %s, but Stripe says %s", rhythm.name, length, want, end)
			}
		}
	}
}

// live delivers a life of tenant number n in that order, one of the events twice, and returns what comes of it.
func (r *rig) live(n int, v shape, order []int, seconds [5]int) string {
	r.t.Helper()
	id, tenant := fmt.Sprintf("sub_%d", n), catalog.TenantID(fmt.Sprintf("t%d", n))
	r.must(r.host.Tenants.Insert(context.Background(), &catalog.TenantCatalog{ID: tenant}))
	life := r.life(v, id, "cus_"+id, string(tenant), seconds)
	for _, i := range order {
		r.deliver(life[i])
	}
	if got := r.deliver(life[order[n%len(order)]]); got != "duplicate" {
		r.t.Fatalf("a second time: %q", got)
	}
	return r.outcome(tenant, id)
}

// stripeSays is whether a life's first n events entitle, and the plan.
func stripeSays(n int) string {
	return [...]string{"", "true basic", "true basic", "true basic", "true pro", "false free"}[n]
}

// The same on PostgreSQL, of random beginnings, orders, repetitions and shapes, on two replicas.
func TestAnyDeliveryEndsInStripesState(t *testing.T) {
	url := pgtest.New(t)
	a := newRig(t, url, rigConfig{})
	b := openRig(t, url, rigConfig{})
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		id, tenant := fmt.Sprintf("sub_r%d", n), fmt.Sprintf("r%d", n)
		a.must(a.host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: catalog.TenantID(tenant)}))
		life := a.life(rapid.SampledFrom([]shape{oldShape, currentShape}).Draw(rt, "shape"), id, "cus_"+id, tenant, [5]int{0, 60, 120, 180, 240})
		length := rapid.IntRange(1, 5).Draw(rt, "length")
		order := rapid.Permutation([]int{0, 1, 2, 3, 4}[:length]).Draw(rt, "order")
		again := rapid.SliceOfN(rapid.IntRange(0, length-1), 0, 4).Draw(rt, "again")
		for _, i := range append(order, again...) {
			replica := rapid.SampledFrom([]*rig{a, b}).Draw(rt, "replica")
			replica.deliver(life[i])
		}
		if got, want := a.outcome(catalog.TenantID(tenant), id), stripeSays(length); got[:len(want)] != want {
			rt.Fatalf("%s, want %s", got, want)
		}
	})
}

// Whatever order Stripe lists a subscription's items in, its plan is the highest that one of their prices buys, and its rows are
// the same: from both shapes, from events and from what the API says.
func TestTheOrderOfItemsChangesNothing(t *testing.T) {
	url := pgtest.New(t)
	source := &truth{subs: map[ledger.StripeID]ledger.Subscription{}}
	events, asks := newRig(t, url, rigConfig{}), openRig(t, url, rigConfig{source: source})
	for level, p := range []catalog.PlanID{"zero", "basic", "pro", "also_pro"} {
		plan := &catalog.PricingPlan{ID: p, StripePriceMonthly: new("price_" + string(p) + "_m"), TierLevel: new(int64(min(level, 2)))}
		if p == "basic" || p == "pro" {
			_, err := events.host.PricingPlans.Change(t.Context(), p, func(row *catalog.PricingPlan) error {
				row.TierLevel = plan.TierLevel
				return nil
			})
			events.must(err)
			continue
		}
		events.must(events.host.PricingPlans.Insert(t.Context(), plan))
	}
	wants := map[string]string{"price_zero_m": "zero", "price_basic_m": "basic", "price_pro_m": "pro", "price_also_pro_m": "also_pro"}
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		prices := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{
			"price_zero_m", "price_basic_m", "price_pro_m", "price_also_pro_m", "price_seats", "price_calls",
		}), 2, 6, rapid.ID[string]).Draw(rt, "prices")
		want := ""
		for _, p := range []string{"price_also_pro_m", "price_pro_m", "price_basic_m", "price_zero_m"} { // of two as high the smaller id
			if want == "" && slices.Contains(prices, p) {
				want = wants[p]
			}
		}
		row := ""
		for i := range 3 {
			n++
			id, tenant := fmt.Sprintf("sub_i%d", n), fmt.Sprintf("i%d", n)
			events.must(events.host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: catalog.TenantID(tenant)}))
			order := rapid.Permutation(prices).Draw(rt, "order")
			v := rapid.SampledFrom([]shape{oldShape, currentShape}).Draw(rt, "shape")
			s := events.acme("active").but(func(s *sub) {
				s.id, s.customer, s.metadata = id, "cus_"+id, events.signed(tenant, "cus_"+id)
				s.metadata["plan_tier"] = "" // nothing but prices says the plan
			})
			s.more = obj{"items": items(v, s.end, order), "plan": nil}
			e := event("evt_"+id, "customer.subscription.created", start, s.object(v), nil)
			replica := events
			if i == 2 {
				replica, source.subs[ledger.StripeID(id)] = asks, fetched(t, e)
			}
			replica.deliver(e)
			got := events.only(catalog.TenantID(tenant))
			tier := want
			if want == "" {
				tier = "free" // no plan sells any of them: the tenant's stays
			}
			if str(got.PlanTier) != want || events.tier(catalog.TenantID(tenant)) != tier {
				rt.Fatalf("%v: plan %q, tenant's %q, want %q", order, str(got.PlanTier), events.tier(catalog.TenantID(tenant)), want)
			}
			got.TenantID, got.StripeSubID, got.StripeCustID = "", nil, nil
			if row == "" {
				row = describe(got)
			}
			if describe(got) != row {
				rt.Fatalf("%v:\n%s\nwant\n%s", order, describe(got), row)
			}
		}
	})
}

// items is a list of items to those prices; each price's amount goes by its name.
func items(v shape, end time.Time, prices []string) obj {
	var data []any
	for _, p := range prices {
		it := obj{"id": "si_" + p, "quantity": len(p), "price": obj{"id": p, "product": "prod_" + p, "unit_amount": 100 * len(p), "currency": "usd", "nickname": p}}
		if v == currentShape {
			it["current_period_end"] = end.Unix()
		}
		data = append(data, it)
	}
	return obj{"object": "list", "data": data}
}

// Two updates of one second that change the items say which came last, whatever order the items are in.
func TestItemsBeforeSayWhichUpdateCameLast(t *testing.T) {
	r := newRig(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db"), rigConfig{})
	for n, order := range permutations(2) {
		id, tenant := fmt.Sprintf("sub_%d", n), fmt.Sprintf("t%d", n)
		r.must(r.host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: catalog.TenantID(tenant)}))
		with := func(prices ...string) sub {
			return r.acme("active").but(func(s *sub) {
				s.id, s.customer, s.metadata = id, "cus_"+id, r.signed(tenant, "cus_"+id)
				s.more = obj{"items": items(currentShape, s.end, prices)}
			})
		}
		first, second := with("price_basic_m", "price_seats"), with("price_pro_m", "price_seats")
		r.deliver(event("evt_c"+id, "customer.subscription.created", start, with("price_seats", "price_calls").object(currentShape), nil))
		updates := []obj{
			event("evt_z"+id, "customer.subscription.updated", at(9), first.object(currentShape), obj{"items": items(currentShape, first.end, []string{"price_calls", "price_seats"})}),
			event("evt_a"+id, "customer.subscription.updated", at(9), second.object(currentShape), obj{"items": items(currentShape, first.end, []string{"price_seats", "price_basic_m"})}),
		}
		for _, i := range order {
			r.deliver(updates[i])
		}
		if got := r.tier(catalog.TenantID(tenant)); got != "pro" {
			t.Errorf("order %v: plan %s", order, got)
		}
	}
}

// truth is a Source that has what Stripe has by now.
type truth struct {
	subs map[ledger.StripeID]ledger.Subscription
	err  error
	asks int
}

func (s *truth) Subscription(_ context.Context, id ledger.StripeID) (ledger.Subscription, error) {
	s.asks++
	if s.err != nil {
		return ledger.Subscription{}, s.err
	}
	sub, ok := s.subs[id]
	if !ok {
		return sub, ledger.ErrGone
	}
	return sub, nil
}

func (s *truth) Session(context.Context, ledger.StripeID) (ledger.Session, error) {
	return ledger.Session{}, ledger.ErrGone
}

// fetched reads an event's subscription as the API would give it.
func fetched(t testing.TB, e obj) ledger.Subscription {
	t.Helper()
	env, err := readEnvelope(e.json())
	if err != nil {
		t.Fatal(err)
	}
	ev, err := env.read()
	if err != nil {
		t.Fatal(err)
	}
	return *ev.Subscription
}

func TestWithAnAPIKeyEveryOrderEndsInStripesState(t *testing.T) {
	source := &truth{subs: map[ledger.StripeID]ledger.Subscription{}}
	r := newRig(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db"), rigConfig{source: source})
	n := 0
	for length := 1; length <= 5; length++ {
		for i, order := range permutations(length) {
			if length == 5 && i%7 != 0 && !*everything {
				continue
			}
			n++
			id, tenant := fmt.Sprintf("sub_%d", n), fmt.Sprintf("t%d", n)
			r.must(r.host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: catalog.TenantID(tenant)}))
			life := r.life(currentShape, id, "cus_"+id, tenant, [5]int{0, 60, 120, 180, 240})
			last := life[length-1]
			if length == 3 {
				// Paid: active again, still on the old price.
				last = event("x", "customer.subscription.updated", at(120), r.acme("active").but(func(s *sub) {
					s.id, s.customer, s.metadata = id, "cus_"+id, r.signed(tenant, "cus_"+id)
				}).object(currentShape), nil)
			}
			source.subs[ledger.StripeID(id)] = fetched(t, last)
			for _, i := range order {
				r.deliver(life[i])
			}
			if got, want := r.outcome(catalog.TenantID(tenant), id), stripeSays(length); got[:len(want)] != want {
				t.Fatalf("%d events in the order %v: %s, want %s", length, order, got, want)
			}
		}
	}
}

func TestAFetchThatFailsIsRecordedAndTriedAgain(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		source := &truth{subs: map[ledger.StripeID]ledger.Subscription{}, err: errTest}
		r := newRig(t, url, rigConfig{source: source})
		e := event("evt_1", "customer.subscription.updated", at(5), r.acme("past_due").object(currentShape), nil)
		if code, _ := r.post(e.json()); code != 500 || len(r.rows("acme")) != 0 {
			t.Fatalf("status %d, %d rows", code, len(r.rows("acme")))
		}
		if got := r.webhookRows("evt_1"); !slices.Equal(got, []string{"failed"}) {
			t.Errorf("rows of the event: %q", got)
		}
		if code, _ := r.post(e.json()); code != 500 || len(r.webhookRows("evt_1")) != 1 {
			t.Errorf("again: %d, %d rows", code, len(r.webhookRows("evt_1")))
		}
		source.err = nil
		source.subs["sub_1"] = fetched(t, event("x", "customer.subscription.updated", at(9), r.acme("active").object(currentShape), nil))
		if got := r.deliver(e); got != "processed" || str(r.only("acme").Status) != "active" {
			t.Errorf("%q, %s: the event is a hint, the object decides", got, str(r.only("acme").Status))
		}
		if got := r.webhookRows("evt_1"); !slices.Equal(got, []string{"processed"}) {
			t.Errorf("rows of the event: %q", got)
		}
		asks := source.asks
		if r.deliver(e) != "duplicate" || source.asks != asks {
			t.Error("a duplicate asks Stripe")
		}
		// What Stripe has forgotten since does not undo what it signed.
		delete(source.subs, "sub_1")
		end := event("evt_2", "customer.subscription.deleted", at(20), r.acme("canceled").object(currentShape), nil)
		if got := r.deliver(end); got != "processed" || str(r.only("acme").Status) != "canceled" {
			t.Errorf("%q, %s", got, str(r.only("acme").Status))
		}
	})
}

// A fetch that began first and came back last must not put an older state over a newer one.
func TestAnOlderFetchNeverOverwritesALaterOne(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		source := &slow{began: make(chan struct{}), release: make(chan struct{})}
		r := newRig(t, url, rigConfig{source: source})
		source.old = fetched(t, event("x", "customer.subscription.updated", at(1), r.acme("active").object(currentShape), nil))
		source.now = fetched(t, event("x", "customer.subscription.updated", at(1), r.acme("unpaid").object(currentShape), nil))
		first := event("evt_1", "customer.subscription.updated", at(1), r.acme("active").object(currentShape), nil)
		second := event("evt_2", "customer.subscription.updated", at(2), r.acme("unpaid").object(currentShape), nil)
		done := make(chan string)
		go func() {
			_, got := r.post(first.json())
			done <- got
		}()
		<-source.began
		if got := r.deliver(second); got != "processed" {
			t.Errorf("the later one: %q", got)
		}
		close(source.release)
		if got := <-done; got != "skipped_out_of_order" {
			t.Errorf("the earlier one: %q", got)
		}
		if r.entitled("acme", billing.Config{}) {
			t.Error("the older state stands")
		}
	})
}

// slow answers the first question with an old state once it is released, all others with the current one.
type slow struct {
	old, now       ledger.Subscription
	began, release chan struct{}
	asked          bool
}

func (s *slow) Subscription(context.Context, ledger.StripeID) (ledger.Subscription, error) {
	if s.asked {
		return s.now, nil
	}
	s.asked = true
	close(s.began)
	select {
	case <-s.release:
	case <-time.After(2 * time.Minute):
	}
	return s.old, nil
}

func (s *slow) Session(context.Context, ledger.StripeID) (ledger.Session, error) {
	return ledger.Session{}, ledger.ErrGone
}
