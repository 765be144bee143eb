-- Tenants' life: the version of each tenant's own schema as it was last seen, how long requests under way may take once a
-- pause begins, and what becomes of deleted tenants.

-- +goose Up
CREATE TABLE tenantgate.sys_tenant_schemas (
	tenant_id VARCHAR NOT NULL,
	version BIGINT NOT NULL,
	checked_at VARCHAR NOT NULL,
	changed_at VARCHAR,
	failure VARCHAR,
	PRIMARY KEY (tenant_id)
);

ALTER TABLE tenantgate.sys_tenant_locks ADD COLUMN drain_seconds INTEGER;

-- A backup that was asked for (backup_dir) and not made (backup_at) keeps the tenant from being purged.
ALTER TABLE tenantgate.sys_tenant_deletions ADD COLUMN backup_dir VARCHAR;
ALTER TABLE tenantgate.sys_tenant_deletions ADD COLUMN backup_path VARCHAR;
ALTER TABLE tenantgate.sys_tenant_deletions ADD COLUMN backup_sha256 VARCHAR;
ALTER TABLE tenantgate.sys_tenant_deletions ADD COLUMN backup_at VARCHAR;
ALTER TABLE tenantgate.sys_tenant_deletions ADD COLUMN purging_at VARCHAR;
