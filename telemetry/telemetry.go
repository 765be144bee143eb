// Package telemetry is how the program tells what it does: logs, traces and metrics, and the redactor that keeps
// secrets out of all of them.
//
// Purpose: one Telemetry a process, made from Config, without any global state of slog, OpenTelemetry or Prometheus.
//
// Concurrency: everything here is safe for concurrent use. Close ends the exporters' goroutines and waits for them.
//
// Failure mode: telemetry never fails a request. What cannot be exported is dropped, counted out of the request's way
// and logged without credentials. What might be a secret is replaced rather than shown.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

const scope = "github.com/tenantgate/tenantgate"

// Options are what New needs besides the configuration.
type Options struct {
	// Writer gets the log. Nil: standard error.
	Writer io.Writer
	// Version is the program's, told with spans.
	Version string
	// Clock is the time of log lines. Nil: time.Now.
	Clock func() time.Time
	// SpanExporter replaces the OTLP exporter where traces are on; tests look at spans with it.
	SpanExporter sdktrace.SpanExporter
}

// Telemetry is one process's logger, tracer, meter and access log.
type Telemetry struct {
	Logger   *slog.Logger
	Tracer   trace.Tracer
	Meter    metric.Meter
	Metrics  *Metrics
	Access   *AccessLog
	Redactor *Redactor

	tracing  bool
	registry *prometheus.Registry // nil: metrics are off
	closers  []func(context.Context) error
	closing  sync.Once
	closeErr error
}

// KeyError is one fault of a Config.
type KeyError struct {
	Key     string // path below the section: log.level
	Problem string
}

func (e *KeyError) Error() string { return "telemetry." + e.Key + ": " + e.Problem }

// Validate says what is wrong with the configuration: a join of one *KeyError for each fault.
func (c Config) Validate() error {
	var faults []error
	check := func(key, value string, allowed ...string) {
		for _, a := range allowed {
			if value == a {
				return
			}
		}
		faults = append(faults, &KeyError{Key: key, Problem: fmt.Sprintf("must be one of %q", allowed[1:])})
	}
	check("traces", c.Traces, "", "off", "otlp")
	check("metrics", c.Metrics, "", "prometheus", "off")
	check("log.level", c.Log.Level, "", "debug", "info", "warn", "error")
	check("log.format", c.Log.Format, "", "json", "text")
	return errors.Join(faults...)
}

// New makes the process's telemetry. It reaches nothing over the network: exporters connect when they export.
func New(cfg Config, opts Options) (*Telemetry, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if opts.Writer == nil {
		opts.Writer = os.Stderr
	}
	t := &Telemetry{Redactor: NewRedactor()}
	out := &lineWriter{out: opts.Writer}
	level := logLevel(cfg.Log.Level)
	t.Logger = slog.New(newHandler(out, cfg.Log.Format, level, t.Redactor, opts.Clock))
	t.Access = newAccessLog(out, t.Redactor, level <= slog.LevelInfo)
	if err := t.startMetrics(cfg); err != nil {
		return nil, err
	}
	if err := t.startTraces(cfg, opts); err != nil {
		return nil, errors.Join(err, t.Close(context.Background()))
	}
	return t, nil
}

func logLevel(name string) slog.Level {
	switch name {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

func (t *Telemetry) startMetrics(cfg Config) error {
	t.Meter = metricnoop.NewMeterProvider().Meter(scope)
	if cfg.Metrics != "off" {
		t.registry = prometheus.NewRegistry()
		t.registry.MustRegister(
			collectors.NewGoCollector(),
			collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		)
		exporter, err := otelprom.New(
			otelprom.WithRegisterer(t.registry),
			otelprom.WithoutScopeInfo(),
			otelprom.WithoutTargetInfo(),
			otelprom.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes),
		)
		if err != nil {
			return fmt.Errorf("start metrics: %w", err)
		}
		provider := sdkmetric.NewMeterProvider(
			sdkmetric.WithReader(exporter),
			sdkmetric.WithExemplarFilter(exemplar.AlwaysOffFilter),
		)
		t.closers = append(t.closers, provider.Shutdown)
		t.Meter = provider.Meter(scope)
	}
	var err error
	t.Metrics, err = newMetrics(t.Meter)
	return err
}

func (t *Telemetry) startTraces(cfg Config, opts Options) error {
	if cfg.Traces != "otlp" {
		t.Tracer = tracenoop.NewTracerProvider().Tracer(scope)
		return nil
	}
	provider, err := newTracerProvider(t.Redactor, t.Logger, opts)
	if err != nil {
		return fmt.Errorf("start traces: %w", err)
	}
	t.tracing = true
	t.closers = append(t.closers, provider.Shutdown)
	t.Tracer = provider.Tracer(scope)
	return nil
}

// Tracing reports whether spans go anywhere. Where not, a hot path need not start any and makes its ids with
// NewTraceContext.
func (t *Telemetry) Tracing() bool { return t.tracing }

// Redact registers a secret: from now on neither it nor, if it is a URI, its password appears in what this Telemetry
// writes. It is for secrets of the process; tenants' URIs are recognised by their form.
func (t *Telemetry) Redact(secret string) { t.Redactor.Add(secret) }

// Gauge registers a number that is read at each scrape, such as the connections of a pool. The name is dotted
// ("tenantgate.db.connections"); read must not block.
func (t *Telemetry) Gauge(name, description string, read func() int64) error {
	_, err := t.Meter.Int64ObservableGauge(name, metric.WithDescription(description),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(read())
			return nil
		}))
	if err != nil {
		return fmt.Errorf("register gauge %s: %w", name, err)
	}
	return nil
}

// MetricsHandler serves the registry in Prometheus' text formats; 404 where metrics are off.
func (t *Telemetry) MetricsHandler() http.Handler {
	if t.registry == nil {
		return http.NotFoundHandler()
	}
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{
		ErrorLog:            scrapeLog{t.Logger},
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
	})
}

// scrapeLog takes promhttp's error lines into the log.
type scrapeLog struct{ log *slog.Logger }

func (s scrapeLog) Println(v ...any) { s.log.Error("metrics scrape failed", "error", fmt.Sprint(v...)) }

// closeTimeout bounds Close where its context does not.
const closeTimeout = 5 * time.Second

// Close exports what is left, within ctx and five seconds, and ends the exporters. It may be called again.
func (t *Telemetry) Close(ctx context.Context) error {
	t.closing.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, closeTimeout)
		defer cancel()
		var errs []error
		for _, shut := range t.closers {
			if err := shut(ctx); err != nil {
				errs = append(errs, errors.New(t.Redactor.String(err.Error())))
			}
		}
		t.closeErr = errors.Join(errs...)
	})
	return t.closeErr
}
