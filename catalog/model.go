package catalog

// The eight models of fh-saas, column for column. Nullable columns are pointers: rows written by other programs carry
// NULLs and keep them. JSON keys are the column names. Timestamps are text, UTC, ISO 8601 without zone (see Timestamp).

// GlobalUser is a row of core_users: who a person is.
type GlobalUser struct {
	ID           UserID  `json:"id"`
	Email        *string `json:"email"`
	OAuthID      *string `json:"oauth_id"` // the provider's subject_prefix + sub
	PasswordHash *string `json:"-"`        // never read by tenantgate, never printed
	StripeCustID *string `json:"stripe_cust_id"`
	IsSysAdmin   *bool   `json:"is_sys_admin"`
	CreatedAt    *string `json:"created_at"`
	LastLogin    *string `json:"last_login"`
}

// TenantCatalog is a row of core_tenants: where a tenant's data is.
type TenantCatalog struct {
	ID        TenantID `json:"id"`
	Name      *string  `json:"name"`
	DBURL     DBURI    `json:"db_url"`
	IsActive  *bool    `json:"is_active"` // NULL counts as false
	PlanTier  *string  `json:"plan_tier"`
	CreatedAt *string  `json:"created_at"`
}

// Membership is a row of core_memberships: a user may enter a tenant.
type Membership struct {
	ID             MembershipID `json:"id"`
	UserID         UserID       `json:"user_id"`
	TenantID       TenantID     `json:"tenant_id"`
	ProfileID      *string      `json:"profile_id"`
	MetaAttributes *string      `json:"meta_attributes"` // JSON text
	Role           *string      `json:"role"`
	IsActive       *bool        `json:"is_active"` // NULL counts as false
	CreatedAt      *string      `json:"created_at"`
}

// Subscription is a row of core_subscriptions: what a tenant pays.
type Subscription struct {
	ID                SubscriptionID `json:"id"`
	TenantID          TenantID       `json:"tenant_id"`
	StripeSubID       *string        `json:"stripe_sub_id"`
	StripeCustID      *string        `json:"stripe_cust_id"`
	PlanTier          *string        `json:"plan_tier"`
	Status            *string        `json:"status"` // Stripe's word: active, trialing, past_due, canceled …
	CurrentPeriodEnd  *string        `json:"current_period_end"`
	CancelAtPeriodEnd *bool          `json:"cancel_at_period_end"`
	PaymentType       *string        `json:"payment_type"` // only "subscription" entitles
	AmountCents       *int64         `json:"amount_cents"`
	ProductName       *string        `json:"product_name"`
	TrialEnd          *string        `json:"trial_end"`
	CreatedAt         *string        `json:"created_at"`
}

// PricingPlan is a row of core_pricing_plans; its id is the plan key.
type PricingPlan struct {
	ID                 PlanID  `json:"id"`
	Name               *string `json:"name"`
	Description        *string `json:"description"`
	StripePriceMonthly *string `json:"stripe_price_monthly"`
	StripePriceYearly  *string `json:"stripe_price_yearly"`
	AmountMonthly      *int64  `json:"amount_monthly"` // minor units
	AmountYearly       *int64  `json:"amount_yearly"`  // minor units
	Currency           *string `json:"currency"`
	TrialDays          *int64  `json:"trial_days"`
	Features           *string `json:"features"`   // JSON array of feature keys
	TierLevel          *int64  `json:"tier_level"` // NULL counts as 1
	IsActive           *bool   `json:"is_active"`
	SortOrder          *int64  `json:"sort_order"`
	CreatedAt          *string `json:"created_at"`
}

// HostAuditLog is a row of sys_audit_logs; append-only.
type HostAuditLog struct {
	ID          AuditID `json:"id"`
	ActorUserID *string `json:"actor_user_id"` // a user's id, or cli:<os user>@<host>, or system
	EventType   *string `json:"event_type"`
	TargetID    *string `json:"target_id"`
	Details     *string `json:"details"` // JSON text, never a secret
	IPAddress   *string `json:"ip_address"`
	CreatedAt   *string `json:"created_at"`
}

// SystemJob is a row of sys_jobs.
type SystemJob struct {
	ID          JobID   `json:"id"`
	JobType     *string `json:"job_type"`
	Status      *string `json:"status"`
	Payload     *string `json:"payload"` // JSON text
	ErrorLog    *string `json:"error_log"`
	CreatedAt   *string `json:"created_at"`
	CompletedAt *string `json:"completed_at"`
}

// StripeWebhookEvent is a row of core_stripe_webhook_events.
type StripeWebhookEvent struct {
	ID          WebhookEventID `json:"id"`
	EventID     *string        `json:"event_id"`
	EventType   *string        `json:"event_type"`
	Status      *string        `json:"status"`
	PayloadJSON *string        `json:"payload_json"`
	CreatedAt   *string        `json:"created_at"`
}

// Session is a row of sys_sessions. Nothing in it opens anything: the token is not stored, only its MAC.
type Session struct {
	ID        SessionID `json:"id"`
	UserID    UserID    `json:"user_id"`
	TenantID  TenantID  `json:"tenant_id"` // the picker's choice, "" for none
	Host      string    `json:"host"`      // the one host that the cookie is good for
	Provider  string    `json:"provider"`
	Subject   string    `json:"subject"` // the provider's sub, without prefix
	SID       string    `json:"sid"`     // the provider's session id claim, "" without one
	MAC       string    `json:"-"`       // hex HMAC over token, user, host and expiry
	IDToken   string    `json:"-"`       // sealed id_token for RP-initiated logout, "" without one
	CreatedAt string    `json:"created_at"`
	ExpiresAt string    `json:"expires_at"` // absolute
	LastSeen  string    `json:"last_seen"`  // written at most once in idle_timeout/2 or a minute
	// SignIn is shared by the sessions of one sign-in on several hosts; "" in rows from before: see SignInOf.
	SignIn     string   `json:"sign_in"`
	SignedInAt string   `json:"signed_in_at"` // when the person authenticated; "": CreatedAt
	OnlyTenant TenantID `json:"only_tenant"`  // the one tenant that a custom domain's session reaches, "" for no such limit
}

// Key is a row of sys_keys: a key of ours, sealed under the master secret.
type Key struct {
	ID        string  `json:"id"`      // kid
	Purpose   string  `json:"purpose"` // session_mac, assertion …
	Sealed    string  `json:"-"`
	CreatedAt string  `json:"created_at"`
	RetiredAt *string `json:"retired_at"`
}
