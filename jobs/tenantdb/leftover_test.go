package tenantdb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a parser repeats of a file may be a password.
func TestAFaultyMigrationRepeatsNoLiteral(t *testing.T) {
	s := newServer(t, newURL(t))
	_, uri := made(t, s, "acme")
	for _, sql := range []string{
		"CREATE ROLE x PASSWORD = 'c4nary'", "SELECT 1 'c4nary'", "SELECT 'c4nary", "SELECT $$c4nary", "SELECT 1 $q$c4nary$q$", "SELECT E'c4nary' FROM WHERE",
	} {
		m, err := LoadMigrations(migrationFiles(t, map[string]string{
			"00001_bad.sql": "-- +goose Up\n-- +goose StatementBegin\n" + sql + "\n-- +goose StatementEnd\n",
		}))
		must(t, err)
		if _, err := m.Up(t.Context(), uri); !errors.Is(err, ErrMigration) || strings.Contains(err.Error(), "c4nary") || !strings.Contains(err.Error(), "42601") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// What a migration raises, or builds of what it reads, may be a row or a URI.
func TestAFailedMigrationShowsNoDataWhateverItsCode(t *testing.T) {
	s := newServer(t, newURL(t))
	_, uri := made(t, s, "acme")
	for name, c := range map[string]struct{ sql, want string }{
		"a raised right":  {"DO $$ BEGIN RAISE EXCEPTION 'postgresql://u:c4nary@h/db' USING ERRCODE = '42501'; END $$", "42501"},
		"a raised syntax": {"DO $$ BEGIN RAISE syntax_error USING MESSAGE = 'c4nary'; END $$", "42601"},
		"raised names": {
			"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '23505', TABLE = 'c4nary', COLUMN = 'c4nary', CONSTRAINT = 'c4nary', SCHEMA = 'c4nary'; END $$", "23505",
		},
		"raised details":    {"DO $$ BEGIN RAISE EXCEPTION 'c4nary' USING DETAIL = 'c4nary', HINT = 'c4nary'; END $$", "P0001"},
		"built from data":   {"DO $$ BEGIN EXECUTE format('SELECT * FROM %I', 'c4nary'); END $$", "42P01"},
		"a row's value":     {"CREATE TABLE kept (v text UNIQUE); INSERT INTO kept VALUES ('c4nary'), ('c4nary')", "23505 (kept) (kept_v_key)"},
		"a cast":            {"SELECT 'c4nary'::int", "22P02"},
		"a quoted password": {`CREATE ROLE x PASSWORD "c4nary"`, "42601"},
		"a bare password":   {"CREATE ROLE x PASSWORD c4nary", "42601"},
		"an end missing":    {"SELECT 'c4nary'\n-- +goose StatementEnd\nSELECT 'c4nary", "version:1"},
	} {
		m, err := LoadMigrations(migrationFiles(t, map[string]string{
			"00001_bad.sql": "-- +goose Up\n-- +goose StatementBegin\n" + c.sql + "\n-- +goose StatementEnd\n",
		}))
		must(t, err)
		_, err = m.Up(t.Context(), uri)
		if !errors.Is(err, ErrMigration) || strings.Contains(fmt.Sprintf("%+v %#v", err, err), "c4nary") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A run that was killed while it migrated leaves its lock beside the file, which goes with it.
func TestDropRemovesTheLockOfAKilledMigration(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tenants")
	s := newServer(t, "sqlite:"+dir)
	p, _ := made(t, s, "acme")
	must(t, os.WriteFile(filepath.Join(dir, p.Database+".migrating"), nil, 0o600))
	h := hold(t, s, "acme")
	must(t, h.Drop(t.Context(), p))
	must(t, h.Close())
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A tenant may grant what is its own to another tenant's role. That must not keep the other's role from being dropped,
// nor may it take anything of the one who granted.
func TestAnotherTenantsGrantsKeepNoRoleFromBeingDropped(t *testing.T) {
	admin := newURL(t)
	s := newServer(t, admin)
	_, spite := made(t, s, "spite")
	victim, gone := made(t, s, "victim")
	for _, sql := range []string{
		"CREATE TABLE bait (x int)", "INSERT INTO bait VALUES (7)", "GRANT ALL ON bait TO " + quote(victim.Role), "GRANT USAGE ON SCHEMA public TO " + quote(victim.Role),
		"GRANT CONNECT, TEMPORARY ON DATABASE " + quote(Database(spite)) + " TO " + quote(victim.Role),
		"ALTER DATABASE " + quote(Database(spite)) + " SET default_transaction_read_only = on",
	} {
		exec(t, spite.Reveal(), sql)
	}
	h := hold(t, s, "victim")
	must(t, errors.Join(h.Drop(t.Context(), victim), h.Close()))
	if left, err := s.Look(t.Context(), []string{victim.Database}); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := connect(t, gone.Reveal()); err == nil {
		t.Error("the role is still there")
	}
	var x int
	if err := connected(t, spite.Reveal()).QueryRow(t.Context(), "SELECT x FROM bait").Scan(&x); err != nil || x != 7 {
		t.Errorf("the other tenant's row: %d, %v", x, err)
	}
}

// What a tenant's role owns outside of its database is not ours to drop: the role stays, and the error says what to run.
func TestARoleThatOwnsSomethingElsewhereStays(t *testing.T) {
	admin := newURL(t)
	s := newServer(t, admin)
	p, uri := made(t, s, "acme")
	exec(t, withDatabase(t, uri.Reveal(), "template1"), "SELECT pg_catalog.lo_create(0)")
	t.Cleanup(func() { execLate(t, withDatabase(t, admin, "template1"), "DROP OWNED BY "+quote(p.Role)) })
	h := hold(t, s, "acme")
	err := h.Drop(t.Context(), p)
	must(t, h.Close())
	if err == nil || !strings.Contains(err.Error(), "in database template1: DROP OWNED BY "+quote(p.Role)) {
		t.Errorf("drop: %v", err)
	}
	if _, err := connect(t, withDatabase(t, uri.Reveal(), "template1")); err == nil {
		t.Error("whose tenant is gone still comes in where PUBLIC does")
	}
}
