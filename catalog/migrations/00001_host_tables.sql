-- fh-saas's eight tables, exactly as fh-saas makes them. Where it made them already this does nothing.

-- +goose Up
CREATE TABLE IF NOT EXISTS core_users (
	id VARCHAR,
	email VARCHAR,
	oauth_id VARCHAR,
	password_hash VARCHAR,
	stripe_cust_id VARCHAR,
	is_sys_admin BOOLEAN,
	created_at VARCHAR,
	last_login VARCHAR,
	PRIMARY KEY (id)
);
CREATE TABLE IF NOT EXISTS core_tenants (
	id VARCHAR,
	name VARCHAR,
	db_url VARCHAR,
	is_active BOOLEAN,
	plan_tier VARCHAR,
	created_at VARCHAR,
	PRIMARY KEY (id)
);
CREATE TABLE IF NOT EXISTS core_memberships (
	id VARCHAR,
	user_id VARCHAR,
	tenant_id VARCHAR,
	profile_id VARCHAR,
	meta_attributes VARCHAR,
	role VARCHAR,
	is_active BOOLEAN,
	created_at VARCHAR,
	PRIMARY KEY (id)
);
CREATE TABLE IF NOT EXISTS core_subscriptions (
	id VARCHAR,
	tenant_id VARCHAR,
	stripe_sub_id VARCHAR,
	stripe_cust_id VARCHAR,
	plan_tier VARCHAR,
	status VARCHAR,
	current_period_end VARCHAR,
	cancel_at_period_end BOOLEAN,
	payment_type VARCHAR,
	amount_cents INTEGER,
	product_name VARCHAR,
	trial_end VARCHAR,
	created_at VARCHAR,
	PRIMARY KEY (id)
);
CREATE TABLE IF NOT EXISTS core_pricing_plans (
	id VARCHAR,
	name VARCHAR,
	description VARCHAR,
	stripe_price_monthly VARCHAR,
	stripe_price_yearly VARCHAR,
	amount_monthly INTEGER,
	amount_yearly INTEGER,
	currency VARCHAR,
	trial_days INTEGER,
	features VARCHAR,
	tier_level INTEGER,
	is_active BOOLEAN,
	sort_order INTEGER,
	created_at VARCHAR,
	PRIMARY KEY (id)
);
CREATE TABLE IF NOT EXISTS sys_audit_logs (
	id VARCHAR,
	actor_user_id VARCHAR,
	event_type VARCHAR,
	target_id VARCHAR,
	details VARCHAR,
	ip_address VARCHAR,
	created_at VARCHAR,
	PRIMARY KEY (id)
);
CREATE TABLE IF NOT EXISTS sys_jobs (
	id VARCHAR,
	job_type VARCHAR,
	status VARCHAR,
	payload VARCHAR,
	error_log VARCHAR,
	created_at VARCHAR,
	completed_at VARCHAR,
	PRIMARY KEY (id)
);
CREATE TABLE IF NOT EXISTS core_stripe_webhook_events (
	id VARCHAR,
	event_id VARCHAR,
	event_type VARCHAR,
	status VARCHAR,
	payload_json VARCHAR,
	created_at VARCHAR,
	PRIMARY KEY (id)
);
