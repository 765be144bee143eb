package provision

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/jobs"
)

// Rows of sys_jobs that somebody inserted by hand are run: one makes a tenant, another one cannot and says why.
func TestRowsOfJobsMakeTenants(t *testing.T) {
	on(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		must(t, r.host.PricingPlans.Insert(ctx, &catalog.PricingPlan{ID: "pro", TrialDays: new(int64(14))}))
		insert := func(id catalog.JobID, jobType, payload string) {
			must(t, r.host.Jobs.Insert(ctx, &catalog.SystemJob{ID: id, JobType: &jobType, Status: new("pending"), Payload: &payload}))
		}
		insert("j1", Job, `{"tenant_id": "acme", "name": "Acme", "plan_tier": "pro"}`)
		insert("j2", Job, `{"tenant_id": "lost", "owner": "nobody"}`)
		insert("j3", Job, `{"tenant_id": 7}`)
		insert("j4", Job, `{}`)
		insert("j5", Job, `{"tenant_id": "a\u0000b"}`)
		insert("j6", Job, `{"tenant_id": "`+strings.Repeat("long", 64)+`"}`)
		insert("j7", Job, `{"tenant_id": "named", "name": "a\u0000b"}`)
		insert("foreign", "provision_tenant", `{"tenant_id": "acme"}`)
		e := jobs.New(jobs.Config{Poll: 20 * time.Millisecond}, jobs.Deps{Host: r.host})
		e.Handle(Job, Kind(func(use func(*Provisioner) error) error { return use(r.Provisioner) }))
		e.Handle(TrialEndJob, TrialEndKind(r.host, func() string { return "free" }))
		must(t, e.Start())
		defer func() { must(t, e.Close()) }()
		within, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		must(t, e.Wait(within, "j1"))
		for id, says := range map[catalog.JobID]string{
			"j2": "owner nobody", "j3": "payload", "j4": "needs an id", "j5": "without NUL", "j6": "at most 255 bytes", "j7": "without NUL",
		} {
			if err := e.Wait(within, id); err == nil || !strings.Contains(err.Error(), says) || len(err.Error()) > 250 {
				t.Errorf("job %s: %v", id, err)
			}
			if runs, err := r.host.JobRuns(ctx, id); err != nil || runs[id].Attempt == nil || *runs[id].Attempt != 1 {
				t.Errorf("job %s was tried again: %+v, %v", id, runs[id], err)
			}
		}
		r.ready(t, "acme")
		job, err := r.host.Jobs.Get(ctx, "foreign")
		must(t, err)
		if *job.Status != "pending" {
			t.Errorf("another program's job is %s", *job.Status)
		}
		ends, _, err := r.host.Jobs.List(ctx, catalog.Page{Filter: map[string]string{"job_type": TrialEndJob}})
		must(t, err)
		if len(ends) != 1 || *ends[0].Status != "pending" || r.plan(t, "acme") != "pro" {
			t.Fatalf("jobs that end trials: %+v", ends)
		}
	})
}

func TestATrialsJobRunsAtItsEnd(t *testing.T) {
	on(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		must(t, r.host.PricingPlans.Insert(ctx, &catalog.PricingPlan{ID: "pro", TrialDays: new(int64(14))}))
		must(t, r.Run(ctx, Spec{Tenant: "acme", PlanTier: "pro"}, nil))
		ends, _, err := r.host.Jobs.List(ctx, catalog.Page{Filter: map[string]string{"job_type": TrialEndJob}})
		must(t, err)
		r.now = r.now.AddDate(0, 0, 14)
		e := jobs.New(jobs.Config{Poll: 20 * time.Millisecond}, jobs.Deps{Host: r.host})
		e.Handle(TrialEndJob, TrialEndKind(r.host, func() string { return "free" }))
		must(t, e.Start())
		defer func() { must(t, e.Close()) }()
		within, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		must(t, e.Wait(within, ends[0].ID))
		if r.plan(t, "acme") != "free" || text(r.subscription(t, "acme").Status) != "canceled" {
			t.Errorf("plan %s, %+v", r.plan(t, "acme"), r.subscription(t, "acme"))
		}
	})
}

// Whoever may insert rows into sys_jobs makes tenants, and gets into none that is there.
func TestAJobOpensNoTenantThatIsThere(t *testing.T) {
	on(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		for _, id := range []catalog.UserID{"ada", "eve"} {
			must(t, r.host.GlobalUsers.Insert(ctx, &catalog.GlobalUser{ID: id}))
		}
		e := jobs.New(jobs.Config{}, jobs.Deps{Host: r.host})
		e.Handle(Job, Kind(func(use func(*Provisioner) error) error { return use(r.Provisioner) }))
		defer func() { must(t, e.Close()) }()
		ask := func(id catalog.JobID, payload string) error {
			must(t, r.host.Jobs.Insert(ctx, &catalog.SystemJob{ID: id, JobType: new(Job), Status: new("pending"), Payload: &payload}))
			return e.RunNow(ctx, id)
		}
		state := func(tenant catalog.TenantID) (active bool, members int) {
			row, err := r.host.Tenants.Get(ctx, tenant)
			must(t, err)
			found, _, err := r.host.Memberships.List(ctx, catalog.Page{Filter: map[string]string{"tenant_id": string(tenant)}})
			must(t, err)
			return row.IsActive != nil && *row.IsActive, len(found)
		}
		// A tenant of which provisioning knows nothing, suspended and without a plan.
		must(t, r.host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "old", Name: new("Old"), IsActive: new(false)}))
		if err := ask("j1", `{"tenant_id": "old", "owner": "eve", "plan_tier": "free"}`); !errors.Is(err, ErrRefused) {
			t.Errorf("a tenant of others: %v", err)
		}
		// One that is finished, suspended since, and has lost its db_url.
		must(t, ask("j2", `{"tenant_id": "acme", "owner": "ada"}`))
		must(t, ask("j3", `{"tenant_id": "acme", "owner": "eve"}`)) // has nothing to do
		_, err := r.host.Tenants.Change(ctx, "acme", func(row *catalog.TenantCatalog) error {
			row.IsActive, row.DBURL = new(false), catalog.DBURI{}
			return nil
		})
		must(t, err)
		if err := ask("j4", `{"tenant_id": "acme", "owner": "eve"}`); !errors.Is(err, ErrRefused) {
			t.Errorf("one without db_url: %v", err)
		}
		must(t, r.Run(ctx, Spec{Tenant: "acme"}, nil)) // the operator mends it, and it stays suspended
		// One that is not finished.
		stop := errors.New("stop")
		func() {
			defer func() { _ = recover() }()
			_ = r.Run(ctx, Spec{Tenant: "half", Owner: "ada"}, func(e Event) {
				if e.Step == Database {
					panic(stop)
				}
			})
		}()
		if err := ask("j5", `{"tenant_id": "half", "owner": "eve"}`); !errors.Is(err, ErrRefused) {
			t.Errorf("one that is not finished: %v", err)
		}
		must(t, r.Run(ctx, Spec{Tenant: "half"}, nil)) // as the doctor says
		for tenant, want := range map[catalog.TenantID]string{"old": "false 0", "acme": "false 1", "half": "true 1"} {
			if active, members := state(tenant); fmt.Sprint(active, members) != want {
				t.Errorf("tenant %s: active %v, %d members; want %s", tenant, active, members, want)
			}
		}
		found, _, err := r.host.Memberships.List(ctx, catalog.Page{Filter: map[string]string{"user_id": "eve"}})
		if err != nil || len(found) > 0 {
			t.Errorf("eve is a member: %+v %v", found, err)
		}
	})
}

// A tenant that is given the id of an earlier one, whose row another program removed, gets nothing of that one's.
func TestANewTenantOfAnOldIDGetsNoOldDatabase(t *testing.T) {
	on(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		for _, tenant := range []catalog.TenantID{"acme", "globex"} {
			must(t, r.Run(ctx, Spec{Tenant: tenant}, nil))
			must(t, r.host.Tenants.Delete(ctx, tenant))
		}
		r.now = r.now.Add(time.Minute)
		must(t, r.host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "globex"}))
		for _, tenant := range []catalog.TenantID{"acme", "globex"} {
			if err := r.Run(ctx, Spec{Tenant: tenant, Name: "Another"}, nil); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "earlier tenant") {
				t.Errorf("%s: %v", tenant, err)
			}
		}
		if row, err := r.host.Tenants.Get(ctx, "globex"); err != nil || !row.DBURL.IsZero() {
			t.Errorf("globex: %+v %v", row, err)
		}
		if _, err := r.host.Tenants.Get(ctx, "acme"); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("acme: %v", err)
		}
	})
}
