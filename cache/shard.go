package cache

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// moment is a reading of the clock: by the monotonic clock where there is one, counted from the cache's making, and by
// the wall clock, in nanoseconds. One stands still while a machine sleeps, the other can be set back.
type moment struct{ mono, wall int64 }

// entry is what is known of one key since began. All but seen is immutable.
type entry[V any] struct {
	value   V
	began   moment
	life    time.Duration // age at which it is used no more
	number  uint64        // of the last invalidation when its load began
	seen    uint64        // of the last invalidation that is known not to concern it; guarded by the shard's lock
	places  []uint32      // of what it depends on
	ordinal ordinal       // of its load
	found   bool
}

// ordinal counts the loads and Puts of a shard. It may come round, in far more time than an entry lives.
type ordinal uint32

// after reports whether o came after before.
func (o ordinal) after(before ordinal) bool { return int32(o-before) > 0 }

// within reports whether what was read at m may be used at now: its age is what the two clocks show, whichever is
// more, and must be less than life. What comes from the future is not used.
func (m moment) within(life time.Duration, now moment) bool {
	age := now.mono - m.mono
	return age >= 0 && max(age, now.wall-m.wall) < int64(life)
}

// after is the moment d later.
func (m moment) after(d time.Duration) moment {
	return moment{mono: m.mono + int64(d), wall: m.wall + int64(d)}
}

// shard is one lock's share of the keys.
type shard[K comparable, V any] struct {
	mu       sync.Mutex
	positive *simplelru.LRU[K, *entry[V]] // nil: nothing is kept
	negative *simplelru.LRU[K, *entry[V]] // of their own, so that they cannot push out positive ones
	flights  map[K]*flight[V]             // loads whose answer may be kept and joined
	started  ordinal                      // the last load or Put
	_        [64]byte                     // keeps neighbours' locks off this cache line
}

func (s *shard[K, V]) init(entries int) {
	s.flights = make(map[K]*flight[V])
	if entries <= 0 {
		return
	}
	// NewLRU refuses nothing but a size below one.
	s.positive, _ = simplelru.NewLRU[K, *entry[V]](entries, nil)
	s.negative, _ = simplelru.NewLRU[K, *entry[V]]((entries+7)/8, nil)
}

// get returns what is kept of key, whatever its age; a key has at most one answer.
func (s *shard[K, V]) get(key K) *entry[V] {
	if s.positive == nil {
		return nil
	}
	if e, has := s.positive.Get(key); has {
		return e
	}
	e, _ := s.negative.Get(key)
	return e
}

// peek is get that leaves the order of eviction alone.
func (s *shard[K, V]) peek(key K) *entry[V] {
	if s.positive == nil {
		return nil
	}
	if e, has := s.positive.Peek(key); has {
		return e
	}
	e, _ := s.negative.Peek(key)
	return e
}

// fill keeps an answer in the place of what was known of the key. One that may not be used at all ends the old one.
func (s *shard[K, V]) fill(key K, e *entry[V]) {
	if s.positive == nil {
		return
	}
	keep, drop := s.positive, s.negative
	if !e.found {
		keep, drop = s.negative, s.positive
	}
	drop.Remove(key)
	if e.life > 0 {
		keep.Add(key, e)
	}
}

func (s *shard[K, V]) remove(key K) {
	if s.positive == nil {
		return
	}
	s.positive.Remove(key)
	s.negative.Remove(key)
}

func (s *shard[K, V]) purge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.flights)
	if s.positive == nil {
		return
	}
	s.positive.Purge()
	s.negative.Purge()
}

func (s *shard[K, V]) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.positive == nil {
		return 0
	}
	return s.positive.Len() + s.negative.Len()
}

// jitter gives an entry its own end in the last tenth of ttl. It only ever shortens a life.
func jitter(ttl time.Duration) time.Duration {
	spread := int64(ttl / 10)
	if spread <= 0 {
		return ttl
	}
	return ttl - time.Duration(rand.Int64N(spread+1))
}
