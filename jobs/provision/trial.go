package provision

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/jobs"
)

// TrialEndJob is the type of the job that ends a trial.
const TrialEndJob = jobs.Prefix + "trial_end"

// trialEnd is its payload.
type trialEnd struct {
	Tenant       catalog.TenantID       `json:"tenant_id"`
	Subscription catalog.SubscriptionID `json:"subscription_id"`
}

// maxTrialDays keeps the end of a trial within what a timestamp can say.
const maxTrialDays = 36_500

// trial gives a tenant that never had a subscription the trial of its plan, and sees to its end. A plan that needs no
// subscription has no trial.
func (r *run) trial(ctx context.Context, tx *catalog.Tx, row *catalog.TenantCatalog) error {
	if row.PlanTier == nil || slices.Contains(r.cfg.ExemptPlans, *row.PlanTier) {
		return nil
	}
	key := *row.PlanTier
	if alias, ok := r.cfg.PlanAliases[key]; ok {
		key = alias
	}
	plan, err := tx.PricingPlans.Get(ctx, catalog.PlanID(key))
	if errors.Is(err, catalog.ErrNotFound) || err == nil && (plan.TrialDays == nil || *plan.TrialDays <= 0) {
		return nil
	}
	if err != nil {
		return err
	}
	had, _, err := tx.Subscriptions.List(ctx, catalog.Page{Limit: 1, Filter: map[string]string{"tenant_id": string(row.ID)}})
	if err != nil || len(had) > 0 {
		return err
	}
	now := r.deps.Clock()
	end := now.AddDate(0, 0, int(min(*plan.TrialDays, maxTrialDays)))
	text := catalog.Timestamp(end)
	sub := &catalog.Subscription{
		TenantID: row.ID, PlanTier: row.PlanTier, Status: new("trialing"), TrialEnd: &text, CurrentPeriodEnd: &text,
		CancelAtPeriodEnd: new(false), PaymentType: new("subscription"), ProductName: plan.Name, CreatedAt: new(catalog.Timestamp(now)),
	}
	if err := tx.Subscriptions.Insert(ctx, sub); err != nil {
		return err
	}
	return scheduleEnd(ctx, tx, sub, end)
}

// scheduleEnd has no key: the job that finds a trial moved is itself unfinished, and two that end one trial do no harm.
func scheduleEnd(ctx context.Context, tx *catalog.Tx, sub *catalog.Subscription, end time.Time) error {
	_, err := jobs.Enqueue(ctx, tx, jobs.Job{Type: TrialEndJob, Payload: trialEnd{sub.TenantID, sub.ID}, RunAt: end})
	return err
}

// EndTrial ends the trial that a job of TrialEndJob names, if its end is over by the clock that jobs go by: the subscription is canceled, and unless
// another one entitles the tenant by then, the tenant's plan becomes freePlan. A trial that was moved is ended later; what
// is no trial any more, because it was paid for, ended or deleted, stays as it is.
func EndTrial(ctx context.Context, host *catalog.HostDatabase, job trialEnd, freePlan string) error {
	return host.InTx(ctx, func(tx *catalog.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		moved, ended := time.Time{}, false
		sub, err := tx.Subscriptions.Change(ctx, job.Subscription, func(s *catalog.Subscription) error {
			if s.TenantID != job.Tenant || text(s.StripeSubID) != "" || text(s.Status) != "trialing" {
				return nil
			}
			if end, err := catalog.ParseTimestamp(text(s.TrialEnd)); err == nil && now.Before(end) {
				moved = end
				return nil
			}
			s.Status, ended = new("canceled"), true
			return nil
		})
		switch {
		case errors.Is(err, catalog.ErrNotFound):
			return nil
		case err != nil:
			return err
		case !moved.IsZero():
			return scheduleEnd(ctx, tx, sub, moved)
		case !ended:
			return nil
		}
		if err := tx.Audit(ctx, "subscription.trial_ended", string(sub.ID), map[string]any{"tenant_id": string(sub.TenantID)}); err != nil {
			return err
		}
		return afterTrial(ctx, tx, sub, freePlan, now)
	})
}

// afterTrial has the subscription that took the trial's place be the tenant's newest, or takes the plan that was tried.
func afterTrial(ctx context.Context, tx *catalog.Tx, trial *catalog.Subscription, freePlan string, now time.Time) error {
	subs, _, err := tx.Subscriptions.List(ctx, catalog.Page{Limit: 1000, Filter: map[string]string{"tenant_id": string(trial.TenantID)}})
	if err != nil {
		return err
	}
	var paid *catalog.Subscription
	for i := range subs {
		s := &subs[i]
		entitles := slices.Contains([]string{"active", "trialing", "past_due"}, text(s.Status)) && text(s.PaymentType) == "subscription"
		if entitles && (paid == nil || text(s.CreatedAt) > text(paid.CreatedAt)) {
			paid = s
		}
	}
	if paid != nil {
		if text(paid.CreatedAt) > text(trial.CreatedAt) {
			return nil
		}
		paid.CreatedAt = new(catalog.Timestamp(now)) // the newest row wins, for fh-saas too
		return tx.Subscriptions.Update(ctx, paid)
	}
	_, err = tx.Tenants.Change(ctx, trial.TenantID, func(t *catalog.TenantCatalog) error {
		if text(t.PlanTier) == text(trial.PlanTier) {
			t.PlanTier = &freePlan
		}
		return nil
	})
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	return err
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
