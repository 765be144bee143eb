package catalog

import (
	"database/sql/driver"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
)

// DBURI is a database URI with its credentials. It redacts itself under every verb of fmt, in slog, JSON and text;
// only Reveal shows it. The zero value is the absent URI.
type DBURI struct{ s string }

// NewDBURI wraps s verbatim; nothing is validated.
func NewDBURI(s string) DBURI { return DBURI{s: s} }

// Reveal returns the URI verbatim, password included. Callers must not log, trace or render it.
func (u DBURI) Reveal() string { return u.s }

// IsZero reports whether there is no URI.
func (u DBURI) IsZero() bool { return u.s == "" }

// String returns the URI as postgresql://user:***@host/db. Query parameters are dropped (libpq accepts a
// password there), and a text that is no URI prints as "***" alone.
func (u DBURI) String() string {
	if u.s == "" {
		return ""
	}
	if kind, _, ok := strings.Cut(u.s, ":"); ok && (kind == "enc" || kind == "ref") {
		return kind + ":***"
	}
	p, err := url.Parse(u.s)
	if err != nil || p.Scheme == "" || strings.Contains(u.s, "\n") {
		return "***"
	}
	if strings.HasPrefix(p.Scheme, "sqlite") {
		return p.Scheme + ":***"
	}
	if p.Opaque != "" {
		return p.Scheme + ":***"
	}
	var b strings.Builder
	b.WriteString(p.Scheme)
	b.WriteString("://")
	if p.User != nil {
		b.WriteString(url.User(p.User.Username()).String())
		if _, has := p.User.Password(); has {
			b.WriteString(":***")
		}
		b.WriteByte('@')
	}
	b.WriteString(p.Host)
	b.WriteString(p.EscapedPath())
	return b.String()
}

// GoString implements fmt.GoStringer.
func (u DBURI) GoString() string { return u.String() }

// Format implements fmt.Formatter, so that no verb or flag reaches the field.
func (u DBURI) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, u.String()) }

// LogValue implements slog.LogValuer.
func (u DBURI) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText implements encoding.TextMarshaler; JSON uses it.
func (u DBURI) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText takes the URI verbatim.
func (u *DBURI) UnmarshalText(b []byte) error {
	u.s = string(b)
	return nil
}

// Scan implements sql.Scanner; NULL is the absent URI.
func (u *DBURI) Scan(v any) error {
	switch t := v.(type) {
	case nil:
		u.s = ""
	case string:
		u.s = t
	case []byte:
		u.s = string(t)
	default:
		return fmt.Errorf("database uri column: unexpected type %T", v)
	}
	return nil
}

// Value implements driver.Valuer; the absent URI is NULL.
func (u DBURI) Value() (driver.Value, error) {
	if u.s == "" {
		return nil, nil
	}
	return u.s, nil
}
