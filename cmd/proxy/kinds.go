package main

import (
	"context"
	"fmt"

	"github.com/tenantgate/tenantgate/catalog"
)

const createdUsage = "time of creation, ISO 8601; now if absent"

func users() *kind[catalog.UserID, catalog.GlobalUser] {
	type row = catalog.GlobalUser
	return &kind[catalog.UserID, row]{
		name: "user", plural: "users", about: "who a person is", naming: "ID|EMAIL",
		columns: []column[row]{
			idColumn("id", "id; made up if absent", func(r *row) *catalog.UserID { return &r.ID }).onlyAtCreate(),
			textColumn("email", "e-mail address", func(r *row) **string { return &r.Email }, nil),
			textColumn("oauth_id", "the provider's subject_prefix and sub", func(r *row) **string { return &r.OAuthID }, nil),
			textColumn("stripe_cust_id", "Stripe customer", func(r *row) **string { return &r.StripeCustID }, nil),
			boolColumn("is_sys_admin", "may use the admin listener", func(r *row) **bool { return &r.IsSysAdmin }),
			textColumn("created_at", createdUsage, func(r *row) **string { return &r.CreatedAt }, timestamp),
			textColumn("last_login", "time of the last sign-in", func(r *row) **string { return &r.LastLogin }, timestamp).shownOnly(),
		},
		importOnly: []column[row]{
			textColumn("password_hash", "fh-saas's, kept for it", func(r *row) **string { return &r.PasswordHash }, nil).shownOnly(),
		},
		table: func(t *catalog.Tables) *catalog.Table[catalog.UserID, row] { return &t.GlobalUsers },
		id:    func(r *row) *catalog.UserID { return &r.ID },
		find:  findUser,
		examples: map[string]string{
			"show":   "ada@example.com",
			"create": "--email ada@example.com",
			"update": "ada@example.com --is-sys-admin=true",
			"delete": "4f9d0c6b2a714e8f9b3a5c7d1e2f3a4b",
		},
	}
}

func tenants(p *program) *kind[catalog.TenantID, catalog.TenantCatalog] {
	type row = catalog.TenantCatalog
	return &kind[catalog.TenantID, row]{
		name: "tenant", plural: "tenants", about: "where a customer's data is", naming: "ID|SLUG",
		columns: []column[row]{
			idColumn("id", "id; made up if absent", func(r *row) *catalog.TenantID { return &r.ID }).onlyAtCreate(),
			textColumn("name", "name for people", func(r *row) **string { return &r.Name }, nil),
			uriColumn("db_url", "URI of the tenant's own database; a command line can be seen by others: better --db-url-file", func(r *row) *catalog.DBURI { return &r.DBURL }),
			boolColumn("is_active", "whether anybody may enter", func(r *row) **bool { return &r.IsActive }),
			textColumn("plan_tier", "plan key", func(r *row) **string { return &r.PlanTier }, nil),
			textColumn("created_at", createdUsage, func(r *row) **string { return &r.CreatedAt }, timestamp),
		},
		table: func(t *catalog.Tables) *catalog.Table[catalog.TenantID, row] { return &t.Tenants },
		id:    func(r *row) *catalog.TenantID { return &r.ID },
		find:  findTenant,
		more:  p.tenantStates, moreNames: tenantStateNames(),
		vet: p.vetTenant(), unlock: p.unlockTenants, wrote: closeWhatItNames,
		filters: []string{"is_active", "plan_tier"},
		examples: map[string]string{
			"list":   "--is-active=false",
			"show":   "acme",
			"create": "--id acme --name Acme --db-url-file - --plan-tier pro < acme.url",
			"update": "acme --plan-tier free",
		},
	}
}

func members() *kind[catalog.MembershipID, catalog.Membership] {
	type row = catalog.Membership
	return &kind[catalog.MembershipID, row]{
		name: "member", plural: "memberships", about: "which user may enter which tenant, and as what", naming: "ID",
		columns: []column[row]{
			idColumn("id", "id; made up if absent", func(r *row) *catalog.MembershipID { return &r.ID }).onlyAtCreate(),
			referenceColumn("user_id", "the user's id or e-mail address", userReference, func(r *row) *catalog.UserID { return &r.UserID }),
			referenceColumn("tenant_id", "the tenant's id or slug", tenantReference, func(r *row) *catalog.TenantID { return &r.TenantID }),
			textColumn("profile_id", "the user's id inside the tenant's database", func(r *row) **string { return &r.ProfileID }, nil),
			textColumn("meta_attributes", "JSON of the app's own", func(r *row) **string { return &r.MetaAttributes }, jsonText),
			textColumn("role", "role in the tenant, one of `roles`", func(r *row) **string { return &r.Role }, nil),
			boolColumn("is_active", "whether the membership counts", func(r *row) **bool { return &r.IsActive }),
			textColumn("created_at", createdUsage, func(r *row) **string { return &r.CreatedAt }, timestamp),
		},
		table:    func(t *catalog.Tables) *catalog.Table[catalog.MembershipID, row] { return &t.Memberships },
		id:       func(r *row) *catalog.MembershipID { return &r.ID },
		findPair: findMember,
		required: []string{"user_id", "tenant_id"},
		filters:  []string{"user_id", "tenant_id", "role", "is_active"},
		examples: map[string]string{
			"list":   "--tenant acme",
			"show":   "--user ada@example.com --tenant acme",
			"create": "--user ada@example.com --tenant acme --role owner",
			"update": "--user ada@example.com --tenant acme --role admin",
			"delete": "--user ada@example.com --tenant acme",
		},
	}
}

func plans() *kind[catalog.PlanID, catalog.PricingPlan] {
	type row = catalog.PricingPlan
	return &kind[catalog.PlanID, row]{
		name: "plan", plural: "plans", about: "what can be bought; the id is the plan key that plan_tier names", naming: "ID",
		columns: []column[row]{
			idColumn("id", "plan key", func(r *row) *catalog.PlanID { return &r.ID }).onlyAtCreate(),
			textColumn("name", "name for people", func(r *row) **string { return &r.Name }, nil),
			textColumn("description", "description for people", func(r *row) **string { return &r.Description }, nil),
			textColumn("stripe_price_monthly", "Stripe price", func(r *row) **string { return &r.StripePriceMonthly }, nil),
			textColumn("stripe_price_yearly", "Stripe price", func(r *row) **string { return &r.StripePriceYearly }, nil),
			intColumn("amount_monthly", "price a month in minor units", func(r *row) **int64 { return &r.AmountMonthly }),
			intColumn("amount_yearly", "price a year in minor units", func(r *row) **int64 { return &r.AmountYearly }),
			textColumn("currency", "ISO 4217 code", func(r *row) **string { return &r.Currency }, nil),
			intColumn("trial_days", "days of trial", func(r *row) **int64 { return &r.TrialDays }),
			textColumn("features", `JSON array of feature keys; "all_features" grants all`, func(r *row) **string { return &r.Features }, jsonStrings),
			intColumn("tier_level", "level that routes[].min_tier asks for", func(r *row) **int64 { return &r.TierLevel }),
			boolColumn("is_active", "whether it is on offer", func(r *row) **bool { return &r.IsActive }),
			intColumn("sort_order", "place in lists for people", func(r *row) **int64 { return &r.SortOrder }),
			textColumn("created_at", createdUsage, func(r *row) **string { return &r.CreatedAt }, timestamp),
		},
		table:    func(t *catalog.Tables) *catalog.Table[catalog.PlanID, row] { return &t.PricingPlans },
		id:       func(r *row) *catalog.PlanID { return &r.ID },
		required: []string{"id"},
		filters:  []string{"is_active"},
		examples: map[string]string{
			"show":   "pro",
			"create": `--id pro --name Pro --tier-level 2 --features '["advanced_analytics"]'`,
			"update": "pro --amount-monthly 4900 --currency eur",
			"delete": "pro",
		},
	}
}

func subscriptions() *kind[catalog.SubscriptionID, catalog.Subscription] {
	type row = catalog.Subscription
	return &kind[catalog.SubscriptionID, row]{
		name: "subscription", plural: "subscriptions", about: "what a tenant pays; the newest row counts", naming: "ID",
		columns: []column[row]{
			idColumn("id", "id; made up if absent", func(r *row) *catalog.SubscriptionID { return &r.ID }).onlyAtCreate(),
			referenceColumn("tenant_id", "the tenant's id or slug", tenantReference, func(r *row) *catalog.TenantID { return &r.TenantID }),
			textColumn("stripe_sub_id", "Stripe subscription", func(r *row) **string { return &r.StripeSubID }, nil),
			textColumn("stripe_cust_id", "Stripe customer", func(r *row) **string { return &r.StripeCustID }, nil),
			textColumn("plan_tier", "plan key", func(r *row) **string { return &r.PlanTier }, nil),
			textColumn("status", "Stripe's word: active, trialing, past_due, canceled …", func(r *row) **string { return &r.Status }, nil),
			textColumn("current_period_end", "ISO 8601", func(r *row) **string { return &r.CurrentPeriodEnd }, timestamp),
			boolColumn("cancel_at_period_end", "whether it ends with the period", func(r *row) **bool { return &r.CancelAtPeriodEnd }),
			textColumn("payment_type", `only "subscription" entitles`, func(r *row) **string { return &r.PaymentType }, nil),
			intColumn("amount_cents", "amount in minor units", func(r *row) **int64 { return &r.AmountCents }),
			textColumn("product_name", "name for people", func(r *row) **string { return &r.ProductName }, nil),
			textColumn("trial_end", "ISO 8601", func(r *row) **string { return &r.TrialEnd }, timestamp),
			textColumn("created_at", createdUsage, func(r *row) **string { return &r.CreatedAt }, timestamp),
		},
		table:    func(t *catalog.Tables) *catalog.Table[catalog.SubscriptionID, row] { return &t.Subscriptions },
		id:       func(r *row) *catalog.SubscriptionID { return &r.ID },
		remark:   followed,
		required: []string{"tenant_id"},
		filters:  []string{"tenant_id", "status", "plan_tier"},
		words: map[string][]string{"status": { // https://docs.stripe.com/api/subscriptions/object#subscription_object-status
			"active", "trialing", "past_due", "unpaid", "paused", "canceled", "incomplete", "incomplete_expired",
		}},
		examples: map[string]string{
			"list":   "--tenant acme",
			"show":   "9a1b2c3d4e5f60718293a4b5c6d7e8f9",
			"create": "--tenant acme --plan-tier pro --status active --current-period-end 2027-01-01",
			"update": "9a1b2c3d4e5f60718293a4b5c6d7e8f9 --status canceled",
			"delete": "9a1b2c3d4e5f60718293a4b5c6d7e8f9",
		},
	}
}

// followed says of a subscription that our books follow that what was just written does not stand.
func followed(ctx context.Context, tx *catalog.Tx, row *catalog.Subscription) (string, error) {
	if row.StripeSubID == nil || *row.StripeSubID == "" {
		return "", nil
	}
	known, _, err := tx.Stripe.Watermarks(ctx, catalog.StripeID(*row.StripeSubID), "")
	if err != nil || known == nil || known.TenantID == "" || known.Status == "" {
		return "", err
	}
	drift, err := tx.Stripe.Drift(ctx, known.TenantID)
	if err != nil || !drift {
		return "", err
	}
	return fmt.Sprintf("Stripe says that subscription %s is %s, and a running proxy makes its rows say so again within seconds: "+
		"change it at Stripe, or let the tenant in by a plan of subscription.exempt_plans or a row without stripe_sub_id", known.Object, known.Status), nil
}
