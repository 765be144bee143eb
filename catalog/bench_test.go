package catalog

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// BenchmarkGrantFacts is the routing lookup, cold, among 3,000 tenants: one statement, one round trip.
func BenchmarkGrantFacts(b *testing.B) {
	for _, engine := range []string{EnginePostgreSQL, EngineSQLite} {
		b.Run(engine, func(b *testing.B) {
			url := "sqlite:" + filepath.Join(b.TempDir(), "host.db")
			if engine == EnginePostgreSQL {
				url = pgtest.New(b)
			}
			h, err := Open(b.Context(), url)
			if err != nil {
				b.Fatal(err)
			}
			defer h.Close()
			crowd(b, h)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				i := strconv.Itoa(n%3000 + 1)
				n++
				f, err := h.GrantFacts(b.Context(), GrantQuery{User: UserID("u" + i), Tenant: TenantID("t" + i)})
				if err != nil || f.Tenant == nil || f.User == nil || f.Subscription == nil || len(f.Plans) != 1 {
					b.Fatal(f, err)
				}
			}
		})
	}
}
