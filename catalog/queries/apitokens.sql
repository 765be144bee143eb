-- API tokens.

-- name: api_token_user
-- $1 token id.
SELECT k.id, k.user_id, k.tenant_id, k.kind, k.name, k.mac, k.created_at, k.created_by, k.expires_at, k.last_used,
	u.id, u.email, u.oauth_id, u.password_hash, u.stripe_cust_id, u.is_sys_admin, u.created_at, u.last_login,
	EXISTS (SELECT 1 FROM tenantgate.sys_user_blocks b WHERE b.user_id = k.user_id)
FROM tenantgate.sys_api_tokens k
LEFT JOIN core_users u ON u.id = k.user_id
WHERE k.id = $1

-- name: api_token_touch
-- last_used never goes back: two replicas may write in either order.
UPDATE tenantgate.sys_api_tokens
SET last_used = CASE WHEN coalesce(last_used, '') COLLATE "C" < $2 THEN $2 ELSE last_used END
WHERE id = $1

-- name: api_token_delete_by_user
DELETE FROM tenantgate.sys_api_tokens WHERE user_id = $1

-- name: api_token_delete_by_tenant
DELETE FROM tenantgate.sys_api_tokens WHERE tenant_id = $1
