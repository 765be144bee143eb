package stripefake

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/internal/secret"
)

const (
	testKey = "sk_test_fake"
	liveKey = "sk_live_fake"
)

var begin = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

type world struct {
	*Server
	url string
	t   *testing.T
}

func newWorld(t *testing.T, edit ...func(*Config)) world {
	t.Helper()
	var h http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	cfg := Config{
		Origin: server.URL, Clock: func() time.Time { return begin }, DeliveryClock: func() time.Time { return begin },
		Keys: []Key{{Secret: secret.New(testKey)}, {Secret: secret.New(liveKey), Live: true}},
	}
	for _, e := range edit {
		e(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h = s
	return world{s, server.URL, t}
}

// ask sends a request as k=v pairs and returns status and answer.
func (w world) ask(method, path string, header http.Header, form ...string) (int, map[string]any) {
	w.t.Helper()
	values := url.Values{}
	for _, f := range form {
		k, v, _ := strings.Cut(f, "=")
		values.Add(k, v)
	}
	target, body := w.url+path, io.Reader(strings.NewReader(values.Encode()))
	if method == http.MethodGet {
		target, body = target+"?"+values.Encode(), nil
	}
	r, err := http.NewRequestWithContext(w.t.Context(), method, target, body)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", "Bearer "+testKey)
	for k, v := range header {
		r.Header[k] = v
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var o map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&o); err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, o
}

func (w world) must(method, path string, form ...string) map[string]any {
	w.t.Helper()
	status, o := w.ask(method, path, nil, form...)
	if status != http.StatusOK {
		w.t.Fatalf("%s %s: %d %v", method, path, status, o)
	}
	return o
}

// seed is a customer who pays and a product with a monthly and a yearly price.
func (w world) seed() (customer, month, year string) {
	p := w.AddProduct(Product{Name: "Pro"})
	return w.AddCustomer(Customer{Email: "ann@example.com", Card: CardPays}),
		w.AddPrice(Price{Product: p, Cents: 2000}), w.AddPrice(Price{Product: p, Cents: 20000, Interval: "year"})
}

func (w world) status(id string) string { return fmt.Sprint(w.Get(id)["status"]) }

func (w world) types() string {
	var kinds []string
	for _, e := range w.All("event") {
		kinds = append(kinds, fmt.Sprint(e["type"]))
	}
	return strings.Join(kinds, " ")
}

func TestALifeByTheClock(t *testing.T) {
	w := newWorld(t)
	customer, month, _ := w.seed()
	sub := w.AddSubscription(Subscribe{Customer: customer, Price: month, TrialDays: 14})
	if got := w.status(sub); got != "trialing" {
		t.Fatalf("at first %s", got)
	}
	w.Advance(14*24*time.Hour + time.Second)
	if got := w.status(sub); got != "active" {
		t.Errorf("after the trial %s", got)
	}
	w.SetCard(customer, CardDeclines)
	w.Advance(32 * 24 * time.Hour)
	if got := w.status(sub); got != "past_due" {
		t.Errorf("without payment %s", got)
	}
	w.SetCard(customer, CardPays)
	w.Advance(73 * time.Hour)
	if got := w.status(sub); got != "active" {
		t.Errorf("after a retry %s", got)
	}
	w.SetCard(customer, CardDeclines)
	w.Advance(60 * 24 * time.Hour)
	if got := w.status(sub); got != "canceled" {
		t.Errorf("after the last retry %s", got)
	}
	var last json.Number = "0"
	for _, e := range w.All("event") {
		at := e["created"].(json.Number)
		if at < last {
			t.Errorf("%s of %s after %s", e["type"], at, last)
		}
		last = at
	}
}

func TestThe31stComesBack(t *testing.T) {
	w := newWorld(t)
	customer, month, _ := w.seed()
	sub := w.AddSubscription(Subscribe{Customer: customer, Price: month})
	for _, want := range []string{"2026-02-28", "2026-03-31", "2026-04-30"} {
		end := w.period(sub)
		if got := end.Format(time.DateOnly); got != want {
			t.Errorf("period ends %s, want %s", got, want)
		}
		w.Advance(end.Sub(w.Now()))
	}
}

func (w world) period(sub string) time.Time {
	item := w.Get(sub)["items"].(map[string]any)["data"].([]any)[0].(map[string]any)
	n, err := item["current_period_end"].(json.Number).Int64()
	if err != nil {
		w.t.Fatal(err)
	}
	return time.Unix(n, 0).UTC()
}

func TestOtherEnds(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Dunning
		sub  Subscribe
		card Card
		wait time.Duration
		want string
	}{
		"incomplete":         {Dunning{}, Subscribe{}, CardDeclines, 0, "incomplete"},
		"incomplete expires": {Dunning{}, Subscribe{}, CardDeclines, 24 * time.Hour, "incomplete_expired"},
		"trial, no card":     {Dunning{}, Subscribe{TrialDays: 1}, CardNone, 25 * time.Hour, "past_due"},
		"trial, paused":      {Dunning{}, Subscribe{TrialDays: 1, WithoutCard: "paused"}, CardNone, 25 * time.Hour, "paused"},
		"trial, canceled":    {Dunning{}, Subscribe{TrialDays: 1, WithoutCard: "canceled"}, CardNone, 25 * time.Hour, "canceled"},
		"unpaid":             {Dunning{End: "unpaid", Attempts: 1}, Subscribe{TrialDays: 1}, CardDeclines, 90 * 24 * time.Hour, "unpaid"},
		"past due for good":  {Dunning{End: "past_due", Attempts: 2}, Subscribe{TrialDays: 1}, CardDeclines, 90 * 24 * time.Hour, "past_due"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(cfg *Config) { cfg.Dunning = c.cfg })
			customer, month, _ := w.seed()
			w.SetCard(customer, c.card)
			c.sub.Customer, c.sub.Price = customer, month
			sub := w.AddSubscription(c.sub)
			w.Advance(c.wait)
			if got := w.status(sub); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestCheckoutBeginsASubscription(t *testing.T) {
	w := newWorld(t)
	customer, month, _ := w.seed()
	o := w.must("POST", "/v1/checkout/sessions", "mode=subscription", "customer="+customer, "line_items[0][price]="+month,
		"success_url=http://127.0.0.1:1/back?s={CHECKOUT_SESSION_ID}", "cancel_url=http://127.0.0.1:1/no",
		"client_reference_id=acme", "subscription_data[metadata][tenant_id]=acme", "subscription_data[trial_period_days]=3")
	id := o["id"].(string)
	if strings.Contains(fmt.Sprint(o), "_order") {
		t.Error("an order is shown")
	}
	if w.Pay(id, CardDeclines) != "" {
		t.Error("a declined card paid")
	}
	if got := w.Pay(id, CardPays); got != "http://127.0.0.1:1/back?s="+id {
		t.Errorf("leads to %s", got)
	}
	done := w.must("GET", "/v1/checkout/sessions/"+id, "expand[]=subscription")
	sub := done["subscription"].(map[string]any)
	if done["status"] != "complete" || sub["status"] != "trialing" || sub["metadata"].(map[string]any)["tenant_id"] != "acme" {
		t.Errorf("%v", done)
	}
	if w.Pay(id, CardPays) != "" {
		t.Error("paid twice")
	}
	if !strings.Contains(w.types(), "customer.subscription.created invoice.created invoice.paid checkout.session.completed") {
		t.Errorf("events: %s", w.types())
	}
}

func TestAnIdempotencyKeyHasOneEffect(t *testing.T) {
	w := newWorld(t)
	h := http.Header{"Idempotency-Key": {"k1"}}
	_, first := w.ask("POST", "/v1/customers", h, "email=a@example.com")
	_, again := w.ask("POST", "/v1/customers", h, "email=a@example.com")
	if first["id"] != again["id"] || len(w.All("customer")) != 1 {
		t.Errorf("%v and %v", first["id"], again["id"])
	}
	status, o := w.ask("POST", "/v1/customers", h, "email=b@example.com")
	if kind := o["error"].(map[string]any)["type"]; status != 400 || kind != "idempotency_error" {
		t.Errorf("other parameters: %d %v", status, o)
	}
	w.Advance(25 * time.Hour)
	if _, o := w.ask("POST", "/v1/customers", h, "email=b@example.com"); o["id"] == first["id"] || o["id"] == nil {
		t.Errorf("after a day: %v", o)
	}
}

func TestListsArePagedNewestFirstAndLag(t *testing.T) {
	w := newWorld(t)
	for i := range 7 {
		w.AddCustomer(Customer{ID: fmt.Sprintf("cus_%d", i)})
	}
	var got []string
	after := ""
	for {
		o := w.must("GET", "/v1/customers", "limit=3", "starting_after="+after)
		for _, c := range o["data"].([]any) {
			after = c.(map[string]any)["id"].(string)
			got = append(got, after)
		}
		if o["has_more"] != true {
			break
		}
	}
	if strings.Join(got, " ") != "cus_6 cus_5 cus_4 cus_3 cus_2 cus_1 cus_0" {
		t.Errorf("%v", got)
	}
	w.SetListLag(time.Minute)
	if o := w.must("GET", "/v1/customers"); len(o["data"].([]any)) != 0 {
		t.Error("a lagging list shows what has just been made")
	}
	if w.must("GET", "/v1/customers/cus_3")["id"] != "cus_3" {
		t.Error("an object lags")
	}
	w.Advance(time.Minute)
	if o := w.must("GET", "/v1/customers"); len(o["data"].([]any)) != 7 {
		t.Error("a list never catches up")
	}
}

func TestKeysAndModes(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Keys = append(c.Keys, Key{Secret: secret.New("rk_test_1"), May: []string{"customers:read"}})
	})
	customer, _, _ := w.seed()
	for name, c := range map[string]struct {
		key, method, path string
		want              int
	}{
		"wrong key":      {"sk_test_wrong", "GET", "/v1/customers", 401},
		"no key":         {"", "GET", "/v1/customers", 401},
		"other mode":     {liveKey, "GET", "/v1/customers/" + customer, 404},
		"own mode":       {testKey, "GET", "/v1/customers/" + customer, 200},
		"restricted":     {"rk_test_1", "GET", "/v1/customers/" + customer, 200},
		"restricted no":  {"rk_test_1", "GET", "/v1/subscriptions", 403},
		"restricted put": {"rk_test_1", "POST", "/v1/customers", 403},
		"unknown path":   {testKey, "GET", "/v1/nothing", 404},
		"unknown param":  {testKey, "POST", "/v1/customers", 200},
	} {
		if status, o := w.ask(c.method, c.path, http.Header{"Authorization": {"Bearer " + c.key}}); status != c.want {
			t.Errorf("%s: %d, want %d: %v", name, status, c.want, o)
		}
	}
	if status, o := w.ask("POST", "/v1/customers", nil, "colour=red"); status != 400 {
		t.Errorf("an unknown parameter: %v", o)
	}
}

func TestShapesFollowTheVersion(t *testing.T) {
	w := newWorld(t)
	customer, month, _ := w.seed()
	sub := w.AddSubscription(Subscribe{Customer: customer, Price: month})
	old := http.Header{"Stripe-Version": {VersionOld}}
	_, was := w.ask("GET", "/v1/subscriptions/"+sub, old)
	is := w.must("GET", "/v1/subscriptions/"+sub)
	if was["current_period_end"] == nil || is["current_period_end"] != nil {
		t.Errorf("period end: old %v, current %v", was["current_period_end"], is["current_period_end"])
	}
	in := is["latest_invoice"].(string)
	_, was = w.ask("GET", "/v1/invoices/"+in, old)
	is = w.must("GET", "/v1/invoices/"+in)
	if was["subscription"] != sub || is["subscription"] != nil || is["parent"] == nil || was["parent"] != nil {
		t.Errorf("invoice: old %v, current %v", was["subscription"], is["parent"])
	}
	event := w.All("event")[len(w.All("event"))-1]["id"].(string)
	if body := string(w.Payload(event, VersionOld)); !strings.Contains(body, `"api_version": "`+VersionOld) {
		t.Error(body)
	}
}

func TestFaultsBefallRequests(t *testing.T) {
	w := newWorld(t)
	next := &Fault{Status: 429, RetryAfter: 2 * time.Second}
	w.SetFaults(func(*http.Request) *Fault { f := next; next = nil; return f })
	if status, _ := w.ask("POST", "/v1/customers", nil); status != 429 || len(w.All("customer")) != 0 {
		t.Errorf("429: %d", status)
	}
	next = &Fault{Status: 500, Done: true}
	if status, _ := w.ask("POST", "/v1/customers", http.Header{"Idempotency-Key": {"k"}}); status != 500 || len(w.All("customer")) != 1 {
		t.Errorf("500 after the effect: %d, %d customers", status, len(w.All("customer")))
	}
	if status, _ := w.ask("POST", "/v1/customers", http.Header{"Idempotency-Key": {"k"}}); status != 200 || len(w.All("customer")) != 1 {
		t.Errorf("again: %d, %d customers", status, len(w.All("customer")))
	}
}

func TestWebhooksAreSignedDeliveredAndRetried(t *testing.T) {
	var mu sync.Mutex
	fails := 2
	got := map[string]int{}
	hook := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		var e struct{ ID string }
		if err := json.Unmarshal(body, &e); err != nil {
			t.Error(err)
		}
		if r.Header.Get("Stripe-Signature") != Sign(body, begin, secret.New("whsec_a"), secret.New("whsec_b")) {
			t.Error("a wrong signature")
		}
		if fails--; fails >= 0 {
			rw.WriteHeader(500)
			return
		}
		got[e.ID]++
	}))
	defer hook.Close()
	w := newWorld(t)
	w.AddEndpoint(Endpoint{URL: hook.URL, Secrets: []secret.Text{secret.New("whsec_a"), secret.New("whsec_b")}})
	customer, month, _ := w.seed()
	w.AddSubscription(Subscribe{Customer: customer, Price: month})
	w.SetArrange(Mixed(rand.New(rand.NewPCG(1, 2))))
	if err := w.DeliverAll(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(w.All("event")) {
		t.Errorf("%d of %d events came", len(got), len(w.All("event")))
	}
	w.Cancel(w.All("subscription")[0]["id"].(string))
	if lost := w.Forget(); len(lost) != 1 || lost[0].Type != "customer.subscription.deleted" || len(w.Pending()) != 0 {
		t.Errorf("forgotten: %v", lost)
	}
}

func TestPagesOnLoopbackAlone(t *testing.T) {
	w := newWorld(t)
	r := httptest.NewRequest("GET", "/v1/customers", nil)
	r.Host = "stripe.example.com"
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	if rec.Code != http.StatusMisdirectedRequest {
		t.Errorf("%d", rec.Code)
	}
	if _, err := New(Config{Origin: "http://10.0.0.1:80", Keys: []Key{{Secret: secret.New("k")}}}); err == nil {
		t.Error("an origin beyond loopback")
	}
}

func TestThePortalCancelsAndSwitches(t *testing.T) {
	w := newWorld(t)
	customer, month, year := w.seed()
	sub := w.AddSubscription(Subscribe{Customer: customer, Price: month})
	p := w.must("POST", "/v1/billing_portal/sessions", "customer="+customer, "return_url=http://127.0.0.1:1/")
	press := func(fields url.Values) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "POST", p["url"].(string), strings.NewReader(fields.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), "Pro") {
			t.Errorf("%d %v", resp.StatusCode, err)
		}
	}
	press(url.Values{"action": {"switch"}, "subscription": {sub}, "price": {year}})
	if got := w.period(sub).Format(time.DateOnly); got != "2027-01-31" {
		t.Errorf("a year ends %s", got)
	}
	press(url.Values{"action": {"cancel"}, "subscription": {sub}})
	if w.Get(sub)["cancel_at_period_end"] != true {
		t.Error("not marked")
	}
	w.Advance(366 * 24 * time.Hour)
	if got := w.status(sub); got != "canceled" {
		t.Errorf("at the end %s", got)
	}
}
