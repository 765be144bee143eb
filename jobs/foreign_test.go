package jobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

const testdata = "../catalog/testdata/"

// everything is all of sys_jobs but our own rows, byte by byte.
func everything(t testing.TB, url string) string {
	t.Helper()
	driver, name := "pgx", url
	if path, lite := strings.CutPrefix(url, "sqlite:"); lite {
		driver, name = "sqlite", "file:"+path
	}
	db, err := sql.Open(driver, name)
	must(t, err)
	rows, err := db.QueryContext(t.Context(), "SELECT * FROM sys_jobs WHERE job_type IS NULL OR NOT job_type LIKE 'tenantgate.%' ORDER BY id, job_type")
	must(t, err)
	columns, err := rows.Columns()
	must(t, err)
	var b strings.Builder
	for rows.Next() {
		values := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		must(t, rows.Scan(into...))
		fmt.Fprintf(&b, "%#v\n", values)
	}
	must(t, errors.Join(rows.Err(), rows.Close(), db.Close()))
	return b.String()
}

// fh-saas's own jobs, as its dump has them, are the same after an hour in which everything of ours came round.
func TestOtherProgramsJobsAreNeverTouched(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		if path, lite := strings.CutPrefix(url, "sqlite:"); lite {
			text, err := os.ReadFile(testdata + "fh_saas_host_sqlite.sql")
			must(t, err)
			db, err := sql.Open("sqlite", path)
			must(t, err)
			_, err = db.ExecContext(t.Context(), string(text))
			must(t, errors.Join(err, db.Close()))
		} else {
			pgtest.LoadSQL(t, url, testdata+"fh_saas_host_postgres_schema.sql")
			pgtest.LoadSQL(t, url, testdata+"fh_saas_host_postgres_data.sql")
		}
		c := newClock()
		h := open(t, url, c)
		execute(t, url, `INSERT INTO sys_jobs (id, job_type, status, completed_at) VALUES ('near1', 'tenantgate', 'pending', NULL),
			('near2', 'tenantgateX', 'pending', NULL), ('near3', 'Tenantgate.clean_up', 'running', NULL), ('near4', ' tenantgate.x', 'completed', '2001'),
			('near5', 'tenantgate/x', 'failed', '2001'), ('near6', NULL, NULL, NULL)`)
		// Many that wait, before ours in any order of types; on SQLite a row may be without an id, too.
		for i := range 3 * adoptAtOnce / 100 {
			values := make([]string, 100)
			for k := range values {
				values[k] = fmt.Sprintf("('wait%d-%d', 'mail', 'pending')", i, k)
			}
			execute(t, url, "INSERT INTO sys_jobs (id, job_type, status) VALUES "+strings.Join(values, ", "))
		}
		execute(t, url, "INSERT INTO sys_jobs (id, job_type, status) VALUES ('', 'mail', 'pending')")
		if strings.HasPrefix(url, "sqlite:") {
			execute(t, url, "INSERT INTO sys_jobs (id, job_type, status) VALUES (NULL, 'mail', 'pending'), (NULL, 'backup', NULL)")
		}
		before := everything(t, url)
		if strings.Count(before, "\n") < 18 {
			t.Fatalf("the dump has few jobs: %s", before)
		}
		e := engine(t, h, Config{})
		e.Every(CleanUpType, CleanUpInterval, CleanUp(h))
		must(t, e.Start())
		execute(t, url, "INSERT INTO sys_jobs (id, job_type) VALUES ('by-sql', '"+CleanUpType+"')")
		if row := over(t, e, "by-sql"); text(row.Status) != "completed" {
			t.Errorf("a row inserted by SQL: %s, %s", text(row.Status), text(row.ErrorLog))
		}
		ran := 0
		for range 60 {
			c.move(time.Minute)
			id := enqueue(t, h, Job{Type: CleanUpType})
			over(t, e, id)
			ran++
		}
		c.move(60 * 24 * time.Hour)
		over(t, e, enqueue(t, h, Job{Type: CleanUpType}))
		if row := jobRow(t, h, catalog.PeriodicJobID(CleanUpType)); text(row.Status) == "failed" {
			t.Errorf("the periodic one: %s", text(row.ErrorLog))
		}
		if news, err := h.JobSurvey(t.Context(), nil); news.Adopt || err != nil {
			t.Errorf("other programs' jobs are taken note of: %v", err)
		}
		if after := everything(t, url); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
}

// BenchmarkJobs is what one process does from enqueued to completed.
func BenchmarkJobs(b *testing.B) {
	for _, engineName := range []string{catalog.EnginePostgreSQL, catalog.EngineSQLite} {
		b.Run(engineName, func(b *testing.B) {
			url := "sqlite:" + b.TempDir() + "/host.db"
			if engineName == catalog.EnginePostgreSQL {
				url = pgtest.New(b)
			}
			h := open(b, url, nil)
			e := New(Config{}, Deps{Host: h})
			done := make(chan struct{}, b.N)
			e.Handle("tenantgate.x", Kind{Work: func(context.Context, *Run) error {
				done <- struct{}{}
				return nil
			}})
			ctx := b.Context()
			must(b, h.InTx(ctx, func(tx *catalog.Tx) error {
				for range b.N {
					if _, err := Enqueue(ctx, tx, Job{Type: "tenantgate.x"}); err != nil {
						return err
					}
				}
				return nil
			}))
			b.ReportAllocs()
			b.ResetTimer()
			must(b, e.Start())
			for range b.N {
				<-done
			}
			must(b, e.Close())
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}
