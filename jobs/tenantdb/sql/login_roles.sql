-- The login roles that are no tenant's, of whatever installation: their comment would begin with $1.
SELECT r.rolname::text FROM pg_catalog.pg_roles r
WHERE r.rolcanlogin AND NOT pg_catalog.starts_with(coalesce(pg_catalog.shobj_description(r.oid, 'pg_authid'), ''), $1)
ORDER BY 1
