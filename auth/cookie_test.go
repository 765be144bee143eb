package auth

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCookieValueHasOneSpelling(t *testing.T) { // CK-1, FAIL-2
	token := newSessionToken()
	good := token.encode()
	if len(good) != 64 {
		t.Fatalf("%d characters", len(good))
	}
	got, ok := parseToken(good)
	if !ok || got != token {
		t.Fatal("own token refused")
	}
	for name, v := range map[string]string{
		"empty": "", "cut": good[:63], "longer": good + "A", "padded": good[:62] + "==", "space before": " " + good[1:], "space behind": good[:63] + " ",
		"quoted": `"` + good[:62] + `"`, "line end": good[:63] + "\n", "carriage return": good[:32] + "\r" + good[33:], "standard alphabet": good[:63] + "+",
		"slash": good[:63] + "/", "nul": good[:63] + "\x00", "full-width": good[:61] + "Ａ", "nbsp": good[:62] + "\u00a0", "percent": good[:61] + "%41",
		"doubled": good + good,
	} {
		if _, ok := parseToken(v); ok {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOnlyTheExactCookieNameIsRead(t *testing.T) { // CK-1
	token := newSessionToken()
	v := token.encode()
	name := namesFor(true).session
	for _, tc := range []struct {
		header string
		good   int
		n      int
	}{
		{name + "=" + v, 1, 1},
		{"a=b; " + name + "=" + v + "; c=d", 1, 1},
		{"a=b;" + name + "=" + v, 1, 1},
		{name + "=" + v + "; " + name + "=" + v, 2, 2},
		{name + "=junk; " + name + "=" + v, 1, 2},
		{name + "=", 0, 1},
		{name, 0, 1},
		{"\u2000" + name + "=" + v, 0, 0},
		{"\u00a0" + name + "=" + v, 0, 0},
		{name + " =" + v, 0, 0},
		{"\x0b" + name + "=" + v, 0, 0},
		{"$Version=1; " + name + "=" + v, 1, 1},
		{"$Version=1, " + name + "=" + v, 0, 0},
		{strings.ToUpper(name) + "=" + v, 0, 0},
		{"tg_session=" + v, 0, 0}, // the other spelling
		{"x" + name + "=" + v, 0, 0},
		{`a="x; ` + name + "=" + v + `"`, 0, 1},
		{name + `="` + v + `"`, 0, 1},
		{name + "=" + v + "," + name + "=" + v, 0, 1},
		{strings.Repeat(name+"="+v+"; ", 50), maxOurCookies, 50},
	} {
		_, good, n := sessionTokens([]string{tc.header}, name)
		if good != tc.good || n != tc.n {
			t.Errorf("%q: %d tokens of %d cookies, want %d of %d", tc.header, good, n, tc.good, tc.n)
		}
	}
	list, good, _ := sessionTokens([]string{"a=b", name + "=" + v}, name)
	if good != 1 || list[0] != token {
		t.Error("second Cookie header not read")
	}
}

func TestOurCookiesDoNotReachTheAppAndOthersStayAsTheyAre(t *testing.T) {
	for _, tc := range []struct{ in, want []string }{
		{nil, nil},
		{[]string{"a=b; c=d"}, []string{"a=b; c=d"}},
		{[]string{"__Host-tg_session=x"}, nil},
		{[]string{"tg_session=x; __Host-tg_admin=y; tg_admin=z; __Host-tg_flow_abc=1; tg_flow_abc=2"}, nil},
		{[]string{"a=b; __Host-tg_session=x; c=d"}, []string{"a=b; c=d"}},
		{[]string{"__Host-tg_session=x; a=b"}, []string{"a=b"}},
		{[]string{"a=b;tg_session=x;c=d"}, []string{"a=b;c=d"}},
		{[]string{"a=b; tg_session"}, []string{"a=b"}},
		{[]string{"a=b; tg_session =x"}, []string{"a=b"}},
		{[]string{"a=b; \u2000__Host-tg_session=x; c"}, []string{"a=b; c"}},
		{[]string{"tg_sessions=x; my_tg_session=y; tg_flower=z"}, []string{"tg_sessions=x; my_tg_session=y; tg_flower=z"}},
		{[]string{`q="a;b"; e=; ;tg_prefs=1;;`}, []string{`q="a;b"; e=; ;tg_prefs=1;;`}},
		{[]string{"a=b", "tg_session=x", "c=d"}, []string{"a=b", "c=d"}},
		{[]string{"a=tg_session; b=2"}, []string{"a=tg_session; b=2"}},
	} {
		h := http.Header{}
		if tc.in != nil {
			h["Cookie"] = slices.Clone(tc.in)
		}
		(&Auth{}).StripCookies(h)
		if !slices.Equal(h["Cookie"], tc.want) {
			t.Errorf("%q became %q, want %q", tc.in, h["Cookie"], tc.want)
		}
		if _, there := h["Cookie"]; there && tc.want == nil {
			t.Errorf("%q left an empty Cookie header", tc.in)
		}
	}
}

func TestSessionCookieIsForOneHostOverTLS(t *testing.T) {
	w := httptest.NewRecorder()
	n := namesFor(true)
	setCookie(w, n.session, "v", n.secure, 24*time.Hour)
	if got := w.Header().Get("Set-Cookie"); got != "__Host-tg_session=v; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax" {
		t.Error(got)
	}
	w = httptest.NewRecorder()
	n = namesFor(false)
	setCookie(w, n.session, "v", n.secure, 90*time.Second+999*time.Millisecond)
	if got := w.Header().Get("Set-Cookie"); got != "tg_session=v; Path=/; Max-Age=90; HttpOnly; SameSite=Lax" {
		t.Error(got)
	}
}

func TestClearSessionReachesATossedCookieOfAParentDomain(t *testing.T) { // CK-1
	for _, tc := range []struct {
		public string
		want   []string
	}{
		{"https://app.example.com", nil},
		{"http://127.0.0.1:8080", nil},
		{"http://[::1]:8080", nil},
		{"http://localhost:8080", nil},
		{"http://a.b.localhost", []string{"Domain=a.b.localhost", "Domain=b.localhost"}},
	} {
		u, err := url.Parse(tc.public)
		if err != nil {
			t.Fatal(err)
		}
		a := &Auth{origins: newOrigins(u, "", nil), names: namesFor(u.Scheme == "https")}
		w := httptest.NewRecorder()
		a.ClearSession(w, u.Host)
		lines := w.Header()["Set-Cookie"]
		if len(lines) != 2+len(tc.want) {
			t.Fatalf("%s: %q", tc.public, lines)
		}
		for i, name := range []string{"__Host-tg_session=;", "tg_session=;"} {
			if !strings.HasPrefix(lines[i], name) || maxAgeOf(t, lines[i]) != 0 {
				t.Errorf("%s: %q", tc.public, lines[i])
			}
		}
		for i, want := range tc.want {
			if !strings.Contains(lines[2+i], want+";") {
				t.Errorf("%s: %q lacks %s", tc.public, lines[2+i], want)
			}
		}
	}
}

func FuzzCookieHeader(f *testing.F) {
	token := newSessionToken()
	name := namesFor(true).session
	f.Add("a=b; " + name + "=" + token.encode())
	f.Add(name + "=" + token.encode() + ";;; =; " + name)
	f.Add("\u2000" + name + "=x; $Version=1")
	f.Fuzz(func(t *testing.T, header string) {
		list, good, n := sessionTokens([]string{header}, name)
		if good > n || good > maxOurCookies {
			t.Fatalf("%d tokens of %d cookies", good, n)
		}
		for i := range good {
			if !strings.Contains(header, name+"="+list[i].encode()) {
				t.Fatalf("%q read as %s", header, list[i].encode())
			}
		}
		h := http.Header{"Cookie": {header}}
		(&Auth{}).StripCookies(h)
		for _, v := range h["Cookie"] {
			if _, _, left := sessionTokens([]string{v}, name); left != 0 {
				t.Fatalf("%q became %q", header, v)
			}
		}
		if n == 0 && !strings.Contains(header, "tg_") && h.Get("Cookie") != header {
			t.Fatalf("%q was changed to %q", header, h["Cookie"])
		}
	})
}
