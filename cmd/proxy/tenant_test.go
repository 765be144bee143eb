package main

import (
	"strings"
	"testing"
	"time"
)

func TestDeletedTenantIsRestoredAsItWasUntilItsRetentionEnds(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
		c.clock = func() time.Time { return now }
		c.ok("tenant", "create", "--id", "acme")
		c.ok("tenant", "create", "--id", "idle", "--is-active=false")
		c.ok("tenant", "create", "--id", "long")
		gone := c.object("tenant", "delete", "acme", "--yes")
		if gone["is_active"] != false || gone["deleted_at"] != "2026-06-01T12:00:00" || gone["retain_until"] != "2026-07-01T12:00:00" {
			t.Errorf("deleted: %v", gone)
		}
		c.ok("tenant", "delete", "idle", "--yes", "--retain", "1h")
		if got := c.object("tenant", "delete", "long", "--yes", "--retain", "90d"); got["retain_until"] != "2026-08-30T12:00:00" {
			t.Errorf("--retain 90d: %v", got)
		}
		listed := items(t, decode(t, c.ok("tenant", "list", "--output", "json")))
		if len(listed) != 3 || listed[0]["deleted_at"] != "2026-06-01T12:00:00" || listed[1]["retain_until"] != "2026-06-01T13:00:00" {
			t.Errorf("listed: %v", listed)
		}
		for _, args := range [][]string{{"tenant", "resume", "acme"}, {"tenant", "update", "acme", "--is-active"}} {
			c.fails(1, "tenant restore", args...)
		}
		c.ok("tenant", "update", "acme", "--name", "Acme") // other columns can be written
		now = now.Add(59 * time.Minute)
		if got := c.object("tenant", "restore", "idle"); got["is_active"] != false || got["deleted_at"] != nil {
			t.Errorf("suspended, deleted, restored: %v", got)
		}
		c.ok("tenant", "resume", "idle")
		if got := c.object("tenant", "restore", "acme"); got["is_active"] != true || got["retain_until"] != nil {
			t.Errorf("restored: %v", got)
		}
		c.fails(1, "not deleted", "tenant", "restore", "acme")
		now = now.Add(90 * 24 * time.Hour)
		c.fails(1, "retention ended at 2026-08-30T12:00:00", "tenant", "restore", "long")
		c.ok("tenant", "delete", "long", "--yes") // moves the end
		if got := c.object("tenant", "restore", "long"); got["is_active"] != true {
			t.Errorf("deleted twice, restored: %v", got)
		}
		if n := len(c.audit("tenant.delete_requested")); n != 4 {
			t.Errorf("%d rows of deletions", n)
		}
		if n := len(c.audit("tenant.restored")); n != 3 {
			t.Errorf("%d rows of restorations", n)
		}
	})
}

func TestPauseEndsByTheClockOrByUnpause(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
		c.clock = func() time.Time { return now }
		c.ok("tenant", "create", "--id", "acme")
		paused := c.object("tenant", "pause", "acme", "--reason", "moving", "--for", "10m")
		if paused["paused"] != true || paused["paused_until"] != "2026-06-01T12:10:00" || paused["is_active"] != true {
			t.Errorf("paused: %v", paused)
		}
		now = now.Add(10 * time.Minute)
		if got := c.object("tenant", "show", "acme"); got["paused"] != false || got["paused_until"] != nil {
			t.Errorf("after its end: %v", got)
		}
		if got := c.object("tenant", "pause", "acme"); got["paused"] != true || got["paused_until"] != nil {
			t.Errorf("without an end: %v", got)
		}
		if got := c.object("tenant", "unpause", "acme"); got["paused"] != false {
			t.Errorf("unpaused: %v", got)
		}
		c.fails(1, "not paused", "tenant", "unpause", "acme")
		c.fails(1, "not found", "tenant", "pause", "nowhere")
		rows := c.audit("tenant.paused")
		if len(rows) != 2 || len(c.audit("tenant.unpaused")) != 1 {
			t.Errorf("audit: %v", rows)
		}
		if all := encode(t, rows); !strings.Contains(all, "moving") || !strings.Contains(all, "2026-06-01T12:10:00") {
			t.Errorf("audit: %s", all)
		}
	})
}
