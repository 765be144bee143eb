package catalog

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// plainLink makes entries whose hashes tell nothing: what they should be is package audit's.
func plainLink(head ChainHead, rows []UnchainedRow) []ChainEntry {
	entries := make([]ChainEntry, len(rows))
	for i, r := range rows {
		entries[i] = ChainEntry{Seq: head.Seq + int64(i) + 1, AuditID: r.AuditID, RowHash: r.RowHash, Hash: "h", At: "t"}
	}
	return entries
}

// chaining takes so many rows, and bytes without end.
func chaining(rows int) Chaining {
	return Chaining{Rows: rows, Bytes: 1 << 40, HashOf: func(*AuditRow) string { return "r" }, Link: plainLink}
}

func chainAll(t testing.TB, h *HostDatabase) (n int) {
	t.Helper()
	for {
		look, err := h.Chain(t.Context(), chaining(100))
		must(t, err)
		if n += look.Chained; !look.More {
			return n
		}
	}
}

func chained(t testing.TB, h *HostDatabase) (ids []string) {
	t.Helper()
	must(t, h.ReadAudit(t.Context(), func(s *AuditSnapshot) error {
		return s.Entries(t.Context(), 0, func(e *ChainEntry, _ *AuditRow) error {
			ids = append(ids, e.AuditID.Text)
			return nil
		})
	}))
	return ids
}

// However many append at once, every committed row has one entry, and numbers have no gap.
func TestChainTakesEveryRowOnceHoweverManyAppend(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		others := []*HostDatabase{h, openTest(t, url), openTest(t, url)}
		const writers, each = 4, 50
		var group sync.WaitGroup
		for w := range writers {
			group.Go(func() {
				for i := range each {
					if err := h.AuditLogs.Insert(t.Context(), &HostAuditLog{ID: AuditID(fmt.Sprintf("w%d-%d", w, i)), EventType: new("e")}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for _, o := range others {
			group.Go(func() {
				for range 30 {
					if _, err := o.Chain(t.Context(), chaining(7)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		chainAll(t, h)
		seen := map[string]bool{}
		for _, id := range chained(t, h) {
			if seen[id] {
				t.Errorf("%s has two entries", id)
			}
			seen[id] = true
		}
		if len(seen) != writers*each {
			t.Errorf("%d entries", len(seen))
		}
		head, err := h.AuditHead(t.Context())
		if err != nil || head.Seq != writers*each {
			t.Errorf("head %+v, %v", head, err)
		}
		if waiting, err := h.AuditWaiting(t.Context(), 0); err != nil || waiting {
			t.Errorf("waiting %v, %v", waiting, err)
		}
	})
}

// Rows that were there before the chain are taken in by and by, those without an id too, and those that come meanwhile once.
func TestChainTakesInWhatWasThereBefore(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		execAs(t, url, h, "DROP TRIGGER tenantgate_sys_audit_logs_enqueue"+map[string]string{EnginePostgreSQL: " ON sys_audit_logs"}[h.engine])
		for i := range 250 {
			execAs(t, url, h, fmt.Sprintf("INSERT INTO sys_audit_logs (id, created_at) VALUES ('old%03d', %s)", i, []string{"NULL", "'2026-01-01'", "''"}[i%3]))
		}
		want := 250
		if h.engine == EngineSQLite {
			execAs(t, url, h, "INSERT INTO sys_audit_logs (id) VALUES (NULL), (NULL)")
			want += 2
		}
		must(t, errOf(h.Migrate(t.Context())))
		must(t, h.AuditLogs.Insert(t.Context(), &HostAuditLog{ID: "new"}))
		look, err := h.Chain(t.Context(), chaining(100))
		if err != nil || !look.More {
			t.Fatalf("%+v, %v", look, err)
		}
		must(t, h.AuditLogs.Insert(t.Context(), &HostAuditLog{ID: "newer"}))
		chainAll(t, h)
		seen, nameless := map[string]bool{}, 0
		for _, id := range chained(t, h) {
			if id == "" {
				nameless++
			} else if seen[id] {
				t.Errorf("%s has two entries", id)
			}
			seen[id] = true
		}
		delete(seen, "")
		if len(seen)+nameless != want+2 || !seen["new"] || !seen["newer"] || !seen["old000"] || !seen["old249"] {
			t.Errorf("%d entries and %d without an id, want %d", len(seen), nameless, want+2)
		}
		must(t, h.ReadAudit(t.Context(), func(s *AuditSnapshot) error {
			done, err := s.Backfilled(t.Context())
			if err != nil || !done {
				t.Errorf("backfilled %v, %v", done, err)
			}
			return nil
		}))
	})
}

// A transaction of another program that stays open with an audit row keeps neither other rows from being written nor from
// being chained; its own follows.
func TestChainWaitsForNoOpenTransaction(t *testing.T) {
	url := newPostgres(t)
	h := openTest(t, url)
	tx, err := rawDB(t, url).BeginTx(t.Context(), nil)
	must(t, err)
	execOn(t, tx, "INSERT INTO sys_audit_logs (id) VALUES ('open')")
	must(t, h.AuditLogs.Insert(t.Context(), &HostAuditLog{ID: "beside"}))
	chainAll(t, h)
	if got := chained(t, h); fmt.Sprint(got) != "[beside]" {
		t.Errorf("chained %v", got)
	}
	must(t, tx.Commit())
	chainAll(t, h)
	if got := chained(t, h); fmt.Sprint(got) != "[beside open]" {
		t.Errorf("chained %v", got)
	}
}

// What the looks of every moment read must not grow with log and chain.
func TestChainLooksReadIndexes(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		series := "SELECT 'a' || i, '2026' FROM generate_series(1, 3000) AS s (i)"
		if h.engine == EngineSQLite {
			series = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT 'a' || i, '2026' FROM n"
		}
		execAs(t, url, h, "INSERT INTO sys_audit_logs (id, created_at) "+series)
		chainAll(t, h)
		must(t, h.AuditLogs.Insert(t.Context(), &HostAuditLog{ID: "one"}))
		execAs(t, url, h, "ANALYZE")
		for name, args := range map[string][]any{
			"audit_chain_head": nil, "audit_waiting": {0},
			"audit_queue_sizes": map[string][]any{EnginePostgreSQL: {0, 100}, EngineSQLite: {0, 100, 0, 0}}[h.engine],
			"audit_queue_take":  map[string][]any{EnginePostgreSQL: {[]int64{1, 2, 3}}, EngineSQLite: {0, 100, 0, 0}}[h.engine],
			"audit_entries":     {100, 10},
		} {
			var plan string
			must(t, h.ReadAudit(t.Context(), func(s *AuditSnapshot) error {
				must(t, s.plans(t.Context(), "off"))
				plan = auditPlan(t, s, name, args)
				return nil
			}))
			// SQLite's c is the page of entries; the head is the end of the table's own tree.
			for _, scan := range []string{"Seq Scan on sys_audit_logs", "Seq Scan on sys_audit_chain", "SCAN l\n", "SCAN e\n"} {
				if strings.Contains(plan, scan) {
					t.Errorf("%s reads a whole table:\n%s", name, plan)
				}
			}
		}
	})
}

func auditPlan(t testing.TB, s *AuditSnapshot, name string, args []any) string {
	t.Helper()
	verb := "EXPLAIN "
	if s.h.engine == EngineSQLite {
		verb = "EXPLAIN QUERY PLAN "
	}
	rows, err := s.tx.QueryContext(t.Context(), verb+s.h.queries[name], args...)
	must(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	must(t, err)
	var b strings.Builder
	for rows.Next() {
		dst := make([]any, len(columns))
		for i := range dst {
			dst[i] = new(string)
		}
		must(t, rows.Scan(dst...))
		b.WriteString(*dst[len(dst)-1].(*string) + "\n")
	}
	must(t, rows.Err())
	return b.String()
}

// A long queue is compared with the log in one pass, not row by row.
func TestATailOfAnyLengthIsCountedAtOnce(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		chainAll(t, h)
		series := "SELECT 'a' || i FROM generate_series(1, 30000) AS s (i)"
		if h.engine == EngineSQLite {
			series = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) SELECT 'a' || i FROM n"
		}
		execAs(t, url, h, "INSERT INTO sys_audit_logs (id) "+series)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		must(t, h.ReadAudit(ctx, func(s *AuditSnapshot) error {
			must(t, s.Entries(ctx, 0, func(*ChainEntry, *AuditRow) error { return nil }))
			waiting, err := s.Waiting(ctx)
			if err != nil || waiting != 30000 {
				t.Errorf("%d wait, %v", waiting, err)
			}
			n := 0
			err = s.Unchained(ctx, func(waits bool, _ *AuditRow) error {
				if waits {
					n++
				}
				return nil
			})
			if err != nil || n != 30000 {
				t.Errorf("%d are unchained and wait, %v", n, err)
			}
			return nil
		}))
	})
}
