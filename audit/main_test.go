package audit

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is a host database with its chain's keys, and a door for whoever tampers with it as the tables' owner.
type rig struct {
	t    testing.TB
	url  string
	host *catalog.HostDatabase
	keys *Keys
	raw  *sql.DB
}

func secretsOf(t testing.TB, line string) seal.Keyset {
	t.Helper()
	keys, err := seal.ParseKeyset(secret.New(line))
	must(t, err)
	return keys
}

func newRig(t testing.TB, url string) *rig {
	t.Helper()
	r := &rig{t: t, url: url}
	var err error
	r.host, err = catalog.Open(t.Context(), url)
	must(t, err)
	t.Cleanup(func() {
		if err := r.host.Close(); err != nil {
			t.Error(err)
		}
	})
	r.keys, err = LoadKeys(t.Context(), r.host, secretsOf(t, seal.GenerateSecret().Reveal()))
	must(t, err)
	driver, dsn := "pgx", url
	if r.host.Engine() == catalog.EngineSQLite {
		driver, dsn = "sqlite", "file:"+strings.TrimPrefix(url, "sqlite:")+"?_pragma=busy_timeout(10000)"
	}
	r.raw, err = sql.Open(driver, dsn)
	must(t, err)
	t.Cleanup(func() { must(t, r.raw.Close()) })
	return r
}

// engine is a kind of host database, and where a new one is.
type engine struct {
	name string
	url  func(testing.TB) string
}

func engines() []engine {
	return []engine{
		{catalog.EnginePostgreSQL, pgtest.New},
		{catalog.EngineSQLite, func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "host.db") }},
	}
}

func onBothEngines(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			test(t, newRig(t, e.url(t)))
		})
	}
}

// exec runs statements as the owner, in the words of PostgreSQL.
func (r *rig) exec(text string, args ...any) {
	r.t.Helper()
	if r.host.Engine() == catalog.EngineSQLite {
		text = strings.ReplaceAll(text, "tenantgate.", "")
	}
	if _, err := r.raw.ExecContext(context.Background(), text, args...); err != nil {
		r.t.Fatalf("%s: %v", text, err)
	}
}

// unguarded runs statements with the triggers of both tables out of the way.
func (r *rig) unguarded(text string, args ...any) {
	r.t.Helper()
	if r.host.Engine() == catalog.EnginePostgreSQL {
		r.exec("ALTER TABLE sys_audit_logs DISABLE TRIGGER ALL")
		defer r.exec("ALTER TABLE sys_audit_logs ENABLE ALWAYS TRIGGER tenantgate_sys_audit_logs_keep; " +
			"ALTER TABLE sys_audit_logs ENABLE ALWAYS TRIGGER tenantgate_sys_audit_logs_keep_all; ALTER TABLE sys_audit_logs ENABLE ALWAYS TRIGGER tenantgate_sys_audit_logs_enqueue")
		r.exec(text, args...)
		return
	}
	rows, err := r.raw.QueryContext(context.Background(), "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN ('sys_audit_logs', 'sys_audit_chain')")
	must(r.t, err)
	var drop, again []string
	for rows.Next() {
		var name, text string
		must(r.t, rows.Scan(&name, &text))
		drop, again = append(drop, "DROP TRIGGER "+name), append(again, text)
	}
	must(r.t, rows.Err())
	must(r.t, rows.Close())
	r.exec(strings.Join(drop, ";"))
	r.exec(text, args...)
	r.exec(strings.Join(again, ";"))
}

// fill inserts n rows as fh-saas would, a%06d, and chains them.
func (r *rig) fill(from, n int) {
	r.t.Helper()
	r.insert(from, n)
	r.chain()
}

func (r *rig) insert(from, n int) {
	r.t.Helper()
	series := "FROM generate_series(%d, %d) AS s (i)"
	number := "lpad(i::text, 6, '0')"
	with := ""
	if r.host.Engine() == catalog.EngineSQLite {
		with, series, number = fmt.Sprintf("WITH RECURSIVE s (i) AS (SELECT %d UNION ALL SELECT i + 1 FROM s WHERE i < %d) ", from, from+n-1), "FROM s WHERE %d <= %d", "printf('%06d', i)"
	}
	r.exec("INSERT INTO sys_audit_logs (id, actor_user_id, event_type, target_id, details, ip_address, created_at) " + with +
		"SELECT 'a' || " + number + ", 'u1', 'member.updated', CASE WHEN i % 3 = 0 THEN NULL ELSE 'm' || i END, '{\"role\": \"admin\"}', '', '2026-01-01T00:00:' || " + number + " " +
		fmt.Sprintf(series, from, from+n-1))
}

// chain chains what waits.
func (r *rig) chain() {
	r.t.Helper()
	c := r.start(Config{Every: time.Hour, Checkpoints: time.Hour})
	c.Close()
}

func (r *rig) verify(checkpoints ...Checkpoint) Report {
	r.t.Helper()
	report, err := Verify(context.Background(), r.host, r.keys, checkpoints, nil)
	must(r.t, err)
	return report
}

func (r *rig) checkpoint() Checkpoint {
	r.t.Helper()
	head, err := r.host.AuditHead(context.Background())
	must(r.t, err)
	return newCheckpoint(head, time.Now())
}
