package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A transaction of another program stays open, having read in one run and having written in the other: migrate waits
// its turn, nobody waits for migrate, and it ends once that one has ended.
func TestMigrateBesideAnOpenTransaction(t *testing.T) {
	for name, statement := range map[string]string{
		"having read":             "SELECT count(*) FROM core_memberships",
		"having written":          "UPDATE core_memberships SET role = role WHERE id = (SELECT min(id) FROM core_memberships)",
		"having locked the table": "LOCK TABLE core_users IN SHARE ROW EXCLUSIVE MODE",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dburl := newPostgres(t)
			loadFHSaas(t, dburl)
			other := rawDB(t, dburl)
			tx, err := other.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
			must(t, err)
			_, err = tx.ExecContext(t.Context(), statement)
			must(t, err)
			done := make(chan error, 1)
			go func() {
				_, err := Migrate(context.WithoutCancel(t.Context()), Config{URL: NewDBURI(dburl)})
				done <- err
			}()
			// Others write while migrate is at work, for longer than it stands in any queue. The open transaction ends after
			// them: a write that waits for migrate, and so for that one, waits for ever.
			var longest time.Duration
			writes := 0
			for begin := time.Now(); time.Since(begin) < 2*time.Second; writes++ {
				for _, table := range []string{"core_tenants", "core_memberships", "core_users"} {
					if table == "core_users" && name == "having locked the table" {
						continue
					}
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					begin := time.Now()
					_, err := other.ExecContext(ctx, "INSERT INTO "+table+" (id) VALUES ($1)", fmt.Sprint("w", writes))
					longest = max(longest, time.Since(begin))
					cancel()
					if err != nil {
						t.Fatalf("a write to %s beside migrate: %v", table, err)
					}
				}
			}
			t.Logf("%d writes to each table, the longest took %s", writes, longest)
			// Another program's DDL queues behind the open transaction alone, never behind migrate.
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			_, err = other.ExecContext(ctx, "ANALYZE core_subscriptions")
			cancel()
			must(t, err)
			must(t, tx.Rollback())
			must(t, <-done)
			report, err := Check(t.Context(), Config{URL: NewDBURI(dburl)})
			if err != nil || len(report.Changes) != 0 {
				t.Errorf("left to do: %q, %v", report.Changes, err)
			}
		})
	}
}

// fh-saas reads and stays idle in transaction for hours. Such a reader (psycopg2 speaks the simple protocol, which keeps
// no snapshot between statements) stands in the way of ACCESS EXCLUSIVE alone: migrate ends while it is open, so it
// takes no such lock.
func TestMigrateEndsBesideAReaderWhoNeverEnds(t *testing.T) {
	dburl := newPostgres(t)
	loadFHSaas(t, dburl)
	tx, err := rawDB(t, dburl+"&default_query_exec_mode=simple_protocol").BeginTx(t.Context(), nil)
	must(t, err)
	for _, table := range hostTables() {
		must(t, tx.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table.name).Scan(new(int)))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, errOf(Migrate(ctx, Config{URL: NewDBURI(dburl)})))
	if left := wholeSchema(t, dburl)["left to do"]; left != "[]" {
		t.Errorf("left to do: %s", left)
	}
	// An invalid leftover can be dropped only once everybody who has the table open is gone; that waits its turn too.
	execURL(t, dburl, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'tenantgate_memberships_tenant'::regclass")
	done := make(chan error, 1)
	go func() { done <- errOf(Migrate(ctx, Config{URL: NewDBURI(dburl)})) }()
	execURL(t, dburl, "INSERT INTO core_memberships (id) VALUES ('beside')")
	must(t, tx.Rollback())
	must(t, <-done)
	if left := wholeSchema(t, dburl)["left to do"]; left != "[]" {
		t.Errorf("left to do: %s", left)
	}
}

// migrateProcess is a process of its own that migrates: this test binary, told so by its environment.
func migrateProcess(url string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run", "^TestMigrateProcess$")
	cmd.Env = append(os.Environ(), "CATALOG_MIGRATE="+url)
	return cmd
}

// TestMigrateProcess is the child's side; by itself it has nothing to do.
func TestMigrateProcess(t *testing.T) {
	if target := os.Getenv("CATALOG_MIGRATE"); target != "" {
		must(t, errOf(Migrate(t.Context(), Config{URL: NewDBURI(target)})))
	}
}

// wholeSchema is everything that the engine's own dump tells of the schema, and what Check finds left to do.
func wholeSchema(t *testing.T, url string) map[string]string {
	t.Helper()
	report, err := Check(t.Context(), Config{URL: NewDBURI(url)})
	must(t, err)
	if strings.HasPrefix(url, "sqlite:") {
		all := sqliteSchema(t, url)
		all["left to do"] = fmt.Sprint(report.Changes)
		return all
	}
	all := map[string]string{"left to do": fmt.Sprint(report.Changes)}
	for key, d := range dump(t, url) {
		if d.kind != "TABLE DATA" && d.kind != "SEQUENCE SET" {
			all[key] = d.text
		}
	}
	return all
}

// unmigrate makes a database as fh-saas left it.
func unmigrate(t *testing.T, url string) {
	t.Helper()
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		files, err := filepath.Glob(path + "*")
		must(t, err)
		for _, f := range files {
			must(t, os.Remove(f))
		}
		loadFHSaas(t, url)
		return
	}
	execURL(t, url, `DROP SCHEMA IF EXISTS tenantgate CASCADE;
		DO $$ DECLARE i regclass; BEGIN
			FOR i IN SELECT indexrelid::regclass FROM pg_index WHERE indexrelid::regclass::text LIKE 'tenantgate%' LOOP
				EXECUTE 'DROP INDEX ' || i;
			END LOOP;
		END $$`)
}

// Ten processes migrate at once: all succeed, and the work is done once.
func TestTenMigrationsAtOnceDoTheWorkOnce(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		loadFHSaas(t, url)
		before := checksums(t, rawDB(t, url))
		errs := race(10, func(int) error {
			out, err := migrateProcess(url).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w\n%s", err, out)
			}
			return err
		})
		if countNil(errs) != len(errs) {
			t.Fatalf("%v", errs)
		}
		h := openTest(t, url)
		var versions int
		must(t, h.read.QueryRowContext(t.Context(), dialect(h.engine, "SELECT count(*) FROM tenantgate.sys_schema_versions WHERE version_id > 0")).Scan(&versions))
		names, err := pendingMigrations(nil)
		must(t, err)
		if versions != len(names) {
			t.Errorf("%d versions are recorded, want %d", versions, len(names))
		}
		if left := wholeSchema(t, url)["left to do"]; left != "[]" {
			t.Errorf("left to do: %s", left)
		}
		if got := checksums(t, rawDB(t, url)); !maps.Equal(before, got) {
			t.Error("rows changed")
		}
	})
}

// A process that migrates is killed at twenty random moments; each time the next migrate makes the schema whole.
func TestMigrateSurvivesKill(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		loadFHSaas(t, url)
		before := checksums(t, rawDB(t, url))
		begin := time.Now()
		out, err := migrateProcess(url).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		whole := time.Since(begin)
		want := wholeSchema(t, url)
		killed := 0
		for i := range 20 {
			unmigrate(t, url)
			cmd := migrateProcess(url)
			must(t, cmd.Start())
			after := time.Duration(random.Int64N(int64(whole)))
			timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
			if cmd.Wait() != nil { // killed; or done sooner
				killed++
			}
			timer.Stop()
			must(t, errOf(Migrate(t.Context(), Config{URL: NewDBURI(url)})))
			if got := wholeSchema(t, url); !maps.Equal(want, got) {
				t.Fatalf("kill %d, after %s of %s, left behind: %v, want %v", i, after, whole, got, want)
			}
		}
		if killed < 5 {
			t.Errorf("only %d of the processes were killed before they had ended", killed)
		}
		if got := checksums(t, rawDB(t, url)); !maps.Equal(before, got) {
			t.Error("rows changed")
		}
	})
}
