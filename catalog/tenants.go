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
	held bool
	// drain is the shortest time that a lock gives requests under way, in seconds and one more; 0: none says. It lies where
	// held leaves room: many of these are remembered.
	drain int32
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

// Drain is how long requests under way may take once the pause begins; false if no lock says.
func (l Locks) Drain() (time.Duration, bool) {
	return time.Duration(max(l.drain-1, 0)) * time.Second, l.drain > 0
}

// WithDrain is the same locks with another Drain, in whole seconds.
func (l Locks) WithDrain(d time.Duration) Locks {
	l.drain = int32(min(d, maxDrain)/time.Second) + 1
	return l
}

// maxDrain bounds what a row may say, so that nobody's request outlives a pause by more.
const maxDrain = 10 * time.Minute

// drained takes what one lock says of requests under way.
func (l *Locks) drained(seconds string) {
	n, err := strconv.ParseInt(seconds, 10, 32)
	if err != nil || n < 0 {
		return
	}
	if with := l.WithDrain(time.Duration(n) * time.Second); l.drain == 0 || with.drain < l.drain {
		*l = with
	}
}

// locksInto reads the ends of a tenant's locks, joined by |, each with ; and its drain where it has one. A lock without
// an end, or with one that cannot be read, stands until somebody removes it.
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
	endless := false
	for end := range strings.SplitSeq(ends, "|") {
		if i := strings.LastIndexByte(end, ';'); i >= 0 {
			l.to.drained(end[i+1:])
			end = end[:i]
		}
		t, err := ParseTimestamp(end)
		if err != nil {
			endless = true
		} else if t.After(l.to.until) {
			l.to.until = t
		}
	}
	if endless {
		l.to.until = time.Time{}
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
	Backup    Backup
	// PurgingAt is when its removal began, "" before: from then on nothing takes it back.
	PurgingAt string
}

// Backup is what a deletion knows of the copy that was asked for before anything is removed.
type Backup struct {
	Dir    string // where it was asked for; "": it was not
	Path   string // where it is
	SHA256 string // of the file that holds the database, in hex
	At     string // when it was made and verified; "": it is not
}

// Pending reports whether a backup was asked for that is not there: nothing is removed before it is.
func (b Backup) Pending() bool { return b.Dir != "" && b.At == "" }

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
			if err := rows.Scan(intoAll(nil, []any{
				&id, &d.RequestedAt, &d.RequestedBy, &d.RetainUntil, &d.WasActive, &d.Backup.Dir, &d.Backup.Path, &d.Backup.SHA256,
				&d.Backup.At, &d.PurgingAt, &s.Locks,
			})...); err != nil {
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
// RestoreTenant takes it back; nothing is removed here. Deleting again moves the end. ErrNotFound without such a tenant,
// ErrConflict once its removal has begun.
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
		n, err := tx.exec(ctx, "record the deletion", "tenant_deletion", string(tenant), d.RequestedAt, clean(d.RequestedBy), d.RetainUntil,
			value(&d.WasActive))
		if err != nil {
			return err
		}
		if n == 0 {
			return errPurging
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

// errPurging refuses what comes too late.
var errPurging = fmt.Errorf("%w: its removal has begun: nothing takes it back", ErrConflict)

// RestoreTenant takes a deleted tenant back as it was, audited: one that was suspended before stays so. ErrNotFound if
// it is not deleted; ErrConflict once its removal has begun or its retention is over, because then it may be removed at
// any moment.
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
		if d.PurgingAt != "" {
			return errPurging
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
