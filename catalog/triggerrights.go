package catalog

import (
	"context"
	"database/sql"
)

// Who may make triggers on a table can replace those that keep it (CREATE OR REPLACE TRIGGER asks for nothing more), and
// runs what it likes as whoever writes there. GRANT ALL gives that right to programs that want to read and write alone.
// So on the log and its chain nobody keeps it but the owner; a GRANT that comes later stands until the next start.

// triggerRight is a table and a role, each fit for a statement.
type triggerRight struct{ table, role string }

// asker is a pool or a connection.
type asker interface {
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
}

func (h *HostDatabase) triggerRights(ctx context.Context, db asker) (found []triggerRight, err error) {
	if h.engine == EngineSQLite {
		return nil, nil
	}
	rows, err := db.QueryContext(ctx, h.queries["postgresql_trigger_rights"])
	err = gather(func(rows *sql.Rows) error {
		for rows.Next() {
			var r triggerRight
			if err := rows.Scan(&r.table, &r.role); err != nil {
				return err
			}
			found = append(found, r)
		}
		return rows.Err()
	})(rows, err)
	return found, safe("look who may make triggers on the audit log", err)
}

// takeTriggerRights takes them away. No lock of a table is needed for that.
func (h *HostDatabase) takeTriggerRights(ctx context.Context) (done []string, err error) {
	rights, err := h.triggerRights(ctx, h.read)
	for _, r := range rights {
		if _, err := h.write.ExecContext(ctx, "REVOKE TRIGGER ON "+r.table+" FROM "+r.role+" CASCADE"); err != nil {
			return done, safe("migrate: revoke TRIGGER on "+r.table, err)
		}
		done = append(done, "revoke TRIGGER on "+r.table+" from "+r.role)
	}
	return done, err
}

func (h *HostDatabase) triggerMakers(ctx context.Context, db asker) (Doubt, error) {
	d := Doubt{Kind: "audit_trigger_right", IDs: []string{}, Advice: "these roles may replace the triggers that keep the audit log: " +
		"run `tenantgate migrate`, and grant SELECT, INSERT, UPDATE, DELETE instead of ALL"}
	rights, err := h.triggerRights(ctx, db)
	for _, r := range rights {
		d.Count++
		if len(d.IDs) < doubtIDs {
			d.IDs = append(d.IDs, r.table+": "+r.role)
		}
	}
	return d, err
}
