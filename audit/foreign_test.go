package audit

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// foreignOpen is how long another program's transaction stays open; SHOW-8 asks for a minute.
var foreignOpen = flag.Duration("foreign-open", time.Second, "how long a foreign transaction stays open beside audited writes")

// SHOW-8. A transaction of another program that stays open with an audit row and a tenant of its own delays no audited write,
// nor the chain over it: a write that waited for its end would wait for ever here.
func TestAForeignTransactionDelaysNoAuditedWrite(t *testing.T) {
	r := newRig(t, pgtest.New(t))
	r.chain()
	foreign, err := r.raw.BeginTx(t.Context(), nil)
	must(t, err)
	defer func() { _ = foreign.Rollback() }() // committed below
	for _, text := range []string{
		"INSERT INTO sys_audit_logs (id, event_type) VALUES ('foreign', 'theirs')", "INSERT INTO core_tenants (id) VALUES ('foreign')",
	} {
		must(t, errOf(foreign.ExecContext(t.Context(), text)))
	}
	chain := r.start(Config{Every: 20 * time.Millisecond, Checkpoints: time.Hour})
	defer chain.Close()
	writes, slowest := 0, time.Duration(0)
	for begin := time.Now(); writes < 50 || time.Since(begin) < *foreignOpen; writes++ {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		at := time.Now()
		must(t, r.host.PricingPlans.Insert(ctx, &catalog.PricingPlan{ID: catalog.PlanID(fmt.Sprint("p", writes))}))
		slowest = max(slowest, time.Since(at))
		cancel()
	}
	for r.verify().Tail > 0 {
		r.chain()
	}
	if report := r.verify(); report.Count != 0 || report.Entries != int64(writes)+1 {
		t.Errorf("while it is open: %d entries for %d writes: %s", report.Entries, writes, summary(report))
	}
	t.Logf("%d audited writes while it was open, the slowest took %s", writes, slowest)
	must(t, foreign.Commit())
	for r.verify().Tail > 0 {
		r.chain()
	}
	if report := r.verify(); report.Count != 0 || report.Entries != int64(writes)+2 {
		t.Errorf("once it is committed: %d entries for %d writes: %s", report.Entries, writes, summary(report))
	}
}
