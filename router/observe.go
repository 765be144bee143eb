package router

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/tenantgate/tenantgate/telemetry"
)

// begin counts the request in and, where traces are on, opens its span. The returned function closes the span.
func (g *Gate) begin(x *exchange) func() {
	g.telemetry.Metrics.InFlight(1)
	x.ctx = exchangeContext{x}
	if !g.telemetry.Tracing() {
		return func() {}
	}
	ctx := x.ctx
	if x.client.traced { // a trace that begins here has no parent whose word on sampling counts
		ctx = trace.ContextWithRemoteSpanContext(ctx, x.client.trace.Remote())
	}
	ctx, span := g.telemetry.Tracer.Start(ctx, "request", trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.String("http.request.method", x.method)))
	x.ctx = ctx
	x.client.trace = telemetry.FromSpan(span.SpanContext())
	return func() {
		if x.code != "" {
			span.SetAttributes(attribute.String("tenantgate.code", string(x.code)))
		}
		if x.verdict.Route != nil {
			span.SetAttributes(attribute.String("http.route", x.verdict.Route.name))
		}
		span.End()
	}
}

// span opens a child span for one part of the way.
func (g *Gate) span(x *exchange, name string) func() {
	if !g.telemetry.Tracing() {
		return func() {}
	}
	_, span := g.telemetry.Tracer.Start(x.ctx, name)
	if name == "upstream" {
		x.client.trace = telemetry.FromSpan(span.SpanContext())
	}
	return func() {
		if x.denial != nil {
			span.SetStatus(codes.Error, string(x.denial.Code))
		}
		span.End()
	}
}

// judge decides; where traces are on, in a span of its own.
func (g *Gate) judge(x *exchange) {
	if !g.telemetry.Tracing() {
		g.engine.judge(x.ctx, &x.facts, &x.verdict, nil)
		return
	}
	ctx, span := g.telemetry.Tracer.Start(x.ctx, "decide")
	defer span.End()
	g.engine.judge(ctx, &x.facts, &x.verdict, nil)
	if x.verdict.Denial != nil {
		span.SetAttributes(attribute.String("tenantgate.code", string(x.verdict.Denial.Code)))
	}
}

// loaded notes a read of the host database.
func (g *Gate) loaded(ctx context.Context, kind string, took time.Duration, err error) {
	g.telemetry.Metrics.Load(kind, took, err)
	if !g.telemetry.Tracing() {
		return
	}
	now := time.Now()
	_, span := g.telemetry.Tracer.Start(ctx, "load", trace.WithTimestamp(now.Add(-took)),
		trace.WithAttributes(attribute.String("tenantgate.load", kind)))
	if err != nil {
		span.SetStatus(codes.Error, "host database")
	}
	span.End(trace.WithTimestamp(now))
}

// finish ends a request: a panic becomes a 500 with a fixed body, and whatever happened is counted and logged once.
func (g *Gate) finish(w *recorder, r *http.Request, x *exchange, endSpan func()) {
	fault := recover()
	aborted := false
	if fault != nil {
		if aborted = fault == http.ErrAbortHandler; !aborted {
			aborted = g.panicked(w, x, fault)
		}
	}
	endSpan()
	g.telemetry.Metrics.InFlight(-1)
	took := g.clock().Sub(x.start)
	g.telemetry.Metrics.Request(string(x.code), w.status, took)
	g.access(w, r, x, took)
	g.countDenial(x)
	if x.denial != nil && x.denial.Cause != nil {
		g.log.WarnContext(x.ctx, "request denied", "request_id", x.client.requestID, "code", string(x.denial.Code),
			"error", x.denial.Cause)
	}
	if aborted {
		panic(http.ErrAbortHandler) // net/http ends the connection without a second log line
	}
}

// countDenial counts, for the audit, a request that was not let through, or not to its end.
func (g *Gate) countDenial(x *exchange) {
	d := x.denial
	if d == nil {
		if d = x.open.cut.Load(); d == nil {
			return
		}
	}
	switch d.Code {
	case UpstreamUnavailable, UpstreamTimeout, BillingUnavailable, InternalError:
		return // nothing was refused
	}
	user, tenant := d.user, d.tenant
	if id := x.verdict.Identity; id != nil {
		user = id.User
	}
	if gr := x.verdict.Grant; tenant == "" && gr != nil {
		tenant = gr.Tenant.ID
	}
	g.denied(user, tenant, string(d.Code), x.client.addr)
}

// panicked answers for a fault of ours, or of an app in this process. The value may hold anything, so only its type
// is logged, with the stack; the connection of a response that had begun is cut, so that it never looks complete.
func (g *Gate) panicked(w *recorder, x *exchange, fault any) (cut bool) {
	g.log.ErrorContext(x.ctx, "panic while serving a request", "request_id", x.client.requestID,
		"panic", fmt.Sprintf("%T", fault), "stack", string(debug.Stack()))
	if w.status == 0 && !w.hijacked {
		clear(w.Header()) // of an answer that never came, trailers included
		g.refuse(w, x, deny(InternalError))
		return false
	}
	x.code = InternalError
	return !w.hijacked
}

func (g *Gate) access(w *recorder, r *http.Request, x *exchange, took time.Duration) {
	if !g.telemetry.Access.Enabled() {
		return
	}
	a := telemetry.Access{
		Time: x.start, RequestID: x.client.requestID, Method: x.method, Host: x.verdict.Host.Name, Path: x.facts.Path,
		Status: w.status, Code: string(x.code), BytesIn: max(r.ContentLength, 0), BytesOut: w.bytes, Duration: took,
		TraceID: x.client.trace.TraceID,
	}
	a.RemoteIP = x.client.realIP
	if id := x.verdict.Identity; id != nil {
		a.UserID = string(id.User)
	}
	if gr := x.verdict.Grant; gr != nil {
		a.TenantID = string(gr.Tenant.ID)
	}
	if rt := x.verdict.Route; rt != nil {
		a.Route = rt.name
		if rt.upstream != nil {
			a.Upstream = rt.upstream.name
		}
	}
	g.telemetry.Access.Write(&a)
}
