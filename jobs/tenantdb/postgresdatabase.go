package tenantdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// EnsureDatabase makes the database closed, takes everything from PUBLIC and only then opens it, so that there is no
// moment at which somebody else may enter. What it owns is what the tenant's role owns: no other than an administrator
// could have given it to that role.
func (h *postgresHold) EnsureDatabase(ctx context.Context, p Place) error {
	found, err := h.server.objects(ctx, h.conn, []string{p.Database})
	if err != nil {
		return err
	}
	switch {
	case len(found) > 0 && (found[0].Owner != p.Role || found[0].Role != p.Role || found[0].Mark != p.Mark):
		return fmt.Errorf("database %s is there and %w: its owner is not the tenant's role; rename or drop it", p.Database, ErrForeign)
	case len(found) == 0 && p.Made:
		return fmt.Errorf("database %s %w: restore it from a backup", p.Database, ErrGone)
	case len(found) == 0:
		if err := h.createDatabase(ctx, p); err != nil {
			return err
		}
	case found[0].AllowConnections && len(found[0].PublicRights) == 0:
		return nil
	}
	if err := h.shut(ctx, p); err != nil {
		return err
	}
	return h.alone(ctx, func(tx pgx.Tx) error {
		open := "ALTER DATABASE " + quote(p.Database) + " ALLOW_CONNECTIONS true"
		_, err := tx.Exec(ctx, open)
		return denied("open database "+p.Database, open, err)
	})
}

func (h *postgresHold) createDatabase(ctx context.Context, p Place) error {
	if err := h.join(ctx, p); err != nil {
		return err
	}
	var encoding string
	err := h.conn.QueryRow(ctx, "SELECT pg_catalog.pg_encoding_to_char(encoding)::text FROM pg_catalog.pg_database WHERE datname = 'template0'").Scan(&encoding)
	if err != nil {
		return safe("look at template0", err)
	}
	create := "CREATE DATABASE " + quote(p.Database) + " OWNER " + quote(p.Role) + " TEMPLATE template0 ENCODING 'UTF8' ALLOW_CONNECTIONS false"
	if encoding != "UTF8" {
		create += " LC_COLLATE 'C' LC_CTYPE 'C'" // the only locale that fits every encoding
	}
	_, err = h.conn.Exec(ctx, create)
	return denied("create database "+p.Database, create, err)
}

// join makes the administrator a member of the tenant's role, where it needs that to give the role a database.
func (h *postgresHold) join(ctx context.Context, p Place) error {
	if h.superuser {
		return nil
	}
	var member bool
	if err := h.conn.QueryRow(ctx, "SELECT pg_catalog.pg_has_role($1, 'USAGE')", p.Role).Scan(&member); err != nil || member {
		return safe("look at the administrator's memberships", err)
	}
	grant := "GRANT " + quote(p.Role) + " TO CURRENT_USER"
	_, err := h.conn.Exec(ctx, grant)
	return denied("become a member of role "+p.Role, grant, err)
}

// shut takes all rights on the tenant's database from PUBLIC, and marks it.
func (h *postgresHold) shut(ctx context.Context, p Place) error {
	if err := h.join(ctx, p); err != nil {
		return err
	}
	return h.alone(ctx, func(tx pgx.Tx) error {
		for _, text := range []string{
			"REVOKE ALL ON DATABASE " + quote(p.Database) + " FROM PUBLIC",
			"COMMENT ON DATABASE " + quote(p.Database) + " IS '" + commentOf(h.server.installation, p.Mark) + "'",
		} {
			if _, err := tx.Exec(ctx, text); err != nil {
				return denied("close database "+p.Database, text, err)
			}
		}
		found, err := h.server.objects(ctx, tx.Conn(), []string{p.Database})
		if err != nil {
			return err
		}
		if len(found) != 1 || len(found[0].PublicRights) > 0 {
			return fmt.Errorf("close database %s: %w: let its owner run: REVOKE ALL ON DATABASE %s FROM PUBLIC", p.Database, ErrDenied, quote(p.Database))
		}
		return nil
	})
}

// publicLock keeps two runs from changing one database's row of pg_database at once, which PostgreSQL answers by an error
// ("tuple concurrently updated"): one closes all databases to PUBLIC, another's among them.
const publicLock = "public"

// alone runs f in a transaction beside which no other run changes a database that is there.
func (h *postgresHold) alone(ctx context.Context, f func(pgx.Tx) error) (err error) {
	c, err := h.lock(ctx, publicLock, alonePoll)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.unlock(ctx, c)) }()
	return h.inTx(ctx, f)
}

// spiteTimeout bounds the wait for a database that belongs to a tenant's role, which may keep others from changing it for
// as long as it likes.
const spiteTimeout = "2s"

// CloseToPublic changes each database in a transaction of its own: it is closed, and everybody who is to enter has been
// named, or nothing has changed. A role that was made beside it could enter before, and is named as soon as it is seen.
func (h *postgresHold) CloseToPublic(ctx context.Context, databases []string) (closed []string, kept map[string]error, err error) {
	open, err := openToPublic(ctx, h.conn, append([]string{}, databases...))
	if err != nil {
		return nil, nil, err
	}
	kept = map[string]error{}
	for _, d := range open {
		done, err := h.closeOne(ctx, d.Name)
		if done {
			closed = append(closed, d.Name)
		}
		if err != nil {
			kept[d.Name] = err
		}
		if ctx.Err() != nil || h.conn.IsClosed() {
			return closed, kept, cmp.Or(err, safe("close databases to PUBLIC", ctx.Err()))
		}
	}
	return closed, kept, nil
}

func (h *postgresHold) closeOne(ctx context.Context, name string) (done bool, err error) {
	var named []string
	err = h.alone(ctx, func(tx pgx.Tx) error {
		named, err = h.closeToPublic(ctx, tx, name)
		return err
	})
	if err != nil || len(named) == 0 {
		return err == nil && named != nil, err
	}
	return true, h.alone(ctx, func(tx pgx.Tx) error {
		_, err := h.admit(ctx, tx, name, named)
		return err
	})
}

// openDatabase is a database that every role of the server may connect to.
type openDatabase struct {
	Name    string
	Tenants bool // its owner is a tenant's role
}

// openToPublic asks for all databases where names is nil.
func openToPublic(ctx context.Context, conn *pgx.Conn, names []string) ([]openDatabase, error) {
	rows, err := conn.Query(ctx, statement("open_to_public"), names, anyComment)
	if err != nil {
		return nil, safe("look at what PUBLIC may", err)
	}
	open, err := pgx.CollectRows(rows, pgx.RowToStructByPos[openDatabase])
	return open, safe("look at what PUBLIC may", err)
}

// closeToPublic returns whom it named; nil if the database was closed meanwhile. What belongs to a tenant's role is for that
// role alone.
func (h *postgresHold) closeToPublic(ctx context.Context, tx pgx.Tx, name string) (named []string, err error) {
	open, err := openToPublic(ctx, h.conn, []string{name}) // as it is now that we are alone
	if err != nil || len(open) == 0 {
		return nil, err
	}
	op, revoke := "close database "+name+" to PUBLIC", "REVOKE CONNECT ON DATABASE "+quote(name)+" FROM PUBLIC"
	all := revoke
	if open[0].Tenants {
		named = []string{}
		_, err = tx.Exec(ctx, "SET LOCAL lock_timeout = '"+spiteTimeout+"'")
		err = safe("wait for less long", err)
	} else if named, err = h.admit(ctx, tx, name, nil); err == nil {
		all = admission(name, named) + "; " + revoke
	}
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, revoke); err != nil {
		return nil, denied(op, all, err)
	}
	// Who does not own the database is only warned, and what another than the owner granted stays.
	if open, err = openToPublic(ctx, h.conn, []string{name}); err == nil && len(open) > 0 {
		err = fmt.Errorf("%s: %w: let its owner run: %s", op, ErrDenied, all)
	}
	return named, err
}

// admit grants CONNECT by name to the login roles that are no tenant's and not among known, and returns all of them.
func (h *postgresHold) admit(ctx context.Context, tx pgx.Tx, name string, known []string) ([]string, error) {
	rows, err := tx.Query(ctx, statement("login_roles"), anyComment)
	if err != nil {
		return nil, safe("list login roles", err)
	}
	roles, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, safe("list login roles", err)
	}
	late := slices.DeleteFunc(slices.Clone(roles), func(role string) bool { return slices.Contains(known, role) })
	if len(late) == 0 {
		return roles, nil
	}
	grant := admission(name, late)
	if _, err := tx.Exec(ctx, grant); err != nil {
		statement := grant
		if known == nil {
			statement += "; REVOKE CONNECT ON DATABASE " + quote(name) + " FROM PUBLIC"
		}
		return nil, denied("close database "+name+" to PUBLIC", statement, err)
	}
	return roles, nil
}

// admission is the statement that lets roles into a database by their names.
func admission(database string, roles []string) string {
	names := make([]string, len(roles))
	for i, role := range roles {
		names[i] = quote(role)
	}
	return "GRANT CONNECT ON DATABASE " + quote(database) + " TO " + strings.Join(names, ", ")
}

// Drop ends what is open first: a database that is still used by its tenant goes all the same.
func (h *postgresHold) Drop(ctx context.Context, p Place) error {
	var r role
	var there bool
	err := h.inTx(ctx, func(tx pgx.Tx) (err error) {
		r, there, err = lookRole(ctx, tx, p.Role)
		return err
	})
	if err != nil {
		return err
	}
	if there && r.comment != commentOf(h.server.installation, p.Mark) {
		return fmt.Errorf("role %s %w: it does not carry the mark of the tenant's record; it stays", p.Role, ErrForeign)
	}
	found, err := h.server.objects(ctx, h.conn, []string{p.Database})
	if err != nil {
		return err
	}
	if len(found) > 0 {
		if found[0].Owner != p.Role && found[0].Mark != p.Mark {
			return fmt.Errorf("database %s %w: neither its owner nor its comment is the tenant's; it stays", p.Database, ErrForeign)
		}
		if there {
			if err := h.join(ctx, p); err != nil {
				return err
			}
		}
		drop := "DROP DATABASE IF EXISTS " + quote(p.Database) + " WITH (FORCE)"
		if _, err := h.conn.Exec(ctx, drop); err != nil {
			return denied("drop database "+p.Database, drop, err)
		}
	}
	if !there {
		return nil
	}
	return h.dropRole(ctx, p)
}
