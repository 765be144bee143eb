-- The one tenant of each person who signed up for it.

-- name: tenant_sign_up
-- $1 user id.
SELECT s.user_id, s.tenant_id, s.name, s.plan_tier, s.job_id, s.created_at FROM tenantgate.sys_tenant_sign_ups s WHERE s.user_id = $1

-- name: tenant_sign_up_insert
-- $1 user id, $2 tenant id, $3 name, $4 plan key, $5 job id, $6 now.
INSERT INTO tenantgate.sys_tenant_sign_ups (user_id, tenant_id, name, plan_tier, job_id, created_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (user_id) DO NOTHING
