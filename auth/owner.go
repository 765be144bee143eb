package auth

import (
	"context"
	"sync"
)

// owner owns goroutines: they end with its context, and close waits for them.
type owner struct {
	ctx    context.Context
	cancel context.CancelFunc
	mu     sync.Mutex
	closed bool
	group  sync.WaitGroup
}

func newOwner() *owner {
	o := &owner{}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	return o
}

// run starts f unless the owner is closed, and says whether it did.
func (o *owner) run(f func(context.Context)) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	o.group.Go(func() { f(o.ctx) })
	return true
}

func (o *owner) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.cancel()
	o.group.Wait()
}
