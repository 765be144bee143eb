-- What rows of a subscription should say, so that a look finds those that do not; what belongs to nobody is found by what
-- has become known since, and forgotten in the end; and what a removed tenant paid for.

-- +goose Up
-- period_end and plan_tier are what the object's rows say, '' where Stripe does not say, or nobody has looked yet.
ALTER TABLE tenantgate.sys_stripe_watermarks ADD COLUMN period_end VARCHAR NOT NULL DEFAULT '';
ALTER TABLE tenantgate.sys_stripe_watermarks ADD COLUMN plan_tier VARCHAR NOT NULL DEFAULT '';
CREATE INDEX tenantgate_stripe_watermarks_named ON tenantgate.sys_stripe_watermarks (named_tenant) WHERE tenant_id IS NULL AND named_tenant <> '';
CREATE INDEX tenantgate_stripe_watermarks_age ON tenantgate.sys_stripe_watermarks (updated_at COLLATE "C") WHERE tenant_id IS NULL;

-- Customers and subscriptions of Stripe's that a removed tenant paid with: whoever has its id next does not have these.
CREATE TABLE tenantgate.sys_stripe_purged (
	stripe_id VARCHAR NOT NULL,
	tenant_id VARCHAR NOT NULL,
	purged_at VARCHAR NOT NULL,
	PRIMARY KEY (stripe_id, tenant_id)
);
CREATE INDEX tenantgate_stripe_purged_tenant ON tenantgate.sys_stripe_purged (tenant_id);
