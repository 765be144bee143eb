package router

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/catalog"
)

// Grant is the answer to a request that is let through: who, in which tenant, as what, on which plan, and where the
// data is. It is immutable.
type Grant struct {
	User         User
	Membership   Membership
	Tenant       Tenant
	Subscription Subscription
	Plan         Plan

	opened *openedURI // nil: no URI
	enc    *encoded   // header values made once for the record that this grant stems from
	// features is the header value of Plan.Features.
	features string
	until    time.Time // when the clock alone may end it; zero: never
}

// User is the person a grant is for.
type User struct {
	ID    catalog.UserID
	Email string
}

// Membership is the user's place in the tenant.
type Membership struct {
	ID        catalog.MembershipID
	Role      string
	ProfileID string
}

// Tenant is where the request goes.
type Tenant struct {
	ID   catalog.TenantID
	Name string
}

// Subscription is the state that entitles the tenant, or does not.
type Subscription struct {
	// Status is the newest subscription row's, entitled or not; "none" without one; "exempt" for an exempt tenant.
	Status string
	// Entitled is false on routes with `subscription: optional` where the tenant does not pay.
	Entitled bool
}

// Plan is what the tenant has bought.
type Plan struct {
	Key       string
	TierLevel int64
	Features  []string
}

// Has reports whether the plan includes the feature; all_features includes every one.
func (p Plan) Has(feature string) bool {
	return slices.Contains(p.Features, feature) || slices.Contains(p.Features, billing.AllFeatures)
}

// DBURI returns the tenant's database URI as the app is given it, opened where it lies sealed or is a reference. It
// redacts itself; Reveal shows it.
func (g *Grant) DBURI() catalog.DBURI {
	if g.opened == nil {
		return catalog.DBURI{}
	}
	return g.opened.uri
}

func (g *Grant) uriHash() (none [sha256.Size]byte) {
	if g.opened == nil {
		return none
	}
	return g.opened.hash
}

// Record is everything the host database says about one user in one tenant, prepared once for many decisions. It holds
// facts, never a verdict (CACHE-1), and is immutable but for the URI of a db_url that is sealed or a reference.
type Record struct {
	userKnown bool
	blocked   bool
	user      User

	tenantKnown  bool
	tenantActive bool
	locks        catalog.Locks
	tenant       Tenant
	tenantTier   *string

	member     membershipState
	membership Membership
	rank       int

	subscription billing.Sub
	plans        []*planView // few: at most the tenant's, the subscription's and their aliases; shared

	stored catalog.DBURI             // db_url, where it is sealed or a reference
	opened atomic.Pointer[openedURI] // nil: no tenant
	enc    encoded
}

// TenantID returns the tenant that the record is about, empty where there is none.
func (r *Record) TenantID() catalog.TenantID { return r.tenant.ID }

// planView is a plan with its header value. It is immutable.
type planView struct {
	billing.PlanView
	header string
}

// planViews are made once for all records that name a plan, as long as its row says the same.
type planViews struct {
	known *lru.Cache[planText, *planView]
}

// planText is all of a row that a planView is made of.
type planText struct {
	id       catalog.PlanID
	level    int64
	leveled  bool // tier_level is not NULL
	features string
}

// keptPlans bounds the planViews that are shared; an installation has few plans.
const keptPlans = 256

func newPlanViews() planViews {
	known, _ := lru.New[planText, *planView](keptPlans) // it refuses nothing but a size below one
	return planViews{known}
}

func (v planViews) view(row *catalog.PricingPlan) *planView {
	key := planText{id: row.ID, leveled: row.TierLevel != nil, features: text(row.Features)}
	if key.leveled {
		key.level = *row.TierLevel
	}
	if p, ok := v.known.Get(key); ok {
		return p
	}
	plan := billing.ParsePlan(row)
	p := &planView{PlanView: plan, header: encodeFeatures(plan.Features)}
	v.known.Add(key, p)
	return p
}

type membershipState uint8

const (
	noMembership membershipState = iota
	inactiveMembership
	activeMembership
)

// newRecord prepares facts for deciding.
func (p *Policy) newRecord(f catalog.GrantFacts) *Record {
	r := &Record{blocked: f.Blocked, locks: f.Locks}
	if f.User != nil {
		r.userKnown = true
		r.user = User{ID: f.User.ID, Email: text(f.User.Email)}
	}
	if f.Tenant != nil {
		r.tenantKnown = true
		r.tenantActive = f.Tenant.IsActive != nil && *f.Tenant.IsActive
		r.tenant = Tenant{ID: f.Tenant.ID, Name: text(f.Tenant.Name)}
		r.tenantTier = f.Tenant.PlanTier
		r.keep(f.Tenant.DBURL)
		r.chooseMembership(p, f)
	}
	r.subscription = billing.ParseSince(f.Subscription, f.PastDueSince)
	if len(f.Plans) > 0 {
		r.plans = make([]*planView, len(f.Plans))
	}
	for i := range f.Plans {
		r.plans[i] = p.plans.view(&f.Plans[i])
	}
	r.enc = encodeRecord(r)
	return r
}

// chooseMembership takes, of several rows for the pair, the active one with the lowest role, then the smallest
// (created_at, id) by bytes, NULL last.
func (r *Record) chooseMembership(p *Policy, f catalog.GrantFacts) {
	var best *catalog.Membership
	for i := range f.Memberships {
		m := &f.Memberships[i]
		if m.TenantID != f.Tenant.ID || f.User == nil || m.UserID != f.User.ID {
			continue // a row of another pair never counts, whatever a query returned
		}
		if m.IsActive == nil || !*m.IsActive {
			r.member = max(r.member, inactiveMembership)
			continue
		}
		if best == nil || p.compareMemberships(m, best) < 0 {
			best = m
		}
	}
	if best == nil {
		return
	}
	r.member = activeMembership
	r.membership = Membership{ID: best.ID, Role: text(best.Role), ProfileID: text(best.ProfileID)}
	r.rank = p.rank(r.membership.Role)
}

func (p *Policy) compareMemberships(a, b *catalog.Membership) int {
	return cmp.Or(
		cmp.Compare(p.rank(text(a.Role)), p.rank(text(b.Role))),
		compareNullLast(a.CreatedAt, b.CreatedAt),
		compareNullLast(idOf(a), idOf(b)),
	)
}

// idOf is nil where the row has none.
func idOf(m *catalog.Membership) *string {
	if m.ID == "" {
		return nil
	}
	return new(string(m.ID))
}

func compareNullLast(a, b *string) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return cmp.Compare(*a, *b)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
