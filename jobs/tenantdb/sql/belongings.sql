-- Where the role $1 owns something or was granted something: the database's name ('' for what is the server's own), and
-- whether it owns something there.
SELECT coalesce(d.datname::text, ''), bool_or(s.deptype = 'o')
FROM pg_catalog.pg_shdepend s
JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid AND s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid
WHERE r.rolname = $1 GROUP BY 1 ORDER BY 1
