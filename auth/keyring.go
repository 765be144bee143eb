package auth

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/sealing"
)

// Purposes of sys_keys rows.
const (
	purposeSessionMAC = "session_mac"
	purposeTokenMAC   = "api_token_mac"
	purposeAssertion  = "assertion"
)

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
	macs, err := sealing.MACKeys(ctx, host, secrets, purposeSessionMAC)
	if err != nil {
		return nil, err
	}
	tokenMACs, err := sealing.MACKeys(ctx, host, secrets, purposeTokenMAC)
	if err != nil {
		return nil, err
	}
	keys, err := sealing.Keys(ctx, host, secrets, purposeAssertion, newAssertionKey)
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
