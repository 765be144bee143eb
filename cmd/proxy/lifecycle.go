package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/catalog"
)

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
