package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Report says what a migration did, or would do, and what in existing data is doubtful.
type Report struct {
	Engine  string   `json:"engine"`
	Changes []string `json:"changes"` // in order; empty: nothing to do
	Doubts  []Doubt  `json:"doubts"`
}

// Doubt is one kind of finding in existing data. It stops nothing.
type Doubt struct {
	Kind   string   `json:"kind"`   // see Check
	Count  int      `json:"count"`  // how many rows
	IDs    []string `json:"ids"`    // ids of at most 20 of them
	Advice string   `json:"advice"` // what it means and what to do
}

// doubtIDs is how many ids a Doubt names.
const doubtIDs = 20

// Migrate creates and upgrades the schema of the database that cfg names and reports what it did. It may run beside
// other programs and other migrations: it takes no lock that they wait for, does its work once, and can be killed and
// started again at any moment. On PostgreSQL it waits, as long as ctx allows, for transactions that stay open on a
// table that gets an index.
func Migrate(ctx context.Context, cfg Config) (Report, error) {
	return onOpen(ctx, cfg, (*HostDatabase).Migrate)
}

// Check reports what Migrate would do and what in existing data is doubtful, and changes nothing. The kinds of Doubts:
//
//	duplicate_oauth_id      users that share an oauth_id; the unique index cannot be made
//	duplicate_email         users that share an address, ASCII case folded
//	duplicate_membership    several memberships of one user in one tenant
//	membership_dangling     memberships of a user or a tenant that is not there
//	null_tenant_flag        tenants whose is_active is NULL: not active
//	null_membership_flag    memberships whose is_active is NULL: not active
//	unreachable_id          rows without an id
//	tenant_without_host     tenants whose id is no host label and that have no slug
//	slug_shadowed           slugs that equal a tenant's id
//	audit_trigger_right     PostgreSQL: roles that may make triggers on sys_audit_logs or sys_audit_chain without owning it;
//	                        migrating takes that right from them. ids are table: role
//	audit_rewritten         rows of sys_audit_logs that some program changed or deleted, as far as the engine remembers:
//	                        PostgreSQL counts them since its statistics were reset; SQLite shows gaps alone. No ids
func Check(ctx context.Context, cfg Config) (Report, error) {
	if !fileMissing(cfg.URL) {
		return onOpen(ctx, cfg, (*HostDatabase).Check)
	}
	// Opening would make the file. What would change is what an empty one elsewhere lacks.
	dir, err := os.MkdirTemp("", "tenantgate-check-")
	if err != nil {
		return Report{}, safe("look at an empty database", err)
	}
	cfg.URL = NewDBURI("sqlite:" + filepath.Join(dir, "host.db"))
	report, err := onOpen(ctx, cfg, (*HostDatabase).Check)
	return report, errors.Join(err, safe("look at an empty database", os.RemoveAll(dir)))
}

func onOpen(ctx context.Context, cfg Config, f func(*HostDatabase, context.Context) (Report, error)) (Report, error) {
	h, err := open(ctx, cfg)
	if err != nil {
		return Report{}, err
	}
	report, err := f(h, ctx)
	return report, errors.Join(err, h.Close())
}

// Migrate is the function Migrate on an open database.
func (h *HostDatabase) Migrate(ctx context.Context) (Report, error) { return h.migrate(ctx) }

// Check is the function Check on an open database.
func (h *HostDatabase) Check(ctx context.Context) (Report, error) {
	p, err := h.plan(ctx)
	if err != nil {
		return Report{}, err
	}
	report := newReport(h.engine)
	report.Changes = append(report.Changes, p.changes()...)
	if len(p.missingTables) == len(hostTables()) {
		return report, nil // an empty database holds no doubts
	}
	if len(p.missingTables) > 0 {
		return report, errors.Join(p.lacking()...)
	}
	doubts, err := h.doubts(ctx, p)
	report.Doubts = append(report.Doubts, doubts...)
	return report, err
}

// newReport has empty lists instead of none, for JSON's sake.
func newReport(engine string) Report {
	return Report{Engine: engine, Changes: []string{}, Doubts: []Doubt{}}
}

// requireSchema is for those who must not migrate.
func (h *HostDatabase) requireSchema(ctx context.Context) error {
	p, err := h.plan(ctx)
	if err != nil {
		return err
	}
	if errs := p.lacking(); len(errs) > 0 {
		return errors.Join(errs...)
	}
	if changes := p.changes(); len(changes) > 0 {
		return incomplete(changes)
	}
	return nil
}

func incomplete(changes []string) error {
	return fmt.Errorf("%w: run `tenantgate migrate`, which would: %s", ErrSchema, joinSome(changes))
}

// doubtKinds are the statements of check.sql, with what to tell.
func doubtKinds(own bool) []Doubt {
	kinds := []Doubt{
		{Kind: "duplicate_oauth_id", Advice: "of users with one oauth_id the smallest (created_at, id) counts; give the others another, then migrate makes the unique index"},
		{Kind: "duplicate_email", Advice: "trust_email links no user whose address several rows have; correct or clear the others' email"},
		{Kind: "duplicate_membership", Advice: "of one user's active memberships in one tenant the lowest role counts; delete the others"},
		{Kind: "membership_dangling", Advice: "nobody can use these memberships; delete them"},
		{Kind: "null_tenant_flag", Advice: "is_active NULL counts as not active; set it to true or false"},
		{Kind: "null_membership_flag", Advice: "is_active NULL counts as not active; set it to true or false"},
		{Kind: "unreachable_id", Advice: "rows without an id can be neither named nor granted; give them one"},
	}
	if own {
		return append(kinds,
			Doubt{Kind: "tenant_without_host", Advice: "the id is no host label; create a slug to reach the tenant below base_domain"},
			Doubt{Kind: "slug_shadowed", Advice: "the tenant whose id it is wins; choose another slug"})
	}
	return append(kinds, Doubt{Kind: "tenants_without_domains", Advice: "the id is no host label; create a slug to reach the tenant below base_domain"})
}

func (h *HostDatabase) doubts(ctx context.Context, p *plan) ([]Doubt, error) {
	ctx, cancel := within(ctx, scanDeadline)
	defer cancel()
	db := h.read
	if h.engine == EnginePostgreSQL {
		var err error
		if db, err = openPostgresForMigration(h.loc, p.home); err != nil {
			return nil, err
		}
		defer db.Close()
	}
	var found []Doubt
	rewritten, err := h.auditRewritten(ctx, db)
	if err != nil {
		return nil, err
	}
	makers, err := h.triggerMakers(ctx, db)
	if err != nil {
		return nil, err
	}
	for _, d := range doubtKinds(p.own) {
		rows, err := db.QueryContext(ctx, h.queries[d.Kind])
		if err == nil {
			err = gather(d.collect)(rows, nil)
		}
		if err != nil {
			return nil, safe("check for "+d.Kind, err)
		}
		if d.Kind == "tenants_without_domains" {
			d.Kind = "tenant_without_host"
		}
		if d.Count > 0 {
			found = append(found, d)
		}
	}
	for _, d := range []Doubt{makers, rewritten} {
		if d.Count > 0 {
			found = append(found, d)
		}
	}
	return found, nil
}

// auditRewritten tells what can be known of programs that change or delete audit rows. From the day on which nobody but
// the table's owner may, such a program fails; finding none is no proof that there is none.
func (h *HostDatabase) auditRewritten(ctx context.Context, db *sql.DB) (Doubt, error) {
	d := Doubt{Kind: "audit_rewritten", IDs: []string{}}
	if h.engine == EngineSQLite {
		d.Advice = "audit rows are missing in between: some program deleted them (SQLite remembers neither changed rows nor " +
			"deleted last ones); find it, and stop it from rewriting sys_audit_logs"
		return d, safe("check for audit_rewritten", db.QueryRowContext(ctx, h.queries["audit_gaps"]).Scan(&d.Count))
	}
	var since sql.NullString
	err := db.QueryRowContext(ctx, h.queries["audit_rewritten"]).Scan(&d.Count, &since)
	d.Advice = "audit rows were changed or deleted"
	if since.Valid {
		d.Advice += " since " + since.String
	}
	d.Advice += " (as PostgreSQL's statistics count, rolled-back ones too, and tenantgate's own `audit archive`); find the " +
		"program, and stop it from rewriting sys_audit_logs"
	return d, safe("check for audit_rewritten", err)
}

func (d *Doubt) collect(rows *sql.Rows) error {
	for rows.Next() {
		var id string
		if err := rows.Scan(into(&id)); err != nil {
			return err
		}
		d.Count++
		if len(d.IDs) < doubtIDs {
			d.IDs = append(d.IDs, id)
		}
	}
	return rows.Err()
}

func joinSome(all []string) string {
	const most = 12
	text := ""
	for i, s := range all {
		if i == most {
			return fmt.Sprintf("%s; and %d more", text, len(all)-most)
		}
		if i > 0 {
			text += "; "
		}
		text += s
	}
	return text
}
