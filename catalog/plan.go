package catalog

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// plan is what a database lacks.
type plan struct {
	home           string   // PostgreSQL: the schema of the eight tables
	own            bool     // our own tables are there
	missingTables  []string // of the eight
	missingColumns []string // table.column of tables that exist
	newSchema      bool     // PostgreSQL: ours is not there yet
	pending        []string // names of migrations to apply
	triggers       []triggerPlan
	indexes        []indexPlan
	doubled        bool // the unique index is missing and the data forbids it
}

type indexPlan struct {
	name    string
	table   string
	invalid bool // left behind by a build that did not end
}

const uniqueSubjectIndex = "tenantgate_users_oauth_id_unique"

// hostIndexes are the indexes that we add to the eight tables, in the order in which they are made. Their statements
// are in indexes.sql.
func hostIndexes() []indexPlan {
	return []indexPlan{
		{name: "tenantgate_users_oauth_id", table: "core_users"},
		{name: "tenantgate_users_email", table: "core_users"},
		{name: uniqueSubjectIndex, table: "core_users"},
		{name: "tenantgate_memberships_user_tenant", table: "core_memberships"},
		{name: "tenantgate_memberships_tenant", table: "core_memberships"},
		{name: "tenantgate_subscriptions_newest", table: "core_subscriptions"},
		{name: "tenantgate_subscriptions_stripe_sub", table: "core_subscriptions"},
		{name: "tenantgate_subscriptions_stripe_cust", table: "core_subscriptions"},
		{name: "tenantgate_plans_monthly", table: "core_pricing_plans"},
		{name: "tenantgate_plans_yearly", table: "core_pricing_plans"},
		{name: "tenantgate_audit_created", table: "sys_audit_logs"},
		{name: "tenantgate_jobs_open", table: "sys_jobs"},
		{name: "tenantgate_jobs_created", table: "sys_jobs"},
	}
}

type hostTable struct {
	name    string
	columns []string
}

// hostTables are fh-saas's eight.
func hostTables() []hostTable {
	return []hostTable{
		{userModel().table, userModel().columns},
		{tenantModel().table, tenantModel().columns},
		{membershipModel().table, membershipModel().columns},
		{subscriptionModel().table, subscriptionModel().columns},
		{planModel().table, planModel().columns},
		{auditModel().table, auditModel().columns},
		{jobModel().table, jobModel().columns},
		{webhookModel().table, webhookModel().columns},
	}
}

// changes are all in the order in which they are made: first those of versions, then triggers, then indexes.
func (p *plan) changes() []string {
	all := p.versions()
	for _, t := range p.triggers {
		all = append(all, t.changes...)
	}
	for _, i := range p.indexes {
		verb := "create"
		if i.invalid {
			verb = "rebuild invalid"
		}
		all = append(all, verb+" index "+i.name+" on "+i.table)
	}
	return all
}

// versions are the changes that stand in numbered migrations.
func (p *plan) versions() []string {
	var all []string
	for _, t := range p.missingTables {
		all = append(all, "create table "+t)
	}
	if p.newSchema {
		all = append(all, "create schema "+ownSchema)
	}
	for _, m := range p.pending {
		all = append(all, "apply migration "+m)
	}
	return all
}

// lacking is what migrating cannot mend: columns are never added to the eight tables.
func (p *plan) lacking() []error {
	if len(p.missingColumns) == 0 {
		return nil
	}
	return []error{fmt.Errorf("%w: fh-saas's tables lack %s: upgrade fh-saas and let it add them", ErrSchema, joinSome(p.missingColumns))}
}

// plan looks at what stands and compares.
func (h *HostDatabase) plan(ctx context.Context) (*plan, error) {
	p := &plan{}
	columns, indexes, applied, err := h.inspect(ctx, p)
	if err != nil {
		return nil, err
	}
	for _, t := range hostTables() {
		there := func(column string) bool { return columns[t.name+"."+column] }
		if !slices.ContainsFunc(t.columns, there) {
			p.missingTables = append(p.missingTables, t.name)
			continue
		}
		for _, c := range t.columns {
			if !there(c) {
				p.missingColumns = append(p.missingColumns, t.name+"."+c)
			}
		}
	}
	if p.pending, err = pendingMigrations(applied); err != nil {
		return nil, err
	}
	triggers, err := h.inspectTriggers(ctx, p.home)
	if err != nil {
		return nil, err
	}
	p.triggers = h.planTriggers(triggers)
	for _, i := range hostIndexes() {
		valid, there := indexes[i.name]
		if valid {
			continue
		}
		i.invalid = there
		if i.name == uniqueSubjectIndex && !slices.Contains(p.missingTables, "core_users") {
			if p.doubled, err = h.exists(ctx, "has_doubled_oauth_id"); err != nil {
				return nil, err
			}
			if p.doubled && !there {
				continue // lived with
			}
		}
		p.indexes = append(p.indexes, i)
	}
	return p, nil
}

func (h *HostDatabase) inspect(ctx context.Context, p *plan) (columns, indexes, applied map[string]bool, err error) {
	columns, own := map[string]bool{}, map[string]bool{}
	indexes, applied = map[string]bool{}, map[string]bool{}
	if h.engine == EngineSQLite {
		own = columns
		err = h.names(ctx, "sqlite_columns", nil, columns)
		if err == nil {
			err = h.flags(ctx, "sqlite_indexes", nil, indexes)
		}
	} else {
		if p.home, err = h.homeSchema(ctx); err == nil {
			err = h.names(ctx, "postgresql_columns", []any{p.home}, columns)
		}
		if err == nil {
			err = h.names(ctx, "postgresql_columns", []any{ownSchema}, own)
		}
		if err == nil {
			err = h.flags(ctx, "postgresql_indexes", []any{p.home}, indexes)
		}
		if err == nil {
			p.newSchema, err = h.lacksOwnSchema(ctx)
		}
	}
	if err == nil && own["sys_schema_versions.version_id"] {
		err = h.names(ctx, "schema_versions", nil, applied)
	}
	p.own = own["core_tenant_domains.host"]
	return columns, indexes, applied, err
}

// homeSchema says where the eight tables stand, or would be made.
func (h *HostDatabase) homeSchema(ctx context.Context) (string, error) {
	var home sql.NullString
	err := h.query(ctx, "look for the schema", readDeadline, "home_schema", nil, func(rows *sql.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&home); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err == nil && !home.Valid {
		err = fmt.Errorf("%w: the role's search_path names no schema that exists: give the URL ?search_path=public", ErrSchema)
	}
	return home.String, err
}

func (h *HostDatabase) lacksOwnSchema(ctx context.Context) (bool, error) {
	n, err := h.number(ctx, "own_schema_exists")
	return n == 0, err
}

func (h *HostDatabase) exists(ctx context.Context, name string) (bool, error) {
	found := false
	err := h.query(ctx, "look at the data", scanDeadline, name, nil, func(rows *sql.Rows) error {
		found = rows.Next()
		return rows.Err()
	})
	return found, err
}

func (h *HostDatabase) number(ctx context.Context, name string) (int64, error) {
	var n int64
	err := h.query(ctx, "look at the schema", readDeadline, name, nil, func(rows *sql.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&n); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return n, err
}

func (h *HostDatabase) names(ctx context.Context, name string, args []any, to map[string]bool) error {
	return h.query(ctx, "look at the schema", readDeadline, name, args, func(rows *sql.Rows) error {
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				return err
			}
			to[s] = true
		}
		return rows.Err()
	})
}

func (h *HostDatabase) flags(ctx context.Context, name string, args []any, to map[string]bool) error {
	return h.query(ctx, "look at the schema", readDeadline, name, args, func(rows *sql.Rows) error {
		for rows.Next() {
			var s string
			var b bool
			if err := rows.Scan(&s, into(&b)); err != nil {
				return err
			}
			to[s] = b
		}
		return rows.Err()
	})
}

// pendingMigrations lists the embedded migrations whose numbers are not among the applied ones, in their order. It goes
// by the set, not by the highest number: a migration that was released late, below one that is applied already, is not
// skipped. Numbers that a later version of ours applied are not known here and ask for nothing: migrations only add.
func pendingMigrations(applied map[string]bool) ([]string, error) {
	files, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(f, "migrations/"), ".sql")
		number, _, _ := strings.Cut(name, "_")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("migration %s: its name must begin with a number", name)
		}
		if !applied[strconv.FormatInt(n, 10)] {
			names = append(names, name)
		}
	}
	return names, nil
}
