package catalog

import (
	"database/sql"
	"errors"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// dumped is one entry of a pg_dump, by its head: "Name: x; Type: INDEX; Schema: public; Owner: postgres".
type dumped struct{ name, kind, schema, text string }

var dumpHead = regexp.MustCompile(`(?m)^-- (?:Data for )?Name: (.*); Type: (.*); Schema: (.*); Owner: .*$`)

// dump takes a whole pg_dump apart.
func dump(t *testing.T, url string) map[string]dumped {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), pgtest.Tool(t, "pg_dump"), "--dbname", url).Output()
	must(t, err)
	text := string(out)
	heads := dumpHead.FindAllStringSubmatchIndex(text, -1)
	entries := map[string]dumped{}
	for i, at := range heads {
		end := len(text)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		} else if mark := strings.LastIndex(text, "-- PostgreSQL database dump complete"); mark > 0 {
			end = mark
		}
		group := func(n int) string { return text[at[2*n]:at[2*n+1]] }
		d := dumped{name: group(1), kind: group(2), schema: group(3), text: strings.Trim(text[at[1]:end], "-\n ")}
		key := d.kind + " " + d.schema + " " + d.name
		if _, double := entries[key]; double {
			t.Fatalf("two entries %s", key)
		}
		entries[key] = d
	}
	return entries
}

// allowed says whether an entry that migrate added is one that fh-saas's database may get: everything in a schema of
// our own; on the eight tables plain indexes, triggers, and one unique index.
func (d dumped) allowed() bool {
	if d.schema == ownSchema || d.kind == "SCHEMA" && d.name == ownSchema {
		return true
	}
	if d.schema != "public" {
		return false
	}
	switch d.kind {
	case "INDEX":
		unique := strings.HasPrefix(d.text, "CREATE UNIQUE")
		return strings.HasPrefix(d.name, "tenantgate_") && (!unique || d.name == uniqueSubjectIndex)
	case "TRIGGER":
		return strings.Contains(d.name, " tenantgate_")
	}
	return false
}

// What pg_dump tells of fh-saas's database before migrate stands after it, to the byte; what is new is what the
// contract lists.
func TestPgDumpShowsNothingNewButIndexesTriggersAndOurSchema(t *testing.T) {
	url := newPostgres(t)
	loadFHSaas(t, url)
	before := dump(t, url)
	must(t, errOf(Migrate(t.Context(), Config{URL: NewDBURI(url)})))
	after := dump(t, url)
	if len(before) < 3*len(hostTables()) { // table, key, rows
		t.Fatalf("pg_dump shows %d entries of fh-saas's database", len(before))
	}
	for key, was := range before {
		if is, there := after[key]; !there || is.text != was.text {
			t.Errorf("%s was\n%s\nand is\n%s", key, was.text, is.text)
		}
	}
	var added []string
	for key, d := range after {
		if _, old := before[key]; old {
			continue
		}
		added = append(added, key)
		if !d.allowed() {
			t.Errorf("migrate added %s:\n%s", key, d.text)
		}
	}
	for _, i := range hostIndexes() {
		if i.name != uniqueSubjectIndex && !slices.Contains(added, "INDEX public "+i.name) {
			t.Errorf("index %s is not in the dump: %q", i.name, added)
		}
	}
	// Once the doubles are gone, the one unique index comes, and nothing else.
	execURL(t, url, "DELETE FROM core_users WHERE id IN (SELECT max(id) FROM core_users GROUP BY oauth_id HAVING count(*) > 1)")
	must(t, errOf(Migrate(t.Context(), Config{URL: NewDBURI(url)})))
	for key, d := range dump(t, url) {
		if _, old := after[key]; !old && (d.name != uniqueSubjectIndex || !d.allowed()) {
			t.Errorf("migrate then added %s:\n%s", key, d.text)
		}
	}
}

// The dump's own way to say what is not allowed would be useless if it allowed everything.
func TestWhatTheDumpMayNotShow(t *testing.T) {
	for name, text := range map[string]string{
		"a column":            "ALTER TABLE core_users ADD COLUMN x text",
		"NOT NULL":            "ALTER TABLE core_users ALTER COLUMN email SET NOT NULL",
		"a default":           "ALTER TABLE core_users ALTER COLUMN email SET DEFAULT ''",
		"a foreign key":       "ALTER TABLE core_memberships ADD FOREIGN KEY (user_id) REFERENCES core_users NOT VALID",
		"a check":             "ALTER TABLE core_users ADD CHECK (email <> '')",
		"uniqueness":          "CREATE UNIQUE INDEX tenantgate_x ON core_tenants (name)",
		"a foreign name":      "CREATE INDEX x ON core_tenants (name)",
		"a table":             "CREATE TABLE tenantgate_x (id text)",
		"a function":          "CREATE FUNCTION tenantgate_x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
		"row level security":  "ALTER TABLE core_users ENABLE ROW LEVEL SECURITY",
		"another row":         "INSERT INTO core_users (id) VALUES ('x')",
		"a changed row":       "UPDATE core_tenants SET name = 'x' WHERE id = 'acme_corp'",
		"a rule":              "CREATE RULE tenantgate_x AS ON DELETE TO core_users DO INSTEAD NOTHING",
		"rights on the table": "GRANT SELECT ON core_users TO PUBLIC",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := newPostgres(t)
			loadPostgres(t, url)
			before := dump(t, url)
			execURL(t, url, text)
			found := false
			for key, d := range dump(t, url) {
				was, old := before[key]
				found = found || old && d.text != was.text || !old && !d.allowed()
			}
			if !found {
				t.Errorf("%s: not noticed", text)
			}
		})
	}
}

// sqliteSchema is every statement that the file keeps, by what it makes.
func sqliteSchema(t *testing.T, url string) map[string]string {
	t.Helper()
	db, err := sql.Open("sqlite", strings.TrimPrefix(url, "sqlite:"))
	must(t, err)
	rows, err := db.QueryContext(t.Context(), "SELECT type || ' ' || name || ' on ' || tbl_name, coalesce(sql, '') FROM sqlite_master")
	must(t, err)
	all := map[string]string{}
	for rows.Next() {
		var key, text string
		must(t, rows.Scan(&key, &text))
		all[key] = text
	}
	must(t, errors.Join(rows.Err(), rows.Close(), db.Close()))
	return all
}

// The same on SQLite, by the statements that the file itself keeps.
func TestSQLiteSchemaShowsNothingNewButIndexesTriggersAndOurTables(t *testing.T) {
	url := "sqlite:" + t.TempDir() + "/host.db"
	loadFHSaas(t, url)
	before := sqliteSchema(t, url)
	must(t, errOf(Migrate(t.Context(), Config{URL: NewDBURI(url)})))
	after := sqliteSchema(t, url)
	for key, text := range before {
		if after[key] != text || len(before) != 2*len(hostTables()) {
			t.Errorf("%s was\n%s\nand is\n%s", key, text, after[key])
		}
	}
	theirs := func(key string) bool {
		return slices.ContainsFunc(hostTables(), func(h hostTable) bool { return strings.HasSuffix(key, " on "+h.name) })
	}
	for key, text := range after {
		if _, old := before[key]; old || !theirs(key) {
			continue
		}
		plain := strings.HasPrefix(key, "index tenantgate_") && !strings.HasPrefix(text, "CREATE UNIQUE")
		if !plain && !strings.HasPrefix(key, "trigger tenantgate_") {
			t.Errorf("migrate added %s:\n%s", key, text)
		}
	}
}
