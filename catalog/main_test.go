package catalog

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// fakeNow is the clock of the tests: the reference clock of testdata.
func fakeNow() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

// onBothEngines runs one test on PostgreSQL and on SQLite, each time on a fresh, empty database's URL.
func onBothEngines(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	t.Run(EnginePostgreSQL, func(t *testing.T) {
		t.Parallel()
		test(t, newPostgres(t))
	})
	t.Run(EngineSQLite, func(t *testing.T) {
		t.Parallel()
		test(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db"))
	})
}

func openTest(t *testing.T, url string) *HostDatabase {
	t.Helper()
	h, err := New(t.Context(), Config{URL: NewDBURI(url), Clock: fakeNow})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func loadPostgres(t *testing.T, url string) {
	t.Helper()
	pgtest.LoadSQL(t, url, "testdata/fh_saas_host_postgres_schema.sql")
	pgtest.LoadSQL(t, url, "testdata/fh_saas_host_postgres_data.sql")
}

func loadSQLite(t *testing.T, path, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	db, err := sql.Open("sqlite", path)
	must(t, err)
	_, err = db.ExecContext(t.Context(), string(text))
	must(t, err)
	must(t, db.Close())
}

func newPostgres(t *testing.T) string {
	t.Helper()
	return pgtest.New(t)
}

func execURL(t *testing.T, url, text string) {
	t.Helper()
	pgtest.Exec(t, url, text)
}
