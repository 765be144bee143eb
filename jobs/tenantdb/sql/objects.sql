-- Databases and roles; $1 the names of databases to look at, or NULL for all that carry, or whose owner carries, a
-- comment that begins with $2, and for roles that do and own none.
WITH ours AS (
	SELECT r.oid, r.rolname::text AS rolname, pg_catalog.substr(c.description, pg_catalog.length($2) + 1) AS mark,
		pg_catalog.array_remove(ARRAY[
			CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
			CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END,
			CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END
		]::text[] || ARRAY(
			SELECT 'member of ' || g.rolname FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
			WHERE m.member = r.oid ORDER BY g.rolname
		), NULL) AS excess
	FROM pg_catalog.pg_roles r
	JOIN pg_catalog.pg_shdescription c ON c.objoid = r.oid AND c.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass
	WHERE pg_catalog.starts_with(c.description, $2)
), bases AS (
	SELECT d.datname::text AS datname, pg_catalog.pg_get_userbyid(d.datdba)::text AS owner, d.datdba, d.datallowconn,
		CASE WHEN pg_catalog.starts_with(c.description, $2) THEN pg_catalog.substr(c.description, pg_catalog.length($2) + 1) END AS mark,
		ARRAY(
			SELECT a.privilege_type FROM pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a
			WHERE a.grantee = 0 ORDER BY a.privilege_type
		) AS public_rights
	FROM pg_catalog.pg_database d
	LEFT JOIN pg_catalog.pg_shdescription c ON c.objoid = d.oid AND c.classoid = 'pg_catalog.pg_database'::pg_catalog.regclass
)
SELECT coalesce(b.datname, ''), coalesce(b.owner, ''), coalesce(o.rolname, ''), coalesce(o.mark, b.mark, ''),
	coalesce(b.datallowconn, false), coalesce(b.public_rights, '{}'), coalesce(o.excess, '{}')
FROM bases b FULL JOIN ours o ON o.oid = b.datdba
WHERE CASE WHEN $1::text[] IS NULL THEN o.oid IS NOT NULL OR b.mark IS NOT NULL ELSE b.datname = ANY($1) END
ORDER BY coalesce(b.datname, o.rolname) COLLATE "C"
