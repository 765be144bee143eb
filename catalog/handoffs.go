package catalog

import (
	"context"
	"database/sql"
	"fmt"
)

// Handoff is a row of sys_handoffs: a sign-in on its way from public_url to another host.
type Handoff struct {
	CodeHash         string // hex SHA-256 of the code
	UserID           UserID
	TenantID         TenantID // the tenant that the host names, "" for none
	OnlyTenant       TenantID // what Session.OnlyTenant will be
	Host             string   // what Session.Host will be
	NonceHash        string   // hex SHA-256 of the asking browser's nonce
	SignIn           string
	Provider         string
	Subject          string
	SID              string
	MAC              string // hex HMAC over the code and all of the row
	SignedInAt       string
	SessionExpiresAt string // what Session.ExpiresAt will be
	CreatedAt        string
	ExpiresAt        string // the code's end
}

func handoffFields(h *Handoff) []any {
	return []any{
		&h.CodeHash, &h.UserID, &h.TenantID, &h.OnlyTenant, &h.Host, &h.NonceHash, &h.SignIn, &h.Provider, &h.Subject,
		&h.SID, &h.MAC, &h.SignedInAt, &h.SessionExpiresAt, &h.CreatedAt, &h.ExpiresAt,
	}
}

// Handoffs is sys_handoffs. Its writes are not audited by themselves: the sign-in that comes of one is.
type Handoffs struct{ at access }

// Insert adds a row. ErrConflict if the code's hash is taken.
func (t *Handoffs) Insert(ctx context.Context, row *Handoff) error {
	args := handoffFields(row)
	for i, f := range args {
		args[i] = value(f)
		if err := checkStorable("hand-off", args[i]); err != nil {
			return err
		}
	}
	return t.at.change(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, "insert hand-off", "handoff_insert", args...)
		if err == nil && n == 0 {
			err = fmt.Errorf("insert hand-off: %w: its code is taken", ErrConflict)
		}
		return err
	})
}

// Get reads the row of a code's hash; ErrNotFound without one. It does not look at the clock.
func (t *Handoffs) Get(ctx context.Context, codeHash string) (*Handoff, error) {
	var found *Handoff
	err := t.at.query(ctx, "find the hand-off", hotDeadline, "handoff_get", []any{storable(codeHash)}, func(rows *sql.Rows) error {
		found = nil
		for rows.Next() {
			found = new(Handoff)
			if err := rows.Scan(intoAll(nil, handoffFields(found))...); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err == nil && found == nil {
		err = fmt.Errorf("hand-off: %w", ErrNotFound)
	}
	return found, err
}

// Take deletes the row of that code, host and nonce unless it has ended at now (text, see Timestamp). false: there is
// none (any more); of many callers at once one gets true.
func (t *Handoffs) Take(ctx context.Context, codeHash, host, nonceHash, now string) (bool, error) {
	var n int64
	err := t.at.change(ctx, func(tx *Tx) error {
		var err error
		n, err = tx.exec(ctx, "take the hand-off", "handoff_take", storable(codeHash), storable(host), storable(nonceHash), now)
		return err
	})
	return n == 1 && err == nil, err
}

// LockSessions waits for the lock of a user's sessions and holds it to the transaction's end, across all replicas:
// what hands a sign-in on, and what ends one, come one after the other, so that no session is made of a sign-in that
// has ended.
func (tx *Tx) LockSessions(ctx context.Context, user UserID) error {
	return tx.lock(ctx, "sessions/"+string(user))
}

// SignInOf names the sign-in that a session belongs to.
func (s *Session) SignInOf() string {
	if s.SignIn == "" {
		return string(s.ID)
	}
	return s.SignIn
}

// ListBySignIn returns at most 1000 sessions of one sign-in (Session.SignInOf) of a user, newest first.
func (s *Sessions) ListBySignIn(ctx context.Context, user UserID, signIn string) ([]Session, error) {
	return s.list(ctx, "session_sign_in", storable(string(user)), storable(signIn))
}

// DeleteSignIn ends all sessions of the sign-in that the session belongs to, on every host, and returns their rows as
// they were: none if it had ended already.
func (tx *Tx) DeleteSignIn(ctx context.Context, session *Session) ([]Session, error) {
	if err := tx.LockSessions(ctx, session.UserID); err != nil {
		return nil, err
	}
	var ended []Session
	for { // a list is not longer than a thousand; a sign-in may have more
		rows, err := tx.Sessions.ListBySignIn(ctx, session.UserID, session.SignInOf())
		if err != nil || len(rows) == 0 {
			return ended, err
		}
		for i := range rows {
			if err := tx.Sessions.Delete(ctx, rows[i].ID); err != nil {
				return nil, err
			}
		}
		ended = append(ended, rows...)
	}
}

// TenantSlugs returns a slug of each tenant that has one and in which the user has a membership row, active or not.
func (t *Tables) TenantSlugs(ctx context.Context, user UserID) (map[TenantID]string, error) {
	var slugs map[TenantID]string
	err := t.at.query(ctx, "find slugs", hotDeadline, "tenant_slugs", []any{storable(string(user))}, func(rows *sql.Rows) error {
		slugs = map[TenantID]string{}
		for rows.Next() {
			var id TenantID
			var slug string
			if err := rows.Scan(intoAll(nil, []any{&id, &slug})...); err != nil {
				return err
			}
			slugs[id] = slug
		}
		return rows.Err()
	})
	return slugs, err
}
