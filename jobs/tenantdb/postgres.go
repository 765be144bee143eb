package tenantdb

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
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
func (s *postgres) connect(ctx context.Context) (*pgx.Conn, error) { return s.connectTo(ctx, "", nil) }

// connectTo opens one connection to another database of the server, with settings; empty: the administrator's own.
func (s *postgres) connectTo(ctx context.Context, database string, settings map[string]string) (*pgx.Conn, error) {
	cfg, err := postgresConfig(s.admin)
	if err != nil {
		return nil, fmt.Errorf("provisioning.admin_url: %w", err)
	}
	if database != "" {
		cfg.Database = database
	}
	maps.Copy(cfg.RuntimeParams, settings)
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
		open, err := openToPublic(ctx, conn, nil)
		for _, d := range open {
			names = append(names, d.Name)
		}
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
		err = h.conn.QueryRow(ctx, "SELECT rolname, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").Scan(&h.role, &h.superuser)
		err = safe("look at the administrator's rights", err)
	}
	if err == nil {
		_, err = h.lock(ctx, "tenant/"+s.installation+"/"+string(tenant), holdPoll)
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
	role      string // the administrator's
	superuser bool
	closed    bool
}

// claim is an advisory lock of a session. Its first half says what is claimed, its second half is its own, so that claims
// never wait for each other: any role of the server may take any advisory lock, and could hold up whoever waits for it.
type claim struct{ what, own int32 }

// lock claims something for the session and returns once nobody else has claimed it in any database of the server. PostgreSQL
// keeps advisory locks apart by database, and shows all of them; those of roles that are no administrators do not count. Of
// two that claim at once the one with the higher process id lets go and comes again.
func (h *postgresHold) lock(ctx context.Context, what string, poll time.Duration) (claim, error) {
	c, held := claim{what: int32(lockKey(what) >> 32)}, false
	for {
		before, behind, err := h.rivals(ctx, c)
		if err == nil && !held && !before && !behind {
			c.own = int32(rand.Uint32())
			if err = h.conn.QueryRow(ctx, "SELECT pg_catalog.pg_try_advisory_lock($1::integer, $2::integer)", c.what, c.own).Scan(&held); err == nil && held {
				before, behind, err = h.rivals(ctx, c) // of two that look now, the later one sees the other
			}
		}
		err = safe("take a lock on the tenants' server", err)
		switch {
		case err == nil && held && !before && !behind:
			return c, nil
		case held && (err != nil || before):
			held = false
			err = errors.Join(err, h.unlock(ctx, c))
		}
		if err != nil {
			return c, err
		}
		timer := time.NewTimer(poll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			err := safe("wait for another run that has the lock", ctx.Err())
			if held {
				err = errors.Join(err, h.unlock(ctx, c))
			}
			return c, err
		}
	}
}

// rivals tells of other sessions' claims: before and behind this one.
func (h *postgresHold) rivals(ctx context.Context, c claim) (before, behind bool, err error) {
	err = h.conn.QueryRow(ctx, statement("rivals"), c.what).Scan(&before, &behind)
	return before, behind, err
}

// unlock gives a claim back, also when ctx has ended. With the connection it is gone already.
func (h *postgresHold) unlock(ctx context.Context, c claim) error {
	if h.conn.IsClosed() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	_, err := h.conn.Exec(ctx, "SELECT pg_catalog.pg_advisory_unlock($1::integer, $2::integer)", c.what, c.own)
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
