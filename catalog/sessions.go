package catalog

import "context"

// Sessions is sys_sessions. Its writes are not audited by themselves: whoever signs somebody in or out does that with
// Tx.Audit.
type Sessions struct{ t *Tables }

// Insert adds a session. created_at is filled in if empty. ErrConflict if the id is taken.
func (s *Sessions) Insert(ctx context.Context, row *Session) error { return ErrUnavailable }

// Delete ends a session; ErrNotFound if there is none.
func (s *Sessions) Delete(ctx context.Context, id SessionID) error { return ErrUnavailable }

// DeleteByUser ends all sessions of a user and says how many there were.
func (s *Sessions) DeleteByUser(ctx context.Context, user UserID) (int, error) {
	return 0, ErrUnavailable
}

// Touch sets last_seen, never back in time; ErrNotFound if the session is gone.
func (s *Sessions) Touch(ctx context.Context, id SessionID, lastSeen string) error {
	return ErrUnavailable
}

// SetTenant stores the picker's choice; "" clears it. ErrNotFound if the session is gone.
func (s *Sessions) SetTenant(ctx context.Context, id SessionID, tenant TenantID) error {
	return ErrUnavailable
}

// ListByUser returns at most 1000 sessions of a user, newest first.
func (s *Sessions) ListByUser(ctx context.Context, user UserID) ([]Session, error) {
	return nil, ErrUnavailable
}

// DeleteExpired removes sessions whose expires_at is at or before now (text, see Timestamp) and says how many.
func (s *Sessions) DeleteExpired(ctx context.Context, now string) (int, error) {
	return 0, ErrUnavailable
}

// Keys is sys_keys: keys of ours, sealed under the master secret.
type Keys struct{ t *Tables }

// Ensure returns the newest key of a purpose that is not retired; without one it stores what makeKey returns. However
// many replicas ask at once, all get the same key. A new key is audited.
func (k *Keys) Ensure(ctx context.Context, purpose string, makeKey func() (id, sealed string, err error)) (Key, error) {
	return Key{}, ErrUnavailable
}

// List returns all keys of a purpose, retired ones too, newest first.
func (k *Keys) List(ctx context.Context, purpose string) ([]Key, error) { return nil, ErrUnavailable }
