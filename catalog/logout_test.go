package catalog

import (
	"strings"
	"testing"
	"time"
)

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
		"sign_up_nth":               {"'192.0.2.9'", "'2026'", "9"},
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

// The next sign-up is allowed when the oldest of those that count is a window old.
func TestSignUpsAreCountedPerNetworkAndWindow(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		count := func(network string, after time.Duration) (wait time.Duration) {
			must(t, h.InTx(t.Context(), func(tx *Tx) (err error) {
				wait, err = tx.CountSignUp(t.Context(), "u", network, 2, time.Hour, fakeNow().Add(after))
				return err
			}))
			return wait
		}
		for _, c := range []struct {
			network     string
			after, want time.Duration
		}{
			{"a", 0, 0},
			{"a", 10 * time.Minute, 0},
			{"a", 20 * time.Minute, 40 * time.Minute},
			{"b", 20 * time.Minute, 0},
			{"a", time.Hour - time.Millisecond, time.Second}, // never none, which would be yes
			{"a", time.Hour, 0},
			{"a", time.Hour, 10 * time.Minute},
			{"a", 70 * time.Minute, 0},
		} {
			if got := count(c.network, c.after); got != c.want {
				t.Errorf("%s after %v: wait %v, want %v", c.network, c.after, got, c.want)
			}
		}
	})
}
