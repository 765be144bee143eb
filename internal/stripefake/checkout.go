package stripefake

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/internal/page"
)

func (c *call) listCheckouts() (object, *apiError) {
	customer, sub, status := c.p.text("customer"), c.p.text("subscription"), c.p.text("status")
	return c.list("checkout.session", "checkout/sessions", func(o object) bool {
		return (customer == "" || o.text("customer") == customer) && (sub == "" || o.text("subscription") == sub) &&
			(status == "" || o.text("status") == status)
	})
}

func (c *call) createCheckout() (object, *apiError) {
	mode := c.p.oneOf("mode", "subscription", "payment")
	customer, email := c.p.text("customer"), c.p.text("customer_email")
	price, quantity := c.p.need("line_items[0][price]"), int64(1)
	if c.p.has("line_items[0][quantity]") {
		quantity = c.p.whole("line_items[0][quantity]")
	}
	trial := c.p.whole("subscription_data[trial_period_days]")
	subMetadata := c.p.metadata("subscription_data[metadata]", nil)
	without := map[string]string{"cancel": "canceled", "pause": "paused"}[c.p.text("subscription_data[trial_settings][end_behavior][missing_payment_method]")]
	collect := c.p.oneOf("payment_method_collection", "always", "if_required")
	success, cancel := c.p.need("success_url"), c.p.text("cancel_url")
	metadata, reference := c.p.metadata("metadata", nil), c.p.text("client_reference_id")
	expires := c.p.whole("expires_at")
	c.p.ignore("allow_promotion_codes", "locale", "billing_address_collection", "automatic_tax", "tax_id_collection", "customer_update",
		"payment_intent_data", "custom_text", "submit_type", "subscription_data[description]", "payment_method_types", "ui_mode")
	if err := c.p.done(); err != nil {
		return nil, err
	}
	if err := c.checkoutFits(mode, customer, email, price, success, trial); err != nil {
		return nil, err
	}
	if expires == 0 {
		expires = c.s.now().Add(checkoutOpen).Unix()
	}
	kind := "test_"
	if c.live {
		kind = "live_"
	}
	p := c.s.entries[price].now
	id := newID("cs_" + strings.TrimSuffix(kind, "_"))
	o := object{
		"id": id, "mode": mode, "status": "open", "payment_status": "unpaid", "customer": orNull(customer), "customer_email": orNull(email),
		"client_reference_id": orNull(reference), "metadata": metadata, "success_url": success, "cancel_url": orNull(cancel),
		"url": c.s.cfg.Origin + "/c/pay/" + id, "expires_at": expires, "currency": p["currency"],
		"amount_total": p.whole("unit_amount") * quantity, "amount_subtotal": p.whole("unit_amount") * quantity,
		"subscription": nil, "invoice": nil, "payment_intent": nil, "payment_link": nil, "payment_method_collection": collect,
		"customer_details": nil, "ui_mode": "hosted",
		// What the session will do, which the API does not show.
		"_order": object{"price": price, "quantity": quantity, "trial": trial, "metadata": subMetadata, "without": without},
	}
	return c.s.add("checkout.session", c.live, o), nil
}

func (c *call) checkoutFits(mode, customer, email, price, success string, trial int64) *apiError {
	if err := c.orderable(customer, price); err != nil {
		return err
	}
	kind := c.s.entries[price].now.text("type")
	u, err := url.Parse(success)
	switch {
	case customer != "" && email != "":
		return invalid("customer_email", "You may only specify one of these parameters: customer, customer_email.")
	case (mode == "subscription") != (kind == "recurring"):
		return invalid("line_items", "The mode does not fit the price's type.")
	case err != nil || u.Host == "":
		return invalid("success_url", "Not a valid URL")
	case trial < 0 || trial > 730:
		return invalid("subscription_data[trial_period_days]", "Invalid trial_period_days.")
	}
	return nil
}

func (c *call) expireCheckout() (object, *apiError) {
	o := c.s.get("checkout.session", c.live, c.id)
	if o == nil {
		return nil, missing("checkout.session", c.id)
	}
	if err := c.p.done(); err != nil {
		return nil, err
	}
	if o.text("status") != "open" {
		return nil, invalid("", "Only Checkout Sessions with a status in [\"open\"] can be expired.")
	}
	c.s.expire(o, c)
	return o, nil
}

func (s *Server) expire(o object, c *call) {
	s.change(o, func(o object) { o["status"], o["url"] = "expired", nil })
	s.emit(c, "checkout.session.expired", o, nil)
}

// Pay completes a checkout as somebody with that card would, and returns where the browser goes then; "" if the card
// was declined or the session is not open.
func (s *Server) Pay(session string, card Card) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wake()
	s.settle()
	e := s.entries[session]
	if e == nil || e.kind != "checkout.session" || e.now.text("status") != "open" {
		return ""
	}
	o := e.now
	order := o.part("_order")
	trial := order.whole("trial") > 0 || s.entries[order.text("price")].now.part("recurring").whole("trial_period_days") > 0
	needsCard := !trial || o.text("payment_method_collection") == "always"
	if card == CardDeclines || (needsCard && card != CardPays) {
		return ""
	}
	s.complete(o, card)
	return strings.ReplaceAll(o.text("success_url"), "{CHECKOUT_SESSION_ID}", o.text("id"))
}

func (s *Server) complete(o object, card Card) {
	live := s.entries[o.text("id")].live
	who := o.text("customer")
	if who == "" {
		made := customer(o.text("customer_email"), "", object{})
		s.newCustomer(live, made, card, nil)
		who = made.text("id")
	}
	if card == CardPays {
		s.cards[who] = card
	}
	order := o.part("_order")
	changes := object{"status": "complete", "payment_status": "paid", "customer": who, "url": nil}
	if o.text("mode") == "subscription" {
		n := signUp{
			live: live, customer: who, price: order.text("price"), quantity: order.whole("quantity"), checkout: true,
			metadata: clone(order["metadata"]).(object), withoutCard: order.text("without"),
		}
		if days := order.whole("trial"); days > 0 {
			n.trialEnd = s.now().AddDate(0, 0, int(days))
		}
		sub := s.subscribe(n, nil)
		changes["subscription"], changes["invoice"] = sub["id"], sub["latest_invoice"]
		if sub.text("status") == "trialing" {
			changes["payment_status"] = "no_payment_required"
		}
	} else {
		changes["payment_intent"] = newID("pi")
	}
	s.change(o, func(o object) {
		for k, v := range changes {
			o[k] = v
		}
		o["customer_details"] = object{"email": s.entries[who].now["email"]}
	})
	s.emit(nil, "checkout.session.completed", o, nil)
}

func money(cents int64, currency string) string {
	return strconv.FormatInt(cents/100, 10) + "." + strconv.FormatInt(100+cents%100, 10)[1:] + " " + strings.ToUpper(currency)
}

// payPage is the hosted page.
func (s *Server) payPage(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.settle()
	e := s.entries[r.PathValue("id")]
	if e == nil || e.kind != "checkout.session" {
		s.mu.Unlock()
		page.Render(w, http.StatusNotFound, page.Data{Heading: "There is no such checkout"})
		return
	}
	d := s.payData(e.now)
	s.mu.Unlock()
	if r.URL.Query().Get("declined") != "" {
		d.Text = append([]string{"Your card was declined."}, d.Text...)
	}
	page.Render(w, http.StatusOK, d)
}

func (s *Server) payData(o object) page.Data {
	back := page.Action{Label: "Back", URL: o.text("cancel_url")}
	if o.text("status") != "open" {
		d := page.Data{Heading: "This checkout is " + o.text("status"), Text: []string{"Nothing can be paid here any more."}}
		if back.URL != "" {
			d.Actions = []page.Action{back}
		}
		return d
	}
	order := o.part("_order")
	p := s.entries[order.text("price")].now
	name := s.entries[p.text("product")].now.text("name")
	text := name + ", " + money(o.whole("amount_total"), o.text("currency"))
	if every := p.part("recurring").text("interval"); every != "" {
		text += " a " + every
	}
	lines := []string{text}
	if days := order.whole("trial"); days > 0 {
		lines = append(lines, strconv.FormatInt(days, 10)+" days are free.")
	}
	form := func(label, action string, primary bool) page.Action {
		return page.Action{
			Label: label, URL: "/c/pay/" + o.text("id"), Method: http.MethodPost, Hidden: map[string]string{"action": action}, Primary: primary,
		}
	}
	d := page.Data{
		Heading: "Pay at the development Stripe", Text: append(lines, "No money moves: this page stands on your own machine."), Who: o.text("customer_email"),
		Actions: []page.Action{form("Pay", "pay", true), form("Pay with a card that is declined", "decline", false)},
	}
	if back.URL != "" {
		back.Label = "Cancel"
		d.Actions = append(d.Actions, back)
	}
	d.FormTargets = []string{originOf(o.text("success_url"))}
	return d
}

func originOf(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func (s *Server) payForm(w http.ResponseWriter, r *http.Request) {
	if err := s.origin.Check(r); err != nil {
		http.Error(w, "this form belongs to another page", http.StatusForbidden)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	card := CardDeclines
	if r.FormValue("action") == "pay" {
		card = CardPays
	}
	target := s.Pay(r.PathValue("id"), card)
	if target == "" {
		target = r.URL.Path + "?declined=1"
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// shortTime is a moment as pages show it.
func shortTime(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }
