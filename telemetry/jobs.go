package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

type jobOutcome struct{ jobType, outcome string }

func newJobs(meter metric.Meter) (metric.Float64Histogram, error) {
	return meter.Float64Histogram("tenantgate.job.duration", metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800),
		metric.WithDescription("Time that an attempt of a job took, by type and outcome."))
}

// Job records an attempt of a job. Types and outcomes come from the program's own tables, never from a row.
func (m *Metrics) Job(jobType, outcome string, d time.Duration) {
	opts := m.jobTypes.get(jobOutcome{jobType, outcome}, jobOutcome{labelOther, outcome}, func(k jobOutcome) []metric.RecordOption {
		return []metric.RecordOption{attrs(attribute.String("type", k.jobType), attribute.String("outcome", k.outcome))}
	})
	m.jobs.Record(context.Background(), d.Seconds(), opts...)
}
