package checkout

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/tenantgate/tenantgate/catalog"
)

// How often one tenant may have a checkout or a portal made, and a session looked at, on this replica: so many at once,
// and one more after each interval.
const (
	startBurst  = 20
	startEvery  = 10 * time.Second
	returnBurst = 30
	returnEvery = 2 * time.Second
	// limited bounds the tenants that are remembered. One that is forgotten begins anew.
	limited = 10_000
)

// limiter is a bucket of tokens for each tenant. It is safe for concurrent use.
type limiter struct {
	burst float64
	every time.Duration
	clock func() time.Time

	mu      sync.Mutex
	buckets *lru.Cache[catalog.TenantID, *bucket]
}

type bucket struct {
	left float64
	at   time.Time
}

func newLimiter(burst int, every time.Duration, clock func() time.Time) *limiter {
	buckets, _ := lru.New[catalog.TenantID, *bucket](limited) // it refuses nothing but a size below one
	return &limiter{burst: float64(burst), every: every, clock: clock, buckets: buckets}
}

// take reports whether the tenant may do it once more now; where not, wait is how long it takes until then.
func (l *limiter) take(tenant catalog.TenantID) (wait time.Duration, ok bool) {
	now := l.clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.buckets.Get(tenant)
	if !ok {
		b = &bucket{left: l.burst, at: now}
		l.buckets.Add(tenant, b)
	}
	if passed := now.Sub(b.at); passed > 0 {
		b.left = min(l.burst, b.left+float64(passed)/float64(l.every))
		b.at = now
	}
	if b.left < 1 {
		return time.Duration((1 - b.left) * float64(l.every)), false
	}
	b.left--
	return 0, true
}

// tooMany refuses what the limiter does, and says when it would not.
func (p *Pages) tooMany(w http.ResponseWriter, r *http.Request, wait time.Duration, what string) {
	w.Header().Set("Retry-After", strconv.FormatInt(int64(math.Ceil(wait.Seconds())), 10))
	p.refuse(w, r, codeRateLimited, fmt.Errorf("too many %s of this tenant", what))
}
