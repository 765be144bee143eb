package ledger

import (
	"context"
	"errors"

	"github.com/tenantgate/tenantgate/catalog"
)

// whose says which tenant an object belongs to: the one whose name our checkout signed for this customer; else the one that is
// on record for the object; else, where unsigned names are trusted, the one that it names; else the one that all records of
// the customer name. named is a tenant that counts once it is there. What an earlier tenant of an id paid with is not that of
// the next one, whatever names it.
func (r *run) whose(ctx context.Context, w *catalog.StripeWatermark, s *state) (tenant catalog.TenantID, named string, err error) {
	metadata := s.metadata()
	for _, m := range metadata {
		if r.l.signer == nil {
			break
		}
		if signed, ok := r.l.signer.Claims(m, string(w.Customer)); ok {
			switch may, err := r.may(ctx, signed, w); {
			case err != nil || may == catalog.ClaimMay:
				return signed, "", err
			case may == catalog.ClaimGone:
				return "", string(signed), nil
			}
		}
	}
	if w.TenantID != "" {
		if may, err := r.may(ctx, w.TenantID, w); err != nil || may == catalog.ClaimMay {
			return w.TenantID, "", err
		}
	}
	recorded, err := r.tx.Stripe.SubscriptionTenants(ctx, w.Object)
	if err != nil || len(recorded) == 1 {
		return r.present(ctx, one(recorded), w, "", err)
	}
	if r.l.cfg.TrustMetadata {
		for _, m := range append(metadata, reference(s)) {
			claimed := catalog.TenantID(m[MetadataTenant])
			if claimed == "" {
				continue
			}
			switch may, err := r.may(ctx, claimed, w); {
			case err != nil || may == catalog.ClaimMay:
				return claimed, "", err
			case may == catalog.ClaimGone:
				named = string(claimed)
			}
		}
	}
	if w.Customer == "" {
		return "", named, nil
	}
	recorded, err = r.tx.Stripe.CustomerTenants(ctx, w.Customer)
	return r.present(ctx, one(recorded), w, named, err)
}

// present is the tenant if it is there, else nobody: what records name may be gone, or not be there yet.
func (r *run) present(
	ctx context.Context, tenant catalog.TenantID, w *catalog.StripeWatermark, named string, err error,
) (catalog.TenantID, string, error) {
	if err != nil || tenant == "" {
		return "", named, err
	}
	if may, err := r.may(ctx, tenant, w); err != nil || may == catalog.ClaimMay {
		return tenant, named, err
	}
	return "", named, nil
}

// may asks whether the object may be the tenant's, and notes if it is of an earlier one.
func (r *run) may(ctx context.Context, tenant catalog.TenantID, w *catalog.StripeWatermark) (catalog.Claim, error) {
	may, err := r.tx.Stripe.Claim(ctx, tenant, w.Object, w.Customer)
	if err == nil && may == catalog.ClaimPurged {
		r.purged = tenant
	}
	return may, err
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

// exists reports whether a tenant is there; the one that claim has just looked for is.
func (r *run) exists(ctx context.Context, tenant catalog.TenantID) (bool, error) {
	if tenant != "" && tenant == r.claimed {
		return true, nil
	}
	_, err := r.tx.Tenants.Get(ctx, tenant)
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
