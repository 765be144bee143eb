-- A tenant's life: pauses, deletion with its retention, and custom hosts.

-- name: tenant_pause
-- $1 tenant id, $2 reason, $3 now, $4 end or NULL. A later pause takes the place of an earlier one of the operator's.
INSERT INTO tenantgate.sys_tenant_locks (tenant_id, holder, reason, created_at, expires_at)
VALUES ($1, 'operator', $2, $3, $4)
ON CONFLICT (tenant_id, holder) DO UPDATE
SET reason = excluded.reason, created_at = excluded.created_at, expires_at = excluded.expires_at

-- name: tenant_unpause
DELETE FROM tenantgate.sys_tenant_locks WHERE tenant_id = $1 AND holder = 'operator'

-- name: tenant_deletion
-- $1 tenant id, $2 now, $3 who, $4 until when the rows are kept, $5 whether it was active. Deleting again only moves the
-- end, and nothing once the purge has begun.
INSERT INTO tenantgate.sys_tenant_deletions (tenant_id, requested_at, requested_by, retain_until, was_active)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id) DO UPDATE SET requested_by = excluded.requested_by, retain_until = excluded.retain_until
WHERE sys_tenant_deletions.purging_at IS NULL

-- name: tenant_deletion_forget
DELETE FROM tenantgate.sys_tenant_deletions WHERE tenant_id = $1

-- name: count_tenant_deletion
SELECT count(*) FROM tenantgate.sys_tenant_deletions WHERE tenant_id = $1

-- name: tenant_states
-- $1 tenant ids, as the values of a JSON object.
SELECT a.value, d.requested_at, d.requested_by, d.retain_until, d.was_active, d.backup_dir, d.backup_path, d.backup_sha256,
	d.backup_at, d.purging_at,
	(SELECT string_agg(replace(coalesce(l.expires_at, ''), '|', '?') || coalesce(';' || l.drain_seconds, ''), '|') FROM tenantgate.sys_tenant_locks l
		WHERE l.tenant_id = a.value)
FROM jsonb_each_text($1) a
LEFT JOIN tenantgate.sys_tenant_deletions d ON d.tenant_id = a.value

-- name: domain_verified
-- $1 host, $2 the tenant and $3 the challenge that were looked at: another tenant's host is not taken into use by chance.
UPDATE tenantgate.core_tenant_domains SET verified = true
WHERE host = $1 AND tenant_id = $2 AND coalesce(challenge, '') = $3 AND NOT verified

-- name: domain_challenge
-- A host without a challenge gets $2; one that has its own keeps it.
UPDATE tenantgate.core_tenant_domains SET challenge = $2 WHERE host = $1 AND coalesce(challenge, '') = ''
