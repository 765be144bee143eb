package tenantdb

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/secret"
)

//go:embed sql/*.sql
var statements embed.FS

// statement is the text of sql/NAME.sql.
func statement(name string) string {
	text, err := statements.ReadFile("sql/" + name + ".sql")
	if err != nil {
		panic(err) // embedded: the tests of this package run each
	}
	return string(text)
}

const (
	// adminStatementTimeout is the server's own guard: making a database copies files, dropping one ends sessions.
	adminStatementTimeout = "300000" // ms
	// adminLockTimeout bounds how long a statement stands in a queue in which others stand behind it.
	adminLockTimeout = "30000"                // ms
	holdPoll         = 100 * time.Millisecond // another run has the tenant
	alonePoll        = 10 * time.Millisecond  // another run changes a database's rights
	lookDeadline     = 30 * time.Second
)

// postgres is a PostgreSQL server.
type postgres struct {
	admin        catalog.DBURI
	installation string
	slots        chan struct{} // one for each connection of a Hold
}

func newPostgres(cfg Config) (*postgres, error) {
	n := cfg.MaxConnections
	if n <= 0 {
		n = 10
	}
	return &postgres{admin: cfg.URL, installation: cfg.Installation, slots: make(chan struct{}, n)}, nil
}

func (*postgres) Engine() string { return catalog.EnginePostgreSQL }

// Close has nothing to end: each connection belongs to a Hold or to a call.
func (*postgres) Close() error { return nil }

func (s *postgres) NewPlace(tenant catalog.TenantID) Place {
	mark := catalog.GenID()
	name := nameOf(s.installation, tenant, mark)
	return Place{Tenant: tenant, Database: name, Role: name, Mark: mark}
}

func (s *postgres) URI(p Place, password secret.Text) catalog.DBURI {
	return tenantURI(s.admin, p, password.Reveal())
}

// connect opens one connection as the administrator.
func (s *postgres) connect(ctx context.Context) (*pgx.Conn, error) { return s.connectTo(ctx, "") }

// connectTo opens one connection to another database of the server; empty: the administrator's own.
func (s *postgres) connectTo(ctx context.Context, database string) (*pgx.Conn, error) {
	cfg, err := postgresConfig(s.admin)
	if err != nil {
		return nil, fmt.Errorf("provisioning.admin_url: %w", err)
	}
	if database != "" { // whose owner may have made its sessions read-only
		cfg.Database = database
		cfg.RuntimeParams["default_transaction_read_only"] = "off"
	}
	for name, value := range map[string]string{
		"statement_timeout": adminStatementTimeout, "lock_timeout": adminLockTimeout, "idle_in_transaction_session_timeout": "60000",
		"search_path": "pg_catalog", "client_connection_check_interval": "1000",
	} {
		cfg.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	return conn, safe("connect as the administrator of provisioning.admin_url", err)
}

// asking runs f on a connection of its own.
func (s *postgres) asking(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, lookDeadline)
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	return f(ctx, conn)
}

// closeConn says goodbye, so that the server lets go of locks at once; a connection that cannot is cut.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	_ = conn.Close(ctx)
}

func (s *postgres) Identity(ctx context.Context) (id string, err error) {
	err = s.asking(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		id, err = identity(ctx, conn)
		return err
	})
	return id, err
}

func identity(ctx context.Context, conn *pgx.Conn) (id string, err error) {
	err = conn.QueryRow(ctx, "SELECT system_identifier::text FROM pg_catalog.pg_control_system()").Scan(&id)
	return id, denied("ask the server who it is", "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO the role of provisioning.admin_url", err)
}

func (s *postgres) List(ctx context.Context) (found []Object, err error) {
	err = s.asking(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		found, err = s.objects(ctx, conn, nil)
		return err
	})
	return found, err
}

func (s *postgres) Look(ctx context.Context, databases []string) (map[string]Object, error) {
	found := make(map[string]Object, len(databases))
	err := s.asking(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		list, err := s.objects(ctx, conn, append([]string{}, databases...))
		for _, o := range list {
			found[o.Database] = o
		}
		return err
	})
	return found, err
}

func (s *postgres) Granted(ctx context.Context) (found []Grant, err error) {
	err = s.asking(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, statement("granted"), commentPrefix(s.installation))
		if err == nil {
			found, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Grant])
		}
		return safe("list what tenants' roles were granted", err)
	})
	return found, err
}

func (s *postgres) OpenToPublic(ctx context.Context) (names []string, err error) {
	err = s.asking(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		names, err = openToPublic(ctx, conn, nil)
		return err
	})
	return names, err
}

func (s *postgres) objects(ctx context.Context, conn *pgx.Conn, names []string) ([]Object, error) {
	rows, err := conn.Query(ctx, statement("objects"), names, commentPrefix(s.installation))
	if err != nil {
		return nil, safe("list databases and roles", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o Object, err error) {
		return o, row.Scan(&o.Database, &o.Owner, &o.Role, &o.Mark, &o.AllowConnections, &o.PublicRights, &o.RoleRights)
	})
	return found, safe("list databases and roles", err)
}

// Hold takes an advisory lock of a session that then does all the work: where the connection is lost, so are the lock and
// the means to go on. It asks again and again, since a statement that waits would hold a snapshot.
func (s *postgres) Hold(ctx context.Context, tenant catalog.TenantID) (Hold, error) {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, safe("wait for a connection to the tenants' server", ctx.Err())
	}
	h := &postgresHold{server: s}
	var err error
	if h.conn, err = s.connect(ctx); err == nil {
		err = h.conn.QueryRow(ctx, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").Scan(&h.superuser)
		err = safe("look at the administrator's rights", err)
	}
	if err == nil {
		err = h.lock(ctx, "tenant/"+s.installation+"/"+string(tenant), holdPoll)
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// postgresHold is one connection of the administrator, with the tenant's lock.
type postgresHold struct {
	server    *postgres
	conn      *pgx.Conn
	superuser bool
	closed    bool
}

// lock takes an advisory lock of the session that nobody has in any database of the server: PostgreSQL keeps such locks
// apart by database, and the admin_url of another process may lead to another one. Who finds a rival in a database before
// its own lets go and comes again; who finds one behind it waits, so that of two one always goes on.
func (h *postgresHold) lock(ctx context.Context, what string, poll time.Duration) error {
	key, held := lockKey(what), false
	for {
		var before, behind bool
		if !held {
			if err := h.conn.QueryRow(ctx, "SELECT pg_catalog.pg_try_advisory_lock($1)", key).Scan(&held); err != nil {
				return safe("take a lock on the tenants' server", err)
			}
		}
		if held { // looked for only now: of two that look, the later one sees the other
			if err := h.conn.QueryRow(ctx, statement("rivals"), key).Scan(&before, &behind); err != nil {
				return safe("look for the locks of others", err)
			}
		}
		switch {
		case held && !before && !behind:
			return nil
		case held && before:
			held = false
			if err := h.unlock(ctx, what); err != nil {
				return err
			}
		}
		timer := time.NewTimer(poll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			err := safe("wait for another run that has the lock", ctx.Err())
			if held {
				err = errors.Join(err, h.unlock(ctx, what))
			}
			return err
		}
	}
}

// unlock gives the lock back, also when ctx has ended. With the connection it is gone already.
func (h *postgresHold) unlock(ctx context.Context, what string) error {
	if h.conn.IsClosed() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	_, err := h.conn.Exec(ctx, "SELECT pg_catalog.pg_advisory_unlock($1)", lockKey(what))
	return safe("give a lock back", err)
}

func (h *postgresHold) Close() error {
	if h.closed {
		return nil
	}
	h.closed = true
	if h.conn != nil {
		closeConn(context.Background(), h.conn)
	}
	<-h.server.slots
	return nil
}

// inTx runs f in a transaction of which the server's log shows no statement, as far as the role may ask for that.
func (h *postgresHold) inTx(ctx context.Context, f func(pgx.Tx) error) error {
	tx, err := h.conn.Begin(ctx)
	if err != nil {
		return safe("begin", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // after Commit it does nothing
	if h.superuser {
		_, err := tx.Exec(ctx, "SET LOCAL log_statement = 'none'; SET LOCAL log_min_duration_statement = -1; "+
			"SET LOCAL log_min_duration_sample = -1; SET LOCAL log_min_error_statement = 'panic'; SET LOCAL log_transaction_sample_rate = 0")
		if err != nil {
			return safe("keep statements out of the server's log", err)
		}
	}
	if err := f(tx); err != nil {
		return err
	}
	return safe("commit", tx.Commit(ctx))
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
