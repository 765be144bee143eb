package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Locks are a tenant's rows of sys_tenant_locks: the facts of a pause, without a verdict, which is the clock's. The zero
// value is no lock.
type Locks struct {
	held  bool
	until time.Time // the last end; zero: one of the locks has none
}

// LockedUntil is a lock that ends at that moment; a zero time is a lock without an end.
func LockedUntil(end time.Time) Locks { return Locks{held: true, until: end} }

// Paused reports whether a lock stands at that moment.
func (l Locks) Paused(now time.Time) bool { return l.held && (l.until.IsZero() || now.Before(l.until)) }

// Until is when the last lock ends; false if one of them has no end, or if there is none.
func (l Locks) Until() (time.Time, bool) { return l.until, l.held && !l.until.IsZero() }

// Endless reports whether a lock stands that no clock ends.
func (l Locks) Endless() bool { return l.held && l.until.IsZero() }

// locksInto reads the ends of a tenant's locks, joined by |. A lock without an end, or with one that cannot be read,
// stands until somebody removes it.
type locksInto struct{ to *Locks }

func (l locksInto) Scan(v any) error {
	*l.to = Locks{}
	if v == nil {
		return nil
	}
	var ends string
	if err := (textInto[string]{&ends}).Scan(v); err != nil {
		return err
	}
	l.to.held = true
	for end := range strings.SplitSeq(ends, "|") {
		t, err := ParseTimestamp(end)
		if err != nil {
			l.to.until = time.Time{}
			return nil
		}
		if t.After(l.to.until) {
			l.to.until = t
		}
	}
	return nil
}

// PauseTenant sets the operator's lock of the tenant, audited; a zero end is none. Pausing again moves the end. At its
// end a lock ceases by the clock, without any write. ErrNotFound without such a tenant.
func (t *Tables) PauseTenant(ctx context.Context, tenant TenantID, reason string, end time.Time) error {
	return t.at.change(ctx, func(tx *Tx) error {
		if err := tx.mustExist(ctx, "tenant", "count_tenant_id", string(tenant)); err != nil {
			return err
		}
		details := map[string]any{"reason": reason}
		var until any
		if !end.IsZero() {
			until = Timestamp(end)
			details["expires_at"] = until
		}
		if _, err := tx.exec(ctx, "pause tenant", "tenant_pause", string(tenant), clean(reason), tx.h.now(), until); err != nil {
			return err
		}
		return tx.Audit(ctx, "tenant.paused", string(tenant), details)
	})
}

// UnpauseTenant removes the operator's lock, audited; ErrNotFound if there is none. Locks of others stand.
func (t *Tables) UnpauseTenant(ctx context.Context, tenant TenantID) error {
	return t.lift(ctx, "tenant.unpaused", "tenant_unpause", string(tenant))
}

// Deletion is a row of sys_tenant_deletions: a tenant that nobody enters any more and whose rows are kept for a while.
type Deletion struct {
	RequestedAt string
	RequestedBy string
	RetainUntil string
	// WasActive is is_active as it was: what a restored tenant gets back.
	WasActive *bool
}

// TenantState is what our own tables say about a tenant.
type TenantState struct {
	Locks    Locks
	Deletion *Deletion // nil: not deleted
}

// TenantStates returns the state of each of the tenants, at most 1000 of them.
func (t *Tables) TenantStates(ctx context.Context, tenants ...TenantID) (map[TenantID]TenantState, error) {
	if len(tenants) > maxPage {
		return nil, fmt.Errorf("tenant states: ask for at most %d tenants", maxPage)
	}
	named := make(map[string]TenantID, len(tenants))
	for i, id := range tenants {
		named[strconv.Itoa(i)] = id
	}
	arg, err := json.Marshal(named)
	if err != nil {
		return nil, fmt.Errorf("tenant states: %w", err)
	}
	var states map[TenantID]TenantState
	err = t.at.query(ctx, "read the tenants' states", readDeadline, "tenant_states", []any{string(arg)}, func(rows *sql.Rows) error {
		states = make(map[TenantID]TenantState, len(tenants))
		for rows.Next() {
			var id TenantID
			var s TenantState
			var d Deletion
			if err := rows.Scan(intoAll(nil, []any{&id, &d.RequestedAt, &d.RequestedBy, &d.RetainUntil, &d.WasActive, &s.Locks})...); err != nil {
				return err
			}
			if d.RetainUntil != "" {
				s.Deletion = &d
			}
			states[id] = s
		}
		return rows.Err()
	})
	return states, err
}

// DeleteTenant suspends a tenant at once and records that its rows are kept for that long, audited. Until then
// RestoreTenant takes it back; nothing is removed here. Deleting again moves the end. ErrNotFound without such a tenant.
func (t *Tables) DeleteTenant(ctx context.Context, tenant TenantID, retain time.Duration) (Deletion, error) {
	var d Deletion
	if retain < 0 {
		return d, errors.New("delete tenant: retention must not be negative")
	}
	err := t.at.change(ctx, func(tx *Tx) error {
		row, err := tx.Tenants.lockRow(ctx, tx, tenant)
		if err != nil {
			return err
		}
		now := tx.h.clock()
		d = Deletion{
			RequestedAt: Timestamp(now), RequestedBy: actorOf(ctx).ID, RetainUntil: Timestamp(now.Add(retain)), WasActive: row.IsActive,
		}
		_, err = tx.exec(ctx, "record the deletion", "tenant_deletion", string(tenant), d.RequestedAt, clean(d.RequestedBy), d.RetainUntil,
			value(&d.WasActive))
		if err != nil {
			return err
		}
		suspended := *row
		suspended.IsActive = new(false)
		if err := tx.Tenants.writeChanges(ctx, tx, row, &suspended); err != nil {
			return err
		}
		return tx.Audit(ctx, "tenant.delete_requested", string(tenant), map[string]any{"rows": "kept", "retain_until": d.RetainUntil})
	})
	return d, err
}

// RestoreTenant takes a deleted tenant back as it was, audited: one that was suspended before stays so. ErrNotFound if
// it is not deleted; ErrConflict once its retention is over, because then it may be removed at any moment.
func (t *Tables) RestoreTenant(ctx context.Context, tenant TenantID) error {
	return t.at.change(ctx, func(tx *Tx) error {
		row, err := tx.Tenants.lockRow(ctx, tx, tenant)
		if err != nil {
			return err
		}
		states, err := tx.TenantStates(ctx, tenant)
		if err != nil {
			return err
		}
		d := states[tenant].Deletion
		if d == nil {
			return fmt.Errorf("tenant is not deleted: %w", ErrNotFound)
		}
		if end, err := ParseTimestamp(d.RetainUntil); err != nil || !tx.h.clock().Before(end) {
			return fmt.Errorf("%w: the tenant's retention ended at %s", ErrConflict, d.RetainUntil)
		}
		if _, err := tx.exec(ctx, "forget the deletion", "tenant_deletion_forget", string(tenant)); err != nil {
			return err
		}
		restored := *row
		restored.IsActive = d.WasActive
		if err := tx.Tenants.writeChanges(ctx, tx, row, &restored); err != nil {
			return err
		}
		return tx.Audit(ctx, "tenant.restored", string(tenant), nil)
	})
}

// refuseDeleted keeps a deleted tenant suspended: it is restored, or it goes.
func refuseDeleted(ctx context.Context, tx *Tx, old, row *TenantCatalog) error {
	was, is := old.IsActive != nil && *old.IsActive, row.IsActive != nil && *row.IsActive
	if was || !is {
		return nil
	}
	n, err := tx.count(ctx, "look for a deletion", "count_tenant_deletion", string(row.ID))
	if err == nil && n > 0 {
		err = fmt.Errorf("%w: the tenant is deleted: `tenantgate tenant restore` takes it back", ErrConflict)
	}
	return err
}
