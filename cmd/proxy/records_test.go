package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAuditBeginsWithTheNewestAndIsFiltered(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
		c.clock = func() time.Time { return now }
		for _, id := range []string{"a", "b", "c", "d"} {
			c.ok("tenant", "create", "--id", id)
			c.ok("user", "create", "--id", "u"+id)
			now = now.Add(time.Hour)
		}
		targets := func(args ...string) (seen []string) {
			t.Helper()
			for after := ""; ; {
				page := decode(t, c.ok(append([]string{"audit", "list", "--limit", "3", "--output", "json", "--after", after}, args...)...))
				for _, row := range items(t, page) {
					seen = append(seen, row["target_id"].(string))
				}
				if after = page["next"].(string); after == "" {
					return seen
				}
			}
		}
		all := targets()
		if len(all) != 8 || !slices.Equal(slices.Sorted(slices.Values(all[:2])), []string{"d", "ud"}) || !slices.Equal(slices.Sorted(slices.Values(all[6:])), []string{"a", "ua"}) {
			t.Errorf("newest first: %v", all)
		}
		for line, want := range map[string]string{
			"--event-type tenant.created":                                                 "d c b a",
			"--event-type user.created --since 2026-06-01T14:00":                          "ud uc",
			"--event-type tenant.created --until 2026-06-01T13:00:00Z --since 2026-06-01": "a",
			"--event-type tenant.created --since 2026-06-01T15:00:00+02:00":               "d c b",
			"--target-id ub": "ub", "--actor-user-id nobody": "", "--until 2026-05-31": "",
		} {
			if got := strings.Join(targets(strings.Fields(line)...), " "); got != want {
				t.Errorf("%s: %s, want %s", line, got, want)
			}
		}
		c.fails(1, "not the `next`", "audit", "list", "--after", "x")
		c.fails(2, "ISO 8601", "audit", "list", "--since", "yesterday")
		c.fails(2, "unknown flag", "tenant", "list", "--since", "2026-01-01")
	})
}

func TestJobsAreShownWithoutWhatTheyKeepSecret(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		c.ok("migrate")
		c.exec(`INSERT INTO sys_jobs (id, job_type, status, payload, error_log, created_at) VALUES
			('j1', 'export', 'failed', '{"db":"postgresql://a:` + canary + `@db/a","rows":5}', 'connect postgresql://a:` + canary + `@db/a: refused', '2026-06-01T12:00:00'),
			('j2', 'tenantgate.x', 'pending', NULL, NULL, '2026-06-01T13:00:00'), ('j3', NULL, NULL, NULL, NULL, NULL)`)
		var ids []string
		for _, row := range c.list("job") {
			ids = append(ids, row["id"].(string))
		}
		if strings.Join(ids, " ") != "j2 j1 j3" {
			t.Errorf("newest first: %v", ids)
		}
		if out := c.ok("job", "list") + c.ok("job", "show", "j1") + c.ok("job", "list", "--output", "json"); strings.Contains(out, canary) || !strings.Contains(out, "rows") {
			t.Errorf("shown: %s", out)
		}
		if got := c.object("job", "show", "j1", "--reveal")["payload"]; !strings.Contains(got.(string), canary) || len(c.audit("job.revealed")) != 1 {
			t.Errorf("revealed: %v", got)
		}
		if rows := items(t, decode(t, c.ok("job", "list", "--job-type", "export", "--status", "failed", "--output", "json"))); len(rows) != 1 || rows[0]["id"] != "j1" {
			t.Errorf("filtered: %v", rows)
		}
		c.fails(1, "not found", "job", "show", "j9")
	})
}
