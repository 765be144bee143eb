-- Which of the databases in $1 PUBLIC may connect to.
SELECT d.datname::text FROM pg_catalog.pg_database d
WHERE d.datname = ANY($1) AND EXISTS (
	SELECT FROM pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a
	WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT'
) ORDER BY 1
