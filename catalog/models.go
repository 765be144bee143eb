package catalog

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
)

// Tables are the models and reads, of a HostDatabase (each write a transaction of its own) or of a Tx.
type Tables struct {
	GlobalUsers   Table[UserID, GlobalUser]
	Tenants       Table[TenantID, TenantCatalog]
	Memberships   Table[MembershipID, Membership]
	Subscriptions Table[SubscriptionID, Subscription]
	PricingPlans  Table[PlanID, PricingPlan]
	AuditLogs     Table[AuditID, HostAuditLog]
	Jobs          Table[JobID, SystemJob]
	WebhookEvents Table[WebhookEventID, StripeWebhookEvent]
	Domains       Table[DomainName, Domain]
	Sessions      Sessions
	Handoffs      Handoffs
	APITokens     APITokens
	Keys          Keys
	Stripe        StripeRecords
	// TenantDatabases is what provisioning recorded of the databases that it made.
	TenantDatabases Table[TenantID, TenantDatabase]

	at access
}

func newTables(at access) Tables {
	engine := at.host().engine
	return Tables{
		GlobalUsers:   newTable(at, engine, userModel()),
		Tenants:       newTable(at, engine, tenantModel()),
		Memberships:   newTable(at, engine, membershipModel()),
		Subscriptions: newTable(at, engine, subscriptionModel()),
		PricingPlans:  newTable(at, engine, planModel()),
		AuditLogs:     newTable(at, engine, auditModel()),
		Jobs:          newTable(at, engine, jobModel()),
		WebhookEvents: newTable(at, engine, webhookModel()),
		Domains:       newTable(at, engine, domainModel()),
		Sessions:      Sessions{at},
		Handoffs:      Handoffs{at},
		APITokens:     APITokens{newTable(at, engine, apiTokenModel())},
		Keys:          Keys{at},
		Stripe:        StripeRecords{at},
		at:            at,

		TenantDatabases: newTable(at, engine, tenantDatabaseModel()),
	}
}

// model says how a Go type and a table fit together.
type model[ID ~string, T any] struct {
	table   string
	noun    string   // in audit events: tenant.created
	columns []string // the key first
	fields  func(*T) []any
	// fill sets fh-saas's Python-side defaults where a field is nil.
	fill func(*T)
	// derive sets what follows from other fields.
	derive func(*T)
	// rule keeps the rules of a row that need no look at others.
	rule func(h *HostDatabase, row *T) error
	// check keeps the other rules of a write; old is nil for an insert. It may lock.
	check func(ctx context.Context, tx *Tx, old, row *T) error
	// batch are the rules of check as an import asks them.
	batch batch
	// gone ends, in the same transaction, what must not outlive a row that is deleted.
	gone func(ctx context.Context, tx *Tx, id ID) error
	// newest: lists begin with the newest row.
	newest bool
	// hidden columns never show in an audit row's details.
	hidden []string
	// quiet columns change without an audit row.
	quiet []string
}

func userModel() model[UserID, GlobalUser] {
	return model[UserID, GlobalUser]{
		table: "core_users", noun: "user",
		columns: []string{"id", "email", "oauth_id", "password_hash", "stripe_cust_id", "is_sys_admin", "created_at", "last_login"},
		fields:  userFields,
		fill:    func(u *GlobalUser) { orDefault(&u.IsSysAdmin, false) },
		check:   checkUser,
		batch: batch{stripes: subjectStripes, checks: []batchCheck{
			{"import_subject_twice", "oauth_id", "%q stands in the file twice"}, {"import_subject_taken", "oauth_id", "another user has %q"},
		}},
		gone:   endCredentials,
		hidden: []string{"password_hash"},
		quiet:  []string{"last_login"},
	}
}

func userFields(u *GlobalUser) []any {
	return []any{&u.ID, &u.Email, &u.OAuthID, &u.PasswordHash, &u.StripeCustID, &u.IsSysAdmin, &u.CreatedAt, &u.LastLogin}
}

func tenantModel() model[TenantID, TenantCatalog] {
	return model[TenantID, TenantCatalog]{
		table: "core_tenants", noun: "tenant",
		columns: []string{"id", "name", "db_url", "is_active", "plan_tier", "created_at"},
		fields:  tenantFields,
		fill: func(t *TenantCatalog) {
			orDefault(&t.IsActive, true)
			orDefault(&t.PlanTier, "free")
		},
		check: checkTenant,
		batch: batch{
			names: true, before: "import_forget_deletions",
			checks: []batchCheck{{"import_id_is_slug", "id", "a slug is %q: choose another id"}},
		},
		gone: func(ctx context.Context, tx *Tx, id TenantID) error {
			if _, err := tx.APITokens.DeleteByTenant(ctx, id); err != nil {
				return err
			}
			if _, err := tx.exec(ctx, "forget a customer", "stripe_customer_forget", string(id)); err != nil {
				return err
			}
			_, err := tx.exec(ctx, "forget a deletion", "tenant_deletion_forget", string(id))
			return err
		},
	}
}

func tenantFields(t *TenantCatalog) []any {
	return []any{&t.ID, &t.Name, &t.DBURL, &t.IsActive, &t.PlanTier, &t.CreatedAt}
}

func membershipModel() model[MembershipID, Membership] {
	return model[MembershipID, Membership]{
		table: "core_memberships", noun: "membership",
		columns: []string{"id", "user_id", "tenant_id", "profile_id", "meta_attributes", "role", "is_active", "created_at"},
		fields:  membershipFields,
		fill: func(m *Membership) {
			orDefault(&m.Role, "member")
			orDefault(&m.IsActive, true)
		},
		rule:  membershipRule,
		check: checkMembership,
		batch: batch{stripes: membershipStripes, checks: []batchCheck{
			{"import_unknown_user", "user_id", "there is no user %q"},
			{"import_unknown_tenant", "tenant_id", "there is no tenant %q"},
			{"import_membership_twice", "user_id", "the active membership of %s stands in the file twice"},
			{"import_membership_stands", "user_id", "there is an active membership of %s already"},
		}},
	}
}

func membershipFields(m *Membership) []any {
	return []any{&m.ID, &m.UserID, &m.TenantID, &m.ProfileID, &m.MetaAttributes, &m.Role, &m.IsActive, &m.CreatedAt}
}

func subscriptionModel() model[SubscriptionID, Subscription] {
	return model[SubscriptionID, Subscription]{
		table: "core_subscriptions", noun: "subscription",
		columns: []string{
			"id", "tenant_id", "stripe_sub_id", "stripe_cust_id", "plan_tier", "status", "current_period_end",
			"cancel_at_period_end", "payment_type", "amount_cents", "product_name", "trial_end", "created_at",
		},
		fields: subscriptionFields,
		fill: func(s *Subscription) {
			orDefault(&s.CancelAtPeriodEnd, false)
			orDefault(&s.PaymentType, "subscription")
		},
		batch: batch{checks: []batchCheck{{"import_unknown_tenant", "tenant_id", "there is no tenant %q"}}},
	}
}

func subscriptionFields(s *Subscription) []any {
	return []any{
		&s.ID, &s.TenantID, &s.StripeSubID, &s.StripeCustID, &s.PlanTier, &s.Status, &s.CurrentPeriodEnd,
		&s.CancelAtPeriodEnd, &s.PaymentType, &s.AmountCents, &s.ProductName, &s.TrialEnd, &s.CreatedAt,
	}
}

func planModel() model[PlanID, PricingPlan] {
	return model[PlanID, PricingPlan]{
		table: "core_pricing_plans", noun: "plan",
		columns: []string{
			"id", "name", "description", "stripe_price_monthly", "stripe_price_yearly", "amount_monthly", "amount_yearly",
			"currency", "trial_days", "features", "tier_level", "is_active", "sort_order", "created_at",
		},
		fields: planFields,
		fill: func(p *PricingPlan) {
			orDefault(&p.Currency, "usd")
			orDefault(&p.TrialDays, 30)
			orDefault(&p.TierLevel, 1)
			orDefault(&p.IsActive, true)
			orDefault(&p.SortOrder, 0)
		},
	}
}

func planFields(p *PricingPlan) []any {
	return []any{
		&p.ID, &p.Name, &p.Description, &p.StripePriceMonthly, &p.StripePriceYearly, &p.AmountMonthly, &p.AmountYearly,
		&p.Currency, &p.TrialDays, &p.Features, &p.TierLevel, &p.IsActive, &p.SortOrder, &p.CreatedAt,
	}
}

func auditModel() model[AuditID, HostAuditLog] {
	return model[AuditID, HostAuditLog]{
		table: "sys_audit_logs", noun: "audit_log", newest: true,
		columns: []string{"id", "actor_user_id", "event_type", "target_id", "details", "ip_address", "created_at"},
		fields: func(a *HostAuditLog) []any {
			return []any{&a.ID, &a.ActorUserID, &a.EventType, &a.TargetID, &a.Details, &a.IPAddress, &a.CreatedAt}
		},
	}
}

// jobModel hides payload and error_log from audit rows: they are another program's text and may hold anything.
func jobModel() model[JobID, SystemJob] {
	return model[JobID, SystemJob]{
		table: "sys_jobs", noun: "job", newest: true,
		columns: []string{"id", "job_type", "status", "payload", "error_log", "created_at", "completed_at"},
		fields: func(j *SystemJob) []any {
			return []any{&j.ID, &j.JobType, &j.Status, &j.Payload, &j.ErrorLog, &j.CreatedAt, &j.CompletedAt}
		},
		hidden: []string{"payload", "error_log"},
	}
}

func webhookModel() model[WebhookEventID, StripeWebhookEvent] {
	return model[WebhookEventID, StripeWebhookEvent]{
		table: "core_stripe_webhook_events", noun: "webhook_event",
		columns: []string{"id", "event_id", "event_type", "status", "payload_json", "created_at"},
		fields: func(e *StripeWebhookEvent) []any {
			return []any{&e.ID, &e.EventID, &e.EventType, &e.Status, &e.PayloadJSON, &e.CreatedAt}
		},
		hidden: []string{"payload_json"},
	}
}

func orDefault[V any](field **V, v V) {
	if *field == nil {
		*field = &v
	}
}

// checkUser keeps oauth_id unique also where existing doubles forbid the unique index.
func checkUser(ctx context.Context, tx *Tx, old, row *GlobalUser) error {
	if row.OAuthID == nil || *row.OAuthID == "" || (old != nil && old.OAuthID != nil && *old.OAuthID == *row.OAuthID) {
		return nil
	}
	if err := tx.lock(ctx, subjectStripes+stripe(*row.OAuthID)); err != nil {
		return err
	}
	n, err := tx.count(ctx, "look for the subject", "count_subject", *row.OAuthID, string(row.ID))
	if err == nil && n > 0 {
		err = fmt.Errorf("%w: another user has that oauth_id", ErrConflict)
	}
	return err
}

// namesLock serialises the writes that could make a tenant's id and a slug the same.
const namesLock = "names"

func checkTenant(ctx context.Context, tx *Tx, old, row *TenantCatalog) error {
	if old != nil {
		return refuseDeleted(ctx, tx, old, row) // an id never changes
	}
	if _, err := tx.exec(ctx, "forget a deletion", "tenant_deletion_forget", string(row.ID)); err != nil {
		return err // of a tenant of that id whose row another program removed
	}
	if err := tx.lock(ctx, namesLock); err != nil {
		return err
	}
	n, err := tx.count(ctx, "look for the slug", "count_slug", string(row.ID))
	if err == nil && n > 0 {
		err = fmt.Errorf("%w: a slug has the name of that tenant id: choose another id", ErrConflict)
	}
	return err
}

func membershipRule(_ *HostDatabase, row *Membership) error {
	if row.UserID == "" || row.TenantID == "" {
		return errors.New("a membership needs user_id and tenant_id")
	}
	return nil
}

// What is locked is shared by stripes, so that an import can lock each at most once: many subjects, or pairs of user and
// tenant, have one lock.
const (
	stripes           = 256
	subjectStripes    = "oauth_id/"
	membershipStripes = "membership/"
)

func stripe(key string) string {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(key)) // a hash never fails
	return strconv.Itoa(int(sum.Sum32() % stripes))
}

func checkMembership(ctx context.Context, tx *Tx, _, row *Membership) error {
	if row.IsActive == nil || !*row.IsActive {
		return nil
	}
	if err := tx.lock(ctx, membershipStripes+stripe(string(row.UserID)+"\x00"+string(row.TenantID))); err != nil {
		return err
	}
	n, err := tx.count(ctx, "look for the membership", "count_active_memberships",
		string(row.UserID), string(row.TenantID), string(row.ID))
	if err == nil && n > 0 {
		err = fmt.Errorf("%w: the user has an active membership of that tenant already", ErrConflict)
	}
	return err
}
