package acceptance

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// RFC 9110 15.5.6: a 405 names the methods that the address does take, and those alone.
func TestA405NamesWhatTheAddressTakes(t *testing.T) {
	t.Parallel()
	w, _ := newWorld(t, func(cfg *config.Config) {
		paid(cfg)
		cfg.Billing.Stripe.WebhookSecret = secret.New("whsec_allow")
	})
	c := stays(client(t, w))
	for path, takes := range map[string]string{
		"/_gate/ping": "GET, HEAD", "/_gate/jwks.json": "GET, HEAD", "/_gate/login": "GET, HEAD", "/_gate/callback/main": "GET", "/_gate/handoff": "GET",
		"/_gate/logout": "GET, HEAD, POST", "/_gate/backchannel-logout/main": "POST", "/_gate/whoami": "GET, HEAD", "/_gate/tenants": "GET, HEAD, POST",
		"/_gate/billing": "GET, HEAD", "/_gate/billing/checkout": "POST", "/_gate/billing/portal": "POST", "/_gate/webhooks/stripe": "POST",
		"/t/acme/app": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post"} {
			res, body, err := do(c, method, w.URL+path, map[string]string{"Accept": "application/json"}, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			taken := slices.Contains(strings.Split(takes, ", "), method)
			if taken != (res.StatusCode != http.StatusMethodNotAllowed) || !taken && !slices.Equal(res.Header["Allow"], []string{takes}) {
				t.Errorf("%s %s: %d, Allow %q, want %q: %s", method, path, res.StatusCode, res.Header["Allow"], takes, body)
			}
		}
	}
}
