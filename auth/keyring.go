package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
)

// Purposes of sys_keys rows.
const (
	purposeSessionMAC = "session_mac"
	purposeTokenMAC   = "api_token_mac"
	purposeAssertion  = "assertion"
)

const macKeyBytes = 32

// keyring holds the keys that are kept in the host database, sealed under the master secrets. Those of MACs are made once;
// the assertion's are renewed while requests are served.
type keyring struct {
	macs      [][]byte // of session tokens; the first signs, all verify
	tokenMACs [][]byte // of API tokens, likewise
	signing   atomic.Pointer[signers]
}

// loadKeyring reads the keys and makes those that are missing; of many replicas at once one makes them. A key that
// is in force and cannot be opened is an error: nothing would verify, and a new one would end every session.
func loadKeyring(ctx context.Context, host *catalog.HostDatabase, secrets seal.Keyset, now time.Time) (*keyring, error) {
	macs, err := loadMACKeys(ctx, host, secrets, purposeSessionMAC)
	if err != nil {
		return nil, err
	}
	tokenMACs, err := loadMACKeys(ctx, host, secrets, purposeTokenMAC)
	if err != nil {
		return nil, err
	}
	keys, err := loadKeys(ctx, host, secrets, purposeAssertion, newAssertionKey)
	if err != nil {
		return nil, err
	}
	signing, err := newSigners(keys, now)
	if err != nil {
		return nil, err
	}
	ring := &keyring{macs: macs, tokenMACs: tokenMACs}
	ring.signing.Store(signing)
	return ring, nil
}

// loadMACKeys are the keys of one purpose that MACs are made with; the first signs, all verify.
func loadMACKeys(ctx context.Context, host *catalog.HostDatabase, secrets seal.Keyset, purpose string) ([][]byte, error) {
	keys, err := loadKeys(ctx, host, secrets, purpose, func() ([]byte, error) {
		b := make([]byte, macKeyBytes)
		_, err := rand.Read(b)
		return b, err
	})
	if err != nil {
		return nil, err
	}
	macs := make([][]byte, 0, len(keys))
	for _, k := range keys {
		if len(k.plain) != macKeyBytes {
			return nil, fmt.Errorf("key %s (%s) has %d bytes instead of %d", k.id, purpose, len(k.plain), macKeyBytes)
		}
		macs = append(macs, k.plain)
	}
	return macs, nil
}

// opened is a key as it is used.
type opened struct {
	id      string
	created string // as stored
	plain   []byte
}

func loadKeys(ctx context.Context, host *catalog.HostDatabase, secrets seal.Keyset, purpose string, generate func() ([]byte, error)) ([]opened, error) {
	current, err := host.Keys.Ensure(ctx, purpose, func() (string, string, error) {
		plain, err := generate()
		if err != nil {
			return "", "", fmt.Errorf("make key: %w", err)
		}
		id := catalog.GenID()
		sealed, err := secrets.Seal(keyPurpose(purpose, id), plain)
		return id, sealed, err
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

// openKeys opens the keys that are not retired, in their order, each once.
func openKeys(secrets seal.Keyset, purpose string, rows []catalog.Key) ([]opened, error) {
	keys := make([]opened, 0, len(rows))
	for _, row := range rows {
		if row.RetiredAt != nil || slices.ContainsFunc(keys, func(k opened) bool { return k.id == row.ID }) {
			continue
		}
		plain, err := secrets.Open(keyPurpose(purpose, row.ID), row.Sealed)
		if errors.Is(err, seal.ErrOtherSecret) {
			return nil, fmt.Errorf("key %s (%s): %w; put the line it was sealed under back", row.ID, purpose, err)
		}
		if err != nil {
			return nil, fmt.Errorf("key %s (%s): %w; the row was changed", row.ID, purpose, err)
		}
		keys = append(keys, opened{row.ID, row.CreatedAt, plain})
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no key for %s is in force", purpose)
	}
	return keys, nil
}

// keyPurpose names the row, so that a sealed key cannot be moved to another id or purpose.
func keyPurpose(purpose, id string) string { return "sys_keys/" + purpose + "/" + id }
