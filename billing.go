package tenantgate

import (
	"context"
	"fmt"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/billing/checkout"
	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/billing/stripeapi"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/router"
)

// paying is what a Stripe API key gives: pages on which tenants are paid for. The zero value is none.
type paying struct {
	stripe *stripeapi.Client
	pages  router.Billing
}

func (p *paying) close() {
	if p.stripe != nil {
		p.stripe.Close()
	}
}

// openPaying makes the pages where cfg has an API key. Stripe is not asked.
func (g *Gate) openPaying(ctx context.Context, cfg *config.Config, rules billing.Rules, secrets seal.Keyset) (p paying, err error) {
	stripe := cfg.Billing.Stripe
	if stripe.APIKey.IsZero() {
		return paying{}, nil
	}
	signer, err := ledger.LoadSigner(ctx, g.host, secrets)
	if err != nil {
		return paying{}, err
	}
	client, err := stripeapi.New(stripeapi.Config{Key: stripe.APIKey, URL: stripe.APIURL})
	if err != nil {
		return paying{}, fmt.Errorf("billing.stripe: %w", err)
	}
	book := ledger.New(ledger.Config{Rules: rules, TrustMetadata: stripe.TrustMetadata}, ledger.Deps{
		Host: g.host, Source: client, Signer: signer, Clock: g.clock, Log: g.telemetry.Logger,
	})
	pages, err := checkout.New(checkout.Config{Rules: rules, APIURL: stripe.APIURL}, checkout.Deps{
		Host: g.host, Stripe: client, Ledger: book, Signer: signer, Refuse: router.Refuse, Clock: g.clock, Log: g.telemetry.Logger,
		Settle: func(ctx context.Context) { g.freshness.settle(ctx, g.clock) },
	})
	if err != nil {
		client.Close()
		return paying{}, err
	}
	return paying{client, pages}, nil
}

// settlePoll is how often settle asks for the last look, which follows a commit of this process within 50 ms.
const settlePoll = 5 * time.Millisecond

// settle returns once a look at the change log has begun after it was called, so that decisions follow what was committed
// before, or when ctx ends.
func (f *freshness) settle(ctx context.Context, clock func() time.Time) {
	f.mu.Lock()
	feed := f.feed
	f.mu.Unlock()
	if feed == nil {
		return
	}
	called := clock().Round(0)
	tick := time.NewTicker(settlePoll)
	defer tick.Stop()
	for feed.Stats().LastLook.Before(called) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
