package main

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// lifeKills is how often migrate and delete are killed; SHOW-3 asks for fifty.
var lifeKills = flag.Int("life-kills", 2, "how often migrate and delete are killed, each on each engine")

// SHOW-3. Killed at any moment, migrate and delete are run again and end in the same state: what is to be there is there
// once, what is to go is gone, and the doctor finds nothing.
func TestMigrateAndDeleteSurviveKill(t *testing.T) {
	lifeEngines(t, func(t *testing.T, c *cli, migrations string) {
		c.provision("acme", "globex", "victim")
		whole := c.killed(t, 0, "tenant", "migrate", "--all", "--check")
		for i := range *lifeKills {
			writeMigration(t, migrations, "0000"+string(rune('2'+i%8))+strings.Repeat("0", i/8)+"_more.sql", "CREATE TABLE more"+strings.Repeat("x", i)+" (id INTEGER)")
			c.killed(t, rand.N(whole+whole/2), "tenant", "migrate", "--all", "--parallel", "2")
			if r := c.run("tenant", "migrate", "--all"); r.code != 0 {
				t.Fatalf("after kill %d: %+v", i, r)
			}
			c.ok("tenant", "doctor")
		}
		for i := range *lifeKills {
			c.killed(t, rand.N(whole+whole/2), "tenant", "delete", "victim", "--retain", "0", "--yes")
			if c.count("SELECT count(*) FROM core_tenants WHERE id = 'victim'") > 0 {
				if r := c.run("tenant", "delete", "victim", "--retain", "0", "--yes"); r.code != 0 {
					t.Fatalf("after kill %d: %+v", i, r)
				}
			}
			if out := c.ok("tenant", "doctor"); !strings.HasSuffix(out, "2 tenants, 2 databases of our making, 0 findings\n") {
				t.Fatalf("after kill %d: %s", i, out)
			}
			c.provision("victim")
		}
	})
}

// lifeTenants is how many tenants are migrated by a run that is killed halfway; SHOW-5 asks for five hundred, and
// `bench tenants -rows 500` does so.
var lifeTenants = flag.Int("life-tenants", 6, "how many tenants a run is killed in the midst of, on each engine")

// SHOW-5. A run over all tenants that is killed halfway goes on where it was: each tenant's change is done and on record once.
func TestAMigrationOfAllThatIsKilledHalfwayIsResumed(t *testing.T) {
	lifeEngines(t, func(t *testing.T, c *cli, migrations string) {
		n := *lifeTenants
		for i := range n {
			c.provision(fmt.Sprint("t", i))
		}
		writeMigration(t, migrations, "00002_row.sql", "INSERT INTO notes (id, note) VALUES (7, 'once')")
		cmd, _, _ := process(t, t.TempDir(), c.environ, "tenant", "migrate", "--all", "--parallel", "2")
		half := &killer{at: n / 2, kill: func() { _ = cmd.Process.Kill() }}
		cmd.Stderr = half
		if err := cmd.Run(); err == nil || half.seen < n/2 || cmd.ProcessState.Exited() {
			t.Fatalf("it was not killed: %v, %d were done", err, half.seen)
		}
		if out := c.object("tenant", "migrate", "--all"); out["failed"] != float64(0) || out["migrated"].(float64)+out["current"].(float64) != float64(n) || out["current"].(float64) < float64(n/2) {
			t.Errorf("resumed: %v", out)
		}
		if got := c.count("SELECT count(*) FROM sys_audit_logs WHERE event_type = 'tenant.migrated' AND details LIKE '%\"to\":2%'"); got != n {
			t.Errorf("%d of %d changes are on record", got, n)
		}
		c.ok("tenant", "doctor")
	})
}

// killer reads what a run says, and kills it once that many tenants are done.
type killer struct {
	at, seen int
	kill     func()
}

func (k *killer) Write(text []byte) (int, error) {
	if k.seen += bytes.Count(text, []byte(": migrated, version")); k.seen >= k.at {
		k.kill()
	}
	return len(text), nil
}

// killed runs a command as a process of its own that is killed after a while, 0: not at all, and says how long it took.
func (c *cli) killed(t *testing.T, after time.Duration, args ...string) time.Duration {
	t.Helper()
	cmd, _, _ := process(t, t.TempDir(), c.environ, args...)
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if after > 0 {
		timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	_ = cmd.Wait() // killed, or done sooner
	return time.Since(begin)
}

// Two people delete a tenant at once: what both asked for is done, and the one who came second is told so.
func TestADeletionThatAnotherRunFinishedIsDone(t *testing.T) {
	lifeEngines(t, func(t *testing.T, c *cli, _ string) {
		c.provision("acme")
		cmd, out, errs := process(t, t.TempDir(), c.environ, "tenant", "delete", "acme", "--retain", "0", "--output", "json")
		answer, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		errs.await(t, 1, "Type its name")
		c.ok("tenant", "delete", "acme", "--retain", "0", "--yes")
		if _, err := answer.Write([]byte("acme\n")); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil || !strings.Contains(errs.String(), "another run has removed it meanwhile") {
			t.Errorf("the second: %v, %s", err, errs)
		}
		if d := decode(t, out.String()); d["id"] != "acme" || d["purged"] != true || !strings.HasPrefix(d["stays"].(string), "another run") {
			t.Errorf("the second: %v", d)
		}
		c.fails(1, "not found", "tenant", "delete", "acme", "--retain", "0", "--yes")
		c.ok("tenant", "doctor")
	})
}
