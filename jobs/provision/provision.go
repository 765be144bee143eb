// Package provision brings tenants into being: names, a database of their own with a role of its own, its schema, the
// rows, and last of all the activation.
//
// Purpose: Run does what is still to do for one tenant, step by step; each step is on record before the next begins, and
// adopts what an earlier run has made. The command line, the job tenantgate.provision and the sign-up page all call it.
//
// Concurrency: a Provisioner is safe for concurrent use. Of several runs for one tenant, in whatever processes, one works
// and the others wait for it and find it done. A run that lost the tenant writes nothing more: each of its transactions
// asks whether the record still names it.
//
// Failure mode: killed at any moment, it is started again and ends in the same state. A tenant that is not finished is
// not active. What stands in the way and is not ours is refused and stays as it is; the reason is in the record, and holds
// no secret.
package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
)

// Step is what has been done, in the order of Steps. It stands in sys_tenant_databases.step.
type Step string

// The steps.
const (
	// Recorded: the names are on record, and the tenant's row is there, not active.
	Recorded Step = "recorded"
	// Closed: PUBLIC may not connect to the host database and to the other tenants' databases on that server.
	Closed Step = "closed"
	// Role: the tenant's role is there.
	Role Step = "role"
	// Database: its database is there, empty.
	Database Step = "database"
	// Migrated: its schema is there.
	Migrated Step = "migrated"
	// Rows: db_url, the owner's membership and the trial are there.
	Rows Step = "rows"
	// Checked: the database was reached by what stands in db_url.
	Checked Step = "checked"
	// Ready: the tenant is active.
	Ready Step = "ready"
)

// Steps are all steps in their order.
func Steps() []Step { return []Step{Recorded, Closed, Role, Database, Migrated, Rows, Checked, Ready} }

// Reached reports whether a record whose step is s has done the other step. A text that is no step has done none.
func (s Step) Reached(other Step) bool {
	return slices.Index(Steps(), s) >= slices.Index(Steps(), other)
}

// Spec says which tenant is to be. It is also the payload of the job.
type Spec struct {
	Tenant catalog.TenantID `json:"tenant_id"`
	// Name and PlanTier are for a tenant that has none yet; one that has others is refused. PlanTier "": the plan that
	// new tenants have.
	Name     string `json:"name,omitempty"`
	PlanTier string `json:"plan_tier,omitempty"`
	// Owner, where it is not "", becomes a member in the owner's role.
	Owner catalog.UserID `json:"owner,omitempty"`
}

// Event tells of a step that begins or has been done.
type Event struct {
	Step Step
	Done bool
}

// Errors; test with errors.Is.
var (
	// ErrRefused: as things stand it cannot be done; trying again does not help. The text says what to change.
	ErrRefused = errors.New("refused")
	// ErrTaken: another run has the tenant by now.
	ErrTaken = errors.New("another run has taken the tenant over")
)

// Config says how tenants are made. Its zero value makes none: AdminURL has no default.
type Config struct {
	// AdminURL is where tenants' databases are made, see tenantdb.Config.
	AdminURL catalog.DBURI
	// MigrationsDir holds the tenants' SQL migrations; "" for none.
	MigrationsDir string
	// Plain stores db_url as it is, for programs that read it beside us. False: sealed.
	Plain bool
	// OwnerRole is the owner's membership.role. "": owner.
	OwnerRole string
	// FreePlan is the plan_tier of a tenant whose trial is over. "": free.
	FreePlan string
	// ExemptPlans need no subscription and so have no trial.
	ExemptPlans []string
	// PlanAliases lead from plan_tier to the plan's key.
	PlanAliases map[string]string
	// MaxConnections bounds the connections to the tenants' server. 0: 10.
	MaxConnections int
}

// Deps are what a Provisioner stands on.
type Deps struct {
	Host *catalog.HostDatabase
	// Keys seal db_url.
	Keys seal.Keyset
	// Opener opens other tenants' db_url, to find those that lie on the server.
	Opener Opener
	// Clock is the time. Nil: time.Now.
	Clock func() time.Time
}

// Opener turns a stored db_url into the URI that it stands for; package sealing has one.
type Opener interface {
	Open(ctx context.Context, tenant catalog.TenantID, stored catalog.DBURI) (catalog.DBURI, error)
}

// Provisioner makes tenants. Make it with New; the caller closes it.
type Provisioner struct {
	cfg        Config
	deps       Deps
	migrations *tenantdb.Migrations

	mu     sync.Mutex
	server tenantdb.Server // nil before the first use
}

// New checks cfg and reads the names of the migrations; no server is asked yet.
func New(cfg Config, deps Deps) (*Provisioner, error) {
	if cfg.AdminURL.IsZero() {
		return nil, fmt.Errorf("%w: provisioning.admin_url is not set: it says where tenants' databases are made", ErrRefused)
	}
	if err := tenantdb.CheckURL(cfg.AdminURL); err != nil {
		return nil, fmt.Errorf("%w: provisioning.admin_url: %w", ErrRefused, err)
	}
	migrations, err := tenantdb.LoadMigrations(cfg.MigrationsDir)
	if err != nil {
		return nil, err
	}
	if cfg.OwnerRole == "" {
		cfg.OwnerRole = "owner"
	}
	if cfg.FreePlan == "" {
		cfg.FreePlan = "free"
	}
	if deps.Clock == nil {
		deps.Clock = time.Now
	}
	return &Provisioner{cfg: cfg, deps: deps, migrations: migrations}, nil
}

// Close ends the connection to the tenants' server. Runs are to have ended before.
func (p *Provisioner) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server == nil {
		return nil
	}
	server := p.server
	p.server = nil
	return server.Close()
}

// tenants is the server, with the marks of this host database.
func (p *Provisioner) tenants(ctx context.Context) (tenantdb.Server, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server != nil {
		return p.server, nil
	}
	id, err := p.deps.Host.Installation(ctx)
	if err != nil {
		return nil, err
	}
	p.server, err = tenantdb.New(tenantdb.Config{URL: p.cfg.AdminURL, Installation: id, MaxConnections: p.cfg.MaxConnections})
	return p.server, err
}

// problemDeadline bounds writing down why a run ended, also when its own context has ended.
const problemDeadline = 5 * time.Second

// Run does for a tenant what is still to do, and tells progress (nil: nobody) of each step. It returns once the tenant is
// ready, whoever made it so. ErrRefused says that only a change of something helps; other errors may pass.
func (p *Provisioner) Run(ctx context.Context, spec Spec, progress func(Event)) error {
	return p.run(ctx, spec, false, progress)
}

// run is Run; asked says that a row of sys_jobs asks for it.
func (p *Provisioner) run(ctx context.Context, spec Spec, asked bool, progress func(Event)) (err error) {
	if progress == nil {
		progress = func(Event) {}
	}
	if spec.Tenant == "" {
		return fmt.Errorf("%w: a tenant needs an id", ErrRefused)
	}
	progress(Event{Step: Recorded})
	server, err := p.tenants(ctx)
	if err != nil {
		return err
	}
	hold, err := server.Hold(ctx, spec.Tenant)
	if err != nil {
		return fmt.Errorf("tenant %s: %w", catalog.ShownID(spec.Tenant), err)
	}
	defer func() { err = errors.Join(err, hold.Close()) }()
	r := &run{Provisioner: p, server: server, hold: hold, spec: spec, asked: asked, id: catalog.GenID(), progress: progress}
	if err = r.all(ctx); err != nil {
		err = fmt.Errorf("tenant %s: %w", catalog.ShownID(spec.Tenant), err)
		err = errors.Join(err, r.note(ctx, err))
	}
	return err
}
