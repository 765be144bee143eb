-- The chain over the audit log, and the rows that wait to be chained. docs/audit.md tells how they work.

-- +goose Up
CREATE TABLE tenantgate.sys_audit_chain (
	seq BIGINT NOT NULL, -- postgresql
	seq INTEGER NOT NULL, -- sqlite
	audit_id VARCHAR,
	row_hash VARCHAR NOT NULL,
	hash VARCHAR NOT NULL,
	chained_at VARCHAR NOT NULL,
	archived_by VARCHAR,
	PRIMARY KEY (seq)
);
CREATE INDEX tenantgate_audit_chain_row ON tenantgate.sys_audit_chain (audit_id);

-- A trigger writes it, in the transaction of the row; whoever chains the row takes it away.
CREATE TABLE tenantgate.sys_audit_queue (
	id BIGINT GENERATED ALWAYS AS IDENTITY, -- postgresql
	id INTEGER NOT NULL, -- sqlite
	row_at INTEGER, -- sqlite
	audit_id VARCHAR,
	PRIMARY KEY (id)
);

-- How far the rows are chained that were there before the trigger: one row. PostgreSQL goes by created_at and id, SQLite
-- by rowid, to the last one there was.
CREATE TABLE tenantgate.sys_audit_backfill (
	id INTEGER NOT NULL,
	created VARCHAR NOT NULL DEFAULT '',
	audit_id VARCHAR NOT NULL DEFAULT '',
	row_at BIGINT NOT NULL DEFAULT 0,
	row_to BIGINT,
	done BOOLEAN NOT NULL DEFAULT FALSE,
	PRIMARY KEY (id)
);
INSERT INTO tenantgate.sys_audit_backfill (id) VALUES (1);
