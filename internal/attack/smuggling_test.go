package attack

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
)

// smuggled is a request hidden in the bytes of another. It carries no credential of its own, so that an app that gets
// it got it unjudged.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\nX-Tenant-Id: " + evil + "\r\nConnection: close\r\n\r\n"

// TestNoRequestIsSmuggled: SMUG-1. However length and end of a request are written, the app gets one request, the one
// that was judged, or none.
func TestNoRequestIsSmuggled(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	v := r.visits()[0]
	n := strconv.Itoa(len(smuggled))
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled)
	post := func(fields ...string) string {
		return "POST " + v.path + " HTTP/1.1\r\nHost: localhost\r\n" + v.credential + "\r\n" + strings.Join(append(fields, "", ""), "\r\n")
	}
	attacks := map[string]string{
		"CL.0 body":               post("Content-Length: "+n) + smuggled,
		"CL.TE":                   post("Content-Length: 4", "Transfer-Encoding: chunked") + "0\r\n\r\n" + smuggled,
		"CL.TE long":              post("Content-Length: "+strconv.Itoa(5+len(smuggled)), "Transfer-Encoding: chunked") + "0\r\n\r\n" + smuggled,
		"TE.CL":                   post("Transfer-Encoding: chunked", "Content-Length: 4") + chunk,
		"two lengths":             post("Content-Length: 0", "Content-Length: "+n) + smuggled,
		"two lengths, list":       post("Content-Length: 0, "+n) + smuggled,
		"equal lengths":           post("Content-Length: "+n, "Content-Length: "+n) + smuggled,
		"negative length":         post("Content-Length: -1") + smuggled,
		"signed length":           post("Content-Length: +0") + smuggled,
		"hex length":              post("Content-Length: 0x0") + smuggled,
		"spaced length":           post("Content-Length: 0 0") + smuggled,
		"empty length":            post("Content-Length:") + smuggled,
		"huge length":             post("Content-Length: 99999999999999999999") + smuggled,
		"length _":                post("Content_Length: 0") + smuggled,
		"length before colon":     post("Content-Length : "+n) + smuggled,
		"length NUL":              post("Content-Length: \x000") + smuggled,
		"TE xchunked":             post("Transfer-Encoding: xchunked") + chunk,
		"TE chunked, x":           post("Transfer-Encoding: chunked, x") + chunk,
		"TE x, chunked":           post("Transfer-Encoding: x, chunked") + chunk,
		"TE identity":             post("Transfer-Encoding: identity") + chunk,
		"TE identity and CL":      post("Transfer-Encoding: identity", "Content-Length: 0") + chunk,
		"TE chunked twice":        post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + chunk,
		"TE chunked, identity":    post("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + chunk,
		"TE gzip, chunked":        post("Transfer-Encoding: gzip, chunked") + chunk,
		"TE with tab":             post("Transfer-Encoding:\tchunked", "Content-Length: 4") + chunk,
		"TE with VT":              post("Transfer-Encoding: \x0bchunked", "Content-Length: 4") + chunk,
		"TE before colon":         post("Transfer-Encoding : chunked", "Content-Length: 4") + chunk,
		"TE folded":               post("Transfer-Encoding:\r\n chunked", "Content-Length: 4") + chunk,
		"TE quoted":               post("Transfer-Encoding: \"chunked\"", "Content-Length: 4") + chunk,
		"TE upper":                post("TRANSFER-ENCODING: CHUNKED", "Content-Length: 4") + chunk,
		"TE _":                    post("Transfer_Encoding: chunked") + chunk,
		"TE empty":                post("Transfer-Encoding:", "Content-Length: 4") + chunk,
		"TE on HTTP/1.0":          strings.Replace(post("Transfer-Encoding: chunked", "Content-Length: 4"), "HTTP/1.1", "HTTP/1.0", 1) + chunk,
		"GET with a body":         strings.Replace(post("Content-Length: "+n), "POST", "GET", 1) + smuggled,
		"GET chunked":             strings.Replace(post("Transfer-Encoding: chunked"), "POST", "GET", 1) + chunk,
		"chunk extension":         post("Transfer-Encoding: chunked") + "5;a=b\r\nhello\r\n0\r\n\r\n" + smuggled,
		"chunk extension LF":      post("Transfer-Encoding: chunked") + "5;\nhello\r\n0\r\n\r\n" + smuggled,
		"chunk extension smuggle": post("Transfer-Encoding: chunked") + "2;\nxx\r\n" + fmt.Sprintf("%x", len(smuggled)) + "\r\n" + smuggled + "\r\n0\r\n\r\n",
		"chunk size LF":           post("Transfer-Encoding: chunked") + "5\nhello\n0\n\n" + smuggled,
		"chunk size CR":           post("Transfer-Encoding: chunked") + "5\rhello\r0\r\r" + smuggled,
		"chunk size huge":         post("Transfer-Encoding: chunked") + "fffffffffffffffff\r\nhello\r\n0\r\n\r\n" + smuggled,
		"chunk size sign":         post("Transfer-Encoding: chunked") + "+5\r\nhello\r\n0\r\n\r\n" + smuggled,
		"chunk size 0x":           post("Transfer-Encoding: chunked") + "0x5\r\nhello\r\n0\r\n\r\n" + smuggled,
		"chunk size space":        post("Transfer-Encoding: chunked") + " 5\r\nhello\r\n0 \r\n\r\n" + smuggled,
		"chunk too long":          post("Transfer-Encoding: chunked") + "3\r\nhello\r\n0\r\n\r\n" + smuggled,
		"chunk end bare":          post("Transfer-Encoding: chunked") + "5\r\nhello\n0\r\n\r\n" + smuggled,
		"trailer smuggle":         post("Transfer-Encoding: chunked") + "0\r\nX: y\r\nContent-Length: 100\r\n\r\n" + smuggled,
		"bare LF":                 strings.ReplaceAll(post("Content-Length: 0"), "\r\n", "\n") + smuggled,
		"bare LF in a value":      post("X-A: b\nContent-Length: "+n) + smuggled,
		"bare CR in a value":      post("X-A: b\rContent-Length: "+n) + smuggled,
		"LF LF":                   post("X-A: b\n") + smuggled,
		"CRLF first":              "\r\n\r\n" + post("Content-Length: 0") + smuggled,
		"expect":                  post("Expect: 100-continue", "Content-Length: "+n) + smuggled,
		"expect other":            post("Expect: 200-ok", "Content-Length: "+n) + smuggled,
		"no length at all":        post() + smuggled,
		"target with a request":   "GET " + v.path + "%0d%0aHost:%20x HTTP/1.1\r\nHost: localhost\r\n" + v.credential + "\r\n\r\n" + smuggled,
		"version twice":           "GET " + v.path + " HTTP/1.1\r\nHost: localhost\r\n" + v.credential + "\r\nGET /smuggled HTTP/1.1\r\nConnection: close\r\n\r\n",
		"obs-fold of the cookie":  "GET " + v.path + " HTTP/1.1\r\nHost: localhost\r\n" + v.credential + ";\r\n a=b\r\n\r\n" + smuggled,
	}
	// Each attack has a path of its own. What the gate itself takes for a second request it judges, and answers 401.
	target, names := map[string]string{}, slices.Sorted(maps.Keys(attacks))
	for i, name := range names {
		path := fmt.Sprint("/x", i)
		target[path] = name
		all := sendAll(t, r.Addr, strings.Replace(attacks[name], v.path, strings.TrimSuffix(v.path, "/x")+path, 1))
		if strings.Contains(all, evil) {
			t.Errorf("%s: the client received %q", name, all)
		}
	}
	r.app.close() // and so has seen the end of each
	times := map[string]int{}
	for _, g := range r.app.take() {
		name, known := target[g.target()]
		if times[name]++; !known || times[name] > 1 || strings.Contains(strings.Join(g.fields, "\n"), evil) {
			t.Errorf("%s: the app received %q", name, g.raw)
		}
		v.assertSmugglingFields(t, name, g)
	}
	for _, name := range []string{"CL.0 body", "TE upper", "chunk extension", "no length at all", "GET with a body"} {
		if times[name] != 1 {
			t.Errorf("%s is no attack, and the app received it %d times", name, times[name])
		}
	}
}

// assertSmugglingFields: what the app got has one length at most, and says it in one way.
func (v visit) assertSmugglingFields(t *testing.T, name string, got received) {
	t.Helper()
	length, coding := got.values("Content-Length"), got.values("Transfer-Encoding")
	if len(length)+len(coding) > 1 || len(coding) == 1 && coding[0] != "chunked" || len(got.values("Host")) != 1 {
		t.Errorf("%s: the app received lengths %q and codings %q: %q", name, length, coding, got.fields)
	}
}

// TestPipelinedRequestsAreJudgedEach: CONN-1, SMUG-1. On one connection each request has its own credential, its own
// tenant and its own answer, also where the app leaves bodies unread or ends connections.
func TestPipelinedRequestsAreJudgedEach(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	cookie := "Cookie: " + sessionName + "=" + r.cookie
	r.app.answers(func(got received, _ net.Conn, _ *bufio.Reader) string {
		body := strings.Join(got.values("X-Tenant-Id"), ",") + " " + got.body
		return "HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	})
	ask := func(tenant tenantSeed, body, more string) string {
		return "POST /t/" + tenant.id() + "/x HTTP/1.1\r\nHost: localhost\r\n" + more + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	}
	raw := ask(alpha, "1", cookie+"\r\n") + ask(beta, "2", cookie+"\r\n") + ask(alpha, "3", "") + ask(susp, "4", cookie+"\r\n") +
		ask(beta, smuggled, cookie+"\r\n") + ask(alpha, "6", cookie+"\r\nConnection: close\r\n")
	br := bufio.NewReader(strings.NewReader(send(t, r.Addr, raw)))
	for i, want := range []string{alpha.id() + " 1", beta.id() + " 2", "unauthenticated", "no_access", beta.id() + " " + smuggled, alpha.id() + " 6"} {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i+1, err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("answer %d: %q, %v; want %q", i+1, body, err, want)
		}
	}
}

// TestUnreadBodiesSpoilNothing: CONN-1. An app that answers before it has read the body, and hangs up, leaves neither
// connection in a state in which the rest of the body is taken for a request.
func TestUnreadBodiesSpoilNothing(t *testing.T) {
	for _, middleware := range []bool{false, true} {
		t.Run(fmt.Sprint("middleware ", middleware), func(t *testing.T) {
			dsn := sqliteURL(t)
			seed(t, dsn)
			reached := make(chan string, 1000)
			app := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				reached <- q.Method + " " + q.URL.Path
				if q.URL.Path == "/unread" {
					w.WriteHeader(http.StatusTeapot) // and the body stays where it is
				}
			})
			w := gate(t, gatetest.Options{HostURL: dsn, App: app, Middleware: middleware, Configure: byName})
			cookie := signIn(t, w, "onlya")
			for _, size := range []int{1, 100, 70_000, 300_000, 3_000_000} {
				body := strings.Repeat("x", size) + smuggled
				raw := "POST /unread HTTP/1.1\r\nHost: localhost\r\nCookie: " + sessionName + "=" + cookie + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body +
					head("GET /after HTTP/1.1", "Host: localhost", "Cookie: "+sessionName+"="+cookie)
				all := send(t, w.Addr, raw)
				if !strings.HasPrefix(all, "HTTP/1.1 418") && all != "" {
					t.Errorf("%d bytes: %.200q", size, all)
				}
				for len(reached) > 0 {
					if got := <-reached; got != "POST /unread" && got != "GET /after" {
						t.Errorf("%d bytes: the app received %s", size, got)
					}
				}
			}
		})
	}
}

// handshake is a WebSocket handshake with these fields besides.
func handshake(path string, fields ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		strings.Join(append(fields, "", ""), "\r\n")
}

const switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Tenant-Db-Uri: " + evil + "\r\nSet-Cookie: tg_session=" + evil + "\r\n\r\n"

// TestOnlyAWebSocketIsSwitchedTo: CONN-1. Whatever else is asked for, beside a WebSocket or instead, the app is not
// asked for it, and an app that switches to it unasked is refused: no request may travel where nobody judges it.
func TestOnlyAWebSocketIsSwitchedTo(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	v := r.visits()[0]
	var protocol string
	r.app.answers(func(got received, conn net.Conn, br *bufio.Reader) string {
		protocol = strings.Join(got.values("Upgrade"), "+")
		if protocol == "" {
			return okAnswer
		}
		return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
	})
	for name, fields := range map[string][]string{
		"h2c":                  {"Upgrade: h2c"},
		"h2c with settings":    {"Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", "Connection: HTTP2-Settings"},
		"h2c, websocket":       {"Upgrade: h2c, websocket", "Origin: http://localhost"},
		"websocket, h2c":       {"Upgrade: websocket, h2c", "Origin: http://localhost"},
		"h2c before websocket": {"Upgrade: h2c", "Upgrade: websocket", "Origin: http://localhost"},
		"websocket before h2c": {"Upgrade: websocket", "Upgrade: h2c", "Origin: http://localhost"},
		"websocketh2c":         {"Upgrade: h2c-websocket", "Origin: http://localhost"},
		"TLS":                  {"Upgrade: TLS/1.0, HTTP/1.1"},
		"HTTP/2.0":             {"Upgrade: HTTP/2.0"},
		"connect-udp":          {"Upgrade: connect-udp", "Capsule-Protocol: ?1"},
		"empty":                {"Upgrade:"},
	} {
		for _, path := range []string{v.path, "/public/x"} {
			protocol = "none"
			a := first(t, send(t, r.Addr, handshake(path, append(fields, v.credential, "Connection: close")...)))
			if got := r.app.take(); len(got) != 1 || protocol != "" && protocol != "websocket" {
				t.Errorf("%s, %s: the app was asked for %q (%d requests)", name, path, protocol, len(got))
			}
			if a.status == http.StatusSwitchingProtocols {
				t.Errorf("%s, %s: switched", name, path)
			}
		}
	}
}

// TestHandshakesAreJudged: WS-2. A handshake by cookie is same-origin or refused, in every spelling that a server would
// take for one; by bearer token it is no browser's.
func TestHandshakesAreJudged(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	inAlpha := "/t/" + alpha.id() + "/x"
	cookie, token := "Cookie: "+sessionName+"="+r.cookie, "Authorization: Bearer "+r.bearer
	r.app.says(okAnswer)
	for _, c := range []struct {
		fields []string
		path   string
		code   string
	}{
		{[]string{"Upgrade: websocket", cookie, "Origin: http://localhost"}, inAlpha, ""},
		{[]string{"Upgrade: websocket", cookie, "Origin: http://localhost", "Sec-Fetch-Site: same-origin"}, inAlpha, ""},
		{[]string{"Upgrade: websocket", cookie}, inAlpha, "cross_origin"},
		{[]string{"Upgrade: websocket", cookie, "Origin: null"}, inAlpha, "cross_origin"},
		{[]string{"Upgrade: websocket", cookie, "Origin:"}, inAlpha, "cross_origin"},
		{[]string{"Upgrade: websocket", cookie, "Origin: http://evil.test"}, inAlpha, "cross_origin"},
		{[]string{"Upgrade: websocket", cookie, "Origin: http://localhost.evil.test"}, inAlpha, "cross_origin"},
		{[]string{"Upgrade: websocket", cookie, "Origin: http://localhost:8081"}, inAlpha, "cross_origin"},
		{[]string{"Upgrade: websocket", cookie, "Origin: http://evil@localhost"}, inAlpha, "cross_origin"},
		{[]string{"Upgrade: websocket", cookie, "Origin: http://localhost/"}, inAlpha, "cross_origin"},
		{[]string{"Upgrade: websocket", cookie, "Origin: http://localhost", "Origin: http://localhost"}, inAlpha, "cross_origin"},
		{[]string{"Upgrade: websocket", cookie, "Origin: http://localhost", "Sec-Fetch-Site: cross-site"}, inAlpha, "cross_origin"},
		{[]string{"Upgrade: websocket", cookie, "Origin: http://localhost", "Sec-Fetch-Site: same-site"}, inAlpha, "cross_origin"},
		{[]string{"Upgrade: websocket", cookie, "Sec-Fetch-Site: same-origin"}, inAlpha, "cross_origin"},
		{[]string{"Upgrade: WebSocket", cookie, "Origin: http://evil.test"}, inAlpha, "cross_origin"},
		{[]string{"Upgrade: foo, websocket", cookie, "Origin: http://evil.test"}, inAlpha, "cross_origin"},
		{[]string{"Upgrade: foo", "Upgrade: WEBSOCKET/13", cookie, "Origin: http://evil.test"}, inAlpha, "cross_origin"},
		{[]string{"upgrade:\twebsocket", cookie, "Origin: http://evil.test"}, "/t/" + alpha.id() + "/user/x", "cross_origin"},
		{[]string{"Upgrade: websocket", token}, inAlpha, ""},
		{[]string{"Upgrade: websocket", token, cookie, "Origin: http://evil.test"}, inAlpha, ""},
		{[]string{"Upgrade: websocket", "Origin: http://localhost"}, inAlpha, "unauthenticated"},
		{[]string{"Upgrade: websocket", cookie, "Origin: http://localhost"}, "/t/" + susp.id() + "/x", "no_access"},
		{[]string{"Upgrade: websocket", cookie, "Origin: http://localhost"}, "/t/" + alpha.id() + "/admin/x", "role_required"},
		{[]string{"Upgrade: websocket", "Origin: http://evil.test"}, "/public/x", ""},
	} {
		r.app.take()
		a := first(t, send(t, r.Addr, handshake(c.path, append(c.fields, "Connection: close")...)))
		if got := r.app.take(); a.code() != c.code || (len(got) == 1) != (c.code == "") {
			t.Errorf("%s %q: %d %s, the app received %v; want %q", c.path, c.fields, a.status, a.code(), lines(got), c.code)
		}
	}
}

// TestNothingIsSentBeforeTheHandshakesEnd: WS-1. Bytes behind the handshake do not reach the app before it has agreed,
// nor after as if they were the client's; what follows passes in both directions.
func TestNothingIsSentBeforeTheHandshakesEnd(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	v := r.visits()[0]
	early := make(chan string, 1)
	agree := true
	r.app.answers(func(got received, conn net.Conn, br *bufio.Reader) string {
		if !agree {
			return "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
		}
		_, _ = io.WriteString(conn, switched)
		line, err := br.ReadString('\n')
		early <- fmt.Sprintf("%s %v", line, err)
		_, _ = io.WriteString(conn, "app says "+line)
		return ""
	})
	conn, err := net.Dial("tcp", r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, handshake(v.path, "Upgrade: websocket", "Origin: http://localhost", v.credential)+smuggled)
	br := bufio.NewReader(conn)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %v, %v", res, err)
	}
	if all := fmt.Sprint(res.Header); strings.Contains(all, evil) {
		t.Errorf("the client received %s (LEAK-4)", all)
	}
	_, _ = io.WriteString(conn, "hello\n")
	if line, err := br.ReadString('\n'); line != "app says hello\n" {
		t.Errorf("the tunnel brought %q, %v", line, err)
	}
	if got := <-early; got != "hello\n <nil>" {
		t.Errorf("after the handshake the app received %q first", got)
	}
	if got := r.app.take(); len(got) != 1 {
		t.Errorf("the app received %v", lines(got))
	}
	// An app that refuses: what followed the handshake is a request of its own, and judged.
	agree = false
	all := send(t, r.Addr, handshake(v.path, "Upgrade: websocket", "Origin: http://localhost", v.credential)+smuggled)
	if got := r.app.take(); len(got) != 1 || strings.Contains(fmt.Sprint(got), "/smuggled") || !strings.Contains(all, "unauthenticated") {
		t.Errorf("a refused handshake: the app received %v, the client %.300q", lines(got), all)
	}
}

// frames is an HTTP/2 client that can say anything.
type frames struct {
	t    testing.TB
	conn net.Conn
	*http2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder
	next  uint32
}

func dialFrames(t testing.TB, addr string) *frames {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	f := &frames{t: t, conn: conn, Framer: http2.NewFramer(conn, conn), next: 1}
	f.enc = hpack.NewEncoder(&f.block)
	f.AllowIllegalWrites = true
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return f
}

// headers opens a stream with these fields, name and value in turn.
func (f *frames) headers(fields ...string) uint32 {
	f.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = f.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	id := f.next
	f.next += 2
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.block.Bytes(), EndStream: true, EndHeaders: true})
	return id
}

// outcome is what the server does about a stream: a status, or "reset", or "closed".
func (f *frames) outcome(id uint32) string {
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return "closed"
		}
		switch fr := frame.(type) {
		case *http2.MetaHeadersFrame:
			if fr.StreamID == id {
				return fr.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			if fr.StreamID == id {
				return "reset"
			}
		case *http2.GoAwayFrame:
			return "closed"
		}
	}
}

// TestHTTP2RequestsHaveOneReading: H2-3. Pseudo-headers that are doubled, missing, in the wrong place or of a form that
// HTTP/1 could not carry never reach the app.
func TestHTTP2RequestsHaveOneReading(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	addr := serveHTTP2(t, r.Gate.Handler())
	token := "Bearer " + r.bearer
	inAlpha := alpha.id() + ".base.test"
	ok := []string{":method", "GET", ":scheme", "http", ":authority", inAlpha, ":path", "/x", "authorization", token}
	with := func(name, value string) []string {
		out := slices.Clone(ok)
		for i := 0; i < len(out); i += 2 {
			if out[i] == name {
				out[i+1] = value
			}
		}
		return out
	}
	if f := dialFrames(t, addr); f.outcome(f.headers(ok...)) != "200" {
		t.Fatal("the plain request is refused")
	}
	r.app.take()
	plain := []string{"connection", "te", "upgrade", "transfer-encoding", "length lies", "two lengths", "post length lies"}
	for name, fields := range map[string][]string{
		"path without slash":    with(":path", "x"),
		"path public":           with(":path", "public/x"),
		"path empty":            with(":path", ""),
		"path *":                with(":path", "*"),
		"path absolute":         with(":path", "http://"+beta.id()+".base.test/../admin"),
		"path //":               with(":path", "//x"),
		"path dots":             with(":path", "/public/../x"),
		"path fragment":         with(":path", "/x#/public"),
		"path space":            with(":path", "/x HTTP/1.1\r\nX-Tenant-Id: "+evil),
		"path newline":          with(":path", "/x\r\n\r\n"+smuggled),
		"path nul":              with(":path", "/x\x00"),
		"authority empty":       with(":authority", ""),
		"authority two":         append([]string{":authority", beta.id() + ".base.test"}, ok...),
		"authority user":        with(":authority", "x@"+inAlpha),
		"authority path":        with(":authority", inAlpha+"/x"),
		"authority newline":     with(":authority", inAlpha+"\r\nX-Tenant-Id: "+evil),
		"host differs":          append(slices.Clone(ok), "host", beta.id()+".base.test"),
		"hosts differ":          append(slices.Clone(ok), "host", inAlpha, "host", beta.id()+".base.test"),
		"two hosts, no author.": {":method", "GET", ":scheme", "http", ":path", "/x", "authorization", token, "host", inAlpha, "host", beta.id() + ".base.test"},
		"method empty":          with(":method", ""),
		"method newline":        with(":method", "GET / HTTP/1.1\r\nX-A: b"),
		"method small":          with(":method", "get"),
		"method CONNECT":        {":method", "CONNECT", ":authority", inAlpha, "authorization", token},
		"method CONNECT ext":    {":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", inAlpha, ":path", "/x", "authorization", token},
		"method TRACE":          with(":method", "TRACE"),
		"two methods":           append([]string{":method", "POST"}, ok...),
		"two paths":             append([]string{":path", "/public/x"}, ok...),
		"pseudo last":           append(slices.Clone(ok), ":path", "/public/x"),
		"pseudo unknown":        append([]string{":tenant", beta.id()}, ok...),
		"pseudo status":         append([]string{":status", "200"}, ok...),
		"name upper":            append(slices.Clone(ok), "X-Tenant-Id", evil),
		"name space":            append(slices.Clone(ok), "x-tenant id", evil),
		"name newline":          append(slices.Clone(ok), "x-a\r\nx-tenant-id", evil),
		"name empty":            append(slices.Clone(ok), "", evil),
		"name colon":            append(slices.Clone(ok), "x-tenant-id:", evil),
		"value newline":         append(slices.Clone(ok), "x-a", "b\r\nx-tenant-id: "+evil),
		"value nul":             append(slices.Clone(ok), "x-a", "b\x00"+evil),
		"connection":            append(slices.Clone(ok), "connection", "x-tenant-id"),
		"transfer-encoding":     append(slices.Clone(ok), "transfer-encoding", "chunked"),
		"upgrade":               append(slices.Clone(ok), "upgrade", "websocket"),
		"te":                    append(slices.Clone(ok), "te", "chunked"),
		"no path":               {":method", "GET", ":scheme", "http", ":authority", inAlpha, "authorization", token},
		"no method":             {":scheme", "http", ":authority", inAlpha, ":path", "/x", "authorization", token},
		"nothing":               {},
		"length lies":           append(slices.Clone(ok), "content-length", "100"),
		"two lengths":           append(slices.Clone(ok), "content-length", "0", "content-length", "100"),
		"post length lies":      append(with(":method", "POST"), "content-length", "100"),
	} {
		f := dialFrames(t, addr)
		outcome := f.outcome(f.headers(fields...))
		for _, got := range r.app.take() {
			// What belongs to HTTP/1 connections is dropped, and so is a length beside the frames'; then the request is plain.
			length := strings.Join(got.values("Content-Length"), ",")
			if !slices.Contains(plain, name) || got.target() != "/x" || strings.Contains(got.raw, evil) || length != "" && length != "0" ||
				got.values("X-Tenant-Id")[0] != alpha.id() {
				t.Errorf("%s (%s): the app received %q", name, outcome, got.raw)
			}
		}
		if outcome == "200" && !slices.Contains(plain, name) {
			t.Errorf("%s: 200", name)
		}
	}
}

// TestHTTP2SurvivesAbuse: H2-1, H2-2. Streams that are opened and reset as fast as they come, endless CONTINUATION and
// garbage end their own connection; others are served, and nothing is left running.
func TestHTTP2SurvivesAbuse(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	addr := serveHTTP2(t, r.Gate.Handler())
	fields := []string{":method", "GET", ":scheme", "http", ":authority", alpha.id() + ".base.test", ":path", "/x", "authorization", "Bearer " + r.bearer}
	rapid := dialFrames(t, addr)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, rapid.conn)
	}()
	for range 3000 {
		if err := rapid.WriteRSTStream(rapid.headers(fields...), http2.ErrCodeCancel); err != nil {
			break
		}
	}
	_ = rapid.conn.Close()
	<-drained

	endless := dialFrames(t, addr)
	endless.block.Reset()
	_ = endless.enc.WriteField(hpack.HeaderField{Name: ":method", Value: "GET"})
	_ = endless.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: endless.block.Bytes()})
	ended := false
	for i := range 100_000 {
		endless.block.Reset()
		_ = endless.enc.WriteField(hpack.HeaderField{Name: fmt.Sprint("x-", i), Value: strings.Repeat("a", 4000), Sensitive: true})
		if err := endless.WriteContinuation(1, false, endless.block.Bytes()); err != nil {
			ended = true
			break
		}
	}
	if !ended {
		t.Error("400 MB of header fields were taken")
	}
	for _, garbage := range []string{
		"", "\x00\x00\x00\x00\x00\x00\x00\x00\x00", "\xff\xff\xff\x01\x04\x00\x00\x00\x01", strings.Repeat("\x00\x00\x06\x04\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff", 50),
		"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00",
		"\x00\x00\x01\x00\x08\x00\x00\x00\x01\xff", "\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x05\x05\x04\x00\x00\x00\x01\x00\x00\x00\x02\x82",
	} {
		f := dialFrames(t, addr)
		_, _ = io.WriteString(f.conn, garbage)
		_ = f.conn.Close()
	}
	r.app.take()
	if f := dialFrames(t, addr); f.outcome(f.headers(fields...)) != "200" {
		t.Error("after all that a plain request is refused")
	}
	if got := r.app.take(); len(got) != 1 || got[0].values("X-Tenant-Id")[0] != alpha.id() {
		t.Errorf("the app received %v", lines(got))
	}
}

// TestAMiddlewareSwitchesToNothingElse: CONN-1, HOP-1 for an app in this process that would serve clear-text HTTP/2, or
// is a proxy itself.
func TestAMiddlewareSwitchesToNothingElse(t *testing.T) {
	dsn := sqliteURL(t)
	seed(t, dsn)
	seen := make(chan string, 100)
	app := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		seen <- strings.Join(q.Header["Upgrade"], "+") + "|" + strings.Join(q.Header["Connection"], "+")
	})
	w := gate(t, gatetest.Options{HostURL: dsn, App: app, Middleware: true, Configure: func(c *config.Config) { byName(c); routesOfEveryAccess(c) }})
	cookie := "Cookie: " + sessionName + "=" + signIn(t, w, "onlya")
	for want, all := range map[string][][]string{
		"|":                 {{"Upgrade: h2c"}, {"Upgrade: h2c", "Connection: HTTP2-Settings"}, {"Upgrade: TLS/1.0"}, {"Connection: X-Tenant-Id"}},
		"websocket|Upgrade": {{"Upgrade: h2c", "Upgrade: websocket"}, {"Upgrade: websocket, h2c"}, {"Upgrade: WebSocket", "Connection: X-User-Id"}},
	} {
		for _, fields := range all {
			send(t, w.Addr, handshake("/x", append(fields, cookie, "Origin: http://localhost", "Connection: close")...))
			if got := <-seen; got != want {
				t.Errorf("%q: the app received %q; want %q", fields, got, want)
			}
		}
	}
}
