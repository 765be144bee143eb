package catalog

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// deniedRows are the log's rows about denials.
func deniedRows(t *testing.T, h *HostDatabase) []HostAuditLog {
	t.Helper()
	var all []HostAuditLog
	err := h.queryText(t.Context(), "read", readDeadline, "SELECT id, actor_user_id, event_type, target_id, details, ip_address, created_at "+
		"FROM sys_audit_logs WHERE event_type = '"+DeniedEvent+"' ORDER BY details", nil, func(rows *sql.Rows) error {
		all = nil
		for rows.Next() {
			var r HostAuditLog
			if err := rows.Scan(intoAll(nil, auditModel().fields(&r))...); err != nil {
				return err
			}
			all = append(all, r)
		}
		return rows.Err()
	})
	must(t, err)
	return all
}

func TestDenialsBecomeRowsOfTheLog(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		b := &DenialBatch{
			ID: GenID(), Minute: "2026-06-01T11:59:00",
			Rows: []DenialCount{
				{User: "ann", Tenant: "ac\"me", Code: "no_access", Count: 3},
				{Network: "192.0.2.0/24", Code: "unauthenticated", Count: 2},
				{Code: "bad_path", Count: 1},
				{User: "bob", Count: 7, Codes: map[string]int64{"no_access": 3, "role_required": 4}},
			},
			Rest: map[string]int64{"unauthenticated": 5, "bad_host": 1},
		}
		for range 2 { // the answer to a commit may get lost
			must(t, h.RecordDenials(t.Context(), b))
		}
		got := deniedRows(t, h)
		var lines []string
		for _, r := range got {
			lines = append(lines, fmt.Sprint(*r.ActorUserID, "|", orEmptyText(r.TargetID), "|", *r.Details, "|", orEmptyText(r.IPAddress), "|", *r.CreatedAt))
			if len(r.ID) != 32 {
				t.Errorf("id %q", r.ID)
			}
		}
		want := []string{
			`unknown||{"code":"bad_path","count":1,"minute":"2026-06-01T11:59:00"}||2026-06-01T12:00:00`,
			`ann|ac"me|{"code":"no_access","count":3,"minute":"2026-06-01T11:59:00"}||2026-06-01T12:00:00`,
			`192.0.2.0/24||{"code":"unauthenticated","count":2,"minute":"2026-06-01T11:59:00"}|192.0.2.0/24|2026-06-01T12:00:00`,
			`others||{"codes":{"bad_host":1,"unauthenticated":5},"count":6,"minute":"2026-06-01T11:59:00"}||2026-06-01T12:00:00`,
			`bob||{"codes":{"no_access":3,"role_required":4},"count":7,"minute":"2026-06-01T11:59:00"}||2026-06-01T12:00:00`,
		}
		if strings.Join(lines, "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s", strings.Join(lines, "\n"))
		}
	})
}

func orEmptyText(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Replicas that write the same minute share its rows; all that was counted is there.
func TestReplicasShareTheRowsOfAMinute(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		var wg sync.WaitGroup
		for replica := range 3 {
			wg.Go(func() {
				b := &DenialBatch{ID: GenID(), Minute: "2026-06-01T11:59:00", Rest: map[string]int64{}}
				for i := range 600 {
					b.Rows = append(b.Rows, DenialCount{User: UserID(fmt.Sprintf("u%d-%d", replica, i)), Code: "no_access", Count: 2})
				}
				if err := h.RecordDenials(t.Context(), b); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		rows, rest, total := 0, 0, int64(0)
		for _, r := range deniedRows(t, h) {
			var d struct{ Count int64 }
			must(t, json.Unmarshal([]byte(*r.Details), &d))
			total += d.Count
			if *r.ActorUserID == deniedOthers {
				rest++
			} else {
				rows++
			}
		}
		if rows != DenialRows || rest != 2 || total != 3*600*2 {
			t.Errorf("%d rows and %d for the rest count %d", rows, rest, total)
		}
		must(t, h.RecordDenials(t.Context(), &DenialBatch{ID: GenID(), Minute: "2026-06-01T12:00:00", Rows: []DenialCount{{User: "ann", Code: "x", Count: 1}}}))
		if n := len(deniedRows(t, h)); n != DenialRows+3 {
			t.Errorf("the next minute has no room of its own: %d rows", n)
		}
	})
}

func TestOldDenialBatchesAreForgotten(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		for _, minute := range []string{"2026-05-31T11:59:00", "2026-05-31T12:01:00", "2026-06-01T12:00:00"} {
			must(t, h.RecordDenials(t.Context(), &DenialBatch{ID: GenID(), Minute: minute, Rest: map[string]int64{"x": 1}}))
		}
		var n int64
		must(t, h.InTx(t.Context(), func(tx *Tx) (err error) {
			err = tx.queryText(t.Context(), "count", time.Second, dialect(h.engine, "SELECT count(*) FROM tenantgate.sys_denial_batches"), nil, func(rows *sql.Rows) error {
				for rows.Next() {
					if err := rows.Scan(&n); err != nil {
						return err
					}
				}
				return rows.Err()
			})
			return err
		}))
		if n != 2 {
			t.Errorf("%d batches are kept", n)
		}
	})
}
