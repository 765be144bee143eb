package acceptance

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/browsertest"
	"github.com/tenantgate/tenantgate/internal/gatetest"
)

// TestAdministratorsAloneEnterTheAdminListenerInABrowser: ADM-1, with the two listeners on one host, as a browser has
// them at home: it keeps their cookies in one jar.
func TestAdministratorsAloneEnterTheAdminListenerInABrowser(t *testing.T) {
	dsn := sqliteURL(t)
	seed(t, dsn)
	server := httptest.NewUnstartedServer(nil)
	admin := gatetest.PublicURL(server.Listener)
	w := gatetest.New(t, gatetest.Options{HostURL: dsn, App: echo, People: people, Configure: func(c *config.Config) { c.Admin.PublicURL = admin }})
	server.Config.Handler = w.Gate.AdminHandler()
	server.Start()
	t.Cleanup(server.Close)
	users, err := w.Gate.Host().UsersByEmail(t.Context(), "ada@example.com")
	if err != nil || len(users) != 1 {
		t.Fatal(len(users), err)
	}
	users[0].IsSysAdmin = new(true)
	if err := w.Gate.Host().GlobalUsers.Update(t.Context(), &users[0]); err != nil {
		t.Fatal(err)
	}
	ctx := browsertest.New(t)
	login := w.Provider.Issuer() + "/login"

	browsertest.Open(t, ctx, admin+"/?x=1")
	isAt(t, ctx, login)
	if status := browsertest.Click(t, ctx, `button[value="ada"]`); status != 200 {
		t.Fatalf("status %d: %s", status, browsertest.Text(t, ctx))
	}
	isAt(t, ctx, admin+"/?x=1")
	if text := browsertest.Text(t, ctx); !strings.Contains(text, "ada@example.com") || !strings.Contains(text, "host_database") {
		t.Errorf("the page shows %s", text)
	}
	looks(t, ctx, "admin")
	if status := browsertest.Open(t, ctx, admin+"/api/v1/whoami"); status != 200 {
		t.Errorf("whoami: %d", status)
	}
	if status := browsertest.Open(t, ctx, admin+"/nothing"); status != 404 {
		t.Errorf("nothing there: %d", status)
	}
	// The app on the other port of the same host never sees the cookie, nor can a name that leads here read a page.
	if browsertest.Open(t, ctx, w.URL+"/t/acme/x"); strings.Contains(browsertest.Text(t, ctx), "tg_admin") {
		t.Error("the app sees the admin cookie")
	}
	if status := browsertest.Open(t, ctx, strings.Replace(admin, "localhost", "rebound.localhost", 1)+"/"); status != 403 {
		t.Errorf("another name of the listener: %d", status)
	}
	browsertest.Open(t, ctx, admin+"/_gate/logout")
	browsertest.Click(t, ctx, `form[method="post"] button.primary`)
	browsertest.WaitText(t, ctx, "You are signed out")
	for _, at := range []string{w.URL + "/t/acme/x", admin + "/"} {
		browsertest.Open(t, ctx, at)
		isAt(t, ctx, login)
	}
	if status := browsertest.Click(t, ctx, `button[value="bob"]`); status != 403 {
		t.Errorf("a member who is no administrator: %d", status)
	}
	isAt(t, ctx, w.URL+"/_gate/")
	browsertest.NoComplaints(t, ctx)
}
