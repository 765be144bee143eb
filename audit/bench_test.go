package audit

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

func benchEngines(b *testing.B, bench func(b *testing.B, r *rig)) {
	for engine, url := range map[string]func() string{
		catalog.EnginePostgreSQL: func() string { return pgtest.New(b) },
		catalog.EngineSQLite:     func() string { return "sqlite:" + filepath.Join(b.TempDir(), "host.db") },
	} {
		b.Run(engine, func(b *testing.B) { bench(b, newRig(b, url())) })
	}
}

const benchRows = 100_000

// BenchmarkVerify: contract section 10 wants 100,000 rows a second.
func BenchmarkVerify(b *testing.B) {
	benchEngines(b, func(b *testing.B, r *rig) {
		r.insert(1, benchRows)
		for r.verify().Tail > 0 { // what Close chains is bounded by time
			r.chain()
		}
		r.exec("ANALYZE")
		b.ReportAllocs()
		for b.Loop() {
			if report := r.verify(); report.Count != 0 || report.Entries != benchRows+1 {
				b.Fatalf("%+v", report)
			}
		}
		b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	})
}

// BenchmarkChain is how fast rows that wait are chained, rests between transactions included.
func BenchmarkChain(b *testing.B) {
	benchEngines(b, func(b *testing.B, r *rig) {
		r.chain()
		n := 0
		var took time.Duration
		for b.Loop() {
			b.StopTimer()
			r.insert(1+n*10_000, 10_000)
			n++
			b.StartTimer()
			from := time.Now()
			c := &Chain{rows: chainRows, deps: Deps{Host: r.host, Keys: r.keys, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Clock: time.Now}}
			must(b, c.look(b.Context()))
			took += time.Since(from)
		}
		b.ReportMetric(float64(n)*10_000/took.Seconds(), "rows/s")
	})
}

// BenchmarkAuditedWrite is a change with its audit row, with the trigger that queues it and without.
func BenchmarkAuditedWrite(b *testing.B) {
	benchEngines(b, func(b *testing.B, r *rig) {
		n := 0
		write := func(b *testing.B) {
			for b.Loop() {
				n++
				must(b, r.host.PricingPlans.Insert(context.Background(), &catalog.PricingPlan{ID: catalog.PlanID(fmt.Sprintf("p%d", n))}))
			}
		}
		b.Run("queued", write)
		r.exec("DROP TRIGGER tenantgate_sys_audit_logs_enqueue" + map[string]string{catalog.EnginePostgreSQL: " ON sys_audit_logs"}[r.host.Engine()])
		b.Run("unqueued", write)
	})
}
