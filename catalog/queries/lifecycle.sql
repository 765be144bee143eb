-- Tenants' migrations with their pauses, and the end of deleted tenants.

-- name: tenant_schema_seen
-- $1 tenant id, $2 version, $3 now, $4 now if the version changed, else NULL, $5 why the last try failed, or NULL, $6 the
-- version that is to be on record, NULL for none: a row that has another stays.
INSERT INTO tenantgate.sys_tenant_schemas (tenant_id, version, checked_at, changed_at, failure)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id) DO UPDATE SET version = excluded.version, checked_at = excluded.checked_at,
	changed_at = coalesce(excluded.changed_at, sys_tenant_schemas.changed_at), failure = excluded.failure
WHERE sys_tenant_schemas.version = $6

-- name: tenant_schema
SELECT s.tenant_id, s.version, s.checked_at, s.changed_at, s.failure
FROM tenantgate.sys_tenant_schemas s WHERE s.tenant_id = $1

-- name: tenant_schemas
-- $1 the last tenant id of the page before, $2 how many.
SELECT s.tenant_id, s.version, s.checked_at, s.changed_at, s.failure
FROM tenantgate.sys_tenant_schemas s
WHERE s.tenant_id > $1 COLLATE "C"
ORDER BY s.tenant_id COLLATE "C"
LIMIT $2

-- name: tenant_hold
-- $1 tenant id, $2 holder, $3 reason, $4 now, $5 end, $6 how many seconds requests under way may take.
INSERT INTO tenantgate.sys_tenant_locks (tenant_id, holder, reason, created_at, expires_at, drain_seconds)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, holder) DO UPDATE SET reason = excluded.reason, created_at = excluded.created_at,
	expires_at = excluded.expires_at, drain_seconds = excluded.drain_seconds

-- name: tenant_hold_renew
-- $1 tenant id, $2 holder, $3 the new end, $4 now: a lock that has ended is not renewed.
UPDATE tenantgate.sys_tenant_locks SET expires_at = $3
WHERE tenant_id = $1 AND holder = $2 AND expires_at > $4 COLLATE "C"

-- name: tenant_release
DELETE FROM tenantgate.sys_tenant_locks WHERE tenant_id = $1 AND holder = $2

-- name: tenant_locks
-- $1 how many at most.
SELECT l.tenant_id, l.holder, l.expires_at FROM tenantgate.sys_tenant_locks l
ORDER BY l.tenant_id COLLATE "C", l.holder COLLATE "C"
LIMIT $1

-- name: tenant_release_ended
-- $1 what the holder's name begins with, $2 now.
DELETE FROM tenantgate.sys_tenant_locks
WHERE substr(holder, 1, length($1)) = $1 AND expires_at <= $2 COLLATE "C"

-- name: tenant_backup_wanted
-- $1 tenant id, $2 directory.
UPDATE tenantgate.sys_tenant_deletions
SET backup_dir = $2, backup_path = NULL, backup_sha256 = NULL, backup_at = NULL
WHERE tenant_id = $1 AND purging_at IS NULL

-- name: tenant_backup_made
-- $1 tenant id, $2 path, $3 SHA-256, $4 now.
UPDATE tenantgate.sys_tenant_deletions SET backup_path = $2, backup_sha256 = $3, backup_at = $4
WHERE tenant_id = $1 AND backup_dir IS NOT NULL

-- name: tenant_purges_due
-- $1 now, $2 how many. Those whose removal had begun come first.
SELECT d.tenant_id FROM tenantgate.sys_tenant_deletions d
WHERE d.purging_at IS NOT NULL OR d.retain_until <= $1 COLLATE "C"
ORDER BY d.purging_at IS NULL, d.retain_until COLLATE "C", d.tenant_id COLLATE "C"
LIMIT $2

-- name: tenant_purge_begin
UPDATE tenantgate.sys_tenant_deletions SET purging_at = $2 WHERE tenant_id = $1 AND purging_at IS NULL

-- name: tenant_sessions_forget
-- Sessions that had chosen the tenant go on without it.
UPDATE tenantgate.sys_sessions SET tenant_id = NULL WHERE tenant_id = $1
