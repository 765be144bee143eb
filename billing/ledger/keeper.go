package ledger

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

const (
	// sweepEvery is how long a kept event waits at most once its tenant is known, and a row that another program wrote until
	// it says again what Stripe said. It is well above the time between two programs' deliveries of one event, so that
	// whichever is second finds its own work undisturbed.
	sweepEvery = 5 * time.Second
	// surveyEvery is how often everything is compared.
	surveyEvery = 10 * time.Minute
	// sweepBatch bounds what is read at once, sweepWithin how long one sweep may take.
	sweepBatch  = 200
	sweepWithin = 2 * time.Minute
	// eventsKept is how long we know that an event was applied. Stripe sends one again for three days, and by hand for thirty.
	eventsKept = 90 * 24 * time.Hour
	// dirtyTenants bounds how many tenants' changes are remembered until the next sweep; of more everything is compared.
	dirtyTenants = 10_000
)

// Keeper brings in, again and again, what no event will: kept events whose tenant is known by now, late payments whose
// grace the clock has ended, and rows that another program has written past what Stripe said. Each replica may have one: what
// one has done, the next finds done. Make it with Keep; the caller closes it.
type Keeper struct {
	ledger *Ledger
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu    sync.Mutex
	dirty map[catalog.TenantID]bool // nil: everything is to be compared
}

// Keep starts a Keeper.
func (l *Ledger) Keep() *Keeper {
	k := &Keeper{ledger: l}
	var ctx context.Context
	ctx, k.cancel = context.WithCancel(context.Background())
	k.group.Go(func() { k.run(ctx) })
	return k
}

// Close ends the Keeper and waits for it. It may be called again.
func (k *Keeper) Close() {
	k.cancel()
	k.group.Wait()
}

// Changed tells of tenants whose subscriptions somebody has changed; none at all: anything may have.
func (k *Keeper) Changed(tenants ...catalog.TenantID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(tenants) == 0 || len(k.dirty)+len(tenants) > dirtyTenants {
		k.dirty = nil
		return
	}
	if k.dirty == nil {
		return
	}
	for _, t := range tenants {
		k.dirty[t] = true
	}
}

// take returns the changed tenants and begins anew; every: compare everything.
func (k *Keeper) take() (dirty map[catalog.TenantID]bool, every bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	dirty, every = k.dirty, k.dirty == nil
	k.dirty = map[catalog.TenantID]bool{}
	return dirty, every
}

func (k *Keeper) run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	survey := time.NewTicker(surveyEvery)
	defer survey.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-survey.C:
			k.Changed()
			continue
		case <-tick.C:
		}
		dirty, every := k.take()
		within, cancel := context.WithTimeout(ctx, sweepWithin)
		err := k.ledger.sweep(within, dirty, every)
		cancel()
		if err != nil && ctx.Err() == nil {
			k.Changed() // what was not done is done next time
			if !errors.Is(err, catalog.ErrUnavailable) {
				k.ledger.log.WarnContext(ctx, "billing: a sweep was not completed and is repeated", "error", err)
			}
		}
	}
}

// Sweep does at once, for everything, what a Keeper does again and again.
func (l *Ledger) Sweep(ctx context.Context) error { return l.sweep(ctx, nil, true) }

func (l *Ledger) sweep(ctx context.Context, dirty map[catalog.TenantID]bool, every bool) error {
	var errs []error
	errs = append(errs, l.bringIn(ctx), l.lapse(ctx))
	if every {
		errs = append(errs, l.compare(ctx))
		_, err := l.host.Stripe.ForgetEvents(ctx, catalog.Timestamp(l.clock().Add(-eventsKept)), 10*sweepBatch)
		errs = append(errs, err)
	}
	for t := range dirty {
		drift, err := l.host.Stripe.Drift(ctx, t)
		if err == nil && drift {
			err = l.mend(ctx, t)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ends reports whether an error is the database's or the end of the time, so that nothing else would be done either. Any
// other is one object's or one tenant's, and keeps no other from being looked at.
func ends(ctx context.Context, err error) bool {
	return errors.Is(err, catalog.ErrUnavailable) || ctx.Err() != nil
}

// bringIn applies what was kept and whose tenant is known by now.
func (l *Ledger) bringIn(ctx context.Context) error {
	ctx = catalog.WithActor(ctx, catalog.Actor{ID: actorStripe})
	var errs []error
	for after := StripeID(""); ; {
		objects, err := l.host.Stripe.Waiting(ctx, after, sweepBatch)
		if err != nil || len(objects) == 0 {
			return errors.Join(append(errs, err)...)
		}
		for _, object := range objects {
			err := l.host.InTx(ctx, func(tx *catalog.Tx) error {
				r := &run{l: l, tx: tx, at: l.clock().Truncate(time.Second)}
				return r.waited(ctx, object)
			})
			if err != nil && ends(ctx, err) {
				return err
			}
			errs = some(errs, err)
			after = object
		}
	}
}

// waited claims an object that belonged to nobody.
func (r *run) waited(ctx context.Context, object StripeID) error {
	if err := r.tx.LockStripe(ctx, object); err != nil {
		return err
	}
	in := &asked{object: object}
	w, s, err := r.load(ctx, in)
	if err != nil || w.TenantID != "" || w.State == "" {
		return err
	}
	// It waits on: then nothing is written, however often it is looked at.
	if tenant, named, err := r.l.whose(ctx, r.tx, w, s); err != nil || tenant == "" && named == w.NamedTenant {
		return err
	}
	if err := r.claim(ctx, w, s); err != nil || w.TenantID == "" {
		return err
	}
	return r.bring(ctx, w, s, "")
}

// lapse has the rows of tenants follow whose late payment the clock has ended, or is about to.
func (l *Ledger) lapse(ctx context.Context) error {
	tenants, err := l.host.Stripe.Lapsing(ctx, 50*sweepBatch)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range tenants {
		err := l.mend(ctx, t)
		if err != nil && ends(ctx, err) {
			return err
		}
		errs = some(errs, err)
	}
	return errors.Join(errs...)
}

// maxErrors is how many errors of one sweep are told.
const maxErrors = 8

func some(errs []error, err error) []error {
	if err == nil || len(errs) == maxErrors {
		return errs
	}
	return append(errs, err)
}

// compare looks at everything.
func (l *Ledger) compare(ctx context.Context) error {
	var errs []error
	for after := catalog.TenantID(""); ; {
		tenants, err := l.host.Stripe.Drifted(ctx, after, sweepBatch)
		if err != nil || len(tenants) == 0 {
			return errors.Join(append(errs, err)...)
		}
		for _, t := range tenants {
			err := l.mend(ctx, t)
			if err != nil && ends(ctx, err) {
				return err
			}
			errs = some(errs, err)
			after = t
		}
	}
}

// mend makes a tenant's rows say what Stripe said.
func (l *Ledger) mend(ctx context.Context, tenant catalog.TenantID) error {
	ctx = catalog.WithActor(ctx, catalog.Actor{ID: actorSystem})
	return l.host.InTx(ctx, func(tx *catalog.Tx) error {
		if err := tx.LockBilling(ctx, tenant); err != nil {
			return err
		}
		r := &run{l: l, tx: tx, at: l.clock().Truncate(time.Second)}
		return r.settle(ctx, tenant)
	})
}
