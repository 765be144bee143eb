package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// Every command that has --output is run with --output json and prints one object: a list is {"items":[…],"next":"…"}.
// The lines are an operator's session; a command that is in none of them fails the test.
func TestEveryCommandPrintsOneObjectAsJSON(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		dir := t.TempDir()
		write := func(name, text string) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		c.environ = append(c.environ, "TENANTGATE_SECRET_KEY="+masterSecret, "TENANTGATE_PUBLIC_URL=https://app.example.com")
		ran := map[string]bool{}
		line := func(text string) map[string]any {
			t.Helper()
			args := strings.Fields(text)
			made := c.object(args...)
			found, _, err := (&program{clock: time.Now}).root().Find(args)
			if err != nil {
				t.Fatal(err)
			}
			ran[found.CommandPath()] = true
			if found.Name() == "list" {
				items(t, made)
			}
			if strings.Contains(string(mustJSON(t, made)), canary) {
				t.Errorf("%q shows a password", text)
			}
			return made
		}
		line("init --dir " + dir)
		line("config check " + write("good.yaml", "public_url: https://app.example.com\nidentity: {providers: [{name: a, issuer: 'https://id.example.com', client_id: x, client_secret: y}]}\n"+
			"upstreams: {app: {urls: ['http://127.0.0.1:3000']}}\nroutes: [{path: /, upstream: app}]\n"))
		line("migrate")
		line("version")
		line("plan create --id pro --tier-level 2")
		line("plan update pro --amount-monthly 4900")
		line("tenant create --id acme --name Acme --plan-tier pro --db-url postgresql://u:" + canary + "@db/acme")
		line("tenant update acme --name Acme2")
		line("user create --id u1 --email ada@example.com")
		c.environ = append(c.environ, "TENANTGATE_PROVISIONING_ENGINE=sqlite", "TENANTGATE_PROVISIONING_ADMIN_URL=sqlite:"+filepath.Join(dir, "tenants"))
		provisioned := c.run(strings.Fields("tenant provision --id born --name Born --plan-tier pro --owner ada@example.com --output json")...)
		if born := decode(t, provisioned.out); provisioned.code != 0 || born["is_active"] != true || born["name"] != "Born" {
			t.Errorf("tenant provision: %+v", provisioned)
		}
		ran["tenantgate tenant provision"] = true
		c.environ = append(c.environ, "TENANTGATE_PROVISIONING_MIGRATIONS_DIR="+filepath.Dir(write("00001_notes.sql", "-- +goose Up\nCREATE TABLE notes (id int);\n")))
		if done := line("tenant migrate born"); done["migrated"] != float64(1) || len(done["items"].([]any)) != 1 {
			t.Errorf("tenant migrate: %v", done)
		}
		if found := line("tenant doctor born"); found["healthy"] != true {
			t.Errorf("tenant doctor: %v", found)
		}
		line("user update ada@example.com --oauth-id o1")
		line("member create --user u1 --tenant acme")
		line("member update --user u1 --tenant acme --role admin")
		sub := line("subscription create --tenant acme --status active --payment-type subscription --plan-tier pro")["id"].(string)
		line("subscription update " + sub + " --status past_due")
		line("domain create acme-inc --tenant acme")
		line("domain create portal.acme.com --tenant acme")
		line("domain verify portal.acme.com --confirm")
		line("domain update portal.acme.com --tenant acme")
		token := line("token create --user u1 --name ci")["id"].(string)
		line("token update " + token + " --name deploy")
		line("key rotate")
		signIn(t, c, "u1", "0123456789abcdef0123456789abcdef")
		c.exec("INSERT INTO sys_jobs (id, job_type, status) VALUES ('j1', 'mail', 'pending')")
		for kind, row := range map[string]string{
			"plan": "pro", "tenant": "acme-inc", "user": "u1", "member": "--user u1 --tenant acme", "subscription": sub, "domain": "portal.acme.com",
			"token": token, "job": "j1", "session": "0123456789abcdef0123456789abcdef",
		} {
			line(kind + " list --limit 5")
			line(kind + " show " + row)
		}
		line("audit list --limit 3")
		c.exec("INSERT INTO sys_jobs (id, job_type, status) VALUES ('j2', 'tenantgate.x', 'pending')")
		line("job cancel j2")
		line("job retry j2")
		line("audit verify")
		line("audit archive --before 2020-01-01 --file " + filepath.Join(dir, "none.jsonl"))
		for _, kind := range []string{"plan", "tenant", "user"} {
			line(kind + " import --file " + write(kind+".jsonl", `{"id":"`+map[string]string{"plan": "basic", "tenant": "t2", "user": "u2"}[kind]+`"}`+"\n"))
		}
		line("member import --file " + write("member.jsonl", `{"user_id":"u2","tenant_id":"t2"}`+"\n"))
		line("subscription import --file " + write("subscription.jsonl", `{"tenant_id":"t2"}`+"\n"))
		line("domain import --file " + write("domain.csv", "host,tenant_id\nt-two,t2\n"))
		line("tenant suspend acme")
		line("tenant resume acme")
		line("tenant pause acme --for 10m --reason move")
		line("tenant unpause acme")
		line("tenant encrypt --all --yes")
		line("key renew")
		c.stripe()
		c.withKey(stripeKey)
		line("plan sync --dry-run")
		line("subscription reconcile --dry-run")
		line("user block u1 --reason lost")
		line("user unblock u1")
		line("session revoke --user u1")
		line("tenant delete acme --yes")
		line("tenant restore acme")
		line("domain delete portal.acme.com")
		line("subscription delete " + sub)
		line("member delete --user u1 --tenant acme")
		line("token delete " + line("token create --user u2")["id"].(string))
		line("user delete u2")
		line("plan delete basic")

		walk((&program{clock: time.Now}).root(), func(cmd *cobra.Command) {
			if cmd.Hidden || cmd.Flags().Lookup("output") == nil || ran[cmd.CommandPath()] {
				return
			}
			switch cmd.CommandPath() {
			case "tenantgate demo", "tenantgate explain": // whole gates: in the tests of serve
			default:
				t.Errorf("%s --output json was not run", cmd.CommandPath())
			}
		})
	})
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
