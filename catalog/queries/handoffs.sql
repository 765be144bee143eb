-- Sign-ins on several hosts.

-- name: session_sign_in
-- $1 user id, $2 sign-in: the sessions of one sign-in. A row from before there were sign-ins is named by its id.
SELECT id, user_id, tenant_id, host, provider, subject, sid, mac, id_token, created_at, expires_at, last_seen, sign_in,
	signed_in_at, only_tenant
FROM tenantgate.sys_sessions
WHERE user_id = $1 AND (sign_in = $2 OR sign_in = '' AND id = $2)
ORDER BY created_at COLLATE "C" DESC, id COLLATE "C" DESC
LIMIT 1000

-- name: handoff_insert
INSERT INTO tenantgate.sys_handoffs
	(code_hash, user_id, tenant_id, only_tenant, host, nonce_hash, sign_in, provider, subject, sid, mac, signed_in_at,
	session_expires_at, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT DO NOTHING

-- name: handoff_get
SELECT code_hash, user_id, tenant_id, only_tenant, host, nonce_hash, sign_in, provider, subject, sid, mac, signed_in_at,
	session_expires_at, created_at, expires_at
FROM tenantgate.sys_handoffs
WHERE code_hash = $1

-- name: handoff_take
-- $1 code, $2 host, $3 nonce, $4 now: of many that ask at once one deletes the row.
DELETE FROM tenantgate.sys_handoffs
WHERE code_hash = $1 AND host = $2 AND nonce_hash = $3 AND expires_at COLLATE "C" > $4

-- name: handoff_delete_by_user
DELETE FROM tenantgate.sys_handoffs WHERE user_id = $1

-- name: tenant_slugs
-- $1 user id: a slug of each tenant in which the user has a membership row, the smallest where there are several.
SELECT d.tenant_id, min(d.host COLLATE "C")
FROM tenantgate.core_tenant_domains d
WHERE d.kind = 'slug' AND d.tenant_id IN (SELECT x.tenant_id FROM core_memberships x WHERE x.user_id = $1)
GROUP BY d.tenant_id
