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

// Page selects a part of a list, in the order of ids.
type Page struct {
	// After is the `next` of the page before; "" begins.
	After string
	// Limit is between 1 and 1000; 0 is 100, more is 1000.
	Limit int
	// Filter holds columns and the text they must equal ("true" and "false" for booleans). An unknown column is an error.
	Filter map[string]string
}

const (
	defaultPage = 100
	maxPage     = 1000
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

// Insert adds a row. An empty id and an empty created_at are filled in row, as are fh-saas's Python-side defaults for
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

// name gives a row an id if it has none.
func (t *Table[ID, T]) name(row *T) error {
	if t.id(row) != "" {
		return nil
	}
	if t.noun == "domain" {
		return errors.New("a domain needs its host")
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

// List returns a page of rows, and what to put into Page.After for the next one, "" at the end. Rows without an id, which
// other programs may have left, come with the first page, at most 1000 of them, in addition to its limit if need be:
// nothing can name them.
func (t *Table[ID, T]) List(ctx context.Context, p Page) (page []T, next string, err error) {
	limit := p.Limit
	if limit <= 0 {
		limit = defaultPage
	}
	limit = min(limit, maxPage)
	var where []string
	var args []any
	for column, want := range p.Filter {
		v, err := t.filterValue(column, want)
		if err != nil {
			return nil, "", err
		}
		args = append(args, v)
		where = append(where, column+" = $"+strconv.Itoa(len(args)))
	}
	if p.After != "" {
		args = append(args, storable(p.After))
		where = append(where, t.key()+" > $"+strconv.Itoa(len(args)))
	}
	if page, err = t.page(ctx, where, args, limit+1); err != nil {
		return nil, "", err
	}
	var nameless []T
	if len(page) > limit && t.id(&page[limit-1]) == "" { // no page could begin behind such a row
		if nameless, err = t.page(ctx, append(where, "coalesce("+t.key()+", '') = ''"), args, maxPage); err != nil {
			return nil, "", err
		}
		if page, err = t.page(ctx, append(where, t.key()+" > ''"), args, limit+1); err != nil {
			return nil, "", err
		}
	}
	if len(page) > limit {
		page = page[:limit]
		next = t.id(&page[limit-1])
	}
	return append(nameless, page...), next, nil
}

// page reads at most limit of the rows that satisfy all of where, in the order of ids, those without one first.
func (t *Table[ID, T]) page(ctx context.Context, where []string, args []any, limit int) ([]T, error) {
	text := t.selects
	if len(where) > 0 {
		text += " WHERE " + strings.Join(where, " AND ")
	}
	text += " ORDER BY " + t.key() + " LIMIT " + strconv.Itoa(limit)
	return t.find(ctx, t.at, "list "+t.noun, t.dialect(text), args)
}

func (t *Table[ID, T]) filterValue(column, want string) (any, error) {
	i := slices.Index(t.columns, column)
	if i < 0 || slices.Contains(t.hidden, column) {
		return nil, fmt.Errorf("list %s: no such column to filter by: choose one of %s", t.noun, strings.Join(t.columns, ", "))
	}
	switch t.fields(new(T))[i].(type) {
	case **bool, *bool:
		b, err := strconv.ParseBool(want)
		if err != nil {
			return nil, fmt.Errorf("list %s: filter by %s: write true or false", t.noun, column)
		}
		return b, nil
	case **int64:
		n, err := strconv.ParseInt(want, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("list %s: filter by %s: write a number", t.noun, column)
		}
		return n, nil
	}
	return storable(want), nil
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
