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
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/catalog"
)

// ErrGone: Stripe has no such object, in this mode of this account.
var ErrGone = errors.New("stripe has no such object")

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

// Refresh fetches a subscription from the Source and brings the tenant's rows to its state, each change audited. The fetch
// counts as one that begins now: what a later one has written already stands. why is for the audit: reconcile, checkout.
// ErrGone if Stripe does not know it: then nothing changes.
func (l *Ledger) Refresh(ctx context.Context, id StripeID, why string) (Change, error) {
	return Change{}, errors.ErrUnsupported
}

// Preview says what Refresh would change if the Source said this. Nothing is written.
func (l *Ledger) Preview(ctx context.Context, sub Subscription) (Change, error) {
	return Change{}, errors.ErrUnsupported
}
