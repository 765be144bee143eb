package catalog

import (
	"errors"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tenantgate/tenantgate/internal/dbfault"
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

// safe makes err fit to be shown, as package dbfault does. Errors that are ours already pass unchanged.
func safe(op string, err error) error {
	if err == nil {
		return nil
	}
	return dbfault.Room{
		Own: []error{ErrNotFound, ErrConflict, ErrUnavailable, ErrSchema}, Unavailable: ErrUnavailable, Meaning: meaning,
	}.Safe(op, err)
}

func meaning(err error, c dbfault.Cause) (why string, kind error) {
	switch {
	case c.SQLState != "":
		return meaningPostgres(c)
	case c.SQLite != 0:
		return meaningSQLite(c)
	case errors.Is(err, errRecovery):
		return "the server is in recovery: the URL must lead to the primary", ErrUnavailable
	case errors.Is(err, errReadOnly):
		return "the server is read-only: the URL must lead to the primary", ErrUnavailable
	case errors.Is(err, errTooManyRows):
		return "more rows than any answer can have: remove doubled memberships", nil
	case c.Class != dbfault.Other:
		return c.Text, ErrUnavailable
	}
	return c.Text, nil
}

// meaningPostgres may show the constraint: its name is ours or fh-saas's, not data.
func meaningPostgres(c dbfault.Cause) (why string, kind error) {
	why = c.Text
	if c.Constraint != "" {
		why += " (" + c.Constraint + ")"
	}
	switch c.SQLState {
	case "28P01", "28000", "3D000", "53100":
		return c.Text, ErrUnavailable
	case "42501":
		return c.Text + ": grant it to the role of the URL", nil
	case "25006":
		return "the server is read-only: the URL must lead to a primary that takes writes", ErrUnavailable
	case "42P01", "42703", "3F000", "42883":
		return why + ": run `tenantgate migrate`", ErrSchema
	case "40001", "40P01", "55P03", "57014":
		return why, ErrUnavailable
	case "54000":
		return why + ": a value is too long for its index: shorten it", nil
	}
	switch c.SQLState[:2] {
	case "08", "53", "57", "58":
		return why, ErrUnavailable
	case "23":
		return why, ErrConflict
	}
	return why, nil
}

func meaningSQLite(c dbfault.Cause) (why string, kind error) {
	switch c.SQLite & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return "another program keeps the database file locked", ErrUnavailable
	case sqlite3.SQLITE_CONSTRAINT:
		return c.Text, ErrConflict
	case sqlite3.SQLITE_CANTOPEN:
		return "the database file cannot be opened", ErrUnavailable
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return "the database file cannot be written to", ErrUnavailable
	case sqlite3.SQLITE_FULL:
		return "the disk is full", ErrUnavailable
	case sqlite3.SQLITE_IOERR:
		switch c.SQLite {
		case sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE: // the second, where the first connection opens the file
			return "the disk is full, or fails: " + c.Text, ErrUnavailable
		}
		return c.Text, ErrUnavailable
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT:
		return c.Text, ErrUnavailable
	case sqlite3.SQLITE_ERROR:
		if c.Missing {
			return "a table or column is missing: run `tenantgate migrate`", ErrSchema
		}
	}
	return c.Text, nil
}
