package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/catalog"
)

// tenantActivity makes suspend and resume.
func tenantActivity(p *program, verb, short string, active bool) *cobra.Command {
	k := tenants()
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
			return k.record(row, false), nil
		})
	}
	return cmd
}

// tenantDelete suspends: the rows and the tenant's database stay.
func tenantDelete(p *program) *cobra.Command {
	k := tenants()
	cmd := &cobra.Command{
		Use: "delete " + k.naming, Short: "Suspend a tenant for good, its rows kept", Args: oneArg(k.naming),
		Long: "Sets is_active to false, so that nobody enters any more, and records the deletion in the audit log. The\n" +
			"tenant's rows and its database stay; `tenant resume` takes it back. Asks for the tenant's name, or takes --yes.",
		Example: "tenantgate tenant delete acme --yes",
	}
	output := outputFlag(cmd)
	yes := cmd.Flags().Bool("yes", false, "do not ask for the tenant's name")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return p.withHost(cmd.Context(), func(ctx context.Context, host *catalog.HostDatabase) error {
			row, err := k.get(ctx, &host.Tables, selector{id: args[0]})
			if err != nil {
				return err
			}
			if !*yes {
				if err := p.confirm(row); err != nil {
					return err
				}
			}
			err = host.InTx(ctx, func(tx *catalog.Tx) error {
				id := row.ID
				row, err = k.modify(ctx, tx, selector{id: string(id)}, func(t *catalog.TenantCatalog) error {
					t.IsActive = new(false)
					return nil
				})
				if err != nil {
					return err
				}
				return tx.Audit(ctx, "tenant.delete_requested", string(id), map[string]any{"rows": "kept"})
			})
			if err != nil {
				return err
			}
			return writeOne(p.out, *output, k.record(row, false))
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

// userBlock and userUnblock shut a user out and let the user in again.
func userBlock(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "block ID|EMAIL", Short: "Shut a user out and end all sessions", Args: oneArg("ID|EMAIL"),
		Example: `tenantgate user block ada@example.com --reason "laptop stolen"`,
	}
	output := outputFlag(cmd)
	reason := cmd.Flags().String("reason", "", "why, for the audit")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return p.changeUser(cmd.Context(), *output, args[0], true, func(ctx context.Context, tx *catalog.Tx, id catalog.UserID) error {
			return tx.BlockUser(ctx, id, *reason)
		})
	}
	return cmd
}

func userUnblock(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "unblock ID|EMAIL", Short: "Let a blocked user in again", Args: oneArg("ID|EMAIL"),
		Example: "tenantgate user unblock ada@example.com",
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return p.changeUser(cmd.Context(), *output, args[0], false, func(ctx context.Context, tx *catalog.Tx, id catalog.UserID) error {
			if err := tx.UnblockUser(ctx, id); errors.Is(err, catalog.ErrNotFound) {
				return errors.New("is not blocked")
			} else if err != nil {
				return err
			}
			return nil
		})
	}
	return cmd
}

func (p *program) changeUser(ctx context.Context, f format, name string, blocked bool, change func(context.Context, *catalog.Tx, catalog.UserID) error) error {
	k := users()
	return p.change(ctx, f, func(ctx context.Context, tx *catalog.Tx) (record, error) {
		row, err := k.get(ctx, &tx.Tables, selector{id: name})
		if err != nil {
			return nil, err
		}
		if err := change(ctx, tx, row.ID); err != nil {
			return nil, fmt.Errorf("user %s: %w", row.ID, err)
		}
		return append(k.record(row, false), field{"blocked", blocked}), nil
	})
}
