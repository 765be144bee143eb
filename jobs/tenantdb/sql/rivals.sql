-- Whether a session that is connected to another database of the server has the advisory lock $1: one whose database comes
-- before ours, and one whose database comes behind.
SELECT coalesce(bool_or(l.database < d.oid), false), coalesce(bool_or(l.database > d.oid), false)
FROM pg_catalog.pg_locks l, pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database() AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
	AND l.classid::bigint = ($1::bigint >> 32) & 4294967295 AND l.objid::bigint = $1::bigint & 4294967295
