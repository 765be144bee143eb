package attack

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/router"
)

// newWorld is one gate by proxy over SQLite, with the echo app.
func newWorld(t *testing.T, configure func(*config.Config)) (*gatetest.World, string) {
	t.Helper()
	dsn := sqliteURL(t)
	seed(t, dsn)
	return gate(t, gatetest.Options{HostURL: dsn, App: http.HandlerFunc(echo), Configure: configure}), dsn
}

// withCookies asks for the tenant alpha with a Cookie header as it stands.
func withCookies(t *testing.T, w *gatetest.World, cookies ...string) answer {
	t.Helper()
	fields := []string{"Host: localhost"}
	for _, c := range cookies {
		fields = append(fields, "Cookie: "+c)
	}
	return first(t, send(t, w.Addr, head("GET /t/"+alpha.id()+"/x HTTP/1.1", fields...)))
}

// TestNoBrokenCookieOpensAnything: FAIL-2, CK-1. Whatever is wrong with a session cookie, the answer is 401 and clears
// it, and names that only resemble ours are not ours.
func TestNoBrokenCookieOpensAnything(t *testing.T) {
	w, _ := newWorld(t, byName)
	token := signIn(t, w, "onlya")
	other := signIn(t, w, "stranger")
	if a := withCookies(t, w, sessionName+"="+token); a.status != 200 {
		t.Fatalf("the true cookie: %d %s", a.status, a.code())
	}
	values := []string{
		"", " ", "=", "null", "undefined", "0", "true", "admin", "{}", "[]", "../../etc/passwd", "'", "' OR '1'='1", "\"", "%00", "\x7f", "a\tb", "é", "\xff\xfe",
		strings.Repeat("A", 64), strings.Repeat("_", 64), strings.Repeat("-", 64), strings.Repeat("0", 96), strings.Repeat("A", 63), strings.Repeat("A", 65),
		strings.Repeat("A", 4096), strings.Repeat("A", 16<<10), "\"" + token + "\"", " " + token, token + "=", token + "==", token + ".", "." + token, token + "%00", token + "\\",
		strings.ToUpper(token), strings.ToLower(token), url.QueryEscape(token + " "), token + "," + token, token + "+", token + token, token[1:] + token[:1],
		token[:22] + other[22:], other[:22] + token[22:], token[:21] + strings.Repeat("A", 43), strings.Repeat("A", 21) + token[21:], "v1." + token, "Bearer " + token,
		strings.Map(func(r rune) rune { return map[rune]rune{'-': '+', '_': '/'}[r] + r*boolRune(r != '-' && r != '_') }, token+"-_"), token + "\u00a0", "\u2003" + token,
	}
	for n := 1; n < len(token); n += 7 {
		values = append(values, token[:n], token[n:])
	}
	for i := 0; i < len(token); i += 5 { // each bit of a token counts
		b := []byte(token)
		b[i] = map[bool]byte{true: 'B', false: 'A'}[b[i] == 'A']
		values = append(values, string(b))
	}
	for _, v := range values {
		raw := send(t, w.Addr, head("GET /t/"+alpha.id()+"/x HTTP/1.1", "Host: localhost", "Cookie: "+sessionName+"="+v))
		a := first(t, raw)
		if a.status == 400 && strings.ContainsAny(v, "\x00\x7f") {
			continue // net/http refuses the request
		}
		if a.status != 401 || a.code() != "session_expired" {
			t.Errorf("%.80q: %d %s", v, a.status, a.code())
			continue
		}
		cleared := strings.Join(a.header["Set-Cookie"], "\n")
		for _, name := range []string{"tg_session=;", "__Host-tg_session=;"} {
			if !strings.Contains(cleared, name) || !strings.Contains(cleared, "Max-Age=0") {
				t.Errorf("%.80q: the answer clears %q", v, cleared)
			}
		}
	}
	for _, name := range []string{
		"TG_SESSION", "Tg_session", "tg_session ", "tg-session", "xtg_session", "tg_sessions", "__Host-tg_session", "__Secure-tg_session", "\u2003tg_session", "\xa0tg_session",
		"tg_session[]", "tg_session.x", "$tg_session", "\"tg_session\"", "tg_admin", "tg_flow_AAAAAAAAAAAAAAAA", "%74g_session", "tg_session%20",
	} {
		if a := withCookies(t, w, name+"="+token); a.status != 401 || a.code() != "unauthenticated" {
			t.Errorf("cookie named %q: %d %s", name, a.status, a.code())
		}
	}
	for _, cookies := range [][]string{
		{"tg_session=" + token + "; tg_session=" + other},
		{"tg_session=bad; tg_session=" + token},
		{"tg_session=" + other + "; tg_session=" + token},
		{"tg_session=bad", "tg_session=" + token},
		{"a=b; tg_session=" + token + "; c=\"d; tg_session=e\""},
		{"tg_session=" + strings.Repeat("A", 64) + ";tg_session=" + token},
	} {
		a := withCookies(t, w, cookies...)
		if wantStranger := strings.HasPrefix(cookies[0], "tg_session="+other); wantStranger && a.code() != "no_access" || !wantStranger && a.status != 200 {
			t.Errorf("%q: %d %s", cookies, a.status, a.code()) // the first good one counts
		}
	}
}

func boolRune(b bool) rune {
	if b {
		return 1
	}
	return 0
}

// sessionID is the row's id of a token.
func sessionID(t testing.TB, token string) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) != 48 {
		t.Fatalf("token of %d bytes: %v", len(raw), err)
	}
	return hex.EncodeToString(raw[:16])
}

// TestRowsOfOtherProgramsOpenNothing: SESS-1. Whoever can write the host database but has no key of ours makes no
// session and changes none: not its user, its end, its host.
func TestRowsOfOtherProgramsOpenNothing(t *testing.T) {
	w, dsn := newWorld(t, byName)
	guessed := base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("0123456789abcdef", 3)))
	raw, _ := base64.RawURLEncoding.DecodeString(guessed)
	sum := sha256.Sum256(raw)
	keyed := hmac.New(sha256.New, nil)
	keyed.Write(raw)
	for _, mac := range []string{"", "00", strings.Repeat("0", 64), hex.EncodeToString(sum[:]), hex.EncodeToString(keyed.Sum(nil)), hex.EncodeToString(raw[16:]), guessed, "NULL"} {
		execSQL(t, dsn, `DELETE FROM tenantgate.sys_sessions`)
		execSQL(t, dsn, fmt.Sprintf(`INSERT INTO tenantgate.sys_sessions (id, user_id, tenant_id, host, mac, created_at, expires_at, last_seen)
			VALUES ('%s', 'uid-onlya', '', 'localhost', '%s', '2026-01-01T00:00:00', '2099-01-01T00:00:00', '2098-01-01T00:00:00')`, sessionID(t, guessed), mac))
		reload(t, w)
		if a := withCookies(t, w, sessionName+"="+guessed); a.code() != "session_expired" {
			t.Errorf("a row with mac %q: %d %s", mac, a.status, a.code())
		}
	}
	stranger, member := signIn(t, w, "stranger"), signIn(t, w, "onlya")
	for _, change := range []string{
		"user_id = 'uid-onlya'", "user_id = 'uid-both'", "expires_at = '2099-01-01T00:00:00'", "host = 'LOCALHOST'", "host = 'evil.test'", "host = ''",
		"mac = (SELECT o.mac FROM tenantgate.sys_sessions o WHERE o.id = '" + sessionID(t, member) + "'), user_id = 'uid-onlya'",
		"mac = upper(mac) || '00'", "mac = ''", "created_at = 'nonsense'", "expires_at = 'nonsense'", "expires_at = ''", "provider = 'x'",
	} {
		token := signIn(t, w, "stranger")
		if a := withCookies(t, w, sessionName+"="+token); a.code() != "no_access" {
			t.Fatalf("before the change: %d %s", a.status, a.code())
		}
		execSQL(t, dsn, "UPDATE tenantgate.sys_sessions SET "+change+" WHERE id = '"+sessionID(t, token)+"'")
		reload(t, w)
		if a := withCookies(t, w, sessionName+"="+token); a.code() != "session_expired" {
			t.Errorf("after SET %s: %d %s", change, a.status, a.code())
		}
	}
	// What is not the session's secret may be written: a choice of tenant is no grant.
	execSQL(t, dsn, "UPDATE tenantgate.sys_sessions SET tenant_id = '"+alpha.id()+"', subject = 'onlya', sid = 'x', id_token = 'x' WHERE id = '"+sessionID(t, stranger)+"'")
	reload(t, w)
	if a := first(t, send(t, w.Addr, head("GET /x HTTP/1.1", "Host: localhost", "Cookie: "+sessionName+"="+stranger))); a.code() != "no_access" {
		t.Errorf("a tenant that was written in: %d %s", a.status, a.code())
	}
}

// browser is a client with a jar, for flows.
type browser struct {
	*http.Client
	w *gatetest.World
	t testing.TB
}

func newBrowser(t testing.TB, w *gatetest.World) *browser {
	t.Helper()
	return &browser{client(t, w), w, t}
}

// get fetches without following redirects.
func (b *browser) get(target string, fields ...string) answer {
	b.t.Helper()
	req := request(b.t, "GET", target)
	for _, f := range fields {
		k, v, _ := strings.Cut(f, ": ")
		req.Header.Add(k, v)
	}
	return do(b.t, b.Client, req)
}

func (b *browser) post(target string, form url.Values, fields ...string) answer {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), "POST", target, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, f := range fields {
		k, v, _ := strings.Cut(f, ": ")
		req.Header.Add(k, v)
	}
	return do(b.t, b.Client, req)
}

// session is the session cookie in the jar, "" without one.
func (b *browser) session() string {
	u, _ := url.Parse(b.w.URL)
	for _, c := range b.Jar.Cookies(u) {
		if c.Name == sessionName {
			return c.Value
		}
	}
	return ""
}

// begin goes to the login page and lets subject be picked at the provider; it returns the callback's URL, not yet
// visited, or the login's answer where that leads nowhere.
func (b *browser) begin(loginQuery, subject string) (callback string, login answer) {
	b.t.Helper()
	login = b.get(b.w.URL + "/_gate/login" + loginQuery)
	if login.status != 302 {
		return "", login
	}
	return b.pick(login.header.Get("Location"), subject), login
}

// pick is the provider's part.
func (b *browser) pick(authorize, subject string) (callback string) {
	b.t.Helper()
	page := b.get(authorize)
	target, err := url.Parse(authorize)
	if err != nil {
		b.t.Fatal(err)
	}
	if target, err = target.Parse(page.header.Get("Location")); err != nil {
		b.t.Fatal(err)
	}
	done := b.post(target.String(), url.Values{"id": {target.Query().Get("id")}, "subject": {subject}})
	for done.status/100 == 3 {
		if target, err = target.Parse(done.header.Get("Location")); err != nil {
			b.t.Fatal(err)
		}
		if strings.HasPrefix(target.String(), b.w.URL+"/_gate/callback/") {
			return target.String()
		}
		done = b.get(target.String())
	}
	b.t.Fatalf("the provider's page ended with %d", done.status)
	return ""
}

// TestSigningInMakesANewSession: SESS-1. A cookie that was in the browser before, another's or nobody's, is never the
// one that is signed in, and a session that came along is over.
func TestSigningInMakesANewSession(t *testing.T) {
	w, _ := newWorld(t, byName)
	planted := signIn(t, w, "both") // the attacker's own session, put into the victim's browser
	for _, before := range []string{planted, strings.Repeat("A", 64), "garbage", planted + "; " + sessionName + "=" + strings.Repeat("B", 64)} {
		b := newBrowser(t, w)
		u, _ := url.Parse(w.URL)
		b.Jar.SetCookies(u, []*http.Cookie{{Name: sessionName, Value: strings.Split(before, ";")[0]}})
		callback, _ := b.begin("", "onlya")
		done := b.get(callback)
		got := b.session()
		if done.status != 302 || got == "" || strings.Contains(before, got) {
			t.Fatalf("planted %.20q: %d, the session is %.20q", before, done.status, got)
		}
		if a := withCookies(t, w, sessionName+"="+got); a.status != 200 || !strings.Contains(a.body, "uid-onlya") {
			t.Errorf("planted %.20q: the new session is answered %d %s", before, a.status, a.code())
		}
		if a := withCookies(t, w, sessionName+"="+strings.Split(before, ";")[0]); a.code() != "session_expired" {
			t.Errorf("planted %.20q is still answered %d %s", before, a.status, a.code())
		}
	}
	// Signing in again ends the session before, and signing out the last.
	b := newBrowser(t, w)
	var tokens []string
	for range 3 {
		callback, _ := b.begin("", "onlya")
		b.get(callback)
		tokens = append(tokens, b.session())
	}
	b.post(w.URL+"/_gate/logout", nil)
	if b.session() != "" {
		t.Error("signing out left the cookie")
	}
	for i, token := range tokens {
		if a := withCookies(t, w, sessionName+"="+token); a.code() != "session_expired" {
			t.Errorf("session %d of 3 is answered %d %s", i+1, a.status, a.code())
		}
	}
}

// TestStaleFlowCookiesBlockNoSignIn: CK-2. Sixty old flow cookies, of us or made up, and the sign-in succeeds; at most
// twelve are left, none over 400 bytes.
func TestStaleFlowCookiesBlockNoSignIn(t *testing.T) {
	w, _ := newWorld(t, byName)
	b := newBrowser(t, w)
	u, _ := url.Parse(w.URL)
	var planted []*http.Cookie
	for i := range 60 {
		planted = append(planted, &http.Cookie{Name: fmt.Sprintf("tg_flow_%016d", i), Value: strings.Repeat("x", 300)})
	}
	b.Jar.SetCookies(u, planted)
	for range 20 { // true flows that are never finished
		if a := b.get(w.URL + "/_gate/login"); a.status != 302 {
			t.Fatalf("login: %d %s", a.status, a.code())
		}
	}
	flows := 0
	for _, c := range b.Jar.Cookies(u) {
		if strings.HasPrefix(c.Name, "tg_flow_") {
			flows++
		}
	}
	if flows > 12 {
		t.Errorf("%d flow cookies are left", flows)
	}
	callback, login := b.begin("", "onlya")
	for _, line := range login.header["Set-Cookie"] {
		if len(line) > 400 {
			t.Errorf("a flow cookie of %d bytes", len(line))
		}
		if strings.Contains(line, "Max-Age=600") && (!strings.Contains(line, "HttpOnly") || !strings.Contains(line, "SameSite=Lax") || !strings.Contains(line, "Path=/")) {
			t.Errorf("flow cookie %q", line)
		}
	}
	if a := b.get(callback); a.status != 302 || b.session() == "" {
		t.Errorf("callback: %d %s", a.status, a.body)
	}
	// A header full of them, in one request, as it stands.
	var bomb []string
	for i := range 3000 {
		bomb = append(bomb, fmt.Sprintf("tg_flow_%016d=%s", i, strings.Repeat("y", 200)))
	}
	raw := send(t, w.Addr, head("GET /_gate/login HTTP/1.1", "Host: localhost", "Cookie: "+strings.Join(bomb, "; ")))
	if a := first(t, raw); a.status != 302 || len(raw) > 64<<10 {
		t.Errorf("3000 flow cookies: %d with %d bytes", a.status, len(raw))
	}
}

// TestCallbacksThatAreNone: CB-1, FLOW-1. Without, with two, with oversized or with others' parameters the callback
// signs nobody in, and nothing of it is shown or logged as it came.
func TestCallbacksThatAreNone(t *testing.T) {
	w, _ := newWorld(t, byName)
	fresh := func() (*browser, url.Values) {
		b := newBrowser(t, w)
		callback, _ := b.begin("", "onlya")
		u, err := url.Parse(callback)
		if err != nil {
			t.Fatal(err)
		}
		return b, u.Query()
	}
	_, foreign := fresh()
	type change func(q url.Values) string
	set := func(k, v string) change { return func(q url.Values) string { q.Set(k, v); return q.Encode() } }
	del := func(names ...string) change {
		return func(q url.Values) string {
			for _, n := range names {
				q.Del(n)
			}
			return q.Encode()
		}
	}
	add := func(k, v string) change { return func(q url.Values) string { q.Add(k, v); return q.Encode() } }
	for name, c := range map[string]change{
		"nothing": func(url.Values) string { return "" }, "no state": del("state"), "no code": del("code"), "neither": del("state", "code"),
		"empty state": set("state", ""), "empty code": set("code", ""), "two states": add("state", "x"), "two codes": add("code", "x"),
		"the state twice": func(q url.Values) string { return q.Encode() + "&state=" + url.QueryEscape(q.Get("state")) },
		"another state":   set("state", foreign.Get("state")), "another code": set("code", foreign.Get("code")), "random state": set("state", "AAAAAAAAAAAAAAAA.v1.x.y"),
		"state cut":    func(q url.Values) string { q.Set("state", q.Get("state")[:40]); return q.Encode() },
		"state longer": func(q url.Values) string { q.Set("state", q.Get("state")+"A"); return q.Encode() },
		"state changed": func(q url.Values) string {
			s := []byte(q.Get("state"))
			s[len(s)-3] ^= 1
			q.Set("state", string(s))
			return q.Encode()
		},
		"huge state": set("state", strings.Repeat("A", 8<<10)), "huge code": set("code", strings.Repeat("A", 8<<10)), "huge query": add("x", strings.Repeat("A", 14<<10)),
		"code and error": add("error", "access_denied"), "error alone": func(q url.Values) string { q.Del("code"); q.Set("error", "access_denied"); return q.Encode() },
		"error made up": func(q url.Values) string {
			q.Del("code")
			q.Set("error", evil+"<script>")
			q.Set("error_description", evil+"<script>")
			return q.Encode()
		},
		"server error": func(q url.Values) string { q.Del("code"); q.Set("error", "server_error"); return q.Encode() },
		"other issuer": set("iss", "https://evil.test"), "two issuers": func(q url.Values) string { return q.Encode() + "&iss=a&iss=b" },
		"bad escapes": func(q url.Values) string { return "state=%zz&code=" + q.Get("code") }, "semicolons": func(q url.Values) string { return strings.ReplaceAll(q.Encode(), "&", ";") },
		"other case": func(q url.Values) string { return "State=" + q.Get("state") + "&Code=" + q.Get("code") }, "nul": set("code", "\x00"), "newline": set("code", "a\r\nSet-Cookie: tg_session=x"),
		"code with percent": set("code", "%00%0d%0a"), "token instead": func(q url.Values) string {
			return "state=" + url.QueryEscape(q.Get("state")) + "&id_token=a.b.c&access_token=d"
		},
	} {
		b, q := fresh()
		a := b.get(w.URL + "/_gate/callback/dev?" + c(q))
		if b.session() != "" || a.status/100 == 2 || a.status/100 == 3 || strings.Contains(a.text(), evil) {
			t.Errorf("%s: %d, session %q:\n%.300s", name, a.status, b.session(), a.text())
		}
		if a.status != 400 && a.status != 403 && a.status != 503 {
			t.Errorf("%s: %d", name, a.status)
		}
	}
	// In another browser, for another provider, by another method, a second time.
	b, q := fresh()
	if a := newBrowser(t, w).get(w.URL + "/_gate/callback/dev?" + q.Encode()); a.status != 400 {
		t.Errorf("another browser: %d", a.status)
	}
	if a := b.get(w.URL + "/_gate/callback/other?" + q.Encode()); a.status != 404 {
		t.Errorf("another provider: %d", a.status)
	}
	if a := b.post(w.URL+"/_gate/callback/dev?"+q.Encode(), q); a.status != 405 || b.session() != "" {
		t.Errorf("POST: %d", a.status)
	}
	if a := b.get(w.URL + "/_gate/callback/dev?" + q.Encode()); a.status != 302 || b.session() == "" {
		t.Errorf("the true callback, after these: %d %.200s", a.status, a.body)
	}
	session := b.session()
	jar := b.Jar
	b.Jar = nil
	if a := b.get(w.URL+"/_gate/callback/dev?"+q.Encode(), "Cookie: "+flowCookies(jar, w)); a.status != 400 || len(a.header["Set-Cookie"]) > 0 && strings.Contains(fmt.Sprint(a.header["Set-Cookie"]), sessionName+"=") {
		t.Errorf("replayed: %d %q", a.status, a.header["Set-Cookie"])
	}
	if a := withCookies(t, w, sessionName+"="+session); a.status != 200 {
		t.Errorf("the session after a replay: %d %s", a.status, a.code())
	}
}

func flowCookies(jar http.CookieJar, w *gatetest.World) string {
	u, _ := url.Parse(w.URL)
	var list []string
	for _, c := range jar.Cookies(u) {
		if c.Name != sessionName {
			list = append(list, c.Name+"="+c.Value)
		}
	}
	return strings.Join(list, "; ")
}

// hostileReturns lead elsewhere for some browser, some server or some reader. HOST is public_url's host and port.
func hostileReturns() []string {
	hosts := []string{"evil.test", "HOST.evil.test", "HOST@evil.test", "evil.test#HOST", "evil.test\\@HOST", "evil.test%23HOST", "evil.test?HOST", "localhost.evil.test", "evil.test:80", "[::ffff:6.6.6.6]", "0x06060606", "xn--lcalhost-54a"}
	list := []string{
		"/\\evil.test", "\\/evil.test", "\\\\evil.test", "/\t/evil.test", "/\n/evil.test", "/\r/evil.test", "\t//evil.test", " //evil.test", "/%09/evil.test", "/%5cevil.test", "/%2f%2fevil.test",
		"/%2fevil.test", "//%2fevil.test", "/.//evil.test", "/..//evil.test", "/x/..//evil.test", "/x//evil.test", "/\x0b/evil.test", "/\x00/evil.test", "/;@evil.test", "/a\r\nLocation: http://evil.test",
		"javascript:alert(1)", "JAVASCRIPT:alert(1)", "java\tscript:alert(1)", "data:text/html,x", "vbscript:x", "blob:http://HOST/x", "file:///x", "mailto:x@evil.test", "tel:1", "http:", "http:/", "http://", "http:///",
		"http:evil.test", "http:/evil.test", "http:///evil.test", "http://HOST:1/", "https://HOST/", "ftp://HOST/", "http://user@HOST/", "http://user:pw@HOST/", "http://@HOST/", "http://HOST:/", "http://HOST.",
		"//HOST/", "///HOST/", "evil.test", "?x", "#x", ".", "..", "/..", "/../", "/.", "/%2e%2e/", "/%2e/", "/a/%2e%2e/b", "/a/..;/b", "/a;/../b", "/_gate/login", "/_gate/login?return_to=/_gate/login", "/_GATE/login",
		"/%5fgate/login", "/_gate/callback/dev", "/_gate/handoff?code=x", "/é", "/\u202e", "/%zz", "/%", "/a b", "/a\"b\x7f", "/" + strings.Repeat("a", 3000), "http://HOST/\\evil.test", "http://HOST\\.evil.test/",
		"http://sub.HOST/", "http://base.test/", "http://a.b.base.test/", "http://evil.test/.base.test", "http://evilbase.test/", "http://evil.test#.base.test",
	}
	for _, h := range hosts {
		list = append(list, "//"+h, "///"+h, "http://"+h, "https://"+h+"/", "http:\\\\"+h, "/\\/"+h, "\\\\"+h)
	}
	return list
}

// leadsAway reads a Location as browsers do (WHATWG URL: tabs and line ends dropped, backslashes are slashes) and as
// servers do, and reports whether any of them leaves the origin.
func leadsAway(origin, location string) bool {
	cleaned := strings.TrimFunc(location, func(r rune) bool { return r <= ' ' })
	cleaned = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(cleaned)
	for _, reading := range []string{location, cleaned, strings.ReplaceAll(cleaned, "\\", "/")} {
		base, err := url.Parse(origin + "/_gate/callback/dev")
		if err != nil {
			return true
		}
		to, err := base.Parse(reading)
		if err != nil || to.Scheme+"://"+to.Host != origin || to.User != nil {
			return true
		}
		rest := strings.TrimPrefix(reading, origin)
		if !strings.HasPrefix(rest, "/") || strings.HasPrefix(rest, "//") {
			return true
		}
	}
	return false
}

// TestNoReturnToLeadsAway: REDIR-1, REDIR-2. Every way to hand a return address in, every hostile address: refused, or,
// where the sign-in goes on, it ends on our own origin. No redirect holds a token.
func TestNoReturnToLeadsAway(t *testing.T) {
	w, _ := newWorld(t, byName)
	corpus := hostileReturns()
	if len(corpus) < 100 {
		t.Fatalf("only %d addresses", len(corpus))
	}
	public := strings.TrimPrefix(w.URL, "http://")
	hostOf := func(s tenantSeed) string {
		return strings.Replace(w.URL, "//localhost", "//"+s.id()+".base.test", 1)
	}
	cookie := sessionName + "=" + signIn(t, w, "both")
	plain := client(t, w)
	plain.Jar = nil
	b := &browser{plain, w, t}
	for _, form := range corpus {
		target := strings.ReplaceAll(form, "HOST", public)
		login := b.get(w.URL + "/_gate/login?return_to=" + url.QueryEscape(target))
		switch {
		case login.status == 400 && login.code() == "bad_return_to":
		case login.status == 302:
			real := newBrowser(t, w)
			callback, _ := real.begin("?return_to="+url.QueryEscape(target), "onlya")
			done := real.get(callback)
			if to := done.header.Get("Location"); done.status != 302 || leadsAway(w.URL, to) {
				t.Errorf("%q: sign-in ended with %d at %q", target, done.status, to)
			}
		default:
			t.Errorf("%q: %d %s", target, login.status, login.code())
		}
		picker := b.get(w.URL+"/_gate/tenants?return_to="+url.QueryEscape(target), "Cookie: "+cookie, "Accept: text/html")
		for _, to := range linksOf(picker.body) {
			if leadsAway(w.URL, to) && leadsAway(hostOf(alpha), to) && leadsAway(hostOf(beta), to) {
				t.Errorf("%q: the picker leads to %q", target, to)
			}
		}
		chosen := b.post(w.URL+"/_gate/tenants", url.Values{"tenant": {alpha.id()}, "return_to": {target}}, "Cookie: "+cookie)
		if to := chosen.header.Get("Location"); chosen.status != 400 && (chosen.status != 303 || leadsAway(hostOf(alpha), to)) {
			t.Errorf("%q: the picker answered %d and leads to %q", target, chosen.status, to)
		}
		refused := b.get(w.URL+"/x", "Hx-Request: true", "Hx-Current-Url: "+strings.Map(printable, target))
		if to := refused.header.Get("Hx-Redirect"); refused.status != 401 || leadsAway(w.URL, to) {
			t.Errorf("%q: an htmx request is led to %q", target, to)
		}
	}
	// As the path of the request itself: what sends a browser to sign in brings it back to us.
	for _, target := range []string{"//evil.test", "/\\evil.test", "/%5cevil.test", "http://evil.test/x", "/x?//evil.test", "/x?a=\\evil"} {
		raw := send(t, w.Addr, head("GET "+target+" HTTP/1.1", "Host: localhost", "Accept: text/html"))
		a := first(t, raw)
		if a.status == 302 {
			to, _ := url.Parse(a.header.Get("Location"))
			if leadsAway(w.URL, a.header.Get("Location")) || leadsAway(w.URL, to.Query().Get("return_to")) {
				t.Errorf("%q is led to %q", target, to)
			}
		}
	}
	for _, query := range []string{"?return_to=/a&return_to=//evil.test", "?return_to=//evil.test&return_to=/a", "?provider=dev&provider=x", "?return_to=%zz"} {
		if a := b.get(w.URL + "/_gate/login" + query); a.status != 400 {
			t.Errorf("%s: %d", query, a.status)
		}
	}
}

// linksOf are the addresses that a page leads to.
func linksOf(page string) []string {
	var list []string
	for _, attribute := range []string{`href="`, `action="`, `name="return_to" value="`} {
		for _, part := range strings.Split(page, attribute)[1:] {
			to, _, _ := strings.Cut(part, `"`)
			list = append(list, html.UnescapeString(to))
		}
	}
	return list
}

func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return -1
	}
	return r
}

// TestOtherSitesSendNothing: CSRF-1. From another site nothing is changed with somebody's cookie: no sign-out, no choice,
// no request to the app.
func TestOtherSitesSendNothing(t *testing.T) {
	w, _ := newWorld(t, bySession)
	token := signIn(t, w, "both")
	cookie := "Cookie: " + sessionName + "=" + token
	b := &browser{client(t, w), w, t}
	b.Jar = nil
	for _, site := range [][]string{
		{"Origin: http://evil.test"},
		{"Origin: null"},
		{"Origin: http://localhost:1"},
		{"Origin: " + w.URL + ".evil.test"},
		{"Origin: https://localhost"},
		{"Sec-Fetch-Site: cross-site"},
		{"Sec-Fetch-Site: same-site"},
		{"Sec-Fetch-Site: cross-site", "Origin: " + w.URL},
		{"Sec-Fetch-Site: same-site", "Origin: " + w.URL},
		{"Sec-Fetch-Site: "},
		{"Sec-Fetch-Site: SAME-ORIGIN"},
		{"Sec-Fetch-Site: same-origin, cross-site"},
		{"Origin: http://evil.test", "Origin: " + w.URL},
		{"Origin: " + w.URL, "Origin: http://evil.test"},
		{"Origin: " + w.URL + " http://evil.test"},
		{"Origin: http://evil@localhost"},
		{"Origin: " + w.URL + "/"},
	} {
		if site[0] == "Sec-Fetch-Site: SAME-ORIGIN" || site[0] == "Sec-Fetch-Site: " {
			site = append(site, "Origin: http://evil.test")
		}
		for _, target := range []string{"/_gate/tenants", "/x", "/_gate/logout"} {
			if target == "/_gate/logout" && site[0] == "Origin: "+w.URL+"/" {
				continue // no browser says it so, and the origin is ours
			}
			a := b.post(w.URL+target, url.Values{"tenant": {alpha.id()}}, append(slices.Clone(site), cookie)...)
			if a.status != 403 || a.code() != "cross_origin" {
				t.Errorf("%q to %s: %d %s", site, target, a.status, a.code())
			}
		}
	}
	if a := b.get(w.URL+"/x", cookie); a.code() != "tenant_required" {
		t.Errorf("after all that: %d %s", a.status, a.code())
	}
	for _, path := range []string{"/_gate/logout", "/_gate/tenants?tenant=" + alpha.id()} { // looking changes nothing
		b.get(w.URL+path, cookie, "Origin: http://evil.test")
	}
	if a := b.get(w.URL+"/x", cookie); a.code() != "tenant_required" {
		t.Errorf("after looking: %d %s", a.status, a.code())
	}
	if a := b.post(w.URL+"/_gate/tenants", url.Values{"tenant": {alpha.id()}}, cookie, "Origin: "+w.URL); a.status != 303 {
		t.Errorf("the own site's choice: %d %s", a.status, a.code())
	}
	if a := b.get(w.URL+"/x", cookie); a.status != 200 || !strings.Contains(a.body, alpha.id()) {
		t.Errorf("after the own site's choice: %d %s", a.status, a.code())
	}
	for _, foreign := range []tenantSeed{susp, laps, void} {
		if a := b.post(w.URL+"/_gate/tenants", url.Values{"tenant": {foreign.id()}}, cookie, "Origin: "+w.URL); a.code() != "no_access" {
			t.Errorf("choosing %s: %d %s", foreign.mark, a.status, a.code())
		}
	}
	if a := b.post(w.URL+"/_gate/logout", nil, cookie, "Origin: "+w.URL, "Sec-Fetch-Site: same-origin"); a.status != 303 && a.status != 200 {
		t.Errorf("the own site's sign-out: %d %s", a.status, a.code())
	}
	if a := b.get(w.URL+"/x", cookie); a.code() != "session_expired" {
		t.Errorf("after signing out: %d %s", a.status, a.code())
	}
}

// TestEachCredentialOpensItsOwnDoorAlone: AUD-1, AUD-2, BEAR-1. Every kind of credential in every place where one is
// read: only the session in its cookie and the access token as bearer are good.
func TestEachCredentialOpensItsOwnDoorAlone(t *testing.T) {
	w, _ := newWorld(t, byName)
	session, access := signIn(t, w, "onlya"), bearer(t, w, "onlya", hour, nil)
	var seen echoedHeader
	seen.read(t, withCookies(t, w, sessionName+"="+session))
	idToken := idTokenOf(t, w, signIn(t, w, "onlya"))
	mint := func(audience string, claims map[string]any) string {
		token, err := w.Provider.MintAccessToken("onlya", audience, time.Hour, claims)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	foreignWorld, _ := newWorld(t, byName)
	parts := strings.Split(access, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	credentials := map[string]string{
		"session token": session, "access token": access, "ID token": idToken, "assertion": seen.assertion,
		"token for the client": mint(gatetest.ClientID, nil), "token for the app": mint("app", nil), "token for public_url": mint(w.URL, nil), "token of nobody's audience": mint("x", nil),
		"ID-like token": mint(gatetest.Audience, map[string]any{"nonce": "n", "azp": "another"}), "logout token": mint(gatetest.Audience, map[string]any{"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}}),
		"other issuer's": bearer(t, foreignWorld, "onlya", hour, nil), "unsigned": none, "cut": access[:len(access)-4], "five parts": access + ".a.b", "payload swapped": parts[0] + "." + strings.Split(seen.assertion, ".")[1] + "." + parts[2],
		"tg_ token": "tg_" + session, "tga_ token": "tga_" + session, "user id": "uid-onlya", "subject": "onlya", "empty": "", "random": strings.Repeat("A", 64), "master secret": gatetest.MasterSecret,
	}
	places := map[string]func(c string) []string{
		"session cookie": func(c string) []string { return []string{"Cookie: " + sessionName + "=" + c} },
		"__Host- cookie": func(c string) []string { return []string{"Cookie: __Host-tg_session=" + c} },
		"admin cookie":   func(c string) []string { return []string{"Cookie: tg_admin=" + c} },
		"flow cookie":    func(c string) []string { return []string{"Cookie: tg_flow_AAAAAAAAAAAAAAAA=" + c} },
		"bearer":         func(c string) []string { return []string{"Authorization: Bearer " + c} },
		"bearer, lower":  func(c string) []string { return []string{"authorization: bearer \t " + c} },
		"basic": func(c string) []string {
			return []string{"Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("x:"+c))}
		},
		"token scheme":        func(c string) []string { return []string{"Authorization: Token " + c} },
		"no scheme":           func(c string) []string { return []string{"Authorization: " + c} },
		"proxy-authorization": func(c string) []string { return []string{"Proxy-Authorization: Bearer " + c} },
		"x-authorization": func(c string) []string {
			return []string{"X-Authorization: Bearer " + c, "Authorization_: Bearer " + c}
		},
		"assertion":          func(c string) []string { return []string{"X-Gate-Assertion: " + c} },
		"user header":        func(c string) []string { return []string{"X-User-Id: " + c} },
		"x-api-key":          func(c string) []string { return []string{"X-Api-Key: " + c} },
		"websocket protocol": func(c string) []string { return []string{"Sec-WebSocket-Protocol: bearer, " + c} },
		"two bearers":        func(c string) []string { return []string{"Authorization: Bearer " + c, "Authorization: Bearer x"} },
		"bearer list":        func(c string) []string { return []string{"Authorization: Bearer x, Bearer " + c} },
	}
	good := map[string]string{"session token": "session cookie", "access token": "bearer"}
	for what, credential := range credentials {
		for where, fields := range places {
			a := first(t, send(t, w.Addr, head("GET /t/"+alpha.id()+"/x?access_token="+url.QueryEscape(credential)+" HTTP/1.1", append(fields(credential), "Host: localhost")...)))
			open := good[what] == where || what == "access token" && where == "bearer, lower"
			if open != (a.status == 200) || !open && a.status != 401 {
				t.Errorf("%s as %s: %d %s", what, where, a.status, a.code())
			}
			if strings.Contains(a.text(), credential) && len(credential) > 20 && !open {
				t.Errorf("%s as %s: the answer repeats it", what, where)
			}
		}
		// A bad bearer token counts, even beside a good cookie; what is not ours does not.
		a := first(t, send(t, w.Addr, head("GET /t/"+alpha.id()+"/x HTTP/1.1", "Host: localhost", "Authorization: Bearer "+credential, "Cookie: "+sessionName+"="+session)))
		if want := map[bool]int{true: 200, false: 401}[what == "access token"]; a.status != want {
			t.Errorf("%s beside a good cookie: %d %s", what, a.status, a.code())
		}
	}
}

type echoedHeader struct{ assertion string }

func (e *echoedHeader) read(t testing.TB, a answer) {
	t.Helper()
	_, rest, ok := strings.Cut(a.body, `"X-Gate-Assertion":["`)
	if e.assertion, _, _ = strings.Cut(rest, `"`); !ok || e.assertion == "" {
		t.Fatalf("%d without assertion: %s", a.status, a.body)
	}
}

// idTokenOf signs the session out and returns the ID token that goes to the provider with it.
func idTokenOf(t testing.TB, w *gatetest.World, session string) string {
	t.Helper()
	b := &browser{client(t, w), w, t}
	b.Jar = nil
	a := b.post(w.URL+"/_gate/logout", nil, "Cookie: "+sessionName+"="+session)
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil || u.Query().Get("id_token_hint") == "" {
		t.Fatalf("sign-out led to %q, %v", a.header.Get("Location"), err)
	}
	return u.Query().Get("id_token_hint")
}

// TestChangesAreInForceWithinFiveSeconds: STATE-1, FRESH-1, CACHE-1. Whatever ends an access, by another program, ends
// it for cookie and bearer alike once five seconds are over, and not before the clock says so by chance.
func TestChangesAreInForceWithinFiveSeconds(t *testing.T) {
	for _, c := range []struct{ name, statement, code string }{
		{"membership gone", `DELETE FROM core_memberships WHERE user_id = 'uid-onlya'`, "no_access"},
		{"membership inactive", `UPDATE core_memberships SET is_active = FALSE WHERE user_id = 'uid-onlya'`, "membership_inactive"},
		{"membership flag NULL", `UPDATE core_memberships SET is_active = NULL WHERE user_id = 'uid-onlya'`, "membership_inactive"},
		{"tenant suspended", `UPDATE core_tenants SET is_active = FALSE WHERE id = '` + alpha.id() + `'`, "tenant_inactive"},
		{"tenant flag NULL", `UPDATE core_tenants SET is_active = NULL WHERE id = '` + alpha.id() + `'`, "tenant_inactive"},
		{"tenant gone", `DELETE FROM core_tenants WHERE id = '` + alpha.id() + `'`, "no_access"},
		{"tenant paused", `INSERT INTO tenantgate.sys_tenant_locks (tenant_id) VALUES ('` + alpha.id() + `')`, "tenant_paused"},
		{"user blocked", `INSERT INTO tenantgate.sys_user_blocks (user_id) VALUES ('uid-onlya')`, "unknown_user"},
		{"user gone", `DELETE FROM core_users WHERE id = 'uid-onlya'`, "unknown_user"},
		{"subscription canceled", `UPDATE core_subscriptions SET status = 'canceled' WHERE tenant_id = '` + alpha.id() + `'`, "subscription_required"},
		{"subscription gone", `DELETE FROM core_subscriptions WHERE tenant_id = '` + alpha.id() + `'`, "subscription_required"},
		{"URI broken", `UPDATE core_tenants SET db_url = 'postgresql://a b' WHERE id = '` + alpha.id() + `'`, "tenant_misconfigured"},
		{"URI sealed", `UPDATE core_tenants SET db_url = 'enc:v1:k:AAAA' WHERE id = '` + alpha.id() + `'`, "tenant_misconfigured"},
		{"URI referred", `UPDATE core_tenants SET db_url = 'ref:file:/etc/passwd' WHERE id = '` + alpha.id() + `'`, "tenant_misconfigured"},
		{"URI NULL", `UPDATE core_tenants SET db_url = NULL WHERE id = '` + alpha.id() + `'`, "tenant_misconfigured"},
		{"URI with a line end", "UPDATE core_tenants SET db_url = 'postgresql://a/b\r\nX-Tenant-Id: evil' WHERE id = '" + alpha.id() + "'", "tenant_misconfigured"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ahead atomic.Int64
			dsn := sqliteURL(t)
			seed(t, dsn)
			w := gate(t, gatetest.Options{
				HostURL: dsn, App: http.HandlerFunc(echo), Configure: byName,
				Clock: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
			})
			cookie, token := "Cookie: "+sessionName+"="+signIn(t, w, "onlya"), "Authorization: Bearer "+bearer(t, w, "onlya", hour, nil)
			ask := func(credential string) answer {
				return first(t, send(t, w.Addr, head("GET /t/"+alpha.id()+"/x HTTP/1.1", "Host: localhost", credential)))
			}
			for _, credential := range []string{cookie, token} {
				if a := ask(credential); a.status != 200 {
					t.Fatalf("before: %d %s", a.status, a.code())
				}
			}
			execSQL(t, dsn, c.statement)
			ahead.Store(int64(5 * time.Second))
			for _, credential := range []string{cookie, token} {
				want := c.code
				if c.name == "user gone" && credential == token {
					want = "unknown_user"
				}
				if a := ask(credential); a.code() != want {
					t.Errorf("%.12s: %d %s; want %s", credential, a.status, a.code(), want)
				}
			}
		})
	}
}

// TestAReloadLeavesNoCredentialBehind: CACHE-2. What a configuration no longer accepts is refused at once, whatever was
// remembered under the one before; what it names anew is not granted by what was cached.
func TestAReloadLeavesNoCredentialBehind(t *testing.T) {
	w, _ := newWorld(t, byName)
	session, access := signIn(t, w, "both"), bearer(t, w, "both", hour, nil)
	ask := func(path, credential string) answer {
		return first(t, send(t, w.Addr, head("GET "+path+" HTTP/1.1", "Host: localhost", credential)))
	}
	cookie, token := "Cookie: "+sessionName+"="+session, "Authorization: Bearer "+access
	at := "/t/" + alpha.id()
	for _, credential := range []string{cookie, token} {
		if a := ask(at+"/x", credential); a.status != 200 {
			t.Fatalf("before: %d %s", a.status, a.code())
		}
	}
	change := func(f func(c *config.Config)) {
		t.Helper()
		c := *w.Config
		c.Identity.Providers = slices.Clone(c.Identity.Providers)
		c.Routes = slices.Clone(c.Routes)
		f(&c)
		if err := w.Gate.Reload(t.Context(), &c); err != nil {
			t.Fatal(err)
		}
	}
	change(func(c *config.Config) { c.Identity.Providers[0].Bearer.Audiences = []string{"https://another.test"} })
	if a := ask(at+"/x", token); a.code() != "invalid_token" {
		t.Errorf("another audience: %d %s", a.status, a.code())
	}
	change(func(c *config.Config) { c.Identity.Providers[0].Bearer.Audiences = nil })
	if a := ask(at+"/x", token); a.code() != "unauthenticated" {
		t.Errorf("no audience: %d %s", a.status, a.code())
	}
	change(func(c *config.Config) { c.Identity.Providers[0].Bearer.Algorithms = []string{"RS256"} })
	if a := ask(at+"/x", token); a.code() != "invalid_token" {
		t.Errorf("another algorithm: %d %s", a.status, a.code())
	}
	change(func(c *config.Config) { c.Identity.Providers[0].SubjectPrefix = "other:" })
	if a := ask(at+"/x", token); a.code() != "unknown_user" {
		t.Errorf("another prefix: %d %s", a.status, a.code())
	}
	change(func(c *config.Config) {
		c.Roles = []string{"member", "owner", "root"}
		c.Routes = []router.RouteConfig{{Path: "/", MinRole: "root", Upstream: "app"}}
	})
	if a := ask(at+"/x", cookie); a.code() != "role_required" {
		t.Errorf("another role: %d %s", a.status, a.code())
	}
	change(func(c *config.Config) { c.Tenants.Resolve = []string{"header"} })
	if a := ask(at+"/x", cookie); a.code() != "tenant_required" {
		t.Errorf("no paths: %d %s", a.status, a.code())
	}
	// A faulty one changes nothing.
	bad := *w.Config
	bad.Routes = []router.RouteConfig{{Path: "/", Access: "everybody", Upstream: "app"}}
	if err := w.Gate.Reload(t.Context(), &bad); err == nil {
		t.Error("a configuration with a fault was taken")
	}
	if a := ask(at+"/x", cookie); a.code() != "tenant_required" {
		t.Errorf("after a faulty configuration: %d %s", a.status, a.code())
	}
	change(func(*config.Config) {})
	if a := ask(at+"/x", cookie); a.status != 200 {
		t.Errorf("as before: %d %s", a.status, a.code())
	}
}

// TestRequestsUnderAReloadAreOnesOwn: CACHE-2, SF-1. While configurations change under way, each request gets the
// answer of its own user and tenant.
func TestRequestsUnderAReloadAreOnesOwn(t *testing.T) {
	w, _ := newWorld(t, byName)
	sessions := map[string]string{"onlya": signIn(t, w, "onlya"), "both": signIn(t, w, "both"), "stranger": signIn(t, w, "stranger")}
	done := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := w.Gate.Reload(t.Context(), w.Config); err != nil {
				t.Errorf("reload: %v", err)
				return
			}
		}
	}()
	results := make(chan error, 60)
	for actor, session := range sessions {
		for _, s := range []tenantSeed{alpha, beta} {
			c := client(t, w)
			c.Jar = nil
			go func() {
				for range 60 {
					req, _ := http.NewRequestWithContext(t.Context(), "GET", w.URL+"/t/"+s.id()+"/x", http.NoBody)
					req.Header.Set("Cookie", sessionName+"="+session)
					a := do(t, c, req)
					member := containsSeed(memberOf[actor], s)
					if member && (a.status != 200 || !strings.Contains(a.body, s.uri()) || !strings.Contains(a.body, `"`+string(userID(actor))+`"`)) || !member && a.code() != "no_access" {
						results <- fmt.Errorf("%s in %s: %d %s", actor, s.mark, a.status, a.body)
						return
					}
				}
				results <- nil
			}()
		}
	}
	for range 2 * len(sessions) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	close(done)
	<-finished
}

// TestAWrittenSessionTenantIsNoName: a session's choice does not outlive the membership that it was made under, nor does
// it beat what the request itself names (TEN-2).
func TestAWrittenSessionTenantIsNoName(t *testing.T) {
	w, dsn := newWorld(t, bySession)
	token := signIn(t, w, "both")
	if err := w.Gate.Host().Sessions.SetTenant(t.Context(), catalog.SessionID(sessionID(t, token)), catalog.TenantID(alpha.id())); err != nil {
		t.Fatal(err)
	}
	reload(t, w)
	ask := func(fields ...string) answer {
		return first(t, send(t, w.Addr, head("GET /x HTTP/1.1", append(fields, "Host: localhost", "Cookie: "+sessionName+"="+token)...)))
	}
	if a := ask(); a.status != 200 || !strings.Contains(a.body, alpha.uri()) {
		t.Fatalf("the choice: %d %s", a.status, a.code())
	}
	if a := ask("X-Tenant: " + beta.id()); a.status != 200 || !strings.Contains(a.body, beta.uri()) || strings.Contains(a.body, alpha.mark) {
		t.Errorf("named besides: %d %s", a.status, a.code())
	}
	if a := ask("X-Tenant: " + laps.id()); a.code() != "no_access" {
		t.Errorf("a foreign tenant named besides: %d %s", a.status, a.code())
	}
	if a := ask("X-Gate-Tenant: " + beta.id()); a.code() != "tenant_changed" {
		t.Errorf("a page of another tenant: %d %s", a.status, a.code())
	}
	execSQL(t, dsn, "DELETE FROM core_memberships WHERE user_id = 'uid-both' AND tenant_id = '"+alpha.id()+"'")
	reload(t, w)
	if a := ask(); a.code() != "no_access" {
		t.Errorf("the choice without its membership: %d %s", a.status, a.code())
	}
}

// TestClosingUnderLoadLetsNothingThrough: FAIL-1. While a gate closes, requests are served as before or refused; none is
// let through without having been judged, and nothing panics.
func TestClosingUnderLoadLetsNothingThrough(t *testing.T) {
	for _, middleware := range []bool{false, true} {
		w, cookie := func() (*gatetest.World, string) {
			dsn := sqliteURL(t)
			seed(t, dsn)
			w := gate(t, gatetest.Options{HostURL: dsn, App: http.HandlerFunc(echo), Middleware: middleware, Configure: func(c *config.Config) {
				byName(c)
				c.Cache.TTL = new(time.Duration(0))
			}})
			return w, sessionName + "=" + signIn(t, w, "onlya")
		}()
		results := make(chan string, 400)
		begun := make(chan struct{}, 400)
		for i := range 4 {
			c := client(t, w)
			c.Jar = nil
			go func() {
				for range 100 {
					tenant := []tenantSeed{alpha, beta}[i%2]
					req, _ := http.NewRequestWithContext(t.Context(), "GET", w.URL+"/t/"+tenant.id()+"/x", http.NoBody)
					req.Header.Set("Cookie", cookie)
					a := do(t, c, req)
					begun <- struct{}{}
					switch {
					case a.status == 200 && i%2 == 0 && strings.Contains(a.body, alpha.uri()), a.code() == "no_access" && i%2 == 1, a.status == 503:
						results <- ""
					default:
						results <- fmt.Sprintf("%s: %d %s", tenant.mark, a.status, a.text())
					}
				}
			}()
		}
		for range 50 {
			<-begun
		}
		reloading := make(chan struct{})
		go func() { // until the gate takes no more
			defer close(reloading)
			for w.Gate.Reload(t.Context(), w.Config) == nil {
				continue
			}
		}()
		if err := w.Gate.Close(); err != nil {
			t.Error(err)
		}
		<-reloading
		for range 400 {
			if fault := <-results; fault != "" {
				t.Error(fault)
			}
		}
		if err := w.Gate.Reload(t.Context(), w.Config); err == nil {
			t.Error("a closed gate took a configuration")
		}
	}
}
