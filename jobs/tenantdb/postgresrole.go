package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tenantgate/tenantgate/internal/secret"
)

// roleOptions are all that a tenant's role may: log in. It is a member of nothing, and INHERIT is for pg_database_owner
// alone, which is whom schema public belongs to in the database that the role owns.
const roleOptions = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE INHERIT NOREPLICATION NOBYPASSRLS"

// role is what the server says of a role.
type role struct {
	login   bool
	comment string
	excess  []string // rights that a tenant's role must not have
}

func lookRole(ctx context.Context, tx pgx.Tx, name string) (r role, there bool, err error) {
	err = tx.QueryRow(ctx, statement("role"), name).Scan(&r.login, &r.comment, &r.excess)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, false, nil
	}
	return r, err == nil, safe("look for role "+name, err)
}

// EnsureRole makes the role and its mark in one transaction, so that a role without the mark is never ours.
func (h *postgresHold) EnsureRole(ctx context.Context, p Place, password secret.Text) error {
	return h.inTx(ctx, func(tx pgx.Tx) error {
		r, there, err := lookRole(ctx, tx, p.Role)
		if err != nil {
			return err
		}
		if !there {
			return h.createRole(ctx, tx, p, password)
		}
		if err := h.adopt(p, r); err != nil {
			return err
		}
		if r.login && password.IsZero() {
			return nil
		}
		secretClause, err := passwordClause(password)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "ALTER ROLE "+quote(p.Role)+" LOGIN"+secretClause)
		return denied("give role "+p.Role+" its password", "ALTER ROLE "+quote(p.Role)+" LOGIN PASSWORD …", err)
	})
}

// passwordClause hands the server a verifier. Base64 and the verifier's punctuation need no quoting.
func passwordClause(password secret.Text) (string, error) {
	if password.IsZero() {
		return "", nil
	}
	text, err := verifier(password)
	return " PASSWORD '" + text + "'", err
}

func (h *postgresHold) createRole(ctx context.Context, tx pgx.Tx, p Place, password secret.Text) error {
	if password.IsZero() {
		return fmt.Errorf("role %s %w", p.Role, ErrGone)
	}
	clause, err := passwordClause(password)
	if err != nil {
		return err
	}
	create := "CREATE ROLE " + quote(p.Role) + " " + roleOptions
	if _, err := tx.Exec(ctx, create+clause); err != nil {
		return denied("create role "+p.Role, create+" PASSWORD …", err)
	}
	comment := "COMMENT ON ROLE " + quote(p.Role) + " IS '" + commentOf(h.server.installation, p.Mark) + "'"
	if _, err := tx.Exec(ctx, comment); err != nil {
		return denied("mark role "+p.Role, comment, err)
	}
	return nil
}

// adopt refuses a role that does not carry the record's mark, or that may more than a tenant's role.
func (h *postgresHold) adopt(p Place, r role) error {
	if r.comment != commentOf(h.server.installation, p.Mark) {
		return fmt.Errorf("role %s is there and %w: it does not carry the mark of the tenant's record; rename or drop it", p.Role, ErrForeign)
	}
	if len(r.excess) > 0 {
		return fmt.Errorf("role %s has been given rights that no tenant's role may have (%s): take them from it", p.Role, strings.Join(r.excess, ", "))
	}
	return nil
}
