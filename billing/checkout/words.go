package checkout

import (
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// standing says in words how the tenant's subscription stands.
func (p *Pages) standing(s *state) []string {
	switch {
	case s.exempt:
		return []string{"This workspace needs no subscription."}
	case s.row == nil:
		return []string{"This workspace has no subscription yet."}
	case s.entitled && s.sub.Status == statusPastDue:
		line := "The last payment has failed. Please pay, or change how you pay."
		if until, ok := p.rules.Until(p.clock(), &s.sub); ok {
			line = "The last payment has failed. The workspace stays open until " + moment(until) + "; after that it closes unless the payment arrives."
		}
		return []string{line}
	case s.entitled:
		return []string{s.running()}
	}
	return []string{ended(s.sub.Status)}
}

// running is about a subscription that is active, or a trial.
func (s *state) running() string {
	end, known := day(s.row.CurrentPeriodEnd)
	trial := s.sub.Status == statusTrialing
	if t, ok := day(s.row.TrialEnd); trial && ok {
		end, known = t, true
	}
	stops := s.row.CancelAtPeriodEnd != nil && *s.row.CancelAtPeriodEnd || trial && s.atStripe() == ""
	what := "The subscription is active"
	if trial {
		what = "The trial is under way"
	}
	switch {
	case stops && known:
		return what + " and ends on " + end + "."
	case stops:
		return what + " and ends with its current period."
	case trial && known:
		return what + ". The first payment is due on " + end + "."
	case known:
		return what + ". It renews on " + end + "."
	}
	return what + "."
}

// ended is about a subscription that entitles nobody.
func ended(status string) string {
	switch status {
	case statusPastDue, statusUnpaid:
		return "The last payment has failed, and the time to make up for it is over. Pay the open invoice to open the workspace again."
	case statusCanceled:
		return "The subscription has ended. Choose a plan to open the workspace again."
	case statusPaused:
		return "The subscription is paused. Add a way to pay to open the workspace again."
	case statusIncomplete:
		return "The first payment has not been completed."
	}
	return "The subscription is not active."
}

// day is a column's date, in UTC.
func day(column *string) (string, bool) {
	t, err := catalog.ParseTimestamp(text(column))
	if err != nil {
		return "", false
	}
	return t.UTC().Format("2 January 2006"), true
}

func moment(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }
