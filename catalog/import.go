package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// ImportFault is what is wrong with one row of an import.
type ImportFault struct {
	Line     int    // where the row stands in its file, from 1
	Position int    // of the value in its line, from 1; 0 where it is not known
	Column   string // "" for the row as a whole
	Reason   string
}

// Error implements error.
func (f *ImportFault) Error() string {
	where := "line " + strconv.Itoa(f.Line)
	if f.Column != "" {
		where += ", " + f.Column
	}
	return where + ": " + f.Reason
}

// ImportError says which rows of an import are wrong; nothing was imported.
type ImportError struct {
	Faults []ImportFault // in the order of lines, the first MaxImportFaults
	More   bool          // there are others
}

// Error implements error.
func (e *ImportError) Error() string {
	return fmt.Sprintf("import: %d rows are wrong, the first: %s", len(e.Faults), e.Faults[0].Error())
}

// MaxImportFaults is how many wrong rows an import reports.
const MaxImportFaults = 20

const (
	// importDeadline bounds an import whose context has no deadline.
	importDeadline = 30 * time.Minute
	// importBatch is how many rows are in memory at once.
	importBatch = 1000
	// importInsert is how many rows SQLite takes in one statement: columns times rows are its parameters.
	importInsert = 50
)

// batch are the rules of an import, asked of all rows at once.
type batch struct {
	checks  []batchCheck
	stripes string // locks that writes of single rows take by stripes, see stripe; "" for none
	names   bool   // the lock of tenants' names
	before  string // statement to run before the rows are inserted
}

// batchCheck is a statement of import.sql, and what to say about the values that it gives.
type batchCheck struct{ query, column, reason string }

// Blank returns a row with fh-saas's Python-side defaults, created now and without an id: what an import fills in for
// columns that its file does not have.
func (t *Table[ID, T]) Blank() T {
	var row T
	t.stamp(&row)
	if t.fill != nil {
		t.fill(&row)
	}
	return row
}

// Import adds many rows in one transaction of its own: all of them, or none. next gives a row and its line, io.EOF at
// the end, and an *ImportFault for a row that it cannot read, which is reported with the others. Rows are taken as they
// are, NULLs too; only an empty id is filled in. The rules of Insert hold, and each row has its audit row. A file of any
// length needs little memory: rows wait in a temporary table. Other writers are held up only while the rows are written,
// on SQLite also while the rules are checked. dry checks and changes nothing. The error is an *ImportError where rows
// are wrong. It is not for the Tables of a Tx.
func (t *Table[ID, T]) Import(ctx context.Context, next func() (row *T, line int, err error), dry bool) (n int, err error) {
	h, ok := t.at.(*HostDatabase)
	if !ok {
		return 0, errors.New("import: an import is a transaction of its own")
	}
	ctx, cancel := within(ctx, importDeadline)
	defer cancel()
	conn, err := h.write.Conn(ctx)
	if err != nil {
		return 0, safe("import "+t.noun, err)
	}
	defer func() { err = errors.Join(err, safe("import: give the connection back", conn.Close())) }()
	im := &importing[ID, T]{Table: t, h: h, conn: conn}
	if h.engine == EngineSQLite {
		return im.onSQLite(ctx, next, dry)
	}
	return im.onPostgres(ctx, next, dry)
}

// importing is one run of Import.
type importing[ID ~string, T any] struct {
	*Table[ID, T]
	h      *HostDatabase
	conn   *sql.Conn
	rows   int
	faults []ImportFault
	more   bool
}

// onPostgres does everything in one transaction: before the rows are written it holds nothing that others wait for.
func (im *importing[ID, T]) onPostgres(ctx context.Context, next func() (*T, int, error), dry bool) (int, error) {
	tx, err := im.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }()
	patience := strconv.FormatInt(importDeadline.Milliseconds(), 10)
	if _, err := tx.exec(ctx, "prepare the import", "import_patience", patience); err != nil {
		return 0, err
	}
	if err := im.create(ctx, " ON COMMIT DROP"); err != nil {
		return 0, err
	}
	columns := im.staged()
	err = im.stage(next, func(rows [][]any) error {
		return im.conn.Raw(func(driver any) error {
			c, ok := driver.(*stdlib.Conn)
			if !ok {
				return fmt.Errorf("import: unexpected driver %T", driver)
			}
			_, err := c.Conn().CopyFrom(ctx, pgx.Identifier{"pg_temp", "tenantgate_import"}, columns, pgx.CopyFromRows(rows))
			return err
		})
	})
	if err != nil {
		return 0, err
	}
	return im.finish(ctx, tx, dry)
}

// onSQLite reads the rows before it asks to be the one writer.
func (im *importing[ID, T]) onSQLite(ctx context.Context, next func() (*T, int, error), dry bool) (n int, err error) {
	if err := im.create(ctx, ""); err != nil {
		return 0, err
	}
	defer func() {
		_, dropped := im.conn.ExecContext(context.WithoutCancel(ctx), "DROP TABLE IF EXISTS temp.tenantgate_import")
		err = errors.Join(err, safe("import: clean up", dropped))
	}()
	if err := im.loadSQLite(ctx, next); err != nil {
		return 0, err
	}
	tx, err := im.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }()
	return im.finish(ctx, tx, dry)
}

// loadSQLite writes to the temporary table alone, in a transaction that takes no lock of the database.
func (im *importing[ID, T]) loadSQLite(ctx context.Context, next func() (*T, int, error)) (err error) {
	if _, err := im.conn.ExecContext(ctx, "BEGIN DEFERRED"); err != nil {
		return safe("import: begin", err)
	}
	end := "ROLLBACK"
	defer func() {
		_, ended := im.conn.ExecContext(context.WithoutCancel(ctx), end)
		err = errors.Join(err, safe("import: end", ended))
	}()
	columns := im.staged()
	mark := "(?" + strings.Repeat(",?", len(columns)-1) + ")"
	statement := func(rows int) string {
		return "INSERT INTO temp.tenantgate_import (" + strings.Join(columns, ", ") + ") VALUES " + mark + strings.Repeat(","+mark, rows-1)
	}
	full, err := im.conn.PrepareContext(ctx, statement(importInsert))
	if err != nil {
		return safe("import: prepare", err)
	}
	defer func() { err = errors.Join(err, safe("import: close", full.Close())) }()
	args := make([]any, 0, importInsert*len(columns))
	err = im.stage(next, func(rows [][]any) error {
		for part := range slices.Chunk(rows, importInsert) {
			args = args[:0]
			for _, row := range part {
				args = append(args, row...)
			}
			if len(part) == importInsert {
				_, err = full.ExecContext(ctx, args...)
			} else {
				_, err = im.conn.ExecContext(ctx, statement(len(part)), args...)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		end = "COMMIT"
	}
	return err
}

func (im *importing[ID, T]) begin(ctx context.Context) (*Tx, error) {
	tx, err := im.conn.BeginTx(ctx, nil)
	if err != nil {
		return nil, safe("begin the import", err)
	}
	t := &Tx{h: im.h, tx: tx, release: func() {}}
	t.Tables = newTables(t)
	return t, nil
}

// staged are the columns of the temporary table.
func (im *importing[ID, T]) staged() []string {
	return append([]string{"line", "audit_id", "audit_target", "audit_details"}, im.columns...)
}

// create makes the temporary table, which has the columns of the real one.
func (im *importing[ID, T]) create(ctx context.Context, option string) error {
	_, err := im.conn.ExecContext(ctx, "CREATE TEMP TABLE tenantgate_import"+option+
		" AS SELECT 0 AS line, a.id AS audit_id, a.target_id AS audit_target, a.details AS audit_details, t."+strings.Join(im.columns, ", t.")+
		" FROM "+im.table+" t, sys_audit_logs a WHERE false")
	return safe("import: make room", err)
}

// stage reads rows until the end, or until there are faults enough, and puts the good ones into the temporary table.
func (im *importing[ID, T]) stage(next func() (*T, int, error), put func([][]any) error) error {
	rows := make([][]any, 0, importBatch)
	for !im.more {
		row, line, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if fault, ok := errors.AsType[*ImportFault](err); ok {
			im.add(*fault)
			continue
		}
		if err != nil {
			return err
		}
		staged, err := im.prepareRow(row, line)
		if err != nil {
			im.add(ImportFault{Line: line, Reason: err.Error()})
			continue
		}
		im.rows++
		if rows = append(rows, staged); len(rows) == importBatch {
			if err := put(rows); err != nil {
				return safe("import: read rows", err)
			}
			rows = rows[:0]
		}
	}
	if len(rows) == 0 {
		return nil
	}
	return safe("import: read rows", put(rows))
}

func (im *importing[ID, T]) add(f ImportFault) {
	if len(im.faults) >= MaxImportFaults {
		im.more = true
		return
	}
	im.faults = append(im.faults, f)
}

// prepareRow refuses what cannot be stored, and gives the columns of the temporary table.
func (im *importing[ID, T]) prepareRow(row *T, line int) ([]any, error) {
	if err := im.name(row); err != nil {
		return nil, err
	}
	if im.derive != nil {
		im.derive(row)
	}
	if err := im.storable(row); err != nil {
		return nil, err
	}
	values := im.values(row)
	details, err := auditDetails(im.details(values))
	if err != nil {
		return nil, err
	}
	var text any
	if details != nil {
		text = *details
	}
	return append([]any{line, GenID(), clean(im.id(row)), text}, values...), nil
}

// finish checks the rules, writes the rows with their audit, and commits. What others may have written since the first
// look is looked at again under the locks that single writes take.
func (im *importing[ID, T]) finish(ctx context.Context, tx *Tx, dry bool) (int, error) {
	if _, err := tx.execText(ctx, "import: analyze", "ANALYZE tenantgate_import"); err != nil {
		return 0, err
	}
	if err := im.check(ctx, tx, true); err != nil {
		return 0, err
	}
	if dry || im.rows == 0 {
		return im.rows, nil
	}
	actor := actorOf(ctx)
	event := im.noun + ".created"
	err := tx.record(ctx, event, func() error {
		_, err := tx.exec(ctx, "import: audit", "import_audit", clean(actor.ID), event, textOrNull(clean(actor.IP)), tx.h.now())
		return err
	})
	if err != nil {
		return 0, err
	}
	locked, err := im.lock(ctx, tx)
	if err != nil {
		return 0, err
	}
	if locked {
		if err := im.check(ctx, tx, false); err != nil {
			return 0, err
		}
	}
	if im.batch.before != "" {
		if _, err := tx.exec(ctx, "import: prepare", im.batch.before); err != nil {
			return 0, err
		}
	}
	columns := strings.Join(im.columns, ", ")
	n, err := tx.execText(ctx, "import "+im.noun, "INSERT INTO "+im.table+" ("+columns+") SELECT "+columns+
		" FROM tenantgate_import WHERE true ORDER BY line ON CONFLICT DO NOTHING")
	if err != nil {
		return 0, err
	}
	if n != int64(im.rows) {
		return 0, fmt.Errorf("import %s: %w: another program has just taken an id: try again", im.noun, ErrConflict)
	}
	return im.rows, tx.Commit()
}

// lock takes what single writes of the same rows take; false where there is nothing to take.
func (im *importing[ID, T]) lock(ctx context.Context, tx *Tx) (bool, error) {
	if im.h.engine == EngineSQLite {
		return false, nil // it is the one writer
	}
	if im.batch.names {
		if err := tx.lock(ctx, namesLock); err != nil {
			return false, err
		}
	}
	if im.batch.stripes != "" {
		if _, err := tx.exec(ctx, "import: lock", "import_lock_stripes", im.batch.stripes); err != nil {
			return false, err
		}
	}
	return im.batch.names || im.batch.stripes != "", nil
}

// check asks every rule of the rows in the temporary table. all: also those that no lock keeps.
func (im *importing[ID, T]) check(ctx context.Context, tx *Tx, all bool) error {
	key := im.key()
	texts := []batchCheck{}
	if all {
		texts = append(texts, batchCheck{
			"SELECT x.line, x." + key + " FROM (SELECT i.line, i." + key + ", row_number() OVER (PARTITION BY i." + key +
				" ORDER BY i.line) AS n FROM tenantgate_import i) x WHERE x.n > 1 ORDER BY x.line LIMIT 21", key, "%q stands in the file twice",
		}, batchCheck{
			"SELECT i.line, i." + key + " FROM tenantgate_import i WHERE EXISTS (SELECT 1 FROM " + im.table + " t WHERE t." + key +
				" = i." + key + ") ORDER BY i.line LIMIT 21", key, "%q is taken",
		})
	}
	for _, c := range im.batch.checks {
		texts = append(texts, batchCheck{im.h.queries[c.query], c.column, c.reason})
	}
	for _, c := range texts {
		err := tx.queryText(ctx, "import: check", importDeadline, c.query, nil, func(rows *sql.Rows) error {
			for rows.Next() {
				var line int
				var v string
				if err := rows.Scan(&line, into(&v)); err != nil {
					return err
				}
				im.add(ImportFault{Line: line, Column: c.column, Reason: fmt.Sprintf(c.reason, v)})
			}
			return rows.Err()
		})
		if err != nil {
			return err
		}
	}
	if len(im.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(im.faults, func(a, b ImportFault) int { return a.Line - b.Line })
	return &ImportError{Faults: im.faults, More: im.more}
}
