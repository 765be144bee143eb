package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/jobs/provision"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
	"github.com/tenantgate/tenantgate/sealing"
)

// brokenTenants are made so that the migration fails.
const brokenTenants = 3

// tenantsLife provisions many tenants, four at once, then migrates all of them: killed halfway, and begun again.
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
	master := seal.GenerateSecret()
	keys, err := seal.ParseKeyset(master)
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
	engine, _, _ := strings.Cut(admin, ":")
	return migrateTwice(ctx, d, []string{
		"TENANTGATE_HOST_DATABASE_URL=" + d.url, "TENANTGATE_SECRET_KEY=" + master.Reveal(), "TENANTGATE_PROVISIONING_ENGINE=" + engine,
		"TENANTGATE_PROVISIONING_ADMIN_URL=" + admin, "TENANTGATE_PROVISIONING_MIGRATIONS_DIR=" + migrations,
	})
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

// halfway kills a run once half of the tenants are done. It reads what the program says of each of them.
type halfway struct {
	total, done int
	kill        func()
}

func (h *halfway) Write(text []byte) (int, error) {
	if h.done += bytes.Count(text, []byte("migrate: ")); h.done >= h.total/2 {
		h.kill()
	}
	return len(text), nil
}

// migrateTwice runs the program itself: the first run is killed (SIGKILL) halfway, the second does the rest.
func migrateTwice(ctx context.Context, d *hostDB, environ []string) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "tenantgate")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/proxy").CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w: %s", err, out)
	}
	run := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, program, append([]string{"tenant", "migrate", "--all"}, args...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), environ...)
		return cmd
	}
	begin := time.Now()
	first := run()
	half := &halfway{total: d.size, kill: func() { _ = first.Process.Kill() }}
	first.Stderr = half
	if err := first.Run(); err == nil || first.ProcessState.Exited() {
		return fmt.Errorf("the first run was not killed: %w", err)
	}
	fmt.Printf("%s: migrate run 1: killed after %s, %d tenants were done\n", d.engine, time.Since(begin).Round(time.Millisecond), half.done)
	out, err := run("--output", "json").Output() // exits 1: some are broken
	var s struct {
		Migrated, Current, Failed, Parallel int
		Seconds                             float64
	}
	if broken := json.Unmarshal(out, &s); broken != nil {
		return fmt.Errorf("the second run: %w", errors.Join(err, broken))
	}
	fmt.Printf("%s: migrate run 2, %d at once: %d migrated, %d current, %d failed in %.1fs\n", d.engine, s.Parallel, s.Migrated, s.Current, s.Failed, s.Seconds)
	// What the first run had just done when it was killed is found done by the second.
	if done := s.Migrated + s.Current; s.Failed != brokenTenants || done != d.size-brokenTenants {
		return fmt.Errorf("%d up to date and %d failed of %d tenants", done, s.Failed, d.size)
	}
	return nil
}
