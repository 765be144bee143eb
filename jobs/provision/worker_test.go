package provision

import (
	"context"
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
		insert("foreign", "provision_tenant", `{"tenant_id": "acme"}`)
		e := jobs.New(jobs.Config{Poll: 20 * time.Millisecond}, jobs.Deps{Host: r.host})
		e.Handle(Job, Kind(func(use func(*Provisioner) error) error { return use(r.Provisioner) }))
		e.Handle(TrialEndJob, TrialEndKind(r.host, func() string { return "free" }))
		must(t, e.Start())
		defer func() { must(t, e.Close()) }()
		within, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		must(t, e.Wait(within, "j1"))
		for id, says := range map[catalog.JobID]string{"j2": "owner nobody", "j3": "payload", "j4": "needs an id"} {
			if err := e.Wait(within, id); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("job %s: %v", id, err)
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
		within, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		must(t, e.Wait(within, ends[0].ID))
		if r.plan(t, "acme") != "free" || text(r.subscription(t, "acme").Status) != "canceled" {
			t.Errorf("plan %s, %+v", r.plan(t, "acme"), r.subscription(t, "acme"))
		}
	})
}
