-- The change log. How looks work, and why they miss nothing, is told in docs/freshness.md.

-- name: postgresql_look
-- $1 the snapshot of the look before (NULL at the first), $2 how many changes at most. One row, whose kind is NULL, says
-- what the look itself saw; the others, in no order, are changes that the snapshot of $1 did not see and this one does:
-- those of transactions that began after it, and of those that it saw at work.
SELECT NULL::text, NULL::text, NULL::text, NULL::text, NULL::text, NULL::boolean,
	pg_catalog.pg_current_snapshot()::text,
	(SELECT m.horizon::text FROM tenantgate.sys_change_marks m WHERE m.swept ORDER BY m.horizon DESC LIMIT 1),
	pg_catalog.pg_is_in_recovery()::text,
	pg_catalog.pg_postmaster_start_time()::text || ' ' || c.oid::text || ' ' || c.relfilenode::text || ' ' ||
		(SELECT d.oid::text FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
FROM pg_catalog.pg_class c
WHERE c.oid = 'tenantgate.sys_changes'::regclass
UNION ALL
(SELECT found.kind, found.row_id, found.user_id, found.tenant_id, found.subject, found.every_row, NULL, NULL, NULL, NULL
FROM (
	SELECT a.kind, a.row_id, a.user_id, a.tenant_id, a.subject, a.every_row
	FROM tenantgate.sys_changes a
	WHERE a.xid >= pg_catalog.pg_snapshot_xmax($1::text::pg_catalog.pg_snapshot)
		AND a.xid < pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())
	UNION ALL
	SELECT b.kind, b.row_id, b.user_id, b.tenant_id, b.subject, b.every_row
	FROM pg_catalog.pg_snapshot_xip($1::text::pg_catalog.pg_snapshot) AS w (xid)
	JOIN tenantgate.sys_changes b ON b.xid = w.xid
) found
LIMIT $2)

-- name: postgresql_boot
-- A server that recovers from a crash keeps its pg_postmaster_start_time, but begins its statistics anew. It may give ids
-- of transactions again whose end it had not written down.
SELECT coalesce(pg_catalog.pg_stat_get_bgwriter_stat_reset_time()::text, '')

-- name: postgresql_listen
LISTEN tenantgate_changes

-- name: postgresql_mark
-- At most one a minute.
INSERT INTO tenantgate.sys_change_marks (horizon)
SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())
WHERE NOT EXISTS (SELECT 1 FROM tenantgate.sys_change_marks m WHERE m.made_at COLLATE "C" >
	pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.clock_timestamp() - interval '1 minute'), 'YYYY-MM-DD"T"HH24:MI:SS.US'))
ON CONFLICT DO NOTHING

-- name: postgresql_sweep_mark
-- The newest mark that is an hour old: from here on the log begins there.
UPDATE tenantgate.sys_change_marks SET swept = TRUE
WHERE NOT swept AND horizon = (SELECT m.horizon FROM tenantgate.sys_change_marks m WHERE m.made_at COLLATE "C" <=
	pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.clock_timestamp() - interval '1 hour'), 'YYYY-MM-DD"T"HH24:MI:SS.US')
	ORDER BY m.horizon DESC LIMIT 1)

-- name: postgresql_forget_marks
-- Of those below the log's beginning, and of a server that this database was copied from, which had come further.
DELETE FROM tenantgate.sys_change_marks
WHERE horizon > pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())
	OR horizon < (SELECT m.horizon FROM tenantgate.sys_change_marks m
		WHERE m.swept AND m.horizon <= pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())
		ORDER BY m.horizon DESC LIMIT 1)

-- name: postgresql_sweep
-- $1 how many rows at most.
DELETE FROM tenantgate.sys_changes c
USING (SELECT x.xid, x.id FROM tenantgate.sys_changes x
	WHERE x.xid < (SELECT m.horizon FROM tenantgate.sys_change_marks m WHERE m.swept ORDER BY m.horizon DESC LIMIT 1)
	ORDER BY x.xid LIMIT $1) old
WHERE c.xid = old.xid AND c.id = old.id

-- name: sweep_lock
-- One sweeps at a time; nobody waits.
SELECT pg_catalog.pg_try_advisory_xact_lock(8387500981466147)

-- name: sqlite_data_version
PRAGMA data_version

-- name: sqlite_look
-- $1 the last id seen, $2 how many changes at most. As postgresql_look; the row that says what the look saw has the
-- highest id ever used, the last mark that was swept, and when the row $1 was written.
SELECT NULL, NULL, NULL, NULL, NULL, NULL,
	coalesce((SELECT q.seq FROM sqlite_sequence q WHERE q.name = 'sys_changes'), 0),
	coalesce((SELECT m.horizon FROM sys_change_marks m WHERE m.swept ORDER BY m.horizon DESC LIMIT 1), 0),
	coalesce((SELECT c.changed_at FROM sys_changes c WHERE c.id = $1), ''),
	coalesce((SELECT c.changed_at FROM sys_changes c WHERE c.id =
		(SELECT q.seq FROM sqlite_sequence q WHERE q.name = 'sys_changes')), '')
UNION ALL
SELECT found.kind, found.row_id, found.user_id, found.tenant_id, found.subject, found.every_row, NULL, NULL, NULL, NULL
FROM (SELECT c.kind, c.row_id, c.user_id, c.tenant_id, c.subject, c.every_row
	FROM sys_changes c WHERE c.id > $1 ORDER BY c.id LIMIT $2) found

-- name: sqlite_mark
INSERT OR IGNORE INTO sys_change_marks (horizon)
SELECT coalesce((SELECT q.seq FROM sqlite_sequence q WHERE q.name = 'sys_changes'), 0) + 1
WHERE NOT EXISTS (SELECT 1 FROM sys_change_marks m WHERE m.made_at > strftime('%Y-%m-%dT%H:%M:%f', 'now', '-1 minute'))

-- name: sqlite_sweep_mark
UPDATE sys_change_marks SET swept = 1
WHERE NOT swept AND horizon = (SELECT m.horizon FROM sys_change_marks m
	WHERE m.made_at <= strftime('%Y-%m-%dT%H:%M:%f', 'now', '-1 hour') ORDER BY m.horizon DESC LIMIT 1)

-- name: sqlite_forget_marks
DELETE FROM sys_change_marks
WHERE horizon > coalesce((SELECT q.seq FROM sqlite_sequence q WHERE q.name = 'sys_changes'), 0) + 1
	OR horizon < (SELECT m.horizon FROM sys_change_marks m
		WHERE m.swept AND m.horizon <= coalesce((SELECT q.seq FROM sqlite_sequence q WHERE q.name = 'sys_changes'), 0) + 1
		ORDER BY m.horizon DESC LIMIT 1)

-- name: sqlite_sweep
-- $1 how many rows at most.
DELETE FROM sys_changes WHERE id IN (SELECT x.id FROM sys_changes x
	WHERE x.id < (SELECT m.horizon FROM sys_change_marks m WHERE m.swept ORDER BY m.horizon DESC LIMIT 1)
	ORDER BY x.id LIMIT $1)
