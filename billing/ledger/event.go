package ledger

import (
	"strconv"
	"strings"
	"time"
)

// Event is an event of Stripe's that we act on. Exactly one of Subscription, Invoice, Session and Customer is set.
type Event struct {
	ID       StripeID
	Type     string
	Created  time.Time // to the second
	Livemode bool

	Subscription *Subscription // customer.subscription.*
	// Before are the attributes that the subscription had before, of previous_attributes, as Attributes names them.
	Before   map[string]string
	Invoice  *Invoice // of a subscription
	Session  *Session
	Customer StripeID // customer.deleted
}

// Invoice is what an invoice says of its subscription.
type Invoice struct {
	ID           StripeID
	Subscription StripeID
	Customer     StripeID
	Paid         bool
	PeriodEnd    time.Time         // the latest end of what its lines are for
	Metadata     map[string]string // the subscription's, where the invoice quotes it
}

// object is what the event is ordered with, and whose.
func (e *Event) object() (object, customer StripeID) {
	switch {
	case e.Subscription != nil:
		return e.Subscription.ID, e.Subscription.Customer
	case e.Invoice != nil:
		return e.Invoice.Subscription, e.Invoice.Customer
	case e.Session != nil && e.Session.Subscription != "":
		return e.Session.Subscription, e.Session.Customer
	case e.Session != nil:
		return e.Session.ID, e.Session.Customer
	}
	return e.Customer, e.Customer
}

// acted reports whether the event is about anything that rows are made of.
func (e *Event) acted() bool {
	object, _ := e.object()
	return object != "" && (e.Session == nil || e.Session.Mode == modeSubscription || e.Session.Mode == modePayment)
}

// Modes and states of a Checkout session.
const (
	modeSubscription = "subscription"
	modePayment      = "payment"
	paid             = "paid"
	nothingToPay     = "no_payment_required"
)

// Names of a subscription's attributes, Stripe's own where there is one.
const (
	AttributeStatus        = "status"
	AttributePeriodEnd     = "current_period_end"
	AttributeTrialEnd      = "trial_end"
	AttributeCancels       = "cancel_at_period_end"
	AttributePrice         = "price"    // of all items, see AttributesOf
	AttributeQuantity      = "quantity" // likewise
	AttributeLatestInvoice = "latest_invoice"
)

// attribute is the text of an attribute, as Event.Before has it: times in seconds since 1970, "" for none.
func (s *Subscription) attribute(name string) string {
	switch name {
	case AttributeStatus:
		return s.Status
	case AttributePeriodEnd:
		return seconds(s.PeriodEnd)
	case AttributeTrialEnd:
		return seconds(s.TrialEnd)
	case AttributeCancels:
		return strconv.FormatBool(s.CancelAtPeriodEnd)
	case AttributePrice:
		prices, _ := AttributesOf(s.items())
		return prices
	case AttributeQuantity:
		_, quantities := AttributesOf(s.items())
		return quantities
	case AttributeLatestInvoice:
		return string(s.LatestInvoice)
	}
	return ""
}

func seconds(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.Unix(), 10)
}

// rank orders what happens to one subscription within a second: created before updated before deleted.
func rank(eventType string) int {
	switch {
	case strings.HasSuffix(eventType, ".created"):
		return 0
	case strings.HasSuffix(eventType, ".deleted"):
		return 2
	}
	return 1
}
