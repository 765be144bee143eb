package auth

import (
	"context"
	"errors"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
)

// hostileTargets leave our hosts in some browser, server or library, or mean two things (REDIR-1): a Go string on each
// line of the file.
func hostileTargets(t testing.TB) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/return_to_hostile.txt")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		raw, err := strconv.Unquote(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		list = append(list, raw)
	}
	return append(list, "/"+strings.Repeat("a", maxReturnTo))
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
	targets := hostileTargets(t)
	if len(targets) < 200 {
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
	for _, raw := range hostileTargets(f) {
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
