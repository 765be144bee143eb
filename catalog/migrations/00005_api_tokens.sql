-- API tokens of users (tg_…) and of administrators (tga_…). Nothing in a row opens anything: the token is not stored,
-- only its MAC, which binds id, kind, user, tenant and end.

-- +goose Up
CREATE TABLE tenantgate.sys_api_tokens (
	id VARCHAR NOT NULL,
	user_id VARCHAR,
	tenant_id VARCHAR,
	kind VARCHAR NOT NULL,
	name VARCHAR,
	mac VARCHAR NOT NULL,
	created_at VARCHAR NOT NULL,
	created_by VARCHAR,
	expires_at VARCHAR,
	last_used VARCHAR,
	PRIMARY KEY (id),
	CHECK (kind IN ('user', 'admin'))
);
CREATE INDEX tenantgate_api_tokens_user ON tenantgate.sys_api_tokens (user_id);
CREATE INDEX tenantgate_api_tokens_tenant ON tenantgate.sys_api_tokens (tenant_id);
