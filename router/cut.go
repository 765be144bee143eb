package router

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/auth"
)

// streamKind says how an answer ends whose request is not let through any more.
type streamKind uint8

const (
	// transferKind is aborted, so that what came of it never looks complete.
	transferKind streamKind = iota
	// eventKind is an event stream: it just ends, and browsers ask again.
	eventKind
	// grpcKind ends with status 7, PERMISSION_DENIED.
	grpcKind
)

func kindOf(h http.Header) streamKind {
	contentType, _, _ := strings.Cut(strings.ToLower(h.Get("Content-Type")), ";")
	switch contentType = strings.TrimSpace(contentType); {
	case contentType == "text/event-stream":
		return eventKind
	case contentType == "application/grpc", strings.HasPrefix(contentType, "application/grpc+"):
		return grpcKind
	}
	return transferKind
}

// enter registers a request that was let through for somebody, and returns it with a context that ends when it is cut.
// leave must be called once it is over.
func (g *Gate) enter(r *http.Request, x *exchange) (in *http.Request, leave func()) {
	id := x.verdict.Identity
	if id == nil {
		return r.WithContext(x.ctx), func() {}
	}
	ctx, cancel := context.WithCancel(x.ctx)
	r = r.WithContext(ctx)
	if r.Body != nil && r.ContentLength != 0 {
		body := &sentBody{ReadCloser: r.Body, open: &x.open}
		if id.Kind == auth.KindSession {
			body.used = g.used(id)
		}
		r.Body = body
	}
	x.answer.cut = &x.open.cut
	x.answer.took = func(conn net.Conn, rw *bufio.ReadWriter) net.Conn {
		c := hijacked(conn, rw, g.used(id))
		x.open.streaming.Store(true)
		x.open.ends(func() { c.end(x.open.cut.Load().Code, cancel) })
		return c
	}
	g.streams.add(&x.open, x, x.seen, cancel)
	return r, func() {
		g.streams.remove(&x.open)
		cancel()
	}
}

// sentBody is what a client sends: its bytes are a use of its session, and none of them reach the app once the request
// was cut.
type sentBody struct {
	io.ReadCloser
	open *open
	used func() // nil: no session
}

func (b *sentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.open.cut.Load() != nil {
		return 0, errCut
	}
	if n > 0 && b.used != nil {
		b.used()
	}
	return n, err
}

// endWait is how long an answer that just ends may take for that, with a client that does not read. Nothing new is sent
// to it meanwhile.
const endWait = time.Second

// answers notes that an answer of that kind has begun: from here on a cut ends it as its kind wants. A client that
// does not read is not waited for.
func (o *open) answers(h http.Header) {
	kind := kindOf(h)
	o.kind = kind
	o.streaming.Store(kind != transferKind)
	control := http.NewResponseController(o.x.answer.ResponseWriter)
	abort := func() {
		o.aborted = true
		_ = control.SetWriteDeadline(time.Unix(1, 0))
	}
	o.ends(func() {
		o.cancel()
		if kind == transferKind {
			abort()
			return
		}
		time.AfterFunc(endWait, func() { o.unlessOver(abort) })
	})
}

// watchedBody is the app's answer on its way to the client.
type watchedBody struct {
	io.ReadCloser
	open     *open
	response *http.Response
}

// watch has res end when its request is cut.
func (o *open) watch(res *http.Response) {
	if o.shard == nil {
		return // public
	}
	o.answers(res.Header)
	o.body = watchedBody{res.Body, o, res}
	res.Body = &o.body
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.open.cut.Load() == nil {
		return n, err
	}
	switch b.open.kind {
	case eventKind:
		return 0, io.EOF
	case grpcKind:
		b.response.Trailer = http.Header{}
		denyGRPC(b.response.Trailer, "", b.open.cut.Load())
		return 0, io.EOF
	}
	return 0, errCut
}

// denyGRPC writes gRPC's trailers for a denial (gRPC over HTTP/2, Responses).
func denyGRPC(h http.Header, prefix string, d *Denial) {
	h[prefix+"Grpc-Status"] = []string{"7"}
	h[prefix+"Grpc-Message"] = []string{string(d.Code)}
}

// finishCut ends the answer of an app in this process that was cut.
func (g *Gate) finishCut(w *recorder, x *exchange, d *Denial) {
	switch {
	case w.hijacked:
	case w.status == 0:
		clear(w.Header())
		w.before = nil // what is answered is ours
		g.refuse(w, x, d)
	case x.open.kind == grpcKind:
		denyGRPC(w.Header(), http.TrailerPrefix, d)
	case x.open.kind == transferKind:
		panic(http.ErrAbortHandler)
	}
}

// cuttable is what an app in this process writes to: nothing once its request was cut.
type cuttable struct{ *recorder }

// Write implements http.ResponseWriter.
func (w *cuttable) Write(p []byte) (int, error) {
	if w.isCut() {
		return 0, errCut
	}
	return w.recorder.Write(p)
}

// WriteHeader implements http.ResponseWriter.
func (w *cuttable) WriteHeader(status int) {
	if !w.isCut() {
		w.recorder.WriteHeader(status)
	}
}

// Flush implements http.Flusher.
func (w *cuttable) Flush() {
	if !w.isCut() {
		w.recorder.Flush()
	}
}

// FlushError is Flush for http.ResponseController.
func (w *cuttable) FlushError() error {
	if w.isCut() {
		return errCut
	}
	return w.recorder.FlushError()
}

// Unwrap lets http.ResponseController find deadlines and full duplex.
func (w *cuttable) Unwrap() http.ResponseWriter { return w.recorder }
