package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRowsAreCreatedShownChangedListedAndDeleted(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		for _, k := range []struct {
			kind   string
			create []string
			name   []string // what names the row afterwards
			update []string
			column string
			want   any
		}{
			{"tenant", []string{"--id", "acme", "--name", "Acme", "--db-url", "postgresql://a:b@db/acme", "--plan-tier", "pro", "--is-active"}, []string{"acme"}, []string{"--plan-tier", "basic"}, "plan_tier", "basic"},
			{"user", []string{"--email", "Ada@Example.com", "--oauth-id", "google:1", "--stripe-cust-id", "cus_1"}, []string{"ada@example.COM"}, []string{"--is-sys-admin", "true"}, "is_sys_admin", true},
			{"member", []string{"--user", "ada@example.com", "--tenant", "acme", "--role", "owner", "--profile-id", "7", "--meta-attributes", `{"a":1}`}, []string{"--user", "(its user)", "--tenant", "acme"}, []string{"--role", "admin"}, "role", "admin"},
			{"plan", []string{"--id", "pro", "--name", "Pro", "--amount-monthly", "4900", "--currency", "eur", "--features", `["x"]`, "--tier-level", "2"}, []string{"pro"}, []string{"--sort-order", "-3"}, "sort_order", float64(-3)},
			{"subscription", []string{"--id", "s1", "--tenant", "acme", "--status", "active", "--current-period-end", "2027-01-02T03:04:05.5+02:00"}, []string{"s1"}, []string{"--cancel-at-period-end"}, "cancel_at_period_end", true},
			{"domain", []string{"Portal.Acme.com.", "--tenant", "acme"}, []string{"portal.acme.com"}, []string{"--tenant", "acme"}, "tenant_id", "acme"},
		} {
			made := c.object(append([]string{k.kind, "create"}, k.create...)...)
			name := slices.Clone(k.name)
			if k.kind == "member" {
				name[1] = made["user_id"].(string)
			}
			shown := c.object(append([]string{k.kind, "show"}, name...)...)
			if a, b := encode(t, made), encode(t, shown); a != b {
				t.Errorf("%s: created %s, shown %s", k.kind, a, b)
			}
			changed := c.object(slices.Concat([]string{k.kind, "update"}, name, k.update)...)
			if changed[k.column] != k.want {
				t.Errorf("%s: %s is %v after update, want %v", k.kind, k.column, changed[k.column], k.want)
			}
			list := items(t, decode(t, c.ok(k.kind, "list", "--output", "json")))
			if len(list) != 1 || encode(t, list[0]) != encode(t, changed) {
				t.Errorf("%s: listed %v, want %v", k.kind, list, changed)
			}
			if out := c.ok(append([]string{k.kind, "show"}, name...)...); !strings.Contains(out, k.column) {
				t.Errorf("%s as table: %s", k.kind, out)
			}
		}
		if end := c.object("subscription", "show", "s1")["current_period_end"]; end != "2027-01-02T01:04:05.500000" {
			t.Errorf("a time with a zone is stored as %v", end)
		}
		deleteAll(t, c)
	})
}

func deleteAll(t *testing.T, c *cli) {
	t.Helper()
	user := c.object("user", "show", "ada@example.com")["id"].(string)
	for _, line := range [][]string{
		{"domain", "delete", "PORTAL.acme.com"},
		{"subscription", "delete", "s1"},
		{"plan", "delete", "pro", "--yes"},
		{"member", "delete", "--user", user, "--tenant", "acme"},
		{"user", "delete", "ada@example.com"},
	} {
		c.object(line...)
		if n := len(items(t, decode(t, c.ok(line[0], "list", "--output", "json")))); n != 0 {
			t.Errorf("%s: %d rows are left", line[0], n)
		}
		r := c.run(line...)
		c.failed(r, 1, "not found", line...)
	}
}

func encode(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// audit returns the rows of an event, as actor and details.
func (c *cli) audit(event string) []map[string]any {
	c.t.Helper()
	return items(c.t, decode(c.t, c.ok("audit", "list", "--event-type", event, "--limit", "1000", "--output", "json")))
}

func TestEveryChangeIsAuditedUnderTheOperatorsName(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		c.ok("tenant", "create", "--id", "acme", "--name", "Acme")
		c.ok("tenant", "update", "acme", "--name", "Acme 2")
		c.ok("user", "create", "--id", "u1", "--email", "ada@example.com")
		c.ok("member", "create", "--user", "u1", "--tenant", "acme")
		c.ok("user", "block", "u1", "--reason", "laptop stolen")
		c.ok("user", "unblock", "u1")
		c.ok("session", "revoke", "--user", "u1")
		c.ok("tenant", "delete", "acme", "--yes")
		c.ok("user", "delete", "u1")
		for event, want := range map[string]int{
			"tenant.created": 1, "tenant.updated": 2, "tenant.delete_requested": 1, "user.created": 1, "membership.created": 1,
			"session.revoked": 1, "user.deleted": 1,
		} {
			rows := c.audit(event)
			if len(rows) != want {
				t.Errorf("%s: %d rows, want %d", event, len(rows), want)
			}
			for _, row := range rows {
				if row["actor_user_id"] != actor() {
					t.Errorf("%s by %v, want %s", event, row["actor_user_id"], actor())
				}
				decode(t, row["details"].(string))
			}
		}
		blocked := 0
		for _, row := range items(t, decode(t, c.ok("audit", "list", "--target-id", "u1", "--output", "json"))) {
			if strings.Contains(row["event_type"].(string), "block") {
				blocked++
			}
		}
		if blocked != 2 {
			t.Errorf("%d audit rows of block and unblock", blocked)
		}
	})
}

func TestFailedChangeLeavesNothing(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	c.ok("tenant", "create", "--id", "acme")
	c.fails(1, "conflict", "tenant", "create", "--id", "acme", "--name", "Other")
	c.fails(1, "not found", "member", "create", "--user", "nobody@example.com", "--tenant", "acme")
	c.fails(1, "not found", "subscription", "create", "--tenant", "nowhere")
	c.fails(1, "not found", "tenant", "update", "nowhere", "--name", "x")
	c.fails(1, "not found", "domain", "create", "x.example.com", "--tenant", "nowhere")
	c.ok("user", "create", "--id", "u1", "--email", "ada@example.com")
	c.ok("member", "create", "--user", "u1", "--tenant", "acme")
	c.fails(1, "conflict", "member", "create", "--user", "u1", "--tenant", "acme")
	c.fails(1, "is not blocked", "user", "unblock", "u1")
	rows := items(t, decode(t, c.ok("audit", "list", "--output", "json")))
	if len(rows) != 3 {
		t.Errorf("%d audit rows for three changes: %v", len(rows), rows)
	}
}

func TestPasswordsShowOnlyWhereAskedForAndThatIsAudited(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		url := "postgresql://acme:" + canary + "@db:5432/acme"
		out := c.ok("tenant", "create", "--id", "acme", "--db-url", url)
		out += c.ok("tenant", "create", "--id", "globex", "--db-url", url, "--output", "json")
		for _, args := range [][]string{
			{"tenant", "list"},
			{"tenant", "list", "--output", "json"},
			{"tenant", "show", "acme"},
			{"tenant", "update", "acme", "--name", "A"},
			{"tenant", "suspend", "acme"},
			{"tenant", "resume", "acme"},
			{"tenant", "delete", "globex", "--yes"},
			{"audit", "list"},
			{"audit", "list", "--output", "json"},
			{"migrate", "--check"},
		} {
			out += c.ok(args...)
		}
		if strings.Contains(out, canary) {
			t.Fatalf("the password shows in %s", out)
		}
		if !strings.Contains(out, "postgresql://acme:***@db:5432/acme") {
			t.Error("the redacted form does not show")
		}
		if n := len(c.audit("tenant.revealed")); n != 0 {
			t.Fatalf("%d reveals before the first", n)
		}
		if got := c.object("tenant", "show", "acme", "--reveal")["db_url"]; got != url {
			t.Errorf("revealed as %v", got)
		}
		if got := c.ok("tenant", "list", "--reveal"); strings.Count(got, canary) != 2 {
			t.Errorf("revealed list: %s", got)
		}
		rows := c.audit("tenant.revealed")
		if len(rows) != 3 || rows[0]["actor_user_id"] != actor() || strings.Contains(encode(t, rows), canary) {
			t.Errorf("audit of reveals: %v", rows)
		}
	})
}

// LEAK-3
func TestNoErrorRepeatsASecret(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte("not a uri "+canary), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"tenant", "create", "--db-url", canary},
		{"tenant", "create", "--db-url", "postgresql://a:" + canary + " x@db/acme"},
		{"tenant", "create", "--db-url", "enc:v1:" + canary},
		{"tenant", "create", "--db-url", "ref:vault:" + canary},
		{"tenant", "create", "--db-url", "postgresql://a:" + canary + "@db/a", "--db-url-file", file},
		{"tenant", "create", "--db-url-file", file},
		{"tenant", "create", "postgresql://a:" + canary + "@db/a"},
		{"tenant", "postgresql://a:" + canary + "@db/a"},
		{"postgresql://a:" + canary + "@db/a"},
		{"tenant", "show", "a", "postgresql://a:" + canary + "@db/a"},
	} {
		r := c.run(args...)
		if r.code == 0 || strings.Contains(r.out+r.err, canary) {
			t.Errorf("%q: exit %d, %s%s", args, r.code, r.out, r.err)
		}
	}
	for _, url := range []string{
		"postgresql://tg:" + canary + "@127.0.0.1:1/x", "postgresql://tg:" + canary + "%zz@127.0.0.1/x", "postgresql://tg:" + canary + "@127.0.0.1:port/x",
		"mysql://tg:" + canary + "@127.0.0.1/x", canary, "postgresql://127.0.0.1:1/x?password=" + canary,
	} {
		bad := newCLI(t, url)
		for _, args := range [][]string{{"tenant", "list"}, {"migrate"}, {"migrate", "--check"}, {"config", "print"}, {"serve"}} {
			r := bad.run(args...)
			if r.code == 0 || strings.Contains(r.out+r.err, canary) {
				t.Errorf("%s with %q: exit %d, %s%s", url, args, r.code, r.out, r.err)
			}
		}
	}
}

func TestSecretsComeFromFilesAndStandardInput(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	url := "postgresql://acme:" + canary + "@db/acme"
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte(url+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := c.feed(url+"\r\n", "tenant", "create", "--id", "stdin", "--db-url-file", "-"); r.code != 0 {
		t.Fatal(r.err)
	}
	c.ok("tenant", "create", "--id", "file", "--db-url-file", file)
	for _, id := range []string{"stdin", "file"} {
		if got := c.object("tenant", "show", id, "--reveal")["db_url"]; got != url {
			t.Errorf("%s: %v", id, got)
		}
	}
	c.fails(1, "--db-url-file", "tenant", "create", "--db-url-file", filepath.Join(t.TempDir(), "none"))
	if r := c.feed(strings.Repeat("x", maxSecretFile+1), "tenant", "create", "--db-url-file", "-"); r.code != 1 {
		t.Errorf("an endless secret: %+v", r)
	}
	empty := []string{"tenant", "update", "stdin", "--db-url-file", "-"}
	c.failed(c.feed("\n", empty...), 1, "holds nothing; to clear the column give --db-url ''", empty...)
	if got := c.object("tenant", "show", "stdin", "--reveal")["db_url"]; got != url {
		t.Errorf("after an empty file: %v", got)
	}
	if got := c.object("tenant", "update", "stdin", "--db-url", "")["db_url"]; got != nil {
		t.Errorf("cleared: %v", got)
	}
}

func TestTenantDeleteSuspendsOnceItsNameIsTyped(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	c.ok("tenant", "create", "--id", "acme", "--name", "Acme GmbH")
	c.ok("tenant", "create", "--id", "nameless")
	for _, typed := range []string{"", "\n", "acme\n", "acme gmbh\n", "yes\n"} {
		r := c.feed(typed, "tenant", "delete", "acme")
		if r.code != 1 || r.out != "" || !strings.Contains(r.err, "Acme GmbH") || !strings.Contains(r.err, "unchanged") {
			t.Errorf("typed %q: %+v", typed, r)
		}
	}
	if c.object("tenant", "show", "acme")["is_active"] != true {
		t.Fatal("suspended without its name")
	}
	for id, typed := range map[string]string{"acme": "Acme GmbH\n", "nameless": "nameless"} {
		if r := c.feed(typed, "tenant", "delete", id); r.code != 0 {
			t.Errorf("%s: %+v", id, r)
		}
		if c.object("tenant", "show", id)["is_active"] != false {
			t.Errorf("%s is not suspended, or its row is gone", id)
		}
	}
}

func TestNamesThatFitSeveralRowsAreRefusedWithTheirIDs(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	c.ok("user", "create", "--id", "u1", "--email", "ada@example.com")
	c.ok("user", "create", "--id", "u2", "--email", "ADA@example.com")
	c.ok("tenant", "create", "--id", "acme")
	for _, args := range [][]string{
		{"user", "show", "ada@example.com"}, {"user", "delete", "ada@example.com"}, {"member", "create", "--user", "ada@example.com", "--tenant", "acme"},
	} {
		r := c.run(args...)
		c.failed(r, 1, "u1, u2", args...)
	}
	c.ok("member", "create", "--id", "m1", "--user", "u1", "--tenant", "acme", "--is-active=false")
	c.ok("member", "create", "--id", "m2", "--user", "u1", "--tenant", "acme")
	c.fails(1, "m1, m2", "member", "delete", "--user", "u1", "--tenant", "acme")
	c.ok("member", "delete", "m1")
	if c.object("member", "show", "--user", "u1", "--tenant", "acme")["id"] != "m2" {
		t.Error("the one that is left is not found")
	}
}

func TestSlugNamesItsTenantAndTheIDWins(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	c.ok("tenant", "create", "--id", "T-1", "--name", "One")
	made := c.object("domain", "create", "one", "--tenant", "T-1")
	if made["kind"] != "slug" || made["verified"] != true {
		t.Errorf("slug: %v", made)
	}
	for _, name := range []string{"one", "ONE", "T-1"} {
		if c.object("tenant", "show", name)["id"] != "T-1" {
			t.Errorf("%s names another tenant", name)
		}
	}
	c.fails(1, "conflict", "tenant", "create", "--id", "one")
	host := c.object("domain", "create", "portal.one.example", "--tenant", "one")
	if host["kind"] != "host" || host["verified"] != false || host["tenant_id"] != "T-1" {
		t.Errorf("host: %v", host)
	}
	if c.object("domain", "verify", "portal.one.example", "--confirm")["verified"] != true {
		t.Error("not verified")
	}
}

func TestListsGoOnFromPageToPage(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		c.ok("tenant", "create", "--id", id, "--is-active="+map[bool]string{true: "true", false: "false"}[id < "c"])
	}
	var seen []string
	after := ""
	for range 3 {
		args := []string{"tenant", "list", "--limit", "2", "--output", "json"}
		if after != "" {
			args = append(args, "--after", after)
		}
		page := decode(t, c.ok(args...))
		for _, row := range items(t, page) {
			seen = append(seen, row["id"].(string))
		}
		after = page["next"].(string)
	}
	if strings.Join(seen, "") != "abcde" || after != "" {
		t.Errorf("pages hold %v, then %q", seen, after)
	}
	if out := c.ok("tenant", "list", "--limit", "2"); !strings.HasSuffix(out, "more with --after b\n") {
		t.Errorf("table: %s", out)
	}
	if n := len(items(t, decode(t, c.ok("tenant", "list", "--is-active", "false", "--output", "json")))); n != 3 {
		t.Errorf("%d inactive tenants", n)
	}
	if out := c.ok("domain", "list", "--output", "json"); strings.TrimSpace(out) != `{"items":[],"next":""}` {
		t.Errorf("empty list: %s", out)
	}
}

func TestEmptyValueIsNull(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	c.ok("subscription", "create", "--id", "s1", "--tenant", c.object("tenant", "create")["id"].(string), "--status", "active", "--amount-cents", "5", "--trial-end", "2026-01-01")
	row := c.object("subscription", "update", "s1", "--status", "", "--amount-cents", "", "--trial-end", "", "--cancel-at-period-end=")
	for _, column := range []string{"status", "amount_cents", "trial_end", "cancel_at_period_end"} {
		if v, ok := row[column]; !ok || v != nil {
			t.Errorf("%s is %v", column, v)
		}
	}
}

func TestDatabaseThatCannotBeReachedSaysWhatToDo(t *testing.T) {
	c := newCLI(t, "postgresql://tg:x@127.0.0.1:1/none")
	c.fails(1, "host_database.url", "tenant", "list")
	for _, url := range []string{"postgresql://tg:" + canary + "@db:port/none", "postgresql://tg:" + canary + "@db/none?sslmode=bogus"} {
		c.environ = []string{"TENANTGATE_HOST_DATABASE_URL=" + url}
		c.fails(2, "host_database.url: not understood", "tenant", "list")
	}
	c.environ = []string{"DB_PASS=" + canary, "DB_PORT=port"}
	c.fails(2, "host_database.url: not understood", "tenant", "list")
	c.environ = nil
	c.fails(2, "DB_PASS", "tenant", "list")
	c.environ = []string{"DB_TYPE=ORACLE"}
	c.fails(2, "DB_TYPE", "tenant", "list")
	c.environ = []string{"TENANTGATE_HOST_DATABASE_URL=" + sqliteURL(t), "TENANTGATE_HOST_DATABASE_MIGRATE=false"}
	if r := c.run("tenant", "list"); r.code != 1 || strings.Count(r.err, "run `tenantgate migrate`") != 1 {
		t.Errorf("%+v", r)
	}
	c.ok("migrate")
	c.ok("tenant", "list")
}

func TestAdministrationNeedsNothingButTheHostDatabase(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	c := &cli{t: t, clock: time.Now}
	// Everything else is missing or wrong: no public_url, a secret file that this machine does not have.
	write(t, "config.yaml", "secret_key_file: /nowhere/secret\nidentity: {providers: [{name: x, client_secret_file: /nowhere}]}\nhost_database: {url: \"sqlite:a.db\"}\n")
	write(t, "other.yaml", "host_database: {url: \"sqlite:b.db\"}\n")
	c.ok("tenant", "create", "--id", "acme")
	c.ok("--config", "other.yaml", "tenant", "create", "--id", "globex")
	for file, id := range map[string]string{"config.yaml": "acme", "other.yaml": "globex"} {
		if rows := items(t, decode(t, c.ok("tenant", "list", "--output", "json", "--config", file))); len(rows) != 1 || rows[0]["id"] != id {
			t.Errorf("%s: %v", file, rows)
		}
	}
	c.environ = []string{"TENANTGATE_HOST_DATABASE_URL=sqlite:b.db", "DB_TYPE=SQLITE", "DB_NAME=c"}
	if rows := items(t, decode(t, c.ok("tenant", "list", "--output", "json"))); rows[0]["id"] != "globex" {
		t.Errorf("the environment does not come before the file: %v", rows)
	}
	if err := os.Remove("config.yaml"); err != nil {
		t.Fatal(err)
	}
	c.environ = []string{"DB_TYPE=SQLITE", "DB_NAME=a"}
	if rows := items(t, decode(t, c.ok("tenant", "list", "--output", "json"))); rows[0]["id"] != "acme" {
		t.Errorf("DB_*: %v", rows)
	}
	c.fails(2, "none.yaml", "tenant", "list", "--config", "none.yaml")
	write(t, "broken.yaml", "host_database:\n  url: [\n")
	c.fails(2, "broken.yaml:", "tenant", "list", "--config", "broken.yaml")
	write(t, "unknown.yaml", "host_database:\n  uri: sqlite:x.db\n")
	if r := c.run("tenant", "list", "--config", "unknown.yaml"); r.code != 2 || !strings.Contains(r.err, "unknown.yaml:2:3: host_database.uri") {
		t.Errorf("%+v", r)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
