package checkout

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/catalog"
)

func TestAmountsAreWrittenInTheirCurrencysUnits(t *testing.T) {
	for _, tc := range []struct {
		minor    int64
		currency string
		want     string
	}{
		{1900, "eur", "€19.00"},
		{1900, "EUR", "€19.00"},
		{5, "usd", "$0.05"},
		{0, "gbp", "£0.00"},
		{123456789, "usd", "$1,234,567.89"},
		{1200, "jpy", "JPY\u00a01,200"},
		{5, "krw", "KRW\u00a05"},
		{5120, "kwd", "KWD\u00a05.120"},
		{7, "bhd", "BHD\u00a00.007"},
		{500, "isk", "ISK\u00a05.00"},
		{500, "ugx", "UGX\u00a05.00"},
		{1900, "cad", "CAD\u00a019.00"},
		{9223372036854775807, "eur", "€92,233,720,368,547,758.07"},
		{-1, "eur", ""},
		{1900, "", ""},
		{1900, "euro", ""},
		{1900, "e<r", ""},
		{1900, "€", ""},
	} {
		got, ok := amount(tc.minor, tc.currency)
		if got != tc.want || ok != (tc.want != "") {
			t.Errorf("%d %q: %q, %v", tc.minor, tc.currency, got, ok)
		}
	}
}

func FuzzAmount(f *testing.F) {
	f.Add(int64(1900), "eur")
	f.Add(int64(-1), "jpy")
	f.Fuzz(func(t *testing.T, minor int64, currency string) {
		shown, ok := amount(minor, currency)
		if !ok {
			return
		}
		digits := strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return r
			}
			return -1
		}, shown)
		if strings.TrimLeft(digits, "0") != strings.TrimLeft(fmt.Sprint(minor), "0") {
			t.Errorf("%d %q became %q", minor, currency, shown)
		}
	})
}

func TestStandingIsSaidInWords(t *testing.T) {
	end, trial := new("2026-03-20T09:30:00"), new("2026-03-15T00:00:00")
	row := func(status string, more ...func(*catalog.Subscription)) *catalog.Subscription {
		s := &catalog.Subscription{TenantID: "acme", Status: &status, PaymentType: new("subscription"), CurrentPeriodEnd: end, StripeSubID: new("sub_1")}
		for _, f := range more {
			f(s)
		}
		return s
	}
	stops := func(s *catalog.Subscription) { s.CancelAtPeriodEnd = new(true) }
	noEnd := func(s *catalog.Subscription) { s.CurrentPeriodEnd = nil }
	late := func(s *catalog.Subscription) { s.CurrentPeriodEnd = new("2026-02-28T00:00:00") }
	gone := func(s *catalog.Subscription) { s.CurrentPeriodEnd = new("2026-01-01T00:00:00") }
	trying := func(s *catalog.Subscription) { s.TrialEnd = trial }
	ours := func(s *catalog.Subscription) { s.StripeSubID, s.TrialEnd = nil, trial }
	r := onSQLite(t)
	absurd := func(s *catalog.Subscription) { s.CurrentPeriodEnd, s.TrialEnd = new("soon"), new("<script>") }
	for name, tc := range map[string]struct {
		row  *catalog.Subscription
		want string
	}{
		"none":                {nil, "no subscription yet"},
		"active":              {row("active"), "active. It renews on 20 March 2026."},
		"ends":                {row("active", stops), "active and ends on 20 March 2026."},
		"ends some time":      {row("active", stops, noEnd), "ends with its current period."},
		"no end":              {row("active", noEnd), "The subscription is active."},
		"unreadable ends":     {row("trialing", absurd), "The trial is under way."},
		"trial":               {row("trialing", trying), "trial is under way. The first payment is due on 15 March 2026."},
		"trial of ours":       {row("trialing", ours), "trial is under way and ends on 15 March 2026."},
		"trial that is over":  {row("trialing", trying, stops), "ends on 15 March 2026."},
		"late":                {row("past_due", late), "stays open until 3 March 2026, 00:00 UTC"},
		"too late":            {row("past_due", gone), "time to make up for it is over"},
		"unpaid":              {row("unpaid"), "Pay the open invoice"},
		"canceled":            {row("canceled"), "has ended"},
		"paused":              {row("paused"), "is paused"},
		"incomplete":          {row("incomplete"), "first payment has not been completed"},
		"a word nobody knows": {row("<b>weird</b>"), "The subscription is not active."},
	} {
		if tc.row != nil {
			r.must(r.host.Subscriptions.Insert(t.Context(), tc.row))
		}
		body := r.get(visit("acme"), "").Body.String()
		if !strings.Contains(body, tc.want) || strings.Contains(body, "<b>weird") || strings.Contains(body, "<script") {
			t.Errorf("%s: %s", name, body)
		}
		if tc.row != nil {
			r.must(r.host.Subscriptions.Delete(t.Context(), tc.row.ID))
		}
	}
}

func TestCurrentPlanIsMarked(t *testing.T) {
	r := onSQLite(t)
	r.must(r.host.Subscriptions.Insert(t.Context(), &catalog.Subscription{TenantID: "acme", Status: new("active"), PlanTier: new("pro"), StripeSubID: new("sub_1")}))
	body := r.get(visit("acme"), "").Body.String()
	if n := strings.Count(body, "Current plan"); n != 1 {
		t.Fatalf("%d plans are marked", n)
	}
	_, card, _ := strings.Cut(body, `aria-current="true"`)
	if card, _, _ = strings.Cut(card, "</li>"); !strings.Contains(card, "PRO") {
		t.Errorf("marked: %s", card)
	}
	// Without a subscription no plan is current, whatever the tenant's row still says.
	if body := r.get(visit("globex"), "").Body.String(); strings.Contains(body, "Current plan") {
		t.Error("a plan that nobody pays is marked")
	}
}

func TestWhereNoSubscriptionIsNeededTheTenantsOwnPlanIsMarked(t *testing.T) {
	r := onSQLite(t)
	var err error
	r.rules, err = billing.New(billing.Config{Required: new(false)})
	r.must(err)
	r.pages.rules = r.rules
	_, err = r.host.Tenants.Change(t.Context(), "acme", func(row *catalog.TenantCatalog) error {
		row.PlanTier = new("pro")
		return nil
	})
	r.must(err)
	_, card, _ := strings.Cut(r.get(visit("acme"), "").Body.String(), `aria-current="true"`)
	if card, _, _ = strings.Cut(card, "</li>"); !strings.Contains(card, "PRO") {
		t.Errorf("marked: %s", card)
	}
}

func TestPlanThatIsNoLongerSoldIsShownToWhoHasIt(t *testing.T) {
	r := onSQLite(t)
	r.must(r.host.PricingPlans.Insert(t.Context(), &catalog.PricingPlan{ID: "old", Name: new("Vintage"), IsActive: new(false), StripePriceMonthly: new("price_old")}))
	r.must(r.host.Subscriptions.Insert(t.Context(), &catalog.Subscription{TenantID: "acme", Status: new("active"), PlanTier: new("old")}))
	mine, theirs := r.get(visit("acme"), "").Body.String(), r.get(visit("globex"), "").Body.String()
	if !strings.Contains(mine, "Vintage") || !strings.Contains(mine, "No longer on sale.") || strings.Contains(mine, `value="old"`) {
		t.Errorf("%s", mine)
	}
	if strings.Contains(theirs, "Vintage") {
		t.Error("it is offered to others")
	}
}

func TestPlansComeInTheirOrder(t *testing.T) {
	r := onSQLite(t)
	r.must(r.host.PricingPlans.Insert(t.Context(), &catalog.PricingPlan{ID: "a-last", Name: new("LAST"), SortOrder: new(int64(9))}))
	r.must(r.host.PricingPlans.Insert(t.Context(), &catalog.PricingPlan{ID: "z-first", Name: new("FIRST"), SortOrder: new(int64(-1))}))
	body := r.get(visit("acme"), "").Body.String()
	at := -1
	for _, name := range []string{"FIRST", "BASIC", "PRO", "LAST"} {
		i := strings.Index(body, "<h2>"+name)
		if i < at {
			t.Errorf("%s comes too early", name)
		}
		at = i
	}
}

func TestAbsurdRowsBreakNoPage(t *testing.T) {
	onBothEngines(t, func(t *testing.T, r *rig) {
		const evil = `"><script>alert(1)</script>`
		long := strings.Repeat("ä", 5000)
		features := `["` + strings.Repeat(`x","y`, 500) + `"]`
		for i, p := range []catalog.PricingPlan{
			{Name: new(evil), Description: new(evil), Features: new(`["<img src=x onerror=alert(1)>"]`), StripePriceMonthly: new(evil), Currency: new("e;r"), AmountMonthly: new(int64(-5))},
			{Name: new(long), Description: new(long), Features: new("{not json"), TrialDays: new(int64(-2147483648))},
			{Name: new("\x01\x02 \u202e"), Features: &features, AmountYearly: new(int64(2147483647)), SortOrder: new(int64(-2147483648))},
			{Features: new("null"), StripePriceYearly: new("price_x")},
		} {
			p.ID = catalog.PlanID(fmt.Sprintf("odd-%d%s", i, evil))
			r.must(r.host.PricingPlans.Insert(t.Context(), &p))
		}
		v := visit("acme")
		v.Name, v.Email = evil, evil
		w := r.get(v, "")
		if w.Code != 200 || strings.Contains(w.Body.String(), "<script") || strings.Contains(w.Body.String(), "<img") || strings.Contains(w.Body.String(), long) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if strings.Contains(w.Header().Get("Content-Security-Policy"), "alert") {
			t.Error("a row reaches the policy")
		}
	})
}

func TestPlansWithoutAnythingToBuy(t *testing.T) {
	r := onSQLite(t)
	for _, id := range []catalog.PlanID{"basic", "pro"} {
		r.must(r.host.PricingPlans.Delete(t.Context(), id))
	}
	if w := r.get(visit("acme"), ""); w.Code != 200 || !strings.Contains(w.Body.String(), "No plan is on sale") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestExemptTenantNeedsNothingAndMayBuy(t *testing.T) {
	r := onSQLite(t)
	var err error
	r.rules, err = billing.New(billing.Config{ExemptPlans: []string{"internal"}})
	r.must(err)
	r.pages = r.replica(r.pages.origins[0])
	_, err = r.host.Tenants.Change(t.Context(), "acme", func(row *catalog.TenantCatalog) error { row.PlanTier = new("internal"); return nil })
	r.must(err)
	body := r.get(visit("acme"), "").Body.String()
	if !strings.Contains(body, "needs no subscription") || !strings.Contains(body, "Go to the workspace") || !strings.Contains(body, CheckoutPath) {
		t.Errorf("%s", body)
	}
}

func TestTenantThatIsGoneIsNoAccess(t *testing.T) {
	r := onSQLite(t)
	if w := r.get(visit("nobody"), ""); w.Code != 403 || !strings.Contains(w.Body.String(), codeNoAccess) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestHostDatabaseThatIsDownIsNotStripesFault(t *testing.T) {
	r := onSQLite(t)
	r.must(r.host.Close())
	for name, w := range map[string]*httptest.ResponseRecorder{
		"plans": r.get(visit("acme"), ""), "portal": r.post(r.pages.Portal, visit("acme"), nil), "checkout": r.post(r.pages.Checkout, visit("acme"), nil),
	} {
		if w.Code != 503 || !strings.Contains(w.Body.String(), codeHostDown) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

func TestTokensComeBackWithTime(t *testing.T) {
	now := begin
	l := newLimiter(2, 10*time.Second, func() time.Time { return now })
	for i, want := range []bool{true, true, false, false} {
		if _, got := l.take("acme"); got != want {
			t.Errorf("take %d: %v", i, got)
		}
	}
	now = now.Add(4 * time.Second)
	if wait, ok := l.take("acme"); ok || wait != 6*time.Second {
		t.Errorf("four seconds of ten are over: wait %v", wait)
	}
	now = now.Add(6 * time.Second)
	_, first := l.take("acme")
	if wait, second := l.take("acme"); !first || second || wait != 10*time.Second {
		t.Errorf("an interval does not give one more, but %v", wait)
	}
	now = now.Add(-time.Hour)
	if _, ok := l.take("acme"); ok {
		t.Error("a clock that goes back gives something")
	}
	now = now.Add(240 * time.Hour)
	for i, want := range []bool{true, true, false} {
		if _, got := l.take("acme"); got != want {
			t.Errorf("take %d after a long time: %v", i, got)
		}
	}
	for i := range limited + 10 {
		l.take(catalog.TenantID(fmt.Sprint(i)))
	}
	if n := l.buckets.Len(); n > limited {
		t.Errorf("%d tenants are remembered", n)
	}
}
