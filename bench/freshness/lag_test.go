package freshness

import (
	"database/sql"
	"slices"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// BenchmarkCommitToLastOldAnswer changes each kind to and fro, b.N times, under 500 requests a second to each of three
// replicas. Reported are the 50th and 99th percentile and the maximum of the lag in milliseconds, and the requests that
// could not be sent in time.
func BenchmarkCommitToLastOldAnswer(b *testing.B) {
	engines(b, func(tb testing.TB, hostURL string) {
		bed := newBed(tb, hostURL, 3, nil)
		token := bed.token(tb)
		bed.keep(tb)
		for _, k := range kinds() {
			for _, foreign := range []bool{false, true} {
				db, name := bed.db, k.name+"/owner"
				if foreign {
					if db, name = bed.asForeign(tb), k.name+"/foreign role"; db == nil || !k.foreign {
						continue
					}
				}
				tb.(*testing.B).Run(name, func(b *testing.B) { bed.lags(b, db, &k, token, foreign) })
			}
		}
	})
}

func (b *bed) lags(tb *testing.B, db *sql.DB, k *kind, token string, foreign bool) {
	w := b.watch(tb, k.path, b.credentials(tb, k, token), 2*time.Millisecond)
	defer w.close()
	w.settled(tb, k.shows[0])
	var all []time.Duration
	for range tb.N {
		for _, state := range []int{1, 0} {
			w.forget()
			at := b.change(tb, db, k.statements(b, state, foreign))
			all = append(all, w.lag(tb, at, k.shows[1-state], k.shows[state]))
		}
	}
	report(tb, all)
	tb.ReportMetric(float64(w.missed), "late-requests")
}

func report(tb *testing.B, all []time.Duration) {
	slices.Sort(all)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	tb.ReportMetric(ms(all[len(all)/2]), "p50-ms")
	tb.ReportMetric(ms(all[min(len(all)*99/100, len(all)-1)]), "p99-ms")
	tb.ReportMetric(ms(all[len(all)-1]), "max-ms")
	tb.ReportMetric(0, "ns/op")
}

// BenchmarkMillionChangesInOneStatement is how long after the commit of one statement over a million memberships the
// replicas are current again and have heard.
func BenchmarkMillionChangesInOneStatement(b *testing.B) {
	bed := newBed(b, pgtest.New(b), 3, nil)
	bed.exec(b, bed.db, `INSERT INTO core_memberships (id, user_id, tenant_id, role, is_active)
		SELECT 'bulk' || i, 'nobody' || i, 'nowhere', 'member', true FROM generate_series(1, 1000000) AS i`)
	k := kinds()[3]
	b.ResetTimer()
	bed.lags(b, bed.db, &k, "", false)
}
