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
	// ErrText: no database can hold such a text.
	ErrText = errors.New("text must be UTF-8 without NUL")
	// ErrLongID: the id of a new row has more than MaxNewID bytes.
	ErrLongID = errors.New("a new id has at most 255 bytes: choose a shorter one")
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
	busy bool  // it gave way to another program and may succeed later
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
	f := &fault{op: op, busy: gaveWay(err)}
	f.why, f.kind = diagnose(err)
	switch {
	case errors.Is(err, context.Canceled):
		f.kind, f.why, f.ctx = nil, "canceled", context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		f.kind, f.why, f.ctx = ErrUnavailable, "no answer within the deadline", context.DeadlineExceeded
	}
	return f
}

func diagnose(err error) (why string, kind error) {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return diagnosePostgres(pg)
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		return diagnoseSQLite(lite)
	}
	switch {
	case errors.Is(err, errRecovery):
		return "the server is in recovery: the URL must lead to the primary", ErrUnavailable
	case errors.Is(err, errReadOnly):
		return "the server is read-only: the URL must lead to the primary", ErrUnavailable
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: is the server running at that host and port?", ErrUnavailable
	case errors.Is(err, fs.ErrNotExist):
		return "no such file or directory", ErrUnavailable
	case errors.Is(err, fs.ErrPermission):
		return "permission denied by the file system", ErrUnavailable
	case errors.Is(err, errTooManyRows):
		return "more rows than any answer can have: remove doubled memberships", nil
	case errors.Is(err, sql.ErrTxDone):
		return "the transaction is over", nil
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return "host name not found: check the URL", ErrUnavailable
		}
		return "host name could not be looked up", ErrUnavailable
	}
	if connectionBroken(err) {
		return "connection lost", ErrUnavailable
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return "no connection: check host, port and sslmode of the URL", ErrUnavailable
	}
	return fmt.Sprintf("unexpected error (%T)", err), nil
}

// diagnosePostgres goes by SQLSTATE (PostgreSQL documentation, appendix A). Constraint names are ours or fh-saas's,
// not data.
func diagnosePostgres(pg *pgconn.PgError) (why string, kind error) {
	why = "SQLSTATE " + pg.Code
	if pg.ConstraintName != "" {
		why += " (" + pg.ConstraintName + ")"
	}
	switch pg.Code {
	case "28P01", "28000":
		return "user or password rejected by the server", ErrUnavailable
	case "3D000":
		return "the server has no such database", ErrUnavailable
	case "53100":
		return "the server's disk is full", ErrUnavailable
	case "42501":
		return "permission denied by the server: grant it to the role of the URL", nil
	case "25006":
		return "the server is read-only: the URL must lead to a primary that takes writes", ErrUnavailable
	case "42P01", "42703", "3F000", "42883":
		return why + ": run `tenantgate migrate`", ErrSchema
	case "40001", "40P01", "55P03", "57014":
		return why, ErrUnavailable
	case "54000":
		return why + ": a value is too long for its index: shorten it", nil
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "08", "53", "57", "58":
		return why, ErrUnavailable
	case "23":
		return why, ErrConflict
	}
	return why, nil
}

func diagnoseSQLite(e *sqlite.Error) (why string, kind error) {
	why = fmt.Sprintf("SQLite result code %d", e.Code())
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return "another program keeps the database file locked", ErrUnavailable
	case sqlite3.SQLITE_CONSTRAINT:
		return why, ErrConflict
	case sqlite3.SQLITE_CANTOPEN:
		return "the database file cannot be opened", ErrUnavailable
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return "the file is no SQLite database, or a damaged one", ErrUnavailable
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return "the database file cannot be written to", ErrUnavailable
	case sqlite3.SQLITE_FULL:
		return "the disk is full", ErrUnavailable
	case sqlite3.SQLITE_IOERR:
		switch e.Code() {
		case sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE: // the second, where the first connection opens the file
			why = "the disk is full, or fails: " + why
		}
		return why, ErrUnavailable
	case sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT:
		return why, ErrUnavailable
	case sqlite3.SQLITE_ERROR:
		if strings.Contains(e.Error(), "no such table") || strings.Contains(e.Error(), "no such column") {
			return "a table or column is missing: run `tenantgate migrate`", ErrSchema
		}
	}
	return why, nil
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
