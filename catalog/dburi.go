package catalog

import (
	"database/sql/driver"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"unique"
)

// DBURI is a database URI with its credentials. It redacts itself under every verb of fmt, in slog, JSON and text;
// only Reveal shows it. In an unexported field, where fmt calls no methods, it prints as an address: the text stands
// behind a pointer. Equal URIs compare equal. The zero value is the absent URI.
type DBURI struct{ h unique.Handle[string] }

// NewDBURI wraps s verbatim; nothing is validated.
func NewDBURI(s string) DBURI {
	if s == "" {
		return DBURI{}
	}
	return DBURI{unique.Make(s)}
}

// Reveal returns the URI verbatim, password included. Callers must not log, trace or render it.
func (u DBURI) Reveal() string {
	if u.IsZero() {
		return ""
	}
	return u.h.Value()
}

// IsZero reports whether there is no URI.
func (u DBURI) IsZero() bool { return u == DBURI{} }

// String returns the URI as postgresql://user:***@host/db. Query parameters are dropped (libpq accepts a
// password there), and a text that is no URI prints as "***" alone.
func (u DBURI) String() string {
	if u.IsZero() {
		return ""
	}
	text := u.Reveal()
	if kind, _, ok := strings.Cut(text, ":"); ok && (kind == "enc" || kind == "ref") {
		return kind + ":***"
	}
	p, err := url.Parse(text)
	if err != nil || p.Scheme == "" || strings.Contains(text, "\n") {
		return "***"
	}
	if strings.HasPrefix(p.Scheme, "sqlite") {
		return p.Scheme + ":***"
	}
	if p.Opaque != "" {
		return p.Scheme + ":***"
	}
	if signs := strings.Count(text, "@"); signs > 1 || signs == 1 && p.User == nil {
		return p.Scheme + ":***" // a password with an unescaped / ? # or @: its parts are not where they seem to be
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
	*u = NewDBURI(string(b))
	return nil
}

// Scan implements sql.Scanner; NULL is the absent URI.
func (u *DBURI) Scan(v any) error {
	switch t := v.(type) {
	case nil:
		*u = DBURI{}
	case string:
		*u = NewDBURI(t)
	case []byte:
		*u = NewDBURI(string(t))
	default:
		return fmt.Errorf("database uri column: unexpected type %T", v)
	}
	return nil
}

// Value implements driver.Valuer; the absent URI is NULL.
func (u DBURI) Value() (driver.Value, error) {
	if u.IsZero() {
		return nil, nil
	}
	return u.Reveal(), nil
}
