package stripefake

import (
	"slices"
	"time"
)

// Subscribe is a subscription that AddSubscription makes without any checkout.
type Subscribe struct {
	ID, Customer, Price string
	TrialDays           int64
	Metadata            map[string]string
	// WithoutCard is the status after a trial that ends without a card: past_due (also ""), canceled or paused.
	WithoutCard string
}

// AddSubscription makes a subscription as the API would and returns its id. It panics without customer or price.
func (s *Server) AddSubscription(n Subscribe) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	e := s.entries[n.Customer]
	if e == nil || s.entries[n.Price] == nil {
		panic("stripe fake: a subscription needs customer and price")
	}
	plan := signUp{
		id: n.ID, live: e.live, customer: n.Customer, price: n.Price, quantity: 1, metadata: textMap(n.Metadata), withoutCard: n.WithoutCard,
	}
	if n.TrialDays > 0 {
		plan.trialEnd = s.now().AddDate(0, 0, int(n.TrialDays))
	}
	return s.subscribe(plan, nil).text("id")
}

// signUp is a subscription about to begin.
type signUp struct {
	id, customer, price string
	live                bool
	quantity            int64
	metadata            object
	trialEnd            time.Time
	withoutCard         string
	checkout            bool // begins incomplete, whatever the card does, as Checkout's do
}

// life is what the account knows of a subscription and does not show.
type life struct {
	anchor   time.Time // periods are counted from it
	periods  int
	attempts int // to collect the open invoice
	retry    time.Time
	invoice  string // the open one
	warned   bool   // the end of the trial has been announced
	without  string
}

func ended(sub object) bool {
	return sub.text("status") == "canceled" || sub.text("status") == "incomplete_expired"
}

// subscribe begins a subscription: trialing, active or, if the first payment fails, incomplete.
func (s *Server) subscribe(n signUp, c *call) object {
	now := s.now()
	price := s.entries[n.price].now
	if n.trialEnd.IsZero() {
		if days := price.part("recurring").whole("trial_period_days"); days > 0 {
			n.trialEnd = now.AddDate(0, 0, int(days))
		}
	}
	id := n.id
	if id == "" {
		id = newID("sub")
	}
	l := &life{anchor: now, without: n.withoutCard}
	sub := object{
		"id": id, "customer": n.customer, "metadata": n.metadata, "status": "incomplete", "currency": price["currency"],
		"start_date": now.Unix(), "billing_cycle_anchor": now.Unix(), "cancel_at": nil, "cancel_at_period_end": false,
		"canceled_at": nil, "ended_at": nil, "collection_method": "charge_automatically", "days_until_due": nil,
		"trial_start": nil, "trial_end": nil, "latest_invoice": nil, "pause_collection": nil, "schedule": nil, "test_clock": nil,
		"description": nil, "discounts": []any{}, "default_payment_method": nil, "pending_update": nil,
		"cancellation_details": object{"comment": nil, "feedback": nil, "reason": nil},
		"trial_settings":       object{"end_behavior": object{"missing_payment_method": withoutCard(n.withoutCard)}},
		"billing_mode":         object{"type": s.billingMode()},
	}
	item := object{
		"id": newID("si"), "object": "subscription_item", "created": now.Unix(), "metadata": object{}, "subscription": id,
		"price": clone(price), "quantity": n.quantity, "discounts": []any{}, "tax_rates": []any{},
	}
	sub["items"] = object{"object": "list", "has_more": false, "url": "/v1/subscription_items?subscription=" + id, "data": []any{item}}
	if n.trialEnd.After(now) {
		l.anchor = n.trialEnd
		sub["status"], sub["trial_start"], sub["trial_end"] = "trialing", now.Unix(), n.trialEnd.Unix()
		sub["billing_cycle_anchor"] = n.trialEnd.Unix()
		setPeriod(sub, now, n.trialEnd)
	} else {
		l.periods = 1
		setPeriod(sub, now, periodEnd(sub, l))
	}
	s.add("subscription", n.live, sub)
	s.lives[id] = l
	if sub.text("status") == "trialing" {
		s.emit(c, "customer.subscription.created", sub, nil)
		s.bill(sub, "subscription_create", 0, c)
		return sub
	}
	s.begin(sub, n.checkout, c)
	return sub
}

func withoutCard(end string) string {
	switch end {
	case "canceled":
		return "cancel"
	case "paused":
		return "pause"
	}
	return "create_invoice"
}

func (s *Server) billingMode() string {
	if s.cfg.FlexibleBilling {
		return "flexible"
	}
	return "classic"
}

// begin takes the first payment.
func (s *Server) begin(sub object, checkout bool, c *call) {
	pays := s.cards[sub.text("customer")] == CardPays
	if pays && !checkout {
		sub["status"] = "active"
	}
	s.emit(c, "customer.subscription.created", sub, nil)
	s.bill(sub, "subscription_create", amount(sub), c)
	if pays && checkout {
		s.become(sub, "active", c)
	}
}

// become sets the status and tells so.
func (s *Server) become(sub object, status string, c *call) {
	s.amend(sub, c, func(o object) { o["status"] = status })
}

// amend changes a subscription and tells so, if anything has changed.
func (s *Server) amend(sub object, c *call, edit func(object)) {
	if was := s.change(sub, edit); len(was) > 0 {
		s.emit(c, "customer.subscription.updated", sub, was)
	}
}

// end ends a subscription for good.
func (s *Server) end(sub object, status, reason string, c *call) {
	now := s.unix()
	s.change(sub, func(o object) {
		o["status"], o["ended_at"] = status, now
		if o["canceled_at"] == nil {
			o["canceled_at"] = now
		}
		o.part("cancellation_details")["reason"] = reason
	})
	if status == "incomplete_expired" {
		s.emit(c, "customer.subscription.updated", sub, object{"status": "incomplete"})
		return
	}
	s.emit(c, "customer.subscription.deleted", sub, nil)
}

func amount(sub object) int64 {
	var sum int64
	for _, item := range sub.items("items") {
		sum += item.part("price").whole("unit_amount") * item.whole("quantity")
	}
	return sum
}

func setPeriod(sub object, from, to time.Time) {
	for _, item := range sub.items("items") {
		item["current_period_start"], item["current_period_end"] = from.Unix(), to.Unix()
	}
}

func currentEnd(sub object) time.Time {
	items := sub.items("items")
	if len(items) == 0 {
		return time.Time{}
	}
	return items[0].when("current_period_end")
}

// periodEnd is the end of the period that l counts, from the anchor, so that the 31st comes back after February.
func periodEnd(sub object, l *life) time.Time {
	recurring := sub.items("items")[0].part("price").part("recurring")
	n := int(max(recurring.whole("interval_count"), 1)) * l.periods
	switch recurring.text("interval") {
	case "day":
		return l.anchor.AddDate(0, 0, n)
	case "week":
		return l.anchor.AddDate(0, 0, 7*n)
	case "year":
		return addMonths(l.anchor, 12*n)
	}
	return addMonths(l.anchor, n)
}

func addMonths(t time.Time, n int) time.Time {
	first := time.Date(t.Year(), t.Month()+time.Month(n), 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), t.Location())
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(t.Day(), last)-1)
}

func (c *call) listSubscriptions() (object, *apiError) {
	status := c.p.oneOf("status", "", "all", "active", "canceled", "ended", "incomplete", "incomplete_expired", "past_due", "paused", "trialing", "unpaid")
	customer, price := c.p.text("customer"), c.p.text("price")
	return c.list("subscription", "subscriptions", func(o object) bool {
		switch status {
		case "all":
		case "":
			if o.text("status") == "canceled" {
				return false
			}
		case "ended":
			if !ended(o) {
				return false
			}
		default:
			if o.text("status") != status {
				return false
			}
		}
		if customer != "" && o.text("customer") != customer {
			return false
		}
		return price == "" || slices.ContainsFunc(o.items("items"), func(i object) bool { return i.part("price").text("id") == price })
	})
}

func (c *call) createSubscription() (object, *apiError) {
	n := signUp{
		live: c.live, customer: c.p.need("customer"), price: c.p.need("items[0][price]"), quantity: 1, metadata: c.p.metadata("metadata", nil),
	}
	if c.p.has("items[0][quantity]") {
		n.quantity = c.p.whole("items[0][quantity]")
	}
	if days := c.p.whole("trial_period_days"); days > 0 {
		n.trialEnd = c.s.now().AddDate(0, 0, int(days))
	}
	if end := c.p.whole("trial_end"); end > 0 {
		n.trialEnd = time.Unix(end, 0).UTC()
	}
	n.withoutCard = map[string]string{"cancel": "canceled", "pause": "paused"}[c.p.text("trial_settings[end_behavior][missing_payment_method]")]
	c.p.ignore("payment_behavior", "collection_method", "days_until_due", "description", "off_session", "proration_behavior")
	if err := c.p.done(); err != nil {
		return nil, err
	}
	if err := c.orderable(n.customer, n.price); err != nil {
		return nil, err
	}
	return c.s.subscribe(n, c), nil
}

// orderable says whether that customer can subscribe to that price.
func (c *call) orderable(customer, price string) *apiError {
	if customer != "" && c.s.get("customer", c.live, customer) == nil {
		return missing("customer", customer)
	}
	p := c.s.get("price", c.live, price)
	switch {
	case p == nil:
		return missing("price", price)
	case !p.flag("active"):
		return invalid("price", "The price specified is inactive. This field only accepts active prices.")
	}
	return nil
}

func (c *call) updateSubscription() (object, *apiError) {
	sub := c.s.get("subscription", c.live, c.id)
	if sub == nil {
		return nil, missing("subscription", c.id)
	}
	atEnd := c.p.flag("cancel_at_period_end")
	metadata := c.p.metadata("metadata", sub.part("metadata"))
	item, price := c.p.text("items[0][id]"), c.p.text("items[0][price]")
	paused, pauseSent := c.p.text("pause_collection[behavior]"), c.p.has("pause_collection")
	c.p.text("pause_collection")
	trialNow := c.p.text("trial_end") == "now"
	c.p.ignore("proration_behavior", "payment_behavior", "description")
	if err := c.p.done(); err != nil {
		return nil, err
	}
	if ended(sub) {
		return nil, invalid("", "A canceled subscription can only update its cancellation_details and metadata.")
	}
	if item != "" && item != sub.items("items")[0].text("id") {
		return nil, missing("subscription_item", item)
	}
	if price != "" {
		if err := c.orderable("", price); err != nil {
			return nil, err
		}
	}
	c.s.amend(sub, c, func(o object) {
		o["metadata"] = metadata
		if atEnd != nil {
			c.s.markEnd(o, *atEnd)
		}
		if pauseSent && paused != "" {
			o["pause_collection"] = object{"behavior": paused, "resumes_at": nil}
		} else if pauseSent {
			o["pause_collection"] = nil
		}
	})
	if price != "" {
		c.s.switchPrice(sub, price, c)
	}
	if trialNow && sub.text("status") == "trialing" {
		c.s.endTrial(sub, c)
	}
	return sub, nil
}

// markEnd says, or takes back, that the subscription ends with its period.
func (s *Server) markEnd(o object, atEnd bool) {
	o["cancel_at"], o["cancel_at_period_end"], o["canceled_at"] = nil, false, nil
	o.part("cancellation_details")["reason"] = nil
	if atEnd {
		o["cancel_at"], o["canceled_at"] = currentEnd(o).Unix(), s.unix()
		o["cancel_at_period_end"] = !s.cfg.FlexibleBilling
		o.part("cancellation_details")["reason"] = "cancellation_requested"
	}
}

// switchPrice changes the plan. Another interval begins a new period now; what proration would cost is not reckoned.
func (s *Server) switchPrice(sub object, price string, c *call) {
	p := s.entries[price].now
	l := s.lives[sub.text("id")]
	old := sub.items("items")[0].part("price")
	other := old.part("recurring").text("interval") != p.part("recurring").text("interval")
	restart := other && sub.text("status") != "trialing"
	s.amend(sub, c, func(o object) {
		o.items("items")[0]["price"] = clone(p)
		if restart {
			l.anchor, l.periods = s.now(), 1
			o["billing_cycle_anchor"] = s.unix()
			setPeriod(o, l.anchor, periodEnd(o, l))
		}
	})
	if restart {
		s.bill(sub, "subscription_update", amount(sub), c)
	}
}

func (c *call) cancelSubscription() (object, *apiError) {
	sub := c.s.get("subscription", c.live, c.id)
	if sub == nil || ended(sub) {
		return nil, missing("subscription", c.id)
	}
	c.p.ignore("invoice_now", "prorate", "cancellation_details")
	if err := c.p.done(); err != nil {
		return nil, err
	}
	c.s.end(sub, "canceled", "cancellation_requested", c)
	return sub, nil
}

func (c *call) resumeSubscription() (object, *apiError) {
	sub := c.s.get("subscription", c.live, c.id)
	if sub == nil {
		return nil, missing("subscription", c.id)
	}
	c.p.ignore("billing_cycle_anchor", "proration_behavior")
	if err := c.p.done(); err != nil {
		return nil, err
	}
	if sub.text("status") != "paused" {
		return nil, invalid("", "You can only resume a subscription that is paused.")
	}
	c.s.startPeriod(sub, "active", c)
	c.s.emit(c, "customer.subscription.resumed", sub, nil)
	return sub, nil
}

// dashboard changes a subscription that has not ended, as somebody at the dashboard would, and reports whether there is one.
func (s *Server) dashboard(id string, do func(sub object)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wake()
	s.settle()
	e := s.entries[id]
	if e == nil || e.kind != "subscription" || ended(e.now) {
		return false
	}
	do(e.now)
	return true
}

// Cancel ends a subscription now.
func (s *Server) Cancel(sub string) bool {
	return s.dashboard(sub, func(o object) { s.end(o, "canceled", reasonRequested, nil) })
}

// CancelAtPeriodEnd says, or takes back, that a subscription ends with its period.
func (s *Server) CancelAtPeriodEnd(sub string, atEnd bool) bool {
	return s.dashboard(sub, func(o object) { s.amend(o, nil, func(o object) { s.markEnd(o, atEnd) }) })
}

// SwitchPrice changes the plan of a subscription. It panics without that price.
func (s *Server) SwitchPrice(sub, price string) bool {
	return s.dashboard(sub, func(o object) { s.switchPrice(o, price, nil) })
}

// SetMetadata replaces the metadata of a subscription.
func (s *Server) SetMetadata(sub string, m map[string]string) bool {
	return s.dashboard(sub, func(o object) { s.amend(o, nil, func(o object) { o["metadata"] = textMap(m) }) })
}

// Edit changes the fields of any object behind the account's back, without an event: what Stripe would never send.
// Nested values it puts in are shown as they are.
func (s *Server) Edit(id string, edit func(o Object)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[id]
	if e == nil {
		return false
	}
	s.change(e.now, func(o object) { edit(o) })
	return true
}
