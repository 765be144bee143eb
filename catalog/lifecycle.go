package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// TenantSchema is a row of sys_tenant_schemas: what was last seen of the schema in a tenant's own database, which alone
// decides what a migration does.
type TenantSchema struct {
	TenantID  TenantID
	Version   int64 // goose's; 0: none was applied
	CheckedAt string
	ChangedAt string // when we last changed it, "" if never
	Failure   string // why the last try failed, "" if it did not; without secrets
}

// SawTenantSchema records what was found in a tenant's database, or what a migration made of it. was is what
// TenantSchema had; nil: nothing. false: another run has recorded something since, and nothing was written. changed says
// that the schema is not as was has it, and is audited as tenant.migrated with the details. ErrNotFound without such a
// tenant.
func (t *Tables) SawTenantSchema(ctx context.Context, was *TenantSchema, seen TenantSchema, changed bool, details map[string]any) (taken bool, err error) {
	err = t.at.change(ctx, func(tx *Tx) error {
		taken = false
		if err := tx.mustExist(ctx, "tenant", "count_tenant_id", string(seen.TenantID)); err != nil {
			return err
		}
		now := tx.h.now()
		var before, at, failure any
		if was != nil {
			before = was.Version
		}
		if changed {
			at = now
		}
		if seen.Failure != "" {
			failure = shorten(seen.Failure)
		}
		n, err := tx.exec(ctx, "record a tenant's schema", "tenant_schema_seen", string(seen.TenantID), seen.Version, now, at, failure, before)
		if taken = n > 0; err != nil || !taken || !changed && seen.Failure == "" {
			return err
		}
		event := "tenant.migrated"
		if seen.Failure != "" {
			event = "tenant.migration_failed"
		}
		return tx.Audit(ctx, event, string(seen.TenantID), details)
	})
	return taken && err == nil, err
}

// TenantSchema returns what is recorded of one tenant; nil if nothing is.
func (t *Tables) TenantSchema(ctx context.Context, tenant TenantID) (found *TenantSchema, err error) {
	err = t.at.query(ctx, "look for a tenant's schema", readDeadline, "tenant_schema", []any{storable(string(tenant))}, func(rows *sql.Rows) error {
		found = nil
		for rows.Next() {
			found = &TenantSchema{}
			if err := rows.Scan(intoAll(nil, []any{&found.TenantID, &found.Version, &found.CheckedAt, &found.ChangedAt, &found.Failure})...); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return found, err
}

// TenantSchemas returns what is recorded, in the order of tenants' ids, at most 1000 rows behind after.
func (t *Tables) TenantSchemas(ctx context.Context, after TenantID) ([]TenantSchema, error) {
	var found []TenantSchema
	err := t.at.query(ctx, "list tenants' schemas", readDeadline, "tenant_schemas", []any{string(after), maxPage}, func(rows *sql.Rows) error {
		found = nil
		for rows.Next() {
			var s TenantSchema
			if err := rows.Scan(intoAll(nil, []any{&s.TenantID, &s.Version, &s.CheckedAt, &s.ChangedAt, &s.Failure})...); err != nil {
				return err
			}
			found = append(found, s)
		}
		return rows.Err()
	})
	return found, err
}

// Hold is a pause of a program's own, which ends by the clock unless it is renewed: a program that is killed keeps
// nobody out for long.
type Hold struct {
	Tenant TenantID
	Holder string // "migrate:<run>"; the operator's pause is another
	Reason string
	Drain  time.Duration // how long requests under way may take, whole seconds
	Lasts  time.Duration // until its end, from now or from a renewal on
}

// HoldTenant sets the lock, audited as tenant.paused; ErrNotFound without such a tenant.
func (t *Tables) HoldTenant(ctx context.Context, hold Hold) error {
	if hold.Holder == "" || hold.Holder == "operator" || hold.Lasts <= 0 {
		return errors.New("hold tenant: a holder of its own and an end are needed")
	}
	return t.at.change(ctx, func(tx *Tx) error {
		if err := tx.mustExist(ctx, "tenant", "count_tenant_id", string(hold.Tenant)); err != nil {
			return err
		}
		end := Timestamp(tx.h.clock().Add(hold.Lasts))
		_, err := tx.exec(ctx, "pause tenant", "tenant_hold", string(hold.Tenant), hold.Holder, clean(hold.Reason), tx.h.now(), end,
			int64(hold.Drain/time.Second))
		if err != nil {
			return err
		}
		return tx.Audit(ctx, "tenant.paused", string(hold.Tenant), map[string]any{"holder": hold.Holder, "reason": hold.Reason, "expires_at": end})
	})
}

// RenewHold moves the lock's end. It is not audited. ErrNotFound if the lock is gone or has ended meanwhile: then people
// may be inside again.
func (t *Tables) RenewHold(ctx context.Context, hold Hold) error {
	return t.at.change(ctx, func(tx *Tx) error {
		end := Timestamp(tx.h.clock().Add(hold.Lasts))
		n, err := tx.exec(ctx, "renew a pause", "tenant_hold_renew", string(hold.Tenant), hold.Holder, end, tx.h.now())
		if err == nil && n == 0 {
			err = fmt.Errorf("renew a pause: %w", ErrNotFound)
		}
		return err
	})
}

// ReleaseTenant removes the lock, audited as tenant.unpaused; ErrNotFound if there is none.
func (t *Tables) ReleaseTenant(ctx context.Context, hold Hold) error {
	return t.at.change(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, "end a pause", "tenant_release", string(hold.Tenant), hold.Holder)
		if err == nil && n == 0 {
			err = fmt.Errorf("end a pause: %w", ErrNotFound)
		}
		if err != nil {
			return err
		}
		return tx.Audit(ctx, "tenant.unpaused", string(hold.Tenant), map[string]any{"holder": hold.Holder})
	})
}

// ForgetEndedHolds removes locks of holders whose names begin so that the clock has ended already, and says how many.
// They keep nobody out, so that it is not audited.
func (t *Tables) ForgetEndedHolds(ctx context.Context, prefix string) (n int, err error) {
	err = t.at.change(ctx, func(tx *Tx) error {
		removed, err := tx.exec(ctx, "remove ended pauses", "tenant_release_ended", prefix, tx.h.now())
		n = int(removed)
		return err
	})
	return n, err
}

// TenantLock is a row of sys_tenant_locks.
type TenantLock struct {
	TenantID  TenantID
	Holder    string
	ExpiresAt string // "": it has no end
}

// TenantLocks returns the locks that stand, those that have ended too, at most 1000.
func (t *Tables) TenantLocks(ctx context.Context) ([]TenantLock, error) {
	var found []TenantLock
	err := t.at.query(ctx, "list locks", readDeadline, "tenant_locks", []any{maxPage}, func(rows *sql.Rows) error {
		found = nil
		for rows.Next() {
			var l TenantLock
			if err := rows.Scan(intoAll(nil, []any{&l.TenantID, &l.Holder, &l.ExpiresAt})...); err != nil {
				return err
			}
			found = append(found, l)
		}
		return rows.Err()
	})
	return found, err
}
