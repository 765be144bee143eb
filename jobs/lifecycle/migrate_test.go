package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

const second = "-- +goose Up\nALTER TABLE notes ADD COLUMN author TEXT;\n"

func TestTenantsAreMigratedAndBrokenOnesStopNobody(t *testing.T) {
	onBothEngines(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.provision("a", "b", "broken", "c", "deleted", "suspended")
		must(t, w.host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "bare"}))
		must(t, w.host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "sealed", DBURL: catalog.NewDBURI("enc:v1:x")}))
		must(t, w.host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "other", DBURL: catalog.NewDBURI("mysql://u:c4nary@h/d")}))
		_, err := w.host.DeleteTenant(ctx, "deleted", time.Hour)
		must(t, err)
		_, err = w.host.Tenants.Change(ctx, "suspended", func(r *catalog.TenantCatalog) error { r.IsActive = new(false); return nil })
		must(t, err)
		w.exec("broken", "ALTER TABLE notes RENAME TO torn")
		w.migrations(map[string]string{"00002_author.sql": second})
		w.load()

		s, of, err := w.migrate(MigrateConfig{Check: true})
		if err != nil || s.Behind != 5 || s.LeftOut != 3 || s.Failed != 1 {
			t.Fatalf("checked: %+v, %v, %v", s, of, err)
		}
		s, of, err = w.migrate(MigrateConfig{Parallel: 3})
		must(t, err)
		for id, want := range map[catalog.TenantID]Result{
			"a": Migrated, "b": Migrated, "c": Migrated, "suspended": Migrated, "broken": Failed, "sealed": Failed, "deleted": LeftOut, "bare": LeftOut, "other": LeftOut,
		} {
			o := of[id]
			if o.Result != want || (want == Migrated) != (o.From == 1 && o.To == 2) || (o.Reason == "") != (want == Migrated) || strings.Contains(o.Reason, "c4nary") {
				t.Errorf("%s: %+v, want %s", id, o, want)
			}
		}
		if s.Migrated != 4 || s.Failed != 2 || s.LeftOut != 3 || s.Total != 9 || s.Target != "2" {
			t.Errorf("%+v", s)
		}
		if !strings.Contains(of["broken"].Reason, "00002_author.sql") {
			t.Errorf("the file is not named: %s", of["broken"].Reason)
		}
		if n := w.count("a", "SELECT count(author) FROM notes"); n != 0 {
			t.Error(n)
		}
		// Again: what is done is found done; what was mended goes on.
		w.exec("broken", "ALTER TABLE torn RENAME TO notes")
		s, of, err = w.migrate(MigrateConfig{})
		if err != nil || s.Migrated != 1 || s.Current != 4 || of["broken"].Result != Migrated {
			t.Errorf("again: %+v, %v", s, err)
		}
		schemas, err := w.host.TenantSchemas(ctx, "")
		must(t, err)
		seen := map[catalog.TenantID]catalog.TenantSchema{}
		for _, r := range schemas {
			seen[r.TenantID] = r
		}
		if len(seen) != 6 || seen["broken"].Version != 2 || seen["broken"].Failure != "" || seen["sealed"].Failure == "" {
			t.Errorf("recorded: %+v", seen)
		}
		if m, f := w.audited("tenant.migrated"), w.audited("tenant.migration_failed"); m != 5 || f != 3 {
			t.Errorf("%d migrated and %d failed in the audit", m, f)
		}
		for _, err := range []error{
			errOf(NewMigrator(MigrateConfig{Parallel: 65}, w.deps)), errOf(NewMigrator(MigrateConfig{Drain: time.Millisecond}, w.deps)),
			errOf(NewMigrator(MigrateConfig{}, Deps{Host: w.host})), errOf3(w.migrate(MigrateConfig{}, "nowhere")),
		} {
			if err == nil {
				t.Error("taken")
			}
		}
	})
}

func errOf[T any](_ T, err error) error          { return err }
func errOf3[A, B any](_ A, _ B, err error) error { return err }

// A database that is not of our making is left alone, unless a migration has met it or somebody says so.
func TestForeignDatabasesAreLeftOutUntilTheyAreAdopted(t *testing.T) {
	onBothEngines(t, func(t *testing.T, w *world) {
		w.provision("acme")
		ctx := t.Context()
		w.exec("acme", "DROP TABLE goose_db_version; DROP TABLE notes")
		must(t, w.host.TenantDatabases.Delete(ctx, "acme")) // now it is anybody's
		s, of, err := w.migrate(MigrateConfig{})
		if err != nil || s.LeftOut != 1 || !strings.Contains(of["acme"].Reason, "--adopt") {
			t.Errorf("%+v, %+v, %v", s, of, err)
		}
		if s, _, err = w.migrate(MigrateConfig{Adopt: true}); err != nil || s.Migrated != 1 {
			t.Errorf("%+v, %v", s, err)
		}
		w.migrations(map[string]string{"00002_author.sql": second})
		w.load()
		if s, _, err = w.migrate(MigrateConfig{}); err != nil || s.Migrated != 1 {
			t.Errorf("met before: %+v, %v", s, err)
		}
	})
}

// A migration that was committed just before a kill is on record once the next run has looked, and once only.
func TestWhatAKilledRunMigratedIsFoundAndRecordedOnce(t *testing.T) {
	onBothEngines(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.provision("acme")
		w.migrations(map[string]string{"00002_author.sql": second})
		w.load()
		m, err := NewMigrator(MigrateConfig{}, w.deps)
		must(t, err)
		rows, err := w.deps.filled().rows(ctx, nil)
		must(t, err)
		var o Outcome
		var seen sight
		o.Tenant = "acme"
		must(t, m.migrate(ctx, &rows[0], &o, &seen)) // and here the run is killed
		if o.Result != Migrated || w.audited("tenant.migrated") != 0 {
			t.Fatalf("%+v, %d rows", o, w.audited("tenant.migrated"))
		}
		for range 2 {
			if s, _, err := w.migrate(MigrateConfig{}); err != nil || s.Current != 1 {
				t.Errorf("%+v, %v", s, err)
			}
			found, _, err := w.host.AuditLogs.List(ctx, catalog.Page{Filter: map[string]string{"event_type": "tenant.migrated"}})
			must(t, err)
			if len(found) != 1 || !strings.Contains(*found[0].Details, `"found":true`) || !strings.Contains(*found[0].Details, `"from":1`) || !strings.Contains(*found[0].Details, `"to":2`) {
				t.Errorf("%+v", found)
			}
		}
		// A URI that does not open says nothing of the version.
		row, err := w.host.Tenants.Get(ctx, "acme")
		must(t, err)
		was := row.DBURL
		row.DBURL = catalog.NewDBURI("enc:v1:x")
		must(t, w.host.Tenants.Update(ctx, row))
		if s, _, err := w.migrate(MigrateConfig{}); err != nil || s.Failed != 1 {
			t.Errorf("%+v, %v", s, err)
		}
		if s, err := w.host.TenantSchema(ctx, "acme"); err != nil || s.Version != 2 || s.Failure == "" {
			t.Errorf("%+v, %v", s, err)
		}
		row.DBURL = was
		must(t, w.host.Tenants.Update(ctx, row))
		if s, _, err := w.migrate(MigrateConfig{}); err != nil || s.Current != 1 || w.audited("tenant.migrated") != 1 {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// A file that was added late, with a number below others, is still applied, in a pause where one is asked for.
func TestLateFileIsPending(t *testing.T) {
	onBothEngines(t, func(t *testing.T, w *world) {
		w.migrations(map[string]string{"00005_later.sql": "-- +goose Up\nCREATE TABLE later (x INTEGER);\n"})
		w.load()
		w.provision("acme")
		if s, _, err := w.migrate(MigrateConfig{}); err != nil || s.Current != 1 {
			t.Errorf("%+v, %v", s, err)
		}
		w.migrations(map[string]string{"00003_between.sql": "-- +goose Up\nCREATE TABLE between_them (x INTEGER);\n"})
		w.load()
		if s, of, err := w.migrate(MigrateConfig{Pause: true}); err != nil || s.Migrated != 1 || of["acme"].From != 5 || of["acme"].To != 5 {
			t.Errorf("%+v, %+v, %v", s, of, err)
		}
		if n := w.count("acme", "SELECT count(*) FROM between_them"); n != 0 {
			t.Error(n)
		}
		if n := w.audited("tenant.migrated"); n != 1 {
			t.Errorf("%d rows tell of a schema whose version stayed", n)
		}
		if w.audited("tenant.paused") != 1 || w.audited("tenant.unpaused") != 1 {
			t.Error("the pause is not in the audit")
		}
	})
}

// During the change the tenant's lock stands; whatever comes of the migration, it is gone afterwards.
func TestPauseStandsWhileTheSchemaChanges(t *testing.T) {
	onBothEngines(t, func(t *testing.T, w *world) {
		w.provision("acme", "calm")
		m, err := NewMigrator(MigrateConfig{Pause: true, Drain: time.Second, Freshness: 10 * time.Millisecond}, w.deps)
		must(t, err)
		paused := func(id catalog.TenantID) bool {
			states, err := w.host.TenantStates(t.Context(), id)
			must(t, err)
			d, says := states[id].Locks.Drain()
			return states[id].Locks.Paused(w.clock()) && says && d == time.Second
		}
		begin, boom := time.Now(), errors.New("boom")
		err = m.paused(t.Context(), "acme", func(context.Context) error {
			if took := time.Since(begin); took < time.Second+judged {
				t.Errorf("the schema changes after %s", took)
			}
			if !paused("acme") || paused("calm") {
				t.Error("during the change: acme", paused("acme"), "calm", paused("calm"))
			}
			return boom
		})
		if !errors.Is(err, boom) || paused("acme") {
			t.Errorf("%v; still paused: %v", err, paused("acme"))
		}
		// A run that is told to stop while it waits changes nothing and lets people in again.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := m.paused(ctx, "acme", func(context.Context) error { t.Error("the schema was changed"); return nil }); err == nil || paused("acme") {
			t.Errorf("%v; still paused: %v", err, paused("acme"))
		}
	})
}

// What a killed run left does not keep people out, and the next run sweeps it up.
func TestLeftoverPauseEndsByTheClockAndIsSweptUp(t *testing.T) {
	onBothEngines(t, func(t *testing.T, w *world) {
		w.provision("acme")
		must(t, w.host.HoldTenant(t.Context(), catalog.Hold{Tenant: "acme", Holder: holdPrefix + "dead", Lasts: holdLasts}))
		w.later(holdLasts + time.Second)
		states, err := w.host.TenantStates(t.Context(), "acme")
		must(t, err)
		if states["acme"].Locks.Paused(w.clock()) {
			t.Error("a dead run keeps people out")
		}
		if got := w.findings(); got != "acme lock" {
			t.Errorf("the doctor says %q", got)
		}
		_, _, err = w.migrate(MigrateConfig{})
		must(t, err)
		if got := w.findings(); got != "" {
			t.Errorf("after a run the doctor says %q", got)
		}
	})
}

// Two runs at once: every migration happens once.
func TestTwoRunsAtOnceDoNotClash(t *testing.T) {
	onBothEngines(t, func(t *testing.T, w *world) {
		var ids []catalog.TenantID
		for i := range 6 {
			ids = append(ids, catalog.TenantID(fmt.Sprint("t", i)))
		}
		w.provision(ids...)
		w.migrations(map[string]string{"00002_author.sql": second, "00003_row.sql": "-- +goose Up\nINSERT INTO notes (id, note) VALUES (7, 'once');\n"})
		w.load()
		ended := make(chan Summary, 3)
		for range cap(ended) {
			go func() {
				s, _, err := w.migrate(MigrateConfig{Parallel: 3})
				if err != nil || s.Failed > 0 {
					t.Errorf("%+v, %v", s, err)
				}
				ended <- s
			}()
		}
		migrated := 0
		for range cap(ended) {
			migrated += (<-ended).Migrated
		}
		if migrated != len(ids) {
			t.Errorf("%d migrated", migrated)
		}
		for _, id := range ids { // in one step or, where a run looked between two files, in two
			if got := w.steps(id); got != "1-3" && got != "1-2 2-3" {
				t.Errorf("%s: on record is %s", id, got)
			}
		}
		schemas, err := w.host.TenantSchemas(t.Context(), "")
		must(t, err)
		for _, s := range schemas {
			if s.Version != 3 {
				t.Errorf("recorded: %+v", s)
			}
		}
		for _, id := range ids {
			if n := w.count(id, "SELECT count(*) FROM notes WHERE id = 7"); n != 1 {
				t.Errorf("%s has %d rows", id, n)
			}
		}
		if got := w.findings(); got != "" {
			t.Errorf("the doctor says %q", got)
		}
	})
}
