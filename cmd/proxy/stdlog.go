package main

import (
	"io"

	"github.com/tenantgate/tenantgate/telemetry"
)

// stdlog is where the standard library's own log goes: net/http's client prints there, without asking anybody, what a
// server sent after its answer, and an app may repeat its tenant's URI. What looks like a credential is hidden.
type stdlog struct {
	out    io.Writer
	redact *telemetry.Redactor
}

// Write implements io.Writer; log calls it once a line.
func (l stdlog) Write(line []byte) (int, error) {
	if _, err := io.WriteString(l.out, l.redact.String(string(line))); err != nil {
		return 0, err
	}
	return len(line), nil
}
