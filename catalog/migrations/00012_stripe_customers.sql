-- As which Stripe customer a tenant pays, and the one checkout that may be open for it.

-- +goose Up
CREATE TABLE tenantgate.sys_stripe_customers (
	tenant_id VARCHAR NOT NULL,
	-- '' while it is being made, with creation_key as Stripe's idempotency key and always the same name and e-mail
	customer_id VARCHAR NOT NULL DEFAULT '',
	creation_key VARCHAR NOT NULL,
	customer_name VARCHAR NOT NULL DEFAULT '',
	customer_email VARCHAR NOT NULL DEFAULT '',
	-- the idempotency key of the newest checkout, a hash over what it asks for, and its session once Stripe made it
	checkout_key VARCHAR NOT NULL DEFAULT '',
	checkout_hash VARCHAR NOT NULL DEFAULT '',
	checkout_session VARCHAR NOT NULL DEFAULT '',
	created_at VARCHAR NOT NULL,
	PRIMARY KEY (tenant_id)
);
CREATE INDEX tenantgate_stripe_customers_customer ON tenantgate.sys_stripe_customers (customer_id);
