package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/catalog"
)

func migrateCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "migrate", Short: "Create or upgrade the host database's tables", Args: noArgs,
		Long: "Creates what lacks and upgrades what is old; running it again does nothing. On a database that fh-saas made it\n" +
			"changes no row. --check only reports what would change, and what in existing data is doubtful; it exits 0.",
		Example: "tenantgate migrate --check",
	}
	output := outputFlag(cmd)
	check := cmd.Flags().Bool("check", false, "change nothing, only report")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := p.hostConfig(cmd.Context())
		if err != nil {
			return err
		}
		work := catalog.Migrate
		if *check {
			work = catalog.Check
		}
		report, err := work(catalog.WithActor(cmd.Context(), catalog.Actor{ID: actor()}), cfg)
		if err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		return writeReport(p.out, *output, *check, report)
	}
	return cmd
}

func writeReport(w io.Writer, f format, check bool, r catalog.Report) error {
	if f == formatJSON {
		if r.Changes == nil {
			r.Changes = []string{}
		}
		if r.Doubts == nil {
			r.Doubts = []catalog.Doubt{}
		}
		return writeJSON(w, record{
			{"engine", r.Engine}, {"checked_only", check}, {"changes", r.Changes}, {"doubts", r.Doubts},
		})
	}
	heading := "changed:"
	switch {
	case len(r.Changes) == 0:
		heading = "nothing to change"
	case check:
		heading = "would change:"
	}
	_, _ = fmt.Fprintf(w, "%s: %s\n", r.Engine, heading)
	for _, c := range r.Changes {
		_, _ = fmt.Fprintf(w, "  %s\n", printable(c))
	}
	if len(r.Doubts) == 0 {
		return nil
	}
	_, _ = fmt.Fprintln(w, "\ndoubtful in existing data:")
	for _, d := range r.Doubts {
		_, _ = fmt.Fprintf(w, "  %s: %d\n    %s\n    %s\n", printable(d.Kind), d.Count, printable(d.Advice), cellText(d.IDs))
	}
	return nil
}
