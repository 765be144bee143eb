package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

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
	Locks        Locks         // the tenant's rows of sys_tenant_locks
	Memberships  []Membership  // all rows of (user, tenant), in no order
	Subscription *Subscription // the newest with payment_type "subscription", nil without one
	PastDueSince string        // since when that one is past_due (see Timestamp), "" where it is not or nobody knows
	Plans        []PricingPlan // rows named by the tenant's or the subscription's plan_tier, or by an alias of these
}

// factRows bounds what one read of facts may return: pairs of membership and plan. More than that is no database that
// anybody meant to have, and an error, so that nothing is decided from a part.
const factRows = 100_000

// GrantFacts answers q in one statement and one round trip, by index, and by the same statement whether the tenant
// exists, is the user's, or not. Without a deadline in ctx it takes at most a second.
func (t *Tables) GrantFacts(ctx context.Context, q GrantQuery) (GrantFacts, error) {
	args, err := q.parameters()
	if err != nil {
		return GrantFacts{}, err
	}
	all, err := t.facts(ctx, "read grant facts", hotDeadline, "grant_facts", args...)
	if err != nil {
		return GrantFacts{}, err
	}
	if len(all) != 1 {
		return GrantFacts{}, fmt.Errorf("grant facts: %d answers instead of one", len(all))
	}
	return all[0], nil
}

// parameters are those of the statement grant_facts.
func (q *GrantQuery) parameters() ([]any, error) {
	if (q.Tenant == "") == (q.Name == "") {
		return nil, errors.New("grant facts: set either the tenant or its name")
	}
	id, slug, domain := nameParameters(q.Name, q.Kind)
	if q.Tenant != "" {
		id, slug, domain = storable(string(q.Tenant)), sql.NullString{}, sql.NullString{}
	}
	aliases, err := aliasParameter(q.Aliases)
	return []any{storable(string(q.User)), id, slug, domain, aliases}, err
}

// UserGrants returns the facts of every tenant in which the user has a membership row, active or not, ordered by
// tenant name and id (by bytes). limit is between 1 and 1000; 0 is 100, more is 1000.
func (t *Tables) UserGrants(ctx context.Context, user UserID, aliases map[string]string, limit int) ([]GrantFacts, error) {
	if limit <= 0 {
		limit = defaultPage
	}
	a, err := aliasParameter(aliases)
	if err != nil {
		return nil, err
	}
	return t.facts(ctx, "read the user's grants", readDeadline, "user_grants", storable(string(user)), a, min(limit, maxPage))
}

// MembershipTenants returns the tenants of the user's membership rows, active or not, whether such a tenant exists or
// not, at most limit, in no order.
func (t *Tables) MembershipTenants(ctx context.Context, user UserID, limit int) ([]TenantID, error) {
	var ids []TenantID
	args := []any{storable(string(user)), limit}
	err := t.at.query(ctx, "read the user's memberships", readDeadline, "user_membership_tenants", args, func(rows *sql.Rows) error {
		ids = nil
		for rows.Next() {
			var id TenantID
			if err := rows.Scan(into(&id)); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return rows.Err()
	})
	return ids, err
}

// nameParameters says where a name is looked up: as id, as slug, as custom host.
func nameParameters(name string, kind NameKind) (id, slug, domain sql.NullString) {
	if kind == NameDomain {
		return id, slug, storable(name)
	}
	return storable(name), storable(foldASCII(name)), domain
}

// aliasParameter is a JSON object, or NULL for none.
func aliasParameter(aliases map[string]string) (any, error) {
	if len(aliases) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(aliases)
	if err != nil {
		return nil, fmt.Errorf("plan aliases: %w", err)
	}
	return string(text), nil
}

// factRow is one row of grant_facts or user_grants.
type factRow struct {
	user         GlobalUser
	blocked      bool
	tenant       TenantCatalog
	locks        Locks
	subscription Subscription
	pastDue      string
	rowKey       string // of the membership: its id, or where ids may be NULL the rowid
	membership   Membership
	plan         PricingPlan
}

func (r *factRow) into() []any {
	dst := make([]any, 0, 56)
	dst = intoAll(dst, userFields(&r.user))
	dst = append(dst, into(&r.blocked))
	dst = intoAll(dst, tenantFields(&r.tenant))
	dst = append(dst, into(&r.locks))
	dst = append(intoAll(dst, subscriptionFields(&r.subscription)), into(&r.pastDue))
	dst = append(dst, into(&r.rowKey))
	dst = intoAll(dst, membershipFields(&r.membership))
	return intoAll(dst, planFields(&r.plan))
}

// facts runs one of the two statements and folds its rows, which come tenant by tenant, into facts.
func (t *Tables) facts(ctx context.Context, op string, deadline time.Duration, name string, args ...any) ([]GrantFacts, error) {
	var all []GrantFacts
	err := t.at.query(ctx, op, deadline, name, args, func(rows *sql.Rows) error {
		all = nil
		var folding factFolder
		for n := 0; rows.Next(); n++ {
			if n == factRows {
				return errTooManyRows
			}
			var r factRow
			if err := rows.Scan(r.into()...); err != nil {
				return err
			}
			if n == 0 || r.tenant.ID != folding.tenant {
				all = append(all, GrantFacts{})
				folding = factFolder{tenant: r.tenant.ID}
			}
			folding.add(&all[len(all)-1], &r)
		}
		return rows.Err()
	})
	return all, err
}

// factFolder takes the pairs of membership and plan of one tenant apart again.
type factFolder struct {
	tenant      TenantID
	memberships map[string]bool
	plans       map[PlanID]bool
}

func (f *factFolder) add(facts *GrantFacts, r *factRow) {
	if f.memberships == nil {
		f.memberships, f.plans = map[string]bool{}, map[PlanID]bool{}
		facts.Blocked = r.blocked
		if r.user.ID != "" {
			facts.User = &r.user
		}
		if r.tenant.ID != "" {
			facts.Tenant, facts.Locks = &r.tenant, r.locks
		}
		if r.subscription.TenantID != "" {
			facts.Subscription, facts.PastDueSince = &r.subscription, r.pastDue
		}
	}
	if r.membership.TenantID != "" && !f.memberships[r.rowKey] {
		f.memberships[r.rowKey] = true
		facts.Memberships = append(facts.Memberships, r.membership)
	}
	if r.plan.ID != "" && !f.plans[r.plan.ID] {
		f.plans[r.plan.ID] = true
		facts.Plans = append(facts.Plans, r.plan)
	}
}

// ResolveTenant says which tenant a name means; false without an error if none.
func (t *Tables) ResolveTenant(ctx context.Context, name string, kind NameKind) (TenantID, bool, error) {
	id, slug, domain := nameParameters(name, kind)
	var found TenantID
	err := t.at.query(ctx, "resolve tenant", hotDeadline, "resolve_tenant", []any{id, slug, domain}, func(rows *sql.Rows) error {
		found = ""
		for rows.Next() {
			if err := rows.Scan(into(&found)); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return found, found != "" && err == nil, err
}

// UserBySubject finds the user whose oauth_id is given, and whether that user is blocked. Of several the one with the
// smallest (created_at, id) counts, NULL last. ErrNotFound without one; "" is never found.
func (t *Tables) UserBySubject(ctx context.Context, oauthID string) (*GlobalUser, bool, error) {
	var user *GlobalUser
	var blocked bool
	args := []any{storable(oauthID)}
	err := t.at.query(ctx, "find the user", hotDeadline, "user_by_subject", args, func(rows *sql.Rows) error {
		user, blocked = nil, false
		for rows.Next() {
			user = new(GlobalUser)
			if err := rows.Scan(append(intoAll(nil, userFields(user)), into(&blocked))...); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err == nil && user == nil {
		err = fmt.Errorf("user of that subject: %w", ErrNotFound)
	}
	if err != nil {
		return nil, false, err
	}
	return user, blocked, nil
}

// UsersByEmail returns every user with that address (at most 1000), ASCII case folded, smallest (created_at, id) first.
func (t *Tables) UsersByEmail(ctx context.Context, email string) ([]GlobalUser, error) {
	var users []GlobalUser
	args := []any{storable(foldASCII(email))}
	err := t.at.query(ctx, "find users by e-mail", hotDeadline, "users_by_email", args, func(rows *sql.Rows) error {
		users = nil
		for rows.Next() {
			var u GlobalUser
			if err := rows.Scan(intoAll(nil, userFields(&u))...); err != nil {
				return err
			}
			users = append(users, u)
		}
		return rows.Err()
	})
	return users, err
}

// SessionUser returns a session, its user (nil if gone) and whether the user is blocked. ErrNotFound without a session.
// It does not look at the clock: expiry is the caller's.
func (t *Tables) SessionUser(ctx context.Context, id SessionID) (*Session, *GlobalUser, bool, error) {
	var session *Session
	var user GlobalUser
	var blocked bool
	args := []any{storable(string(id))}
	err := t.at.query(ctx, "find the session", hotDeadline, "session_user", args, func(rows *sql.Rows) error {
		session, user, blocked = nil, GlobalUser{}, false
		for rows.Next() {
			session = new(Session)
			dst := append(intoAll(intoAll(nil, sessionFields(session)), userFields(&user)), into(&blocked))
			if err := rows.Scan(dst...); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err == nil && session == nil {
		err = fmt.Errorf("session: %w", ErrNotFound)
	}
	if err != nil {
		return nil, nil, false, err
	}
	if user.ID == "" {
		return session, nil, blocked, nil
	}
	return session, &user, blocked, nil
}
