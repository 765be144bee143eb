// Package dbfault says what may be shown of a database driver's error. An engine's own words may repeat a URL, a password,
// a statement or a row, so they are dropped for good: nothing that is made here wraps a driver's error. What is left is a
// SQLSTATE or a result code, names of the schema and fixed texts. A room that talks to databases makes its errors with a
// Room and decides only what a cause means to its readers. Safe for concurrent use. What is not known reads as
// "unexpected error" and the error's type.
package dbfault

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
)

// Fault is an engine's error as callers see it. It wraps a room's sentinel and a context's error, nothing else.
type Fault struct {
	op    string // what was tried
	why   string
	kind  error // a sentinel or nil
	cause Cause
}

func (f *Fault) Error() string {
	text := f.op
	if f.kind != nil {
		text += ": " + f.kind.Error()
	}
	if f.why != "" {
		text += ": " + f.why
	}
	return text
}

// Unwrap lets errors.Is find the sentinel and context.Canceled or context.DeadlineExceeded.
func (f *Fault) Unwrap() []error {
	var errs []error
	for _, err := range []error{f.kind, f.cause.ended} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// Room is what one room's readers are told.
type Room struct {
	Own         []error // its sentinels
	Unavailable error   // the one of them that means: try again later
	// Meaning says why, and which sentinel or nil it is. err is for errors.Is with the room's own errors, never for its
	// text. It is not asked where the caller's context ended.
	Meaning func(err error, c Cause) (why string, kind error)
}

// Safe makes err fit to be shown; op says what was tried. The room's own errors pass unchanged, unless a driver's error
// can be reached through them.
func (r Room) Safe(op string, err error) error {
	if err == nil {
		return nil
	}
	_, made := errors.AsType[*Fault](err)
	own := r.sentinel(err)
	if (made || own != nil) && !holdsDriver(err) {
		return err
	}
	f := &Fault{op: op, cause: Of(err)}
	switch f.cause.ended {
	case context.Canceled:
		f.why = f.cause.Text
	case context.DeadlineExceeded:
		f.why, f.kind = f.cause.Text, r.Unavailable
	default:
		f.why, f.kind = r.Meaning(err, f.cause)
	}
	if own != nil {
		f.kind = own
	}
	return f
}

func (r Room) sentinel(err error) error {
	for _, s := range r.Own {
		if errors.Is(err, s) {
			return s
		}
	}
	return nil
}

// holdsDriver reports whether somebody who prints or unwraps err may see a driver's own words.
func holdsDriver(err error) bool {
	_, server := errors.AsType[*pgconn.PgError](err)
	_, connect := errors.AsType[*pgconn.ConnectError](err)
	_, config := errors.AsType[*pgconn.ParseConfigError](err)
	_, lite := errors.AsType[*sqlite.Error](err)
	return server || connect || config || lite
}
