package attack

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/internal/stripefake"
)

// leakyStripe is a Stripe that repeats the key in whatever it answers.
type leakyStripe struct {
	old, current, key string
	server            *httptest.Server
}

func (n *nest) startStripe(t *testing.T) {
	t.Helper()
	n.stripe.old, n.stripe.current = "whsec_"+n.plant("webhook secret that is rolled out"), "whsec_"+n.plant("webhook secret")
	n.stripe.key = "sk_test_" + n.plant("Stripe's API key")
	n.stripe.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := r.Header.Get("Authorization")
		w.Header().Set("Request-Id", "req_"+sent)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"error":{"type":"invalid_request_error","code":%q,"message":"you sent %s"}}`, sent, sent)
	}))
	t.Cleanup(n.stripe.server.Close)
}

func (n *nest) configureStripe(c *config.Config) {
	c.Billing.Stripe.WebhookSecret = secret.New(n.input(n.stripe.old + "\n" + n.stripe.current + "\n"))
	c.Billing.Stripe.APIKey, c.Billing.Stripe.APIURL = secret.New(n.input(n.stripe.key)), n.stripe.server.URL
}

// event posts a body to the webhook endpoint.
func (n *nest) event(t *testing.T, body, signature string, want int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.world.URL+"/_gate/webhooks/stripe", strings.NewReader(n.input(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Stripe-Signature", n.input(signature))
	if a := do(t, n.client(t), req); a.status != want {
		t.Errorf("event %.60s: %d %s, want %d", body, a.status, a.body, want)
	}
}

// subscriptionEvent is an event with secrets of people wherever Stripe sends them.
func (n *nest) subscriptionEvent(id, customer string) string {
	return fmt.Sprintf(`{"id":"evt_%s_%v","object":"event","type":"customer.subscription.updated","created":%d,"data":{"object":{"id":"sub_canary","object":"subscription",
		"customer":%s,"status":"active","created":1,"description":%q,"metadata":{"tenant_id":"plain","note":%q},"items":{"data":[]}}}}`,
		id, n.middleware, time.Now().Unix(), customer, n.plant("description in an event"), n.plant("metadata in an event"))
}

// stripeEvents sends events that are signed, unsigned and wrong, with the endpoint's secrets wherever a confused sender could
// put them. What Stripe is asked about them fails and repeats the key.
func (n *nest) stripeEvents(t *testing.T) {
	t.Helper()
	current, old := secret.New(n.stripe.current), secret.New(n.stripe.old)
	sign := func(body string, keys ...secret.Text) string {
		return stripefake.Sign([]byte(body), time.Now(), keys...)
	}
	customer := fmt.Sprintf(`{"id":"cus_canary","email":%q}`, n.plant("customer's e-mail")+"@x")
	good := n.subscriptionEvent("good", customer)
	n.event(t, good, sign(good, current), 500)
	n.event(t, good, sign(good, old), 500)
	n.event(t, good, sign(good, secret.New(n.plantGiven("secret of another endpoint"))), 400)
	n.event(t, good, n.stripe.current, 400)
	n.event(t, good, fmt.Sprintf("t=%d,v1=%s", time.Now().Unix(), n.stripe.current), 400)
	n.event(t, good, "t="+n.plantGiven("moment of a signature")+",v1="+n.stripe.old, 400)
	for _, body := range []string{
		`{"id":"` + n.stripe.current + `"`, n.stripe.current, `{"id":"evt_1","type":"` + n.stripe.old + `","created":"` + n.stripe.current + `"}`,
		n.subscriptionEvent("odd", `{"name":"`+n.plant("customer's name")+`"}`),
	} {
		n.event(t, body, sign(body, current), 400)
	}
	ignored := `{"id":"evt_ignored","object":"event","type":"` + n.plant("type of an event") + `","created":1,"data":{"object":{"id":"` + n.stripe.current + `"}}}`
	n.event(t, ignored, sign(ignored, old, current), 200)
	large := strings.Repeat(n.stripe.current, 1<<16)
	n.event(t, large, sign(large, current), 413)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.world.URL+"/_gate/webhooks/stripe?key="+n.stripe.current, io.NopCloser(strings.NewReader("x")))
	if err != nil {
		t.Fatal(err)
	}
	if a := do(t, n.client(t), req); a.status != 415 {
		t.Errorf("of no type: %d %s", a.status, a.body)
	}
}
