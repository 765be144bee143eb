package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/jobs/lifecycle"
	"github.com/tenantgate/tenantgate/jobs/provision"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
	"github.com/tenantgate/tenantgate/sealing"
)

// brokenTenants are made so that the migration fails.
const brokenTenants = 3

// tenantsLife provisions many tenants, four at once, then migrates all of them: ended halfway, and begun again.
func tenantsLife(ctx context.Context, _ hostSettings, d *hostDB) error {
	admin := "sqlite:" + filepath.Join(d.dir, "tenants")
	if d.engine == catalog.EnginePostgreSQL {
		var err error
		if admin, err = pgtest.ForExample(); err != nil {
			return err
		}
	}
	migrations, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(migrations)
	write := func(name, statement string) error {
		return os.WriteFile(filepath.Join(migrations, name), []byte("-- +goose Up\n"+statement+";\n"), 0o600)
	}
	host, err := catalog.Open(ctx, d.url)
	if err != nil {
		return err
	}
	defer host.Close()
	keys, err := seal.ParseKeyset(seal.GenerateSecret())
	if err != nil {
		return err
	}
	opener := sealing.New(sealing.Config{Keys: keys})
	defer opener.Close()
	if err := write("00001_notes.sql", "CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT)"); err != nil {
		return err
	}
	maker, err := provision.New(provision.Config{AdminURL: catalog.NewDBURI(admin), MigrationsDir: migrations}, provision.Deps{Host: host, Keys: keys, Opener: opener})
	if err != nil {
		return err
	}
	defer maker.Close()
	begin := time.Now()
	again, err := provisionAll(ctx, maker, d.size)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %d tenants provisioned, 4 at once, in %s; %d runs failed and were begun again\n", d.engine, d.size, time.Since(begin).Round(time.Millisecond), again)
	// The second migration is one that a tenant who has the table already does not take.
	if err := errors.Join(write("00002_more.sql", "CREATE TABLE more (id INTEGER)"), breakSome(ctx, host, opener, migrations)); err != nil {
		return err
	}
	return migrateTwice(ctx, d, host, opener, migrations)
}

// provisionTries is how often a tenant is tried: runs that change one database's rights at once may be refused by the server.
const provisionTries = 5

func provisionAll(ctx context.Context, maker *provision.Provisioner, n int) (again int64, err error) {
	var next, failed atomic.Int64
	var workers sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		workers.Go(func() {
			for k := next.Add(1); k <= int64(n) && errs[i] == nil; k = next.Add(1) {
				for range provisionTries {
					if errs[i] = maker.Run(ctx, provision.Spec{Tenant: catalog.TenantID(fmt.Sprintf("t%05d", k))}, nil); errs[i] == nil {
						break
					}
					failed.Add(1)
				}
			}
		})
	}
	workers.Wait()
	return failed.Load(), errors.Join(errs...)
}

// breakSome gives a few tenants a table that stands in the next migration's way.
func breakSome(ctx context.Context, host *catalog.HostDatabase, opener *sealing.Opener, migrations string) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "00001_stray.sql"), []byte("-- +goose Up\nSELECT 1;\n"), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "00000099_stray.sql"), []byte("-- +goose Up\nCREATE TABLE more (other INTEGER);\n"), 0o600); err != nil {
		return err
	}
	stray, err := tenantdb.LoadMigrations(dir)
	if err != nil {
		return err
	}
	for i := range brokenTenants {
		row, err := host.Tenants.Get(ctx, catalog.TenantID(fmt.Sprintf("t%05d", 7*(i+1))))
		if err != nil {
			return err
		}
		uri, err := opener.Open(ctx, row.ID, row.DBURL)
		if err != nil {
			return err
		}
		if _, err := stray.Up(ctx, uri); err != nil {
			return err
		}
	}
	return nil
}

// halfway ends a run once half of the tenants are done.
type halfway struct {
	total, done int
	stop        context.CancelFunc // nil: not at all
}

// Begin implements lifecycle.Progress.
func (h *halfway) Begin(total, _ int) { h.total = total }

// Done implements lifecycle.Progress.
func (h *halfway) Done(lifecycle.Outcome) {
	if h.done++; h.stop != nil && h.done >= h.total/2 {
		h.stop()
	}
}

func migrateTwice(ctx context.Context, d *hostDB, host *catalog.HostDatabase, opener *sealing.Opener, migrations string) error {
	loaded, err := tenantdb.LoadMigrations(migrations)
	if err != nil {
		return err
	}
	m, err := lifecycle.NewMigrator(lifecycle.MigrateConfig{}, lifecycle.Deps{Host: host, Opener: opener, Migrations: loaded})
	if err != nil {
		return err
	}
	half, cancel := context.WithCancel(ctx)
	defer cancel()
	first, err := m.Run(half, nil, &halfway{stop: cancel})
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("the first run was not ended halfway: %w", err)
	}
	second, err := m.Run(ctx, nil, &halfway{})
	if err != nil {
		return err
	}
	for i, s := range []lifecycle.Summary{first, second} {
		fmt.Printf("%s: migrate run %d, %d at once: %d migrated, %d current, %d failed in %s\n", d.engine, i+1, s.Parallel, s.Migrated, s.Current, s.Failed, s.Took.Round(time.Millisecond))
	}
	// What the first run had just done when it was ended is found done by the second.
	if done := second.Migrated + second.Current; second.Failed != brokenTenants || done != d.size-brokenTenants {
		return fmt.Errorf("%d up to date and %d failed of %d tenants", done, second.Failed, d.size)
	}
	return nil
}
