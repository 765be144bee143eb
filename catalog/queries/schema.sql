-- What stands in the database.

-- name: home_schema
-- PostgreSQL: the schema of the eight tables: where core_users is found, else the first of the search path that is not
-- ours (a role named tenantgate has ours first). NULL if the search path is empty.
SELECT coalesce(
	(SELECT n.nspname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = pg_catalog.to_regclass('core_users')),
	(SELECT p.s::text FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS p (s, i)
		WHERE p.s <> 'tenantgate' ORDER BY p.i LIMIT 1))

-- name: postgresql_columns
-- columns of $1 (schema) as table.column
SELECT c.relname::text || '.' || a.attname::text
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped

-- name: sqlite_columns
SELECT m.name || '.' || p.name FROM sqlite_master m, pragma_table_info(m.name) p WHERE m.type IN ('table', 'view')

-- name: postgresql_indexes
-- indexes of $1 (schema) whose name is ours, and whether each is whole
SELECT c.relname::text, i.indisvalid AND i.indisready
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname LIKE 'tenantgate%'

-- name: sqlite_indexes
SELECT name, 1 FROM sqlite_master WHERE type = 'index' AND name LIKE 'tenantgate%'

-- name: schema_versions
-- the numbers of the migrations that were applied, as text
SELECT CAST(version_id AS VARCHAR) FROM tenantgate.sys_schema_versions WHERE is_applied

-- name: create_own_schema
CREATE SCHEMA IF NOT EXISTS tenantgate

-- name: own_schema_exists
SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = 'tenantgate'

-- name: migration_lock
SELECT pg_catalog.pg_try_advisory_lock(8387500981466146)

-- name: migration_unlock
SELECT pg_catalog.pg_advisory_unlock(8387500981466146)
