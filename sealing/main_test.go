package sealing

import (
	"path/filepath"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/secret"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// onBothEngines runs a test on a fresh host database of each engine.
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

func openHost(t *testing.T, url string) *catalog.HostDatabase {
	t.Helper()
	h, err := catalog.Open(t.Context(), url)
	must(t, err)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func pgURL(t *testing.T) string { return pgtest.New(t) }

func text(s string) secret.Text { return secret.New(s) }

func errOf[T any](_ T, err error) error { return err }
