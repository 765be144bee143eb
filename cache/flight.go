package cache

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// flight is one load under way. Its result is written once, before done is closed.
type flight[V any] struct {
	began   moment
	number  uint64 // of the last invalidation when it began
	ordinal ordinal
	ctx     context.Context
	done    chan struct{}
	value   V
	found   bool
	places  []uint32 // of what the answer depends on
	err     error
}

// joinable reports whether a caller may wait for the flight: it must not be older than an entry may be, and the load
// must still have time.
func (f *flight[V]) joinable(now moment, ttl time.Duration) bool {
	return f.began.within(ttl, now) && f.ctx.Err() == nil
}

// asked is when a caller asked.
type asked struct {
	number  uint64  // of the last invalidation by then
	started ordinal // the shard's last load by then
	fresh   bool    // only a load that began later will do
}

// PanicError is what callers get when a load panicked. Its text shows the type of the panic's value, never the value,
// which may hold anything.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("load panicked with a %T", e.Value) }

// Get returns what is kept for key, else what load says, whose answer all who ask for the key meanwhile share; one who
// asks after an invalidation that concerns the answer asks again. It returns when ctx ends, which does not end the
// load. found false: there is no such thing. Errors are the load's own, ctx's, ErrLoadTimeout, ErrLoadAborted,
// *PanicError or ErrClosed; none is kept.
//
// With a Coherence that is not current it reads, shared only with those who asked before the load began, and takes at
// most LoadTimeout to do so; where the source cannot be read it answers from memory, as CoherenceConfig.MaxStale allows.
//
// A warm Get allocates nothing, but a load that captures variables is allocated by its caller: a hot path calls Lookup
// first or makes its load once.
func (c *Cache[K, V]) Get(ctx context.Context, key K, load func(context.Context) (V, bool, error)) (V, bool, error) {
	if value, found, ok := c.Lookup(key); ok {
		return value, found, nil
	}
	if c.coherence == nil {
		return c.loadShared(ctx, key, load, false)
	}
	return c.loadCoherent(ctx, key, load)
}

func (c *Cache[K, V]) loadShared(ctx context.Context, key K, load Load[V], fresh bool) (V, bool, error) {
	var none V
	s := c.shard(key)
	ask := asked{number: c.number(), fresh: fresh}
	s.mu.Lock()
	ask.started = s.started
	s.mu.Unlock()
	// At most twice: what is under way after a flight that this caller waited for began after it asked.
	for {
		e, f, err := c.board(ctx, s, key, load, ask)
		switch {
		case err != nil:
			return none, false, err
		case e != nil:
			return e.value, e.found, nil
		}
		value, found, err := c.wait(ctx, f)
		if ctx.Err() != nil || c.ctx.Err() != nil || c.answers(f, ask, err) {
			return value, found, err
		}
	}
}

// answers reports whether the outcome of a flight is one for this caller: not of before a moment that it may rely on.
func (c *Cache[K, V]) answers(f *flight[V], ask asked, err error) bool {
	if ask.fresh {
		return f.ordinal.after(ask.started)
	}
	return err != nil || f.number >= ask.number || c.intact(f.number, f.places)
}

// board returns the flight to wait for, which it starts where there is none, or an entry that has come meanwhile.
func (c *Cache[K, V]) board(ctx context.Context, s *shard[K, V], key K, load Load[V], ask asked) (*entry[V], *flight[V], error) {
	s.mu.Lock()
	f, joined := s.flights[key]
	joined = joined && f.joinable(c.now(), c.ttl)
	s.mu.Unlock()
	if joined {
		return nil, f, nil
	}
	if err := c.acquire(ctx); err != nil {
		return nil, nil, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	// Others may have begun or finished a load while this caller waited for its slot.
	v := c.view()
	if e := c.keptLocked(s, key, true); e != nil {
		_, _, ok := c.usable(e, v)
		if ask.fresh {
			ok = e.ordinal.after(ask.started) && e.began.within(e.life, c.now())
		}
		if ok {
			<-c.slots
			return e, nil, nil
		}
	}
	if f, ok := s.flights[key]; ok && f.joinable(c.now(), c.ttl) {
		<-c.slots
		return nil, f, nil
	}
	f, err := c.start(ctx, s, key, load)
	if err != nil {
		<-c.slots
		return nil, nil, err
	}
	return nil, f, nil
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

// start registers and begins a load. The shard is locked: whatever is invalidated by key from here on takes the flight
// out of the shard's map, and only a flight that is still there is kept; whatever is invalidated by what the answer
// depends on has a larger number.
func (c *Cache[K, V]) start(ctx context.Context, s *shard[K, V], key K, load Load[V]) (*flight[V], error) {
	c.life.Lock()
	defer c.life.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	loadCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.loadTimeout)
	unhook := context.AfterFunc(c.ctx, cancel)
	s.started++
	f := &flight[V]{began: c.now(), number: c.number(), ordinal: s.started, ctx: loadCtx, done: make(chan struct{})}
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
	if err != nil {
		f.err = err
		return
	}
	f.places = c.placesOf(key, value, found)
	if found {
		f.value, f.found = value, true
	}
	f.err = nil
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
	if f.err != nil || !c.intact(f.number, f.places) {
		return
	}
	e := &entry[V]{
		value: f.value, found: f.found, began: f.began, life: c.lifeOf(f.found),
		number: f.number, seen: f.number, ordinal: f.ordinal, places: f.places,
	}
	s.fill(key, e)
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
