package router

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/catalog"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func testPolicy(t testing.TB, cfg billing.Config) *Policy {
	t.Helper()
	rules, err := billing.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return newPolicy(Config{Subscription: rules}, true)
}

// payingFacts is a member of an active tenant with an active subscription to pro.
func payingFacts() catalog.GrantFacts {
	return catalog.GrantFacts{
		User: &catalog.GlobalUser{ID: "u1", Email: new("ada@example.com")},
		Tenant: &catalog.TenantCatalog{
			ID: "acme", Name: new("Acme"), DBURL: catalog.NewDBURI("postgresql://u:pw@db/acme"), IsActive: new(true),
			PlanTier: new("basic"),
		},
		Memberships: []catalog.Membership{{
			ID: "m1", UserID: "u1", TenantID: "acme", Role: new("admin"), ProfileID: new("p1"), IsActive: new(true),
			CreatedAt: new("2026-01-01T00:00:00"),
		}},
		Subscription: &catalog.Subscription{
			ID: "s1", TenantID: "acme", PlanTier: new("pro"), Status: new("active"), PaymentType: new("subscription"),
		},
		Plans: []catalog.PricingPlan{
			{ID: "pro", TierLevel: new(int64(2)), Features: new(`["exports","advanced_analytics"]`)},
			{ID: "basic", TierLevel: nil, Features: new(`[]`)},
			{ID: "enterprise", TierLevel: new(int64(3)), Features: new(`["all_features"]`)},
		},
	}
}

func TestDecision(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*catalog.GrantFacts)
		route  Route
		want   Code
	}{
		{name: "a paying member enters"},
		{name: "unknown user", change: func(f *catalog.GrantFacts) { f.User = nil }, want: UnknownUser},
		{name: "blocked user", change: func(f *catalog.GrantFacts) { f.Blocked = true }, want: UnknownUser},
		{name: "no such tenant", change: func(f *catalog.GrantFacts) { f.Tenant = nil }, want: NoAccess},
		{name: "not a member", change: func(f *catalog.GrantFacts) { f.Memberships = nil }, want: NoAccess},
		{name: "a membership of somebody else never counts", change: func(f *catalog.GrantFacts) { f.Memberships[0].UserID = "u2" }, want: NoAccess},
		{name: "a membership of another tenant never counts", change: func(f *catalog.GrantFacts) { f.Memberships[0].TenantID = "globex" }, want: NoAccess},
		{name: "inactive membership", change: func(f *catalog.GrantFacts) { f.Memberships[0].IsActive = new(false) }, want: MembershipInactive},
		{name: "NULL membership flag", change: func(f *catalog.GrantFacts) { f.Memberships[0].IsActive = nil }, want: MembershipInactive},
		{name: "suspended tenant", change: func(f *catalog.GrantFacts) { f.Tenant.IsActive = new(false) }, want: TenantInactive},
		{name: "NULL tenant flag", change: func(f *catalog.GrantFacts) { f.Tenant.IsActive = nil }, want: TenantInactive},
		{name: "paused tenant", change: func(f *catalog.GrantFacts) { f.Locks = catalog.LockedUntil(time.Time{}) }, want: TenantPaused},
		{name: "a pause that ends later", change: func(f *catalog.GrantFacts) { f.Locks = catalog.LockedUntil(noon.Add(time.Microsecond)) }, want: TenantPaused},
		{name: "a pause that ends now", change: func(f *catalog.GrantFacts) { f.Locks = catalog.LockedUntil(noon) }},
		{name: "a pause that has ended", change: func(f *catalog.GrantFacts) { f.Locks = catalog.LockedUntil(noon.Add(-time.Hour)) }},
		{name: "no subscription", change: func(f *catalog.GrantFacts) { f.Subscription = nil }, want: SubscriptionRequired},
		{name: "canceled", change: func(f *catalog.GrantFacts) { f.Subscription.Status = new("canceled") }, want: SubscriptionRequired},
		{name: "canceled on an optional route", change: func(f *catalog.GrantFacts) { f.Subscription.Status = new("canceled") }, route: Route{subscriptionOptional: true}},
		{name: "past due within grace", change: func(f *catalog.GrantFacts) {
			f.Subscription.Status, f.Subscription.CurrentPeriodEnd = new("past_due"), new("2026-05-29T12:00:01")
		}},
		{name: "past due at the end of grace", change: func(f *catalog.GrantFacts) {
			f.Subscription.Status, f.Subscription.CurrentPeriodEnd = new("past_due"), new("2026-05-29T12:00:00")
		}, want: SubscriptionRequired},
		{name: "role reached", route: Route{minRole: "admin"}},
		{name: "role not reached", route: Route{minRole: "owner"}, want: RoleRequired},
		{name: "an unlisted role ranks below all", change: func(f *catalog.GrantFacts) { f.Memberships[0].Role = new("root") }, route: Route{minRole: "member"}, want: RoleRequired},
		{name: "tier reached", route: Route{minTier: new(int64(2))}},
		{name: "tier not reached", route: Route{minTier: new(int64(3))}, want: TierRequired},
		{name: "feature in plan", route: Route{feature: "exports"}},
		{name: "feature not in plan", route: Route{feature: "sso"}, want: FeatureRequired},
		{name: "all_features grants all", change: func(f *catalog.GrantFacts) { f.Subscription.PlanTier = new("enterprise") }, route: Route{feature: "sso"}},
		{name: "no database URI", change: func(f *catalog.GrantFacts) { f.Tenant.DBURL = catalog.DBURI{} }, want: TenantMisconfigured},
		{name: "a URI that no header can carry", change: func(f *catalog.GrantFacts) { f.Tenant.DBURL = catalog.NewDBURI("postgresql://u:p@h/d\r\nX-Evil: 1") }, want: TenantMisconfigured},
		{name: "a sealed URI is not plain", change: func(f *catalog.GrantFacts) { f.Tenant.DBURL = catalog.NewDBURI("enc:v1:k:AAAA") }, want: TenantMisconfigured},
		{name: "a reference is not plain", change: func(f *catalog.GrantFacts) { f.Tenant.DBURL = catalog.NewDBURI("ref:env:X") }, want: TenantMisconfigured},
		{name: "membership comes before tenant", change: func(f *catalog.GrantFacts) { f.Memberships, f.Tenant.IsActive = nil, new(false) }, want: NoAccess},
		{name: "subscription comes before role", change: func(f *catalog.GrantFacts) { f.Subscription = nil }, route: Route{minRole: "owner"}, want: SubscriptionRequired},
	} {
		t.Run(c.name, func(t *testing.T) {
			facts := payingFacts()
			if c.change != nil {
				c.change(&facts)
			}
			p := testPolicy(t, billing.Config{})
			var trace Trace
			grant, code := p.Decide(&c.route, p.newRecord(facts), noon, &trace)
			if code != c.want || (grant == nil) != (c.want != "") {
				t.Fatalf("grant %v, code %q; want %q", grant != nil, code, c.want)
			}
			if last := trace.Steps[len(trace.Steps)-1]; c.want != "" && last.Result != string(c.want) {
				t.Errorf("the trace ends with %+v", last)
			}
			if grant != nil && (grant.Tenant.ID != "acme" || grant.User.ID != "u1" || grant.DBURI() != facts.Tenant.DBURL) {
				t.Errorf("grant = %+v", grant)
			}
		})
	}
}

// TestPauseEndsByTheClock: one record, remembered, closes and opens again without a new look at the host database.
func TestPauseEndsByTheClock(t *testing.T) {
	facts := payingFacts()
	facts.Locks = catalog.LockedUntil(noon.Add(10 * time.Minute))
	p := testPolicy(t, billing.Config{})
	rec := p.newRecord(facts)
	for after, want := range map[time.Duration]Code{0: TenantPaused, 10*time.Minute - 1: TenantPaused, 10 * time.Minute: "", time.Hour: ""} {
		if _, code := p.Decide(&Route{}, rec, noon.Add(after), nil); code != want {
			t.Errorf("%v into a pause of 10m: %q, want %q", after, code, want)
		}
	}
}

func TestOfSeveralMembershipsTheLowestActiveRoleCounts(t *testing.T) {
	row := func(id, role, created string, active *bool) catalog.Membership {
		m := catalog.Membership{ID: catalog.MembershipID(id), UserID: "u1", TenantID: "acme", Role: &role, IsActive: active}
		if created != "" {
			m.CreatedAt = &created
		}
		return m
	}
	for _, c := range []struct {
		name string
		rows []catalog.Membership
		want catalog.MembershipID
	}{
		{"lowest role", []catalog.Membership{row("a", "owner", "1", new(true)), row("b", "member", "2", new(true))}, "b"},
		{"inactive ones are ignored", []catalog.Membership{row("a", "member", "1", new(false)), row("b", "owner", "2", new(true))}, "b"},
		{"an unlisted role is lower still", []catalog.Membership{row("a", "member", "1", new(true)), row("b", "guest", "2", new(true))}, "b"},
		{"then the oldest", []catalog.Membership{row("a", "admin", "2", new(true)), row("b", "admin", "1", new(true))}, "b"},
		{"NULL created_at last", []catalog.Membership{row("a", "admin", "", new(true)), row("b", "admin", "9", new(true))}, "b"},
		{"a row without an id last", []catalog.Membership{row("", "admin", "1", new(true)), row("b", "admin", "1", new(true))}, "b"},
		{"then the smallest id by bytes", []catalog.Membership{row("b", "admin", "1", new(true)), row("B", "admin", "1", new(true))}, "B"},
	} {
		t.Run(c.name, func(t *testing.T) {
			facts := payingFacts()
			for i := range 2 { // in either order of storage
				facts.Memberships = []catalog.Membership{c.rows[i], c.rows[1-i]}
				if got := testPolicy(t, billing.Config{}).newRecord(facts).membership.ID; got != c.want {
					t.Errorf("order %d: %s counts; want %s", i, got, c.want)
				}
			}
		})
	}
}

func TestPlanAndLevel(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*catalog.GrantFacts)
		plan   string
		level  int64
		status string
	}{
		{"the subscription's plan", nil, "pro", 2, "active"},
		{"without one the tenant's", func(f *catalog.GrantFacts) { f.Subscription = nil }, "basic", 1, "none"},
		{"entitled to a plan without a row", func(f *catalog.GrantFacts) { f.Subscription.PlanTier = new("gold") }, "gold", 1, "active"},
		{"not entitled, no row", func(f *catalog.GrantFacts) { f.Subscription, f.Tenant.PlanTier = nil, new("gold") }, "gold", 0, "none"},
		{"lapsed", func(f *catalog.GrantFacts) { f.Subscription.Status = new("unpaid") }, "basic", 1, "unpaid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			facts := payingFacts()
			if c.change != nil {
				c.change(&facts)
			}
			p := testPolicy(t, billing.Config{})
			g, code := p.Decide(&Route{subscriptionOptional: true}, p.newRecord(facts), noon, nil)
			if code != "" || g.Plan.Key != c.plan || g.Plan.TierLevel != c.level || g.Subscription.Status != c.status {
				t.Errorf("%q %+v; want %+v", code, g, c)
			}
		})
	}
	p := testPolicy(t, billing.Config{ExemptPlans: []string{"basic"}})
	facts := payingFacts()
	facts.Subscription.Status = new("canceled")
	if g, code := p.Decide(&Route{}, p.newRecord(facts), noon, nil); code != "" || g.Subscription.Status != "exempt" {
		t.Errorf("exempt tenant: %q %+v", code, g)
	}
}

// TestNothingIsLetThroughByAccident draws facts at random: whoever is granted is an active member of that active
// tenant, and exactly one of grant and code is there.
func TestNothingIsLetThroughByAccident(t *testing.T) {
	flag := rapid.SampledFrom([]*bool{nil, new(true), new(false)})
	rapid.Check(t, func(rt *rapid.T) {
		f := payingFacts()
		f.Blocked = rapid.Bool().Draw(rt, "blocked")
		f.Locks = rapid.SampledFrom([]catalog.Locks{
			{}, catalog.LockedUntil(time.Time{}), catalog.LockedUntil(noon.Add(time.Second)), catalog.LockedUntil(noon.Add(-time.Second)),
		}).Draw(rt, "locks")
		f.Tenant.IsActive = flag.Draw(rt, "tenant active")
		f.Memberships[0].IsActive = flag.Draw(rt, "membership active")
		f.Memberships[0].UserID = rapid.SampledFrom([]catalog.UserID{"u1", "u2", ""}).Draw(rt, "member")
		f.Memberships[0].TenantID = rapid.SampledFrom([]catalog.TenantID{"acme", "globex", ""}).Draw(rt, "of")
		f.Subscription.Status = rapid.SampledFrom([]*string{nil, new("active"), new("past_due"), new("canceled"), new("")}).Draw(rt, "status")
		if rapid.Bool().Draw(rt, "no user") {
			f.User = nil
		}
		if rapid.Bool().Draw(rt, "no tenant") {
			f.Tenant = nil
		}
		p := testPolicy(t, billing.Config{})
		g, code := p.Decide(&Route{}, p.newRecord(f), noon, nil)
		if (g == nil) == (code == "") {
			rt.Fatalf("grant %v and code %q", g, code)
		}
		if g == nil {
			return
		}
		m := f.Memberships[0]
		if f.Blocked || f.Locks.Paused(noon) || f.User == nil || f.Tenant == nil || !*f.Tenant.IsActive || m.IsActive == nil ||
			!*m.IsActive || m.UserID != f.User.ID || m.TenantID != f.Tenant.ID || *f.Subscription.Status != "active" {
			rt.Fatalf("let through: %+v", f)
		}
	})
}

func TestEveryCodeHasItsRow(t *testing.T) {
	for code, ref := range refusals {
		if ref.Status < 400 || ref.Title == "" || ref.Detail == "" {
			t.Errorf("%s: %+v", code, ref)
		}
		if ref.Status == 503 && ref.RetryAfter == 0 || ref.Status == 429 && ref.RetryAfter == 0 {
			t.Errorf("%s has no Retry-After", code)
		}
	}
	if got := Code("never heard of").Refusal().Status; got != 500 {
		t.Errorf("an unknown code is %d", got)
	}
}

func BenchmarkDecide(b *testing.B) {
	p := testPolicy(b, billing.Config{})
	rec := p.newRecord(payingFacts())
	route := &Route{minRole: "member", minTier: new(int64(1)), feature: "exports"}
	b.ReportAllocs()
	for b.Loop() {
		if _, code := p.Decide(route, rec, noon, nil); code != "" {
			b.Fatal(code)
		}
	}
}
