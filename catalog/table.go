package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Table is one of the models. Each write is audited in its own transaction, or in the Tx that the table belongs to.
// Statements are put together from the model's fixed column names alone; every value travels as a parameter.
type Table[ID ~string, T any] struct {
	model[ID, T]
	at              access
	selects, insert string
}

func newTable[ID ~string, T any](at access, engine string, m model[ID, T]) Table[ID, T] {
	m.table = dialect(engine, m.table)
	cols := strings.Join(m.columns, ", ")
	marks := make([]string, len(m.columns))
	for i := range marks {
		marks[i] = "$" + strconv.Itoa(i+1)
	}
	return Table[ID, T]{
		model: m, at: at,
		selects: "SELECT " + cols + " FROM " + m.table,
		insert: dialect(engine, "INSERT INTO "+m.table+" ("+cols+") VALUES ("+strings.Join(marks, ", ")+
			") ON CONFLICT DO NOTHING"),
	}
}

func (t *Table[ID, T]) key() string { return t.columns[0] }

func (t *Table[ID, T]) dialect(text string) string { return dialect(t.at.host().engine, text) }

func (t *Table[ID, T]) values(row *T) []any {
	fields := t.fields(row)
	for i, f := range fields {
		fields[i] = value(f)
	}
	return fields
}

// Insert adds a row. ErrLongID and ErrText for what cannot be stored. An empty id and an empty created_at are filled in row, as are fh-saas's Python-side defaults for
// fields that are nil. ErrConflict if the id is taken or a rule forbids the row.
func (t *Table[ID, T]) Insert(ctx context.Context, row *T) error {
	if err := t.prepare(row); err != nil {
		return err
	}
	return t.at.change(ctx, func(tx *Tx) error {
		if t.check != nil {
			if err := t.check(ctx, tx, nil, row); err != nil {
				return err
			}
		}
		if err := t.put(ctx, tx, row); err != nil {
			return err
		}
		if t.noun == "audit_log" {
			return nil
		}
		return tx.Audit(ctx, t.noun+".created", t.id(row), t.details(t.values(row)))
	})
}

// prepare fills defaults in and refuses what cannot be stored.
func (t *Table[ID, T]) prepare(row *T) error {
	if err := t.name(row); err != nil {
		return err
	}
	t.stamp(row)
	if t.fill != nil {
		t.fill(row)
	}
	if t.derive != nil {
		t.derive(row)
	}
	return t.storable(row)
}

// name gives a row an id if it has none. A domain's is a host, which has rules of its own; a tenant's database has the id
// of a tenant that is there.
func (t *Table[ID, T]) name(row *T) error {
	id := t.id(row)
	switch {
	case t.noun == "domain" && id == "":
		return errors.New("a domain needs its host")
	case t.noun == "domain" || t.noun == "tenant_database":
		return nil
	case len(id) > MaxNewID:
		return fmt.Errorf("%s: %w", t.noun, ErrLongID)
	case id != "":
		return nil
	}
	return into(t.fields(row)[0]).(sql.Scanner).Scan(GenID())
}

// stamp says that a row is created now, unless it says otherwise.
func (t *Table[ID, T]) stamp(row *T) {
	i := slices.Index(t.columns, "created_at")
	if i < 0 {
		return
	}
	switch f := t.fields(row)[i].(type) {
	case **string:
		if *f == nil || **f == "" {
			*f = new(t.at.host().now())
		}
	case *string:
		if *f == "" {
			*f = t.at.host().now()
		}
	}
}

func (t *Table[ID, T]) storable(row *T) error {
	for i, v := range t.values(row) {
		if err := checkStorable(t.columns[i], v); err != nil {
			return fmt.Errorf("%s: %w", t.noun, err)
		}
	}
	if t.rule != nil {
		return t.rule(t.at.host(), row)
	}
	return nil
}

func (t *Table[ID, T]) id(row *T) string { return idText(t.fields(row)[0]) }

// put inserts without an audit row. A taken id is no failed statement: the transaction can go on.
func (t *Table[ID, T]) put(ctx context.Context, tx *Tx, row *T) error {
	op := "insert " + t.noun
	n, err := tx.execText(ctx, op, t.insert, t.values(row)...)
	if err == nil && n == 0 {
		err = fmt.Errorf("%s: %w: its id or another unique column is taken", op, ErrConflict)
	}
	return err
}

// Get returns the row with that id, or ErrNotFound.
func (t *Table[ID, T]) Get(ctx context.Context, id ID) (*T, error) {
	rows, err := t.find(ctx, t.at, "get "+t.noun, t.dialect(t.selects+" WHERE "+t.key()+" = $1"), []any{storable(string(id))})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: %w", t.noun, ErrNotFound)
	}
	return &rows[0], nil
}

func (t *Table[ID, T]) find(ctx context.Context, at access, op, text string, args []any) ([]T, error) {
	var found []T
	err := at.queryText(ctx, op, readDeadline, text, args, func(rows *sql.Rows) error {
		found = nil
		for rows.Next() {
			var row T
			if err := rows.Scan(intoAll(nil, t.fields(&row))...); err != nil {
				return err
			}
			found = append(found, row)
		}
		return rows.Err()
	})
	return found, err
}

// Update makes the stored row equal to row: it writes the columns in which they differ, and nothing if there is no
// difference. What another program changed since row was read is undone by that; whoever reads a row in order to change
// it uses Change. ErrNotFound if nothing has its id.
func (t *Table[ID, T]) Update(ctx context.Context, row *T) error {
	_, err := t.rewrite(ctx, ID(t.id(row)), func(*T) (*T, error) { return row, nil })
	return err
}

// Change reads the row with that id, locked to the transaction's end, lets edit change it, writes the columns that edit
// changed, no others, and returns the row as it then stands. Whatever other programs do at the same time, their changes
// of other columns stay, and edit sees the last committed ones. edit is called once, must not keep the row, and leaves
// the id alone; its error is returned and nothing is written. ErrNotFound if nothing has that id.
func (t *Table[ID, T]) Change(ctx context.Context, id ID, edit func(row *T) error) (*T, error) {
	return t.rewrite(ctx, id, func(old *T) (*T, error) {
		row := *old
		if err := edit(&row); err != nil {
			return nil, err
		}
		if t.id(&row) != string(id) {
			return nil, fmt.Errorf("%s: an id does not change", t.noun)
		}
		return &row, nil
	})
}

// rewrite locks the row with that id and writes what differs between it and what turn makes of it.
func (t *Table[ID, T]) rewrite(ctx context.Context, id ID, turn func(old *T) (*T, error)) (row *T, err error) {
	err = t.at.change(ctx, func(tx *Tx) error {
		old, err := t.lockRow(ctx, tx, id)
		if err != nil {
			return err
		}
		if row, err = turn(old); err != nil {
			return err
		}
		if err := t.storable(row); err != nil {
			return err
		}
		if t.check != nil {
			if err := t.check(ctx, tx, old, row); err != nil {
				return err
			}
		}
		return t.writeChanges(ctx, tx, old, row)
	})
	if err != nil {
		return nil, err
	}
	return row, nil
}

func (t *Table[ID, T]) lockRow(ctx context.Context, tx *Tx, id ID) (*T, error) {
	text := t.dialect(t.selects + " WHERE " + t.key() + " = $1 FOR UPDATE")
	rows, err := t.find(ctx, tx, "read "+t.noun, text, []any{storable(string(id))})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: %w", t.noun, ErrNotFound)
	}
	return &rows[0], nil
}

func (t *Table[ID, T]) writeChanges(ctx context.Context, tx *Tx, old, row *T) error {
	was, is := t.values(old), t.values(row)
	from, to := t.details(was), t.details(is)
	var sets []string
	var args []any
	changes := map[string]any{}
	audited := false
	for i, column := range t.columns {
		if was[i] == is[i] {
			continue
		}
		args = append(args, is[i])
		sets = append(sets, column+" = $"+strconv.Itoa(len(args)))
		audited = audited || !slices.Contains(t.quiet, column)
		if !slices.Contains(t.hidden, column) {
			changes[column] = map[string]any{"from": from[column], "to": to[column]}
		}
	}
	if len(sets) == 0 {
		return nil
	}
	args = append(args, t.id(row))
	text := "UPDATE " + t.table + " SET " + strings.Join(sets, ", ") + " WHERE " + t.key() + " = $" + strconv.Itoa(len(args))
	if _, err := tx.execText(ctx, "update "+t.noun, t.dialect(text), args...); err != nil {
		return err
	}
	if !audited {
		return nil
	}
	return tx.Audit(ctx, t.noun+".updated", t.id(row), changes)
}

// Delete removes the row with that id, or returns ErrNotFound.
func (t *Table[ID, T]) Delete(ctx context.Context, id ID) error {
	return t.at.change(ctx, func(tx *Tx) error {
		old, err := t.lockRow(ctx, tx, id)
		if err != nil {
			return err
		}
		text := t.dialect("DELETE FROM " + t.table + " WHERE " + t.key() + " = $1")
		if _, err := tx.execText(ctx, "delete "+t.noun, text, string(id)); err != nil {
			return err
		}
		if t.gone != nil {
			if err := t.gone(ctx, tx, id); err != nil {
				return err
			}
		}
		return tx.Audit(ctx, t.noun+".deleted", string(id), t.details(t.values(old)))
	})
}

// details are a row's columns for the audit: without NULLs and hidden columns, URIs redacted.
func (t *Table[ID, T]) details(values []any) map[string]any {
	d := make(map[string]any, len(values))
	for i, column := range t.columns {
		switch {
		case values[i] == nil || slices.Contains(t.hidden, column):
		case column == "db_url":
			d[column] = NewDBURI(values[i].(string)).String()
		default:
			d[column] = values[i]
		}
	}
	return d
}

func (h *HostDatabase) change(ctx context.Context, f func(*Tx) error) error { return h.InTx(ctx, f) }
