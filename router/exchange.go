package router

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tenantgate/tenantgate/auth"
)

// exchange is one request on its way through the gate. It belongs to the goroutine that serves the request.
type exchange struct {
	gate    *Gate
	outer   context.Context // the server's
	ctx     context.Context // outer with the exchange, and the request's span where traces are on
	start   time.Time
	method  string
	target  string // path and query as the client asked for them
	origin  string
	htmxURL string
	facts   Facts
	client  client
	verdict Verdict
	// assertion is signed before anything is forwarded; "" where there is none.
	assertion string
	seen      uint64 // streams.changes, before it was judged
	open      open   // where it was let through for somebody

	code     Code // what the log and the metrics call the outcome; "" for forwarded
	denial   *Denial
	answered bool // the app answered
	answer   recorder
}

type exchangeKey struct{}

// exchangeContext is the server's context with the exchange as a value.
type exchangeContext struct{ x *exchange }

// Deadline implements context.Context.
func (c exchangeContext) Deadline() (time.Time, bool) { return c.x.outer.Deadline() }

// Done implements context.Context.
func (c exchangeContext) Done() <-chan struct{} { return c.x.outer.Done() }

// Err implements context.Context.
func (c exchangeContext) Err() error { return c.x.outer.Err() }

// Value implements context.Context.
func (c exchangeContext) Value(key any) any {
	if _, ok := key.(exchangeKey); ok {
		return c.x
	}
	return c.x.outer.Value(key)
}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// Serves reports whether a Gate is serving the request.
func Serves(r *http.Request) bool { return exchangeOf(r.Context()) != nil }

// ClientIP is the address of the client as far as trusted hops can be believed; the zero Addr on a unix socket, and
// outside of a request that a Gate serves.
func ClientIP(r *http.Request) netip.Addr {
	if x := exchangeOf(r.Context()); x != nil {
		return x.client.addr
	}
	return netip.Addr{}
}

// RequestHost is the host asked for, as the gate read it.
func RequestHost(r *http.Request) string {
	if x := exchangeOf(r.Context()); x != nil {
		return x.verdict.Host.String()
	}
	return r.Host
}

// Refuse answers a request that a Gate serves with a row of the denial table. err is for the log.
func Refuse(w http.ResponseWriter, r *http.Request, code string, err error) {
	if x := exchangeOf(r.Context()); x != nil {
		x.gate.refuse(w, x, denyFor(Code(code), err))
		return
	}
	refuseOutside(w, r, Code(code))
}

// readFacts takes from the request what the engine may know.
func (x *exchange) readFacts(r *http.Request, tenantHeader string) {
	h := r.Header
	browser := Browser{
		Origin: h["Origin"], SecFetchSite: h["Sec-Fetch-Site"], SecFetchMode: h["Sec-Fetch-Mode"], Accept: h["Accept"],
		HTMX: h["Hx-Request"], RequestMethod: h["Access-Control-Request-Method"], WebSocket: isWebSocket(h),
	}
	if len(browser.Origin) == 1 {
		x.origin = browser.Origin[0]
	}
	x.htmxURL = single(h, "Hx-Current-Url")
	path := sentPath(r.URL)
	if path == "" && r.URL.Host != "" {
		path = "/" // absolute-form without a path (RFC 9110 4.2.3)
	}
	if r.URL.Opaque != "" || r.URL.User != nil || strings.IndexByte(r.RequestURI, '#') >= 0 {
		path = "" // neither origin-form nor absolute-form, or what no request has: user information, a fragment (RFC 9112 3.2)
	}
	if x.target = path; path != "" && path != "/" {
		x.target = r.URL.EscapedPath() // for links: what a browser would send
	}
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		x.target += "?" + r.URL.RawQuery
	}
	x.facts = Facts{
		Method: x.method, Host: x.client.host, HostDoubled: !x.client.hostOK, Path: path,
		TenantHeader: h[tenantHeader], GateTenant: h["X-Gate-Tenant"],
		Credentials: auth.Credentials{Cookies: h["Cookie"], Authorization: h["Authorization"], Host: x.client.host},
		Browser:     browser,
	}
}

// sentPath is the path as it was sent. Where it holds a byte that net/url would have encoded, EscapedPath encodes the
// whole path anew, and an encoded slash comes out as a plain one (PATH-1).
func sentPath(u *url.URL) string {
	if u.RawPath != "" {
		if decoded, err := url.PathUnescape(u.RawPath); err == nil && decoded == u.Path {
			return u.RawPath
		}
	}
	return u.EscapedPath()
}

// isWebSocket recognises a handshake as servers do: by the Upgrade header, in any list and case.
func isWebSocket(h http.Header) bool {
	for _, v := range h["Upgrade"] {
		if strings.Contains(lowerASCII(v), "websocket") {
			return true
		}
	}
	return false
}

// recorder watches what is answered: status and size for the log. It passes upgrades and flushes through, and keeps
// our names out of responses that an app in this process writes.
type recorder struct {
	http.ResponseWriter
	status   int
	bytes    int64
	hijacked bool
	// before is called once, before the final header goes out; nil: nothing. informational likewise for each 1xx.
	before        func(http.Header)
	informational func(http.Header)
	// cut says why nothing more may be written; nil: it cannot be cut.
	cut *atomic.Pointer[Denial]
	// took may replace a connection that is taken over; nil: it stays.
	took func(net.Conn, *bufio.ReadWriter) net.Conn
}

func (w *recorder) isCut() bool { return w.cut != nil && w.cut.Load() != nil }

// WriteHeader implements http.ResponseWriter.
func (w *recorder) WriteHeader(status int) {
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		if w.informational != nil {
			w.informational(w.Header())
		}
		w.ResponseWriter.WriteHeader(status)
		return
	}
	if w.status == 0 {
		w.status = status
		if w.before != nil {
			w.before(w.Header())
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Flush implements http.Flusher for apps that ask for it.
func (w *recorder) Flush() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// FlushError is Flush for http.ResponseController.
func (w *recorder) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack implements http.Hijacker.
func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.hijacked = true
		if w.status == 0 {
			w.status = http.StatusSwitchingProtocols
		}
		if w.took != nil {
			conn = w.took(conn, rw)
		}
	}
	return conn, rw, err
}

// Unwrap lets http.ResponseController find deadlines and full duplex.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
