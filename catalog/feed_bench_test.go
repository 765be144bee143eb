package catalog

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/tenantgate/tenantgate/internal/pgtest"
)

func benchDatabase(b *testing.B, engine string) (*HostDatabase, *sql.DB) {
	b.Helper()
	url := "sqlite:" + filepath.Join(b.TempDir(), "host.db")
	if engine == EnginePostgreSQL {
		url = pgtest.New(b)
	}
	h, err := Open(b.Context(), url)
	must(b, err)
	b.Cleanup(func() { must(b, h.Close()) })
	var db *sql.DB
	if engine == EnginePostgreSQL {
		cc, err := pgx.ParseConfig(url)
		must(b, err)
		db = stdlib.OpenDB(*cc)
	} else {
		db, err = sql.Open("sqlite", strings.TrimPrefix(url, "sqlite:"))
		must(b, err)
	}
	db.SetMaxOpenConns(1)
	b.Cleanup(func() { must(b, db.Close()) })
	return h, db
}

// BenchmarkWriter is what another program's write costs, each in a transaction of its own, with our triggers and without.
func BenchmarkWriter(b *testing.B) {
	for _, engine := range []string{EnginePostgreSQL, EngineSQLite} {
		for _, triggers := range []bool{false, true} {
			h, db := benchDatabase(b, engine)
			if !triggers {
				for _, event := range []string{"insert", "update", "delete", "truncate", "replace", "displace"} {
					for _, table := range []string{"core_memberships", "core_users"} {
						text := "DROP TRIGGER IF EXISTS tenantgate_" + table + "_" + event
						if engine == EnginePostgreSQL {
							text += " ON " + table
						}
						_, err := h.write.ExecContext(b.Context(), text)
						must(b, err)
					}
				}
			}
			_, err := db.ExecContext(b.Context(), "INSERT INTO core_users (id) VALUES ('u1')")
			must(b, err)
			n := 0
			for _, c := range []struct{ name, text string }{
				{"insert a membership", "INSERT INTO core_memberships (id, user_id, tenant_id, role, is_active) VALUES ('m%[1]d', 'u%[1]d', 't1', 'member', true)"},
				{"change its role", "UPDATE core_memberships SET role = 'r%[1]d' WHERE id = 'm1'"},
				{"record a login", "UPDATE core_users SET last_login = 'l%[1]d' WHERE id = 'u1'"},
			} {
				b.Run(fmt.Sprintf("%s/%s/triggers=%v", engine, c.name, triggers), func(b *testing.B) {
					for b.Loop() {
						n++
						if _, err := db.ExecContext(b.Context(), fmt.Sprintf(c.text, n)); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

// timer is a Subscriber that says when it was told.
type timer struct{ told chan time.Time }

func (t *timer) Changed([]Change) { t.told <- time.Now() }
func (t *timer) Reset()           {}

// BenchmarkCommitToTold is the time from the return of another program's COMMIT until a Subscriber has been told.
func BenchmarkCommitToTold(b *testing.B) {
	for _, engine := range []string{EnginePostgreSQL, EngineSQLite} {
		b.Run(engine, func(b *testing.B) {
			h, db := benchDatabase(b, engine)
			told := &timer{make(chan time.Time, 1)}
			f, err := h.Watch(WatchConfig{Subscribers: []Subscriber{told}})
			must(b, err)
			defer f.Close()
			<-f.First()
			var took []time.Duration
			n := 0
			for b.Loop() {
				n++
				_, err := db.ExecContext(b.Context(), fmt.Sprintf("INSERT INTO core_tenants (id) VALUES ('t%d')", n))
				must(b, err)
				committed := time.Now()
				took = append(took, max((<-told.told).Sub(committed), 0))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(took[len(took)-1].Microseconds()), "max-µs")
		})
	}
}

// BenchmarkMillionChanges changes a million rows in one statement: how much longer the statement takes, and how soon
// after it a Feed has told, with what memory.
func BenchmarkMillionChanges(b *testing.B) {
	for _, engine := range []string{EnginePostgreSQL, EngineSQLite} {
		b.Run(engine, func(b *testing.B) {
			h, db := benchDatabase(b, engine)
			series := "generate_series(1, 1000000) AS i"
			if engine == EngineSQLite {
				series = "(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT i FROM n)"
			}
			run := func(text string) time.Duration {
				begin := time.Now()
				_, err := db.ExecContext(b.Context(), text)
				must(b, err)
				return time.Since(begin)
			}
			insert := run("INSERT INTO core_memberships (id, user_id, tenant_id, role) SELECT 'm' || i, 'u' || i, 't1', 'member' FROM " + series)
			heard := newHearer()
			f, err := h.Watch(WatchConfig{Subscribers: []Subscriber{heard}})
			must(b, err)
			defer f.Close()
			<-f.First()
			for b.Loop() {
				before := f.Stats().Looks
				var memory runtime.MemStats
				runtime.ReadMemStats(&memory)
				heap := memory.TotalAlloc
				changes, resets := heard.count()
				update := run("UPDATE core_memberships SET role = role || 'x'")
				committed := time.Now()
				for c, r := changes, resets; c == changes && r == resets; c, r = heard.count() {
					<-heard.wake
				}
				told := time.Since(committed)
				runtime.ReadMemStats(&memory)
				var rows int
				must(b, h.read.QueryRowContext(b.Context(), dialect(engine, "SELECT count(*) FROM tenantgate.sys_changes")).Scan(&rows))
				b.ReportMetric(insert.Seconds(), "insert-s")
				b.ReportMetric(update.Seconds(), "update-s")
				b.ReportMetric(float64(told.Milliseconds()), "told-ms")
				b.ReportMetric(float64(memory.TotalAlloc-heap)/(1<<20), "alloc-MiB")
				b.ReportMetric(float64(rows), "log-rows")
				b.ReportMetric(float64(f.Stats().Looks-before), "looks")
			}
		})
	}
}
