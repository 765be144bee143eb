package lifecycle

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver "pgx"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/jobs/provision"
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

// world is a host database and a server of tenants' databases, of one engine.
type world struct {
	t      testing.TB
	host   *catalog.HostDatabase
	server tenantdb.Server
	keys   seal.Keyset
	deps   Deps
	dir    string // of migrations

	mu  sync.Mutex
	now time.Time
	// uris are the tenants' URIs, opened.
	uris map[catalog.TenantID]catalog.DBURI
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.now.IsZero() {
		return time.Now()
	}
	return w.now
}

func (w *world) later(d time.Duration) {
	now := w.clock().Add(d)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = now
}

// onBothEngines runs a test on PostgreSQL alone, and on SQLite alone.
func onBothEngines(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Run(catalog.EnginePostgreSQL, func(t *testing.T) {
		test(t, newWorld(t, pgtest.New(t), pgtest.New(t))) // what tenants leave ends with the server
	})
	t.Run(catalog.EngineSQLite, func(t *testing.T) {
		test(t, newWorld(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db"), "sqlite:"+filepath.Join(t.TempDir(), "tenants")))
	})
}

func newWorld(t testing.TB, host, admin string) *world {
	t.Helper()
	w := &world{t: t, uris: map[catalog.TenantID]catalog.DBURI{}, dir: t.TempDir()}
	var err error
	w.host, err = catalog.New(t.Context(), catalog.Config{URL: catalog.NewDBURI(host), Clock: w.clock, SharedClock: w.clock})
	must(t, err)
	t.Cleanup(func() { must(t, w.host.Close()) })
	w.keys, err = seal.ParseKeyset(seal.GenerateSecret())
	must(t, err)
	id, err := w.host.Installation(t.Context())
	must(t, err)
	w.server, err = tenantdb.New(tenantdb.Config{URL: catalog.NewDBURI(admin), Installation: id})
	must(t, err)
	t.Cleanup(func() { must(t, w.server.Close()) })
	opener := sealing.New(sealing.Config{Keys: w.keys, Lookup: func(string) (string, bool) { return "", false }})
	t.Cleanup(opener.Close)
	w.migrations(map[string]string{"00001_notes.sql": "-- +goose Up\nCREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT);\n"})
	w.deps = Deps{Host: w.host, Opener: opener, Server: w.server, Clock: w.clock}
	w.load()
	return w
}

// migrations adds files.
func (w *world) migrations(files map[string]string) {
	w.t.Helper()
	for name, text := range files {
		must(w.t, os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600))
	}
}

// load reads the migrations anew.
func (w *world) load() {
	w.t.Helper()
	m, err := tenantdb.LoadMigrations(w.dir)
	must(w.t, err)
	w.deps.Migrations = m
}

// provision makes a tenant as package jobs/provision does, its db_url sealed, its schema at the version of now.
func (w *world) provision(ids ...catalog.TenantID) {
	w.t.Helper()
	ctx := w.t.Context()
	where, err := w.server.Identity(ctx)
	must(w.t, err)
	for _, id := range ids {
		place, password := w.server.NewPlace(id), tenantdb.NewPassword()
		uri := w.server.URI(place, password)
		stored, err := sealing.Seal(w.keys, id, uri)
		must(w.t, err)
		must(w.t, w.host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: id, DBURL: stored}))
		must(w.t, w.host.TenantDatabases.Insert(ctx, &catalog.TenantDatabase{
			TenantID: id, Engine: w.server.Engine(), Server: where, DatabaseName: place.Database, RoleName: place.Role, Mark: place.Mark, Step: string(provision.Ready),
			UpdatedAt: "2026-01-01T00:00:00",
		}))
		hold, err := w.server.Hold(ctx, id)
		must(w.t, err)
		_, database, err := w.host.HostPlace(ctx)
		must(w.t, err)
		_, kept, err := hold.CloseToPublic(ctx, []string{database})
		must(w.t, errors.Join(err, kept[database]))
		must(w.t, hold.EnsureRole(ctx, place, password))
		must(w.t, hold.EnsureDatabase(ctx, place))
		must(w.t, hold.Close())
		_, err = w.deps.Migrations.Up(ctx, uri)
		must(w.t, err)
		w.uris[id] = uri
	}
}

// open is a tenant's database as its app sees it.
func (w *world) open(id catalog.TenantID) *sql.DB {
	w.t.Helper()
	uri := w.uris[id].Reveal()
	driver, dsn := "pgx", uri
	if strings.HasPrefix(uri, "sqlite") {
		driver, dsn = "sqlite", strings.TrimPrefix(uri, "sqlite:///")
	}
	db, err := sql.Open(driver, dsn)
	must(w.t, err)
	return db
}

func (w *world) exec(id catalog.TenantID, text string) {
	w.t.Helper()
	db := w.open(id)
	_, err := db.ExecContext(w.t.Context(), text)
	must(w.t, err)
	must(w.t, db.Close())
}

func (w *world) count(id catalog.TenantID, text string) (n int) {
	w.t.Helper()
	db := w.open(id)
	must(w.t, db.QueryRowContext(w.t.Context(), text).Scan(&n))
	must(w.t, db.Close())
	return n
}

func (w *world) audited(event string) int {
	w.t.Helper()
	rows, _, err := w.host.AuditLogs.List(w.t.Context(), catalog.Page{Limit: 1000, Filter: map[string]string{"event_type": event}})
	must(w.t, err)
	return len(rows)
}

// steps are the changes of a tenant's version that are on record, in their order.
func (w *world) steps(id catalog.TenantID) string {
	w.t.Helper()
	rows, _, err := w.host.AuditLogs.List(w.t.Context(), catalog.Page{Limit: 1000, Filter: map[string]string{"event_type": "tenant.migrated", "target_id": string(id)}})
	must(w.t, err)
	var steps []string
	for _, row := range rows {
		var d struct{ From, To int }
		must(w.t, json.Unmarshal([]byte(*row.Details), &d))
		steps = append(steps, fmt.Sprintf("%d-%d", d.From, d.To))
	}
	slices.Sort(steps)
	return strings.Join(steps, " ")
}

// outcomes are a Progress that remembers.
type outcomes struct {
	began int
	of    map[catalog.TenantID]Outcome
}

func (o *outcomes) Begin(int, int) { o.began++ }

func (o *outcomes) Done(one Outcome) { o.of[one.Tenant] = one }

func (w *world) migrate(cfg MigrateConfig, named ...catalog.TenantID) (Summary, map[catalog.TenantID]Outcome, error) {
	w.t.Helper()
	m, err := NewMigrator(cfg, w.deps)
	must(w.t, err)
	o := &outcomes{of: map[catalog.TenantID]Outcome{}}
	s, err := m.Run(w.t.Context(), named, o)
	if err == nil && (o.began != 1 || len(o.of) != s.Total) {
		w.t.Errorf("began %d times, %d of %d told", o.began, len(o.of), s.Total)
	}
	return s, o.of, err
}

// findings are what the doctor says, one a line: tenant check.
func (w *world) findings(named ...catalog.TenantID) string {
	w.t.Helper()
	r, err := NewDoctor(DoctorConfig{}, w.deps).Examine(w.t.Context(), named)
	must(w.t, err)
	var lines []string
	for _, f := range r.Findings {
		if f.Text == "" || f.Mend == "" {
			w.t.Errorf("says too little: %+v", f)
		}
		lines = append(lines, fmt.Sprintf("%s %s", f.Tenant, f.Check))
	}
	return strings.Join(lines, "\n")
}
