package tenantgate

import (
	"context"
	"sync"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// looker looks at the host database twice a heartbeat and remembers when the last look that succeeded began.
type looker struct {
	mu      sync.Mutex
	reached bool
	began   time.Time

	cancel context.CancelFunc
	done   chan struct{}
}

func (l *looker) start(host *catalog.HostDatabase, heartbeat time.Duration, clock func() time.Time) {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel, l.done = cancel, make(chan struct{})
	l.look(ctx, host, clock)
	go func() {
		defer close(l.done)
		tick := time.NewTicker(max(heartbeat/2, 50*time.Millisecond))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				l.look(ctx, host, clock)
			}
		}
	}()
}

func (l *looker) look(ctx context.Context, host *catalog.HostDatabase, clock func() time.Time) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	began := clock()
	if host.Ping(ctx) != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reached, l.began = true, began
}

func (l *looker) last() (reached bool, began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reached, l.began
}

func (l *looker) stop() {
	if l.cancel != nil {
		l.cancel()
		<-l.done
	}
}
