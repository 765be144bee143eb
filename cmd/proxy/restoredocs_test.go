package main

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// docBlock is a block of commands of docs/tenants-life.md, by the name behind its language.
func docBlock(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "tenants-life.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "```sh "+name+"\n")
	block, _, ended := strings.Cut(after, "```")
	if !found || !ended {
		t.Fatalf("docs/tenants-life.md has no block %s", name)
	}
	return block
}

// climbs is a table whose rows cannot be restored without running its owner's function, which takes all rights that it gets.
const climbs = `CREATE FUNCTION climb(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
	EXECUTE 'RESET ROLE';
	IF pg_catalog.current_setting('is_superuser') = 'on' THEN EXECUTE 'CREATE ROLE climbed'; END IF;
	RETURN true;
END $$;
CREATE TABLE trap (x int CHECK (climb(x)));
INSERT INTO trap VALUES (1);`

// SHOW-10. A tenant that was deleted and removed comes back by the commands of the documentation alone.
func TestDocumentationRestoresADeletedTenant(t *testing.T) {
	lifeEngines(t, func(t *testing.T, c *cli, _ string) {
		c.provision("acme")
		c.ok("user", "create", "--id", "u1", "--email", "ada@example.com")
		c.ok("member", "create", "--user", "u1", "--tenant", "acme", "--role", "owner")
		c.ok("subscription", "create", "--tenant", "acme", "--status", "active", "--plan-tier", "pro")
		c.ok("domain", "create", "acme-inc", "--tenant", "acme")
		c.tenant("acme").exec("INSERT INTO notes (id, note) VALUES (1, 'it''s kept'), (2, NULL)")
		hostile := strings.HasPrefix(c.environ[3], "TENANTGATE_PROVISIONING_ADMIN_URL=postgresql")
		if hostile {
			c.tenant("acme").exec(climbs)
		}
		dir := t.TempDir()
		if r := c.run("tenant", "delete", "acme", "--retain", "0", "--backup", dir, "--yes"); r.code != 0 {
			t.Fatalf("delete: %+v", r)
		}
		if n := c.count("SELECT count(*) FROM core_memberships"); n != 0 {
			t.Fatalf("%d memberships outlived the tenant", n)
		}
		made, err := filepath.Glob(filepath.Join(dir, "acme-*"))
		if err != nil || len(made) != 1 {
			t.Fatalf("backups: %v, %v", made, err)
		}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		bin := t.TempDir()
		if err := os.WriteFile(filepath.Join(bin, "tenantgate"), []byte("#!/bin/sh\n"+asProgram+"=1 exec "+self+" \"$@\"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "restored.db")
		env := append([]string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + bin, "BACKUP=" + made[0], "TENANT=acme", "NAME=Acme again", "PLAN=free", "FILE=" + file}, c.environ...)
		engine := "sqlite"
		if admin := strings.TrimPrefix(c.environ[3], "TENANTGATE_PROVISIONING_ADMIN_URL="); strings.HasPrefix(admin, "postgresql") {
			u, err := url.Parse(admin)
			if err != nil {
				t.Fatal(err)
			}
			password, _ := u.User.Password()
			engine = "postgresql"
			env = append(env, "PGHOST="+u.Hostname(), "PGPORT="+u.Port(), "PGUSER="+u.User.Username(), "PGPASSWORD="+password, "PGDATABASE="+u.Path[1:], "DATABASE=acme_restored")
			t.Cleanup(func() {
				pgtest.Exec(t, admin, "DROP DATABASE IF EXISTS acme_restored")
				pgtest.Exec(t, admin, "DROP ROLE IF EXISTS acme_restored")
				pgtest.Exec(t, admin, "DROP ROLE IF EXISTS climbed")
			})
		}
		cmd := exec.CommandContext(t.Context(), "bash", "-eu", "-c", docBlock(t, "restore-"+engine)+docBlock(t, "restore-common"))
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if hostile && c.tenant("acme").count("SELECT count(*) FROM pg_roles WHERE rolname = 'climbed'") != 0 {
			t.Error("what the tenant had written ran with the administrator's rights")
		}
		if n := c.tenant("acme").count("SELECT count(*) FROM notes WHERE note = 'it''s kept' AND id = 1"); n != 1 {
			t.Error("the tenant's rows are not back")
		}
		for table, want := range map[string]int{"core_memberships WHERE tenant_id = 'acme' AND user_id = 'u1' AND role = 'owner'": 1, "core_subscriptions WHERE tenant_id = 'acme' AND plan_tier = 'pro'": 1, "core_tenants WHERE id = 'acme' AND is_active": 1} {
			if n := c.count("SELECT count(*) FROM " + table); n != want {
				t.Errorf("%s: %d", table, n)
			}
		}
		if d := c.object("domain", "show", "acme-inc"); d["tenant_id"] != "acme" {
			t.Errorf("%v", d)
		}
	})
}

// tenant is a tenant's own database, as its app reaches it.
func (c *cli) tenant(id string) *cli {
	c.t.Helper()
	uri := c.object("tenant", "show", id, "--reveal")["db_url"].(string)
	return &cli{t: c.t, environ: []string{"TENANTGATE_HOST_DATABASE_URL=" + strings.Replace(uri, "sqlite:///", "sqlite:", 1)}, clock: c.clock}
}
