package catalog

import (
	"context"
	"database/sql"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// crowd fills every table that a hot query reads, so that a planner would notice a missing index. %d runs from 1 to n.
func crowd(t testing.TB, h *HostDatabase) {
	t.Helper()
	series := "(SELECT i::text AS i FROM generate_series(1, 3000) AS i) AS series"
	if h.engine == EngineSQLite {
		series = "(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT CAST(i AS TEXT) AS i FROM n) AS series"
	}
	for _, text := range []string{
		"INSERT INTO core_users (id, oauth_id, email, created_at) SELECT 'u' || i, 's' || i, 'E' || i || '@x', i FROM ",
		"INSERT INTO core_tenants (id, name, plan_tier, is_active) SELECT 't' || i, 'n' || i, 'p' || i, true FROM ",
		"INSERT INTO core_memberships (id, user_id, tenant_id, is_active) SELECT 'm' || i, 'u' || i, 't' || i, true FROM ",
		"INSERT INTO core_memberships (id, user_id, tenant_id, is_active) SELECT 'k' || i, 'u7', 't' || i, true FROM ",
		"INSERT INTO core_memberships (id, user_id, tenant_id, is_active) SELECT 'l' || i, 'u' || i, 't7', true FROM ",
		"INSERT INTO core_subscriptions (id, tenant_id, payment_type, created_at) SELECT 'a' || i, 't' || i, 'subscription', i FROM ",
		"INSERT INTO core_subscriptions (id, tenant_id, payment_type, created_at) SELECT 'b' || i, 't7', 'one_time', i FROM ",
		"INSERT INTO core_pricing_plans (id, tier_level) SELECT 'p' || i, 1 FROM ",
		"INSERT INTO tenantgate.core_tenant_domains (host, tenant_id, kind, verified) SELECT 'd' || i, 't' || i, 'slug', true FROM ",
		"INSERT INTO tenantgate.sys_sessions (id, user_id, host, mac, created_at, expires_at) SELECT 's' || i, 'u' || i, 'h', 'm', i, i FROM ",
		"INSERT INTO tenantgate.sys_api_tokens (id, user_id, tenant_id, kind, mac, created_at) SELECT 'k' || i, 'u' || i, 't' || i, 'user', 'm', i FROM ",
		"INSERT INTO tenantgate.sys_handoffs (code_hash, user_id, host, nonce_hash, sign_in, mac, signed_in_at, session_expires_at, created_at, expires_at) SELECT 'c' || i, 'u' || i, 'h', 'n', 's', 'm', i, i, i, i FROM ",
		"INSERT INTO tenantgate.sys_keys (id, purpose, sealed, created_at) SELECT 'k' || i, 'p' || i, 's', i FROM ",
		"INSERT INTO tenantgate.sys_user_blocks (user_id) SELECT 'x' || i FROM ",
		"INSERT INTO tenantgate.sys_tenant_locks (tenant_id) SELECT 'x' || i FROM ",
	} {
		execAs(t, "", h, text+series)
	}
	for _, text := range append(crowdLogout(), crowdStripe()...) {
		execAs(t, "", h, text+series)
	}
	execAs(t, "", h, "ANALYZE")
}

// hot are the statements of a request's way and of the rules, with parameters that exist.
func hot() map[string][]string {
	all := map[string][]string{
		"grant_facts":                {"'u9'", "NULL", "'d9'", "NULL", `'{"p9": "p10"}'`},
		"user_grants":                {"'u9'", `'{"p9": "p10"}'`, "100"},
		"user_membership_tenants":    {"'u9'", "100"},
		"resolve_tenant":             {"NULL", "'d9'", "NULL"},
		"user_by_subject":            {"'s9'"},
		"users_by_email":             {"'e9@x'"},
		"session_user":               {"'s9'"},
		"session_list":               {"'u9'"},
		"session_sign_in":            {"'u9'", "'s9'"},
		"handoff_get":                {"'c9'"},
		"handoff_take":               {"'c9'", "'h'", "'n'", "'0'"},
		"handoff_delete_by_user":     {"'u9'"},
		"tenant_slugs":               {"'u9'"},
		"session_delete":             {"'s9'"},
		"session_delete_by_user":     {"'u9'"},
		"session_touch":              {"'s9'", "'2026'"},
		"session_set_tenant":         {"'s9'", "'t9'"},
		"api_token_user":             {"'k9'"},
		"api_token_touch":            {"'k9'", "'2026'"},
		"api_token_delete_by_user":   {"'u9'"},
		"api_token_delete_by_tenant": {"'t9'"},
		"key_list":                   {"'p9'"},
		"user_record_login":          {"'u9'", "'2026'"},
		"user_link_subject":          {"'u9'", "'s9'", "'e9@x'"},
		"count_user_id":              {"'u9'"},
		"count_tenant_id":            {"'t9'"},
		"count_slug":                 {"'d9'"},
		"count_subject":              {"'s9'", "'u9'"},
		"count_active_memberships":   {"'u9'", "'t9'", "'m9'"},
		"user_unblock":               {"'x9'"},
		"tenant_unpause":             {"'x9'"},
	}
	maps.Copy(all, hotLogout())
	maps.Copy(all, hotSealed())
	maps.Copy(all, hotStripe())
	return all
}

func TestHotStatementsScanNoTableOnPostgreSQL(t *testing.T) {
	h := openTest(t, newPostgres(t))
	crowd(t, h)
	conn, err := h.write.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		_, err := conn.ExecContext(t.Context(), "SET plan_cache_mode = "+mode)
		must(t, err)
		for name, args := range hot() {
			if deletesByAge(name) && mode == "force_generic_plan" {
				continue // without the value the planner expects to delete a third of the table, and may
			}
			_, err := conn.ExecContext(t.Context(), "PREPARE hot_"+name+mode+" AS "+h.queries[name])
			must(t, err)
			given := ""
			if len(args) > 0 {
				given = " (" + strings.Join(args, ", ") + ")"
			}
			text := explain(t, conn, "EXPLAIN EXECUTE hot_"+name+mode+given)
			if strings.Contains(text, "Seq Scan") || !strings.Contains(text, "Index") {
				t.Errorf("%s under %s:\n%s", name, mode, text)
			}
		}
	}
}

// What SQLite may scan: common table expressions and subqueries of one row each, and the few pairs of the aliases.
var sqliteMayScan = regexp.MustCompile(`^SCAN (named|tenant|newest LEFT-JOIN|listed|CONSTANT ROW|a VIRTUAL TABLE INDEX 1:|\d+ CONSTANT ROWS?)$`)

func TestHotStatementsScanNoTableOnSQLite(t *testing.T) {
	h := openTest(t, "sqlite:"+t.TempDir()+"/host.db")
	crowd(t, h)
	conn, err := h.write.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	parameter := regexp.MustCompile(`\?(\d+)`)
	for name, args := range hot() {
		text := parameter.ReplaceAllStringFunc(h.queries[name], func(p string) string { return args[p[1]-'1'] })
		plan := explain(t, conn, "EXPLAIN QUERY PLAN "+text)
		if !strings.Contains(plan, "SEARCH") {
			t.Errorf("%s searches nothing:\n%s", name, plan)
		}
		for line := range strings.Lines(plan) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "SCAN") && !sqliteMayScan.MatchString(line) {
				t.Errorf("%s: %s, in\n%s", name, line, plan)
			}
		}
	}
}

// Compiling a statement anew for each value costs several times what running it does.
func TestSQLiteDoesNotPlanByTheValuesOfParameters(t *testing.T) {
	qs, err := loadQueries(EngineSQLite)
	must(t, err)
	for name, text := range qs {
		if bare := regexp.MustCompile(`[^+]\?\d`).FindString(text); bare != "" {
			t.Errorf("%s has a bare parameter: %s", name, text)
		}
	}
}

// A page of the audit log is read by index however long the log is, behind another page and between two moments too.
func TestAuditPageIsReadByIndex(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		series := "(SELECT i::text AS i FROM generate_series(1, 3000) AS i) AS series"
		verb := "EXPLAIN "
		if h.engine == EngineSQLite {
			verb = "EXPLAIN QUERY PLAN "
			series = "(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT CAST(i AS TEXT) AS i FROM n) AS series"
		}
		execAs(t, url, h, "INSERT INTO sys_audit_logs (id, event_type, created_at) SELECT 'a' || i, 'e', i FROM "+series)
		execAs(t, url, h, "ANALYZE")
		conn, err := h.write.Conn(t.Context())
		must(t, err)
		defer conn.Close()
		for _, p := range []Page{{Limit: 10}, {Limit: 10, After: place("2000", "a2000")}, {Limit: 10, Since: "2900", Until: "2950"}} {
			var c conditions
			order, err := h.AuditLogs.newestFirst(p, &c)
			must(t, err)
			text := h.AuditLogs.listing(c, order, p.Limit)
			for i, a := range c.args {
				v, ok := a.(sql.NullString)
				if !ok {
					v.String = a.(string)
				}
				text = regexp.MustCompile(`[$?]`+strconv.Itoa(i+1)+`\b`).ReplaceAllString(text, "'"+v.String+"'")
			}
			plan := explain(t, conn, verb+text)
			if !strings.Contains(plan, "tenantgate_audit_created") || strings.Contains(plan, "Sort") || strings.Contains(plan, "TEMP B-TREE") {
				t.Errorf("%+v:\n%s", p, plan)
			}
		}
	})
}

// explain returns the last column of each row.
func explain(t *testing.T, conn *sql.Conn, text string) string {
	t.Helper()
	rows, err := conn.QueryContext(context.WithoutCancel(t.Context()), text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	defer rows.Close()
	cols, err := rows.Columns()
	must(t, err)
	var b strings.Builder
	for rows.Next() {
		dst := make([]any, len(cols))
		for i := range dst {
			dst[i] = new(any)
		}
		must(t, rows.Scan(dst...))
		line, _ := (*dst[len(dst)-1].(*any)).(string)
		b.WriteString(line + "\n")
	}
	must(t, rows.Err())
	return b.String()
}
