-- What the database $1 sets for its sessions and any role may set otherwise, with the values of this session. The role is not among them.
SELECT DISTINCT s.name, pg_catalog.current_setting(s.name)
FROM pg_catalog.pg_db_role_setting x
JOIN pg_catalog.pg_database d ON d.oid = x.setdatabase
CROSS JOIN LATERAL unnest(x.setconfig) c
JOIN pg_catalog.pg_settings s ON s.name = pg_catalog.split_part(c, '=', 1)
WHERE d.datname = $1 AND s.context = 'user'
