package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Bounds of the span queue: what does not fit is dropped, never waited for.
const (
	spanQueue    = 4096
	spanBatch    = 512
	spanTimeout  = 10 * time.Second // of one export
	spanInterval = 5 * time.Second
	complainOnce = time.Minute // export failures in the log
)

func newTracerProvider(redact *Redactor, log *slog.Logger, opts Options) (*sdktrace.TracerProvider, error) {
	exporter := opts.SpanExporter
	if exporter == nil {
		err := checkCollector(redact)
		if err != nil {
			return nil, err
		}
		// Endpoint, headers and TLS come from OTEL_EXPORTER_OTLP_*; nothing is connected before the first export.
		if exporter, err = otlptracehttp.New(context.Background()); err != nil {
			return nil, fmt.Errorf("otlp exporter: %s", redact.String(err.Error()))
		}
	}
	res := resource.NewSchemaless(
		attribute.String("service.name", "tenantgate"),
		attribute.String("service.version", opts.Version),
	)
	return sdktrace.NewTracerProvider(
		sdktrace.WithResource(res),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())),
		sdktrace.WithBatcher(&redactingExporter{below: exporter, redact: redact, log: log},
			sdktrace.WithMaxQueueSize(spanQueue),
			sdktrace.WithMaxExportBatchSize(spanBatch),
			sdktrace.WithBatchTimeout(spanInterval),
			sdktrace.WithExportTimeout(spanTimeout),
		),
	), nil
}

// redactingExporter shows the exporter below only redacted spans, and keeps its errors out of OpenTelemetry's global
// error handler: they are logged here, at most one a minute.
type redactingExporter struct {
	below  sdktrace.SpanExporter
	redact *Redactor
	log    *slog.Logger

	mu         sync.Mutex
	complained time.Time
	lost       int
}

func (e *redactingExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	clean := make([]sdktrace.ReadOnlySpan, len(spans))
	for i, s := range spans {
		clean[i] = redactedSpan{ReadOnlySpan: s, redact: e.redact}
	}
	if err := e.below.ExportSpans(ctx, clean); err != nil {
		e.complain(err, len(spans))
	}
	return nil
}

func (e *redactingExporter) complain(err error, spans int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost += spans
	if now := time.Now(); now.Sub(e.complained) >= complainOnce {
		e.complained = now
		e.log.Warn("spans could not be exported: check OTEL_EXPORTER_OTLP_ENDPOINT and the collector", "error", err, "lost", e.lost)
	}
}

func (e *redactingExporter) Shutdown(ctx context.Context) error { return e.below.Shutdown(ctx) }

// redactedSpan is a span whose texts passed the redactor.
type redactedSpan struct {
	sdktrace.ReadOnlySpan
	redact *Redactor
}

func (s redactedSpan) Name() string { return s.redact.String(s.ReadOnlySpan.Name()) }

func (s redactedSpan) Attributes() []attribute.KeyValue {
	return redactAttributes(s.redact, s.ReadOnlySpan.Attributes())
}

func (s redactedSpan) Status() sdktrace.Status {
	status := s.ReadOnlySpan.Status()
	status.Description = s.redact.String(status.Description)
	return status
}

func (s redactedSpan) Events() []sdktrace.Event {
	events := s.ReadOnlySpan.Events()
	clean := make([]sdktrace.Event, len(events))
	for i, ev := range events {
		clean[i] = ev
		clean[i].Name = s.redact.String(ev.Name)
		clean[i].Attributes = redactAttributes(s.redact, ev.Attributes)
	}
	return clean
}

func (s redactedSpan) Links() []sdktrace.Link {
	links := s.ReadOnlySpan.Links()
	clean := make([]sdktrace.Link, len(links))
	for i, link := range links {
		clean[i] = link
		clean[i].SpanContext = redactState(s.redact, link.SpanContext)
		clean[i].Attributes = redactAttributes(s.redact, link.Attributes)
	}
	return clean
}

func (s redactedSpan) SpanContext() trace.SpanContext {
	return redactState(s.redact, s.ReadOnlySpan.SpanContext())
}

func (s redactedSpan) Parent() trace.SpanContext {
	return redactState(s.redact, s.ReadOnlySpan.Parent())
}

// redactState drops a tracestate, which a client may have sent, if it holds anything like a secret.
func redactState(r *Redactor, sc trace.SpanContext) trace.SpanContext {
	state := sc.TraceState().String()
	if state == "" || r.String(state) == state {
		return sc
	}
	return sc.WithTraceState(trace.TraceState{})
}

func redactAttributes(r *Redactor, attrs []attribute.KeyValue) []attribute.KeyValue {
	clean := make([]attribute.KeyValue, len(attrs))
	for i, kv := range attrs {
		clean[i] = redactAttribute(r, kv)
	}
	return clean
}

func redactAttribute(r *Redactor, kv attribute.KeyValue) attribute.KeyValue {
	key := r.String(string(kv.Key))
	if sensitiveKey(string(kv.Key)) && kv.Value.Type() != attribute.BOOL {
		return attribute.String(key, Redacted)
	}
	switch kv.Value.Type() {
	case attribute.BOOL, attribute.BOOLSLICE:
		return attribute.KeyValue{Key: attribute.Key(key), Value: kv.Value}
	case attribute.STRING:
		return attribute.String(key, r.String(kv.Value.AsString()))
	case attribute.STRINGSLICE:
		texts := kv.Value.AsStringSlice()
		for i := range texts {
			texts[i] = r.String(texts[i])
		}
		return attribute.StringSlice(key, texts)
	default:
		if text := kv.Value.String(); r.exact(text) != text {
			return attribute.String(key, Redacted)
		}
		return attribute.KeyValue{Key: attribute.Key(key), Value: kv.Value}
	}
}
