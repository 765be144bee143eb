package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/jobs/lifecycle"
)

func tenantDelete(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete ID|SLUG", Short: "Suspend a tenant, and remove it after a while", Args: oneArg("ID|SLUG"),
		Long: "Suspends the tenant at once, so that nobody enters any more, and keeps it for the time of --retain: until then\n" +
			"`tenant restore` takes it back. Then its rows end, and with them the database and the role that `tenant provision`\n" +
			"recorded for it, and nothing else: the database of any other tenant stays. `serve` does that, or this command at\n" +
			"once with --retain 0. Deleting again moves the end.\n\n" +
			"--backup first copies the database into a directory (pg_dump, or SQLite's own copy) and compares the copy with it;\n" +
			"until that is done nothing is removed. How a backup is restored: docs/tenants-life.md. No Stripe subscription is\n" +
			"canceled: those that still stand are named. Asks for the tenant's name, or takes --yes.",
		Example: "tenantgate tenant delete acme --retain 90d --backup /var/backups/tenantgate --yes",
	}
	output := outputFlag(cmd)
	yes := cmd.Flags().Bool("yes", false, "do not ask for the tenant's name")
	retain := duration(30 * 24 * time.Hour)
	cmd.Flags().Var(&retain, "retain", "how long the tenant can be restored, such as 30d; 0: it is removed at once")
	dir := cmd.Flags().String("backup", "", "directory that the tenant is copied into first")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ask := lifecycle.Deletion{Retain: time.Duration(retain)}
		if cmd.Flags().Changed("backup") {
			if *dir == "" {
				return usagef("--backup: want a directory")
			}
			var err error
			if ask.BackupDir, err = filepath.Abs(*dir); err != nil {
				return fmt.Errorf("--backup: %w", err)
			}
		}
		end := func(ctx context.Context, cfg *config.Config, deps lifecycle.Deps) error {
			return p.deleteTenant(ctx, *output, args[0], *yes, ask, freshness(cfg), deps)
		}
		if ask.BackupDir == "" && ask.Retain > 0 { // the host database alone is enough
			return p.withHost(cmd.Context(), func(ctx context.Context, host *catalog.HostDatabase) error {
				return end(ctx, &config.Config{}, lifecycle.Deps{Host: host, Clock: p.clock})
			})
		}
		return p.withTenants(cmd.Context(), end)
	}
	return cmd
}

func (p *program) deleteTenant(ctx context.Context, f format, name string, yes bool, ask lifecycle.Deletion, fresh time.Duration, deps lifecycle.Deps) error {
	k := tenants(p)
	row, err := k.get(ctx, &deps.Host.Tables, selector{id: name})
	if err != nil {
		return err
	}
	if !yes {
		if err := p.confirm(row); err != nil {
			return err
		}
	}
	ask.Tenant = row.ID
	told := func(step string) {
		_, _ = fmt.Fprintf(p.err, "delete: tenant %s: %s\n", printable(string(row.ID)), printable(step))
	}
	if ask.BackupDir == "" {
		told = nil
	}
	fate, err := lifecycle.NewRemover(lifecycle.RemoveConfig{Freshness: fresh}, deps).Delete(ctx, ask, told)
	if len(fate.Paying) > 0 {
		_, _ = fmt.Fprintf(p.err, "delete: tenant %s: still paid for in Stripe, cancel there: %s\n", printable(string(row.ID)), printable(strings.Join(fate.Paying, ", ")))
	}
	gone := errors.Is(err, catalog.ErrNotFound) && p.goneMeanwhile(ctx, deps.Host, row.ID)
	if gone {
		fate.Purged, err = true, nil
	}
	if err != nil {
		return fmt.Errorf("tenant %s: %w", row.ID, err)
	}
	done := record{{"id", row.ID}}
	if !fate.Purged {
		if row, err = k.get(ctx, &deps.Host.Tables, selector{id: string(row.ID)}); err != nil {
			return err
		}
		if done, err = k.one(ctx, &deps.Host.Tables, row, false); err != nil {
			return err
		}
	}
	return writeOne(p.out, f, append(done, fateFields(fate, gone)...))
}

// goneMeanwhile reports, and says, that a tenant that was there when this command began is not there any more: another run
// has done what this one was asked for.
func (p *program) goneMeanwhile(ctx context.Context, host *catalog.HostDatabase, id catalog.TenantID) bool {
	if _, err := host.Tenants.Get(ctx, id); !errors.Is(err, catalog.ErrNotFound) {
		return false
	}
	_, _ = fmt.Fprintf(p.err, "delete: tenant %s: another run has removed it meanwhile\n", printable(string(id)))
	return true
}

// fateFields say what ends with the tenant, and what stays. gone: another run removed it, and says so where it ran.
func fateFields(fate lifecycle.Fate, gone bool) record {
	var database, role, path, sum any
	stays := "nothing of it stays"
	if database, role = orDash(fate.Database), orDash(fate.Role); fate.Database == "" {
		stays = "its rows end; its database and role, if it has any, stay: `tenant provision` did not make them"
	}
	if gone {
		stays = "another run has removed it: its audit row tenant.purged says what went"
	}
	if fate.Backup != nil {
		path, sum = fate.Backup.Path, fate.Backup.SHA256
	}
	return record{
		{"purged", fate.Purged},
		{"database_name", database},
		{"role_name", role},
		{"stays", stays},
		{"backup_path", path},
		{"backup_sha256", sum},
		{"stripe_subscriptions", append([]string{}, fate.Paying...)},
	}
}
