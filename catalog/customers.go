package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// StripeCustomer is a row of sys_stripe_customers: as which Stripe customer a tenant pays, and the one checkout that may
// be open for it.
type StripeCustomer struct {
	TenantID    TenantID
	CustomerID  string // "" while it is being made
	CreationKey string // the idempotency key with which it is made
	Name        string // as it is made
	Email       string // as it is made
	// CheckoutKey is the idempotency key of the newest checkout, CheckoutHash is over what that asks for, and
	// CheckoutSession is Stripe's id of it; "" before there is one.
	CheckoutKey     string
	CheckoutHash    string
	CheckoutSession string
	CreatedAt       string
}

func stripeCustomerFields(c *StripeCustomer) []any {
	return []any{
		&c.TenantID, &c.CustomerID, &c.CreationKey, &c.Name, &c.Email, &c.CheckoutKey, &c.CheckoutHash, &c.CheckoutSession,
		&c.CreatedAt,
	}
}

// StripeCustomer returns the tenant's row; ErrNotFound without one.
func (t *Tables) StripeCustomer(ctx context.Context, tenant TenantID) (*StripeCustomer, error) {
	var found *StripeCustomer
	args := []any{storable(string(tenant))}
	err := t.at.query(ctx, "read the tenant's Stripe customer", readDeadline, "stripe_customer_get", args, func(rows *sql.Rows) error {
		found = nil
		for rows.Next() {
			found = new(StripeCustomer)
			if err := rows.Scan(intoAll(nil, stripeCustomerFields(found))...); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err == nil && found == nil {
		err = fmt.Errorf("the tenant's Stripe customer: %w", ErrNotFound)
	}
	return found, err
}

// StripeCustomerTenant returns the one tenant that is known to pay as that customer, by its subscriptions or by
// sys_stripe_customers; "" if there is none, or more than one.
func (t *Tables) StripeCustomerTenant(ctx context.Context, customer string) (TenantID, error) {
	var tenants []TenantID
	args := []any{storable(customer)}
	err := t.at.query(ctx, "find the customer's tenant", readDeadline, "stripe_customer_tenants", args, func(rows *sql.Rows) error {
		tenants = nil
		for rows.Next() {
			var id TenantID
			if err := rows.Scan(into(&id)); err != nil {
				return err
			}
			tenants = append(tenants, id)
		}
		return rows.Err()
	})
	if err != nil || len(tenants) != 1 {
		return "", err
	}
	return tenants[0], nil
}

// ChangeStripeCustomer lets edit change the tenant's row, which nobody else changes meanwhile, across all replicas. A
// tenant without a row has one with its id alone. Nothing is written if edit returns an error or leaves the row as it
// was. It is not audited: edit does that, in the same transaction.
func (t *Tables) ChangeStripeCustomer(ctx context.Context, tenant TenantID, edit func(tx *Tx, row *StripeCustomer) error) (*StripeCustomer, error) {
	var row StripeCustomer
	err := t.at.change(ctx, func(tx *Tx) error {
		if err := tx.lock(ctx, "stripe_customer/"+string(tenant)); err != nil {
			return err
		}
		row = StripeCustomer{TenantID: tenant}
		if found, err := tx.StripeCustomer(ctx, tenant); err == nil {
			row = *found
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
		was := row
		if err := edit(tx, &row); err != nil || row == was {
			return err
		}
		row.TenantID = tenant
		if row.CreatedAt == "" {
			row.CreatedAt = tx.h.now()
		}
		args := stripeCustomerFields(&row)
		for i, f := range args {
			args[i] = value(f)
			if err := checkStorable("Stripe customer", args[i]); err != nil {
				return err
			}
		}
		if _, err := tx.exec(ctx, "keep the tenant's Stripe customer", "stripe_customer_put", args...); err != nil || row.CustomerID == was.CustomerID {
			return err
		}
		return tx.AnnounceClaim(ctx, tenant, StripeID(row.CustomerID))
	})
	return &row, err
}
