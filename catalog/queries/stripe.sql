-- What Stripe told us. $n are parameters; see queries.go for what differs between the engines.

-- name: stripe_event_status
SELECT e.status FROM tenantgate.sys_stripe_events e WHERE e.event_id = $1

-- name: stripe_event_put
-- A failed event, or one that was kept, becomes what it has become; any other stays: then nothing is changed.
INSERT INTO tenantgate.sys_stripe_events
	(event_id, event_type, object_id, customer_id, tenant_id, status, object_status, facts, row_id, created_at, received_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (event_id) DO UPDATE
SET tenant_id = excluded.tenant_id, status = excluded.status
WHERE sys_stripe_events.status IN ('failed', 'kept')

-- name: stripe_event_get
SELECT event_id, event_type, object_id, customer_id, tenant_id, status, object_status, facts, row_id, created_at, received_at
FROM tenantgate.sys_stripe_events
WHERE event_id = $1

-- name: stripe_events_of_object
-- $1 object, $2 how many, the latest first.
SELECT event_id, event_type, object_id, customer_id, tenant_id, status, object_status, facts, row_id, created_at, received_at
FROM tenantgate.sys_stripe_events
WHERE object_id = $1
ORDER BY created_at COLLATE "C" DESC, event_id COLLATE "C" DESC
LIMIT $2

-- name: stripe_events_kept
-- $1 object: its kept events, the first one first.
SELECT event_id, event_type, object_id, customer_id, tenant_id, status, object_status, facts, row_id, created_at, received_at
FROM tenantgate.sys_stripe_events
WHERE object_id = $1 AND status = 'kept'
ORDER BY created_at COLLATE "C", event_id COLLATE "C"
LIMIT 1000

-- name: stripe_event_release
-- A kept event of an object whose tenant is known by now.
UPDATE tenantgate.sys_stripe_events SET tenant_id = $2, status = 'processed' WHERE event_id = $1 AND status = 'kept'

-- name: stripe_events_forget
-- $1 a moment, $2 how many: events that nobody will send again. What was kept is in the object's watermark, too.
DELETE FROM tenantgate.sys_stripe_events WHERE event_id IN (
	SELECT e.event_id FROM tenantgate.sys_stripe_events e
	WHERE e.received_at COLLATE "C" < $1
	ORDER BY e.received_at COLLATE "C" LIMIT $2)

-- name: stripe_nobodys_forget
-- $1 a moment, $2 how many: objects that belong to nobody and of which nothing was heard since. Those without a time only
-- count fetches, of which one may be under way.
DELETE FROM tenantgate.sys_stripe_watermarks WHERE object_id IN (
	SELECT w.object_id FROM tenantgate.sys_stripe_watermarks w
	WHERE w.tenant_id IS NULL AND w.updated_at COLLATE "C" > '' AND w.updated_at COLLATE "C" < $1
	ORDER BY w.updated_at COLLATE "C" LIMIT $2)

-- name: stripe_past_due_since
-- $1 a subscription, $2 the moment of its last account: since when every account of it says past_due. What was recorded
-- counts too, unless an account after it says otherwise: events are forgotten, and what the API said is none.
SELECT min(late.since COLLATE "C") FROM (
	SELECT e.created_at AS since FROM tenantgate.sys_stripe_events e
	WHERE e.object_id = $1 AND e.object_status = 'past_due' AND e.created_at COLLATE "C" <= $2
		AND e.created_at COLLATE "C" >= (
			SELECT coalesce(max(o.created_at COLLATE "C"), '') FROM tenantgate.sys_stripe_events o
			WHERE o.object_id = $1 AND o.object_status NOT IN ('', 'past_due') AND o.created_at COLLATE "C" <= $2)
	UNION ALL
	SELECT d.since FROM tenantgate.sys_past_due d
	WHERE d.stripe_sub_id = $1 AND NOT EXISTS (
		SELECT 1 FROM tenantgate.sys_stripe_events o
		WHERE o.object_id = $1 AND o.object_status NOT IN ('', 'past_due')
			AND o.created_at COLLATE "C" <= $2 AND o.created_at COLLATE "C" >= d.since)) AS late

-- name: past_due_get
SELECT d.since FROM tenantgate.sys_past_due d WHERE d.stripe_sub_id = $1

-- name: past_due_put
INSERT INTO tenantgate.sys_past_due (stripe_sub_id, tenant_id, since) VALUES ($1, $2, $3)
ON CONFLICT (stripe_sub_id) DO UPDATE SET tenant_id = excluded.tenant_id, since = excluded.since
WHERE sys_past_due.since <> excluded.since OR coalesce(sys_past_due.tenant_id, '') <> coalesce(excluded.tenant_id, '')

-- name: past_due_delete
DELETE FROM tenantgate.sys_past_due WHERE stripe_sub_id = $1

-- name: stripe_watermarks
-- $1 an object, $2 its customer, or NULL.
SELECT object_id, customer_id, tenant_id, named_tenant, status, price_id, state, entitles, livemode, asked, applied, updated_at, period_end, plan_tier
FROM tenantgate.sys_stripe_watermarks
WHERE object_id IN ($1, $2)

-- name: stripe_watermark_put
INSERT INTO tenantgate.sys_stripe_watermarks
	(object_id, customer_id, tenant_id, named_tenant, status, price_id, state, entitles, livemode, asked, applied, updated_at, period_end, plan_tier)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (object_id) DO UPDATE
SET customer_id = excluded.customer_id, tenant_id = excluded.tenant_id, named_tenant = excluded.named_tenant, status = excluded.status,
	price_id = excluded.price_id, state = excluded.state, entitles = excluded.entitles, livemode = excluded.livemode,
	applied = excluded.applied, updated_at = excluded.updated_at, period_end = excluded.period_end, plan_tier = excluded.plan_tier

-- name: stripe_watermark_settled
UPDATE tenantgate.sys_stripe_watermarks SET entitles = $2, plan_tier = $3 WHERE object_id = $1

-- name: stripe_watermark_ask
-- The number of a fetch that begins now.
INSERT INTO tenantgate.sys_stripe_watermarks (object_id, asked) VALUES ($1, 1)
ON CONFLICT (object_id) DO UPDATE SET asked = sys_stripe_watermarks.asked + 1
RETURNING asked

-- name: stripe_watermarks_of_tenant
-- What entitled or can still change comes before what is over, and the latest first: a thousand payments keep no subscription
-- out.
SELECT w.object_id, w.customer_id, w.tenant_id, w.named_tenant, w.status, w.price_id, w.state, w.entitles, w.livemode, w.asked, w.applied, w.updated_at, w.period_end, w.plan_tier
FROM tenantgate.sys_stripe_watermarks w
WHERE w.tenant_id = $1
ORDER BY CASE WHEN w.entitles THEN 0 WHEN w.status IN ('', 'completed', 'canceled', 'incomplete_expired') THEN 2 ELSE 1 END,
	w.updated_at COLLATE "C" DESC, w.object_id COLLATE "C"
LIMIT 1000

-- name: stripe_watermarks_of_customer
SELECT w.object_id, w.customer_id, w.tenant_id, w.named_tenant, w.status, w.price_id, w.state, w.entitles, w.livemode, w.asked, w.applied, w.updated_at, w.period_end, w.plan_tier
FROM tenantgate.sys_stripe_watermarks w
WHERE w.customer_id = $1
ORDER BY CASE WHEN w.object_id = $1 THEN 0 WHEN w.status IN ('', 'completed', 'canceled', 'incomplete_expired') THEN 2 ELSE 1 END,
	w.object_id COLLATE "C"
LIMIT 1000

-- name: plans_of_prices
-- $1 prices, as the values of a JSON object: the plans that sell them. There are few plans: they may be scanned.
SELECT p.id, p.name, p.description, p.stripe_price_monthly, p.stripe_price_yearly, p.amount_monthly, p.amount_yearly, p.currency,
	p.trial_days, p.features, p.tier_level, p.is_active, p.sort_order, p.created_at
FROM core_pricing_plans p
WHERE p.ROWKEY IN (
	SELECT m.ROWKEY FROM jsonb_each_text($1) a JOIN core_pricing_plans m ON m.stripe_price_monthly = a.value
	UNION
	SELECT y.ROWKEY FROM jsonb_each_text($1) a JOIN core_pricing_plans y ON y.stripe_price_yearly = a.value)

-- name: stripe_claim
-- $1 a tenant, $2 an object, $3 its customer or NULL: may the object be the tenant's? Not if the tenant is not there, nor if
-- an earlier one of its id paid with it, unless a row of this one names the subscription or the customer.
SELECT CASE
	WHEN NOT EXISTS (SELECT 1 FROM core_tenants t WHERE t.id = $1) THEN 'gone'
	WHEN NOT EXISTS (SELECT 1 FROM tenantgate.sys_stripe_purged p WHERE p.tenant_id = $1 AND p.stripe_id IN ($2, $3)) THEN 'may'
	WHEN EXISTS (SELECT 1 FROM core_subscriptions s WHERE s.tenant_id = $1 AND (s.stripe_sub_id = $2 OR s.stripe_cust_id = $3))
		OR EXISTS (SELECT 1 FROM tenantgate.sys_stripe_customers c WHERE c.tenant_id = $1 AND c.customer_id = $3) THEN 'may'
	ELSE 'purged' END

-- name: stripe_purged_put
-- $1 a tenant that ends, $2 now: what it paid with.
INSERT INTO tenantgate.sys_stripe_purged (stripe_id, tenant_id, purged_at)
SELECT listed.stripe_id, CAST($1 AS VARCHAR), CAST($2 AS VARCHAR) FROM (
	SELECT s.stripe_sub_id AS stripe_id FROM core_subscriptions s WHERE s.tenant_id = $1 AND coalesce(s.payment_type, '') <> 'one_time'
	UNION SELECT s.stripe_cust_id FROM core_subscriptions s WHERE s.tenant_id = $1
	UNION SELECT w.object_id FROM tenantgate.sys_stripe_watermarks w WHERE w.tenant_id = $1 AND w.status <> 'completed'
	UNION SELECT w.customer_id FROM tenantgate.sys_stripe_watermarks w WHERE w.tenant_id = $1
	UNION SELECT c.customer_id FROM tenantgate.sys_stripe_customers c WHERE c.tenant_id = $1) AS listed
WHERE listed.stripe_id <> ''
ON CONFLICT (stripe_id, tenant_id) DO NOTHING

-- name: stripe_live_known
SELECT w.object_id FROM tenantgate.sys_stripe_watermarks w WHERE w.livemode = TRUE LIMIT 1

-- name: subscriptions_settled
-- $1 tenant: its rows, and whoever's rows of the subscriptions that are the tenant's.
SELECT s.id, s.tenant_id, s.stripe_sub_id, s.stripe_cust_id, s.plan_tier, s.status, s.current_period_end,
	s.cancel_at_period_end, s.payment_type, s.amount_cents, s.product_name, s.trial_end, s.created_at
FROM core_subscriptions s
WHERE s.ROWKEY IN (
	SELECT a.ROWKEY FROM core_subscriptions a WHERE a.tenant_id = $1
	UNION
	SELECT b.ROWKEY FROM core_subscriptions b WHERE b.stripe_sub_id IN (
		SELECT w.object_id FROM tenantgate.sys_stripe_watermarks w WHERE w.tenant_id = $1)) FOR UPDATE

-- name: subscription_tenants
-- Whose rows name this subscription: at most two tenants.
SELECT DISTINCT s.tenant_id FROM core_subscriptions s WHERE s.stripe_sub_id = $1 AND s.tenant_id <> '' LIMIT 2

-- name: customer_tenants
-- Whose rows name this customer, or for whom our checkout made it: at most two tenants.
SELECT s.tenant_id FROM core_subscriptions s WHERE s.stripe_cust_id = $1 AND s.tenant_id <> ''
UNION
SELECT w.tenant_id FROM tenantgate.sys_stripe_watermarks w WHERE w.customer_id = $1 AND w.tenant_id <> ''
UNION
SELECT c.tenant_id FROM tenantgate.sys_stripe_customers c WHERE c.customer_id = $1
LIMIT 2

-- name: stripe_waiting
-- $1 the object after which to begin, $2 how many: objects that belong to nobody and of which something may be known by
-- now, because the tenant that they name is there, or because a row names the subscription or the customer, or the customer
-- was made by our checkout. It walks all that belongs to nobody: what has just become known is found by
-- stripe_waiting_since and stripe_waiting_for.
SELECT w.object_id FROM tenantgate.sys_stripe_watermarks w
WHERE w.tenant_id IS NULL AND w.state <> '' AND w.object_id COLLATE "C" > $1
	AND (EXISTS (SELECT 1 FROM core_tenants t WHERE t.id = w.named_tenant)
		OR EXISTS (SELECT 1 FROM core_subscriptions s WHERE s.stripe_sub_id = w.object_id AND s.tenant_id <> '')
		OR w.customer_id <> '' AND (
			EXISTS (SELECT 1 FROM core_subscriptions s WHERE s.stripe_cust_id = w.customer_id AND s.tenant_id <> '')
			OR EXISTS (SELECT 1 FROM tenantgate.sys_stripe_watermarks o WHERE o.customer_id = w.customer_id AND o.tenant_id <> '')
			OR EXISTS (SELECT 1 FROM tenantgate.sys_stripe_customers c WHERE c.customer_id = w.customer_id)))
ORDER BY w.object_id COLLATE "C"
LIMIT $2

-- name: stripe_waiting_since
-- $1 a moment, $2 how many: those of stripe_waiting of which something was heard since. They are few beside all rows, which
-- PostgreSQL does not see: a subquery of one row is looked up, and never made a hash of the whole table.
SELECT w.object_id FROM tenantgate.sys_stripe_watermarks w
WHERE w.tenant_id IS NULL AND w.state <> '' AND w.updated_at COLLATE "C" >= $1
	AND ((SELECT 1 FROM core_tenants t WHERE t.id = w.named_tenant LIMIT 1) = 1
		OR (SELECT 1 FROM core_subscriptions s WHERE s.stripe_sub_id = w.object_id AND s.tenant_id <> '' LIMIT 1) = 1
		OR w.customer_id <> '' AND (
			(SELECT 1 FROM core_subscriptions s WHERE s.stripe_cust_id = w.customer_id AND s.tenant_id <> '' LIMIT 1) = 1
			OR (SELECT 1 FROM tenantgate.sys_stripe_watermarks o WHERE o.customer_id = w.customer_id AND o.tenant_id <> '' LIMIT 1) = 1
			OR (SELECT 1 FROM tenantgate.sys_stripe_customers c WHERE c.customer_id = w.customer_id LIMIT 1) = 1))
ORDER BY w.updated_at COLLATE "C"
LIMIT $2

-- name: stripe_waiting_for
-- $1 a tenant, $2 how many: those of stripe_waiting that may be that tenant's.
SELECT w.object_id FROM tenantgate.sys_stripe_watermarks w
WHERE w.tenant_id IS NULL AND w.named_tenant <> '' AND w.named_tenant = $1 AND w.state <> ''
UNION
SELECT w.object_id FROM core_subscriptions s JOIN tenantgate.sys_stripe_watermarks w ON w.object_id = s.stripe_sub_id
WHERE s.tenant_id = $1 AND w.tenant_id IS NULL AND w.state <> ''
UNION
SELECT w.object_id FROM core_subscriptions s JOIN tenantgate.sys_stripe_watermarks w ON w.customer_id = s.stripe_cust_id
WHERE s.tenant_id = $1 AND w.customer_id <> '' AND w.tenant_id IS NULL AND w.state <> ''
UNION
SELECT w.object_id FROM tenantgate.sys_stripe_watermarks o JOIN tenantgate.sys_stripe_watermarks w ON w.customer_id = o.customer_id
WHERE o.tenant_id = $1 AND w.customer_id <> '' AND w.tenant_id IS NULL AND w.state <> ''
UNION
SELECT w.object_id FROM tenantgate.sys_stripe_customers c JOIN tenantgate.sys_stripe_watermarks w ON w.customer_id = c.customer_id
WHERE c.tenant_id = $1 AND w.customer_id <> '' AND w.tenant_id IS NULL AND w.state <> ''
LIMIT $2

-- name: stripe_announce
-- $1 a tenant that customer $2, or an object of the customer's, has just been found to be of: where other objects of the
-- customer wait, whoever keeps the books looks at the tenant.
INSERT INTO tenantgate.sys_changes (kind, tenant_id)
SELECT 'subscription', CAST($1 AS VARCHAR)
WHERE EXISTS (SELECT 1 FROM tenantgate.sys_stripe_watermarks w WHERE w.customer_id = $2 AND w.tenant_id IS NULL AND w.state <> '')

-- name: stripe_lapsing
-- $1 a moment, $2 how many: tenants of which a past_due subscription entitles, whose period ended, or which was late, by then.
SELECT DISTINCT w.tenant_id FROM tenantgate.sys_stripe_watermarks w
WHERE w.status = 'past_due' AND w.entitles AND w.tenant_id > ''
	AND (w.period_end COLLATE "C" <= $1
		OR EXISTS (SELECT 1 FROM tenantgate.sys_past_due d WHERE d.stripe_sub_id = w.object_id AND d.since COLLATE "C" <= $1))
LIMIT $2

-- name: stripe_drifted
-- $1 the tenant after which to begin, $2 how many: tenants with a row of a subscription that we know that does not say what
-- Stripe said, or that pay while the newest row is none of those that they pay for.
SELECT w.tenant_id FROM tenantgate.sys_stripe_watermarks w
WHERE w.tenant_id COLLATE "C" > $1 AND w.status <> ''
	AND (EXISTS (SELECT 1 FROM core_subscriptions s
			WHERE s.stripe_sub_id = w.object_id AND (coalesce(s.status, '') <> w.status OR coalesce(s.tenant_id, '') <> w.tenant_id
				OR w.period_end <> '' AND coalesce(s.current_period_end, '') <> w.period_end
				OR w.plan_tier <> '' AND coalesce(s.plan_tier, '') <> w.plan_tier))
		OR w.entitles AND NOT EXISTS (
			SELECT 1 FROM tenantgate.sys_stripe_watermarks o
			WHERE o.tenant_id = w.tenant_id AND o.entitles AND o.object_id = (
				SELECT s.stripe_sub_id FROM core_subscriptions s
				WHERE s.tenant_id = w.tenant_id AND s.payment_type = 'subscription'
				ORDER BY coalesce(s.created_at, '') COLLATE "C" DESC, coalesce(s.stripe_sub_id, '') COLLATE "C" DESC,
					coalesce(s.id, '') COLLATE "C" DESC
				LIMIT 1)))
GROUP BY w.tenant_id
ORDER BY w.tenant_id COLLATE "C"
LIMIT $2

-- name: stripe_drift
-- stripe_drifted of one tenant.
SELECT w.tenant_id FROM tenantgate.sys_stripe_watermarks w
WHERE w.tenant_id = $1 AND w.status <> ''
	AND (EXISTS (SELECT 1 FROM core_subscriptions s
			WHERE s.stripe_sub_id = w.object_id AND (coalesce(s.status, '') <> w.status OR coalesce(s.tenant_id, '') <> w.tenant_id
				OR w.period_end <> '' AND coalesce(s.current_period_end, '') <> w.period_end
				OR w.plan_tier <> '' AND coalesce(s.plan_tier, '') <> w.plan_tier))
		OR w.entitles AND NOT EXISTS (
			SELECT 1 FROM tenantgate.sys_stripe_watermarks o
			WHERE o.tenant_id = w.tenant_id AND o.entitles AND o.object_id = (
				SELECT s.stripe_sub_id FROM core_subscriptions s
				WHERE s.tenant_id = w.tenant_id AND s.payment_type = 'subscription'
				ORDER BY coalesce(s.created_at, '') COLLATE "C" DESC, coalesce(s.stripe_sub_id, '') COLLATE "C" DESC,
					coalesce(s.id, '') COLLATE "C" DESC
				LIMIT 1)))
LIMIT 1

-- name: webhook_event_put
INSERT INTO core_stripe_webhook_events (id, event_id, event_type, status, payload_json, created_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE SET status = excluded.status
