package provision

import (
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
)

// The administrator's password and the tenants' stand in no error, no record, no row of the audit, and not in the log of a
// server that logs every statement.
func TestNoPasswordLeaks(t *testing.T) {
	server := pgtest.NewServer(t)
	super := server.URL(t)
	for _, sql := range []string{
		"ALTER SYSTEM SET log_statement = 'all'", "ALTER SYSTEM SET log_min_duration_statement = 0", "ALTER SYSTEM SET log_connections = on",
		"ALTER SYSTEM SET log_parameter_max_length_on_error = -1", "SELECT pg_reload_conf()",
		"CREATE ROLE admin LOGIN CREATEROLE CREATEDB PASSWORD 'adm1n-C4nary-pass'",
	} {
		exec(t, super, sql)
	}
	u, err := url.Parse(super)
	must(t, err)
	u.User = url.UserPassword("admin", "adm1n-C4nary-pass")
	for _, admin := range []string{super, u.String()} {
		parsed, err := url.Parse(admin)
		must(t, err)
		own, _ := parsed.User.Password()
		r := rigOn(t, "sqlite:"+t.TempDir()+"/host.db", admin, func(c *Config) { c.Plain = true })
		was := len(server.Log(t))
		var texts []string
		bad := migrations(t, map[string]string{"00003_bad.sql": "-- +goose Up\nINSERT INTO absent VALUES ('x');\n"})
		good := r.migrations
		r.migrations, err = tenantdb.LoadMigrations(bad)
		must(t, err)
		if err := r.Run(t.Context(), Spec{Tenant: "a"}, nil); err == nil {
			t.Fatal("a broken migration was applied")
		} else {
			texts = append(texts, err.Error())
		}
		r.migrations = good
		must(t, r.Run(t.Context(), Spec{Tenant: "a"}, nil))
		secrets := []string{own, "adm1n-C4nary-pass"}
		row, err := r.host.Tenants.Get(t.Context(), "a")
		must(t, err)
		uri, err := url.Parse(row.DBURL.Reveal())
		must(t, err)
		password, _ := uri.User.Password()
		secrets = append(secrets, password)

		exec(t, super, "ALTER ROLE "+uri.User.Username()+" NOLOGIN")
		if err := r.Run(t.Context(), Spec{Tenant: "a"}, nil); err == nil {
			t.Error("a role that cannot log in was reached")
		} else {
			texts = append(texts, err.Error())
		}
		records, _, err := r.host.TenantDatabases.List(t.Context(), catalog.Page{})
		must(t, err)
		audit, _, err := r.host.AuditLogs.List(t.Context(), catalog.Page{Limit: 1000})
		must(t, err)
		text, err := json.Marshal([]any{records, audit})
		must(t, err)
		log := server.Log(t)[was:]
		if !strings.Contains(log, "CREATE DATABASE") && admin != super {
			t.Error("the server logged nothing: nothing was shown")
		}
		if admin == super && strings.Contains(log, "SCRAM-SHA-256$") {
			t.Error("the server's log shows a verifier, although the administrator may keep it out")
		}
		for _, s := range secrets {
			if len(s) < 10 {
				t.Fatalf("password of %d characters", len(s))
			}
			for where, text := range map[string]string{"errors": strings.Join(texts, "\n"), "rows": string(text), "the server's log": log} {
				if strings.Contains(text, s) {
					t.Errorf("a password stands in %s", where)
				}
			}
		}
	}
}

// Who cannot be reached is told of by its URL's name, never by its URL.
func TestAnAdministratorsURLIsNotRepeated(t *testing.T) {
	for _, admin := range []string{
		"postgresql://admin:C4nary@127.0.0.1:1/x", "postgresql://admin:C4nary@[::1/x", "mysql://C4nary", "sqlite:///C4nary/../..%", "postgresql://admin:C4nary@h/x?sslmode=bad",
	} {
		p, err := New(Config{AdminURL: catalog.NewDBURI(admin)}, Deps{})
		if err == nil {
			server, made := tenantdb.New(tenantdb.Config{URL: p.cfg.AdminURL, Installation: "i"})
			must(t, made)
			_, err = server.Hold(t.Context(), "a")
			if !errors.Is(err, tenantdb.ErrUnavailable) {
				t.Errorf("%v", err)
			}
		}
		if err == nil || strings.Contains(err.Error(), "C4nary") {
			t.Errorf("%v", err)
		}
	}
	if _, err := New(Config{}, Deps{}); !errors.Is(err, ErrRefused) {
		t.Errorf("no admin_url: %v", err)
	}
	empty := t.TempDir()
	for _, dir := range []string{empty, empty + "/absent"} {
		if _, err := New(Config{AdminURL: catalog.NewDBURI("sqlite:/x"), MigrationsDir: dir}, Deps{}); err == nil || !strings.Contains(err.Error(), "migrations_dir") {
			t.Errorf("%s: %v", dir, err)
		}
	}
	must(t, os.WriteFile(empty+"/first.sql", nil, 0o600))
	if _, err := New(Config{AdminURL: catalog.NewDBURI("sqlite:/x"), MigrationsDir: empty}, Deps{}); err == nil || !strings.Contains(err.Error(), "first.sql") {
		t.Errorf("a file without a number: %v", err)
	}
}
