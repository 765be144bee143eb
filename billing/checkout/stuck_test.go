package checkout

import (
	"context"
	"errors"
	"net/url"
	"testing"

	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/billing/stripeapi"
	"github.com/tenantgate/tenantgate/catalog"
)

// remembering is Stripe as it fails once and gives the same failure to the same idempotency key from then on, and as it
// does not take every e-mail address.
type remembering struct {
	Stripe
	failed map[string]string // what was tried first, by kind
	tried  int
}

func (s *remembering) fails(kind, key string) error {
	s.tried++
	switch first, ok := s.failed[kind]; {
	case !ok:
		s.failed[kind] = key
		return &stripeapi.Error{Status: 500}
	case first == key:
		return &stripeapi.Error{Status: 500, Replayed: true}
	}
	return nil
}

func (s *remembering) CreateCustomer(ctx context.Context, c stripeapi.Customer, key string) (ledger.StripeID, error) {
	if c.Email != "" {
		return "", &stripeapi.Error{Status: 400, Code: "email_invalid", Param: "email"}
	}
	if err := s.fails("customer", key); err != nil {
		return "", err
	}
	return s.Stripe.CreateCustomer(ctx, c, key)
}

func (s *remembering) CreateCheckout(ctx context.Context, o stripeapi.Order, key string) (stripeapi.Session, error) {
	if err := s.fails("checkout", key); err != nil {
		return stripeapi.Session{}, err
	}
	return s.Stripe.CreateCheckout(ctx, o, key)
}

// A failure that Stripe remembers, or an address that it does not take, keeps nobody from paying.
func TestAFailureThatStripeRemembersKeepsNobodyFromPaying(t *testing.T) {
	onBothEngines(t, func(t *testing.T, r *rig) {
		r.pages.stripe = &remembering{Stripe: r.client, failed: map[string]string{}}
		form := url.Values{"plan": {"pro"}, "interval": {"month"}}
		for range 2 { // the customer's failure, and the checkout's
			if w := r.post(r.pages.Checkout, visit("acme"), form); w.Code != 503 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		}
		r.pay(r.buy(visit("acme"), "pro", "month"))
		if n := len(r.stripe.All("customer")); n != 1 {
			t.Errorf("%d customers", n)
		}
	})
}

// elsewhere is Stripe to a key of live mode, where all that was tried before is of test mode.
type elsewhere struct {
	Stripe
	theirs map[ledger.StripeID]bool
}

func (s *elsewhere) Subscription(ctx context.Context, id ledger.StripeID) (ledger.Subscription, error) {
	if s.theirs[id] {
		return ledger.Subscription{}, errors.Join(stripeapi.ErrMode, &stripeapi.Error{Status: 404})
	}
	return s.Stripe.Subscription(ctx, id)
}

func (s *elsewhere) Checkout(ctx context.Context, id ledger.StripeID) (stripeapi.Session, error) {
	if s.theirs[id] {
		return stripeapi.Session{}, errors.Join(stripeapi.ErrMode, &stripeapi.Error{Status: 404})
	}
	return s.Stripe.Checkout(ctx, id)
}

// What was tried with a key of test mode keeps nobody from paying once there is a live one.
func TestWhatWasTriedInTestModeKeepsNobodyFromPaying(t *testing.T) {
	onBothEngines(t, func(t *testing.T, r *rig) {
		tried := ledger.StripeID(session(t, r.buy(visit("acme"), "pro", "month")))
		r.must(r.host.Subscriptions.Insert(t.Context(), &catalog.Subscription{
			TenantID: "acme", Status: new("past_due"), StripeSubID: new("sub_tried"), PaymentType: new("subscription"),
		}))
		r.pages.stripe = &elsewhere{Stripe: r.client, theirs: map[ledger.StripeID]bool{tried: true, "sub_tried": true}}
		if target := session(t, r.buy(visit("acme"), "pro", "month")); target == string(tried) {
			t.Error("led to the checkout of the other mode")
		}
		if w := r.get(visit("acme"), "session_id="+string(tried)); w.Code != 200 || w.Header().Get("Refresh") != "" {
			t.Errorf("the way back: %d %v", w.Code, w.Header())
		}
	})
}
