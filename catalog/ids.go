package catalog

import "unicode/utf8"

// MaxNewID bounds the ids of rows that are added, in bytes: PostgreSQL's indexes take no id of some thousand bytes. Rows
// that are there already have ids of any length.
const MaxNewID = 255

// ShownID is an id as errors name it: a long one is cut.
func ShownID[ID ~string](id ID) string {
	if len(id) <= MaxNewID {
		return string(id)
	}
	cut := 32
	for cut > 0 && !utf8.RuneStart(id[cut]) {
		cut--
	}
	return string(id[:cut]) + "…"
}

// Identifiers are opaque text of any form. New ones are 32 lower-case hex characters (GenID).
type (
	// UserID is GlobalUser.id.
	UserID string
	// TenantID is TenantCatalog.id. Compared exactly, by bytes.
	TenantID string
	// MembershipID is Membership.id.
	MembershipID string
	// SubscriptionID is Subscription.id (not Stripe's sub_…).
	SubscriptionID string
	// PlanID is PricingPlan.id, which is the plan key that plan_tier columns name.
	PlanID string
	// AuditID is HostAuditLog.id.
	AuditID string
	// JobID is SystemJob.id.
	JobID string
	// WebhookEventID is StripeWebhookEvent.id (not Stripe's evt_…).
	WebhookEventID string
	// StripeID is an id of Stripe's: sub_…, cus_…, cs_…, evt_….
	StripeID string
	// SessionID names a session row; knowing it opens nothing.
	SessionID string
	// APITokenID names an API token's row; knowing it opens nothing.
	APITokenID string
	// DomainName is a slug ("acme") or a custom host ("portal.acme.com"), lower case, IDNA-ASCII.
	DomainName string
)
