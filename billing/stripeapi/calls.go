package stripeapi

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"time"

	"github.com/stripe/stripe-go/v85"

	"github.com/tenantgate/tenantgate/billing/ledger"
)

// pageSize is the most that Stripe gives in one page.
const pageSize = 100

// Customer is a customer that is to be made.
type Customer struct {
	Name, Email string
	Metadata    map[string]string
}

// Order is a Checkout session of mode subscription that is to be made.
type Order struct {
	Customer  ledger.StripeID
	Price     ledger.StripeID
	TrialDays int64 // 0: none
	Reference string
	// Metadata stands on the session and on the subscription that comes of it.
	Metadata              map[string]string
	SuccessURL, CancelURL string
}

// Session is a Checkout session.
type Session struct {
	ledger.Session
	URL string // where it is paid; "" unless it is open
}

// Subscription implements ledger.Source.
func (c *Client) Subscription(ctx context.Context, id ledger.StripeID) (ledger.Subscription, error) {
	var raw json.RawMessage
	if err := c.call(ctx, http.MethodGet, stripe.FormatURLPath("/v1/subscriptions/%s", string(id)), &stripe.SubscriptionParams{}, &raw); err != nil {
		return ledger.Subscription{}, err
	}
	return decodeSubscription(raw)
}

// Session implements ledger.Source.
func (c *Client) Session(ctx context.Context, id ledger.StripeID) (ledger.Session, error) {
	s, err := c.Checkout(ctx, id)
	return s.Session, err
}

// Checkout returns a Checkout session with the address where it is paid.
func (c *Client) Checkout(ctx context.Context, id ledger.StripeID) (Session, error) {
	var raw json.RawMessage
	err := c.call(ctx, http.MethodGet, stripe.FormatURLPath("/v1/checkout/sessions/%s", string(id)), &stripe.CheckoutSessionParams{}, &raw)
	if err != nil {
		return Session{}, err
	}
	return decodeSession(raw)
}

// CreateCustomer makes a customer. The same key and customer give the same customer, for a day at least.
func (c *Client) CreateCustomer(ctx context.Context, n Customer, key string) (ledger.StripeID, error) {
	params := &stripe.CustomerParams{Name: text(n.Name), Email: text(n.Email), Metadata: n.Metadata}
	var made struct{ ID ledger.StripeID }
	if err := c.change(ctx, "/v1/customers", key, params, &made); err != nil {
		return "", err
	}
	if made.ID == "" {
		return "", errors.New("ask Stripe: a customer without an id")
	}
	return made.ID, nil
}

// CreateCheckout makes a Checkout session on which one unit of a recurring price is subscribed to. The same key and order
// give the same session, for a day at least.
func (c *Client) CreateCheckout(ctx context.Context, o Order, key string) (Session, error) {
	params := &stripe.CheckoutSessionParams{
		Mode:       new(string(stripe.CheckoutSessionModeSubscription)),
		Customer:   new(string(o.Customer)),
		LineItems:  []*stripe.CheckoutSessionLineItemParams{{Price: new(string(o.Price)), Quantity: new(int64(1))}},
		SuccessURL: new(o.SuccessURL), CancelURL: text(o.CancelURL), ClientReferenceID: text(o.Reference), Metadata: o.Metadata,
		SubscriptionData: &stripe.CheckoutSessionSubscriptionDataParams{Metadata: o.Metadata},
	}
	if o.TrialDays > 0 {
		params.SubscriptionData.TrialPeriodDays = new(o.TrialDays)
	}
	var raw json.RawMessage
	if err := c.change(ctx, "/v1/checkout/sessions", key, params, &raw); err != nil {
		return Session{}, err
	}
	return decodeSession(raw)
}

// ExpireCheckout ends a session that is open; one that is not is an error.
func (c *Client) ExpireCheckout(ctx context.Context, id ledger.StripeID) error {
	var raw json.RawMessage
	path := stripe.FormatURLPath("/v1/checkout/sessions/%s/expire", string(id))
	return c.change(ctx, path, "expire_"+string(id), &stripe.CheckoutSessionExpireParams{}, &raw)
}

// CreatePortal returns the address of a portal session of that customer. The address is as good as a password.
func (c *Client) CreatePortal(ctx context.Context, customer ledger.StripeID, returnURL string) (string, error) {
	params := &stripe.BillingPortalSessionParams{Customer: new(string(customer)), ReturnURL: text(returnURL)}
	var made struct{ URL string }
	if err := c.change(ctx, "/v1/billing_portal/sessions", stripe.NewIdempotencyKey(), params, &made); err != nil {
		return "", err
	}
	if made.URL == "" {
		return "", errors.New("ask Stripe: a portal session without an address")
	}
	return made.URL, nil
}

// change makes a call that changes something, under the caller's idempotency key.
func (c *Client) change(ctx context.Context, path, key string, params stripe.ParamsContainer, v any) error {
	if key == "" || len(key) > 255 {
		return errors.New("ask Stripe: a change needs an idempotency key of at most 255 characters")
	}
	params.GetParams().IdempotencyKey = &key
	return c.call(ctx, http.MethodPost, path, params, v)
}

// text is an optional parameter.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Listed is an object of a list. Err says that this one object could not be read, and which it is: others follow.
type Listed[T any] struct {
	ID    ledger.StripeID
	Value T
	Err   error
}

// Subscriptions lists all subscriptions of the key's mode, ended ones too, newest first, page by page. An error of the
// sequence ends it: the list is not whole then.
func (c *Client) Subscriptions(ctx context.Context) iter.Seq2[Listed[ledger.Subscription], error] {
	return list(ctx, c, "/v1/subscriptions", func(l stripe.ListParams) any {
		return &stripe.SubscriptionListParams{ListParams: l, Status: new("all")}
	}, decodeSubscription)
}

// Events lists events of those types, at most 20, since a moment, newest first; Stripe keeps them for 30 days. They are
// JSON, in the shape that the account had when they happened.
func (c *Client) Events(ctx context.Context, since time.Time, types []string) iter.Seq2[Listed[json.RawMessage], error] {
	return list(ctx, c, "/v1/events", func(l stripe.ListParams) any {
		return &stripe.EventListParams{
			ListParams: l, Types: stripe.StringSlice(types), CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: since.Unix()},
		}
	}, func(raw json.RawMessage) (json.RawMessage, error) { return raw, nil })
}

// Products lists all products, archived ones too.
func (c *Client) Products(ctx context.Context) iter.Seq2[Listed[Product], error] {
	return list(ctx, c, "/v1/products", func(l stripe.ListParams) any {
		return &stripe.ProductListParams{ListParams: l}
	}, decodeProduct)
}

// Prices lists all prices, archived ones too.
func (c *Client) Prices(ctx context.Context) iter.Seq2[Listed[Price], error] {
	return list(ctx, c, "/v1/prices", func(l stripe.ListParams) any {
		return &stripe.PriceListParams{ListParams: l}
	}, decodePrice)
}

// list walks a list by its cursor. One page at a time is in memory. A page that does not go on, though it says that
// there is more, is an error.
func list[T any](
	ctx context.Context, c *Client, path string, params func(stripe.ListParams) any, decode func(json.RawMessage) (T, error),
) iter.Seq2[Listed[T], error] {
	return func(yield func(Listed[T], error) bool) {
		var after *string
		for {
			var page struct {
				Data []json.RawMessage `json:"data"`
				More bool              `json:"has_more"`
			}
			p := params(stripe.ListParams{Limit: new(int64(pageSize)), StartingAfter: after})
			if err := c.page(ctx, path, p, &page); err != nil {
				yield(Listed[T]{}, err)
				return
			}
			var last string
			for _, raw := range page.Data {
				one := Listed[T]{ID: idOf(raw)}
				one.Value, one.Err = decode(raw)
				if one.ID == "" && one.Err == nil {
					one.Err = errors.New("an object without an id")
				}
				if one.ID != "" {
					last = string(one.ID)
				}
				if !yield(one, nil) {
					return
				}
			}
			if !page.More {
				return
			}
			if last == "" || (after != nil && last == *after) {
				yield(Listed[T]{}, errors.New("ask Stripe: a list that does not go on"))
				return
			}
			after = &last
		}
	}
}

func idOf(raw json.RawMessage) ledger.StripeID {
	var o struct {
		ID ledger.StripeID `json:"id"`
	}
	if json.Unmarshal(raw, &o) != nil || len(o.ID) > 255 {
		return ""
	}
	return o.ID
}
