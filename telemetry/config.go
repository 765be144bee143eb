package telemetry

// Config says what is recorded. The zero value logs JSON at level info to standard error and serves Prometheus metrics.
type Config struct {
	// Traces is off (also "") or otlp (OTLP over HTTP; the endpoint and headers come from OpenTelemetry's own
	// OTEL_EXPORTER_OTLP_* variables).
	Traces string `yaml:"traces"`
	// Metrics is prometheus (also "") or off.
	Metrics string    `yaml:"metrics"`
	Log     LogConfig `yaml:"log"`
}

// LogConfig is telemetry.log.
type LogConfig struct {
	// Level is debug, info (also ""), warn or error.
	Level string `yaml:"level"`
	// Format is json (also "") or text.
	Format string `yaml:"format"`
}
