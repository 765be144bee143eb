package acceptance

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/internal/browsertest"
)

// sessionAt is the session cookie that a browser without a screen holds at a host.
func (h *hosts) sessionAt(t *testing.T, c *http.Client, host string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", h.url(host, "/"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, cookie := range c.Jar.Cookies(req.URL) {
		if strings.HasSuffix(cookie.Name, "tg_session") {
			return cookie.Value
		}
	}
	t.Fatalf("no session at %s", host)
	return ""
}

// CK-1: what a cookie opens at a tenant's host, whoever set it there and however.
func TestCookieTable(t *testing.T) {
	for _, withTLS := range []bool{true, false} {
		t.Run(map[bool]string{true: "TLS", false: "loopback"}[withTLS], func(t *testing.T) {
			h := newHosts(t, withTLS)
			name, other := "tg_session", "__Host-tg_session"
			if withTLS {
				name, other = other, name
			}
			c := h.client(t)
			h.pick(t, c, h.url(h.tenant("acme"), "/app"), "ada")
			fetch(t, c, "GET", h.url(h.domain, "/app"), navigates)
			good, public, domain := h.sessionAt(t, c, h.tenant("acme")), h.sessionAt(t, c, h.public), h.sessionAt(t, c, h.domain)
			evil := h.client(t)
			h.pick(t, evil, h.url(h.tenant("acme"), "/app"), "eve")
			eves := h.sessionAt(t, evil, h.tenant("acme"))
			guessed := h.guessed(t)
			for _, tc := range []struct {
				what, cookie, user string // user "": refused
				alone              bool   // there is no cookie of our name: unauthenticated
			}{
				{"its own", name + "=" + good, "ada", false},
				{"beside others", "a=b; " + name + "=" + good + "; c=d", "ada", false},
				{"public_url's", name + "=" + public, "", false},
				{"a custom domain's", name + "=" + domain, "", false},
				{"under the other spelling of the name", other + "=" + good, "", true},
				{"under a name with capitals", strings.ToUpper(name) + "=" + good, "", true},
				{"a name with white space of another script", "\u2003" + name + "=" + good, "", true},
				{"in quotes", name + `="` + good + `"`, "", false},
				{"cut", name + "=" + good[:63], "", false},
				{"longer", name + "=" + good + "A", "", false},
				{"empty", name + "=", "", false},
				{"oversized", name + "=" + strings.Repeat("A", 8000), "", false},
				{"another secret for its id", name + "=" + good[:40] + eves[40:], "", false},
				{"a row written by SQL with a guessed hash", name + "=" + guessed, "", false},
				{"tossed by a sibling, after", name + "=" + good + "; " + name + "=" + strings.Repeat("A", 64), "ada", false},
				{"tossed by a sibling, before", name + "=" + strings.Repeat("A", 64) + "; " + name + "=" + good, "ada", false},
				{"two tossed", name + "=junk; " + name + "=" + strings.Repeat("B", 64), "", false},
				{"$Version", "$Version=1; " + name + "=" + good + "; $Path=/", "ada", false},
			} {
				bare := &http.Client{Transport: c.Transport, Timeout: patience}
				res, body := fetch(t, bare, "GET", h.url(h.tenant("acme"), "/_gate/whoami"), map[string]string{"Cookie": tc.cookie, "Accept": "application/json"})
				switch {
				case tc.user != "":
					if res.StatusCode != 200 || !strings.Contains(body, `"`+tc.user+`@example.com"`) {
						t.Errorf("%s: %s %s", tc.what, res.Status, body)
					}
				case tc.alone:
					if res.StatusCode != 401 || !strings.Contains(body, `"unauthenticated"`) {
						t.Errorf("%s: %s %s", tc.what, res.Status, body)
					}
				default:
					cleared := strings.Join(res.Header["Set-Cookie"], "\n")
					if res.StatusCode != 401 || !strings.Contains(body, `"session_expired"`) || !strings.Contains(cleared, name+"=; Path=/; Max-Age=0") {
						t.Errorf("%s: %s %s, cleared %q", tc.what, res.Status, body, cleared)
					}
					if !withTLS && !strings.Contains(cleared, "Domain="+h.public+";") {
						t.Errorf("%s: what a sibling tossed stays: %q", tc.what, cleared)
					}
				}
			}
		})
	}
}

// guessed writes a session of ada's as another program might that knows how tokens look, and returns its token.
func (h *hosts) guessed(t *testing.T) string {
	t.Helper()
	raw := make([]byte, 48)
	if _, err := rand.Read(raw); err != nil {
		t.Fatal(err)
	}
	m := hmac.New(sha256.New, []byte("guess"))
	m.Write(raw)
	execSQL(t, h.dsn, fmt.Sprintf(`INSERT INTO sys_sessions (id, user_id, host, provider, subject, mac, created_at, expires_at, last_seen)
		VALUES ('%s', 'id-ada', '%s', 'dev', 'ada', '%s', '2026-01-01T00:00:00', '2099-01-01T00:00:00', '2098-01-01T00:00:00')`,
		hex.EncodeToString(raw[:16]), h.tenant("acme"), hex.EncodeToString(m.Sum(nil))))
	return base64.RawURLEncoding.EncodeToString(raw)
}

func TestASiblingHostTossesCookiesInABrowser(t *testing.T) { // CK-1
	h := newHosts(t, false)
	ctx := h.browser(t)
	acme := h.url(h.tenant("acme"), "/app")
	browsertest.Open(t, ctx, acme)
	browsertest.Click(t, ctx, `button[value="ada"]`)
	isAt(t, ctx, acme)
	// A page of another tenant's app sets cookies of our names for all of the domain.
	browsertest.Open(t, ctx, h.url(h.tenant("globex"), "/app"))
	browsertest.WaitFor(t, ctx, fmt.Sprintf(`(document.cookie = 'tg_session=%s; Path=/; Domain=%s', document.cookie = 'tg_session=junk; Path=/app; Domain=%[2]s', true)`,
		strings.Repeat("A", 64), h.public))
	for _, at := range []string{acme, h.url(h.tenant("globex"), "/app"), h.url(h.tenant("acme"), "/_gate/whoami")} {
		if status := browsertest.Open(t, ctx, at); status != 200 {
			t.Errorf("%s: status %d", at, status)
		}
		isAt(t, ctx, at)
	}
	// Also where nobody is signed in: no loop, no lasting harm.
	browsertest.Open(t, ctx, h.url(h.tenant("acme"), "/_gate/logout"))
	browsertest.Click(t, ctx, `form[method="post"] button.primary`)
	browsertest.Open(t, ctx, acme)
	isAt(t, ctx, h.world.Provider.Issuer()+"/login")
	browsertest.Click(t, ctx, `button[value="ada"]`)
	isAt(t, ctx, acme)
}
