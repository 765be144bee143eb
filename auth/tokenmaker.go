package auth

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/sealing"
)

// TokenMaker makes API tokens. It is immutable and safe for concurrent use.
type TokenMaker struct{ mac []byte }

// NewTokenMaker loads the sealed key that tokens are MACed with, or makes it.
func NewTokenMaker(ctx context.Context, host *catalog.HostDatabase, secrets seal.Keyset) (*TokenMaker, error) {
	macs, err := sealing.MACKeys(ctx, host, secrets, purposeTokenMAC)
	if err != nil {
		return nil, err
	}
	return &TokenMaker{macs[0]}, nil
}

// TokenSpec says what a new token is for.
type TokenSpec struct {
	// Admin makes an admin token, which has neither user nor tenant.
	Admin  bool
	User   catalog.UserID
	Tenant catalog.TenantID // "": every tenant of the user's
	Name   string
	// Expires is when the token ends; zero: not by itself.
	Expires time.Time
	// CreatedBy is the actor.
	CreatedBy string
}

// Make inserts a token, audited, and returns its row and the token itself, which nobody can find out again. Errors:
// catalog.ErrNotFound without such a user or tenant; ErrUnknownUser for a user who is blocked.
func (m *TokenMaker) Make(ctx context.Context, tx *catalog.Tx, spec TokenSpec) (*catalog.APIToken, secret.Text, error) {
	var t apiToken
	_, _ = rand.Read(t[:]) // never fails, see crypto/rand
	row := &catalog.APIToken{
		ID: apiTokenIDOf(t.key()), Kind: catalog.TokenUser, UserID: spec.User, TenantID: spec.Tenant,
		Name: filled(spec.Name), CreatedBy: filled(spec.CreatedBy),
	}
	prefix := userTokenPrefix
	if spec.Admin {
		row.Kind, prefix = catalog.TokenAdmin, adminTokenPrefix
	}
	if !spec.Expires.IsZero() {
		row.ExpiresAt = new(catalog.Timestamp(spec.Expires))
	}
	row.MAC = hex.EncodeToString(apiTokenMAC(m.mac, &t, row))
	if err := tx.APITokens.Insert(ctx, row); err != nil {
		return nil, secret.Text{}, fmt.Errorf("create token: %w", err)
	}
	// Whoever is blocked gets no token.
	if facts, err := tx.TokenUser(ctx, row.ID); err != nil {
		return nil, secret.Text{}, fmt.Errorf("create token: %w", err)
	} else if facts.Blocked {
		return nil, secret.Text{}, fmt.Errorf("create token: %w: blocked", ErrUnknownUser)
	}
	return row, secret.New(t.encode(prefix)), nil
}

func filled(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
