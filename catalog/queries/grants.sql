-- The reads of a request's way. $n are parameters; see queries.go for what differs between the engines.

-- name: grant_facts
-- $1 user id, $2 tenant id, $3 slug, $4 custom host (NULL where the request names none), $5 plan aliases as a JSON object.
-- One row for each pair of membership and plan; at least one row always.
WITH named AS (
	SELECT coalesce(
		(SELECT a.id FROM core_tenants a WHERE a.id = $2),
		(SELECT d.tenant_id FROM tenantgate.core_tenant_domains d WHERE d.host = $3 AND d.kind = 'slug'),
		(SELECT d.tenant_id FROM tenantgate.core_tenant_domains d WHERE d.host = $4 AND d.kind = 'host' AND d.verified)
	) AS tenant_id
), tenant AS (
	SELECT t.id, t.name, t.db_url, t.is_active, t.plan_tier, t.created_at,
		(SELECT string_agg(replace(coalesce(l.expires_at, ''), '|', '?') || coalesce(';' || l.drain_seconds, ''), '|') FROM tenantgate.sys_tenant_locks l
			WHERE l.tenant_id = t.id) AS locks
	FROM core_tenants t
	WHERE t.id = (SELECT named.tenant_id FROM named)
), newest AS (
	SELECT s.id, s.tenant_id, s.stripe_sub_id, s.stripe_cust_id, s.plan_tier, s.status, s.current_period_end,
		s.cancel_at_period_end, s.payment_type, s.amount_cents, s.product_name, s.trial_end, s.created_at
	FROM core_subscriptions s
	WHERE s.tenant_id = (SELECT named.tenant_id FROM named) AND s.payment_type = 'subscription'
	ORDER BY coalesce(s.created_at, '') COLLATE "C" DESC, coalesce(s.stripe_sub_id, '') COLLATE "C" DESC,
		coalesce(s.id, '') COLLATE "C" DESC
	LIMIT 1
)
SELECT
	u.id, u.email, u.oauth_id, u.password_hash, u.stripe_cust_id, u.is_sys_admin, u.created_at, u.last_login,
	EXISTS (SELECT 1 FROM tenantgate.sys_user_blocks b WHERE b.user_id = $1),
	tenant.id, tenant.name, tenant.db_url, tenant.is_active, tenant.plan_tier, tenant.created_at, tenant.locks,
	newest.id, newest.tenant_id, newest.stripe_sub_id, newest.stripe_cust_id, newest.plan_tier, newest.status,
	newest.current_period_end, newest.cancel_at_period_end, newest.payment_type, newest.amount_cents,
	newest.product_name, newest.trial_end, newest.created_at,
	(SELECT d.since FROM tenantgate.sys_past_due d WHERE d.stripe_sub_id = newest.stripe_sub_id),
	m.ROWKEY, m.id, m.user_id, m.tenant_id, m.profile_id, m.meta_attributes, m.role, m.is_active, m.created_at,
	p.id, p.name, p.description, p.stripe_price_monthly, p.stripe_price_yearly, p.amount_monthly, p.amount_yearly,
	p.currency, p.trial_days, p.features, p.tier_level, p.is_active, p.sort_order, p.created_at
FROM named
LEFT JOIN tenant ON true
LEFT JOIN newest ON newest.tenant_id = tenant.id
LEFT JOIN core_users u ON u.id = $1
LEFT JOIN core_memberships m ON m.user_id = $1 AND m.tenant_id = tenant.id
LEFT JOIN core_pricing_plans p ON p.id IN (tenant.plan_tier, newest.plan_tier,
	(SELECT a.value FROM jsonb_each_text($5) a WHERE a.key = tenant.plan_tier),
	(SELECT a.value FROM jsonb_each_text($5) a WHERE a.key = newest.plan_tier))

-- name: user_grants
-- $1 user id, $2 plan aliases as a JSON object, $3 how many tenants at most. Columns as in grant_facts.
WITH listed AS (
	SELECT t.id, t.name, t.db_url, t.is_active, t.plan_tier, t.created_at
	FROM core_tenants t
	WHERE t.id IN (SELECT x.tenant_id FROM core_memberships x WHERE x.user_id = $1)
	ORDER BY coalesce(t.name, '') COLLATE "C", t.id COLLATE "C"
	LIMIT $3
)
SELECT
	u.id, u.email, u.oauth_id, u.password_hash, u.stripe_cust_id, u.is_sys_admin, u.created_at, u.last_login,
	EXISTS (SELECT 1 FROM tenantgate.sys_user_blocks b WHERE b.user_id = $1),
	listed.id, listed.name, listed.db_url, listed.is_active, listed.plan_tier, listed.created_at,
	(SELECT string_agg(replace(coalesce(l.expires_at, ''), '|', '?') || coalesce(';' || l.drain_seconds, ''), '|') FROM tenantgate.sys_tenant_locks l
		WHERE l.tenant_id = listed.id),
	s.id, s.tenant_id, s.stripe_sub_id, s.stripe_cust_id, s.plan_tier, s.status, s.current_period_end,
	s.cancel_at_period_end, s.payment_type, s.amount_cents, s.product_name, s.trial_end, s.created_at,
	(SELECT d.since FROM tenantgate.sys_past_due d WHERE d.stripe_sub_id = s.stripe_sub_id),
	m.ROWKEY, m.id, m.user_id, m.tenant_id, m.profile_id, m.meta_attributes, m.role, m.is_active, m.created_at,
	p.id, p.name, p.description, p.stripe_price_monthly, p.stripe_price_yearly, p.amount_monthly, p.amount_yearly,
	p.currency, p.trial_days, p.features, p.tier_level, p.is_active, p.sort_order, p.created_at
FROM listed
LEFT JOIN core_subscriptions s ON s.ROWKEY = (
	SELECT x.ROWKEY FROM core_subscriptions x
	WHERE x.tenant_id = listed.id AND x.payment_type = 'subscription'
	ORDER BY coalesce(x.created_at, '') COLLATE "C" DESC, coalesce(x.stripe_sub_id, '') COLLATE "C" DESC,
		coalesce(x.id, '') COLLATE "C" DESC
	LIMIT 1)
LEFT JOIN core_users u ON u.id = $1
LEFT JOIN core_memberships m ON m.user_id = $1 AND m.tenant_id = listed.id
LEFT JOIN core_pricing_plans p ON p.id IN (listed.plan_tier, s.plan_tier,
	(SELECT a.value FROM jsonb_each_text($2) a WHERE a.key = listed.plan_tier),
	(SELECT a.value FROM jsonb_each_text($2) a WHERE a.key = s.plan_tier))
ORDER BY coalesce(listed.name, '') COLLATE "C", listed.id COLLATE "C"

-- name: user_membership_tenants
-- $1 user id, $2 how many at most.
SELECT DISTINCT m.tenant_id FROM core_memberships m WHERE m.user_id = $1 AND m.tenant_id <> '' LIMIT $2

-- name: resolve_tenant
-- $1 tenant id, $2 slug, $3 custom host (NULL where not asked). A verified host whose tenant is gone still names that
-- tenant, so that a request for it is refused rather than taken for one that names nobody.
WITH named AS (
	SELECT coalesce(
		(SELECT a.id FROM core_tenants a WHERE a.id = $1),
		(SELECT t.id FROM core_tenants t WHERE t.id =
			(SELECT d.tenant_id FROM tenantgate.core_tenant_domains d WHERE d.host = $2 AND d.kind = 'slug')),
		(SELECT d.tenant_id FROM tenantgate.core_tenant_domains d WHERE d.host = $3 AND d.kind = 'host' AND d.verified)
	) AS tenant_id
)
SELECT named.tenant_id FROM named WHERE named.tenant_id IS NOT NULL

-- name: user_by_subject
-- $1 oauth_id, never ''.
SELECT u.id, u.email, u.oauth_id, u.password_hash, u.stripe_cust_id, u.is_sys_admin, u.created_at, u.last_login,
	EXISTS (SELECT 1 FROM tenantgate.sys_user_blocks b WHERE b.user_id = u.id)
FROM core_users u
WHERE u.oauth_id = $1 AND u.id <> ''
ORDER BY u.created_at COLLATE "C" ASC NULLS LAST, u.id COLLATE "C" ASC
LIMIT 1

-- name: users_by_email
-- $1 the address, ASCII letters in lower case.
SELECT u.id, u.email, u.oauth_id, u.password_hash, u.stripe_cust_id, u.is_sys_admin, u.created_at, u.last_login
FROM core_users u
WHERE lower(u.email COLLATE "C") = $1
ORDER BY u.created_at COLLATE "C" ASC NULLS LAST, u.id COLLATE "C" ASC
LIMIT 1000

-- name: session_user
-- $1 session id.
SELECT s.id, s.user_id, s.tenant_id, s.host, s.provider, s.subject, s.sid, s.mac, s.id_token, s.created_at,
	s.expires_at, s.last_seen, s.sign_in, s.signed_in_at, s.only_tenant,
	u.id, u.email, u.oauth_id, u.password_hash, u.stripe_cust_id, u.is_sys_admin, u.created_at, u.last_login,
	EXISTS (SELECT 1 FROM tenantgate.sys_user_blocks b WHERE b.user_id = s.user_id)
FROM tenantgate.sys_sessions s
LEFT JOIN core_users u ON u.id = s.user_id
WHERE s.id = $1
