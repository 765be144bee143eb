package telemetry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Freshness is how well a process knows what has changed in the host database.
type Freshness struct {
	// Current: decisions come from memory. Listening: the database says when something changes.
	Current, Listening bool
	// Lag is how long ago the last completed look began; 0 without one.
	Lag time.Duration
	// Since the start: looks that were completed and that failed, changes that were told, how often everything was
	// forgotten, reads because memory was not current, and answers from memory because the database could not be read.
	Looks, FailedLooks, Changes, Resets, ReadsThrough, StaleAnswers uint64
}

// WatchFreshness shows what read returns in the metrics. read is called whenever somebody looks and must not block.
func (t *Telemetry) WatchFreshness(read func() Freshness) error {
	var errs []error
	gauge := func(name, what string) metric.Float64ObservableGauge {
		g, err := t.Meter.Float64ObservableGauge("tenantgate.freshness."+name, metric.WithDescription(what))
		errs = append(errs, err)
		return g
	}
	counter := func(name, what string) metric.Int64ObservableCounter {
		c, err := t.Meter.Int64ObservableCounter("tenantgate.freshness."+name, metric.WithDescription(what))
		errs = append(errs, err)
		return c
	}
	current := gauge("current", "1 while decisions come from memory, 0 while each is read.")
	listening := gauge("listening", "1 while the host database says when something changes.")
	lag, err := t.Meter.Float64ObservableGauge("tenantgate.freshness.lag", metric.WithUnit("s"),
		metric.WithDescription("Time since the last completed look for changes began."))
	errs = append(errs, err)
	looks := counter("looks", "Looks for changes, by result.")
	changes := counter("changes", "Changes that looks have found.")
	resets := counter("resets", "How often everything was forgotten.")
	reads := counter("reads_through", "Reads of the host database because memory was not current.")
	stale := counter("stale_answers", "Answers from memory that was not current, because the host database could not be read.")
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("make instruments: %w", err)
	}
	_, err = t.Meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		f := read()
		o.ObserveFloat64(current, yes(f.Current))
		o.ObserveFloat64(listening, yes(f.Listening))
		o.ObserveFloat64(lag, f.Lag.Seconds())
		o.ObserveInt64(looks, int64(f.Looks), metric.WithAttributes(attribute.String("result", "ok")))
		o.ObserveInt64(looks, int64(f.FailedLooks), metric.WithAttributes(attribute.String("result", "error")))
		o.ObserveInt64(changes, int64(f.Changes))
		o.ObserveInt64(resets, int64(f.Resets))
		o.ObserveInt64(reads, int64(f.ReadsThrough))
		o.ObserveInt64(stale, int64(f.StaleAnswers))
		return nil
	}, current, listening, lag, looks, changes, resets, reads, stale)
	if err != nil {
		return fmt.Errorf("watch freshness: %w", err)
	}
	return nil
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
