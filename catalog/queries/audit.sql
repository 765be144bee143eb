-- The chain over the audit log. A row's size is asked for before the row: neither engine reads a long value to tell its length.

-- name: audit_chain_lock
-- One transaction at a time appends; nobody waits.
SELECT pg_catalog.pg_try_advisory_xact_lock(8387500981466148)

-- name: audit_waiting
-- $1 the place in the queue to look behind. Is there anything to be chained?
SELECT EXISTS (SELECT 1 FROM tenantgate.sys_audit_queue q WHERE q.id > $1)
	OR EXISTS (SELECT 1 FROM tenantgate.sys_audit_backfill b WHERE NOT b.done)

-- name: audit_queue_length
SELECT count(*) FROM (SELECT 1 FROM tenantgate.sys_audit_queue q LIMIT 100000) waiting

-- name: audit_chain_head
SELECT seq, hash FROM tenantgate.sys_audit_chain ORDER BY seq DESC LIMIT 1

-- name: audit_queue_sizes
-- $1 the place to look behind, $2 how many: places and the sizes of their rows, in bytes. On SQLite $3 to $4 are the rowids that
-- the backfill has still to come to: those are left to it.
SELECT q.id, CAST(0 AS bigint) + coalesce(octet_length(l.id), 0) + coalesce(octet_length(l.actor_user_id), 0) + coalesce(octet_length(l.event_type), 0)
		+ coalesce(octet_length(l.target_id), 0) + coalesce(octet_length(l.details), 0) + coalesce(octet_length(l.ip_address), 0)
		+ coalesce(octet_length(l.created_at), 0)
FROM tenantgate.sys_audit_queue q
LEFT JOIN sys_audit_logs l ON l.id = q.audit_id -- postgresql
LEFT JOIN sys_audit_logs l ON l.rowid = q.row_at AND l.id IS q.audit_id -- sqlite
WHERE q.id > $1
	AND (q.row_at <= $3 OR q.row_at > $4) -- sqlite
ORDER BY q.id LIMIT $2

-- name: audit_queue_take
-- The row that waits, and whether it is chained already, by its place: on PostgreSQL $1 are the places, on SQLite those behind $1
-- up to $2, and $3 and $4 are as above.
SELECT q.id,
	l.id IS NOT NULL, -- postgresql
	l.rowid IS NOT NULL, -- sqlite
	EXISTS (SELECT 1 FROM tenantgate.sys_audit_chain c WHERE c.audit_id = q.audit_id AND c.row_hash <> ''), -- postgresql
	0, -- sqlite
	q.audit_id, l.id, l.actor_user_id, l.event_type, l.target_id, l.details, l.ip_address, l.created_at
FROM tenantgate.sys_audit_queue q
LEFT JOIN sys_audit_logs l ON l.id = q.audit_id -- postgresql
LEFT JOIN sys_audit_logs l ON l.rowid = q.row_at AND l.id IS q.audit_id -- sqlite
WHERE
	q.id = ANY ($1::bigint[]) -- postgresql
	q.id > $1 AND q.id <= $2 AND (q.row_at <= $3 OR q.row_at > $4) -- sqlite
ORDER BY q.id

-- name: audit_queue_delete
DELETE FROM tenantgate.sys_audit_queue WHERE id = ANY ($1::bigint[]) -- postgresql
DELETE FROM tenantgate.sys_audit_queue WHERE id = $1 -- sqlite

-- name: audit_chain_insert
INSERT INTO tenantgate.sys_audit_chain (seq, audit_id, row_hash, hash, chained_at)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[]) -- postgresql
VALUES ($1, $2, $3, $4, $5) -- sqlite

-- name: audit_backfill
SELECT created, audit_id, row_at, row_to, done FROM tenantgate.sys_audit_backfill WHERE id = 1

-- name: audit_backfill_set
UPDATE tenantgate.sys_audit_backfill SET created = $1, audit_id = $2, row_at = $3, row_to = $4, done = $5 WHERE id = 1

-- name: sqlite_audit_last_row
SELECT coalesce(max(rowid), 0) FROM sys_audit_logs

-- name: sqlite_audit_queue_covered
-- The backfill comes to these rows itself.
DELETE FROM sys_audit_queue WHERE row_at > $1 AND row_at <= $2

-- name: postgresql_audit_backfill_sizes
-- $1 created_at and $2 id of the last row, $3 how many.
SELECT CAST(0 AS bigint) + coalesce(octet_length(l.id), 0) + coalesce(octet_length(l.actor_user_id), 0) + coalesce(octet_length(l.event_type), 0)
		+ coalesce(octet_length(l.target_id), 0) + coalesce(octet_length(l.details), 0) + coalesce(octet_length(l.ip_address), 0)
		+ coalesce(octet_length(l.created_at), 0)
FROM sys_audit_logs l
WHERE (coalesce(l.created_at, '') COLLATE "C", coalesce(l.id, '') COLLATE "C") > ($1, $2)
ORDER BY coalesce(l.created_at, '') COLLATE "C", coalesce(l.id, '') COLLATE "C"
LIMIT $3

-- name: postgresql_audit_backfill_rows
-- $1 created_at and $2 id of the last row, $3 how many; and whether each is chained or waits in the queue.
SELECT true, EXISTS (SELECT 1 FROM tenantgate.sys_audit_chain c WHERE c.audit_id = l.id)
		OR l.id IN (SELECT q.audit_id FROM tenantgate.sys_audit_queue q),
	l.id, l.id, l.actor_user_id, l.event_type, l.target_id, l.details, l.ip_address, l.created_at
FROM sys_audit_logs l
WHERE (coalesce(l.created_at, '') COLLATE "C", coalesce(l.id, '') COLLATE "C") > ($1, $2)
ORDER BY coalesce(l.created_at, '') COLLATE "C", coalesce(l.id, '') COLLATE "C"
LIMIT $3

-- name: sqlite_audit_backfill_sizes
-- $1 the last rowid, $2 the one to end with, $3 how many.
SELECT CAST(0 AS bigint) + coalesce(octet_length(l.id), 0) + coalesce(octet_length(l.actor_user_id), 0) + coalesce(octet_length(l.event_type), 0)
		+ coalesce(octet_length(l.target_id), 0) + coalesce(octet_length(l.details), 0) + coalesce(octet_length(l.ip_address), 0)
		+ coalesce(octet_length(l.created_at), 0)
FROM sys_audit_logs l
WHERE l.rowid > $1 AND l.rowid <= $2
ORDER BY l.rowid LIMIT $3

-- name: sqlite_audit_backfill_rows
-- $1 the last rowid, $2 the one to end with, $3 how many.
SELECT l.rowid, 1, 0, l.id, l.id, l.actor_user_id, l.event_type, l.target_id, l.details, l.ip_address, l.created_at
FROM sys_audit_logs l
WHERE l.rowid > $1 AND l.rowid <= $2
ORDER BY l.rowid LIMIT $3

-- name: audit_read_patience
-- A whole log takes longer than the statements of every day.
SELECT pg_catalog.set_config('statement_timeout', '0', true),
	pg_catalog.set_config('idle_in_transaction_session_timeout', '600000', true)

-- name: audit_read_plans
-- $1 off: the plans of a page of entries must not be those of a whole table. on: those of a whole table must be.
SELECT pg_catalog.set_config('enable_hashjoin', $1, true), pg_catalog.set_config('enable_mergejoin', $1, true),
	pg_catalog.set_config('enable_seqscan', $1, true)

-- name: audit_entries
-- $1 the last seq, $2 how many: entries in their order, each with its rows.
SELECT c.seq, c.audit_id, c.row_hash, c.hash, c.chained_at, c.archived_by,
	l.id IS NOT NULL, l.id, l.actor_user_id, l.event_type, l.target_id, l.details, l.ip_address, l.created_at
FROM (SELECT * FROM tenantgate.sys_audit_chain e WHERE e.seq > $1 ORDER BY e.seq LIMIT $2) c
LEFT JOIN sys_audit_logs l ON l.id = c.audit_id
ORDER BY c.seq

-- name: sqlite_audit_nameless
-- Rows without an id, which fh-saas's SQLite tables allow.
SELECT l.rowid, l.id, l.actor_user_id, l.event_type, l.target_id, l.details, l.ip_address, l.created_at
FROM sys_audit_logs l WHERE l.id IS NULL

-- name: sqlite_audit_nameless_row
-- $1 the rowid.
SELECT l.id, l.actor_user_id, l.event_type, l.target_id, l.details, l.ip_address, l.created_at
FROM sys_audit_logs l WHERE l.rowid = $1

-- name: audit_rows
SELECT count(*) FROM sys_audit_logs

-- name: audit_rows_waiting
-- Rows that wait in the queue, each once.
SELECT count(*) FROM (
	SELECT DISTINCT q.audit_id -- postgresql
	SELECT DISTINCT q.row_at -- sqlite
	FROM tenantgate.sys_audit_queue q
	JOIN sys_audit_logs l ON l.id = q.audit_id -- postgresql
	JOIN sys_audit_logs l ON l.rowid = q.row_at AND l.id IS q.audit_id -- sqlite
	WHERE NOT EXISTS (SELECT 1 FROM tenantgate.sys_audit_chain c WHERE c.audit_id = l.id)
) w

-- name: audit_unchained
-- Rows in no entry, and whether they wait in the queue.
SELECT
	l.id IN (SELECT q.audit_id FROM tenantgate.sys_audit_queue q WHERE q.audit_id IS NOT NULL), -- postgresql
	l.rowid IN (SELECT q.row_at FROM sys_audit_queue q WHERE q.row_at IS NOT NULL), -- sqlite
	l.id, l.actor_user_id, l.event_type, l.target_id, l.details, l.ip_address, l.created_at
FROM sys_audit_logs l
WHERE l.id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM tenantgate.sys_audit_chain c WHERE c.audit_id = l.id)

-- name: audit_archive_row
-- The rows of an entry, by id.
SELECT
	l.id, l.id, -- postgresql
	l.rowid, l.id, -- sqlite
	l.actor_user_id, l.event_type, l.target_id, l.details, l.ip_address, l.created_at
FROM sys_audit_logs l WHERE
	l.id = ANY ($1::text[]) FOR UPDATE -- postgresql
	l.id = $1 -- sqlite

-- name: audit_archive_mark
UPDATE tenantgate.sys_audit_chain SET archived_by = $1 WHERE archived_by IS NULL AND
	seq = ANY ($2::bigint[]) -- postgresql
	seq = $2 -- sqlite

-- name: audit_archive_delete
DELETE FROM sys_audit_logs WHERE
	id = ANY ($1::text[]) -- postgresql
	rowid = $1 -- sqlite

-- name: audit_marks
-- Entries from $1 to $2: which of them are archived.
SELECT seq, hash, archived_by FROM tenantgate.sys_audit_chain WHERE seq >= $1 AND seq <= $2 ORDER BY seq

-- name: sqlite_keeping_triggers
SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN ('sys_audit_logs', 'sys_audit_chain')
	AND name LIKE 'tenantgate%keep%'
