package ledger

import (
	"cmp"
	"slices"
	"time"
)

// account is what one event says of a subscription.
type account struct {
	Event  StripeID          `json:"event"`
	At     time.Time         `json:"at"`
	Rank   int               `json:"rank"`
	Sub    Subscription      `json:"sub"`
	Before map[string]string `json:"before,omitempty"`
}

// terminal reports whether the subscription has ended for good: in Stripe no way leads back.
func (s *Subscription) terminal() bool {
	return s.Status == "canceled" || s.Status == "incomplete_expired"
}

// ended also holds for an account that is of the end, whatever status it carries.
func (a *account) ended() bool { return a.Rank == 2 || a.Sub.terminal() }

// follows reports whether b's account says that it came directly after a's: all that b had before is what a has.
func (a *account) precedes(b *account) bool {
	if len(b.Before) == 0 {
		return false
	}
	for name, was := range b.Before {
		if a.Sub.attribute(name) != was {
			return false
		}
	}
	return true
}

// latest is the account that counts, of any number in any order: the result is that of the set. One that ended counts
// before any that did not; else the later second; within it created, updated, deleted; of several updates the one that by
// previous_attributes must be the last, and where these do not say, the one that entitles least.
func latest(accounts []account) *account {
	if len(accounts) == 0 {
		return nil
	}
	counts := slices.Clone(accounts)
	slices.SortFunc(counts, func(a, b account) int {
		return cmp.Or(compareEnded(&a, &b), a.At.Compare(b.At), cmp.Compare(a.Rank, b.Rank), cmp.Compare(a.Event, b.Event))
	})
	last := &counts[len(counts)-1]
	first := len(counts) - 1
	for first > 0 && !last.ended() && counts[first-1].At.Equal(last.At) && counts[first-1].Rank == last.Rank {
		first--
	}
	if first == len(counts)-1 {
		return last
	}
	return lastOfSecond(latest(counts[:first]), counts[first:])
}

func compareEnded(a, b *account) int {
	switch {
	case a.ended() == b.ended():
		return 0
	case a.ended():
		return 1
	}
	return -1
}

// chainable bounds the updates of one second whose order is sought by trying: 7! ways.
const chainable = 7

// lastOfSecond finds the last of several updates of one second. before is the account that counted until then, nil if
// none is known.
func lastOfSecond(before *account, updates []account) *account {
	candidates := chainEnds(before, updates)
	if len(candidates) == 0 {
		candidates = unsurpassed(updates)
	}
	best := candidates[0]
	for _, c := range candidates[1:] {
		if entitlesLess(c, best) {
			best = c
		}
	}
	return best
}

// chainEnds are the possible last ones of all orders in which each update came directly after the one before it.
func chainEnds(before *account, updates []account) []*account {
	if len(updates) > chainable {
		return nil
	}
	var ends []*account
	used := make([]bool, len(updates))
	var follow func(prev *account, left int)
	follow = func(prev *account, left int) {
		for i := range updates {
			u := &updates[i]
			if used[i] || prev != nil && !prev.precedes(u) {
				continue
			}
			if left == 1 {
				if !slices.Contains(ends, u) {
					ends = append(ends, u)
				}
				continue
			}
			used[i] = true
			follow(u, left-1)
			used[i] = false
		}
	}
	if before != nil {
		follow(before, len(updates))
	}
	if len(ends) == 0 {
		follow(nil, len(updates))
	}
	return ends
}

// unsurpassed are the updates that none other came after by its previous_attributes; all, if each was surpassed.
func unsurpassed(updates []account) []*account {
	var open, all []*account
	for i := range updates {
		a := &updates[i]
		all = append(all, a)
		if !slices.ContainsFunc(updates, func(b account) bool {
			return b.Event != a.Event && a.precedes(&b) && !b.precedes(a)
		}) {
			open = append(open, a)
		}
	}
	if len(open) == 0 {
		return all
	}
	return open
}

// entitlesLess orders two accounts by what they grant; two that grant the same by the event's id, so that every replica
// chooses the same.
func entitlesLess(a, b *account) bool {
	return cmp.Or(
		cmp.Compare(grants(a.Sub.Status), grants(b.Sub.Status)),
		a.Sub.PeriodEnd.Compare(b.Sub.PeriodEnd),
		cmp.Compare(truth(!a.Sub.CancelAtPeriodEnd), truth(!b.Sub.CancelAtPeriodEnd)),
		cmp.Compare(a.Event, b.Event),
	) < 0
}

func grants(status string) int {
	switch status {
	case "active", "trialing":
		return 2
	case "past_due":
		return 1
	}
	return 0
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}
