package tenantdb

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const installation = "0123456789abcdef0123456789abcdef"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// onBothEngines runs f with a server of each kind, and a tenant's place that is gone afterwards.
func onBothEngines(t *testing.T, f func(t *testing.T, s Server)) {
	t.Helper()
	t.Run("postgresql", func(t *testing.T) { f(t, newServer(t, pgtest.New(t))) })
	t.Run("sqlite", func(t *testing.T) { f(t, newServer(t, "sqlite:"+filepath.Join(t.TempDir(), "tenants"))) })
}

func newServer(t testing.TB, admin string) Server {
	t.Helper()
	s, err := New(Config{URL: catalog.NewDBURI(admin), Installation: installation})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// made provisions a tenant's database by the shortest way; it is gone when the test ends.
func made(t testing.TB, s Server, tenant catalog.TenantID) (Place, catalog.DBURI) {
	t.Helper()
	p, password := s.NewPlace(tenant), NewPassword()
	h := hold(t, s, tenant)
	t.Cleanup(func() {
		h, err := s.Hold(context.Background(), tenant)
		must(t, err)
		must(t, h.Drop(context.Background(), p))
		must(t, h.Close())
	})
	must(t, h.EnsureRole(t.Context(), p, password))
	must(t, h.EnsureDatabase(t.Context(), p))
	must(t, h.Close())
	p.Made = true
	return p, s.URI(p, password)
}

func hold(t testing.TB, s Server, tenant catalog.TenantID) Hold {
	t.Helper()
	h, err := s.Hold(t.Context(), tenant)
	must(t, err)
	return h
}

// connect opens one connection by a URI; the error is the server's.
func connect(t testing.TB, uri string) (*pgx.Conn, error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), uri)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

func connected(t testing.TB, uri string) *pgx.Conn {
	t.Helper()
	conn, err := connect(t, uri)
	must(t, err)
	return conn
}

func exec(t testing.TB, uri, sql string) {
	t.Helper()
	_, err := connected(t, uri).Exec(t.Context(), sql)
	must(t, err)
}

// withDatabase is a URI that leads to another database of the same server.
func withDatabase(t testing.TB, uri, database string) string {
	t.Helper()
	u, err := url.Parse(uri)
	must(t, err)
	u.Path = "/" + database
	return u.String()
}

func migrationFiles(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// execLate runs SQL after the test's context has ended.
func execLate(t testing.TB, uri, sql string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), uri)
	must(t, err)
	_, err = conn.Exec(context.Background(), sql)
	must(t, err)
	must(t, conn.Close(context.Background()))
}

func newURL(t testing.TB) string { return pgtest.New(t) }
