package cache

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// decision is what the reads of one decision share while memory is not current.
type decision struct {
	until      time.Time
	unreadable atomic.Bool // one of them found that out
}

type decisionKey struct{}

// WithDecision makes the Gets under ctx parts of one decision: while memory is not current they have limit together for
// their reads, and after one that found the source unreadable the others do not try. Without it each Get is a decision
// of its own.
func WithDecision(ctx context.Context, limit time.Duration) context.Context {
	return context.WithValue(ctx, decisionKey{}, &decision{until: time.Now().Add(limit)})
}

// loadCoherent is Get where memory has no answer, or none that may be used while nobody knows what has changed. Where
// the source cannot be read, memory may still have one.
func (c *Cache[K, V]) loadCoherent(ctx context.Context, key K, load Load[V]) (value V, found bool, err error) {
	if c.coherence.Current() {
		value, found, err = c.loadShared(ctx, key, load, false)
	} else {
		c.coherence.reads.Add(1)
		value, found, err = c.readThrough(ctx, key, load)
	}
	if err == nil || ctx.Err() != nil || !c.cannotRead(err) {
		return value, found, err
	}
	if value, found, ok := c.Lookup(key); ok {
		return value, found, nil // current again meanwhile
	}
	if value, ok := c.staleAnswer(key); ok {
		c.coherence.stale.Add(1)
		return value, true, nil
	}
	return value, found, err
}

// readThrough loads for those who have asked by the time that the load begins, within the time that one decision has.
func (c *Cache[K, V]) readThrough(ctx context.Context, key K, load Load[V]) (V, bool, error) {
	var none V
	limit := c.loadTimeout
	d, _ := ctx.Value(decisionKey{}).(*decision)
	if d != nil {
		limit = min(limit, time.Until(d.until))
		if limit <= 0 || d.unreadable.Load() {
			return none, false, fmt.Errorf("source is not readable: %w", ErrLoadTimeout)
		}
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	value, found, err := c.loadShared(limited, key, load, true)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = ErrLoadTimeout
	}
	if d != nil && err != nil && c.cannotRead(err) {
		d.unreadable.Store(true)
	}
	return value, found, err
}

func (c *Cache[K, V]) cannotRead(err error) bool {
	return errors.Is(err, ErrLoadTimeout) || c.coherence.unreadable != nil && c.coherence.unreadable(err)
}

// staleAnswer is what memory answers although it is not current: what it would have answered when it ceased to be, or
// what was read since, if nothing is known to have changed it; never that there is no such thing.
func (c *Cache[K, V]) staleAnswer(key K) (value V, ok bool) {
	v := c.view()
	e := c.kept(key, true)
	if e == nil || !e.found {
		return value, false
	}
	now := c.now()
	ceased, ok := v.ceased(now)
	if !ok {
		return value, false
	}
	readSince := e.began.mono >= ceased.mono && e.began.mono <= now.mono
	if !readSince && !e.began.within(e.life, ceased) {
		return value, false
	}
	return e.value, true
}
