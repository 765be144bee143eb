-- What the job engine keeps of those rows of sys_jobs that are ours, and who alone may do what only one may.

-- +goose Up
-- due_at is when somebody may take the job: run_at while it waits, the lease's end while it runs. Who takes it gets the
-- next token; what an earlier token writes does not count. A periodic job keeps its row: next_at is when it runs again.
-- Of the others row and job are removed after keep_until.
CREATE TABLE tenantgate.sys_job_runs (
	job_id VARCHAR NOT NULL,
	job_type VARCHAR NOT NULL,
	attempt BIGINT NOT NULL DEFAULT 0,
	max_attempts BIGINT NOT NULL DEFAULT 0,
	run_at VARCHAR NOT NULL,
	due_at VARCHAR NOT NULL,
	holder VARCHAR NOT NULL DEFAULT '',
	token BIGINT NOT NULL DEFAULT 0,
	unique_key VARCHAR,
	canceled_by VARCHAR,
	next_at VARCHAR,
	started_at VARCHAR,
	done_at VARCHAR,
	keep_until VARCHAR,
	PRIMARY KEY (job_id)
);
CREATE INDEX tenantgate_job_runs_due ON tenantgate.sys_job_runs (due_at COLLATE "C") WHERE done_at IS NULL;
CREATE UNIQUE INDEX tenantgate_job_runs_key ON tenantgate.sys_job_runs (unique_key) WHERE done_at IS NULL;
CREATE INDEX tenantgate_job_runs_keep ON tenantgate.sys_job_runs (keep_until COLLATE "C") WHERE keep_until IS NOT NULL;
CREATE INDEX tenantgate_job_runs_next ON tenantgate.sys_job_runs (next_at COLLATE "C") WHERE next_at IS NOT NULL;

CREATE TABLE tenantgate.sys_leases (
	name VARCHAR NOT NULL,
	holder VARCHAR NOT NULL,
	token BIGINT NOT NULL,
	expires_at VARCHAR NOT NULL,
	PRIMARY KEY (name)
);

-- What has ended is found by its end.
CREATE INDEX tenantgate_handoffs_expiry ON tenantgate.sys_handoffs (expires_at COLLATE "C");
CREATE INDEX tenantgate_api_tokens_expiry ON tenantgate.sys_api_tokens (expires_at COLLATE "C") WHERE expires_at IS NOT NULL;
