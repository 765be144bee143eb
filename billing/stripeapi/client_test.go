package stripeapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/internal/stripefake"
)

func TestASubscriptionInOurForm(t *testing.T) {
	r := newRig(t)
	product := r.AddProduct(stripefake.Product{Name: "Pro"})
	month := r.AddPrice(stripefake.Price{Product: product, Cents: 2000, Currency: "eur"})
	customer := r.AddCustomer(stripefake.Customer{Email: "ann@example.com", Card: stripefake.CardPays})
	id := r.AddSubscription(stripefake.Subscribe{Customer: customer, Price: month, Metadata: map[string]string{"tenant_id": "acme"}})
	s, err := r.Subscription(t.Context(), ledger.StripeID(id))
	if err != nil {
		t.Fatal(err)
	}
	if s.ID != ledger.StripeID(id) || s.Customer != ledger.StripeID(customer) || s.Status != "active" || !s.Created.Equal(begin) ||
		!s.PeriodEnd.Equal(begin.AddDate(0, 1, 0)) || s.PriceID != ledger.StripeID(month) || s.ProductID != ledger.StripeID(product) ||
		s.AmountCents == nil || *s.AmountCents != 2000 || s.Currency != "eur" || s.Livemode || s.Metadata["tenant_id"] != "acme" ||
		s.LatestInvoice == "" || s.CancelAtPeriodEnd || !s.TrialEnd.IsZero() || !s.CanceledAt.IsZero() {
		t.Errorf("%+v", s)
	}
	r.CancelAtPeriodEnd(id, true)
	if s, err = r.Subscription(t.Context(), ledger.StripeID(id)); err != nil || !s.CancelAtPeriodEnd || !s.CanceledAt.Equal(begin) {
		t.Errorf("%+v, %v", s, err)
	}
	r.Cancel(id)
	if s, err = r.Subscription(t.Context(), ledger.StripeID(id)); err != nil || s.Status != "canceled" || !s.EndedAt.Equal(begin) {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestAnEndAtThePeriodsEndToldByCancelAtAlone(t *testing.T) {
	raw := []byte(`{"id":"sub_1","object":"subscription","customer":"cus_1","status":"active","created":1767225600,"cancel_at":1769904000,
		"cancel_at_period_end":false,"items":{"data":[{"current_period_end":1769904000,"quantity":1,"price":{"id":"price_1","product":"prod_1","unit_amount":5}}]}}`)
	s, err := decodeSubscription(raw)
	if err != nil || !s.CancelAtPeriodEnd {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestObjectsThatNoLedgerCanUseAreErrors(t *testing.T) {
	for name, raw := range map[string]string{
		"no object":        `[]`,
		"no id":            `{"customer":"cus_1","status":"active","created":1}`,
		"no customer":      `{"id":"sub_1","status":"active","created":1}`,
		"no status":        `{"id":"sub_1","customer":"cus_1","created":1}`,
		"negative time":    `{"id":"sub_1","customer":"cus_1","status":"active","created":1,"ended_at":-1}`,
		"no such year":     `{"id":"sub_1","customer":"cus_1","status":"active","created":1,"trial_end":999999999999999}`,
		"a number as text": `{"id":"sub_1","customer":"cus_1","status":"active","created":"yesterday"}`,
	} {
		if s, err := decodeSubscription([]byte(raw)); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
	for name, raw := range map[string]string{
		"null items":      `{"id":"sub_1","customer":"cus_1","status":"active","created":1,"items":null}`,
		"null in items":   `{"id":"sub_1","customer":"cus_1","status":"active","created":1,"items":{"data":[null]}}`,
		"null price":      `{"id":"sub_1","customer":"cus_1","status":"active","created":1,"items":{"data":[{"price":null}]}}`,
		"an amount apart": `{"id":"sub_1","customer":"cus_1","status":"active","created":1,"items":{"data":[{"quantity":9,"price":{"id":"p","unit_amount":999999999}}]}}`,
	} {
		if s, err := decodeSubscription([]byte(raw)); err != nil || s.AmountCents != nil {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

func TestWhatStripeDoesNotHaveIsGone(t *testing.T) {
	r := newRig(t)
	if _, err := r.Subscription(t.Context(), "sub_none"); !errors.Is(err, ledger.ErrGone) {
		t.Errorf("%v", err)
	}
	product := r.AddProduct(stripefake.Product{Name: "Pro", Live: true})
	price := r.AddPrice(stripefake.Price{Product: product, Cents: 1})
	live := r.AddSubscription(stripefake.Subscribe{Customer: r.AddCustomer(stripefake.Customer{Live: true, Card: stripefake.CardPays}), Price: price})
	if _, err := r.Subscription(t.Context(), ledger.StripeID(live)); !errors.Is(err, ErrMode) || errors.Is(err, ledger.ErrGone) {
		t.Errorf("of the other mode: %v", err)
	}
	if _, err := r.Session(t.Context(), "cs_test_none"); !errors.Is(err, ledger.ErrGone) {
		t.Errorf("%v", err)
	}
}

func TestCheckoutAndPortal(t *testing.T) {
	r := newRig(t)
	product := r.AddProduct(stripefake.Product{Name: "Pro"})
	month := r.AddPrice(stripefake.Price{Product: product, Cents: 2000})
	customer, err := r.CreateCustomer(t.Context(), Customer{Name: "Acme", Email: "ann@example.com", Metadata: map[string]string{"tenant_id": "acme"}}, "c1")
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.CreateCustomer(t.Context(), Customer{Name: "Acme", Email: "ann@example.com", Metadata: map[string]string{"tenant_id": "acme"}}, "c1")
	if err != nil || again != customer {
		t.Errorf("the same key: %s, %v", again, err)
	}
	_, err = r.CreateCustomer(t.Context(), Customer{Name: "Globex"}, "c1")
	var said *Error
	if !errors.As(err, &said) || said.Type != "idempotency_error" || !said.Refused() {
		t.Errorf("another customer: %v", err)
	}
	order := Order{
		Customer: customer, Price: ledger.StripeID(month), TrialDays: 7, Reference: "acme", Metadata: map[string]string{"tenant_id": "acme", "tenant_sig": "x"},
		SuccessURL: "http://127.0.0.1:1/back?session={CHECKOUT_SESSION_ID}", CancelURL: "http://127.0.0.1:1/",
	}
	s, err := r.CreateCheckout(t.Context(), order, "o1")
	if err != nil || s.Status != "open" || !strings.HasPrefix(s.URL, r.url) || s.ClientReference != "acme" {
		t.Fatalf("%+v, %v", s, err)
	}
	if r.Pay(string(s.ID), stripefake.CardPays) == "" {
		t.Fatal("not paid")
	}
	if s, err = r.Checkout(t.Context(), s.ID); err != nil || s.Status != "complete" || s.Subscription == "" || s.URL != "" {
		t.Fatalf("%+v, %v", s, err)
	}
	sub, err := r.Subscription(t.Context(), s.Subscription)
	if err != nil || sub.Status != "trialing" || sub.Metadata["tenant_sig"] != "x" || !sub.TrialEnd.Equal(begin.AddDate(0, 0, 7)) {
		t.Errorf("%+v, %v", sub, err)
	}
	if err := r.ExpireCheckout(t.Context(), s.ID); err == nil {
		t.Error("a complete session expires")
	}
	order.TrialDays = 0
	if s, err = r.CreateCheckout(t.Context(), order, "o2"); err != nil {
		t.Fatal(err)
	}
	if err := r.ExpireCheckout(t.Context(), s.ID); err != nil {
		t.Error(err)
	}
	portal, err := r.CreatePortal(t.Context(), customer, "http://127.0.0.1:1/")
	if err != nil || !strings.HasPrefix(portal, r.url) {
		t.Errorf("%q, %v", portal, err)
	}
	if _, err := r.CreateCheckout(t.Context(), order, ""); err == nil {
		t.Error("a change without an idempotency key")
	}
}

func TestListsArePagedToTheirEnd(t *testing.T) {
	r := newRig(t)
	product := r.AddProduct(stripefake.Product{Name: "Pro"})
	month := r.AddPrice(stripefake.Price{Product: product, Cents: 2000})
	customer := r.AddCustomer(stripefake.Customer{Card: stripefake.CardPays})
	want := map[ledger.StripeID]bool{}
	for range 120 {
		want[ledger.StripeID(r.AddSubscription(stripefake.Subscribe{Customer: customer, Price: month}))] = true
	}
	for id := range want {
		r.Cancel(string(id)) // listed all the same
		r.Edit(string(id), func(o stripefake.Object) { o["created"] = "yesterday" })
		break
	}
	broken := 0
	for one, err := range r.Subscriptions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if one.Err != nil {
			broken++
		}
		if !want[one.ID] {
			t.Errorf("%s twice, or never made", one.ID)
		}
		delete(want, one.ID)
	}
	if len(want) != 0 || broken != 1 {
		t.Errorf("%d are missing, %d broken", len(want), broken)
	}
	n := 0
	for one, err := range r.Events(t.Context(), begin.Add(-time.Hour), []string{"customer.subscription.created", "customer.subscription.deleted"}) {
		if err != nil || one.Err != nil {
			t.Fatal(err, one.Err)
		}
		n++
	}
	if n != 121 {
		t.Errorf("%d events", n)
	}
	for one, err := range r.Prices(t.Context()) {
		if err != nil || one.Value.ID != ledger.StripeID(month) || *one.Value.Cents != 2000 || one.Value.Interval != "month" {
			t.Errorf("%+v, %v", one, err)
		}
	}
	for one, err := range r.Products(t.Context()) {
		if err != nil || one.Value.Name != "Pro" || !one.Value.Active {
			t.Errorf("%+v, %v", one, err)
		}
	}
}

func TestAListThatDoesNotGoOnEnds(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"object":"list","has_more":true,"data":[{"id":"sub_1"}]}`)
	}))
	defer server.Close()
	c, err := New(Config{Key: secret.New(testKey), URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err = range c.Subscriptions(t.Context()) {
		if n++; n > 10 {
			t.Fatal("it goes on for ever")
		}
	}
	if err == nil {
		t.Error("no error")
	}
}

func TestFaultsAreRepeatedWithinBounds(t *testing.T) {
	for name, c := range map[string]struct {
		faults []*stripefake.Fault
		ok     bool
		tries  int
		pauses []time.Duration // exact ones; nil: any
	}{
		"too many requests": {[]*stripefake.Fault{{Status: 429, RetryAfter: 3 * time.Second}}, true, 2, []time.Duration{3 * time.Second}},
		"twice":             {[]*stripefake.Fault{{Status: 429}, {Status: 500}}, true, 3, nil},
		"the answer lost":   {[]*stripefake.Fault{{Status: 500, Done: true}}, true, 2, nil},
		"cut":               {[]*stripefake.Fault{{Cut: true, Done: true}}, true, 2, nil},
		"hangs":             {[]*stripefake.Fault{{Hang: true, Done: true}}, true, 2, nil},
		"for ever":          {[]*stripefake.Fault{{Status: 503}, {Status: 503}, {Status: 503}, {Status: 503}, {Status: 503}, {Status: 503}}, false, 5, nil},
		"asks for an hour":  {[]*stripefake.Fault{{Status: 429, RetryAfter: time.Hour}}, false, 1, []time.Duration{}},
	} {
		t.Run(name, func(t *testing.T) {
			hangs := name == "hangs" // and then a busy machine may miss an answer in time, too
			r := newRig(t, func(cfg *Config) {
				if hangs {
					cfg.Timeout = 300 * time.Millisecond
				}
			})
			r.faults(c.faults...)
			_, err := r.CreateCustomer(t.Context(), Customer{Email: "ann@example.com"}, "k1")
			if (err == nil) != c.ok {
				t.Errorf("error %v", err)
			}
			if got := len(r.Requests()); got != c.tries && !(hangs && got > c.tries) {
				t.Errorf("%d tries, want %d", got, c.tries)
			}
			if made := len(r.All("customer")); c.ok && made != 1 {
				t.Errorf("%d customers", made)
			}
			if c.pauses != nil && fmt.Sprint(r.pauses) != fmt.Sprint(c.pauses) {
				t.Errorf("pauses %v", r.pauses)
			}
			var said *Error
			if err != nil && (!errors.As(err, &said) || said.Refused()) {
				t.Errorf("%v counts as refused", err)
			}
		})
	}
}

func TestWhatIsRefusedIsNotRepeated(t *testing.T) {
	r := newRig(t)
	if _, err := r.CreatePortal(t.Context(), "cus_none", ""); !errors.Is(err, ledger.ErrGone) {
		t.Errorf("%v", err)
	}
	if got := len(r.Requests()); got != 1 {
		t.Errorf("%d tries", got)
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.SetFaults(func(*http.Request) *stripefake.Fault { cancel(); return &stripefake.Fault{Hang: true} })
	if _, err := r.Subscription(ctx, "sub_1"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestAnAnswerTooLargeIsNotRead(t *testing.T) {
	sent := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"id":"sub_1","metadata":{"a":"`)
		chunk := bytes.Repeat([]byte("a"), 1<<20)
		for range 64 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
			sent++
		}
	}))
	defer server.Close()
	c, err := New(Config{Key: secret.New(testKey), URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = c.Subscription(t.Context(), "sub_1"); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("%v", err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	followed := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }))
	defer server.Close()
	c, err := New(Config{Key: secret.New(testKey), URL: server.URL, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = c.Subscription(t.Context(), "sub_1"); err == nil || followed {
		t.Errorf("%v, followed: %v", err, followed)
	}
}

func TestKeysAndAddressesAreChecked(t *testing.T) {
	for key, want := range map[string]ledger.Mode{
		"sk_test_1": ledger.ModeTest, "rk_test_1": ledger.ModeTest, "sk_live_1": ledger.ModeLive, "rk_live_1": ledger.ModeLive, "other": ledger.ModeUnknown,
	} {
		c, err := New(Config{Key: secret.New(key)})
		if err != nil || c.Mode() != want {
			t.Errorf("%s: %v", key, err)
		}
	}
	for _, key := range []string{"", "pk_live_abcdef", "whsec_abcdef", "sk_live_a b", "sk_live_ä", "sk_test_1\n"} {
		err := CheckKey(secret.New(key))
		if err == nil || (key != "" && strings.Contains(err.Error(), "abcdef")) {
			t.Errorf("%q: %v", key, err)
		}
	}
	for address, good := range map[string]bool{
		"": true, "https://api.stripe.com": true, "https://stripe.example:8443/": true, "http://127.0.0.1:12111": true, "http://stripe.localhost": true,
		"http://[::1]:1": true, "http://stripe.example": false, "https://": false, "https://u:p@stripe.example": false, "https://stripe.example/v1": false,
		"https://stripe.example?x=1": false, "ftp://127.0.0.1": false, "stripe.example": false,
	} {
		if err := CheckURL(address); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// TestTheKeyIsNeverPrinted: whatever goes wrong, and whoever prints whatever we hand out.
func TestTheKeyIsNeverPrinted(t *testing.T) {
	var out bytes.Buffer
	log.SetOutput(&out)
	defer log.SetOutput(os.Stderr)
	r := newRig(t, func(cfg *Config) { cfg.Timeout = 300 * time.Millisecond; cfg.Attempts = 1 })
	wrong := newRig(t, func(cfg *Config) { cfg.Key = secret.New("sk_test_other_canary7f3a"); cfg.URL = r.url })
	var texts []string
	note := func(v any, err error) {
		texts = append(texts, fmt.Sprintf("%v %+v %#v", v, v, v))
		if err == nil {
			t.Error("no error")
			return
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			texts = append(texts, fmt.Sprintf("%v %+v %#v", e, e, e))
		}
		slog.New(slog.NewJSONHandler(&out, nil)).Error("x", "error", err, "value", v)
	}
	note(wrong.Subscription(t.Context(), "sub_1"))
	for _, f := range []*stripefake.Fault{{Status: 429}, {Status: 500}, {Cut: true}, {Hang: true}} {
		r.faults(f)
		note(r.Subscription(t.Context(), "sub_1"))
	}
	note(r.Subscription(t.Context(), ledger.StripeID("sub_"+testKey)))
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Request-Id", "req_"+testKey)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"error":{"type":"invalid_request_error","code":%q,"param":%q,"message":"you sent %s and sk_live_other"}}`,
			testKey, testKey, r.Header.Get("Authorization"))
	}))
	defer echo.Close()
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, r.Header.Get("Authorization"))
	}))
	defer plain.Close()
	for _, address := range []string{echo.URL, plain.URL, "http://127.0.0.1:1", "http://nowhere.localhost:1"} {
		c, err := New(Config{Key: secret.New(testKey), URL: address, Attempts: 1})
		if err != nil {
			t.Fatal(err)
		}
		note(c.Subscription(t.Context(), "sub_1"))
		texts = append(texts, fmt.Sprintf("%v %+v", c.cfg, c.cfg))
	}
	for _, text := range append(texts, out.String()) {
		if strings.Contains(text, "canary") || strings.Contains(text, "sk_live_other") || strings.Contains(text, "7f3a") {
			t.Errorf("printed: %s", text)
		}
	}
	if strings.Contains(out.String(), "[ERROR]") {
		t.Errorf("stripe-go logs: %s", out.String())
	}
}

// TestWhatIsSentSaysNothingOfThisMachine: no telemetry, no user agent with versions, and the API version on every request.
func TestWhatIsSentSaysNothingOfThisMachine(t *testing.T) {
	var got http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		_, _ = io.WriteString(w, `{"id":"cus_1"}`)
	}))
	defer server.Close()
	c, err := New(Config{Key: secret.New(testKey), URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := c.CreateCustomer(t.Context(), Customer{}, "k"); err != nil {
			t.Fatal(err)
		}
	}
	if got.Get("User-Agent") != "tenantgate" || got.Get("X-Stripe-Client-User-Agent") != "" || got.Get("X-Stripe-Client-Telemetry") != "" ||
		got.Get("Stripe-Version") != stripefake.VersionCurrent || got.Get("Idempotency-Key") != "k" {
		t.Errorf("%v", got)
	}
}

// Stripe gives the answer of a key again, its own failures too: trying again with that key is of no use.
func TestAnAnswerThatIsGivenAgainIsSaidToBe(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Idempotent-Replayed", "true")
		w.WriteHeader(http.StatusInternalServerError)
	}))
	t.Cleanup(server.Close)
	c, err := New(Config{Key: secret.New("sk_test_replayed"), URL: server.URL, Sleep: func(context.Context, time.Duration) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	_, err = c.CreateCustomer(t.Context(), Customer{Name: "x"}, "key")
	if bad := new(Error); !errors.As(err, &bad) || !bad.Replayed || asked != 1 {
		t.Errorf("%v, asked %d times", err, asked)
	}
}
