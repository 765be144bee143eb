package catalog

import (
	"context"
	"database/sql"
	"fmt"
)

// TenantSignUp is the one tenant that a person's sign-up makes, or has made (sys_tenant_sign_ups).
type TenantSignUp struct {
	UserID    UserID
	TenantID  TenantID
	Name      string
	PlanTier  string
	JobID     JobID // what makes it
	CreatedAt string
}

// TenantSignUp returns the user's, or ErrNotFound.
func (t *Tables) TenantSignUp(ctx context.Context, user UserID) (*TenantSignUp, error) {
	var found *TenantSignUp
	err := t.at.query(ctx, "read the sign-up", readDeadline, "tenant_sign_up", []any{storable(string(user))}, func(rows *sql.Rows) error {
		found = nil
		for rows.Next() {
			var s TenantSignUp
			if err := rows.Scan(intoAll(nil, []any{&s.UserID, &s.TenantID, &s.Name, &s.PlanTier, &s.JobID, &s.CreatedAt})...); err != nil {
				return err
			}
			found = &s
		}
		return rows.Err()
	})
	if err == nil && found == nil {
		err = fmt.Errorf("sign-up: %w", ErrNotFound)
	}
	return found, err
}

// AddTenantSignUp writes the user's sign-up, audited. false: the user has one, which stays as it is.
func (tx *Tx) AddTenantSignUp(ctx context.Context, s *TenantSignUp) (bool, error) {
	for name, v := range map[string]string{"user_id": string(s.UserID), "tenant_id": string(s.TenantID), "name": s.Name} {
		if err := checkStorable(name, v); err != nil {
			return false, fmt.Errorf("sign-up: %w", err)
		}
	}
	s.CreatedAt = tx.h.now()
	n, err := tx.exec(ctx, "write the sign-up", "tenant_sign_up_insert", string(s.UserID), string(s.TenantID), s.Name, s.PlanTier,
		string(s.JobID), s.CreatedAt)
	if err != nil || n == 0 {
		return false, err
	}
	return true, tx.Audit(ctx, "tenant.signed_up", string(s.TenantID), map[string]any{
		"user_id": string(s.UserID), "name": s.Name, "plan_tier": s.PlanTier, "job_id": string(s.JobID),
	})
}
