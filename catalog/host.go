package catalog

import (
	"context"
)

// Engines, as Engine returns them.
const (
	EnginePostgreSQL = "postgresql"
	EngineSQLite     = "sqlite"
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
	Keys          Keys
}

// RecordLogin sets a user's last_login (text, see Timestamp). It is not audited: the sign-in is.
func (t *Tables) RecordLogin(ctx context.Context, user UserID, at string) error {
	return ErrUnavailable
}

// BlockUser and UnblockUser set and clear the user's row of sys_user_blocks, audited. Blocking ends all sessions.
func (t *Tables) BlockUser(ctx context.Context, user UserID, reason string) error {
	return ErrUnavailable
}

// UnblockUser lifts a block; ErrNotFound if there is none.
func (t *Tables) UnblockUser(ctx context.Context, user UserID) error { return ErrUnavailable }

// PauseTenant sets a lock of the tenant, audited.
func (t *Tables) PauseTenant(ctx context.Context, tenant TenantID, reason string) error {
	return ErrUnavailable
}

// UnpauseTenant removes the lock that PauseTenant set; ErrNotFound if there is none.
func (t *Tables) UnpauseTenant(ctx context.Context, tenant TenantID) error { return ErrUnavailable }

// HostDatabase is an open host database with its pool.
type HostDatabase struct {
	Tables
	uri    DBURI
	engine string
}

// Open opens the host database at url and creates missing tables: New(ctx, Config{URL: NewDBURI(url)}).
func Open(ctx context.Context, url string) (*HostDatabase, error) {
	return New(ctx, Config{URL: NewDBURI(url)})
}

// New opens the host database. With Migrate false nothing is created: what lacks is ErrSchema, saying what.
func New(ctx context.Context, cfg Config) (*HostDatabase, error) { return nil, ErrUnavailable }

// FromEnv opens the host database that DB_TYPE, DB_USER, DB_PASS, DB_HOST, DB_PORT and DB_NAME name: one instance a
// process, which later calls return again.
func FromEnv(ctx context.Context) (*HostDatabase, error) { return nil, ErrUnavailable }

// ResetInstance closes FromEnv's instance and forgets it; for tests.
func ResetInstance() {}

// URLFromEnv builds the URL that DB_* name, as fh-saas reads them.
func URLFromEnv(getenv func(string) string) (DBURI, error) { return DBURI{}, ErrUnavailable }

// Close ends the pool and waits for what runs. Calling it again does nothing.
func (h *HostDatabase) Close() error { return nil }

// URI reveals the URL with its password.
func (h *HostDatabase) URI() string { return h.uri.Reveal() }

// String returns the URL with the password redacted.
func (h *HostDatabase) String() string { return h.uri.String() }

// Engine is "postgresql" or "sqlite".
func (h *HostDatabase) Engine() string { return h.engine }

// Ping asks the database whether it is there and can be written to.
func (h *HostDatabase) Ping(ctx context.Context) error { return ErrUnavailable }

// Tx is a transaction. Rollback after Commit does nothing, so it can be deferred.
type Tx struct {
	Tables
}

// Begin starts a transaction that may write. On SQLite it waits for the one writer.
func (h *HostDatabase) Begin(ctx context.Context) (*Tx, error) { return nil, ErrUnavailable }

// InTx runs f in a transaction, committed if f returns nil and rolled back otherwise, also on a panic.
func (h *HostDatabase) InTx(ctx context.Context, f func(*Tx) error) error { return ErrUnavailable }

// Commit makes the transaction's changes last.
func (tx *Tx) Commit() error { return ErrUnavailable }

// Rollback undoes them.
func (tx *Tx) Rollback() error { return nil }

// Audit writes a sys_audit_logs row: who (WithActor) did what to which id. Details must hold no secret.
func (tx *Tx) Audit(ctx context.Context, event, target string, details map[string]any) error {
	return ErrUnavailable
}

// LockUser waits for the lock of that key and holds it to the transaction's end, across all replicas.
func (tx *Tx) LockUser(ctx context.Context, key string) error { return ErrUnavailable }

// Actor is who makes a change, for the audit.
type Actor struct {
	ID string // actor_user_id: a user's id, cli:<os user>@<host>, or system
	IP string // ip_address, "" for none
}

type actorKey struct{}

// WithActor names the actor of all changes made with the context. Without it the actor is "system".
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// Report says what a migration did, or would do, and what in existing data is doubtful.
type Report struct {
	Engine  string   `json:"engine"`
	Changes []string `json:"changes"` // in order; empty: nothing to do
	Doubts  []Doubt  `json:"doubts"`
}

// Doubt is one kind of finding in existing data. It stops nothing.
type Doubt struct {
	Kind   string   `json:"kind"`   // duplicate_oauth_id, duplicate_membership, duplicate_email, null_flag, unreachable_id …
	Count  int      `json:"count"`  // how many
	IDs    []string `json:"ids"`    // ids of at most 20 rows
	Advice string   `json:"advice"` // what it means and what to do
}

// Migrate creates and upgrades the schema of the database that cfg names and reports what it did.
func Migrate(ctx context.Context, cfg Config) (Report, error) { return Report{}, ErrUnavailable }

// Check reports what Migrate would do, and changes nothing.
func Check(ctx context.Context, cfg Config) (Report, error) { return Report{}, ErrUnavailable }

// Migrate creates and upgrades this database's schema.
func (h *HostDatabase) Migrate(ctx context.Context) (Report, error) { return Report{}, ErrUnavailable }

// Check reports what Migrate would do, and changes nothing.
func (h *HostDatabase) Check(ctx context.Context) (Report, error) { return Report{}, ErrUnavailable }
