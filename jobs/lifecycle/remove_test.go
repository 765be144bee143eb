package lifecycle

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
)

func (w *world) remover() *Remover { return NewRemover(RemoveConfig{}, w.deps) }

// there reports whether a tenant's database, its role and its row are on the server and in the host database.
func (w *world) there(id catalog.TenantID, record *catalog.TenantDatabase) (database, role, row bool) {
	w.t.Helper()
	objects, err := w.server.List(w.t.Context())
	must(w.t, err)
	for _, o := range objects {
		database = database || o.Database == record.DatabaseName
		role = role || o.Role == record.RoleName
	}
	_, err = w.host.Tenants.Get(w.t.Context(), id)
	return database, role && record.RoleName != "", err == nil
}

func TestDeletedTenantIsKeptThenRemovedWithWhatWasMadeForIt(t *testing.T) {
	onBothEngines(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.provision("acme", "globex")
		must(t, w.host.GlobalUsers.Insert(ctx, &catalog.GlobalUser{ID: "ann"}))
		must(t, w.host.Memberships.Insert(ctx, &catalog.Membership{UserID: "ann", TenantID: "acme"}))
		must(t, w.host.Subscriptions.Insert(ctx, &catalog.Subscription{TenantID: "acme", StripeSubID: new("sub_1"), Status: new("active")}))
		must(t, w.host.Subscriptions.Insert(ctx, &catalog.Subscription{TenantID: "acme", StripeSubID: new("sub_0"), Status: new("canceled")}))
		record, err := w.host.TenantDatabases.Get(ctx, "acme")
		must(t, err)
		open := w.open("acme") // the app still has a connection
		must(t, open.PingContext(ctx))
		defer open.Close()

		fate, err := w.remover().Delete(ctx, Deletion{Tenant: "acme", Retain: 30 * 24 * time.Hour}, nil)
		must(t, err)
		if fate.Purged || fate.Database != record.DatabaseName || fate.Role != record.RoleName || !slices.Equal(fate.Paying, []string{"sub_1"}) {
			t.Errorf("%+v", fate)
		}
		row, err := w.host.Tenants.Get(ctx, "acme")
		if err != nil || *row.IsActive {
			t.Errorf("not suspended: %+v, %v", row, err)
		}
		if n, err := w.remover().PurgeDue(ctx); n != 0 || err != nil {
			t.Errorf("removed before its time: %d, %v", n, err)
		}
		must(t, w.host.RestoreTenant(ctx, "acme"))
		if _, err := w.remover().Purge(ctx, "acme"); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("a restored tenant: %v", err)
		}
		_, err = w.remover().Delete(ctx, Deletion{Tenant: "acme", Retain: time.Hour}, nil)
		must(t, err)
		w.later(time.Hour)
		if n, err := w.remover().PurgeDue(ctx); n != 1 || err != nil {
			t.Fatalf("%d removed, %v", n, err)
		}
		if d, r, row := w.there("acme", record); d || r || row {
			t.Errorf("left: database %v, role %v, row %v", d, r, row)
		}
		if other, err := w.host.TenantDatabases.Get(ctx, "globex"); err != nil {
			t.Error(err)
		} else if d, _, row := w.there("globex", other); !d || !row {
			t.Error("another tenant went too")
		}
		must(t, tenantdb.Ping(ctx, w.uris["globex"]))
		if got := w.findings(); got != "" {
			t.Errorf("the doctor says %q", got)
		}
		if w.audited("tenant.purge_begun") != 1 || w.audited("tenant.purged") != 1 {
			t.Error("the removal is not in the audit")
		}
		w.provision("acme") // the id is free
	})
}

// Of a tenant whose database our provisioning did not record, the rows end and nothing else.
func TestDatabaseOfAnothersMakingStays(t *testing.T) {
	onBothEngines(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.provision("acme")
		record, err := w.host.TenantDatabases.Get(ctx, "acme")
		must(t, err)
		must(t, w.host.TenantDatabases.Delete(ctx, "acme"))
		fate, err := w.remover().Delete(ctx, Deletion{Tenant: "acme"}, nil)
		if err != nil || !fate.Purged || fate.Database != "" {
			t.Fatalf("%+v, %v", fate, err)
		}
		if d, _, row := w.there("acme", record); !d || row {
			t.Errorf("database %v, row %v", d, row)
		}
		must(t, tenantdb.Ping(ctx, w.uris["acme"]))
	})
}

// A removal that ends anywhere goes on where it was; from its beginning on nothing takes the tenant back.
func TestRemovalThatBeganIsEnded(t *testing.T) {
	onBothEngines(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.provision("acme")
		record, err := w.host.TenantDatabases.Get(ctx, "acme")
		must(t, err)
		blind := NewRemover(RemoveConfig{}, Deps{Host: w.host, Opener: w.deps.Opener, Clock: w.clock})
		if _, err := blind.Delete(ctx, Deletion{Tenant: "acme"}, nil); err == nil || !strings.Contains(err.Error(), "admin_url") {
			t.Errorf("removed without the server: %v", err)
		}
		_, err = w.host.BeginPurge(ctx, "acme")
		must(t, err)
		if got := w.findings(); got != "acme unfinished" {
			t.Errorf("the doctor says %q", got)
		}
		if err := w.host.RestoreTenant(ctx, "acme"); !errors.Is(err, catalog.ErrConflict) {
			t.Errorf("restored: %v", err)
		}
		hold, err := w.server.Hold(ctx, "acme")
		must(t, err)
		must(t, hold.Drop(ctx, tenantdb.PlaceOf(record, true))) // killed behind it
		must(t, hold.Close())
		if got := w.findings(); got != "acme unfinished" {
			t.Errorf("the doctor says %q", got)
		}
		if fate, err := w.remover().Delete(ctx, Deletion{Tenant: "acme"}, nil); !fate.Purged || err != nil { // as the doctor says
			t.Errorf("%+v, %v", fate, err)
		}
		if got := w.findings(); got != "" {
			t.Errorf("the doctor says %q", got)
		}
	})
}

func TestBackupIsMadeBeforeAnythingIsRemoved(t *testing.T) {
	onBothEngines(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.provision("acme")
		w.exec("acme", "INSERT INTO notes (id, note) VALUES (1, 'kept')")
		must(t, w.host.GlobalUsers.Insert(ctx, &catalog.GlobalUser{ID: "ann"}))
		must(t, w.host.Memberships.Insert(ctx, &catalog.Membership{ID: "m1", UserID: "ann", TenantID: "acme"}))
		missing := filepath.Join(t.TempDir(), "none")
		if fate, err := w.remover().Delete(ctx, Deletion{Tenant: "acme", BackupDir: missing}, nil); !errors.Is(err, ErrBackup) || fate.Purged {
			t.Errorf("%+v, %v", fate, err)
		}
		if n, err := w.remover().PurgeDue(ctx); n != 0 || err != nil {
			t.Errorf("removed without its backup: %d, %v", n, err)
		}
		if got := w.findings(); got != "acme unfinished" {
			t.Errorf("the doctor says %q", got)
		}
		dir := t.TempDir()
		var steps []string
		fate, err := w.remover().Delete(ctx, Deletion{Tenant: "acme", BackupDir: dir}, func(s string) { steps = append(steps, s) })
		must(t, err)
		if !fate.Purged || fate.Backup == nil || fate.Backup.Rows < 1 || len(steps) != 2 {
			t.Errorf("%+v, %v", fate, steps)
		}
		for name, want := range map[string]string{"memberships.jsonl": `"m1"`, "MANIFEST.json": fate.Backup.SHA256, "domains.jsonl": "", "subscriptions.jsonl": "", fate.Backup.File: ""} {
			path := filepath.Join(fate.Backup.Path, name)
			text, err := os.ReadFile(path)
			must(t, err)
			info, err := os.Stat(path)
			must(t, err)
			if !strings.Contains(string(text), want) || info.Mode().Perm() != 0o600 || strings.Contains(string(text), "db_url\":\"enc") {
				t.Errorf("%s: mode %v: %s", name, info.Mode(), text)
			}
		}
		if w.audited("tenant.backed_up") != 1 || w.audited("tenant.backup_wanted") != 2 {
			t.Error("the backup is not in the audit")
		}
	})
}

// A tenant that was moved keeps its names: what is copied has to be what is dropped.
func TestBackupIsOfTheDatabaseThatIsDropped(t *testing.T) {
	onBothEngines(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.provision("acme", "globex")
		elsewhere := w.uris["globex"]
		if w.host.Engine() == catalog.EngineSQLite { // the same name in another directory
			record, err := w.host.TenantDatabases.Get(ctx, "acme")
			must(t, err)
			path := filepath.Join(t.TempDir(), record.DatabaseName)
			must(t, os.WriteFile(path, nil, 0o600))
			elsewhere = catalog.NewDBURI("sqlite:///" + path)
		}
		_, err := w.host.Tenants.Change(ctx, "acme", func(row *catalog.TenantCatalog) error {
			row.DBURL = elsewhere
			return nil
		})
		must(t, err)
		if got := w.findings("acme"); !strings.Contains(got, "acme elsewhere") {
			t.Errorf("the doctor says %q", got)
		}
		dir := t.TempDir()
		_, err = w.remover().Delete(ctx, Deletion{Tenant: "acme", BackupDir: dir}, nil)
		if !errors.Is(err, ErrBackup) || !strings.Contains(err.Error(), "would not hold it") {
			t.Errorf("%v", err)
		}
		must(t, tenantdb.Ping(ctx, w.uris["acme"]))
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		if n, err := w.remover().PurgeDue(ctx); n != 0 || err != nil {
			t.Errorf("%d removed without a backup: %v", n, err)
		}
	})
}
