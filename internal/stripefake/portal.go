package stripefake

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"

	"github.com/tenantgate/tenantgate/internal/page"
)

func (c *call) createPortal() (object, *apiError) {
	customer, back := c.p.need("customer"), c.p.text("return_url")
	c.p.ignore("configuration", "locale", "flow_data")
	if err := c.p.done(); err != nil {
		return nil, err
	}
	if c.s.get("customer", c.live, customer) == nil {
		return nil, missing("customer", customer)
	}
	if u, err := url.Parse(back); err != nil || (back != "" && u.Host == "") {
		return nil, invalid("return_url", "Not a valid URL")
	}
	secret := rand.Text()
	o := object{
		"customer": customer, "return_url": orNull(back), "url": c.s.cfg.Origin + "/p/session/" + secret, "configuration": "bpc_1Fake",
		"locale": nil, "on_behalf_of": nil, "flow": nil,
	}
	c.s.add("billing_portal.session", c.live, o)
	c.s.portals[secret] = o.text("id")
	return o, nil
}

// portal returns the session and the customer's subscriptions that have not ended, under the lock.
func (s *Server) portal(secret string) (object, []object) {
	id, ok := s.portals[secret]
	if !ok {
		return nil, nil
	}
	session := s.entries[id].now
	var subs []object
	for _, id := range s.order["subscription"] {
		if sub := s.entries[id].now; sub.text("customer") == session.text("customer") && !ended(sub) {
			subs = append(subs, sub)
		}
	}
	return session, subs
}

func (s *Server) portalPage(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.settle()
	session, subs := s.portal(r.PathValue("secret"))
	var d page.Data
	if session != nil {
		d = s.portalData(r.URL.Path, session, subs)
	}
	s.mu.Unlock()
	if session == nil {
		page.Render(w, http.StatusNotFound, page.Data{Heading: "There is no such portal session"})
		return
	}
	page.Render(w, http.StatusOK, d)
}

func (s *Server) portalData(path string, session object, subs []object) page.Data {
	d := page.Data{Heading: "Your subscription at the development Stripe"}
	form := func(label string, fields map[string]string) page.Action {
		return page.Action{Label: label, URL: path, Method: http.MethodPost, Hidden: fields}
	}
	for _, sub := range subs {
		id, p := sub.text("id"), sub.items("items")[0].part("price")
		item := page.Item{
			Title: s.entries[p.text("product")].now.text("name"), Badge: sub.text("status"), Current: true,
			Text: money(p.whole("unit_amount"), p.text("currency")) + " a " + p.part("recurring").text("interval") + ", until " + shortTime(currentEnd(sub)),
		}
		d.Items = append(d.Items, item)
		if sub["cancel_at"] != nil {
			d.Text = append(d.Text, "It ends on "+shortTime(sub.when("cancel_at"))+".")
			d.Actions = append(d.Actions, form("Keep the subscription", map[string]string{"action": "keep", "subscription": id}))
		} else {
			d.Actions = append(d.Actions, form("Cancel at the end of the period", map[string]string{"action": "cancel", "subscription": id}))
		}
		d.Actions = append(d.Actions, form("Cancel now", map[string]string{"action": "cancel_now", "subscription": id}))
		for _, other := range s.order["price"] {
			q := s.entries[other]
			if q.live != s.entries[id].live || other == p.text("id") || !q.now.flag("active") || q.now.text("type") != "recurring" {
				continue
			}
			label := "Switch to " + s.entries[q.now.text("product")].now.text("name") + ", " + money(q.now.whole("unit_amount"), q.now.text("currency")) +
				" a " + q.now.part("recurring").text("interval")
			d.Actions = append(d.Actions, form(label, map[string]string{"action": "switch", "subscription": id, "price": other}))
		}
	}
	if len(subs) == 0 {
		d.Text = append(d.Text, "There is no subscription.")
	}
	if back := session.text("return_url"); back != "" {
		d.Actions = append(d.Actions, page.Action{Label: "Return", URL: back})
	}
	return d
}

func (s *Server) portalForm(w http.ResponseWriter, r *http.Request) {
	if err := s.origin.Check(r); err != nil {
		http.Error(w, "this form belongs to another page", http.StatusForbidden)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	action, id, price := r.FormValue("action"), r.FormValue("subscription"), r.FormValue("price")
	s.mu.Lock()
	s.settle()
	_, subs := s.portal(r.PathValue("secret"))
	for _, sub := range subs {
		if sub.text("id") == id {
			s.act(sub, action, price)
		}
	}
	s.mu.Unlock()
	s.wake()
	http.Redirect(w, r, strings.Clone(r.URL.Path), http.StatusSeeOther)
}

// act does what a portal's button says.
func (s *Server) act(sub object, action, price string) {
	switch action {
	case "cancel", "keep":
		s.amend(sub, nil, func(o object) { s.markEnd(o, action == "cancel") })
	case "cancel_now":
		s.end(sub, "canceled", reasonRequested, nil)
	case "switch":
		if e := s.entries[price]; e != nil && e.kind == "price" && e.live == s.entries[sub.text("id")].live {
			s.switchPrice(sub, price, nil)
		}
	}
}
