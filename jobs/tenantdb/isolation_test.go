package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// refused is the SQLSTATE with which the server refuses a statement, "" if it does not.
func refused(t *testing.T, uri, sql string) string {
	t.Helper()
	_, err := connected(t, uri).Exec(t.Context(), sql)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	must(t, err)
	return ""
}

// shutOut fails unless the server itself keeps the URI's role out of the database.
func shutOut(t *testing.T, uri, database string) {
	t.Helper()
	_, err := connect(t, withDatabase(t, uri, database))
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "42501" {
		t.Errorf("database %s lets another tenant's role in: %v", database, err)
	}
}

// A server of its own: what CONNECT is taken from is the whole server's business.
func TestATenantsRoleReachesItsOwnDatabaseAlone(t *testing.T) {
	server := pgtest.NewServer(t)
	admin, host := server.URL(t), server.URL(t)
	s := newServer(t, admin)
	exec(t, admin, "CREATE ROLE fhsaas LOGIN PASSWORD 'theirs'; CREATE ROLE nologin NOLOGIN")
	hostName := Database(catalog.NewDBURI(host))
	app := strings.Replace(host, "postgres:"+password(t, host), "fhsaas:theirs", 1)
	connected(t, app)

	h := hold(t, s, "first")
	closed, _, err := h.CloseToPublic(t.Context(), []string{hostName, "absent"})
	if err != nil || !slices.Equal(closed, []string{hostName}) {
		t.Fatalf("closed %v: %v", closed, err)
	}
	if closed, _, err = h.CloseToPublic(t.Context(), []string{hostName}); err != nil || len(closed) > 0 {
		t.Fatalf("closed a second time: %v, %v", closed, err)
	}
	must(t, h.Close())
	a, uriA := made(t, s, "a")
	b, uriB := made(t, s, "b")
	for _, uri := range []string{uriA.Reveal(), uriB.Reveal()} {
		must(t, Ping(t.Context(), catalog.NewDBURI(uri)))
	}
	shutOut(t, uriA.Reveal(), b.Database)
	shutOut(t, uriB.Reveal(), a.Database)
	shutOut(t, uriA.Reveal(), hostName)
	connected(t, app) // the role that shared the host database still does
	exec(t, app, "SELECT 1")

	exec(t, uriA.Reveal(), "CREATE TABLE notes (id int); INSERT INTO notes VALUES (1); CREATE SCHEMA more; CREATE TEMP TABLE t (x int)")
	for _, sql := range []string{
		"SET ROLE " + b.Role, "SET ROLE postgres", "SET SESSION AUTHORIZATION " + b.Role, "CREATE ROLE mine", "CREATE DATABASE mine",
		"SELECT * FROM pg_catalog.pg_authid", "ALTER ROLE " + a.Role + " CREATEDB", "ALTER ROLE " + a.Role + " SUPERUSER", "GRANT " + b.Role + " TO " + a.Role,
		"DROP DATABASE " + b.Database, "ALTER DATABASE " + b.Database + " OWNER TO " + a.Role, "GRANT CONNECT ON DATABASE " + b.Database + " TO " + a.Role,
		"COMMENT ON DATABASE " + b.Database + " IS 'mine'", "SELECT pg_catalog.pg_read_file('/etc/passwd')", "COPY (SELECT 1) TO PROGRAM 'true'",
		"ALTER SYSTEM SET log_statement = 'all'", "CREATE EXTENSION dblink", "ALTER ROLE " + b.Role + " PASSWORD 'x'", "DROP ROLE " + b.Role,
		"CREATE TABLESPACE ts LOCATION '/tmp'",
	} {
		if code := refused(t, uriA.Reveal(), sql); code != "42501" && !(code == "0A000" && strings.HasPrefix(sql, "CREATE EXTENSION")) {
			t.Errorf("%s as a tenant's role: SQLSTATE %q", sql, code)
		}
	}
	var grants int
	must(t, connected(t, admin).QueryRow(t.Context(), "SELECT count(*) FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) x JOIN pg_catalog.pg_roles r ON r.oid = x.grantee WHERE d.datname = $1 AND r.rolname IN ('nologin', $2, $3)",
		hostName, a.Role, b.Role).Scan(&grants))
	if grants != 0 {
		t.Error("the host database was granted to a tenant's role, or to one that cannot log in")
	}
}

// Each run closes what others are just making: changes of one database at once are an error in PostgreSQL.
func TestDatabasesMadeSideBySideDoNotDisturbEachOther(t *testing.T) {
	const tenants = 6
	s := newServer(t, pgtest.NewServer(t).URL(t))
	var places [tenants]Place
	var all []string
	for i := range places {
		places[i] = s.NewPlace(catalog.TenantID(fmt.Sprint("side", i)))
		all = append(all, places[i].Database)
	}
	var g errgroup.Group
	for _, p := range places {
		g.Go(func() error {
			h, err := s.Hold(t.Context(), p.Tenant)
			if err != nil {
				return err
			}
			defer h.Close()
			if err := h.EnsureRole(t.Context(), p, secret.New("pass")); err != nil {
				return err
			}
			for range 5 {
				if err := h.EnsureDatabase(t.Context(), p); err != nil {
					return err
				}
				if _, kept, err := h.CloseToPublic(t.Context(), all); err != nil || len(kept) > 0 {
					return fmt.Errorf("kept %v: %w", kept, err)
				}
				// Opened to everybody again, and to be closed by whoever comes first.
				err := h.(*postgresHold).alone(t.Context(), func(tx pgx.Tx) error {
					_, err := tx.Exec(t.Context(), "GRANT CONNECT ON DATABASE "+quote(p.Database)+" TO PUBLIC")
					return err
				})
				if err != nil {
					return err
				}
			}
			return h.EnsureDatabase(t.Context(), p)
		})
	}
	must(t, g.Wait())
	found, err := s.Look(t.Context(), all)
	must(t, err)
	for _, p := range places {
		if o := found[p.Database]; o.Owner != p.Role || !o.AllowConnections || len(o.PublicRights) > 0 {
			t.Errorf("%+v", o)
		}
	}
}

// A tenant's role that is there before is no "existing login role": it would keep what PUBLIC loses.
func TestClosingADatabaseNamesNoTenantsRole(t *testing.T) {
	server := pgtest.NewServer(t)
	admin, late := server.URL(t), server.URL(t)
	s := newServer(t, admin)
	other, err := New(Config{URL: catalog.NewDBURI(admin), Installation: "f" + installation[1:]})
	must(t, err)
	_, uri := made(t, s, "a")
	_, foreign := made(t, other, "a")
	h := hold(t, s, "b")
	defer h.Close()
	name := Database(catalog.NewDBURI(late))
	if closed, _, err := h.CloseToPublic(t.Context(), []string{name}); err != nil || len(closed) != 1 {
		t.Fatalf("closed %v: %v", closed, err)
	}
	shutOut(t, uri.Reveal(), name)
	shutOut(t, foreign.Reveal(), name)
}

// A role that is made while a database is being closed could enter before: it is named like the others. The table lock holds
// the run up where it has listed the roles and has yet to name them.
func TestALoginRoleThatIsMadeMeanwhileIsNamedToo(t *testing.T) {
	server := pgtest.NewServer(t)
	admin, shared := server.URL(t), server.URL(t)
	h := hold(t, newServer(t, admin), "a")
	defer h.Close()
	blocking := connected(t, admin)
	for _, text := range []string{"BEGIN", "LOCK TABLE pg_catalog.pg_database IN SHARE MODE"} {
		_, err := blocking.Exec(t.Context(), text)
		must(t, err)
	}
	var g errgroup.Group
	g.Go(func() error {
		_, kept, err := h.CloseToPublic(t.Context(), []string{Database(catalog.NewDBURI(shared))})
		return errors.Join(err, kept[Database(catalog.NewDBURI(shared))])
	})
	waits := "SELECT count(*) > 0 FROM pg_catalog.pg_locks WHERE NOT granted AND relation = 'pg_catalog.pg_database'::pg_catalog.regclass"
	until(t, func() (yes bool) {
		must(t, connected(t, admin).QueryRow(t.Context(), waits).Scan(&yes))
		return yes
	})
	exec(t, admin, "CREATE ROLE late LOGIN PASSWORD 'theirs'")
	_, err := blocking.Exec(t.Context(), "COMMIT")
	must(t, err)
	must(t, g.Wait())
	connected(t, strings.Replace(shared, "postgres:"+password(t, shared), "late:theirs", 1))
}

// Advisory locks are a database's own, and another process's admin_url may lead to another database of the server.
func TestRunsThatConnectToDifferentDatabasesKeepApart(t *testing.T) {
	server := pgtest.NewServer(t)
	servers := []Server{newServer(t, server.URL(t)), newServer(t, server.URL(t))}
	for i := range servers {
		h := hold(t, servers[i], "a")
		short, cancel := context.WithTimeout(t.Context(), 3*holdPoll)
		if _, err := servers[1-i].Hold(short, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a tenant that another run has was given away: %v", err)
		}
		cancel()
		must(t, hold(t, servers[1-i], "b").Close())
		must(t, h.Close())
	}
	var g errgroup.Group
	var inside atomic.Int32
	for i := range 6 {
		g.Go(func() error {
			for range 5 {
				h, err := servers[i%2].Hold(t.Context(), "a")
				if err != nil {
					return err
				}
				err = h.(*postgresHold).alone(t.Context(), func(pgx.Tx) error {
					if inside.Add(1) != 1 {
						t.Error("two runs have one tenant")
					}
					inside.Add(-1)
					return nil
				})
				if err := errors.Join(err, h.Close()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	must(t, g.Wait())
}

// until asks again until the answer is yes: another session is waited for.
func until(t *testing.T, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !yes(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come to that")
		}
	}
}

func TestAnAdministratorWithoutSuperuserWorksOrIsToldWhatToRun(t *testing.T) {
	server := pgtest.NewServer(t)
	super, host := server.URL(t), server.URL(t)
	exec(t, super, "CREATE ROLE admin LOGIN CREATEROLE CREATEDB PASSWORD 'adm1n'; CREATE ROLE weak LOGIN PASSWORD 'we4k'")
	as := func(user, pass string) string {
		return strings.Replace(super, "postgres:"+password(t, super), user+":"+pass, 1)
	}
	hostName := Database(catalog.NewDBURI(host))

	s := newServer(t, as("admin", "adm1n"))
	h := hold(t, s, "a")
	_, kept, err := h.CloseToPublic(t.Context(), []string{hostName})
	must(t, err)
	err = kept[hostName]
	for _, part := range []string{`GRANT CONNECT ON DATABASE "` + hostName + `" TO "admin", "postgres", "weak"`, `REVOKE CONNECT ON DATABASE "` + hostName + `" FROM PUBLIC`} {
		if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), part) {
			t.Errorf("closing a database of others: %v: does not name %s", err, part)
		}
	}
	connected(t, as("weak", "we4k")) // nothing was half done
	must(t, h.Close())
	p, uri := made(t, s, "a") // which drops it, too
	must(t, Ping(t.Context(), uri))
	shutOut(t, as("weak", "we4k"), p.Database)

	none := newServer(t, as("weak", "we4k"))
	h = hold(t, none, "b")
	defer h.Close()
	err = h.EnsureRole(t.Context(), none.NewPlace("b"), NewPassword())
	if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "CREATE ROLE") || strings.Contains(err.Error(), "SCRAM") {
		t.Errorf("a role without rights made a role: %v", err)
	}
}

func password(t *testing.T, uri string) string {
	t.Helper()
	cfg, err := postgresConfig(catalog.NewDBURI(uri))
	must(t, err)
	return cfg.Password
}
