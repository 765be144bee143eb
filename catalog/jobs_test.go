package catalog

import (
	"regexp"
	"strings"
	"testing"
)

// However many jobs other programs have, and however many of ours are over, no look for jobs reads them.
func TestJobsAreFoundByIndex(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		series := "(SELECT i::text AS i FROM generate_series(1, 5000) AS i) AS series"
		verb := "EXPLAIN "
		if h.engine == EngineSQLite {
			verb = "EXPLAIN QUERY PLAN "
			series = "(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT CAST(i AS TEXT) AS i FROM n) AS series"
		}
		for _, text := range []string{
			"INSERT INTO sys_jobs (id, job_type, status) SELECT 'f' || i, 'mail', 'pending' FROM " + series,
			"INSERT INTO sys_jobs (id, job_type, status) SELECT 'd' || i, 'tenantgate.x', 'completed' FROM " + series,
			"INSERT INTO tenantgate.sys_job_runs (job_id, job_type, run_at, due_at, done_at, keep_until) SELECT 'd' || i, 'tenantgate.x', i, i, i, '2' || i FROM " + series,
			"INSERT INTO sys_jobs (id, job_type, status) VALUES ('o1', 'tenantgate.x', 'pending'), ('o2', 'tenantgate.x', 'pending')",
			"INSERT INTO tenantgate.sys_job_runs (job_id, job_type, run_at, due_at) VALUES ('o1', 'tenantgate.x', '1', '1')",
			"ANALYZE",
		} {
			execAs(t, url, h, text)
		}
		conn, err := h.write.Conn(t.Context())
		must(t, err)
		defer conn.Close()
		for name, args := range map[string][]string{
			"job_due_exists": {"'2026'", "'{}'"}, "job_survey": {"'2026'", "'{}'"}, "job_adopt": {"'2026'", "'2026'", "10"},
			"job_nameless": {"'2026'"}, "job_due": {"'2026'", "'{}'", "10"}, "job_due_one": {"'o1'", "'2026'"},
			"job_backlog": {"'2026'"}, "job_renew": {"'o1'", "'h'", "1", "'2026'"}, "job_by_key": {"'k'"},
			"job_old": {"'1'", "10"}, "job_held": {"'o1'", "'h'", "1"}, "lease_held": {"'l'", "'h'", "1"},
		} {
			text := regexp.MustCompile(`\+?[$?](\d+)`).ReplaceAllStringFunc(h.queries[name], func(p string) string { return args[p[len(p)-1]-'1'] })
			plan := explain(t, conn, verb+text)
			for line := range strings.Lines(plan) {
				if regexp.MustCompile(`Seq Scan on sys_job|SCAN (j|r|o|sys_jobs|sys_job_runs)\b`).MatchString(line) && !strings.Contains(line, "tenantgate_job") {
					t.Errorf("%s:\n%s", name, plan)
					break
				}
			}
		}
	})
}
