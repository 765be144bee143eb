-- What in existing data is doubtful. Each statement returns ids, in the order of bytes; Check counts them.

-- name: duplicate_oauth_id
-- users that share an oauth_id
SELECT u.id FROM core_users u
WHERE u.oauth_id IN (SELECT x.oauth_id FROM core_users x WHERE x.oauth_id <> '' GROUP BY x.oauth_id HAVING count(*) > 1)
ORDER BY u.oauth_id COLLATE "C", u.id COLLATE "C"

-- name: duplicate_email
-- users that share an address, ASCII case folded
SELECT u.id FROM core_users u
WHERE lower(u.email COLLATE "C") IN (SELECT lower(x.email COLLATE "C") FROM core_users x WHERE x.email <> ''
	GROUP BY lower(x.email COLLATE "C") HAVING count(*) > 1)
ORDER BY lower(u.email COLLATE "C"), u.id COLLATE "C"

-- name: duplicate_membership
-- memberships of one user in one tenant
SELECT m.id FROM core_memberships m
JOIN (SELECT x.user_id, x.tenant_id FROM core_memberships x GROUP BY x.user_id, x.tenant_id HAVING count(*) > 1) d
	ON d.user_id = m.user_id AND d.tenant_id = m.tenant_id
ORDER BY m.user_id COLLATE "C", m.tenant_id COLLATE "C", m.id COLLATE "C"

-- name: null_tenant_flag
SELECT t.id FROM core_tenants t WHERE t.is_active IS NULL ORDER BY t.id COLLATE "C"

-- name: null_membership_flag
SELECT m.id FROM core_memberships m WHERE m.is_active IS NULL ORDER BY m.id COLLATE "C"

-- name: unreachable_id
-- rows that nothing can name
SELECT coalesce(id, '') FROM core_users WHERE id IS NULL OR id = ''
UNION ALL SELECT coalesce(id, '') FROM core_tenants WHERE id IS NULL OR id = ''
UNION ALL SELECT coalesce(id, '') FROM core_memberships WHERE id IS NULL OR id = ''
UNION ALL SELECT coalesce(id, '') FROM core_subscriptions WHERE id IS NULL OR id = ''
UNION ALL SELECT coalesce(id, '') FROM core_pricing_plans WHERE id IS NULL OR id = ''

-- name: tenant_without_host
-- tenants whose id is no host label and that have no slug
SELECT t.id FROM core_tenants t
WHERE (t.id <> lower(t.id COLLATE "C") OR t.id LIKE '%.%' OR t.id LIKE '%/%' OR t.id LIKE '-%' OR t.id LIKE '%-'
		OR t.id LIKE '% %' OR length(t.id) > 63)
	AND NOT EXISTS (SELECT 1 FROM tenantgate.core_tenant_domains d WHERE d.tenant_id = t.id AND d.kind = 'slug')
ORDER BY t.id COLLATE "C"

-- name: slug_shadowed
-- slugs that equal a tenant's id: the id wins
SELECT d.host FROM tenantgate.core_tenant_domains d
WHERE d.kind = 'slug' AND EXISTS (SELECT 1 FROM core_tenants t WHERE t.id = d.host)
ORDER BY d.host COLLATE "C"

-- name: membership_dangling
-- memberships that name a user or a tenant that is not there
SELECT m.id FROM core_memberships m
WHERE NOT EXISTS (SELECT 1 FROM core_users u WHERE u.id = m.user_id)
	OR NOT EXISTS (SELECT 1 FROM core_tenants t WHERE t.id = m.tenant_id)
ORDER BY m.id COLLATE "C"

-- name: audit_rewritten
-- PostgreSQL: rows of sys_audit_logs that were changed or deleted, and since when that is counted
SELECT coalesce(sum(s.n_tup_upd + s.n_tup_del), 0),
	(SELECT pg_catalog.to_char(d.stats_reset AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS')
		FROM pg_catalog.pg_stat_database d WHERE d.datname = pg_catalog.current_database())
FROM pg_catalog.pg_stat_all_tables s
WHERE s.relid = pg_catalog.to_regclass('sys_audit_logs')

-- name: audit_gaps
-- SQLite: rows that were deleted before the last one. A new row's number is one more than the largest, and VACUUM may
-- number all rows anew: no gap proves nothing.
SELECT coalesce(max(rowid) - min(rowid) + 1 - count(*), 0) FROM sys_audit_logs

-- name: tenants_without_domains
-- tenant_without_host as asked before our own tables exist
SELECT t.id FROM core_tenants t
WHERE t.id <> lower(t.id COLLATE "C") OR t.id LIKE '%.%' OR t.id LIKE '%/%' OR t.id LIKE '-%' OR t.id LIKE '%-'
	OR t.id LIKE '% %' OR length(t.id) > 63
ORDER BY t.id COLLATE "C"
