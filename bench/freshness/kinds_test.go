package freshness

import (
	"strings"
	"testing"
)

// kind is something that can change, between two states that an answer tells apart.
type kind struct {
	name    string
	path    string
	foreign bool // also made by a role with rights on the eight tables alone
	// to are the statements that make the first and the second state. %s before a table of ours is its schema.
	to [2][]string
	// shows is what the answer holds in each state: a status, or a part of the body.
	shows [2]answerPart
	token bool // by API token instead of the session
}

type answerPart struct {
	status int
	text   string
}

func (p answerPart) fits(status int, body string) bool {
	return status == p.status && strings.Contains(body, p.text)
}

var granted = answerPart{200, "tenant=t1 "}

func denied(status int, code string) answerPart { return answerPart{status, `"code":"` + code + `"`} }

// kinds are all that section 7 of the contract names. Person 1 in tenant t1 sees them.
func kinds() []kind {
	const at = "/t/t1/x"
	body := func(text string) answerPart { return answerPart{200, text} }
	return []kind{
		{name: "membership", path: at, foreign: true, shows: [2]answerPart{granted, denied(403, "membership_inactive")}, to: [2][]string{
			{"UPDATE core_memberships SET is_active = true WHERE id = 'm1-1'"},
			{"UPDATE core_memberships SET is_active = false WHERE id = 'm1-1'"},
		}},
		{name: "membership deleted", path: at, foreign: true, shows: [2]answerPart{granted, denied(403, "no_access")}, to: [2][]string{
			{"INSERT INTO core_memberships (id, user_id, tenant_id, role, is_active) VALUES ('m1-1', 'u1', 't1', 'member', true)"},
			{"DELETE FROM core_memberships WHERE id = 'm1-1'"},
		}},
		{name: "role", path: at, foreign: true, shows: [2]answerPart{body("role=member"), body("role=admin")}, to: [2][]string{
			{"UPDATE core_memberships SET role = 'member' WHERE id = 'm1-1'"},
			{"UPDATE core_memberships SET role = 'admin' WHERE id = 'm1-1'"},
		}},
		{name: "roles in bulk", path: at, foreign: true, shows: [2]answerPart{body("role=member"), body("role=owner")}, to: [2][]string{
			{"UPDATE core_memberships SET role = 'member'"},
			{"UPDATE core_memberships SET role = 'owner'"},
		}},
		{name: "tenant", path: at, foreign: true, shows: [2]answerPart{granted, denied(403, "tenant_inactive")}, to: [2][]string{
			{"UPDATE core_tenants SET is_active = true WHERE id = 't1'"},
			{"UPDATE core_tenants SET is_active = false WHERE id = 't1'"},
		}},
		{name: "db_url", path: at, foreign: true, shows: [2]answerPart{body("uri=postgresql://old@db/t1"), body("uri=postgresql://new@db/t1")}, to: [2][]string{
			{"UPDATE core_tenants SET db_url = 'postgresql://old@db/t1' WHERE id = 't1'"},
			{"UPDATE core_tenants SET db_url = 'postgresql://new@db/t1' WHERE id = 't1'"},
		}},
		{name: "domain", path: "/t/slug-of-t1/x", shows: [2]answerPart{denied(403, "no_access"), granted}, to: [2][]string{
			{"DELETE FROM %score_tenant_domains WHERE host = 'slug-of-t1'"},
			{"INSERT INTO %score_tenant_domains (host, tenant_id, kind, verified) VALUES ('slug-of-t1', 't1', 'slug', true)"},
		}},
		{name: "subscription", path: at, foreign: true, shows: [2]answerPart{granted, denied(402, "subscription_required")}, to: [2][]string{
			{"UPDATE core_subscriptions SET status = 'active' WHERE id = 's1'"},
			{"UPDATE core_subscriptions SET status = 'canceled' WHERE id = 's1'"},
		}},
		{name: "newer subscription", path: at, foreign: true, shows: [2]answerPart{granted, denied(402, "subscription_required")}, to: [2][]string{
			{"DELETE FROM core_subscriptions WHERE id = 's1-newer'"},
			{"INSERT INTO core_subscriptions (id, tenant_id, status, payment_type, created_at) VALUES ('s1-newer', 't1', 'unpaid', 'subscription', '2999-01-01T00:00:00')"},
		}},
		{name: "plan", path: at, foreign: true, shows: [2]answerPart{body("features=old"), body("features=new")}, to: [2][]string{
			{`UPDATE core_pricing_plans SET features = '["old"]' WHERE id = 'plan1'`},
			{`UPDATE core_pricing_plans SET features = '["new"]' WHERE id = 'plan1'`},
		}},
		{name: "user", path: at, foreign: true, shows: [2]answerPart{body("email=p1@example.com"), body("email=changed@example.com")}, to: [2][]string{
			{"UPDATE core_users SET email = 'p1@example.com' WHERE id = 'u1'"},
			{"UPDATE core_users SET email = 'changed@example.com' WHERE id = 'u1'"},
		}},
		{name: "user deleted", path: at, foreign: true, shows: [2]answerPart{granted, denied(403, "unknown_user")}, to: [2][]string{
			{"INSERT INTO core_users (id, email, oauth_id) VALUES ('u1', 'p1@example.com', 'p1')"},
			{"DELETE FROM core_users WHERE id = 'u1'"},
		}},
		{name: "block", path: at, shows: [2]answerPart{granted, denied(403, "unknown_user")}, to: [2][]string{
			{"DELETE FROM %ssys_user_blocks WHERE user_id = 'u1'"},
			{"INSERT INTO %ssys_user_blocks (user_id) VALUES ('u1')"},
		}},
		{name: "lock", path: at, shows: [2]answerPart{granted, denied(503, "tenant_paused")}, to: [2][]string{
			{"DELETE FROM %ssys_tenant_locks WHERE tenant_id = 't1'"},
			{"INSERT INTO %ssys_tenant_locks (tenant_id) VALUES ('t1')"},
		}},
		{name: "session", path: at, shows: [2]answerPart{granted, denied(401, "session_expired")}, to: [2][]string{
			{"INSERT INTO %ssys_sessions SELECT * FROM kept_sessions"},
			{"DELETE FROM %ssys_sessions WHERE user_id = 'u1'"},
		}},
		{name: "API token", path: at, token: true, shows: [2]answerPart{granted, denied(401, "invalid_token")}, to: [2][]string{
			{"INSERT INTO %ssys_api_tokens SELECT * FROM kept_tokens"},
			{"DELETE FROM %ssys_api_tokens WHERE user_id = 'u1'"},
		}},
	}
}

// statements are what makes a state on the bed's engine, for a role that finds tables without a schema or does not.
func (k *kind) statements(b *bed, state int, foreign bool) []string {
	var out []string
	for _, s := range k.to[state] {
		schema := ""
		if b.postgres {
			schema = "tenantgate."
		}
		s = strings.ReplaceAll(s, "%s", schema)
		if foreign {
			for _, table := range []string{"core_memberships", "core_tenants", "core_subscriptions", "core_pricing_plans", "core_users"} {
				s = strings.ReplaceAll(s, " "+table, " public."+table)
			}
		}
		out = append(out, s)
	}
	return out
}

// keep puts the rows aside whose deletion ends a session and a token.
func (b *bed) keep(tb testing.TB) {
	b.exec(tb, b.db, "CREATE TABLE kept_sessions AS SELECT * FROM "+b.own("sys_sessions")+" WHERE user_id = 'u1'")
	b.exec(tb, b.db, "CREATE TABLE kept_tokens AS SELECT * FROM "+b.own("sys_api_tokens")+" WHERE user_id = 'u1'")
}
