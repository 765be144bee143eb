package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	connectTimeout     = 5 * time.Second
	statementTimeout   = "30000" // ms; the server's own guard, should a cancellation get lost
	idleInTransaction  = "60000" // ms
	tcpKeepAlive       = 15 * time.Second
	suspectPingTimeout = 300 * time.Millisecond
)

// postgresConfig turns the URL into a connection's configuration. pgx's own errors are dropped: they repeat the DSN.
func postgresConfig(loc location) (*pgxpool.Config, error) {
	pool, err := pgxpool.ParseConfig(loc.dsn.Reveal())
	if err != nil {
		return nil, errors.New("host database url: not understood: write postgresql://user:password@host:5432/database?sslmode=…, and look whether the files that it names can be read")
	}
	cc := pool.ConnConfig
	if err := requirePrimary(cc, loc.dsn.Reveal()); err != nil {
		return nil, err
	}
	if cc.DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol {
		return nil, errors.New("host database url: default_query_exec_mode=simple_protocol is refused: parameters must travel apart from SQL")
	}
	if cc.ConnectTimeout <= 0 || cc.ConnectTimeout > 2*connectTimeout {
		cc.ConnectTimeout = connectTimeout
	}
	dialer := &net.Dialer{Timeout: cc.ConnectTimeout, KeepAlive: tcpKeepAlive}
	cc.DialFunc = dialer.DialContext
	params := map[string]string{
		"application_name": "tenantgate", "timezone": "UTC", "statement_timeout": statementTimeout,
		"idle_in_transaction_session_timeout": idleInTransaction,
	}
	maps.Copy(params, cc.RuntimeParams) // what the URL says stands
	cc.RuntimeParams = params
	return pool, nil
}

// requirePrimary refuses URLs that may lead to a replica: stale reads would let revoked people in.
func requirePrimary(cc *pgx.ConnConfig, dsn string) error {
	_, query, _ := strings.Cut(dsn, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("host database url: the part after ? is not understood")
	}
	attrs := values.Get("target_session_attrs")
	hosts := map[string]bool{net.JoinHostPort(cc.Host, fmt.Sprint(cc.Port)): true}
	for _, f := range cc.Fallbacks { // the same host twice is sslmode=prefer
		hosts[net.JoinHostPort(f.Host, fmt.Sprint(f.Port))] = true
	}
	switch attrs {
	case "read-write", "primary":
	case "", "any":
		if len(hosts) > 1 {
			return errors.New("host database url: several hosts need target_session_attrs=read-write or primary")
		}
	default:
		return errors.New("host database url: target_session_attrs must be read-write or primary: a replica's answers are old")
	}
	cc.ValidateConnect = validatePrimary(attrs == "read-write")
	return nil
}

// validatePrimary asks every new connection whether the server is in recovery; such a one counts as unreachable.
func validatePrimary(readWrite bool) pgconn.ValidateConnectFunc {
	return func(ctx context.Context, c *pgconn.PgConn) error {
		results, err := c.Exec(ctx,
			"SELECT pg_catalog.pg_is_in_recovery()::text, pg_catalog.current_setting('default_transaction_read_only')").ReadAll()
		if err != nil {
			return err
		}
		if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 2 {
			return errors.New("unexpected answer to a connection check")
		}
		row := results[0].Rows[0]
		switch {
		case string(row[0]) != "false":
			return errRecovery
		case readWrite && string(row[1]) != "off":
			return errReadOnly
		}
		return nil
	}
}

// suspicion remembers when a connection was last found broken. Connections that have been idle since before that are
// asked for a sign of life before they are used again; in normal times no statement pays for a ping.
type suspicion struct{ since atomic.Int64 } // Unix ns of the last breakage, 0: never

func (s *suspicion) raise() { s.since.Store(time.Now().UnixNano()) }

func (s *suspicion) shouldPing(_ context.Context, p pgxpool.ShouldPingParams) bool {
	since := s.since.Load()
	return since != 0 && time.Now().Add(-p.IdleDuration).UnixNano() <= since
}

// openPostgres makes the pool; no connection is made yet.
func openPostgres(ctx context.Context, loc location, maxConns int, s *suspicion) (*pgxpool.Pool, *sql.DB, error) {
	cfg, err := postgresConfig(loc) // the URL's pool_… parameters give way to the config file
	if err != nil {
		return nil, nil, err
	}
	cfg.MaxConns = int32(min(max(maxConns, 1), 10_000))
	cfg.MinConns = 0
	cfg.MaxConnIdleTime = 5 * time.Minute
	cfg.ShouldPing = s.shouldPing
	cfg.PingTimeout = suspectPingTimeout
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, nil, safe("open host database", err)
	}
	return pool, stdlib.OpenDBFromPool(pool), nil
}

// openPostgresForMigration makes a few connections without the guards of normal work: building an index takes its
// time. home is the schema of the eight tables.
func openPostgresForMigration(loc location, home string) (*sql.DB, error) {
	cfg, err := postgresConfig(loc)
	if err != nil {
		return nil, err
	}
	cc := cfg.ConnConfig
	cc.RuntimeParams["statement_timeout"] = "0"
	cc.RuntimeParams["lock_timeout"] = migrationLockTimeout
	cc.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	cc.RuntimeParams["search_path"] = pgx.Identifier{home}.Sanitize()
	db := stdlib.OpenDB(*cc)
	db.SetMaxOpenConns(4)
	return db, nil
}
