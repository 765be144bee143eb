-- Leases: of all replicas one holder at a time.

-- name: database_now
-- PostgreSQL: the clock that all replicas share.
SELECT pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.clock_timestamp()), 'YYYY-MM-DD"T"HH24:MI:SS.US')

-- name: lease_take
-- $1 name, $2 holder, $3 now, $4 the end. A lease that has not ended is nobody else's, and its holder's only by renewing.
INSERT INTO tenantgate.sys_leases AS l (name, holder, token, expires_at) VALUES ($1, $2, 1, $4)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = l.token + 1, expires_at = excluded.expires_at
WHERE l.expires_at COLLATE "C" <= $3
RETURNING token

-- name: lease_renew
-- $1 name, $2 holder, $3 token, $4 the new end. A lease that has ended is still renewed as long as nobody took it.
UPDATE tenantgate.sys_leases SET expires_at = $4 WHERE name = $1 AND holder = $2 AND token = $3

-- name: lease_release
-- $4 now. The row stays: tokens never begin anew.
UPDATE tenantgate.sys_leases SET expires_at = $4 WHERE name = $1 AND holder = $2 AND token = $3

-- name: lease_held
-- $1 name, $2 holder, $3 token; locked, so that nobody takes it before the transaction ends.
SELECT count(*) FROM (
	SELECT 1 FROM tenantgate.sys_leases WHERE name = $1 AND holder = $2 AND token = $3
	FOR UPDATE -- postgresql
) held
