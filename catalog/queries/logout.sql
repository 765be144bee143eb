-- Back-channel logout, sign-ups counted, keys renewed.

-- name: logout_token_insert
INSERT INTO tenantgate.sys_logout_tokens (id, provider, subject, sid, issued_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING

-- name: count_ended_sid
SELECT count(*) FROM tenantgate.sys_logout_tokens WHERE provider = $1 AND sid = $2 AND issued_at COLLATE "C" >= $3

-- name: count_ended_subject
-- As with sessions: tokens without sid speak of all the subject's, tokens with one also of those that have none.
SELECT count(*)
FROM tenantgate.sys_logout_tokens
WHERE provider = $1 AND subject = $2 AND issued_at COLLATE "C" >= $3 AND (sid = '' OR $4 = '')

-- name: session_delete_by_sid
DELETE FROM tenantgate.sys_sessions
WHERE provider = $1 AND sid = $2 AND ($3 = '' OR subject = $3)
RETURNING id, user_id, host

-- name: session_delete_by_subject
-- With a sid only those whose provider gave them none: which of its sessions they belong to cannot be known.
DELETE FROM tenantgate.sys_sessions
WHERE provider = $1 AND subject = $2 AND ($3 = '' OR sid = '')
RETURNING id, user_id, host

-- name: sign_up_nth
-- $3 how many newer ones there are.
SELECT created_at FROM tenantgate.sys_sign_ups WHERE network = $1 AND created_at COLLATE "C" > $2
ORDER BY created_at COLLATE "C" DESC LIMIT 1 OFFSET $3

-- name: sign_up_insert
INSERT INTO tenantgate.sys_sign_ups (id, user_id, network, created_at) VALUES ($1, $2, $3, $4)

-- name: key_retire
UPDATE tenantgate.sys_keys SET retired_at = $2 WHERE id = $1 AND retired_at IS NULL
