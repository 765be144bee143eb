package webhook

import (
	"sync"
	"time"
)

// quiet bounds what anybody can make us log: without a secret anybody may send here.
type quiet struct {
	clock func() time.Time

	mu     sync.Mutex
	minute time.Time
	said   int
	unsaid int
}

// linesPerMinute is how many refusals are logged in a minute; the rest is counted in the next line.
const linesPerMinute = 120

// may reports whether the next line may be logged, and how many were not since the last one that was.
func (q *quiet) may() (say bool, unsaid int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now := q.clock(); now.Sub(q.minute) >= time.Minute || now.Before(q.minute) {
		q.minute, q.said = now, 0
	}
	if q.said >= linesPerMinute {
		q.unsaid++
		return false, 0
	}
	q.said++
	unsaid, q.unsaid = q.unsaid, 0
	return true, unsaid
}
