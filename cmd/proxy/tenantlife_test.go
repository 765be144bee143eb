package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/jobs/lifecycle"
)

// newLifeCLI is a cli whose configuration can make tenants of one engine. migrations is the directory of their schema.
func newLifeCLI(t testing.TB, engine string) (c *cli, migrations string) {
	t.Helper()
	host, admin := sqliteURL(t), "sqlite:"+filepath.Join(t.TempDir(), "tenants")
	if engine == "postgresql" {
		host, admin = pgtest.New(t), pgtest.New(t)
	}
	c, migrations = newCLI(t, host), t.TempDir()
	c.environ = append(c.environ, "TENANTGATE_SECRET_KEY="+masterSecret, "TENANTGATE_PROVISIONING_ENGINE="+engine,
		"TENANTGATE_PROVISIONING_ADMIN_URL="+admin, "TENANTGATE_PROVISIONING_MIGRATIONS_DIR="+migrations)
	writeMigration(t, migrations, "00001_notes.sql", "CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT)")
	return c, migrations
}

func writeMigration(t testing.TB, dir, name, statement string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("-- +goose Up\n"+statement+";\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func lifeEngines(t *testing.T, test func(t *testing.T, c *cli, migrations string)) {
	for _, engine := range []string{"sqlite", "postgresql"} {
		t.Run(engine, func(t *testing.T) {
			c, migrations := newLifeCLI(t, engine)
			test(t, c, migrations)
		})
	}
}

func (c *cli) provision(ids ...string) {
	c.t.Helper()
	for _, id := range ids {
		if r := c.run("tenant", "provision", "--id", id); r.code != 0 {
			c.t.Fatalf("provision %s: %+v", id, r)
		}
	}
}

// What a db_url names that was written after a provisioning is closed to the other tenants' roles by a job.
func TestANewURIHasItsDatabaseClosed(t *testing.T) {
	lifeEngines(t, func(t *testing.T, c *cli, _ string) {
		jobs := func() int {
			return c.count("SELECT count(*) FROM sys_jobs WHERE job_type = 'tenantgate.close_to_public' AND status = 'pending'")
		}
		c.ok("tenant", "create", "--id", "before", "--db-url", "postgresql://u:p@h/before")
		if n := jobs(); n != 0 {
			t.Errorf("no tenant was provisioned, and there are %d jobs", n)
		}
		c.provision("acme")
		c.ok("tenant", "create", "--id", "bare")
		c.ok("tenant", "update", "bare", "--name", "Bare")
		c.ok("tenant", "create", "--id", "file", "--db-url", "sqlite:/f.db")
		if n := jobs(); n != 0 {
			t.Errorf("no server's database was named, and there are %d jobs", n)
		}
		c.ok("tenant", "create", "--id", "late", "--db-url", "postgresql://u:p@h/late")
		c.ok("tenant", "update", "bare", "--db-url", "postgresql://u:p@h/bare")
		if n := jobs(); n != 1 {
			t.Errorf("%d jobs for two databases", n)
		}
	})
}

func TestTenantsLifeOnTheCommandLine(t *testing.T) {
	lifeEngines(t, func(t *testing.T, c *cli, migrations string) {
		c.provision("acme", "globex", "broken")
		if out := c.ok("tenant", "doctor"); !strings.HasSuffix(out, "3 tenants, 3 databases of our making, 0 findings\n") {
			t.Errorf("doctor: %s", out)
		}
		// The third migration is one that tenants with rows do not take.
		writeMigration(t, migrations, "00002_author.sql", "ALTER TABLE notes ADD COLUMN author TEXT")
		r := c.run("tenant", "doctor")
		if r.code != 1 || strings.Count(r.out, "its schema is behind: version 1, and migrations lead to 2\n    mend: tenantgate tenant migrate ") != 3 || !strings.Contains(r.err, "findings: 3") {
			t.Errorf("doctor: %+v", r)
		}
		c.breakTenant("broken")
		r = c.run("tenant", "migrate", "--all", "--parallel", "2")
		if r.code != 1 || strings.Count(r.err, "tenantgate: ") != 1 || !strings.Contains(r.err, "migrate: tenant broken: ") ||
			!strings.Contains(r.err, "migrate: acme: migrated, version 1 to 2, ") || !strings.Contains(r.out, "migrated   2\n") {
			t.Errorf("migrate: %+v", r)
		}
		if strings.Contains(r.err+r.out, "postgresql://") || strings.Contains(r.err+r.out, "sqlite:/") {
			t.Errorf("a URI shows: %+v", r)
		}
		r = c.run("tenant", "migrate", "--all", "--output", "json")
		if sum := decode(t, r.out); r.code != 1 || sum["failed"] != float64(1) || sum["current"] != float64(2) || sum["target"] != "2" || strings.Count(r.err, "\n") != 1 {
			t.Errorf("migrate: %+v", r)
		}
		c.fails(1, "not found", "tenant", "migrate", "nowhere")

		dir := t.TempDir()
		r = c.run("tenant", "delete", "acme", "--backup", dir, "--yes", "--output", "json")
		d := decode(t, r.out)
		if r.code != 0 || d["purged"] != false || d["is_active"] != false || d["database_name"] == nil || d["backup_sha256"] == nil || strings.Count(r.err, "\n") != 2 {
			t.Errorf("delete: %+v", r)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "acme-*", "MANIFEST.json")); len(left) != 1 {
			t.Errorf("backups: %v", left)
		}
		c.ok("tenant", "restore", "acme")
		if d := c.object("tenant", "delete", "acme", "--retain", "0", "--yes"); d["purged"] != true || d["stays"] != "nothing of it stays" {
			t.Errorf("delete: %v", d)
		}
		c.fails(1, "not found", "tenant", "restore", "acme")
		c.ok("tenant", "create", "--id", "theirs", "--db-url", "postgresql://u:"+canary+"@db/theirs")
		if d := c.object("tenant", "delete", "theirs", "--retain", "0", "--yes"); d["purged"] != true || !strings.Contains(d["stays"].(string), "stay") {
			t.Errorf("delete: %v", d)
		}
		if n := c.count("SELECT count(*) FROM core_tenants"); n != 2 {
			t.Errorf("%d tenants are left", n)
		}
		if n := c.count("SELECT count(*) FROM sys_audit_logs WHERE event_type = 'tenant.purged'"); n != 2 {
			t.Errorf("%d removals in the audit", n)
		}
		if n := c.count("SELECT count(*) FROM sys_audit_logs WHERE details LIKE '%" + canary + "%'"); n != 0 {
			t.Error("a password is in the audit")
		}
	})
}

// breakTenant makes the next migration of a tenant fail.
func (c *cli) breakTenant(id string) {
	c.t.Helper()
	c.tenant(id).exec("ALTER TABLE notes RENAME TO torn")
}

// On a terminal one line shows counts and what is left; what failed stays above it.
func TestBarOfAMigration(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	b := &bar{to: &out, live: true, clock: func() time.Time { return now }}
	b.Begin(4, 2)
	now = now.Add(2 * time.Second)
	b.Done(lifecycle.Outcome{Tenant: "a", Result: lifecycle.Migrated})
	b.Done(lifecycle.Outcome{Tenant: "b\n", Result: lifecycle.Failed, Reason: "no"})
	b.end()
	want := "\r\x1b[K[------------------------------] 0 of 4, 0 failed, … left" +
		"\r\x1b[K[#######-----------------------] 1 of 4, 0 failed, 6s left" +
		"\r\x1b[Kb\\n: failed: no\n\r\x1b[K[###############---------------] 2 of 4, 1 failed, 2s left\n"
	if out.String() != want {
		t.Errorf("%q", out.String())
	}
}
