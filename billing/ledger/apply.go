package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// Actors of the audit.
const (
	actorStripe = "stripe"
	actorSystem = "system"
)

// errOver rolls a transaction back whose result is known.
var errOver = errors.New("the transaction is over")

// maxAccounts bounds how many accounts of a subscription are compared where two of one second do not tell which is later.
const maxAccounts = 200

// ApplyEvent applies an event once, in one transaction with its rows. Duplicate: it was applied, or kept, before. An error
// that is catalog.ErrUnavailable, or the context's, left no trace; any other is recorded as `failed`, and the event can be
// tried again.
func (l *Ledger) ApplyEvent(ctx context.Context, ev *Event) (Outcome, error) {
	if !ev.acted() {
		return Ignored, nil
	}
	ctx = catalog.WithActor(ctx, catalog.Actor{ID: actorStripe})
	outcome, err := l.apply(ctx, ev)
	if err == nil || errors.Is(err, errOver) {
		return outcome, nil
	}
	if errors.Is(err, catalog.ErrUnavailable) || ctx.Err() != nil {
		return "", err
	}
	return "", errors.Join(err, l.recordFailure(ctx, ev))
}

// apply asks and writes. A panic is an error, which is recorded as any other; of its value the type alone is told.
func (l *Ledger) apply(ctx context.Context, ev *Event) (outcome Outcome, err error) {
	defer func() {
		if p := recover(); p != nil {
			l.log.ErrorContext(ctx, "billing: panic while an event was applied", "event", ev.ID, "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = fmt.Errorf("applying the event panicked (%T)", p)
		}
	}()
	in, err := l.ask(ctx, ev)
	if err != nil || in.outcome != "" {
		return in.outcome, err
	}
	var purged catalog.TenantID
	err = l.host.InTx(ctx, func(tx *catalog.Tx) error {
		r := &run{l: l, tx: tx, at: ev.Created}
		outcome, err = r.event(ctx, in)
		purged = r.purged
		return err
	})
	if err == nil && outcome == Kept && purged != "" {
		l.log.WarnContext(ctx, "billing: Stripe goes on with what a tenant that was removed paid for, and nobody has it: cancel it at Stripe",
			"object", in.object, "customer", in.customer, "tenant", purged)
	}
	return outcome, err
}

// asked is an event with what the API said of its object.
type asked struct {
	ev               *Event
	object, customer StripeID
	sub              *Subscription // fetched
	session          *Session      // fetched
	ticket           int64         // 0: nothing was fetched
	outcome          Outcome       // known already
}

// ask fetches the object, outside of any transaction. A number taken before says which of two fetches began later.
func (l *Ledger) ask(ctx context.Context, ev *Event) (*asked, error) {
	in := &asked{ev: ev}
	in.object, in.customer = ev.object()
	if l.source == nil || ev.Customer != "" {
		return in, nil
	}
	status, err := l.host.Stripe.EventStatus(ctx, ev.ID)
	if err != nil {
		return in, err
	}
	if status != "" && status != statusFailed {
		in.outcome = Duplicate
		return in, nil
	}
	return in, l.fetch(ctx, in, ev.Session != nil && ev.Session.Subscription == "")
}

func (l *Ledger) fetch(ctx context.Context, in *asked, session bool) (err error) {
	if in.ticket, err = l.host.Stripe.Ask(ctx, in.object); err != nil {
		return err
	}
	if session {
		var s Session
		if s, err = l.source.Session(ctx, in.object); err == nil && s.ID != in.object {
			err = errors.New("another session was answered")
		}
		s.Metadata = ours(s.Metadata)
		in.session, in.customer = &s, s.Customer
	} else {
		var s Subscription
		if s, err = l.source.Subscription(ctx, in.object); err == nil && s.ID != in.object {
			err = errors.New("another subscription was answered")
		}
		s.Metadata = ours(s.Metadata)
		in.sub, in.customer = &s, s.Customer
	}
	switch {
	case errors.Is(err, ErrGone):
		if in.ev == nil {
			return err
		}
		// Stripe signed the event; that it forgot the object since does not undo it.
		in.sub, in.session, in.ticket = nil, nil, 0
		_, in.customer = in.ev.object()
		return nil
	case err != nil:
		return fmt.Errorf("fetch %s: %w", in.object, err)
	}
	return nil
}

// ours is what of metadata we keep; the rest is other people's, and may be about people.
func ours(metadata map[string]string) map[string]string {
	kept := map[string]string{}
	for _, key := range [...]string{MetadataTenant, MetadataSignature, MetadataPlan} {
		if value, ok := metadata[key]; ok {
			kept[key] = value
		}
	}
	return kept
}

// Statuses of an event's rows; the others are outcomes.
const statusFailed = "failed"

// recordFailure writes, in a transaction of its own, that an event failed.
func (l *Ledger) recordFailure(ctx context.Context, ev *Event) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWithin)
	defer cancel()
	return l.host.InTx(ctx, func(tx *catalog.Tx) error {
		object, _ := ev.object()
		if err := tx.LockStripe(ctx, object); err != nil {
			return err
		}
		r := &run{l: l, tx: tx, at: ev.Created}
		row, done, err := r.eventRow(ctx, ev)
		if err != nil || done {
			return err
		}
		row.Status = statusFailed
		if err := tx.Stripe.PutEvent(ctx, row); err != nil {
			return err
		}
		return r.recordRow(ctx, row)
	})
}

// recordWithin bounds how long it may take to record a failure.
const recordWithin = 5 * time.Second

// run is one transaction's work.
type run struct {
	l       *Ledger
	tx      *catalog.Tx
	at      time.Time // of the event
	edits   []Edit
	claimed catalog.TenantID // whose the object is, looked for under the tenant's lock
	purged  catalog.TenantID // a tenant that was removed, with whose id the object could be another's
}

// eventRow is the event's row as it is about to be written; done: it is done with already.
func (r *run) eventRow(ctx context.Context, ev *Event) (row *catalog.StripeEvent, done bool, err error) {
	status, err := r.tx.Stripe.EventStatus(ctx, ev.ID)
	if err != nil || status != "" && status != statusFailed {
		return nil, true, err
	}
	told, err := json.Marshal(facts{Account: ev.account(), Invoice: ev.Invoice, Session: ev.Session})
	if err != nil {
		return nil, false, fmt.Errorf("event facts: %w", err)
	}
	object, customer := ev.object()
	row = &catalog.StripeEvent{
		ID: ev.ID, Type: ev.Type, Object: object, Customer: customer, Facts: string(told), RowID: catalog.WebhookEventID(catalog.GenID()),
		CreatedAt: catalog.Timestamp(ev.Created), ReceivedAt: catalog.Timestamp(r.l.clock()),
	}
	if ev.Subscription != nil {
		row.ObjectStatus = ev.Subscription.Status
	}
	if status == statusFailed {
		before, err := r.tx.Stripe.Event(ctx, ev.ID)
		if err != nil {
			return nil, false, err
		}
		row.RowID = before.RowID
	}
	return row, false, nil
}

// recordRow writes the event's row of core_stripe_webhook_events. Its payload is what tells events apart, never what
// Stripe sent: that holds people's names and addresses.
func (r *run) recordRow(ctx context.Context, row *catalog.StripeEvent) error {
	brief, err := json.Marshal(map[string]any{
		"id": row.ID, "type": row.Type, "created": row.CreatedAt, "object": row.Object, "customer": row.Customer, "status": row.ObjectStatus,
	})
	if err != nil {
		return fmt.Errorf("event payload: %w", err)
	}
	return r.tx.RecordWebhookEvent(ctx, &catalog.StripeWebhookEvent{
		ID: row.RowID, EventID: new(string(row.ID)), EventType: new(row.Type), Status: new(row.Status), PayloadJSON: new(string(brief)),
	})
}

// event applies an event, in the transaction that holds the object's lock from here on.
func (r *run) event(ctx context.Context, in *asked) (Outcome, error) {
	if err := r.tx.LockStripe(ctx, in.object); err != nil {
		return "", err
	}
	row, done, err := r.eventRow(ctx, in.ev)
	if err != nil {
		return "", err
	}
	if done {
		return Duplicate, errOver
	}
	if in.ev.Customer != "" {
		return r.customerDeleted(ctx, in.ev, row)
	}
	w, s, err := r.load(ctx, in)
	if err != nil {
		return "", err
	}
	outcome, err := r.take(ctx, in, w, s)
	if err != nil {
		return "", err
	}
	was := w.TenantID
	if err := r.claim(ctx, w, s); err != nil {
		return "", err
	}
	if w.TenantID == "" {
		outcome = Kept
	}
	row.TenantID, row.Status = w.TenantID, string(outcome)
	if err := r.tx.Stripe.PutEvent(ctx, row); err != nil {
		return "", err
	}
	if outcome == Kept {
		return Kept, nil
	}
	if err := r.recordRow(ctx, row); err != nil {
		return "", err
	}
	return outcome, r.bring(ctx, w, s, was)
}

// load reads what is known of the object, its lock held.
func (r *run) load(ctx context.Context, in *asked) (*catalog.StripeWatermark, *state, error) {
	w, ofCustomer, err := r.tx.Stripe.Watermarks(ctx, in.object, in.customer)
	if err == nil && in.customer == "" && w != nil && w.Customer != "" {
		w, ofCustomer, err = r.tx.Stripe.Watermarks(ctx, in.object, w.Customer)
	}
	if err != nil {
		return nil, nil, err
	}
	s, err := decodeState(w)
	if err != nil {
		return nil, nil, err
	}
	if w == nil {
		w = &catalog.StripeWatermark{Object: in.object}
	}
	if in.customer != "" {
		w.Customer = in.customer
	}
	if ofCustomer != nil {
		c, err := decodeState(ofCustomer)
		if err != nil {
			return nil, nil, err
		}
		s.Gone = s.Gone || c.Gone
	}
	if in.ev != nil {
		w.Livemode = in.ev.Livemode
	}
	return w, s, nil
}

// take takes in the account: what the API said, or else the event's.
func (r *run) take(ctx context.Context, in *asked, w *catalog.StripeWatermark, s *state) (Outcome, error) {
	if in.ev != nil {
		s.learn(in.ev)
	}
	switch {
	case in.ticket != 0 && in.ticket <= w.Applied:
		return OutOfOrder, nil // a fetch that began later is written already
	case in.sub != nil:
		w.Applied = in.ticket
		if !s.fetch(*in.sub, r.at) {
			return OutOfOrder, nil
		}
	case in.session != nil:
		w.Applied = in.ticket
		s.meet(in.session)
	case in.ev != nil && in.ev.Subscription != nil:
		moved, err := s.advance(in.ev.account(), func() ([]account, error) { return r.accounts(ctx, in.ev) })
		if err != nil || !moved {
			return OutOfOrder, err
		}
	}
	return Processed, nil
}

// accounts are all accounts of the event's subscription, its own included.
func (r *run) accounts(ctx context.Context, ev *Event) ([]account, error) {
	events, err := r.tx.Stripe.EventsOf(ctx, ev.Subscription.ID, maxAccounts)
	if err != nil {
		return nil, err
	}
	all := []account{*ev.account()}
	for i := range events {
		var f facts
		if err := json.Unmarshal([]byte(events[i].Facts), &f); err != nil {
			return nil, fmt.Errorf("the facts of event %s are not ours (%T)", events[i].ID, err)
		}
		if f.Account != nil && f.Account.Event != ev.ID && events[i].Status != statusFailed {
			all = append(all, *f.Account)
		}
	}
	return all, nil
}

// claim finds the tenant, takes the locks of what it pays, and writes the watermark. A tenant that ended until its lock was
// there is none.
func (r *run) claim(ctx context.Context, w *catalog.StripeWatermark, s *state) error {
	tenant, named, err := r.whose(ctx, w, s)
	if err != nil {
		return err
	}
	both := []catalog.TenantID{w.TenantID, tenant}
	slices.Sort(both)
	for _, t := range slices.Compact(both) {
		if t == "" {
			continue
		}
		if err := r.tx.LockBilling(ctx, t); err != nil {
			return err
		}
	}
	if tenant != "" {
		may, err := r.may(ctx, tenant, w)
		if err != nil {
			return err
		}
		if may != catalog.ClaimMay {
			tenant = ""
		}
	}
	r.claimed = tenant
	w.TenantID, w.NamedTenant = tenant, named
	return r.save(ctx, w, s)
}

// save writes the watermark. Its status is what rows of the object say.
func (r *run) save(ctx context.Context, w *catalog.StripeWatermark, s *state) error {
	w.Status, w.Price, w.PeriodEnd = "", "", ""
	if sub := s.subscription(); sub != nil {
		w.Status, w.Price, w.PeriodEnd = sub.Status, sub.PriceID, text(orTime(sub.PeriodEnd))
	} else if s.oneTime() {
		w.Status = completed
	}
	told, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("watermark: %w", err)
	}
	w.State, w.UpdatedAt = string(told), catalog.Timestamp(r.l.clock())
	return r.tx.Stripe.PutWatermark(ctx, w)
}

// bring makes the rows of the tenant, and of the one whose the object was, say what is known.
func (r *run) bring(ctx context.Context, w *catalog.StripeWatermark, s *state, was catalog.TenantID) error {
	if err := r.late(ctx, w, s); err != nil {
		return err
	}
	if err := r.settle(ctx, w.TenantID); err != nil {
		return err
	}
	if was != "" && was != w.TenantID {
		return r.settle(ctx, was)
	}
	if was != "" {
		return nil
	}
	if err := r.tx.AnnounceClaim(ctx, w.TenantID, w.Customer); err != nil {
		return err
	}
	return r.release(ctx, w.Object, w.TenantID)
}

// late records since when a subscription is past due.
func (r *run) late(ctx context.Context, w *catalog.StripeWatermark, s *state) error {
	if s.Last == nil {
		return nil
	}
	if w.Status != "past_due" {
		return r.tx.Stripe.DeletePastDue(ctx, w.Object)
	}
	since, err := r.tx.Stripe.PastDueSince(ctx, w.Object, catalog.Timestamp(s.Last.At))
	if err != nil {
		return err
	}
	if since == "" {
		since = catalog.Timestamp(r.l.clock()) // only the API said so, and this is when it was asked
	}
	return r.tx.Stripe.PutPastDue(ctx, w.Object, w.TenantID, since)
}

// release makes the object's kept events processed ones, each with its row.
func (r *run) release(ctx context.Context, object StripeID, tenant catalog.TenantID) error {
	kept, err := r.tx.Stripe.KeptOf(ctx, object)
	if err != nil {
		return err
	}
	for i := range kept {
		kept[i].Status = string(Processed)
		if err := r.tx.Stripe.ReleaseEvent(ctx, kept[i].ID, tenant); err != nil {
			return err
		}
		if err := r.recordRow(ctx, &kept[i]); err != nil {
			return err
		}
	}
	return nil
}

// customerDeleted ends all subscriptions of a customer, as Stripe does.
func (r *run) customerDeleted(ctx context.Context, ev *Event, row *catalog.StripeEvent) (Outcome, error) {
	of, err := r.tx.Stripe.WatermarksOfCustomer(ctx, ev.Customer)
	if err != nil {
		return "", err
	}
	gone := &catalog.StripeWatermark{Object: ev.Customer, Customer: ev.Customer, Livemode: ev.Livemode}
	outcome, tenants := Kept, map[catalog.TenantID]bool{}
	for i := range of {
		if of[i].Object == ev.Customer {
			gone = &of[i]
			continue
		}
		if err := r.tx.LockStripe(ctx, of[i].Object); err != nil {
			return "", err
		}
	}
	for i := range of {
		if of[i].TenantID != "" && of[i].Object != ev.Customer {
			outcome = Processed
			tenants[of[i].TenantID] = true
		}
	}
	row.Status, row.TenantID = string(outcome), onlyTenant(tenants)
	if err := r.save(ctx, gone, &state{Gone: true}); err != nil {
		return "", err
	}
	if err := r.tx.Stripe.PutEvent(ctx, row); err != nil {
		return "", err
	}
	if outcome == Kept {
		return Kept, nil
	}
	if err := r.recordRow(ctx, row); err != nil {
		return "", err
	}
	return outcome, r.endAll(ctx, ev.Customer, tenants)
}

// endAll ends what is known of a customer; the objects' locks are held.
func (r *run) endAll(ctx context.Context, customer StripeID, tenants map[catalog.TenantID]bool) error {
	ordered := sortedTenants(tenants)
	for _, t := range ordered {
		if err := r.tx.LockBilling(ctx, t); err != nil {
			return err
		}
	}
	of, err := r.tx.Stripe.WatermarksOfCustomer(ctx, customer)
	if err != nil {
		return err
	}
	for i := range of {
		s, err := decodeState(&of[i])
		if err != nil {
			return err
		}
		if s.Last == nil || s.Gone {
			continue
		}
		s.Gone = true
		if err := r.save(ctx, &of[i], s); err != nil {
			return err
		}
		if err := r.tx.Stripe.DeletePastDue(ctx, of[i].Object); err != nil {
			return err
		}
	}
	for _, t := range ordered {
		if err := r.settle(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func sortedTenants(set map[catalog.TenantID]bool) []catalog.TenantID {
	all := make([]catalog.TenantID, 0, len(set))
	for t := range set {
		all = append(all, t)
	}
	slices.Sort(all)
	return all
}

func onlyTenant(set map[catalog.TenantID]bool) catalog.TenantID { return one(sortedTenants(set)) }
