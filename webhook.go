package tenantgate

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/billing/stripeapi"
	"github.com/tenantgate/tenantgate/billing/webhook"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/router"
)

// A webhook asks Stripe within the time in which Stripe waits for the reply; what fails is sent again.
const (
	fetchTimeout  = 6 * time.Second
	fetchAttempts = 2
	fetchPatience = 2 * time.Second
)

// books is what follows what Stripe says: the endpoint that it is told at, and the keeper of the rows. The zero value is none.
type books struct {
	stripe  *stripeapi.Client // nil without an API key
	keeper  *ledger.Keeper
	webhook http.Handler
}

// openBooks makes them where cfg has a webhook secret. Stripe is not asked. Nothing is kept before start.
func (g *Gate) openBooks(ctx context.Context, cfg *config.Config, rules billing.Rules, secrets seal.Keyset) (b books, start func() *ledger.Keeper, err error) {
	stripe := cfg.Billing.Stripe
	if stripe.WebhookSecret.IsZero() {
		return books{}, func() *ledger.Keeper { return nil }, nil
	}
	signer, err := ledger.LoadSigner(ctx, g.host, secrets)
	if err != nil {
		return books{}, nil, err
	}
	deps := ledger.Deps{Host: g.host, Signer: signer, Clock: g.clock, Log: g.telemetry.Logger}
	if !stripe.APIKey.IsZero() {
		b.stripe, err = stripeapi.New(stripeapi.Config{
			Key: stripe.APIKey, URL: stripe.APIURL, Timeout: fetchTimeout, Attempts: fetchAttempts, Patience: fetchPatience,
		})
		if err != nil {
			return books{}, nil, fmt.Errorf("billing.stripe: %w", err)
		}
		deps.Source = b.stripe
	}
	book := ledger.New(ledger.Config{
		Rules: rules, TrustMetadata: stripe.TrustMetadata, Mode: ledger.ModeOf(stripe.APIKey.Reveal()),
	}, deps)
	if h := webhook.New(webhook.Config{Secrets: stripe.WebhookSecret}, webhook.Deps{
		Ledger: book, Clock: g.clock, Log: g.telemetry.Logger, Seen: g.delivered,
	}); h != nil {
		b.webhook = h
	}
	return b, book.Keep, nil
}

// delivered counts what became of a delivery to the webhook; one that was not signed is a refused credential of nobody's, for
// the audit.
func (g *Gate) delivered(r *http.Request, outcome string) {
	g.telemetry.Metrics.StripeEvent(outcome)
	if outcome == webhook.RefusedSignature {
		g.deniedAt(r, string(router.InvalidToken), "")
	}
}

// retire ends the keeper: the one of the configuration that is in force now takes over. Requests under way are served still.
func (b *books) retire() {
	if b.keeper != nil {
		b.keeper.Close()
	}
}

func (b *books) close() {
	b.retire()
	if b.stripe != nil {
		b.stripe.Close()
	}
}

// changed tells the keeper which tenants, or whose subscriptions, somebody changed.
func (b *books) changed(changes []catalog.Change) {
	if b.keeper == nil {
		return
	}
	var tenants []catalog.TenantID
	for i := range changes {
		c := &changes[i]
		if c.Kind != catalog.ChangedSubscription && c.Kind != catalog.ChangedTenant {
			continue
		}
		if c.Every {
			b.keeper.Changed()
			return
		}
		if c.Tenant != "" {
			tenants = append(tenants, c.Tenant)
		}
	}
	if len(tenants) > 0 {
		b.keeper.Changed(tenants...)
	}
}

// reset tells the keeper that anything may have changed.
func (b *books) reset() {
	if b.keeper != nil {
		b.keeper.Changed()
	}
}
