package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/catalog"
)

func sessionCommand(p *program) *cobra.Command {
	cmd := group("session", "Administer sessions: who is signed in", "tenantgate session list --user ada@example.com")
	cmd.AddCommand(sessionList(p), sessionShow(p), sessionRevoke(p))
	return cmd
}

func sessionColumns() []string {
	return []string{
		"id", "user_id", "tenant_id", "host", "provider", "subject", "sid", "created_at", "expires_at", "last_seen", "sign_in", "signed_in_at",
		"only_tenant",
	}
}

// sessionRecord holds nothing that opens a session.
func sessionRecord(s *catalog.Session) record {
	fields := []string{
		string(s.ID), string(s.UserID), string(s.TenantID), s.Host, s.Provider, s.Subject, s.SID, s.CreatedAt, s.ExpiresAt, s.LastSeen,
		s.SignInOf(), s.SignedInAt, string(s.OnlyTenant),
	}
	out := make(record, len(fields))
	for i, name := range sessionColumns() {
		out[i] = field{name, fields[i]}
	}
	return out
}

func sessionList(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List sessions, of a user or everybody's, newest first", Args: noArgs,
		Example: "tenantgate session list --user ada@example.com",
	}
	output := outputFlag(cmd)
	page := pageFlags(cmd)
	user := cmd.Flags().String("user", "", "only this user's: id or e-mail address")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := page.check(); err != nil {
			return err
		}
		return p.withHost(cmd.Context(), func(ctx context.Context, host *catalog.HostDatabase) error {
			if *user == "" {
				all, next, err := host.Sessions.List(ctx, page.Page)
				if err != nil {
					return fmt.Errorf("list sessions: %w", err)
				}
				return writeList(p.out, *output, sessionColumns(), sessionRecords(all), next)
			}
			id, err := findUser(ctx, &host.Tables, *user)
			if err != nil {
				return err
			}
			all, err := host.Sessions.ListByUser(ctx, id)
			if err != nil {
				return fmt.Errorf("list sessions: %w", err)
			}
			rows, next, err := cutPage(all, page.Page)
			if err != nil {
				return err
			}
			return writeList(p.out, *output, sessionColumns(), rows, next)
		})
	}
	return cmd
}

// cutPage takes a page out of all of a user's sessions.
func cutPage(all []catalog.Session, page catalog.Page) ([]record, string, error) {
	if page.After != "" {
		i := slices.IndexFunc(all, func(s catalog.Session) bool { return string(s.ID) == page.After })
		if i < 0 {
			return nil, "", fmt.Errorf("--after: session %s is gone; begin again without it", page.After)
		}
		all = all[i+1:]
	}
	next := ""
	if len(all) > page.Limit {
		all = all[:page.Limit]
		next = string(all[page.Limit-1].ID)
	}
	return sessionRecords(all), next, nil
}

func sessionRecords(all []catalog.Session) []record {
	rows := make([]record, len(all))
	for i := range all {
		rows[i] = sessionRecord(&all[i])
	}
	return rows
}

func sessionShow(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show one session", Args: oneArg("ID"),
		Example: "tenantgate session show 0123456789abcdef0123456789abcdef",
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return p.withHost(cmd.Context(), func(ctx context.Context, host *catalog.HostDatabase) error {
			s, err := findSession(ctx, &host.Tables, catalog.SessionID(args[0]))
			if err != nil {
				return err
			}
			return writeOne(p.out, *output, sessionRecord(s))
		})
	}
	return cmd
}

func findSession(ctx context.Context, t *catalog.Tables, id catalog.SessionID) (*catalog.Session, error) {
	s, _, _, err := t.SessionUser(ctx, id)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, fmt.Errorf("session %s: %w; `tenantgate session list --user` shows a user's", id, catalog.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("session %s: %w", id, err)
	}
	return s, nil
}

func sessionRevoke(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "revoke [ID | --user ID|EMAIL]", Aliases: []string{"delete"}, Short: "End a session's sign-in on every host, or all of a user's", Args: atMostOneArg,
		Example: "tenantgate session revoke --user ada@example.com",
	}
	output := outputFlag(cmd)
	user := cmd.Flags().String("user", "", "end all sessions of this user: id or e-mail address")
	cmd.Flags().Bool("yes", false, "accepted; nothing is asked")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (len(args) == 1) == (*user != "") {
			return usagef("%s: name one session by its id, or a user by --user", cmd.CommandPath())
		}
		return p.change(cmd.Context(), *output, func(ctx context.Context, tx *catalog.Tx) (record, error) {
			if *user != "" {
				return revokeUser(ctx, tx, *user)
			}
			return revokeOne(ctx, tx, catalog.SessionID(args[0]))
		})
	}
	return cmd
}

func revokeUser(ctx context.Context, tx *catalog.Tx, name string) (record, error) {
	id, err := findUser(ctx, &tx.Tables, name)
	if err != nil {
		return nil, err
	}
	rows, err := tx.Sessions.ListByUser(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("sessions of %s: %w", id, err)
	}
	n, err := tx.Sessions.DeleteByUser(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("revoke sessions of %s: %w", id, err)
	}
	return revoked(id, rows, n), tx.Audit(ctx, "session.revoked", string(id), map[string]any{"sessions": n})
}

// revokeOne ends the sign-in that a session belongs to: what is left of it on another host would make the session anew.
func revokeOne(ctx context.Context, tx *catalog.Tx, id catalog.SessionID) (record, error) {
	s, err := findSession(ctx, &tx.Tables, id)
	if err != nil {
		return nil, err
	}
	rows, err := tx.DeleteSignIn(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("session %s: %w", id, err)
	}
	return revoked(s.UserID, rows, len(rows)), tx.Audit(ctx, "session.revoked", string(s.UserID), map[string]any{
		"session": string(id), "sessions": len(rows),
	})
}

// revoked says how many sessions ended, and on which hosts.
func revoked(user catalog.UserID, rows []catalog.Session, n int) record {
	hosts := make([]string, 0, len(rows))
	for i := range rows {
		hosts = append(hosts, rows[i].Host)
	}
	slices.Sort(hosts)
	return record{{"user_id", string(user)}, {"revoked", n}, {"hosts", strings.Join(slices.Compact(hosts), " ")}}
}
