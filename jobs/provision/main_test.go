package provision

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
	"github.com/tenantgate/tenantgate/sealing"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is a host database, a server for its tenants, and what provisions there.
type rig struct {
	*Provisioner
	host   *catalog.HostDatabase
	url    string
	opener *sealing.Opener
	now    time.Time
}

// on runs f with host database and tenants on PostgreSQL, and on SQLite; mixed is an embedded host database before a
// server.
func on(t *testing.T, f func(t *testing.T, r *rig), more ...string) {
	t.Helper()
	for _, kind := range append([]string{"postgresql", "sqlite"}, more...) {
		t.Run(kind, func(t *testing.T) { f(t, newRig(t, kind, nil)) })
	}
}

func newRig(t testing.TB, kind string, change func(*Config)) *rig {
	t.Helper()
	host := "sqlite:" + filepath.Join(t.TempDir(), "host.db")
	admin := "sqlite:" + filepath.Join(t.TempDir(), "tenants")
	if kind != "sqlite" {
		admin = pgtest.New(t)
	}
	if kind == "postgresql" {
		host = pgtest.New(t)
	}
	return rigOn(t, host, admin, change)
}

func rigOn(t testing.TB, host, admin string, change func(*Config)) *rig {
	t.Helper()
	r := &rig{url: host, now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return r.now }
	var err error
	r.host, err = catalog.New(t.Context(), catalog.Config{URL: catalog.NewDBURI(host), Clock: clock, SharedClock: clock})
	must(t, err)
	t.Cleanup(func() { must(t, r.host.Close()) })
	keys, err := seal.ParseKeyset(secret.New("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="))
	must(t, err)
	r.opener = sealing.New(sealing.Config{Keys: keys, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(r.opener.Close)
	cfg := Config{AdminURL: catalog.NewDBURI(admin), MigrationsDir: migrations(t, nil)}
	if change != nil {
		change(&cfg)
	}
	r.Provisioner, err = New(cfg, Deps{Host: r.host, Keys: keys, Opener: r.opener, Clock: clock})
	must(t, err)
	t.Cleanup(func() {
		r.dropAll(t)
		must(t, r.Close())
	})
	return r
}

// migrations is a directory of two, and of more.
func migrations(t testing.TB, more map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"00001_notes.sql": "-- +goose Up\nCREATE TABLE notes (id int PRIMARY KEY, body text NOT NULL);\n",
		"00002_first.sql": "-- +goose Up\nINSERT INTO notes VALUES (1, 'welcome');\n",
	}
	for name, text := range more {
		files[name] = text
	}
	for name, text := range files {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// dropAll removes what was provisioned: the server outlives the test.
func (r *rig) dropAll(t testing.TB) {
	t.Helper()
	ctx := context.Background()
	server, err := r.tenants(ctx)
	must(t, err)
	records, _, err := r.host.TenantDatabases.List(ctx, catalog.Page{Limit: 1000})
	must(t, err)
	for i := range records {
		hold, err := server.Hold(ctx, records[i].TenantID)
		must(t, err)
		must(t, hold.Drop(ctx, tenantdb.PlaceOf(&records[i], true)))
		must(t, hold.Close())
	}
}

// uri is what the app would be given.
func (r *rig) uri(t testing.TB, tenant catalog.TenantID) catalog.DBURI {
	t.Helper()
	row, err := r.host.Tenants.Get(t.Context(), tenant)
	must(t, err)
	uri, err := r.opener.Open(t.Context(), tenant, row.DBURL)
	must(t, err)
	return uri
}

// ready fails unless the tenant is active, its database migrated and on record, with one database and one role.
func (r *rig) ready(t testing.TB, tenant catalog.TenantID) {
	t.Helper()
	ctx := t.Context()
	row, err := r.host.Tenants.Get(ctx, tenant)
	must(t, err)
	if row.IsActive == nil || !*row.IsActive || row.DBURL.IsZero() {
		t.Fatalf("tenant %q: %+v", tenant, row)
	}
	record, err := r.host.TenantDatabases.Get(ctx, tenant)
	must(t, err)
	if Step(record.Step) != Ready || record.Problem != nil {
		t.Fatalf("tenant %q: record %+v", tenant, record)
	}
	if v, err := r.migrations.Version(ctx, r.uri(t, tenant)); err != nil || v != r.migrations.Target() {
		t.Fatalf("tenant %q: version %d: %v", tenant, v, err)
	}
	server, err := r.tenants(ctx)
	must(t, err)
	found, err := server.List(ctx)
	must(t, err)
	n := 0
	for _, o := range found {
		if strings.HasPrefix(o.Database, strings.TrimSuffix(record.DatabaseName, ".db")) || o.Role == record.RoleName && o.Role != "" {
			n++
			if len(o.PublicRights)+len(o.RoleRights) > 0 || !o.AllowConnections || o.Owner != record.RoleName {
				t.Errorf("tenant %q: %+v", tenant, o)
			}
		}
	}
	if n != 1 {
		t.Fatalf("tenant %q: %d databases and roles: %+v", tenant, n, found)
	}
}

func (r *rig) events(t testing.TB, target string) []string {
	t.Helper()
	rows, _, err := r.host.AuditLogs.List(t.Context(), catalog.Page{Limit: 1000, Filter: map[string]string{"target_id": target}})
	must(t, err)
	var events []string
	for _, row := range slices.Backward(rows) {
		events = append(events, *row.EventType)
	}
	return events
}

func connect(t testing.TB, uri string) (*pgx.Conn, error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), uri)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

func exec(t testing.TB, uri, sql string) {
	t.Helper()
	conn, err := connect(t, uri)
	must(t, err)
	_, err = conn.Exec(t.Context(), sql)
	must(t, err)
}

func withDatabase(t testing.TB, uri, database string) string {
	t.Helper()
	u, err := url.Parse(uri)
	must(t, err)
	u.Path = "/" + database
	return u.String()
}
