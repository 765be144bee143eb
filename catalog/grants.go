package catalog

import "context"

// NameKind says what a name in a request is.
type NameKind int

// The kinds of names.
const (
	// NamePlain is from a path, header, claim or session: a tenant's id exactly as given, else a slug, ASCII case folded.
	NamePlain NameKind = iota
	// NameHost is a label below base_domain, in lower case: a tenant's id exactly, else a slug.
	NameHost
	// NameDomain is a whole host, in lower case: a verified custom domain.
	NameDomain
)

// GrantQuery asks what one user may do in one tenant. Exactly one of Tenant and Name is set.
type GrantQuery struct {
	User   UserID
	Tenant TenantID
	Name   string
	Kind   NameKind
	// Aliases is subscription.plan_aliases: Plans holds the aliases' targets too.
	Aliases map[string]string
}

// GrantFacts is everything a decision needs from the host database, read at one moment.
type GrantFacts struct {
	User         *GlobalUser // nil: no such user
	Blocked      bool        // a row of sys_user_blocks stands
	Tenant       *TenantCatalog
	Paused       bool          // a row of sys_tenant_locks stands
	Memberships  []Membership  // all rows of (user, tenant), in no order
	Subscription *Subscription // the newest with payment_type "subscription", nil without one
	Plans        []PricingPlan // rows named by the tenant's or the subscription's plan_tier, or by an alias of these
}

// GrantFacts answers q in one statement and one round trip, by index, and by the same statement whether the tenant
// exists, is the user's, or not. Without a deadline in ctx it takes at most a second.
func (t *Tables) GrantFacts(ctx context.Context, q GrantQuery) (GrantFacts, error) {
	return GrantFacts{}, ErrUnavailable
}

// UserGrants returns the facts of every tenant in which the user has a membership row, active or not, ordered by
// tenant name and id. limit is between 1 and 1000; 0 is 100.
func (t *Tables) UserGrants(ctx context.Context, user UserID, aliases map[string]string, limit int) ([]GrantFacts, error) {
	return nil, ErrUnavailable
}

// ResolveTenant says which tenant a name means; false without an error if none.
func (t *Tables) ResolveTenant(ctx context.Context, name string, kind NameKind) (TenantID, bool, error) {
	return "", false, ErrUnavailable
}

// UserBySubject finds the user whose oauth_id is given, and whether that user is blocked. Of several the one with the
// smallest (created_at, id) counts, NULL last. ErrNotFound without one; "" is never found.
func (t *Tables) UserBySubject(ctx context.Context, oauthID string) (*GlobalUser, bool, error) {
	return nil, false, ErrUnavailable
}

// UsersByEmail returns every user with that address, ASCII case folded, smallest (created_at, id) first.
func (t *Tables) UsersByEmail(ctx context.Context, email string) ([]GlobalUser, error) {
	return nil, ErrUnavailable
}

// SessionUser returns a session, its user (nil if gone) and whether the user is blocked. ErrNotFound without a session.
// It does not look at the clock: expiry is the caller's.
func (t *Tables) SessionUser(ctx context.Context, id SessionID) (*Session, *GlobalUser, bool, error) {
	return nil, nil, false, ErrUnavailable
}
