package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

func newStripeEvents(meter metric.Meter) (metric.Int64Counter, error) {
	return meter.Int64Counter("tenantgate.stripe.events",
		metric.WithDescription("Deliveries to the Stripe webhook, by what became of them; refused ones by why."))
}

// StripeEvent counts a delivery to the webhook. Outcomes come from the program's own table, never from what was sent.
func (m *Metrics) StripeEvent(outcome string) {
	opts := m.outcomes.get(outcome, labelOther, func(o string) []metric.AddOption {
		return []metric.AddOption{attrs(attribute.String("outcome", o))}
	})
	m.events.Add(context.Background(), 1, opts...)
}
