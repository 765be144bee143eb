package provision

import (
	"errors"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/jobs"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
)

// A database that a tenant is given after the last provisioning is closed by the job; one that the administrator may not
// close is told of with the statement, and keeps no other open.
func TestADatabaseThatCameLaterIsClosedByTheJob(t *testing.T) {
	server := pgtest.NewServer(t)
	super := server.URL(t)
	for _, sql := range []string{"CREATE ROLE admin LOGIN CREATEROLE CREATEDB PASSWORD 'pass'", "CREATE DATABASE late OWNER admin", "CREATE DATABASE locked", "CREATE DATABASE nobodys"} {
		exec(t, super, sql)
	}
	u, err := url.Parse(super)
	must(t, err)
	u.User = url.UserPassword("admin", "pass")
	r := rigOn(t, "sqlite:"+filepath.Join(t.TempDir(), "host.db"), u.String(), nil)
	ctx := t.Context()
	enters := func(database string) bool {
		_, err := connect(t, withDatabase(t, r.uri(t, "a").Reveal(), database))
		if pg, ok := errors.AsType[*pgconn.PgError](err); err != nil && (!ok || pg.Code != "42501") {
			t.Fatal(err)
		}
		return err == nil
	}
	var refused []string
	e := jobs.New(jobs.Config{}, jobs.Deps{Host: r.host})
	e.Handle(CloseType, CloseKind(func(use func(*Provisioner) error) error { return use(r.Provisioner) }, func(err error) { refused = append(refused, err.Error()) }))
	defer func() { must(t, e.Close()) }()
	work := func() {
		t.Helper()
		var id catalog.JobID
		must(t, r.host.InTx(ctx, func(tx *catalog.Tx) error { return EnqueueClosing(ctx, tx) }))
		waiting, _, err := r.host.Jobs.List(ctx, catalog.Page{Filter: map[string]string{"job_type": CloseType, "status": "pending"}})
		must(t, err)
		for _, job := range waiting {
			id = job.ID
			must(t, e.RunNow(ctx, id))
		}
		if begun := len(r.events(t, "a")) > 0; (len(waiting) == 1) != begun {
			t.Errorf("%d jobs, a tenant was provisioned: %v", len(waiting), begun)
		}
	}
	work() // nobody is to be kept out
	must(t, r.Run(ctx, Spec{Tenant: "a"}, nil))
	for _, database := range []string{"late", "locked"} {
		must(t, r.host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: catalog.TenantID(database), DBURL: catalog.NewDBURI(withDatabase(t, u.String(), database))}))
		if !enters(database) {
			t.Fatalf("%s is closed already: nothing is shown", database)
		}
	}
	work()
	if enters("late") || !enters("locked") || !enters("nobodys") {
		t.Errorf("late %v, locked %v, nobody's %v", enters("late"), enters("locked"), enters("nobodys"))
	}
	if len(refused) != 1 || !strings.Contains(refused[0], `REVOKE CONNECT ON DATABASE "locked" FROM PUBLIC`) {
		t.Errorf("refused: %q", refused)
	}
	if events := r.events(t, "late"); !slices.Contains(events, "database.closed_to_public") { // rows of one moment have no order
		t.Errorf("on record: %v", events)
	}
	work() // again: nothing is left to do but what is refused
	if n := len(r.events(t, "late")); n != 2 || len(refused) != 2 {
		t.Errorf("%d rows of database late, refused %q", n, refused)
	}
	if tenantdb.Database(r.uri(t, "a")) == "" || enters("late") {
		t.Error("the tenant lost its own database, or won another's")
	}
}

// Where no server is set there is nothing to close, and nothing fails.
func TestWithoutAServerThereIsNothingToClose(t *testing.T) {
	none := func(func(*Provisioner) error) error { return ErrRefused }
	must(t, CloseKind(none, nil).Work(t.Context(), nil))
	broken := errors.New("broken")
	if err := CloseKind(func(func(*Provisioner) error) error { return broken }, nil).Work(t.Context(), nil); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// A tenant owns its database. That it opens it to everybody, and keeps others from closing it, is no other tenant's business.
func TestATenantThatKeepsItsDatabaseOpenStopsNoProvisioning(t *testing.T) {
	server := pgtest.NewServer(t)
	r := rigOn(t, server.URL(t), server.URL(t), nil)
	must(t, r.Run(t.Context(), Spec{Tenant: "spite"}, nil))
	uri := r.uri(t, "spite").Reveal()
	name := tenantdb.Database(catalog.NewDBURI(uri))
	exec(t, uri, "GRANT CONNECT ON DATABASE "+name+" TO PUBLIC")
	spite, err := connect(t, uri)
	must(t, err)
	for _, sql := range []string{"BEGIN", "GRANT TEMPORARY ON DATABASE " + name + " TO PUBLIC"} {
		_, err := spite.Exec(t.Context(), sql)
		must(t, err)
	}
	must(t, r.Run(t.Context(), Spec{Tenant: "b"}, nil))
	must(t, tenantdb.Ping(t.Context(), r.uri(t, "b")))
	var told []string
	must(t, r.CloseToPublic(t.Context(), func(err error) { told = append(told, err.Error()) }))
	if len(told) != 1 || !strings.Contains(told[0], name) {
		t.Errorf("told: %q", told)
	}
	must(t, spite.Close(t.Context()))
	must(t, r.CloseToPublic(t.Context(), func(err error) { t.Error(err) }))
	if _, err := connect(t, withDatabase(t, r.uri(t, "b").Reveal(), name)); err == nil {
		t.Error("another tenant's role still enters it")
	}
}
