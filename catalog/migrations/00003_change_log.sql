-- What became of rows that answers depend on: keys, never facts. Triggers write it, in the writer's own transaction.

-- +goose Up
-- On PostgreSQL ids do not come in the order of commits: xid, the writer's transaction, is what a look goes by. On
-- SQLite, which has one writer, they do, and AUTOINCREMENT uses none again.
CREATE TABLE tenantgate.sys_changes (
	xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(), -- postgresql
	id BIGINT GENERATED ALWAYS AS IDENTITY, -- postgresql
	id INTEGER PRIMARY KEY AUTOINCREMENT, -- sqlite
	kind VARCHAR NOT NULL,
	row_id VARCHAR,
	user_id VARCHAR,
	tenant_id VARCHAR,
	subject VARCHAR,
	every_row BOOLEAN NOT NULL DEFAULT FALSE,
	changed_at VARCHAR NOT NULL DEFAULT pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.clock_timestamp()), 'YYYY-MM-DD"T"HH24:MI:SS.US'), -- postgresql
	PRIMARY KEY (xid, id) -- postgresql
	changed_at VARCHAR NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f', 'now')) -- sqlite
);

-- Once in a while: everything below horizon (an xid; on SQLite an id) is visible at made_at. Of the marks that are
-- swept the highest is where the log begins: what is below may have been removed.
CREATE TABLE tenantgate.sys_change_marks (
	horizon xid8 NOT NULL, -- postgresql
	horizon INTEGER NOT NULL, -- sqlite
	swept BOOLEAN NOT NULL DEFAULT FALSE,
	made_at VARCHAR NOT NULL DEFAULT pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.clock_timestamp()), 'YYYY-MM-DD"T"HH24:MI:SS.US'), -- postgresql
	made_at VARCHAR NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f', 'now')), -- sqlite
	PRIMARY KEY (horizon)
);
