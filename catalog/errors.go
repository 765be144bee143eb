package catalog

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Sentinels; test with errors.Is.
var (
	// ErrNotFound: no row has that id.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the write would break a rule (an id taken, an active membership doubled, a slug equal to an id).
	ErrConflict = errors.New("conflict")
	// ErrUnavailable: the host database cannot be reached, is in recovery, or did not answer in time. Try again later.
	ErrUnavailable = errors.New("host database unavailable")
	// ErrSchema: the database lacks something that this version needs, and migrating was not asked for.
	ErrSchema = errors.New("host database schema incomplete")
)

// What a connection attempt finds out about the server, see validatePrimary.
var (
	errRecovery    = errors.New("server is in recovery")
	errReadOnly    = errors.New("server is read-only")
	errTooManyRows = errors.New("too many rows")
)

// fault is an engine's error as callers see it. The engine's own text is dropped for good, because it may repeat a
// URL, a password or a parameter's value; what is left is chosen from fixed texts and SQLSTATE codes.
type fault struct {
	op   string // what was tried
	kind error  // a sentinel or nil
	why  string
	ctx  error // context.Canceled or context.DeadlineExceeded, or nil
}

func (f *fault) Error() string {
	var b strings.Builder
	b.WriteString(f.op)
	if f.kind != nil {
		b.WriteString(": ")
		b.WriteString(f.kind.Error())
	}
	if f.why != "" {
		b.WriteString(": ")
		b.WriteString(f.why)
	}
	return b.String()
}

func (f *fault) Unwrap() []error {
	var errs []error
	if f.kind != nil {
		errs = append(errs, f.kind)
	}
	if f.ctx != nil {
		errs = append(errs, f.ctx)
	}
	return errs
}

// safe makes err fit to be shown. Errors that are ours already pass unchanged.
func safe(op string, err error) error {
	if err == nil {
		return nil
	}
	var own *fault
	if errors.As(err, &own) {
		return err
	}
	for _, s := range []error{ErrNotFound, ErrConflict, ErrUnavailable, ErrSchema} {
		if errors.Is(err, s) {
			return err
		}
	}
	f := &fault{op: op}
	f.kind, f.why = diagnose(err)
	switch {
	case errors.Is(err, context.Canceled):
		f.kind, f.why, f.ctx = nil, "canceled", context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		f.kind, f.why, f.ctx = ErrUnavailable, "no answer within the deadline", context.DeadlineExceeded
	}
	return f
}

func diagnose(err error) (kind error, why string) {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return diagnosePostgres(pg)
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		return diagnoseSQLite(lite)
	}
	switch {
	case errors.Is(err, errRecovery):
		return ErrUnavailable, "the server is in recovery: the URL must lead to the primary"
	case errors.Is(err, errReadOnly):
		return ErrUnavailable, "the server is read-only: the URL must lead to the primary"
	case errors.Is(err, syscall.ECONNREFUSED):
		return ErrUnavailable, "connection refused: is the server running at that host and port?"
	case errors.Is(err, fs.ErrNotExist):
		return ErrUnavailable, "no such file or directory"
	case errors.Is(err, fs.ErrPermission):
		return ErrUnavailable, "permission denied by the file system"
	case errors.Is(err, errTooManyRows):
		return nil, "more rows than any answer can have: remove doubled memberships"
	case errors.Is(err, sql.ErrTxDone):
		return nil, "the transaction is over"
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return ErrUnavailable, "host name not found: check the URL"
		}
		return ErrUnavailable, "host name could not be looked up"
	}
	if connectionBroken(err) {
		return ErrUnavailable, "connection lost"
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return ErrUnavailable, "no connection: check host, port and sslmode of the URL"
	}
	return nil, fmt.Sprintf("unexpected error (%T)", err)
}

// diagnosePostgres goes by SQLSTATE (PostgreSQL documentation, appendix A). Constraint names are ours or fh-saas's,
// not data.
func diagnosePostgres(pg *pgconn.PgError) (kind error, why string) {
	why = "SQLSTATE " + pg.Code
	if pg.ConstraintName != "" {
		why += " (" + pg.ConstraintName + ")"
	}
	switch pg.Code {
	case "28P01", "28000":
		return ErrUnavailable, "user or password rejected by the server"
	case "3D000":
		return ErrUnavailable, "the server has no such database"
	case "42501":
		return nil, "permission denied by the server: grant it to the role of the URL"
	case "25006":
		return ErrUnavailable, "the server is read-only: the URL must lead to the primary"
	case "42P01", "42703", "3F000", "42883":
		return ErrSchema, why + ": run `tenantgate migrate`"
	case "40001", "40P01", "55P03", "57014":
		return ErrUnavailable, why
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "08", "53", "57", "58":
		return ErrUnavailable, why
	case "23":
		return ErrConflict, why
	}
	return nil, why
}

func diagnoseSQLite(e *sqlite.Error) (kind error, why string) {
	why = fmt.Sprintf("SQLite result code %d", e.Code())
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return ErrUnavailable, "another program keeps the database file locked"
	case sqlite3.SQLITE_CONSTRAINT:
		return ErrConflict, why
	case sqlite3.SQLITE_CANTOPEN:
		return ErrUnavailable, "the database file cannot be opened"
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return ErrUnavailable, "the file is no SQLite database, or a damaged one"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return ErrUnavailable, "the database file cannot be written to"
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT:
		return ErrUnavailable, why
	case sqlite3.SQLITE_ERROR:
		if strings.Contains(e.Error(), "no such table") || strings.Contains(e.Error(), "no such column") {
			return ErrSchema, "a table or column is missing: run `tenantgate migrate`"
		}
	}
	return nil, why
}

// connectionBroken reports whether err says that a connection, not a statement, failed: then the same read may succeed
// on another one.
func connectionBroken(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "57P") // a FATAL such as admin_shutdown
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	for _, e := range []error{
		driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
		syscall.ECONNRESET, syscall.EPIPE,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return strings.Contains(err.Error(), "conn closed") // pgx has no sentinel for it
}
