package catalog

import "context"

// Page selects a part of a list, in the order of ids.
type Page struct {
	// After is the `next` of the page before; "" begins.
	After string
	// Limit is between 1 and 1000; 0 is 100.
	Limit int
	// Filter holds columns and the text they must equal ("true" and "false" for booleans). An unknown column is an error.
	Filter map[string]string
}

// Table is one of the models. Each write is audited in its own transaction, or in the Tx that the table belongs to.
type Table[ID ~string, T any] struct {
	name string
}

// Insert adds a row. An empty id and an empty created_at are filled in row, as are fh-saas's Python-side defaults for
// fields that are nil. ErrConflict if the id is taken or a rule forbids the row.
func (t *Table[ID, T]) Insert(ctx context.Context, row *T) error { return ErrUnavailable }

// Get returns the row with that id, or ErrNotFound.
func (t *Table[ID, T]) Get(ctx context.Context, id ID) (*T, error) { return nil, ErrUnavailable }

// List returns a page of rows, and what to put into Page.After for the next one, "" at the end.
func (t *Table[ID, T]) List(ctx context.Context, p Page) ([]T, string, error) {
	return nil, "", ErrUnavailable
}

// Update writes the columns in which row differs from what is stored. ErrNotFound if nothing has its id.
func (t *Table[ID, T]) Update(ctx context.Context, row *T) error { return ErrUnavailable }

// Delete removes the row with that id, or returns ErrNotFound.
func (t *Table[ID, T]) Delete(ctx context.Context, id ID) error { return ErrUnavailable }
