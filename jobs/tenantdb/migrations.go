package tenantdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/dbfault"
)

// Migrations are the SQL files of provisioning.migrations_dir, which goose reads: NUMBER_NAME.sql. The zero value has
// none. The versions that a database has seen stand in it, in goose_db_version, as goose's own program has them. Safe for
// concurrent use.
type Migrations struct {
	dir      string
	target   int64
	count    int
	versions []int64
}

// Migrated is what Up did.
type Migrated struct {
	From, To int64 // versions; 0: none
	Applied  int   // how many migrations
}

// LoadMigrations looks into a directory; "" is no migrations. A directory without any is refused: it would be the wrong
// one.
func LoadMigrations(dir string) (*Migrations, error) {
	if dir == "" {
		return &Migrations{}, nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, safe("provisioning.migrations_dir", err)
	}
	names, err := fs.Glob(os.DirFS(dir), "*.sql")
	if _, missing := os.Stat(dir); missing != nil {
		err = missing
	}
	if err != nil {
		return nil, safe("provisioning.migrations_dir", err)
	}
	m := &Migrations{dir: dir, count: len(names)}
	for _, name := range names {
		n, err := goose.NumericComponent(name)
		if err != nil {
			return nil, fmt.Errorf("provisioning.migrations_dir: %s: begin the file's name with its number and an underscore, such as 00001_tables.sql", name)
		}
		m.target = max(m.target, n)
		m.versions = append(m.versions, n)
	}
	if m.count == 0 {
		return nil, errors.New("provisioning.migrations_dir: holds no .sql file")
	}
	return m, nil
}

// Target is the version that Up leads to; 0 without migrations.
func (m *Migrations) Target() int64 { return m.target }

// Up applies what the database has not seen, in the order of versions, each migration in a transaction of its own
// (unless the file says NO TRANSACTION), with the rights that the URI gives. Two at once on one database: one waits for
// the other. Killed at any moment it is run again. ErrMigration names the file that failed; those before it stand.
func (m *Migrations) Up(ctx context.Context, uri catalog.DBURI) (done Migrated, err error) {
	err = m.provided(ctx, uri, func(p *goose.Provider) error {
		if done.From, err = p.GetDBVersion(ctx); err != nil {
			return safe("read the database's version", err)
		}
		results, err := p.Up(ctx)
		done.Applied = len(results)
		done.To = max(done.From, version(results))
		if partial, ok := errors.AsType[*goose.PartialError](err); ok {
			done.Applied, done.To = len(partial.Applied), max(done.From, version(partial.Applied))
			return failed(partial)
		}
		if which, unread := unread(err); unread {
			return fmt.Errorf("%w: goose cannot read the migration %s: look for a missing semicolon or StatementEnd", ErrMigration, which)
		}
		return safe("migrate", err)
	})
	return done, err
}

func version(results []*goose.MigrationResult) (n int64) {
	for _, r := range results {
		n = max(n, r.Source.Version)
	}
	return n
}

// unread says which migration goose could not take apart, in its words of it; the rest of its text repeats the file.
func unread(err error) (which string, ok bool) {
	if err == nil {
		return "", false
	}
	_, after, ok := strings.Cut(err.Error(), "failed to prepare migration (")
	which, _, closed := strings.Cut(after, ")")
	return which, ok && closed
}

// failed says which file failed and where, as far as the engine speaks of the schema, which is the file's, and not of rows.
func failed(p *goose.PartialError) error {
	name := path.Base(filepath.ToSlash(p.Failed.Source.Path))
	if errors.Is(p.Err, context.Canceled) || errors.Is(p.Err, context.DeadlineExceeded) {
		return safe("migration "+name, p.Err)
	}
	c := dbfault.Of(p.Err)
	why, kind := meaning(p.Err, c)
	if c.SQLState != "" {
		why = "SQLSTATE " + c.SQLState
		if c.Said != "" {
			why += ": " + c.Said
		}
		for _, named := range []string{c.Table, c.Column, c.Constraint} {
			if named != "" {
				why += " (" + named + ")"
			}
		}
	}
	if errors.Is(kind, ErrUnavailable) {
		return fmt.Errorf("migration %s: %w: %s", name, ErrUnavailable, why)
	}
	return fmt.Errorf("%w: %s: %s", ErrMigration, name, why)
}

// Version is the highest version that the database has seen; 0 for one that no migration has met. It changes nothing.
func (m *Migrations) Version(ctx context.Context, uri catalog.DBURI) (v int64, err error) {
	db, engine, err := open(uri)
	if err != nil {
		return 0, err
	}
	defer func() { _ = db.Close() }() // nothing was written
	there := "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'goose_db_version'"
	if engine == catalog.EnginePostgreSQL {
		there = "SELECT count(to_regclass('goose_db_version'))"
	}
	var n int
	if err := db.QueryRowContext(ctx, there).Scan(&n); err != nil || n == 0 {
		return 0, safe("read the database's version", err)
	}
	err = db.QueryRowContext(ctx, "SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&v)
	return v, safe("read the database's version", err)
}

// Ping connects with the rights of the URI and asks for a sign of life.
func Ping(ctx context.Context, uri catalog.DBURI) error {
	db, _, err := open(uri)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // nothing was written
	return safe("connect to the tenant's database", db.QueryRowContext(ctx, "SELECT 1").Scan(new(int)))
}

// IdentityOf tells the server that a URI leads to, or the directory of its file, from others, as Server.Identity does.
// What does not answer within ten seconds is ErrUnavailable.
func IdentityOf(ctx context.Context, uri catalog.DBURI) (id string, err error) {
	return identityOf(ctx, uri, 2*connectTimeout)
}

func identityOf(ctx context.Context, uri catalog.DBURI, within time.Duration) (id string, err error) {
	switch EngineOf(uri) {
	case catalog.EnginePostgreSQL:
	case catalog.EngineSQLite:
		path, err := sqlitePath(uri)
		if err != nil {
			return "", err
		}
		dir, err := filepath.Abs(filepath.Dir(path))
		if err == nil {
			dir, err = filepath.EvalSymlinks(dir)
		}
		return dir, safe("look at the directory of the tenant's file", err)
	default:
		return "", errors.New("db_url names neither a PostgreSQL nor a SQLite database")
	}
	cfg, err := strangersConfig(uri)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return "", safe("connect to the tenant's database", err)
	}
	defer closeConn(ctx, conn)
	return identity(ctx, conn)
}

// provided runs f with goose on the database. Where there are no migrations there is nothing to do.
func (m *Migrations) provided(ctx context.Context, uri catalog.DBURI, f func(*goose.Provider) error) (err error) {
	if m.count == 0 {
		return nil
	}
	db, engine, err := open(uri)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, safe("close the tenant's database", db.Close())) }()
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()), goose.WithAllowOutofOrder(true)}
	dialect := goose.DialectSQLite3
	if engine == catalog.EnginePostgreSQL {
		dialect = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 3600), lock.WithUnlockTimeout(1, 5))
		if err != nil {
			return safe("migrate: prepare", err)
		}
		options = append(options, goose.WithSessionLocker(locker))
	} else {
		path, err := sqlitePath(uri)
		if err != nil {
			return err
		}
		lock, err := lockFile(ctx, path+migratingSuffix)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unlockFile(lock)) }()
	}
	p, err := goose.NewProvider(dialect, db, os.DirFS(m.dir), options...)
	if err != nil {
		return fmt.Errorf("%w: provisioning.migrations_dir: goose does not understand its files: %s", ErrMigration, strings.Join(strings.Fields(err.Error()), " "))
	}
	return f(p)
}

// open makes a handle of at most two connections; the caller closes it. A SQLite file is never made.
func open(uri catalog.DBURI) (db *sql.DB, engine string, err error) {
	switch engine = EngineOf(uri); engine {
	case catalog.EnginePostgreSQL:
		cfg, err := strangersConfig(uri)
		if err != nil {
			return nil, engine, fmt.Errorf("db_url: %w", err)
		}
		db = stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(noticeDeath))
	case catalog.EngineSQLite:
		path, err := sqlitePath(uri)
		if err != nil {
			return nil, engine, fmt.Errorf("db_url: %w", err)
		}
		if path, err = filepath.Abs(path); err != nil {
			return nil, engine, safe("db_url", err)
		}
		if db, err = sql.Open("sqlite", sqliteDSN(path, sqliteParams())); err != nil {
			return nil, engine, safe("db_url", err)
		}
	default:
		return nil, "", errors.New("db_url names neither a PostgreSQL nor a SQLite database")
	}
	db.SetMaxOpenConns(2) // goose's lock has one, its migrations the other
	return db, engine, nil
}

// noticeDeath has the server end a statement whose client is gone, and with it what it locks. Servers and poolers that do
// not know the setting go without.
func noticeDeath(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "SELECT pg_catalog.set_config(name, '1000', false) FROM pg_catalog.pg_settings WHERE name = 'client_connection_check_interval'")
	if dbfault.Of(err).SQLState != "" {
		return nil
	}
	return err
}
