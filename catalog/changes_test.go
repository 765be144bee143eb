package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// logOf is a change log at which the test looks by hand, after its first look.
func logOf(t *testing.T, h *HostDatabase) changeLog {
	t.Helper()
	log, err := h.changeLog(defaultHeartbeat)
	must(t, err)
	t.Cleanup(log.close)
	must(t, log.connect(t.Context()))
	if _, whole := lookAt(t, log); whole {
		t.Error("the first look claims to continue another")
	}
	return log
}

// lookAt is one look; changes are rendered as words and sorted.
func lookAt(t *testing.T, log changeLog) (found []string, whole bool) {
	t.Helper()
	whole, err := log.look(t.Context(), func(changes []Change) {
		for _, c := range changes {
			found = append(found, word(c))
		}
	})
	must(t, err)
	slices.Sort(found)
	return found, whole
}

func word(c Change) string {
	if c.Every {
		if c.ID != "" || c.User != "" || c.Tenant != "" || c.Subject != "" {
			return fmt.Sprintf("%s every row, but with keys %+v", c.Kind, c)
		}
		return string(c.Kind) + " *"
	}
	return strings.Join([]string{string(c.Kind), c.ID, string(c.User), string(c.Tenant), c.Subject}, "/")
}

// wantChanges looks once and compares; a look that is not whole is a fault.
func wantChanges(t *testing.T, log changeLog, what string, want ...string) {
	t.Helper()
	found, whole := lookAt(t, log)
	slices.Sort(want)
	if !slices.Equal(slices.Compact(found), want) || !whole {
		t.Errorf("%s: announced %q (whole: %v), want %q", what, found, whole, want)
	}
}

// row is one table's test row, in the words of SQL.
type announced struct {
	table, insert string // values of all columns that are named
	change        string // an assignment that counts
	quiet         string // one that does not; "" if every column counts
	rekey         string // one that changes keys
	before, after string // as announced, by the keys of insert and by those after rekey
}

func announcedTables() []announced {
	return []announced{
		{
			"core_users", "(id, oauth_id, email) VALUES ('u1', 'sub', 'a@x')", "email = 'b@x'", "last_login = '2026'", "oauth_id = 'sub2'",
			"user/u1/u1//sub", "user/u1/u1//sub2",
		},
		{
			"core_memberships", "(id, user_id, tenant_id, role) VALUES ('m1', 'u1', 't1', 'member')", "role = 'owner'", "", "user_id = 'u2'",
			"membership/m1/u1/t1/", "membership/m1/u2/t1/",
		},
		{
			"core_tenants", "(id, name, is_active) VALUES ('t1', 'T', true)", "is_active = NULL", "", "id = 't2'",
			"tenant/t1//t1/", "tenant/t2//t2/",
		},
		{
			"core_subscriptions", "(id, tenant_id, status) VALUES ('s1', 't1', 'active')", "status = 'canceled'", "", "tenant_id = 't2'",
			"subscription/s1//t1/", "subscription/s1//t2/",
		},
		{
			"core_pricing_plans", "(id, features) VALUES ('pro', NULL)", "features = '[]'", "", "id = 'pro2'",
			"plan/pro///", "plan/pro2///",
		},
		{
			"tenantgate.core_tenant_domains", "(host, tenant_id, kind) VALUES ('acme', 't1', 'slug')", "verified = true", "", "host = 'acme2'",
			"domain/acme//t1/", "domain/acme2//t1/",
		},
		{
			"tenantgate.sys_sessions", "(id, user_id, tenant_id, host, mac, created_at, expires_at) VALUES ('x1', 'u1', NULL, 'h', 'm', '1', '2')",
			"mac = 'n'", "last_seen = '2026'", "tenant_id = 't1'",
			"session/x1/u1//", "session/x1/u1/t1/",
		},
		{
			"tenantgate.sys_api_tokens", "(id, user_id, tenant_id, kind, mac, created_at) VALUES ('k1', 'u1', 't1', 'user', 'm', '1')",
			"mac = 'n'", "last_used = '2026'", "user_id = 'u2'",
			"token/k1/u1/t1/", "token/k1/u2/t1/",
		},
		{
			"tenantgate.sys_user_blocks", "(user_id) VALUES ('u1')", "reason = 'x'", "", "user_id = 'u2'",
			"block/u1/u1//", "block/u2/u2//",
		},
		{
			"tenantgate.sys_tenant_locks", "(tenant_id) VALUES ('t1')", "reason = 'x'", "", "tenant_id = 't2'",
			"lock/t1//t1/", "lock/t2//t2/",
		},
	}
}

// Every table of contract section 7, every kind of statement, by another program's connection.
func TestEveryChangeIsAnnouncedByItsKeys(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		log := logOf(t, h)
		other, err := rawDB(t, url).Conn(t.Context())
		must(t, err)
		defer other.Close()
		kinds := map[string]bool{}
		for _, w := range watchedTables() {
			kinds[string(w.kind)] = true
		}
		for _, a := range announcedTables() {
			kind, _, _ := strings.Cut(a.before, "/")
			delete(kinds, kind)
			exec := func(text string) {
				t.Helper()
				if _, err := other.ExecContext(t.Context(), dialect(h.engine, text)); err != nil {
					t.Fatalf("%s: %v", text, err)
				}
			}
			insert := "INSERT INTO " + a.table + " " + a.insert
			exec(insert)
			wantChanges(t, log, insert, a.before)
			exec("UPDATE " + a.table + " SET " + a.change)
			wantChanges(t, log, a.table+" "+a.change, a.before)
			exec("UPDATE " + a.table + " SET " + a.change)
			wantChanges(t, log, a.table+" the same again")
			if a.quiet != "" {
				exec("UPDATE " + a.table + " SET " + a.quiet)
				wantChanges(t, log, a.table+" "+a.quiet)
			}
			exec("UPDATE " + a.table + " SET " + a.rekey)
			wantChanges(t, log, a.table+" "+a.rekey, a.before, a.after)
			exec("UPDATE " + a.table + " SET " + a.change + " WHERE 1 = 0")
			wantChanges(t, log, a.table+": no row")
			exec("DELETE FROM " + a.table)
			wantChanges(t, log, a.table+" deleted", a.after)
			exec("DELETE FROM " + a.table)
			wantChanges(t, log, a.table+" deleted again")
			for _, end := range []string{"ROLLBACK", "COMMIT"} {
				exec("BEGIN")
				exec(insert)
				wantChanges(t, log, a.table+" not committed")
				exec(end)
				if end == "ROLLBACK" {
					wantChanges(t, log, a.table+" rolled back")
				} else {
					wantChanges(t, log, a.table+" committed", a.before)
				}
			}
			// An insert that finds its row there.
			exec(insert + " ON CONFLICT DO NOTHING")
			if h.engine == EnginePostgreSQL {
				wantChanges(t, log, a.table+" on conflict nothing")
				exec("TRUNCATE " + a.table)
				wantChanges(t, log, a.table+" truncated", kind+" *")
			} else {
				lookAt(t, log) // BEFORE triggers do not know yet that nothing will happen
				exec("INSERT OR REPLACE INTO " + a.table + " " + a.insert)
				wantChanges(t, log, a.table+" replaced", a.before)
				exec("DELETE FROM " + a.table)
				wantChanges(t, log, a.table+" emptied", a.before)
			}
		}
		if len(kinds) != 0 {
			t.Errorf("not tried: %v", kinds)
		}
	})
}

// A row that a REPLACE of SQLite removes fires no trigger of its own, and may be another than the one that is written.
func TestWhatReplaceRemovesIsAnnounced(t *testing.T) {
	h := openTest(t, "sqlite:"+t.TempDir()+"/host.db")
	log := logOf(t, h)
	other := rawDB(t, "sqlite:"+h.loc.path)
	for _, step := range []struct {
		text string
		want []string
	}{
		{"INSERT INTO core_users (id, oauth_id) VALUES ('a', 's1'), ('b', 's2'), ('c', NULL)", []string{"user/a/a//s1", "user/b/b//s2", "user/c/c//"}},
		{"INSERT OR REPLACE INTO core_users (id, oauth_id) VALUES ('a', 's3')", []string{"user/a/a//s1", "user/a/a//s3"}},
		{"REPLACE INTO core_users (id, oauth_id) VALUES ('d', 's2')", []string{"user/b/b//s2", "user/d/d//s2"}},
		{"UPDATE OR REPLACE core_users SET id = 'a' WHERE id = 'd'", []string{"user/a/a//s3", "user/d/d//s2", "user/a/a//s2"}},
		{"UPDATE OR REPLACE core_users SET oauth_id = 's2' WHERE id = 'c'", []string{"user/a/a//s2", "user/c/c//", "user/c/c//s2"}},
		{"UPDATE core_users SET rowid = 77 WHERE id = 'c'", nil},
		{"INSERT OR REPLACE INTO core_users (rowid, id) VALUES (77, 'e')", []string{"user/c/c//s2", "user/e/e//"}},
		{"INSERT INTO core_users (rowid, id) VALUES (78, 'f')", []string{"user/f/f//"}},
		{"UPDATE OR REPLACE core_users SET rowid = 78 WHERE id = 'e'", []string{"user/f/f//"}},
		{"INSERT INTO core_users (id, oauth_id) VALUES ('g', ''), ('h', ''), (NULL, NULL), (NULL, NULL)", []string{"user/g/g//", "user/h/h//", "user////"}},
		{"INSERT OR REPLACE INTO sys_tenant_locks (tenant_id, holder) VALUES ('t1', 'x'), ('t1', 'y')", []string{"lock/t1//t1/"}},
		{"INSERT INTO core_users (id, email) VALUES ('g', 'new') ON CONFLICT (id) DO UPDATE SET email = excluded.email", []string{"user/g/g//"}},
	} {
		_, err := other.ExecContext(t.Context(), step.text)
		if err != nil {
			t.Fatalf("%s: %v", step.text, err)
		}
		wantChanges(t, log, step.text, step.want...)
	}
	// Who turns recursive triggers on fires the delete triggers besides.
	_, err := other.ExecContext(t.Context(), "PRAGMA recursive_triggers = 1; REPLACE INTO core_users (id, email) VALUES ('g', 'newer')")
	must(t, err)
	wantChanges(t, log, "recursive triggers", "user/g/g//")
}

// One statement costs the log at most a thousand rows.
func TestBulkStatementsAreAnnouncedInFewRows(t *testing.T) {
	url := newPostgres(t)
	h := openTest(t, url)
	log := logOf(t, h)
	insert := "INSERT INTO core_memberships (id, user_id, tenant_id) SELECT 'm' || i, 'u' || i, 't1' FROM generate_series(%d, %d) AS i"
	for _, step := range []struct {
		text string
		want int // rows; 1: for the whole table
	}{
		{fmt.Sprintf(insert, 1, 1000), 1000},
		{fmt.Sprintf(insert, 1001, 20000), 1},
		{"UPDATE core_memberships SET role = 'owner' WHERE id <= 'm1009'", -1},
		{"UPDATE core_memberships SET role = 'admin'", 1},
		{"UPDATE core_memberships SET role = role", 0},
		{"UPDATE core_memberships SET role = CASE WHEN id IN ('m7', 'm8', 'm9') THEN 'x' ELSE role END", 3},
		{"UPDATE core_memberships SET user_id = 'v' WHERE id = 'm7'", 2},
		{"DELETE FROM core_memberships WHERE id IN ('m7', 'm8')", 2},
		{"DELETE FROM core_memberships", 1},
		{"INSERT INTO core_users (id) SELECT 'u' || i FROM generate_series(1, 5000) AS i", 1},
		{"UPDATE core_users SET last_login = 'now'", 0},
		{"UPDATE core_users SET last_login = 'now', id = id || 'x' WHERE id = 'u4'", 2},
	} {
		execURL(t, url, step.text)
		found, whole := lookAt(t, log)
		if step.want < 0 {
			var n int
			must(t, h.read.QueryRowContext(t.Context(), "SELECT count(*) FROM core_memberships WHERE role = 'owner'").Scan(&n))
			step.want = n
		}
		if len(found) != step.want || !whole {
			t.Errorf("%s: %d rows (whole: %v), want %d", step.text, len(found), whole, step.want)
		}
		if step.want == 1 && !strings.HasSuffix(found[0], "*") {
			t.Errorf("%s: announced as %s", step.text, found[0])
		}
	}
}

// A role that may write the eight tables and nothing else, without any search_path, by every way that writes.
func TestForeignRolesAreAnnounced(t *testing.T) {
	admin := newPostgres(t)
	h := openTest(t, admin)
	log := logOf(t, h)
	role := fmt.Sprint("guest_", GenID())
	execURL(t, admin, "CREATE ROLE "+role+"; GRANT ALL ON ALL TABLES IN SCHEMA public TO "+role+"; CREATE TABLE public.own_table (id text)")
	t.Cleanup(func() { execURL(t, admin, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	as := "SET ROLE " + role + "; SET search_path = ''; "
	for _, step := range []struct {
		text string
		want []string
	}{
		{"INSERT INTO public.core_tenants (id) VALUES ('t1')", []string{"tenant/t1//t1/"}},
		{"UPDATE public.core_tenants SET name = 'x'", []string{"tenant/t1//t1/"}},
		{"INSERT INTO public.core_tenants (id, name) VALUES ('t1', 'y'), ('t2', 'z') ON CONFLICT (id) DO UPDATE SET name = excluded.name", []string{"tenant/t1//t1/", "tenant/t2//t2/"}},
		{"MERGE INTO public.core_tenants t USING (VALUES ('t1'), ('t3')) AS s (id) ON t.id = s.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)", []string{"tenant/t1//t1/", "tenant/t3//t3/"}},
		{"WITH gone AS (DELETE FROM public.core_tenants WHERE id = 't2' RETURNING id) INSERT INTO public.core_users (id) SELECT id FROM gone", []string{"tenant/t2//t2/", "user/t2/t2//"}},
		{"TRUNCATE public.core_users, public.core_tenants", []string{"tenant *", "user *"}},
		{"CREATE TEMP TABLE core_tenants (id text); INSERT INTO core_tenants VALUES ('hidden')", nil},
		{
			"CREATE TEMP TABLE added AS SELECT 'no' AS id; CREATE TEMP TABLE removed AS SELECT 'no' AS id; CREATE TEMP TABLE found AS SELECT 'no' AS row_id; " +
				"CREATE TEMP TABLE sys_changes AS SELECT 'no' AS kind; CREATE TEMP TABLE pg_class AS SELECT 'no' AS relowner; " +
				"INSERT INTO public.core_tenants (id) VALUES ('p1'); DELETE FROM public.core_tenants WHERE id = 'p1'; " +
				"INSERT INTO public.core_tenants (id) VALUES ('p2'), ('p3'); UPDATE public.core_tenants SET id = 'p4' WHERE id = 'p3'",
			[]string{"tenant/p1//p1/", "tenant/p2//p2/", "tenant/p3//p3/", "tenant/p4//p4/"},
		},
		{"BEGIN; SAVEPOINT a; INSERT INTO public.core_tenants (id) VALUES ('s1'); ROLLBACK TO a; INSERT INTO public.core_tenants (id) VALUES ('s2'); RELEASE a; COMMIT", []string{"tenant/s2//s2/"}},
	} {
		execURL(t, admin, as+step.text)
		wantChanges(t, log, step.text, step.want...)
	}
	// A session that plays a replica's part, as tools for copying data do.
	execURL(t, admin, "SET session_replication_role = replica; INSERT INTO core_tenants (id) VALUES ('r1')")
	wantChanges(t, log, "session_replication_role", "tenant/r1//r1/")
	// COPY, by the wire's own protocol.
	db := rawDB(t, admin)
	copyIn(t, db, "COPY core_memberships (id, user_id, tenant_id) FROM STDIN", "m1\tu1\tt1\nm2\tu2\t\\N\n")
	wantChanges(t, log, "COPY", "membership/m1/u1/t1/", "membership/m2/u2//")
	// Nobody but the owner can make our function say what did not happen.
	execURL(t, admin, "GRANT USAGE ON SCHEMA tenantgate TO "+role+"; ALTER TABLE own_table OWNER TO "+role)
	if _, err := db.ExecContext(t.Context(), "SET ROLE "+role+"; CREATE TRIGGER x AFTER TRUNCATE ON public.own_table EXECUTE FUNCTION tenantgate.announce_core_users()"); err == nil {
		t.Error("another role put our function on a table of its own")
	}
}

func execOn(t *testing.T, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, text string,
) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}
