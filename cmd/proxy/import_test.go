package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// load imports a text as a file of that name and returns what the command left.
func (c *cli) load(kind, name, text string, args ...string) result {
	c.t.Helper()
	path := filepath.Join(c.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	r := c.run(append([]string{kind, "import", "--file", path, "--output", "json"}, args...)...)
	r.err = strings.ReplaceAll(r.err, path, name)
	return r
}

func (c *cli) loaded(n int, kind, name, text string) {
	c.t.Helper()
	r := c.load(kind, name, text)
	if r.code != 0 || strings.TrimSpace(r.out) != fmt.Sprintf(`{"imported":%d}`, n) {
		c.t.Fatalf("%s import: exit %d, %s%s", kind, r.code, r.out, r.err)
	}
}

// list returns all rows of a kind.
func (c *cli) list(args ...string) []map[string]any {
	c.t.Helper()
	return items(c.t, decode(c.t, c.ok(append(args, "list", "--limit", "1000", "--output", "json")...)))
}

func TestImportTakesEveryKindInBothForms(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
		c.clock = func() time.Time { return now }
		c.loaded(2, "plan", "plans.csv", "id,tier_level,features\npro,2,\"[\"\"api\"\"]\"\nfree,,\n")
		c.loaded(3, "tenant", "tenants.csv", "\ufeffid,name,db_url,plan_tier,is_active\r\nacme,\"Ac,me \"\"Inc\"\"\",postgresql://a:"+canary+"@db/acme,pro,true\r\n"+
			"\"o'Brien é/..%\n?\",,,,f\r\nglobex,,,,\r\n")
		c.loaded(2, "user", "users", `{"id":"u1","email":"ada@example.com","oauth_id":"g:1","password_hash":"`+canary+`","is_sys_admin":null}`+"\n\n"+
			`  {"id":"Ünïcode id","created_at":"2024-05-06T07:08:09+02:00"}`)
		c.loaded(2, "member", "m.jsonl", `{"user_id":"u1","tenant_id":"acme","role":"owner"}`+"\n"+
			`{"tenant_id":"o'Brien é/..%\n?","user_id":"Ünïcode id","is_active":false,"meta_attributes":"{\"a\":1}"}`+"\n")
		c.loaded(1, "subscription", "s.csv", "tenant_id,status,amount_cents,current_period_end\nacme,active,4900,2027-01-01\n")
		c.loaded(3, "domain", "d.csv", "host,tenant_id,verified\nPortal.Acme.com.,acme,false\nold.acme.com,acme,true\nwidgets,acme,\n")

		tenants := c.list("tenant")
		if len(tenants) != 3 || tenants[1]["plan_tier"] != nil || tenants[1]["name"] != nil || tenants[1]["is_active"] != nil || tenants[0]["name"] != `Ac,me "Inc"` ||
			tenants[0]["created_at"] != "2026-06-01T12:00:00" {
			t.Errorf("tenants: %v", tenants)
		}
		if odd := c.object("tenant", "show", "o'Brien é/..%\n?"); odd["is_active"] != false {
			t.Errorf("an id of any form: %v", odd)
		}
		users := c.list("user")
		if users[0]["is_sys_admin"] != nil || users[1]["is_sys_admin"] != false || users[1]["created_at"] != "2024-05-06T05:08:09" {
			t.Errorf("NULL where it was given, the default where it was not: %v", users)
		}
		if m := c.object("member", "show", "--user", "u1", "--tenant", "acme"); m["role"] != "owner" || m["is_active"] != true || len(m["id"].(string)) != 32 {
			t.Errorf("member: %v", m)
		}
		if s := c.list("subscription")[0]; s["payment_type"] != "subscription" || s["amount_cents"] != float64(4900) || s["current_period_end"] != "2027-01-01T00:00:00" {
			t.Errorf("subscription: %v", s)
		}
		if p := c.object("plan", "show", "free"); p["tier_level"] != nil || p["currency"] != "usd" {
			t.Errorf("plan: %v", p)
		}
		portal := c.object("domain", "show", "portal.acme.com")
		if portal["verified"] != false || portal["kind"] != "host" || len(portal["challenge"].(string)) != 32 ||
			c.object("domain", "show", "old.acme.com")["verified"] != true || c.object("domain", "show", "widgets")["verified"] != true {
			t.Errorf("domain: %v", portal)
		}
		for event, want := range map[string]int{
			"plan.created": 2, "tenant.created": 3, "user.created": 2, "membership.created": 2, "subscription.created": 1, "domain.created": 3,
		} {
			rows := c.audit(event)
			if len(rows) != want || rows[0]["actor_user_id"] != actor() || rows[0]["created_at"] != "2026-06-01T12:00:00" || strings.Contains(encode(t, rows), canary) {
				t.Errorf("%s: %v", event, rows)
			}
		}
		// An imported row's audit row says what a created one's does.
		c.ok("tenant", "create", "--id", "twin", "--name", "T", "--db-url", "postgresql://a:"+canary+"@db/acme")
		created := c.audit("tenant.created")
		c.loaded(1, "tenant", "t.csv", "id,name,db_url\ntwin2,T,postgresql://a:"+canary+"@db/acme\n")
		details := map[string]string{}
		for _, row := range append(created, c.audit("tenant.created")...) {
			details[row["target_id"].(string)] = row["details"].(string)
		}
		if details["twin"] == "" || strings.ReplaceAll(details["twin2"], "twin2", "twin") != details["twin"] {
			t.Errorf("created %s, imported %s", details["twin"], details["twin2"])
		}
	})
}

func TestImportReportsEveryFaultWithItsLineAndImportsNothing(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		c.environ = append(c.environ, "TENANTGATE_TENANTS_BASE_DOMAIN=example.com")
		c.ok("tenant", "create", "--id", "acme")
		c.ok("user", "create", "--id", "u1", "--oauth-id", "g:1")
		c.ok("user", "create", "--id", "u2")
		c.ok("member", "create", "--user", "u1", "--tenant", "acme")
		c.ok("domain", "create", "slug", "--tenant", "acme")
		before := len(c.list("audit"))
		for _, f := range []struct {
			kind, file, text string
			want             []string
		}{
			{"member", "m.csv", "id,user_id,tenant_id,is_active\na,u2,acme,true\nb,nobody,acme,true\na,u2,nowhere,maybe\nd,u1,acme,true\ne,u2,acme,true\nf,,acme,\nu,v\n", []string{
				`m.csv:3: user_id: there is no user "nobody"`, "m.csv:4:14: is_active: want true or false", "m.csv:5: user_id: there is an active membership of u1 in acme already",
				"m.csv:6: user_id: the active membership of u2 in acme stands in the file twice", "m.csv:7:3: user_id: must not be empty", "m.csv:8:1: the row does not have as many fields",
			}},
			{"member", "m.jsonl", `{"user_id":"u2"}` + "\n" + `{"user_id":"u2","tenant_id":5}` + "\n" + `{"user_id":"u2","tenant_id":"nowhere"}`, []string{
				"m.jsonl:1: tenant_id: the column is needed", "m.jsonl:2:29: tenant_id: want a string", `m.jsonl:3: tenant_id: there is no tenant "nowhere"`,
			}},
			{"tenant", "t.csv", "id,db_url,plan\na,,\n", []string{"t.csv:1:11: plan: no such column: want some of id, name"}},
			{"tenant", "t.csv", "id,name,id\na,,\n", []string{"t.csv:1:9: id: the column stands in the header twice"}},
			{"tenant", "t.csv", "", []string{"t.csv:1: the file is empty"}},
			{"tenant", "t.csv", "id\na\n\"b\n", []string{"t.csv:3"}},
			{"tenant", "t.csv", "id,db_url\nacme,\nslug,\nx,\nx,\n\"\",\ny," + canary + "\n", []string{
				`t.csv:2: id: "acme" is taken`, `t.csv:3: id: a slug is "slug"`, `t.csv:5: id: "x" stands in the file twice`, "t.csv:6:1: id: must not be empty",
				"t.csv:7:3: db_url: want a database URI",
			}},
			{"user", "u.jsonl", `{"id":"a","oauth_id":"g:1"}` + "\n" + `{"id":"b","oauth_id":"g:2"}` + "\n" + `{"id":"c","oauth_id":"g:2"}` + "\n" + `{"id":"d","oauth_id":"","is_sys_admin":"true"}`, []string{
				`u.jsonl:1: oauth_id: another user has "g:1"`, `u.jsonl:3: oauth_id: "g:2" stands in the file twice`, "u.jsonl:4:40: is_sys_admin: want true or false",
			}},
			{"user", "u.jsonl", `{"id":"a","id":"b"}` + "\n[]\n" + `{"email":{}}` + "\n" + `{"id":"a"} {}` + "\n{\"id\":\"a\"\n" + `{"mail":"x"}` + "\n" + `{"id":"a\u0000"}`, []string{
				"u.jsonl:1:10: id: the column stands in the row twice", "u.jsonl:2:1: want one JSON object a line", "u.jsonl:3:10: email: want a string", "u.jsonl:4:11: want one JSON object a line",
				"u.jsonl:5:10: no valid JSON", "u.jsonl:6:2: mail: no such column", "u.jsonl:7: user: id: text must be UTF-8 without NUL",
			}},
			{"user", "users", " [\n" + `{"id":"a"}]`, []string{"users:1:1: want one JSON object a line", "users:2:11: want one JSON object a line"}},
			{"plan", "p.csv", "id,tier_level,features\na,two,\nb,3000000000,\nc,,{}\n", []string{
				"p.csv:2:3: tier_level: want a whole number", "p.csv:3: plan: tier_level: number must fit", "p.csv:4:4: features: want a JSON array",
			}},
			{"plan", "p.jsonl", `{"id":"a","tier_level":1.5}` + "\n" + `{"id":"b","tier_level":"1"}`, []string{"p.jsonl:1:24: tier_level: want a whole", "p.jsonl:2:24: tier_level: want a whole"}},
			{"subscription", "s.csv", "status\nactive\n", []string{"s.csv:2: tenant_id: the column is needed"}},
			{"subscription", "s.csv", "tenant_id,trial_end\nnowhere,2026-01-01\nacme,soon\n", []string{`s.csv:2: tenant_id: there is no tenant "nowhere"`, "s.csv:3:6: trial_end: want a time"}},
			{"domain", "d.csv", "host,tenant_id,kind\nacme,acme,slug\nx.example.com,acme,host\n192.0.2.1,acme,host\na.b,nowhere,host\nPortal.org,acme,slug\nslug,acme,slug\n", []string{
				`d.csv:2: host: a tenant's id is "acme"`, "d.csv:3: conflict: names under example.com", "d.csv:4:1: host: an IP address", `d.csv:5: tenant_id: there is no tenant`,
				"d.csv:6: a slug has no dot", `d.csv:7: host: "slug" is taken`,
			}},
		} {
			r := c.load(f.kind, f.file, f.text)
			lines := strings.Split(strings.TrimSpace(r.err), "\n")
			if last := len(lines) - 1; last > 0 && strings.HasSuffix(lines[last], "nothing was imported") {
				lines = lines[:last]
			}
			ok := r.code == 1 && r.out == "" && len(lines) == len(f.want) && !strings.Contains(r.err, canary)
			for i := range f.want {
				ok = ok && strings.HasPrefix(lines[i], linePrefix+f.want[i])
			}
			if !ok {
				t.Errorf("%s %q: exit %d\n%s\nwant\n%s", f.kind, f.text, r.code, r.err, strings.Join(f.want, "\n"))
			}
		}
		var many strings.Builder
		many.WriteString("user_id,tenant_id\n")
		for range 3000 {
			many.WriteString("nobody,acme\n")
		}
		r := c.load("member", "many.csv", many.String())
		if n := strings.Count(r.err, "no user"); r.code != 1 || n != 20 || !strings.Contains(r.err, "there are more faults") {
			t.Errorf("3000 faults: %d are told", n)
		}
		if n := len(c.list("audit")); n != before || len(c.list("tenant")) != 1 || len(c.list("user")) != 2 || len(c.list("member")) != 1 {
			t.Errorf("something was imported: %d audit rows, %d before", n, before)
		}
	})
}

func TestImportReadsStandardInputAndTriesWithoutImporting(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		for _, text := range []string{"id\na\n", "\n {\"id\":\"b\"}\n"} {
			if r := c.feed(text, "tenant", "import", "--file", "-", "--output", "json"); r.code != 0 || r.out != "{\"imported\":1}\n" {
				t.Errorf("%q: %+v", text, r)
			}
		}
		if r := c.feed("id\nc\nd\n", "tenant", "import", "--file", "-", "--dry-run", "--output", "json"); r.code != 0 || r.out != "{\"imported\":0,\"would_import\":2}\n" {
			t.Errorf("dry run: %+v", r)
		}
		r := c.feed("id\na\n", "tenant", "import", "--file", "-", "--dry-run")
		if r.code != 1 || !strings.Contains(r.err, `standard input:2: id: "a" is taken`) {
			t.Errorf("dry run of a fault: %+v", r)
		}
		if n := len(c.list("tenant")); n != 2 {
			t.Errorf("%d tenants", n)
		}
		if r := c.feed("id\n", "tenant", "import", "--file", "-"); r.code != 0 {
			t.Errorf("no rows: %+v", r)
		}
		c.fails(2, "needs --file", "tenant", "import")
		c.fails(1, "no such file", "tenant", "import", "--file", filepath.Join(t.TempDir(), "none.csv"))
	})
}

func TestImportBoundsItsMemory(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	long := strings.Repeat("x", 3<<20)
	for name, text := range map[string]string{"t.csv": "id,name\na,\"" + long, "t.jsonl": `{"id":"` + long} {
		if r := c.load("tenant", name, text); r.code != 1 || !strings.Contains(r.err, "more than 1048576 bytes") || len(r.err) > 400 {
			t.Errorf("%s: exit %d, %.300s", name, r.code, r.err)
		}
	}
}

// A process that is killed at any moment has imported everything or nothing.
func TestImportIsWholeHoweverItEnds(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		c.ok("migrate")
		dir := t.TempDir()
		const rows = 6000
		whole, none := 0, 0
		took := 2 * time.Second
		for round := range 5 {
			prefix := fmt.Sprintf("r%d-", round)
			var text strings.Builder
			text.WriteString("id,name\n")
			for i := range rows {
				fmt.Fprintf(&text, "%s%d,n\n", prefix, i)
			}
			write(t, filepath.Join(dir, "t.csv"), text.String())
			cmd, _, errs := process(t, dir, c.environ, "tenant", "import", "--file", "t.csv")
			start := time.Now()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if round == 0 { // is let run, to know when the others end
				if err := cmd.Wait(); err != nil {
					t.Fatalf("%v: %s", err, errs)
				}
				took = time.Since(start)
			} else {
				kill := time.AfterFunc(took/5+rand.N(took), func() { _ = cmd.Process.Kill() })
				_ = cmd.Wait() // killed, or done before
				kill.Stop()
			}
			n := c.count("SELECT count(*) FROM core_tenants WHERE id LIKE '" + prefix + "%'")
			audited := c.count("SELECT count(*) FROM sys_audit_logs WHERE target_id LIKE '" + prefix + "%'")
			if n != 0 && n != rows || audited != n {
				t.Fatalf("round %d: %d rows and %d audit rows of %d", round, n, audited, rows)
			}
			if n == 0 {
				none++
			} else {
				whole++
			}
		}
		t.Logf("%d imports were whole, %d left nothing", whole, none)
		c.ok("tenant", "create", "--id", "after") // nothing is left locked
	})
}

// Two processes at once: one active membership (FIELD: the same pair twice).
func TestTwoMemberCreatesAtOnceMakeOneMembership(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		c.ok("user", "create", "--id", "u1")
		for i := range 3 {
			tenant := fmt.Sprint("t", i)
			c.ok("tenant", "create", "--id", tenant)
			dir := t.TempDir()
			codes := make([]int, 2)
			texts := make([]string, 2)
			var wg sync.WaitGroup
			for j := range codes {
				wg.Go(func() {
					cmd, out, errs := process(t, dir, c.environ, "member", "create", "--user", "u1", "--tenant", tenant)
					_ = cmd.Run()
					codes[j], texts[j] = cmd.ProcessState.ExitCode(), out.String()+errs.String()
				})
			}
			wg.Wait()
			if codes[0]+codes[1] != 1 || !strings.Contains(texts[0]+texts[1], "active membership of that tenant already") {
				t.Errorf("exits %v: %q", codes, texts)
			}
			if n := c.count("SELECT count(*) FROM core_memberships WHERE is_active AND tenant_id = '" + tenant + "'"); n != 1 {
				t.Errorf("%d active memberships", n)
			}
		}
	})
}
