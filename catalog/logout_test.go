package catalog

import "strings"

// crowdLogout and hotLogout are what queries/logout.sql adds to crowd and hot.
func crowdLogout() []string {
	return []string{
		"INSERT INTO tenantgate.sys_sessions (id, user_id, host, mac, created_at, expires_at, provider, subject, sid) SELECT 'l' || i, 'v' || i, 'h', 'm', i, i, 'p', 'o' || i, 'i' || i FROM ",
		"INSERT INTO tenantgate.sys_logout_tokens (id, provider, subject, sid, issued_at, expires_at) SELECT 'j' || i, 'p', 'o' || i, 'i' || i, i, i FROM ",
		"INSERT INTO tenantgate.sys_sign_ups (id, user_id, network, created_at) SELECT 'n' || i, 'u' || i, '192.0.2.' || i, i FROM ",
	}
}

func hotLogout() map[string][]string {
	return map[string][]string{
		"session_delete_by_sid":     {"'p'", "'i9'", "'o9'"},
		"session_delete_by_subject": {"'p'", "'o9'", "''"},
		"count_ended_sid":           {"'p'", "'i9'", "'2026'"},
		"count_ended_subject":       {"'p'", "'o9'", "'2026'", "''"},
		"count_sign_ups":            {"'192.0.2.9'", "'2026'"},
		"key_retire":                {"'k9'", "'2026'"},
		"clean_sessions":            {"'0'", "100"},
		"clean_handoffs":            {"'0'", "100"},
		"clean_logout_tokens":       {"'0'", "100"},
		"clean_sign_ups":            {"'0'", "100"},
		"clean_api_tokens":          {"'0'", "100"},
	}
}

// deletesByAge: statements that remove whatever is older than a value.
func deletesByAge(name string) bool {
	return strings.HasPrefix(name, "clean_") || name == "stripe_events_forget"
}
