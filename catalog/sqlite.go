package catalog

import (
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// sqliteBusy is how long a connection waits for another program's lock, in ms.
const sqliteBusy = "5000"

// openSQLite opens one writer and a pool of readers on the file, which is made (mode 0600) if it is not there. WAL lets
// readers and the writer work beside each other, and fh-saas beside both.
func openSQLite(loc location, maxConns int) (write, read *sql.DB, err error) {
	if err := createPrivately(loc.path); err != nil {
		return nil, nil, err
	}
	write, err = sql.Open("sqlite", sqliteDSN(loc.path, url.Values{
		"_pragma": {"busy_timeout(" + sqliteBusy + ")", "journal_mode(wal)"},
		"_txlock": {"immediate"}, // a reader that turns writer could not wait its turn
	}))
	if err != nil {
		return nil, nil, safe("open host database", err)
	}
	write.SetMaxOpenConns(1)
	read, err = sql.Open("sqlite", sqliteDSN(loc.path, url.Values{
		"_pragma": {"busy_timeout(" + sqliteBusy + ")", "query_only(1)"},
	}))
	if err != nil {
		return nil, nil, errors.Join(safe("open host database", err), write.Close())
	}
	n := max(min(maxConns, 4*runtime.GOMAXPROCS(0)), 2)
	read.SetMaxOpenConns(n)
	read.SetMaxIdleConns(n)
	return write, read, nil
}

func sqliteDSN(path string, params url.Values) string {
	params.Set("mode", "rw")
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: params.Encode()}
	if !filepath.IsAbs(path) {
		u.Path, u.Opaque = "", (&url.URL{Path: path}).EscapedPath()
	}
	return u.String()
}

// fileMissing reports whether u names a database file that is not there and whose directory is.
func fileMissing(u DBURI) bool {
	loc, err := parseURL(u)
	if err != nil || loc.engine != EngineSQLite {
		return false
	}
	_, err = os.Lstat(loc.path)
	_, noDir := os.Stat(filepath.Dir(loc.path))
	return errors.Is(err, fs.ErrNotExist) && noDir == nil
}

// createPrivately makes the file readable by us alone. An existing file is not even opened: closing it would drop the
// locks that this process may hold on it.
func createPrivately(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return safe("create the host database file", err)
	}
	return safe("create the host database file", f.Close())
}
