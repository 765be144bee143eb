package acceptance

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/secret"
)

const webhookSecret = "whsec_acceptance"

// stripeEvent posts a subscription's event, signed, and returns the status. More headers come in pairs.
func stripeEvent(t *testing.T, w *gatetest.World, host, id, kind, status string, at time.Time, headers ...string) int {
	t.Helper()
	body := fmt.Sprintf(`{"id":%q,"object":"event","type":%q,"created":%d,"livemode":false,"data":{"object":{"id":"sub_1","object":"subscription",
		"customer":"cus_1","status":%q,"created":%d,"metadata":{"tenant_id":"lapsed"},"items":{"data":[]}}}}`, id, kind, at.Unix(), status, at.Unix())
	now := time.Now().Unix()
	mac := hmac.New(sha256.New, []byte(webhookSecret))
	fmt.Fprintf(mac, "%d.%s", now, body)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.URL+"/_gate/webhooks/stripe", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Stripe-Signature", fmt.Sprintf("t=%d,v1=%s", now, hex.EncodeToString(mac.Sum(nil))))
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	if host != "" {
		req.Host = host
	}
	res, err := w.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}

func TestADeliveredEventChangesTheDecision(t *testing.T) {
	t.Parallel()
	dsn := sqliteURL(t)
	seed(t, dsn)
	w := gatetest.New(t, gatetest.Options{HostURL: dsn, App: echo, People: people, Configure: func(cfg *config.Config) {
		cfg.Billing.Stripe.WebhookSecret, cfg.Billing.Stripe.TrustMetadata = secret.New(webhookSecret), true
	}})
	c := signedIn(t, w, "lou")
	becomes := func(want int) {
		t.Helper()
		deadline := time.Now().Add(patience)
		for {
			res, _ := fetch(t, c, "GET", w.URL+"/t/lapsed/", nil)
			if res.StatusCode == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d, want %d", res.StatusCode, want)
			}
		}
	}
	becomes(http.StatusPaymentRequired)
	now := time.Now()
	if code := stripeEvent(t, w, "elsewhere.example", "evt_1", "customer.subscription.created", "active", now); code != http.StatusNotFound {
		t.Errorf("on another host: %d", code)
	}
	// From another site, without a session, under a route or none: it is signed, which is all that counts.
	if code := stripeEvent(t, w, "", "evt_1", "customer.subscription.created", "active", now, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"); code != http.StatusOK {
		t.Errorf("delivered: %d", code)
	}
	becomes(http.StatusOK)
	if code := stripeEvent(t, w, "", "evt_2", "customer.subscription.deleted", "canceled", now.Add(time.Second)); code != http.StatusOK {
		t.Errorf("delivered: %d", code)
	}
	becomes(http.StatusPaymentRequired)
	res, _ := fetch(t, c, "GET", w.URL+"/_gate/webhooks/stripe", nil)
	if res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", res.StatusCode)
	}
}
