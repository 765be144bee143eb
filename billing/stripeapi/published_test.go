package stripeapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"sync"
	"testing"

	"github.com/stripe/stripe-mock/embedded"
	"github.com/stripe/stripe-mock/server"

	"github.com/tenantgate/tenantgate/internal/secret"
)

// asked are the paths that this package asks.
var asked = []string{
	"/v1/subscriptions", "/v1/subscriptions/{subscription_exposed_id}", "/v1/checkout/sessions", "/v1/checkout/sessions/{session}",
	"/v1/checkout/sessions/{session}/expire", "/v1/customers", "/v1/billing_portal/sessions", "/v1/events", "/v1/products", "/v1/prices",
}

// published is stripe-mock, made of the description and the fixtures that Stripe publishes: it refuses a parameter that
// Stripe's API does not have, and knows nothing of state.
var published = sync.OnceValues(func() (http.Handler, error) {
	text, err := excerpt(embedded.OpenAPISpec)
	if err != nil {
		return nil, err
	}
	described, err := server.LoadSpec(text, "")
	if err != nil {
		return nil, err
	}
	fixtures, err := server.LoadFixtures(embedded.OpenAPIFixtures, "")
	if err != nil {
		return nil, err
	}
	stub, err := server.NewStubServer(fixtures, described, false, false)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(stub.HandleRequest), nil
})

// excerpt is what of the description concerns those paths: reading all 8 MB of it takes seconds under the race detector.
func excerpt(text []byte) ([]byte, error) {
	var all struct {
		Components struct {
			Schemas map[string]json.RawMessage `json:"schemas"`
		} `json:"components"`
		Info  json.RawMessage            `json:"info"`
		Paths map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	maps.DeleteFunc(all.Paths, func(path string, _ json.RawMessage) bool { return !slices.Contains(asked, path) })
	ref := regexp.MustCompile(`"#/components/schemas/([^"]+)"`)
	used := map[string]json.RawMessage{}
	var follow func(json.RawMessage)
	follow = func(raw json.RawMessage) {
		for _, m := range ref.FindAllSubmatch(raw, -1) {
			name := string(m[1])
			if _, known := used[name]; !known {
				used[name] = all.Components.Schemas[name]
				follow(used[name])
			}
		}
	}
	for _, p := range all.Paths {
		follow(p)
	}
	all.Components.Schemas = used
	return json.Marshal(all)
}

func TestEveryRequestIsOneThatStripeDescribes(t *testing.T) {
	handler, err := published()
	if err != nil {
		t.Fatal(err)
	}
	requests := 0
	mock := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { requests++; handler.ServeHTTP(w, r) }))
	defer mock.Close()
	c, err := New(Config{Key: secret.New("sk_test_123"), URL: mock.URL, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if s, err := c.Subscription(ctx, "sub_1"); err != nil || s.Status != "active" || s.PriceID == "" || s.PeriodEnd.IsZero() {
		t.Errorf("subscription: %+v, %v", s, err)
	}
	if s, err := c.Checkout(ctx, "cs_test_1"); err != nil || s.Mode != "payment" || s.PaymentIntent == "" || s.URL == "" {
		t.Errorf("session: %+v, %v", s, err)
	}
	if id, err := c.CreateCustomer(ctx, Customer{Name: "Acme", Email: "a@example.com", Metadata: map[string]string{"tenant_id": "acme"}}, "k"); err != nil || id == "" {
		t.Errorf("customer: %s, %v", id, err)
	}
	_, err = c.CreateCheckout(ctx, Order{
		Customer: "cus_1", Price: "price_1", TrialDays: 14, Reference: "acme", Metadata: map[string]string{"tenant_id": "acme", "tenant_sig": "s"},
		SuccessURL: "https://app.example.com/x?s={CHECKOUT_SESSION_ID}", CancelURL: "https://app.example.com/",
	}, "k")
	if err != nil {
		t.Errorf("checkout: %v", err)
	}
	if err := c.ExpireCheckout(ctx, "cs_test_1"); err != nil {
		t.Errorf("expire: %v", err)
	}
	if address, err := c.CreatePortal(ctx, "cus_1", "https://app.example.com/"); err != nil || address == "" {
		t.Errorf("portal: %s, %v", address, err)
	}
	n := 0
	for one, err := range c.Subscriptions(ctx) {
		n++
		if err != nil || one.Err != nil {
			t.Errorf("subscriptions: %v, %v", err, one.Err)
		}
	}
	for one, err := range c.Events(ctx, begin, []string{"invoice.paid"}) {
		n++
		if err != nil || one.Err != nil {
			t.Errorf("events: %v, %v", err, one.Err)
		}
	}
	for one, err := range c.Products(ctx) {
		n++
		if err != nil || one.Err != nil || one.Value.Name != "T-shirt" {
			t.Errorf("products: %v, %v", err, one)
		}
	}
	for one, err := range c.Prices(ctx) {
		n++
		if err != nil || one.Err != nil || one.Value.Interval != "month" || one.Value.Cents == nil {
			t.Errorf("prices: %v, %+v", err, one)
		}
	}
	if requests != 10 || n != 4 {
		t.Errorf("%d requests, %d objects in lists", requests, n)
	}
}

// TestStripeRefusesWhatItDoesNotDescribe: the check above would notice.
func TestStripeRefusesWhatItDoesNotDescribe(t *testing.T) {
	handler, err := published()
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/v1/subscriptions?colour=red", nil)
	r.Header.Set("Authorization", "Bearer sk_test_123")
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, r)
	if rec.Code != http.StatusBadRequest {
		t.Errorf("%d", rec.Code)
	}
}

func TestPublishedFixturesAreRead(t *testing.T) {
	var fixtures struct {
		Resources map[string]json.RawMessage `json:"resources"`
	}
	if err := json.Unmarshal(embedded.OpenAPIFixtures, &fixtures); err != nil {
		t.Fatal(err)
	}
	if s, err := decodeSubscription(fixtures.Resources["subscription"]); err != nil || s.ID == "" || s.Customer == "" || s.AmountCents == nil {
		t.Errorf("subscription: %+v, %v", s, err)
	}
	if s, err := decodeSession(fixtures.Resources["checkout.session"]); err != nil || s.ID == "" {
		t.Errorf("session: %+v, %v", s, err)
	}
	if p, err := decodeProduct(fixtures.Resources["product"]); err != nil || p.Default == "" {
		t.Errorf("product: %+v, %v", p, err)
	}
	if p, err := decodePrice(fixtures.Resources["price"]); err != nil || p.Product == "" {
		t.Errorf("price: %+v, %v", p, err)
	}
}
