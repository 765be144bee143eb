-- What an import asks of its rows, which stand in the temporary table tenantgate_import: each statement gives line and
-- value of the first of those that break a rule. And what an import does beside inserting.

-- name: import_unknown_user
SELECT i.line, i.user_id FROM tenantgate_import i
WHERE NOT EXISTS (SELECT 1 FROM core_users u WHERE u.id = i.user_id)
ORDER BY i.line LIMIT 21

-- name: import_unknown_tenant
SELECT i.line, i.tenant_id FROM tenantgate_import i
WHERE NOT EXISTS (SELECT 1 FROM core_tenants t WHERE t.id = i.tenant_id)
ORDER BY i.line LIMIT 21

-- name: import_subject_twice
SELECT x.line, x.oauth_id FROM (
	SELECT i.line, i.oauth_id, row_number() OVER (PARTITION BY i.oauth_id ORDER BY i.line) AS n
	FROM tenantgate_import i WHERE i.oauth_id <> '') x
WHERE x.n > 1 ORDER BY x.line LIMIT 21

-- name: import_subject_taken
SELECT i.line, i.oauth_id FROM tenantgate_import i
WHERE i.oauth_id <> '' AND EXISTS (SELECT 1 FROM core_users u WHERE u.oauth_id = i.oauth_id)
ORDER BY i.line LIMIT 21

-- name: import_membership_twice
SELECT x.line, x.user_id || ' in ' || x.tenant_id FROM (
	SELECT i.line, i.user_id, i.tenant_id, row_number() OVER (PARTITION BY i.user_id, i.tenant_id ORDER BY i.line) AS n
	FROM tenantgate_import i WHERE i.is_active) x
WHERE x.n > 1 ORDER BY x.line LIMIT 21

-- name: import_membership_stands
SELECT i.line, i.user_id || ' in ' || i.tenant_id FROM tenantgate_import i
WHERE i.is_active AND EXISTS (
	SELECT 1 FROM core_memberships m WHERE m.user_id = i.user_id AND m.tenant_id = i.tenant_id AND m.is_active)
ORDER BY i.line LIMIT 21

-- name: import_id_is_slug
SELECT i.line, i.id FROM tenantgate_import i
WHERE EXISTS (SELECT 1 FROM tenantgate.core_tenant_domains d WHERE d.host = i.id AND d.kind = 'slug')
ORDER BY i.line LIMIT 21

-- name: import_domain_is_id
SELECT i.line, i.host FROM tenantgate_import i
WHERE EXISTS (SELECT 1 FROM core_tenants t WHERE t.id = i.host)
ORDER BY i.line LIMIT 21

-- name: import_forget_deletions
DELETE FROM tenantgate.sys_tenant_deletions WHERE tenant_id IN (SELECT i.id FROM tenantgate_import i)

-- name: import_lock_stripes
-- PostgreSQL: every stripe of $1's locks, in one order for all.
SELECT pg_advisory_xact_lock(hashtextextended($1 || n, 8387500981466145)) FROM generate_series(0, 255) AS n

-- name: import_audit
-- $1 who, $2 event, $3 from where, $4 when, and the key as the target
INSERT INTO sys_audit_logs (id, actor_user_id, event_type, target_id, details, ip_address, created_at)
SELECT i.audit_id, $1, $2, i.audit_target, i.audit_details, $3, $4 FROM tenantgate_import i WHERE true ORDER BY i.line

-- name: import_patience
-- PostgreSQL: a large import outlasts the guards of normal work.
SELECT set_config('statement_timeout', $1, true), set_config('idle_in_transaction_session_timeout', $1, true)
