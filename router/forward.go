package router

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"

	"github.com/tenantgate/tenantgate/telemetry"
)

// forwarder sends judged requests to one upstream. Every decision has been made before it is called; what it needs
// comes with the request's exchange.
type forwarder struct {
	gate    *Gate
	balance *balancer
	proxy   *httputil.ReverseProxy
}

func (g *Gate) newForwarder(b *balancer) *forwarder {
	f := &forwarder{gate: g, balance: b}
	f.proxy = &httputil.ReverseProxy{
		Rewrite:        f.rewrite,
		Transport:      b,
		ModifyResponse: f.modifyResponse,
		ErrorHandler:   f.failed,
		BufferPool:     g.buffers,
		ErrorLog:       log.New(g.errorLog, "", 0),
	}
	return f
}

// rewrite turns the judged request into the app's. It runs after hop-by-hop headers are gone, so that Connection cannot
// remove what is set here (HOP-1).
func (f *forwarder) rewrite(p *httputil.ProxyRequest) {
	x := exchangeOf(p.In.Context())
	out := p.Out
	if f.balance.upstream.hostMode == "pass" {
		out.Host = x.verdict.Host.String()
	} else if f.balance.upstream.hostMode != "upstream" {
		out.Host = f.balance.upstream.hostMode
	}
	setPath(out.URL, x.verdict.Path)
	out.URL.RawQuery = p.In.URL.RawQuery
	out.URL.ForceQuery = p.In.URL.ForceQuery
	out.Trailer = nil // TRL-1
	out.Header = f.gate.appHeaders(out.Header, x)
}

// setPath makes u hold exactly the judged path.
func setPath(u *url.URL, p Path) {
	u.Opaque, u.Fragment, u.RawFragment = "", "", ""
	if strings.IndexByte(p.escaped, '%') < 0 {
		u.Path, u.RawPath = p.escaped, ""
		if u.EscapedPath() == p.escaped {
			return
		}
	}
	decoded, err := url.PathUnescape(p.escaped)
	if err != nil { // a canonical path has no invalid escape
		decoded = p.escaped
	}
	u.Path, u.RawPath = decoded, p.escaped
}

// modifyResponse takes our names out of what the app answers, in headers and trailers, and keeps shared caches from
// storing what depends on who asked (CC-1).
func (f *forwarder) modifyResponse(res *http.Response) error {
	x := exchangeOf(res.Request.Context())
	x.answered = true
	f.gate.headers.stripResponse(res.Header)
	f.gate.dropOwnCookies(res.Header)
	if x.verdict.Identity != nil && len(res.Header["Cache-Control"]) == 0 {
		res.Header["Cache-Control"] = privateCache
	}
	if c := x.verdict.Route.cors; c != nil && x.origin != "" {
		dropCORS(res.Header)
		c.allow(res.Header, x.origin)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		return nil
	}
	x.open.watch(res)
	if res.ProtoMajor == 1 && res.ContentLength >= 0 {
		return nil // no trailers can follow (RFC 9112 7.1.2)
	}
	f.gate.headers.stripResponse(res.Trailer)
	res.Body = &strippedTrailers{ReadCloser: res.Body, response: res, names: &f.gate.headers}
	return nil
}

var privateCache = []string{"private"}

// strippedTrailers removes our names from the trailers, which are known once the body has ended.
type strippedTrailers struct {
	io.ReadCloser
	response *http.Response
	names    *headerNames
}

func (b *strippedTrailers) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && len(b.response.Trailer) > 0 {
		b.names.stripResponse(b.response.Trailer)
	}
	return n, err
}

// failed answers for an app that did not. Which address, and why, is for the log alone.
func (f *forwarder) failed(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	var tooLarge *http.MaxBytesError
	var timeout net.Error
	switch d := x.open.cut.Load(); {
	case d != nil:
		f.gate.refuse(w, x, d)
	case errors.As(err, &tooLarge):
		f.gate.refuse(w, x, denyFor(BodyTooLarge, err))
	case r.Context().Err() != nil && errors.Is(r.Context().Err(), context.Canceled):
		x.code, x.answer.status = "client_closed", statusClientClosed
		x.denial = &Denial{Code: "client_closed", Cause: telemetry.Unquoted(err)}
		panic(http.ErrAbortHandler) // nobody is there to read an answer
	case errors.As(err, &timeout) && timeout.Timeout() && !dialFailed(err):
		f.gate.refuse(w, x, denyFor(UpstreamTimeout, telemetry.Unquoted(err)))
	default:
		f.gate.refuse(w, x, denyFor(UpstreamUnavailable, telemetry.Unquoted(err)))
	}
}

// statusClientClosed is what logs and metrics call a request whose client left before there was an answer, as nginx
// does. Nobody receives it.
const statusClientClosed = 499

// copyBuffers is the ReverseProxy's pool of copy buffers.
type copyBuffers struct{ pool *sync.Pool }

const copyBufferSize = 32 << 10

func newCopyBuffers() copyBuffers {
	return copyBuffers{&sync.Pool{New: func() any { return new([copyBufferSize]byte) }}}
}

// Get implements httputil.BufferPool.
func (c copyBuffers) Get() []byte { return c.pool.Get().(*[copyBufferSize]byte)[:] }

// Put implements httputil.BufferPool.
func (c copyBuffers) Put(b []byte) {
	if cap(b) == copyBufferSize {
		c.pool.Put((*[copyBufferSize]byte)(b[:copyBufferSize]))
	}
}
