package catalog

import (
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
		test(t, pgtest.New(t))
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
