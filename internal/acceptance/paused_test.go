package acceptance

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/jobs/lifecycle"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
	"github.com/tenantgate/tenantgate/sealing"
)

// pausedRate is how many requests a second each of the two tenants gets: SHOW-6 is 200.
var pausedRate = flag.Int("paused-rate", 25, "requests a second of each tenant while one is migrated")

// ledgerApp writes one row for each request into the database that X-Tenant-Db-Uri names. Where somebody changes the
// schema meanwhile it does not wait.
type ledgerApp struct {
	mu  sync.Mutex
	dbs map[string]*sql.DB
}

func (a *ledgerApp) open(uri string) (*sql.DB, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if db, ok := a.dbs[uri]; ok {
		return db, nil
	}
	db, err := sql.Open("pgx", uri+"&lock_timeout=20")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	a.dbs[uri] = db
	return db, nil
}

func (a *ledgerApp) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, db := range a.dbs {
		_ = db.Close()
	}
}

// ServeHTTP takes its time between what it read and what it writes, as apps do.
func (a *ledgerApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	db, err := a.open(r.Header.Get("X-Tenant-Db-Uri"))
	lasts := 30 * time.Millisecond
	if strings.HasPrefix(r.URL.Path, "/slow") {
		lasts = time.Hour
	}
	select {
	case <-time.After(lasts):
	case <-r.Context().Done():
		return
	}
	if err == nil {
		_, err = db.ExecContext(r.Context(), "INSERT INTO entries (id) VALUES ($1)", r.URL.Path)
	}
	if err != nil {
		http.Error(w, "the app cannot write", http.StatusInternalServerError)
	}
}

// SHOW-6. While one tenant is migrated in a pause nobody else notices, and of its own requests each is done once, or
// refused with the time to come again, and then not done at all.
func TestPausedMigrationLosesAndDoublesNothing(t *testing.T) {
	dsn := pgtest.New(t)
	seed(t, dsn)
	uris := map[string]string{"acme": pgtest.New(t), "globex": pgtest.New(t)}
	for id, uri := range uris {
		execSQL(t, dsn, "UPDATE core_tenants SET db_url = '"+uri+"' WHERE id = '"+id+"'")
	}
	migrations := t.TempDir()
	write := func(name, statement string) {
		if err := os.WriteFile(filepath.Join(migrations, name), []byte("-- +goose Up\n"+statement+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("00001_entries.sql", "CREATE TABLE entries (n bigserial, id text);")
	host, err := catalog.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	opener := sealing.New(sealing.Config{})
	defer opener.Close()
	migrate := func(cfg lifecycle.MigrateConfig, named ...catalog.TenantID) lifecycle.Summary {
		loaded, err := tenantdb.LoadMigrations(migrations)
		if err != nil {
			t.Fatal(err)
		}
		m, err := lifecycle.NewMigrator(cfg, lifecycle.Deps{Host: host, Opener: opener, Migrations: loaded})
		if err != nil {
			t.Fatal(err)
		}
		s, err := m.Run(t.Context(), named, told{t})
		if err != nil || s.Migrated != len(named) {
			t.Fatalf("%+v, %v", s, err)
		}
		return s
	}
	migrate(lifecycle.MigrateConfig{Adopt: true}, "acme", "globex")
	write("00002_lasting.sql", "ALTER TABLE entries ADD COLUMN more text;\nSELECT pg_sleep(0.5);")

	app := &ledgerApp{dbs: map[string]*sql.DB{}}
	defer app.close()
	w := gatetest.New(t, gatetest.Options{HostURL: dsn, App: app, People: people})
	header := bearer(t, w, "eve")
	c := w.Client()
	transport := w.Transport()
	transport.MaxIdleConnsPerHost = 200
	c.Transport = transport
	defer c.CloseIdleConnections()
	load := map[string]*pausedLoad{}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for id := range uris {
		l := &pausedLoad{tenant: id, counts: map[string]int{}, answers: map[string]int{}}
		load[id] = l
		if res, _, err := do(c, "GET", w.URL+"/warm", with(header, "X-Tenant", id), nil); err != nil || res.StatusCode != 200 {
			t.Fatalf("%s: %v, %v", id, res, err)
		}
		running.Go(func() { l.run(ctx, c, w.URL, with(header, "X-Tenant", id)) })
	}
	slow := make(chan struct{})
	go func() {
		_, _, _ = do(c, "GET", w.URL+"/slow", with(header, "X-Tenant", "acme"), nil)
		close(slow)
	}()
	eventually(t, patience, "load", func() bool { return load["acme"].sent.Load() > int64(*pausedRate) })
	begin := time.Now()
	s := migrate(lifecycle.MigrateConfig{Pause: true, Drain: 2 * time.Second, Freshness: time.Second}, "acme")
	seen := load["acme"].sent.Load()
	eventually(t, patience, "load after the pause", func() bool { return load["acme"].sent.Load() > seen+int64(*pausedRate) })
	stop()
	running.Wait()
	await(t, slow, "the end of a request that --drain does not wait for")
	for id, l := range load {
		l.check(t, openSQL(t, uris[id]))
		t.Logf("%s: %v in %s of migration %v", id, l.counts, time.Since(begin).Round(time.Millisecond), s.Took)
	}
	if load["globex"].counts["200"] != int(load["globex"].sent.Load()) {
		t.Errorf("others noticed: %v", load["globex"].counts)
	}
	if load["acme"].counts["503"] == 0 || load["acme"].counts["200"] == 0 || load["acme"].counts["200"]+load["acme"].counts["503"] != int(load["acme"].sent.Load()) {
		t.Errorf("its own: %v", load["acme"].counts)
	}
}

// told is a Progress that tells the test of failures.
type told struct{ t *testing.T }

func (told) Begin(int, int) {}

func (p told) Done(o lifecycle.Outcome) {
	if o.Result != lifecycle.Migrated {
		p.t.Errorf("%+v", o)
	}
}

// pausedLoad sends requests at a steady rate and remembers each one's answer.
type pausedLoad struct {
	tenant string
	sent   atomic.Int64

	mu      sync.Mutex
	counts  map[string]int
	answers map[string]int // path → status
}

func (l *pausedLoad) run(ctx context.Context, c *http.Client, base string, header map[string]string) {
	tick := time.NewTicker(time.Second / time.Duration(*pausedRate))
	defer tick.Stop()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		path := fmt.Sprintf("/%s/%d", l.tenant, l.sent.Add(1))
		open.Go(func() { l.one(c, base, path, header) })
	}
}

func (l *pausedLoad) one(c *http.Client, base, path string, header map[string]string) {
	res, body, err := do(c, "POST", base+path, header, nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.counts["no answer"]++
	case res.StatusCode == http.StatusServiceUnavailable && (codeOf(body) != "tenant_paused" || res.Header.Get("Retry-After") == ""):
		l.counts["another 503: "+codeOf(body)]++
	default:
		l.counts[fmt.Sprint(res.StatusCode)]++
		l.answers[path] = res.StatusCode
	}
}

// check compares answers with rows.
func (l *pausedLoad) check(t *testing.T, db *sql.DB) {
	t.Helper()
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), "SELECT id, count(*) FROM entries GROUP BY id")
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]int{}
	for rows.Next() {
		var id string
		var n int
		if err := rows.Scan(&id, &n); err != nil {
			t.Fatal(err)
		}
		written[id] = n
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	for path, status := range l.answers {
		if want := map[bool]int{true: 1, false: 0}[status == http.StatusOK]; written[path] != want {
			t.Errorf("%s was answered %d and written %d times", path, status, written[path])
		}
	}
}
