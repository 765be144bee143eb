package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

// Kinds of API tokens, as APIToken.Kind has them.
const (
	// TokenUser is a token that stands for a user on the public listener: tg_….
	TokenUser = "user"
	// TokenAdmin is a token that opens the admin listener and stands for nobody: tga_….
	TokenAdmin = "admin"
)

// APIToken is a row of sys_api_tokens. Nothing in it opens anything: the token is not stored, only its MAC.
type APIToken struct {
	ID       APITokenID `json:"id"`
	UserID   UserID     `json:"user_id"`   // "" for an admin token
	TenantID TenantID   `json:"tenant_id"` // the one tenant that it opens, "" for every one of the user's
	Kind     string     `json:"kind"`      // TokenUser or TokenAdmin
	Name     *string    `json:"name"`      // for people
	MAC      string     `json:"-"`         // hex HMAC over token, id, kind, user, tenant and expiry

	CreatedAt string  `json:"created_at"`
	CreatedBy *string `json:"created_by"` // the actor
	ExpiresAt *string `json:"expires_at"` // NULL: it does not end by itself
	LastUsed  *string `json:"last_used"`  // written at most once a minute
}

func apiTokenModel() model[APITokenID, APIToken] {
	return model[APITokenID, APIToken]{
		table: ownSchema + ".sys_api_tokens", noun: "token",
		columns: []string{"id", "user_id", "tenant_id", "kind", "name", "mac", "created_at", "created_by", "expires_at", "last_used"},
		fields:  apiTokenFields,
		check:   checkAPIToken,
		hidden:  []string{"mac"},
		quiet:   []string{"last_used"},
	}
}

func apiTokenFields(t *APIToken) []any {
	return []any{
		&t.ID, &t.UserID, &t.TenantID, &t.Kind, &t.Name, &t.MAC, &t.CreatedAt, &t.CreatedBy, &t.ExpiresAt, &t.LastUsed,
	}
}

// checkAPIToken refuses a token of nobody, and changes of what the MAC binds: they would only break the token.
func checkAPIToken(ctx context.Context, tx *Tx, old, row *APIToken) error {
	if old != nil {
		same := func(a, b *string) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
		if old.UserID != row.UserID || old.TenantID != row.TenantID || old.Kind != row.Kind || old.MAC != row.MAC || !same(old.ExpiresAt, row.ExpiresAt) {
			return errors.New("a token's user, tenant, kind and end never change: delete it and create another")
		}
		return nil
	}
	switch {
	case row.MAC == "":
		return errors.New("a token needs its MAC")
	case row.Kind == TokenAdmin:
		if row.UserID != "" || row.TenantID != "" {
			return errors.New("an admin token has neither user nor tenant")
		}
		return nil
	case row.Kind != TokenUser:
		return fmt.Errorf("a token's kind is %s or %s", TokenUser, TokenAdmin)
	}
	if err := tx.mustExist(ctx, "user", "count_user_id", string(row.UserID)); err != nil || row.TenantID == "" {
		return err
	}
	return tx.mustExist(ctx, "tenant", "count_tenant_id", string(row.TenantID))
}

// APITokens is sys_api_tokens. Insert, Update and Delete are audited as token.created, token.updated and token.deleted;
// a row inserted without a MAC of package auth opens nothing.
type APITokens struct{ Table[APITokenID, APIToken] }

// Touch sets last_used (text, see Timestamp), never back in time; ErrNotFound if the token is gone. It is not audited.
func (t *APITokens) Touch(ctx context.Context, id APITokenID, lastUsed string) error {
	return t.at.change(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, "touch token", "api_token_touch", storable(string(id)), lastUsed)
		if err == nil && n == 0 {
			err = fmt.Errorf("token: %w", ErrNotFound)
		}
		return err
	})
}

// DeleteByUser ends all tokens of a user and says how many there were, audited where there were any.
func (t *APITokens) DeleteByUser(ctx context.Context, user UserID) (int, error) {
	return t.deleteOf(ctx, "api_token_delete_by_user", string(user))
}

// DeleteByTenant ends all tokens that are for a tenant alone and says how many there were, audited where there were any.
func (t *APITokens) DeleteByTenant(ctx context.Context, tenant TenantID) (int, error) {
	return t.deleteOf(ctx, "api_token_delete_by_tenant", string(tenant))
}

func (t *APITokens) deleteOf(ctx context.Context, name, id string) (n int, err error) {
	err = t.at.change(ctx, func(tx *Tx) error {
		deleted, err := tx.exec(ctx, "delete tokens", name, storable(id))
		if n = int(deleted); err != nil || n == 0 {
			return err
		}
		return tx.Audit(ctx, "token.deleted", id, map[string]any{"tokens": n})
	})
	return n, err
}

// TokenFacts is what the host database says of a token.
type TokenFacts struct {
	Token APIToken
	// User is nil where the token's user is gone, and for an admin token.
	User    *GlobalUser
	Blocked bool
}

// TokenUser returns a token and its user, in one statement. ErrNotFound without the token. It looks neither at the clock
// nor at the MAC: both are the caller's.
func (t *Tables) TokenUser(ctx context.Context, id APITokenID) (TokenFacts, error) {
	var facts TokenFacts
	found := false
	args := []any{storable(string(id))}
	err := t.at.query(ctx, "find the token", hotDeadline, "api_token_user", args, func(rows *sql.Rows) error {
		facts, found = TokenFacts{}, false
		for rows.Next() {
			var user GlobalUser
			dst := append(intoAll(nil, slices.Concat(apiTokenFields(&facts.Token), userFields(&user))), into(&facts.Blocked))
			if err := rows.Scan(dst...); err != nil {
				return err
			}
			if found = true; user.ID != "" {
				facts.User = &user
			}
		}
		return rows.Err()
	})
	if err == nil && !found {
		err = fmt.Errorf("token: %w", ErrNotFound)
	}
	if err != nil {
		return TokenFacts{}, err
	}
	return facts, nil
}
