package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tenantgate/tenantgate/internal/dbfault"
)

// Engines, as Engine returns them.
const (
	EnginePostgreSQL = "postgresql"
	EngineSQLite     = "sqlite"
)

// ownSchema is where our own tables stand on PostgreSQL.
const ownSchema = "tenantgate"

// Deadlines of statements whose context has none.
const (
	hotDeadline  = time.Second      // the reads of a request's way
	readDeadline = 10 * time.Second // lists
	// writeDeadline also bounds the wait for SQLite's one writer: whoever waits inside a transaction for another
	// transaction of the same process gets an error, not a standstill.
	writeDeadline = 10 * time.Second
	// scanDeadline is for Check, which reads whole tables.
	scanDeadline = 10 * time.Minute
)

const defaultMaxConnections = 10

// HostDatabase is an open host database with its pool. It is safe for concurrent use. A connection that broke heals by
// itself: the read that found it is tried once more on a good one.
type HostDatabase struct {
	Tables
	uri     DBURI
	engine  string
	loc     location
	clock   func() time.Time
	shared  func() time.Time // Config.SharedClock
	queries queries
	// reserved are names of the proxy's own that no tenant may take.
	reserved reservedNames
	// bestEffort: a change whose audit row cannot be written is done all the same, and unrecorded, if not nil, is told.
	bestEffort bool
	unrecorded func(event string, err error)

	pool        *pgxpool.Pool // nil on SQLite
	write, read *sql.DB       // the same on PostgreSQL
	broken      suspicion

	prepared sync.Map // SQLite: statement → *sql.Stmt; as many as there are named queries
	closed   atomic.Bool
	closing  sync.Mutex
}

// Open opens the host database at url and creates missing tables: New(ctx, Config{URL: NewDBURI(url)}).
func Open(ctx context.Context, url string) (*HostDatabase, error) {
	return New(ctx, Config{URL: NewDBURI(url)})
}

// New opens the host database. It creates and upgrades the schema, unless Migrate is false: then nothing is created,
// and what lacks is ErrSchema, saying what. ctx bounds the opening, not the database's life.
func New(ctx context.Context, cfg Config) (*HostDatabase, error) {
	migrates := cfg.Migrate == nil || *cfg.Migrate
	if !migrates && fileMissing(cfg.URL) {
		report, err := Check(ctx, cfg)
		return nil, cmp.Or(err, incomplete(report.Changes))
	}
	h, err := open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if migrates {
		_, err = h.migrate(ctx)
	} else {
		err = h.requireSchema(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// open makes the handles and looks whether the database answers; the schema is not looked at.
func open(ctx context.Context, cfg Config) (*HostDatabase, error) {
	loc, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	h := &HostDatabase{
		uri: cfg.URL, engine: loc.engine, loc: loc, clock: cfg.Clock, shared: cfg.SharedClock, reserved: cfg.Reserved.normal(),
		bestEffort: cfg.BestEffortAudit, unrecorded: cfg.Unrecorded,
	}
	if h.clock == nil {
		h.clock = time.Now
	}
	if h.queries, err = loadQueries(loc.engine); err != nil {
		return nil, err
	}
	maxConns := cfg.MaxConnections
	if maxConns <= 0 {
		maxConns = defaultMaxConnections
	}
	if loc.engine == EnginePostgreSQL {
		h.uri = loc.dsn
		h.pool, h.write, err = openPostgres(ctx, loc, maxConns, &h.broken)
		h.read = h.write
	} else {
		h.uri = NewDBURI("sqlite:///" + loc.path) // SQLAlchemy's form, which Open reads too
		h.write, h.read, err = openSQLite(loc, maxConns)
	}
	if err != nil {
		return nil, err
	}
	h.Tables = newTables(h)
	if err := h.ping(ctx, "open host database", connectTimeout+readDeadline); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// instance is FromEnv's one database a process, as fh-saas has it.
var instance struct {
	sync.Mutex
	host *HostDatabase
}

// FromEnv opens the host database that DB_TYPE, DB_USER, DB_PASS, DB_HOST, DB_PORT and DB_NAME name (see URLFromEnv) and
// creates missing tables. It is one instance a process: later calls return the same, until it is closed.
func FromEnv(ctx context.Context) (*HostDatabase, error) {
	instance.Lock()
	defer instance.Unlock()
	if instance.host != nil && !instance.host.closed.Load() {
		return instance.host, nil
	}
	uri, err := URLFromEnv(os.Getenv)
	if err != nil {
		return nil, err
	}
	h, err := New(ctx, Config{URL: uri})
	if err != nil {
		return nil, err
	}
	instance.host = h
	return h, nil
}

// ResetInstance closes FromEnv's instance and forgets it; for tests.
func ResetInstance() {
	instance.Lock()
	defer instance.Unlock()
	if instance.host != nil {
		_ = instance.host.Close() // nothing is left to do about a pool that closes badly
		instance.host = nil
	}
}

// Close ends the pool and waits for what runs. Calling it again does nothing; other calls then fail.
func (h *HostDatabase) Close() error {
	h.closing.Lock()
	defer h.closing.Unlock()
	if h.closed.Swap(true) {
		return nil
	}
	var errs []error
	h.prepared.Range(func(_, stmt any) bool {
		errs = append(errs, stmt.(*sql.Stmt).Close())
		return true
	})
	errs = append(errs, h.write.Close())
	if h.read != h.write {
		errs = append(errs, h.read.Close())
	}
	if h.pool != nil {
		h.pool.Close()
	}
	return safe("close host database", errors.Join(errs...))
}

// URI reveals the URL with its password, without a driver's name: postgresql://…, as libpq reads it, or sqlite:///PATH.
// It must not be logged.
func (h *HostDatabase) URI() string { return h.uri.Reveal() }

// String returns the URL with the password redacted.
func (h *HostDatabase) String() string { return h.uri.String() }

// Format implements fmt.Formatter, so that no verb or flag reaches a field.
func (h *HostDatabase) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, h.String()) }

// LogValue implements slog.LogValuer.
func (h *HostDatabase) LogValue() slog.Value { return slog.StringValue(h.String()) }

// MarshalText implements encoding.TextMarshaler; JSON uses it.
func (h *HostDatabase) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// Engine is "postgresql" or "sqlite".
func (h *HostDatabase) Engine() string { return h.engine }

// Ping asks the database for a sign of life; ErrUnavailable without one, within a second if ctx has no deadline.
func (h *HostDatabase) Ping(ctx context.Context) error {
	return h.ping(ctx, "ping host database", hotDeadline)
}

func (h *HostDatabase) ping(ctx context.Context, op string, deadline time.Duration) error {
	return h.query(ctx, op, deadline, "ping", nil, func(rows *sql.Rows) error {
		for rows.Next() {
			if err := rows.Scan(new(int)); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

// access is how Tables reach the database: a HostDatabase, or a Tx.
type access interface {
	// query runs a named statement and hands its rows to collect, which may be called twice and then starts afresh.
	query(ctx context.Context, op string, deadline time.Duration, name string, args []any, collect func(*sql.Rows) error) error
	// queryText is query with a statement's text.
	queryText(ctx context.Context, op string, deadline time.Duration, text string, args []any, collect func(*sql.Rows) error) error
	// change runs f in a transaction: the one at hand, or one of its own.
	change(ctx context.Context, f func(*Tx) error) error
	host() *HostDatabase
}

func (h *HostDatabase) host() *HostDatabase { return h }

func (h *HostDatabase) now() string { return Timestamp(h.clock()) }

// within gives ctx a deadline if it has none.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d)
}

func (h *HostDatabase) query(ctx context.Context, op string, deadline time.Duration, name string, args []any,
	collect func(*sql.Rows) error,
) error {
	text := h.queries[name]
	if h.engine == EngineSQLite {
		return h.retry(ctx, op, deadline, func(ctx context.Context) error {
			stmt, err := h.prepare(ctx, text)
			if err != nil {
				return err
			}
			return gather(collect)(stmt.QueryContext(ctx, args...))
		})
	}
	return h.queryText(ctx, op, deadline, text, args, collect)
}

func (h *HostDatabase) queryText(ctx context.Context, op string, deadline time.Duration, text string, args []any,
	collect func(*sql.Rows) error,
) error {
	return h.retry(ctx, op, deadline, func(ctx context.Context) error {
		return gather(collect)(h.read.QueryContext(ctx, text, args...))
	})
}

// prepare keeps SQLite's compiled statements; pgx keeps its own.
func (h *HostDatabase) prepare(ctx context.Context, text string) (*sql.Stmt, error) {
	if s, ok := h.prepared.Load(text); ok {
		return s.(*sql.Stmt), nil
	}
	s, err := h.read.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	if kept, raced := h.prepared.LoadOrStore(text, s); raced {
		return kept.(*sql.Stmt), s.Close()
	}
	return s, nil
}

// gather closes the rows however collect ends.
func gather(collect func(*sql.Rows) error) func(*sql.Rows, error) error {
	return func(rows *sql.Rows, err error) error {
		if err != nil {
			return err
		}
		err = collect(rows)
		return errors.Join(err, rows.Close())
	}
}

// retry runs f, and once more if its connection turned out broken. f must change nothing.
func (h *HostDatabase) retry(ctx context.Context, op string, deadline time.Duration, f func(context.Context) error) error {
	ctx, cancel := within(ctx, deadline)
	defer cancel()
	err := f(ctx)
	if err != nil && ctx.Err() == nil && dbfault.Of(err).Broken {
		h.broken.raise()
		err = f(ctx)
	}
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		h.broken.raise() // a connection that never answers looks like this, too
	}
	return safe(op, err)
}
