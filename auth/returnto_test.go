package auth

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
)

// hostileTargets leave our hosts in some browser, server or library, or mean two things (REDIR-1).
func hostileTargets() []string {
	return []string{
		// another host outright
		"https://evil.com", "https://evil.com/", "http://evil.com", "HTTPS://EVIL.COM", "ftp://app.example.com/", "//evil.com", "//evil.com/%2f..",
		"///evil.com", "////evil.com", "/////evil.com", "https:evil.com", "https:/evil.com", "https:///evil.com", "https:////evil.com",
		"http:evil.com", "evil.com", "evil.com/", "www.evil.com", "./evil", "../evil", "?next=https://evil.com", "#https://evil.com", ".", "..",
		// slashes that are none
		`/\evil.com`, `\/evil.com`, `\\evil.com`, `/\/evil.com`, `\/\/evil.com`, `https:\\evil.com`, `https:/\evil.com`, `/\\evil.com`, `//\evil.com`,
		`/a\b`, "/%5cevil.com", "/%5Cevil.com", "/%2f%2fevil.com", "/%2fevil.com", "/%2F/evil.com", "%2f%2fevil.com", "/a//evil.com", "/a/%2fevil.com",
		// bytes that browsers drop
		"/\t/evil.com", "/\n/evil.com", "/\r/evil.com", "\t//evil.com", "\n//evil.com", " //evil.com", "/ /evil.com", "/\x00/evil.com", "\x01https://evil.com",
		"/\x0b/evil.com", "/\x0c/evil.com", "/\x7f/evil.com", "java\nscript:alert(1)", "https://app.example.com\t.evil.com", "/ok\r\nSet-Cookie: a=b",
		"/%00", "/%0d%0aLocation:%20https://evil.com", "/%09/x", "/a%7fb",
		// other schemes
		"javascript:alert(1)", "JavaScript:alert(1)", "javascript://app.example.com/%0aalert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "about:blank",
		"blob:https://app.example.com/x", "view-source:https://app.example.com", "mailto:a@b", "x:y", ":", "://", "https", "https:", "https://",
		// user info and ports
		"https://app.example.com@evil.com", "https://app.example.com:443@evil.com", "https://user@app.example.com", "https://user:pw@app.example.com/", "https://@app.example.com",
		"https://evil.com#@app.example.com", "https://evil.com?@app.example.com", `https://evil.com\@app.example.com`, `https://app.example.com\@evil.com`,
		`https://app.example.com\.evil.com`, "https://app.example.com:8443/", "https://app.example.com:80/", "https://app.example.com:", "https://app.example.com:0443/",
		"https://app.example.com:443:80/", "https://app.example.com:99999/", "http://app.example.com:443/",
		// hosts that look like ours
		"https://app.example.com.evil.com", "https://evil-app.example.com", "https://appexample.com", "https://evilapp.example.com", "https://example.com",
		"https://app.example.com.", "https://app.example.com%2eevil.com", "https://app.example.com%00.evil.com", "https://app.example.com%23.evil.com",
		"https://app.example.com;.evil.com", "https://app.example.com,evil.com", "https://app.example.com!.evil.com", "https://[app.example.com]", "https://app.example.com[",
		"https://acme.beta.app.example.com", "https://.app.example.com", "https://-acme.app.example.com", "https://acme-.app.example.com", "https://a..app.example.com",
		"https://ac%6de.app.example.com", "https://acme.app.example.com.evil.com", "https://acme.app.example.com:8443", "http://acme.app.example.com", "https://*.app.example.com",
		"https://unverified.example.org", "https://127.0.0.1", "https://[::1]", "https://0x7f000001", "https://2130706433", "https://localhost", "https://169.254.169.254/latest",
		// other scripts
		"https://ａpp.example.com", "https://app。example.com", "https://app.example.com／evil.com", "/／evil.com", "https://аpp.example.com", "/\u202e/evil", "/\u00a0/evil.com", "/é",
		// dot segments and our own pages that would begin again
		"/..", "/../x", "/a/../b", "/./x", "/a/.", "/%2e%2e/x", "/%2e/x", "/.%2e/x", "/..;/x", "/a/..;x=y/b",
		"/_gate/login", "/_gate/login?return_to=/", "/_gate/login/", "/_gate/callback/main?code=1", "/_gate/handoff?code=1", "/_GATE/Login", "/_gate/%6cogin", "/_gate/callback",
		// the admin's host, but not its origin
		"https://admin.example.com:9901/", "http://admin.example.com/", "http://admin.example.com:9902/",
		"/" + strings.Repeat("a", maxReturnTo), "/%zz", "/%", "https://app.example.com/%zz",
	}
}

func returnToAuth(t testing.TB) *Auth {
	t.Helper()
	host := openHost(t)
	ctx := context.Background()
	for _, d := range []catalog.Domain{
		{Host: "portal.acme.org", TenantID: "acme", Kind: "host", Verified: true}, {Host: "unverified.example.org", TenantID: "acme", Kind: "host"},
	} {
		if d.Verified {
			active := true
			if err := host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "acme", DBURL: catalog.NewDBURI("sqlite:acme.db"), IsActive: &active}); err != nil {
				t.Fatal(err)
			}
		}
		if err := host.Domains.Insert(ctx, &d); err != nil {
			t.Fatal(err)
		}
	}
	a := &Auth{host: host, clock: newClock().Now}
	a.origins = newOrigins(
		&url.URL{Scheme: "https", Host: "app.example.com"}, "app.example.com", &url.URL{Scheme: "http", Host: "admin.example.com:9901"})
	if err := a.openCaches(Deps{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.sessions.Close)
	t.Cleanup(a.subjects.Close)
	t.Cleanup(a.domains.Close)
	t.Cleanup(a.tokens.Close)
	return a
}

func TestReturnToLeadsNowhereElse(t *testing.T) { // REDIR-1
	a := returnToAuth(t)
	targets := hostileTargets()
	if len(targets) < 60 {
		t.Fatalf("%d forms", len(targets))
	}
	for _, raw := range targets {
		if got, err := a.ReturnTo(t.Context(), raw); !errors.Is(err, ErrBadReturnTo) || got != "" {
			t.Errorf("%q: %q, %v", raw, got, err)
		}
	}
}

func TestReturnToKeepsOurOwnPlacesAsTheyAre(t *testing.T) {
	a := returnToAuth(t)
	for raw, want := range map[string]string{
		"": "/", "/": "/", "/a/b?c=d&e=%2F#f": "/a/b?c=d&e=%2F#f", "/a%2Fb": "/a%2Fb", "/caf%C3%A9": "/caf%C3%A9", "/a:b": "/a:b",
		"/search?u=https://evil.com//x": "/search?u=https://evil.com//x", "/x?y=%0d%0a": "/x?y=%0d%0a", "/...": "/...", "/a;b=c": "/a;b=c", "/a%25b": "/a%25b",
		"/_gate/tenants": "/_gate/tenants", "/_gate/loginx": "/_gate/loginx",
		"https://app.example.com": "https://app.example.com/", "https://APP.example.com/x": "https://app.example.com/x", "HTTPS://app.example.com/": "https://app.example.com/",
		"https://app.example.com:443/x": "https://app.example.com:443/x", "https://acme.app.example.com/x?y": "https://acme.app.example.com/x?y",
		"https://no-such-tenant_1.app.example.com/": "https://no-such-tenant_1.app.example.com/", "https://portal.acme.org/x": "https://portal.acme.org/x",
		"http://admin.example.com:9901/users": "http://admin.example.com:9901/users",
	} {
		got, err := a.ReturnTo(t.Context(), raw)
		if err != nil || got != want {
			t.Errorf("%q: %q %v, want %q", raw, got, err, want)
		}
	}
}

func TestReturnToIsUnavailableWhereADomainCannotBeLookedUp(t *testing.T) {
	a := returnToAuth(t)
	if err := a.host.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := a.ReturnTo(t.Context(), "https://portal.acme.org/"); !errors.Is(err, catalog.ErrUnavailable) || got != "" {
		t.Fatalf("%q %v", got, err)
	}
	if _, err := a.ReturnTo(t.Context(), "/local"); err != nil {
		t.Fatal(err)
	}
}

func FuzzReturnTo(f *testing.F) { // REDIR-1
	for _, raw := range hostileTargets() {
		f.Add(raw)
	}
	f.Add("/a/b?c=d#e")
	f.Add("https://acme.app.example.com:443/x%2Fy?z")
	a := returnToAuth(f)
	base, err := url.Parse("https://app.example.com/_gate/login")
	if err != nil {
		f.Fatal(err)
	}
	allowed := map[string]bool{"portal.acme.org": true, "app.example.com": true}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := a.ReturnTo(context.Background(), raw)
		if err != nil {
			if got != "" {
				t.Fatalf("%q: %q beside %v", raw, got, err)
			}
			return
		}
		if !plainBytes(got) || strings.HasPrefix(got, "//") {
			t.Fatalf("%q became %q", raw, got)
		}
		u, err := base.Parse(got)
		if err != nil || u.User != nil || u.Opaque != "" {
			t.Fatalf("%q became %q: %v", raw, got, err)
		}
		if u.Scheme == "http" && u.Host == "admin.example.com:9901" {
			return
		}
		label, below := strings.CutSuffix(u.Hostname(), ".app.example.com")
		if u.Scheme != "https" || (u.Port() != "" && u.Port() != "443") || !allowed[u.Hostname()] && (!below || strings.Contains(label, ".")) {
			t.Fatalf("%q became %q, which leads to %s", raw, got, u)
		}
		again, err := a.ReturnTo(context.Background(), got)
		if err != nil || again != got {
			t.Fatalf("%q became %q, and that %q: %v", raw, got, again, err)
		}
	})
}
