package provision

import (
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

func (r *rig) subscription(t testing.TB, tenant catalog.TenantID) *catalog.Subscription {
	t.Helper()
	subs, _, err := r.host.Subscriptions.List(t.Context(), catalog.Page{Filter: map[string]string{"tenant_id": string(tenant)}})
	must(t, err)
	if len(subs) == 0 {
		return nil
	}
	return &subs[0]
}

func (r *rig) plan(t testing.TB, tenant catalog.TenantID) string {
	t.Helper()
	row, err := r.host.Tenants.Get(t.Context(), tenant)
	must(t, err)
	return text(row.PlanTier)
}

func TestATrialBeginsWithThePlanAndEndsByAJob(t *testing.T) {
	on(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		r.cfg.PlanAliases, r.cfg.ExemptPlans = map[string]string{"gold": "pro"}, []string{"house"}
		for id, days := range map[catalog.PlanID]*int64{"pro": new(int64(14)), "flat": new(int64(0)), "house": new(int64(9)), "ever": new(int64(1 << 30))} {
			must(t, r.host.PricingPlans.Insert(ctx, &catalog.PricingPlan{ID: id, Name: new("The plan"), TrialDays: days}))
		}
		for tenant, plan := range map[catalog.TenantID]string{"a": "pro", "b": "flat", "c": "house", "d": "absent", "e": "gold", "f": "ever"} {
			must(t, r.Run(ctx, Spec{Tenant: tenant, PlanTier: plan}, nil))
			has := r.subscription(t, tenant)
			if wants := plan == "pro" || plan == "gold" || plan == "ever"; wants != (has != nil) {
				t.Errorf("plan %s: subscription %+v", plan, has)
			}
		}
		sub := r.subscription(t, "a")
		if text(sub.Status) != "trialing" || text(sub.TrialEnd) != "2026-06-15T12:00:00" || text(sub.CurrentPeriodEnd) != text(sub.TrialEnd) ||
			sub.StripeSubID != nil || text(sub.PaymentType) != "subscription" || text(sub.PlanTier) != "pro" || text(sub.CreatedAt) != "2026-06-01T12:00:00" {
			t.Errorf("trial %+v", sub)
		}
		queued, _, err := r.host.Jobs.List(ctx, catalog.Page{Filter: map[string]string{"job_type": TrialEndJob}})
		must(t, err)
		if len(queued) != 3 {
			t.Errorf("%d jobs for 3 trials", len(queued))
		}
		job := trialEnd{"a", sub.ID}
		end := r.now.AddDate(0, 0, 14)
		r.now = end.Add(-time.Second)
		must(t, EndTrial(ctx, r.host, job, "free"))
		if r.plan(t, "a") != "pro" || text(r.subscription(t, "a").Status) != "trialing" {
			t.Error("ended before its end")
		}
		if queued, _, err = r.host.Jobs.List(ctx, catalog.Page{Filter: map[string]string{"job_type": TrialEndJob}}); err != nil || len(queued) != 4 {
			t.Errorf("a job that came too early left %d: %v", len(queued), err)
		}
		r.now = end
		for range 2 {
			must(t, EndTrial(ctx, r.host, job, "free"))
		}
		if r.plan(t, "a") != "free" || text(r.subscription(t, "a").Status) != "canceled" {
			t.Errorf("plan %s, %+v", r.plan(t, "a"), r.subscription(t, "a"))
		}
		ended := 0
		for _, e := range r.events(t, string(sub.ID)) {
			if e == "subscription.trial_ended" {
				ended++
			}
		}
		if ended != 1 {
			t.Errorf("ended %d times", ended)
		}
		must(t, EndTrial(ctx, r.host, trialEnd{"a", "absent"}, "free"))
	})
}

func TestATrialThatWasTakenOverEndsNothing(t *testing.T) {
	on(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		must(t, r.host.PricingPlans.Insert(ctx, &catalog.PricingPlan{ID: "pro", TrialDays: new(int64(14))}))
		begun, end := r.now, r.now.AddDate(0, 0, 14)
		for name, change := range map[catalog.TenantID]func(*catalog.Subscription){
			"paid":  func(s *catalog.Subscription) { s.StripeSubID, s.Status = new("sub_1"), new("active") },
			"moved": func(s *catalog.Subscription) { s.TrialEnd = new(catalog.Timestamp(end.AddDate(0, 0, 7))) },
			"over":  func(s *catalog.Subscription) { s.Status = new("canceled") },
		} {
			must(t, r.Run(ctx, Spec{Tenant: name, PlanTier: "pro"}, nil))
			sub := r.subscription(t, name)
			change(sub)
			must(t, r.host.Subscriptions.Update(ctx, sub))
			r.now = end
			must(t, EndTrial(ctx, r.host, trialEnd{name, sub.ID}, "free"))
			r.now = begun
			if now := r.subscription(t, name); r.plan(t, name) != "pro" || text(now.Status) != text(sub.Status) {
				t.Errorf("%s: plan %s, %+v", name, r.plan(t, name), now)
			}
		}
		for name, created := range map[catalog.TenantID]time.Time{"newer": r.now.Add(time.Hour), "older": r.now.Add(-time.Hour)} {
			must(t, r.Run(ctx, Spec{Tenant: name, PlanTier: "pro"}, nil))
			sub := r.subscription(t, name)
			paying := &catalog.Subscription{
				TenantID: name, StripeSubID: new("sub_" + string(name)), Status: new("active"), PlanTier: new("pro"), CreatedAt: new(catalog.Timestamp(created)),
			}
			must(t, r.host.Subscriptions.Insert(ctx, paying))
			r.now = end
			must(t, EndTrial(ctx, r.host, trialEnd{name, sub.ID}, "free"))
			r.now = begun
			trial, err := r.host.Subscriptions.Get(ctx, sub.ID)
			must(t, err)
			after, err := r.host.Subscriptions.Get(ctx, paying.ID)
			must(t, err)
			if r.plan(t, name) != "pro" || text(trial.Status) != "canceled" || text(after.Status) != "active" || text(after.CreatedAt) <= text(trial.CreatedAt) {
				t.Errorf("%s: plan %s, trial %+v, paying %+v", name, r.plan(t, name), trial, after)
			}
		}
	})
}
