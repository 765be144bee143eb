package backup

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// sqliteTries bounds how often a file is copied that somebody writes to meanwhile.
const sqliteTries = 3

// copySQLite copies a file with VACUUM INTO and compares it with the file, which must not have changed meanwhile. Both
// are only read.
func copySQLite(ctx context.Context, work, rest string) (_ *Copy, err error) {
	path := sqlitePath(rest)
	if path == "" {
		return nil, errors.New("backup: db_url names no SQLite file")
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("backup: the tenant's SQLite file is not there")
	}
	source, err := openSQLite(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	conn, err := source.Conn(ctx)
	if err != nil {
		return nil, liteFault("open the file", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	to := filepath.Join(work, SQLiteFile)
	for range sqliteTries {
		made, err := copyOnce(ctx, conn, to)
		if err != nil || made != nil {
			return made, err
		}
		if err := os.Remove(to); err != nil {
			return nil, fmt.Errorf("backup: %w", err)
		}
	}
	return nil, errors.New("backup: somebody writes to the file all the time: end the app's work on it first")
}

// copyOnce returns nil if the file changed while it was copied.
func copyOnce(ctx context.Context, conn *sql.Conn, to string) (*Copy, error) {
	var before, after int64
	version := ""
	err := conn.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version)
	if err == nil {
		err = conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&before)
	}
	if err == nil {
		_, err = conn.ExecContext(ctx, "VACUUM INTO ?", to)
	}
	if err == nil {
		err = os.Chmod(to, 0o600) // it was made in a directory that is nobody else's
	}
	if err != nil {
		return nil, liteFault("copy the file", err)
	}
	inDatabase, err := hashTables(ctx, conn)
	if err == nil {
		err = conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&after)
	}
	if err != nil {
		return nil, liteFault("read the file", err)
	}
	if before != after {
		return nil, nil
	}
	copied, err := readCopy(ctx, to)
	if err != nil {
		return nil, err
	}
	tables, err := compare(inDatabase, copied)
	if err != nil {
		return nil, err
	}
	return &Copy{File: SQLiteFile, Engine: "sqlite", Server: version, Tool: "VACUUM INTO", Tables: tables, Rows: sumRows(tables)}, nil
}

func readCopy(ctx context.Context, path string) (_ map[string]Table, err error) {
	db, err := openSQLite(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, liteFault("open the copy", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	var state string
	if err := conn.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&state); err != nil || state != "ok" {
		return nil, errors.New("backup: the copy does not pass SQLite's integrity check")
	}
	tables, err := hashTables(ctx, conn)
	return tables, liteFault("read the copy", err)
}

// hashTables reads every table of a file, in one read transaction.
func hashTables(ctx context.Context, conn *sql.Conn) (map[string]Table, error) {
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	rows, err := tx.QueryContext(ctx, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL%'")
	if err != nil {
		return nil, err
	}
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		names = append(names, name)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	tables := make(map[string]Table, len(names))
	for _, name := range names {
		if tables[name], err = hashTable(ctx, tx, name); err != nil {
			return nil, err
		}
	}
	return tables, nil
}

func hashTable(ctx context.Context, tx *sql.Tx, name string) (Table, error) {
	rows, err := tx.QueryContext(ctx, `SELECT * FROM "`+strings.ReplaceAll(name, `"`, `""`)+`"`)
	if err != nil {
		return Table{}, err
	}
	columns, err := rows.Columns()
	if err != nil {
		return Table{}, errors.Join(err, rows.Close())
	}
	values := make([]any, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	t := newTableHash(name)
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return Table{}, errors.Join(err, rows.Close())
		}
		t.rows++
		for _, v := range values {
			hashValue(t.hash, v)
		}
	}
	return t.sum(), errors.Join(rows.Err(), rows.Close())
}

// hashValue writes a value so that no two values, and no two rows of them, look the same.
func hashValue(h hash.Hash, v any) {
	var text string
	switch v := v.(type) {
	case []byte:
		text = string(v)
	case string:
		text = v
	case time.Time: // the driver's reading of a column that is declared as a date
		text = v.Format(time.RFC3339Nano)
	default:
		text = fmt.Sprint(v)
	}
	sum := sha256.Sum256([]byte(text))
	_, _ = fmt.Fprintf(h, "%T:%s;", v, hex.EncodeToString(sum[:]))
}

// openSQLite opens a file that is there. Nothing is written to it; a file in WAL mode needs its side files all the same.
func openSQLite(path string) (*sql.DB, error) {
	query := url.Values{"mode": {"rw"}, "_pragma": {"busy_timeout(" + strconv.Itoa(int(connectWait.Milliseconds())) + ")"}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+query.Encode())
	if err != nil {
		return nil, liteFault("open the file", err)
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// sqlitePath reads what follows sqlite: in a URI, as SQLAlchemy has it.
func sqlitePath(rest string) string {
	if after, ok := strings.CutPrefix(rest, "///"); ok {
		rest = after
	} else if strings.HasPrefix(rest, "//") {
		return ""
	}
	if strings.ContainsAny(rest, "?\x00") || rest == ":memory:" || strings.HasPrefix(rest, "file:") {
		return ""
	}
	return rest
}

func liteFault(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("backup: %s: canceled", op)
	case strings.HasPrefix(err.Error(), "backup: "):
		return err
	}
	return fmt.Errorf("backup: %s: SQLite refuses it (%T)", op, err)
}
