package catalog

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// rawDB is another program's connection.
func rawDB(t *testing.T, url string) *sql.DB {
	t.Helper()
	var db *sql.DB
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		var err error
		db, err = sql.Open("sqlite", path)
		must(t, err)
	} else {
		cc, err := pgx.ParseConfig(url)
		must(t, err)
		db = stdlib.OpenDB(*cc)
	}
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

// checksums returns one sum for each of the eight tables, over all rows and all columns.
func checksums(t *testing.T, db *sql.DB) map[string]string {
	t.Helper()
	sums := map[string]string{}
	for _, table := range hostTables() {
		rows, err := db.QueryContext(t.Context(), "SELECT * FROM "+table.name)
		must(t, err)
		cols, err := rows.Columns()
		must(t, err)
		if len(cols) != len(table.columns) {
			t.Errorf("%s has columns %v", table.name, cols)
		}
		var lines []string
		for rows.Next() {
			dst := make([]any, len(cols))
			for i := range dst {
				dst[i] = new(any)
			}
			must(t, rows.Scan(dst...))
			var line strings.Builder
			for i := range dst {
				fmt.Fprintf(&line, "%s=%#v;", cols[i], *dst[i].(*any))
			}
			lines = append(lines, line.String())
		}
		must(t, errors.Join(rows.Err(), rows.Close()))
		slices.Sort(lines)
		sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
		sums[table.name] = fmt.Sprint(len(lines), " ", hex.EncodeToString(sum[:]))
	}
	return sums
}

func TestMigrateOfFHSaasDatabaseChangesNoRow(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		loadFHSaas(t, url)
		db := rawDB(t, url)
		before := checksums(t, db)
		cfg := Config{URL: NewDBURI(url)}
		check, err := Check(t.Context(), cfg)
		must(t, err)
		if got := checksums(t, db); !maps.Equal(before, got) {
			t.Error("Check changed rows")
		}
		report, err := Migrate(t.Context(), cfg)
		must(t, err)
		if !slices.Equal(report.Changes, check.Changes) || len(report.Changes) == 0 {
			t.Errorf("Check announced %q, Migrate did %q", check.Changes, report.Changes)
		}
		for _, c := range report.Changes {
			if strings.Contains(c, "create table") || strings.Contains(c, uniqueSubjectIndex) {
				t.Errorf("change %q: the tables are there, and the data forbids the unique index", c)
			}
		}
		if len(report.Doubts) != 1 || report.Doubts[0].Kind != "duplicate_oauth_id" || report.Doubts[0].Count != 2 || len(report.Doubts[0].IDs) != 2 {
			t.Errorf("doubts %+v", report.Doubts)
		}
		if got := checksums(t, db); !maps.Equal(before, got) {
			t.Errorf("rows changed:\n%v\n%v", before, got)
		}
		for range 2 {
			again, err := Migrate(t.Context(), cfg)
			must(t, err)
			if len(again.Changes) != 0 {
				t.Errorf("migrated again: %q", again.Changes)
			}
		}
		off := false
		h, err := New(t.Context(), Config{URL: NewDBURI(url), Migrate: &off})
		must(t, err)
		must(t, h.Close())
	})
}

func TestCheckFindsTheTrapsOfTheDump(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		loadFHSaas(t, url)
		for _, migrated := range []bool{false, true} {
			if migrated {
				must(t, errOf(Migrate(t.Context(), Config{URL: NewDBURI(url)})))
			}
			report, err := Check(t.Context(), Config{URL: NewDBURI(url)})
			must(t, err)
			found := map[string]int{}
			for _, d := range report.Doubts {
				found[d.Kind] = d.Count
				if len(d.IDs) == 0 || len(d.IDs) > doubtIDs || d.Advice == "" {
					t.Errorf("doubt %+v", d)
				}
			}
			db := rawDB(t, url)
			for kind, text := range map[string]string{
				"duplicate_oauth_id":   "SELECT count(*) FROM core_users WHERE oauth_id IN (SELECT oauth_id FROM core_users GROUP BY oauth_id HAVING count(*) > 1)",
				"duplicate_email":      "SELECT count(*) FROM core_users WHERE lower(email) IN (SELECT lower(email) FROM core_users GROUP BY lower(email) HAVING count(*) > 1)",
				"null_membership_flag": "SELECT count(*) FROM core_memberships WHERE is_active IS NULL",
				"null_tenant_flag":     "SELECT count(*) FROM core_tenants WHERE is_active IS NULL",
				"tenant_without_host":  "SELECT count(*) FROM core_tenants WHERE id = 'Tenant-With-Dash'",
				"duplicate_membership": "SELECT sum(n) FROM (SELECT count(*) AS n FROM core_memberships GROUP BY user_id, tenant_id HAVING count(*) > 1) AS x",
			} {
				var want int
				must(t, db.QueryRowContext(t.Context(), text).Scan(&want))
				if found[kind] != want {
					t.Errorf("%s (migrated: %v): %d, want %d", kind, migrated, found[kind], want)
				}
			}
			if found["duplicate_oauth_id"] == 0 || found["duplicate_membership"] == 0 || found["null_membership_flag"] == 0 {
				t.Errorf("the dump's traps were not seen: %v", found)
			}
		}
	})
}

// On an empty database our eight tables are fh-saas's, by what the engine itself says of them.
func TestEmptyDatabaseGetsFHSaasTablesExactly(t *testing.T) {
	describe := map[string]string{
		EnginePostgreSQL: `SELECT c.relname || '.' || a.attnum || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) ||
				CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END || coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')
			FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
			WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
			UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
			WHERE connamespace = 'public'::regnamespace
			UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
			WHERE c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE 'tenantgate%'
			UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgname NOT LIKE 'tenantgate%'
			ORDER BY 1`,
		EngineSQLite: `SELECT m.name || '.' || p.cid || '.' || p.name || ' ' || p.type || ' ' || p."notnull" || ' ' || coalesce(p.dflt_value, '-') || ' ' || p.pk
			FROM sqlite_master m, pragma_table_info(m.name) p
			WHERE m.type = 'table' AND m.name IN ('core_users', 'core_tenants', 'core_memberships', 'core_subscriptions', 'core_pricing_plans',
				'sys_audit_logs', 'sys_jobs', 'core_stripe_webhook_events')
			UNION ALL SELECT m.name || ' ' || l.origin || ' ' || l."unique" FROM sqlite_master m, pragma_index_list(m.name) l
			WHERE m.name LIKE 'core_%' AND l.name NOT LIKE 'tenantgate%' AND m.name <> 'core_tenant_domains'
			ORDER BY 1`,
	}
	onBothEngines(t, func(t *testing.T, url string) {
		ours := openTest(t, url)
		theirs := "sqlite:" + filepath.Join(t.TempDir(), "theirs.db")
		if ours.Engine() == EnginePostgreSQL {
			theirs = newPostgres(t)
		}
		loadFHSaas(t, theirs)
		list := func(url string) string {
			out := map[string]bool{}
			rows, err := rawDB(t, url).QueryContext(t.Context(), describe[ours.Engine()])
			must(t, err)
			defer rows.Close()
			var lines []string
			for rows.Next() {
				var s string
				must(t, rows.Scan(&s))
				lines = append(lines, s)
				out[s] = true
			}
			must(t, rows.Err())
			return strings.Join(lines, "\n")
		}
		a, b := list(url), list(theirs)
		if a != b || strings.Count(a, "\n") < 60 {
			t.Errorf("ours:\n%s\n\nfh-saas's:\n%s", a, b)
		}
	})
}

func TestOwnColumnsArePythonIdentifiers(t *testing.T) {
	keywords := strings.Fields(`False None True and as assert async await break class continue def del elif else except finally for from
		global if import in is lambda nonlocal not or pass raise return try while with yield match case type _`)
	h := openTest(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db"))
	rows, err := h.read.QueryContext(t.Context(), h.queries["sqlite_columns"])
	must(t, err)
	defer rows.Close()
	n := 0
	for rows.Next() {
		var s string
		must(t, rows.Scan(&s))
		_, column, _ := strings.Cut(s, ".")
		n++
		if slices.Contains(keywords, column) || strings.Trim(column, "abcdefghijklmnopqrstuvwxyz_0123456789") != "" {
			t.Errorf("column %s", s)
		}
	}
	must(t, rows.Err())
	if n < 80 {
		t.Errorf("only %d columns were seen", n)
	}
}

// HostDatabase with Migrate false changes nothing and says what lacks.
func TestWithoutMigrateWhatLacksIsNamed(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		off := false
		cfg := Config{URL: NewDBURI(url), Migrate: &off}
		_, err := New(t.Context(), cfg)
		if !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "core_users") || !strings.Contains(err.Error(), "tenantgate migrate") {
			t.Errorf("empty database: %v", err)
		}
		report, err := Check(t.Context(), cfg)
		if err != nil || len(report.Changes) < 10 || report.Engine == "" {
			t.Errorf("report %+v, %v", report, err)
		}
		must(t, errOf(Migrate(t.Context(), cfg)))
		h, err := New(t.Context(), cfg)
		must(t, err)
		execAs(t, url, h, "DROP INDEX tenantgate_memberships_tenant")
		must(t, h.Close())
		if _, err := New(t.Context(), cfg); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "tenantgate_memberships_tenant") {
			t.Errorf("without an index: %v", err)
		}
	})
}

// What somebody dropped is made again; what fh-saas must add is not.
func TestMigrateMendsWhatWasDropped(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		execAs(t, url, h, "DROP TABLE core_stripe_webhook_events")
		execAs(t, url, h, "DROP INDEX tenantgate_users_email")
		report, err := h.Migrate(t.Context())
		must(t, err)
		want := []string{"create table core_stripe_webhook_events", "create index tenantgate_users_email on core_users"}
		if !slices.Equal(report.Changes, want) {
			t.Errorf("changes %q", report.Changes)
		}
		must(t, h.WebhookEvents.Insert(t.Context(), &StripeWebhookEvent{}))
		if h.engine == EngineSQLite { // which refuses while a trigger names the column
			execAs(t, url, h, "DROP TRIGGER tenantgate_core_tenants_update")
		}
		execAs(t, url, h, "ALTER TABLE core_tenants DROP COLUMN plan_tier")
		for name, err := range map[string]error{"migrate": errOf(h.Migrate(t.Context())), "open": errOf(Open(t.Context(), url))} {
			if !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "core_tenants.plan_tier") {
				t.Errorf("%s without a column: %v", name, err)
			}
		}
	})
}

// A role named tenantgate has the schema of that name first in its search_path: the eight tables must not go there.
func TestRoleNamedAsOurSchemaKeepsTheEightInPublic(t *testing.T) {
	admin := newPostgres(t)
	u, err := url.Parse(admin)
	must(t, err)
	execURL(t, admin, `CREATE ROLE tenantgate LOGIN PASSWORD 'x'; GRANT ALL ON SCHEMA public TO tenantgate; GRANT CREATE ON DATABASE "`+
		strings.TrimPrefix(u.Path, "/")+`" TO tenantgate`)
	t.Cleanup(func() { execURL(t, admin, "DROP OWNED BY tenantgate; DROP ROLE tenantgate") })
	u.User = url.UserPassword("tenantgate", "x")
	execURL(t, u.String(), "CREATE SCHEMA tenantgate")
	h := openTest(t, u.String())
	var schema string
	must(t, h.read.QueryRowContext(t.Context(), "SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname = 'core_users'").Scan(&schema))
	if schema != "public" {
		t.Errorf("core_users is in %s", schema)
	}
	seedGrants(t, h)
	if f, err := h.GrantFacts(t.Context(), GrantQuery{User: "ann", Tenant: "t1"}); err != nil || f.Tenant == nil {
		t.Errorf("facts %+v, %v", f, err)
	}
	report, err := h.Check(t.Context())
	if err != nil || len(report.Changes) != 0 {
		t.Errorf("left to do: %+v, %v", report, err)
	}
	u.RawQuery += "&search_path=nowhere"
	if _, err := Open(t.Context(), u.String()); !errors.Is(err, ErrSchema) {
		t.Errorf("a search_path that leads nowhere: %v", err)
	}
}

// A build that was killed leaves an invalid index behind, which nothing uses and every write maintains.
func TestInvalidIndexIsRebuilt(t *testing.T) {
	dburl := newPostgres(t)
	h := openTest(t, dburl)
	execAs(t, dburl, h, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'tenantgate_memberships_tenant'::regclass")
	report, err := h.Migrate(t.Context())
	must(t, err)
	if !slices.Equal(report.Changes, []string{"rebuild invalid index tenantgate_memberships_tenant on core_memberships"}) {
		t.Errorf("changes %q", report.Changes)
	}
	// One whose rows are doubled: dropped, since every insert would trip over it, and lived with.
	execAs(t, dburl, h, "DROP INDEX tenantgate_users_oauth_id_unique")
	execAs(t, dburl, h, "INSERT INTO core_users (id, oauth_id) VALUES ('a', 'x'), ('b', 'x')")
	if _, err := h.write.ExecContext(t.Context(), h.queries[uniqueSubjectIndex]); err == nil {
		t.Fatal("the unique index was made over doubles")
	}
	report, err = h.Migrate(t.Context())
	must(t, err)
	if len(report.Doubts) != 1 || report.Doubts[0].Kind != "duplicate_oauth_id" {
		t.Errorf("doubts %+v", report.Doubts)
	}
	var left int
	must(t, h.read.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_class WHERE relname = '"+uniqueSubjectIndex+"'").Scan(&left))
	if left != 0 {
		t.Error("the invalid unique index is left")
	}
	execAs(t, dburl, h, "DELETE FROM core_users WHERE id = 'b'")
	report, err = h.Migrate(t.Context())
	if err != nil || len(report.Changes) != 1 || len(report.Doubts) != 0 {
		t.Errorf("once the doubles are gone: %+v, %v", report, err)
	}
}

// Another role, with rights on the eight tables alone and no search_path, writes as before.
func TestOtherRolesWriteAsBefore(t *testing.T) {
	admin := newPostgres(t)
	loadFHSaas(t, admin)
	must(t, errOf(Migrate(t.Context(), Config{URL: NewDBURI(admin)})))
	execURL(t, admin, "CREATE ROLE guest LOGIN PASSWORD 'x'; GRANT ALL ON ALL TABLES IN SCHEMA public TO guest")
	t.Cleanup(func() { execURL(t, admin, "DROP OWNED BY guest; DROP ROLE guest") })
	u, err := url.Parse(admin)
	must(t, err)
	u.User = url.UserPassword("guest", "x")
	for _, table := range hostTables() {
		text := "SET search_path = ''; INSERT INTO public." + table.name + " (id) VALUES ('guest')"
		if table.name != auditTable { // where rows are only added
			text += "; UPDATE public." + table.name + " SET created_at = 'x' WHERE id = 'guest'; DELETE FROM public." + table.name + " WHERE id = 'guest'"
		}
		execURL(t, u.String(), text)
	}
}

func TestOnlyMigrateMakesTheSQLiteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.db")
	cfg := Config{URL: NewDBURI("sqlite:" + path), Migrate: new(false)}
	report, err := Check(t.Context(), cfg)
	must(t, err)
	if _, err := New(t.Context(), cfg); !errors.Is(err, ErrSchema) {
		t.Errorf("without migrate: %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the file was made: %v", err)
	}
	done, err := Migrate(t.Context(), cfg)
	must(t, err)
	if len(done.Changes) == 0 || !slices.Equal(report.Changes, done.Changes) {
		t.Errorf("check told of %d changes, migrate made %d", len(report.Changes), len(done.Changes))
	}
}

func TestSQLiteFileIsPrivateAndBesideOthersReadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b#%", "host.db")
	if _, err := Open(t.Context(), "sqlite:"+path); !errors.Is(err, ErrUnavailable) {
		t.Errorf("directory missing: %v", err)
	}
	must(t, os.Mkdir(filepath.Dir(path), 0o700))
	h := openTest(t, "sqlite:"+path)
	seedGrants(t, h)
	files, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	for _, f := range files {
		info, err := f.Info()
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", f.Name(), info.Mode().Perm())
		}
	}
	if len(files) == 0 {
		t.Error("no file")
	}
	old := filepath.Join(t.TempDir(), "old.db")
	loadSQLite(t, old, "testdata/fh_saas_host_sqlite.sql")
	must(t, os.Chmod(old, 0o640))
	openTest(t, "sqlite:"+old)
	info, err := os.Stat(old)
	must(t, err)
	if info.Mode().Perm() != 0o640 {
		t.Errorf("an existing file's mode became %o", info.Mode().Perm())
	}
}
