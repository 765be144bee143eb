package jobs

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// What has ended is removed, in batches, a quarter of an hour later: a replica whose clock is behind still honours it.
func TestCleanUp(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		c := newClock()
		h := open(t, url, c)
		ctx := t.Context()
		at := func(d time.Duration) string { return catalog.Timestamp(c.read().Add(d)) }
		must(t, h.InTx(ctx, func(tx *catalog.Tx) error {
			for i := range 2*cleanAtOnce + 1 {
				row := &catalog.Session{ID: catalog.SessionID(fmt.Sprint("old", i)), UserID: "u", Host: "h", MAC: "m", ExpiresAt: at(-15 * time.Minute)}
				if err := tx.Sessions.Insert(ctx, row); err != nil {
					return err
				}
			}
			return tx.Sessions.Insert(ctx, &catalog.Session{ID: "good", UserID: "u", Host: "h", MAC: "m", ExpiresAt: at(-15*time.Minute + time.Second)})
		}))
		execute(t, url, `INSERT INTO tenantgate.sys_handoffs (code_hash, user_id, host, nonce_hash, sign_in, mac, signed_in_at, session_expires_at, created_at, expires_at)
			VALUES ('old', 'u', 'h', 'n', 's', 'm', '', '', '', '`+at(-15*time.Minute)+`'), ('good', 'u', 'h', 'n', 's', 'm', '', '', '', '`+at(-15*time.Minute+time.Second)+`')`)
		execute(t, url, `INSERT INTO tenantgate.sys_logout_tokens (id, provider, issued_at, expires_at) VALUES ('old', 'p', '', '`+at(-15*time.Minute)+`'), ('good', 'p', '', '`+at(-15*time.Minute+time.Second)+`')`)
		execute(t, url, `INSERT INTO tenantgate.sys_sign_ups (id, user_id, network, created_at) VALUES ('old', 'u', 'n', '`+at(-3*time.Hour)+`'), ('good', 'u', 'n', '`+at(-time.Hour)+`')`)
		execute(t, url, `INSERT INTO tenantgate.sys_api_tokens (id, kind, mac, created_at, expires_at) VALUES ('old', 'user', 'm', '', '`+at(-31*24*time.Hour)+`'),
			('good', 'user', 'm', '', '`+at(-29*24*time.Hour)+`'), ('endless', 'user', 'm', '', NULL)`)
		must(t, CleanUp(h).Work(ctx, nil))
		for table, want := range map[string]int{"sys_sessions": 1, "sys_handoffs": 1, "sys_logout_tokens": 1, "sys_sign_ups": 1, "sys_api_tokens": 2} {
			if n := count(t, url, "tenantgate."+table); n != want {
				t.Errorf("%s: %d rows, want %d", table, n, want)
			}
		}
		rows, err := h.Sessions.ListByUser(ctx, "u")
		must(t, err)
		if len(rows) != 1 || rows[0].ID != "good" {
			t.Errorf("sessions: %v", rows)
		}
	})
}

// Completed jobs stay for a week, failed ones for thirty days, unfinished and other programs' for ever.
func TestOldJobsAreRemoved(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		c := newClock()
		h := open(t, url, c)
		ctx := t.Context()
		e := engine(t, h, Config{})
		e.Handle("tenantgate.good", Kind{Work: func(context.Context, *Run) error { return nil }})
		e.Handle("tenantgate.bad", Kind{MaxAttempts: 1, Work: func(context.Context, *Run) error { return context.Canceled }})
		execute(t, url, `INSERT INTO sys_jobs (id, job_type, status, created_at, completed_at) VALUES ('theirs', 'mail', 'completed', '2020', '2020'), ('unseen', 'tenantgate.good', 'completed', '2020', '2020')`)
		good, bad := enqueue(t, h, Job{Type: "tenantgate.good"}), enqueue(t, h, Job{Type: "tenantgate.bad"})
		later := enqueue(t, h, Job{Type: "tenantgate.good", RunAt: c.read().Add(1000 * 24 * time.Hour)})
		orphan := enqueue(t, h, Job{Type: "tenantgate.good"})
		execute(t, url, "DELETE FROM sys_jobs WHERE id = '"+string(orphan)+"'")
		must(t, e.RunNow(ctx, good))
		if err := e.RunNow(ctx, bad); err == nil {
			t.Fatal("it did not fail")
		}
		left := func(after time.Duration, want ...catalog.JobID) {
			t.Helper()
			c.move(after)
			must(t, CleanUp(h).Work(ctx, nil))
			page, _, err := h.Jobs.List(ctx, catalog.Page{})
			must(t, err)
			there := map[catalog.JobID]bool{}
			for _, row := range page {
				there[row.ID] = true
			}
			for _, id := range want {
				if !there[id] {
					t.Errorf("%s is gone", id)
				}
			}
			if len(page) != len(want) {
				t.Errorf("%d jobs, want %d", len(page), len(want))
			}
		}
		left(7*24*time.Hour-time.Second, "theirs", "unseen", good, bad, later)
		left(2*time.Second, "theirs", "unseen", bad, later)
		left(23*24*time.Hour, "theirs", "unseen", later)
		if n := count(t, url, "tenantgate.sys_job_runs"); n != 1 {
			t.Errorf("%d rows of runs are left", n)
		}
	})
}
