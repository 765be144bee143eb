package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
)

// StripeEvent is a row of sys_stripe_events: an event of Stripe's, each once.
type StripeEvent struct {
	ID           StripeID
	Type         string
	Object       StripeID // what it is ordered with
	Customer     StripeID // "" if it names none
	TenantID     TenantID // whose it was found to be
	Status       string   // processed, skipped_out_of_order, kept or failed
	ObjectStatus string   // the subscription's status in it, "" if it tells none
	Facts        string   // JSON of billing/ledger; never the payload
	RowID        WebhookEventID
	CreatedAt    string // Stripe's
	ReceivedAt   string
}

func stripeEventFields(e *StripeEvent) []any {
	return []any{
		&e.ID, &e.Type, &e.Object, &e.Customer, &e.TenantID, &e.Status, &e.ObjectStatus, &e.Facts, &e.RowID, &e.CreatedAt, &e.ReceivedAt,
	}
}

// StripeWatermark is a row of sys_stripe_watermarks: the last account of a Stripe object, and what followed from it.
type StripeWatermark struct {
	Object      StripeID
	Customer    StripeID
	TenantID    TenantID // "" as long as it belongs to nobody known
	NamedTenant string   // a tenant that it names and that may not be there yet
	Status      string   // what its rows say, "" for an object that has none
	Price       StripeID
	State       string // JSON of billing/ledger, "" if only fetches were counted
	Entitles    bool   // it did when it was last looked at
	Livemode    bool
	Asked       int64 // fetches that began
	Applied     int64 // the one that was written last
	UpdatedAt   string
	// PeriodEnd and PlanTier are what its rows say, "" where Stripe does not say, or nobody has looked yet.
	PeriodEnd string
	PlanTier  string
}

func (w *StripeWatermark) into() []any {
	return []any{
		into(&w.Object), into(&w.Customer), into(&w.TenantID), into(&w.NamedTenant), into(&w.Status), into(&w.Price), into(&w.State),
		into(&w.Entitles), into(&w.Livemode), &w.Asked, &w.Applied, into(&w.UpdatedAt), into(&w.PeriodEnd), into(&w.PlanTier),
	}
}

// StripeRecords are sys_stripe_events, sys_stripe_watermarks, sys_past_due and sys_stripe_purged. Writes are not audited by themselves: the
// changes of the eight tables that come of them are.
type StripeRecords struct{ at access }

// LockStripe waits for the lock of a Stripe object and holds it to the transaction's end, across all replicas.
func (tx *Tx) LockStripe(ctx context.Context, object StripeID) error {
	return tx.lock(ctx, "stripe/"+string(object))
}

// LockBilling waits for the lock of what a tenant pays and holds it to the transaction's end, across all replicas. Whoever
// needs locks of objects takes them first; of several tenants in the order of their ids.
func (tx *Tx) LockBilling(ctx context.Context, tenant TenantID) error {
	return tx.lock(ctx, "billing/"+string(tenant))
}

// EventStatus is the status of an event, "" if there is none of that id.
func (s *StripeRecords) EventStatus(ctx context.Context, event StripeID) (string, error) {
	status, err := s.texts(ctx, "find the stripe event", "stripe_event_status", storable(string(event)))
	if err != nil || len(status) == 0 {
		return "", err
	}
	return status[0], nil
}

// PutEvent adds an event, or makes a failed or kept one what it has become. ErrConflict if it is done with already.
func (s *StripeRecords) PutEvent(ctx context.Context, row *StripeEvent) error {
	args := stripeEventFields(row)
	for i, f := range args {
		args[i] = orText(f)
		if err := checkStorable("stripe event", args[i]); err != nil {
			return err
		}
	}
	return s.at.change(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, "record the stripe event", "stripe_event_put", args...)
		if err == nil && n == 0 {
			err = fmt.Errorf("record the stripe event: %w: it is done with", ErrConflict)
		}
		return err
	})
}

// orText is value, but an empty id is an empty text, unless it is a tenant's.
func orText(field any) any {
	if _, tenant := field.(*TenantID); tenant {
		return value(field)
	}
	if v := value(field); v != nil {
		return v
	}
	return ""
}

// EventsOf returns at most limit events of an object, the latest first.
func (s *StripeRecords) EventsOf(ctx context.Context, object StripeID, limit int) ([]StripeEvent, error) {
	return s.events(ctx, "stripe_events_of_object", storable(string(object)), limit)
}

// Event returns an event; ErrNotFound without one.
func (s *StripeRecords) Event(ctx context.Context, id StripeID) (*StripeEvent, error) {
	found, err := s.events(ctx, "stripe_event_get", storable(string(id)))
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("stripe event: %w", ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return &found[0], nil
}

// KeptOf returns at most 1000 kept events of an object, the first one first.
func (s *StripeRecords) KeptOf(ctx context.Context, object StripeID) ([]StripeEvent, error) {
	return s.events(ctx, "stripe_events_kept", storable(string(object)))
}

func (s *StripeRecords) events(ctx context.Context, name string, args ...any) ([]StripeEvent, error) {
	var found []StripeEvent
	err := s.at.query(ctx, "read stripe events", readDeadline, name, args, func(rows *sql.Rows) error {
		found = nil
		for rows.Next() {
			var e StripeEvent
			if err := rows.Scan(intoAll(nil, stripeEventFields(&e))...); err != nil {
				return err
			}
			found = append(found, e)
		}
		return rows.Err()
	})
	return found, err
}

// ReleaseEvent makes a kept event a processed one of that tenant.
func (s *StripeRecords) ReleaseEvent(ctx context.Context, event StripeID, tenant TenantID) error {
	return s.at.change(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, "release the stripe event", "stripe_event_release", string(event), string(tenant))
		return err
	})
}

// ForgetEvents removes at most limit events received before that moment (text, see Timestamp), and says how many.
func (s *StripeRecords) ForgetEvents(ctx context.Context, before string, limit int) (int, error) {
	return s.forget(ctx, "stripe_events_forget", before, limit)
}

// ForgetNobodys removes at most limit watermarks that belong to nobody and were written before that moment, and says how
// many.
func (s *StripeRecords) ForgetNobodys(ctx context.Context, before string, limit int) (int, error) {
	return s.forget(ctx, "stripe_nobodys_forget", before, limit)
}

func (s *StripeRecords) forget(ctx context.Context, name, before string, limit int) (int, error) {
	var n int64
	err := s.at.change(ctx, func(tx *Tx) (err error) {
		n, err = tx.exec(ctx, "forget what stripe told", name, before, limit)
		return err
	})
	return int(n), err
}

// PastDueSince says since when all accounts of a subscription up to that moment say past_due, those included that were
// recorded (PutPastDue) and have been forgotten; "" if none does.
func (s *StripeRecords) PastDueSince(ctx context.Context, object StripeID, upTo string) (string, error) {
	since, err := s.texts(ctx, "look since when it is past due", "stripe_past_due_since", string(object), upTo)
	if err != nil || len(since) == 0 {
		return "", err
	}
	return since[0], nil
}

// RecordedPastDue is what PutPastDue recorded, "" for nothing.
func (s *StripeRecords) RecordedPastDue(ctx context.Context, object StripeID) (string, error) {
	since, err := s.texts(ctx, "read since when it is past due", "past_due_get", storable(string(object)))
	if err != nil || len(since) == 0 {
		return "", err
	}
	return since[0], nil
}

// PutPastDue records since when a subscription is past_due.
func (s *StripeRecords) PutPastDue(ctx context.Context, object StripeID, tenant TenantID, since string) error {
	return s.at.change(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, "record what is past due", "past_due_put", string(object), textOrNull(string(tenant)), since)
		return err
	})
}

// DeletePastDue forgets it.
func (s *StripeRecords) DeletePastDue(ctx context.Context, object StripeID) error {
	return s.at.change(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, "forget what was past due", "past_due_delete", string(object))
		return err
	})
}

// Ask counts a fetch of an object that begins now and returns its number, from 1.
func (s *StripeRecords) Ask(ctx context.Context, object StripeID) (ticket int64, err error) {
	if err := checkStorable("stripe object", string(object)); err != nil {
		return 0, err
	}
	err = s.at.change(ctx, func(tx *Tx) error {
		ticket, err = tx.count(ctx, "count the fetch", "stripe_watermark_ask", string(object))
		return err
	})
	return ticket, err
}

// Watermarks returns the watermark of an object and that of its customer, as far as there are any.
func (s *StripeRecords) Watermarks(ctx context.Context, object, customer StripeID) (of, ofCustomer *StripeWatermark, err error) {
	all, err := s.watermarks(ctx, "stripe_watermarks", storable(string(object)), storable(string(customer)))
	for i := range all {
		if all[i].Object == object {
			of = &all[i]
		} else {
			ofCustomer = &all[i]
		}
	}
	return of, ofCustomer, err
}

// WatermarksOfTenant returns at most 1000 watermarks of a tenant, those that can still change first.
func (s *StripeRecords) WatermarksOfTenant(ctx context.Context, tenant TenantID) ([]StripeWatermark, error) {
	return s.watermarks(ctx, "stripe_watermarks_of_tenant", storable(string(tenant)))
}

// WatermarksOfCustomer returns at most 1000 watermarks of a customer: the customer's own, those that can still change, and
// the others, each by object.
func (s *StripeRecords) WatermarksOfCustomer(ctx context.Context, customer StripeID) ([]StripeWatermark, error) {
	return s.watermarks(ctx, "stripe_watermarks_of_customer", storable(string(customer)))
}

func (s *StripeRecords) watermarks(ctx context.Context, name string, args ...any) ([]StripeWatermark, error) {
	var found []StripeWatermark
	err := s.at.query(ctx, "read stripe watermarks", readDeadline, name, args, func(rows *sql.Rows) error {
		found = nil
		for rows.Next() {
			var w StripeWatermark
			if err := rows.Scan(w.into()...); err != nil {
				return err
			}
			found = append(found, w)
		}
		return rows.Err()
	})
	return found, err
}

// PutWatermark writes a watermark. Asked is left alone, but for one that is new: then it is no less than Applied, lest the
// next fetch counts as an earlier one.
func (s *StripeRecords) PutWatermark(ctx context.Context, w *StripeWatermark) error {
	args := []any{
		string(w.Object), string(w.Customer), textOrNull(string(w.TenantID)), w.NamedTenant, w.Status, string(w.Price), w.State,
		w.Entitles, w.Livemode, max(w.Asked, w.Applied), w.Applied, w.UpdatedAt, w.PeriodEnd, w.PlanTier,
	}
	for _, a := range args {
		if text, ok := a.(string); ok {
			if err := checkStorable("stripe watermark", text); err != nil {
				return err
			}
		}
	}
	return s.at.change(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, "write the stripe watermark", "stripe_watermark_put", args...)
		return err
	})
}

// SetSettled says whether an object entitles its tenant, and which plan_tier its rows have, "" where Stripe does not say.
func (s *StripeRecords) SetSettled(ctx context.Context, object StripeID, entitles bool, planTier string) error {
	if err := checkStorable("plan_tier", planTier); err != nil {
		return err
	}
	return s.at.change(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, "write the stripe watermark", "stripe_watermark_settled", string(object), entitles, planTier)
		return err
	})
}

// Claim is whether a Stripe object may be a tenant's.
type Claim string

// The answers of StripeRecords.Claim.
const (
	ClaimMay    Claim = "may"
	ClaimGone   Claim = "gone"   // there is no such tenant
	ClaimPurged Claim = "purged" // an earlier tenant of its id paid with it, and no row of this one names it or its customer
)

// Claim says whether an object of that customer, "" for none, may be the tenant's.
func (s *StripeRecords) Claim(ctx context.Context, tenant TenantID, object, customer StripeID) (Claim, error) {
	found, err := s.texts(ctx, "ask whose it may be", "stripe_claim", storable(string(tenant)), storable(string(object)), storable(string(customer)))
	if err != nil || len(found) == 0 {
		return ClaimGone, err
	}
	return Claim(found[0]), nil
}

// AnnounceClaim has whoever keeps the books look at a tenant that the customer, or an object of the customer's, has just been
// found to be of, where other objects of the customer wait.
func (tx *Tx) AnnounceClaim(ctx context.Context, tenant TenantID, customer StripeID) error {
	_, err := tx.exec(ctx, "announce whose it is", "stripe_announce", string(tenant), storable(string(customer)))
	return err
}

// PlansOfPrices returns the plans that sell one of the prices, by the month or by the year, in no order.
func (tx *Tx) PlansOfPrices(ctx context.Context, prices []StripeID) ([]PricingPlan, error) {
	if len(prices) == 0 {
		return nil, nil
	}
	return tx.PricingPlans.find(ctx, tx, "find the plans of prices", tx.h.queries["plans_of_prices"], []any{textSet(prices)})
}

// LiveKnown reports whether anything of Stripe's live mode was ever recorded.
func (s *StripeRecords) LiveKnown(ctx context.Context) (bool, error) {
	found, err := s.texts(ctx, "look for live mode", "stripe_live_known")
	return len(found) > 0, err
}

// SubscriptionTenants returns the tenants that rows of a subscription name, at most two.
func (s *StripeRecords) SubscriptionTenants(ctx context.Context, object StripeID) ([]TenantID, error) {
	return s.tenants(ctx, "find the subscription's tenant", "subscription_tenants", storable(string(object)))
}

// CustomerTenants returns the tenants that rows of a customer name, or that our checkout made it for, at most two.
func (s *StripeRecords) CustomerTenants(ctx context.Context, customer StripeID) ([]TenantID, error) {
	return s.tenants(ctx, "find the customer's tenant", "customer_tenants", storable(string(customer)))
}

// Waiting returns at most limit objects, from the one behind after on, that belong to nobody and may not have to any more.
func (s *StripeRecords) Waiting(ctx context.Context, after StripeID, limit int) ([]StripeID, error) {
	return s.objects(ctx, "stripe_waiting", string(after), limit)
}

// WaitingSince are those of Waiting, at most limit, of which something was heard since that moment.
func (s *StripeRecords) WaitingSince(ctx context.Context, since string, limit int) ([]StripeID, error) {
	return s.objects(ctx, "stripe_waiting_since", since, limit)
}

// WaitingFor are those of Waiting, at most limit, that may be that tenant's.
func (s *StripeRecords) WaitingFor(ctx context.Context, tenant TenantID, limit int) ([]StripeID, error) {
	return s.objects(ctx, "stripe_waiting_for", storable(string(tenant)), limit)
}

func (s *StripeRecords) objects(ctx context.Context, name string, args ...any) ([]StripeID, error) {
	found, err := s.texts(ctx, "look for kept events", name, args...)
	ids := make([]StripeID, len(found))
	for i := range found {
		ids[i] = StripeID(found[i])
	}
	return ids, err
}

// Lapsing returns at most limit tenants of which a past_due subscription entitled when it was last looked at, and whose
// period had ended, or which was late, by that moment.
func (s *StripeRecords) Lapsing(ctx context.Context, by string, limit int) ([]TenantID, error) {
	return s.tenants(ctx, "look for what lapses", "stripe_lapsing", by, limit)
}

// Drifted returns at most limit tenants, from the one behind after on, whose rows do not say what Stripe said.
func (s *StripeRecords) Drifted(ctx context.Context, after TenantID, limit int) ([]TenantID, error) {
	return s.tenants(ctx, "compare with stripe", "stripe_drifted", string(after), limit)
}

// Drift reports whether a tenant's rows do not say what Stripe said.
func (s *StripeRecords) Drift(ctx context.Context, tenant TenantID) (bool, error) {
	found, err := s.tenants(ctx, "compare with stripe", "stripe_drift", storable(string(tenant)))
	return len(found) > 0, err
}

func (s *StripeRecords) tenants(ctx context.Context, op, name string, args ...any) ([]TenantID, error) {
	found, err := s.texts(ctx, op, name, args...)
	ids := make([]TenantID, len(found))
	for i := range found {
		ids[i] = TenantID(found[i])
	}
	return ids, err
}

// texts are the first column of a statement's rows, without NULLs.
func (s *StripeRecords) texts(ctx context.Context, op, name string, args ...any) ([]string, error) {
	var found []string
	err := s.at.query(ctx, op, readDeadline, name, args, func(rows *sql.Rows) error {
		found = nil
		for rows.Next() {
			var text string
			if err := rows.Scan(into(&text)); err != nil {
				return err
			}
			found = append(found, text)
		}
		return rows.Err()
	})
	return slices.DeleteFunc(found, func(t string) bool { return t == "" }), err
}

// SettledSubscriptions returns the rows of a tenant, and of the subscriptions that are the tenant's by our watermarks,
// locked to the transaction's end, in no order.
func (tx *Tx) SettledSubscriptions(ctx context.Context, tenant TenantID) ([]Subscription, error) {
	return tx.Subscriptions.find(ctx, tx, "read the tenant's subscriptions", tx.h.queries["subscriptions_settled"], []any{storable(string(tenant))})
}

// LockedTenant returns a tenant's row, locked to the transaction's end; ErrNotFound without one.
func (tx *Tx) LockedTenant(ctx context.Context, tenant TenantID) (*TenantCatalog, error) {
	return tx.Tenants.lockRow(ctx, tx, tenant)
}

// RewriteSubscription writes the columns in which row differs from old, which is locked, audited.
func (tx *Tx) RewriteSubscription(ctx context.Context, old, row *Subscription) error {
	if err := tx.Subscriptions.storable(row); err != nil {
		return err
	}
	return tx.Subscriptions.writeChanges(ctx, tx, old, row)
}

// RewriteTenant writes the columns in which row differs from old, which is locked, audited.
func (tx *Tx) RewriteTenant(ctx context.Context, old, row *TenantCatalog) error {
	if err := tx.Tenants.storable(row); err != nil {
		return err
	}
	return tx.Tenants.writeChanges(ctx, tx, old, row)
}

// RecordWebhookEvent writes an event's row of core_stripe_webhook_events, or gives the one with that id its new status. It
// is not audited: it is a record itself.
func (tx *Tx) RecordWebhookEvent(ctx context.Context, row *StripeWebhookEvent) error {
	tx.WebhookEvents.stamp(row)
	if err := tx.WebhookEvents.storable(row); err != nil {
		return err
	}
	_, err := tx.exec(ctx, "record the webhook event", "webhook_event_put", tx.WebhookEvents.values(row)...)
	return err
}
