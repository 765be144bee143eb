package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// LogoutToken is what is remembered of a logout token that was used (sys_logout_tokens). Subject or SID may be "".
type LogoutToken struct {
	ID       string // a hash over provider and jti
	Provider string
	Subject  string
	SID      string
	// Issued and Expires are text, see Timestamp. After Expires the token counts nowhere and is forgotten.
	Issued, Expires string
}

// UseLogoutToken remembers a logout token. false: it was used before, on whatever replica. Not audited: what it ends is.
func (t *Tables) UseLogoutToken(ctx context.Context, token LogoutToken) (fresh bool, err error) {
	err = t.at.change(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, "use logout token", "logout_token_insert", storable(token.ID), clean(token.Provider),
			clean(token.Subject), clean(token.SID), token.Issued, token.Expires)
		fresh = n > 0
		return err
	})
	return fresh && err == nil, err
}

// SignInEnded reports whether the provider has ended what an ID token of that time speaks of (issued is its iat as text,
// see Timestamp): its sid, or all sessions of its subject. Tokens of an earlier time end nothing that begins later.
func (tx *Tx) SignInEnded(ctx context.Context, provider, subject, sid, issued string) (bool, error) {
	const op = "look for a logout"
	if sid != "" {
		n, err := tx.count(ctx, op, "count_ended_sid", clean(provider), clean(sid), issued)
		if n > 0 || err != nil {
			return true, err
		}
	}
	n, err := tx.count(ctx, op, "count_ended_subject", clean(provider), clean(subject), issued, clean(sid))
	return n > 0 || err != nil, err
}

// LockProviderSession waits for the lock of a provider's session and holds it to the transaction's end, across all
// replicas, so that a sign-in and the logout of its session do not miss each other. Take it after LockUser.
func (tx *Tx) LockProviderSession(ctx context.Context, provider, sid string) error {
	return tx.lock(ctx, fmt.Sprintf("sid/%s/%s", provider, sid))
}

// DeleteByProvider ends the sessions of a provider's sid (of subject, if that is not "" too), or without sid all of the
// subject's. Sessions of the subject whose provider gave them no sid end with any of its sids. It returns id, user and
// host of each.
func (s *Sessions) DeleteByProvider(ctx context.Context, provider, subject, sid string) ([]Session, error) {
	var ended []Session
	collect := func(rows *sql.Rows) error {
		for rows.Next() {
			var row Session
			if err := rows.Scan(intoAll(nil, []any{&row.ID, &row.UserID, &row.Host})...); err != nil {
				return err
			}
			ended = append(ended, row)
		}
		return rows.Err()
	}
	err := s.at.change(ctx, func(tx *Tx) error {
		ended = nil
		const op = "delete sessions of a provider"
		if sid != "" {
			args := []any{clean(provider), clean(sid), clean(subject)}
			if err := tx.query(ctx, op, writeDeadline, "session_delete_by_sid", args, collect); err != nil {
				return err
			}
		}
		if subject == "" {
			return nil
		}
		args := []any{clean(provider), clean(subject), clean(sid)}
		return tx.query(ctx, op, writeDeadline, "session_delete_by_subject", args, collect)
	})
	if err != nil {
		return nil, err
	}
	return ended, nil
}

// CountSignUp counts a user that sign-up made from a network (any text), unless limit were made from it within window. The
// network is locked to the transaction's end, so that the limit holds over all replicas. wait is 0, or how long it takes
// until the next one is allowed: then nothing was counted.
func (tx *Tx) CountSignUp(ctx context.Context, user UserID, network string, limit int, window time.Duration, now time.Time) (wait time.Duration, err error) {
	if err := tx.lock(ctx, "sign-up/"+network); err != nil {
		return 0, err
	}
	err = tx.query(ctx, "count sign-ups", readDeadline, "sign_up_nth", []any{storable(network), Timestamp(now.Add(-window)), limit - 1}, func(rows *sql.Rows) error {
		wait = 0
		for rows.Next() {
			var created string
			if err := rows.Scan(into(&created)); err != nil {
				return err
			}
			wait = window
			if t, err := ParseTimestamp(created); err == nil {
				wait = min(max(t.Add(window).Sub(now), time.Second), window)
			}
		}
		return rows.Err()
	})
	if err != nil || wait > 0 {
		return wait, err
	}
	_, err = tx.exec(ctx, "count sign-up", "sign_up_insert", GenID(), storable(string(user)), storable(network), Timestamp(now))
	return 0, err
}
