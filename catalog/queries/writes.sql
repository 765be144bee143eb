-- Writes and reads of our own tables, and the rules that writes of the eight keep.

-- name: session_insert
INSERT INTO tenantgate.sys_sessions
	(id, user_id, tenant_id, host, provider, subject, sid, mac, id_token, created_at, expires_at, last_seen, sign_in,
	signed_in_at, only_tenant)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT DO NOTHING

-- name: session_delete
DELETE FROM tenantgate.sys_sessions WHERE id = $1

-- name: session_delete_by_user
DELETE FROM tenantgate.sys_sessions WHERE user_id = $1

-- name: session_touch
-- last_seen never goes back: two replicas may write in either order.
UPDATE tenantgate.sys_sessions
SET last_seen = CASE WHEN coalesce(last_seen, '') COLLATE "C" < $2 THEN $2 ELSE last_seen END
WHERE id = $1

-- name: session_set_tenant
UPDATE tenantgate.sys_sessions SET tenant_id = $2 WHERE id = $1

-- name: session_list
SELECT id, user_id, tenant_id, host, provider, subject, sid, mac, id_token, created_at, expires_at, last_seen, sign_in,
	signed_in_at, only_tenant
FROM tenantgate.sys_sessions
WHERE user_id = $1
ORDER BY created_at COLLATE "C" DESC, id COLLATE "C" DESC
LIMIT 1000

-- name: session_page
-- Everybody's, newest first: $1 created_at and $2 id of the last one of the page before ('' to begin), $3 how many.
SELECT id, user_id, tenant_id, host, provider, subject, sid, mac, id_token, created_at, expires_at, last_seen, sign_in,
	signed_in_at, only_tenant
FROM tenantgate.sys_sessions
WHERE $1 = '' OR (created_at COLLATE "C", id COLLATE "C") < ($1, $2)
ORDER BY created_at COLLATE "C" DESC, id COLLATE "C" DESC
LIMIT $3

-- name: key_list
SELECT id, purpose, sealed, created_at, retired_at
FROM tenantgate.sys_keys
WHERE purpose = $1
ORDER BY created_at COLLATE "C" DESC, id COLLATE "C" DESC
LIMIT 1000

-- name: key_insert
INSERT INTO tenantgate.sys_keys (id, purpose, sealed, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING

-- name: user_record_login
UPDATE core_users SET last_login = $2 WHERE id = $1

-- name: user_block
INSERT INTO tenantgate.sys_user_blocks (user_id, reason, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING

-- name: user_unblock
DELETE FROM tenantgate.sys_user_blocks WHERE user_id = $1

-- name: lock
-- An advisory lock to the transaction's end; SQLite has one writer and needs none.
SELECT pg_advisory_xact_lock(hashtextextended($1, 8387500981466145))

-- name: count_user_id
SELECT count(*) FROM core_users WHERE id = $1

-- name: count_tenant_id
SELECT count(*) FROM core_tenants WHERE id = $1

-- name: count_slug
SELECT count(*) FROM tenantgate.core_tenant_domains WHERE host = $1 AND kind = 'slug'

-- name: count_subject
-- users other than $2 with oauth_id $1
SELECT count(*) FROM core_users WHERE oauth_id = $1 AND id <> $2

-- name: count_active_memberships
-- active memberships of $1 in $2 other than $3
SELECT count(*) FROM core_memberships WHERE user_id = $1 AND tenant_id = $2 AND is_active AND id <> $3

-- name: ping
SELECT 1

-- name: user_link_subject
-- $1 user id, $2 oauth_id, $3 the address, ASCII letters in lower case.
UPDATE core_users
SET oauth_id = $2
WHERE id = $1 AND lower(email COLLATE "C") = $3 AND coalesce(oauth_id, '') = '' AND coalesce(password_hash, '') = ''
	AND (is_sys_admin IS NULL OR is_sys_admin = false)
