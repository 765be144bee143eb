package tenantgate

import (
	"context"
	"fmt"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/billing/reconcile"
	"github.com/tenantgate/tenantgate/billing/stripeapi"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/jobs"
)

// The daily comparison with Stripe.
const (
	reconcileType    = jobs.Prefix + "reconcile"
	reconcileEvery   = 24 * time.Hour
	reconcileTimeout = 2 * time.Hour
	// reconcileLines is how many problems one run logs, each in a line.
	reconcileLines = 20
)

// reconcileKind is its worker. Without an API key there is nothing to do.
func (g *Gate) reconcileKind() jobs.Kind {
	return jobs.Kind{
		Timeout: reconcileTimeout, MaxAttempts: 5,
		Work: func(ctx context.Context, _ *jobs.Run) error { return g.reconcile(ctx) },
	}
}

// reconcile compares with Stripe and repairs. One object that cannot be repaired is logged and is no failure: the next run
// looks at it again.
func (g *Gate) reconcile(ctx context.Context) error {
	cfg := g.inForce()
	if cfg.Billing.Stripe.APIKey.IsZero() {
		return nil
	}
	rules, err := billing.New(cfg.Subscription)
	if err != nil {
		return fmt.Errorf("subscription: %w", err)
	}
	secrets, err := seal.ParseKeyset(cfg.SecretKey)
	if err != nil {
		return fmt.Errorf("secret_key: %w", err)
	}
	client, err := stripeapi.New(stripeapi.Config{Key: cfg.Billing.Stripe.APIKey, URL: cfg.Billing.Stripe.APIURL})
	if err != nil {
		return fmt.Errorf("billing.stripe: %w", err)
	}
	defer client.Close()
	log := g.telemetry.Logger
	deps, err := reconcile.Wire(ctx, reconcile.Setup{
		Host: g.host, Stripe: client, Secrets: secrets, Rules: rules, TrustMetadata: cfg.Billing.Stripe.TrustMetadata, Clock: g.clock, Log: log,
	})
	if err != nil {
		return err
	}
	report, err := reconcile.Run(ctx, reconcile.Config{}, deps)
	for i, problem := range report.Problems {
		if i == reconcileLines {
			break
		}
		log.WarnContext(ctx, "reconcile with stripe: a problem", "problem", problem)
	}
	log.InfoContext(ctx, "reconciled with stripe", "subscriptions", report.Looked, "changed", len(report.Changes)+report.MoreChanges,
		"missed_events", len(report.Missed)+report.MoreMissed, "problems", len(report.Problems)+report.MoreProblems, "whole", err == nil)
	return err
}
