package catalog

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// What somebody did to our triggers is reported by Check and mended by Migrate, and only that.
func TestMigrateMendsTriggers(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		steps := []struct{ harm, want string }{
			{"DROP TRIGGER tenantgate_core_users_update ON core_users", "create trigger tenantgate_core_users_update on core_users"},
			{"ALTER TABLE core_tenants DISABLE TRIGGER tenantgate_core_tenants_insert", "enable trigger tenantgate_core_tenants_insert on core_tenants"},
			{"ALTER TABLE core_tenants ENABLE TRIGGER tenantgate_core_tenants_insert", "enable trigger tenantgate_core_tenants_insert on core_tenants"},
			{
				"CREATE OR REPLACE TRIGGER tenantgate_core_tenants_delete AFTER DELETE ON core_tenants EXECUTE FUNCTION tenantgate.keep_sys_audit_logs()",
				"replace trigger tenantgate_core_tenants_delete on core_tenants",
			},
			{
				"CREATE OR REPLACE FUNCTION tenantgate.announce_core_users() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
				"replace function tenantgate.announce_core_users",
			},
			{"ALTER FUNCTION tenantgate.announce_core_users() SECURITY INVOKER", "replace function tenantgate.announce_core_users"},
			{"ALTER FUNCTION tenantgate.announce_core_users() RESET search_path", "replace function tenantgate.announce_core_users"},
			{"DROP TRIGGER tenantgate_sys_sessions_truncate ON tenantgate.sys_sessions", "create trigger tenantgate_sys_sessions_truncate on sys_sessions"},
			{"DROP TRIGGER tenantgate_sys_audit_logs_keep ON sys_audit_logs", "create trigger tenantgate_sys_audit_logs_keep on sys_audit_logs"},
			{"ALTER TABLE tenantgate.sys_sessions ADD COLUMN later text", "replace function tenantgate.announce_sys_sessions"},
		}
		if h.engine == EngineSQLite {
			steps = []struct{ harm, want string }{
				{"DROP TRIGGER tenantgate_core_users_update", "create trigger tenantgate_core_users_update on core_users"},
				{
					"DROP TRIGGER tenantgate_core_users_delete; CREATE TRIGGER tenantgate_core_users_delete AFTER DELETE ON core_users BEGIN SELECT 1; END",
					"replace trigger tenantgate_core_users_delete on core_users",
				},
				{"ALTER TABLE sys_sessions ADD COLUMN later text", "replace trigger tenantgate_sys_sessions_update on sys_sessions"},
			}
		}
		off := false
		for _, step := range steps {
			execAs(t, url, h, step.harm)
			check, err := h.Check(t.Context())
			must(t, err)
			if !slices.Equal(check.Changes, []string{step.want}) {
				t.Errorf("%s: Check says %q, want %q", step.harm, check.Changes, step.want)
			}
			if _, err := New(t.Context(), Config{URL: NewDBURI(url), Migrate: &off}); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), step.want) {
				t.Errorf("%s: open without migrate: %v", step.harm, err)
			}
			report, err := h.Migrate(t.Context())
			if err != nil || !slices.Equal(report.Changes, check.Changes) {
				t.Errorf("%s: Migrate did %q, %v", step.harm, report.Changes, err)
			}
		}
		check, err := h.Check(t.Context())
		if err != nil || len(check.Changes) != 0 {
			t.Errorf("left to do: %q, %v", check.Changes, err)
		}
		log := logOf(t, h)
		execAs(t, url, h, "INSERT INTO core_users (id) VALUES ('u')")
		execAs(t, url, h, "UPDATE core_users SET email = 'x'")
		wantChanges(t, log, "mended", "user/u/u//")
	})
}

// A replica of a later version has made them differently: an earlier one, starting again, leaves them.
func TestLaterTriggersAreLeftAlone(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		if h.engine == EnginePostgreSQL {
			execAs(t, url, h, "CREATE OR REPLACE FUNCTION tenantgate.announce_core_users() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS "+
				"'/* tenantgate 999 */ BEGIN RETURN NULL; END'")
		} else {
			execAs(t, url, h, "DROP TRIGGER tenantgate_core_users_delete; CREATE TRIGGER tenantgate_core_users_delete AFTER DELETE ON core_users BEGIN /* tenantgate 999 */ SELECT 1; END")
		}
		if report, err := h.Migrate(t.Context()); err != nil || len(report.Changes) != 0 {
			t.Errorf("changes %q, %v", report.Changes, err)
		}
	})
}

// Making or replacing a trigger takes no lock that a reader would wait for.
func TestTriggersAreMadeUnderAModestLock(t *testing.T) {
	dburl := newPostgres(t)
	h := openTest(t, dburl)
	for _, harm := range []string{"DROP TRIGGER %s ON core_users", "ALTER TABLE core_users DISABLE TRIGGER %s"} {
		for _, event := range []string{"insert", "update", "delete", "truncate"} {
			execAs(t, dburl, h, fmt.Sprintf(harm, "tenantgate_core_users_"+event))
		}
		s, err := h.inspectTriggers(t.Context(), "public")
		must(t, err)
		plans := h.planTriggers(s)
		if len(plans) != 1 || len(plans[0].statements) != 9 {
			t.Fatalf("plans %+v", plans)
		}
		tx, err := h.write.BeginTx(t.Context(), nil)
		must(t, err)
		for _, statement := range plans[0].statements {
			execOn(t, tx, statement)
		}
		var modes string
		must(t, tx.QueryRowContext(t.Context(), `SELECT string_agg(DISTINCT mode, ' ' ORDER BY mode) FROM pg_locks
			WHERE pid = pg_backend_pid() AND relation = 'core_users'::regclass`).Scan(&modes))
		if strings.Contains(modes, "AccessExclusive") || !strings.Contains(modes, "ShareRowExclusiveLock") {
			t.Errorf("%s: locks %s", harm, modes)
		}
		must(t, tx.Commit())
	}
}

// Nothing of ours fires on tables that are not ours to watch, of fh-saas or of anybody.
func TestOnlyTheListedTablesHaveTriggers(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		loadFHSaas(t, url)
		h := openTest(t, url)
		text := "SELECT DISTINCT c.relname::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal"
		if h.engine == EngineSQLite {
			text = "SELECT DISTINCT tbl_name FROM sqlite_master WHERE type = 'trigger'"
		}
		found := map[string]bool{}
		must(t, h.queryText(t.Context(), "list triggers", readDeadline, text, nil, func(rows *sql.Rows) error {
			for rows.Next() {
				var s string
				must(t, rows.Scan(&s))
				found[s] = true
			}
			return rows.Err()
		}))
		for _, w := range watchedTables() {
			if !found[w.name] {
				t.Errorf("%s has none", w.name)
			}
			delete(found, w.name)
		}
		for _, w := range kept() {
			delete(found, w.name)
		}
		if len(found) != 0 {
			t.Errorf("triggers on %v", found)
		}
	})
}

// What a write sets off must run in SQLite 3.31 (January 2020).
func TestTriggersUseNothingThatOldSQLiteLacks(t *testing.T) {
	h := openTest(t, "sqlite:"+t.TempDir()+"/host.db")
	rows, err := h.read.QueryContext(t.Context(), "SELECT sql FROM sqlite_master WHERE type = 'trigger' OR name IN ('sys_changes', 'sys_audit_queue')")
	must(t, err)
	defer rows.Close()
	n := 0
	for rows.Next() {
		var text string
		must(t, rows.Scan(&text))
		n++
		for _, late := range []string{
			"RETURNING", "DISTINCT FROM", "STRICT", "json", "->", "iif(", "UPDATE FROM", "MATERIALIZED", "GENERATED", "unixepoch", "format(", "concat", "string_agg", "ON CONFLICT",
		} {
			if strings.Contains(strings.ToLower(text), strings.ToLower(late)) {
				t.Errorf("%q in %s", late, text)
			}
		}
	}
	must(t, rows.Err())
	if want := 5*len(watchedTables()) + 9; n != want {
		t.Errorf("%d objects were seen, want %d", n, want)
	}
}

// AUD-4: rows of the audit log are only added, whoever writes, but for the table's owner and superusers.
func TestAuditRowsStay(t *testing.T) {
	admin := newPostgres(t)
	h := openTest(t, admin)
	must(t, h.AuditLogs.Insert(t.Context(), &HostAuditLog{ID: "a1", EventType: new("login")}))
	suffix := GenID()
	guest, owner, heir := "guest_"+suffix, "owner_"+suffix, "heir_"+suffix
	execURL(t, admin, "CREATE ROLE "+guest+" LOGIN PASSWORD 'x'; CREATE ROLE "+owner+"; CREATE ROLE "+heir+" LOGIN PASSWORD 'x' IN ROLE "+owner+
		"; GRANT ALL ON ALL TABLES IN SCHEMA public TO "+guest+"; ALTER TABLE sys_audit_logs OWNER TO "+owner)
	t.Cleanup(func() {
		execURL(t, admin, "ALTER TABLE sys_audit_logs OWNER TO postgres; DROP OWNED BY "+guest+", "+owner+", "+heir+"; DROP ROLE "+guest+", "+owner+", "+heir)
	})
	u, err := url.Parse(admin)
	must(t, err)
	login := func(role string) *sql.DB {
		u.User = url.UserPassword(role, "x")
		return rawDB(t, u.String())
	}
	db := login(guest)
	for _, text := range []string{
		"UPDATE public.sys_audit_logs SET event_type = 'forged'", "DELETE FROM public.sys_audit_logs", "TRUNCATE public.sys_audit_logs",
		"INSERT INTO public.sys_audit_logs (id) VALUES ('a1') ON CONFLICT (id) DO UPDATE SET event_type = 'forged'",
		"SET session_replication_role = replica", "ALTER TABLE public.sys_audit_logs DISABLE TRIGGER ALL",
	} {
		if _, err := db.ExecContext(t.Context(), text); err == nil {
			t.Errorf("%s was done", text)
		}
	}
	execOn(t, db, "SET search_path = ''; INSERT INTO public.sys_audit_logs (id, event_type) VALUES ('a2', 'theirs'), ('a3', NULL)")
	execOn(t, db, "INSERT INTO public.sys_audit_logs (id) VALUES ('a1') ON CONFLICT DO NOTHING")
	var n int
	must(t, h.read.QueryRowContext(t.Context(), "SELECT count(*) FROM sys_audit_logs WHERE event_type IN ('login', 'theirs') OR event_type IS NULL").Scan(&n))
	if n != 3 {
		t.Errorf("%d rows", n)
	}
	heirs := login(heir)
	execOn(t, heirs, "UPDATE sys_audit_logs SET event_type = 'x' WHERE id = 'a2'")
	execURL(t, admin, "DELETE FROM sys_audit_logs WHERE id = 'a3'; TRUNCATE sys_audit_logs")
}

func TestAuditRowsStayOnSQLite(t *testing.T) {
	h := openTest(t, "sqlite:"+t.TempDir()+"/host.db")
	must(t, h.AuditLogs.Insert(t.Context(), &HostAuditLog{ID: "a1", EventType: new("login")}))
	db := rawDB(t, "sqlite:"+h.loc.path)
	for _, text := range []string{
		"UPDATE sys_audit_logs SET event_type = 'forged'", "DELETE FROM sys_audit_logs", "UPDATE OR IGNORE sys_audit_logs SET id = 'a2'",
		"INSERT OR REPLACE INTO sys_audit_logs (id) VALUES ('a1')", "REPLACE INTO sys_audit_logs (rowid, id) VALUES (1, 'other')",
		"INSERT INTO sys_audit_logs (id) VALUES ('a1') ON CONFLICT (id) DO UPDATE SET event_type = 'forged'",
	} {
		if _, err := db.ExecContext(t.Context(), text); err == nil {
			t.Errorf("%s was done", text)
		}
	}
	for _, text := range []string{
		"INSERT INTO sys_audit_logs (id) VALUES ('a2')", "INSERT INTO sys_audit_logs (id) VALUES (NULL)", "INSERT INTO sys_audit_logs (id) VALUES (NULL)",
	} {
		execOn(t, db, text)
	}
	kept, err := h.AuditLogs.Get(t.Context(), "a1")
	if err != nil || *kept.EventType != "login" {
		t.Errorf("kept %+v, %v", kept, err)
	}
}

// What another program adds to one of the eight tables does not concern the triggers: it may be of a type without
// equality, and may be dropped again.
func TestTriggersDoNotNameColumnsThatOthersAdded(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		execAs(t, url, h, "INSERT INTO core_users (id) VALUES ('u')")
		execAs(t, url, h, "ALTER TABLE core_users ADD COLUMN theirs json")
		must(t, errOf(h.Migrate(t.Context())))
		log := logOf(t, h)
		execAs(t, url, h, `UPDATE core_users SET theirs = '{}'`)
		wantChanges(t, log, "theirs alone")
		execAs(t, url, h, `UPDATE core_users SET theirs = '[]', email = 'x'`)
		wantChanges(t, log, "ours, too", "user/u/u//")
		execAs(t, url, h, "ALTER TABLE core_users DROP COLUMN theirs")
		execAs(t, url, h, "UPDATE core_users SET email = 'y'")
		wantChanges(t, log, "dropped", "user/u/u//")
		check, err := h.Check(t.Context())
		if err != nil || len(check.Changes) != 0 {
			t.Errorf("left to do: %q, %v", check.Changes, err)
		}
	})
}
