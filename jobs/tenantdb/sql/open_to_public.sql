-- Which of the databases in $1, or with NULL of all, PUBLIC may connect to, and whether the owner is a tenant's role: its comment begins with $2.
-- One that takes no connections is being made or dropped: nobody could enter, and so nobody is to be named for it.
SELECT d.datname::text, pg_catalog.starts_with(coalesce(pg_catalog.shobj_description(d.datdba, 'pg_authid'), ''), $2) FROM pg_catalog.pg_database d
WHERE ($1::text[] IS NULL OR d.datname = ANY($1)) AND d.datallowconn AND EXISTS (
	SELECT FROM pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a
	WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT'
) ORDER BY 2, 1
