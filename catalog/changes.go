package catalog

import "time"

// ChangeKind says what a change was made to.
type ChangeKind string

// The kinds of changes that are announced, and in which table they happen.
const (
	ChangedUser         ChangeKind = "user"         // core_users
	ChangedMembership   ChangeKind = "membership"   // core_memberships
	ChangedTenant       ChangeKind = "tenant"       // core_tenants
	ChangedSubscription ChangeKind = "subscription" // core_subscriptions
	ChangedPlan         ChangeKind = "plan"         // core_pricing_plans
	ChangedDomain       ChangeKind = "domain"       // core_tenant_domains
	ChangedSession      ChangeKind = "session"      // sys_sessions
	ChangedToken        ChangeKind = "token"        // sys_api_tokens
	ChangedBlock        ChangeKind = "block"        // sys_user_blocks
	ChangedLock         ChangeKind = "lock"         // sys_tenant_locks
)

// Change says that a row was inserted, updated or deleted by a transaction that has committed. It holds keys and no
// facts: what is true now is read from the tables. A row whose keys changed is announced by the keys that it had and by
// those that it has. A key that was NULL is "".
//
//	kind          ID             User        Tenant        Subject
//	user          user id        user id                   oauth_id
//	membership    membership id  user_id     tenant_id
//	tenant        tenant id                  tenant id
//	subscription  row id                     tenant_id
//	plan          plan key
//	domain        slug or host               tenant_id
//	session       session id     user_id     tenant_id
//	token         token id       user_id     tenant_id
//	block         user id        user id
//	lock          tenant id                  tenant id
type Change struct {
	Kind ChangeKind
	// Every says that any row of that kind may have changed (a statement that changed very many, a TRUNCATE). The keys
	// are empty then. A consumer must look at it first.
	Every   bool
	ID      string
	User    UserID
	Tenant  TenantID
	Subject string
}

// Subscriber hears of changes from a Feed, in the Feed's one goroutine: it must be quick (drop what it remembers, and
// wake who has more to do) and must not wait for the database. The look that found the changes counts as completed only
// after every Subscriber has returned.
type Subscriber interface {
	// Changed tells which rows may have changed. The slice is the Feed's own: it is used again after the return. The
	// same change may be told twice, and changes of one look come in no order.
	Changed(changes []Change)
	// Reset tells that anything may have changed: all that is remembered must be dropped. It comes before the first
	// completed look, when more happened than is worth telling one by one, and when the Feed cannot prove that nothing
	// escaped it.
	Reset()
}

// LookSubscriber is a Subscriber that wants to know how far it can rely on what it has heard.
type LookSubscriber interface {
	Subscriber
	// Looked tells that everything which was visible when a look began has been told. began is a reading of the Feed's
	// clock. Looks come one after the other.
	Looked(began time.Time)
}

// moment is a reading of the clock: by the monotonic clock where there is one, counted from some start, and by the wall
// clock, in nanoseconds. One stands still while a machine sleeps, the other can be set back.
type moment struct{ mono, wall int64 }

func momentAt(start, t time.Time) moment {
	return moment{mono: int64(t.Sub(start)), wall: t.UnixNano()}
}

// age is how long before now m was, by the clock that shows more. What comes from the future is as old as can be.
func (m moment) age(now moment) time.Duration {
	mono := now.mono - m.mono
	if mono < 0 {
		return maxAge
	}
	return time.Duration(max(mono, now.wall-m.wall))
}

// maxAge is more than any limit.
const maxAge = time.Duration(1<<63 - 1)
