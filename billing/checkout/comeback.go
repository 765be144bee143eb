package checkout

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/billing/stripeapi"
)

// sessionParameter is the query parameter in which Stripe brings a checkout's session back.
const sessionParameter = "session_id"

// refreshed is why a subscription was fetched, for the audit.
const refreshed = "checkout"

// reloadAfter is how soon a page that waits for a payment is loaded again.
const reloadAfter = 5 * time.Second

// settleWithin bounds the wait for decisions to follow a payment.
const settleWithin = time.Second

// outcome is what became of a checkout.
type outcome int

const (
	nothing    outcome = iota // no session, or none of this tenant's
	unfinished                // it was left, or has expired
	pending                   // done, but the payment is under way
	unknownYet                // Stripe could not be asked
	paid
)

// maxSessionID bounds a session's id, in bytes.
const maxSessionID = 255

// isSession reports whether s has the form of a session's id.
func isSession(s string) bool {
	return strings.HasPrefix(s, "cs_") && len(s) <= maxSessionID && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// comeBack looks at the session that a browser brings back from Stripe, without waiting for a webhook. A session that is
// not this tenant's is as if there were none. Errors are the host database's.
func (p *Pages) comeBack(ctx context.Context, r *http.Request, v *Visit) (outcome, error) {
	id := r.URL.Query().Get(sessionParameter)
	if !isSession(id) {
		return nothing, nil
	}
	if _, ok := p.returns.take(v.Tenant); !ok {
		return unknownYet, nil
	}
	session, err := p.stripe.Checkout(ctx, ledger.StripeID(id))
	what := nothing
	switch {
	case notHere(err):
		return nothing, nil
	case err != nil:
		err = asking("checkout", err)
	default:
		what, err = p.settleSession(ctx, v, &session)
	}
	if bad := new(stripeError); errors.As(err, &bad) {
		p.log.WarnContext(ctx, "a checkout could not be looked at", "tenant", string(v.Tenant), "error", err)
		return unknownYet, nil
	}
	return what, err
}

// ours reports whether our checkout made the session for this tenant.
func (p *Pages) ours(session *stripeapi.Session, v *Visit) bool {
	tenant, ok := p.signer.Claims(session.Metadata, string(session.Customer))
	return ok && tenant == v.Tenant && session.Mode == "subscription"
}

// settleSession writes down what a session of this tenant's has brought. Doing it again changes nothing.
func (p *Pages) settleSession(ctx context.Context, v *Visit, session *stripeapi.Session) (outcome, error) {
	switch {
	case !p.ours(session, v):
		return nothing, nil
	case session.Status != "complete":
		return unfinished, nil
	case session.Subscription == "":
		return pending, nil
	}
	sub, err := p.stripe.Subscription(ctx, session.Subscription)
	if err != nil {
		return nothing, asking("subscription", err)
	}
	if tenant, ok := p.signer.Claims(sub.Metadata, string(sub.Customer)); !ok || tenant != v.Tenant {
		return nothing, nil // taken from the tenant since: somebody has changed its metadata or its customer
	}
	change, err := p.ledger.Refresh(ctx, sub.ID, refreshed)
	if err != nil {
		return nothing, asking("refresh", err)
	}
	if len(change.Edits) > 0 {
		settled, cancel := context.WithTimeout(ctx, settleWithin)
		defer cancel()
		p.settle(settled)
	}
	switch sub.Status {
	case statusActive, statusTrialing:
		return paid, nil
	case statusIncomplete:
		return pending, nil
	}
	return nothing, nil // of long ago: how the subscription stands by now says all
}
