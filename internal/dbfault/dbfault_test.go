package dbfault

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
)

const canary = "c4nary"

var errAway, errGone = errors.New("away"), errors.New("gone")

func room() Room {
	return Room{Own: []error{errAway, errGone}, Unavailable: errAway, Meaning: func(_ error, c Cause) (string, error) {
		if c.Class == Unavailable {
			return c.Text, errAway
		}
		return c.Text, nil
	}}
}

// shown is all that a caller can print of an error and of what it wraps.
func shown(err error) string {
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "error", err, "any", slog.AnyValue(err))
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "error", err)
	for _, e := range chain(err) {
		text, _ := json.Marshal(e)
		fmt.Fprintf(&b, "%v %+v %#v %q %s %s", e, e, e, e, e, text)
	}
	fmt.Fprintf(&b, "%v %+v %#v", Of(err), Of(err), Of(err))
	return strings.ToLower(b.String())
}

func chain(err error) []error {
	all := []error{err}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			all = append(all, chain(inner)...)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			all = append(all, chain(inner)...)
		}
	}
	return all
}

// full has the canary in every text field of a server's error.
func full(t *testing.T, change func(*pgconn.PgError)) *pgconn.PgError {
	t.Helper()
	pg := &pgconn.PgError{}
	v := reflect.ValueOf(pg).Elem()
	for i := range v.NumField() {
		if v.Field(i).Kind() == reflect.String {
			v.Field(i).SetString(canary)
		}
	}
	change(pg)
	return pg
}

func connectError(t *testing.T, uri string) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), uri)
	if err == nil {
		_ = conn.Close(t.Context())
		t.Fatal("a connection to nowhere")
	}
	return err
}

// liteError is SQLite's own error of a statement that names the canary.
func liteError(t *testing.T, path, statement string) error {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.ExecContext(t.Context(), statement)
	if _, ok := errors.AsType[*sqlite.Error](err); !ok {
		t.Fatalf("%s: %v", statement, err)
	}
	return err
}

// drivers are errors that show the canary, if only to who looks closely.
func drivers(t *testing.T) map[string]error {
	t.Helper()
	file := filepath.Join(t.TempDir(), canary)
	if err := os.WriteFile(file, []byte(strings.Repeat(canary, 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, config := pgx.ParseConfig("postgresql://u:" + canary + "@[::1")
	_, missing := os.Open(filepath.Join(file, canary))
	raised := func(code string) func(*pgconn.PgError) {
		return func(pg *pgconn.PgError) { pg.Code, pg.File, pg.Routine = code, "pl_exec.c", "exec_stmt_raise" }
	}
	all := map[string]error{
		"every field":      full(t, func(*pgconn.PgError) {}),
		"a long code":      full(t, func(pg *pgconn.PgError) { pg.Code, pg.File = "42501 "+canary, "pl_exec.c" }),
		"raised":           full(t, raised("P0001")),
		"raised as syntax": full(t, raised("42501")),
		"raised, no where": full(t, func(pg *pgconn.PgError) { raised("42601")(pg); pg.Where = "" }),
		"built from data": full(t, func(pg *pgconn.PgError) {
			pg.Code, pg.File, pg.TableName, pg.ColumnName, pg.ConstraintName = "42P01", "parse_relation.c", "", "", ""
		}),
		"syntax": full(t, func(pg *pgconn.PgError) {
			pg.Code, pg.File, pg.Where, pg.TableName, pg.ColumnName, pg.ConstraintName = "42601", "scan.l", "", "", "", ""
			pg.Message = `syntax error at or near "` + canary + `"`
		}),
		"a row's value": full(t, func(pg *pgconn.PgError) {
			pg.Code, pg.File, pg.Where, pg.TableName, pg.ColumnName, pg.ConstraintName = "23505", "nbtinsert.c", "", "t", "", "t_pkey"
		}),
		"no server":    connectError(t, "postgresql://"+canary+":"+canary+"@127.0.0.1:1/"+canary),
		"no socket":    connectError(t, "postgresql://"+canary+":"+canary+"@/"+canary+"?host=/"+canary),
		"no such host": connectError(t, "postgresql://u:"+canary+"@"+canary+".invalid/db?connect_timeout=2"),
		"no URI":       config,
		"no database":  liteError(t, file, "SELECT * FROM "+canary),
		"no table":     liteError(t, ":memory:", "SELECT '"+canary+"' FROM "+canary),
		"no SQL":       liteError(t, ":memory:", "SELECT '"+canary+"' WHERE "+canary+" !"),
		"no file":      missing,
		"a lookup":     &net.DNSError{Name: canary, Server: canary, Err: canary},
		"anything":     errors.New(canary),
	}
	return all
}

func TestNothingOfADriversErrorIsShown(t *testing.T) {
	for name, raw := range drivers(t) {
		for wrapped, err := range map[string]error{
			name:                      raw,
			name + ", wrapped":        fmt.Errorf("%s: %w", canary, raw),
			name + ", joined":         errors.Join(raw, errors.New(canary)),
			name + ", at a deadline":  errors.Join(raw, context.DeadlineExceeded),
			name + ", when canceled":  errors.Join(raw, context.Canceled),
			name + ", of a closed tx": errors.Join(raw, sql.ErrTxDone),
		} {
			made := room().Safe("try", err)
			again := room().Safe("again", fmt.Errorf("more: %w", made))
			if text := shown(made) + shown(again); strings.Contains(text, canary) {
				t.Errorf("%s: %s", wrapped, text)
			}
			if again.Error() != "more: "+made.Error() || holdsDriver(made) {
				t.Errorf("%s: %v, %v", wrapped, made, again)
			}
			if err := made; errors.Is(err, context.Canceled) != strings.HasSuffix(wrapped, "when canceled") ||
				errors.Is(err, context.DeadlineExceeded) != strings.HasSuffix(wrapped, "at a deadline") {
				t.Errorf("%s: the context's end: %v", wrapped, err)
			}
		}
	}
}

// A sentinel lets an error pass as it is, but not a driver's error along with it.
func TestASentinelOpensNoWayToTheDriver(t *testing.T) {
	own := fmt.Errorf("drop it: %w", errGone)
	if got := room().Safe("try", own); got != own {
		t.Errorf("%v", got)
	}
	made := room().Safe("try", syscall.ECONNREFUSED)
	if both := errors.Join(own, made); room().Safe("try", both) != both {
		t.Error("errors of the room's own were changed")
	}
	for name, raw := range drivers(t) {
		if !holdsDriver(raw) {
			continue // then it can only have been a text of the room's own
		}
		for _, err := range []error{errors.Join(own, raw), errors.Join(own, made, raw)} {
			got := room().Safe("try", err)
			if !errors.Is(got, errGone) && !errors.Is(got, errAway) || holdsDriver(got) || strings.Contains(shown(got), canary) {
				t.Errorf("%s: %s", name, shown(got))
			}
		}
	}
}

func TestCauses(t *testing.T) {
	pg := func(code, file, where, message string) error {
		return fmt.Errorf("x: %w", &pgconn.PgError{
			Code: code, File: file, Where: where, Message: message, TableName: "t", ColumnName: "c", ConstraintName: "k",
		})
	}
	names := Cause{Table: "t", Column: "c", Constraint: "k"}
	named := func(c Cause) Cause {
		c.Table, c.Column, c.Constraint = names.Table, names.Column, names.Constraint
		return c
	}
	for name, tc := range map[string]struct {
		err  error
		want Cause
	}{
		"a doubled key":   {pg("23505", "nbtinsert.c", "SQL statement in a DO block", canary), named(Cause{SQLState: "23505", Text: "SQLSTATE 23505"})},
		"raised":          {pg("23505", "pl_exec.c", "PL/pgSQL function", canary), Cause{SQLState: "23505", Text: "SQLSTATE 23505"}},
		"syntax":          {pg("42601", "scan.l", "", `syntax error at or near "CRATE"`), named(Cause{SQLState: "42601", Text: "SQLSTATE 42601", Said: `syntax error at or near "CRATE"`})},
		"a mark":          {pg("42601", "scan.l", "", `syntax error at or near ")"`), named(Cause{SQLState: "42601", Text: "SQLSTATE 42601", Said: `syntax error at or near ")"`})},
		"a quoted name":   {pg("42601", "scan.l", "", `syntax error at or near ""hunter""`), named(Cause{SQLState: "42601", Text: "SQLSTATE 42601", Said: "syntax error at or near a literal"})},
		"a word":          {pg("42601", "scan.l", "", `syntax error at or near "hunter2"`), named(Cause{SQLState: "42601", Text: "SQLSTATE 42601", Said: "syntax error at or near a literal"})},
		"built from data": {pg("42601", "scan.l", "PL/pgSQL function", "x"), named(Cause{SQLState: "42601", Text: "SQLSTATE 42601"})},
		"no SQLSTATE":     {&pgconn.PgError{Code: "28P01\n"}, Cause{SQLState: "UNKNOWN", Text: "SQLSTATE UNKNOWN"}},
		"no name":         {&pgconn.PgError{Code: "23505", TableName: strings.Repeat("x", 64)}, Cause{SQLState: "23505", Text: "SQLSTATE 23505"}},
		"a shutdown":      {&pgconn.PgError{Code: "57P01"}, Cause{SQLState: "57P01", Text: "SQLSTATE 57P01", Broken: true}},
		"a full disk":     {fmt.Errorf("x: %w", syscall.ENOSPC), Cause{Class: Unavailable, Text: "the disk is full", Broken: true}},
		"no file":         {&fs.PathError{Op: canary, Path: canary, Err: fs.ErrNotExist}, Cause{Class: File, Text: "no such file or directory"}},
		"a closed one":    {fmt.Errorf("x: %w", pgconn.ErrConnClosed), Cause{Class: Unavailable, Text: "connection lost", Broken: true}},
		"no host":         {&net.DNSError{IsNotFound: true}, Cause{Class: Unavailable, Text: "host name not found: check the URL", Broken: true}},
		"no lookup":       {&net.DNSError{}, Cause{Class: Unavailable, Text: "host name could not be looked up", Broken: true}},
		"nothing":         {nil, Cause{Text: "unexpected error (<nil>)"}},
		"a missing table": {liteError(t, ":memory:", "SELECT 1 FROM "+canary), Cause{SQLite: 1, Text: "SQLite result code 1", Missing: true}},
	} {
		if got := Of(tc.err); got != tc.want {
			t.Errorf("%s: %+v; want %+v", name, got, tc.want)
		}
		if tc.err != nil {
			if got := Of(room().Safe("try", tc.err)); got != tc.want {
				t.Errorf("%s, once it was made safe: %+v", name, got)
			}
		}
	}
}

func TestADeadlineMayHaveGivenWay(t *testing.T) {
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	made := room().Safe("try", errors.Join(&pgconn.PgError{Code: "55P03"}, ctx.Err()))
	if !Of(made).GaveWay() || !errors.Is(made, errAway) || made.Error() != "try: away: no answer within the deadline" {
		t.Errorf("%v", made)
	}
}
