package main

import (
	"strings"
	"testing"
)

func TestJobsAreCanceledAndRetriedUnlessTheyAreAnothersOrInTheWrongState(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		c.ok("migrate")
		c.exec(`INSERT INTO sys_jobs (id, job_type, status) VALUES ('ours', 'tenantgate.x', 'pending'), ('theirs', 'mail', 'failed'),
			('done', 'tenantgate.x', 'completed')`)
		job := c.object("job", "cancel", "ours")
		if job["status"] != "failed" || job["error_log"] != "canceled by "+actor() || job["completed_at"] == nil {
			t.Errorf("canceled: %v", job)
		}
		job = c.object("job", "retry", "ours")
		if job["status"] != "pending" || job["completed_at"] != nil || job["attempts"] != float64(0) || job["run_at"] == nil {
			t.Errorf("retried: %v", job)
		}
		if n := len(c.audit("job.canceled")) + len(c.audit("job.retried")); n != 2 {
			t.Errorf("%d audit rows", n)
		}
		c.fails(1, "only what failed", "job", "retry", "done")
		c.fails(1, "it is over", "job", "cancel", "done")
		for _, verb := range []string{"retry", "cancel"} {
			c.fails(1, "another program's", "job", verb, "theirs")
			c.fails(1, "not found", "job", verb, "none")
			c.fails(2, "ID", "job", verb)
		}
		if theirs := c.object("job", "show", "theirs"); theirs["status"] != "failed" || theirs["attempts"] != nil {
			t.Errorf("another program's job: %v", theirs)
		}
	})
}

// A word that no row has is a slip of the pen and no empty answer; what other programs write there is a word, too.
func TestAFilterByAWordThatIsNoneIsRefused(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		c.ok("migrate")
		c.exec(`INSERT INTO sys_jobs (id, job_type, status) VALUES ('theirs', 'mail', 'parked')`)
		for filter, says := range map[string]string{
			"job --status nonsense": "pending, running, completed, failed", "subscription --status activ": "past_due", "domain --kind hosts": "slug, host",
			"token --kind root": "user, admin", "job --job-type mail --status nonsense": "pending",
		} {
			args := strings.Fields(filter)
			c.fails(2, says, append([]string{args[0], "list"}, args[1:]...)...)
		}
		for _, filter := range []string{"--status failed", "--status parked", "--job-type other --status parked", "--job-type other"} {
			c.ok(append([]string{"job", "list"}, strings.Fields(filter)...)...)
		}
	})
}

// What a flag asks for is done, or refused.
func TestMigrateRefusesFlagsThatWouldDoNothing(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	c.fails(2, "give --pause", "tenant", "migrate", "--all", "--drain", "5s")
	c.fails(2, "leave --pause out", "tenant", "migrate", "--all", "--check", "--pause")
}
