package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"
)

// Keys is sys_keys: keys of ours, sealed under the master secret.
type Keys struct{ at access }

// Ensure returns the newest key of a purpose that is not retired; without one it stores what makeKey returns. However
// many replicas ask at once, all get the same key. A new key is audited.
func (k *Keys) Ensure(ctx context.Context, purpose string, makeKey func() (id, sealed string, err error)) (Key, error) {
	if key, ok, err := k.current(ctx, k.at, purpose); ok || err != nil {
		return key, err
	}
	var key Key
	err := k.at.change(ctx, func(tx *Tx) error {
		if err := tx.lock(ctx, "key/"+purpose); err != nil {
			return err
		}
		var ok bool
		var err error
		if key, ok, err = k.current(ctx, tx, purpose); ok || err != nil {
			return err
		}
		key, err = tx.makeKey(ctx, purpose, tx.h.now(), makeKey)
		return err
	})
	if err != nil {
		return Key{}, err
	}
	return key, nil
}

// makeKey stores a new key, audited.
func (tx *Tx) makeKey(ctx context.Context, purpose, now string, makeKey func() (id, sealed string, err error)) (Key, error) {
	id, sealed, err := makeKey()
	if err != nil {
		return Key{}, fmt.Errorf("make a key: %w", err)
	}
	n, err := tx.exec(ctx, "insert key", "key_insert", id, purpose, sealed, now)
	if err != nil {
		return Key{}, err
	}
	if n == 0 {
		return Key{}, fmt.Errorf("insert key: %w: its id is taken", ErrConflict)
	}
	return Key{ID: id, Purpose: purpose, Sealed: sealed, CreatedAt: now},
		tx.Audit(ctx, "key.created", id, map[string]any{"purpose": purpose})
}

// Renew stores what makeKey returns as the newest key of a purpose, unless the newest that is not retired is younger
// than least (0: never mind): then it returns that one and created is false. However many ask at once, one key comes of it. instead
// always makes one, and retires all others in the same transaction. Audited.
func (k *Keys) Renew(ctx context.Context, purpose string, now time.Time, least time.Duration, instead bool,
	makeKey func() (id, sealed string, err error),
) (key Key, created bool, err error) {
	err = k.at.change(ctx, func(tx *Tx) error {
		created = false
		if err := tx.lock(ctx, "key/"+purpose); err != nil {
			return err
		}
		all, err := listKeys(ctx, tx, purpose)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(k Key) bool { return k.RetiredAt != nil })
		at := now
		if len(all) > 0 {
			made, err := ParseTimestamp(all[0].CreatedAt)
			if least > 0 && !instead && (err != nil || now.Sub(made) < least) {
				key = all[0]
				return nil
			}
			if err == nil && !at.After(made) {
				at = made.Add(time.Microsecond) // by a clock that is ahead of ours: the newest is the last one all the same
			}
		}
		if key, err = tx.makeKey(ctx, purpose, Timestamp(at), makeKey); err != nil {
			return err
		}
		created = true
		for _, old := range all {
			if !instead {
				break
			}
			if err := tx.Keys.Retire(ctx, old.ID, Timestamp(now)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Key{}, false, err
	}
	return key, created, nil
}

// Retire puts a key out of use (at is text, see Timestamp), audited; one that is retired already stays as it is.
func (k *Keys) Retire(ctx context.Context, id, at string) error {
	return k.at.change(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, "retire key", "key_retire", storable(id), at)
		if err != nil || n == 0 {
			return err
		}
		return tx.Audit(ctx, "key.retired", id, nil)
	})
}

func (k *Keys) current(ctx context.Context, at access, purpose string) (Key, bool, error) {
	keys, err := listKeys(ctx, at, purpose)
	for _, key := range keys {
		if key.RetiredAt == nil {
			return key, true, nil
		}
	}
	return Key{}, false, err
}

// List returns all keys of a purpose, retired ones too, newest first.
func (k *Keys) List(ctx context.Context, purpose string) ([]Key, error) {
	return listKeys(ctx, k.at, purpose)
}

func listKeys(ctx context.Context, at access, purpose string) ([]Key, error) {
	var found []Key
	err := at.query(ctx, "list keys", readDeadline, "key_list", []any{storable(purpose)}, func(rows *sql.Rows) error {
		found = nil
		for rows.Next() {
			var row Key
			if err := rows.Scan(intoAll(nil, []any{&row.ID, &row.Purpose, &row.Sealed, &row.CreatedAt, &row.RetiredAt})...); err != nil {
				return err
			}
			found = append(found, row)
		}
		return rows.Err()
	})
	return found, err
}
