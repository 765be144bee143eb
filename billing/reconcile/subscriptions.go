package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"log/slog"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/billing/stripeapi"
	"github.com/tenantgate/tenantgate/catalog"
)

const (
	// subPrefix begins the ids of Stripe's subscriptions; a row with another text there is somebody else's.
	subPrefix = "sub_"
	// kept is how many changes, missed events and problems a report names, each; more are counted.
	kept = 10000
	// sample is how many recorded subscriptions say whether the key is of their account and mode.
	sample = 20
	page   = 1000
)

// errOther: the key shows another account, or another mode of it, than what is recorded.
var errOther = errors.New("reconcile: nothing is changed")

// Stripe is what reconcile asks of Stripe.
type Stripe interface {
	ledger.Source
	Mode() ledger.Mode
	Subscriptions(ctx context.Context) iter.Seq2[stripeapi.Listed[ledger.Subscription], error]
	Events(ctx context.Context, since time.Time, types []string) iter.Seq2[stripeapi.Listed[json.RawMessage], error]
}

// Ledger writes what Stripe says, or says what it would write; *ledger.Ledger is one.
type Ledger interface {
	Preview(ctx context.Context, sub ledger.Subscription) (ledger.Change, error)
	Refresh(ctx context.Context, id ledger.StripeID, why string) (ledger.Change, error)
	ApplyEvent(ctx context.Context, ev *ledger.Event) (ledger.Outcome, error)
}

// Config says how reconcile goes about it.
type Config struct {
	// DryRun writes nothing.
	DryRun bool
}

// Deps are what reconcile stands on. All but Clock and Log are needed.
type Deps struct {
	Host   *catalog.HostDatabase
	Stripe Stripe
	// Ledger makes a ledger that fetches from source.
	Ledger func(source ledger.Source) Ledger
	// Parse reads an event; nil without an error is one that nobody acts on. Without it events are not looked at.
	Parse func(raw []byte) (*ledger.Event, error)
	Clock func() time.Time // nil: time.Now
	Log   *slog.Logger     // nil: none
}

// Report is what reconcile found.
type Report struct {
	DryRun bool
	Mode   ledger.Mode
	// Looked counts the subscriptions that Stripe listed, Unowned those that belong to no tenant known.
	Looked, Unowned int
	// Changes are repairs, done or, in a dry run, due. MoreChanges counts those beyond the first 10,000.
	Changes     []ledger.Change
	MoreChanges int
	// Missed are events that never came, or never were handled.
	Missed     []Missed
	MoreMissed int
	// Problems are objects that could not be read or repaired, each said in one line.
	Problems     []string
	MoreProblems int
}

// Missed is an event that was not recorded.
type Missed struct {
	Event   ledger.StripeID
	Type    string
	Created time.Time
	// Object is what it is about.
	Object ledger.StripeID
}

func (r *Report) problem(format string, args ...any) {
	if len(r.Problems) == kept {
		r.MoreProblems++
		return
	}
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

func (r *Report) change(c ledger.Change) {
	if len(r.Changes) == kept {
		r.MoreChanges++
		return
	}
	r.Changes = append(r.Changes, c)
}

// run is one comparison under way.
type run struct {
	cfg    Config
	deps   Deps
	ledger Ledger
	tombs  *tombs
	report *Report
	seen   map[uint64]struct{}
	broken map[ledger.StripeID]bool // reported as problems
	seed   maphash.Seed
}

// Run compares subscriptions with Stripe and repairs what was missed. The report holds what was found until then also
// beside an error. An error means that not everything was compared: Stripe or the host database did not answer, or the
// key is of another account or mode.
//
// Rows without a Stripe subscription are never touched. A row that stands as entitling while Stripe has no such
// subscription ends, as one that was canceled now.
func Run(ctx context.Context, cfg Config, deps Deps) (*Report, error) {
	if deps.Clock == nil {
		deps.Clock = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	r := &run{
		cfg: cfg, deps: deps, report: &Report{DryRun: cfg.DryRun, Mode: deps.Stripe.Mode()}, seen: map[uint64]struct{}{}, broken: map[ledger.StripeID]bool{}, seed: maphash.MakeSeed(),
		tombs: &tombs{Source: deps.Stripe, gone: map[ledger.StripeID]ledger.Subscription{}},
	}
	r.ledger = deps.Ledger(r.tombs)
	for _, step := range []func(context.Context) error{r.sameAccount, r.listed, r.missing, r.events} {
		if err := step(ctx); err != nil {
			return r.report, err
		}
	}
	return r.report, nil
}

// sameAccount refuses a key that knows none of the subscriptions that are recorded: with it everybody would end.
func (r *run) sameAccount(ctx context.Context) error {
	asked := 0
	for row, err := range r.recorded(ctx) {
		if err != nil {
			return err
		}
		_, err := r.deps.Stripe.Subscription(ctx, ledger.StripeID(*row.StripeSubID))
		switch {
		case errors.Is(err, stripeapi.ErrMode):
			return fmt.Errorf("%w: subscription %s is of the other mode (live, test) than the API key", errOther, *row.StripeSubID)
		case errors.Is(err, ledger.ErrGone):
		case refuses(err):
			return err
		default:
			return nil // known, or broken in some other way that is reported later
		}
		if asked++; asked == sample {
			break
		}
	}
	if asked > 0 {
		return fmt.Errorf("%w: Stripe has none of the subscriptions recorded here: the API key is of another account or mode", errOther)
	}
	return nil
}

// refuses reports whether an error is Stripe's, or the way's to it, and not an object's.
func refuses(err error) bool {
	var said *stripeapi.Error
	return errors.As(err, &said) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// recorded are the rows that may entitle and name a subscription of Stripe's.
func (r *run) recorded(ctx context.Context) iter.Seq2[catalog.Subscription, error] {
	return func(yield func(catalog.Subscription, error) bool) {
		for _, status := range []string{"active", "trialing", "past_due"} {
			after := ""
			for {
				rows, next, err := r.deps.Host.Subscriptions.List(ctx, catalog.Page{
					After: after, Limit: page, Filter: map[string]string{"payment_type": "subscription", "status": status},
				})
				if err != nil {
					yield(catalog.Subscription{}, err)
					return
				}
				for i := range rows {
					if id := rows[i].StripeSubID; id != nil && strings.HasPrefix(*id, subPrefix) && !yield(rows[i], nil) {
						return
					}
				}
				if next == "" {
					break
				}
				after = next
			}
		}
	}
}

// listed compares every subscription that Stripe lists.
func (r *run) listed(ctx context.Context) error {
	for one, err := range r.deps.Stripe.Subscriptions(ctx) {
		if err != nil {
			return fmt.Errorf("reconcile: after %d subscriptions: %w", r.report.Looked, err)
		}
		r.report.Looked++
		r.seen[maphash.String(r.seed, string(one.ID))] = struct{}{}
		if one.Err != nil {
			r.fault(one.ID, one.Err)
			continue
		}
		if err := r.compare(ctx, one.Value); err != nil {
			return err
		}
	}
	return nil
}

// compare repairs one subscription, or says what would be repaired. The error is one that ends the run.
func (r *run) compare(ctx context.Context, sub ledger.Subscription) error {
	if mode := r.deps.Stripe.Mode(); mode == ledger.ModeLive && !sub.Livemode || mode == ledger.ModeTest && sub.Livemode {
		return fmt.Errorf("%w: subscription %s is of the other mode (live, test) than the API key", errOther, sub.ID)
	}
	change, err := r.ledger.Preview(ctx, sub)
	if err == nil && change.Tenant == "" {
		r.report.Unowned++
	}
	if err == nil && len(change.Edits) > 0 {
		change, err = r.repair(ctx, sub.ID)
	}
	switch {
	case err == nil:
		if len(change.Edits) > 0 {
			r.report.change(change)
		}
		return nil
	case errors.Is(err, ledger.ErrGone), errors.Is(err, stripeapi.ErrMode): // gone since it was listed
	case errors.Is(err, catalog.ErrUnavailable) || refuses(err):
		return fmt.Errorf("reconcile: subscription %s: %w", sub.ID, err)
	}
	r.fault(sub.ID, err)
	return nil
}

// fault reports a subscription that cannot be read or repaired; its events are not tried then.
func (r *run) fault(id ledger.StripeID, err error) {
	if len(r.broken) < kept {
		r.broken[id] = true
	}
	r.report.problem("subscription %s: %v", id, err)
}

// repair fetches the subscription, because a list may lag, and writes what it says; a dry run only says it.
func (r *run) repair(ctx context.Context, id ledger.StripeID) (ledger.Change, error) {
	if !r.cfg.DryRun {
		return r.ledger.Refresh(ctx, id, "reconcile")
	}
	sub, err := r.tombs.Subscription(ctx, id)
	if err != nil {
		return ledger.Change{}, err
	}
	return r.ledger.Preview(ctx, sub)
}

// missing looks at the rows that stand as entitling and that Stripe did not list.
func (r *run) missing(ctx context.Context) error {
	for row, err := range r.recorded(ctx) {
		if err != nil {
			return err
		}
		id := ledger.StripeID(*row.StripeSubID)
		if _, ok := r.seen[maphash.String(r.seed, string(id))]; ok {
			continue
		}
		r.seen[maphash.String(r.seed, string(id))] = struct{}{} // once, however many rows have it
		sub, err := r.deps.Stripe.Subscription(ctx, id)
		switch {
		case err == nil: // made since, or listed late
		case errors.Is(err, stripeapi.ErrMode):
			r.fault(id, err)
			continue
		case errors.Is(err, ledger.ErrGone):
			sub = r.tomb(&row)
			r.tombs.gone[id] = sub
		case refuses(err):
			return fmt.Errorf("reconcile: subscription %s: %w", id, err)
		default:
			r.fault(id, err)
			continue
		}
		if err := r.compare(ctx, sub); err != nil {
			return err
		}
	}
	return nil
}

// tomb is the last state of a subscription that Stripe does not have any more.
func (r *run) tomb(row *catalog.Subscription) ledger.Subscription {
	now := r.deps.Clock().UTC().Truncate(time.Second)
	sub := ledger.Subscription{
		ID: ledger.StripeID(*row.StripeSubID), Customer: ledger.StripeID(deref(row.StripeCustID)), Status: "canceled", CanceledAt: now, EndedAt: now,
		PeriodEnd: timeOf(row.CurrentPeriodEnd), TrialEnd: timeOf(row.TrialEnd), Created: timeOf(row.CreatedAt), AmountCents: row.AmountCents,
		ProductName: deref(row.ProductName), Livemode: r.deps.Stripe.Mode() == ledger.ModeLive,
	}
	sub.CancelAtPeriodEnd = row.CancelAtPeriodEnd != nil && *row.CancelAtPeriodEnd
	return sub
}

func timeOf(text *string) time.Time {
	t, err := catalog.ParseTimestamp(deref(text))
	if err != nil {
		return time.Time{}
	}
	return t
}

// tombs is a Source that also has what Stripe does not have any more, once that has been found out.
type tombs struct {
	ledger.Source
	gone map[ledger.StripeID]ledger.Subscription
}

// Subscription implements ledger.Source.
func (t *tombs) Subscription(ctx context.Context, id ledger.StripeID) (ledger.Subscription, error) {
	sub, err := t.Source.Subscription(ctx, id)
	if last, ok := t.gone[id]; ok && errors.Is(err, ledger.ErrGone) {
		return last, nil
	}
	return sub, err
}
