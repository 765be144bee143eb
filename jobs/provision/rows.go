package provision

import (
	"context"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/sealing"
)

// rows writes db_url, the owner's membership and the trial.
func (r *run) rows(ctx context.Context, tx *catalog.Tx) error {
	stored := r.uri
	if !r.cfg.Plain {
		var err error
		if stored, err = sealing.Seal(r.deps.Keys, r.spec.Tenant, r.uri); err != nil {
			return err
		}
	}
	row, err := tx.Tenants.Change(ctx, r.spec.Tenant, func(t *catalog.TenantCatalog) error {
		t.DBURL = stored
		fill(&t.Name, r.spec.Name)
		fill(&t.PlanTier, r.spec.PlanTier)
		return nil
	})
	if err != nil {
		return refuse(err)
	}
	if err := r.owner(ctx, tx); err != nil {
		return err
	}
	return r.trial(ctx, tx, row)
}

// owner makes the user on record a member in the owner's role, unless that is one already, in whatever role. Once that
// has been done only a run that names the owner itself does it again: whoever left the tenant since stays away.
func (r *run) owner(ctx context.Context, tx *catalog.Tx) error {
	owner := r.spec.Owner
	if owner == "" && r.record.UserID != nil && !Step(r.record.Step).Reached(Rows) {
		owner = catalog.UserID(*r.record.UserID)
	}
	if owner == "" {
		return nil
	}
	there, _, err := tx.Memberships.List(ctx, catalog.Page{Limit: 1, Filter: map[string]string{
		"user_id": string(owner), "tenant_id": string(r.spec.Tenant), "is_active": "true",
	}})
	if err != nil || len(there) > 0 {
		return err
	}
	return refuse(tx.Memberships.Insert(ctx, &catalog.Membership{
		UserID: owner, TenantID: r.spec.Tenant, Role: &r.cfg.OwnerRole, IsActive: new(true),
	}))
}
