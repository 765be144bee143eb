// Package secret holds values that must never be printed.
//
// A Text redacts itself under every verb of fmt, in slog, in JSON and in text encodings; only Reveal shows it.
// Values are immutable and safe for concurrent use. Formatting never fails.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a non-empty secret looks like wherever it is printed.
const Redacted = "***"

// Text is a secret string. Its zero value is the absent secret, which prints as the empty string.
type Text struct{ s string }

// New wraps s.
func New(s string) Text { return Text{s: s} }

// Reveal returns the secret itself. Callers must not log, trace or render it.
func (t Text) Reveal() string { return t.s }

// IsZero reports whether there is no secret.
func (t Text) IsZero() bool { return t.s == "" }

// Equal compares in constant time for equal lengths.
func (t Text) Equal(o Text) bool { return subtle.ConstantTimeCompare([]byte(t.s), []byte(o.s)) == 1 }

// String implements fmt.Stringer without showing the secret.
func (t Text) String() string {
	if t.s == "" {
		return ""
	}
	return Redacted
}

// GoString implements fmt.GoStringer.
func (t Text) GoString() string { return t.String() }

// Format implements fmt.Formatter, so that no verb or flag reaches the field.
func (t Text) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// LogValue implements slog.LogValuer.
func (t Text) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText implements encoding.TextMarshaler; JSON and YAML use it.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText takes the secret from configuration.
func (t *Text) UnmarshalText(b []byte) error {
	t.s = string(b)
	return nil
}
