package checkout

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/stripefake"
)

func TestPaidCheckoutOpensTheTenantWithoutAWebhook(t *testing.T) {
	onBothEngines(t, func(t *testing.T, r *rig) {
		v := visit("acme")
		target := r.buy(v, "pro", "year")
		made := r.stripe.Get(session(t, target))
		for key, want := range map[string]string{
			"mode": "subscription", "client_reference_id": "acme", "currency": "eur", "amount_total": "38000",
			"success_url": "https://app.example.com/_gate/billing?tenant=acme&session_id={CHECKOUT_SESSION_ID}",
			"cancel_url":  "https://app.example.com/_gate/billing?tenant=acme",
		} {
			if fmt.Sprint(made[key]) != want {
				t.Errorf("%s is %v, want %v", key, made[key], want)
			}
		}
		w := r.get(v, r.pay(target))
		if w.Code != 200 || !strings.Contains(w.Body.String(), "The payment has arrived") || !strings.Contains(w.Body.String(), `href="/t/acme/"`) {
			t.Fatalf("%d %s\n%s", w.Code, w.Body, r.log)
		}
		row := r.newest("acme")
		if row == nil || text(row.Status) != "trialing" || text(row.PlanTier) != "pro" {
			t.Fatalf("row %+v", row)
		}
		sub := r.stripe.All("subscription")[0]
		meta := sub["metadata"].(stripefake.Object)
		if meta["tenant_id"] != "acme" || !r.signer.Verify("acme", sub["customer"].(string), meta["tenant_sig"].(string)) {
			t.Errorf("metadata %v", meta)
		}
		if other := r.newest("globex"); other != nil {
			t.Errorf("another tenant has a row: %+v", other)
		}
	})
}

func TestBrowserComesBackAgainAndAgain(t *testing.T) {
	r := onSQLite(t)
	v := visit("acme")
	query := r.pay(r.buy(v, "basic", "month"))
	r.get(v, query)
	before := len(r.events())
	all, _, err := r.host.AuditLogs.List(t.Context(), catalog.Page{Limit: 1000})
	r.must(err)
	for range 3 {
		if w := r.get(v, query); !strings.Contains(w.Body.String(), "The payment has arrived") {
			t.Errorf("%s", w.Body)
		}
	}
	again, _, err := r.host.AuditLogs.List(t.Context(), catalog.Page{Limit: 1000})
	r.must(err)
	if len(r.events()) != before || len(again) != len(all) {
		t.Errorf("%d audit rows became %d", len(all), len(again))
	}
	subs, _, err := r.host.Subscriptions.List(t.Context(), catalog.Page{Limit: 10})
	if err != nil || len(subs) != 1 {
		t.Errorf("%d rows, %v", len(subs), err)
	}
}

func TestSessionsOfOthersAreAsIfThereWereNone(t *testing.T) {
	r := onSQLite(t)
	foreign := r.pay(r.buy(visit("globex"), "pro", "month"))
	mine := visit("acme")
	plain := r.get(mine, "").Body.String()
	copied := r.stripe.AddCustomer(stripefake.Customer{Email: "eve@example.com", Card: stripefake.CardPays})
	sig := r.signer.Sign("globex", "cus_other")
	forged := r.stripe.AddSubscription(stripefake.Subscribe{
		Customer: copied, Price: "price_pro_m", Metadata: map[string]string{"tenant_id": "acme", "tenant_sig": sig},
	})
	for name, query := range map[string]string{
		"another tenant's": foreign,
		"none":             "session_id=cs_test_doesnotexist",
		"a subscription":   "session_id=" + forged,
		"no id":            "session_id=cs_test_../../v1/customers",
		"long":             "session_id=cs_" + strings.Repeat("a", 300),
		"empty":            "session_id=",
		"the template":     "session_id={CHECKOUT_SESSION_ID}",
	} {
		w := r.get(mine, query)
		if w.Code != 200 || w.Body.String() != plain {
			t.Errorf("%s: %d, another page:\n%s", name, w.Code, w.Body)
		}
	}
	if row := r.newest("acme"); row != nil {
		t.Errorf("acme got %+v", row)
	}
	// The one whose it is gets it, all the same.
	if w := r.get(visit("globex"), foreign); !strings.Contains(w.Body.String(), "The payment has arrived") {
		t.Errorf("%s", w.Body)
	}
}

func TestSubscriptionThatWasTakenFromTheTenantOpensNothing(t *testing.T) {
	r := onSQLite(t)
	query := r.pay(r.buy(visit("acme"), "basic", "month"))
	sub := r.stripe.All("subscription")[0]["id"].(string)
	r.stripe.SetMetadata(sub, map[string]string{"tenant_id": "globex"})
	if w := r.get(visit("acme"), query); strings.Contains(w.Body.String(), "arrived") {
		t.Errorf("%s", w.Body)
	}
	if r.newest("acme") != nil || r.newest("globex") != nil {
		t.Error("a row was made")
	}
}

func TestManyClicksMakeOneCustomerAndOneCheckout(t *testing.T) {
	onBothEngines(t, func(t *testing.T, r *rig) {
		replicas := []*Pages{r.pages, r.replica(r.pages.origins[0]), r.replica(r.pages.origins[0])}
		var wg sync.WaitGroup
		targets := make([]string, 12)
		for i := range targets {
			wg.Go(func() {
				v := visit("acme")
				v.Email = []string{"olivia@acme.example", "ada@acme.example"}[i%2]
				w := r.post(replicas[i%len(replicas)].Checkout, v, url.Values{"plan": {"pro"}, "interval": {"month"}})
				targets[i] = w.Header().Get("Location")
			})
		}
		wg.Wait()
		for _, target := range targets {
			if target == "" || target != targets[0] {
				t.Fatalf("clicks lead to %q\n%s", targets, r.log)
			}
		}
		if n := len(r.stripe.All("customer")); n != 1 {
			t.Errorf("%d customers", n)
		}
		if n := len(r.stripe.All("checkout.session")); n != 1 {
			t.Errorf("%d sessions", n)
		}
		if n := r.count("billing.checkout_started"); n != 1 {
			t.Errorf("%d starts in the audit", n)
		}
		if n := r.count("billing.customer_created"); n != 1 {
			t.Errorf("%d customers in the audit", n)
		}
	})
}

func open(r *rig) (ids []string) {
	for _, s := range r.stripe.All("checkout.session") {
		if s["status"] == "open" {
			ids = append(ids, s["id"].(string))
		}
	}
	return ids
}

func TestAtMostOneCheckoutOfATenantIsOpen(t *testing.T) {
	onBothEngines(t, func(t *testing.T, r *rig) {
		first := r.buy(visit("acme"), "basic", "month")
		if again := r.buy(visit("acme"), "basic", "month"); again != first {
			t.Errorf("coming back from Stripe and pressing again leads to %s instead of %s", again, first)
		}
		second := r.buy(visit("acme"), "pro", "month")
		if got := open(r); len(got) != 1 || got[0] != session(t, second) {
			t.Errorf("open: %v", got)
		}
		if r.stripe.Pay(session(t, first), stripefake.CardPays) != "" {
			t.Error("what was replaced can still be paid")
		}
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				plan, interval := []string{"basic", "pro"}[i%2], []string{"month", "year"}[i/2%2]
				r.post(r.pages.Checkout, visit("acme"), url.Values{"plan": {plan}, "interval": {interval}})
			})
		}
		wg.Wait()
		if got := open(r); len(got) > 1 {
			t.Errorf("open: %v", got)
		}
		other := r.buy(visit("globex"), "pro", "month")
		if !slices.Contains(open(r), session(t, other)) {
			t.Error("another tenant's checkout was ended")
		}
	})
}

func TestWhoPaysAlreadyIsLedToThePortal(t *testing.T) {
	r := onSQLite(t)
	v := visit("acme")
	r.get(v, r.pay(r.buy(v, "basic", "month")))
	if got := r.buy(v, "pro", "year"); !strings.Contains(got, "/p/session/") {
		t.Errorf("led to %s", got)
	}
	if n := len(r.stripe.All("checkout.session")); n != 1 {
		t.Errorf("%d sessions", n)
	}
	if r.count("billing.portal_started") != 1 || r.count("billing.checkout_started") != 1 {
		t.Errorf("audit: %v", r.events())
	}
	body := r.get(v, "").Body.String()
	if strings.Contains(body, CheckoutPath) || !strings.Contains(body, PortalPath) {
		t.Errorf("the page still sells, or has no portal:\n%s", body)
	}
}

// Paid in one window, and before the way back is walked, or a webhook comes, the button is pressed in another.
func TestButtonAfterAPaymentThatWeHaveNotHeardOf(t *testing.T) {
	r := onSQLite(t)
	v := visit("acme")
	r.pay(r.buy(v, "basic", "month"))
	if got := r.buy(v, "pro", "month"); got != "/_gate/billing?tenant=acme" {
		t.Errorf("led to %s", got)
	}
	if row := r.newest("acme"); row == nil || text(row.Status) != "active" {
		t.Errorf("row %+v", row)
	}
	if n := len(r.stripe.All("checkout.session")); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

func TestEndedSubscriptionCanBeBoughtAnew(t *testing.T) {
	onBothEngines(t, func(t *testing.T, r *rig) {
		v := visit("acme")
		r.get(v, r.pay(r.buy(v, "pro", "month")))
		r.stripe.Cancel(r.stripe.All("subscription")[0]["id"].(string)) // and no webhook says so
		r.advance(time.Minute)
		target := r.buy(v, "pro", "month")
		if order := r.stripe.Get(session(t, target)); order["customer"] != r.stripe.All("customer")[0]["id"] || len(r.stripe.All("customer")) != 1 {
			t.Errorf("bought as another customer: %v", order["customer"])
		}
		if row := r.newest("acme"); text(row.Status) != "canceled" {
			t.Errorf("the row still says %s", text(row.Status))
		}
		r.get(v, r.pay(target))
		if row := r.newest("acme"); text(row.Status) != "active" {
			t.Errorf("a second trial, or none: %s", text(row.Status))
		}
	})
}

func TestTrialIsForTenantsThatHadNothingBefore(t *testing.T) {
	r := onSQLite(t)
	if !strings.Contains(r.get(visit("acme"), "").Body.String(), "14 days free") {
		t.Error("the trial is not announced")
	}
	r.must(r.host.Subscriptions.Insert(t.Context(), &catalog.Subscription{TenantID: "acme", Status: new("canceled")}))
	if strings.Contains(r.get(visit("acme"), "").Body.String(), "days free") {
		t.Error("a second trial is announced")
	}
	r.get(visit("acme"), r.pay(r.buy(visit("acme"), "pro", "month")))
	if sub := r.stripe.All("subscription")[0]; sub["status"] != "active" {
		t.Errorf("a second trial: %v", sub["status"])
	}
	for days, want := range map[int64]int64{-3: 0, 0: 0, 7: 7, 100_000: 730} {
		if got := (&state{}).trialDays(&catalog.PricingPlan{TrialDays: &days}); got != want {
			t.Errorf("%d days: %d", days, got)
		}
	}
	if got := (&state{}).trialDays(&catalog.PricingPlan{}); got != 0 {
		t.Errorf("NULL: %d days", got)
	}
}

func TestOnlyWhatIsOnSaleCanBeBought(t *testing.T) {
	r := onSQLite(t)
	ctx := t.Context()
	r.must(r.host.PricingPlans.Insert(ctx, &catalog.PricingPlan{ID: "old", StripePriceMonthly: new("price_pro_m"), IsActive: new(false)}))
	r.must(r.host.PricingPlans.Insert(ctx, &catalog.PricingPlan{ID: "free", AmountMonthly: new(int64(0))}))
	for name, form := range map[string]url.Values{
		"nothing":          {},
		"no such plan":     {"plan": {"gold"}, "interval": {"month"}},
		"not on sale":      {"plan": {"old"}, "interval": {"month"}},
		"without a price":  {"plan": {"free"}, "interval": {"month"}},
		"another interval": {"plan": {"pro"}, "interval": {"week"}},
		"no interval":      {"plan": {"pro"}},
		"a price's id":     {"plan": {"price_pro_m"}, "interval": {"month"}, "price": {"price_pro_m"}},
		"NUL":              {"plan": {"pro\x00"}, "interval": {"month"}},
	} {
		if w := r.post(r.pages.Checkout, visit("acme"), form); w.Code != 400 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if n := len(r.stripe.Requests()); n > 0 {
		t.Errorf("Stripe was asked %d times", n)
	}
	body := r.get(visit("acme"), "").Body.String()
	if strings.Contains(body, `value="old"`) || strings.Contains(body, `value="free"`) || !strings.Contains(body, "Not for sale here.") {
		t.Errorf("page:\n%s", body)
	}
}

func TestPriceOfTheClientIsNotLookedAt(t *testing.T) {
	r := onSQLite(t)
	w := r.post(r.pages.Checkout, visit("acme"), url.Values{
		"plan": {"pro"}, "interval": {"year"}, "price": {"price_basic_m"}, "trial_days": {"700"}, "customer": {"cus_1"}, "tenant_id": {"globex"},
	})
	made := r.stripe.Get(session(t, w.Header().Get("Location")))
	if fmt.Sprint(made["amount_total"]) != "38000" || made["client_reference_id"] != "acme" {
		t.Errorf("%v", made)
	}
}

func TestCustomerThatStripeDoesNotHaveIsReplaced(t *testing.T) {
	onBothEngines(t, func(t *testing.T, r *rig) {
		r.must(r.host.Subscriptions.Insert(t.Context(), &catalog.Subscription{
			TenantID: "acme", Status: new("canceled"), StripeSubID: new("sub_demo"), StripeCustID: new("cus_demo"),
		}))
		target := r.buy(visit("acme"), "basic", "month")
		if n := len(r.stripe.All("customer")); n != 1 || r.stripe.Get(session(t, target)) == nil {
			t.Errorf("%d customers, led to %s", n, target)
		}
		if r.count("billing.customer_forgotten") != 1 || r.count("billing.customer_created") != 1 {
			t.Errorf("audit: %v", r.events())
		}
		row, err := r.host.StripeCustomer(t.Context(), "acme")
		if err != nil || row.CustomerID != r.stripe.All("customer")[0]["id"] {
			t.Errorf("%+v, %v", row, err)
		}
	})
}

func TestPriceThatStripeDoesNotHaveIsNoReasonForAnotherCustomer(t *testing.T) {
	r := onSQLite(t)
	_, err := r.host.PricingPlans.Change(t.Context(), "pro", func(p *catalog.PricingPlan) error {
		p.StripePriceMonthly = new("price_gone")
		return nil
	})
	r.must(err)
	if w := r.post(r.pages.Checkout, visit("acme"), url.Values{"plan": {"pro"}, "interval": {"month"}}); w.Code != 503 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if n := len(r.stripe.All("customer")); n != 1 {
		t.Errorf("%d customers", n)
	}
}

func TestKnownCustomerOfTheTenantIsUsed(t *testing.T) {
	r := onSQLite(t)
	mine := r.stripe.AddCustomer(stripefake.Customer{Email: "billing@acme.example"})
	shared := r.stripe.AddCustomer(stripefake.Customer{Email: "group@example.com"})
	insert := func(tenant, customer string) {
		r.must(r.host.Subscriptions.Insert(t.Context(), &catalog.Subscription{TenantID: catalog.TenantID(tenant), Status: new("canceled"), StripeCustID: &customer}))
	}
	insert("acme", mine)
	if made := r.stripe.Get(session(t, r.buy(visit("acme"), "pro", "month"))); made["customer"] != mine {
		t.Errorf("bought as %v", made["customer"])
	}
	// One that two tenants pay as is nobody's: its portal would show the one what the other pays.
	insert("globex", shared)
	insert("hooli", shared)
	if made := r.stripe.Get(session(t, r.buy(visit("globex"), "pro", "month"))); made["customer"] == shared {
		t.Error("bought as a customer of another tenant, too")
	}
}

func TestStripeThatDoesNotAnswerSellsNothing(t *testing.T) {
	r := onSQLite(t)
	r.stripe.SetFaults(func(*http.Request) *stripefake.Fault { return &stripefake.Fault{Status: 500} })
	for name, w := range map[string]*httptest.ResponseRecorder{
		"checkout": r.post(r.pages.Checkout, visit("acme"), url.Values{"plan": {"pro"}, "interval": {"month"}}),
	} {
		if w.Code != 503 || !strings.Contains(w.Body.String(), codeUnavailable) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if w := r.get(visit("acme"), "session_id=cs_test_abc"); w.Code != 200 || w.Header().Get("Refresh") == "" || !strings.Contains(w.Body.String(), "does not answer") {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := r.get(visit("acme"), ""); w.Code != 200 || w.Header().Get("Refresh") != "" {
		t.Errorf("the plans are gone, too: %d %s", w.Code, w.Body)
	}
	r.stripe.SetFaults(nil)
	r.buy(visit("acme"), "pro", "month")
	if n := len(r.stripe.All("customer")); n != 1 {
		t.Errorf("%d customers", n)
	}
}

// What is lost on the way back from Stripe has happened all the same.
func TestAnswersThatAreLostAreNotDoneTwice(t *testing.T) {
	r := onSQLite(t)
	var mu sync.Mutex
	n := 0
	r.stripe.SetFaults(func(req *http.Request) *stripefake.Fault {
		mu.Lock()
		defer mu.Unlock()
		if n++; req.Method == "POST" && n%3 != 0 {
			return &stripefake.Fault{Status: 500, Done: true}
		}
		return nil
	})
	for range 6 {
		r.post(r.pages.Checkout, visit("acme"), url.Values{"plan": {"pro"}, "interval": {"month"}})
	}
	r.stripe.SetFaults(nil)
	r.buy(visit("acme"), "pro", "month")
	if a, b := len(r.stripe.All("customer")), len(r.stripe.All("checkout.session")); a != 1 || b != 1 {
		t.Errorf("%d customers, %d sessions", a, b)
	}
}

func TestPaymentThatIsUnderWayIsWaitedFor(t *testing.T) {
	r := onSQLite(t)
	v := visit("acme")
	target := r.buy(v, "basic", "month")
	if w := r.get(v, "session_id="+session(t, target)); !strings.Contains(w.Body.String(), "was not completed") || w.Header().Get("Refresh") != "" {
		t.Errorf("left open: %s", w.Body)
	}
	query := r.pay(target)
	sub := r.stripe.All("subscription")[0]["id"].(string)
	r.stripe.Edit(sub, func(o stripefake.Object) { o["status"] = "incomplete" })
	r.stripe.Edit(session(t, target), func(o stripefake.Object) { o["payment_status"] = "unpaid" })
	w := r.get(v, query)
	if !strings.Contains(w.Body.String(), "not been confirmed yet") || w.Header().Get("Refresh") != "5" || !strings.Contains(w.Body.String(), "Look again") {
		t.Errorf("%v %s", w.Header(), w.Body)
	}
	if strings.Contains(w.Body.String(), "Pay monthly") || !strings.Contains(w.Body.String(), `?session_id=`+session(t, target)+`&amp;tenant=acme"`) {
		t.Errorf("it can be paid twice, or is lost sight of: %s", w.Body)
	}
	if strings.Contains(w.Body.String(), "arrived") || r.newest("acme") != nil {
		t.Error("not paid, and open")
	}
	r.stripe.Edit(sub, func(o stripefake.Object) { o["status"] = "active" })
	r.stripe.Edit(session(t, target), func(o stripefake.Object) { o["payment_status"] = "paid" })
	if w := r.get(v, query); !strings.Contains(w.Body.String(), "The payment has arrived") {
		t.Errorf("%s", w.Body)
	}
}

// A tab that the browser opens again, long after.
func TestAnOldSessionOfWhatHasEndedIsNotWaitedFor(t *testing.T) {
	for status, want := range map[string]string{
		"canceled": "The subscription has ended", "incomplete_expired": "has no subscription yet", "unpaid": "The last payment has failed", "paused": "The subscription is paused",
	} {
		for _, payment := range []string{"paid", "unpaid"} {
			t.Run(status+" "+payment, func(t *testing.T) {
				r := onSQLite(t)
				v := visit("acme")
				target := r.buy(v, "basic", "month")
				query := r.pay(target)
				sub := r.stripe.All("subscription")[0]["id"].(string)
				if status != "incomplete_expired" {
					r.get(v, query)
				}
				r.stripe.Edit(sub, func(o stripefake.Object) { o["status"] = status })
				r.stripe.Edit(session(t, target), func(o stripefake.Object) { o["payment_status"] = payment })
				w := r.get(v, query)
				if body := w.Body.String(); w.Header().Get("Refresh") != "" || strings.Contains(body, "confirmed yet") || !strings.Contains(body, want) || !strings.Contains(body, "Pay monthly") {
					t.Errorf("%v %s", w.Header(), body)
				}
			})
		}
	}
}

func TestOneTenantsChecksOutAreLimited(t *testing.T) {
	r := onSQLite(t)
	last := 0
	for range startBurst + 1 {
		last = r.post(r.pages.Portal, visit("acme"), nil).Code
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("%d", last)
	}
	if w := r.post(r.pages.Checkout, visit("acme"), url.Values{"plan": {"pro"}, "interval": {"month"}}); w.Code != 429 {
		t.Errorf("%d", w.Code)
	}
	if n := len(r.stripe.Requests()); n != 0 {
		t.Errorf("Stripe was asked %d times", n)
	}
	r.buy(visit("globex"), "pro", "month")
	r.advance(startEvery)
	r.buy(visit("acme"), "pro", "month")
	for range returnBurst {
		r.get(visit("acme"), "session_id=cs_test_abc")
	}
	before := len(r.stripe.Requests())
	r.get(visit("acme"), "session_id=cs_test_abc")
	if len(r.stripe.Requests()) != before {
		t.Error("sessions are looked at without limit")
	}
}

func TestNothingOfStripesSecretsIsShownOrLogged(t *testing.T) {
	r := onSQLite(t)
	v := visit("acme")
	r.stripe.SetFaults(func(*http.Request) *stripefake.Fault { return &stripefake.Fault{Status: 401} })
	pages := []*httptest.ResponseRecorder{r.post(r.pages.Checkout, v, url.Values{"plan": {"pro"}, "interval": {"month"}}), r.get(v, "session_id=cs_test_abc")}
	r.stripe.SetFaults(nil)
	target := r.buy(v, "pro", "month")
	pages = append(pages, r.get(v, r.pay(target)), r.get(v, ""))
	seen := r.log.String()
	for _, w := range pages {
		seen += w.Body.String()
	}
	for _, e := range r.events() {
		seen += text(e.Details)
	}
	for _, secret := range []string{apiKey, session(t, target), r.signer.Sign("acme", r.stripe.All("customer")[0]["id"].(string))} {
		if strings.Contains(seen, secret) {
			t.Errorf("%.12s… is shown, logged or audited", secret)
		}
	}
}

func TestAuditNamesWhoStartedWhat(t *testing.T) {
	r := onSQLite(t)
	r.buy(visit("acme"), "pro", "year")
	r.post(r.pages.Portal, visit("acme"), nil)
	for _, want := range []string{"billing.customer_created", "billing.checkout_started", "billing.portal_started"} {
		if r.count(want) != 1 {
			t.Errorf("%s: %d", want, r.count(want))
		}
	}
	for _, e := range r.events() {
		if text(e.ActorUserID) != "olivia" || text(e.TargetID) != "acme" || text(e.IPAddress) != "192.0.2.7" {
			t.Errorf("%+v", e)
		}
		if text(e.EventType) == "billing.checkout_started" {
			for _, part := range []string{`"plan":"pro"`, `"interval":"year"`, `"price":"price_pro_y"`, `"trial_days":14`} {
				if !strings.Contains(text(e.Details), part) {
					t.Errorf("%s lacks %s", text(e.Details), part)
				}
			}
		}
	}
}

func TestPortalIsTheTenantsOwn(t *testing.T) {
	r := onSQLite(t)
	v := visit("acme")
	if got := r.post(r.pages.Portal, v, nil).Header().Get("Location"); got != "/_gate/billing?tenant=acme" {
		t.Errorf("without a customer: %s", got)
	}
	r.buy(v, "pro", "month")
	customer := r.stripe.All("customer")[0]["id"]
	w := r.post(r.pages.Portal, v, url.Values{"customer": {"cus_other"}})
	if w.Code != 303 || !strings.Contains(w.Header().Get("Location"), "/p/session/") {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	portal := r.stripe.All("billing_portal.session")[0]
	if portal["customer"] != customer || portal["return_url"] != "https://app.example.com/_gate/billing?tenant=acme" {
		t.Errorf("%v", portal)
	}
	// A customer that another tenant pays as, too.
	r.must(r.host.Subscriptions.Insert(t.Context(), &catalog.Subscription{TenantID: "globex", StripeCustID: new(customer.(string)), Status: new("active")}))
	if got := r.post(r.pages.Portal, v, nil).Header().Get("Location"); strings.Contains(got, "/p/session/") {
		t.Error("a portal that shows another tenant's invoices")
	}
}

func TestOtherHostsAreLedToByALinkAndOtherSchemesNotAtAll(t *testing.T) {
	r := onSQLite(t)
	v := visit("acme")
	for target, want := range map[string]string{
		r.pages.origins[0] + "/c/pay/cs_1":     "303",
		"https://pay.example.com/c/pay/cs_1":   "link",
		"http://pay.example.com/c/pay/cs_1":    "back",
		"javascript:alert(1)":                  "back",
		"//evil.example.com/":                  "back",
		"https:///c/pay":                       "back",
		r.pages.origins[0] + ".evil.example/x": "back",
	} {
		w := httptest.NewRecorder()
		r.pages.lead(w, &v, target, "Go on", "About")
		got := "303"
		switch {
		case w.Code == 200 && strings.Contains(w.Body.String(), `href="`+target+`"`):
			got = "link"
		case w.Code == 303 && w.Header().Get("Location") == "/_gate/billing?tenant=acme":
			got = "back"
		case w.Header().Get("Location") != target:
			got = w.Header().Get("Location")
		}
		if got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
}

func TestStripesOwnHostsAreNamedInTheFormsPolicy(t *testing.T) {
	for api, want := range map[string]string{
		"":                        "https://checkout.stripe.com https://billing.stripe.com",
		"https://api.stripe.com":  "https://checkout.stripe.com https://billing.stripe.com",
		"https://api.stripe.com/": "https://checkout.stripe.com https://billing.stripe.com",
		"http://127.0.0.1:8083":   "http://127.0.0.1:8083",
	} {
		got, err := originsOf(api)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %v, %v", api, got, err)
		}
	}
	r := onSQLite(t)
	csp := r.get(visit("acme"), "").Header().Get("Content-Security-Policy")
	if !strings.HasSuffix(csp, "form-action 'self' "+r.pages.origins[0]) || strings.Contains(csp, "script-src") {
		t.Errorf("policy %q", csp)
	}
}
