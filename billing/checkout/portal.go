package checkout

import (
	"context"
	"net/http"

	"github.com/tenantgate/tenantgate/catalog"
)

// Portal serves POST PortalPath: it leads to Stripe's customer portal of the tenant's own customer.
func (p *Pages) Portal(w http.ResponseWriter, r *http.Request, v Visit) {
	if wait, ok := p.starts.take(v.Tenant); !ok {
		p.tooMany(w, r, wait, "portal sessions")
		return
	}
	ctx, cancel := v.within(r.Context())
	defer cancel()
	s, err := p.read(ctx, &v)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	p.toPortal(ctx, w, r, &v, s)
}

// toPortal leads to the portal; to the plans, where there is no customer that is this tenant's alone, or Stripe does not
// have it.
func (p *Pages) toPortal(ctx context.Context, w http.ResponseWriter, r *http.Request, v *Visit, s *state) {
	customer, err := p.payer(ctx, s)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	if customer == "" {
		p.see(w, v.link(Path))
		return
	}
	err = p.host.InTx(ctx, func(tx *catalog.Tx) error {
		return tx.Audit(ctx, "billing.portal_started", string(v.Tenant), map[string]any{"customer": string(customer)})
	})
	if err != nil {
		p.fail(w, r, err)
		return
	}
	target, err := p.stripe.CreatePortal(ctx, customer, v.Origin+v.link(Path))
	switch {
	case customerGone(err):
		p.see(w, v.link(Path))
	case err != nil:
		p.fail(w, r, asking("create portal", err))
	default:
		p.lead(w, v, target, "Go on to your invoices", "Payment and invoices are managed at the payment service.")
	}
}
