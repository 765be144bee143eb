package stripefake

import (
	"slices"
	"time"
)

const (
	expiresAfter    = 23 * time.Hour // an incomplete subscription, a checkout a day
	checkoutOpen    = 24 * time.Hour
	trialWarning    = 3 * 24 * time.Hour
	maxSteps        = 100000
	reasonCycle     = "subscription_cycle"
	reasonFailed    = "payment_failed"
	reasonRequested = "cancellation_requested"
)

// step is something that becomes due.
type step struct {
	at time.Time
	do func()
}

// settle does what has become due since it was last called, in the order of its time and stamped with it.
func (s *Server) settle() {
	now := s.cfg.Clock().Add(s.ahead)
	for range maxSteps {
		next, ok := s.next()
		if !ok || next.at.After(now) {
			break
		}
		s.at = next.at
		next.do()
	}
	s.at = time.Time{}
}

// next is the earliest thing due of all.
func (s *Server) next() (step, bool) {
	var first step
	found := false
	take := func(at time.Time, do func()) {
		if !found || at.Before(first.at) {
			first, found = step{at, do}, true
		}
	}
	for _, id := range s.order["subscription"] {
		if sub := s.entries[id].now; !ended(sub) {
			s.dueOf(sub, take)
		}
	}
	for _, id := range s.order["checkout.session"] {
		if o := s.entries[id].now; o.text("status") == "open" {
			take(o.when("expires_at"), func() { s.expire(o, nil) })
		}
	}
	return first, found
}

func (s *Server) dueOf(sub object, take func(time.Time, func())) {
	l := s.lives[sub.text("id")]
	if at := sub.whole("cancel_at"); at > 0 {
		take(time.Unix(at, 0).UTC(), func() { s.end(sub, "canceled", reasonRequested, nil) })
	}
	switch sub.text("status") {
	case "incomplete":
		take(sub.when("created").Add(expiresAfter), func() { s.end(sub, "incomplete_expired", reasonFailed, nil) })
	case "trialing":
		end := sub.when("trial_end")
		if !l.warned {
			at := end.Add(-trialWarning)
			if created := sub.when("created"); at.Before(created) {
				at = created
			}
			take(at, func() {
				l.warned = true
				s.emit(nil, "customer.subscription.trial_will_end", sub, nil)
			})
		}
		take(end, func() { s.endTrial(sub, nil) })
	case "active", "past_due", "unpaid":
		take(currentEnd(sub), func() { s.renew(sub) })
		if !l.retry.IsZero() {
			take(l.retry, func() { s.collect(sub, nil) })
		}
	}
}

// endTrial takes the first payment, or does what was asked for if there is no card.
func (s *Server) endTrial(sub object, c *call) {
	l := s.lives[sub.text("id")]
	if s.cards[sub.text("customer")] == CardNone {
		switch l.without {
		case "canceled":
			s.end(sub, "canceled", reasonFailed, c)
			return
		case "paused":
			s.become(sub, "paused", c)
			s.emit(c, "customer.subscription.paused", sub, nil)
			return
		}
	}
	s.startPeriod(sub, "active", c)
}

// startPeriod begins a new count of periods now.
func (s *Server) startPeriod(sub object, status string, c *call) {
	l := s.lives[sub.text("id")]
	l.anchor, l.periods = s.now(), 1
	s.amend(sub, c, func(o object) {
		o["status"] = status
		if o["trial_end"] != nil && o.when("trial_end").After(s.now()) {
			o["trial_end"] = s.unix()
		}
		setPeriod(o, l.anchor, periodEnd(o, l))
	})
	s.bill(sub, reasonCycle, amount(sub), c)
}

// renew begins the next period and asks for its payment.
func (s *Server) renew(sub object) {
	l := s.lives[sub.text("id")]
	from := currentEnd(sub)
	l.periods++
	s.amend(sub, nil, func(o object) { setPeriod(o, from, periodEnd(o, l)) })
	s.bill(sub, reasonCycle, amount(sub), nil)
}

// bill makes an invoice and asks for its payment; nothing is due: it is paid.
func (s *Server) bill(sub object, reason string, cents int64, c *call) {
	l := s.lives[sub.text("id")]
	in := s.invoice(sub, reason, cents)
	if sub.text("status") == "unpaid" {
		in["status"] = "draft"
	}
	s.change(sub, func(o object) { o["latest_invoice"] = in["id"] })
	s.emit(c, "invoice.created", in, nil)
	if cents == 0 {
		s.paid(in, sub, c)
		return
	}
	if sub.text("status") == "unpaid" {
		return // invoices stay drafts until somebody pays
	}
	l.invoice, l.attempts, l.retry = in.text("id"), 0, time.Time{}
	s.collect(sub, c)
}

// collect tries to take the payment of the open invoice.
func (s *Server) collect(sub object, c *call) {
	l := s.lives[sub.text("id")]
	in := s.entries[l.invoice].now
	l.retry = time.Time{}
	l.attempts++
	if s.cards[sub.text("customer")] == CardPays {
		s.paid(in, sub, c)
		return
	}
	s.change(in, func(o object) {
		o["status"], o["attempted"], o["attempt_count"] = "open", true, int64(l.attempts)
	})
	s.emit(c, "invoice.payment_failed", in, nil)
	if sub.text("status") == "incomplete" {
		return
	}
	if l.attempts >= s.cfg.Dunning.Attempts {
		if s.cfg.Dunning.End == "canceled" {
			s.end(sub, "canceled", reasonFailed, c)
			return
		}
		s.become(sub, s.cfg.Dunning.End, c)
		return
	}
	l.retry = s.now().Add(s.cfg.Dunning.Every)
	s.become(sub, "past_due", c)
}

// paid records a payment and what follows from it.
func (s *Server) paid(in, sub object, c *call) {
	s.change(in, func(o object) {
		o["status"], o["attempted"] = "paid", true
		o["amount_paid"], o["amount_remaining"] = o["amount_due"], int64(0)
		o["attempt_count"] = o.whole("attempt_count") + 1
		o.part("status_transitions")["paid_at"] = s.unix()
	})
	if sub != nil {
		if l := s.lives[sub.text("id")]; l.invoice == in.text("id") {
			l.retry = time.Time{}
		}
		switch status := sub.text("status"); {
		case slices.Contains([]string{"past_due", "unpaid", "incomplete"}, status) && in["id"] == sub["latest_invoice"]:
			s.become(sub, "active", c)
		}
	}
	s.emit(c, "invoice.paid", in, nil)
}

func (s *Server) invoice(sub object, reason string, cents int64) object {
	item := sub.items("items")[0]
	id := newID("in")
	line := object{
		"id": newID("il"), "object": "line_item", "amount": cents, "currency": sub["currency"], "invoice": id, "quantity": item["quantity"],
		"livemode": s.entries[sub.text("id")].live, "metadata": clone(sub["metadata"]), "description": nil,
		"period": object{"start": item["current_period_start"], "end": item["current_period_end"]},
		"_price": clone(item["price"]),
		"parent": object{
			"type": "subscription_item_details", "invoice_item_details": nil,
			"subscription_item_details": object{"subscription": sub["id"], "subscription_item": item["id"], "proration": false, "invoice_item": nil},
		},
		"pricing": object{
			"type": "price_details", "unit_amount_decimal": item.part("price")["unit_amount_decimal"],
			"price_details": object{"price": item.part("price")["id"], "product": item.part("price")["product"]},
		},
	}
	return s.add("invoice", s.entries[sub.text("id")].live, object{
		"id": id, "customer": sub["customer"], "billing_reason": reason, "currency": sub["currency"], "status": "open", "metadata": object{},
		"amount_due": cents, "amount_paid": int64(0), "amount_remaining": cents, "total": cents, "subtotal": cents,
		"attempt_count": int64(0), "attempted": false, "auto_advance": true, "collection_method": sub["collection_method"],
		"period_start": item["current_period_start"], "period_end": item["current_period_end"],
		"status_transitions": object{"paid_at": nil, "finalized_at": s.unix(), "voided_at": nil, "marked_uncollectible_at": nil},
		"lines":              object{"object": "list", "has_more": false, "url": "/v1/invoices/" + id + "/lines", "data": []any{line}},
		"parent": object{
			"type": "subscription_details", "quote_details": nil,
			"subscription_details": object{"subscription": sub["id"], "metadata": clone(sub["metadata"])},
		},
	})
}

func invoiceSubscription(in object) string {
	return in.part("parent").part("subscription_details").text("subscription")
}

func (c *call) listInvoices() (object, *apiError) {
	customer, sub, status := c.p.text("customer"), c.p.text("subscription"), c.p.text("status")
	return c.list("invoice", "invoices", func(o object) bool {
		return (customer == "" || o.text("customer") == customer) && (sub == "" || invoiceSubscription(o) == sub) &&
			(status == "" || o.text("status") == status)
	})
}

func (c *call) payInvoice() (object, *apiError) {
	in := c.s.get("invoice", c.live, c.id)
	if in == nil {
		return nil, missing("invoice", c.id)
	}
	c.p.ignore("payment_method", "off_session")
	if err := c.p.done(); err != nil {
		return nil, err
	}
	if in.text("status") == "paid" {
		return nil, invalid("", "Invoice is already paid")
	}
	if c.s.cards[in.text("customer")] != CardPays {
		return nil, &apiError{status: 402, Type: "card_error", Code: "card_declined", Message: "Your card was declined."}
	}
	c.s.paid(in, c.s.get("subscription", c.live, invoiceSubscription(in)), c)
	return in, nil
}
