package stripeapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/stripe/stripe-go/v85"

	"github.com/tenantgate/tenantgate/billing/ledger"
)

// Product is what is sold.
type Product struct {
	ID          ledger.StripeID
	Name        string
	Description string
	Active      bool
	Features    []string // the names of its marketing features
	Metadata    map[string]string
	Default     ledger.StripeID // its default price
	Created     time.Time
	Livemode    bool
}

// Price is what a product costs.
type Price struct {
	ID      ledger.StripeID
	Product ledger.StripeID
	Active  bool
	// Cents is the amount of one unit in minor units; nil: tiered, or chosen by the customer.
	Cents     *int64
	Currency  string // ISO 4217, lower case
	Interval  string // day, week, month or year; "": it is paid once
	Count     int64  // intervals in a period
	Metered   bool   // what is used is counted afterwards
	LookupKey string
	TrialDays int64
	Metadata  map[string]string
	Created   time.Time
	Livemode  bool
}

// decodeSubscription reads a subscription of the pinned API version. An object that no ledger could use is an error.
func decodeSubscription(raw json.RawMessage) (ledger.Subscription, error) {
	var o stripe.Subscription
	var amounts itemAmounts
	if err := errors.Join(json.Unmarshal(raw, &o), json.Unmarshal(raw, &amounts)); err != nil {
		return ledger.Subscription{}, errors.New("a subscription of an unknown shape")
	}
	s := ledger.Subscription{
		ID: ledger.StripeID(o.ID), Status: string(o.Status), Created: moment(o.Created), TrialStart: moment(o.TrialStart),
		TrialEnd: moment(o.TrialEnd), CanceledAt: moment(o.CanceledAt), EndedAt: moment(o.EndedAt),
		CancelAtPeriodEnd: o.CancelAtPeriodEnd, Currency: string(o.Currency), Livemode: o.Livemode, Metadata: maps.Clone(o.Metadata),
	}
	if o.Customer != nil {
		s.Customer = ledger.StripeID(o.Customer.ID)
	}
	if o.LatestInvoice != nil {
		s.LatestInvoice = ledger.StripeID(o.LatestInvoice.ID)
	}
	if o.Items != nil {
		items := make([]ledger.Item, 0, len(o.Items.Data))
		for i, item := range o.Items.Data {
			if item == nil {
				continue
			}
			if end := moment(item.CurrentPeriodEnd); end.After(s.PeriodEnd) {
				s.PeriodEnd = end
			}
			items = append(items, amounts.item(i, item.Price))
		}
		s.SetItems(items)
	}
	if o.CancelAt > 0 && moment(o.CancelAt).Equal(s.PeriodEnd) {
		s.CancelAtPeriodEnd = true
	}
	for name, n := range map[string]int64{
		"created": o.Created, "trial_end": o.TrialEnd, "canceled_at": o.CanceledAt, "ended_at": o.EndedAt, "cancel_at": o.CancelAt,
	} {
		if n < 0 || n > maxMoment {
			return s, fmt.Errorf("a subscription with an impossible %s", name)
		}
	}
	if s.ID == "" || s.Status == "" || s.Customer == "" || s.Created.IsZero() {
		return s, errors.New("a subscription without id, customer, status or creation")
	}
	return s, nil
}

// itemAmounts are numbers that stripe-go cannot tell from 0 where there are none.
type itemAmounts struct {
	Items struct {
		Data []*struct {
			Quantity *int64 `json:"quantity"`
			Price    *struct {
				Cents *int64 `json:"unit_amount"`
			} `json:"price"`
		} `json:"data"`
	} `json:"items"`
}

// item is item number i, of that price: quantity 1 where none is said, no amount where it is not known.
func (a *itemAmounts) item(i int, p *stripe.Price) ledger.Item {
	item := ledger.Item{Quantity: 1}
	if p != nil {
		item.PriceID, item.ProductName, item.Currency = ledger.StripeID(p.ID), p.Nickname, string(p.Currency)
		if p.Product != nil {
			item.ProductID = ledger.StripeID(p.Product.ID)
		}
	}
	if i >= len(a.Items.Data) || a.Items.Data[i] == nil {
		return item
	}
	of := a.Items.Data[i]
	if of.Quantity != nil {
		item.Quantity = *of.Quantity
	}
	if of.Price == nil || of.Price.Cents == nil {
		return item
	}
	if unit := *of.Price.Cents; unit >= 0 && item.Quantity > 0 && unit <= math.MaxInt32/item.Quantity {
		item.AmountCents = new(unit * item.Quantity)
	}
	return item
}

// inColumn reports whether an amount fits into the column of amounts, 32 bits.
func inColumn(n int64) bool { return n >= math.MinInt32 && n <= math.MaxInt32 }

// maxMoment is the last second of year 9999.
const maxMoment = 253402300799

// moment is a time of Stripe's; 0 and what no calendar has is none.
func moment(seconds int64) time.Time {
	if seconds <= 0 || seconds > maxMoment {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

func decodeSession(raw json.RawMessage) (Session, error) {
	var o stripe.CheckoutSession
	if err := json.Unmarshal(raw, &o); err != nil {
		return Session{}, errors.New("a checkout session of an unknown shape")
	}
	s := Session{URL: o.URL, Session: ledger.Session{
		ID: ledger.StripeID(o.ID), Mode: string(o.Mode), Status: string(o.Status), PaymentStatus: string(o.PaymentStatus),
		ClientReference: o.ClientReferenceID, Created: moment(o.Created), Currency: string(o.Currency), Livemode: o.Livemode,
		Metadata: maps.Clone(o.Metadata),
	}}
	if o.Customer != nil {
		s.Customer = ledger.StripeID(o.Customer.ID)
	}
	if o.Subscription != nil {
		s.Subscription = ledger.StripeID(o.Subscription.ID)
	}
	if o.PaymentIntent != nil {
		s.PaymentIntent = ledger.StripeID(o.PaymentIntent.ID)
	}
	if sum := o.AmountTotal; inColumn(sum) {
		s.AmountCents = &sum
	}
	if s.ID == "" || s.Mode == "" {
		return s, errors.New("a checkout session without id or mode")
	}
	return s, nil
}

func decodeProduct(raw json.RawMessage) (Product, error) {
	var o stripe.Product
	if err := json.Unmarshal(raw, &o); err != nil || o.ID == "" {
		return Product{}, errors.New("a product of an unknown shape")
	}
	p := Product{
		ID: ledger.StripeID(o.ID), Name: o.Name, Description: o.Description, Active: o.Active, Metadata: maps.Clone(o.Metadata),
		Created: moment(o.Created), Livemode: o.Livemode,
	}
	for _, f := range o.MarketingFeatures {
		if f != nil && f.Name != "" {
			p.Features = append(p.Features, f.Name)
		}
	}
	if o.DefaultPrice != nil {
		p.Default = ledger.StripeID(o.DefaultPrice.ID)
	}
	return p, nil
}

func decodePrice(raw json.RawMessage) (Price, error) {
	var o stripe.Price
	var amount struct { // stripe-go cannot tell none from 0
		Cents *int64 `json:"unit_amount"`
	}
	if err := errors.Join(json.Unmarshal(raw, &o), json.Unmarshal(raw, &amount)); err != nil || o.ID == "" || o.Product == nil {
		return Price{}, errors.New("a price of an unknown shape")
	}
	p := Price{
		ID: ledger.StripeID(o.ID), Product: ledger.StripeID(o.Product.ID), Active: o.Active, Currency: string(o.Currency),
		LookupKey: o.LookupKey, Metadata: maps.Clone(o.Metadata), Created: moment(o.Created), Livemode: o.Livemode,
	}
	if amount.Cents != nil && inColumn(*amount.Cents) {
		p.Cents = amount.Cents
	}
	if r := o.Recurring; r != nil {
		p.Interval, p.Count, p.TrialDays = string(r.Interval), r.IntervalCount, r.TrialPeriodDays
		p.Metered = r.UsageType == stripe.PriceRecurringUsageTypeMetered
	}
	return p, nil
}
