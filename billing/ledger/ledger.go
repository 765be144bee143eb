// Package ledger keeps core_subscriptions and core_tenants.plan_tier equal to what Stripe says, whatever order Stripe says it
// in, and whoever else writes there.
//
// Purpose: whose a subscription is, which of two accounts of it is later, and what follows for the tenant's rows (contract
// section 10, Whose subscription and Events). Webhooks, reconcile and the way back from checkout all write through it.
//
// Concurrency: a Ledger is safe for concurrent use, by any number of replicas: what concerns one Stripe object, and one
// tenant, happens one after the other. No transaction is open while Stripe is asked.
//
// Failure mode: nothing changes. A transaction writes all that an event means, its audit rows included, or none of it.
package ledger

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/catalog"
)

// ErrGone: Stripe has no such object, in this mode of this account.
var ErrGone = errors.New("stripe has no such object")

// ErrMode: the event is of another mode, live or test, than this installation.
var ErrMode = errors.New("the event is of another mode")

// Source is what an API key gives: objects as they are now. Implementations bound time and size of an answer, and say
// ErrGone only where Stripe itself says that there is no such object; every other error means: ask again later.
type Source interface {
	Subscription(ctx context.Context, id StripeID) (Subscription, error)
	Session(ctx context.Context, id StripeID) (Session, error)
}

// Config says what is believed.
type Config struct {
	// Rules say what entitles and what the free plan is.
	Rules billing.Rules
	// TrustMetadata: unsigned metadata and client_reference_id name a tenant too (billing.stripe.trust_metadata).
	TrustMetadata bool
	// Mode is that of the API key. ModeUnknown, without one: test events are refused once a live one was applied.
	Mode Mode
}

// Mode is live or test.
type Mode int

// The modes of a Stripe account.
const (
	ModeUnknown Mode = iota
	ModeTest
	ModeLive
)

// ModeOf is the mode of an API key by its prefix: sk_live_, rk_live_, sk_test_, rk_test_.
func ModeOf(apiKey string) Mode {
	switch {
	case strings.HasPrefix(apiKey, "sk_live_"), strings.HasPrefix(apiKey, "rk_live_"):
		return ModeLive
	case strings.HasPrefix(apiKey, "sk_test_"), strings.HasPrefix(apiKey, "rk_test_"):
		return ModeTest
	}
	return ModeUnknown
}

// Deps are what a Ledger stands on. Host is needed.
type Deps struct {
	Host *catalog.HostDatabase
	// Source is nil without an API key: then events are all there is.
	Source Source
	// Signer verifies metadata. Nil: no signature holds.
	Signer *Signer
	// Clock is the time. Nil: time.Now.
	Clock func() time.Time
	// Log hears of what went wrong, never with a payload. Nil: nobody does.
	Log *slog.Logger
}

// Ledger writes what Stripe says. Make it with New.
type Ledger struct {
	cfg    Config
	host   *catalog.HostDatabase
	source Source
	signer *Signer
	clock  func() time.Time
	log    *slog.Logger
	live   atomic.Bool // something of live mode is on record
}

// New makes a Ledger. Nothing is read yet.
func New(cfg Config, deps Deps) *Ledger {
	l := &Ledger{cfg: cfg, host: deps.Host, source: deps.Source, signer: deps.Signer, clock: deps.Clock, log: deps.Log}
	if l.clock == nil {
		l.clock = time.Now
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	return l
}

// Outcome is what became of an event, as its row and the reply have it.
type Outcome string

// The outcomes of an event that was handled; an error is none of them.
const (
	Processed  Outcome = "processed"
	Duplicate  Outcome = "duplicate"
	Ignored    Outcome = "ignored"
	Kept       Outcome = "kept"
	OutOfOrder Outcome = "skipped_out_of_order"
)

// Change is what an account of a subscription changed, or would change.
type Change struct {
	Subscription StripeID
	// Tenant is "" where the subscription belongs to nobody known.
	Tenant catalog.TenantID
	// Edits are the columns that differ, over all rows that the account touches. Empty: nothing to do.
	Edits []Edit
}

// Edit is one column of one row.
type Edit struct {
	Table  string // core_subscriptions or core_tenants
	ID     string // of the row; "" for one that is to be inserted
	Column string
	From   any // nil: NULL, or no row
	To     any
}

// Refresh fetches a subscription from the Source and brings the tenant's rows to its state, each change audited. Of two
// fetches the one that began later counts. The actor is the context's; why is for the audit: reconcile, checkout. ErrGone if Stripe does not know it: then nothing
// changes. Tenant "": it belongs to nobody known, and is brought in once it does.
func (l *Ledger) Refresh(ctx context.Context, id StripeID, why string) (Change, error) {
	if l.source == nil {
		return Change{}, errors.New("refreshing a subscription needs an API key")
	}
	in := &asked{object: id}
	if err := l.fetch(ctx, in, false); err != nil {
		return Change{}, err
	}
	return l.inTx(ctx, in, why, false)
}

// Preview says what Refresh would change if the Source said this. Nothing is written.
func (l *Ledger) Preview(ctx context.Context, sub Subscription) (Change, error) {
	return l.inTx(ctx, &asked{object: sub.ID, customer: sub.Customer, sub: &sub}, "preview", true)
}

func (l *Ledger) inTx(ctx context.Context, in *asked, why string, preview bool) (Change, error) {
	change := Change{Subscription: in.object}
	err := l.host.InTx(ctx, func(tx *catalog.Tx) error {
		r := &run{l: l, tx: tx, at: l.clock().Truncate(time.Second)}
		var err error
		change.Tenant, err = r.refreshed(ctx, in)
		change.Edits = r.edits
		switch {
		case err != nil:
		case preview:
			err = errOver
		case len(r.edits) > 0:
			err = tx.Audit(ctx, "subscription.refreshed", string(in.object), map[string]any{"why": why})
		}
		return err
	})
	if errors.Is(err, errOver) {
		err = nil
	}
	return change, err
}

// CheckMode returns ErrMode for an event of the other mode than the API key's; without a key, for a test event where live
// ones are known.
func (l *Ledger) CheckMode(ctx context.Context, live bool) error {
	switch {
	case l.cfg.Mode == ModeLive && !live, l.cfg.Mode == ModeTest && live:
		return ErrMode
	case l.cfg.Mode != ModeUnknown || live:
		return nil
	case l.live.Load():
		return ErrMode
	}
	known, err := l.host.Stripe.LiveKnown(ctx)
	if err != nil || !known {
		return err
	}
	l.live.Store(true)
	return ErrMode
}

// refreshed brings in what was fetched without an event.
func (r *run) refreshed(ctx context.Context, in *asked) (catalog.TenantID, error) {
	if err := r.tx.LockStripe(ctx, in.object); err != nil {
		return "", err
	}
	w, s, err := r.load(ctx, in)
	if err != nil {
		return "", err
	}
	if in.sub.Livemode {
		w.Livemode = true
	}
	at := r.at
	if s.Last != nil {
		r.at = s.Last.At // by Stripe's clock, not ours: a later event is later
	} else {
		r.at = in.sub.Created
	}
	outcome, err := r.take(ctx, in, w, s)
	r.at = at
	if err != nil || outcome != Processed {
		return w.TenantID, err
	}
	was := w.TenantID
	if err := r.claim(ctx, w, s); err != nil || w.TenantID == "" {
		return "", err
	}
	return w.TenantID, r.bring(ctx, w, s, was)
}
