package router

import (
	"time"

	"github.com/tenantgate/tenantgate/billing"
)

// Policy is the part of the configuration that decisions depend on, compiled and immutable.
type Policy struct {
	rules billing.Rules
	roles map[string]int
	// payers are the roles that may pay for a tenant.
	payers map[string]bool
	// needURI: a tenant without a usable database URI is misconfigured (forward.db_uri: header).
	needURI bool
	plans   planViews
}

// rank of a role: its place in the configured order, lowest first, from 1; 0 for a role that is not listed.
func (p *Policy) rank(role string) int { return p.roles[role] }

// Step is one line of a decision's trace.
type Step struct {
	// Step is the question: path, tenant_named, route, authenticate, cross_origin, resolve, user, membership, tenant,
	// subscription, role, tier, feature or uri.
	Step string `json:"step"`
	// Result is "ok", a denial's code, or what was found.
	Result string `json:"result"`
	// Source says where the answer came from.
	Source string `json:"source"`
}

// Trace collects the steps of one decision for explain. A nil Trace records nothing and costs nothing.
type Trace struct{ Steps []Step }

func (t *Trace) add(step, result, source string) {
	if t != nil {
		t.Steps = append(t.Steps, Step{Step: step, Result: result, Source: source})
	}
}

// Decide answers for a known user and a resolved tenant: membership, tenant, subscription, role, tier, feature, URI, in
// this order. It is a pure function of its arguments: no I/O, no http, no clock of its own. Exactly one of the results
// is set: a grant, or the code of the first question that was not answered with yes.
func (p *Policy) Decide(route *Route, rec *Record, now time.Time, trace *Trace) (*Grant, Code) {
	if code := p.mayEnter(rec, now, trace); code != "" {
		return nil, code
	}
	g := &Grant{User: rec.user, Membership: rec.membership, Tenant: rec.tenant, opened: rec.opened.Load(), enc: &rec.enc}
	p.subscribe(g, rec, now)
	if code := p.maySpend(route, rec, g, trace); code != "" {
		return nil, code
	}
	if g.opened == nil || g.opened.state != uriUsable {
		if p.needURI {
			trace.add("uri", string(TenantMisconfigured), "core_tenants.db_url"+g.opened.because())
			return nil, TenantMisconfigured
		}
		g.opened = nil // what does not open, or is no URI, is none
	}
	trace.add("uri", "ok", "core_tenants.db_url")
	return g, ""
}

// mayEnter asks who and where: the user, the membership, the tenant.
func (p *Policy) mayEnter(rec *Record, now time.Time, trace *Trace) Code {
	switch {
	case !rec.userKnown:
		trace.add("user", string(UnknownUser), "core_users")
		return UnknownUser
	case rec.blocked:
		trace.add("user", string(UnknownUser), "sys_user_blocks")
		return UnknownUser
	case !rec.tenantKnown, rec.member == noMembership:
		trace.add("membership", string(NoAccess), "core_memberships")
		return NoAccess
	case rec.member != activeMembership:
		trace.add("membership", string(MembershipInactive), "core_memberships.is_active")
		return MembershipInactive
	}
	trace.add("membership", rec.membership.Role, "core_memberships")
	switch {
	case !rec.tenantActive:
		trace.add("tenant", string(TenantInactive), "core_tenants.is_active")
		return TenantInactive
	case rec.locks.Paused(now):
		trace.add("tenant", string(TenantPaused), "sys_tenant_locks")
		return TenantPaused
	}
	trace.add("tenant", "ok", "core_tenants")
	return ""
}

// subscribe fills in what the tenant pays and has bought at this moment.
func (p *Policy) subscribe(g *Grant, rec *Record, now time.Time) {
	entitled := p.rules.Entitled(now, &rec.subscription)
	g.until, _ = p.rules.Until(now, &rec.subscription)
	g.Subscription.Status = p.rules.Status(rec.tenantTier, &rec.subscription)
	g.Subscription.Entitled = entitled || p.rules.Exempt(text(rec.tenantTier))
	g.Plan.Key = p.rules.PlanKey(now, rec.tenantTier, &rec.subscription)
	if g.Subscription.Entitled {
		g.Plan.TierLevel = 1
	}
	for i := range rec.plans {
		if plan := rec.plans[i]; plan.Key == g.Plan.Key {
			g.Plan.TierLevel, g.Plan.Features, g.features = plan.Level, plan.Features, plan.header
			return
		}
	}
}

// maySpend asks what was bought and what the role allows.
func (p *Policy) maySpend(route *Route, rec *Record, g *Grant, trace *Trace) Code {
	if !g.Subscription.Entitled && p.rules.Required() && !route.subscriptionOptional {
		trace.add("subscription", string(SubscriptionRequired), "core_subscriptions: "+g.Subscription.Status)
		return SubscriptionRequired
	}
	trace.add("subscription", g.Subscription.Status, "core_subscriptions")
	if route.minRole != "" && rec.rank < p.rank(route.minRole) {
		trace.add("role", string(RoleRequired), "routes.min_role: "+route.minRole)
		return RoleRequired
	}
	if route.minTier != nil && g.Plan.TierLevel < *route.minTier {
		trace.add("tier", string(TierRequired), "routes.min_tier")
		return TierRequired
	}
	if route.feature != "" && !g.Plan.Has(route.feature) {
		trace.add("feature", string(FeatureRequired), "routes.feature: "+route.feature)
		return FeatureRequired
	}
	trace.add("plan", g.Plan.Key, "core_pricing_plans")
	return ""
}
