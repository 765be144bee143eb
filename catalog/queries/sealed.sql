-- What lies sealed: for each column a page of rows by id, one row, and two ways to replace a value that is still the one
-- that was read. Their first result columns are id, what else the seal is bound to, and the value.
--
-- _put leaves a row alone that somebody else has locked: whoever holds many rows must wait for none. _put_waiting is
-- for a transaction of one row.

-- name: sealed_tenants_page
SELECT id, '', db_url FROM core_tenants WHERE id > $1 ORDER BY id LIMIT $2

-- name: sealed_tenants_get
SELECT id, '', db_url FROM core_tenants WHERE id = $1

-- name: sealed_tenants_put
UPDATE core_tenants SET db_url = $3
WHERE db_url = $2 AND id = (SELECT id FROM core_tenants WHERE id = $1 AND db_url = $2 FOR UPDATE SKIP LOCKED)

-- name: sealed_tenants_put_waiting
UPDATE core_tenants SET db_url = $3 WHERE id = $1 AND db_url = $2

-- name: sealed_keys_page
SELECT id, purpose, sealed FROM tenantgate.sys_keys WHERE id > $1 ORDER BY id LIMIT $2

-- name: sealed_keys_get
SELECT id, purpose, sealed FROM tenantgate.sys_keys WHERE id = $1

-- name: sealed_keys_put
UPDATE tenantgate.sys_keys SET sealed = $3
WHERE sealed = $2 AND id = (SELECT id FROM tenantgate.sys_keys WHERE id = $1 AND sealed = $2 FOR UPDATE SKIP LOCKED)

-- name: sealed_keys_put_waiting
UPDATE tenantgate.sys_keys SET sealed = $3 WHERE id = $1 AND sealed = $2

-- name: sealed_id_tokens_page
SELECT id, '', id_token FROM tenantgate.sys_sessions WHERE id > $1 ORDER BY id LIMIT $2

-- name: sealed_id_tokens_get
SELECT id, '', id_token FROM tenantgate.sys_sessions WHERE id = $1

-- name: sealed_id_tokens_put
UPDATE tenantgate.sys_sessions SET id_token = $3
WHERE id_token = $2 AND id = (SELECT id FROM tenantgate.sys_sessions WHERE id = $1 AND id_token = $2 FOR UPDATE SKIP LOCKED)

-- name: sealed_id_tokens_put_waiting
UPDATE tenantgate.sys_sessions SET id_token = $3 WHERE id = $1 AND id_token = $2
