package router

import "testing"

func TestHostsHaveOneForm(t *testing.T) { // HOST-1
	for in, want := range map[string]string{
		"app.example.com":        "app.example.com",
		"APP.Example.COM":        "app.example.com",
		"app.example.com.":       "app.example.com",
		"app.example.com:8080":   "app.example.com:8080",
		"app.example.com.:080":   "app.example.com:80",
		"app.example.com:":       "app.example.com",
		"127.0.0.1:80":           "127.0.0.1:80",
		"[::1]:8080":             "[::1]:8080",
		"[::1]":                  "[::1]",
		"[0:0::1]":               "[::1]",
		"localhost":              "localhost",
		"my_app":                 "my_app",
		"xn--mnchen-3ya.example": "xn--mnchen-3ya.example",
		"XN--MNCHEN-3YA.example": "xn--mnchen-3ya.example",
	} {
		got, ok := ParseHost(in)
		if !ok || got.String() != want {
			t.Errorf("ParseHost(%q) = %q, %v; want %q", in, got, ok, want)
		}
	}
}

func TestMalformedHostsAreRefused(t *testing.T) { // HOST-1, HOST-2
	for _, in := range []string{
		"", ".", "..", "a..b", ".a", "a b", "a/b", "a\\b", "user@a", "a,b", "a%2eb", "a:b", "a:99999", "a:0", "a:+80",
		"a:80:80", "[::1", "::1", "[::1]x", "[]", "[fe80::1%25eth0]", "[1.2.3.4]", "münchen.example", "a\x00b", "a\tb",
		"xn--a.example", "xn--acme-.example", "xn--.example", "xn--99999999.example", "a#b", "a?b", "*.a",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.b",
	} {
		if got, ok := ParseHost(in); ok {
			t.Errorf("ParseHost(%q) = %q; want refusal", in, got)
		}
	}
}

func FuzzHost(f *testing.F) {
	for _, s := range []string{"a.b:80", "[::1]:1", "xn--acme-.x", "A.", "a:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, ok := ParseHost(s)
		if !ok {
			return
		}
		again, ok := ParseHost(h.String())
		if !ok || again.Name != h.Name || again.Port != h.Port {
			t.Fatalf("%q: %q is not stable: %q %v", s, h, again, ok)
		}
		if h.Name != lowerASCII(h.Name) {
			t.Fatalf("%q: %q is not in lower case", s, h)
		}
	})
}
