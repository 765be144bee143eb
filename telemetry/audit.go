package telemetry

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/metric"
)

// Audit is what a process wrote to the audit log, and what it could not, since the start.
type Audit struct {
	// Unrecorded: changes that were made without their row (audit.mode best_effort).
	Unrecorded int64
	// Denials counted, recorded, recorded without who it was, and given up when the process ended.
	Denials, DenialsRecorded, DenialsMerged, DenialsLost int64
}

// WatchAudit shows what read returns in the metrics. read is called whenever somebody looks and must not block.
func (t *Telemetry) WatchAudit(read func() Audit) error {
	var errs []error
	counter := func(name, what string) metric.Int64ObservableCounter {
		c, err := t.Meter.Int64ObservableCounter("tenantgate.audit."+name, metric.WithDescription(what))
		errs = append(errs, err)
		return c
	}
	missing := counter("unrecorded", "Changes that were made without their row in the audit log (audit.mode best_effort).")
	counted := counter("denials", "Denials and refused credentials that were counted for the audit log.")
	recorded := counter("denials.recorded", "Counted denials that are in the audit log.")
	merged := counter("denials.merged", "Counted denials that are, or will be, in the audit log by code alone.")
	lost := counter("denials.lost", "Counted denials that could not be written before the end.")
	_, err := t.Meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		a := read()
		o.ObserveInt64(missing, a.Unrecorded)
		o.ObserveInt64(counted, a.Denials)
		o.ObserveInt64(recorded, a.DenialsRecorded)
		o.ObserveInt64(merged, a.DenialsMerged)
		o.ObserveInt64(lost, a.DenialsLost)
		return nil
	}, missing, counted, recorded, merged, lost)
	if err := errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("show the audit: %w", err)
	}
	return nil
}
