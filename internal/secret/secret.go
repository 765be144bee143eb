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
	"unique"
)

// Redacted is what a non-empty secret looks like wherever it is printed.
const Redacted = "***"

// Text is a secret string. Its zero value is the absent secret, which prints as the empty string. The text stands behind
// a handle, because fmt prints unexported fields of other structs without calling methods.
type Text struct{ h unique.Handle[string] }

// New wraps s.
func New(s string) Text {
	if s == "" {
		return Text{}
	}
	return Text{h: unique.Make(s)}
}

// Reveal returns the secret itself. Callers must not log, trace or render it.
func (t Text) Reveal() string {
	if t.IsZero() {
		return ""
	}
	return t.h.Value()
}

// IsZero reports whether there is no secret.
func (t Text) IsZero() bool { return t == Text{} }

// Equal compares in constant time for equal lengths.
func (t Text) Equal(o Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.Reveal()), []byte(o.Reveal())) == 1
}

// String implements fmt.Stringer without showing the secret.
func (t Text) String() string {
	if t.IsZero() {
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
	*t = New(string(b))
	return nil
}
