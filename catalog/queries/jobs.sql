-- Jobs: rows of sys_jobs whose job_type begins with "tenantgate.", and what sys_job_runs keeps of each. Those of other
-- programs match no statement here.

-- name: job_due_exists
-- $1 now, $2 types that are not taken (values of a JSON object). Is there a job whose time has come?
SELECT CASE WHEN EXISTS (
	SELECT 1 FROM tenantgate.sys_job_runs r JOIN sys_jobs j ON j.id = r.job_id
	WHERE r.done_at IS NULL AND r.due_at COLLATE "C" <= $1
		AND r.job_type NOT IN (SELECT a.value FROM jsonb_each_text($2) a)
) THEN 1 ELSE 0 END

-- name: job_survey
-- $1 now, $2 the types that come round, by the ids of their jobs. 'adopt': another program inserted a job; 'over', type: its
-- period is; 'due', type: its job is. The order leads PostgreSQL to the index that holds our jobs alone, whatever it thinks
-- how many there are.
SELECT 'adopt', '' WHERE 0 < (SELECT count(*) FROM (
	SELECT j.id FROM sys_jobs j
	WHERE j.job_type COLLATE "C" >= 'tenantgate.' AND j.job_type COLLATE "C" < 'tenantgate/'
		AND (j.status IS NULL OR j.status NOT IN ('completed', 'failed', 'canceled', 'cancelled'))
		AND NOT EXISTS (SELECT 1 FROM tenantgate.sys_job_runs o WHERE o.job_id = j.id AND o.done_at IS NULL)
	ORDER BY j.job_type
	LIMIT 1) found)
UNION ALL
SELECT CASE WHEN r.done_at IS NULL AND r.due_at COLLATE "C" <= $1 THEN 'due' ELSE 'over' END, a.value
FROM jsonb_each_text($2) a
JOIN tenantgate.sys_job_runs r ON r.job_id = a.key
WHERE r.done_at IS NULL AND r.due_at COLLATE "C" <= $1
	OR r.next_at COLLATE "C" <= $1
		AND (r.done_at IS NOT NULL OR r.holder = '' AND NOT EXISTS (SELECT 1 FROM sys_jobs j WHERE j.id = r.job_id))

-- name: job_adopt
-- $1 now, $2 when a job is taken that calls itself running without being it, $3 how many. Jobs that others inserted, or
-- made pending again.
INSERT INTO tenantgate.sys_job_runs AS r (job_id, job_type, run_at, due_at)
SELECT j.id, j.job_type, CAST($1 AS VARCHAR), CASE WHEN j.status = 'running' THEN CAST($2 AS VARCHAR) ELSE CAST($1 AS VARCHAR) END
FROM sys_jobs j
WHERE j.job_type COLLATE "C" >= 'tenantgate.' AND j.job_type COLLATE "C" < 'tenantgate/'
	AND (j.status IS NULL OR j.status NOT IN ('completed', 'failed', 'canceled', 'cancelled'))
	AND j.id <> ''
	AND typeof(j.id) = 'text' -- sqlite
	AND NOT EXISTS (SELECT 1 FROM tenantgate.sys_job_runs o WHERE o.job_id = j.id AND o.done_at IS NULL)
ORDER BY j.job_type
LIMIT $3
ON CONFLICT (job_id) DO UPDATE
SET job_type = excluded.job_type, run_at = excluded.run_at, due_at = excluded.due_at, attempt = 0, holder = '',
	unique_key = NULL, canceled_by = NULL, done_at = NULL, keep_until = NULL

-- name: job_nameless
-- $1 now. Nothing can name such a row, so nothing could say how it ended.
UPDATE sys_jobs SET status = 'failed', error_log = 'a job needs an id', completed_at = $1
WHERE job_type COLLATE "C" >= 'tenantgate.' AND job_type COLLATE "C" < 'tenantgate/'
	AND (status IS NULL OR status NOT IN ('completed', 'failed', 'canceled', 'cancelled'))
	AND coalesce(id, '') = '' -- postgresql
	AND (coalesce(id, '') = '' OR typeof(id) <> 'text') -- sqlite

-- name: job_due
-- $1 now, $2 types that are not taken (values of a JSON object), $3 how many. Locked; what another transaction has locked
-- is passed over.
SELECT r.job_id, r.attempt, r.holder, r.canceled_by, j.job_type, j.status,
	CASE WHEN octet_length(j.payload) <= 1048576 THEN j.payload END, coalesce(octet_length(j.payload), 0) -- postgresql
	CASE WHEN length(CAST(j.payload AS BLOB)) <= 1048576 THEN j.payload END, coalesce(length(CAST(j.payload AS BLOB)), 0) -- sqlite
FROM tenantgate.sys_job_runs r
JOIN sys_jobs j ON j.id = r.job_id
WHERE r.done_at IS NULL AND r.due_at COLLATE "C" <= $1
	AND r.job_type NOT IN (SELECT a.value FROM jsonb_each_text($2) a)
ORDER BY r.due_at COLLATE "C"
LIMIT $3
FOR UPDATE OF r, j SKIP LOCKED -- postgresql

-- name: job_due_one
-- $1 id, $2 now. As job_due, before its time too, unless somebody has it.
SELECT r.job_id, r.attempt, r.holder, r.canceled_by, j.job_type, j.status,
	CASE WHEN octet_length(j.payload) <= 1048576 THEN j.payload END, coalesce(octet_length(j.payload), 0) -- postgresql
	CASE WHEN length(CAST(j.payload AS BLOB)) <= 1048576 THEN j.payload END, coalesce(length(CAST(j.payload AS BLOB)), 0) -- sqlite
FROM tenantgate.sys_job_runs r
JOIN sys_jobs j ON j.id = r.job_id
WHERE r.job_id = $1 AND r.done_at IS NULL AND (r.holder = '' OR r.due_at COLLATE "C" <= $2)
FOR UPDATE OF r, j SKIP LOCKED -- postgresql

-- name: job_lease
-- $1 id, $2 type, $3 attempts at most, $4 holder, $5 the lease's end, $6 now
UPDATE tenantgate.sys_job_runs
SET job_type = $2, attempt = attempt + 1, max_attempts = $3, holder = $4, token = token + 1, due_at = $5, started_at = $6
WHERE job_id = $1
RETURNING token

-- name: job_running
-- $1 id, $2 now
UPDATE sys_jobs SET status = 'running', created_at = coalesce(nullif(created_at, ''), $2), completed_at = NULL WHERE id = $1

-- name: job_renew
-- $1 id, $2 holder, $3 token, $4 the lease's new end
UPDATE tenantgate.sys_job_runs SET due_at = $4 WHERE job_id = $1 AND holder = $2 AND token = $3 AND done_at IS NULL

-- name: job_held
-- $1 id, $2 holder, $3 token; locked, so that nobody takes the job before the transaction ends.
SELECT count(*) FROM (
	SELECT 1 FROM tenantgate.sys_job_runs WHERE job_id = $1 AND holder = $2 AND token = $3 AND done_at IS NULL
	FOR UPDATE -- postgresql
) held

-- name: job_end
-- $1 id, $2 holder, $3 token, $4 now, $5 until when it is kept
UPDATE tenantgate.sys_job_runs
SET done_at = $4, holder = '', keep_until = CASE WHEN next_at IS NULL THEN $5 END
WHERE job_id = $1 AND holder = $2 AND token = $3 AND done_at IS NULL

-- name: job_ended
-- $1 id, $2 status, $3 error_log, $4 now, $5 type. What another program made of its status, or of its type, stands.
UPDATE sys_jobs SET status = $2, error_log = $3, completed_at = $4 WHERE id = $1 AND status = 'running' AND job_type = $5

-- name: job_put_back
-- $1 id, $2 holder, $3 token, $4 when it is tried again, $5 how many attempts did not count
UPDATE tenantgate.sys_job_runs
SET holder = '', run_at = $4, due_at = $4, attempt = attempt - $5
WHERE job_id = $1 AND holder = $2 AND token = $3 AND done_at IS NULL

-- name: job_waits
-- $1 id, $2 error_log, $3 type
UPDATE sys_jobs SET status = 'pending', error_log = $2 WHERE id = $1 AND status = 'running' AND job_type = $3

-- name: job_drop
-- $1 id: it is no job of ours any more. What comes round is kept.
DELETE FROM tenantgate.sys_job_runs WHERE job_id = $1 AND next_at IS NULL

-- name: job_over
-- $1 id, $2 now, $3 until when it is kept: whatever it is, it runs no more
UPDATE tenantgate.sys_job_runs
SET done_at = $2, holder = '', token = token + 1, keep_until = CASE WHEN next_at IS NULL THEN $3 END
WHERE job_id = $1 AND done_at IS NULL

-- name: job_refuse
-- $1 id, $2 error_log, $3 now
UPDATE sys_jobs
SET status = 'failed', error_log = $2, created_at = coalesce(nullif(created_at, ''), CAST($3 AS VARCHAR)), completed_at = CAST($3 AS VARCHAR)
WHERE id = $1 AND (status IS NULL OR status NOT IN ('completed', 'failed', 'canceled', 'cancelled'))

-- name: job_run_insert
-- $1 id, $2 type, $3 when, $4 key
INSERT INTO tenantgate.sys_job_runs (job_id, job_type, run_at, due_at, unique_key) VALUES ($1, $2, $3, $3, $4)
ON CONFLICT DO NOTHING

-- name: job_insert
-- $1 id, $2 type, $3 payload, $4 now
INSERT INTO sys_jobs (id, job_type, status, payload, created_at) VALUES ($1, $2, 'pending', $3, $4)

-- name: job_by_key
SELECT job_id FROM tenantgate.sys_job_runs WHERE unique_key = $1 AND done_at IS NULL

-- name: job_every
-- $1 id, $2 type, $3 now, $4 when it first runs, $5 now and one interval, which an existing row does not wait longer than
INSERT INTO tenantgate.sys_job_runs AS r (job_id, job_type, run_at, due_at, next_at, done_at) VALUES ($1, $2, $3, $3, $4, $3)
ON CONFLICT (job_id) DO UPDATE SET next_at = CAST($5 AS VARCHAR) WHERE r.next_at IS NULL OR r.next_at COLLATE "C" > CAST($5 AS VARCHAR)

-- name: job_arm
-- $1 id, $2 now, $3 now and one interval, $4 type. Periods that were missed are run once.
UPDATE tenantgate.sys_job_runs
SET job_type = $4, run_at = CAST($2 AS VARCHAR), due_at = CAST($2 AS VARCHAR), next_at = $3, attempt = 0, canceled_by = NULL, done_at = NULL
WHERE job_id = CAST($1 AS VARCHAR) AND next_at COLLATE "C" <= CAST($2 AS VARCHAR) AND (done_at IS NOT NULL
	OR holder = '' AND NOT EXISTS (SELECT 1 FROM sys_jobs j WHERE j.id = CAST($1 AS VARCHAR)))

-- name: job_armed
-- $1 id, $2 type, $3 now. A row that another program made its own stays as it is.
INSERT INTO sys_jobs AS s (id, job_type, status, created_at) VALUES ($1, $2, 'pending', $3)
ON CONFLICT (id) DO UPDATE
SET job_type = excluded.job_type, status = excluded.status, created_at = excluded.created_at, completed_at = NULL
WHERE s.job_type COLLATE "C" >= 'tenantgate.' AND s.job_type COLLATE "C" < 'tenantgate/'

-- name: job_runs
-- $1 ids, as the values of a JSON object
SELECT r.job_id, r.job_type, r.attempt, r.max_attempts, r.run_at, r.holder, r.token, r.unique_key, r.canceled_by, r.next_at,
	r.started_at, r.done_at, j.status, j.job_type
FROM jsonb_each_text($1) a
JOIN tenantgate.sys_job_runs r ON r.job_id = a.value
LEFT JOIN sys_jobs j ON j.id = r.job_id

-- name: job_backlog
-- $1 now. How many wait although their time has come, and since when the oldest.
SELECT count(*), min(r.run_at COLLATE "C")
FROM tenantgate.sys_job_runs r
WHERE r.done_at IS NULL AND r.due_at COLLATE "C" <= $1 AND r.holder = ''

-- name: job_cancel
-- $1 id, $2 who. Only what runs.
UPDATE tenantgate.sys_job_runs SET canceled_by = $2 WHERE job_id = $1 AND done_at IS NULL AND holder <> ''

-- name: job_count_key
-- how many jobs other than $1 that are not over have its key
SELECT count(*) FROM tenantgate.sys_job_runs o
WHERE o.done_at IS NULL AND o.job_id <> $1
	AND o.unique_key = (SELECT r.unique_key FROM tenantgate.sys_job_runs r WHERE r.job_id = $1)

-- name: job_again
-- $1 id, $2 type, $3 now. With a row of its own or, inserted by another program, without.
INSERT INTO tenantgate.sys_job_runs AS r (job_id, job_type, run_at, due_at) VALUES ($1, $2, $3, $3)
ON CONFLICT (job_id) DO UPDATE
SET run_at = excluded.run_at, due_at = excluded.due_at, attempt = 0, holder = '', canceled_by = NULL, done_at = NULL, keep_until = NULL

-- name: job_pending
-- $1 id
UPDATE sys_jobs SET status = 'pending', completed_at = NULL WHERE id = $1

-- name: job_old
-- $1 now, $2 how many
SELECT r.job_id FROM tenantgate.sys_job_runs r
WHERE r.keep_until COLLATE "C" <= $1
ORDER BY r.keep_until COLLATE "C"
LIMIT $2
FOR UPDATE SKIP LOCKED -- postgresql

-- name: job_delete
-- $1 ids, as the values of a JSON object. A row that is no job of ours any more stays.
DELETE FROM sys_jobs
WHERE id IN (SELECT a.value FROM jsonb_each_text($1) a)
	AND job_type COLLATE "C" >= 'tenantgate.' AND job_type COLLATE "C" < 'tenantgate/'
	AND status IN ('completed', 'failed', 'canceled', 'cancelled')

-- name: job_runs_delete
DELETE FROM tenantgate.sys_job_runs WHERE job_id IN (SELECT a.value FROM jsonb_each_text($1) a)

-- name: job_orphans_delete
-- $1 an hour ago, $2 how many. Jobs whose rows another program removed.
DELETE FROM tenantgate.sys_job_runs WHERE job_id IN (
	SELECT r.job_id FROM tenantgate.sys_job_runs r
	WHERE r.done_at IS NULL AND r.next_at IS NULL AND r.due_at COLLATE "C" <= $1
		AND NOT EXISTS (SELECT 1 FROM sys_jobs j WHERE j.id = r.job_id)
	LIMIT $2)
