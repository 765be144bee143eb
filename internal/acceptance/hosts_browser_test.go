package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/internal/browsertest"
)

// looks shows at a page of ours as a phone and a desktop show it, light and dark.
func looks(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	for _, look := range []struct {
		suffix      string
		phone, dark bool
	}{{"-phone-dark", true, true}, {"-desktop", false, false}} {
		if look.phone {
			browsertest.Phone(t, ctx)
		} else {
			browsertest.Desktop(t, ctx)
		}
		browsertest.Dark(t, ctx, look.dark)
		browsertest.FitsWidth(t, ctx)
		browsertest.Screenshot(t, ctx, "hosts-"+name+look.suffix)
	}
}

// isAt fails unless the page's address begins so.
func isAt(t *testing.T, ctx context.Context, want string) {
	t.Helper()
	if at := browsertest.Location(t, ctx); !strings.HasPrefix(at, want) {
		t.Fatalf("at %s instead of %s:\n%s", at, want, browsertest.Text(t, ctx))
	}
}

func TestSignInOnEveryHostInABrowser(t *testing.T) {
	h := newHosts(t, true)
	ctx := h.browser(t)
	login := h.world.Provider.Issuer() + "/login"
	acme, domain := h.url(h.tenant("acme"), ""), h.url(h.domain, "")

	browsertest.Open(t, ctx, acme+"/app?x=1")
	isAt(t, ctx, login)
	if status := browsertest.Click(t, ctx, `button[value="ada"]`); status != 200 {
		t.Fatalf("status %d: %s", status, browsertest.Text(t, ctx))
	}
	isAt(t, ctx, acme+"/app?x=1")
	if text := browsertest.Text(t, ctx); !strings.Contains(text, `"X-Tenant-Id":["acme"]`) || strings.Contains(text, "tg_session") {
		t.Errorf("the app received %s", text)
	}
	// The second tenant and the custom domain: no second sign-in at the provider.
	for _, at := range []string{h.url(h.tenant("globex"), "/app"), domain + "/app", h.url(h.public, "/_gate/whoami")} {
		if status := browsertest.Open(t, ctx, at); status != 200 {
			t.Fatalf("%s: status %d: %s", at, status, browsertest.Text(t, ctx))
		}
		isAt(t, ctx, at)
	}
	browsertest.Open(t, ctx, h.url(h.public, "/_gate/tenants"))
	looks(t, ctx, "tenants")

	// A tenant of others, and one that does not exist: refused on public_url, alike.
	var refusals []string
	for _, id := range []string{"umbrella", "nobody"} {
		if status := browsertest.Open(t, ctx, h.url(h.tenant(id), "/app")); status != 403 {
			t.Errorf("%s: status %d", id, status)
		}
		isAt(t, ctx, h.url(h.public, "/_gate/login"))
		text, _, _ := strings.Cut(browsertest.Text(t, ctx), "Request")
		refusals = append(refusals, text)
	}
	if refusals[0] != refusals[1] {
		t.Errorf("%q, %q", refusals[0], refusals[1])
	}
	looks(t, ctx, "denied")
	if status := browsertest.Open(t, ctx, acme+"/_gate/handoff?code="+strings.Repeat("a", 43)); status != 200 {
		t.Errorf("a code that is over, for somebody who is signed in: %d", status)
	}
	isAt(t, ctx, acme+"/")

	// Sign out on the custom domain.
	browsertest.Open(t, ctx, domain+"/_gate/logout")
	looks(t, ctx, "logout")
	browsertest.Click(t, ctx, `form[method="post"] button.primary`)
	isAt(t, ctx, h.url(h.public, "/_gate/logout"))
	browsertest.WaitText(t, ctx, "You are signed out")
	looks(t, ctx, "signed-out")
	for _, at := range []string{acme + "/app", h.url(h.tenant("globex"), "/app"), domain + "/app", h.url(h.public, "/_gate/whoami")} {
		browsertest.Open(t, ctx, at)
		isAt(t, ctx, login)
	}
	if status := browsertest.Open(t, ctx, acme+"/_gate/handoff?code="+strings.Repeat("a", 43)); status != 400 {
		t.Errorf("a code that is over: %d", status)
	}
	browsertest.WaitText(t, ctx, "This sign-in is over")
	looks(t, ctx, "handoff-over")
	browsertest.Click(t, ctx, `a.primary`)
	isAt(t, ctx, login)
	browsertest.Open(t, ctx, h.url("gate.unknown.test", "/_gate/login"))
	looks(t, ctx, "bad-host")
	browsertest.NoComplaints(t, ctx)
}

func TestTenTabsAtOnceInABrowser(t *testing.T) { // CK-2
	h := newHosts(t, false)
	first := h.browser(t)
	login := h.world.Provider.Issuer() + "/login"
	tabs := []context.Context{first}
	for range 9 {
		tabs = append(tabs, browsertest.Tab(t, first))
	}
	// Each tab acts at a moment that is set beforehand: the ten of them at once.
	together := func(action func(i int) string) {
		at := time.Now().Add(time.Second + 100*time.Millisecond*time.Duration(len(tabs))).UnixMilli()
		for i, tab := range tabs {
			browsertest.WaitFor(t, tab, fmt.Sprintf("setTimeout(() => { %s }, Math.max(0, %d - Date.now())) > 0", action(i), at))
		}
	}
	for _, tab := range tabs {
		browsertest.Open(t, tab, h.url(h.public, "/_gate/ping"))
	}
	together(func(i int) string {
		return fmt.Sprintf("location.href = %q", h.url(h.tenant("acme"), fmt.Sprintf("/app?tab=%d", i)))
	})
	for _, tab := range tabs {
		browsertest.WaitFor(t, tab, fmt.Sprintf(`location.href.startsWith(%q) && !!document.querySelector('button[value="ada"]')`, login))
	}
	together(func(int) string { return `document.querySelector('button[value="ada"]').click()` })
	for i, tab := range tabs {
		browsertest.WaitFor(t, tab, fmt.Sprintf("location.href === %q && document.body.innerText.includes('X-Tenant-Id')", h.url(h.tenant("acme"), fmt.Sprintf("/app?tab=%d", i))))
	}
	// One sign-out ends what the ten have made.
	browsertest.Open(t, first, h.url(h.tenant("acme"), "/_gate/logout"))
	browsertest.Click(t, first, `form[method="post"] button.primary`)
	for _, at := range []string{h.url(h.tenant("acme"), "/app"), h.url(h.public, "/_gate/whoami")} {
		browsertest.Open(t, first, at)
		isAt(t, first, login)
	}
	rows, err := h.world.Gate.Host().Sessions.ListByUser(t.Context(), "id-ada")
	if err != nil || len(rows) != 0 {
		t.Errorf("%d sessions are left, %v", len(rows), err)
	}
}

// hostileTargets are the addresses that package auth's tests refuse, as they would be sent to this gate.
func (h *hosts) hostileTargets(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../auth/testdata/return_to_hostile.txt")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		if raw, err := strconv.Unquote(strings.TrimSpace(line)); err == nil {
			list = append(list, strings.ReplaceAll(raw, "app.example.com", fmt.Sprintf("%s:%d", h.public, h.port)))
		}
	}
	if len(list) < 200 {
		t.Fatalf("%d forms", len(list))
	}
	return list
}

func TestNoReturnToLeavesOurHostsInABrowser(t *testing.T) { // REDIR-1
	h := newHosts(t, true)
	ctx := h.browser(t)
	hostile := h.hostileTargets(t)
	acme := h.url(h.tenant("acme"), "")
	friendly := map[string]string{ // as it is asked for: where the browser ends
		"/app?a=%2F%2Fevil.com#x": acme + "/app?a=%2F%2Fevil.com#x", acme + "/app": acme + "/app",
		h.url(h.tenant("globex"), "/app?u=https://evil.com"): h.url(h.tenant("globex"), "/app?u=https://evil.com"),
		h.url(h.domain, "/app"):                              h.url(h.domain, "/app"), h.url(h.public, "/_gate/whoami"): h.url(h.public, "/_gate/whoami"),
	}
	browsertest.Open(t, ctx, acme+"/app")
	browsertest.Click(t, ctx, `button[value="ada"]`)
	for raw, want := range friendly {
		browsertest.Open(t, ctx, acme+"/_gate/login?return_to="+url.QueryEscape(raw))
		if at := browsertest.Location(t, ctx); at != want {
			t.Errorf("%q ends at %s", raw, at)
		}
	}
	// The rest by fetch from a page of the app, which follows redirects as a navigation does: to a login, which refuses
	// them, and to a hand-off that is over, which leads a person who is signed in on.
	browsertest.Open(t, ctx, acme+"/app")
	targets, err := json.Marshal(hostile)
	if err != nil {
		t.Fatal(err)
	}
	browsertest.WaitFor(t, ctx, `(window.begun ||= (async () => {
		const bad = []
		for (const target of `+string(targets)+`) {
			const q = 'return_to=' + encodeURIComponent(target)
			const login = await fetch('/_gate/login?' + q, {redirect: 'manual'})
			if (login.status !== 400) bad.push(['login', target, login.type, login.status])
			try {
				const over = await fetch('/_gate/handoff?code=x&' + q)
				if (over.url !== location.origin + '/' || !over.redirected) bad.push(['hand-off', target, over.url])
			} catch (e) { bad.push(['hand-off', target, String(e)]) }
		}
		document.body.innerText = 'bad: ' + JSON.stringify(bad)
	})(), true)`)
	browsertest.WaitText(t, ctx, "bad: ")
	if text := browsertest.Text(t, ctx); text != "bad: []" {
		t.Error(text)
	}
}
