package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// defaultTokenLife is how long a token lasts whose creator says nothing of it.
const defaultTokenLife = "90d"

func tokenCommand(p *program) *cobra.Command {
	k := tokens()
	cmd := group("token", "Administer API tokens: what programs sign in with", "tenantgate token list --user ada@example.com")
	revoke := k.remove(p)
	revoke.Aliases = []string{"revoke"}
	cmd.AddCommand(k.list(p), k.show(p), tokenCreate(p), k.update(p), revoke)
	return cmd
}

// tokens shows nothing that opens anything. Only the name can be changed: everything else is bound by the token's MAC.
func tokens() *kind[catalog.APITokenID, catalog.APIToken] {
	type row = catalog.APIToken
	shown := func(name string, at func(*row) any) column[row] {
		return column[row]{name: name, silent: true, bind: func(r *row) cell { return cell{get: func() any { return at(r) }} }}
	}
	return &kind[catalog.APITokenID, row]{
		name: "token", plural: "API tokens", naming: "ID",
		columns: []column[row]{
			idColumn("id", "id", func(r *row) *catalog.APITokenID { return &r.ID }).shownOnly(),
			nullable(referenceColumn("user_id", "the user's id or e-mail address", userReference, func(r *row) *catalog.UserID { return &r.UserID })),
			nullable(referenceColumn("tenant_id", "the tenant's id or slug", tenantReference, func(r *row) *catalog.TenantID { return &r.TenantID })),
			shown("kind", func(r *row) any { return r.Kind }),
			textColumn("name", "name for people", func(r *row) **string { return &r.Name }, nil),
			shown("created_at", func(r *row) any { return r.CreatedAt }),
			shown("created_by", func(r *row) any { return orNull(r.CreatedBy) }),
			shown("expires_at", func(r *row) any { return orNull(r.ExpiresAt) }),
			shown("last_used", func(r *row) any { return orNull(r.LastUsed) }),
		},
		table:   func(t *catalog.Tables) *catalog.Table[catalog.APITokenID, row] { return &t.APITokens.Table },
		id:      func(r *row) *catalog.APITokenID { return &r.ID },
		filters: []string{"user_id", "tenant_id", "kind"},
		words:   map[string][]string{"kind": {catalog.TokenUser, catalog.TokenAdmin}},
		examples: map[string]string{
			"list":   "--user ada@example.com",
			"show":   "4f9d0c6b2a714e8f9b3a5c7d1e2f3a4b",
			"update": "4f9d0c6b2a714e8f9b3a5c7d1e2f3a4b --name deploy",
			"delete": "4f9d0c6b2a714e8f9b3a5c7d1e2f3a4b",
		},
	}
}

// nullable is a column that is shown only, and is NULL where it is empty.
func nullable[T any](c column[T]) column[T] {
	inner := c.bind
	c.silent = true
	c.bind = func(row *T) cell {
		it := inner(row)
		return cell{get: func() any {
			if v := it.get(); v != "" {
				return v
			}
			return nil
		}, set: it.set}
	}
	return c
}

// tokenFlags are what a new token is for, as it was written.
type tokenFlags struct {
	admin                                  bool
	user, tenant, name, expiresIn, expires string
}

func tokenCreate(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "create (--user ID|EMAIL | --admin)", Short: "Create an API token and print it, alone", Args: noArgs,
		Long: "Creates a token and prints it, once, alone: it is stored nowhere. A token of a user (tg_…) stands for that user on\n" +
			"the public listener, with --tenant in that one tenant. A token with --admin (tga_…) opens the admin listener.\n" +
			"With --output json it stands in the object as `token`, beside the row's columns. The master secret is needed.",
		Example: "tenantgate token create --user ada@example.com --tenant acme --name deploy --expires-in 90d",
	}
	var f tokenFlags
	output := outputFlag(cmd)
	cmd.Flags().BoolVar(&f.admin, "admin", false, "a token for the admin listener, of no user")
	cmd.Flags().StringVar(&f.user, "user", "", "whose token it is: the user's id or e-mail address")
	cmd.Flags().StringVar(&f.tenant, "tenant", "", "the one tenant that it opens: id or slug; absent: each of the user's")
	cmd.Flags().StringVar(&f.name, "name", "", "name for people")
	cmd.Flags().StringVar(&f.expiresIn, "expires-in", "", "how long it lasts, such as 12h or 90d; 0: until it is deleted; absent: "+defaultTokenLife)
	cmd.Flags().StringVar(&f.expires, "expires-at", "", "when it ends, ISO 8601, instead of --expires-in")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		end, err := f.end(cmd, p.clock())
		if err != nil {
			return err
		}
		return p.createToken(cmd.Context(), *output, f, end)
	}
	return cmd
}

// end checks the flags and says when the token ends; zero: not by itself.
func (f *tokenFlags) end(cmd *cobra.Command, now time.Time) (time.Time, error) {
	switch path := cmd.CommandPath(); {
	case f.admin && (f.user != "" || f.tenant != ""):
		return time.Time{}, usagef("%s: an admin token is of no user and no tenant: leave --user and --tenant out", path)
	case !f.admin && f.user == "":
		return time.Time{}, usagef("%s needs --user, or --admin", path)
	case f.expires != "" && f.expiresIn != "":
		return time.Time{}, usagef("%s: --expires-at and --expires-in are both given: give one", path)
	}
	if f.expires != "" {
		at, err := catalog.ParseTimestamp(f.expires)
		if err != nil {
			return time.Time{}, usagef("--expires-at: want a time such as 2027-01-31T00:00:00, in UTC")
		}
		if !at.After(now) {
			return time.Time{}, usagef("--expires-at: has passed already")
		}
		return at, nil
	}
	life, err := config.ParseDuration(cmp.Or(f.expiresIn, defaultTokenLife))
	if err != nil {
		return time.Time{}, usagef("--expires-in: %w", err)
	}
	if life == 0 {
		return time.Time{}, nil
	}
	return now.Add(life), nil
}

// createToken makes the token in one transaction and prints it once that is committed.
func (p *program) createToken(ctx context.Context, out format, f tokenFlags, end time.Time) error {
	cfg, secrets, err := p.keysConfig(ctx)
	if err != nil {
		return err
	}
	var row *catalog.APIToken
	var token secret.Text
	err = openHost(ctx, cfg, func(ctx context.Context, host *catalog.HostDatabase) error {
		maker, err := auth.NewTokenMaker(ctx, host, secrets)
		if err != nil {
			return err
		}
		return host.InTx(ctx, func(tx *catalog.Tx) error {
			spec := auth.TokenSpec{Admin: f.admin, Name: f.name, Expires: end, CreatedBy: actor()}
			var err error
			if f.user != "" {
				if spec.User, err = findUser(ctx, &tx.Tables, f.user); err != nil {
					return err
				}
			}
			if f.tenant != "" {
				if spec.Tenant, err = findTenant(ctx, &tx.Tables, f.tenant); err != nil {
					return err
				}
			}
			row, token, err = maker.Make(ctx, tx, spec)
			return err
		})
	})
	if err != nil {
		return err
	}
	if out == formatJSON {
		return writeJSON(p.out, append(tokens().record(row, false), field{"token", token.Reveal()}))
	}
	_, err = fmt.Fprintln(p.out, token.Reveal())
	return err
}
