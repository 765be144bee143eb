package tenantdb

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// Any role may take advisory locks, in its own database and in each that PUBLIC may enter, the administrator's perhaps. What
// a tenant's role takes of ours stops no run.
func TestATenantsRoleTakesNoLockOfOurs(t *testing.T) {
	server := pgtest.NewServer(t)
	super := server.URL(t)
	exec(t, super, "CREATE ROLE admin LOGIN CREATEROLE CREATEDB PASSWORD 'adm1n'")
	for _, admin := range []string{super, strings.Replace(super, "postgres:"+password(t, super), "admin:adm1n", 1)} {
		s := newServer(t, admin)
		_, uri := made(t, s, "spite")
		for _, at := range []string{uri.Reveal(), withDatabase(t, uri.Reveal(), Database(catalog.NewDBURI(admin)))} {
			spite := connected(t, at)
			for _, what := range []string{publicLock, "tenant/" + installation + "/victim"} {
				sum := sha256.Sum256([]byte("tenantgate/" + what))
				_, err := spite.Exec(t.Context(), "SELECT pg_advisory_lock($1), pg_advisory_lock($2, n) FROM generate_series(0, 99) n",
					int64(binary.BigEndian.Uint64(sum[:])), int32(binary.BigEndian.Uint32(sum[:])))
				must(t, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			h, err := s.Hold(ctx, "victim")
			must(t, err)
			p := s.NewPlace("victim")
			must(t, h.EnsureRole(ctx, p, NewPassword()))
			must(t, errors.Join(h.EnsureDatabase(ctx, p), h.Drop(ctx, p), h.Close()))
			cancel()
			must(t, spite.Close(t.Context()))
		}
	}
}

// The rivals are administrators, whatever their names.
func TestTwoAdministratorsKeepApart(t *testing.T) {
	server := pgtest.NewServer(t)
	super := server.URL(t)
	exec(t, super, "CREATE ROLE admin LOGIN CREATEROLE CREATEDB PASSWORD 'adm1n'")
	servers := []Server{newServer(t, super), newServer(t, strings.Replace(super, "postgres:"+password(t, super), "admin:adm1n", 1))}
	for i := range servers {
		h := hold(t, servers[i], "a")
		short, cancel := context.WithTimeout(t.Context(), 3*holdPoll)
		if _, err := servers[1-i].Hold(short, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a tenant that another administrator has was given away: %v", err)
		}
		cancel()
		must(t, h.Close())
	}
}

// A tenant owns its database: it may open it to everybody, and keep others from changing that. It is told of, and keeps no
// other database open.
func TestATenantThatKeepsItsOwnDatabaseOpenStopsNobody(t *testing.T) {
	server := pgtest.NewServer(t)
	admin, host := server.URL(t), server.URL(t)
	s := newServer(t, admin)
	p, uri := made(t, s, "spite")
	other, otherURI := made(t, s, "other")
	name, hostName := quote(p.Database), Database(catalog.NewDBURI(host))
	h := hold(t, s, "victim")
	defer h.Close()

	exec(t, uri.Reveal(), "GRANT CONNECT ON DATABASE "+name+" TO "+quote(other.Role)+" WITH GRANT OPTION")
	exec(t, otherURI.Reveal(), "GRANT CONNECT ON DATABASE "+name+" TO PUBLIC")
	closed, kept, err := h.CloseToPublic(t.Context(), []string{p.Database, hostName})
	if err != nil || !slices.Equal(closed, []string{hostName}) || len(kept) != 1 || !errors.Is(kept[p.Database], ErrDenied) {
		t.Fatalf("closed %v, kept %v: %v", closed, kept, err)
	}
	exec(t, uri.Reveal(), "REVOKE CONNECT ON DATABASE "+name+" FROM "+quote(other.Role)+" CASCADE")
	exec(t, uri.Reveal(), "GRANT CONNECT ON DATABASE "+name+" TO PUBLIC")

	spite := connected(t, uri.Reveal())
	_, err = spite.Exec(t.Context(), "BEGIN")
	must(t, err)
	_, err = spite.Exec(t.Context(), "GRANT TEMPORARY ON DATABASE "+name+" TO PUBLIC")
	must(t, err)
	exec(t, admin, "GRANT CONNECT ON DATABASE "+quote(hostName)+" TO PUBLIC")
	closed, kept, err = h.CloseToPublic(t.Context(), []string{p.Database, hostName})
	if err != nil || !slices.Equal(closed, []string{hostName}) || len(kept) != 1 {
		t.Fatalf("closed %v, kept %v: %v", closed, kept, err)
	}
	must(t, spite.Close(t.Context()))
	if closed, kept, err = h.CloseToPublic(t.Context(), []string{p.Database}); err != nil || len(closed) != 1 || len(kept) > 0 {
		t.Fatalf("closed %v, kept %v: %v", closed, kept, err)
	}
}

// What an owner sets for the sessions of its database holds for the administrator's, too, unless they say otherwise.
func TestWhatADatabaseSetsForItsSessionsKeepsNoRoleFromBeingDropped(t *testing.T) {
	s := newServer(t, newURL(t))
	for i, setting := range []string{"role = %s", "idle_session_timeout = '1ms'", "local_preload_libraries = 'nothing_like_it'", ""} {
		tenant := catalog.TenantID(fmt.Sprint("spite", i))
		spite, uri := made(t, s, tenant)
		victim, _ := made(t, s, "victim")
		for _, sql := range []string{"CREATE TABLE bait (x int)", "GRANT ALL ON bait TO " + quote(victim.Role)} {
			exec(t, uri.Reveal(), sql)
		}
		if strings.Contains(setting, "%s") {
			setting = fmt.Sprintf(setting, quote(spite.Role))
		}
		if setting == "" { // it may be shut, from elsewhere
			exec(t, uri.Reveal(), "GRANT TEMPORARY ON DATABASE "+quote(spite.Database)+" TO PUBLIC")
			exec(t, withDatabase(t, uri.Reveal(), "template1"), "ALTER DATABASE "+quote(spite.Database)+" ALLOW_CONNECTIONS false")
		} else {
			exec(t, uri.Reveal(), "ALTER DATABASE "+quote(spite.Database)+" SET "+setting)
		}
		h := hold(t, s, "victim")
		if err := errors.Join(h.Drop(t.Context(), victim), h.Close()); err != nil {
			t.Errorf("%s: %v", setting, err)
			execLate(t, s.(*postgres).admin.Reveal(), "ALTER DATABASE "+quote(spite.Database)+" RESET ALL")
			h := hold(t, s, "victim")
			must(t, errors.Join(h.Drop(t.Context(), victim), h.Close()))
		}
	}
}

// A db_url leads where its writer wants it to. A server that answers nothing holds nobody up, and none gets the password that
// the environment has for the administrator.
func TestAStrangersServerGetsNeitherTimeNorThePasswordOfTheEnvironment(t *testing.T) {
	t.Setenv("PGPASSWORD", "c4nary")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	got := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		b := pgproto3.NewBackend(conn, conn)
		_, _ = b.ReceiveStartupMessage()
		b.Send(&pgproto3.AuthenticationCleartextPassword{})
		_ = b.Flush()
		m, _ := b.Receive()
		if p, ok := m.(*pgproto3.PasswordMessage); ok {
			got <- p.Password
		}
	}()
	uri := catalog.NewDBURI("postgresql://someone@" + l.Addr().String() + "/analytics?sslmode=disable")
	if _, err := IdentityOf(t.Context(), uri); err == nil {
		t.Error("a server that hangs up has an identity")
	}
	select {
	case p := <-got:
		if p != "" {
			t.Errorf("it was told %q", p)
		}
	case <-time.After(time.Minute):
		t.Error("nobody came")
	}
	if _, err := identityOf(t.Context(), uri, 100*time.Millisecond); !errors.Is(err, ErrUnavailable) { // nobody accepts any more
		t.Errorf("a server that does not answer: %v", err)
	}
}
