-- What has ended is removed in small transactions: $1 the moment, $2 how many rows at most.

-- name: clean_sessions
DELETE FROM tenantgate.sys_sessions WHERE id IN (
	SELECT s.id FROM tenantgate.sys_sessions s WHERE s.expires_at COLLATE "C" <= $1 ORDER BY s.expires_at COLLATE "C" LIMIT $2)

-- name: clean_handoffs
DELETE FROM tenantgate.sys_handoffs WHERE code_hash IN (
	SELECT s.code_hash FROM tenantgate.sys_handoffs s WHERE s.expires_at COLLATE "C" <= $1 ORDER BY s.expires_at COLLATE "C" LIMIT $2)

-- name: clean_logout_tokens
DELETE FROM tenantgate.sys_logout_tokens WHERE id IN (
	SELECT s.id FROM tenantgate.sys_logout_tokens s WHERE s.expires_at COLLATE "C" <= $1 ORDER BY s.expires_at COLLATE "C" LIMIT $2)

-- name: clean_sign_ups
DELETE FROM tenantgate.sys_sign_ups WHERE id IN (
	SELECT s.id FROM tenantgate.sys_sign_ups s WHERE s.created_at COLLATE "C" <= $1 ORDER BY s.created_at COLLATE "C" LIMIT $2)

-- name: clean_api_tokens
DELETE FROM tenantgate.sys_api_tokens WHERE id IN (
	SELECT s.id FROM tenantgate.sys_api_tokens s
	WHERE s.expires_at IS NOT NULL AND s.expires_at COLLATE "C" <= $1
	ORDER BY s.expires_at COLLATE "C" LIMIT $2)
