-- For whom a tenant's database is made: what a later run, or a row of sys_jobs that anybody inserts, must not change.

-- +goose Up
-- The user who becomes the owner; NULL for nobody.
ALTER TABLE tenantgate.sys_tenant_databases ADD COLUMN user_id VARCHAR;
-- created_at of the tenant's row: another row of the same id is another tenant, which gets nothing of this one's. '' for a
-- row without one, NULL where it was not recorded.
ALTER TABLE tenantgate.sys_tenant_databases ADD COLUMN tenant_created_at VARCHAR;
