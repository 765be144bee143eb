package tenantdb

import (
	"fmt"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tenantgate/tenantgate/internal/dbfault"
)

// safe makes err fit to be shown, as package dbfault does. Errors that are ours already pass unchanged.
func safe(op string, err error) error {
	if err == nil {
		return nil
	}
	return dbfault.Room{
		Own: []error{ErrForeign, ErrDenied, ErrGone, ErrUnavailable, ErrMigration}, Unavailable: ErrUnavailable, Meaning: meaning,
	}.Safe(op, err)
}

// denied is safe for a statement that somebody with more rights could run: the text names it.
func denied(op, statement string, err error) error {
	if dbfault.Of(err).SQLState != "42501" {
		return safe(op, err)
	}
	return fmt.Errorf("%s: %w: let a role that may run: %s", op, ErrDenied, statement)
}

// stillNeeded tells that something cannot be dropped because other things depend on it.
func stillNeeded(err error) bool { return dbfault.Of(err).SQLState == "2BP01" }

func meaning(_ error, c dbfault.Cause) (why string, kind error) {
	switch {
	case c.SQLState != "":
		return meaningPostgres(c)
	case c.SQLite != 0:
		return meaningSQLite(c)
	case c.Class == dbfault.Unavailable:
		return c.Text, ErrUnavailable
	}
	return c.Text, nil
}

func meaningPostgres(c dbfault.Cause) (why string, kind error) {
	switch c.SQLState {
	case "28P01", "28000":
		return c.Text, ErrUnavailable
	case "3D000":
		return c.Text, ErrGone
	case "42501":
		return c.Text, ErrDenied
	case "53300":
		return "the server has no connection left", ErrUnavailable
	}
	switch c.SQLState[:2] {
	case "08", "40", "53", "55", "57", "58":
		return c.Text, ErrUnavailable
	}
	return c.Text, nil
}

func meaningSQLite(c dbfault.Cause) (why string, kind error) {
	switch c.SQLite & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return "another program keeps the file locked", ErrUnavailable
	case sqlite3.SQLITE_CANTOPEN:
		return "the file is not there or cannot be opened", ErrGone
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return "the file cannot be written to", nil
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT:
		return c.Text, ErrUnavailable
	}
	return c.Text, nil
}
