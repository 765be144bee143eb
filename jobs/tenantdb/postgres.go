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
	adminLockTimeout = "30000" // ms
	holdPoll         = 100 * time.Millisecond
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
		err = h.wait(ctx, "tenant/"+s.installation+"/"+string(tenant))
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

func (h *postgresHold) wait(ctx context.Context, what string) error {
	for {
		var ok bool
		if err := h.conn.QueryRow(ctx, "SELECT pg_catalog.pg_try_advisory_lock($1)", lockKey(what)).Scan(&ok); err != nil || ok {
			return safe("take the tenant's lock", err)
		}
		timer := time.NewTimer(holdPoll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return safe("wait for another run that has the tenant", ctx.Err())
		}
	}
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
