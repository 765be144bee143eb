package fhsaas

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Stripe handles Stripe's events as fh-saas's own service does, with what is wrong with it: it knows no event ids and no
// order, believes unsigned metadata, reads the period's end where only old API versions have it and writes NULL where they
// do not, and reads a row before it writes all of it, in another transaction. It is for one goroutine.
type Stripe struct {
	DB *sql.DB
	// Now is its clock.
	Now func() time.Time
	// Fetch is what Stripe says of a subscription now: a checkout that was completed asks for it.
	Fetch func(id string) map[string]any
}

// paid is what it reads and writes of a row of core_subscriptions.
type paid struct {
	id, tenant, customer, plan, status, end, trial, cancels any
}

// Handle handles one event, as json.Unmarshal reads it. What its handlers pass over is no error.
func (s *Stripe) Handle(ctx context.Context, event map[string]any) error {
	data, _ := event["data"].(map[string]any)
	object, _ := data["object"].(map[string]any)
	metadata, _ := object["metadata"].(map[string]any)
	switch event["type"] {
	case "checkout.session.completed":
		id, ok := object["subscription"].(string)
		if !ok || metadata["tenant_id"] == nil || metadata["user_email"] == nil {
			return nil
		}
		sub := s.Fetch(id)
		return s.upsert(ctx, id, tier(metadata, paid{tenant: metadata["tenant_id"], customer: object["customer"], cancels: false}).of(sub))
	case "customer.subscription.created":
		if metadata["tenant_id"] == nil {
			return nil
		}
		return s.upsert(ctx, object["id"], tier(metadata, paid{tenant: metadata["tenant_id"], customer: object["customer"], cancels: false}).of(object))
	case "customer.subscription.updated":
		was, err := s.find(ctx, object["id"])
		if err != nil || was == nil {
			return err
		}
		cancels, _ := object["cancel_at_period_end"].(bool)
		return s.upsert(ctx, object["id"], paid{tenant: was.tenant, customer: object["customer"], plan: was.plan, cancels: cancels}.of(object))
	case "customer.subscription.deleted":
		return s.set(ctx, object["id"], func(row *paid) { row.status, row.cancels = "canceled", true })
	case "invoice.payment_succeeded":
		return s.set(ctx, object["subscription"], func(row *paid) { row.status = "active" })
	case "invoice.payment_failed":
		return s.set(ctx, object["subscription"], func(row *paid) { row.status = "past_due" })
	}
	return nil
}

// tier is the plan that its own checkout writes into metadata.
func tier(metadata map[string]any, row paid) paid {
	if row.plan = metadata["plan_type"]; row.plan == nil {
		row.plan = "monthly"
	}
	return row
}

// of takes over what a subscription says.
func (p paid) of(sub map[string]any) paid {
	if p.status = sub["status"]; p.status == nil {
		p.status = "active"
	}
	p.end, p.trial = iso(sub["current_period_end"]), iso(sub["trial_end"])
	return p
}

// iso is a moment as Python's isoformat spells it; nil for none.
func iso(seconds any) any {
	n, ok := seconds.(float64)
	if !ok || n == 0 {
		return nil
	}
	return time.Unix(int64(n), 0).UTC().Format("2006-01-02T15:04:05")
}

// find is the first row of a subscription, in whatever order the database has them; nil without one.
func (s *Stripe) find(ctx context.Context, sub any) (*paid, error) {
	var p paid
	err := s.DB.QueryRowContext(ctx, "SELECT id, tenant_id, stripe_cust_id, plan_tier, status, current_period_end, trial_end, cancel_at_period_end "+
		"FROM core_subscriptions WHERE stripe_sub_id = $1", sub).Scan(&p.id, &p.tenant, &p.customer, &p.plan, &p.status, &p.end, &p.trial, &p.cancels)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &p, err
}

func (s *Stripe) set(ctx context.Context, sub any, edit func(row *paid)) error {
	row, err := s.find(ctx, sub)
	if err != nil || row == nil {
		return err
	}
	edit(row)
	return s.put(ctx, row)
}

// upsert leaves tenant and customer of a row that is there alone.
func (s *Stripe) upsert(ctx context.Context, sub any, row paid) error {
	was, err := s.find(ctx, sub)
	if err != nil {
		return err
	}
	if was != nil {
		row.id, row.tenant, row.customer = was.id, was.tenant, was.customer
		return s.put(ctx, &row)
	}
	now := s.Now().UTC()
	_, err = s.DB.ExecContext(ctx, "INSERT INTO core_subscriptions (id, tenant_id, stripe_sub_id, stripe_cust_id, plan_tier, status, "+
		"current_period_end, cancel_at_period_end, payment_type, trial_end, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'subscription', $9, $10)",
		fmt.Sprintf("fhsaas%d", now.UnixNano()), row.tenant, sub, row.customer, row.plan, row.status, row.end, row.cancels, row.trial,
		now.Format("2006-01-02T15:04:05.999999"))
	return err
}

// put writes the whole row, whatever has become of it since it was read.
func (s *Stripe) put(ctx context.Context, row *paid) error {
	_, err := s.DB.ExecContext(ctx, "UPDATE core_subscriptions SET tenant_id = $2, stripe_cust_id = $3, plan_tier = $4, status = $5, "+
		"current_period_end = $6, trial_end = $7, cancel_at_period_end = $8 WHERE id = $1",
		row.id, row.tenant, row.customer, row.plan, row.status, row.end, row.trial, row.cancels)
	return err
}
