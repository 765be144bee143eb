package router

import (
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestOnlyTrustedHopsAreBelieved(t *testing.T) { // FWD-1, FWD-2
	h := hops{trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, ids: new(identifiers)}
	for _, c := range []struct {
		name, remote      string
		headers           map[string][]string
		addr, proto, host string
		forwarded         string
		doubled, keepsID  bool
	}{
		{
			name: "stranger", remote: "203.0.113.9:1", addr: "203.0.113.9", proto: "http", host: "app.example.com", forwarded: "203.0.113.9",
			headers: map[string][]string{"X-Forwarded-For": {"1.1.1.1"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"evil"}, "X-Real-Ip": {"1.1.1.1"}, "X-Request-Id": {"mine"}},
		},
		{
			name: "trusted", remote: "10.0.0.1:1", addr: "198.51.100.7", proto: "https", host: "front.example.com", forwarded: "1.1.1.1, 198.51.100.7, 10.0.0.2, 10.0.0.1", keepsID: true,
			headers: map[string][]string{"X-Forwarded-For": {"1.1.1.1, 198.51.100.7", "10.0.0.2"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"front.example.com"}, "X-Request-Id": {"mine"}},
		},
		{
			name: "trusted with an unreadable list", remote: "10.0.0.1:1", addr: "10.0.0.1", proto: "http", host: "app.example.com", forwarded: "garbage, 10.0.0.1",
			headers: map[string][]string{"X-Forwarded-For": {"garbage"}, "X-Forwarded-Proto": {"gopher"}},
		},
		{
			name: "trusted with two hosts", remote: "10.0.0.1:1", addr: "10.0.0.1", proto: "http", host: "app.example.com", forwarded: "10.0.0.1", doubled: true,
			headers: map[string][]string{"X-Forwarded-Host": {"a", "b"}},
		},
		{
			name: "trusted with X-Real-Ip only", remote: "10.0.0.1:1", addr: "192.0.2.1", proto: "http", host: "app.example.com", forwarded: "10.0.0.1",
			headers: map[string][]string{"X-Real-Ip": {"192.0.2.1"}},
		},
		{name: "unix socket", remote: "@", proto: "http", host: "app.example.com", headers: map[string][]string{"X-Forwarded-For": {"1.1.1.1"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "http://app.example.com/", nil)
			r.RemoteAddr = c.remote
			for k, v := range c.headers {
				r.Header[k] = v
			}
			got := h.read(r)
			addr := ""
			if got.addr.IsValid() {
				addr = got.addr.String()
			}
			if addr != c.addr || got.proto != c.proto || got.host != c.host || got.forwardedFor != c.forwarded || got.hostOK == c.doubled {
				t.Errorf("%+v", got)
			}
			if (got.requestID == "mine") != c.keepsID || got.requestID == "" || !got.trace.Valid() {
				t.Errorf("request id %q", got.requestID)
			}
		})
	}
}

func TestHTTP2WithTwoAuthoritiesIsDoubled(t *testing.T) { // H2-3
	r := httptest.NewRequest("GET", "http://app.example.com/", nil)
	r.Header["Host"] = []string{"evil.example.com"}
	if got := (hops{ids: new(identifiers)}).read(r); got.hostOK {
		t.Error("a Host that differs from :authority passes")
	}
}

func TestRequestIdsAreNeverGivenTwice(t *testing.T) {
	var ids identifiers
	seen := map[[idBytes]byte]bool{}
	for range 1000 {
		id := ids.next()
		if seen[id] || id == [idBytes]byte{} {
			t.Fatalf("%x was given before", id)
		}
		seen[id] = true
	}
}
