-- Our own tables. In sys_user_blocks and sys_tenant_locks a row with user_id or tenant_id alone is enough.

-- +goose Up
CREATE TABLE tenantgate.core_tenant_domains (
	host VARCHAR NOT NULL,
	tenant_id VARCHAR NOT NULL,
	kind VARCHAR NOT NULL,
	verified BOOLEAN NOT NULL DEFAULT FALSE,
	created_at VARCHAR,
	PRIMARY KEY (host),
	CHECK (kind IN ('slug', 'host'))
);
CREATE INDEX tenantgate_domains_tenant ON tenantgate.core_tenant_domains (tenant_id);

CREATE TABLE tenantgate.sys_sessions (
	id VARCHAR NOT NULL,
	user_id VARCHAR NOT NULL,
	tenant_id VARCHAR,
	host VARCHAR NOT NULL,
	provider VARCHAR NOT NULL DEFAULT '',
	subject VARCHAR NOT NULL DEFAULT '',
	sid VARCHAR NOT NULL DEFAULT '',
	mac VARCHAR NOT NULL,
	id_token VARCHAR NOT NULL DEFAULT '',
	created_at VARCHAR NOT NULL,
	expires_at VARCHAR NOT NULL,
	last_seen VARCHAR,
	PRIMARY KEY (id)
);
CREATE INDEX tenantgate_sessions_user ON tenantgate.sys_sessions (user_id);
CREATE INDEX tenantgate_sessions_expiry ON tenantgate.sys_sessions (expires_at COLLATE "C");

CREATE TABLE tenantgate.sys_keys (
	id VARCHAR NOT NULL,
	purpose VARCHAR NOT NULL,
	sealed VARCHAR NOT NULL,
	created_at VARCHAR NOT NULL,
	retired_at VARCHAR,
	PRIMARY KEY (id)
);
CREATE INDEX tenantgate_keys_purpose ON tenantgate.sys_keys (purpose);

-- One tenant may be locked by several holders; it is paused while one of their rows stands.
CREATE TABLE tenantgate.sys_tenant_locks (
	tenant_id VARCHAR NOT NULL,
	holder VARCHAR NOT NULL DEFAULT '',
	reason VARCHAR,
	created_at VARCHAR,
	expires_at VARCHAR,
	PRIMARY KEY (tenant_id, holder)
);

CREATE TABLE tenantgate.sys_user_blocks (
	user_id VARCHAR NOT NULL,
	reason VARCHAR,
	created_at VARCHAR,
	PRIMARY KEY (user_id)
);
