package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTokensAreMadeShownAndRevoked(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
		c.clock = func() time.Time { return now }
		c.environ = append(c.environ, "TENANTGATE_SECRET_KEY="+masterSecret)
		c.ok("user", "create", "--id", "u1", "--email", "ada@example.com")
		c.ok("tenant", "create", "--id", "acme")
		printed := c.ok("token", "create", "--user", "ada@example.com", "--tenant", "acme", "--name", "deploy")
		token, ok := strings.CutSuffix(printed, "\n")
		if !ok || !strings.HasPrefix(token, "tg_") || strings.ContainsAny(token, " \n") {
			t.Fatal("the token is not printed alone")
		}
		admin := strings.TrimSpace(c.ok("token", "create", "--admin", "--expires-in", "12h"))
		if !strings.HasPrefix(admin, "tga_") {
			t.Fatal("no admin token")
		}
		made := c.object("token", "create", "--user", "u1", "--expires-in", "0")
		if s, _ := made["token"].(string); !strings.HasPrefix(s, "tg_") || made["expires_at"] != nil || made["tenant_id"] != nil || made["user_id"] != "u1" || made["mac"] != nil {
			t.Errorf("as JSON: %d columns", len(made))
		}
		list := c.ok("token", "list", "--output", "json")
		rows := items(t, decode(t, list))
		if len(rows) != 3 {
			t.Fatalf("%d rows", len(rows))
		}
		i := slices.IndexFunc(rows, func(r map[string]any) bool { return r["name"] == "deploy" })
		row := rows[max(i, 0)]
		if row["kind"] != "user" || row["user_id"] != "u1" || row["tenant_id"] != "acme" || row["expires_at"] != "2026-08-30T12:00:00" || row["last_used"] != nil ||
			!strings.HasPrefix(row["created_by"].(string), "cli:") {
			t.Errorf("%v", row)
		}
		id := row["id"].(string)
		if got := items(t, decode(t, c.ok("token", "list", "--kind", "admin", "--output", "json"))); len(got) != 1 || got[0]["user_id"] != nil || got[0]["expires_at"] != "2026-06-02T00:00:00" {
			t.Errorf("admin tokens: %v", got)
		}
		if got := items(t, decode(t, c.ok("token", "list", "--user", "ada@example.com", "--tenant", "acme", "--output", "json"))); len(got) != 1 || got[0]["id"] != id {
			t.Errorf("filtered: %v", got)
		}
		if got := c.object("token", "update", id, "--name", "ci"); got["name"] != "ci" {
			t.Errorf("renamed: %v", got)
		}
		told := list + c.ok("token", "show", id) + c.ok("token", "list") + c.ok("audit", "list", "--output", "json")
		for _, secret := range []string{token, admin, made["token"].(string)} {
			if strings.Contains(told, secret[len(secret)-40:]) {
				t.Error("a token is shown again")
			}
		}
		c.ok("token", "revoke", id, "--yes")
		c.fails(1, "not found", "token", "show", id)
		c.fails(1, "not found", "token", "delete", id)
		if got := c.ok("user", "block", "u1"); !strings.Contains(got, "blocked") || len(items(t, decode(t, c.ok("token", "list", "--user", "u1", "--output", "json")))) != 0 {
			t.Error("a block leaves tokens")
		}
		c.fails(1, "no such user", "token", "create", "--user", "u1")
		c.fails(1, "not found", "token", "create", "--user", "nobody@example.com")
		c.fails(1, "not found", "token", "create", "--user", "u1", "--tenant", "nowhere")
		for _, line := range []string{
			"--admin --user u1", "--admin --tenant acme", "--user u1 --expires-in 90", "--user u1 --expires-in -1h", "--user u1 --expires-at yesterday",
			"--user u1 --expires-at 2026-06-01T12:00:00", "--user u1 --expires-in 1h --expires-at 2027-01-01", "--tenant acme", "",
		} {
			c.fails(2, "tenantgate: ", append([]string{"token", "create"}, strings.Fields(line)...)...)
		}
	})
}

func TestTokenIsNotMadeWithoutTheMasterSecret(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	c.ok("user", "create", "--id", "u1")
	c.fails(2, "secret_key", "token", "create", "--user", "u1")
	c.environ = append(c.environ, "TENANTGATE_SECRET_KEY="+masterSecret)
	c.ok("token", "create", "--user", "u1")
	c.environ[len(c.environ)-1] = "TENANTGATE_SECRET_KEY=" + strings.ReplaceAll(masterSecret, "MDEy", "OTEy")
	c.fails(1, "put the line it was sealed under back", "token", "create", "--user", "u1")
}
