package reconcile

import (
	"context"
	"log/slog"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/billing/stripeapi"
	"github.com/tenantgate/tenantgate/billing/webhook"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
)

// Setup is what a configuration says of reconcile.
type Setup struct {
	Host   *catalog.HostDatabase
	Stripe *stripeapi.Client
	// Secrets open the key of signed metadata.
	Secrets seal.Keyset
	Rules   billing.Rules
	// TrustMetadata is billing.stripe.trust_metadata.
	TrustMetadata bool
	Clock         func() time.Time // nil: time.Now
	Log           *slog.Logger     // nil: none
}

// Wire makes of it what Run stands on: the ledger and the events that webhooks have too.
func Wire(ctx context.Context, s Setup) (Deps, error) {
	signer, err := ledger.LoadSigner(ctx, s.Host, s.Secrets)
	if err != nil {
		return Deps{}, err
	}
	cfg := ledger.Config{Rules: s.Rules, TrustMetadata: s.TrustMetadata, Mode: s.Stripe.Mode()}
	return Deps{
		Host: s.Host, Stripe: s.Stripe, Parse: webhook.Parse, Clock: s.Clock, Log: s.Log,
		Ledger: func(source ledger.Source) Ledger {
			return ledger.New(cfg, ledger.Deps{Host: s.Host, Source: source, Signer: signer, Clock: s.Clock, Log: s.Log})
		},
	}, nil
}
