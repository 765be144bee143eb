package ledger

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/catalog"
)

// What a one-time payment's row says, as fh-saas writes it.
const (
	completed      = "completed"
	planOneTime    = "one_time"
	paymentOneTime = "one_time"
	paymentSub     = "subscription"
)

// known is an object of the tenant's as its rows should say it.
type known struct {
	mark     *catalog.StripeWatermark
	state    *state
	want     *catalog.Subscription // nil: it gets no row of ours
	period   bool                  // the period's end is known
	entitled bool
}

// settle makes all rows of a tenant's known objects, whoever wrote them, say what Stripe said, sees to it that the newest row
// is one that entitles if any of these does, and has the tenant's plan_tier follow. A tenant that is gone gets no rows, lest
// the next one of its id has them. The tenant's lock is held.
func (r *run) settle(ctx context.Context, tenant catalog.TenantID) error {
	if there, err := r.exists(ctx, tenant); err != nil || !there {
		return err
	}
	objects, plans, err := r.objects(ctx, tenant)
	if err != nil {
		return err
	}
	rows, err := r.tx.SettledSubscriptions(ctx, tenant)
	if err != nil {
		return err
	}
	var all []known
	for _, k := range objects {
		r.want(&k, plans)
		if k.want == nil {
			continue
		}
		if rows, err = r.write(ctx, k, rows); err != nil {
			return err
		}
		all = append(all, k)
	}
	own := rows[:0:0]
	for i := range rows {
		if rows[i].TenantID == tenant {
			own = append(own, rows[i])
		}
	}
	entitling, err := r.prefer(ctx, all, own)
	if err != nil {
		return err
	}
	return r.follow(ctx, tenant, all, entitling)
}

// objects are the tenant's objects, and the plans that sell what they are to.
func (r *run) objects(ctx context.Context, tenant catalog.TenantID) ([]known, []catalog.PricingPlan, error) {
	marks, err := r.tx.Stripe.WatermarksOfTenant(ctx, tenant)
	if err != nil {
		return nil, nil, err
	}
	all := make([]known, len(marks))
	var prices []StripeID
	for i := range marks {
		all[i].mark = &marks[i]
		if all[i].state, err = decodeState(&marks[i]); err != nil {
			return nil, nil, err
		}
		if sub := all[i].state.subscription(); sub != nil {
			for _, item := range sub.items() {
				prices = append(prices, item.PriceID)
			}
		}
	}
	slices.Sort(prices)
	plans, err := r.tx.PlansOfPrices(ctx, slices.Compact(prices))
	return all, plans, err
}

// want says what rows of an object should say; nothing, if it is none that has rows.
func (r *run) want(k *known, plans []catalog.PricingPlan) {
	w, s := k.mark, k.state
	row := &catalog.Subscription{TenantID: w.TenantID, StripeSubID: new(string(w.Object)), StripeCustID: orNil(string(w.Customer))}
	switch sub := s.subscription(); {
	case sub != nil:
		row.Status, row.PaymentType = new(sub.Status), new(paymentSub)
		row.CancelAtPeriodEnd, row.AmountCents, row.ProductName = new(sub.CancelAtPeriodEnd), sub.AmountCents, orNil(sub.ProductName)
		row.CurrentPeriodEnd, row.TrialEnd = orTime(sub.PeriodEnd), orTime(sub.TrialEnd)
		k.period = row.CurrentPeriodEnd != nil
		if row.CreatedAt = orTime(sub.Created); row.CreatedAt == nil {
			row.CreatedAt = orTime(s.Last.At)
		}
		plan, item := sub.sold(plans)
		if item != nil {
			row.AmountCents, row.ProductName = item.AmountCents, orNil(item.ProductName)
		} else {
			plan = r.l.plan(w, s)
		}
		row.PlanTier = orNil(string(plan))
		if !s.Entitled {
			row.CreatedAt = nil // never entitled: no row of ours, but rows of others follow
		}
	case s.oneTime():
		row.Status, row.PaymentType, row.PlanTier = new(completed), new(paymentOneTime), new(planOneTime)
		row.CancelAtPeriodEnd, row.AmountCents, row.CreatedAt = new(false), s.Session.AmountCents, orTime(s.Session.Created)
	default:
		return
	}
	k.want = row
}

// oneTime reports whether the object is a payment that was made.
func (s *state) oneTime() bool {
	return s.Session != nil && s.Session.Mode == modePayment && s.Session.isPaid()
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func orTime(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return new(catalog.Timestamp(t))
}

// write brings every row of an object to what it should say, and adds one where there is none and the object ever entitled.
// It returns the rows as they then stand.
func (r *run) write(ctx context.Context, k known, rows []catalog.Subscription) ([]catalog.Subscription, error) {
	found := false
	for i := range rows {
		old := &rows[i]
		if text(old.StripeSubID) != string(k.mark.Object) {
			continue
		}
		found = true
		row := *old
		k.fill(&row)
		if err := r.rewrite(ctx, old, &row); err != nil {
			return nil, err
		}
		rows[i] = row
	}
	if found || k.want.CreatedAt == nil {
		return rows, nil
	}
	row := *k.want
	if err := r.tx.Subscriptions.Insert(ctx, &row); err != nil {
		return nil, err
	}
	r.note(nil, &row)
	return append(rows, row), nil
}

// fill puts what is known into a row. What Stripe does not say stays as it is: created_at, a plan that no price of ours
// stands for, a product's name.
func (k *known) fill(row *catalog.Subscription) {
	w := k.want
	row.TenantID, row.Status, row.PaymentType, row.CancelAtPeriodEnd = w.TenantID, w.Status, w.PaymentType, w.CancelAtPeriodEnd
	if w.StripeCustID != nil {
		row.StripeCustID = w.StripeCustID
	}
	if k.period {
		row.CurrentPeriodEnd = w.CurrentPeriodEnd
	}
	if *w.PaymentType == paymentSub {
		row.TrialEnd = w.TrialEnd
	}
	if w.PlanTier != nil {
		row.PlanTier = w.PlanTier
	}
	if w.AmountCents != nil {
		row.AmountCents = w.AmountCents
	}
	if w.ProductName != nil && text(row.ProductName) == "" {
		row.ProductName = w.ProductName
	}
}

func (r *run) rewrite(ctx context.Context, old, row *catalog.Subscription) error {
	r.note(old, row)
	return r.tx.RewriteSubscription(ctx, old, row)
}

// ahead is how long before its grace ends a late subscription gives way to another that entitles: longer than the time
// between two sweeps, so that no moment finds the tenant without any.
const ahead = 2 * time.Minute

// prefer sees to it that the newest row of a tenant entitles if one of the known subscriptions does, and returns the row
// that does; nil: none. rows are the tenant's.
func (r *run) prefer(ctx context.Context, all []known, rows []catalog.Subscription) (*catalog.Subscription, error) {
	now := r.l.clock()
	entitles := func(row *catalog.Subscription, at time.Time) (bool, error) {
		if row == nil {
			return false, nil
		}
		sub, err := r.parse(ctx, row)
		return r.l.cfg.Rules.Entitled(at, &sub), err
	}
	newest := billing.Newest(rows)
	yes, err := entitles(newest, now.Add(ahead))
	if err != nil || yes {
		return newest, err
	}
	var best *catalog.Subscription
	for i := range rows {
		row := &rows[i]
		if !knows(all, row) || newest != nil && row.ID == newest.ID {
			continue
		}
		if yes, err := entitles(row, now.Add(ahead)); err != nil {
			return nil, err
		} else if yes && (best == nil || text(row.CreatedAt) > text(best.CreatedAt)) {
			best = row
		}
	}
	if best == nil {
		if yes, err := entitles(newest, now); err != nil || !yes {
			return nil, err
		}
		return newest, nil
	}
	row := *best
	row.CreatedAt = new(after(r.at, text(newest.CreatedAt)))
	return &row, r.rewrite(ctx, best, &row)
}

// parse reads a row as decisions do, with the moment since when it is past due.
func (r *run) parse(ctx context.Context, row *catalog.Subscription) (billing.Sub, error) {
	if text(row.Status) != "past_due" || text(row.StripeSubID) == "" {
		return billing.Parse(row), nil
	}
	since, err := r.tx.Stripe.RecordedPastDue(ctx, StripeID(*row.StripeSubID))
	return billing.ParseSince(row, since), err
}

func knows(all []known, row *catalog.Subscription) bool {
	for i := range all {
		if text(row.StripeSubID) == string(all[i].mark.Object) {
			return true
		}
	}
	return false
}

// after is that moment as a created_at, or the next one by bytes behind a newest that is not older.
func after(at time.Time, newest string) string {
	stamp := catalog.Timestamp(at)
	if stamp > newest {
		return stamp
	}
	if t, err := catalog.ParseTimestamp(newest); err == nil {
		if next := catalog.Timestamp(t.Add(time.Microsecond)); next > newest {
			return next
		}
	}
	return newest + "0"
}

// follow has the tenant's plan_tier follow what entitles it. A plan_tier that needs no subscription is the operator's to
// give and to take, unless a subscription gave it.
func (r *run) follow(ctx context.Context, tenant catalog.TenantID, all []known, entitling *catalog.Subscription) error {
	now, ended, gave := r.l.clock(), false, map[string]bool{}
	for i := range all {
		k := &all[i]
		sub, err := r.parse(ctx, k.want)
		if err != nil {
			return err
		}
		k.entitled = r.l.cfg.Rules.Entitled(now, &sub)
		ended = ended || k.mark.Entitles
		tier := text(k.want.PlanTier)
		gave[tier], gave[r.l.cfg.Rules.PlanKey(now, &tier, nil)] = true, true
		if k.entitled != k.mark.Entitles || tier != k.mark.PlanTier {
			if err := r.tx.Stripe.SetSettled(ctx, k.mark.Object, k.entitled, tier); err != nil {
				return err
			}
		}
	}
	tier := ""
	switch {
	case entitling != nil:
		sub := billing.Parse(entitling)
		sub.Status = "active" // it entitles; only its plan is asked for
		tier = r.l.cfg.Rules.PlanKey(now, nil, &sub)
	case ended:
		tier = r.l.cfg.Rules.FreePlan()
	}
	if tier == "" {
		return nil
	}
	old, err := r.tx.LockedTenant(ctx, tenant)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil || text(old.PlanTier) == tier {
		return err
	}
	if has := text(old.PlanTier); r.l.cfg.Rules.Exempt(has) && !gave[has] {
		return nil
	}
	row := *old
	row.PlanTier = &tier
	r.edits = append(r.edits, Edit{Table: "core_tenants", ID: string(tenant), Column: "plan_tier", From: value(old.PlanTier), To: tier})
	return r.tx.RewriteTenant(ctx, old, &row)
}

// note remembers what a row's columns become.
func (r *run) note(old, row *catalog.Subscription) {
	was, id := &catalog.Subscription{}, ""
	if old != nil {
		was, id = old, string(old.ID)
	}
	from, to := columnsOf(was), columnsOf(row)
	for i, name := range strings.Fields(editedColumns) {
		if from[i] != to[i] {
			r.edits = append(r.edits, Edit{Table: "core_subscriptions", ID: id, Column: name, From: from[i], To: to[i]})
		}
	}
}

// editedColumns are those that a Ledger writes, in columnsOf's order.
const editedColumns = "tenant_id stripe_sub_id stripe_cust_id plan_tier status current_period_end cancel_at_period_end payment_type " +
	"amount_cents product_name trial_end created_at"

func columnsOf(s *catalog.Subscription) []any {
	return []any{
		value(orNil(string(s.TenantID))), value(s.StripeSubID), value(s.StripeCustID), value(s.PlanTier), value(s.Status),
		value(s.CurrentPeriodEnd), value(s.CancelAtPeriodEnd), value(s.PaymentType), value(s.AmountCents), value(s.ProductName),
		value(s.TrialEnd), value(s.CreatedAt),
	}
}

func value[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
