package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/jobs/provision"
	"github.com/tenantgate/tenantgate/sealing"
)

func tenantProvision(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "provision", Short: "Make a tenant with its database", Args: noArgs,
		Long: "Makes everything that a tenant needs, step by step: a role and a database of its own where provisioning.admin_url\n" +
			"leads, the schema of provisioning.migrations_dir, the rows, a trial where the plan has one, and last of all the\n" +
			"activation. What is there already is taken up: ended at any moment it can be run again, and ends in the same state.\n" +
			"What is not permitted on the server is refused with the statement that somebody else has to run there.",
		Example: "tenantgate tenant provision --id acme --name Acme --plan-tier pro --owner ada@example.com",
	}
	output := outputFlag(cmd)
	id := cmd.Flags().String("id", "", "id; made up if absent")
	name := cmd.Flags().String("name", "", "name for people")
	plan := cmd.Flags().String("plan-tier", "", "plan key")
	owner := cmd.Flags().String("owner", "", "ID|EMAIL of the user who becomes its owner")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("id") && *id == "" {
			return usagef("--id: want an id, or none at all for one that is made up")
		}
		spec := provision.Spec{Tenant: catalog.TenantID(*id), Name: *name, PlanTier: *plan}
		if *id == "" {
			spec.Tenant = catalog.TenantID(catalog.GenID())
		}
		return p.withProvisioner(cmd.Context(), func(ctx context.Context, host *catalog.HostDatabase, maker *provision.Provisioner) error {
			if *owner != "" {
				user, err := findUser(ctx, &host.Tables, *owner)
				if err != nil {
					return err
				}
				spec.Owner = user
			}
			show := &steps{to: p.err, live: terminal(p.err)}
			err := maker.Run(ctx, spec, show.event)
			if show.end(); err != nil {
				return fmt.Errorf("provision: %w", err)
			}
			k := tenants(p)
			row, err := k.get(ctx, &host.Tables, selector{id: string(spec.Tenant)})
			if err != nil {
				return err
			}
			done, err := k.one(ctx, &host.Tables, row, false)
			if err != nil {
				return err
			}
			return writeOne(p.out, *output, done)
		})
	}
	return cmd
}

// withProvisioner is withKeys for what makes tenants.
func (p *program) withProvisioner(ctx context.Context, f func(context.Context, *catalog.HostDatabase, *provision.Provisioner) error) error {
	cfg, err := config.LoadProvisioning(ctx, p.source())
	if err != nil {
		return configFault(err)
	}
	keys, err := seal.ParseKeyset(cfg.SecretKey)
	if err != nil {
		return configFault(fmt.Errorf("secret_key: %w", err))
	}
	cfg.HostDatabase.Clock = p.clock
	return openHost(ctx, cfg.HostDatabase, func(ctx context.Context, host *catalog.HostDatabase) error {
		opener := sealing.New(sealing.Config{Keys: keys, Refs: cfg.HostDatabase.Refs, Clock: p.clock, Lookup: p.lookup})
		defer opener.Close()
		maker, err := provision.New(cfg.ProvisionConfig(), provision.Deps{Host: host, Keys: keys, Opener: opener, Clock: p.clock})
		if err != nil {
			return configFault(err)
		}
		return errors.Join(f(ctx, host, maker), maker.Close())
	})
}

// steps shows how far provisioning is: on a terminal in one line that changes, elsewhere by a line for each step.
type steps struct {
	to   io.Writer
	live bool
	open bool // the terminal's line is not ended
}

// stepText is what a step does, for people.
func stepText(s provision.Step) string {
	return map[provision.Step]string{
		provision.Recorded: "names on record", provision.Closed: "other databases closed to strangers", provision.Role: "role",
		provision.Database: "database", provision.Migrated: "schema", provision.Rows: "rows", provision.Checked: "connection",
		provision.Ready: "activation",
	}[s]
}

func (s *steps) event(e provision.Event) {
	text := fmt.Sprintf("%s: %s", e.Step, stepText(e.Step))
	switch {
	case !s.live && e.Done:
		_, _ = fmt.Fprintf(s.to, "provision: %s\n", text)
	case s.live && e.Done:
		_, _ = fmt.Fprintf(s.to, "\r\x1b[K  done  %s\n", text)
		s.open = false
	case s.live:
		_, _ = fmt.Fprintf(s.to, "\r\x1b[K  …     %s", text)
		s.open = true
	}
}

// end leaves the terminal with a line that is ended.
func (s *steps) end() {
	if s.open {
		_, _ = fmt.Fprintln(s.to)
		s.open = false
	}
}

// terminal reports whether a person looks at the writer.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
