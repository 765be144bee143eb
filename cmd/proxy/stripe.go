package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/billing/ledger"
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

func subscriptionReconcile(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "reconcile", Short: "Compare subscriptions with Stripe and repair what was missed", Args: noArgs,
		Long: "Lists all of Stripe's subscriptions and the events of the last 30 days, and brings the tenants' rows to what Stripe\n" +
			"has, each repair audited. What stands as paid and is not known to Stripe any more ends. Rows that name no Stripe\n" +
			"subscription are not touched. --dry-run only shows what would change. A key of another account or of the other\n" +
			"mode (live, test) changes nothing. Exits 1 if something could not be compared or repaired; the rest is done.\n" +
			"A running proxy with an API key does this daily.",
		Example: "tenantgate subscription reconcile --dry-run",
	}
	output := outputFlag(cmd)
	dryRun := cmd.Flags().Bool("dry-run", false, "show what would change and change nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return p.withStripe(cmd.Context(), func(ctx context.Context, s stripeAccess) error {
			rules, err := billing.New(s.cfg.Subscription)
			if err != nil {
				return configFault(fmt.Errorf("subscription: %w", err))
			}
			deps, err := reconcile.Wire(ctx, reconcile.Setup{
				Host: s.host, Stripe: s.client, Secrets: s.secrets, Rules: rules, TrustMetadata: s.cfg.Billing.Stripe.TrustMetadata, Clock: p.clock,
			})
			if err != nil {
				return err
			}
			report, err := reconcile.Run(ctx, reconcile.Config{DryRun: *dryRun}, deps)
			if err != nil && report.Looked == 0 {
				return err
			}
			return errors.Join(p.tellReconciled(*output, report), err, problems("subscription reconcile", report.Problems, report.MoreProblems))
		})
	}
	return cmd
}

// tellReconciled prints what reconcile did, also where it broke off: a line for each column and each event, or one
// object.
func (p *program) tellReconciled(f format, report *reconcile.Report) error {
	rows := []record{}
	for _, c := range report.Changes {
		for _, e := range c.Edits {
			rows = append(rows, record{
				{"subscription", string(c.Subscription)},
				{"tenant_id", string(c.Tenant)},
				{"table", e.Table},
				{"id", e.ID},
				{"column", e.Column},
				{"from", e.From},
				{"to", e.To},
			})
		}
	}
	missed := []record{}
	for _, m := range report.Missed {
		missed = append(missed, record{{"event_id", string(m.Event)}, {"event_type", m.Type}, {"object", string(m.Object)}, {"created_at", catalog.Timestamp(m.Created)}})
	}
	if f == formatJSON {
		return writeJSON(p.out, record{
			{"dry_run", report.DryRun},
			{"mode", modeName(report.Mode)},
			{"subscriptions", report.Looked},
			{"unowned", report.Unowned},
			{"changes", rows},
			{"more_changes", report.MoreChanges},
			{"missed_events", missed},
			{"more_missed_events", report.MoreMissed},
			{"problems", listOf(report.Problems)},
		})
	}
	if len(rows) == 0 && len(missed) == 0 {
		_, err := fmt.Fprintf(p.out, "nothing to change: %d subscriptions looked at\n", report.Looked)
		return err
	}
	if len(rows) > 0 {
		if err := writeList(p.out, f, []string{"subscription", "tenant_id", "table", "id", "column", "from", "to"}, rows, ""); err != nil {
			return err
		}
	}
	if len(missed) > 0 {
		return writeList(p.out, f, []string{"missed_event", "event_type", "object", "created_at"}, missed, "")
	}
	return nil
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

func modeName(m ledger.Mode) string {
	return map[ledger.Mode]string{ledger.ModeTest: "test", ledger.ModeLive: "live"}[m]
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
