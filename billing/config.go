package billing

import (
	"time"

	"github.com/tenantgate/tenantgate/internal/secret"
)

// Config says when a tenant counts as paying.
type Config struct {
	// Required: nil means true. False: no tenant needs a subscription.
	Required *bool `yaml:"required"`
	// GracePeriod keeps past_due entitled. Nil: 72h.
	GracePeriod *time.Duration `yaml:"grace_period"`
	// GraceFrom is period_end (also "") or past_due.
	GraceFrom string `yaml:"grace_from"`
	// ExemptPlans are plan tiers whose tenants need no subscription.
	ExemptPlans []string `yaml:"exempt_plans"`
	// PlanAliases maps a plan_tier to a plan key.
	PlanAliases map[string]string `yaml:"plan_aliases"`
	// FreePlan is the plan_tier of a tenant whose entitlement ended. Empty: free.
	FreePlan string `yaml:"free_plan"`
}

// StripeConfig is billing.stripe.
type StripeConfig struct {
	// WebhookSecret holds the endpoint's secrets, one a line, each accepted.
	WebhookSecret     secret.Text `yaml:"webhook_secret"`
	WebhookSecretFile string      `yaml:"webhook_secret_file"`
	APIKey            secret.Text `yaml:"api_key"`
	APIKeyFile        string      `yaml:"api_key_file"`
	APIURL            string      `yaml:"api_url"`
	TrustMetadata     bool        `yaml:"trust_metadata"`
}
