package tenantgate

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenantgate/tenantgate/telemetry"
)

// unrecorded counts changes that were made without their row in the audit log (audit.mode best_effort), and says so, at
// most once a minute for each event.
type unrecorded struct {
	log   *slog.Logger
	clock func() time.Time
	rows  atomic.Int64

	mu   sync.Mutex
	told map[string]time.Time
}

// tellEvery is the time between two lines about one kind of event; maxTold bounds the kinds, which are few.
const (
	tellEvery = time.Minute
	maxTold   = 256
)

// tell implements catalog.Config's Unrecorded. The error is catalog's, which holds no value of a row.
func (u *unrecorded) tell(event string, err error) {
	n := u.rows.Add(1)
	now := u.clock()
	u.mu.Lock()
	last, known := u.told[event]
	quiet := known && now.Sub(last) < tellEvery || !known && len(u.told) >= maxTold
	if !quiet {
		if u.told == nil {
			u.told = map[string]time.Time{}
		}
		u.told[event] = now
	}
	u.mu.Unlock()
	if !quiet {
		u.log.Error("a change was made without its row in the audit log (audit.mode: best_effort)",
			"event", event, "error", err, "rows_missing_since_start", n)
	}
}

// auditMetrics are what /metrics shows of the audit.
func (g *Gate) auditMetrics() telemetry.Audit {
	s := g.denials.State()
	return telemetry.Audit{
		Unrecorded: g.unwritten.rows.Load(), Denials: s.Counted, DenialsRecorded: s.Recorded, DenialsMerged: s.Merged,
		DenialsLost: s.Lost,
	}
}
