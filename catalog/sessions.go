package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Sessions is sys_sessions. Its writes are not audited by themselves: whoever signs somebody in or out does that with
// Tx.Audit.
type Sessions struct{ at access }

func sessionFields(s *Session) []any {
	return []any{
		&s.ID, &s.UserID, &s.TenantID, &s.Host, &s.Provider, &s.Subject, &s.SID, &s.MAC, &s.IDToken, &s.CreatedAt,
		&s.ExpiresAt, &s.LastSeen, &s.SignIn, &s.SignedInAt, &s.OnlyTenant,
	}
}

// Insert adds a session. created_at is filled in if empty. ErrConflict if the id is taken.
func (s *Sessions) Insert(ctx context.Context, row *Session) error {
	if row.CreatedAt == "" {
		row.CreatedAt = s.at.host().now()
	}
	args := sessionFields(row)
	for i, f := range args {
		args[i] = value(f)
		if err := checkStorable("session", args[i]); err != nil {
			return err
		}
	}
	n, err := s.write(ctx, "insert session", "session_insert", args...)
	if err == nil && n == 0 {
		err = fmt.Errorf("insert session: %w: its id is taken", ErrConflict)
	}
	return err
}

func (s *Sessions) write(ctx context.Context, op, name string, args ...any) (n int64, err error) {
	err = s.at.change(ctx, func(tx *Tx) error {
		n, err = tx.exec(ctx, op, name, args...)
		return err
	})
	return n, err
}

// writeOne is write for statements that change the one row of an id.
func (s *Sessions) writeOne(ctx context.Context, op, name string, args ...any) error {
	n, err := s.write(ctx, op, name, args...)
	if err == nil && n == 0 {
		err = fmt.Errorf("session: %w", ErrNotFound)
	}
	return err
}

// Delete ends a session; ErrNotFound if there is none.
func (s *Sessions) Delete(ctx context.Context, id SessionID) error {
	return s.writeOne(ctx, "delete session", "session_delete", storable(string(id)))
}

// DeleteByUser ends all sessions of a user, those on their way to another host too, and says how many there were.
func (s *Sessions) DeleteByUser(ctx context.Context, user UserID) (int, error) {
	var n int64
	err := s.at.change(ctx, func(tx *Tx) error {
		err := tx.LockSessions(ctx, user)
		if err != nil {
			return err
		}
		if _, err = tx.exec(ctx, "delete hand-offs", "handoff_delete_by_user", storable(string(user))); err != nil {
			return err
		}
		n, err = tx.exec(ctx, "delete sessions", "session_delete_by_user", storable(string(user)))
		return err
	})
	return int(n), err
}

// Touch sets last_seen, never back in time; ErrNotFound if the session is gone.
func (s *Sessions) Touch(ctx context.Context, id SessionID, lastSeen string) error {
	return s.writeOne(ctx, "touch session", "session_touch", storable(string(id)), lastSeen)
}

// SetTenant stores the picker's choice; "" clears it. ErrNotFound if the session is gone.
func (s *Sessions) SetTenant(ctx context.Context, id SessionID, tenant TenantID) error {
	return s.writeOne(ctx, "set the session's tenant", "session_set_tenant", storable(string(id)), storable(string(tenant)))
}

// ListByUser returns at most 1000 sessions of a user, newest first.
func (s *Sessions) ListByUser(ctx context.Context, user UserID) ([]Session, error) {
	return s.list(ctx, "session_list", storable(string(user)))
}

func (s *Sessions) list(ctx context.Context, name string, args ...any) ([]Session, error) {
	var found []Session
	err := s.at.query(ctx, "list sessions", readDeadline, name, args, func(rows *sql.Rows) error {
		found = nil
		for rows.Next() {
			var row Session
			if err := rows.Scan(intoAll(nil, sessionFields(&row))...); err != nil {
				return err
			}
			found = append(found, row)
		}
		return rows.Err()
	})
	return found, err
}

// List returns a page of everybody's sessions, newest first, and what to put into Page.After for the next one. It takes
// no filter.
func (s *Sessions) List(ctx context.Context, p Page) (page []Session, next string, err error) {
	if len(p.Filter) > 0 || p.Since != "" || p.Until != "" {
		return nil, "", errors.New("list sessions: no filter is known")
	}
	var created, id string
	if p.After != "" {
		if created, id, err = parsePlace(p.After); err != nil {
			return nil, "", fmt.Errorf("list sessions: %w", err)
		}
	}
	page, err = s.list(ctx, "session_page", created, id, p.limit()+1)
	if len(page) > p.limit() {
		page = page[:p.limit()]
		last := &page[len(page)-1]
		next = place(last.CreatedAt, string(last.ID))
	}
	return page, next, err
}

// RecordLogin sets a user's last_login (text, see Timestamp). It is not audited: the sign-in is.
func (t *Tables) RecordLogin(ctx context.Context, user UserID, at string) error {
	return t.at.change(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, "record the login", "user_record_login", storable(string(user)), at)
		if err == nil && n == 0 {
			err = fmt.Errorf("user: %w", ErrNotFound)
		}
		return err
	})
}

// LinkSubject gives an oauth_id to a user who has that address (ASCII letters in any case), neither an oauth_id nor a
// password, and is no system administrator. The conditions are asked again of the row as it is once it is locked, so
// that what another program has just committed counts; a flag that cannot be read is no "no". false: not linked. Audited.
func (t *Tables) LinkSubject(ctx context.Context, user UserID, email, oauthID string) (bool, error) {
	linked := false
	err := t.at.change(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, "link user", "user_link_subject", storable(string(user)), storable(oauthID), storable(foldASCII(email)))
		if err != nil || n == 0 {
			return err
		}
		linked = true
		return tx.Audit(ctx, "user.updated", string(user), map[string]any{"oauth_id": map[string]any{"from": nil, "to": oauthID}})
	})
	return linked && err == nil, err
}

// endCredentials ends all sessions and tokens of a user.
func endCredentials(ctx context.Context, tx *Tx, user UserID) error {
	if _, err := tx.Sessions.DeleteByUser(ctx, user); err != nil {
		return err
	}
	_, err := tx.APITokens.DeleteByUser(ctx, user)
	return err
}

// BlockUser sets the user's row of sys_user_blocks and ends all sessions and tokens, audited. Blocking twice changes nothing.
// ErrNotFound without such a user.
func (t *Tables) BlockUser(ctx context.Context, user UserID, reason string) error {
	return t.at.change(ctx, func(tx *Tx) error {
		if err := tx.mustExist(ctx, "user", "count_user_id", string(user)); err != nil {
			return err
		}
		n, err := tx.exec(ctx, "block user", "user_block", string(user), clean(reason), tx.h.now())
		if err != nil {
			return err
		}
		if err := endCredentials(ctx, tx, user); err != nil || n == 0 {
			return err
		}
		return tx.Audit(ctx, "user.blocked", string(user), map[string]any{"reason": reason})
	})
}

func (tx *Tx) mustExist(ctx context.Context, noun, counter, id string) error {
	n, err := tx.count(ctx, "look for the "+noun, counter, storable(id))
	if err == nil && n == 0 {
		err = fmt.Errorf("%s: %w", noun, ErrNotFound)
	}
	return err
}

// UnblockUser lifts a block, audited; ErrNotFound if there is none.
func (t *Tables) UnblockUser(ctx context.Context, user UserID) error {
	return t.lift(ctx, "user.unblocked", "user_unblock", string(user))
}

func (t *Tables) lift(ctx context.Context, event, name, id string) error {
	return t.at.change(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, event, name, storable(id))
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%s: %w", event, ErrNotFound)
		}
		return tx.Audit(ctx, event, id, nil)
	})
}
