package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// belonging is one database in which a role that is to be dropped still has something; Database is empty for the server's
// own: rights on databases.
type belonging struct {
	Database string
	Owns     bool
}

func (h *postgresHold) belongings(ctx context.Context, p Place) ([]belonging, error) {
	rows, err := h.conn.Query(ctx, statement("belongings"), p.Role)
	if err != nil {
		return nil, safe("look for what role "+p.Role+" has", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[belonging])
	return found, safe("look for what role "+p.Role+" has", err)
}

// release takes from a role what others have granted it: else any tenant could keep another's role from being dropped, by
// a right on something of its own. Where the role owns something nothing is changed, since DROP OWNED would drop that too.
func (h *postgresHold) release(ctx context.Context, p Place) error {
	found, err := h.belongings(ctx, p)
	if err != nil {
		return err
	}
	for _, b := range found {
		if !b.Owns {
			err = errors.Join(err, h.releaseIn(ctx, p, b.Database))
		}
	}
	return err
}

// reopen has a tenant's database, which its owner has shut to every connection, as provisioning makes it.
func (h *postgresHold) reopen(ctx context.Context, database string) error {
	found, err := h.server.objects(ctx, h.conn, []string{database})
	if err != nil || len(found) == 0 || found[0].AllowConnections || found[0].Role == "" {
		return err
	}
	return h.EnsureDatabase(ctx, Place{Database: database, Role: found[0].Role, Mark: found[0].Mark, Made: true})
}

// ownSettings are the administrator's own values of what a database sets for its sessions. Its owner, a tenant perhaps, may
// set there whom they act as, and that they end after a millisecond.
func (h *postgresHold) ownSettings(ctx context.Context, database string) (map[string]string, error) {
	rows, err := h.conn.Query(ctx, statement("settings"), database)
	if err != nil {
		return nil, safe("look at the settings of database "+database, err)
	}
	settings := map[string]string{"role": h.role}
	var name, value string
	_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error {
		settings[name] = value
		return nil
	})
	return settings, safe("look at the settings of database "+database, err)
}

// releaseIn connects to a database that another tenant may own. DROP OWNED runs nothing that is written there, and the
// settings that a database gives its sessions do not hold for ours.
func (h *postgresHold) releaseIn(ctx context.Context, p Place, database string) error {
	if err := h.join(ctx, p); err != nil {
		return err
	}
	conn := h.conn
	if database != "" {
		if err := h.reopen(ctx, database); err != nil {
			return err
		}
		settings, err := h.ownSettings(ctx, database)
		if err != nil {
			return err
		}
		if conn, err = h.server.connectTo(ctx, database, settings); err != nil {
			return fmt.Errorf("database %s: %w", database, err)
		}
		defer closeConn(ctx, conn)
	}
	var owns bool // in the database that the statement would be run in, as it is now
	err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_database d ON d.oid = s.dbid
		JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid WHERE d.datname = pg_catalog.current_database() AND r.rolname = $1 AND s.deptype = 'o')`, p.Role).Scan(&owns)
	if err != nil || owns {
		return safe("look for what role "+p.Role+" owns", err)
	}
	drop := "DROP OWNED BY " + quote(p.Role)
	_, err = conn.Exec(ctx, drop)
	return denied("take from role "+p.Role+" what it was granted", drop, err)
}

// dropRole drops a role whose database is gone. One that has to stay logs in nowhere any more.
func (h *postgresHold) dropRole(ctx context.Context, p Place) error {
	drop := "DROP ROLE IF EXISTS " + quote(p.Role)
	_, err := h.conn.Exec(ctx, drop)
	if !stillNeeded(err) {
		return denied("drop role "+p.Role, drop, err)
	}
	shut := "ALTER ROLE " + quote(p.Role) + " NOLOGIN"
	_, err = h.conn.Exec(ctx, shut)
	released := errors.Join(denied("keep role "+p.Role+" out", shut, err), h.release(ctx, p))
	if _, err = h.conn.Exec(ctx, drop); err == nil {
		return nil
	}
	if stillNeeded(err) {
		if kept := h.kept(ctx, p); kept != nil {
			return errors.Join(kept, released)
		}
	}
	return errors.Join(denied("drop role "+p.Role, drop, err), released)
}

// kept says what somebody has to run for a role that still has something.
func (h *postgresHold) kept(ctx context.Context, p Place) error {
	found, err := h.belongings(ctx, p)
	if err != nil || len(found) == 0 {
		return nil //nolint:nilerr // the reason why it stays is on its way already
	}
	var places []string
	for _, b := range found {
		if b.Database == "" {
			b.Database = "any"
		}
		places = append(places, b.Database)
	}
	return fmt.Errorf("role %s has something outside of its database, and stays: look at it, then let an administrator run in database %s: DROP OWNED BY %s",
		p.Role, strings.Join(places, ", "), quote(p.Role))
}
