package lifecycle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
	"github.com/tenantgate/tenantgate/jobs/tenantdb/backup"
)

// The periodic job that calls PurgeDue.
const (
	PurgeType     = "tenantgate.purge"
	PurgeInterval = time.Hour
	PurgeTimeout  = time.Hour
)

// RemoveConfig says how tenants end.
type RemoveConfig struct {
	// Freshness is how long a replica may take to hear that a tenant is suspended.
	Freshness time.Duration
}

// Remover deletes tenants and removes those whose retention is over.
type Remover struct {
	cfg  RemoveConfig
	deps Deps
}

// NewRemover makes a Remover; nothing is read yet.
func NewRemover(cfg RemoveConfig, deps Deps) *Remover { return &Remover{cfg: cfg, deps: deps.filled()} }

// Deletion asks for a tenant's end.
type Deletion struct {
	Tenant catalog.TenantID
	Retain time.Duration
	// BackupDir, where it is not "", is where the tenant is copied to before anything is removed.
	BackupDir string
}

// Fate is what a deletion means for a tenant, or what a removal did.
type Fate struct {
	Deletion catalog.Deletion
	// Database and Role are what our provisioning recorded: they end with the tenant. "": whatever the tenant has stays.
	Database, Role string
	// Paying are Stripe subscriptions that still stand: deleting a tenant cancels none.
	Paying []string
	Backup *backup.Copy
	Purged bool
}

// ErrBackup: the tenant is suspended and its backup was not made. Nothing of it is removed before there is one.
var ErrBackup = errors.New("the tenant is suspended, but no backup was made: nothing is removed until `tenant delete --backup` has made one")

// cut bounds how long a request goes on that is not let through any more (router's briefly, and a little).
const cut = time.Second

// Delete suspends the tenant at once; then copies it where that was asked for; then removes it where nothing is to be
// kept. told (nil: nobody) hears of each step. A failure after the first step leaves a deleted tenant: Delete again goes
// on with it.
func (r *Remover) Delete(ctx context.Context, ask Deletion, told func(step string)) (Fate, error) {
	if told == nil {
		told = func(string) {}
	}
	var fate Fate
	err := r.deps.Host.InTx(ctx, func(tx *catalog.Tx) (err error) {
		if fate.Deletion, err = tx.DeleteTenant(ctx, ask.Tenant, ask.Retain); err != nil || ask.BackupDir == "" {
			return err
		}
		return tx.WantBackup(ctx, ask.Tenant, ask.BackupDir)
	})
	if errors.Is(err, catalog.ErrConflict) { // its removal has begun already: it is ended, whatever was asked for
		if states, failed := r.deps.Host.TenantStates(ctx, ask.Tenant); failed == nil && states[ask.Tenant].Deletion != nil && states[ask.Tenant].Deletion.PurgingAt != "" {
			return r.Purge(ctx, ask.Tenant)
		}
	}
	if err != nil {
		return fate, err
	}
	told("suspended")
	if fate.Database, fate.Role, err = r.recorded(ctx, ask.Tenant); err != nil {
		return fate, err
	}
	if fate.Paying, err = r.paying(ctx, ask.Tenant); err != nil {
		return fate, err
	}
	if ask.BackupDir != "" {
		if err := wait(ctx, r.cfg.Freshness+judged+cut); err != nil {
			return fate, errors.Join(ErrBackup, err)
		}
		if fate.Backup, err = r.backUp(ctx, ask.Tenant, ask.BackupDir); err != nil {
			return fate, errors.Join(ErrBackup, err)
		}
		told("backed up to " + fate.Backup.Path)
	}
	if ask.Retain > 0 {
		return fate, nil
	}
	removed, err := r.Purge(ctx, ask.Tenant)
	fate.Purged = removed.Purged
	return fate, err
}

func (r *Remover) recorded(ctx context.Context, tenant catalog.TenantID) (database, role string, err error) {
	record, err := r.deps.Host.TenantDatabases.Get(ctx, tenant)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return "", "", nil
	case err != nil:
		return "", "", err
	}
	return record.DatabaseName, record.RoleName, nil
}

// paying are the tenant's Stripe subscriptions that have not ended.
func (r *Remover) paying(ctx context.Context, tenant catalog.TenantID) ([]string, error) {
	var found []string
	page := catalog.Page{Limit: pageSize, Filter: map[string]string{"tenant_id": string(tenant)}}
	for {
		rows, next, err := r.deps.Host.Subscriptions.List(ctx, page)
		if err != nil {
			return nil, err
		}
		for _, s := range rows {
			if s.StripeSubID == nil || *s.StripeSubID == "" || s.Status == nil {
				continue
			}
			switch *s.Status {
			case "active", "trialing", "past_due", "unpaid", "paused":
				found = append(found, *s.StripeSubID)
			}
		}
		if page.After = next; next == "" {
			return found, nil
		}
	}
}

// backUp copies the tenant's database and writes the tenant's rows beside it, as `import` reads them.
func (r *Remover) backUp(ctx context.Context, tenant catalog.TenantID, dir string) (*backup.Copy, error) {
	row, err := r.deps.Host.Tenants.Get(ctx, tenant)
	if err != nil {
		return nil, err
	}
	uri, err := r.deps.uri(ctx, &tenantRow{TenantCatalog: *row})
	if err != nil {
		return nil, err
	}
	if err := r.covers(ctx, tenant, uri); err != nil {
		return nil, err
	}
	made, err := backup.Make(ctx, backup.Config{Dir: dir, Name: string(tenant), Clock: r.deps.Clock}, uri, func(dir string, made *backup.Copy) error {
		return r.writeRows(ctx, row, dir, made)
	})
	if err != nil {
		return nil, err
	}
	details := map[string]any{"bytes": made.Bytes, "tables": len(made.Tables), "rows": made.Rows}
	return made, r.deps.Host.BackupMade(ctx, tenant, made.Path, made.SHA256, details)
}

// covers refuses a backup of another database than the one that the removal would drop.
func (r *Remover) covers(ctx context.Context, tenant catalog.TenantID, uri catalog.DBURI) error {
	record, err := r.deps.Host.TenantDatabases.Get(ctx, tenant)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	same, err := leadsTo(ctx, uri, record)
	if err != nil || same {
		return err
	}
	if r.deps.Server != nil {
		found, err := r.deps.Server.Look(ctx, []string{record.DatabaseName})
		if err != nil {
			return err
		}
		if _, there := found[record.DatabaseName]; !there {
			return nil
		}
	}
	return fmt.Errorf("db_url does not lead to database %s, which provisioning made for the tenant and its removal drops: the backup would not hold it; "+
		"drop it by hand, or have db_url lead to it", record.DatabaseName)
}

// writeRows writes the manifest, and a file of JSON lines for each kind of row.
func (r *Remover) writeRows(ctx context.Context, row *catalog.TenantCatalog, dir string, made *backup.Copy) error {
	of := map[string]string{"tenant_id": string(row.ID)}
	members, err := lines(ctx, &r.deps.Host.Memberships, of)
	if err != nil {
		return err
	}
	subscriptions, err := lines(ctx, &r.deps.Host.Subscriptions, of)
	if err != nil {
		return err
	}
	domains, err := lines(ctx, &r.deps.Host.Domains, of)
	if err != nil {
		return err
	}
	tenant := *row
	tenant.DBURL = catalog.DBURI{} // it is a secret, and leads nowhere once the database is dropped
	manifest, err := json.MarshalIndent(map[string]any{"tenant": tenant, "database": made}, "", "  ")
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	for name, text := range map[string][]byte{
		"memberships.jsonl": members, "subscriptions.jsonl": subscriptions, "domains.jsonl": domains, "MANIFEST.json": append(manifest, '\n'),
	} {
		if err := backup.WriteFile(dir, name, text); err != nil {
			return err
		}
	}
	return nil
}

// lines are all rows of a table that fit the filter, a JSON object a line.
func lines[ID ~string, T any](ctx context.Context, table *catalog.Table[ID, T], filter map[string]string) ([]byte, error) {
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	for page := (catalog.Page{Limit: pageSize, Filter: filter}); ; {
		rows, next, err := table.List(ctx, page)
		if err != nil {
			return nil, err
		}
		for i := range rows {
			if err := out.Encode(&rows[i]); err != nil {
				return nil, fmt.Errorf("backup: %w", err)
			}
		}
		if page.After = next; next == "" {
			return b.Bytes(), nil
		}
	}
}

// Purge removes a deleted tenant whose retention is over: the database and the role that our provisioning recorded for
// it, and then its rows. Killed at any moment it is called again; where all is done already, that is ErrNotFound.
// ErrConflict: it must not be removed, see catalog.BeginPurge.
func (r *Remover) Purge(ctx context.Context, tenant catalog.TenantID) (Fate, error) {
	var fate Fate
	record, hold, err := r.held(ctx, tenant)
	if err != nil {
		return fate, err
	}
	if hold != nil {
		defer func() { _ = hold.Close() }() // it ends with its connection at the latest
	}
	if fate.Paying, err = r.paying(ctx, tenant); err != nil {
		return fate, err
	}
	details := map[string]any{"database": "none was ours: whatever it has stays"}
	if len(fate.Paying) > 0 {
		details["stripe_subscriptions"] = fmt.Sprint(fate.Paying)
	}
	drop := func() error { return nil }
	if record != nil {
		fate.Database, fate.Role = record.DatabaseName, record.RoleName
		details["database"], details["role"] = record.DatabaseName, record.RoleName
		drop = func() error { return hold.Drop(ctx, tenantdb.PlaceOf(record, true)) }
	}
	if fate.Deletion, err = r.deps.Host.BeginPurge(ctx, tenant); err != nil {
		return fate, err
	}
	if err := drop(); err != nil {
		return fate, err
	}
	if err := r.deps.Host.EndPurge(ctx, tenant, details); err != nil {
		return fate, err
	}
	fate.Purged = true
	return fate, nil
}

// held is the record of the tenant's database and the right to change that; nil, nil without one. The record is read again
// once nobody else has the tenant: another run may have removed it meanwhile, and the id may have been given anew.
func (r *Remover) held(ctx context.Context, tenant catalog.TenantID) (*catalog.TenantDatabase, tenantdb.Hold, error) {
	record, err := r.deps.Host.TenantDatabases.Get(ctx, tenant)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	hold, err := r.hold(ctx, record)
	if err != nil {
		return nil, nil, err
	}
	again, err := r.deps.Host.TenantDatabases.Get(ctx, tenant)
	if err == nil && again.Mark != record.Mark {
		err = errors.New("its database has just become another one: try again")
	}
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return nil, nil, errors.Join(err, hold.Close())
	}
	if err != nil {
		return nil, hold, nil //nolint:nilerr // the record is gone: so is what it named
	}
	return again, hold, nil
}

// hold takes the tenant's database, on the server that the record names and on no other.
func (r *Remover) hold(ctx context.Context, record *catalog.TenantDatabase) (tenantdb.Hold, error) {
	if r.deps.Server == nil {
		return nil, fmt.Errorf("database %s was made by provisioning and cannot be dropped here: set provisioning.admin_url", record.DatabaseName)
	}
	if r.deps.Server.Engine() != record.Engine {
		return nil, fmt.Errorf("database %s is %s and provisioning.admin_url leads to %s", record.DatabaseName, record.Engine, r.deps.Server.Engine())
	}
	identity, err := r.deps.Server.Identity(ctx)
	if err != nil {
		return nil, err
	}
	if identity != record.Server {
		return nil, fmt.Errorf("database %s lies on another server than provisioning.admin_url leads to", record.DatabaseName)
	}
	return r.deps.Server.Hold(ctx, record.TenantID)
}

// dueAtOnce bounds one look for tenants that are to be removed.
const dueAtOnce = 1000

// PurgeDue removes every tenant whose retention is over. Those that must stay (a backup is missing, somebody made it
// active again) are passed over: the doctor names them. The error tells of each that failed; the others are removed.
func (r *Remover) PurgeDue(ctx context.Context) (purged int, err error) {
	due, err := r.deps.Host.PurgesDue(ctx, dueAtOnce)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, tenant := range due {
		if ctx.Err() != nil {
			return purged, errors.Join(append(errs, context.Cause(ctx))...)
		}
		_, err := r.Purge(ctx, tenant)
		switch {
		case err == nil:
			purged++
		case errors.Is(err, catalog.ErrConflict), errors.Is(err, catalog.ErrNotFound):
		default:
			errs = append(errs, fmt.Errorf("tenant %s: %w", tenant, err))
		}
	}
	return purged, errors.Join(errs...)
}
