package stripeapi

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stripe/stripe-mock/embedded"

	"github.com/tenantgate/tenantgate/internal/secret"
)

// FuzzObjects: whatever Stripe sends, nothing panics, and what is taken can be used.
func FuzzObjects(f *testing.F) {
	var fixtures struct {
		Resources map[string]json.RawMessage `json:"resources"`
	}
	if err := json.Unmarshal(embedded.OpenAPIFixtures, &fixtures); err != nil {
		f.Fatal(err)
	}
	for _, kind := range []string{"subscription", "checkout.session", "product", "price"} {
		f.Add([]byte(fixtures.Resources[kind]))
	}
	f.Add([]byte(`{"id":"sub_1","customer":{"id":"cus_1"},"status":"active","created":1,"items":{"data":[null,{"price":"price_1"}]}}`))
	f.Add([]byte(`{"id":"sub_1","customer":"cus_1","status":"active","created":1,"items":{"data":[{"quantity":-1,"price":{"unit_amount":-9223372036854775808}}]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if s, err := decodeSubscription(raw); err == nil {
			if s.ID == "" || s.Customer == "" || s.Status == "" || s.Created.IsZero() || s.PeriodEnd.Year() > 9999 || s.EndedAt.Year() > 9999 {
				t.Errorf("%+v", s)
			}
			if s.AmountCents != nil && (*s.AmountCents < 0 || !inColumn(*s.AmountCents)) {
				t.Errorf("amount %d", *s.AmountCents)
			}
		}
		if s, err := decodeSession(raw); err == nil && (s.ID == "" || s.Mode == "" || s.AmountCents != nil && !inColumn(*s.AmountCents)) {
			t.Errorf("%+v", s)
		}
		if p, err := decodePrice(raw); err == nil && (p.ID == "" || p.Cents != nil && !inColumn(*p.Cents)) {
			t.Errorf("%+v", p)
		}
		if p, err := decodeProduct(raw); err == nil && p.ID == "" {
			t.Errorf("%+v", p)
		}
		_ = idOf(raw)
	})
}

// FuzzMessages: whatever Stripe complains of, no key is repeated, and it is one short line.
func FuzzMessages(f *testing.F) {
	c := &Client{cfg: Config{Key: secret.New("sk_test_51canary7f3a")}}
	f.Add("Invalid API Key provided: sk_test_51****7f3a")
	f.Add("No such price: 'price_1'")
	f.Add("sk_test_51canary7f3a\n\x00sk_test_51canary7f3ask_test_51canary7f3a")
	f.Fuzz(func(t *testing.T, text string) {
		got := c.clean(text)
		if strings.Contains(got, "sk_test_51canary7f3a") || strings.Contains(got, "\n") || len(got) > 210 {
			t.Errorf("%q", got)
		}
		if w := word(text); strings.ContainsAny(w, " \n'\"") {
			t.Errorf("%q", w)
		}
	})
}
