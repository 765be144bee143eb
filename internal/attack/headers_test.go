package attack

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/router"
)

// evil is in every value that an attacker sends; no byte of it may reach the app.
const evil = "eViL7"

// Names that a client must never set, as the contract writes them. x-org and remote_user are renames of the second
// configuration. Prefixes are tried with names of the attacker's own.
var protectedNames = []string{
	"X-Tenant-Id", "X-Tenant-Db-Uri", "X-Tenant-Plan", "X-Tenant-Features", "X-Subscription-Status", "X-User-Id",
	"X-User-Email", "X-User-Role", "X-User-Profile-Id", "X-Gate-Assertion", "X-Gate-Code", "X-Gate-Forward-Secret",
	"X-Tenant-Whatever", "X-User-Whatever", "X-Subscription-Whatever", "X-Gate-Whatever", "X-Tenant-", "X-User-", "X-Gate-",
	"X-Tenant-Id-", "X-User-" + strings.Repeat("a", 80),
	"X-Request-Id", "Traceparent", "Tracestate", "Forwarded", "X-Real-Ip", "X-Forwarded-For", "X-Forwarded-Host",
	"X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Forwarded-Port", "X-Forwarded-Uri", "X-Forwarded-Method", "X-Original-Url",
	"X-Original-Method", "X-Rewrite-Url", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override",
}

// renamedNames are protected where forward.headers renames to them; the longest is as long as the configuration permits.
var renamedNames = []string{"X-Org", "X-Person", "X-" + strings.Repeat("Long-", 12) + "Na"}

func renamed(c *config.Config) {
	byName(c)
	c.Forward.Headers = map[string]string{"tenant_id": renamedNames[0], "user_id": renamedNames[1], "user_email": renamedNames[2]}
}

// separators that app servers may fold "-" with: every byte of a field name (RFC 9110 5.6.2) that is no letter or digit.
const separators = "!#$%&'*+.^_`|~"

// spellings of a name that fold to it: in every case, and with every separator in every place or all of them.
func spellings(name string) []string {
	list := []string{name, strings.ToLower(name), strings.ToUpper(name), toggled(name)}
	for _, sep := range strings.Split(separators, "") {
		list = append(list, strings.ReplaceAll(name, "-", sep), strings.ToLower(strings.ReplaceAll(name, "-", sep)))
		if sep != "_" && sep != "." {
			continue
		}
		for at := range name {
			if name[at] == '-' {
				list = append(list, name[:at]+sep+name[at+1:])
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func toggled(s string) string {
	b := []byte(s)
	for i := range b {
		if i%2 == 0 {
			b[i] = strings.ToLower(s)[i]
		} else {
			b[i] = strings.ToUpper(s)[i]
		}
	}
	return string(b)
}

// attackFields are the protected names in all spellings, each with an evil value of its own, some doubled.
func attackFields(names []string) []string {
	var list []string
	for _, name := range names {
		for i, s := range spellings(name) {
			list = append(list, s+": "+evil+s)
			if i%5 == 0 {
				list = append(list, s+":", s+": "+evil+"-twice, "+evil)
			}
		}
	}
	return list
}

// rigged is a gate in front of an app that keeps every byte, with routes of every access.
type rigged struct {
	*gatetest.World
	app    *rawApp
	cookie string
	bearer string
}

func routesOfEveryAccess(c *config.Config) {
	c.Routes = []router.RouteConfig{
		{Path: "/public/", Access: "public", Upstream: "app"},
		{Path: "/user/", Access: "user", Upstream: "app"},
		{Path: "/", Upstream: "app"},
	}
}

func newRigged(t *testing.T, configure func(*config.Config)) *rigged {
	t.Helper()
	app := newRawApp(t)
	dsn := sqliteURL(t)
	seed(t, dsn)
	w := gate(t, gatetest.Options{HostURL: dsn, Configure: app.behind(func(c *config.Config) {
		routesOfEveryAccess(c)
		configure(c)
	})})
	return &rigged{World: w, app: app, cookie: signIn(t, w, "both"), bearer: bearer(t, w, "both", hour, nil)}
}

// routesOf what is asked for on each: path, credential, tenant that the app must be told of.
type visit struct {
	name, path, credential string
	tenant                 *tenantSeed
	user                   bool
}

func (r *rigged) visits() []visit {
	cookie, token := "Cookie: "+sessionName+"="+r.cookie, "Authorization: Bearer "+r.bearer
	inAlpha := "/t/" + alpha.id()
	return []visit{
		{"tenant route by cookie", inAlpha + "/x", cookie, &alpha, true},
		{"tenant route by bearer", inAlpha + "/x", token, &alpha, true},
		{"user route with a tenant", inAlpha + "/user/x", cookie, &alpha, true},
		{"user route without a tenant", "/user/x", cookie, nil, true},
		{"user route with a foreign tenant", "/t/" + susp.id() + "/user/x", cookie, nil, true},
		{"public route, nobody", "/public/x", "Accept: */*", nil, false},
		{"public route, signed in", "/public/x", cookie, nil, false},
		{"public route below a tenant", inAlpha + "/public/x", token, nil, false},
	}
}

// ownFields are the names under which the app is told something, folded, with what it must be told.
func (v visit) ownFields() map[string]string {
	fields := map[string]string{}
	if v.user {
		fields["X_USER_ID"], fields["X_USER_EMAIL"], fields["X_GATE_ASSERTION"] = "uid-both", "both@people.test", "*"
	}
	if s := v.tenant; s != nil {
		fields["X_TENANT_ID"], fields["X_TENANT_DB_URI"], fields["X_TENANT_PLAN"] = s.id(), s.uri(), s.plan()
		fields["X_TENANT_FEATURES"], fields["X_SUBSCRIPTION_STATUS"] = s.feature(), "active"
		fields["X_USER_ROLE"], fields["X_USER_PROFILE_ID"] = "owner", s.profile("both")
	}
	return fields
}

// assertOwnFields: of the names that are ours by any folding, the app got exactly those of the visit, each once, each
// with its true value.
func (v visit) assertOwnFields(t *testing.T, what string, got received, renames map[string]string) {
	t.Helper()
	if strings.Contains(strings.ToLower(got.raw), strings.ToLower(evil)) {
		for _, f := range append(got.fields, got.trailers...) {
			if strings.Contains(strings.ToLower(f), strings.ToLower(evil)) {
				t.Errorf("%s, %s: the app received %q", v.name, what, f)
			}
		}
	}
	want := v.ownFields()
	for from, to := range renames {
		if value, ok := want[from]; ok {
			want[to] = value
			delete(want, from)
		}
	}
	seen := map[string]int{}
	for _, f := range got.fields {
		name, value, _ := strings.Cut(f, ":")
		folded := fold(name)
		ours := strings.HasPrefix(folded, "X_TENANT_") || strings.HasPrefix(folded, "X_USER_") || strings.HasPrefix(folded, "X_GATE_") ||
			strings.HasPrefix(folded, "X_SUBSCRIPTION_") || folded == "X_TENANT"
		expected, known := want[folded]
		if !ours && !known {
			continue
		}
		seen[folded]++
		if value = strings.TrimSpace(value); !known || expected != "*" && value != expected {
			t.Errorf("%s, %s: the app received %q; want %q", v.name, what, f, expected)
		}
	}
	for name := range want {
		if seen[name] != 1 {
			t.Errorf("%s, %s: the app received %s %d times", v.name, what, name, seen[name])
		}
	}
	if len(got.trailers) > 0 {
		t.Errorf("%s, %s: the app received trailers %q (TRL-1)", v.name, what, got.trailers)
	}
	assertHopFields(t, v.name+", "+what, got)
}

// assertHopFields: FWD-1, FWD-2. What hops say of themselves is there once at most and rebuilt by the gate.
func assertHopFields(t *testing.T, what string, got received) {
	t.Helper()
	for _, f := range []struct{ name, want string }{
		{"X-Forwarded-For", "127.0.0.1"}, {"X-Real-Ip", "127.0.0.1"}, {"X-Forwarded-Proto", "http"}, {"X-Request-Id", ""}, {"Traceparent", ""},
	} {
		if v := got.values(f.name); len(v) != 1 || f.want != "" && v[0] != f.want {
			t.Errorf("%s: the app received %s %q", what, f.name, v)
		}
	}
	if v := got.values("Forwarded"); len(v) > 0 {
		t.Errorf("%s: the app received Forwarded %q", what, v)
	}
}

// one sends raw and returns the one request that the app got for it.
func (r *rigged) one(t *testing.T, what, raw string) (received, bool) {
	t.Helper()
	r.app.take()
	a := first(t, send(t, r.Addr, raw))
	got := r.app.take()
	if len(got) != 1 || a.status != 200 {
		t.Errorf("%s: answered %d %s, the app received %d requests", what, a.status, a.body, len(got))
		return received{}, false
	}
	return got[0], true
}

// TestNoSpellingOfOurHeadersReachesTheApp: HDR-1, HDR-2, HDR-3, HDR-4, FWD-1, FWD-2, METH-1 on every kind of route.
func TestNoSpellingOfOurHeadersReachesTheApp(t *testing.T) {
	r := newRigged(t, byName)
	fields := attackFields(protectedNames)
	// X-Tenant in another spelling is no name of a tenant and reaches nobody; exactly spelled it is read.
	for _, s := range spellings("X-Tenant") {
		if !strings.EqualFold(s, "X-Tenant") {
			fields = append(fields, s+": "+evil)
		}
	}
	for _, v := range r.visits() {
		// All at once, and in parts that fit any server's limit.
		for part := range slices.Chunk(fields, 250) {
			raw := head("GET "+v.path+" HTTP/1.1", slices.Concat([]string{"Host: localhost"}, part, []string{v.credential})...)
			if got, ok := r.one(t, v.name, raw); ok {
				v.assertOwnFields(t, "header", got, nil)
			}
		}
		raw := head("GET "+v.path+" HTTP/1.1", slices.Concat([]string{"Host: localhost", v.credential}, fields)...)
		if got, ok := r.one(t, v.name, raw); ok {
			v.assertOwnFields(t, "all headers at once", got, nil)
		}
	}
}

// TestRenamedHeadersAreProtectedToo: HDR-1 for forward.headers; the old names stay protected.
func TestRenamedHeadersAreProtectedToo(t *testing.T) {
	r := newRigged(t, renamed)
	renames := map[string]string{"X_TENANT_ID": fold(renamedNames[0]), "X_USER_ID": fold(renamedNames[1]), "X_USER_EMAIL": fold(renamedNames[2])}
	fields := attackFields(append(slices.Clone(renamedNames), "X-Tenant-Id", "X-User-Id", "X-User-Email"))
	for _, v := range r.visits() {
		for _, credentialFirst := range []bool{true, false} {
			all := slices.Concat([]string{"Host: localhost"}, fields)
			at := len(all)
			if credentialFirst {
				at = 0
			}
			if got, ok := r.one(t, v.name, head("GET "+v.path+" HTTP/1.1", slices.Insert(all, at, v.credential)...)); ok {
				v.assertOwnFields(t, "renamed header", got, renames)
			}
		}
	}
}

// TestConnectionRemovesNothingOfOurs: HOP-1, in any case, in lists, doubled, beside close and upgrade.
func TestConnectionRemovesNothingOfOurs(t *testing.T) {
	r := newRigged(t, byName)
	var everything []string
	for _, name := range protectedNames {
		everything = append(everything, name, strings.ToLower(name), strings.ToUpper(name))
	}
	attacks := map[string][]string{
		"one":        {"Connection: X-Tenant-Id"},
		"lower":      {"connection: x-tenant-id, x-tenant-db-uri"},
		"upper":      {"CONNECTION: X-USER-ID,X-USER-ROLE"},
		"several":    {"Connection: X-Tenant-Id", "Connection: x-user-id", "Connection: X-Gate-Assertion"},
		"lists":      {"Connection: keep-alive, , X-Tenant-Id ,\tX-User-Id"},
		"everything": {"Connection: " + strings.Join(everything, ", ")},
		"proxy":      {"Proxy-Connection: X-Tenant-Id", "Keep-Alive: X-Tenant-Id", "TE: X-Tenant-Id", "Connection: TE, X-Tenant-Id"},
		"connection": {"Connection: Connection, X-Tenant-Id"},
		"with value": {"Connection: X-Tenant-Id", "X-Tenant-Id: " + evil},
		"forwarded":  {"Connection: X-Forwarded-For, X-Forwarded-Proto, X-Real-Ip, X-Request-Id, Traceparent, Host"},
		"credential": {"Connection: Cookie, Authorization"},
	}
	for _, v := range r.visits() {
		for name, fields := range attacks {
			if got, ok := r.one(t, v.name+", "+name, head("GET "+v.path+" HTTP/1.1", slices.Concat([]string{"Host: localhost", v.credential}, fields)...)); ok {
				v.assertOwnFields(t, "Connection "+name, got, nil)
				if n := got.values("Connection"); len(n) > 0 && !strings.EqualFold(n[0], "keep-alive") {
					t.Errorf("%s, %s: the app received Connection %q", v.name, name, n)
				}
			}
		}
	}
}

// TestTrailersReachNobody: TRL-1. Announced or not, in any spelling, request trailers are dropped.
func TestTrailersReachNobody(t *testing.T) {
	r := newRigged(t, byName)
	var announced, trailers []string
	for _, name := range []string{"X-Tenant-Id", "X-User-Id", "X-Gate-Assertion", "X-Tenant-Db-Uri", "X-Other"} {
		announced = append(announced, name)
		for _, s := range spellings(name) {
			trailers = append(trailers, s+": "+evil)
		}
	}
	for _, v := range r.visits() {
		for _, trailer := range []string{"Trailer: " + strings.Join(announced, ", "), "trailer: x-tenant-id", "X-Nothing: announced"} {
			raw := head("POST "+v.path+" HTTP/1.1", "Host: localhost", v.credential, trailer, "Transfer-Encoding: chunked") +
				"3\r\nabc\r\n0\r\n" + strings.Join(trailers, "\r\n") + "\r\n\r\n"
			got, ok := r.one(t, v.name, raw)
			if !ok {
				continue
			}
			v.assertOwnFields(t, trailer, got, nil)
			if got.body != "abc" {
				t.Errorf("%s: body %q", v.name, got.body)
			}
			if n := got.values("Trailer"); len(n) > 0 {
				t.Errorf("%s: the app received Trailer %q", v.name, n)
			}
		}
	}
}

// TestMalformedNamesReachNobody: names that are no tokens are refused before anything is decided (HDR-1, SMUG-1).
func TestMalformedNamesReachNobody(t *testing.T) {
	r := newRigged(t, byName)
	v := r.visits()[0]
	for _, field := range []string{
		"X-Tenant Id: " + evil, "X-Tenant-Id : " + evil, "X-Tenant-Id\t: " + evil,
		"X-Tenant-Id\x00: " + evil, "X-Tenant\x0b-Id: " + evil, "X-Tenant-Id\xa0: " + evil, "X\u2010Tenant\u2010Id: " + evil,
		": " + evil, "X-Tenant-Id", "X-Ten(ant-Id: " + evil, "X-Tenant-Id: a\x00" + evil, "X-Tenant-Id: a\r" + evil,
		"\"X-Tenant-Id\": " + evil, "X-Tenant-Id;: " + evil, "X-Tenant/Id: " + evil, "{X-Tenant-Id}: " + evil,
	} {
		r.app.take()
		a := first(t, send(t, r.Addr, head("GET "+v.path+" HTTP/1.1", "Host: localhost", v.credential, "Accept: */*", field)))
		if got := r.app.take(); a.status != 400 || len(got) > 0 {
			t.Errorf("%q: %d, and the app received %q", field, a.status, got)
		}
	}
	// A folded line (RFC 9112 5.2) is a part of the value before it, made one line.
	for _, fold := range []string{" ", "\t", " \t "} {
		got, ok := r.one(t, "folded", head("GET "+v.path+" HTTP/1.1", "Host: localhost", v.credential, "Accept: a", fold+"X-Tenant-Id: b"))
		if ok {
			v.assertOwnFields(t, "folded", got, nil)
			if accept := got.values("Accept"); len(accept) != 1 || accept[0] != "a X-Tenant-Id: b" {
				t.Errorf("the app received Accept %q", accept)
			}
		}
	}
}

// TestHeadersOverHTTP2: HDR-1, TRL-1 over HTTP/2, where names travel in lower case and trailers without announcement.
func TestHeadersOverHTTP2(t *testing.T) {
	r := newRigged(t, byName)
	addr := serveHTTP2(t, r.Gate.Handler())
	tr := http2Transport()
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr, Timeout: patience}
	for _, v := range r.visits() {
		for part := range slices.Chunk(attackFields(protectedNames), 300) {
			body := io.MultiReader(strings.NewReader("abc"))
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+v.path, body)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = "localhost"
			k, value, _ := strings.Cut(v.credential, ": ")
			req.Header.Set(k, value)
			req.Trailer = http.Header{}
			for _, f := range part {
				name, value, _ := strings.Cut(f, ":")
				req.Header[strings.ToLower(name)] = append(req.Header[strings.ToLower(name)], strings.TrimSpace(value))
				if name != "" {
					req.Trailer[name] = []string{strings.TrimSpace(value)}
				}
			}
			r.app.take()
			a := do(t, c, req)
			got := r.app.take()
			if a.status != 200 || len(got) != 1 {
				t.Errorf("%s: %d %s, the app received %d requests", v.name, a.status, a.body, len(got))
				continue
			}
			v.assertOwnFields(t, "HTTP/2", got[0], nil)
		}
	}
}

// serveHTTP2 serves h in clear-text HTTP/2.
func serveHTTP2(t testing.TB, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		Handler: h, Protocols: new(http.Protocols), ReadHeaderTimeout: patience, DisableGeneralOptionsHandler: true,
		ErrorLog: log.New(io.Discard, "", 0), // it tells of every connection that an attack ends
	}
	s.Protocols.SetUnencryptedHTTP2(true)
	s.Protocols.SetHTTP1(true)
	var conns sync.WaitGroup // net/http lingers for a second over a connection that it ends
	s.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			conns.Add(1)
		case http.StateClosed, http.StateHijacked:
			conns.Done()
		}
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
		conns.Wait()
	})
	return l.Addr().String()
}

func http2Transport() *http.Transport {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	return tr
}

// TestMiddlewareStripsLikeTheProxy: HDR-1, HOP-1, TRL-1, PATH-2 for an app in the gate's process.
func TestMiddlewareStripsLikeTheProxy(t *testing.T) {
	dsn := sqliteURL(t)
	seed(t, dsn)
	w := gate(t, gatetest.Options{HostURL: dsn, App: http.HandlerFunc(echo), Middleware: true, Configure: func(c *config.Config) {
		routesOfEveryAccess(c)
		byName(c)
	}})
	r := &rigged{World: w, cookie: signIn(t, w, "both"), bearer: bearer(t, w, "both", hour, nil)}
	fields := append(attackFields(protectedNames), "Connection: X-Tenant-Id, x-user-id", "Connection: X-Gate-Assertion, X-Forwarded-For")
	for _, v := range r.visits() {
		raw := head("POST "+v.path+" HTTP/1.1", slices.Concat([]string{"Host: localhost", v.credential}, fields,
			[]string{"Trailer: X-Tenant-Id", "Transfer-Encoding: chunked"})...) + "3\r\nabc\r\n0\r\nX-Tenant-Id: " + evil + "\r\nX-User-Id: " + evil + "\r\n\r\n"
		a := first(t, send(t, r.Addr, raw))
		var got echoed
		if err := json.Unmarshal([]byte(a.body), &got); a.status != 200 || err != nil {
			t.Errorf("%s: %d %s", v.name, a.status, a.body)
			continue
		}
		seen := received{raw: a.body}
		for name, values := range got.Header {
			for _, value := range values {
				seen.fields = append(seen.fields, name+": "+value)
			}
		}
		for name, values := range got.Trailer {
			seen.trailers = append(seen.trailers, fmt.Sprint(name, values))
		}
		v.assertOwnFields(t, "middleware", seen, nil)
		for _, c := range seen.values("Connection") {
			for token := range strings.SplitSeq(c, ",") {
				if f := fold(strings.TrimSpace(token)); strings.HasPrefix(f, "X_") {
					t.Errorf("%s: the app received Connection %q, which would make a proxy of its own drop our header (HOP-1)", v.name, c)
				}
			}
		}
		if want := strings.TrimPrefix(strings.TrimPrefix(v.path, "/t/"+alpha.id()), "/t/"+susp.id()); got.Path != want || got.URI != want {
			t.Errorf("%s: the app received path %q and target %q; %q was judged (PATH-2)", v.name, got.Path, got.URI, want)
		}
	}
}

// leakyAnswers hold what the app was told, under our names, in headers and in trailers, of which a server reads a few
// at a time.
func leakyAnswers() []string {
	var lines, cookies, answers []string
	for _, name := range []string{"X-Tenant-Id", "X-Tenant-Db-Uri", "X-User-Id", "X-Gate-Assertion", "X-Subscription-Status", "X-Tenant", "X-Gate-Whatever"} {
		for _, s := range spellings(name) {
			lines = append(lines, s+": "+evil)
		}
	}
	for _, name := range []string{
		"tg_session", "__Host-tg_session", "tg_admin", "__host-TG_SESSION", "tg_flow_x", "__Host-tg_flow_x", " tg_session", "=tg_session", "= __Host-tg_session",
	} {
		cookies = append(cookies, "Set-Cookie: "+name+"="+evil+"; Path=/")
	}
	answers = append(answers, "HTTP/1.1 200 OK\r\nX-Fine: fine\r\n"+strings.Join(append(cookies, lines...), "\r\n")+"\r\nContent-Length: 2\r\n\r\nok")
	for part := range slices.Chunk(lines, 80) {
		answers = append(answers, "HTTP/1.1 200 OK\r\nTrailer: X-Tenant-Id, x-tenant-db-uri, X-Fine-Trailer\r\nTransfer-Encoding: chunked\r\n\r\n"+
			"2\r\nok\r\n0\r\nX-Fine-Trailer: fine\r\n"+strings.Join(part, "\r\n")+"\r\n\r\n")
	}
	hint := "HTTP/1.1 103 Early Hints\r\nX-Tenant-Db-Uri: " + evil + "\r\nx_tenant_db_uri: " + evil + "\r\nX-Fine: fine\r\n\r\n"
	return append(answers, hint+hint+answers[0])
}

// TestOurNamesDoNotComeBack: LEAK-4. What an app answers under our names, in headers, trailers and informational
// responses, goes no further, nor do cookies of ours that it would set (SESS-1).
func TestOurNamesDoNotComeBack(t *testing.T) {
	r := newRigged(t, byName)
	h2 := serveHTTP2(t, r.Gate.Handler())
	tr := http2Transport()
	defer tr.CloseIdleConnections()
	for _, raw := range leakyAnswers() {
		name, _, _ := strings.Cut(raw, evil)
		r.app.says(raw)
		for _, v := range r.visits() {
			all := send(t, r.Addr, head("GET "+v.path+" HTTP/1.1", "Host: localhost", "TE: trailers", v.credential))
			if strings.Contains(all, evil) || !strings.Contains(all, "fine") {
				t.Errorf("%q, %s: the client received %q", name, v.name, all)
			}
			var hints []string
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				hints = append(hints, fmt.Sprint(code, h))
				return nil
			}})
			req := request(t, "GET", "http://"+h2+v.path).WithContext(ctx)
			req.Host = "localhost"
			k, value, _ := strings.Cut(v.credential, ": ")
			req.Header.Set(k, value)
			res, err := (&http.Client{Transport: tr, Timeout: patience}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if all := fmt.Sprint(hints, res.Header, string(body), res.Trailer); err != nil || strings.Contains(all, evil) {
				t.Errorf("%q, %s: over HTTP/2 the client received %s, %v", name, v.name, all, err)
			}
		}
	}
}

// TestOurNamesDoNotComeBackFromAMiddleware: LEAK-4 for an app in the gate's process, whether it ends well or panics.
func TestOurNamesDoNotComeBackFromAMiddleware(t *testing.T) {
	dsn := sqliteURL(t)
	seed(t, dsn)
	leak := func(h http.Header, prefix string) {
		for _, name := range []string{"X-Tenant-Db-Uri", "x_tenant_db_uri", "X.User.Id", "X-Gate-Assertion"} {
			h[prefix+name] = []string{evil}
		}
	}
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		leak(h, "")
		leak(h, http.TrailerPrefix)
		h.Add("Set-Cookie", "tg_session="+evil)
		h.Add("Set-Cookie", "=tg_session="+evil)
		h.Set("Trailer", "X-Tenant-Id")
		switch r.URL.Path {
		case "/panics":
			h.Set("X-Apps-Own", evil) // of an answer that never came
			panic("a value that nobody sees")
		case "/hints":
			w.WriteHeader(http.StatusEarlyHints)
			leak(h, "")
		case "/empty":
			return
		}
		_, _ = io.WriteString(w, "ok")
		_ = http.NewResponseController(w).Flush()
		leak(h, http.TrailerPrefix)
		h.Set("X-Tenant-Id", evil)
	})
	w := gate(t, gatetest.Options{HostURL: dsn, App: app, Middleware: true, Configure: byName})
	cookie := signIn(t, w, "onlya")
	addr := serveHTTP2(t, w.Gate.Middleware(app))
	tr := http2Transport()
	defer tr.CloseIdleConnections()
	for _, path := range []string{"/fine", "/panics", "/hints", "/empty"} {
		all := send(t, w.Addr, head("GET "+path+" HTTP/1.1", "Host: localhost", "TE: trailers", "Cookie: "+sessionName+"="+cookie))
		if strings.Contains(all, evil) {
			t.Errorf("%s: the client received %q", path, all)
		}
		req := request(t, "GET", "http://"+addr+path)
		req.Host = "localhost"
		req.Header.Set("Cookie", sessionName+"="+cookie)
		res, err := (&http.Client{Transport: tr, Timeout: patience}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if all := fmt.Sprint(res.Header, string(body), res.Trailer); err != nil || strings.Contains(all, evil) {
			t.Errorf("%s: over HTTP/2 the client received %s, %v", path, all, err)
		}
	}
}

// TestOwnCookiesAndConsumedTokensStayHere: LEAK-2. The app sees the client's other cookies byte for byte, and never ours.
func TestOwnCookiesAndConsumedTokensStayHere(t *testing.T) {
	r := newRigged(t, byName)
	flow := "tg_flow_AAAAAAAAAAAAAAAA"
	for _, v := range r.visits() {
		name, value, _ := strings.Cut(v.credential, ": ")
		for _, c := range []struct{ sent, want string }{
			{"a=1; " + sessionName + "=" + r.cookie + "; b=\"2; 3\"", `a=1; b="2; 3"`},
			{sessionName + "=" + r.cookie, ""},
			{"__Host-tg_session=" + evil + "; " + sessionName + "=" + r.cookie + ";z=9", "z=9"},
			{flow + "=" + evil + "; tg_admin=" + evil + "; " + sessionName + "=" + r.cookie + "; __Host-tg_admin=" + evil + "; c=3", "c=3"},
			{"atg_session=1; tg_sessionx=2; " + sessionName + "=" + r.cookie, "atg_session=1; tg_sessionx=2"},
		} {
			fields := []string{"Host: localhost", "Cookie: " + c.sent}
			if name == "Authorization" {
				fields = append(fields, v.credential)
			}
			got, ok := r.one(t, v.name, head("GET "+v.path+" HTTP/1.1", fields...))
			if !ok {
				continue
			}
			if strings.Contains(got.raw, r.cookie) || strings.Contains(got.raw, evil) {
				t.Errorf("%s: the app received a cookie of ours: %q", v.name, got.raw)
			}
			if cookies := strings.Join(got.values("Cookie"), "; "); cookies != c.want {
				t.Errorf("%s: the app received the cookies %q; want %q", v.name, cookies, c.want)
			}
			if v.user && name == "Authorization" && strings.Contains(got.raw, value) {
				t.Errorf("%s: the app received the token that was consumed", v.name)
			}
		}
	}
}

// TestHostileResponsesFailClosed: what an app answers that no client could read is a 502, and the connection is not
// used again (CONN-1).
func TestHostileResponsesFailClosed(t *testing.T) {
	r := newRigged(t, byName)
	v := r.visits()[0]
	for name, raw := range map[string]string{
		"no http":           "hello " + evil + "\r\n\r\nConnection: close",
		"bad status":        "HTTP/1.1 9" + evil + " OK\r\nConnection: close\r\n\r\n",
		"space in a name":   "HTTP/1.1 200 OK\r\nX-Tenant Db-Uri: " + evil + "\r\nConnection: close\r\n\r\n",
		"no colon":          "HTTP/1.1 200 OK\r\nX-Tenant-Db-Uri " + evil + "\r\nConnection: close\r\n\r\n",
		"two lengths":       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok" + evil,
		"unasked switching": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n" + evil + "Connection: close",
		"huge header":       "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat(evil, 3<<20) + "\r\nConnection: close\r\n\r\n",
		"1xx without end":   strings.Repeat("HTTP/1.1 103 Early Hints\r\nX-A: "+strings.Repeat(evil, 1000)+"\r\n\r\n", 200) + "Connection: close",
	} {
		r.app.answers(func(_ received, conn net.Conn, _ *bufio.Reader) string {
			_, _ = io.WriteString(conn, raw)
			return ""
		})
		all := send(t, r.Addr, head("GET "+v.path+" HTTP/1.1", "Host: localhost", v.credential))
		if name == "1xx without end" {
			if strings.Contains(all, "200 OK") {
				t.Errorf("%s: %.200q", name, all)
			}
			continue
		}
		want := 502
		if name == "space in a name" {
			want = 200 // net/http reads that leniently; the name is recognised and taken out
		}
		if a := first(t, all); a.status != want || strings.Contains(all, evil) {
			t.Errorf("%s: %d %.300q", name, a.status, all)
		}
		r.app.says(okAnswer)
		if a := first(t, send(t, r.Addr, head("GET "+v.path+" HTTP/1.1", "Host: localhost", v.credential))); a.status != 200 || a.body != "ok" {
			t.Errorf("after %s: %d %.300q", name, a.status, a.body)
		}
	}
}
