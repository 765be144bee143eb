package billing

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenantgate/tenantgate/catalog"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func rules(t testing.TB, cfg Config) Rules {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// row is a subscription that counts, with this status and period end.
func row(status, periodEnd string) *catalog.Subscription {
	return &catalog.Subscription{
		ID: "s1", TenantID: "t1", Status: &status, CurrentPeriodEnd: &periodEnd,
		PaymentType: new("subscription"), PlanTier: new("monthly"), CreatedAt: new("2026-05-02T12:00:00"),
	}
}

func TestConfigFaultsAreAllReportedWithTheirKeys(t *testing.T) {
	_, err := New(Config{
		GracePeriod: new(-time.Second),
		GraceFrom:   "yesterday",
		ExemptPlans: []string{"internal", "", "basic"},
		PlanAliases: map[string]string{"": "x", "gold": ""},
		FreePlan:    "basic",
	})
	var keys []string
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("error %v joins nothing", err)
	}
	for _, e := range joined.Unwrap() {
		var key *KeyError
		if !errors.As(e, &key) || !strings.HasPrefix(e.Error(), "subscription."+key.Key) {
			t.Fatalf("%v is no KeyError", e)
		}
		keys = append(keys, key.Key)
	}
	want := []string{"grace_period", "grace_from", "exempt_plans[1]", "free_plan", "plan_aliases.", "plan_aliases.gold"}
	if !slices.Equal(keys, want) {
		t.Errorf("faults %q, want %q", keys, want)
	}
}

// Renewal failed at eleven: in Stripe the period's end has moved a month on by then, and is no measure of lateness.
func TestGraceFromPastDueCountsFromTheMomentThatWasSeen(t *testing.T) {
	r := rules(t, Config{GraceFrom: "past_due", GracePeriod: new(time.Hour)})
	sub := ParseSince(row("past_due", "2026-07-01T11:00:00"), "2026-06-01T11:00:00")
	if !r.Entitled(noon.Add(-1), &sub) || r.Entitled(noon, &sub) {
		t.Error("grace does not end an hour after it became past due")
	}
	if until, ok := r.Until(noon.Add(-1), &sub); !ok || !until.Equal(noon) || !r.InGrace(noon.Add(-1), &sub) {
		t.Errorf("until %v %v", until, ok)
	}
	if from := rules(t, Config{GracePeriod: new(time.Hour)}); !from.Entitled(noon, &sub) {
		t.Error("grace_from: period_end looks at the moment")
	}
	longer := ParseSince(row("past_due", ""), "2026-06-01T11:30:00")
	if !r.Entitled(noon, &longer) {
		t.Error("a known moment needs a period end")
	}
	active := ParseSince(row("active", ""), "2026-01-01T00:00:00")
	if !r.Entitled(noon, &active) || !active.PastDueSince.IsZero() {
		t.Error("an old moment ends an active subscription")
	}
}

func TestGraceFromPastDueFallsBackOnThePeriodEnd(t *testing.T) {
	r := rules(t, Config{GraceFrom: "past_due", GracePeriod: new(time.Hour)})
	for _, since := range []string{"", "soon"} {
		sub := ParseSince(row("past_due", "2026-06-01T11:00:00"), since)
		if !r.Entitled(noon.Add(-1), &sub) || r.Entitled(noon, &sub) {
			t.Errorf("since %q: not the period end's grace", since)
		}
		unreadable := ParseSince(row("past_due", "later"), since)
		if r.Entitled(noon, &unreadable) {
			t.Errorf("since %q: entitled without any moment", since)
		}
	}
}

func TestTheFreePlanIsNeverExempt(t *testing.T) {
	if _, err := New(Config{ExemptPlans: []string{"free"}}); err == nil {
		t.Error("the default free_plan is exempt")
	}
	r := rules(t, Config{ExemptPlans: []string{"free"}, FreePlan: "basic"})
	if r.FreePlan() != "basic" || rules(t, Config{}).FreePlan() != "free" {
		t.Error("free plan")
	}
}

func TestDefaults(t *testing.T) {
	r := rules(t, Config{})
	if !r.Required() || r.grace != 72*time.Hour {
		t.Errorf("required %v, grace %v", r.Required(), r.grace)
	}
	if rules(t, Config{Required: new(false)}).Required() {
		t.Error("required: false is ignored")
	}
	var zero Rules
	sub := Parse(row("past_due", "2026-06-01T11:59:59"))
	if !zero.Required() || zero.Exempt("") || zero.Entitled(noon, &sub) {
		t.Error("the zero value is not the strictest")
	}
}

func TestNoRowEntitlesNobody(t *testing.T) {
	r, none := rules(t, Config{}), Parse(nil)
	if r.Entitled(noon, nil) || r.Entitled(noon, &none) {
		t.Error("entitled by nothing")
	}
	if _, ok := r.DaysLeft(noon, nil); ok {
		t.Error("days left of nothing")
	}
	if _, ok := r.Until(noon, &none); ok || r.InGrace(noon, nil) {
		t.Error("nothing ends some time")
	}
}

func TestOnlyPaymentTypeSubscriptionCounts(t *testing.T) {
	for _, payment := range []*string{nil, new(""), new("one_time"), new("Subscription"), new(" subscription")} {
		s := row("active", "2026-07-01T00:00:00")
		s.PaymentType = payment
		sub := Parse(s)
		if rules(t, Config{}).Entitled(noon, &sub) || Newest([]catalog.Subscription{*s}) != nil {
			t.Errorf("payment_type %q entitles", text(payment))
		}
		if got := rules(t, Config{}).Status(nil, &sub); got != StatusNone {
			t.Errorf("status %q", got)
		}
	}
}

func TestTheGraceBoundaryIsStrict(t *testing.T) {
	r := rules(t, Config{GracePeriod: new(time.Hour)})
	sub := Parse(row("past_due", "2026-06-01T11:00:00"))
	if !r.Entitled(noon.Add(-1), &sub) || r.Entitled(noon, &sub) {
		t.Error("grace does not end at exactly period end + grace")
	}
	if until, ok := r.Until(noon.Add(-1), &sub); !ok || !until.Equal(noon) {
		t.Errorf("until %v %v", until, ok)
	}
	active := Parse(row("active", "2026-06-01T11:00:00"))
	if _, ok := r.Until(noon, &active); ok {
		t.Error("the clock ends an active subscription")
	}
}

func TestUnreadableAndOverflowingPeriodEndsDeny(t *testing.T) {
	r := rules(t, Config{})
	for _, end := range []string{"", "soon", "1780272000", " 2026-07-01T00:00:00", "2026-13-01", "9999-12-31T23:59:59", "9999-12-31T23:59:59-05:00"} {
		sub := Parse(row("past_due", end))
		if r.Entitled(noon, &sub) {
			t.Errorf("period end %q: entitled", end)
		}
		active := Parse(row("active", end)) // an active one needs no period end
		if !r.Entitled(noon, &active) {
			t.Errorf("period end %q: active is denied", end)
		}
	}
	s := row("past_due", "")
	s.CurrentPeriodEnd, s.Status = nil, new("past_due")
	if sub := Parse(s); r.Entitled(noon, &sub) {
		t.Error("NULL period end: entitled")
	}
	if sub := Parse(row("past_due", "9999-12-28T23:59:59")); !r.Entitled(noon, &sub) {
		t.Error("the last period end that Python can add the grace to: denied")
	}
}

func TestStatusHeader(t *testing.T) {
	r := rules(t, Config{ExemptPlans: []string{"internal"}})
	canceled := Parse(row("canceled", ""))
	null := row("", "")
	null.Status = nil
	nullSub := Parse(null)
	for _, c := range []struct {
		tier *string
		sub  *Sub
		want string
	}{
		{nil, nil, "none"},
		{new("internal"), nil, "exempt"},
		{new("internal"), &canceled, "exempt"},
		{new("Internal"), &canceled, "canceled"},
		{new("free"), &canceled, "canceled"},
		{nil, &nullSub, ""},
		{nil, &Sub{}, "none"},
	} {
		if got := r.Status(c.tier, c.sub); got != c.want {
			t.Errorf("tier %q, %+v: %q, want %q", text(c.tier), c.sub, got, c.want)
		}
	}
	if r.Exempt("") || rules(t, Config{}).Exempt("internal") {
		t.Error("exempt without being listed")
	}
}

func TestPlanKey(t *testing.T) {
	r := rules(t, Config{PlanAliases: map[string]string{"pro_2024": "pro", "pro": "professional"}})
	entitled, lapsed := Parse(row("active", "")), Parse(row("canceled", ""))
	entitled.Plan = "pro_2024"
	unnamed := entitled
	unnamed.Plan = ""
	for _, c := range []struct {
		name string
		tier *string
		sub  *Sub
		want string
	}{
		{"the entitled subscription's, through one alias, once", new("free"), &entitled, "pro"},
		{"not the lapsed one's", new("free"), &lapsed, "free"},
		{"the tenant's, through an alias", new("pro"), &lapsed, "professional"},
		{"the tenant's without a row", new("basic"), nil, "basic"},
		{"none at all", nil, nil, ""},
		{"an entitled row of no plan does not borrow the tenant's", new("enterprise"), &unnamed, ""},
	} {
		if got := r.PlanKey(noon, c.tier, c.sub); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestRulesDoNotChangeWithTheirConfig(t *testing.T) {
	cfg := Config{PlanAliases: map[string]string{"a": "b"}}
	r := rules(t, cfg)
	cfg.PlanAliases["a"] = "c"
	r.Aliases()["a"] = "d"
	if got := r.PlanKey(noon, new("a"), nil); got != "b" {
		t.Errorf("plan key %q", got)
	}
}

func TestNewestRowDoesNotDependOnStorageOrder(t *testing.T) {
	mk := func(id, created, stripe string) catalog.Subscription {
		s := *row("active", "")
		s.ID = catalog.SubscriptionID(id)
		s.CreatedAt, s.StripeSubID = &created, &stripe
		return s
	}
	null := mk("n", "", "zzz")
	null.CreatedAt, null.StripeSubID = nil, nil
	oneTime := mk("one", "9999", "z")
	oneTime.PaymentType = new("one_time")
	rows := []catalog.Subscription{
		mk("a", "2026-05-01T00:00:00", "sub_9"),
		mk("b", "2026-05-01T00:00:00.5", "sub_1"),
		mk("c", "2026-05-01T00:00:00Z", "sub_1"), // by bytes "Z" is after ".5"
		mk("d", "2026-05-01T00:00:00Z", "sub_2"), // tie: the larger stripe_sub_id
		mk("e", "2026-05-01T00:00:00Z", "sub_2"), // tie again: the larger id
		null, oneTime,
	}
	for range 50 {
		rand.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		if got := Newest(rows); idOf(got) != "e" {
			t.Fatalf("newest %q", idOf(got))
		}
	}
	if idOf(Newest([]catalog.Subscription{null, oneTime})) != "n" || Newest(nil) != nil {
		t.Error("a row without created_at, and no row")
	}
}

func TestDecidingAllocatesNothing(t *testing.T) {
	r := rules(t, Config{ExemptPlans: []string{"internal"}, PlanAliases: map[string]string{"monthly": "m"}})
	sub, tier := Parse(row("past_due", "2026-06-01T00:00:00")), new("free")
	plans := ParsePlans([]catalog.PricingPlan{{ID: "m", Features: new(`["a","b"]`)}})
	allocs := testing.AllocsPerRun(1000, func() {
		entitled := r.Entitled(noon, &sub)
		view := plans.View(r.PlanKey(noon, tier, &sub), entitled)
		if !entitled || !view.Has("b") || r.Exempt(*tier) || r.Status(tier, &sub) != "past_due" {
			t.Error("wrong answer")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkEntitledAndPlan(b *testing.B) {
	r := rules(b, Config{PlanAliases: map[string]string{"monthly": "m"}})
	sub, tier := Parse(row("past_due", "2026-06-01T00:00:00")), new("free")
	plans := ParsePlans([]catalog.PricingPlan{{ID: "m", Features: new(`["a","b"]`)}})
	b.ReportAllocs()
	for b.Loop() {
		entitled := r.Entitled(noon, &sub)
		if view := plans.View(r.PlanKey(noon, tier, &sub), entitled); !view.Has("b") {
			b.Fatal("wrong answer")
		}
	}
}

func TestPropertyPastDueEndsOnceAndForGood(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		grace := time.Duration(rapid.Int64Range(0, int64(1000*24*time.Hour)).Draw(t, "grace"))
		r, err := New(Config{GracePeriod: &grace})
		if err != nil {
			t.Fatal(err)
		}
		end := noon.Add(time.Duration(rapid.Int64Range(-1e17, 1e17).Draw(t, "end")) / 1000 * 1000)
		sub := Parse(row("past_due", end.Format("2006-01-02T15:04:05.000000")))
		early := noon.Add(time.Duration(rapid.Int64Range(-2e17, 2e17).Draw(t, "early")))
		late := early.Add(time.Duration(rapid.Int64Range(0, 1e17).Draw(t, "later")))
		if r.Entitled(late, &sub) && !r.Entitled(early, &sub) {
			t.Fatal("entitlement came back with time")
		}
		boundary := end.Add(grace)
		if !r.Entitled(boundary.Add(-1), &sub) || r.Entitled(boundary, &sub) {
			t.Fatalf("the boundary %v is not strict", boundary)
		}
	})
}

func TestPropertyUnknownStatusesNeverEntitle(t *testing.T) {
	r := rules(t, Config{})
	rapid.Check(t, func(t *rapid.T) {
		status := rapid.OneOf(
			rapid.String(),
			rapid.SampledFrom([]string{"canceled", "unpaid", "incomplete", "incomplete_expired", "paused", "expired", "completed", "ACTIVE", "active ", "Trialing", "past-due", "active\x00"}),
		).Filter(func(s string) bool { return s != "active" && s != "trialing" && s != "past_due" }).Draw(t, "status")
		sub := Parse(row(status, "2030-01-01T00:00:00"))
		if r.Entitled(noon, &sub) {
			t.Fatalf("status %q entitles", status)
		}
	})
}
