package catalog

// crowdStripe fills what webhooks read; see crowd.
func crowdStripe() []string {
	return []string{
		"INSERT INTO core_subscriptions (id, tenant_id, stripe_sub_id, stripe_cust_id, payment_type, created_at) SELECT 'z' || i, 'y' || i, 'sub' || i, 'cus' || i, 'subscription', i FROM ",
		"INSERT INTO core_pricing_plans (id, stripe_price_monthly, stripe_price_yearly) SELECT 'q' || i, 'pm' || i, 'py' || i FROM ",
		"INSERT INTO tenantgate.sys_stripe_events (event_id, event_type, object_id, status, object_status, facts, row_id, created_at, received_at) SELECT 'evt' || i, 'e', 'sub' || i, 'processed', 'past_due', '{}', i, i, i FROM ",
		"INSERT INTO tenantgate.sys_stripe_watermarks (object_id, customer_id, tenant_id, status, price_id, state) SELECT 'sub' || i, 'cus' || i, 'y' || i, 'active', 'pm' || i, '{}' FROM ",
		"INSERT INTO tenantgate.sys_stripe_watermarks (object_id, customer_id, named_tenant, state, updated_at) SELECT 'nobody' || i, 'noone' || i, CASE WHEN i LIKE '%7' THEN 'n' || i ELSE '' END, '{}', i FROM ",
		"INSERT INTO tenantgate.sys_stripe_purged (stripe_id, tenant_id, purged_at) SELECT 'gone' || i, 'g' || i, i FROM ",
		"INSERT INTO tenantgate.sys_stripe_customers (tenant_id, customer_id, creation_key, created_at) SELECT 'y' || i, 'cus' || i, 'k', i FROM ",
		"INSERT INTO tenantgate.sys_past_due (stripe_sub_id, tenant_id, since) SELECT 'sub' || i, 'y' || i, i FROM ",
	}
}

// hotStripe are the statements of a webhook's way; see hot.
func hotStripe() map[string][]string {
	return map[string][]string{
		"stripe_event_status":           {"'evt9'"},
		"stripe_event_get":              {"'evt9'"},
		"stripe_events_of_object":       {"'sub9'", "100"},
		"stripe_events_kept":            {"'sub9'"},
		"stripe_event_release":          {"'evt9'", "'t9'"},
		"stripe_past_due_since":         {"'sub9'", "'9'"},
		"past_due_get":                  {"'sub9'"},
		"past_due_delete":               {"'sub9'"},
		"stripe_watermarks":             {"'sub9'", "'cus9'"},
		"stripe_watermarks_of_tenant":   {"'y9'"},
		"stripe_watermarks_of_customer": {"'cus9'"},
		"stripe_watermark_settled":      {"'sub9'", "true", "'p9'"},
		"subscriptions_settled":         {"'y9'"},
		"subscription_tenants":          {"'sub9'"},
		"customer_tenants":              {"'cus9'"},
		"stripe_drift":                  {"'y9'"},
		"stripe_drifted":                {"'y9'", "100"},
		"stripe_waiting_since":          {"'999'", "100"},
		"stripe_waiting_for":            {"'y9'", "100"},
		"stripe_announce":               {"'y9'", "'cus9'"},
		"stripe_claim":                  {"'t9'", "'sub9'", "'cus9'"},
		"stripe_purged_put":             {"'y9'", "'9'"},
		"stripe_lapsing":                {"'9'", "100"},
		"stripe_nobodys_forget":         {"'0'", "100"},
		"stripe_live_known":             nil,
		"stripe_events_forget":          {"'0'", "100"},
	}
}
