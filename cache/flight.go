package cache

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// flight is one load under way. Its result is written once, before done is closed.
type flight[V any] struct {
	began moment
	ctx   context.Context // the load's own
	done  chan struct{}
	value V
	found bool
	err   error
}

// joinable reports whether a caller may share the flight's answer: it must not be older than an entry may be, and the
// load must still have time.
func (f *flight[V]) joinable(now moment, ttl time.Duration) bool {
	return f.began.within(ttl, now) && f.ctx.Err() == nil
}

// PanicError is what callers get when a load panicked. Its text shows the type of the panic's value, never the value,
// which may hold anything.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("load panicked with a %T", e.Value) }

// Get returns what is kept for key, else what load says, whose answer all who ask for the key meanwhile share. It
// returns when ctx ends, which does not end the load. found false: there is no such thing. Errors are the load's own,
// ctx's, ErrLoadTimeout, ErrLoadAborted, *PanicError or ErrClosed; none is kept.
//
// A warm Get allocates nothing, but a load that captures variables is allocated by its caller: a hot path calls Lookup
// first or makes its load once.
func (c *Cache[K, V]) Get(ctx context.Context, key K, load func(context.Context) (V, bool, error)) (V, bool, error) {
	if value, found, ok := c.Lookup(key); ok {
		return value, found, nil
	}
	return c.loadShared(ctx, key, load)
}

func (c *Cache[K, V]) loadShared(ctx context.Context, key K, load Load[V]) (V, bool, error) {
	var none V
	s := c.shard(key)
	s.mu.Lock()
	f, joined := s.flights[key]
	joined = joined && f.joinable(c.now(), c.ttl)
	s.mu.Unlock()
	if joined {
		return c.wait(ctx, f)
	}
	if err := c.acquire(ctx); err != nil {
		return none, false, err
	}

	s.mu.Lock()
	// Others may have begun or finished a load while this caller waited for its slot.
	now := c.now()
	if value, found, ok := s.lookup(key, now); ok {
		s.mu.Unlock()
		<-c.slots
		return value, found, nil
	}
	if f, ok := s.flights[key]; ok && f.joinable(now, c.ttl) {
		s.mu.Unlock()
		<-c.slots
		return c.wait(ctx, f)
	}
	f, err := c.start(ctx, s, key, load)
	s.mu.Unlock()
	if err != nil {
		<-c.slots
		return none, false, err
	}
	return c.wait(ctx, f)
}

// acquire takes one of the slots for loads. Its wait ends with ctx, with the cache, and after LoadTimeout.
func (c *Cache[K, V]) acquire(ctx context.Context) error {
	select {
	case c.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(c.loadTimeout)
	defer timer.Stop()
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for a load: %w", ctx.Err())
	case <-c.ctx.Done():
		return ErrClosed
	case <-timer.C:
		return fmt.Errorf("too many loads under way: %w", ErrLoadTimeout)
	}
}

// start registers and begins a load. The shard is locked: whatever is invalidated from here on takes the flight out of
// the shard's map, and only a flight that is still there is kept.
func (c *Cache[K, V]) start(ctx context.Context, s *shard[K, V], key K, load Load[V]) (*flight[V], error) {
	c.life.Lock()
	defer c.life.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	loadCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.loadTimeout)
	unhook := context.AfterFunc(c.ctx, cancel)
	f := &flight[V]{began: c.now(), ctx: loadCtx, done: make(chan struct{})}
	s.flights[key] = f
	c.loads.Go(func() {
		defer func() {
			unhook()
			cancel()
			<-c.slots
		}()
		c.run(s, key, f, load)
	})
	return f, nil
}

// run calls load and settles the flight however load ends.
func (c *Cache[K, V]) run(s *shard[K, V], key K, f *flight[V], load Load[V]) {
	f.err = ErrLoadAborted
	defer func() {
		if p := recover(); p != nil {
			var none V
			f.value, f.found, f.err = none, false, &PanicError{Value: p, Stack: debug.Stack()}
		}
		c.settle(s, key, f)
	}()
	value, found, err := load(f.ctx)
	switch {
	case err != nil:
		f.err = err
	case !found:
		f.err = nil
	default:
		f.value, f.found, f.err = value, true, nil
	}
}

// settle keeps the answer if the flight is still the key's, and releases the waiters.
func (c *Cache[K, V]) settle(s *shard[K, V], key K, f *flight[V]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(f.done)
	if s.flights[key] != f {
		return // invalidated, superseded or given up: this answer is for its waiters alone
	}
	delete(s.flights, key)
	switch {
	case f.err != nil:
	case f.found:
		s.fill(key, f.value, f.began, c.ttl)
	default:
		s.fillNegative(key, f.began, c.negativeTTL)
	}
}

// wait returns the flight's answer, or why this caller does without it.
func (c *Cache[K, V]) wait(ctx context.Context, f *flight[V]) (V, bool, error) {
	var none V
	select {
	case <-f.done:
		return f.value, f.found, f.err
	case <-ctx.Done():
		return none, false, fmt.Errorf("waiting for a load: %w", ctx.Err())
	case <-f.ctx.Done():
	}
	// The load's time is up. It knows best what went wrong: give it a moment to say so, but depend on nothing.
	timer := time.NewTimer(c.loadTimeout/4 + time.Millisecond)
	defer timer.Stop()
	select {
	case <-f.done:
		return f.value, f.found, f.err
	case <-ctx.Done():
		return none, false, fmt.Errorf("waiting for a load: %w", ctx.Err())
	case <-timer.C:
	}
	if c.ctx.Err() != nil {
		return none, false, ErrClosed
	}
	return none, false, ErrLoadTimeout
}
