package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tenantgate/tenantgate/billing/ledger"
)

// Bounds of what an event may hold. Stripe's own are below them.
const (
	maxID       = 255
	maxText     = 500 // a metadata value's
	maxItems    = 100 // of a subscription; Stripe allows 20
	maxLines    = 1000
	lastSecond  = 253402300799 // of the year 9999, the last that a timestamp column can order
	maxReported = 60
)

// errShape says what of an event cannot be. Its text names the field and repeats no value.
type errShape struct{ what string }

func (e *errShape) Error() string { return "the event cannot be read: " + e.what }

func odd(format string, args ...any) error { return &errShape{fmt.Sprintf(format, args...)} }

// envelope is an event without its object.
type envelope struct {
	ID       ledger.StripeID
	Type     string
	Created  time.Time
	Livemode bool
	Account  bool // it is of a connected account
	object   json.RawMessage
	previous json.RawMessage
}

// readEnvelope reads an event but for its object. Unknown fields are passed over.
func readEnvelope(body []byte) (envelope, error) {
	var raw struct {
		Object   json.RawMessage `json:"object"`
		ID       json.RawMessage `json:"id"`
		Type     json.RawMessage `json:"type"`
		Created  json.RawMessage `json:"created"`
		Livemode json.RawMessage `json:"livemode"`
		Account  json.RawMessage `json:"account"`
		Data     json.RawMessage `json:"data"`
	}
	var e envelope
	if !utf8.Valid(body) {
		return e, odd("it is not UTF-8")
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return e, odd("it is not a JSON object")
	}
	var f fields
	if kind := f.text("object", raw.Object, maxReported); kind != "" && kind != "event" {
		return e, odd("it is not an event of API version 1")
	}
	e.ID, e.Type = f.needID("id", raw.ID), f.text("type", raw.Type, maxID)
	e.Created, e.Livemode = f.needTime("created", raw.Created), f.flag("livemode", raw.Livemode)
	e.Account = f.text("account", raw.Account, maxID) != ""
	if f.err != nil {
		return e, f.err
	}
	if e.Type == "" {
		return e, odd("it has no type")
	}
	data := struct {
		Object   json.RawMessage `json:"object"`
		Previous json.RawMessage `json:"previous_attributes"`
	}{}
	if json.Unmarshal(raw.Data, &data) != nil || !isObject(data.Object) {
		return e, odd("data.object is no object")
	}
	e.object, e.previous = data.Object, data.Previous
	return e, nil
}

// read makes an event of it; nil: it is of a type that nothing follows from.
func (e *envelope) read() (*ledger.Event, error) {
	ev := &ledger.Event{ID: e.ID, Type: e.Type, Created: e.Created, Livemode: e.Livemode}
	var err error
	switch {
	case strings.HasPrefix(e.Type, "customer.subscription."):
		if ev.Subscription, err = readSubscription(e.object); err == nil {
			ev.Before, err = readBefore(e.previous)
		}
	case e.Type == "invoice.paid", e.Type == "invoice.payment_failed":
		ev.Invoice, err = readInvoice(e.object)
		if err == nil {
			ev.Invoice.Paid = e.Type == "invoice.paid"
		}
	case e.Type == "checkout.session.completed", e.Type == "checkout.session.async_payment_succeeded":
		ev.Session, err = readSession(e.object)
	case e.Type == "customer.deleted":
		ev.Customer, err = readCustomer(e.object)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return ev, nil
}

type subscriptionJSON struct {
	Object            json.RawMessage `json:"object"`
	ID                json.RawMessage `json:"id"`
	Customer          json.RawMessage `json:"customer"`
	Status            json.RawMessage `json:"status"`
	Created           json.RawMessage `json:"created"`
	PeriodEnd         json.RawMessage `json:"current_period_end"`
	TrialStart        json.RawMessage `json:"trial_start"`
	TrialEnd          json.RawMessage `json:"trial_end"`
	CancelAt          json.RawMessage `json:"cancel_at"`
	CanceledAt        json.RawMessage `json:"canceled_at"`
	EndedAt           json.RawMessage `json:"ended_at"`
	CancelAtPeriodEnd json.RawMessage `json:"cancel_at_period_end"`
	Livemode          json.RawMessage `json:"livemode"`
	LatestInvoice     json.RawMessage `json:"latest_invoice"`
	Metadata          json.RawMessage `json:"metadata"`
	Items             json.RawMessage `json:"items"`
	Plan              json.RawMessage `json:"plan"`
	Quantity          json.RawMessage `json:"quantity"`
	Currency          json.RawMessage `json:"currency"`
}

func readSubscription(object json.RawMessage) (*ledger.Subscription, error) {
	var raw subscriptionJSON
	if json.Unmarshal(object, &raw) != nil {
		return nil, odd("data.object is no subscription")
	}
	var f fields
	if kind := f.text("object", raw.Object, maxReported); kind != "" && kind != "subscription" {
		return nil, odd("data.object is no subscription")
	}
	s := &ledger.Subscription{
		ID: f.needID("id", raw.ID), Customer: f.needID("customer", raw.Customer), Status: f.text("status", raw.Status, maxReported),
		Created: f.time("created", raw.Created), TrialStart: f.time("trial_start", raw.TrialStart), TrialEnd: f.time("trial_end", raw.TrialEnd),
		CanceledAt: f.time("canceled_at", raw.CanceledAt), EndedAt: f.time("ended_at", raw.EndedAt),
		CancelAtPeriodEnd: f.flag("cancel_at_period_end", raw.CancelAtPeriodEnd), Livemode: f.flag("livemode", raw.Livemode),
		LatestInvoice: f.id("latest_invoice", raw.LatestInvoice), Metadata: f.metadata("metadata", raw.Metadata),
		Currency: f.text("currency", raw.Currency, maxReported),
	}
	items := f.items("items", raw.Items)
	if s.PeriodEnd = f.time("current_period_end", raw.PeriodEnd); s.PeriodEnd.IsZero() {
		s.PeriodEnd = periodEnd(items)
	}
	if cancelAt := f.time("cancel_at", raw.CancelAt); !cancelAt.IsZero() && cancelAt.Equal(s.PeriodEnd) {
		s.CancelAtPeriodEnd = true
	}
	if len(items) == 0 {
		if plan := f.price("plan", raw.Plan); plan != nil {
			items = []item{{price: *plan, quantity: f.whole("quantity", raw.Quantity, 1)}}
		}
	}
	if f.err == nil && s.Status == "" {
		f.err = odd("the subscription has no status")
	}
	s.SetItems(sold(items))
	return s, f.err
}

// item is an item of a subscription.
type item struct {
	price    price
	quantity int64
	end      time.Time
}

type price struct {
	id, product ledger.StripeID
	name        string
	amount      int64
	amountKnown bool
	currency    string
}

// sold are the items as the ledger has them.
func sold(items []item) []ledger.Item {
	all := make([]ledger.Item, len(items))
	for n := range items {
		i := &items[n]
		all[n] = ledger.Item{
			PriceID: i.price.id, ProductID: i.price.product, ProductName: i.price.name, Quantity: i.quantity, Currency: i.price.currency,
		}
		if i.price.amountKnown && i.quantity > 0 && i.price.amount <= math.MaxInt32/i.quantity {
			all[n].AmountCents = new(i.price.amount * i.quantity)
		}
	}
	return all
}

// periodEnd is the latest end of the items' periods.
func periodEnd(items []item) time.Time {
	var end time.Time
	for i := range items {
		if items[i].end.After(end) {
			end = items[i].end
		}
	}
	return end
}

// items reads a list of items, absent or null for none.
func (f *fields) items(name string, raw json.RawMessage) []item {
	if absent(raw) {
		return nil
	}
	var list struct {
		Data []json.RawMessage `json:"data"`
	}
	if json.Unmarshal(raw, &list) != nil || len(list.Data) > maxItems {
		f.fail("%s is no list of at most %d", name, maxItems)
		return nil
	}
	items := make([]item, 0, len(list.Data))
	for _, entry := range list.Data {
		var it struct {
			Price    json.RawMessage `json:"price"`
			Plan     json.RawMessage `json:"plan"`
			Quantity json.RawMessage `json:"quantity"`
			End      json.RawMessage `json:"current_period_end"`
		}
		if !isObject(entry) || json.Unmarshal(entry, &it) != nil {
			f.fail("%s has one that is no object", name)
			return nil
		}
		i := item{quantity: f.whole("quantity", it.Quantity, 1), end: f.time("items.current_period_end", it.End)}
		if p := f.price("price", it.Price); p != nil {
			i.price = *p
		} else if p := f.price("plan", it.Plan); p != nil {
			i.price = *p
		}
		items = append(items, i)
	}
	return items
}

// price reads a price, or a plan, which it was called before; nil where there is none.
func (f *fields) price(name string, raw json.RawMessage) *price {
	if absent(raw) {
		return nil
	}
	if !isObject(raw) {
		return &price{id: f.id(name, raw)}
	}
	var p struct {
		ID       json.RawMessage `json:"id"`
		Product  json.RawMessage `json:"product"`
		Nickname json.RawMessage `json:"nickname"`
		Unit     json.RawMessage `json:"unit_amount"`
		Amount   json.RawMessage `json:"amount"`
		Currency json.RawMessage `json:"currency"`
	}
	if json.Unmarshal(raw, &p) != nil {
		f.fail("%s is no object", name)
		return nil
	}
	out := &price{
		id: f.id(name+".id", p.ID), product: f.id(name+".product", p.Product), name: f.label(name+".nickname", p.Nickname),
		currency: f.text(name+".currency", p.Currency, maxReported),
	}
	for _, amount := range []json.RawMessage{p.Unit, p.Amount} {
		if !absent(amount) {
			out.amount, out.amountKnown = f.whole(name+".unit_amount", amount, 0), true
			break
		}
	}
	if out.name == "" && isObject(p.Product) {
		var product struct {
			Name json.RawMessage `json:"name"`
		}
		_ = json.Unmarshal(p.Product, &product) // an object: it reads
		out.name = f.label(name+".product.name", product.Name)
	}
	return out
}

// readBefore reads previous_attributes.
func readBefore(previous json.RawMessage) (map[string]string, error) {
	if absent(previous) {
		return nil, nil
	}
	var was map[string]json.RawMessage
	if json.Unmarshal(previous, &was) != nil {
		return nil, odd("data.previous_attributes is no object")
	}
	var f fields
	before := map[string]string{}
	moment := func(name string, t time.Time) {
		before[name] = ""
		if !t.IsZero() {
			before[name] = fmt.Sprint(t.Unix())
		}
	}
	if raw, ok := was["status"]; ok {
		before[ledger.AttributeStatus] = f.text("status", raw, maxReported)
	}
	if raw, ok := was["cancel_at_period_end"]; ok {
		before[ledger.AttributeCancels] = fmt.Sprint(f.flag("cancel_at_period_end", raw))
	}
	if raw, ok := was["latest_invoice"]; ok {
		before[ledger.AttributeLatestInvoice] = string(f.id("latest_invoice", raw))
	}
	if raw, ok := was["trial_end"]; ok {
		moment(ledger.AttributeTrialEnd, f.time("trial_end", raw))
	}
	if plan := f.price("plan", was["plan"]); plan != nil && plan.id != "" {
		before[ledger.AttributePrice] = string(plan.id)
	}
	items := f.items("items", was["items"])
	if len(items) > 0 {
		prices, quantities := ledger.AttributesOf(sold(items))
		if prices != "" {
			before[ledger.AttributePrice] = prices
		}
		before[ledger.AttributeQuantity] = quantities
		if end := periodEnd(items); !end.IsZero() {
			moment(ledger.AttributePeriodEnd, end)
		}
	}
	if raw, ok := was["current_period_end"]; ok {
		moment(ledger.AttributePeriodEnd, f.time("current_period_end", raw))
	}
	if f.err != nil {
		return nil, odd("previous_attributes: %s", f.err.(*errShape).what)
	}
	return before, nil
}

func readInvoice(object json.RawMessage) (*ledger.Invoice, error) {
	type details struct {
		Subscription json.RawMessage `json:"subscription"`
		Metadata     json.RawMessage `json:"metadata"`
	}
	var raw struct {
		ID           json.RawMessage `json:"id"`
		Customer     json.RawMessage `json:"customer"`
		Subscription json.RawMessage `json:"subscription"`
		Details      *details        `json:"subscription_details"`
		Parent       *struct {
			Details *details `json:"subscription_details"`
		} `json:"parent"`
		Lines json.RawMessage `json:"lines"`
	}
	if json.Unmarshal(object, &raw) != nil {
		return nil, odd("data.object is no invoice")
	}
	var f fields
	i := &ledger.Invoice{ID: f.needID("id", raw.ID), Customer: f.id("customer", raw.Customer), Subscription: f.id("subscription", raw.Subscription)}
	if raw.Parent != nil && raw.Parent.Details != nil {
		raw.Details = raw.Parent.Details
	}
	if raw.Details != nil {
		if i.Subscription == "" {
			i.Subscription = f.id("parent.subscription_details.subscription", raw.Details.Subscription)
		}
		i.Metadata = f.metadata("subscription_details.metadata", raw.Details.Metadata)
	}
	i.PeriodEnd = f.lines(raw.Lines)
	return i, f.err
}

// lines is the latest end of what an invoice's lines are for.
func (f *fields) lines(raw json.RawMessage) time.Time {
	var end time.Time
	if absent(raw) {
		return end
	}
	var list struct {
		Data []struct {
			Period *struct {
				End json.RawMessage `json:"end"`
			} `json:"period"`
		} `json:"data"`
	}
	if json.Unmarshal(raw, &list) != nil || len(list.Data) > maxLines {
		f.fail("lines is no list of at most %d", maxLines)
		return end
	}
	for _, line := range list.Data {
		if line.Period == nil {
			continue
		}
		if t := f.time("lines.period.end", line.Period.End); t.After(end) {
			end = t
		}
	}
	return end
}

func readSession(object json.RawMessage) (*ledger.Session, error) {
	var raw struct {
		ID            json.RawMessage `json:"id"`
		Mode          json.RawMessage `json:"mode"`
		Status        json.RawMessage `json:"status"`
		PaymentStatus json.RawMessage `json:"payment_status"`
		Customer      json.RawMessage `json:"customer"`
		Subscription  json.RawMessage `json:"subscription"`
		PaymentIntent json.RawMessage `json:"payment_intent"`
		Reference     json.RawMessage `json:"client_reference_id"`
		Created       json.RawMessage `json:"created"`
		Amount        json.RawMessage `json:"amount_total"`
		Currency      json.RawMessage `json:"currency"`
		Livemode      json.RawMessage `json:"livemode"`
		Metadata      json.RawMessage `json:"metadata"`
	}
	if json.Unmarshal(object, &raw) != nil {
		return nil, odd("data.object is no checkout session")
	}
	var f fields
	s := &ledger.Session{
		ID: f.needID("id", raw.ID), Mode: f.text("mode", raw.Mode, maxReported), Status: f.text("status", raw.Status, maxReported),
		PaymentStatus: f.text("payment_status", raw.PaymentStatus, maxReported), Customer: f.id("customer", raw.Customer),
		Subscription: f.id("subscription", raw.Subscription), PaymentIntent: f.id("payment_intent", raw.PaymentIntent),
		ClientReference: f.text("client_reference_id", raw.Reference, maxText), Created: f.time("created", raw.Created),
		Currency: f.text("currency", raw.Currency, maxReported), Livemode: f.flag("livemode", raw.Livemode),
		Metadata: f.metadata("metadata", raw.Metadata),
	}
	if !absent(raw.Amount) {
		if amount := f.whole("amount_total", raw.Amount, 0); amount <= math.MaxInt32 {
			s.AmountCents = &amount
		}
	}
	return s, f.err
}

func readCustomer(object json.RawMessage) (ledger.StripeID, error) {
	var raw struct {
		ID json.RawMessage `json:"id"`
	}
	if json.Unmarshal(object, &raw) != nil {
		return "", odd("data.object is no customer")
	}
	var f fields
	return f.needID("id", raw.ID), f.err
}

// fields reads values; the first one that cannot be is the error. Everything absent or null is the zero value.
type fields struct{ err error }

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = odd(format, args...)
	}
}

func absent(raw json.RawMessage) bool { return len(raw) == 0 || bytes.Equal(raw, []byte("null")) }

func isObject(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '{' }

// text reads a text without control characters of at most limit bytes.
func (f *fields) text(name string, raw json.RawMessage, limit int) string {
	var s string
	if absent(raw) {
		return ""
	}
	if json.Unmarshal(raw, &s) != nil || len(s) > limit || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == utf8.RuneError }) {
		f.fail("%s is no text of at most %d bytes", name, limit)
		return ""
	}
	return s
}

// label reads what people are shown and nothing is decided by: what of it cannot be kept is left out, since an event that
// ends a subscription must not fail on a name.
func (f *fields) label(name string, raw json.RawMessage) string {
	var s string
	if absent(raw) {
		return ""
	}
	if json.Unmarshal(raw, &s) != nil {
		f.fail("%s is no text", name)
		return ""
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	if len(s) > maxText {
		s = strings.TrimRight(strings.ToValidUTF8(s[:maxText], ""), " ")
	}
	return s
}

// id reads an id, or the id of an object in its place.
func (f *fields) id(name string, raw json.RawMessage) ledger.StripeID {
	if isObject(raw) {
		var expanded struct {
			ID json.RawMessage `json:"id"`
		}
		if json.Unmarshal(raw, &expanded) != nil || absent(expanded.ID) {
			f.fail("%s has no id", name)
			return ""
		}
		raw = expanded.ID
	}
	s := f.text(name, raw, maxID)
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		f.fail("%s is no id", name)
		return ""
	}
	return ledger.StripeID(s)
}

func (f *fields) needID(name string, raw json.RawMessage) ledger.StripeID {
	id := f.id(name, raw)
	if id == "" {
		f.fail("%s is missing", name)
	}
	return id
}

func (f *fields) flag(name string, raw json.RawMessage) bool {
	var b bool
	if !absent(raw) && json.Unmarshal(raw, &b) != nil {
		f.fail("%s is neither true nor false", name)
	}
	return b
}

// whole reads a whole number from 0; absent is byDefault.
func (f *fields) whole(name string, raw json.RawMessage, byDefault int64) int64 {
	if absent(raw) {
		return byDefault
	}
	var n int64
	if json.Unmarshal(raw, &n) != nil || n < 0 {
		f.fail("%s is no whole number from 0", name)
		return 0
	}
	return n
}

// time reads seconds since 1970, of a year of four digits; absent is the zero time.
func (f *fields) time(name string, raw json.RawMessage) time.Time {
	if absent(raw) {
		return time.Time{}
	}
	n := f.whole(name, raw, 0)
	if n == 0 || n > lastSecond {
		f.fail("%s is no moment between 1970 and 9999", name)
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

func (f *fields) needTime(name string, raw json.RawMessage) time.Time {
	t := f.time(name, raw)
	if t.IsZero() {
		f.fail("%s is missing", name)
	}
	return t
}

// metadata keeps what may say whose the object is; the rest is other people's, and may be about people.
func (f *fields) metadata(name string, raw json.RawMessage) map[string]string {
	if absent(raw) {
		return nil
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(raw, &all) != nil {
		f.fail("%s is no object", name)
		return nil
	}
	var kept map[string]string
	for _, key := range [...]string{ledger.MetadataTenant, ledger.MetadataSignature, ledger.MetadataPlan} {
		if value := f.text(name+"."+key, all[key], maxText); value != "" {
			if kept == nil {
				kept = map[string]string{}
			}
			kept[key] = value
		}
	}
	return kept
}

// reason is what of a refusal may be told and logged.
func reason(err error) string {
	var shape *errShape
	if errors.As(err, &shape) {
		return shape.Error()
	}
	return err.Error()
}
