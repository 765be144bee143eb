package dbfault

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

// Class tells what failed, where an engine said nothing.
type Class int

// The classes of a Cause.
const (
	Other       Class = iota
	Unavailable       // there is no connection, or no room on the disk: it may work later
	File              // the file system refuses
)

// Cause is what may be told of a driver's error. All of it is fit to be shown.
type Cause struct {
	SQLState string // PostgreSQL's five characters (its documentation, appendix A), "" if it said nothing
	SQLite   int    // SQLite's extended result code, 0 if it said nothing
	Class    Class
	Text     string // in words: the code, or what is wrong
	Broken   bool   // a connection, not a statement, failed: the same read may succeed on another one
	Missing  bool   // SQLite has no such table or column; of PostgreSQL the SQLState says so

	// What the server names of the schema in an error that is its own. "" where a function raised it, for then they hold
	// whatever the function wrote.
	Table, Column, Constraint string
	// Said is what the server complains of in a statement's text (class 42), without the literals of that text.
	Said string

	ended error // context.Canceled, context.DeadlineExceeded or nil
}

// Of says what may be told of err: of a driver's error, or of a Fault that was made of one.
func Of(err error) Cause {
	if f, ok := errors.AsType[*Fault](err); ok {
		return f.cause
	}
	c := look(err)
	c.Broken = broken(err)
	switch {
	case errors.Is(err, context.Canceled):
		c.Text, c.ended = "canceled", context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		c.Text, c.ended = "no answer within the deadline", context.DeadlineExceeded
	}
	return c
}

// GaveWay says whether a statement gave way to another program, so that it may succeed later: lock_not_available,
// deadlock_detected, or SQLite's SQLITE_BUSY.
func (c Cause) GaveWay() bool {
	return c.SQLState == "55P03" || c.SQLState == "40P01" || c.SQLite&0xff == sqlite3.SQLITE_BUSY
}

func look(err error) Cause {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return ofPostgres(pg)
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		return ofSQLite(lite)
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return Cause{Class: Unavailable, Text: "connection refused: is the server running at that host and port?"}
	case errors.Is(err, fs.ErrNotExist):
		return Cause{Class: File, Text: "no such file or directory"}
	case errors.Is(err, fs.ErrPermission):
		return Cause{Class: File, Text: "permission denied by the file system"}
	case errors.Is(err, syscall.ENOSPC):
		return Cause{Class: Unavailable, Text: "the disk is full"}
	case errors.Is(err, sql.ErrTxDone):
		return Cause{Text: "the transaction is over"}
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return Cause{Class: Unavailable, Text: "host name not found: check the URL"}
		}
		return Cause{Class: Unavailable, Text: "host name could not be looked up"}
	}
	if broken(err) {
		return Cause{Class: Unavailable, Text: "connection lost"}
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return Cause{Class: Unavailable, Text: "no connection: check host, port and sslmode of the URL"}
	}
	return Cause{Text: fmt.Sprintf("unexpected error (%T)", err)}
}

func ofPostgres(pg *pgconn.PgError) Cause {
	c := Cause{SQLState: state(pg.Code)}
	switch c.SQLState {
	case "28P01", "28000":
		c.Text = "user or password rejected by the server"
	case "3D000":
		c.Text = "the server has no such database"
	case "42501":
		c.Text = "permission denied by the server"
	case "53100":
		c.Text = "the server's disk is full"
	default:
		c.Text = "SQLSTATE " + c.SQLState
	}
	// pl_exec.c, plperl.c, plpy_spi.c: RAISE and its kin fill every field. Without a SQLSTATE it is no PostgreSQL.
	if c.SQLState != unknown && !strings.HasPrefix(pg.File, "pl") {
		c.Table, c.Column, c.Constraint = name(pg.TableName), name(pg.ColumnName), name(pg.ConstraintName)
		if pg.Where == "" && strings.HasPrefix(c.SQLState, "42") { // else the statement was put together from data
			c.Said = oneLine(withoutLiteral(pg.Message))
		}
	}
	return c
}

// unknown stands for what a server sends in the place of a SQLSTATE.
const unknown = "UNKNOWN"

// state is a SQLSTATE or unknown.
func state(code string) string {
	if len(code) != 5 || strings.Trim(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return unknown
	}
	return code
}

const (
	// maxName is the length of PostgreSQL's identifiers in bytes.
	maxName = 63
	// maxSaid bounds what is repeated of an engine's words, in bytes.
	maxSaid = 300
)

// name is an identifier as the server names it, "" for what is too long to be one.
func name(s string) string {
	if len(s) > maxName {
		return ""
	}
	return oneLine(s)
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxSaid {
		s = strings.ToValidUTF8(s[:maxSaid], "") + "…"
	}
	return s
}

// withoutLiteral is a message of the parser without the place that it repeats of the statement, unless that is a plain
// word or a mark: it may be a password, in quotes, in dollars or in none.
func withoutLiteral(message string) string {
	before, near, _ := strings.Cut(message, " at or near ")
	if !strings.ContainsAny(strings.TrimSuffix(strings.TrimPrefix(near, `"`), `"`), `'"$0123456789`) {
		return message
	}
	return before + " at or near a literal"
}

func ofSQLite(e *sqlite.Error) Cause {
	c := Cause{SQLite: e.Code(), Text: fmt.Sprintf("SQLite result code %d", e.Code())}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		c.Text = "the file is no SQLite database, or a damaged one"
	case sqlite3.SQLITE_ERROR:
		c.Missing = strings.Contains(e.Error(), "no such table") || strings.Contains(e.Error(), "no such column")
	}
	return c
}

func broken(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "57P") // a FATAL such as admin_shutdown
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	for _, e := range []error{
		driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE, pgconn.ErrConnClosed,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
