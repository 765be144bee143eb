package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// TenantDatabase is a row of sys_tenant_databases: a database that our own provisioning makes, or has made, for a tenant.
// It is written before anything is created. Only what such a row names is ever adopted or dropped.
type TenantDatabase struct {
	TenantID TenantID `json:"tenant_id"`
	Engine   string   `json:"engine"` // EnginePostgreSQL or EngineSQLite
	// Server tells the server from others: PostgreSQL's system identifier, or the directory of SQLite's files.
	Server       string `json:"server"`
	DatabaseName string `json:"database_name"`
	RoleName     string `json:"role_name"` // "" on SQLite
	// Mark is what our objects carry in their comments, made anew with each row. No secret.
	Mark string `json:"mark"`
	// Step is the last step of provisioning that was done; see package jobs/provision.
	Step string `json:"step"`
	// Problem is why the last run ended early; NULL while one is under way, and once all is done.
	Problem *string `json:"problem"`
	// Run names the run that has the tenant now, or had it last: what an older one still wants to write is refused.
	Run string `json:"run"`
	// UserID becomes the tenant's owner; nil: nobody does.
	UserID *string `json:"user_id"`
	// TenantCreatedAt is created_at of the tenant's row, "" if that has none: a row with another one is another tenant that
	// was given the same id. Nil: it was not recorded.
	TenantCreatedAt *string `json:"tenant_created_at"`
	CreatedAt       string  `json:"created_at"`
	UpdatedAt       string  `json:"updated_at"`
}

func tenantDatabaseModel() model[TenantID, TenantDatabase] {
	return model[TenantID, TenantDatabase]{
		table: ownSchema + ".sys_tenant_databases", noun: "tenant_database",
		columns: []string{
			"tenant_id", "engine", "server", "database_name", "role_name", "mark", "step", "problem", "run", "user_id",
			"tenant_created_at", "created_at", "updated_at",
		},
		fields: func(d *TenantDatabase) []any {
			return []any{
				&d.TenantID, &d.Engine, &d.Server, &d.DatabaseName, &d.RoleName, &d.Mark, &d.Step, &d.Problem, &d.Run, &d.UserID,
				&d.TenantCreatedAt, &d.CreatedAt, &d.UpdatedAt,
			}
		},
		check:  checkTenantDatabase,
		hidden: []string{"mark", "run"},
		quiet:  []string{"run", "updated_at"},
	}
}

// checkTenantDatabase refuses a row that would name another database than the one that was made.
func checkTenantDatabase(_ context.Context, _ *Tx, old, row *TenantDatabase) error {
	if row.Engine == "" || row.Server == "" || row.DatabaseName == "" || row.Mark == "" {
		return errors.New("a tenant's database needs engine, server, name and mark")
	}
	if old != nil && (old.Engine != row.Engine || old.Server != row.Server || old.DatabaseName != row.DatabaseName ||
		old.RoleName != row.RoleName || old.Mark != row.Mark) {
		return errors.New("what was recorded of a tenant's database never changes: delete the row once the database is dropped")
	}
	return nil
}

// Installation tells this host database from others: 32 hex characters, made when its tables were. No secret.
func (t *Tables) Installation(ctx context.Context) (string, error) {
	var id string
	err := t.at.query(ctx, "read the installation", readDeadline, "installation", nil, func(rows *sql.Rows) error {
		for rows.Next() {
			if err := rows.Scan(into(&id)); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err == nil && id == "" {
		err = fmt.Errorf("%w: sys_installation holds no row: put one back, of 32 hex characters", ErrSchema)
	}
	return id, err
}

// HostPlace says on which server the host database lies, as TenantDatabase.Server has it, and how it is named there. Both
// are "" on SQLite.
func (t *Tables) HostPlace(ctx context.Context) (server, database string, err error) {
	err = t.at.query(ctx, "ask the host database's server who it is", readDeadline, "host_place", nil, func(rows *sql.Rows) error {
		for rows.Next() {
			if err := rows.Scan(into(&server), into(&database)); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return server, database, err
}
