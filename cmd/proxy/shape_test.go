package main

import (
	"slices"
	"testing"
)

// Every list of every kind is {"items":[…],"next":"…"}, and every row has the columns' names as its keys.
func TestListsHaveOneShape(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		c.ok("tenant", "create", "--id", "acme")
		c.ok("user", "create", "--id", "u1")
		c.ok("member", "create", "--user", "u1", "--tenant", "acme")
		c.ok("plan", "create", "--id", "pro")
		c.ok("subscription", "create", "--tenant", "acme")
		c.ok("domain", "create", "portal.acme.com", "--tenant", "acme")
		signIn(t, c, "u1", "0123456789abcdef0123456789abcdef")
		c.exec("INSERT INTO sys_jobs (id) VALUES ('j1')")
		for kind, columns := range map[string][]string{
			"tenant": append(tenants(nil).names(), tenantStateNames()...), "user": users().names(), "member": members().names(), "plan": plans().names(),
			"subscription": subscriptions().names(), "domain": domains().names(), "session": sessionColumns(), "job": append(jobs().names(), jobRunNames()...),
		} {
			rows := c.list(kind)
			if len(rows) != 1 {
				t.Errorf("%s: %v", kind, rows)
				continue
			}
			for _, column := range columns {
				if _, ok := rows[0][column]; !ok {
					t.Errorf("%s: a row lacks %s: %v", kind, column, rows[0])
				}
			}
			if len(rows[0]) != len(columns) || slices.Contains(columns, "password_hash") {
				t.Errorf("%s: a row has %v, want %v", kind, rows[0], columns)
			}
		}
	})
}
