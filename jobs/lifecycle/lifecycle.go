// Package lifecycle moves, ends and examines tenants that are there: migrations of their own databases, deletion with
// backup and removal, and the doctor.
//
// Purpose: Migrator brings the schemas of many tenants up to date; Remover deletes, backs up and removes; Doctor says what
// does not fit together and how to mend it. docs/tenants-life.md tells what people see of it.
//
// Concurrency: all three are safe for concurrent use and keep no goroutine when a call returns. Two runs at once, in
// whatever processes, do not clash: a tenant's database is changed under a lock of its own, and everything else is a
// transaction of the host database.
//
// Failure mode: a tenant that fails is named with its reason and stops no other. Killed at any moment, a run is begun
// again and ends in the same state: what is done is found done. Nothing is dropped but what our own provisioning recorded
// for a tenant, and nothing of a tenant whose backup was asked for and is not there. Errors name no secret.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/jobs/provision"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
	"github.com/tenantgate/tenantgate/sealing"
)

// Opener turns a stored db_url into the URI that it stands for; package sealing has one.
type Opener interface {
	Open(ctx context.Context, tenant catalog.TenantID, stored catalog.DBURI) (catalog.DBURI, error)
}

// Deps are what this package stands on. Host and Opener are needed.
type Deps struct {
	Host   *catalog.HostDatabase
	Opener Opener
	// Server is where our provisioning makes databases; nil where provisioning.admin_url is not set.
	Server tenantdb.Server
	// Migrations are those of provisioning.migrations_dir; nil for none.
	Migrations *tenantdb.Migrations
	// Clock is the time. Nil: time.Now.
	Clock func() time.Time
}

func (d Deps) filled() Deps {
	if d.Clock == nil {
		d.Clock = time.Now
	}
	if d.Migrations == nil {
		d.Migrations = &tenantdb.Migrations{}
	}
	return d
}

// tenantRow is a tenant with what our own tables say of it.
type tenantRow struct {
	catalog.TenantCatalog
	record *catalog.TenantDatabase // nil: our provisioning made no database for it
	state  catalog.TenantState
}

// unfinished reports whether provisioning has begun with the tenant and not ended.
func (r *tenantRow) unfinished() bool {
	return r.record != nil && !provision.Step(r.record.Step).Reached(provision.Ready)
}

// ours reports whether a URI leads to the database that our provisioning recorded for the tenant.
func (r *tenantRow) ours(uri catalog.DBURI) bool {
	return r.record != nil && tenantdb.PlaceOf(r.record, true).Names(uri)
}

// leadsTo reports whether a URI leads to the database that a record names: by its names, and on the server that it was
// made on, since a database that was moved may be called the same where it is now.
func leadsTo(ctx context.Context, uri catalog.DBURI, record *catalog.TenantDatabase) (bool, error) {
	if !tenantdb.PlaceOf(record, true).Names(uri) {
		return false, nil
	}
	where, err := tenantdb.IdentityOf(ctx, uri)
	return where == record.Server, err
}

// pageSize is how many rows are read at once.
const pageSize = 500

// rows reads the named tenants, or all of them where none is named, in the order of their ids.
func (d Deps) rows(ctx context.Context, named []catalog.TenantID) ([]tenantRow, error) {
	var all []tenantRow
	if len(named) > 0 {
		for _, id := range named {
			row, err := d.Host.Tenants.Get(ctx, id)
			if err != nil {
				return nil, fmt.Errorf("tenant %s: %w", id, err)
			}
			all = append(all, tenantRow{TenantCatalog: *row})
		}
	}
	for after := ""; len(named) == 0; {
		page, next, err := d.Host.Tenants.List(ctx, catalog.Page{After: after, Limit: pageSize})
		if err != nil {
			return nil, err
		}
		for i := range page {
			if page[i].ID != "" { // nothing can name such a row
				all = append(all, tenantRow{TenantCatalog: page[i]})
			}
		}
		if after = next; next == "" {
			break
		}
	}
	return all, d.annotate(ctx, all)
}

// annotate adds what our own tables say.
func (d Deps) annotate(ctx context.Context, all []tenantRow) error {
	records, err := d.records(ctx)
	if err != nil {
		return err
	}
	for begin := 0; begin < len(all); begin += pageSize {
		part := all[begin:min(begin+pageSize, len(all))]
		ids := make([]catalog.TenantID, len(part))
		for i := range part {
			ids[i] = part[i].ID
		}
		states, err := d.Host.TenantStates(ctx, ids...)
		if err != nil {
			return err
		}
		for i := range part {
			part[i].state, part[i].record = states[part[i].ID], records[part[i].ID]
		}
	}
	return nil
}

// records are all rows of sys_tenant_databases.
func (d Deps) records(ctx context.Context) (map[catalog.TenantID]*catalog.TenantDatabase, error) {
	found := map[catalog.TenantID]*catalog.TenantDatabase{}
	for after := ""; ; {
		page, next, err := d.Host.TenantDatabases.List(ctx, catalog.Page{After: after, Limit: pageSize})
		if err != nil {
			return nil, err
		}
		for i := range page {
			found[page[i].TenantID] = &page[i]
		}
		if after = next; next == "" {
			return found, nil
		}
	}
}

// uri is a tenant's URI, opened.
func (d Deps) uri(ctx context.Context, row *tenantRow) (catalog.DBURI, error) {
	if row.DBURL.IsZero() {
		return catalog.DBURI{}, errors.New("has no db_url")
	}
	uri, err := d.Opener.Open(ctx, row.ID, row.DBURL)
	switch {
	case errors.Is(err, sealing.ErrInterrupted):
		return uri, err
	case err != nil:
		return uri, fmt.Errorf("db_url cannot be used: %s", sealing.Reason(err))
	}
	return uri, nil
}

// wait waits, unless ctx ends first.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
