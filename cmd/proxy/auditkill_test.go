package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"
)

// auditKills is how often a process that makes audited changes is killed; SHOW-8.
var auditKills = flag.Int("audit-kills", 4, "how often audited changes are killed, on each engine")

// SHOW-8. kill -9 at a random moment of a process that makes audited changes: each change has exactly its row in the audit
// log, and each row of the log its change. Of a command that does several things all are there or none.
func TestChangeAndAuditRowAreBothThereOrNone(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		c.ok("plan", "create", "--id", "whole")
		whole := c.killed(t, 0, "plan", "create", "--id", "by-itself")
		made := 0
		for i := range *auditKills {
			plan := fmt.Sprintf("killed%d", i)
			c.killed(t, whole/2+rand.N(whole), "plan", "create", "--id", plan) // most of a command's time is its start
			rows := c.count("SELECT count(*) FROM core_pricing_plans WHERE id = '" + plan + "'")
			made += rows
			c.bothOrNone(t, rows, "plan.created", plan)
			if rows == 0 {
				c.ok("plan", "create", "--id", plan)
			}
			c.killed(t, whole/2+rand.N(whole), "plan", "update", plan, "--name", "changed")
			c.bothOrNone(t, c.count("SELECT count(*) FROM core_pricing_plans WHERE id = '"+plan+"' AND name = 'changed'"), "plan.updated", plan)
			c.killed(t, whole/2+rand.N(whole), "plan", "delete", plan, "--yes")
			c.bothOrNone(t, 1-c.count("SELECT count(*) FROM core_pricing_plans WHERE id = '"+plan+"'"), "plan.deleted", plan)
		}
		t.Logf("%d kills, %d of %d creations were committed", 3**auditKills, made, *auditKills)
		if n := c.count("SELECT count(*) FROM (SELECT target_id FROM sys_audit_logs WHERE event_type LIKE 'plan.%' GROUP BY event_type, target_id HAVING count(*) > 1) doubled"); n > 0 {
			t.Errorf("%d changes have two rows", n)
		}
	})
}

func (c *cli) bothOrNone(t *testing.T, changes int, event, target string) {
	t.Helper()
	if n := c.count("SELECT count(*) FROM sys_audit_logs WHERE event_type = '" + event + "' AND target_id = '" + target + "'"); n != changes {
		t.Errorf("%s of %s: %d changes, %d rows in the log", event, target, changes, n)
	}
}

// SHOW-8. The same of serve, which makes one audited change after another: jobs of a kind that nobody knows fail, each in a
// transaction of its own.
func TestAServerThatIsKilledLeavesBothOrNone(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		c.ok("plan", "list")
		midway := 0
		for round := range *auditKills {
			before := c.ended()
			c.fillJobs(round, 1000)
			c.killServe(t, before)
			changed := c.ended()
			rows := c.count("SELECT count(*) FROM sys_audit_logs WHERE event_type = 'job.failed'")
			pairs := c.count("SELECT count(*) FROM sys_jobs j JOIN sys_audit_logs l ON l.target_id = j.id AND l.event_type = 'job.failed' WHERE j.status = 'failed'")
			if changed != rows || pairs != rows {
				t.Errorf("%d jobs failed, %d rows in the log, %d of them belong together", changed, rows, pairs)
			}
			if c.count("SELECT count(*) FROM sys_jobs WHERE status = 'pending'") > 0 {
				midway++
			}
		}
		t.Logf("%d changes, %d kills of %d between two of them", c.ended(), midway, *auditKills)
	})
}

func (c *cli) ended() int { return c.count("SELECT count(*) FROM sys_jobs WHERE status = 'failed'") }

// fillJobs inserts jobs of an unknown kind: serve makes each a failed one, with its row in the audit log.
func (c *cli) fillJobs(round, n int) {
	with, series := "", "generate_series(1, %[1]d) AS s (i)"
	if on(c, "x") == "" {
		with, series = "WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %[1]d) ", "s WHERE i <= %[1]d"
	}
	c.exec("INSERT INTO sys_jobs (id, job_type, status, payload) " +
		fmt.Sprintf(with+"SELECT 'j%[2]d-' || i, 'tenantgate.unknown', 'pending', '{}' FROM "+series, n, round))
}

// killServe starts serve and kills it a little after it has begun to change rows.
func (c *cli) killServe(t *testing.T, before int) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config.yaml"), goodConfig("http://127.0.0.1:1", ""))
	cmd, _, errs := process(t, dir, c.environ, "serve") // on the environment's host database
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(gone)
	}()
	defer func() {
		_ = cmd.Process.Kill()
		<-gone
	}()
	db := c.open()
	defer db.Close()
	ended := before
	for deadline := time.Now().Add(2 * time.Minute); ended <= before; {
		// An error is of a file that the process has locked for a moment.
		_ = db.QueryRowContext(t.Context(), "SELECT count(*) FROM sys_jobs WHERE status = 'failed'").Scan(&ended)
		select {
		case <-gone:
			t.Fatalf("serve ended: %s", errs.String())
		case <-time.After(5 * time.Millisecond):
			if time.Now().After(deadline) {
				t.Fatalf("serve changes nothing: %s", errs.String())
			}
		}
	}
	select {
	case <-gone:
		t.Fatalf("serve ended: %s", errs.String())
	case <-time.After(rand.N(60 * time.Millisecond)): // the moment of the kill
	}
}
