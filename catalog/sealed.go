package catalog

import (
	"context"
	"database/sql"

	"github.com/tenantgate/tenantgate/internal/secret"
)

// SealedColumn is a column in which sealed values lie. A further one needs its four statements in queries/sealed.sql,
// and an entry where its table's owner lists what it seals.
type SealedColumn struct {
	// Name is table.column, for reports and the audit.
	Name string
	// Statements is what the names of its statements begin with.
	Statements string
}

// SealedTenantURLs is core_tenants.db_url; plain URIs and references stand there, too.
func SealedTenantURLs() SealedColumn { return SealedColumn{"core_tenants.db_url", "sealed_tenants"} }

// SealedKeys is sys_keys.sealed; its Detail is the key's purpose.
func SealedKeys() SealedColumn { return SealedColumn{"sys_keys.sealed", "sealed_keys"} }

// SealedIDTokens is sys_sessions.id_token.
func SealedIDTokens() SealedColumn { return SealedColumn{"sys_sessions.id_token", "sealed_id_tokens"} }

// SealedValue is what stands in a sealed column: sealed, plain or empty.
type SealedValue struct {
	ID     string // of the row
	Detail string // what else the seal is bound to, "" for nothing
	Value  secret.Text
}

// SealedPage returns at most limit values whose rows' ids come after the given one, in the order of ids. Rows without
// an id are never met.
func (t *Tables) SealedPage(ctx context.Context, column SealedColumn, after string, limit int) ([]SealedValue, error) {
	return t.sealedValues(ctx, column.Statements+"_page", after, limit)
}

// SealedGet returns one row's value; ErrNotFound without such a row.
func (t *Tables) SealedGet(ctx context.Context, column SealedColumn, id string) (SealedValue, error) {
	found, err := t.sealedValues(ctx, column.Statements+"_get", storable(id))
	if err == nil && len(found) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return SealedValue{}, err
	}
	return found[0], nil
}

func (t *Tables) sealedValues(ctx context.Context, name string, args ...any) ([]SealedValue, error) {
	var found []SealedValue
	err := t.at.query(ctx, "read sealed values", readDeadline, name, args, func(rows *sql.Rows) error {
		found = nil
		for rows.Next() {
			var v SealedValue
			var text string
			if err := rows.Scan(into(&v.ID), into(&v.Detail), into(&text)); err != nil {
				return err
			}
			v.Value = secret.New(text)
			found = append(found, v)
		}
		return rows.Err()
	})
	return found, err
}

// ReplaceSealed puts a value in the place of the one that was read. It returns false, and changes nothing, if another
// stands there by now or, unless wait is set, if somebody else has locked the row. It is not audited: the caller does
// that with Tx.Audit. Set wait in transactions that hold no other row.
func (tx *Tx) ReplaceSealed(ctx context.Context, column SealedColumn, id string, was, is secret.Text, wait bool) (bool, error) {
	name := column.Statements + "_put"
	if wait {
		name += "_waiting"
	}
	n, err := tx.exec(ctx, "replace sealed value", name, id, was.Reveal(), is.Reveal())
	return n > 0 && err == nil, err
}
