package demo

import (
	"context"
	"fmt"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/internal/stripefake"
)

// Keys of the demo's Stripe. They open nothing anywhere else.
const (
	stripeKey     = "sk_test_tenantgateDemo"
	webhookSecret = "whsec_tenantgateDemoTenantgateDemo"
)

func monthlyPrice(plan string) string { return "price_demo_" + plan + "_month" }

func yearlyPrice(plan string) string { return "price_demo_" + plan + "_year" }

// paidAt adds what an operator would write to be paid at Stripe.
func paidAt(p *ports, cfg *config.Config) *config.Config {
	stripe := &cfg.Billing.Stripe
	stripe.APIKey, stripe.APIURL, stripe.WebhookSecret = secret.New(stripeKey), p.stripe.url, secret.New(webhookSecret)
	return cfg
}

// newStripe makes an account that sells the demo's plans and tells the proxy what happens there.
func newStripe(p *ports) (*stripefake.Server, error) {
	stripe, err := stripefake.New(stripefake.Config{Origin: p.stripe.url, Keys: []stripefake.Key{{Secret: secret.New(stripeKey)}}})
	if err != nil {
		return nil, fmt.Errorf("start the demo's Stripe: %w", err)
	}
	for _, plan := range plans() {
		id := string(plan.ID)
		stripe.AddProduct(stripefake.Product{ID: "prod_demo_" + id, Name: *plan.Name, Description: *plan.Description})
		for price, offer := range map[string]stripefake.Price{
			monthlyPrice(id): {Cents: *plan.AmountMonthly},
			yearlyPrice(id):  {Cents: *plan.AmountYearly, Interval: "year"},
		} {
			offer.ID, offer.Product, offer.Currency = price, "prod_demo_"+id, *plan.Currency
			stripe.AddPrice(offer)
		}
	}
	return stripe, nil
}

// fillStripe gives the account the customers and subscriptions that the tenants' rows speak of, and lets it speak to the
// proxy from then on. It forgets everything at the end of each run: what was bought in an earlier one is begun anew here.
func fillStripe(ctx context.Context, stripe *stripefake.Server, host *catalog.HostDatabase, proxyURL string) error {
	for after := ""; ; {
		rows, next, err := host.Subscriptions.List(ctx, catalog.Page{Limit: 1000, After: after})
		if err != nil {
			return fmt.Errorf("fill the demo's Stripe: %w", err)
		}
		for i := range rows {
			addSubscription(stripe, &rows[i])
		}
		if next == "" {
			break
		}
		after = next
	}
	stripe.AddEndpoint(stripefake.Endpoint{URL: proxyURL + "/_gate/webhooks/stripe", Secrets: []secret.Text{secret.New(webhookSecret)}})
	return nil
}

// addSubscription makes one of a row that goes on. The others have ended, and nobody asks for them.
func addSubscription(stripe *stripefake.Server, row *catalog.Subscription) {
	if row.StripeSubID == nil || row.StripeCustID == nil || row.PlanTier == nil || row.Status == nil {
		return
	}
	customer, price := *row.StripeCustID, monthlyPrice(*row.PlanTier)
	if stripe.Get(customer) == nil {
		stripe.AddCustomer(stripefake.Customer{ID: customer, Name: string(row.TenantID), Card: stripefake.CardPays})
	}
	if stripe.Get(price) == nil || stripe.Get(*row.StripeSubID) != nil || *row.Status != "active" && *row.Status != "trialing" {
		return
	}
	days := int64(0)
	if *row.Status == "trialing" {
		days = 30
	}
	stripe.AddSubscription(stripefake.Subscribe{ID: *row.StripeSubID, Customer: customer, Price: price, TrialDays: days})
}
