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

// entry is what is known of one key since began.
type entry[V any] struct {
	value V
	began moment
	life  time.Duration // age at which it is used no more
}

// within reports whether what was read at m may be used at now: its age is what the two clocks show, whichever is
// more, and must be less than life. What comes from the future is not used.
func (m moment) within(life time.Duration, now moment) bool {
	age := now.mono - m.mono
	return age >= 0 && max(age, now.wall-m.wall) < int64(life)
}

// shard is one lock's share of the keys.
type shard[K comparable, V any] struct {
	mu       sync.Mutex
	positive *simplelru.LRU[K, entry[V]]        // nil: nothing is kept
	negative *simplelru.LRU[K, entry[struct{}]] // of their own, so that they cannot push out positive ones
	flights  map[K]*flight[V]                   // loads whose answer may be kept and joined
	_        [64]byte                           // keeps neighbours' locks off this cache line
}

func (s *shard[K, V]) init(entries int) {
	s.flights = make(map[K]*flight[V])
	if entries <= 0 {
		return
	}
	// NewLRU refuses nothing but a size below one.
	s.positive, _ = simplelru.NewLRU[K, entry[V]](entries, nil)
	s.negative, _ = simplelru.NewLRU[K, entry[struct{}]]((entries+7)/8, nil)
}

func (s *shard[K, V]) lookup(key K, now moment) (value V, found, ok bool) {
	if s.positive == nil {
		return value, false, false
	}
	if e, has := s.positive.Get(key); has && e.began.within(e.life, now) {
		return e.value, true, true
	}
	if e, has := s.negative.Get(key); has && e.began.within(e.life, now) {
		return value, false, true
	}
	return value, false, false
}

func (s *shard[K, V]) peek(key K, now moment) (value V, found, ok bool) {
	if s.positive == nil {
		return value, false, false
	}
	if e, has := s.positive.Peek(key); has && e.began.within(e.life, now) {
		return e.value, true, true
	}
	if e, has := s.negative.Peek(key); has && e.began.within(e.life, now) {
		return value, false, true
	}
	return value, false, false
}

// fill keeps a positive answer; a key has at most one answer.
func (s *shard[K, V]) fill(key K, value V, began moment, ttl time.Duration) {
	if s.positive == nil || ttl <= 0 {
		return
	}
	s.negative.Remove(key)
	s.positive.Add(key, entry[V]{value: value, began: began, life: jitter(ttl)})
}

// fillNegative keeps the answer that there is no such thing.
func (s *shard[K, V]) fillNegative(key K, began moment, ttl time.Duration) {
	if s.positive == nil {
		return
	}
	s.positive.Remove(key)
	if ttl <= 0 {
		return
	}
	s.negative.Add(key, entry[struct{}]{began: began, life: jitter(ttl)})
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
