// Package billing says whether a tenant is paying and for what.
//
// Purpose: entitlement and plan as contract section 6 has them, the answers of fh-saas where both sides' rows agree.
// Everything here is pure: rows and a moment in, an answer out.
//
// Concurrency: all values are immutable once made and safe to share. Failure mode: deny. A status nobody knows, a
// period end that cannot be read and a sum that overflows are not entitled; features that cannot be read are none.
package billing

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pytime"
)

// Defaults of Config.
const (
	DefaultGracePeriod = 72 * time.Hour
	DefaultFreePlan    = "free"
)

// Values of X-Subscription-Status that no row has.
const (
	StatusNone   = "none"   // the tenant has no subscription row
	StatusExempt = "exempt" // the tenant's plan needs none
)

// Statuses that can entitle, in Stripe's spelling, compared exactly. Every other text entitles nobody.
const (
	statusActive   = "active"
	statusTrialing = "trialing"
	statusPastDue  = "past_due"
)

// paymentSubscription is the payment_type of rows that count; one-time payments and NULL do not.
const paymentSubscription = "subscription"

// KeyError is one fault of a Config.
type KeyError struct {
	Key     string // path below the section: grace_period, plan_aliases.gold
	Problem string // what is wrong and what to write instead
}

func (e *KeyError) Error() string { return "subscription." + e.Key + ": " + e.Problem }

// Rules decide entitlement. The zero value is the strictest: a subscription is required, nothing is exempt and there is
// no grace.
type Rules struct {
	optional bool
	grace    time.Duration
	sinceDue bool // grace counts from the moment at which it became past due, where that is known
	exempt   map[string]bool
	aliases  map[string]string
	free     string
}

// New checks cfg. Its error joins one *KeyError for each fault.
func New(cfg Config) (Rules, error) {
	r := Rules{
		optional: cfg.Required != nil && !*cfg.Required,
		grace:    DefaultGracePeriod,
		exempt:   make(map[string]bool, len(cfg.ExemptPlans)),
		aliases:  maps.Clone(cfg.PlanAliases),
		free:     cmp.Or(cfg.FreePlan, DefaultFreePlan),
	}
	var faults []error
	fault := func(key, problem string) { faults = append(faults, &KeyError{Key: key, Problem: problem}) }
	if cfg.GracePeriod != nil {
		r.grace = *cfg.GracePeriod
	}
	if r.grace < 0 {
		fault("grace_period", "must not be negative; 0s means no grace")
	}
	switch cfg.GraceFrom {
	case "", "period_end":
	case "past_due":
		r.sinceDue = true
	default:
		fault("grace_from", "must be period_end or past_due")
	}
	for i, plan := range cfg.ExemptPlans {
		if plan == "" {
			fault(fmt.Sprintf("exempt_plans[%d]", i), "must not be empty; name a plan_tier")
		}
		r.exempt[plan] = true
	}
	if r.exempt[r.free] {
		fault("free_plan", "must not be in exempt_plans: a tenant whose payment ended would need none")
	}
	for _, tier := range slices.Sorted(maps.Keys(cfg.PlanAliases)) {
		if tier == "" || cfg.PlanAliases[tier] == "" {
			fault("plan_aliases."+tier, "must have neither an empty plan_tier nor an empty plan key")
		}
	}
	if len(faults) > 0 {
		return Rules{}, errors.Join(faults...)
	}
	return r, nil
}

// Required reports whether tenants need a subscription at all.
func (r Rules) Required() bool { return !r.optional }

// FreePlan is the plan_tier of a tenant whose entitlement ended.
func (r Rules) FreePlan() string { return r.free }

// Grace is how long a late payment entitles still.
func (r Rules) Grace() time.Duration { return r.grace }

// Aliases returns a copy of the map from plan_tier to plan key.
func (r Rules) Aliases() map[string]string { return maps.Clone(r.aliases) }

// Exempt reports whether a tenant of this plan_tier, exactly as its row has it, needs no subscription.
func (r Rules) Exempt(planTier string) bool { return r.exempt[planTier] }

// Sub is what entitlement needs of a subscription row, parsed once. The zero value is no row at all.
type Sub struct {
	Status      string // the row's, "" for NULL
	Plan        string // plan_tier, "" for NULL
	Exists      bool
	Counts      bool // payment_type is subscription
	PeriodEndOK bool // current_period_end could be read
	EndsOK      bool // what DaysLeft counts to is known: a trial's trial_end if it has one, else current_period_end
	PeriodEnd   time.Time
	// PastDueSince is when the row became past due, as far as our webhooks saw it; the zero time where they did not.
	PastDueSince time.Time
	Ends         time.Time
}

// Parse reads a row; nil is no row.
func Parse(row *catalog.Subscription) Sub {
	if row == nil {
		return Sub{}
	}
	s := Sub{
		Exists: true,
		Status: text(row.Status),
		Plan:   text(row.PlanTier),
		Counts: text(row.PaymentType) == paymentSubscription,
	}
	s.PeriodEnd, s.PeriodEndOK = moment(row.CurrentPeriodEnd)
	s.Ends, s.EndsOK = s.PeriodEnd, s.PeriodEndOK
	if s.Status == statusTrialing && text(row.TrialEnd) != "" {
		s.Ends, s.EndsOK = moment(row.TrialEnd)
	}
	return s
}

// ParseSince is Parse for a row of which our webhooks may have recorded since when it is past due; "" or a text that
// cannot be read: they have not.
func ParseSince(row *catalog.Subscription, since string) Sub {
	s := Parse(row)
	if s.Status == statusPastDue && since != "" {
		s.PastDueSince, _ = moment(&since)
	}
	return s
}

// moment reads a timestamp column; ok false: it is NULL or cannot be read.
func moment(column *string) (t time.Time, ok bool) {
	t, err := pytime.Parse(text(column))
	return t, err == nil
}

// Entitled reports whether sub pays at now. Active and trialing do; past_due does while now is before the period's end
// plus the grace period, or, with grace_from: past_due, before the moment at which it became past due plus the grace
// period. Where nobody saw that moment, because another program wrote the row, the period's end counts then too: a payer
// is not locked out because a webhook was not ours, and an end that cannot be read still denies. Nil and the zero Sub do not.
func (r Rules) Entitled(now time.Time, sub *Sub) bool {
	if sub == nil || !sub.Counts {
		return false
	}
	switch sub.Status {
	case statusActive, statusTrialing:
		return true
	case statusPastDue:
		until, ok := r.graceEnd(sub)
		return ok && now.Before(until)
	default:
		return false
	}
}

// Until is the moment at which an entitlement at now ends by the clock alone; ok false: no clock ends it, or there is
// none. Open streams are closed at that moment.
func (r Rules) Until(now time.Time, sub *Sub) (until time.Time, ok bool) {
	if !r.Entitled(now, sub) || sub.Status != statusPastDue {
		return time.Time{}, false
	}
	return r.graceEnd(sub)
}

// InGrace reports whether sub is entitled by the grace period's rule: the payment is late.
func (r Rules) InGrace(now time.Time, sub *Sub) bool {
	return r.Entitled(now, sub) && sub.Status == statusPastDue
}

// DaysLeft counts the whole days, floored, from now to the end of an entitled subscription's trial or period; it is
// negative after it. ok false: not entitled, or no end is known. It is told to people and decides nothing.
func (r Rules) DaysLeft(now time.Time, sub *Sub) (days int, ok bool) {
	if !r.Entitled(now, sub) || !sub.EndsOK {
		return 0, false
	}
	const day = 24 * 60 * 60
	// Whole seconds, because a Duration holds no more than 292 years.
	seconds := sub.Ends.Unix() - now.Unix()
	if sub.Ends.Nanosecond() < now.Nanosecond() {
		seconds--
	}
	days = int(seconds / day)
	if seconds < 0 && seconds%day != 0 {
		days--
	}
	return days, true
}

// graceEnd is the first moment without grace. A sum that Python's datetime could not hold is none, as in fh-saas.
func (r Rules) graceEnd(sub *Sub) (time.Time, bool) {
	from, known := sub.PeriodEnd, sub.PeriodEndOK
	if r.sinceDue && !sub.PastDueSince.IsZero() {
		from, known = sub.PastDueSince, true
	}
	if !known {
		return time.Time{}, false
	}
	end := from.Add(r.grace)
	return end, !end.After(pytime.Max())
}

// Status is the value of X-Subscription-Status; "" (a row whose status is NULL or empty) sends no header.
func (r Rules) Status(tenantTier *string, sub *Sub) string {
	switch {
	case r.Exempt(text(tenantTier)):
		return StatusExempt
	case sub == nil || !sub.Exists || !sub.Counts:
		return StatusNone
	default:
		return sub.Status
	}
}

// PlanKey is the key of the tenant's plan at now: the entitled subscription's plan_tier, without an entitled
// subscription the tenant's, either through the aliases, one step. "" is no plan: an entitled row whose plan_tier is
// NULL does not fall back on what the tenant's row may still say.
func (r Rules) PlanKey(now time.Time, tenantTier *string, sub *Sub) string {
	tier := ""
	if r.Entitled(now, sub) {
		tier = sub.Plan
	} else {
		tier = text(tenantTier)
	}
	if key, ok := r.aliases[tier]; ok {
		return key
	}
	return tier
}

// Newest is the row that counts: of those with payment_type subscription the one with the largest created_at by bytes
// (NULL as the empty text), then the larger stripe_sub_id, then the larger id. Nil if there is none. The host
// database's queries choose by the same order.
func Newest(rows []catalog.Subscription) *catalog.Subscription {
	var newest *catalog.Subscription
	for i := range rows {
		row := &rows[i]
		if text(row.PaymentType) != paymentSubscription {
			continue
		}
		if newest == nil || compareAge(row, newest) > 0 {
			newest = row
		}
	}
	return newest
}

func compareAge(a, b *catalog.Subscription) int {
	return cmp.Or(
		cmp.Compare(text(a.CreatedAt), text(b.CreatedAt)),
		cmp.Compare(text(a.StripeSubID), text(b.StripeSubID)),
		cmp.Compare(a.ID, b.ID),
	)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
