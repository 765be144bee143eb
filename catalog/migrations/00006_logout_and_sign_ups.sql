-- What providers end through the back channel, and who signed up from where.

-- +goose Up
CREATE INDEX tenantgate_sessions_sid ON tenantgate.sys_sessions (provider, sid);
CREATE INDEX tenantgate_sessions_subject ON tenantgate.sys_sessions (provider, subject);

-- Logout tokens that were used, until no replica would take them again. id is a hash over provider and jti.
CREATE TABLE tenantgate.sys_logout_tokens (
	id VARCHAR NOT NULL,
	provider VARCHAR NOT NULL,
	subject VARCHAR NOT NULL DEFAULT '',
	sid VARCHAR NOT NULL DEFAULT '',
	issued_at VARCHAR NOT NULL,
	expires_at VARCHAR NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX tenantgate_logout_tokens_sid ON tenantgate.sys_logout_tokens (provider, sid);
CREATE INDEX tenantgate_logout_tokens_subject ON tenantgate.sys_logout_tokens (provider, subject);
CREATE INDEX tenantgate_logout_tokens_expiry ON tenantgate.sys_logout_tokens (expires_at COLLATE "C");

-- Users that sign-up made, for an hour: what sign_up_limit counts, on all replicas together.
CREATE TABLE tenantgate.sys_sign_ups (
	id VARCHAR NOT NULL,
	user_id VARCHAR NOT NULL,
	tenant_id VARCHAR,
	network VARCHAR NOT NULL,
	created_at VARCHAR NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX tenantgate_sign_ups_network ON tenantgate.sys_sign_ups (network, created_at COLLATE "C");
CREATE INDEX tenantgate_sign_ups_age ON tenantgate.sys_sign_ups (created_at COLLATE "C");
