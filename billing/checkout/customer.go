package checkout

import (
	"context"
	"errors"
	"strings"

	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/billing/stripeapi"
	"github.com/tenantgate/tenantgate/catalog"
)

// maxCustomerText bounds a customer's name and e-mail, in bytes; Stripe takes 256 and 512 characters.
const maxCustomerText = 256

// customer is the Stripe customer as which the tenant buys: the one that is recorded, else the one of its newest
// subscription, else a new one. However many ask at once, on however many replicas, it is one.
func (p *Pages) customer(ctx context.Context, v *Visit, s *state) (ledger.StripeID, error) {
	known, err := p.payer(ctx, s)
	if err != nil {
		return "", err
	}
	row, err := p.host.ChangeStripeCustomer(ctx, v.Tenant, func(tx *catalog.Tx, row *catalog.StripeCustomer) error {
		if row.CreationKey != "" {
			return nil
		}
		*row = v.newCustomer()
		if known == "" {
			return nil
		}
		row.CustomerID = string(known)
		return tx.Audit(ctx, "billing.customer_recorded", string(v.Tenant), map[string]any{"customer": string(known)})
	})
	if err != nil {
		return "", err
	}
	if row.CustomerID != "" {
		return ledger.StripeID(row.CustomerID), nil
	}
	// Under one key and with the same words each time, so that whoever asks first, the others get the same customer.
	made, err := p.stripe.CreateCustomer(ctx, stripeapi.Customer{
		Name: row.Name, Email: row.Email, Metadata: map[string]string{ledger.MetadataTenant: string(v.Tenant)},
	}, row.CreationKey)
	if bad := new(stripeapi.Error); errors.As(err, &bad) && (bad.Replayed || bad.Param == "email") {
		if err := p.remake(ctx, v, row.CreationKey, bad.Param == "email"); err != nil {
			return "", err
		}
		return "", asking("create customer", errors.Join(errChanged, err))
	}
	if err != nil {
		return "", asking("create customer", err)
	}
	return p.keep(ctx, v, row.CreationKey, made)
}

// keep records the customer that was made under a key, unless another stands there by now.
func (p *Pages) keep(ctx context.Context, v *Visit, key string, made ledger.StripeID) (ledger.StripeID, error) {
	row, err := p.host.ChangeStripeCustomer(ctx, v.Tenant, func(tx *catalog.Tx, row *catalog.StripeCustomer) error {
		if row.CustomerID != "" || row.CreationKey != key {
			return nil
		}
		row.CustomerID = string(made)
		return tx.Audit(ctx, "billing.customer_created", string(v.Tenant), map[string]any{"customer": string(made)})
	})
	if err != nil {
		return "", err
	}
	if row.CustomerID == "" {
		return "", asking("create customer", errors.New("it was replaced meanwhile"))
	}
	return ledger.StripeID(row.CustomerID), nil
}

// remake has the customer made under another key the next time, and, where Stripe does not take the e-mail address, without
// one: otherwise it would answer for a day what it has answered once, or for ever.
func (p *Pages) remake(ctx context.Context, v *Visit, key string, nameless bool) error {
	_, err := p.host.ChangeStripeCustomer(ctx, v.Tenant, func(_ *catalog.Tx, row *catalog.StripeCustomer) error {
		if row.CustomerID != "" || row.CreationKey != key {
			return nil
		}
		row.CreationKey = newKey()
		if nameless {
			row.Email = ""
		}
		return nil
	})
	return err
}

// forget has a new customer made the next time: Stripe does not have this one.
func (p *Pages) forget(ctx context.Context, v *Visit, gone ledger.StripeID) error {
	_, err := p.host.ChangeStripeCustomer(ctx, v.Tenant, func(tx *catalog.Tx, row *catalog.StripeCustomer) error {
		if row.CustomerID != string(gone) {
			return nil
		}
		*row = v.newCustomer()
		return tx.Audit(ctx, "billing.customer_forgotten", string(v.Tenant), map[string]any{"customer": string(gone)})
	})
	return err
}

// newCustomer is a row before its customer is made: what it is made with does not change from then on, because Stripe
// refuses a key that comes with other words.
func (v *Visit) newCustomer() catalog.StripeCustomer {
	row := catalog.StripeCustomer{TenantID: v.Tenant, CreationKey: newKey(), Name: shorten(v.Name, string(v.Tenant)), Email: v.Email}
	if len(row.Name) > maxCustomerText {
		row.Name = ""
	}
	if len(row.Email) > maxCustomerText {
		row.Email = ""
	}
	return row
}

// customerGone reports whether a call was refused because Stripe does not have its customer, in this mode.
func customerGone(err error) bool {
	bad := new(stripeapi.Error)
	return errors.As(err, &bad) && bad.Code == "resource_missing" && (bad.Param == "customer" || strings.HasPrefix(bad.Message, "No such customer"))
}

// newKey is an idempotency key.
func newKey() string { return "tenantgate-" + catalog.GenID() }
