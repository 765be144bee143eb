package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/jobs/provision"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
)

// closeWhatItNames has a database that a tenant's new db_url names closed to the roles of other tenants: a job, since only
// `serve` need know the administrator of that server.
func closeWhatItNames(ctx context.Context, tx *catalog.Tx, row *catalog.TenantCatalog, given values) error {
	if given["db_url"] == "" || tenantdb.EngineOf(row.DBURL) == catalog.EngineSQLite {
		return nil
	}
	return provision.EnqueueClosing(ctx, tx)
}

// tenantStateNames are what our own tables say about a tenant, beside its columns.
func tenantStateNames() []string {
	return []string{"paused", "paused_until", "deleted_at", "retain_until"}
}

func (p *program) tenantStates(ctx context.Context, t *catalog.Tables, rows []catalog.TenantCatalog) ([]record, error) {
	ids := make([]catalog.TenantID, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	states, err := t.TenantStates(ctx, ids...)
	if err != nil {
		return nil, err
	}
	out := make([]record, len(rows))
	for i, id := range ids {
		out[i] = tenantState(states[id], p.clock())
	}
	return out, nil
}

func tenantState(s catalog.TenantState, now time.Time) record {
	var until, deleted, retained any
	paused := s.Locks.Paused(now)
	if end, ok := s.Locks.Until(); ok && paused {
		until = catalog.Timestamp(end)
	}
	if s.Deletion != nil {
		deleted, retained = s.Deletion.RequestedAt, s.Deletion.RetainUntil
	}
	names := tenantStateNames()
	return record{{names[0], paused}, {names[1], until}, {names[2], deleted}, {names[3], retained}}
}

// changeTenant runs change on the tenant that the argument names, and prints the tenant as it then stands.
func (p *program) changeTenant(ctx context.Context, f format, name string, change func(context.Context, *catalog.Tx, catalog.TenantID) error) error {
	k := tenants(p)
	return p.change(ctx, f, func(ctx context.Context, tx *catalog.Tx) (record, error) {
		row, err := k.get(ctx, &tx.Tables, selector{id: name})
		if err != nil {
			return nil, err
		}
		if err := change(ctx, tx, row.ID); err != nil {
			return nil, fmt.Errorf("tenant %s: %w", row.ID, err)
		}
		if row, err = k.get(ctx, &tx.Tables, selector{id: string(row.ID)}); err != nil {
			return nil, err
		}
		return k.one(ctx, &tx.Tables, row, false)
	})
}

// duration is a flag's value: as the configuration writes durations, with d for days.
type duration time.Duration

// String, Set and Type implement pflag.Value.
func (d *duration) String() string {
	if t := time.Duration(*d); t != 0 && t%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", t/(24*time.Hour))
	}
	return time.Duration(*d).String()
}

func (d *duration) Set(s string) error {
	v, err := config.ParseDuration(s)
	*d = duration(v)
	return err
}

func (d *duration) Type() string { return "duration" }

func tenantPause(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "pause ID|SLUG", Short: "Keep everybody out of a tenant for a while", Args: oneArg("ID|SLUG"),
		Long: "Sets a lock: requests are denied with tenant_paused until `tenant unpause`, or until the time of --for is over,\n" +
			"by the clock and without another command. Pausing again takes the place of the pause before.",
		Example: `tenantgate tenant pause acme --reason "moving the database" --for 10m`,
	}
	output := outputFlag(cmd)
	reason := cmd.Flags().String("reason", "", "why, for the audit")
	var lasts duration
	cmd.Flags().Var(&lasts, "for", "how long, such as 10m or 1d; absent: until tenant unpause ends it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var end time.Time
		if cmd.Flags().Changed("for") {
			if lasts <= 0 {
				return usagef("--for: want a time that is longer than none, such as 10m")
			}
			end = p.clock().Add(time.Duration(lasts))
		}
		return p.changeTenant(cmd.Context(), *output, args[0], func(ctx context.Context, tx *catalog.Tx, id catalog.TenantID) error {
			return tx.PauseTenant(ctx, id, *reason, end)
		})
	}
	return cmd
}

func tenantUnpause(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "unpause ID|SLUG", Short: "End a pause", Args: oneArg("ID|SLUG"),
		Long: "Removes the lock that `tenant pause` set. While locks of others stand, such as a migration's, the tenant stays\n" +
			"paused, and `paused` says so.",
		Example: "tenantgate tenant unpause acme",
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return p.changeTenant(cmd.Context(), *output, args[0], func(ctx context.Context, tx *catalog.Tx, id catalog.TenantID) error {
			if err := tx.UnpauseTenant(ctx, id); errors.Is(err, catalog.ErrNotFound) {
				return errors.New("is not paused by an operator")
			} else if err != nil {
				return err
			}
			return nil
		})
	}
	return cmd
}

func tenantRestore(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "restore ID|SLUG", Short: "Take a deleted tenant back", Args: oneArg("ID|SLUG"),
		Long: "Takes back what `tenant delete` did, until the time that its --retain gave is over. The tenant is then as it was:\n" +
			"one that had been suspended before stays suspended.",
		Example: "tenantgate tenant restore acme",
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return p.changeTenant(cmd.Context(), *output, args[0], func(ctx context.Context, tx *catalog.Tx, id catalog.TenantID) error {
			return tx.RestoreTenant(ctx, id)
		})
	}
	return cmd
}

// tenantActivity makes suspend and resume.
func tenantActivity(p *program, verb, short string, active bool) *cobra.Command {
	k := tenants(p)
	cmd := &cobra.Command{
		Use: verb + " " + k.naming, Short: short, Args: oneArg(k.naming),
		Example: "tenantgate tenant " + verb + " acme",
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return p.change(cmd.Context(), *output, func(ctx context.Context, tx *catalog.Tx) (record, error) {
			row, err := k.modify(ctx, tx, selector{id: args[0]}, func(t *catalog.TenantCatalog) error {
				t.IsActive = &active
				return nil
			})
			if err != nil {
				return nil, err
			}
			return k.one(ctx, &tx.Tables, row, false)
		})
	}
	return cmd
}

// confirm asks for the tenant's name, or its id if it has none.
func (p *program) confirm(t *catalog.TenantCatalog) error {
	want := string(t.ID)
	if t.Name != nil && strings.TrimSpace(*t.Name) != "" {
		want = *t.Name
	}
	_, _ = fmt.Fprintf(p.err, "Nobody will be able to enter tenant %s. Type its name (%s) to go on: ", printable(string(t.ID)), printable(want))
	line, err := bufio.NewReader(io.LimitReader(p.in, 4096)).ReadString('\n')
	_, _ = fmt.Fprintln(p.err)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the tenant's name: %w", err)
	}
	if strings.TrimSpace(line) != strings.TrimSpace(want) {
		return fmt.Errorf("tenant %s is unchanged: that was not its name; pass --yes to go on without asking", t.ID)
	}
	return nil
}
