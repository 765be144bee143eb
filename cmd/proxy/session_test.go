package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// signIn puts sessions of a user into the host database, as sign-ins would.
func signIn(t *testing.T, c *cli, user string, ids ...string) {
	t.Helper()
	host, err := catalog.Open(t.Context(), strings.TrimPrefix(c.environ[0], "TENANTGATE_HOST_DATABASE_URL="))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	}()
	now := time.Now()
	for i, id := range ids {
		at := catalog.Timestamp(now.Add(time.Duration(i) * time.Second))
		err := host.Sessions.Insert(t.Context(), &catalog.Session{
			ID: catalog.SessionID(id), UserID: catalog.UserID(user), Host: "app.example.com", Provider: "idp", Subject: "s",
			MAC: canary, IDToken: canary, CreatedAt: at, ExpiresAt: catalog.Timestamp(now.Add(time.Hour)), LastSeen: at,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// signInOn puts the sessions of one sign-in on several hosts into the host database.
func signInOn(t *testing.T, c *cli, user, signIn string, hosts ...string) {
	t.Helper()
	host, err := catalog.Open(t.Context(), strings.TrimPrefix(c.environ[0], "TENANTGATE_HOST_DATABASE_URL="))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range hosts {
		now := time.Now()
		err = errors.Join(err, host.Sessions.Insert(t.Context(), &catalog.Session{
			ID: catalog.SessionID(fmt.Sprintf("%032d", 100+i)), UserID: catalog.UserID(user), Host: name, MAC: canary, SignIn: signIn,
			CreatedAt: catalog.Timestamp(now), ExpiresAt: catalog.Timestamp(now.Add(time.Hour)),
		}))
	}
	if err := errors.Join(err, host.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestSessionsAreListedShownAndRevoked(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		c.ok("user", "create", "--id", "u1", "--email", "ada@example.com")
		c.ok("user", "create", "--id", "u2", "--email", "bob@example.com")
		var ids []string
		for i := range 3 {
			ids = append(ids, fmt.Sprintf("%032d", i))
		}
		signIn(t, c, "u1", ids...)
		signIn(t, c, "u2", strings.Repeat("f", 32))

		first := decode(t, c.ok("session", "list", "--user", "ada@example.com", "--limit", "2", "--output", "json"))
		rows := items(t, first)
		if len(rows) != 2 || rows[0]["id"] != ids[2] || first["next"] != ids[1] {
			t.Fatalf("newest first: %v", first)
		}
		rest := decode(t, c.ok("session", "list", "--user", "u1", "--after", ids[1], "--output", "json"))
		if rows := items(t, rest); len(rows) != 1 || rows[0]["id"] != ids[0] || rest["next"] != "" {
			t.Errorf("the rest: %v", rest)
		}
		shown := c.ok("session", "show", ids[0]) + c.ok("session", "show", ids[0], "--output", "json") + c.ok("session", "list", "--user", "u1")
		if strings.Contains(shown, canary) || !strings.Contains(shown, "app.example.com") {
			t.Errorf("shown: %s", shown)
		}
		if got := c.object("session", "revoke", ids[0]); got["user_id"] != "u1" || got["revoked"] != float64(1) || got["hosts"] != "app.example.com" {
			t.Errorf("%v", got)
		}
		c.fails(1, "not found", "session", "revoke", ids[0])
		c.fails(1, "not found", "session", "show", ids[0])
		c.fails(1, "is gone", "session", "list", "--user", "u1", "--after", ids[0])
		if got := c.object("session", "revoke", "--user", "ada@example.com"); got["revoked"] != float64(2) {
			t.Errorf("%v", got)
		}
		if rows := items(t, decode(t, c.ok("session", "list", "--user", "u2", "--output", "json"))); len(rows) != 1 {
			t.Errorf("another user's sessions: %v", rows)
		}
		c.ok("user", "block", "bob@example.com")
		if rows := items(t, decode(t, c.ok("session", "list", "--user", "u2", "--output", "json"))); len(rows) != 0 {
			t.Errorf("blocked, with sessions: %v", rows)
		}
		signInOn(t, c, "u2", "shared", "app.example.com", "acme.app.example.com")
		list := items(t, decode(t, c.ok("session", "list", "--user", "u2", "--output", "json")))
		if len(list) != 2 || list[0]["sign_in"] != "shared" || list[1]["sign_in"] != "shared" {
			t.Fatalf("%v", list)
		}
		if got := c.object("session", "revoke", list[0]["id"].(string)); got["revoked"] != float64(2) || got["hosts"] != "acme.app.example.com app.example.com" {
			t.Errorf("one session of a sign-in on two hosts: %v", got)
		}
		if n := len(c.audit("session.revoked")); n != 3 {
			t.Errorf("%d audit rows", n)
		}
		signIn(t, c, "u1", ids...)
		signIn(t, c, "u2", strings.Repeat("e", 32))
		var seen []string
		for after, more := "", true; more; {
			args := []string{"session", "list", "--limit", "3", "--output", "json"}
			if after != "" {
				args = append(args, "--after", after)
			}
			page := decode(t, c.ok(args...))
			for _, row := range items(t, page) {
				seen = append(seen, row["id"].(string))
			}
			after = page["next"].(string)
			more = after != ""
		}
		slices.Sort(seen)
		if want := append(slices.Clone(ids), strings.Repeat("e", 32)); !slices.Equal(seen, want) {
			t.Errorf("everybody's sessions: %v, want %v", seen, want)
		}
		c.fails(1, "not the `next`", "session", "list", "--after", ids[0])
	})
}
