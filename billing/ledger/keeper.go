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
	// surveyEvery is how often everything is compared, and surveyAgain how soon after a sweep that left something undone.
	surveyEvery = 10 * time.Minute
	surveyAgain = 45 * time.Second
	// recent is how long an object of nobody is looked at in each sweep: what became known while its event was applied was
	// not seen by that, and said nothing of it. It is well above what a transaction takes and clocks differ by.
	recent = 5 * time.Minute
	// sweepBatch bounds what is read at once, sweepWithin how long one sweep may take.
	sweepBatch  = 200
	sweepWithin = 2 * time.Minute
	// eventsKept is how long we know of an event, that it was applied or that it waits. Stripe sends one again for three days,
	// and by hand for thirty.
	eventsKept = 90 * 24 * time.Hour
	// nobodysKept is how long an object that belongs to nobody is known after the last event of it: longer than a year, so
	// that what is paid by the year is still known when its tenant comes late.
	nobodysKept = 400 * 24 * time.Hour
	// dirtyTenants bounds how many tenants' changes are remembered until the next sweep; of more everything is compared.
	dirtyTenants = 10_000
)

// lease is the name under which one replica sweeps for all.
const lease = "billing_keeper"

// Keeper brings in, again and again, what no event will: kept events whose tenant is known by now, late payments whose
// grace the clock has ended, and rows that another program has written past what Stripe said. Each replica has one, and
// one of them works at a time; another takes over within seconds. Two at once do no harm: what one has done, the other finds
// done. Make it with Keep; the caller closes it.
type Keeper struct {
	ledger *Ledger
	every  time.Duration // between two sweeps
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu    sync.Mutex
	dirty map[catalog.TenantID]bool // nil: everything is to be compared
}

// Keep starts a Keeper.
func (l *Ledger) Keep() *Keeper { return l.keep(sweepEvery, catalog.DefaultLeadLife) }

func (l *Ledger) keep(every, life time.Duration) *Keeper {
	k := &Keeper{ledger: l, every: every}
	var ctx context.Context
	ctx, k.cancel = context.WithCancel(context.Background())
	k.group.Go(func() {
		l.host.Lead(ctx, catalog.LeadConfig{Name: lease, Life: life, Failed: k.failed}, k.run)
	})
	return k
}

// Close ends the Keeper and waits for it. It may be called again.
func (k *Keeper) Close() {
	k.cancel()
	k.group.Wait()
}

// Changed tells of tenants that somebody has changed, or their subscriptions; none at all: anything may have.
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

// failed hears that it could not be found out who leads.
func (k *Keeper) failed(err error) {
	if !errors.Is(err, catalog.ErrUnavailable) && !errors.Is(err, catalog.ErrLeaseLost) {
		k.ledger.log.Warn("billing: nobody may be keeping the books", "error", err)
	}
}

// run sweeps as long as this replica leads, at first everything: what changed before nobody may have looked at.
func (k *Keeper) run(ctx context.Context, _ catalog.Lease) error {
	k.Changed()
	tick := time.NewTicker(k.every)
	defer tick.Stop()
	survey := time.NewTicker(surveyEvery)
	defer survey.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-survey.C:
			k.Changed()
			continue
		case <-tick.C:
		}
		dirty, every := k.take()
		within, cancel := context.WithTimeout(ctx, sweepWithin)
		err := k.ledger.sweep(within, dirty, every)
		cancel()
		switch {
		case err == nil && every:
			survey.Reset(surveyEvery)
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, catalog.ErrUnavailable):
			k.Changed() // what was not done is done next time
		default:
			survey.Reset(surveyAgain)
			k.ledger.log.WarnContext(ctx, "billing: a sweep was not completed and is repeated", "error", err)
		}
	}
}

// Sweep does at once, for everything, what a Keeper does again and again.
func (l *Ledger) Sweep(ctx context.Context) error { return l.sweep(ctx, nil, true) }

// sweep looks at what the clock has ended, at what was heard of lately, and at the tenants that have changed; every: at
// everything.
func (l *Ledger) sweep(ctx context.Context, dirty map[catalog.TenantID]bool, every bool) error {
	if every {
		return errors.Join(l.bringInAll(ctx), l.lapse(ctx), l.compare(ctx), l.forget(ctx))
	}
	since := catalog.Timestamp(l.clock().Add(-recent))
	lately, err := l.host.Stripe.WaitingSince(ctx, since, 50*sweepBatch)
	errs := []error{err, l.bringIn(ctx, lately), l.lapse(ctx)}
	for t := range dirty {
		err := l.look(ctx, t)
		if err != nil && ends(ctx, err) {
			return err
		}
		errs = some(errs, err)
	}
	return errors.Join(errs...)
}

// look brings in what waits for a tenant, and mends its rows where they do not say what Stripe said.
func (l *Ledger) look(ctx context.Context, tenant catalog.TenantID) error {
	waiting, err := l.host.Stripe.WaitingFor(ctx, tenant, 50*sweepBatch)
	if err == nil {
		err = l.bringIn(ctx, waiting)
	}
	if err != nil && ends(ctx, err) {
		return err
	}
	drift, failed := l.host.Stripe.Drift(ctx, tenant)
	if failed == nil && drift {
		failed = l.mend(ctx, tenant)
	}
	return errors.Join(err, failed)
}

// forget removes what nobody will ask for any more.
func (l *Ledger) forget(ctx context.Context) error {
	for _, old := range []struct {
		kept   time.Duration
		forget func(ctx context.Context, before string, limit int) (int, error)
	}{{eventsKept, l.host.Stripe.ForgetEvents}, {nobodysKept, l.host.Stripe.ForgetNobodys}} {
		for {
			n, err := old.forget(ctx, catalog.Timestamp(l.clock().Add(-old.kept)), 10*sweepBatch)
			if err != nil {
				return err
			}
			if n < 10*sweepBatch {
				break
			}
		}
	}
	return nil
}

// ends reports whether an error is the database's or the end of the time, so that nothing else would be done either. Any
// other is one object's or one tenant's, and keeps no other from being looked at.
func ends(ctx context.Context, err error) bool {
	return errors.Is(err, catalog.ErrUnavailable) || ctx.Err() != nil
}

// bringInAll applies what was kept and whose tenant is known by now.
func (l *Ledger) bringInAll(ctx context.Context) error {
	var errs []error
	for after := StripeID(""); ; {
		objects, err := l.host.Stripe.Waiting(ctx, after, sweepBatch)
		if err != nil || len(objects) == 0 {
			return errors.Join(append(errs, err)...)
		}
		if err := l.bringIn(ctx, objects); err != nil {
			if ends(ctx, err) {
				return err
			}
			errs = some(errs, err)
		}
		after = objects[len(objects)-1]
	}
}

// bringIn claims those of the objects whose tenant is known by now, each in a transaction of its own.
func (l *Ledger) bringIn(ctx context.Context, objects []StripeID) error {
	ctx = catalog.WithActor(ctx, catalog.Actor{ID: actorStripe})
	var errs []error
	for _, object := range objects {
		err := l.host.InTx(ctx, func(tx *catalog.Tx) error {
			r := &run{l: l, tx: tx, at: l.clock().Truncate(time.Second)}
			return r.waited(ctx, object)
		})
		if err != nil && ends(ctx, err) {
			return err
		}
		errs = some(errs, err)
	}
	return errors.Join(errs...)
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
	if tenant, named, err := r.whose(ctx, w, s); err != nil || tenant == "" && named == w.NamedTenant {
		return err
	}
	if err := r.claim(ctx, w, s); err != nil || w.TenantID == "" {
		return err
	}
	return r.bring(ctx, w, s, "")
}

// lapse has the rows of tenants follow whose late payment the clock has ended, or is about to.
func (l *Ledger) lapse(ctx context.Context) error {
	by := l.clock().Add(ahead - l.cfg.Rules.Grace())
	tenants, err := l.host.Stripe.Lapsing(ctx, catalog.Timestamp(by), 50*sweepBatch)
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
