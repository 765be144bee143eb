package router

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"github.com/tenantgate/tenantgate/telemetry"
)

// client is where a request comes from, as far as trusted hops can be believed.
type client struct {
	// addr is the nearest address that is not a trusted proxy's; invalid on a unix socket.
	addr   netip.Addr
	realIP string // addr as text, "" where it is invalid
	// forwardedFor is the X-Forwarded-For value for the app.
	forwardedFor string
	proto        string
	// host is the authority that the client asked for, unparsed.
	host      string
	hostOK    bool
	prefix    string
	requestID string
	trace     telemetry.TraceContext
	traced    bool   // trace is a trusted peer's, not one that begins here
	state     string // tracestate of a trusted peer
}

// hops believes X-Forwarded-* and X-Real-Ip of listed peers only (FWD-1, FWD-2). The zero value believes nobody.
type hops struct {
	trusted []netip.Prefix
	ids     *identifiers
}

func (h hops) trusts(a netip.Addr) bool {
	for _, p := range h.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// read looks at who sent the request. What an untrusted peer says of itself is as if it had not been sent.
func (h hops) read(r *http.Request) client {
	c := client{proto: "http", host: r.Host, hostOK: true}
	if r.TLS != nil {
		c.proto = "https"
	}
	if own := r.Header["Host"]; len(own) > 0 && (len(own) > 1 || own[0] != r.Host) {
		c.hostOK = false // HTTP/2 with :authority and a Host that differs (RFC 9113 8.3.1)
	}
	peer := peerAddr(r.RemoteAddr)
	c.addr = peer
	if peer.IsValid() {
		c.realIP = peer.String()
		c.forwardedFor = c.realIP
		if h.trusts(peer) {
			h.believe(&c, r.Header, peer)
			c.realIP = c.addr.String()
		}
	}
	if c.requestID == "" || !c.trace.Valid() {
		id := h.ids.next()
		if c.requestID == "" {
			c.requestID = hex.EncodeToString(id[:16])
		}
		if !c.trace.Valid() {
			copy(c.trace.TraceID[:], id[16:32])
			copy(c.trace.SpanID[:], id[32:])
		}
	}
	return c
}

func peerAddr(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// believe takes over what a trusted peer says. A header that it sent twice counts as not sent, except for
// X-Forwarded-For, which is a list; two X-Forwarded-Host make the Host doubled.
func (h hops) believe(c *client, header http.Header, peer netip.Addr) {
	c.addr = h.clientAddr(header, peer)
	if list := header["X-Forwarded-For"]; len(list) > 0 {
		c.forwardedFor = strings.Join(list, ", ") + ", " + peer.String()
	}
	switch single(header, "X-Forwarded-Proto") {
	case "https":
		c.proto = "https"
	case "http":
		c.proto = "http"
	}
	switch values := header["X-Forwarded-Host"]; {
	case len(values) == 1:
		c.host = values[0]
	case len(values) > 1:
		c.hostOK = false
	}
	if p := single(header, "X-Forwarded-Prefix"); p != "" {
		if parsed, ok := ParsePath(p); ok && !parsed.ambiguous() {
			c.prefix = strings.TrimSuffix(parsed.escaped, "/")
		}
	}
	if id := single(header, "X-Request-Id"); requestIDOK(id) {
		c.requestID = id
	}
	if tc, ok := telemetry.ParseTraceparent(single(header, "Traceparent")); ok {
		c.trace, c.traced = tc, true
		c.state = single(header, "Tracestate")
	}
}

// clientAddr walks X-Forwarded-For from the right past trusted hops. What cannot be read ends the walk at the last
// address that could.
func (h hops) clientAddr(header http.Header, peer netip.Addr) netip.Addr {
	addr := peer
	list := strings.Split(strings.Join(header["X-Forwarded-For"], ","), ",")
	for i := len(list) - 1; i >= 0; i-- {
		a, err := netip.ParseAddr(strings.TrimSpace(list[i]))
		if err != nil {
			if ap, perr := netip.ParseAddrPort(strings.TrimSpace(list[i])); perr == nil {
				a = ap.Addr()
			} else {
				break
			}
		}
		addr = a.Unmap().WithZone("")
		if !h.trusts(addr) {
			return addr
		}
	}
	if real, err := netip.ParseAddr(single(header, "X-Real-Ip")); err == nil && addr == peer {
		return real.Unmap().WithZone("")
	}
	return addr
}

func single(h http.Header, name string) string {
	if v := h[name]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// requestIDOK takes an id that is safe in a log, a header and a page: 1 to 128 of letters, digits, ".", "_" and "-".
func requestIDOK(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return true
}

// idBytes is what one request needs: 16 for its id, 16 for its trace and 8 for its span.
const idBytes = 40

// identifiers hands out random bytes from batches: asking the system once a request costs more than deciding does.
type identifiers struct{ pool sync.Pool }

type idBatch struct {
	bytes [64 * idBytes]byte
	used  int
}

// next returns bytes that nobody was given before.
func (i *identifiers) next() (id [idBytes]byte) {
	b, _ := i.pool.Get().(*idBatch)
	if b == nil {
		b = &idBatch{used: len(b.bytes)}
	}
	if b.used == len(b.bytes) {
		_, _ = rand.Read(b.bytes[:]) // never fails: crypto/rand ends the program instead
		b.used = 0
	}
	copy(id[:], b.bytes[b.used:])
	b.used += idBytes
	i.pool.Put(b)
	return id
}
