-- The databases that provisioning made for tenants. A row is written before anything is created on a server: what no row
-- names is never taken over, and never dropped.

-- +goose Up
CREATE TABLE tenantgate.sys_tenant_databases (
	tenant_id VARCHAR NOT NULL,
	engine VARCHAR NOT NULL,
	server VARCHAR NOT NULL,
	database_name VARCHAR NOT NULL,
	role_name VARCHAR NOT NULL DEFAULT '',
	mark VARCHAR NOT NULL,
	step VARCHAR NOT NULL,
	problem VARCHAR,
	run VARCHAR NOT NULL DEFAULT '',
	created_at VARCHAR NOT NULL,
	updated_at VARCHAR NOT NULL,
	PRIMARY KEY (tenant_id)
);
CREATE UNIQUE INDEX tenantgate_tenant_databases_name ON tenantgate.sys_tenant_databases (server, database_name);

-- One row: what tells this host database's objects from another's on a server that both provision on.
CREATE TABLE tenantgate.sys_installation (
	id VARCHAR NOT NULL,
	PRIMARY KEY (id)
);
INSERT INTO tenantgate.sys_installation (id)
SELECT replace(gen_random_uuid()::text, '-', ''); -- postgresql
SELECT lower(hex(randomblob(16))); -- sqlite
