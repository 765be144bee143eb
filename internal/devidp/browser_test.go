package devidp

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"golang.org/x/oauth2"

	"github.com/tenantgate/tenantgate/internal/browsertest"
)

// app is what the provider sends the browser back to.
func app(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte("back with " + r.URL.RawQuery))
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/callback"
}

func demoPeople() []Person {
	return []Person{
		{Subject: "olivia", Email: "olivia@acme.example", Name: "Olivia Ortega", Note: "Owner of Acme, which pays for Pro"},
		{Subject: "mara", Email: "mara.lindqvist@consulting.example", Name: "Mara Lindqvist", Note: "Member of Acme, admin of Globex (trial)"},
		{Subject: "luis", Email: "luis@initech.example", Name: "Luís Pereira", Note: "Member of Initech, whose subscription lapsed"},
		{Subject: "sofia", Email: "sofia@umbrella.example", Name: "Sofia Novák", Note: "Member of Umbrella, which is suspended"},
		{Subject: "sam", Email: "sam@elsewhere.example", Name: "Sam", Note: "A stranger: nobody here knows this account"},
		{
			Subject: "long", Email: "a.person.with.quite.a.long.address@a-subdomain-that-never-seems-to-end.example.com",
			Name: "Wolfeschlegelsteinhausenbergerdorff Maximiliane-Theodora von und zu Hohenstaufen",
		},
	}
}

func TestPersonIsPickedInABrowser(t *testing.T) {
	target := app(t)
	h := newHarness(t, func(c *Config) { c.RedirectURIs = []string{target}; c.People = demoPeople() })
	h.oauth.RedirectURL = target
	start := func(options ...oauth2.AuthCodeOption) string {
		return h.oauth.AuthCodeURL("st", append(options, oauth2.S256ChallengeOption(oauth2.GenerateVerifier()))...)
	}
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
		if got := browsertest.Open(t, ctx, start()); got != 200 {
			t.Fatalf("%s: status %d", look.name, got)
		}
		browsertest.FitsWidth(t, ctx)
		browsertest.Screenshot(t, ctx, "provider-"+look.name)
	}

	browsertest.Click(t, ctx, `button[value="mara"]`)
	if text := browsertest.Text(t, ctx); !strings.Contains(text, "code=") || !strings.Contains(text, "state=st") {
		t.Errorf("clicked: %s", text)
	}

	// By keyboard alone: Tab to the second card, Enter.
	browsertest.Open(t, ctx, start())
	browsertest.Do(t, ctx, chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab))
	browsertest.Screenshot(t, ctx, "provider-focus")
	browsertest.Do(t, ctx, chromedp.KeyEvent(kb.Enter))
	browsertest.WaitText(t, ctx, "code=")

	browsertest.Open(t, ctx, start(oauth2.SetAuthURLParam("login_hint", "luis@initech.example")))
	browsertest.WaitFor(t, ctx, "document.activeElement.value === 'luis'")
	browsertest.Do(t, ctx, chromedp.KeyEvent(kb.Enter))
	browsertest.WaitText(t, ctx, "code=")

	browsertest.Open(t, ctx, start())
	browsertest.Click(t, ctx, ".cancel")
	if text := browsertest.Text(t, ctx); !strings.Contains(text, "error=access_denied") {
		t.Errorf("cancelled: %s", text)
	}
	browsertest.NoComplaints(t, ctx)
}

func TestPagesWithoutPeopleLeadBackToTheApp(t *testing.T) {
	target := app(t)
	h := newHarness(t, func(c *Config) { c.RedirectURIs = []string{target} })
	ctx := browsertest.New(t)
	browsertest.Phone(t, ctx)
	for _, page := range []struct {
		path, name string
		status     int
	}{{"/login?id=" + url.QueryEscape("gone"), "provider-ended", 400}, {"/signed-out", "provider-signed-out", 200}, {"/", "provider-home", 200}} {
		if got := browsertest.Open(t, ctx, h.server.URL+page.path); got != page.status {
			t.Errorf("%s: status %d", page.path, got)
		}
		browsertest.FitsWidth(t, ctx)
		browsertest.Screenshot(t, ctx, page.name)
	}
	browsertest.Click(t, ctx, "a.home")
	if got := browsertest.Location(t, ctx); !strings.HasPrefix(target, strings.TrimSuffix(got, "/")) {
		t.Errorf("the link leads to %s", got)
	}
	browsertest.NoComplaints(t, ctx)
}
