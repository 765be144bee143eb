package ledger

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// state is what we know of a Stripe object: sys_stripe_watermarks.state. Whatever order its events came in, it is the same.
type state struct {
	Last *account `json:"last,omitempty"`
	// Tied: within the second of Last there is more than one update, so that an older account can still say which is last.
	Tied bool `json:"tied,omitempty"`
	// Fetched: Last is not an event's account but what the API said.
	Fetched bool `json:"fetched,omitempty"`
	// Entitled: it did once, by its status, a trial, or a paid invoice.
	Entitled bool      `json:"entitled,omitempty"`
	Paid     []payment `json:"paid,omitempty"`
	// Gone: its customer was deleted, which ends a subscription.
	Gone    bool              `json:"gone,omitempty"`
	Session *Session          `json:"session,omitempty"`
	Quoted  map[string]string `json:"quoted,omitempty"` // the subscription's metadata as an invoice has it
}

// payment is a paid invoice.
type payment struct {
	Invoice   StripeID  `json:"invoice"`
	At        time.Time `json:"at"`
	PeriodEnd time.Time `json:"period_end,omitzero"`
}

// paymentsKept is how many paid invoices are remembered of a subscription, the latest ones.
const paymentsKept = 8

func decodeState(w *catalog.StripeWatermark) (*state, error) {
	s := &state{}
	if w == nil || w.State == "" {
		return s, nil
	}
	if err := json.Unmarshal([]byte(w.State), s); err != nil {
		return nil, fmt.Errorf("the watermark of %s is not ours (%T): remove it to begin anew", w.Object, err)
	}
	return s, nil
}

// facts is what is stored of an event.
type facts struct {
	Account *account `json:"account,omitempty"`
	Invoice *Invoice `json:"invoice,omitempty"`
	Session *Session `json:"session,omitempty"`
}

func (e *Event) account() *account {
	if e.Subscription == nil {
		return nil
	}
	return &account{Event: e.ID, At: e.Created, Rank: rank(e.Type), Sub: *e.Subscription, Before: e.Before}
}

// learn takes in what an event says beside which account is the last.
func (s *state) learn(e *Event) {
	switch {
	case e.Subscription != nil:
		s.witness(e.Subscription)
		if grants(e.Before[AttributeStatus]) > 0 {
			s.Entitled = true
		}
	case e.Invoice != nil:
		if e.Invoice.Metadata[MetadataTenant] != "" {
			s.Quoted = e.Invoice.Metadata
		}
		if e.Invoice.Paid {
			s.pay(payment{Invoice: e.Invoice.ID, At: e.Created, PeriodEnd: e.Invoice.PeriodEnd})
		}
	case e.Session != nil:
		s.meet(e.Session)
	}
}

// witness notes whether the subscription ever entitled.
func (s *state) witness(sub *Subscription) {
	if grants(sub.Status) > 0 || !sub.TrialStart.IsZero() || !sub.TrialEnd.IsZero() {
		s.Entitled = true
	}
}

// meet takes in a session: of several accounts of one the paid one counts.
func (s *state) meet(session *Session) {
	if s.Session == nil || !s.Session.isPaid() || session.isPaid() {
		s.Session = session
	}
}

func (c *Session) isPaid() bool { return c.PaymentStatus == paid || c.PaymentStatus == nothingToPay }

func (s *state) pay(p payment) {
	s.Entitled = true
	if slices.ContainsFunc(s.Paid, func(o payment) bool { return o.Invoice == p.Invoice }) {
		return
	}
	s.Paid = append(s.Paid, p)
	slices.SortFunc(s.Paid, func(a, b payment) int {
		if c := b.At.Compare(a.At); c != 0 {
			return c
		}
		return compareID(a.Invoice, b.Invoice)
	})
	s.Paid = s.Paid[:min(len(s.Paid), paymentsKept)]
}

func compareID(a, b StripeID) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// advance puts a new account in its place; false: what counted before still does. more returns all accounts of the object,
// the new one included, and is asked only where the two do not tell by themselves.
func (s *state) advance(a *account, more func() ([]account, error)) (moved bool, err error) {
	switch last := s.Last; {
	case last == nil:
	case s.Fetched && !a.At.After(last.At):
		return false, nil // what was fetched is no older than any event of that second
	case s.Fetched && !last.ended():
	case a.At.Equal(last.At) && a.Rank == last.Rank && !a.ended() && !last.ended(), s.Tied && a.At.Before(last.At) && !a.ended():
		all, err := more()
		if err != nil {
			return false, err
		}
		winner := latest(all)
		if winner == nil {
			return false, nil
		}
		was := last.Event
		s.Last, s.Tied, s.Fetched = winner, true, false
		return winner.Event != was, nil
	case latest([]account{*last, *a}).Event != a.Event:
		return false, nil
	}
	s.Last, s.Tied, s.Fetched = a, false, false
	return true, nil
}

// fetch puts what the API said in the place of all events; false: the subscription had ended for good before.
func (s *state) fetch(sub Subscription, at time.Time) bool {
	s.witness(&sub)
	if s.Last != nil {
		if s.Last.ended() && !sub.terminal() {
			return false
		}
		if s.Last.At.After(at) {
			at = s.Last.At
		}
	}
	s.Last, s.Tied, s.Fetched = &account{At: at, Rank: 1, Sub: sub}, false, true
	return true
}

// subscription is the state that rows get: the last account's, but for what a payment or the end of the customer says.
func (s *state) subscription() *Subscription {
	if s.Last == nil {
		return nil
	}
	sub := s.Last.Sub
	switch {
	case s.Last.ended() && !sub.terminal(), s.Gone && !sub.terminal():
		sub.Status = "canceled"
	case !s.Fetched && s.settledBy(&sub):
		sub.Status = "active"
	}
	return &sub
}

// settledBy reports whether the invoice that a late status is about was paid since: Stripe says the same in an update that
// may be on its way. An older invoice that is paid late changes nothing.
func (s *state) settledBy(sub *Subscription) bool {
	if sub.Status != "past_due" && sub.Status != "unpaid" && sub.Status != "incomplete" {
		return false
	}
	return slices.ContainsFunc(s.Paid, func(p payment) bool {
		if p.At.Before(s.Last.At) {
			return false
		}
		if sub.LatestInvoice != "" {
			return p.Invoice == sub.LatestInvoice
		}
		return !sub.PeriodEnd.IsZero() && !p.PeriodEnd.Before(sub.PeriodEnd)
	})
}

// metadata are all texts that may name the tenant, the subscription's own first.
func (s *state) metadata() []map[string]string {
	var all []map[string]string
	if s.Last != nil {
		all = append(all, s.Last.Sub.Metadata)
	}
	if s.Session != nil {
		all = append(all, s.Session.Metadata)
	}
	return append(all, s.Quoted)
}
