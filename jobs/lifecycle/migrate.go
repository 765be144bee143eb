package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
)

// Defaults and bounds of a MigrateConfig.
const (
	DefaultParallel = 4
	MaxParallel     = 64
	DefaultTimeout  = time.Hour
	DefaultDrain    = 10 * time.Second
)

// MigrateConfig says how tenants are migrated. The zero value migrates four at once, without a pause.
type MigrateConfig struct {
	// Parallel is how many tenants are worked on at once, at most MaxParallel, and never more than leave half of the
	// server's free connections to others. 0: DefaultParallel.
	Parallel int
	// Timeout bounds one tenant, its pause included. 0: DefaultTimeout.
	Timeout time.Duration
	// Pause keeps everybody out of a tenant while its schema changes.
	Pause bool
	// Drain is how long requests under way may take once the pause has begun, in whole seconds. The schema does not
	// change before it is over.
	Drain time.Duration
	// Freshness is how long a replica may take to hear of a pause: its cache.heartbeat.
	Freshness time.Duration
	// Adopt also migrates a tenant whose database our provisioning did not make and no migration has met.
	Adopt bool
	// Check changes nothing and says who is behind.
	Check bool
	// Run names the run in the audit and in its pauses. "": made up.
	Run string
}

// Result is what became of a tenant.
type Result string

// The results.
const (
	Migrated Result = "migrated"
	Current  Result = "current"  // there was nothing to do
	Behind   Result = "behind"   // MigrateConfig.Check alone
	Failed   Result = "failed"   // the schema is at the last migration that succeeded
	LeftOut  Result = "left_out" // nothing was tried
)

// Outcome is one tenant's part of a run.
type Outcome struct {
	Tenant   catalog.TenantID
	Result   Result
	From, To int64 // versions
	Took     time.Duration
	Reason   string // why it failed or was left out; no secret
}

// Summary is a whole run.
type Summary struct {
	Run, Target                                string
	Total                                      int
	Migrated, Current, Behind, Failed, LeftOut int
	Parallel                                   int
	Took                                       time.Duration
}

func (s *Summary) count(o Outcome) {
	switch o.Result {
	case Migrated:
		s.Migrated++
	case Current:
		s.Current++
	case Behind:
		s.Behind++
	case Failed:
		s.Failed++
	case LeftOut:
		s.LeftOut++
	}
}

// Progress hears of a run. Its methods are called one at a time.
type Progress interface {
	Begin(total, parallel int)
	Done(Outcome)
}

// Migrator brings tenants' schemas up to date.
type Migrator struct {
	cfg  MigrateConfig
	deps Deps
}

// NewMigrator refuses what cannot be meant.
func NewMigrator(cfg MigrateConfig, deps Deps) (*Migrator, error) {
	cfg.Parallel = cmp.Or(cfg.Parallel, DefaultParallel)
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	cfg.Run = cmp.Or(cfg.Run, catalog.GenID())
	deps = deps.filled()
	switch {
	case cfg.Parallel < 1 || cfg.Parallel > MaxParallel:
		return nil, fmt.Errorf("want between 1 and %d tenants at once", MaxParallel)
	case cfg.Timeout < 0 || cfg.Drain < 0 || cfg.Drain%time.Second != 0:
		return nil, errors.New("want times that are not negative, and whole seconds of drain")
	case deps.Migrations.Target() == 0:
		return nil, errors.New("provisioning.migrations_dir is not set: there is nothing to migrate tenants by")
	}
	return &Migrator{cfg: cfg, deps: deps}, nil
}

// Run migrates the named tenants, or all where none is named. The error is about the run as a whole: tenants that failed
// are in the Summary and were told to progress. When ctx ends, those that are not done are left as they are, and Run
// again goes on with them.
func (m *Migrator) Run(ctx context.Context, named []catalog.TenantID, progress Progress) (Summary, error) {
	begin := m.deps.Clock()
	s := Summary{Run: m.cfg.Run, Target: fmt.Sprint(m.deps.Migrations.Target())}
	rows, err := m.deps.rows(ctx, named)
	if err != nil {
		return s, err
	}
	if !m.cfg.Check { // of runs that were killed
		if _, err := m.deps.Host.ForgetEndedHolds(ctx, holdPrefix); err != nil {
			return s, err
		}
	}
	s.Total, s.Parallel = len(rows), m.width(ctx, rows)
	progress.Begin(s.Total, s.Parallel)
	work := make(chan *tenantRow)
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range s.Parallel {
		workers.Go(func() {
			for row := range work {
				if o, ok := m.one(ctx, row); ok {
					mu.Lock()
					s.count(o)
					progress.Done(o)
					mu.Unlock()
				}
			}
		})
	}
	for i := range rows {
		select {
		case work <- &rows[i]:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(work)
	workers.Wait()
	s.Took = m.deps.Clock().Sub(begin)
	return s, ctx.Err()
}

// connectionsEach is how many connections to a server one migration has: goose's lock and its work.
const connectionsEach = 2

// width is how many tenants are worked on at once: as asked for, but half of the connections that the server has free stay
// free. The server is the one that the first tenant with a PostgreSQL database lies on.
func (m *Migrator) width(ctx context.Context, rows []tenantRow) int {
	n := min(m.cfg.Parallel, max(len(rows), 1))
	for i := range rows {
		if leftOut(&rows[i]) != "" {
			continue
		}
		uri, err := m.deps.uri(ctx, &rows[i])
		if err != nil || tenantdb.EngineOf(uri) != catalog.EnginePostgreSQL {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, lookTimeout)
		free, err := tenantdb.FreeConnections(ask, uri)
		cancel()
		if err == nil {
			return max(1, min(n, free/2/connectionsEach))
		}
	}
	return n
}

// leftOut says why nothing is tried, "" if something is.
func leftOut(row *tenantRow) string {
	switch {
	case row.state.Deletion != nil:
		return "is deleted: `tenantgate tenant restore` takes it back, then migrate it"
	case row.unfinished():
		return "is not provisioned yet: `tenantgate tenant provision` goes on with it"
	case row.DBURL.IsZero():
		return "has no db_url"
	}
	return ""
}

// lookTimeout bounds a look into a tenant's database.
const lookTimeout = 20 * time.Second

// sight is what a run has seen of a tenant's schema: first what is on record, then the database. What another run records
// meanwhile is noticed, since the record is then another.
type sight struct {
	was     *catalog.TenantSchema // on record; nil: nothing is
	uri     catalog.DBURI
	version int64
	known   bool // version was read
	late    bool // migrations were applied that left the version as it was
}

// one works on a tenant. false: ctx ended before anything was known.
func (m *Migrator) one(ctx context.Context, row *tenantRow) (Outcome, bool) {
	begin := m.deps.Clock()
	o := Outcome{Tenant: row.ID}
	var seen sight
	var err error
	if o.Reason = leftOut(row); o.Reason != "" {
		o.Result = LeftOut
	} else {
		within, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
		err = m.migrate(within, row, &o, &seen)
		cancel()
	}
	if err != nil && o.Result == "" && ctx.Err() != nil && o.To == o.From {
		return o, false
	}
	if err != nil {
		o.Result, o.Reason = Failed, err.Error()
	}
	o.Took = m.deps.Clock().Sub(begin)
	if o.Result != LeftOut && !m.cfg.Check {
		if err := m.record(ctx, o, &seen); err != nil && o.Result != Failed {
			o.Result, o.Reason = Failed, "its schema is at version "+fmt.Sprint(o.To)+", but that could not be recorded: "+err.Error()
		}
	}
	return o, true
}

// record writes what was found into the host database, also when the run is ending: what was done is to be known. Where the
// version is another than the one on record the audit tells of it, whoever changed it: a run that was killed before it could
// say so left that to the next. Of several runs that see one change, one records it.
func (m *Migrator) record(ctx context.Context, o Outcome, seen *sight) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	for range tries {
		was := seen.was
		now := catalog.TenantSchema{TenantID: o.Tenant, Version: seen.version}
		if !seen.known && was != nil {
			now.Version = was.Version
		}
		details := map[string]any{"from": now.Version, "to": now.Version, "run": m.cfg.Run}
		if was != nil {
			details["from"] = was.Version
		}
		if o.From == o.To && !seen.late {
			details["found"] = true // as an earlier run, or another program, left it
		}
		if o.Result == Failed {
			now.Failure, details["reason"] = o.Reason, o.Reason
		}
		changed := seen.late || was != nil && was.Version != now.Version
		taken, err := m.deps.Host.SawTenantSchema(ctx, was, now, changed, details)
		if err != nil || taken {
			seen.was = &now
			return err
		}
		if err := m.look(ctx, o.Tenant, seen); err != nil {
			return err
		}
	}
	return errors.New("other runs record it at the same time: run it again")
}

// look reads what is on record, and then the version of the database where that can be told.
func (m *Migrator) look(ctx context.Context, tenant catalog.TenantID, seen *sight) (err error) {
	if seen.was, err = m.deps.Host.TenantSchema(ctx, tenant); err != nil || seen.uri.IsZero() {
		return err
	}
	seen.version, err = again(ctx, func(ctx context.Context) (int64, error) { return m.deps.Migrations.Version(ctx, seen.uri) })
	seen.known = err == nil
	return err
}

// migrate looks at a tenant's database and changes its schema where it is behind.
func (m *Migrator) migrate(ctx context.Context, row *tenantRow, o *Outcome, seen *sight) error {
	uri, err := m.deps.uri(ctx, row)
	if err != nil {
		return errors.Join(err, m.look(ctx, row.ID, seen))
	}
	if tenantdb.EngineOf(uri) == "" {
		o.Result, o.Reason = LeftOut, "its database is neither PostgreSQL nor SQLite"
		return nil
	}
	seen.uri = uri
	if err := m.look(ctx, row.ID, seen); err != nil {
		return err
	}
	o.From, o.To = seen.version, seen.version
	if o.From == 0 && !row.ours(uri) && !m.cfg.Adopt {
		o.Result, o.Reason = LeftOut, "its database was not made by `tenant provision` and no migration has met it: --adopt begins with it"
		return nil
	}
	pending, err := again(ctx, func(ctx context.Context) (bool, error) { return m.deps.Migrations.Pending(ctx, uri) })
	switch {
	case err != nil:
		return err
	case !pending:
		o.Result = Current
		return nil
	case m.cfg.Check:
		o.Result = Behind
		return nil
	}
	// What is there is on record before it changes: whoever comes after a kill sees what this run did.
	if err := m.record(ctx, *o, seen); err != nil {
		return err
	}
	return m.change(ctx, row, o, seen)
}

// change brings the schema up to date, in a pause where one is asked for.
func (m *Migrator) change(ctx context.Context, row *tenantRow, o *Outcome, seen *sight) error {
	up := func(ctx context.Context) (err error) {
		done, err := m.deps.Migrations.Up(ctx, seen.uri)
		o.To = max(o.To, done.To)
		seen.version, seen.late = o.To, done.Applied > 0 && o.To == o.From
		if err != nil {
			return err
		}
		if o.Result = Migrated; done.Applied == 0 { // another run was faster
			o.Result = Current
			err = m.look(ctx, row.ID, seen)
			o.From, o.To = seen.version, seen.version
		}
		return err
	}
	if !m.cfg.Pause {
		return up(ctx)
	}
	return m.paused(ctx, row.ID, up)
}

const (
	tries    = 4
	tryAfter = 300 * time.Millisecond
)

// again asks once more where a server had no connection or no answer to give.
func again[T any](ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	pause := tryAfter
	for try := 1; ; try++ {
		look, cancel := context.WithTimeout(ctx, lookTimeout)
		v, err := f(look)
		cancel()
		if err == nil || !errors.Is(err, tenantdb.ErrUnavailable) || try == tries || ctx.Err() != nil {
			return v, err
		}
		if err := wait(ctx, pause); err != nil {
			return v, err
		}
		pause *= 2
	}
}
