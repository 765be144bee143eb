package catalog

import (
	"database/sql"
	"net/url"
	"slices"
	"testing"
)

// loginAs makes a role that may write the eight tables, as fh-saas's does, with those privileges, and logs in as it.
func loginAs(t *testing.T, admin, privileges string) (role string, db *sql.DB) {
	t.Helper()
	role = "writer_" + GenID()
	execURL(t, admin, "CREATE ROLE "+role+" LOGIN PASSWORD 'x'; GRANT "+privileges+" ON ALL TABLES IN SCHEMA public TO "+role)
	t.Cleanup(func() { execURL(t, admin, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	u, err := url.Parse(admin)
	must(t, err)
	u.User = url.UserPassword(role, "x")
	return role, rawDB(t, u.String())
}

// AUD-4: a role that may write the eight tables, however much it was granted on them, plays no games with what keeps and
// chains the log, and does not come near chain and queue.
func TestNoWriterPlaysGamesWithTheLog(t *testing.T) {
	admin := newPostgres(t)
	h := openTest(t, admin)
	must(t, h.AuditLogs.Insert(t.Context(), &HostAuditLog{ID: "a1", EventType: new("login")}))
	chainAll(t, h)
	must(t, h.AuditLogs.Insert(t.Context(), &HostAuditLog{ID: "waits"}))
	role, db := loginAs(t, admin, "ALL")
	check, err := h.Check(t.Context())
	if err != nil || len(check.Changes) != 0 || len(check.Doubts) != 1 || check.Doubts[0].Kind != "audit_trigger_right" ||
		check.Doubts[0].IDs[0] != "sys_audit_logs: "+role {
		t.Errorf("Check says %+v, %v", check, err)
	}
	report, err := h.Migrate(t.Context()) // as each start does
	if err != nil || !slices.Equal(report.Changes, []string{"revoke TRIGGER on sys_audit_logs from " + role}) {
		t.Errorf("Migrate did %q, %v", report.Changes, err)
	}
	for _, text := range []string{
		"DROP TRIGGER tenantgate_sys_audit_logs_keep ON public.sys_audit_logs",
		"DROP TRIGGER tenantgate_sys_audit_logs_enqueue ON public.sys_audit_logs",
		"ALTER TABLE public.sys_audit_logs DISABLE TRIGGER tenantgate_sys_audit_logs_keep",
		"ALTER TABLE public.sys_audit_logs DISABLE TRIGGER USER",
		"ALTER TABLE public.sys_audit_logs OWNER TO CURRENT_USER",
		"ALTER TABLE public.sys_audit_logs RENAME TO gone",
		"DROP TABLE public.sys_audit_logs",
		"SET session_replication_role = replica",
		"SET ROLE postgres",
		"CREATE OR REPLACE FUNCTION tenantgate.keep_sys_audit_logs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
		"CREATE OR REPLACE FUNCTION tenantgate.may_change_audit(who name) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
		"ALTER FUNCTION tenantgate.keep_sys_audit_logs() RENAME TO gone",
		"DROP FUNCTION tenantgate.enqueue_sys_audit_logs() CASCADE",
		"CREATE OR REPLACE TRIGGER tenantgate_sys_audit_logs_keep BEFORE UPDATE OR DELETE ON public.sys_audit_logs FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		"CREATE OR REPLACE TRIGGER tenantgate_sys_audit_logs_keep BEFORE DELETE ON public.sys_audit_logs FOR EACH ROW WHEN (false) EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		"CREATE TRIGGER theirs BEFORE UPDATE ON public.sys_audit_logs FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		"CREATE RULE theirs AS ON INSERT TO public.sys_audit_logs DO INSTEAD NOTHING",
		"SELECT * FROM tenantgate.sys_audit_chain", "UPDATE tenantgate.sys_audit_chain SET hash = ''", "DELETE FROM tenantgate.sys_audit_chain",
		"TRUNCATE tenantgate.sys_audit_chain", "INSERT INTO tenantgate.sys_audit_chain VALUES (9, 'x', '', '', '')",
		"DELETE FROM tenantgate.sys_audit_queue", "TRUNCATE tenantgate.sys_audit_queue", "INSERT INTO tenantgate.sys_audit_queue (audit_id) VALUES ('a1')",
		"UPDATE tenantgate.sys_audit_backfill SET done = false", "SELECT tenantgate.enqueue_sys_audit_logs()",
		"UPDATE public.sys_audit_logs SET event_type = 'forged'", "DELETE FROM public.sys_audit_logs", "TRUNCATE public.sys_audit_logs",
		"WITH x AS (DELETE FROM public.sys_audit_logs RETURNING *) SELECT count(*) FROM x",
		"MERGE INTO public.sys_audit_logs l USING (VALUES ('a1')) v (id) ON l.id = v.id WHEN MATCHED THEN DELETE",
		"BEGIN; SET CONSTRAINTS ALL DEFERRED; DELETE FROM public.sys_audit_logs; COMMIT",
	} {
		if _, err := db.ExecContext(t.Context(), text); err == nil {
			t.Errorf("%s was done", text)
		}
	}
	// What it has of its own stands in nobody's way: a name that ours might take for another's.
	execOn(t, db, "CREATE TEMP TABLE added (id text); CREATE TEMP TABLE sys_audit_queue (audit_id text); SET search_path = pg_temp, public; "+
		"INSERT INTO public.sys_audit_logs (id) VALUES ('a2')")
	chainAll(t, h)
	if got := chained(t, h); len(got) != 3 || got[0] != "a1" || got[1] != "waits" || got[2] != "a2" {
		t.Errorf("chained %v", got)
	}
	kept, err := h.AuditLogs.Get(t.Context(), "a1")
	if err != nil || *kept.EventType != "login" {
		t.Errorf("kept %+v, %v", kept, err)
	}
}

// Who may write chain and queue, as the proxy's own role may when it owns neither, still only adds to the chain.
func TestTheChainStaysForItsOwnWriterToo(t *testing.T) {
	admin := newPostgres(t)
	h := openTest(t, admin)
	must(t, h.AuditLogs.Insert(t.Context(), &HostAuditLog{ID: "a1"}))
	chainAll(t, h)
	role, db := loginAs(t, admin, "SELECT, INSERT, UPDATE, DELETE")
	execURL(t, admin, "GRANT USAGE ON SCHEMA tenantgate TO "+role+"; GRANT ALL ON ALL TABLES IN SCHEMA tenantgate TO "+role)
	if _, err := h.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"UPDATE tenantgate.sys_audit_chain SET hash = ''", "UPDATE tenantgate.sys_audit_chain SET archived_by = 'x'", "DELETE FROM tenantgate.sys_audit_chain",
		"TRUNCATE tenantgate.sys_audit_chain", "ALTER TABLE tenantgate.sys_audit_chain DISABLE TRIGGER ALL",
		"DROP TRIGGER tenantgate_sys_audit_chain_keep ON tenantgate.sys_audit_chain",
		"CREATE OR REPLACE TRIGGER tenantgate_sys_audit_chain_keep BEFORE UPDATE OR DELETE ON tenantgate.sys_audit_chain FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		"INSERT INTO tenantgate.sys_audit_chain SELECT * FROM tenantgate.sys_audit_chain ON CONFLICT (seq) DO UPDATE SET hash = ''",
		"CREATE OR REPLACE FUNCTION tenantgate.keep_sys_audit_chain() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
	} {
		if _, err := db.ExecContext(t.Context(), text); err == nil {
			t.Errorf("%s was done", text)
		}
	}
	if got := chained(t, h); len(got) != 1 {
		t.Errorf("chained %v", got)
	}
}
