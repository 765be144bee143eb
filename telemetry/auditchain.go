package telemetry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// AuditChain is how the chain over the audit log fares in this process.
type AuditChain struct {
	Lag             time.Duration // since the last look began that left nothing to be chained
	SinceCheckpoint time.Duration // since the last signed checkpoint was logged
	Unchained       int64         // rows that waited when it was
	Entries         int64         // of the chain
	Chained         uint64        // rows that this process chained
	Failures        uint64        // looks and checkpoints that failed
}

// WatchAuditChain shows what read returns in the metrics. read is called whenever somebody looks and must not block.
func (t *Telemetry) WatchAuditChain(read func() AuditChain) error {
	var errs []error
	seconds := func(name, what string) metric.Float64ObservableGauge {
		g, err := t.Meter.Float64ObservableGauge("tenantgate.audit.chain."+name, metric.WithUnit("s"), metric.WithDescription(what))
		errs = append(errs, err)
		return g
	}
	gauge := func(name, what string) metric.Int64ObservableGauge {
		g, err := t.Meter.Int64ObservableGauge("tenantgate.audit.chain."+name, metric.WithDescription(what))
		errs = append(errs, err)
		return g
	}
	counter := func(name, what string) metric.Int64ObservableCounter {
		c, err := t.Meter.Int64ObservableCounter("tenantgate.audit.chain."+name, metric.WithDescription(what))
		errs = append(errs, err)
		return c
	}
	lag := seconds("lag", "Time since the last look began that left no committed audit row unchained.")
	checkpoint := seconds("checkpoint.age", "Time since the last signed checkpoint was logged.")
	unchained := gauge("unchained", "Audit rows that waited to be chained at the last checkpoint.")
	entries := gauge("entries", "Entries of the audit chain.")
	chained := counter("rows", "Audit rows that this process chained.")
	failures := counter("failures", "Looks and checkpoints of the audit chain that failed.")
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("make instruments: %w", err)
	}
	_, err := t.Meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		a := read()
		o.ObserveFloat64(lag, a.Lag.Seconds())
		o.ObserveFloat64(checkpoint, a.SinceCheckpoint.Seconds())
		o.ObserveInt64(unchained, a.Unchained)
		o.ObserveInt64(entries, a.Entries)
		o.ObserveInt64(chained, int64(a.Chained))
		o.ObserveInt64(failures, int64(a.Failures))
		return nil
	}, lag, checkpoint, unchained, entries, chained, failures)
	if err != nil {
		return fmt.Errorf("watch the audit chain: %w", err)
	}
	return nil
}
