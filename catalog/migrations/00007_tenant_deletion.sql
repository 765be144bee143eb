-- Deleted tenants, whose rows are kept for a while; and what proves that a custom host is its tenant's.

-- +goose Up
CREATE TABLE tenantgate.sys_tenant_deletions (
	tenant_id VARCHAR NOT NULL,
	requested_at VARCHAR NOT NULL,
	requested_by VARCHAR,
	retain_until VARCHAR NOT NULL,
	was_active BOOLEAN,
	PRIMARY KEY (tenant_id)
);

ALTER TABLE tenantgate.core_tenant_domains ADD COLUMN challenge VARCHAR;
