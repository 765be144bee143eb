-- As which Stripe customers tenants pay.

-- name: stripe_customer_get
SELECT tenant_id, customer_id, creation_key, customer_name, customer_email, checkout_key, checkout_hash, checkout_session, created_at
FROM tenantgate.sys_stripe_customers
WHERE tenant_id = $1

-- name: stripe_customer_put
INSERT INTO tenantgate.sys_stripe_customers
	(tenant_id, customer_id, creation_key, customer_name, customer_email, checkout_key, checkout_hash, checkout_session, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (tenant_id) DO UPDATE
SET customer_id = excluded.customer_id, creation_key = excluded.creation_key, customer_name = excluded.customer_name,
	customer_email = excluded.customer_email, checkout_key = excluded.checkout_key, checkout_hash = excluded.checkout_hash,
	checkout_session = excluded.checkout_session, created_at = excluded.created_at

-- name: stripe_customer_forget
DELETE FROM tenantgate.sys_stripe_customers WHERE tenant_id = $1

-- name: stripe_customer_tenants
-- $1 customer: the tenants that are known to pay as it, two at most, since more than one is as good as none.
SELECT tenant_id FROM core_subscriptions WHERE stripe_cust_id = $1 AND tenant_id <> ''
UNION
SELECT tenant_id FROM tenantgate.sys_stripe_customers WHERE customer_id = $1
LIMIT 2
