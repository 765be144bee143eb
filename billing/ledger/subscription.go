package ledger

import (
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// StripeID is an id of Stripe's: sub_…, cus_…, evt_…, price_….
type StripeID = catalog.StripeID

// Subscription is a Stripe subscription in the one form that we work with, whatever API version spelled it. The zero
// value of a time is: not set, or not known.
type Subscription struct {
	ID       StripeID
	Customer StripeID
	Status   string // Stripe's word: incomplete, incomplete_expired, trialing, active, past_due, canceled, unpaid, paused
	Created  time.Time
	// PeriodEnd is current_period_end, of the subscription or, in current API versions, the latest of its items'.
	PeriodEnd         time.Time
	TrialStart        time.Time
	TrialEnd          time.Time
	CanceledAt        time.Time
	EndedAt           time.Time
	CancelAtPeriodEnd bool // also where cancel_at names the period's end
	// PriceID and what follows are the one item's, of several that of the highest amount; see SetItems.
	PriceID     StripeID
	ProductID   StripeID
	ProductName string // nickname of the price, or the expanded product's name; "" where Stripe does not say
	Quantity    int64
	AmountCents *int64 // unit amount × quantity in minor units; nil: not known, tiered, or beyond 32 bits
	Currency    string // ISO 4217, lower case
	Items       []Item `json:",omitempty"` // all items, where there are several
	Livemode    bool
	// LatestInvoice is the invoice that the status is about.
	LatestInvoice StripeID
	Metadata      map[string]string
}

// Session is a Stripe Checkout session.
type Session struct {
	ID              StripeID
	Mode            string // subscription, payment or setup
	Status          string // open, complete or expired
	PaymentStatus   string // paid, unpaid or no_payment_required
	Customer        StripeID
	Subscription    StripeID // "" unless Mode is subscription
	PaymentIntent   StripeID // "" unless Mode is payment
	ClientReference string   // client_reference_id: whoever opened the page may have chosen it
	Created         time.Time
	AmountCents     *int64
	Currency        string
	Livemode        bool
	Metadata        map[string]string
}

// MetadataPlan is the key of the plan that our checkout sold, beside MetadataTenant and MetadataSignature.
const MetadataPlan = "plan_tier"
