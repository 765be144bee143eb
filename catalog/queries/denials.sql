-- Counted denials on their way to the audit log.

-- name: denials_known
-- $1 batch id.
SELECT count(*) FROM tenantgate.sys_denial_batches b WHERE b.id = $1

-- name: denials_written
-- $1 minute.
SELECT coalesce(sum(b.written), 0) FROM tenantgate.sys_denial_batches b WHERE b.minute = $1

-- name: denials_insert
-- $1 rows as a JSON array, $2 the event, $3 now.
INSERT INTO sys_audit_logs (id, actor_user_id, event_type, target_id, details, ip_address, created_at)
SELECT d.value ->> 'id', d.value ->> 'actor', $2, d.value ->> 'target', d.value ->> 'details', d.value ->> 'network', $3
FROM jsonb_array_elements(CAST($1 AS jsonb)) AS d(value) -- postgresql
FROM json_each($1) AS d -- sqlite

-- name: denials_batch
-- $1 batch id, $2 minute, $3 rows written.
INSERT INTO tenantgate.sys_denial_batches (id, minute, written) VALUES ($1, $2, $3)

-- name: denials_forget
-- $1 the first minute that is kept.
DELETE FROM tenantgate.sys_denial_batches WHERE minute COLLATE "C" < $1
