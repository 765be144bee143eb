package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/catalog"
)

// window is how far back events are looked at: as far as Stripe lists them. Each run looks at all of it, so that runs
// overlap, and what a list showed too late is seen by the next one.
const window = 30 * 24 * time.Hour

// eventTypes are the types of events that rows are made of. Stripe takes at most 20.
func eventTypes() []string {
	return []string{
		"customer.subscription.created", "customer.subscription.updated", "customer.subscription.deleted",
		"customer.subscription.paused", "customer.subscription.resumed",
		"checkout.session.completed", "checkout.session.async_payment_succeeded",
		"invoice.paid", "invoice.payment_failed", "customer.deleted",
	}
}

// events applies events that never came, or that failed when they did. The subscriptions that they are about have been
// compared by then: what is left are payments without one, and the record itself.
func (r *run) events(ctx context.Context) error {
	if r.deps.Parse == nil {
		return nil
	}
	since := r.deps.Clock().Add(-window)
	for one, err := range r.deps.Stripe.Events(ctx, since, eventTypes()) {
		if err != nil {
			return fmt.Errorf("reconcile: events: %w", err)
		}
		ev, err := r.parse(one.Value)
		if err = errors.Join(one.Err, err); err != nil {
			r.report.problem("event %s: %v", one.ID, err)
			continue
		}
		if ev == nil {
			continue
		}
		if err := r.event(ctx, ev); err != nil {
			return fmt.Errorf("reconcile: event %s: %w", ev.ID, err)
		}
	}
	return nil
}

func (r *run) parse(raw []byte) (*ledger.Event, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	return r.deps.Parse(raw)
}

// event applies one, if it is news. The error is one that ends the run.
func (r *run) event(ctx context.Context, ev *ledger.Event) error {
	object := about(ev)
	if object == "" || r.broken[object] {
		return nil
	}
	status, err := r.deps.Host.Stripe.EventStatus(ctx, ev.ID)
	if err != nil || (status != "" && status != "failed") {
		return err
	}
	if !r.cfg.DryRun {
		outcome, err := r.ledger.ApplyEvent(ctx, ev)
		switch {
		case err == nil && outcome == ledger.Ignored:
			return nil
		case err == nil:
		case errors.Is(err, catalog.ErrUnavailable) || refuses(err):
			return err
		default:
			r.report.problem("event %s: %v", ev.ID, err)
			return nil
		}
	}
	if len(r.report.Missed) == kept {
		r.report.MoreMissed++
		return nil
	}
	r.report.Missed = append(r.report.Missed, Missed{Event: ev.ID, Type: ev.Type, Created: ev.Created, Object: object})
	return nil
}

// about is the object of which rows are made, "" if the event is about none.
func about(ev *ledger.Event) ledger.StripeID {
	switch {
	case ev.Subscription != nil:
		return ev.Subscription.ID
	case ev.Invoice != nil:
		return ev.Invoice.Subscription
	case ev.Session != nil && (ev.Session.Mode == "subscription" || ev.Session.Mode == "payment"):
		if ev.Session.Subscription != "" {
			return ev.Session.Subscription
		}
		return ev.Session.ID
	}
	return ev.Customer
}
