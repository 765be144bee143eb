-- What roles whose comment begins with $1 were granted by name on databases that are not their own.
SELECT r.rolname::text, d.datname::text, array_agg(a.privilege_type ORDER BY a.privilege_type)
FROM pg_catalog.pg_database d
CROSS JOIN LATERAL pg_catalog.aclexplode(d.datacl) a
JOIN pg_catalog.pg_roles r ON r.oid = a.grantee AND r.oid <> d.datdba
JOIN pg_catalog.pg_shdescription c ON c.objoid = r.oid AND c.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass
WHERE pg_catalog.starts_with(c.description, $1)
GROUP BY r.rolname, d.datname ORDER BY 1, 2
