-- What provisioning stands on beside the rows of sys_tenant_databases.

-- name: installation
SELECT id FROM tenantgate.sys_installation ORDER BY id LIMIT 1

-- name: host_place
-- The server that the host database lies on, and its name there.
SELECT system_identifier::text, current_database()::text FROM pg_catalog.pg_control_system() -- postgresql
SELECT '', '' -- sqlite
