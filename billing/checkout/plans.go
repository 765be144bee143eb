package checkout

import (
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/page"
)

// Bounds of what a page shows: rows may hold anything.
const (
	shownPlans    = 60
	shownFeatures = 30
	shownText     = 300 // bytes
	maxTrialDays  = 730 // Stripe's
)

// Intervals at which a plan is paid.
const (
	monthly = "month"
	yearly  = "year"
)

// price is the Stripe price of a plan at an interval, "" where it has none.
func price(plan *catalog.PricingPlan, interval string) ledger.StripeID {
	switch interval {
	case monthly:
		return ledger.StripeID(text(plan.StripePriceMonthly))
	case yearly:
		return ledger.StripeID(text(plan.StripePriceYearly))
	}
	return ""
}

// onSale reports whether a plan is offered; NULL is not.
func onSale(plan *catalog.PricingPlan) bool { return plan.IsActive != nil && *plan.IsActive }

// trialDays are free for a tenant that has had no subscription and no trial before, of ours or of Stripe's; 0: none.
func (s *state) trialDays(plan *catalog.PricingPlan) int64 {
	if s.row != nil {
		return 0
	}
	return min(max(number(plan.TrialDays), 0), maxTrialDays)
}

// Plans serves GET Path: what there is to buy, what the tenant has, and, with a session of checkout in the query, what
// became of that.
func (p *Pages) Plans(w http.ResponseWriter, r *http.Request, v Visit) {
	ctx, cancel := v.within(r.Context())
	defer cancel()
	back, err := p.comeBack(ctx, r, &v)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	s, err := p.read(ctx, &v)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	customer, err := p.payer(ctx, s)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	d := p.plansPage(&v, s, customer, back)
	if d.Reload > 0 { // until the payment has arrived nothing leads away from where that is seen
		d.Actions = append([]page.Action{{Label: "Look again", URL: v.link(Path, sessionParameter, r.URL.Query().Get(sessionParameter)), Primary: !s.open}}, d.Actions...)
	}
	page.Render(w, http.StatusOK, d)
}

func (p *Pages) plansPage(v *Visit, s *state, customer ledger.StripeID, back outcome) page.Data {
	d := page.Data{
		Title: "Billing", Heading: "Billing of " + shorten(v.Name, string(v.Tenant)), Who: v.Email, FormTargets: p.origins,
	}
	switch {
	case back == paid && s.entitled:
		d.Text = append(d.Text, "Thank you. The payment has arrived, and the workspace is open.")
	case back == paid || back == pending:
		d.Text = append(d.Text, "The payment has not been confirmed yet. This page looks again by itself.")
		d.Reload = reloadAfter
	case back == unknownYet:
		d.Text = append(d.Text, "The payment service does not answer at the moment. If you have paid, this page will show it shortly; you need not pay again.")
		d.Reload = reloadAfter
	case back == unfinished:
		d.Text = append(d.Text, "The payment was not completed. Nothing has been charged.")
	}
	d.Text = append(d.Text, p.standing(s)...)
	buyable := d.Reload == 0 && (!s.entitled || s.atStripe() == "") // nobody pays twice while a payment is under way
	for i := range s.plans {
		if plan := &s.plans[i]; onSale(plan) || string(plan.ID) == s.key && s.entitled {
			d.Offers = append(d.Offers, s.offer(v, plan, buyable && onSale(plan)))
		}
		if len(d.Offers) == shownPlans {
			break
		}
	}
	if len(d.Offers) == 0 {
		d.Text = append(d.Text, "No plan is on sale at the moment.")
	}
	d.Actions = s.ways(v, customer, d.Reload > 0)
	return d
}

// ways are the page's links and buttons.
func (s *state) ways(v *Visit, customer ledger.StripeID, waiting bool) []page.Action {
	var out []page.Action
	if s.open {
		out = append(out, page.Action{Label: "Go to the workspace", URL: v.App, Primary: true})
	}
	if customer != "" {
		out = append(out, page.Action{
			Label: "Manage payment and invoices", URL: PortalPath, Method: http.MethodPost, Hidden: v.fields(),
			Primary: !s.open && !waiting && lives(s.sub.Status),
		})
	}
	return out
}

// offer is the card of a plan.
func (s *state) offer(v *Visit, plan *catalog.PricingPlan, buyable bool) page.Offer {
	view := billing.ParsePlan(plan)
	o := page.Offer{Title: shorten(text(plan.Name), string(plan.ID)), Text: shorten(text(plan.Description), "")}
	if view.Has(billing.AllFeatures) {
		o.Points = []string{"Everything included"}
	} else {
		o.Points = featureNames(view.Features)
	}
	if string(plan.ID) == s.key && s.open {
		o.Current, o.Badge = true, "Current plan"
	}
	if !onSale(plan) {
		o.Note = "No longer on sale."
		return o
	}
	for _, at := range [...]struct {
		interval, each, label string
		minor                 *int64
	}{{monthly, "a month", "Pay monthly", plan.AmountMonthly}, {yearly, "a year", "Pay yearly", plan.AmountYearly}} {
		id := price(plan, at.interval)
		if at.minor != nil {
			if shown, ok := amount(*at.minor, text(plan.Currency)); ok {
				o.Prices = append(o.Prices, shown+" "+at.each)
			}
		}
		if id != "" && buyable {
			o.Actions = append(o.Actions, page.Action{
				Label: at.label, URL: CheckoutPath, Method: http.MethodPost, Primary: len(o.Actions) == 0,
				Hidden: v.fields("plan", string(plan.ID), "interval", at.interval),
			})
		}
	}
	switch days := s.trialDays(plan); {
	case price(plan, monthly) == "" && price(plan, yearly) == "":
		o.Note = "Not for sale here."
	case len(o.Actions) > 0 && days > 0:
		o.Note = fmt.Sprintf("%d %s free, then the price above.", days, plural(days, "day", "days"))
	}
	if len(o.Actions) > 0 && len(o.Prices) == 0 {
		o.Prices = []string{"The price is shown before you pay."}
	}
	return o
}

func plural(n int64, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

// featureNames are feature keys as people read them: advanced_analytics is Advanced analytics.
func featureNames(keys []string) []string {
	var out []string
	for i, key := range keys {
		if i == shownFeatures {
			return append(out, fmt.Sprintf("and %d more", len(keys)-i))
		}
		name := []rune(strings.Join(strings.FieldsFunc(shorten(key, ""), func(r rune) bool { return r == '_' || unicode.IsSpace(r) }), " "))
		if len(name) > 0 {
			name[0] = unicode.ToUpper(name[0])
			out = append(out, string(name))
		}
	}
	return out
}

// shorten is a text as a page shows it, or other where it holds nothing to be seen.
func shorten(s, other string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "")))
	if s == "" {
		s = other
	}
	if len(s) > shownText {
		cut := shownText
		for !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return s
}
