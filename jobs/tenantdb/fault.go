package tenantdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// fault is an engine's error as callers see it. The engine's own text is dropped, because it may repeat a URL, a
// password or a row.
type fault struct {
	op   string
	kind error // a sentinel or nil
	why  string
	ctx  error // context.Canceled or context.DeadlineExceeded, or nil
}

func (f *fault) Error() string {
	text := f.op
	if f.kind != nil {
		text += ": " + f.kind.Error()
	}
	if f.why != "" {
		text += ": " + f.why
	}
	return text
}

func (f *fault) Unwrap() []error {
	var errs []error
	for _, err := range []error{f.kind, f.ctx} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func ours(err error) bool {
	for _, s := range []error{ErrForeign, ErrDenied, ErrGone, ErrUnavailable, ErrMigration} {
		if errors.Is(err, s) {
			return true
		}
	}
	_, ok := errors.AsType[*fault](err)
	return ok
}

// safe makes err fit to be shown. Errors that are ours already pass unchanged.
func safe(op string, err error) error {
	if err == nil || ours(err) {
		return err
	}
	f := &fault{op: op}
	switch {
	case errors.Is(err, context.Canceled):
		f.why, f.ctx = "canceled", context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		f.kind, f.why, f.ctx = ErrUnavailable, "no answer within the deadline", context.DeadlineExceeded
	default:
		f.why, f.kind = diagnose(err)
	}
	return f
}

// denied is safe for a statement that somebody with more rights could run: the text names it.
func denied(op, statement string, err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Code != "42501" {
		return safe(op, err)
	}
	return fmt.Errorf("%s: %w: let a role that may run: %s", op, ErrDenied, statement)
}

// stillNeeded tells that something cannot be dropped because other things depend on it.
func stillNeeded(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "2BP01"
}

func diagnose(err error) (why string, kind error) {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return diagnosePostgres(pg)
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		return diagnoseSQLite(lite)
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: is the server running at that host and port?", ErrUnavailable
	case errors.Is(err, fs.ErrNotExist):
		return "no such file or directory", nil
	case errors.Is(err, fs.ErrPermission):
		return "permission denied by the file system", nil
	case errors.Is(err, syscall.ENOSPC):
		return "the disk is full", ErrUnavailable
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return "host name not found: check the URL", ErrUnavailable
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return "connection lost", ErrUnavailable
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return "no connection: check host, port and sslmode of the URL", ErrUnavailable
	}
	if text := err.Error(); strings.Contains(text, "conn closed") || strings.Contains(text, "unexpected EOF") {
		return "connection lost", ErrUnavailable
	}
	return fmt.Sprintf("unexpected error (%T)", err), nil
}

// diagnosePostgres goes by SQLSTATE (PostgreSQL documentation, appendix A).
func diagnosePostgres(pg *pgconn.PgError) (why string, kind error) {
	why = "SQLSTATE " + pg.Code
	switch pg.Code {
	case "28P01", "28000":
		return "user or password rejected by the server", ErrUnavailable
	case "3D000":
		return "the server has no such database", ErrGone
	case "42501":
		return "permission denied by the server", ErrDenied
	case "53300":
		return "the server has no connection left", ErrUnavailable
	case "53100":
		return "the server's disk is full", ErrUnavailable
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "08", "40", "53", "55", "57", "58":
		return why, ErrUnavailable
	}
	return why, nil
}

func diagnoseSQLite(e *sqlite.Error) (why string, kind error) {
	why = fmt.Sprintf("SQLite result code %d", e.Code())
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return "another program keeps the file locked", ErrUnavailable
	case sqlite3.SQLITE_CANTOPEN:
		return "the file is not there or cannot be opened", ErrGone
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return "the file is no SQLite database, or a damaged one", nil
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return "the file cannot be written to", nil
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT:
		return why, ErrUnavailable
	}
	return why, nil
}
