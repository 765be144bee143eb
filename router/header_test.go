package router

import (
	"net/http"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var everyOwnHeader = []string{
	"X-Tenant-Id", "X-Tenant-Db-Uri", "X-Tenant-Plan", "X-Tenant-Features", "X-Subscription-Status", "X-User-Id",
	"X-User-Email", "X-User-Role", "X-User-Profile-Id", "X-Gate-Assertion", "X-Gate-Tenant", "X-Tenant-Anything",
	"X-User-", "X-Tenant", "X-Org",
}

// spelled draws a spelling of name that an app server folds to the same name.
func spelled(t *rapid.T, name string) string {
	var b strings.Builder
	for _, c := range name {
		switch {
		case c == '-':
			b.WriteString(rapid.SampledFrom([]string{"-", "_", ".", " ", "~", "!"}).Draw(t, "separator"))
		case rapid.Bool().Draw(t, "upper"):
			b.WriteString(strings.ToUpper(string(c)))
		default:
			b.WriteString(strings.ToLower(string(c)))
		}
	}
	return b.String()
}

func TestOwnHeadersAreRemovedInEverySpelling(t *testing.T) { // HDR-1, HDR-2
	names := compileHeaders(map[string]string{"tenant_id": "X-Org"}, "X-Tenant")
	rapid.Check(t, func(t *rapid.T) {
		name := spelled(t, rapid.SampledFrom(everyOwnHeader).Draw(t, "name"))
		raw := http.Header{name: {"evil"}, "Accept": {"*/*"}, "X-Other": {"kept"}}
		names.stripRequest(raw, false)
		if _, there := raw[name]; there || raw.Get("Accept") == "" || raw.Get("X-Other") == "" {
			t.Fatalf("%q: left %v", name, raw)
		}
		res := http.Header{name: {"leak"}, "Content-Type": {"text/html"}}
		names.stripResponse(res)
		if _, there := res[name]; there || len(res) != 1 {
			t.Fatalf("%q: response keeps %v", name, res)
		}
	})
}

func TestWhatHopsSayIsRemovedInEverySpelling(t *testing.T) { // FWD-2, HDR-2, METH-1
	names := compileHeaders(nil, "X-Tenant")
	rapid.Check(t, func(t *rapid.T) {
		all := []string{
			"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix",
			"X-Real-Ip", "X-Request-Id", "Traceparent", "X-Http-Method-Override", "X-Http-Method", "X-Method-Override",
			"X-Original-Url", "X-Rewrite-Url", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Client-Cert", "X-Forwarded-" + strings.Repeat("Long", 20), "X-Scheme", "Front-End-Https",
		}
		name := spelled(t, rapid.SampledFrom(all).Draw(t, "name"))
		h := http.Header{name: {"evil"}}
		names.stripRequest(h, false)
		if len(h) != 0 {
			t.Fatalf("%q stays", name)
		}
	})
}

func TestOtherHeadersStay(t *testing.T) {
	names := compileHeaders(nil, "X-Tenant")
	for _, name := range []string{"X-Tenants", "X-Tenantid", "X-Username", "X-Usergroup", "Tenant-Id", "X-Gateway", "User-Agent", "X-Subscriptions", "X-Requested-With", "X-Csrf-Token", "Te", "Transfer-Encoding"} {
		h := http.Header{name: {"v"}}
		names.stripRequest(h, false)
		if len(h) != 1 {
			t.Errorf("%s was removed", name)
		}
	}
	h := http.Header{"X-Http-Method-Override": {"PUT"}}
	if names.stripRequest(h, true); len(h) != 1 {
		t.Error("method_override: pass does not pass")
	}
}

func TestValuesAreVisibleTokens(t *testing.T) {
	for in, want := range map[string]string{
		"":               "",
		"plain-1.x":      "plain-1.x",
		"a b":            "a%20b",
		"100%":           "100%25",
		"é":              "%C3%A9",
		"a\r\nX-Evil: 1": "a%0D%0AX-Evil:%201",
		"\x7f":           "%7F",
		"a,b":            "a,b",
		"\xff":           "%FF",
	} {
		if got := encodeValue(in); got != want {
			t.Errorf("encodeValue(%q) = %q; want %q", in, got, want)
		}
	}
	if got := encodeFeatures([]string{"b", "a,c", "b", "", "é"}); got != "b,a%2Cc,%C3%A9" {
		t.Errorf("features = %q", got)
	}
}

func TestOwnCookiesOfAnAppAreDropped(t *testing.T) {
	g := &Gate{}
	h := http.Header{"Set-Cookie": {"a=1; Path=/", "__Host-tg_session=evil", "TG_SESSION=x", "__host-tg_flow_1=x", "tg_sessions=ok", "tg_admin=x", "__Host-tg_admin_flow_1=x"}}
	g.dropOwnCookies(h)
	if got := strings.Join(h["Set-Cookie"], "|"); got != "a=1; Path=/|tg_sessions=ok" {
		t.Errorf("Set-Cookie = %s", got)
	}
}
