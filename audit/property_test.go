package audit

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

var tamperings = flag.Int("tamperings", 25, "how many kinds of tampering are tried on each engine")

// tampering is something that the owner does with the triggers off, and what of it verify has to name: the ids or, as
// #seq, the entries.
type tampering struct {
	do   string
	want []string
}

func drawTampering(t *rapid.T, n int) tampering {
	at := rapid.IntRange(1, n).Draw(t, "row")
	other := rapid.IntRange(1, n-1).Draw(t, "other")
	if other >= at {
		other++
	}
	a, b := fmt.Sprintf("a%06d", at), fmt.Sprintf("a%06d", other)
	seq := at + 1 // entry 1 is of the key's row
	where := fmt.Sprintf(" WHERE seq = %d", seq)
	entry := "UPDATE tenantgate.sys_audit_chain SET "
	numbered := []string{fmt.Sprintf("#%d", seq)}
	switch rapid.SampledFrom([]string{"change", "delete", "swap", "insert", "rehash", "rerow", "retime", "rename", "drop", "negative", "swap entries"}).Draw(t, "kind") {
	case "change":
		column := rapid.SampledFrom(catalog.AuditColumns()[1:]).Draw(t, "column")
		value := rapid.SampledFrom([]string{"'x'", "' '", "'u1 '", "'é'"}).Draw(t, "value")
		return tampering{"UPDATE sys_audit_logs SET " + column + " = " + value + " WHERE id = '" + a + "'", []string{a}}
	case "delete":
		return tampering{"DELETE FROM sys_audit_logs WHERE id = '" + a + "'", []string{a}}
	case "swap":
		return tampering{fmt.Sprintf("UPDATE sys_audit_logs SET id = 'x' WHERE id = '%[1]s'; UPDATE sys_audit_logs SET id = '%[1]s' WHERE id = '%[2]s'; UPDATE sys_audit_logs SET id = '%[2]s' WHERE id = 'x'", a, b), []string{a, b}}
	case "insert":
		return tampering{"INSERT INTO sys_audit_logs SELECT 'forged', actor_user_id, event_type, target_id, details, ip_address, created_at FROM sys_audit_logs WHERE id = '" + a + "'", []string{"forged"}}
	case "rehash":
		return tampering{entry + "hash = '" + strings.Repeat("a", 64) + "'" + where, numbered}
	case "rerow":
		return tampering{entry + "row_hash = ''" + where, numbered}
	case "retime":
		return tampering{entry + "chained_at = chained_at || '0'" + where, numbered}
	case "rename":
		return tampering{entry + "audit_id = '" + b + "'" + where, numbered}
	case "drop":
		if at == n {
			return tampering{"DELETE FROM tenantgate.sys_audit_chain" + where, []string{a}} // the end: the row is put in then
		}
		return tampering{"DELETE FROM tenantgate.sys_audit_chain" + where, append(numbered, a)}
	case "negative":
		return tampering{"INSERT INTO sys_audit_logs (id) VALUES ('forged'); INSERT INTO tenantgate.sys_audit_chain (seq, audit_id, row_hash, hash, chained_at) " +
			fmt.Sprintf("SELECT -%d, 'forged', row_hash, hash, chained_at FROM tenantgate.sys_audit_chain", at-1) + where, []string{"forged"}}
	}
	return tampering{
		fmt.Sprintf("UPDATE tenantgate.sys_audit_chain SET seq = 999 WHERE seq = %[1]d; UPDATE tenantgate.sys_audit_chain SET seq = %[1]d WHERE seq = %[2]d; UPDATE tenantgate.sys_audit_chain SET seq = %[2]d WHERE seq = 999", seq, other+1),
		append(numbered, fmt.Sprintf("#%d", other+1)),
	}
}

// Whatever was done to log or chain is found and named, before and after the chain has gone on; what was not touched never
// is found.
func TestAnyTamperingIsFoundAndNamed(t *testing.T) {
	for _, engine := range []string{catalog.EnginePostgreSQL, catalog.EngineSQLite} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			url := "sqlite:" + filepath.Join(t.TempDir(), "host.db")
			if engine == catalog.EnginePostgreSQL {
				url = pgtest.New(t)
			}
			r := newRig(t, url)
			const n = 12
			r.fill(1, n)
			r.exec("CREATE TABLE kept_rows AS SELECT * FROM sys_audit_logs; CREATE TABLE kept_entries AS SELECT * FROM tenantgate.sys_audit_chain")
			drawn := rapid.Custom(func(rt *rapid.T) tampering { return drawTampering(rt, n) })
			for seed := range *tamperings {
				if report := r.verify(); report.Count != 0 {
					t.Fatalf("untouched: %s", summary(report))
				}
				done := drawn.Example(seed)
				r.unguarded(done.do)
				for round, when := range []string{"at once", "once the chain has gone on"} {
					report := r.verify()
					named := map[string]bool{}
					for _, f := range report.Findings {
						named[f.ID], named[fmt.Sprintf("#%d", f.Seq)] = true, true
					}
					for _, want := range done.want {
						if !named[want] {
							t.Errorf("%s: %s: %s is not named: %s", done.do, when, want, summary(report))
						}
					}
					r.insert(n+1+round, 1)
					r.chain()
				}
				r.unguarded("DELETE FROM sys_audit_logs; DELETE FROM tenantgate.sys_audit_chain; INSERT INTO sys_audit_logs SELECT * FROM kept_rows; " +
					"INSERT INTO tenantgate.sys_audit_chain SELECT * FROM kept_entries; DELETE FROM tenantgate.sys_audit_queue")
			}
		})
	}
}
