-- What was refused, as it was written to the audit log; and which tenant a person's sign-up made.

-- +goose Up
-- Batches of counted denials, for a day: so that one batch is written once, and all replicas together keep the limit of
-- a minute.
CREATE TABLE tenantgate.sys_denial_batches (
	id VARCHAR NOT NULL,
	minute VARCHAR NOT NULL,
	written BIGINT NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX tenantgate_denial_batches_minute ON tenantgate.sys_denial_batches (minute COLLATE "C");

-- The one tenant of each person who signed up for it.
CREATE TABLE tenantgate.sys_tenant_sign_ups (
	user_id VARCHAR NOT NULL,
	tenant_id VARCHAR NOT NULL,
	name VARCHAR NOT NULL,
	plan_tier VARCHAR NOT NULL,
	job_id VARCHAR,
	created_at VARCHAR NOT NULL,
	PRIMARY KEY (user_id)
);
CREATE INDEX tenantgate_tenant_sign_ups_tenant ON tenantgate.sys_tenant_sign_ups (tenant_id);
