package attack

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// token makes an API token and learns it.
func (n *nest) token(t *testing.T, name string, spec auth.TokenSpec) (catalog.APITokenID, string) {
	t.Helper()
	secrets, err := seal.ParseKeyset(secret.New(n.masterSecret))
	if err != nil {
		t.Fatal(err)
	}
	row, token := mintTokenUnder(t, n.world.Gate.Host(), secrets, spec)
	n.learn(name, token)
	n.tell("error", fmt.Sprintf("%v %+v %#v %v %+v %#v", *row, *row, *row, secret.New(token), spec, secret.New(token)))
	return row.ID, token
}

// tokens sends API tokens of every kind wherever one could be sent, and looks at what is told of them.
func (n *nest) tokens(t *testing.T) {
	t.Helper()
	host := n.world.Gate.Host()
	_, all := n.token(t, "API token", auth.TokenSpec{User: "uid-owner", Name: "all"})
	_, plain := n.token(t, "API token of one tenant", auth.TokenSpec{User: "uid-owner", Tenant: "plain"})
	gone, deleted := n.token(t, "deleted API token", auth.TokenSpec{User: "uid-owner"})
	_, over := n.token(t, "ended API token", auth.TokenSpec{User: "uid-owner", Expires: time.Now().Add(-time.Hour)})
	_, admin := n.token(t, "admin token", auth.TokenSpec{Admin: true})
	if err := host.APITokens.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	with := func(token string) map[string]string { return map[string]string{"Authorization": "Bearer " + token} }
	for _, p := range []probe{
		{path: "/t/plain/app/x", header: with(all)},
		{path: "/t/plain/app/x", header: with(plain)},
		{path: "/app/x", header: with(plain)},
		{path: "/app/x", header: with(all), code: "tenant_required"},
		{path: "/t/escaped/app/x", header: with(plain), code: "tenant_conflict"},
		{path: "/t/foreign/app/x", header: with(all), code: "no_access"},
		{path: "/t/control/app/x", header: with(all), code: "tenant_misconfigured"},
		{path: "/t/plain/app/x", header: with(deleted), code: "invalid_token"},
		{path: "/t/plain/app/x", header: with(over), code: "invalid_token"},
		{path: "/t/plain/app/x", header: with(admin), code: "invalid_token"},
		{path: "/t/plain/app/x", header: with(all + "x"), code: "invalid_token"},
		{path: "/t/plain/app/x", header: map[string]string{"Authorization": all}, code: "unauthenticated"},
		{path: "/t/plain/app/x", header: map[string]string{"Cookie": sessionName + "=" + all}, code: "session_expired"},
		{path: "/t/plain/app/x", header: map[string]string{"Cookie": "tg_admin=" + admin}, code: "unauthenticated"},
		{path: "/public/x", header: with(all)},
		{path: "/public/x", header: with(admin)},
		{path: "/public/" + all},
		{path: "/public/" + admin},
		{path: "/_gate/nothing/" + plain, code: "not_found"},
	} {
		n.send(t, p)
	}
	n.behindTheDoors(t, admin, all, n.plant("admin cookie"))
}

// behindTheDoors asks the admin listener with every credential.
func (n *nest) behindTheDoors(t *testing.T, admin, token, cookie string) {
	t.Helper()
	n.input(cookie)
	for _, path := range []string{"/", "/api/v1/whoami", "/_gate/whoami", "/_gate/logout", "/_gate/login?return_to=/", "/_gate/handoff?code=" + n.plantGiven("hand-off code"), "/nothing/" + admin} {
		for header, value := range map[string]string{"Authorization": "Bearer " + admin, "authorization": "bearer " + token, "Cookie": "tg_admin=" + cookie, "X-Token": admin} {
			for _, accept := range []string{"application/json", "text/html"} {
				r := httptest.NewRequest(http.MethodGet, "http://localhost:9901"+path, http.NoBody)
				r.Header.Set(header, value)
				r.Header.Set("Accept", accept)
				rec := httptest.NewRecorder()
				n.world.Gate.AdminHandler().ServeHTTP(rec, r)
				a := answer{rec.Code, rec.Header(), rec.Body.String()}
				if a.status >= 500 && a.status != 501 {
					t.Errorf("%s with %s: %d", path, header, a.status)
				}
				if to := a.header.Get("Location"); to != "" && to[0] == '/' { // leads a browser back to where it was
					a.header.Del("Location")
				}
				n.tell("admin page", a.text())
			}
		}
	}
}

// administrator signs in at the admin listener, uses the session there and elsewhere, and signs out. What travels between
// browser and listeners is the browser's; everything else that tells of it is looked at.
func (n *nest) administrator(t *testing.T) {
	t.Helper()
	c := n.world.Client()
	defer c.CloseIdleConnections()
	c.CheckRedirect = func(req *http.Request, _ []*http.Request) error {
		q := req.URL.Query()
		for name, what := range map[string]string{"code": "hand-off code", "handoff": "ask for a hand-off"} {
			if v := q.Get(name); v != "" && req.URL.Path != "/_gate/callback/dev" {
				n.learn(what, v)
			}
		}
		return nil
	}
	admin := gatetest.PublicURL(n.admin.Listener)
	at, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(request(t, http.MethodGet, admin+"/_gate/login?return_to=/api/v1/whoami"))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	page := res.Request.URL
	if res, err = c.PostForm(page.String(), url.Values{"id": {page.Query().Get("id")}, "subject": {"owner"}}); err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.Request.URL.String() != admin+"/api/v1/whoami" || res.StatusCode != http.StatusOK {
		t.Fatalf("the sign-in ended at %s with %s", res.Request.URL.Path, res.Status)
	}
	session := ""
	for _, k := range c.Jar.Cookies(at) {
		if k.Name == "tg_admin" {
			session = k.Value
			n.learn("admin session", session)
		}
	}
	for _, target := range []string{admin + "/", admin + "/api/v1/whoami", admin + "/nothing", n.world.URL + "/t/plain/app/x", n.world.URL + "/public/x", n.world.URL + "/_gate/whoami"} {
		req := request(t, http.MethodGet, target)
		req.Header.Set("Cookie", "tg_admin="+session)
		bare := &http.Client{Transport: n.world.Transport()}
		n.tell("admin page", do(t, bare, req).text())
		bare.CloseIdleConnections()
	}
	req := request(t, http.MethodPost, admin+"/_gate/logout")
	req.Header.Set("Origin", admin)
	a := do(t, c, req)
	if a.status != http.StatusOK {
		t.Errorf("signing out ended with %d", a.status)
	}
	n.tell("admin page", a.body)
}
