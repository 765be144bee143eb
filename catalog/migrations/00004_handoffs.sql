-- Sign-in on several hosts. Sessions of one sign-in share sign_in ('' in rows from before: such a row is a sign-in of
-- its own, named by its id) and signed_in_at ('': created_at). A session with only_tenant reaches that tenant alone.

-- +goose Up
ALTER TABLE tenantgate.sys_sessions ADD COLUMN sign_in VARCHAR NOT NULL DEFAULT '';
ALTER TABLE tenantgate.sys_sessions ADD COLUMN signed_in_at VARCHAR NOT NULL DEFAULT '';
ALTER TABLE tenantgate.sys_sessions ADD COLUMN only_tenant VARCHAR;

-- A sign-in on its way from public_url to another host. Nothing in a row opens anything: neither code nor nonce is
-- stored, and the MAC binds all of the row to the code.
CREATE TABLE tenantgate.sys_handoffs (
	code_hash VARCHAR NOT NULL,
	user_id VARCHAR NOT NULL,
	tenant_id VARCHAR,
	only_tenant VARCHAR,
	host VARCHAR NOT NULL,
	nonce_hash VARCHAR NOT NULL,
	sign_in VARCHAR NOT NULL,
	provider VARCHAR NOT NULL DEFAULT '',
	subject VARCHAR NOT NULL DEFAULT '',
	sid VARCHAR NOT NULL DEFAULT '',
	mac VARCHAR NOT NULL,
	signed_in_at VARCHAR NOT NULL,
	session_expires_at VARCHAR NOT NULL,
	created_at VARCHAR NOT NULL,
	expires_at VARCHAR NOT NULL,
	PRIMARY KEY (code_hash)
);
CREATE INDEX tenantgate_handoffs_user ON tenantgate.sys_handoffs (user_id);
