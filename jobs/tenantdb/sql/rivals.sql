-- Whether other sessions of administrators, in whatever database of the server, claim $1: one whose process id comes before
-- ours, and one whose comes behind. An administrator is who makes roles, and who we are. usesysid is whom the session logged
-- in as: no SET ROLE changes it.
SELECT coalesce(bool_or(l.pid < pg_catalog.pg_backend_pid()), false), coalesce(bool_or(l.pid > pg_catalog.pg_backend_pid()), false)
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid::bigint = $1::integer::bigint & 4294967295
	AND l.pid <> pg_catalog.pg_backend_pid() AND (r.rolsuper OR r.rolcreaterole OR r.rolname = session_user)
