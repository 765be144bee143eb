package lifecycle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

func TestDoctorFindsWhatDoesNotFitAndItsWordsMendIt(t *testing.T) {
	admin := pgtest.New(t)
	w := newWorld(t, pgtest.New(t), admin)
	ctx := t.Context()
	w.provision("acme", "it's odd")
	record, err := w.host.TenantDatabases.Get(ctx, "acme")
	must(t, err)
	name, role := record.DatabaseName, record.RoleName
	record, err = w.host.TenantDatabases.Get(ctx, "it's odd")
	must(t, err)
	other := record.DatabaseName // and its role's name
	_, hostName, err := w.host.HostPlace(ctx)
	must(t, err)
	if got := w.findings(); got != "" {
		t.Fatalf("all is well, and the doctor says %q", got)
	}
	for what, c := range map[string]struct {
		harm, want string
		host       bool   // the statement is for the host database
		cure       string // "": the finding's own words
	}{
		"superuser":          {"ALTER ROLE " + role + " SUPERUSER", "acme role", false, ""},
		"may make databases": {"ALTER ROLE " + role + " CREATEDB", "acme role", false, ""},
		"may make roles":     {"ALTER ROLE " + role + " CREATEROLE", "acme role", false, ""},
		"passes row rules":   {"ALTER ROLE " + role + " BYPASSRLS", "acme role", false, ""},
		"reads everything":   {"GRANT pg_read_all_data TO " + role, "acme role", false, ""},
		"streams changes":    {"ALTER ROLE " + role + " REPLICATION", "acme role", false, ""},
		"let in by name":     {"GRANT CONNECT, TEMPORARY ON DATABASE " + other + " TO " + role, "acme role", false, ""},
		"let into the host":  {`GRANT CONNECT ON DATABASE "` + hostName + `" TO ` + role, "acme role", false, ""},
		"member of another":  {"GRANT " + other + " TO " + role, "acme role", false, ""},
		"open to all":        {"GRANT CONNECT ON DATABASE " + name + " TO PUBLIC", "acme public", false, ""},
		"all may make temps": {"GRANT TEMPORARY ON DATABASE " + name + " TO PUBLIC", "acme public", false, ""},
		"another's":          {"ALTER DATABASE " + name + " OWNER TO postgres", "acme owner\nacme uri", false, ""},
		"takes none":         {"ALTER DATABASE " + name + " ALLOW_CONNECTIONS false", "acme database\nacme uri", false, ""},
		"host open to all":   {`GRANT CONNECT ON DATABASE "` + hostName + `" TO PUBLIC`, " public", false, `REVOKE CONNECT ON DATABASE "` + hostName + `" FROM PUBLIC`},
		"database too many":  {"CREATE DATABASE stray; COMMENT ON DATABASE stray IS '" + w.mark() + "'", " orphan", false, ""},
		"role too many":      {"CREATE ROLE stray; COMMENT ON ROLE stray IS '" + w.mark() + "'", " orphan", false, ""},
		"both too many":      {"CREATE ROLE stray; COMMENT ON ROLE stray IS '" + w.mark() + "'; CREATE DATABASE stray OWNER stray", " orphan", false, ""},
		"lock of nobody":     {"INSERT INTO tenantgate.sys_tenant_locks (tenant_id, holder) VALUES ('go''ne', 'operator')", "go'ne lock", true, ""},
		"endless by mistake": {"INSERT INTO tenantgate.sys_tenant_locks (tenant_id, holder, expires_at) VALUES ('acme', 'x', 'soon')", "acme lock", true, ""},
		"password changed":   {"ALTER ROLE " + role + " PASSWORD 'other'", "acme uri", false, "ALTER ROLE " + role + " PASSWORD '" + password(t, w.uris["acme"]) + "'"},
		"no login":           {"ALTER ROLE " + role + " NOLOGIN", "acme uri", false, "ALTER ROLE " + role + " LOGIN"},
		"row removed": {
			"CREATE TABLE kept AS SELECT * FROM core_tenants WHERE id = 'it''s odd'; DELETE FROM core_tenants WHERE id = 'it''s odd'", "it's odd orphan", true,
			"INSERT INTO core_tenants SELECT * FROM kept; DROP TABLE kept",
		},
		"no uri":          {"UPDATE core_tenants SET is_active = is_active, db_url = NULL WHERE id = 'bare'", "", true, "SELECT 1"},
		"moved elsewhere": {"CREATE TABLE kept AS SELECT * FROM core_tenants WHERE id = 'it''s odd'; UPDATE core_tenants SET db_url = 'postgresql://u:c4nary@127.0.0.1:1/d' WHERE id = 'it''s odd'", "it's odd elsewhere\nit's odd uri", true, "UPDATE core_tenants SET db_url = (SELECT db_url FROM kept) WHERE id = 'it''s odd'; DROP TABLE kept"},
		"seal broken":     {"CREATE TABLE kept AS SELECT * FROM core_tenants WHERE id = 'it''s odd'; UPDATE core_tenants SET db_url = 'enc:v1:0000000000000000:AAAA' WHERE id = 'it''s odd'", "it's odd uri", true, "UPDATE core_tenants SET db_url = (SELECT db_url FROM kept) WHERE id = 'it''s odd'; DROP TABLE kept"},
		"unfinished":      {"UPDATE tenantgate.sys_tenant_databases SET step = 'role', problem = 'the disk is full' WHERE tenant_id = 'it''s odd'", "it's odd unfinished", true, "UPDATE tenantgate.sys_tenant_databases SET step = 'ready', problem = NULL WHERE tenant_id = 'it''s odd'"},
	} {
		t.Run(what, func(t *testing.T) {
			url := admin
			if c.host {
				url = w.host.URI()
			}
			for _, statement := range strings.Split(c.harm, "; ") {
				pgtest.Exec(t, url, statement)
			}
			r, err := NewDoctor(DoctorConfig{}, w.deps).Examine(ctx, nil)
			must(t, err)
			if got := said(r); got != c.want {
				t.Errorf("the doctor says %q, want %q: %+v", got, c.want, r.Findings)
			}
			for _, f := range r.Findings {
				if strings.Contains(f.Text+f.Mend, "c4nary") {
					t.Errorf("a password shows: %+v", f)
				}
			}
			cure := c.cure
			if cure == "" && len(r.Findings) > 0 {
				cure = r.Findings[0].Mend
			}
			for _, statement := range strings.Split(cure, "; ") {
				pgtest.Exec(t, url, statement)
			}
			if got := w.findings(); got != "" {
				t.Errorf("after %q the doctor says %q", cure, got)
			}
		})
	}
	// What is nobody's is no fault, and is told of; what somebody was let into there by name is no tenant's business.
	pgtest.Exec(t, admin, "CREATE DATABASE nobodys")
	pgtest.Exec(t, admin, "GRANT CONNECT ON DATABASE nobodys TO "+role)
	r, err := NewDoctor(DoctorConfig{}, w.deps).Examine(ctx, nil)
	if err != nil || len(r.Findings) > 0 || len(r.Notes) != 1 || strings.Contains(r.Notes[0], name) || strings.Contains(r.Notes[0], hostName) {
		t.Errorf("%+v, %v", r, err)
	}
	pgtest.Exec(t, admin, "DROP DATABASE nobodys")
	if got := w.findings("it's odd"); got != "" {
		t.Errorf("of globex alone: %q", got)
	}
	// A database that is gone, and a schema that is behind.
	w.migrations(map[string]string{"00002_author.sql": second})
	w.load()
	pgtest.Exec(t, admin, "DROP DATABASE "+name)
	if got := w.findings(); got != "acme database\nacme database\nit's odd schema" {
		t.Errorf("the doctor says %q", got)
	}
}

func TestDoctorOfFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tenants")
	w := newWorld(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db"), "sqlite:"+dir)
	ctx := t.Context()
	w.provision("acme", "globex")
	record, err := w.host.TenantDatabases.Get(ctx, "acme")
	must(t, err)
	path := filepath.Join(dir, record.DatabaseName)
	must(t, os.Chmod(path, 0o644))
	if got := w.findings(); got != "acme public" {
		t.Errorf("the doctor says %q", got)
	}
	must(t, os.Chmod(path, 0o600))
	stray := w.server.NewPlace("stray")
	must(t, os.WriteFile(filepath.Join(dir, stray.Database), nil, 0o600))
	if got := w.findings(); got != " orphan" {
		t.Errorf("the doctor says %q", got)
	}
	must(t, os.Remove(filepath.Join(dir, stray.Database)))
	must(t, os.Remove(path))
	if got := w.findings(); got != "acme database\nacme database" {
		t.Errorf("the doctor says %q", got)
	}
	// Without the server it says what it did not look at.
	deps := w.deps
	deps.Server = nil
	r, err := NewDoctor(DoctorConfig{}, deps).Examine(ctx, []catalog.TenantID{"globex"})
	if err != nil || len(r.Findings) != 0 || len(r.Skipped) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	must(t, w.host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "bare"}))
	if r, err = NewDoctor(DoctorConfig{NoURI: true}, deps).Examine(ctx, []catalog.TenantID{"bare"}); err != nil || len(r.Findings) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if got := w.findings("bare"); got != "bare uri" {
		t.Errorf("the doctor says %q", got)
	}
}

func said(r Report) string {
	var lines []string
	for _, f := range r.Findings {
		lines = append(lines, string(f.Tenant)+" "+string(f.Check))
	}
	return strings.Join(lines, "\n")
}

// mark is what an object of our installation says of itself.
func (w *world) mark() string {
	w.t.Helper()
	id, err := w.host.Installation(w.t.Context())
	must(w.t, err)
	return "tenantgate:" + id + ":0123456789abcdef0123456789abcdef"
}

func password(t testing.TB, uri catalog.DBURI) string {
	t.Helper()
	_, rest, _ := strings.Cut(strings.TrimPrefix(uri.Reveal(), "postgresql://"), ":")
	password, _, _ := strings.Cut(rest, "@")
	return password
}

func TestWordsForAShell(t *testing.T) {
	for in, want := range map[string]string{"acme": "acme", "it's": `'it'\''s'`, "": "''", "-x": "'-x'", "a b": "'a b'", "$x": "'$x'", "ä": "'ä'", "a\nb": "'a\nb'"} {
		if got := word(in); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
}
