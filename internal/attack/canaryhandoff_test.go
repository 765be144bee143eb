package attack

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// baseDomain is tenants.base_domain of the canaries' gate: its hosts are found on loopback.
const baseDomain = "base.localhost"

// handoffs signs in at tenants' hosts, and fails to: codes and what asks for them are told to our own hosts alone, and
// no page of ours lets a browser name its address to anybody.
func (n *nest) handoffs(t *testing.T) {
	t.Helper()
	c := n.client(t)
	if a := do(t, c, request(t, http.MethodGet, n.begin(t, c, "owner"))); a.status != 302 {
		t.Fatalf("sign-in: %d", a.status)
	}
	at := func(tenant, path string) string {
		return strings.Replace(n.world.URL, "localhost", tenant+"."+baseDomain, 1) + path
	}
	code := func(tenant string) string {
		res, err := c.Do(request(t, http.MethodGet, at(tenant, "/_gate/login?return_to=/app/")))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		to, err := res.Location()
		if err != nil || to.Query().Get("code") == "" || res.Header.Get("Referrer-Policy") != "no-referrer" || res.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%s: %d %v %v", tenant, res.StatusCode, res.Header, err)
		}
		return to.String()
	}
	finish := func(what, target string, want int) {
		t.Helper()
		a := do(t, c, request(t, http.MethodGet, target))
		if a.status != want || a.header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %d %v", what, a.status, a.header)
		}
	}
	first := code("plain")
	finish("success", first, 302)
	finish("again", first, 302) // to the page: this browser is signed in
	other := n.client(t)
	second := code("escaped")
	if a := do(t, other, request(t, http.MethodGet, second)); a.status != 400 {
		t.Errorf("in another browser: %d", a.status)
	}
	finish("on another host", strings.Replace(second, "escaped.", "plain.", 1), 302)
	finish("forged", at("query", "/_gate/handoff?code="+n.plantOwn("forged hand-off code")), 400)
	finish("doubled", second+"&code="+n.plantOwn("second hand-off code"), 400)
	if a := do(t, c, request(t, http.MethodGet, n.world.URL+"/_gate/login?handoff="+n.plantOwn("forged ask"))); a.status != 400 {
		t.Errorf("a forged ask: %d", a.status)
	}
	if a := do(t, c, request(t, http.MethodGet, at("foreign", "/_gate/login?return_to="+url.QueryEscape("/app/")))); a.status != 403 {
		t.Errorf("a tenant of others: %d", a.status)
	}
	// The browser sends the page that it comes from to an app behind us, whatever Referrer-Policy says.
	third := code("unescaped")
	req := request(t, http.MethodGet, at("plain", "/app/x"))
	req.Header.Set("Referer", third)
	do(t, c, req)
	finish("success after all", third, 302)
}
