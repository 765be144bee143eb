package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/internal/stripefake"
)

const stripeKey = "sk_test_" + canary

// stripe gives the commands an account: its API's address and key are in their environment.
func (c *cli) stripe() *stripefake.Server {
	c.t.Helper()
	var h http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
	c.t.Cleanup(server.Close)
	fake, err := stripefake.New(stripefake.Config{Origin: server.URL, Keys: []stripefake.Key{{Secret: secret.New(stripeKey)}}})
	if err != nil {
		c.t.Fatal(err)
	}
	h = fake
	c.environ = append(c.environ, "TENANTGATE_SECRET_KEY="+masterSecret, "TENANTGATE_BILLING_STRIPE_API_URL="+server.URL)
	return fake
}

// withKey adds the key, in a file.
func (c *cli) withKey(key string) {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	const name = "TENANTGATE_BILLING_STRIPE_API_KEY_FILE="
	c.environ = slices.DeleteFunc(c.environ, func(e string) bool { return strings.HasPrefix(e, name) })
	c.environ = append(c.environ, name+file)
}

func TestPlanSync(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		fake := c.stripe()
		c.fails(exitUsage, "billing.stripe.api_key_file: missing", "plan", "sync")
		c.withKey(stripeKey)
		c.ok("migrate")
		product := fake.AddProduct(stripefake.Product{Name: "Pro", Metadata: map[string]string{"plan": "pro", "tier_level": "2"}})
		fake.AddPrice(stripefake.Price{ID: "price_1", Product: product, Cents: 4900})
		shown := c.object("plan", "sync", "--dry-run")
		if shown["dry_run"] != true || len(shown["changes"].([]any)) == 0 || len(items(t, c.object("plan", "list"))) != 0 {
			t.Errorf("a dry run: %v", shown)
		}
		table := c.ok("plan", "sync")
		if !strings.Contains(table, "PLAN") || !strings.Contains(table, "price_1") || !strings.Contains(table, "create") {
			t.Errorf("table %s", table)
		}
		if got := c.object("plan", "show", "pro"); got["amount_monthly"] != 4900.0 || got["tier_level"] != 2.0 {
			t.Errorf("%v", got)
		}
		if got := c.ok("plan", "sync"); got != "nothing to change: 1 plans are as Stripe has them\n" {
			t.Errorf("a second time: %s", got)
		}
		for _, row := range items(t, c.object("audit", "list", "--event-type", "plan.created")) {
			if row["actor_user_id"] != actor() {
				t.Errorf("actor %v", row["actor_user_id"])
			}
		}
		fake.AddProduct(stripefake.Product{Name: "Bad", Metadata: map[string]string{"plan": "bad key"}})
		r := c.run("plan", "sync", "--output", "json")
		if r.code != exitFailed || !strings.Contains(r.err, "is no plan key") || len(decode(t, r.out)["problems"].([]any)) != 1 {
			t.Errorf("exit %d, %s, %s", r.code, r.out, r.err)
		}
	})
}

func TestSubscriptionReconcile(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		fake := c.stripe()
		c.fails(exitUsage, "billing.stripe.api_key_file: missing", "subscription", "reconcile")
		c.withKey(stripeKey)
		c.ok("migrate")
		c.ok("tenant", "create", "--id", "acme")
		price := fake.AddPrice(stripefake.Price{Product: fake.AddProduct(stripefake.Product{Name: "Pro"}), Cents: 4900})
		customer := fake.AddCustomer(stripefake.Customer{Card: stripefake.CardPays})
		sub := fake.AddSubscription(stripefake.Subscribe{Customer: customer, Price: price})
		c.ok("subscription", "create", "--tenant", "acme", "--stripe-sub-id", sub, "--status", "trialing")
		shown := c.object("subscription", "reconcile", "--dry-run")
		changes := shown["changes"].([]any)
		if shown["dry_run"] != true || shown["mode"] != "test" || shown["subscriptions"] != 1.0 || len(changes) == 0 || len(shown["missed_events"].([]any)) == 0 {
			t.Errorf("a dry run: %v", shown)
		}
		table := c.ok("subscription", "reconcile")
		if !strings.Contains(table, "SUBSCRIPTION") || !strings.Contains(table, sub) || !strings.Contains(table, "MISSED_EVENT") {
			t.Errorf("table %s", table)
		}
		if rows := items(t, c.object("subscription", "list")); len(rows) != 1 || rows[0]["status"] != "active" || rows[0]["amount_cents"] != 4900.0 {
			t.Errorf("%v", rows)
		}
		if got := c.ok("subscription", "reconcile"); got != "nothing to change: 1 subscriptions looked at\n" {
			t.Errorf("a second time: %s", got)
		}
		found := false
		for _, row := range items(t, c.object("audit", "list", "--event-type", "subscription.updated")) {
			found = found || row["actor_user_id"] == actor()
		}
		if !found {
			t.Error("no audit row of ours")
		}
		c.withKey("sk_live_" + canary)
		r := c.run("subscription", "reconcile")
		if r.code != exitFailed || r.out != "" || strings.Contains(r.err, canary) {
			t.Errorf("exit %d, %s, %s", r.code, r.out, r.err)
		}
	})
}

func TestStripesKeyIsShownNowhere(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	fake := c.stripe()
	c.withKey("sk_test_" + canary + "wrong")
	c.ok("migrate")
	r := c.run("plan", "sync")
	if r.code != exitFailed || !strings.Contains(r.err, "the API key is not accepted") || strings.Contains(r.err+r.out, canary) {
		t.Errorf("exit %d, %s, %s", r.code, r.out, r.err)
	}
	c.withKey("pk_test_" + canary)
	r = c.run("plan", "sync")
	if r.code != exitUsage || !strings.Contains(r.err, "publishable") || strings.Contains(r.err+r.out, canary) {
		t.Errorf("exit %d, %s, %s", r.code, r.out, r.err)
	}
	c.withKey(stripeKey)
	fake.SetFaults(func(*http.Request) *stripefake.Fault { return &stripefake.Fault{Status: 429, RetryAfter: time.Hour} })
	r = c.run("plan", "sync")
	if r.code != exitFailed || !strings.Contains(r.err, "429: too many requests") || strings.Contains(r.err+r.out, canary) {
		t.Errorf("exit %d, %s, %s", r.code, r.out, r.err)
	}
}

// Who changes a row that Stripe's account of a subscription follows is told that it will not stay so, and where to change it.
func TestAChangeThatStripeUndoesIsSaid(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	c.ok("tenant", "create", "--id", "acme")
	c.ok("subscription", "create", "--id", "s1", "--tenant", "acme", "--stripe-sub-id", "sub_1", "--status", "active")
	c.ok("subscription", "create", "--id", "s2", "--tenant", "acme", "--stripe-sub-id", "sub_unknown", "--status", "active", "--created-at", "2020-01-01")
	c.ok("subscription", "update", "s1", "--status", "active", "--plan-tier", "pro") // nothing is known of it yet
	c.exec("INSERT INTO sys_stripe_watermarks (object_id, tenant_id, status, period_end, plan_tier, entitles) VALUES ('sub_1', 'acme', 'active', '', 'pro', TRUE)")
	c.ok("subscription", "update", "s1", "--product-name", "Pro") // Stripe says nothing against it
	c.ok("subscription", "update", "s2", "--status", "canceled")
	for _, args := range [][]string{{"update", "s1", "--status", "canceled"}, {"update", "s1", "--status", "active", "--plan-tier", "gold"}, {"delete", "s1"}} {
		r := c.run(append([]string{"subscription"}, args...)...)
		if r.code != 0 || !strings.HasPrefix(r.err, "warning: ") || strings.Count(r.err, "\n") != 1 || !strings.Contains(r.err, "sub_1 is active") || r.out == "" {
			t.Errorf("%v: exit %d, stderr %q", args, r.code, r.err)
		}
	}
}
