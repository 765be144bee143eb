package audit

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

func (r *rig) start(cfg Config) *Chain {
	return Start(cfg, Deps{Host: r.host, Keys: r.keys, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Clock: time.Now})
}

// summary is kinds, seqs and ids of the findings.
func summary(r Report) string {
	var all []string
	for _, f := range r.Findings {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %d %s", f.Kind, f.Seq, f.ID)))
	}
	return strings.Join(all, "; ")
}

func TestVerifyFindsNothingWhereNothingWasTouched(t *testing.T) {
	onBothEngines(t, func(t *testing.T, r *rig) {
		r.fill(1, 300)
		before := r.checkpoint()
		r.fill(301, 50)
		r.exec("INSERT INTO sys_audit_logs (id) VALUES ('tail1'), ('tail2')")
		report := r.verify(before, r.checkpoint())
		// One row is the key's own.
		if report.Count != 0 || report.Entries != 351 || report.Rows != 353 || report.Tail != 2 || !report.Backfilled {
			t.Errorf("%+v", report)
		}
	})
}

// AUD-8: what the owner or a superuser does with the triggers off is found and named.
func TestVerifyNamesWhatWasTamperedWith(t *testing.T) {
	// Entry 1 is of the key's row; a000001 has entry 2.
	cases := map[string]struct{ do, want string }{
		"a changed row":                {"UPDATE sys_audit_logs SET details = '{}' WHERE id = 'a000010'", "row_changed 11 a000010"},
		"NULL in place of ''":          {"UPDATE sys_audit_logs SET ip_address = NULL WHERE id = 'a000010'", "row_changed 11 a000010"},
		"columns shifted":              {"UPDATE sys_audit_logs SET actor_user_id = 'u1m', event_type = 'ember.updated' WHERE id = 'a000010'", "row_changed 11 a000010"},
		"a removed row":                {"DELETE FROM sys_audit_logs WHERE id = 'a000010'", "row_removed 11 a000010"},
		"the first rows removed":       {"DELETE FROM sys_audit_logs WHERE id < 'a000003' AND id LIKE 'a0_____'", "row_removed 2 a000001; row_removed 3 a000002"},
		"all rows removed but the key": {"DELETE FROM sys_audit_logs WHERE id LIKE 'a0_____' AND id > 'a000003'; DELETE FROM tenantgate.sys_audit_chain WHERE seq > 4", ""},
		"two rows swapped": {
			"UPDATE sys_audit_logs SET id = 'x' WHERE id = 'a000010'; UPDATE sys_audit_logs SET id = 'a000010' WHERE id = 'a000020'; UPDATE sys_audit_logs SET id = 'a000020' WHERE id = 'x'",
			"row_changed 11 a000010; row_changed 21 a000020",
		},
		"a row put in":            {"INSERT INTO sys_audit_logs (id, created_at) VALUES ('forged', '2026-01-01T00:00:000010')", "row_inserted 0 forged"},
		"an entry's hash":         {"UPDATE tenantgate.sys_audit_chain SET hash = row_hash WHERE seq = 11", "entry_rewritten 11 a000010"},
		"an entry's row hash":     {"UPDATE tenantgate.sys_audit_chain SET row_hash = hash WHERE seq = 11", "entry_rewritten 11 a000010"},
		"an entry's time":         {"UPDATE tenantgate.sys_audit_chain SET chained_at = '2020-01-01' WHERE seq = 11", "entry_rewritten 11 a000010"},
		"an entry's id":           {"UPDATE tenantgate.sys_audit_chain SET audit_id = 'a000020' WHERE seq = 11", "entry_rewritten 11 a000020; row_changed 11 a000020"},
		"a removed entry":         {"DELETE FROM tenantgate.sys_audit_chain WHERE seq = 11", "entry_missing 11; row_inserted 0 a000010"},
		"the first entries":       {"DELETE FROM tenantgate.sys_audit_chain WHERE seq IN (1, 2)", "entry_missing 1; row_inserted 0 KEY; row_inserted 0 a000001"},
		"row and entry removed":   {"DELETE FROM tenantgate.sys_audit_chain WHERE seq = 11; DELETE FROM sys_audit_logs WHERE id = 'a000010'", "entry_missing 11"},
		"entries swapped":         {"UPDATE tenantgate.sys_audit_chain SET seq = 999 WHERE seq = 11; UPDATE tenantgate.sys_audit_chain SET seq = 11 WHERE seq = 21; UPDATE tenantgate.sys_audit_chain SET seq = 21 WHERE seq = 999", "entry_rewritten 11 a000020; entry_rewritten 12 a000011; entry_rewritten 21 a000010; entry_rewritten 22 a000021"},
		"a mark of an archive":    {"UPDATE tenantgate.sys_audit_chain SET archived_by = 'nobody' WHERE seq = 11; DELETE FROM sys_audit_logs WHERE id = 'a000010'", "archive_forged 11 nobody"},
		"a mark with the row":     {"UPDATE tenantgate.sys_audit_chain SET archived_by = 'nobody' WHERE seq = 11", "row_returned 11 a000010; archive_forged 11 nobody"},
		"a row out of the queue":  {"INSERT INTO sys_audit_logs (id) VALUES ('quiet'); DELETE FROM tenantgate.sys_audit_queue", "row_inserted 0 quiet"},
		"an entry of a row twice": {"INSERT INTO tenantgate.sys_audit_chain (seq, audit_id, row_hash, hash, chained_at) SELECT seq + 1, audit_id, row_hash, hash, chained_at FROM tenantgate.sys_audit_chain WHERE seq = 41", "entry_rewritten 42 a000040; row_inserted 0"},
	}
	onBothEngines(t, func(t *testing.T, r *rig) {
		r.fill(1, 40)
		r.exec("CREATE TABLE kept_rows AS SELECT * FROM sys_audit_logs; CREATE TABLE kept_entries AS SELECT * FROM tenantgate.sys_audit_chain")
		checkpoint := r.checkpoint()
		var key string
		must(t, r.raw.QueryRowContext(t.Context(), "SELECT id FROM sys_audit_logs WHERE event_type = 'key.created'").Scan(&key))
		for name, c := range cases {
			if report := r.verify(checkpoint); report.Count != 0 {
				t.Fatalf("untouched: %s", summary(report))
			}
			r.unguarded(c.do)
			report := r.verify()
			if got := strings.ReplaceAll(summary(report), key, "KEY"); got != c.want {
				t.Errorf("%s: found %q, want %q", name, got, c.want)
			}
			if c.want == "" { // it takes a checkpoint
				if got := summary(r.verify(checkpoint)); got != "chain_cut 41" {
					t.Errorf("%s, with a checkpoint: %s", name, got)
				}
			}
			r.chain() // goes on, and does not make it good
			if again := r.verify(checkpoint); again.Count == 0 {
				t.Errorf("%s: the chain has made it good", name)
			}
			r.unguarded("DELETE FROM sys_audit_logs; DELETE FROM tenantgate.sys_audit_chain; INSERT INTO sys_audit_logs SELECT * FROM kept_rows; " +
				"INSERT INTO tenantgate.sys_audit_chain SELECT * FROM kept_entries; DELETE FROM tenantgate.sys_audit_queue")
		}
	})
}

// A chain that was computed anew after a change is consistent; a checkpoint of before tells.
func TestVerifyFindsAChainComputedAnew(t *testing.T) {
	onBothEngines(t, func(t *testing.T, r *rig) {
		r.fill(1, 40)
		early, late := Checkpoint{}, r.checkpoint()
		must(t, r.host.ReadAudit(t.Context(), func(s *catalog.AuditSnapshot) error {
			return s.Entries(t.Context(), 0, func(e *catalog.ChainEntry, _ *catalog.AuditRow) error {
				if e.Seq == 5 {
					early = Checkpoint{Seq: 5, Hash: e.Hash, At: "2026-01-01"}
				}
				return nil
			})
		}))
		r.unguarded("UPDATE sys_audit_logs SET details = 'forged' WHERE id = 'a000010'")
		r.recompute()
		if report := r.verify(); report.Count != 0 {
			t.Fatalf("computed anew: %s", summary(report))
		}
		if report := r.verify(early, late); summary(report) != "chain_rewritten 41" {
			t.Errorf("%s", summary(report))
		}
	})
}

// recompute makes every entry anew from the rows as they are, as somebody who knows docs/audit.md would.
func (r *rig) recompute() {
	r.t.Helper()
	var h hasher
	var head catalog.ChainHead
	var entries []catalog.ChainEntry
	must(r.t, r.host.ReadAudit(r.t.Context(), func(s *catalog.AuditSnapshot) error {
		return s.Entries(r.t.Context(), 0, func(e *catalog.ChainEntry, row *catalog.AuditRow) error {
			n := *e
			if row != nil {
				n.RowHash = h.row(row)
			}
			n.Hash = h.entry(head.Hash, &n)
			head = catalog.ChainHead{Seq: n.Seq, Hash: n.Hash}
			entries = append(entries, n)
			return nil
		})
	}))
	var text strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&text, "UPDATE tenantgate.sys_audit_chain SET row_hash = '%s', hash = '%s' WHERE seq = %d;", e.RowHash, e.Hash, e.Seq)
	}
	r.unguarded(text.String())
}

func TestVerifyNamesARowThatWasGoneBeforeItWasChained(t *testing.T) {
	onBothEngines(t, func(t *testing.T, r *rig) {
		r.chain()
		r.exec("INSERT INTO sys_audit_logs (id) VALUES ('quick')")
		r.unguarded("DELETE FROM sys_audit_logs WHERE id = 'quick'")
		r.chain()
		if report := r.verify(); summary(report) != "row_removed 2 quick" {
			t.Errorf("%s", summary(report))
		}
	})
}

func TestRowsWithoutAnIDAreChainedAndMissed(t *testing.T) {
	onBothEngines(t, func(t *testing.T, r *rig) {
		if r.host.Engine() == catalog.EnginePostgreSQL {
			if _, err := r.raw.ExecContext(t.Context(), "INSERT INTO sys_audit_logs (event_type) VALUES ('x')"); err == nil {
				t.Error("PostgreSQL takes rows without an id")
			}
			return
		}
		r.exec("INSERT INTO sys_audit_logs (event_type) VALUES ('x'), ('x'), ('y'), ('z')")
		r.exec("INSERT INTO sys_audit_logs (id, details) VALUES ('blob', x'00ff')")
		r.chain()
		if report := r.verify(); report.Count != 0 || report.Entries != 6 {
			t.Fatalf("untouched: %+v", report)
		}
		r.exec("INSERT INTO sys_audit_logs (event_type) VALUES ('tail')")
		if report := r.verify(); report.Count != 0 || report.Tail != 1 {
			t.Fatalf("a tail: %+v", report)
		}
		r.chain()
		r.unguarded("DELETE FROM sys_audit_logs WHERE event_type = 'x' AND rowid = (SELECT max(rowid) FROM sys_audit_logs WHERE event_type = 'x'); UPDATE sys_audit_logs SET event_type = 'w' WHERE event_type = 'y'; UPDATE sys_audit_logs SET details = CAST(details AS TEXT) WHERE id = 'blob'")
		report := r.verify()
		if report.Count != 4 {
			t.Errorf("%s", summary(report))
		}
	})
}
