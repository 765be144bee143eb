-- What Stripe told us: each event once, the last account of each object, and since when a payment is late.

-- +goose Up
-- object_id is what the event is ordered with: a subscription, a checkout session or a customer; object_status the
-- subscription's status in it. facts is what we read of the event, never its payload. row_id is its row in
-- core_stripe_webhook_events, once it has one.
CREATE TABLE tenantgate.sys_stripe_events (
	event_id VARCHAR NOT NULL,
	event_type VARCHAR NOT NULL,
	object_id VARCHAR NOT NULL,
	customer_id VARCHAR NOT NULL DEFAULT '',
	tenant_id VARCHAR,
	status VARCHAR NOT NULL,
	object_status VARCHAR NOT NULL DEFAULT '',
	facts VARCHAR NOT NULL,
	row_id VARCHAR NOT NULL,
	created_at VARCHAR NOT NULL,
	received_at VARCHAR NOT NULL,
	PRIMARY KEY (event_id),
	CHECK (status IN ('processed', 'skipped_out_of_order', 'kept', 'failed'))
);
CREATE INDEX tenantgate_stripe_events_object ON tenantgate.sys_stripe_events (object_id, created_at COLLATE "C");
CREATE INDEX tenantgate_stripe_events_status ON tenantgate.sys_stripe_events (status, event_id COLLATE "C");
CREATE INDEX tenantgate_stripe_events_age ON tenantgate.sys_stripe_events (received_at COLLATE "C");

-- state is the last account of the object, status and entitles what followed from it for the tenant's rows. asked counts the fetches of an object that began, applied says which of them was the last to be written.
CREATE TABLE tenantgate.sys_stripe_watermarks (
	object_id VARCHAR NOT NULL,
	customer_id VARCHAR NOT NULL DEFAULT '',
	tenant_id VARCHAR,
	named_tenant VARCHAR NOT NULL DEFAULT '',
	status VARCHAR NOT NULL DEFAULT '',
	price_id VARCHAR NOT NULL DEFAULT '',
	state VARCHAR NOT NULL DEFAULT '',
	entitles BOOLEAN NOT NULL DEFAULT FALSE,
	livemode BOOLEAN NOT NULL DEFAULT FALSE,
	asked BIGINT NOT NULL DEFAULT 0,
	applied BIGINT NOT NULL DEFAULT 0,
	updated_at VARCHAR NOT NULL DEFAULT '',
	PRIMARY KEY (object_id)
);
CREATE INDEX tenantgate_stripe_watermarks_tenant ON tenantgate.sys_stripe_watermarks (tenant_id);
CREATE INDEX tenantgate_stripe_watermarks_waiting ON tenantgate.sys_stripe_watermarks (object_id COLLATE "C") WHERE tenant_id IS NULL;
CREATE INDEX tenantgate_stripe_watermarks_live ON tenantgate.sys_stripe_watermarks (livemode);
CREATE INDEX tenantgate_stripe_watermarks_customer ON tenantgate.sys_stripe_watermarks (customer_id);

-- Since when a subscription is past_due: what subscription.grace_from: past_due counts from.
CREATE TABLE tenantgate.sys_past_due (
	stripe_sub_id VARCHAR NOT NULL,
	tenant_id VARCHAR,
	since VARCHAR NOT NULL,
	PRIMARY KEY (stripe_sub_id)
);
