package tenantdb

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/secret"
)

func TestADatabaseIsMadeAdoptedMigratedAndDropped(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s Server) {
		ctx := t.Context()
		p, password := s.NewPlace("acme"), NewPassword()
		h := hold(t, s, "acme")
		for range 2 { // the second time it is adopted
			must(t, h.EnsureRole(ctx, p, password))
			must(t, h.EnsureDatabase(ctx, p))
		}
		uri := s.URI(p, password)
		must(t, Ping(ctx, uri))
		m, err := LoadMigrations(migrationFiles(t, map[string]string{
			"00001_notes.sql": "-- +goose Up\nCREATE TABLE notes (id int PRIMARY KEY);\n",
			"00003_more.sql":  "-- +goose Up\nINSERT INTO notes VALUES (7);\n",
		}))
		must(t, err)
		done, err := m.Up(ctx, uri)
		if err != nil || done != (Migrated{From: 0, To: 3, Applied: 2}) {
			t.Fatalf("migrated %+v: %v", done, err)
		}
		if done, err = m.Up(ctx, uri); err != nil || done != (Migrated{From: 3, To: 3}) {
			t.Fatalf("migrated again %+v: %v", done, err)
		}
		if v, err := m.Version(ctx, uri); err != nil || v != 3 || m.Target() != 3 {
			t.Fatalf("version %d: %v", v, err)
		}
		p.Made = true
		must(t, h.EnsureDatabase(ctx, p)) // with rows in it by now
		found, err := s.List(ctx)
		must(t, err)
		n := 0
		for _, o := range found {
			if o.Database == p.Database {
				n++
				if !o.AllowConnections || len(o.PublicRights)+len(o.RoleRights) > 0 || o.Role != p.Role || o.Owner != p.Role {
					t.Errorf("found %+v", o)
				}
			}
		}
		if n != 1 {
			t.Errorf("found %d times in %+v", n, found)
		}
		for range 2 {
			must(t, h.Drop(ctx, p))
		}
		must(t, h.Close())
		must(t, h.Close())
		if left, err := s.Look(ctx, []string{p.Database}); err != nil || len(left) > 0 {
			t.Errorf("left over: %v, %v", left, err)
		}
		if found, err = s.List(ctx); err != nil || len(found) > 0 && s.Engine() == catalog.EngineSQLite {
			t.Errorf("left over: %v, %v", found, err)
		}
		h = hold(t, s, "acme")
		if err := h.EnsureDatabase(ctx, p); !errors.Is(err, ErrGone) {
			t.Errorf("made a second time: %v", err)
		}
		must(t, h.Close())
		if d, ok := s.(*directory); ok {
			if entries, err := os.ReadDir(d.dir); err != nil || len(entries) > 0 {
				t.Errorf("left in the directory: %v, %v", entries, err)
			}
		}
	})
}

func TestOneHasATenantAtATime(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s Server) {
		first := hold(t, s, "acme")
		other := hold(t, s, "other")
		must(t, other.Close())
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		if _, err := s.Hold(ctx, "acme"); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrUnavailable) {
			t.Errorf("a second one got the tenant: %v", err)
		}
		got := make(chan error, 1)
		go func() {
			h, err := s.Hold(t.Context(), "acme")
			if err == nil {
				err = h.Close()
			}
			got <- err
		}()
		must(t, first.Close())
		must(t, <-got)
	})
}

func TestWhatIsNotOursIsRefused(t *testing.T) {
	t.Run("postgresql", func(t *testing.T) {
		admin := pgtest.New(t)
		s := newServer(t, admin)
		ctx := t.Context()
		p := s.NewPlace("acme")
		h := hold(t, s, "acme")
		defer h.Close()
		drop := func(sql string) { t.Cleanup(func() { execLate(t, admin, sql) }) }

		exec(t, admin, "CREATE ROLE "+p.Role+" LOGIN PASSWORD 'theirs'")
		drop("DROP ROLE IF EXISTS " + p.Role)
		if err := h.EnsureRole(ctx, p, NewPassword()); !errors.Is(err, ErrForeign) {
			t.Errorf("a foreign role: %v", err)
		}
		if err := h.Drop(ctx, p); !errors.Is(err, ErrForeign) {
			t.Errorf("a foreign role dropped: %v", err)
		}
		exec(t, admin, "COMMENT ON ROLE "+p.Role+" IS 'tenantgate:ffffffffffffffffffffffffffffffff:"+p.Mark+"'")
		if err := h.EnsureRole(ctx, p, NewPassword()); !errors.Is(err, ErrForeign) {
			t.Errorf("another installation's role: %v", err)
		}
		exec(t, admin, "DROP ROLE "+p.Role)

		must(t, h.EnsureRole(ctx, p, NewPassword()))
		exec(t, admin, "CREATE DATABASE "+p.Database)
		drop("DROP DATABASE IF EXISTS " + p.Database)
		if err := h.EnsureDatabase(ctx, p); !errors.Is(err, ErrForeign) {
			t.Errorf("a foreign database: %v", err)
		}
		if err := h.Drop(ctx, p); !errors.Is(err, ErrForeign) {
			t.Errorf("a foreign database dropped: %v", err)
		}
		exec(t, admin, "DROP DATABASE "+p.Database)
		for _, right := range []string{"SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS"} {
			exec(t, admin, "ALTER ROLE "+p.Role+" "+right)
			if err := h.EnsureRole(ctx, p, NewPassword()); err == nil || !strings.Contains(err.Error(), right) {
				t.Errorf("a role with %s was adopted: %v", right, err)
			}
			exec(t, admin, "ALTER ROLE "+p.Role+" NO"+right)
		}
		exec(t, admin, "GRANT pg_read_all_data TO "+p.Role)
		if err := h.EnsureRole(ctx, p, NewPassword()); err == nil || !strings.Contains(err.Error(), "pg_read_all_data") {
			t.Errorf("a role that reads everything was adopted: %v", err)
		}
		must(t, h.Drop(ctx, p))
		if err := h.EnsureRole(ctx, p, secret.Text{}); !errors.Is(err, ErrGone) {
			t.Errorf("a role whose password stands in db_url was made anew: %v", err)
		}
	})
	t.Run("sqlite", func(t *testing.T) {
		dir := t.TempDir()
		s := newServer(t, "sqlite:"+dir)
		p := s.NewPlace("acme")
		h := hold(t, s, "acme")
		defer h.Close()
		path := dir + "/" + p.Database
		must(t, os.WriteFile(path, []byte("SQLite format 3\x00"), 0o600))
		if err := h.EnsureDatabase(t.Context(), p); !errors.Is(err, ErrForeign) {
			t.Errorf("a file with content: %v", err)
		}
		must(t, os.Remove(path))
		must(t, os.Symlink(dir+"/elsewhere.db", path))
		if err := h.EnsureDatabase(t.Context(), p); !errors.Is(err, ErrForeign) {
			t.Errorf("a link: %v", err)
		}
		if err := h.Drop(t.Context(), p); !errors.Is(err, ErrForeign) {
			t.Errorf("a link dropped: %v", err)
		}
		if _, err := os.Stat(dir + "/elsewhere.db"); err == nil {
			t.Error("a link was followed")
		}
		must(t, h.Drop(t.Context(), s.NewPlace("absent")))
		for _, name := range []string{"../tg_x.db", "customers.db"} {
			if err := h.Drop(t.Context(), Place{Database: name}); !errors.Is(err, ErrForeign) {
				t.Errorf("%s dropped: %v", name, err)
			}
		}
		must(t, os.Chmod(dir, 0o777))
		if _, err := s.Hold(t.Context(), "b"); !errors.Is(err, ErrDenied) {
			t.Errorf("a directory that everybody writes to: %v", err)
		}
	})
}
