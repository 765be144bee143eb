package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// WantBackup records that a deleted tenant is to be copied into dir before anything of it is removed, audited. Until
// BackupMade nothing is removed. Asking again asks for another one. ErrNotFound if the tenant is not deleted, or its
// removal has begun.
func (t *Tables) WantBackup(ctx context.Context, tenant TenantID, dir string) error {
	return t.at.change(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, "ask for a backup", "tenant_backup_wanted", string(tenant), clean(dir))
		if err == nil && n == 0 {
			err = fmt.Errorf("ask for a backup: the tenant is not deleted: %w", ErrNotFound)
		}
		if err != nil {
			return err
		}
		return tx.Audit(ctx, "tenant.backup_wanted", string(tenant), map[string]any{"dir": dir})
	})
}

// BackupMade records a backup that was made and verified, audited.
func (t *Tables) BackupMade(ctx context.Context, tenant TenantID, path, sha256 string, details map[string]any) error {
	return t.at.change(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, "record a backup", "tenant_backup_made", string(tenant), clean(path), sha256, tx.h.now())
		if err == nil && n == 0 {
			err = fmt.Errorf("record a backup: nobody waits for it any more: %w", ErrNotFound)
		}
		if err != nil {
			return err
		}
		more := map[string]any{"path": path, "sha256": sha256}
		for k, v := range details {
			more[k] = v
		}
		return tx.Audit(ctx, "tenant.backed_up", string(tenant), more)
	})
}

// purgeNow is the time by which retention ends: the earlier of this process's clock and the one that all share. One wrong
// clock removes nobody's data early.
func (t *Tables) purgeNow(ctx context.Context) (time.Time, error) {
	shared, err := t.Now(ctx)
	if own := t.at.host().clock().UTC(); own.Before(shared) {
		return own, err
	}
	return shared, err
}

// PurgesDue returns deleted tenants whose retention is over, those first whose removal had begun.
func (t *Tables) PurgesDue(ctx context.Context, limit int) ([]TenantID, error) {
	now, err := t.purgeNow(ctx)
	if err != nil {
		return nil, err
	}
	var due []TenantID
	args := []any{Timestamp(now), min(limit, maxPage)}
	err = t.at.query(ctx, "look for deleted tenants", readDeadline, "tenant_purges_due", args, func(rows *sql.Rows) error {
		due = nil
		for rows.Next() {
			var id TenantID
			if err := rows.Scan(into(&id)); err != nil {
				return err
			}
			due = append(due, id)
		}
		return rows.Err()
	})
	return due, err
}

// BeginPurge decides that a deleted tenant is removed: from its commit on nothing takes it back. Calling it again says
// the same. ErrNotFound if the tenant is not deleted; ErrConflict while its retention lasts, while a backup is missing,
// and where somebody has made the tenant active again behind our back.
func (t *Tables) BeginPurge(ctx context.Context, tenant TenantID) (d Deletion, err error) {
	err = t.at.change(ctx, func(tx *Tx) error {
		active, err := tx.lockedActive(ctx, tenant)
		if err != nil {
			return err
		}
		states, err := tx.TenantStates(ctx, tenant)
		if err != nil {
			return err
		}
		if states[tenant].Deletion == nil {
			return fmt.Errorf("tenant is not deleted: %w", ErrNotFound)
		}
		d = *states[tenant].Deletion
		if d.PurgingAt != "" {
			return nil
		}
		now, err := tx.purgeNow(ctx)
		if err != nil {
			return err
		}
		end, err := ParseTimestamp(d.RetainUntil)
		switch {
		case err != nil || now.Before(end):
			return fmt.Errorf("%w: the tenant is kept until %s", ErrConflict, d.RetainUntil)
		case d.Backup.Pending():
			return fmt.Errorf("%w: the backup into %s that was asked for is not there: `tenantgate tenant delete --backup DIR` makes it", ErrConflict, d.Backup.Dir)
		case active:
			return fmt.Errorf("%w: the tenant is active again, although it is deleted: `tenantgate tenant restore`, or suspend it", ErrConflict)
		}
		d.PurgingAt = tx.h.now()
		if _, err := tx.exec(ctx, "begin the removal", "tenant_purge_begin", string(tenant), d.PurgingAt); err != nil {
			return err
		}
		return tx.Audit(ctx, "tenant.purge_begun", string(tenant), map[string]any{"retain_until": d.RetainUntil})
	})
	return d, err
}

// lockedActive locks the tenant's row and says whether the tenant is active; a row that another program removed is not.
func (tx *Tx) lockedActive(ctx context.Context, tenant TenantID) (bool, error) {
	n, err := tx.count(ctx, "look for the tenant", "count_tenant_id", string(tenant))
	if err != nil || n == 0 {
		return false, err
	}
	row, err := tx.Tenants.lockRow(ctx, tx, tenant)
	if err != nil {
		return false, err
	}
	return row.IsActive != nil && *row.IsActive, nil
}

// owned is a table with rows that end with their tenant.
type owned struct{ table, column string }

// tenantsRows are all rows that end with their tenant, the tenant's own and the deletion's last. What is not among them
// and names a tenant is a record: the audit log and its chain, the change log, jobs, Stripe's events, each of which is
// applied once, sys_stripe_purged, which keeps what the tenant paid with from the next one of its id, sys_tenant_sign_ups, which allows one a person, and sys_sign_ups, which ends within the hour.
func tenantsRows() []owned {
	const own = ownSchema + "."
	return []owned{
		{"core_memberships", "tenant_id"},
		{"core_subscriptions", "tenant_id"},
		{own + "core_tenant_domains", "tenant_id"},
		{own + "sys_api_tokens", "tenant_id"},
		{own + "sys_stripe_customers", "tenant_id"}, // whoever gets the id next pays as somebody else
		{own + "sys_stripe_watermarks", "tenant_id"},
		{own + "sys_past_due", "tenant_id"},
		{own + "sys_handoffs", "tenant_id"},
		{own + "sys_handoffs", "only_tenant"},
		{own + "sys_sessions", "only_tenant"},
		{own + "sys_tenant_locks", "tenant_id"},
		{own + "sys_tenant_schemas", "tenant_id"},
		{own + "sys_tenant_databases", "tenant_id"}, // the caller has dropped what it names
		{"core_tenants", "id"},
		{own + "sys_tenant_deletions", "tenant_id"},
	}
}

// EndPurge ends every row of a tenant whose removal BeginPurge decided, in one transaction with its audit row, which
// counts them. ErrNotFound if nothing is to be removed, ErrConflict if BeginPurge was not called.
func (t *Tables) EndPurge(ctx context.Context, tenant TenantID, details map[string]any) error {
	return t.at.change(ctx, func(tx *Tx) error {
		if err := tx.LockBilling(ctx, tenant); err != nil { // what an event says of the tenant comes before, or finds it gone
			return err
		}
		if _, err := tx.lockedActive(ctx, tenant); err != nil {
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
		if d.PurgingAt == "" {
			return fmt.Errorf("%w: its removal has not begun", ErrConflict)
		}
		if _, err := tx.exec(ctx, "let sessions go on without the tenant", "tenant_sessions_forget", string(tenant)); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, "remember what the tenant paid with", "stripe_purged_put", string(tenant), tx.h.now()); err != nil {
			return err
		}
		counts := map[string]any{}
		for _, o := range tenantsRows() {
			text := dialect(tx.h.engine, "DELETE FROM "+o.table+" WHERE "+o.column+" = $1")
			n, err := tx.execText(ctx, "remove the tenant's rows", text, string(tenant))
			if err != nil {
				return err
			}
			if n > 0 {
				name := dialect(EngineSQLite, o.table)
				before, _ := counts[name].(int64)
				counts[name] = before + n
			}
		}
		more := map[string]any{"rows": counts}
		for k, v := range details {
			more[k] = v
		}
		return tx.Audit(ctx, "tenant.purged", string(tenant), more)
	})
}
