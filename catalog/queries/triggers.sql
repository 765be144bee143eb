-- The triggers that announce changes, and those that keep the audit log. triggers.go puts words in, from fixed lists and
-- from the names of columns: {table} with its schema, {name} without, {kind}, {keys} (what becomes row_id, user_id, tenant_id
-- and subject), {columns} (those whose change counts), {version} (triggerVersion).

-- name: postgresql_announce
-- The diff of a large UPDATE is planned anew, so that it spills to disk instead of filling memory.
CREATE OR REPLACE FUNCTION tenantgate.announce_{name}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $body$
/* tenantgate {version} */
DECLARE
	announced bigint;
BEGIN
	IF TG_OP = 'INSERT' THEN
		{announce_added};
	ELSIF TG_OP = 'DELETE' THEN
		{announce_removed};
	ELSIF TG_OP = 'TRUNCATE' THEN
		INSERT INTO tenantgate.sys_changes (kind, every_row) VALUES ('{kind}', true);
	ELSIF EXISTS (SELECT 1 FROM added OFFSET 1000) THEN
		EXECUTE $large${announce_difference}$large$;
	ELSE
		{announce_difference};
	END IF;
	GET DIAGNOSTICS announced = ROW_COUNT;
	IF announced > 0 THEN
		PERFORM pg_catalog.pg_notify('tenantgate_changes', '');
	END IF;
	RETURN NULL;
END
$body$

-- name: postgresql_announce_rows
-- What of more than a thousand rows differs is announced by one row that stands for the whole table.
INSERT INTO tenantgate.sys_changes (kind, row_id, user_id, tenant_id, subject, every_row)
		WITH found (row_id, user_id, tenant_id, subject) AS MATERIALIZED (
			SELECT {keys} FROM {rows} r LIMIT 1001
		)
		SELECT DISTINCT '{kind}', f.row_id, f.user_id, f.tenant_id, f.subject, false
		FROM found f WHERE (SELECT pg_catalog.count(*) FROM found) <= 1000
		UNION ALL
		SELECT '{kind}', NULL, NULL, NULL, NULL, true WHERE (SELECT pg_catalog.count(*) FROM found) > 1000

-- name: postgresql_difference
((SELECT {columns} FROM removed EXCEPT ALL SELECT {columns} FROM added)
			UNION ALL (SELECT {columns} FROM added EXCEPT ALL SELECT {columns} FROM removed))

-- name: postgresql_trigger_insert
CREATE OR REPLACE TRIGGER tenantgate_{name}_insert AFTER INSERT ON {table}
REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION tenantgate.announce_{name}()

-- name: postgresql_trigger_update
CREATE OR REPLACE TRIGGER tenantgate_{name}_update AFTER UPDATE ON {table}
REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION tenantgate.announce_{name}()

-- name: postgresql_trigger_delete
CREATE OR REPLACE TRIGGER tenantgate_{name}_delete AFTER DELETE ON {table}
REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION tenantgate.announce_{name}()

-- name: postgresql_trigger_truncate
CREATE OR REPLACE TRIGGER tenantgate_{name}_truncate AFTER TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION tenantgate.announce_{name}()

-- name: postgresql_audit_owner
-- Asked by the triggers' conditions as whoever writes: may that role change what the log holds? The owner, roles that can
-- become the owner, and superusers.
CREATE OR REPLACE FUNCTION tenantgate.{owner_function}(who name) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $body$
/* tenantgate {version} */
SELECT pg_catalog.pg_has_role(who, c.relowner, 'MEMBER') FROM pg_catalog.pg_class c
WHERE c.oid = pg_catalog.to_regclass({table_text})
$body$

-- name: postgresql_audit_refuse
CREATE OR REPLACE FUNCTION tenantgate.keep_{name}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $body$
/* tenantgate {version} */
BEGIN
	RAISE EXCEPTION '{name} keeps what it holds: rows are only added' USING ERRCODE = 'insufficient_privilege';
END
$body$

-- name: postgresql_trigger_keep
CREATE OR REPLACE TRIGGER tenantgate_{name}_keep BEFORE UPDATE OR DELETE ON {table}
FOR EACH ROW WHEN (tenantgate.{owner_function}(CURRENT_USER) IS NOT TRUE) EXECUTE FUNCTION tenantgate.keep_{name}()

-- name: postgresql_trigger_keep_all
CREATE OR REPLACE TRIGGER tenantgate_{name}_keep_all BEFORE TRUNCATE ON {table}
FOR EACH STATEMENT WHEN (tenantgate.{owner_function}(CURRENT_USER) IS NOT TRUE) EXECUTE FUNCTION tenantgate.keep_{name}()

-- name: postgresql_audit_enqueue
CREATE OR REPLACE FUNCTION tenantgate.enqueue_{name}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $body$
/* tenantgate {version} */
BEGIN
	INSERT INTO tenantgate.sys_audit_queue (audit_id) SELECT a.id FROM added a;
	RETURN NULL;
END
$body$

-- name: postgresql_enqueue_close
REVOKE ALL ON FUNCTION tenantgate.enqueue_{name}() FROM PUBLIC

-- name: postgresql_trigger_enqueue
CREATE OR REPLACE TRIGGER tenantgate_{name}_enqueue AFTER INSERT ON {table}
REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION tenantgate.enqueue_{name}()

-- name: postgresql_trigger_busy
-- Does somebody hold a lock on $1 that SHARE ROW EXCLUSIVE would have to wait for, and has for a while? What a role may
-- not see does not show here; the lock_timeout covers that.
SELECT EXISTS (
	SELECT 1 FROM pg_catalog.pg_locks l
	JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
	WHERE l.relation = pg_catalog.to_regclass($1) AND l.granted AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
		AND a.xact_start < pg_catalog.clock_timestamp() - interval '200 milliseconds')

-- name: postgresql_trigger_timeout
SET LOCAL lock_timeout = '300ms'

-- name: postgresql_trigger_lock
LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE

-- name: postgresql_trigger_enable
-- ALWAYS: also in a session that plays a replica's part (session_replication_role).
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}

-- name: postgresql_trigger_rights
-- Who, without being the owner, may make or replace triggers on the tables that keep what they hold: table and role, both as
-- a statement takes them. Of those rights, whichever the role that asks can take away.
SELECT c.oid::pg_catalog.regclass::text,
	CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
WHERE c.oid IN (pg_catalog.to_regclass('sys_audit_logs'), pg_catalog.to_regclass('tenantgate.sys_audit_chain'))
	AND a.privilege_type = 'TRIGGER' AND a.grantee <> c.relowner
	AND pg_catalog.pg_has_role(c.relowner, 'MEMBER')
ORDER BY 1, 2

-- name: postgresql_function_close
REVOKE ALL ON FUNCTION tenantgate.announce_{name}() FROM PUBLIC

-- name: postgresql_triggers
-- Triggers whose name is ours on tables of $1 (schema): table, name, kind of event, function, and whether each always fires.
SELECT c.relname::text, t.tgname::text, t.tgtype::integer, p.proname::text, t.tgenabled = 'A' AND n.nspname = 'tenantgate'
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE c.relnamespace = (SELECT s.oid FROM pg_catalog.pg_namespace s WHERE s.nspname = $1)
	AND NOT t.tgisinternal AND t.tgname LIKE 'tenantgate%'

-- name: postgresql_functions
SELECT p.proname::text, p.prosrc, p.prosecdef AND p.proconfig = ARRAY['search_path=pg_catalog']
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = (SELECT s.oid FROM pg_catalog.pg_namespace s WHERE s.nspname = 'tenantgate')

-- name: sqlite_triggers
SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'tenantgate%'

-- name: sqlite_trigger_insert
CREATE TRIGGER tenantgate_{name}_insert AFTER INSERT ON {name}
BEGIN /* tenantgate {version} */
	INSERT INTO sys_changes (kind, row_id, user_id, tenant_id, subject) VALUES ('{kind}', {new_keys});
END

-- name: sqlite_trigger_replace
-- The rows that INSERT OR REPLACE removes fire no trigger of their own.
CREATE TRIGGER tenantgate_{name}_replace BEFORE INSERT ON {name}
BEGIN /* tenantgate {version} */
	INSERT INTO sys_changes (kind, row_id, user_id, tenant_id, subject)
	SELECT '{kind}', {row_keys} FROM {name} r WHERE {clashes};
END

-- name: sqlite_trigger_displace
-- Nor do those that UPDATE OR REPLACE removes.
CREATE TRIGGER tenantgate_{name}_displace BEFORE UPDATE ON {name}
WHEN {moves}
BEGIN /* tenantgate {version} */
	INSERT INTO sys_changes (kind, row_id, user_id, tenant_id, subject)
	SELECT '{kind}', {row_keys} FROM {name} r WHERE ({clashes}) AND r.rowid <> OLD.rowid;
END

-- name: sqlite_trigger_update
CREATE TRIGGER tenantgate_{name}_update AFTER UPDATE ON {name}
WHEN {differs}
BEGIN /* tenantgate {version} */
	INSERT INTO sys_changes (kind, row_id, user_id, tenant_id, subject) VALUES ('{kind}', {old_keys});
	INSERT INTO sys_changes (kind, row_id, user_id, tenant_id, subject) SELECT '{kind}', {new_keys} WHERE {keys_differ};
END

-- name: sqlite_trigger_delete
CREATE TRIGGER tenantgate_{name}_delete AFTER DELETE ON {name}
BEGIN /* tenantgate {version} */
	INSERT INTO sys_changes (kind, row_id, user_id, tenant_id, subject) VALUES ('{kind}', {old_keys});
END

-- name: sqlite_trigger_keep
CREATE TRIGGER tenantgate_{name}_keep BEFORE UPDATE ON {name}
BEGIN /* tenantgate {version} */
	SELECT RAISE(ABORT, '{name} keeps what it holds: rows are only added');
END

-- name: sqlite_trigger_keep_deleted
CREATE TRIGGER tenantgate_{name}_keep_deleted BEFORE DELETE ON {name}
BEGIN /* tenantgate {version} */
	SELECT RAISE(ABORT, '{name} keeps what it holds: rows are only added');
END

-- name: sqlite_trigger_keep_replaced
CREATE TRIGGER tenantgate_{name}_keep_replaced BEFORE INSERT ON {name}
WHEN EXISTS (SELECT 1 FROM {name} r WHERE {clashes})
BEGIN /* tenantgate {version} */
	SELECT RAISE(ABORT, '{name} keeps what it holds: rows are only added');
END

-- name: sqlite_trigger_enqueue
CREATE TRIGGER tenantgate_{name}_enqueue AFTER INSERT ON {name}
BEGIN /* tenantgate {version} */
	INSERT INTO sys_audit_queue (row_at, audit_id) VALUES (NEW.rowid, NEW.id);
END
