package catalog

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/tenantgate/tenantgate/internal/dbfault"
)

const (
	migrationPoll = 250 * time.Millisecond // between looks whether the way is free
	// migrationLockTimeout is how long a statement of a migration may stand in a queue in which others stand behind it.
	migrationLockTimeout = "900ms"
)

// migrate brings the schema up to date, in this order: tables and everything versioned, in one transaction each
// (PostgreSQL) or all in one (SQLite); then the triggers, table by table; then the indexes, one by one.
func (h *HostDatabase) migrate(ctx context.Context) (Report, error) {
	report := newReport(h.engine)
	var p *plan
	err := patiently(ctx, func() (err error) {
		p, err = h.plan(ctx)
		return err
	})
	if err != nil {
		return report, err
	}
	if errs := p.lacking(); len(errs) > 0 {
		return report, errors.Join(errs...)
	}
	if len(p.changes()) > 0 {
		var done []string
		if h.engine == EnginePostgreSQL {
			done, err = h.migratePostgres(ctx, p.home)
		} else {
			done, err = h.migrateSQLite(ctx)
		}
		report.Changes = append(report.Changes, done...)
		if err != nil {
			return report, err
		}
		if p, err = h.plan(ctx); err != nil {
			return report, err
		}
	}
	taken, err := h.takeTriggerRights(ctx)
	if report.Changes = append(report.Changes, taken...); err != nil {
		return report, err
	}
	if p.doubled {
		kinds := doubtKinds(true)
		report.Doubts = []Doubt{kinds[0]}
		if report.Doubts[0].Count, report.Doubts[0].IDs, err = h.doubled(ctx); err != nil {
			return report, err
		}
	}
	return report, nil
}

func (h *HostDatabase) doubled(ctx context.Context) (int, []string, error) {
	var d Doubt
	err := h.query(ctx, "look for doubled oauth_id", scanDeadline, "duplicate_oauth_id", nil, func(rows *sql.Rows) error {
		d = Doubt{}
		return d.collect(rows)
	})
	return d.Count, d.IDs, err
}

// migratePostgres holds an advisory lock of its session, so that of many programs that start at once one does the work
// and the others find it done.
func (h *HostDatabase) migratePostgres(ctx context.Context, home string) (done []string, err error) {
	db, err := openPostgresForMigration(h.loc, home)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, safe("migrate: close", db.Close())) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, safe("migrate: connect", err)
	}
	defer func() { err = errors.Join(err, safe("migrate: close", conn.Close())) }()
	if err := h.takeMigrationLock(ctx, conn); err != nil {
		return nil, err
	}
	// The lock ends with the session at the latest; giving it back lets the next one in sooner.
	defer func() { _, _ = conn.ExecContext(context.WithoutCancel(ctx), h.queries["migration_unlock"]) }()
	p, err := h.plan(ctx) // as it is now that we are alone
	if err != nil {
		return nil, err
	}
	if p.newSchema {
		if _, err := conn.ExecContext(ctx, h.queries["create_own_schema"]); err != nil {
			return nil, safe("migrate: create schema "+ownSchema, err)
		}
	}
	if err := h.applyVersions(ctx, db, p); err != nil {
		return nil, err
	}
	done = p.versions()
	made, err := h.makeTriggers(ctx, conn, home)
	if done = append(done, made...); err != nil {
		return done, err
	}
	for _, i := range p.indexes {
		made, err = h.buildIndex(ctx, conn, home, i)
		if err != nil {
			return done, err
		}
		done = append(done, made...)
	}
	return done, nil
}

// takeMigrationLock asks again and again instead of waiting in the server: a statement that waits holds a snapshot, and
// the lock's holder, who builds an index concurrently, would wait for that in turn.
func (h *HostDatabase) takeMigrationLock(ctx context.Context, conn *sql.Conn) error {
	for {
		var ok bool
		if err := conn.QueryRowContext(ctx, h.queries["migration_lock"]).Scan(&ok); err != nil {
			return safe("migrate: take the lock", err)
		}
		if ok {
			return nil
		}
		if err := pause(ctx); err != nil {
			return safe("migrate: wait for another migration", err)
		}
	}
}

func pause(ctx context.Context) error { return pauseFor(ctx, migrationPoll) }

func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// applyVersions runs the numbered migrations that the database has not seen, and makes anew what of the eight tables
// was dropped since.
func (h *HostDatabase) applyVersions(ctx context.Context, db *sql.DB, p *plan) error {
	files := dialectFS{h.engine}
	if len(p.pending) > 0 {
		gooseDialect, table := goose.DialectPostgres, ownSchema+".sys_schema_versions"
		if h.engine == EngineSQLite {
			gooseDialect, table = goose.DialectSQLite3, "sys_schema_versions"
		}
		provider, err := goose.NewProvider(gooseDialect, db, files, goose.WithTableName(table),
			goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()), goose.WithAllowOutofOrder(true))
		if err != nil {
			return safe("migrate: prepare", err)
		}
		if err := patiently(ctx, func() error { return errOnly(provider.Up(ctx)) }); err != nil {
			return safe("migrate", err)
		}
	}
	if len(p.missingTables) == 0 || len(p.pending) > 0 && strings.HasPrefix(p.pending[0], "00001_") {
		return nil
	}
	text, err := fs.ReadFile(files, "00001_host_tables.sql")
	if err != nil {
		return err
	}
	for statement := range strings.SplitSeq(stripComments(string(text)), ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return safe("migrate: create the tables again", err)
		}
	}
	return nil
}

// patiently runs f anew as often as somebody is in its way, until ctx ends. What f has done by then must stand or be
// undone; a migration is a transaction of its own.
func patiently(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil || !dbfault.Of(err).GaveWay() {
			return err
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait for other programs' open transactions: %w", err)
		}
	}
}

func errOnly[T any](_ T, err error) error { return err }

// buildIndex makes one index beside everybody else's work. It starts over as often as somebody's open transaction is in
// its way, until ctx ends, and never stands in a queue for longer than migrationLockTimeout.
func (h *HostDatabase) buildIndex(ctx context.Context, conn *sql.Conn, home string, i indexPlan) ([]string, error) {
	verb := "create"
	for {
		there, valid, err := h.indexState(ctx, conn, home, i.name)
		if err != nil {
			return nil, err
		}
		if valid {
			return []string{verb + " index " + i.name + " on " + i.table}, nil
		}
		if there {
			verb = "rebuild invalid"
			_, err = conn.ExecContext(ctx, "DROP INDEX CONCURRENTLY IF EXISTS "+i.name)
		}
		if err == nil && i.name == uniqueSubjectIndex {
			var n int
			err = conn.QueryRowContext(ctx, h.queries["has_doubled_oauth_id"]).Scan(&n)
			if err == nil {
				return nil, nil // reported, and lived with
			}
			if errors.Is(err, sql.ErrNoRows) {
				err = nil
			}
		}
		if err == nil {
			err = h.createIndex(ctx, conn, i)
		}
		if err != nil && !inTheWay(err) {
			return nil, safe("migrate: create index "+i.name, err)
		}
		if err == nil {
			continue // look whether it is whole
		}
		if err := pause(ctx); err != nil {
			return nil, safe("migrate: wait for open transactions before creating index "+i.name, err)
		}
	}
}

func (h *HostDatabase) createIndex(ctx context.Context, conn *sql.Conn, i indexPlan) error {
	for {
		var busy bool
		if err := conn.QueryRowContext(ctx, h.queries["long_transaction"], i.table).Scan(&busy); err != nil {
			return err
		}
		if !busy {
			break
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
	_, err := conn.ExecContext(ctx, h.queries[i.name])
	return err
}

func (h *HostDatabase) indexState(ctx context.Context, conn *sql.Conn, home, name string) (there, valid bool, err error) {
	rows, err := conn.QueryContext(ctx, h.queries["postgresql_indexes"], home)
	err = gather(func(rows *sql.Rows) error {
		for rows.Next() {
			var n string
			var ok bool
			if err := rows.Scan(&n, &ok); err != nil {
				return err
			}
			if n == name {
				there, valid = true, ok
			}
		}
		return rows.Err()
	})(rows, err)
	return there, valid, safe("migrate: look at the indexes", err)
}

// inTheWay says that a statement gave way to another program, or that a double came in while the unique index was built.
func inTheWay(err error) bool {
	c := dbfault.Of(err)
	return c.GaveWay() || c.SQLState == "23505"
}

// dialectFS shows the migrations in one engine's dialect.
type dialectFS struct{ engine string }

// Open implements fs.FS.
func (d dialectFS) Open(name string) (fs.File, error) {
	sub, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return nil, err
	}
	if name == "." {
		return sub.Open(name)
	}
	text, err := fs.ReadFile(sub, name)
	if err != nil {
		return nil, err
	}
	info, err := fs.Stat(sub, name)
	if err != nil {
		return nil, err
	}
	content := []byte(dialect(d.engine, string(text)))
	return &dialectFile{Reader: bytes.NewReader(content), info: info, size: int64(len(content))}, nil
}

type dialectFile struct {
	*bytes.Reader
	info fs.FileInfo
	size int64
}

func (f *dialectFile) Stat() (fs.FileInfo, error) { return dialectInfo{f.info, f.size}, nil }
func (f *dialectFile) Close() error               { return nil }

type dialectInfo struct {
	fs.FileInfo
	size int64
}

func (i dialectInfo) Size() int64 { return i.size }
