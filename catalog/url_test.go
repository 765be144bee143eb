package catalog

import (
	"errors"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tenantgate/tenantgate/internal/pgtest"
)

func TestURLForms(t *testing.T) {
	for _, c := range []struct{ url, engine, dsn, path string }{
		{"postgresql://u:p@h:5432/db", EnginePostgreSQL, "postgresql://u:p@h:5432/db", ""},
		{"postgres://u:p@h/db", EnginePostgreSQL, "postgresql://u:p@h/db", ""},
		{"postgresql+psycopg2://u:p@h/db", EnginePostgreSQL, "postgresql://u:p@h/db", ""},
		{"postgresql+asyncpg://h1,h2:5433/db?target_session_attrs=read-write", EnginePostgreSQL, "postgresql://h1,h2:5433/db?target_session_attrs=read-write", ""},
		{"sqlite:app_host.db", EngineSQLite, "", "app_host.db"},
		{"sqlite:/var/lib/x y#%.db", EngineSQLite, "", "/var/lib/x y#%.db"},
		{"sqlite:///app_host.db", EngineSQLite, "", "app_host.db"},
		{"sqlite:////var/lib/app.db", EngineSQLite, "", "/var/lib/app.db"},
		{"sqlite+pysqlite:///x.db", EngineSQLite, "", "x.db"},
	} {
		got, err := parseURL(NewDBURI(c.url))
		if err != nil || got != (location{c.engine, NewDBURI(c.dsn), c.path}) {
			t.Errorf("%s: %+v, %v", c.url, got, err)
		}
	}
	for _, bad := range []string{
		"", "app_host.db", "mysql://h/db", "postgresql:db", "sqlite:", "sqlite://host/x.db", "sqlite::memory:", "sqlite:///:memory:",
		"sqlite:file:x.db", "sqlite:x.db?mode=ro", "postgresql://u:100%@h/db", "://", "\x00",
	} {
		if got, err := parseURL(NewDBURI(bad)); err == nil {
			t.Errorf("%q was taken: %+v", bad, got)
		}
	}
}

// A replica's answers are old: a revoked member would still be let in.
func TestURLMustLeadToThePrimary(t *testing.T) {
	for dsn, ok := range map[string]bool{
		"postgresql://u@h/db":                                           true,
		"postgresql://u@h/db?target_session_attrs=any":                  true,
		"postgresql://u@h/db?sslmode=prefer":                            true,
		"postgresql://u@h1,h2/db":                                       false,
		"postgresql://u@h1:1,h1:2/db":                                   false,
		"postgresql:///db?host=h1,h2":                                   false,
		"postgresql://u@h1,h2/db?target_session_attrs=any":              false,
		"postgresql://u@h1,h2/db?target_session_attrs=read-write":       true,
		"postgresql://u@h1,h2/db?target_session_attrs=read%2Dwrite":     true,
		"postgresql://u@h1,h2/db?target_session_attrs=primary":          true,
		"postgresql://u@h1/db?target_session_attrs=standby":             false,
		"postgresql://u@h1/db?target_session_attrs=read-only":           false,
		"postgresql://u@h1,h2/db?target_session_attrs=prefer-standby":   false,
		"postgresql://u@h/db?default_query_exec_mode=simple_protocol":   false, // SQL-1
		"postgresql://u@h/db?default_query_exec_mode=cache_describe":    true,
		"postgresql://u@h/db?sslmode=nonsense":                          false,
		"postgresql://u@h:port/db":                                      false,
		"postgresql://u@h1,h2/db?target_session_attrs=primary&x=%zz":    false,
		"postgresql://u@h/db?statement_timeout=5000&application_name=x": true,
	} {
		if _, err := postgresConfig(location{engine: EnginePostgreSQL, dsn: NewDBURI(dsn)}); (err == nil) != ok {
			t.Errorf("%s: %v", dsn, err)
		}
	}
}

func TestConnectionParameters(t *testing.T) {
	cfg, err := postgresConfig(location{dsn: NewDBURI("postgresql://u@h/db?application_name=mine")})
	must(t, err)
	params := cfg.ConnConfig.RuntimeParams
	if params["application_name"] != "mine" || params["timezone"] != "UTC" || params["statement_timeout"] == "" ||
		params["idle_in_transaction_session_timeout"] == "" || cfg.ConnConfig.ConnectTimeout != connectTimeout {
		t.Errorf("parameters %v, connect timeout %s", params, cfg.ConnConfig.ConnectTimeout)
	}
}

// env makes a getenv of a few variables.
func env(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestEnvironmentAsFHSaasReadsIt(t *testing.T) {
	for _, c := range []struct {
		vars map[string]string
		want string
	}{
		{map[string]string{"DB_PASS": "p"}, "postgresql://postgres:p@localhost:5432/app_host"},
		{map[string]string{"DB_TYPE": "POSTGRESQL", "DB_USER": "a b", "DB_PASS": "p", "DB_HOST": "::1", "DB_PORT": "6", "DB_NAME": "n"}, "postgresql://a%20b:p@[::1]:6/n"},
		{map[string]string{"DB_PASS": "p", "DB_HOST": "/run/pg"}, "postgresql://postgres:p@/app_host?host=%2Frun%2Fpg&port=5432"},
		{map[string]string{"DB_TYPE": "SQLITE"}, "sqlite:app_host.db"},
		{map[string]string{"DB_TYPE": "SQLITE", "DB_NAME": "/data/host"}, "sqlite:/data/host.db"},
	} {
		got, err := URLFromEnv(env(c.vars))
		if err != nil || got.Reveal() != c.want {
			t.Errorf("%v: %s, %v; want %s", c.vars, got.Reveal(), err, c.want)
		}
	}
	for _, vars := range []map[string]string{
		{}, {"DB_TYPE": "POSTGRESQL"}, {"DB_TYPE": "MYSQL", "DB_PASS": "p"}, {"DB_TYPE": "sqlite3"},
	} {
		if got, err := URLFromEnv(env(vars)); err == nil {
			t.Errorf("%v was taken: %s", vars, got)
		}
	}
}

// oddPasswords hold what breaks URIs that are put together by hand; in fh-saas a space already does.
func oddPasswords() []string {
	all := []string{
		"p@ss/w:rd#1", "a+b c%20d", "100%", "%25", "%zz", "ünïcödé-€", "q?x=1&y=2;z", `semi;colon'quote"dq`, "[br]{ace}|pipe\\bs",
		"tilde~dash-_.dot", "sp ace", " lead and trail ", "back`tick$dollar!", "a,b", "<>^", "*()=", "$1 ?1",
	}
	for _, reserved := range ":/?#[]@!$&'()*+,;= %\"\\" { // RFC 3986, 2.2, and what else breaks URIs
		all = append(all, string(reserved), "x"+string(reserved)+"y")
	}
	var printable strings.Builder
	for c := byte(' '); c < 0x7f; c++ {
		printable.WriteByte(c)
	}
	return append(all, printable.String())
}

func TestPasswordOfAnyCharacterSurvivesTheURL(t *testing.T) {
	for _, pw := range oddPasswords() {
		u, err := URLFromEnv(env(map[string]string{"DB_PASS": pw}))
		if err != nil {
			t.Errorf("%q: %v", pw, err)
			continue
		}
		cfg, err := postgresConfig(location{dsn: u})
		if err != nil || cfg.ConnConfig.Password != pw {
			t.Errorf("%q: %v", pw, err)
		}
		if s := u.String(); s != "postgresql://postgres:***@localhost:5432/app_host" {
			t.Errorf("%q is shown as %s", pw, s)
		}
	}
}

// The same against a real server, with a role for each password; URI gives back what connects.
func TestPasswordOfAnyCharacterConnects(t *testing.T) {
	admin := newPostgres(t)
	u, err := url.Parse(admin)
	must(t, err)
	conn, err := pgx.Connect(t.Context(), admin)
	must(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), "CREATE ROLE odd LOGIN; GRANT CREATE ON SCHEMA public TO odd; GRANT CREATE ON DATABASE "+
		pgx.Identifier{strings.TrimPrefix(u.Path, "/")}.Sanitize()+" TO odd")
	must(t, err)
	t.Cleanup(func() { execURL(t, admin, "DROP OWNED BY odd; DROP ROLE odd") })
	vars := map[string]string{"DB_USER": "odd", "DB_HOST": u.Hostname(), "DB_PORT": u.Port(), "DB_NAME": strings.TrimPrefix(u.Path, "/")}
	for _, pw := range oddPasswords() {
		_, err := conn.Exec(t.Context(), "ALTER ROLE odd PASSWORD '"+strings.ReplaceAll(pw, "'", "''")+"'")
		must(t, err)
		withPW := maps.Clone(vars)
		withPW["DB_PASS"] = pw
		dburi, err := URLFromEnv(env(withPW))
		must(t, err)
		h, err := Open(t.Context(), dburi.Reveal())
		if err != nil {
			t.Errorf("%q: %v", pw, err)
			continue
		}
		again, err := pgx.Connect(t.Context(), h.URI())
		if err != nil {
			t.Errorf("%q: URI does not connect", pw)
		} else {
			must(t, again.Close(t.Context()))
		}
		psql := exec.CommandContext(t.Context(), pgtest.Tool(t, "psql"), "--no-psqlrc", "-Atc", "SELECT current_user", h.URI())
		psql.Env = append(os.Environ(), "PGPASSFILE=/nonexistent")
		if out, err := psql.CombinedOutput(); string(out) != "odd\n" {
			t.Errorf("%q: psql says %q, %v", pw, out, err)
		}
		must(t, h.Close())
	}
}

// Every form in which a URL may be written opens the database, and URI gives back one that does.
func TestEveryURLFormOpensAndComesBack(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	server := pgtest.NewServer(t)
	tcp := server.URL(t)
	rest := strings.TrimPrefix(tcp, "postgresql:")
	for _, form := range []string{
		tcp, "postgres:" + rest, "postgresql+psycopg2:" + rest, "postgresql+asyncpg:" + rest, "POSTGRESQL:" + rest,
		server.SocketURL(t, tcp), tcp + "&target_session_attrs=read-write",
		"sqlite:plain.db", "sqlite:./dot.db", "sqlite:///three.db", "sqlite:////" + dir + "/four.db", "sqlite:" + dir + "/abs.db",
		"sqlite+pysqlite:///driver.db", "sqlite:" + dir + "/odd name%25#+&=ü.db",
	} {
		h, err := Open(t.Context(), form)
		if err != nil {
			t.Errorf("%s: %v", NewDBURI(form), err)
			continue
		}
		must(t, ignore(h.Tenants.Insert(t.Context(), &TenantCatalog{ID: "acme"}), ErrConflict))
		if _, err := h.Tenants.Get(t.Context(), "acme"); err != nil {
			t.Errorf("%s: %v", h, err)
		}
		again, err := Open(t.Context(), h.URI())
		must(t, err)
		if _, err := again.Tenants.Get(t.Context(), "acme"); err != nil || again.URI() != h.URI() {
			t.Errorf("%s came back as %s: %v", h, again, err)
		}
		must(t, errors.Join(h.Close(), again.Close()))
	}
	for _, name := range []string{"plain.db", "dot.db", "three.db", "four.db", "abs.db", "driver.db", "odd name%25#+&=ü.db"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("no file: %v", err)
		}
	}
}

func TestFromEnvIsOneInstanceAProcess(t *testing.T) {
	t.Setenv("DB_TYPE", "SQLITE")
	t.Setenv("DB_NAME", filepath.Join(t.TempDir(), "app_host"))
	defer ResetInstance()
	a, err := FromEnv(t.Context())
	must(t, err)
	b, err := FromEnv(t.Context())
	must(t, err)
	if a != b {
		t.Error("two instances")
	}
	ResetInstance()
	c, err := FromEnv(t.Context())
	must(t, err)
	if c == a {
		t.Error("the instance that was reset came back")
	}
	must(t, c.Close())
	must(t, c.Close())
	d, err := FromEnv(t.Context())
	must(t, err)
	if err := d.Ping(t.Context()); err != nil {
		t.Errorf("an instance after Close: %v", err)
	}
	t.Setenv("DB_TYPE", "nonsense")
	ResetInstance()
	if _, err := FromEnv(t.Context()); err == nil {
		t.Error("a nonsense DB_TYPE was taken")
	}
}

// FuzzParseURL: no input panics, and no error repeats any of it.
func FuzzParseURL(f *testing.F) {
	for _, s := range []string{
		"postgresql://u:canary-pw@h:5432/db", "postgresql+x://canary-pw@h,i/db?target_session_attrs=any", "sqlite:canary-pw?x",
		"canary-pw", "canary-pw://", "postgresql://u:canary-pw%@h", "sqlite://canary-pw/x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		loc, err := parseURL(NewDBURI(s))
		if err == nil && loc.engine == EnginePostgreSQL {
			_, err = postgresConfig(loc)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("the error repeats the url: %v", err)
		}
	})
}
