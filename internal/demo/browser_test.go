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
