package ledger

import (
	"context"
	"errors"

	"github.com/tenantgate/tenantgate/catalog"
)

// whose says which tenant an object belongs to: the one whose name our checkout signed for this customer; else the one that is
// on record for the object; else, where unsigned names are trusted, the one that it names; else the one that all records of
// the customer name. named is a tenant that counts once it is there.
func (l *Ledger) whose(ctx context.Context, tx *catalog.Tx, w *catalog.StripeWatermark, s *state) (tenant catalog.TenantID, named string, err error) {
	metadata := s.metadata()
	for _, m := range metadata {
		if l.signer == nil {
			break
		}
		if signed, ok := l.signer.Claims(m, string(w.Customer)); ok {
			if there, err := exists(ctx, tx, signed); err != nil || there {
				return signed, "", err
			}
			return "", string(signed), nil
		}
	}
	if w.TenantID != "" {
		if there, err := exists(ctx, tx, w.TenantID); err != nil || there {
			return w.TenantID, "", err
		}
	}
	recorded, err := tx.Stripe.SubscriptionTenants(ctx, w.Object)
	if err != nil || len(recorded) == 1 {
		return present(ctx, tx, one(recorded), "", err)
	}
	if l.cfg.TrustMetadata {
		for _, m := range append(metadata, reference(s)) {
			claimed := catalog.TenantID(m[MetadataTenant])
			if claimed == "" {
				continue
			}
			if there, err := exists(ctx, tx, claimed); err != nil || there {
				return claimed, "", err
			}
			named = string(claimed)
		}
	}
	if w.Customer == "" {
		return "", named, nil
	}
	recorded, err = tx.Stripe.CustomerTenants(ctx, w.Customer)
	return present(ctx, tx, one(recorded), named, err)
}

// present is the tenant if it is there, else nobody: what records name may be gone, or not be there yet.
func present(ctx context.Context, tx *catalog.Tx, tenant catalog.TenantID, named string, err error) (catalog.TenantID, string, error) {
	if err != nil || tenant == "" {
		return "", named, err
	}
	if there, err := exists(ctx, tx, tenant); err != nil || there {
		return tenant, named, err
	}
	return "", named, nil
}

// reference is the client_reference_id of the object's session, as metadata.
func reference(s *state) map[string]string {
	if s.Session == nil {
		return nil
	}
	return map[string]string{MetadataTenant: s.Session.ClientReference}
}

// one is the only tenant, "" if there are none or two.
func one(tenants []catalog.TenantID) catalog.TenantID {
	if len(tenants) != 1 {
		return ""
	}
	return tenants[0]
}

func exists(ctx context.Context, tx *catalog.Tx, tenant catalog.TenantID) (bool, error) {
	_, err := tx.Tenants.Get(ctx, tenant)
	if errors.Is(err, catalog.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// plan is the plan that an object's metadata names; "" if what it says is not believed.
func (l *Ledger) plan(w *catalog.StripeWatermark, s *state) catalog.PlanID {
	for _, m := range s.metadata() {
		named := catalog.PlanID(m[MetadataPlan])
		if named == "" {
			continue
		}
		if l.cfg.TrustMetadata {
			return named
		}
		if l.signer != nil {
			if _, ok := l.signer.Claims(m, string(w.Customer)); ok {
				return named
			}
		}
	}
	return ""
}
