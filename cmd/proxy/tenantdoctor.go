package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/jobs/lifecycle"
)

func tenantDoctor(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor [ID|SLUG…]", Short: "Say what of tenants and their databases does not fit together",
		Long: "Looks at every tenant, or at those that are named, and changes nothing: rows without databases, databases and roles\n" +
			"without rows, URIs that do not open or connect, wrong owners, rights of PUBLIC, roles that may too much, schemas\n" +
			"that are behind, what has begun and not ended, locks that are left over. Each finding says how to mend it. Exits 1\n" +
			"if there is one. What is called orphaned carries our mark: databases of others are never looked at.",
		Example: "tenantgate tenant doctor",
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return p.withTenants(cmd.Context(), func(ctx context.Context, cfg *config.Config, deps lifecycle.Deps) error {
			ids, err := tenantIDs(ctx, deps.Host, args)
			if err != nil {
				return err
			}
			report, err := lifecycle.NewDoctor(lifecycle.DoctorConfig{NoURI: cfg.Forward.DBURI == "off"}, deps).Examine(ctx, ids)
			if err != nil {
				return err
			}
			if err := p.tellReport(*output, report); err != nil {
				return err
			}
			if n := len(report.Findings); n > 0 {
				return fmt.Errorf("doctor: findings: %d", n)
			}
			return nil
		})
	}
	return cmd
}

func (p *program) tellReport(f format, r lifecycle.Report) error {
	if f == formatJSON {
		findings := make([]record, len(r.Findings))
		for i, one := range r.Findings {
			findings[i] = record{{"tenant_id", orDash(string(one.Tenant))}, {"check", one.Check}, {"finding", one.Text}, {"mend", one.Mend}}
		}
		return writeJSON(p.out, record{
			{"healthy", len(findings) == 0},
			{"tenants", r.Tenants},
			{"databases", r.Databases},
			{"findings", findings},
			{"not_looked_at", append([]string{}, r.Skipped...)},
			{"notes", append([]string{}, r.Notes...)},
		})
	}
	for _, one := range r.Findings {
		who := "tenant " + printable(string(one.Tenant))
		if one.Tenant == "" {
			who = "no tenant"
		}
		if _, err := fmt.Fprintf(p.out, "%s (%s): %s\n    mend: %s\n", who, one.Check, printable(one.Text), printable(one.Mend)); err != nil {
			return err
		}
	}
	for _, skipped := range r.Skipped {
		if _, err := fmt.Fprintf(p.out, "not looked at: %s\n", printable(skipped)); err != nil {
			return err
		}
	}
	for _, note := range r.Notes {
		if _, err := fmt.Fprintf(p.out, "note: %s\n", printable(note)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(p.out, "%d tenants, %d databases of our making, %d findings\n", r.Tenants, r.Databases, len(r.Findings))
	return err
}
