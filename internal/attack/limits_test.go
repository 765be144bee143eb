package attack

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/router"
)

// serveWith serves h with limits of the test's own.
func serveWith(t testing.TB, h http.Handler, headerBytes int, readHeader time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, MaxHeaderBytes: headerBytes, ReadHeaderTimeout: readHeader, DisableGeneralOptionsHandler: true, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	return l.Addr().String()
}

// TestTenThousandOfAnything: LIM-1, HDR-4. Requests with as much as a server can be made to take are answered, with the
// same result as a plain one, and with no more reads of the host database than it needs.
func TestTenThousandOfAnything(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	r.Addr = serveWith(t, r.Gate.Handler(), 8<<20, patience)
	v := r.visits()[0]
	many := func(n int, line func(i int) string) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = line(i)
		}
		return list
	}
	folding := func(i int) string { // names that are one name, each in a case of its own
		b := []byte("abcdefghijklmnop")
		for bit := range b {
			if i>>bit&1 == 1 {
				b[bit] -= 'a' - 'A'
			}
		}
		return string(b)
	}
	stranger := "Authorization: Bearer " + bearer(t, r.World, "stranger", hour, nil)
	for _, c := range []struct {
		name   string
		fields []string
		code   string
		reads  int
	}{
		{"plain", []string{v.credential}, "", 3},
		{"headers", append(many(10_000, func(i int) string { return fmt.Sprintf("X-A-%d: %d", i, i) }), v.credential), "", 3},
		{"values of one header", append(many(10_000, func(i int) string { return "X-A: 1" }), v.credential), "", 3},
		{"our headers", append(many(10_000, func(i int) string { return fmt.Sprintf("X-Tenant-%d: %s", i, evil) }), v.credential), "", 3},
		{"cookies", []string{v.credential + "; " + strings.Join(many(10_000, func(i int) string { return fmt.Sprintf("c%d=%d", i, i) }), "; ")}, "", 3},
		{"cookie headers", append(many(10_000, func(i int) string { return fmt.Sprintf("Cookie: c%d=%d", i, i) }), v.credential), "", 3},
		{"session cookies", []string{"Cookie: " + strings.Join(many(10_000, func(i int) string { return fmt.Sprintf("%s=%064d", sessionName, i) }), "; ")}, "session_expired", 4},
		{"flow cookies", []string{v.credential + "; " + strings.Join(many(10_000, func(i int) string { return fmt.Sprintf("tg_flow_%016d=%d", i, i) }), "; ")}, "", 3},
		{"Authorization", append(many(10_000, func(i int) string { return "Authorization: Bearer " + strconv.Itoa(i) }), v.credential), "invalid_token", 0},
		{"names of tenants", append(many(10_000, func(i int) string { return fmt.Sprintf("X-Tenant: t%d", i) }), v.credential), "tenant_conflict", 4},
		{"one name in ten thousand cases", append(many(10_000, func(i int) string { return "X-Tenant: " + folding(i) }), stranger), "tenant_conflict", 20},
		{"a huge header", []string{v.credential, "X-A: " + strings.Repeat("a", 4<<20)}, "", 3},
		{"a huge cookie", []string{v.credential + "; a=" + strings.Repeat("a", 4<<20)}, "", 3},
		{"a huge session cookie", []string{"Cookie: " + sessionName + "=" + strings.Repeat("a", 4<<20)}, "session_expired", 0},
		{"a huge token", []string{"Authorization: Bearer " + strings.Repeat("a.", 2<<20)}, "invalid_token", 0},
		{"a huge name of a tenant", []string{v.credential, "X-Tenant: " + strings.Repeat("a", 4<<20)}, "tenant_conflict", 6},
		{"huge Connection", append(many(1000, func(i int) string { return "Connection: " + strings.Repeat("x-tenant-id, ", 200) + "te" }), v.credential), "", 3},
		{"huge X-Forwarded-For", append(many(1000, func(i int) string { return "X-Forwarded-For: " + strings.Repeat("1.1.1.1, ", 200) }), v.credential), "", 3},
		{"hop headers", append(many(10_000, func(i int) string { return "Forwarded: for=1.1.1.1" }), v.credential), "", 3},
	} {
		reload(t, r.World)
		before := reads(t, r.World)
		r.app.take()
		start := time.Now()
		path := v.path
		if strings.HasPrefix(c.name, "one name") {
			path = "/x" // nothing else names a tenant
		}
		a := first(t, send(t, r.Addr, head("GET "+path+" HTTP/1.1", append(c.fields, "Host: localhost")...)))
		got := r.app.take()
		if a.code() != c.code || (len(got) == 1) != (c.code == "") {
			t.Errorf("%s: %d %s, the app received %d requests; want %q", c.name, a.status, a.code(), len(got), c.code)
		}
		for _, g := range got {
			v.assertOwnFields(t, c.name, g, nil)
		}
		if n := reads(t, r.World) - before; n > c.reads {
			t.Errorf("%s: %d reads of the host database; %d are enough", c.name, n, c.reads)
		}
		if took := time.Since(start); took > patience/2 {
			t.Errorf("%s took %s", c.name, took)
		}
	}
	for name, target := range map[string]string{
		"query": "/public/x?" + strings.Repeat("a=1&", 500_000), "path": "/public/" + strings.Repeat("a/", 500_000), "escapes": "/public/" + strings.Repeat("%7e", 500_000),
		"dots": "/public/" + strings.Repeat("../", 500_000), "slashes": strings.Repeat("/", 1_000_000), "encoded slashes": "/files" + strings.Repeat("/a%2fb", 200_000), "parameters": "/params" + strings.Repeat("/a;b", 200_000),
		"login": "/_gate/login?return_to=/&" + strings.Repeat("a=1&", 500_000), "return_to": "/_gate/login?return_to=/" + strings.Repeat("a", 2_000_000), "callback": "/_gate/callback/dev?" + strings.Repeat("state=1&", 200_000),
		"tenant": "/t/" + strings.Repeat("a", 2_000_000) + "/x", "prefixes": strings.Repeat("/t/a", 300_000),
	} {
		start := time.Now()
		a := first(t, send(t, r.Addr, head("GET "+target+" HTTP/1.1", "Host: localhost", "Accept: text/html")))
		if a.status/100 == 5 || time.Since(start) > patience/2 || len(a.text()) > 64<<10 {
			t.Errorf("%s: %d after %s with %d bytes", name, a.status, time.Since(start), len(a.text()))
		}
	}
}

// reads is how often the host database has been asked for a grant, a name or a list, and, as its own count, sessions
// and users: what the metrics say.
func reads(t testing.TB, w *gatetest.World) int {
	t.Helper()
	rec := httptest.NewRecorder()
	w.Gate.AdminHandler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost/metrics", nil))
	total, found := 0, false
	for line := range strings.SplitSeq(rec.Body.String(), "\n") {
		if !strings.HasPrefix(line, "tenantgate_load_duration_seconds_count") {
			continue
		}
		n, err := strconv.Atoi(line[strings.LastIndexByte(line, ' ')+1:])
		if err != nil {
			t.Fatal(err)
		}
		total, found = total+n, true
	}
	if !found && total > 0 {
		t.Fatal("the metrics do not count reads")
	}
	return total
}

// TestBodiesBeyondTheLimit: LIM-1. body_bytes holds for declared and for chunked bodies, in the proxy and in the
// middleware; the app never takes half a body for a whole one.
func TestBodiesBeyondTheLimit(t *testing.T) {
	const limit = 64 << 10
	r := newRigged(t, func(c *config.Config) {
		guardedRoutes(c)
		c.Limits.BodyBytes = limit
	})
	v := r.visits()[0]
	chunked := func(n int) string {
		var b strings.Builder
		for n > 0 {
			k := min(n, 4096)
			fmt.Fprintf(&b, "%x\r\n%s\r\n", k, strings.Repeat("x", k))
			n -= k
		}
		return b.String() + "0\r\n\r\n"
	}
	for _, n := range []int{0, 1, limit - 1, limit, limit + 1, 2 * limit, 100 * limit} {
		for how, raw := range map[string]string{
			"declared": head("POST "+v.path+" HTTP/1.1", "Host: localhost", v.credential, "Content-Length: "+strconv.Itoa(n)) + strings.Repeat("x", n),
			"chunked":  head("POST "+v.path+" HTTP/1.1", "Host: localhost", v.credential, "Transfer-Encoding: chunked") + chunked(n),
		} {
			r.app.take()
			a := first(t, send(t, r.Addr, raw))
			whole := 0
			for _, got := range r.app.take() {
				if len(got.body) == n && strings.HasSuffix(got.raw, map[string]string{"declared": "", "chunked": "0\r\n\r\n"}[how]) {
					whole++
				}
			}
			if fits := n <= limit; fits && (a.status != 200 || whole != 1) || !fits && (a.code() != "body_too_large" || a.status != 413 || whole != 0) {
				t.Errorf("%d bytes %s: %d %s, the app received %d whole bodies", n, how, a.status, a.code(), whole)
			}
		}
	}
	dsn := sqliteURL(t)
	seed(t, dsn)
	faults := make(chan error, 1)
	app := http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		_, err := io.Copy(io.Discard, q.Body)
		faults <- err
	})
	w := gate(t, gatetest.Options{HostURL: dsn, App: app, Middleware: true, Configure: func(c *config.Config) {
		byName(c)
		c.Limits.BodyBytes = limit
	}})
	cookie := "Cookie: " + sessionName + "=" + signIn(t, w, "onlya")
	send(t, w.Addr, head("POST /x HTTP/1.1", "Host: localhost", cookie, "Transfer-Encoding: chunked")+chunked(limit+1))
	var tooLarge *http.MaxBytesError
	if err := <-faults; !errors.As(err, &tooLarge) {
		t.Errorf("an app in this process read to the end of a body that is too large: %v", err)
	}
	if a := first(t, send(t, w.Addr, head("POST /x HTTP/1.1", "Host: localhost", cookie, "Content-Length: "+strconv.Itoa(limit+1))+strings.Repeat("x", limit+1))); a.code() != "body_too_large" {
		t.Errorf("declared: %d %s", a.status, a.code())
	}
}

// TestSlowAndBrokenClients: SLOW-1, CONN-1. A head that does not end is cut off in time and reaches nobody; a body that
// breaks off reaches the app as broken, never as whole.
func TestSlowAndBrokenClients(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	v := r.visits()[0]
	slow := serveWith(t, r.Gate.Handler(), 64<<10, 100*time.Millisecond)
	for _, part := range []string{"G", "GET /public/x", "GET /public/x HTTP/1.1\r\nHost: loc", "GET /public/x HTTP/1.1\r\nHost: localhost\r\n", "GET /public/x HTTP/1.1\r\nHost: localhost\r\nX: y\r\n\r"} {
		if all := send(t, slow, part); strings.Contains(all, " 200 ") {
			t.Errorf("%q: %q", part, all)
		}
	}
	if a := first(t, send(t, slow, "GET /public/x HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("y", 128<<10)+"\r\nConnection: close\r\n\r\n")); a.status != 431 {
		t.Errorf("a head beyond the limit: %d", a.status)
	}
	if got := r.app.take(); len(got) > 0 {
		t.Errorf("the app received %v", lines(got))
	}
	// A client that leaves in the middle of its body.
	for _, raw := range []string{
		"POST " + v.path + " HTTP/1.1\r\nHost: localhost\r\n" + v.credential + "\r\nContent-Length: 100\r\n\r\nhalf",
		"POST " + v.path + " HTTP/1.1\r\nHost: localhost\r\n" + v.credential + "\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"POST " + v.path + " HTTP/1.1\r\nHost: localhost\r\n" + v.credential + "\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
	} {
		conn, err := net.Dial("tcp", r.Addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, raw)
		_ = conn.(*net.TCPConn).CloseWrite()
		_ = conn.SetDeadline(time.Now().Add(patience))
		all, _ := io.ReadAll(conn)
		_ = conn.Close()
		if strings.Contains(string(all), " 200 ") {
			t.Errorf("%q was answered %q", raw, all)
		}
	}
	// A client that leaves while it is answered: the app's connection ends with it.
	ended := make(chan error, 1)
	r.app.answers(func(_ received, conn net.Conn, br *bufio.Reader) string {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n")
		_, err := br.ReadByte()
		ended <- err
		return ""
	})
	conn, err := net.Dial("tcp", r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, "GET "+v.path+" HTTP/1.1\r\nHost: localhost\r\n"+v.credential+"\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if err := <-ended; err == nil {
		t.Error("the app was told nothing of a client that left")
	}
	// An app that breaks off: no client can take the part for the whole.
	for _, half := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"} {
		r.app.answers(func(_ received, conn net.Conn, _ *bufio.Reader) string {
			_, _ = io.WriteString(conn, half)
			return ""
		})
		all := send(t, r.Addr, head("GET "+v.path+" HTTP/1.1", "Host: localhost", v.credential))
		res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(all)), nil)
		if err != nil {
			continue // nothing at all is no whole either
		}
		if body, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("%q was passed on as whole: %q", half, body)
		}
	}
}

// TestReloadsLeaveNothingBehind: configurations that follow each other end what was theirs.
func TestReloadsLeaveNothingBehind(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	v := r.visits()[0]
	ask := func() {
		if a := first(t, send(t, r.Addr, head("GET "+v.path+" HTTP/1.1", "Host: localhost", v.credential))); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.code())
		}
	}
	settle := func() int {
		least := runtime.NumGoroutine()
		for range 50 {
			runtime.Gosched()
			ask()
			least = min(least, runtime.NumGoroutine())
		}
		return least
	}
	reload(t, r.World)
	before := settle()
	for range 100 {
		reload(t, r.World)
		ask()
	}
	if after := settle(); after > before+10 {
		t.Errorf("%d goroutines before 100 reloads, %d after", before, after)
	}
}

// lineLog keeps lines.
type lineLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// TestNoRequestForgesALogLine: whatever a request holds, each line of the log is one JSON object with the keys of ours,
// once each.
func TestNoRequestForgesALogLine(t *testing.T) {
	app, logs := newRawApp(t), &lineLog{}
	dsn := sqliteURL(t)
	seed(t, dsn)
	w := gate(t, gatetest.Options{HostURL: dsn, LogWriter: logs, Configure: app.behind(guardedRoutes)})
	forged := `","forged":"yes","status":200,"x":"`
	for _, raw := range []string{
		"GET /public/" + forged + " HTTP/1.1\r\nHost: localhost", "GET /x" + forged + " HTTP/1.1\r\nHost: localhost", "GET /x%22%2c%22forged%22%3a%22yes HTTP/1.1\r\nHost: localhost",
		"GET /x%0a%7b%22forged%22%3a1%7d HTTP/1.1\r\nHost: localhost", "GET /\xff\xfe\xc3\x28 HTTP/1.1\r\nHost: localhost", "GET /\xe2\x80\xa8 HTTP/1.1\r\nHost: localhost", "GET /x HTTP/1.1\r\nHost: localhost" + forged,
		"F\"ORGED /x HTTP/1.1\r\nHost: localhost", "A'B`C|D~E /x HTTP/1.1\r\nHost: localhost", "GET /x HTTP/1.1\r\nHost: localhost\r\nUser-Agent: " + forged + "\r\nX-Request-Id: " + forged + "\r\nTraceparent: " + forged,
		"GET /x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + forged, "GET /x HTTP/1.1\r\nHost: localhost\r\nCookie: tg_session=" + forged, "GET /_gate/login?return_to=" + forged + " HTTP/1.1\r\nHost: localhost",
		"GET /_gate/callback/dev?state=" + forged + "&error=" + forged + " HTTP/1.1\r\nHost: localhost", "GET http://localhost/" + forged + " HTTP/1.1\r\nHost: x",
	} {
		send(t, w.Addr, raw+"\r\nConnection: close\r\n\r\n")
	}
	for _, odd := range []string{"HTTP/1.1 200 " + forged + "\r\n\r\n", "HTTP/1.1 " + forged + "\r\n\r\n", forged + "\n{\"forged\":1}\r\n\r\n"} {
		app.answers(func(_ received, conn net.Conn, _ *bufio.Reader) string {
			_, _ = io.WriteString(conn, odd)
			return ""
		})
		send(t, w.Addr, head("GET /public/x HTTP/1.1", "Host: localhost"))
	}
	logs.mu.Lock()
	defer logs.mu.Unlock()
	n := 0
	for line := range strings.Lines(logs.buf.String()) {
		n++
		keys := map[string]bool{}
		dec := json.NewDecoder(strings.NewReader(line))
		if _, err := dec.Token(); err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		for dec.More() {
			key, err := dec.Token()
			var value json.RawMessage
			if err = errors.Join(err, dec.Decode(&value)); err != nil {
				t.Errorf("%q: %v", line, err)
				break
			}
			if name := fmt.Sprint(key); keys[name] || name == "forged" {
				t.Errorf("%q: %s", line, name)
			} else {
				keys[name] = true
			}
		}
		if !keys["time"] || !keys["level"] || !keys["msg"] {
			t.Errorf("%q lacks a key", line)
		}
	}
	if n < 10 {
		t.Errorf("%d lines", n)
	}
}

// TestOtherSitesReadNothing: CORS is the configuration's alone: an origin that is not listed is told nothing, on
// answers and on denials, whatever the app says.
func TestOtherSitesReadNothing(t *testing.T) {
	const good = "https://spa.test"
	r := newRigged(t, func(c *config.Config) {
		byName(c)
		c.Routes = []router.RouteConfig{{Path: "/", Upstream: "app", CORS: &router.CORSConfig{Origins: []string{good}, Credentials: true}}}
	})
	v := r.visits()[0]
	r.app.says("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\nContent-Length: 2\r\n\r\nok")
	for _, origin := range []string{
		good, "null", "https://evil.test", "http://spa.test", "https://spa.test.evil.test", "https://spa.test:444", "https://spa.test/", "https://SPA.test", "https://evil.test https://spa.test",
		"https://spa.test, https://evil.test", "*", "https://a.spa.test", "https://spa.tes", "https://spa.test@evil.test",
	} {
		for _, raw := range []string{
			head("GET "+v.path+" HTTP/1.1", "Host: localhost", v.credential, "Origin: "+origin),
			head("GET /t/"+susp.id()+"/x HTTP/1.1", "Host: localhost", v.credential, "Origin: "+origin),
			head("GET "+v.path+" HTTP/1.1", "Host: localhost", "Origin: "+origin),
			head("OPTIONS "+v.path+" HTTP/1.1", "Host: localhost", "Origin: "+origin, "Access-Control-Request-Method: DELETE", "Access-Control-Request-Headers: x-evil"),
		} {
			a := first(t, send(t, r.Addr, raw))
			allowed, credentials := a.header["Access-Control-Allow-Origin"], a.header["Access-Control-Allow-Credentials"]
			if origin == good && (len(allowed) != 1 || allowed[0] != good || len(credentials) != 1) || origin != good && len(allowed)+len(credentials) > 0 {
				t.Errorf("%q: %d, allowed %q with credentials %q", origin, a.status, allowed, credentials)
			}
			if !slices.Contains(a.header["Vary"], "Origin") {
				t.Errorf("%q: %d, Vary %q (CC-1)", origin, a.status, a.header["Vary"])
			}
		}
	}
	for _, got := range r.app.take() {
		if strings.HasPrefix(got.line, "OPTIONS") {
			t.Errorf("the app received %q of nobody", got.line)
		}
	}
}
