package demo

import (
	"context"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/internal/browsertest"
)

// shot takes the page at both widths, light and dark, and fails if it does not fit.
func shot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	for _, look := range []struct {
		suffix      string
		phone, dark bool
	}{{"-desktop-dark", false, true}, {"-phone", true, false}, {"-phone-dark", true, true}, {"-desktop", false, false}} {
		if look.phone {
			browsertest.Phone(t, ctx)
		} else {
			browsertest.Desktop(t, ctx)
		}
		browsertest.Dark(t, ctx, look.dark)
		browsertest.FitsWidth(t, ctx)
		browsertest.Screenshot(t, ctx, "demo-"+name+look.suffix)
	}
}

// pick goes to a page of the proxy, meets the provider's page and picks a person there.
func (r *running) pick(ctx context.Context, path, subject string) int {
	r.t.Helper()
	browsertest.Open(r.t, ctx, r.ProxyURL+path)
	if at := browsertest.Location(r.t, ctx); !strings.HasPrefix(at, r.ProviderURL+"/login") {
		r.t.Fatalf("at %s instead of the provider's page: %s", at, browsertest.Text(r.t, ctx))
	}
	return browsertest.Click(r.t, ctx, `button[value="`+subject+`"]`)
}

func shows(t *testing.T, ctx context.Context, wants ...string) {
	t.Helper()
	text := browsertest.Text(t, ctx)
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
}

// signOut goes the way of the page's own link and button.
func (r *running) signOut(ctx context.Context, name string) {
	r.t.Helper()
	browsertest.Click(r.t, ctx, `a[href="/_gate/logout"]`)
	if name != "" {
		shot(r.t, ctx, name)
	}
	browsertest.Click(r.t, ctx, `form[method="post"] button`)
	if at := browsertest.Location(r.t, ctx); !strings.HasPrefix(at, r.ProxyURL+"/_gate/logout") {
		r.t.Errorf("signing out ended at %s", at)
	}
	if name != "" {
		shot(r.t, ctx, name+"-done")
	}
	browsertest.Open(r.t, ctx, r.ProxyURL+"/_gate/whoami")
	if at := browsertest.Location(r.t, ctx); !strings.HasPrefix(at, r.ProviderURL+"/login") {
		r.t.Errorf("still signed in after signing out: %s", browsertest.Text(r.t, ctx))
	}
}

func TestOwnerOfAPayingTenantInABrowser(t *testing.T) {
	r := start(t, Options{})
	ctx := browsertest.New(t)
	browsertest.Open(t, ctx, r.ProxyURL+"/")
	shot(t, ctx, "provider")
	if status := browsertest.Click(t, ctx, `button[value="olivia"]`); status != 200 {
		t.Fatalf("status %d: %s", status, browsertest.Text(t, ctx))
	}
	shows(t, ctx, "Acme GmbH", "Nordlicht Bäckerei", "ACM-1054", "olivia@acme.example", "owner", "pro plan", "active", "/tenants/acme.db")
	shot(t, ctx, "invoices")
	for _, to := range [][2]string{
		{"reports", "Invoiced by month"}, {"settings", "You are here as owner"}, {"request", "db_uri_sha256"}, {"live", "Connected"},
	} {
		if status := browsertest.Click(t, ctx, `nav a[href$="/`+to[0]+`/"]`); status != 200 {
			t.Errorf("%s: status %d", to[0], status)
		}
		browsertest.WaitText(t, ctx, to[1])
	}
	browsertest.WaitFor(t, ctx, "document.querySelectorAll('#events li').length >= 2")
	r.signOut(ctx, "sign-out")
	if status := browsertest.Open(t, ctx, r.ProxyURL+"/t/acme/"); status != 200 {
		t.Errorf("status %d", status)
	}
	if at := browsertest.Location(t, ctx); !strings.HasPrefix(at, r.ProviderURL) {
		t.Errorf("after signing out the tenant's page is still there: %s", at)
	}
	browsertest.NoComplaints(t, ctx)
}

func TestMemberOfTwoTenantsSwitchesInABrowser(t *testing.T) {
	r := start(t, Options{})
	ctx := browsertest.New(t)
	r.pick(ctx, "/", "mara")
	if at := browsertest.Location(t, ctx); !strings.Contains(at, "/_gate/tenants") {
		t.Fatalf("at %s instead of the picker", at)
	}
	shows(t, ctx, "Acme GmbH", "Globex Corporation")
	shot(t, ctx, "picker")
	browsertest.Click(t, ctx, `a[href="/t/globex/"]`)
	shows(t, ctx, "Globex Corporation", "Cascade Outfitters", "admin", "trialing")
	if status := browsertest.Click(t, ctx, `nav a[href="/t/globex/settings/"]`); status != 200 {
		t.Errorf("an admin's settings: %d", status)
	}
	browsertest.Click(t, ctx, `a[href="/_gate/tenants"]`)
	browsertest.Click(t, ctx, `a[href*="/t/"]:not([href*="globex"])`)
	shows(t, ctx, "Acme GmbH", "Nordlicht Bäckerei", "member")
	if strings.Contains(browsertest.Text(t, ctx), "Cascade") {
		t.Error("Acme's page shows rows of Globex")
	}
	if status := browsertest.Click(t, ctx, `nav a[href$="/settings/"]`); status != 403 {
		t.Errorf("a member's settings: %d", status)
	}
	shows(t, ctx, "role_required")
	shot(t, ctx, "role-required")
	if status := browsertest.Open(t, ctx, r.ProxyURL+"/t/hooli/"); status != 403 {
		t.Errorf("another tenant: %d", status)
	}
	shows(t, ctx, "no_access")
	shot(t, ctx, "no-access")
	if status := browsertest.Open(t, ctx, r.ProxyURL+"/account/"); status != 200 {
		t.Errorf("account: %d", status)
	}
	shows(t, ctx, "mara@lindqvist.example", "none named")
	r.signOut(ctx, "")
	browsertest.NoComplaints(t, ctx)
}

func TestRefusedPeopleReadWhatToDoInABrowser(t *testing.T) {
	r := start(t, Options{})
	for _, p := range []struct {
		subject, path string
		status        int
		code          string
	}{
		{"luis", "/", 402, "subscription_required"},
		{"sofia", "/", 403, "tenant_inactive"},
		{"sam", "/", 403, "unknown_user"},
		{"kim", "/", 403, "no_access"},
		{"noor", "/reports/", 403, "feature_required"},
	} {
		t.Run(p.subject, func(t *testing.T) {
			ctx := browsertest.New(t)
			if status := r.pick(ctx, p.path, p.subject); status != p.status {
				t.Errorf("status %d, want %d", status, p.status)
			}
			shows(t, ctx, p.code)
			if text := browsertest.Text(t, ctx); strings.Contains(text, "sqlite:") || strings.Contains(text, ".db") {
				t.Errorf("the refusal shows a database: %s", text)
			}
			shot(t, ctx, "refused-"+p.subject)
			browsertest.NoComplaints(t, ctx)
			if browsertest.Count(t, ctx, "main a[href], main form") == 0 {
				t.Error("the page leads nowhere")
			}
		})
	}
}

// The whole way that the product is about: a 402, the plans, payment, the app; then the portal, and the end.
func TestOwnerPaysAndIsLetInInABrowser(t *testing.T) {
	r := start(t, Options{})
	ctx := browsertest.New(t)
	if status := r.pick(ctx, "/", "petra"); status != 402 {
		t.Fatalf("status %d", status)
	}
	shows(t, ctx, "subscription_required", "Plans and payment")
	shot(t, ctx, "unpaid-owner")
	if status := browsertest.Click(t, ctx, `a.primary`); status != 200 {
		t.Fatalf("plans: %d %s", status, browsertest.Text(t, ctx))
	}
	shows(t, ctx, "Billing of Initech", "The subscription has ended", "Basic", "Pro", "Enterprise", "€49.00 a month", "€490.00 a year", "petra@initech.example")
	shot(t, ctx, "plans")
	// Away and back again: nothing has happened.
	browsertest.Click(t, ctx, `form:has(input[value="pro"]):has(input[value="year"]) button`)
	if at := browsertest.Location(t, ctx); !strings.HasPrefix(at, r.StripeURL+"/c/pay/") {
		t.Fatalf("at %s instead of the checkout: %s", at, browsertest.Text(t, ctx))
	}
	shows(t, ctx, "Pro, 490.00 EUR a year")
	shot(t, ctx, "checkout")
	browsertest.Click(t, ctx, `form:has(input[value="decline"]) button`)
	shows(t, ctx, "declined")
	browsertest.Click(t, ctx, `a[href*="/_gate/billing"]`)
	shows(t, ctx, "The subscription has ended")

	browsertest.Click(t, ctx, `form:has(input[value="basic"]):has(input[value="month"]) button`)
	shows(t, ctx, "Basic, 19.00 EUR a month")
	if status := browsertest.Click(t, ctx, `form:has(input[value="pay"]) button`); status != 200 {
		t.Errorf("back: %d", status)
	}
	if at := browsertest.Location(t, ctx); !strings.HasPrefix(at, r.ProxyURL+"/_gate/billing") {
		t.Fatalf("at %s instead of the plans", at)
	}
	shows(t, ctx, "The payment has arrived", "The subscription is active. It renews on", "Current plan", "Go to the workspace")
	if n := browsertest.Count(t, ctx, `form[action="/_gate/billing/checkout"]`); n != 0 {
		t.Errorf("%d buttons sell a second subscription", n)
	}
	if status := browsertest.Click(t, ctx, `a.primary`); status != 200 {
		t.Errorf("the app, right after paying: %d %s", status, browsertest.Text(t, ctx))
	}
	shows(t, ctx, "Initech", "basic plan", "active")
	browsertest.Open(t, ctx, r.ProxyURL+"/_gate/billing?tenant=initech")
	shot(t, ctx, "plans-paid")

	browsertest.Click(t, ctx, `form[action="/_gate/billing/portal"] button`)
	if at := browsertest.Location(t, ctx); !strings.HasPrefix(at, r.StripeURL+"/p/session/") {
		t.Fatalf("at %s instead of the portal", at)
	}
	browsertest.NoComplaints(t, ctx)
}

func TestMemberIsToldWhomToAskAndHasNoPlansInABrowser(t *testing.T) {
	r := start(t, Options{})
	ctx := browsertest.New(t)
	if status := r.pick(ctx, "/", "luis"); status != 402 {
		t.Fatalf("status %d", status)
	}
	shows(t, ctx, "Ask one of its owners or admins")
	if n := browsertest.Count(t, ctx, `a[href*="billing"]`); n != 0 {
		t.Error("a member is led to the plans")
	}
	if status := browsertest.Open(t, ctx, r.ProxyURL+"/_gate/billing?tenant=initech"); status != 403 {
		t.Errorf("plans for a member: %d", status)
	}
	shows(t, ctx, "role_required")
	if status := browsertest.Open(t, ctx, r.ProxyURL+"/_gate/billing?tenant=hooli"); status != 403 {
		t.Errorf("another tenant's plans: %d", status)
	}
	shows(t, ctx, "no_access")
	browsertest.NoComplaints(t, ctx)
}
