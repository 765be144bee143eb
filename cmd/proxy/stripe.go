package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/billing/reconcile"
	"github.com/tenantgate/tenantgate/billing/stripeapi"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/seal"
)

// stripeAccess is what a command that compares with Stripe has.
type stripeAccess struct {
	host    *catalog.HostDatabase
	cfg     *config.Config
	secrets seal.Keyset
	client  *stripeapi.Client
}

// withStripe opens the host database and makes the client of Stripe's API that the configuration names.
func (p *program) withStripe(ctx context.Context, f func(context.Context, stripeAccess) error) error {
	cfg, err := config.LoadBilling(ctx, p.source())
	if err != nil {
		return configFault(err)
	}
	if cfg.Billing.Stripe.APIKey.IsZero() {
		return configFault(errors.New("billing.stripe.api_key_file: missing; name a file that holds a Stripe API key"))
	}
	secrets, err := seal.ParseKeyset(cfg.SecretKey)
	if err != nil {
		return configFault(fmt.Errorf("secret_key: %w", err))
	}
	client, err := stripeapi.New(stripeapi.Config{Key: cfg.Billing.Stripe.APIKey, URL: cfg.Billing.Stripe.APIURL})
	if err != nil {
		return configFault(fmt.Errorf("billing.stripe: %w", err))
	}
	defer client.Close()
	hostCfg := cfg.HostDatabase
	hostCfg.Clock = p.clock
	return openHost(ctx, hostCfg, func(ctx context.Context, host *catalog.HostDatabase) error {
		return f(ctx, stripeAccess{host, cfg, secrets, client})
	})
}

func planSync(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "sync", Short: "Bring Stripe's products and prices into the plans", Args: noArgs,
		Long: "Compares Stripe's products and prices with the plans and makes the plans follow, in one transaction, each change\n" +
			"audited. A product is a plan if its metadata has tenantgate_plan or plan, the plan key, or if a plan has one of its\n" +
			"prices already. No plan is ever deleted; a product that is archived takes its plan off offer. --dry-run only shows\n" +
			"what would change. Exits 1 if something of Stripe's cannot be used as it is; the rest is done.",
		Example: "tenantgate plan sync --dry-run",
	}
	output := outputFlag(cmd)
	dryRun := cmd.Flags().Bool("dry-run", false, "show what would change and change nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return p.withStripe(cmd.Context(), func(ctx context.Context, s stripeAccess) error {
			report, err := reconcile.SyncPlans(ctx, s.host, s.client, *dryRun)
			if err != nil {
				return err
			}
			return errors.Join(p.tellPlans(*output, report), problems("plan sync", report.Problems, 0))
		})
	}
	return cmd
}

// tellPlans prints what plan sync did: a line for each column, or one object.
func (p *program) tellPlans(f format, report *reconcile.PlanReport) error {
	rows := make([]record, len(report.Changes))
	for i, c := range report.Changes {
		what := "update"
		if c.New {
			what = "create"
		}
		rows[i] = record{
			{"plan", string(c.Plan)}, {"product", string(c.Product)}, {"action", what}, {"column", c.Column}, {"from", c.From}, {"to", c.To},
		}
	}
	if f == formatJSON {
		return writeJSON(p.out, record{
			{"dry_run", report.DryRun}, {"changes", rows}, {"unchanged", report.Same}, {"other_products", report.Foreign}, {"problems", listOf(report.Problems)},
		})
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintf(p.out, "nothing to change: %d plans are as Stripe has them\n", report.Same)
		return err
	}
	return writeList(p.out, f, []string{"plan", "product", "action", "column", "from", "to"}, rows, "")
}

// listOf is a list that is never null in JSON.
func listOf(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}

// problems is a line for each thing that could not be done, more of which are only counted.
func problems(verb string, lines []string, more int) error {
	var errs []error
	for _, line := range lines {
		errs = append(errs, fmt.Errorf("%s: %s", verb, line))
	}
	if more > 0 {
		errs = append(errs, fmt.Errorf("%s: %d more", verb, more))
	}
	return errors.Join(errs...)
}
