package sealing

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
)

// MACKeyBytes is the length of a key that MACKeys makes.
const MACKeyBytes = 32

// Key is a key of sys_keys as it is used.
type Key struct {
	ID      string
	Created string // as stored
	Plain   []byte // secret
}

// KeyColumn is sys_keys.sealed: the keys of all purposes.
func KeyColumn() Column {
	return Column{
		SealedColumn: catalog.SealedKeys(), Event: "key.resealed",
		Purpose: func(id, purpose string) string { return keyPurpose(purpose, id) },
	}
}

// MACKeys are the keys of one purpose that MACs are made with, 32 bytes each; the first makes, all verify. Without one it
// is made: see Keys.
func MACKeys(ctx context.Context, host *catalog.HostDatabase, secrets seal.Keyset, purpose string) ([][]byte, error) {
	keys, err := Keys(ctx, host, secrets, purpose, func() ([]byte, error) {
		b := make([]byte, MACKeyBytes)
		_, err := rand.Read(b)
		return b, err
	})
	if err != nil {
		return nil, err
	}
	macs := make([][]byte, 0, len(keys))
	for _, k := range keys {
		if len(k.Plain) != MACKeyBytes {
			return nil, fmt.Errorf("key %s (%s) has %d bytes instead of %d", k.ID, purpose, len(k.Plain), MACKeyBytes)
		}
		macs = append(macs, k.Plain)
	}
	return macs, nil
}

// Keys returns the keys of one purpose that are in force, newest first. Without one it stores what generate returns,
// sealed under the first secret, audited; of many replicas at once one makes it. A key that is in force and cannot be
// opened is an error, never a reason to make another: nothing made under the old one would verify.
func Keys(ctx context.Context, host *catalog.HostDatabase, secrets seal.Keyset, purpose string, generate func() ([]byte, error)) ([]Key, error) {
	current, err := host.Keys.Ensure(ctx, purpose, func() (string, string, error) {
		plain, err := generate()
		if err != nil {
			return "", "", fmt.Errorf("make key: %w", err)
		}
		return SealKey(secrets, purpose, plain)
	})
	if err != nil {
		return nil, fmt.Errorf("key for %s: %w", purpose, err)
	}
	rows, err := host.Keys.List(ctx, purpose)
	if err != nil {
		return nil, fmt.Errorf("keys for %s: %w", purpose, err)
	}
	return openKeys(secrets, purpose, append([]catalog.Key{current}, rows...))
}

// ReadKeys is Keys for one who makes none: without a key it is an error.
func ReadKeys(ctx context.Context, host *catalog.HostDatabase, secrets seal.Keyset, purpose string) ([]Key, error) {
	rows, err := host.Keys.List(ctx, purpose)
	if err != nil {
		return nil, fmt.Errorf("keys for %s: %w", purpose, err)
	}
	return openKeys(secrets, purpose, rows)
}

// SealKey gives a new key its id and its sealed form.
func SealKey(secrets seal.Keyset, purpose string, plain []byte) (id, sealed string, err error) {
	id = catalog.GenID()
	sealed, err = secrets.Seal(keyPurpose(purpose, id), plain)
	return id, sealed, err
}

// openKeys opens the keys that are not retired, in their order, each once.
func openKeys(secrets seal.Keyset, purpose string, rows []catalog.Key) ([]Key, error) {
	keys := make([]Key, 0, len(rows))
	for _, row := range rows {
		if row.RetiredAt != nil || slices.ContainsFunc(keys, func(k Key) bool { return k.ID == row.ID }) {
			continue
		}
		plain, err := secrets.Open(keyPurpose(purpose, row.ID), row.Sealed)
		if errors.Is(err, seal.ErrOtherSecret) {
			return nil, fmt.Errorf("key %s (%s): %w; put the line it was sealed under back", row.ID, purpose, err)
		}
		if err != nil {
			return nil, fmt.Errorf("key %s (%s): %w; the row was changed", row.ID, purpose, err)
		}
		keys = append(keys, Key{row.ID, row.CreatedAt, plain})
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no key for %s is in force", purpose)
	}
	return keys, nil
}

// keyPurpose names the row, so that a sealed key cannot be moved to another id or purpose.
func keyPurpose(purpose, id string) string { return "sys_keys/" + purpose + "/" + id }
