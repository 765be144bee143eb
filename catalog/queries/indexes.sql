-- Indexes on the eight tables, made one by one, beside other programs' work. The name of each statement is the index's.

-- name: tenantgate_users_oauth_id
CREATE INDEX CONCURRENTLY IF NOT EXISTS tenantgate_users_oauth_id ON core_users (oauth_id)

-- name: tenantgate_users_email
CREATE INDEX CONCURRENTLY IF NOT EXISTS tenantgate_users_email ON core_users (lower(email COLLATE "C"))

-- name: tenantgate_users_oauth_id_unique
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS tenantgate_users_oauth_id_unique ON core_users (oauth_id) WHERE oauth_id <> ''

-- name: tenantgate_memberships_user_tenant
CREATE INDEX CONCURRENTLY IF NOT EXISTS tenantgate_memberships_user_tenant ON core_memberships (user_id, tenant_id)

-- name: tenantgate_memberships_tenant
CREATE INDEX CONCURRENTLY IF NOT EXISTS tenantgate_memberships_tenant ON core_memberships (tenant_id)

-- name: tenantgate_subscriptions_newest
CREATE INDEX CONCURRENTLY IF NOT EXISTS tenantgate_subscriptions_newest
ON core_subscriptions (tenant_id, payment_type, (coalesce(created_at, '')) COLLATE "C")

-- name: tenantgate_subscriptions_stripe_sub
CREATE INDEX CONCURRENTLY IF NOT EXISTS tenantgate_subscriptions_stripe_sub ON core_subscriptions (stripe_sub_id)

-- name: tenantgate_subscriptions_stripe_cust
CREATE INDEX CONCURRENTLY IF NOT EXISTS tenantgate_subscriptions_stripe_cust ON core_subscriptions (stripe_cust_id)

-- name: tenantgate_plans_monthly
CREATE INDEX CONCURRENTLY IF NOT EXISTS tenantgate_plans_monthly ON core_pricing_plans (stripe_price_monthly)

-- name: tenantgate_plans_yearly
CREATE INDEX CONCURRENTLY IF NOT EXISTS tenantgate_plans_yearly ON core_pricing_plans (stripe_price_yearly)

-- name: tenantgate_audit_created
CREATE INDEX CONCURRENTLY IF NOT EXISTS tenantgate_audit_created
ON sys_audit_logs ((coalesce(created_at, '')) COLLATE "C", (coalesce(id, '')) COLLATE "C")

-- name: tenantgate_jobs_open
-- Of other programs' jobs, of which there may be millions, it holds none.
CREATE INDEX CONCURRENTLY IF NOT EXISTS tenantgate_jobs_open ON sys_jobs (job_type)
WHERE job_type COLLATE "C" >= 'tenantgate.' AND job_type COLLATE "C" < 'tenantgate/'
	AND (status IS NULL OR status NOT IN ('completed', 'failed', 'canceled', 'cancelled'))

-- name: tenantgate_jobs_created
CREATE INDEX CONCURRENTLY IF NOT EXISTS tenantgate_jobs_created
ON sys_jobs ((coalesce(created_at, '')) COLLATE "C", (coalesce(id, '')) COLLATE "C")

-- name: has_doubled_oauth_id
SELECT 1 FROM core_users WHERE oauth_id <> '' GROUP BY oauth_id HAVING count(*) > 1 LIMIT 1

-- name: long_transaction
-- Would CREATE INDEX CONCURRENTLY on $1 have to wait for somebody? Transactions older than a second that wrote to the
-- table, or that hold a snapshot. What a role may not see does not show here; the lock_timeout covers that.
SELECT EXISTS (
	SELECT 1 FROM pg_catalog.pg_stat_activity a
	WHERE a.pid <> pg_catalog.pg_backend_pid() AND a.datname = pg_catalog.current_database()
		AND a.xact_start < pg_catalog.now() - interval '1 second'
		AND (a.backend_xmin IS NOT NULL OR EXISTS (
			SELECT 1 FROM pg_catalog.pg_locks l
			WHERE l.pid = a.pid AND l.granted AND l.relation = pg_catalog.to_regclass($1)
				AND l.mode NOT IN ('AccessShareLock', 'RowShareLock'))))
