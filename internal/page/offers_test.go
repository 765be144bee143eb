package page

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestOffersStandSideBySideWithTheirButtons(t *testing.T) {
	d := Data{
		Heading: "Plans", FormTargets: []string{"https://checkout.stripe.com"}, Reload: 1500 * time.Millisecond,
		Offers: []Offer{
			{Title: "Pro", Badge: "Current plan", Current: true, Text: "About", Points: []string{"Reports"}, Prices: []string{"€49.00 a month"}, Note: "14 days free."},
			{Title: "Basic", Actions: []Action{{Label: "Pay monthly", URL: "/buy", Method: "POST", Hidden: map[string]string{"plan": "basic"}, Primary: true}}},
		},
	}
	w := render(t, d)
	body := w.Body.String()
	for _, must := range []string{
		`<main class="wide">`, `<li class="offer current" aria-current="true">`, `<span class="badge">Current plan</span>`, "<li>Reports</li>",
		`<p class="price">€49.00 a month</p>`, `<p class="note">14 days free.</p>`, `<input type="hidden" name="plan" value="basic">`,
		`<button class="button primary" type="submit">Pay monthly</button>`,
	} {
		if !strings.Contains(body, must) {
			t.Errorf("page lacks %s", must)
		}
	}
	// Its buttons are forms: without form-action they would do nothing, without a referrer they would be refused.
	if csp := w.Header().Get("Content-Security-Policy"); !strings.HasSuffix(csp, "form-action 'self' https://checkout.stripe.com") {
		t.Errorf("policy %q", csp)
	}
	if w.Header().Get("Referrer-Policy") != "same-origin" || w.Header().Get("Refresh") != "1" {
		t.Errorf("headers %v", w.Header())
	}
}

func TestOffersEscapeWhatRowsHold(t *testing.T) {
	const evil = `<script>alert(1)</script>"'`
	body := render(t, Data{Heading: "x", Offers: []Offer{{
		Title: evil, Badge: evil, Text: evil, Points: []string{evil}, Prices: []string{evil}, Note: evil,
		Actions: []Action{{Label: evil, URL: "javascript:alert(1)", Method: "POST", Hidden: map[string]string{"plan": evil}}},
	}}}).Body.String()
	if strings.Contains(body, "<script") || strings.Contains(body, "javascript:") {
		t.Errorf("page holds script:\n%s", body)
	}
}

func TestPageStaysUnlessItIsToBeLoadedAgain(t *testing.T) {
	w := httptest.NewRecorder()
	Render(w, 200, Data{Heading: "x"})
	if got := w.Header().Get("Refresh"); got != "" {
		t.Errorf("Refresh: %q", got)
	}
}
