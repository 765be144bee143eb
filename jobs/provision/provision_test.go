package provision

import (
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
	"github.com/tenantgate/tenantgate/sealing"
)

func TestATenantComesIntoBeingStepByStep(t *testing.T) {
	on(t, func(t *testing.T, r *rig) {
		ctx := catalog.WithActor(t.Context(), catalog.Actor{ID: "cli:ada@host"})
		must(t, r.host.GlobalUsers.Insert(ctx, &catalog.GlobalUser{ID: "u1", Email: new("ada@example.com")}))
		var done []Step
		spec := Spec{Tenant: "acme", Name: "Acme", PlanTier: "pro", Owner: "u1"}
		must(t, r.Run(ctx, spec, func(e Event) {
			if e.Done {
				done = append(done, e.Step)
			}
			row, err := r.host.Tenants.Get(t.Context(), "acme")
			active := err == nil && row.IsActive != nil && *row.IsActive
			if active != (e.Step == Ready && e.Done) {
				t.Errorf("after %v: active %v", e, active)
			}
		}))
		if !slices.Equal(done, Steps()) {
			t.Errorf("steps %v", done)
		}
		r.ready(t, "acme")
		row, err := r.host.Tenants.Get(ctx, "acme")
		must(t, err)
		if *row.Name != "Acme" || *row.PlanTier != "pro" || sealing.FormOf(row.DBURL) != sealing.Sealed {
			t.Errorf("row %+v", row)
		}
		members, _, err := r.host.Memberships.List(ctx, catalog.Page{})
		must(t, err)
		if len(members) != 1 || members[0].UserID != "u1" || members[0].TenantID != "acme" || *members[0].Role != "owner" || !*members[0].IsActive {
			t.Errorf("members %+v", members)
		}
		events := r.events(t, "acme")
		if !slices.Contains(events, "tenant.created") || !slices.Contains(events, "tenant.provisioned") {
			t.Errorf("events %v", events)
		}
		if n := len(slices.DeleteFunc(slices.Clone(events), func(e string) bool { return !strings.HasPrefix(e, "tenant_database.") })); n != len(Steps()) {
			t.Errorf("%d steps are on record in %v", n, events)
		}
		was, uri := len(events), r.uri(t, "acme")
		must(t, r.Run(ctx, spec, nil)) // nothing is left to do
		if again := r.events(t, "acme"); len(again) != was || r.uri(t, "acme") != uri {
			t.Errorf("run again it changed something: %v", again[was:])
		}
	}, "mixed")
}

func TestPlainURIsForProgramsThatReadThemBesideUs(t *testing.T) {
	r := newRig(t, "postgresql", func(c *Config) { c.Plain = true })
	must(t, r.Run(t.Context(), Spec{Tenant: "acme"}, nil))
	row, err := r.host.Tenants.Get(t.Context(), "acme")
	must(t, err)
	if sealing.FormOf(row.DBURL) != sealing.Plain || sealing.CheckURI(row.DBURL.Reveal()) != nil {
		t.Errorf("db_url %s", row.DBURL)
	}
	conn, err := connect(t, row.DBURL.Reveal())
	must(t, err)
	var body string
	must(t, conn.QueryRow(t.Context(), "SELECT body FROM notes").Scan(&body))
	if *row.PlanTier != "free" || body != "welcome" {
		t.Errorf("%+v, %q", row, body)
	}
}

// Wherever an earlier run was cut off, the next one ends in the same state.
func TestWhatWasBegunIsAdopted(t *testing.T) {
	on(t, func(t *testing.T, r *rig) {
		for i, last := range Steps() {
			tenant := catalog.TenantID("t-" + string(last))
			for _, doing := range []bool{false, true} { // before and after the step's own work
				stop := errors.New("stopped")
				func() {
					defer func() { _ = recover() }()
					_ = r.Run(t.Context(), Spec{Tenant: tenant, Name: "T"}, func(e Event) {
						if e.Step == last && e.Done == doing {
							panic(stop)
						}
					})
				}()
			}
			must(t, r.Run(t.Context(), Spec{Tenant: tenant, Name: "T"}, nil))
			r.ready(t, tenant)
			records, _, err := r.host.TenantDatabases.List(t.Context(), catalog.Page{})
			must(t, err)
			if len(records) != i+1 {
				t.Fatalf("%d records for %d tenants", len(records), i+1)
			}
		}
	})
}

func TestTwoRunsForOneTenantMakeOne(t *testing.T) {
	on(t, func(t *testing.T, r *rig) {
		must(t, r.host.GlobalUsers.Insert(t.Context(), &catalog.GlobalUser{ID: "u1"}))
		must(t, r.host.PricingPlans.Insert(t.Context(), &catalog.PricingPlan{ID: "pro"}))
		var wg sync.WaitGroup
		errs := make([]error, 6)
		for i := range errs {
			wg.Go(func() {
				tenant := catalog.TenantID("acme")
				if i >= 4 { // and others beside them
					tenant = catalog.TenantID("t" + string(rune('0'+i)))
				}
				errs[i] = r.Run(t.Context(), Spec{Tenant: tenant, Name: "A", PlanTier: "pro", Owner: "u1"}, nil)
			})
		}
		wg.Wait()
		must(t, errors.Join(errs...))
		for _, tenant := range []catalog.TenantID{"acme", "t4", "t5"} {
			r.ready(t, tenant)
			provisioned := 0
			for _, e := range r.events(t, string(tenant)) {
				if e == "tenant.provisioned" {
					provisioned++
				}
			}
			subs, _, err := r.host.Subscriptions.List(t.Context(), catalog.Page{Filter: map[string]string{"tenant_id": string(tenant)}})
			must(t, err)
			members, _, err := r.host.Memberships.List(t.Context(), catalog.Page{Filter: map[string]string{"tenant_id": string(tenant)}})
			must(t, err)
			if provisioned != 1 || len(subs) != 1 || len(members) != 1 {
				t.Errorf("%s: provisioned %d times, %d subscriptions, %d members", tenant, provisioned, len(subs), len(members))
			}
		}
	})
}

func TestStrangeIDsEachHaveADatabaseOfTheirOwn(t *testing.T) {
	on(t, func(t *testing.T, r *rig) {
		ids := []catalog.TenantID{
			"with-dashes", "UPPER", "upper", `quo"te'`, "spa ce", catalog.TenantID(strings.Repeat("x", 63)), catalog.TenantID(strings.Repeat("x", 64)),
			catalog.TenantID(strings.Repeat("x", 63) + "y"), "日本語", "postgres", "template1", "a.b", "a_b", "a-b", `x"; DROP DATABASE postgres; --`, "../up", "%00", "pg_x", "$$",
		}
		names := map[string]bool{}
		for _, id := range ids {
			if err := r.Run(t.Context(), Spec{Tenant: id, Name: "N"}, nil); err != nil {
				t.Fatalf("%q: %v", id, err)
			}
			r.ready(t, id)
			record, err := r.host.TenantDatabases.Get(t.Context(), id)
			must(t, err)
			names[record.DatabaseName] = true
		}
		if len(names) != len(ids) {
			t.Errorf("%d databases for %d tenants", len(names), len(ids))
		}
	})
}

func TestWhatCannotBeIsRefusedAndSaysWhy(t *testing.T) {
	on(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		must(t, r.host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "moved", DBURL: catalog.NewDBURI("postgresql://u:C4nary@db/moved")}))
		must(t, r.host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "sealed", DBURL: catalog.NewDBURI("enc:v1:0011223344556677:C4nary")}))
		must(t, r.host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "named", Name: new("Another")}))
		must(t, r.host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "gone"}))
		_, err := r.host.DeleteTenant(ctx, "gone", 1<<40)
		must(t, err)
		must(t, r.host.Domains.Insert(ctx, &catalog.Domain{Host: "slug", TenantID: "named"}))
		for _, tc := range []struct {
			spec Spec
			says string
		}{
			{Spec{}, "needs an id"},
			{Spec{Tenant: "moved"}, "db_url that provisioning did not make"},
			{Spec{Tenant: "sealed"}, "does not open"},
			{Spec{Tenant: "named", Name: "Mine"}, "another name"},
			{Spec{Tenant: "named", PlanTier: "pro"}, "another plan_tier"},
			{Spec{Tenant: "gone"}, "tenant restore"},
			{Spec{Tenant: "slug"}, "choose another id"},
			{Spec{Tenant: "new", Owner: "nobody"}, "owner nobody"},
		} {
			err := r.Run(ctx, tc.spec, nil)
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "C4nary") {
				t.Errorf("%+v: %v", tc.spec, err)
			}
		}
		records, _, err := r.host.TenantDatabases.List(ctx, catalog.Page{})
		must(t, err)
		if len(records) > 0 {
			t.Errorf("records of what was refused: %+v", records)
		}
		if _, err := r.host.Tenants.Get(ctx, "new"); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("the row of what was refused: %v", err)
		}
	})
}

// A row that somebody made, without a db_url, gets its database; what it has of its own stays.
func TestARowThatIsThereIsAdopted(t *testing.T) {
	on(t, func(t *testing.T, r *rig) {
		must(t, r.host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: "acme", Name: new("Theirs"), PlanTier: new("gold"), IsActive: new(false)}))
		must(t, r.Run(t.Context(), Spec{Tenant: "acme"}, nil))
		r.ready(t, "acme")
		row, err := r.host.Tenants.Get(t.Context(), "acme")
		must(t, err)
		if *row.Name != "Theirs" || *row.PlanTier != "gold" {
			t.Errorf("row %+v", row)
		}
		row.IsActive = new(false)
		must(t, r.host.Tenants.Update(t.Context(), row)) // suspended by its operator
		must(t, r.Run(t.Context(), Spec{Tenant: "acme"}, nil))
		if row, err = r.host.Tenants.Get(t.Context(), "acme"); err != nil || *row.IsActive {
			t.Errorf("a suspended tenant was woken: %v", err)
		}
	})
}

func TestABrokenMigrationLeavesATenantThatIsNotActive(t *testing.T) {
	on(t, func(t *testing.T, r *rig) {
		bad := migrations(t, map[string]string{"00003_bad.sql": "-- +goose Up\nCREATE TABLE half (id int);\nINSERT INTO absent VALUES (1);\n"})
		good := r.migrations
		var err error
		r.migrations, err = tenantdb.LoadMigrations(bad)
		must(t, err)
		err = r.Run(t.Context(), Spec{Tenant: "acme"}, nil)
		if !errors.Is(err, tenantdb.ErrMigration) || !strings.Contains(err.Error(), "00003_bad.sql") {
			t.Fatalf("a broken migration: %v", err)
		}
		record, err := r.host.TenantDatabases.Get(t.Context(), "acme")
		must(t, err)
		row, err := r.host.Tenants.Get(t.Context(), "acme")
		must(t, err)
		if Step(record.Step) != Database || record.Problem == nil || !strings.Contains(*record.Problem, "00003_bad.sql") || *row.IsActive || !row.DBURL.IsZero() {
			t.Errorf("record %+v, row %+v", record, row)
		}
		must(t, os.WriteFile(bad+"/00003_bad.sql", []byte("-- +goose Up\nCREATE TABLE whole (id int);\n"), 0o600))
		must(t, r.Run(t.Context(), Spec{Tenant: "acme"}, nil))
		r.ready(t, "acme")
		r.migrations = good
	})
}

// The record says that the database was made: an empty one in its place would look like a tenant that lost everything.
func TestADatabaseThatIsGoneIsNotMadeAgain(t *testing.T) {
	on(t, func(t *testing.T, r *rig) {
		must(t, r.Run(t.Context(), Spec{Tenant: "acme"}, nil))
		r.dropAll(t)
		if err := r.Run(t.Context(), Spec{Tenant: "acme"}, nil); err == nil || !strings.Contains(err.Error(), "doctor") {
			t.Errorf("with db_url: %v", err)
		}
		_, err := r.host.Tenants.Change(t.Context(), "acme", func(row *catalog.TenantCatalog) error {
			row.DBURL = catalog.DBURI{}
			return nil
		})
		must(t, err)
		if err := r.Run(t.Context(), Spec{Tenant: "acme"}, nil); !errors.Is(err, tenantdb.ErrGone) {
			t.Errorf("without db_url: %v", err)
		}
	})
}

// Show 2: tried with the tenants' own URIs, on a server of the test's own.
func TestTenantsAndHostAreClosedToEachOther(t *testing.T) {
	server := pgtest.NewServer(t)
	host, theirs := server.URL(t), server.URL(t)
	exec(t, host, "CREATE ROLE fhsaas LOGIN PASSWORD 'theirs'")
	r := rigOn(t, host, server.URL(t), nil)
	must(t, r.host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: "old", DBURL: catalog.NewDBURI(theirs)}))
	for _, tenant := range []catalog.TenantID{"a", "b"} {
		must(t, r.Run(t.Context(), Spec{Tenant: tenant}, nil))
	}
	a, b := r.uri(t, "a").Reveal(), r.uri(t, "b").Reveal()
	for what, database := range map[string]string{
		"the host's": tenantdb.Database(catalog.NewDBURI(host)), "the tenant's that was there": tenantdb.Database(catalog.NewDBURI(theirs)),
		"another tenant's": tenantdb.Database(catalog.NewDBURI(b)),
	} {
		_, err := connect(t, withDatabase(t, a, database))
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "42501" {
			t.Errorf("%s database lets a tenant's role in: %v", what, err)
		}
	}
	app := strings.Replace(host, strings.SplitN(strings.SplitN(host, "//", 2)[1], "@", 2)[0], "fhsaas:theirs", 1)
	conn, err := connect(t, app)
	must(t, err)
	must(t, conn.Ping(t.Context()))
	exec(t, b, "INSERT INTO notes VALUES (2, 'b alone')")
}

func TestAStrangersServerKeepsItsRights(t *testing.T) {
	r := newRig(t, "mixed", nil)
	elsewhere := pgtest.NewServer(t).URL(t)
	must(t, r.host.Tenants.Insert(t.Context(), &catalog.TenantCatalog{ID: "far", DBURL: catalog.NewDBURI(elsewhere)}))
	must(t, r.Run(t.Context(), Spec{Tenant: "a"}, nil))
	conn, err := connect(t, elsewhere)
	must(t, err)
	var open bool
	must(t, conn.QueryRow(t.Context(), "SELECT datacl IS NULL FROM pg_database WHERE datname = current_database()").Scan(&open))
	if !open {
		t.Error("rights on another server were changed")
	}
}
