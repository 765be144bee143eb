// Package cache is a bounded, sharded, in-memory cache with shared loads, coherent with a source that announces its
// changes. It knows no domain type and no database.
//
// Purpose: decide from memory without ever deciding from something older than the owner allows. An entry's age
// counts from the moment its load began, so that a slow load cannot make old facts look new, and a load that began
// before an invalidation never fills the cache after it: by key (Invalidate, Purge) or, through a Coherence, by any of
// the things that an answer depends on.
//
// Concurrency: every method is safe for concurrent use. Loads of one key are shared; each runs in a goroutine that
// the cache owns, detached from the caller that happened to come first, and Close waits for all of them. Values are
// handed to many callers at once and must be immutable.
//
// Failure mode: errors are never kept. A load that panics, exits its goroutine or overruns its time gives every waiter
// an error; nobody hangs and nothing is kept. A clock that steps makes entries older, never younger. When nobody has
// looked at the source for a heartbeat, every Get reads; when that cannot be done, memory answers for CoherenceConfig's
// MaxStale and no longer.
package cache

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime"
	"sync"
	"time"
)

// Defaults and bounds of Config.
const (
	// DefaultLoadTimeout bounds a load whose Config names no other time.
	DefaultLoadTimeout = time.Second
	// DefaultLoads bounds how many loads run at once in one cache.
	DefaultLoads = 1024

	maxShards       = 256
	entriesPerShard = 128 // fewer would let chance crowd one shard while others stand empty
)

var (
	// ErrClosed says that the cache was closed; the caller cannot get an answer from it any more.
	ErrClosed = errors.New("cache is closed")
	// ErrLoadTimeout says that a load did not end within Config.LoadTimeout. It wraps context.DeadlineExceeded.
	ErrLoadTimeout = fmt.Errorf("load did not end in time: %w", context.DeadlineExceeded)
	// ErrLoadAborted says that a load ended its goroutine (runtime.Goexit) without an answer.
	ErrLoadAborted = errors.New("load ended without an answer")
)

// Config bounds a cache. The zero value keeps nothing and shares no load.
type Config struct {
	// Entries bounds the positive entries; negative ones ("there is no such thing") have an eighth of that besides, so
	// that asking for what does not exist cannot evict what does. 0 or less: nothing is kept.
	Entries int
	// TTL bounds the age at which an entry is used. Each entry ends at a moment of its own in the last tenth of it, so
	// that what was loaded together is not loaded again together. 0 or less: every Get loads for itself.
	TTL time.Duration
	// NegativeTTL is TTL for negative entries. 0 or less: they are not kept. More than TTL counts as TTL.
	NegativeTTL time.Duration
	// LoadTimeout is the deadline of a load's context. 0 or less: DefaultLoadTimeout.
	LoadTimeout time.Duration
	// Loads bounds the loads that run at once; more wait, no longer than LoadTimeout. 0 or less: DefaultLoads.
	Loads int
	// Clock is the time. Nil: time.Now.
	Clock func() time.Time
}

// Load fetches the value of one key. found false means that it was looked for and does not exist. The context carries
// the values of the caller that came first but not its deadline or cancellation; it ends after Config.LoadTimeout or
// at Close, and a load must end soon after it. A load must not call Get of the cache that it serves.
type Load[V any] func(ctx context.Context) (value V, found bool, err error)

// Cache maps K to V. Use a struct as a key of several parts, never parts joined into one string: two different pairs
// must not be able to meet in one key (SF-1).
type Cache[K comparable, V any] struct {
	ttl, negativeTTL time.Duration
	loadTimeout      time.Duration
	clock            func() time.Time
	made             time.Time  // by clock; what moment counts from
	coherence        *Coherence // nil: entries end by their age alone
	on               []uint32   // places of what every answer depends on
	tags             func(tags []Tag, key K, value V, found bool) []Tag
	seed             maphash.Seed
	mask             uint64
	shards           []shard[K, V]
	slots            chan struct{}

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	life   sync.Mutex // guards closed and the start of a load against Close
	closed bool
	loads  sync.WaitGroup
}

// New makes a cache whose entries end by their age alone. The caller owns it and calls Close.
func New[K comparable, V any](cfg Config) *Cache[K, V] {
	return NewCoherent(cfg, Depends[K, V]{})
}

// NewCoherent makes a cache whose entries also end when something that they depend on is invalidated, and which answers
// from memory only while d.Coherence is current, whose clock it goes by. The caller owns it and calls Close.
func NewCoherent[K comparable, V any](cfg Config, d Depends[K, V]) *Cache[K, V] {
	c := &Cache[K, V]{
		ttl:         max(cfg.TTL, 0),
		negativeTTL: max(cfg.NegativeTTL, 0),
		loadTimeout: cfg.LoadTimeout,
		clock:       cfg.Clock,
		coherence:   d.Coherence,
		tags:        d.Tags,
		seed:        maphash.MakeSeed(),
	}
	c.negativeTTL = min(c.negativeTTL, c.ttl)
	if c.loadTimeout <= 0 {
		c.loadTimeout = DefaultLoadTimeout
	}
	if c.clock == nil {
		c.clock = time.Now
	}
	c.made = c.clock()
	if d.Coherence != nil {
		c.clock, c.made = d.Coherence.clock, d.Coherence.made
		c.on = d.Coherence.places(nil, d.On)
	}
	loads := cfg.Loads
	if loads <= 0 {
		loads = DefaultLoads
	}
	c.slots = make(chan struct{}, loads)
	c.ctx, c.cancel = context.WithCancel(context.Background())

	entries := max(cfg.Entries, 0)
	n := shardCount(entries, runtime.GOMAXPROCS(0))
	c.mask = uint64(n - 1)
	c.shards = make([]shard[K, V], n)
	for i := range c.shards {
		share := entries / n
		if i < entries%n {
			share++
		}
		c.shards[i].init(share)
	}
	return c
}

// shardCount is a power of two: enough for the processors, never so many that a shard holds only a few entries.
func shardCount(entries, procs int) int {
	n := 1
	for n < 4*procs && n < maxShards && 2*n*entriesPerShard <= entries {
		n *= 2
	}
	return n
}

func (c *Cache[K, V]) shard(key K) *shard[K, V] {
	if c.mask == 0 {
		return &c.shards[0]
	}
	return &c.shards[maphash.Comparable(c.seed, key)&c.mask]
}

func (c *Cache[K, V]) now() moment {
	t := c.clock()
	return moment{mono: int64(t.Sub(c.made)), wall: t.UnixNano()}
}

// Lookup answers from memory alone: ok false means that nothing usable is kept, found false that the key is known not
// to exist. It counts as a use of the entry. It allocates nothing.
func (c *Cache[K, V]) Lookup(key K) (value V, found, ok bool) {
	v := c.view()
	return c.usable(c.kept(key, true), v)
}

// Peek is Lookup that leaves the order of eviction alone.
func (c *Cache[K, V]) Peek(key K) (value V, found, ok bool) {
	v := c.view()
	return c.usable(c.kept(key, false), v)
}

func (c *Cache[K, V]) view() view {
	if c.coherence == nil {
		return view{}
	}
	return c.coherence.view()
}

// kept returns what memory has of key and nothing has invalidated, whatever its age.
func (c *Cache[K, V]) kept(key K, use bool) *entry[V] {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.keptLocked(s, key, use)
}

func (c *Cache[K, V]) keptLocked(s *shard[K, V], key K, use bool) *entry[V] {
	var e *entry[V]
	if use {
		e = s.get(key)
	} else {
		e = s.peek(key)
	}
	if e == nil || c.coherence == nil {
		return e
	}
	last := c.coherence.last.Load()
	if last == e.seen {
		return e
	}
	if !c.intact(e.number, e.places) {
		s.remove(key)
		return nil
	}
	e.seen = last
	return e
}

// intact reports whether nothing that an answer depends on was invalidated since number.
func (c *Cache[K, V]) intact(number uint64, places []uint32) bool {
	return c.coherence == nil || c.coherence.intact(number, c.on) && c.coherence.intact(number, places)
}

// usable is what an entry, read from memory after v was taken, answers now. The clock is read last: a process that stood
// still in between must not take for current what was current before.
func (c *Cache[K, V]) usable(e *entry[V], v view) (value V, found, ok bool) {
	if e == nil {
		return value, false, false
	}
	now := c.now()
	if c.coherence != nil && !v.holds(now) || !e.began.within(e.life, now) {
		return value, false, false
	}
	return e.value, e.found, true
}

// Put keeps value as if a load that begins now had found it, and takes the place of a load under way, whose answer
// will not be kept. The caller vouches that value is true at the moment of the call.
func (c *Cache[K, V]) Put(key K, value V) {
	s := c.shard(key)
	number := c.number()
	e := &entry[V]{
		value: value, found: true, began: c.now(), life: c.lifeOf(true),
		number: number, seen: number, places: c.placesOf(key, value, true),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started++
	e.ordinal = s.started
	delete(s.flights, key)
	s.fill(key, e)
}

// number is the last invalidation's.
func (c *Cache[K, V]) number() uint64 {
	if c.coherence == nil {
		return 0
	}
	return c.coherence.last.Load()
}

func (c *Cache[K, V]) lifeOf(found bool) time.Duration {
	if found {
		return jitter(c.ttl)
	}
	return jitter(c.negativeTTL)
}

func (c *Cache[K, V]) placesOf(key K, value V, found bool) []uint32 {
	if c.coherence == nil || c.tags == nil {
		return nil
	}
	var few [16]Tag
	tags := c.tags(few[:0], key, value, found)
	return c.coherence.places(make([]uint32, 0, len(tags)), tags)
}

// Invalidate forgets key. A load of it that is under way serves those who already wait for it and is not kept; whoever
// calls Get from now on starts another.
func (c *Cache[K, V]) Invalidate(key K) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.flights, key)
	s.remove(key)
}

// Purge is Invalidate for every key.
func (c *Cache[K, V]) Purge() {
	for i := range c.shards {
		c.shards[i].purge()
	}
}

// Len counts the entries kept, expired ones that nothing has displaced yet included.
func (c *Cache[K, V]) Len() int {
	n := 0
	for i := range c.shards {
		n += c.shards[i].len()
	}
	return n
}

// Close ends every load's context, waits for the loads and forgets everything. Get fails with ErrClosed from then on.
// It may be called again.
func (c *Cache[K, V]) Close() {
	c.life.Lock()
	c.closed = true
	c.life.Unlock()
	c.cancel()
	c.loads.Wait()
	c.Purge()
}
