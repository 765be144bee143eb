package router

import (
	"net/http"
	"testing"
)

func TestCrossOrigin(t *testing.T) { // CSRF-1, WS-2
	host := Host{Name: "app.example.com"}
	one := func(s string) []string { return []string{s} }
	for _, c := range []struct {
		name    string
		method  string
		b       Browser
		allowed []string
		foreign bool
	}{
		{"GET from anywhere", "GET", Browser{Origin: one("https://evil.example"), SecFetchSite: one("cross-site")}, nil, false},
		{"no browser", "POST", Browser{}, nil, false},
		{"same origin", "POST", Browser{SecFetchSite: one("same-origin")}, nil, false},
		{"typed by the user", "POST", Browser{SecFetchSite: one("none")}, nil, false},
		{"sibling host", "POST", Browser{SecFetchSite: one("same-site"), Origin: one("https://x.example.com")}, nil, true},
		{"other site", "DELETE", Browser{SecFetchSite: one("cross-site")}, nil, true},
		{"empty Sec-Fetch-Site", "POST", Browser{SecFetchSite: one("")}, nil, true},
		{"doubled Sec-Fetch-Site", "POST", Browser{SecFetchSite: []string{"same-origin", "cross-site"}}, nil, true},
		{"old browser, same host", "POST", Browser{Origin: one("https://app.example.com")}, nil, false},
		{"old browser, default port spelled out", "POST", Browser{Origin: one("https://app.example.com:443")}, nil, false},
		{"old browser, other port", "POST", Browser{Origin: one("https://app.example.com:8443")}, nil, true},
		{"old browser, other host", "POST", Browser{Origin: one("https://evil.example")}, nil, true},
		{"host as prefix", "POST", Browser{Origin: one("https://app.example.com.evil.example")}, nil, true},
		{"null origin", "POST", Browser{Origin: one("null")}, nil, true},
		{"doubled origin", "POST", Browser{Origin: []string{"https://app.example.com", "https://evil.example"}}, nil, true},
		{"socket of the app", "GET", Browser{WebSocket: true, Origin: one("https://app.example.com")}, nil, false},
		{"socket of another site", "GET", Browser{WebSocket: true, Origin: one("https://evil.example")}, nil, true},
		{"socket without origin", "GET", Browser{WebSocket: true}, nil, true},
		{"socket without origin but fetch metadata", "GET", Browser{WebSocket: true, SecFetchSite: one("same-origin")}, nil, true},
		{"socket of a sibling host", "GET", Browser{WebSocket: true, Origin: one("https://x.example.com"), SecFetchSite: one("same-site")}, nil, true},
		{"socket of another site, metadata sent", "GET", Browser{WebSocket: true, Origin: one("https://app.example.com"), SecFetchSite: one("cross-site")}, nil, true},
		{"socket of nobody's origin", "GET", Browser{WebSocket: true, Origin: one("null")}, nil, true},
		{"socket with two origins", "GET", Browser{WebSocket: true, Origin: []string{"https://app.example.com", "https://evil.example"}}, nil, true},
		{"metadata counts before a lying origin", "POST", Browser{SecFetchSite: one("cross-site"), Origin: one("https://app.example.com")}, nil, true},
		{"metadata in capitals", "POST", Browser{SecFetchSite: one("Same-Origin")}, nil, true},
		{"metadata with two words", "POST", Browser{SecFetchSite: one("same-origin, cross-site")}, nil, true},
		{"empty origin", "POST", Browser{Origin: one("")}, nil, true},
		{"PUT of another site", "PUT", Browser{SecFetchSite: one("cross-site")}, nil, true},
		{"an unknown method of another site", "PROPFIND", Browser{SecFetchSite: one("cross-site")}, nil, true},
		{"OPTIONS of another site", "OPTIONS", Browser{SecFetchSite: one("cross-site"), Origin: one("https://evil.example")}, nil, false},
		{"allowed socket", "GET", Browser{WebSocket: true, Origin: one("https://spa.example"), SecFetchSite: one("cross-site")}, []string{"https://spa.example"}, false},
		{"null is allowed by no listed origin", "POST", Browser{Origin: one("null"), SecFetchSite: one("cross-site")}, []string{"https://spa.example"}, true},
		{"allowed origin", "POST", Browser{Origin: one("https://spa.example"), SecFetchSite: one("cross-site")}, []string{"https://spa.example"}, false},
		{"other than allowed", "POST", Browser{Origin: one("https://spa.example.evil"), SecFetchSite: one("cross-site")}, []string{"https://spa.example"}, true},
	} {
		if got := crossOrigin(c.method, host, c.b, c.allowed); got != c.foreign {
			t.Errorf("%s: foreign = %v", c.name, got)
		}
	}
}

func TestNavigation(t *testing.T) {
	html := []string{"text/html,application/xhtml+xml"}
	for _, c := range []struct {
		b    Browser
		want bool
	}{
		{Browser{Accept: html}, true},
		{Browser{Accept: html, SecFetchMode: []string{"navigate"}}, true},
		{Browser{Accept: html, SecFetchMode: []string{"cors"}}, false},
		{Browser{Accept: []string{"*/*"}}, false},
		{Browser{}, false},
	} {
		if c.b.navigation() != c.want {
			t.Errorf("%+v: %v", c.b, !c.want)
		}
	}
}

func TestAWildcardNeverGoesWithCredentials(t *testing.T) {
	c := compileCORS(CORSConfig{Origins: []string{"*", "https://spa.example"}, Credentials: true})
	h := http.Header{}
	c.allow(h, "https://evil.example")
	if h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("wildcard: %v", h)
	}
	h = http.Header{}
	c.allow(h, "https://spa.example")
	if h.Get("Access-Control-Allow-Origin") != "https://spa.example" || h.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("listed: %v", h)
	}
}
