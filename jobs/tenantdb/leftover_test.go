package tenantdb

import (
	"errors"
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
