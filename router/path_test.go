package router

import (
	"net/url"
	"strings"
	"testing"
)

func TestPathsThatTwoServersCouldReadDifferentlyAreRefused(t *testing.T) { // PATH-1, SKIP-2
	for _, p := range []string{
		"", "x", "*", "//", "//evil.example/x", "/a//b", "/a/./b", "/a/../b", "/..", "/.", "/a/..", "/a/.",
		"/%2e%2e/admin", "/%2E%2E/admin", "/.%2e/admin", "/%2e/x", "/a/%2e%2e%2fb", "/a\\b", "/a%5cb", "/a%5C..%5Cb",
		"/a%00b", "/a%0ab", "/a%0d", "/a%7f", "/a%1f", "/a%", "/a%4", "/a%zz", "/a%4g", "/%c0%ae%c0%ae/x", "/%C0%AF",
		"/%c1%9c", "/%e0%80%af", "/%f0%80%80%af", "/a b", "/a#b", "/a?b", "/..;/admin", "/..;x=1/admin", "/.;/x",
		"/a%2f..%2fb", "/a%2f%2fb", "/a/%2f", "/a%3b/..", "/..%3bx/y", "/a/%2e%2e;/b", "/;/x",
	} {
		if got, ok := ParsePath(p); ok {
			t.Errorf("ParsePath(%q) = %q; want refusal", p, got)
		}
	}
}

func TestPathsAreForwardedInOneForm(t *testing.T) {
	for in, want := range map[string]string{
		"/":                   "/",
		"/a/b/":               "/a/b/",
		"/%61dmin":            "/admin",
		"/%7Euser":            "/~user",
		"/a%2Db":              "/a-b",
		"/a%2db":              "/a-b",
		"/caf%c3%a9":          "/caf%C3%A9",
		"/100%25":             "/100%25",
		"/a%253b":             "/a%253b",
		"/what%3f":            "/what%3F",
		"/%23tag":             "/%23tag",
		"/a%20b":              "/a%20b",
		"/latin%e9":           "/latin%E9",
		"/.well-known/x":      "/.well-known/x",
		"/...":                "/...",
		"/a..b":               "/a..b",
		"/a/..b":              "/a/..b",
		"/a:b@c!$&'()*+,=":    "/a:b@c!$&'()*+,=",
		"/a%2Fb":              "/a%2Fb",
		"/a;v=1/b":            "/a;v=1/b",
		"/a%3bv/b":            "/a%3Bv/b",
		"/q\"<>^`{|}":         "/q%22%3C%3E%5E%60%7B%7C%7D",
		"/[x]":                "/[x]",
		"/%5Bx%5D":            "/%5Bx%5D",
		"/\xe2\x82\xac":       "/%E2%82%AC",
		"/%252e%252e/still-a": "/%252e%252e/still-a",
	} {
		got, ok := ParsePath(in)
		if !ok || got.escaped != want {
			t.Errorf("ParsePath(%q) = %q, %v; want %q", in, got.escaped, ok, want)
		}
	}
}

func TestThePathThatIsJudgedIsThePathThatIsSent(t *testing.T) { // PATH-2
	for _, in := range []string{"/", "/a%2Fb", "/a;x", "/caf%c3%a9", "/100%25", "/q\"", "/[x]", "/latin%e9", "/a%20b", "/%5B"} {
		p, ok := ParsePath(in)
		if !ok {
			t.Fatalf("ParsePath(%q) refused", in)
		}
		var u url.URL
		setPath(&u, p)
		if u.EscapedPath() != p.escaped {
			t.Errorf("%q: judged %q, sent %q", in, p.escaped, u.EscapedPath())
		}
	}
}

func TestAPrefixNamesATenantAndTheRestIsCheckedAgain(t *testing.T) {
	for _, c := range []struct {
		path, name, rest string
		ok, bad          bool
	}{
		{"/t/acme/x", "acme", "/x", true, false},
		{"/t/acme", "acme", "/", true, false},
		{"/t/acme/", "acme", "/", true, false},
		{"/t/Acme%20Corp/x", "Acme Corp", "/x", true, false},
		{"/t/", "", "", false, false},
		{"/t", "", "", false, false},
		{"/tt/acme", "", "", false, false},
		{"/x/t/acme", "", "", false, false},
		{"/t/a%2Fb/x", "", "", false, true},
		{"/t/a;b/x", "", "", false, true},
		{"/t/a%3Bb/x", "", "", false, true},
		{"/t/acme/a%2Fb", "acme", "/a%2Fb", true, false},
	} {
		p, parsed := ParsePath(c.path)
		if !parsed {
			t.Fatalf("ParsePath(%q) refused", c.path)
		}
		name, rest, ok, bad := p.cutPrefix("/t/")
		if name != c.name || rest.escaped != c.rest || ok != c.ok || bad != c.bad {
			t.Errorf("%q: %q %q %v %v; want %+v", c.path, name, rest.escaped, ok, bad, c)
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "/%2e%2e/", "/a%2fb;c", "//x", "/..;/x", "/\xff%ff", "/a%00", "/%E0%80%AF"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := ParsePath(s)
		if !ok {
			return
		}
		if again, ok := ParsePath(p.escaped); !ok || again != p {
			t.Fatalf("%q: canonical form %q is not stable: %q %v", s, p.escaped, again.escaped, ok)
		}
		var u url.URL
		setPath(&u, p)
		if u.EscapedPath() != p.escaped {
			t.Fatalf("%q: judged %q, sent %q", s, p.escaped, u.EscapedPath())
		}
		for _, r := range p.readings() {
			if strings.Contains(r, "//") || strings.Contains(r+"/", "/../") || strings.Contains(r+"/", "/./") || r[0] != '/' {
				t.Fatalf("%q: reading %q", s, r)
			}
		}
		decoded, err := url.PathUnescape(p.escaped)
		if err != nil || strings.ContainsAny(decoded, "\\\x00\r\n") {
			t.Fatalf("%q: decodes to %q, %v", s, decoded, err)
		}
	})
}
