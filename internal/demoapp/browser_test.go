package demoapp

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/internal/browsertest"
)

// front is a proxy in little: it cuts /t/acme and sets the headers.
func (g *gate) front() string {
	g.t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, ok := strings.CutPrefix(r.URL.Path, "/t/acme")
		if !ok {
			r.Header.Del("X-Gate-Assertion")
			g.app.ServeHTTP(w, r)
			return
		}
		uri := g.uri("acme")
		if path == "/account/" {
			uri = ""
		}
		inner := g.request("/", uri)
		for name, values := range inner.Header {
			r.Header[name] = values
		}
		r.Header.Set("X-User-Email", "olivia@acme.example")
		if uri == "" {
			for _, name := range []string{"X-Tenant-Id", "X-Tenant-Plan", "X-User-Role", "X-Subscription-Status"} {
				r.Header.Del(name)
			}
		}
		r.URL.Path = path
		g.app.ServeHTTP(w, r)
	}))
	g.t.Cleanup(srv.Close)
	return srv.URL
}

func TestPagesInABrowser(t *testing.T) {
	g := newGate(t)
	base := g.front()
	ctx := browsertest.New(t)
	for _, look := range []struct {
		name        string
		phone, dark bool
	}{{"desktop", false, false}, {"desktop-dark", false, true}, {"phone", true, false}, {"phone-dark", true, true}} {
		if look.phone {
			browsertest.Phone(t, ctx)
		} else {
			browsertest.Desktop(t, ctx)
		}
		browsertest.Dark(t, ctx, look.dark)
		for path, want := range map[string]string{
			"/": "Nordlicht Bäckerei", "/reports/": "Invoiced by month", "/settings/": "Hamburg",
			"/request/": "db_uri_sha256", "/account/": "olivia@acme.example",
		} {
			if got := browsertest.Open(t, ctx, base+"/t/acme"+path); got != http.StatusOK {
				t.Fatalf("%s: status %d", path, got)
			}
			browsertest.WaitText(t, ctx, want)
			browsertest.FitsWidth(t, ctx)
			name := strings.Trim(path, "/")
			if name == "" {
				name = "invoices"
			}
			browsertest.Screenshot(t, ctx, "app-"+name+"-"+look.name)
		}
	}
	browsertest.Open(t, ctx, base+"/t/acme/")
	browsertest.Click(t, ctx, `nav a[href="/t/acme/live/"]`)
	browsertest.WaitText(t, ctx, "Connected")
	browsertest.WaitFor(t, ctx, "document.querySelectorAll('#events li').length === 12")
	browsertest.Screenshot(t, ctx, "app-live-phone-dark")

	if got := browsertest.Open(t, ctx, base+"/"); got != http.StatusInternalServerError {
		t.Errorf("past the proxy: status %d", got)
	}
	browsertest.WaitText(t, ctx, "did not come through tenantgate")
	browsertest.FitsWidth(t, ctx)
	browsertest.Screenshot(t, ctx, "app-failure-phone-dark")
	browsertest.NoComplaints(t, ctx)
}
