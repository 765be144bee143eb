package jobs

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// onBothEngines runs one test on PostgreSQL and on SQLite, each time on a fresh, empty database's URL.
func onBothEngines(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	t.Run(catalog.EnginePostgreSQL, func(t *testing.T) {
		t.Parallel()
		test(t, pgtest.New(t))
	})
	t.Run(catalog.EngineSQLite, func(t *testing.T) {
		t.Parallel()
		test(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db"))
	})
}

// clock is one that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func open(t testing.TB, url string, c *clock) *catalog.HostDatabase {
	t.Helper()
	cfg := catalog.Config{URL: catalog.NewDBURI(url)}
	if c != nil {
		cfg.Clock, cfg.SharedClock = c.read, c.read
	}
	h, err := catalog.New(context.WithoutCancel(t.Context()), cfg)
	must(t, err)
	t.Cleanup(func() { must(t, h.Close()) })
	return h
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// engine is one that looks often; it is closed with the test.
func engine(t testing.TB, h *catalog.HostDatabase, cfg Config) *Engine {
	t.Helper()
	if cfg.Poll == 0 {
		cfg.Poll = 20 * time.Millisecond
	}
	e := New(cfg, Deps{Host: h, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	t.Cleanup(func() { must(t, e.Close()) })
	return e
}

func enqueue(t testing.TB, h *catalog.HostDatabase, job Job) catalog.JobID {
	t.Helper()
	var id catalog.JobID
	must(t, h.InTx(t.Context(), func(tx *catalog.Tx) (err error) {
		id, err = Enqueue(t.Context(), tx, job)
		return err
	}))
	return id
}

func jobRow(t testing.TB, h *catalog.HostDatabase, id catalog.JobID) *catalog.SystemJob {
	t.Helper()
	row, err := h.Jobs.Get(t.Context(), id)
	must(t, err)
	return row
}

// over waits until the job is over and returns its row. While the database is away it asks again.
func over(t testing.TB, e *Engine, id catalog.JobID) *catalog.SystemJob {
	t.Helper()
	for errors.Is(e.Wait(t.Context(), id), catalog.ErrUnavailable) {
	}
	return jobRow(t, e.deps.Host, id)
}

// text is a column's text, "NULL" without one.
func text(s *string) string {
	if s == nil {
		return "NULL"
	}
	return *s
}

// execute runs SQL as another program would.
func execute(t testing.TB, url, text string) {
	t.Helper()
	driver, name := "pgx", url
	if path, lite := strings.CutPrefix(url, "sqlite:"); lite {
		driver, name = "sqlite", "file:"+path+"?_pragma=busy_timeout(5000)"
		text = strings.ReplaceAll(text, "tenantgate.sys_", "sys_")
	}
	db, err := sql.Open(driver, name)
	must(t, err)
	_, err = db.ExecContext(t.Context(), text)
	must(t, errors.Join(err, db.Close()))
}

// count counts a table's rows.
func count(t testing.TB, url, table string) (n int) {
	t.Helper()
	driver, name := "pgx", url
	if path, lite := strings.CutPrefix(url, "sqlite:"); lite {
		driver, name, table = "sqlite", "file:"+path, strings.TrimPrefix(table, "tenantgate.")
	}
	db, err := sql.Open(driver, name)
	must(t, err)
	must(t, errors.Join(db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n), db.Close()))
	return n
}
