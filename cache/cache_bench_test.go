package cache

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"
)

// benchKey is shaped like the proxy's hottest key: who, where.
type benchKey struct{ user, tenant string }

type benchValue [8]int64

const (
	benchKeys    = 10_000 // all of them fit: what is measured is the warm path
	benchEntries = 100_000
)

func benchData(zipf bool) (keys []benchKey, order []int) {
	const hex = "0123456789abcdef"
	rnd := rand.New(rand.NewPCG(1, 2))
	id := func() string {
		var b [32]byte
		for i := range b {
			b[i] = hex[rnd.IntN(16)]
		}
		return string(b[:])
	}
	keys = make([]benchKey, benchKeys)
	for i := range keys {
		keys[i] = benchKey{id(), id()}
	}
	skew := rand.NewZipf(rnd, 1.1, 1, benchKeys-1)
	order = make([]int, 1<<16)
	for i := range order {
		if zipf {
			order[i] = int(skew.Uint64())
		} else {
			order[i] = rnd.IntN(benchKeys)
		}
	}
	return keys, order
}

// oneMutex is golang-lru behind a single lock: what the cache is measured against.
type oneMutex struct {
	mu  sync.Mutex
	lru *lru.LRU[benchKey, *benchValue]
}

func (m *oneMutex) get(k benchKey) *benchValue {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok := m.lru.Get(k); ok {
		return v
	}
	v := &benchValue{}
	m.lru.Add(k, v)
	return v
}

func eachDistribution(b *testing.B, run func(b *testing.B, keys []benchKey, order []int)) {
	for _, zipf := range []bool{true, false} {
		name := map[bool]string{true: "zipf", false: "uniform"}[zipf]
		keys, order := benchData(zipf)
		b.Run(name, func(b *testing.B) { run(b, keys, order) })
	}
}

// benchCoherent is a cache as the proxy has it: each answer depends on a person, a place and a plan.
func benchCoherent(entries int) (*Coherence, *Cache[benchKey, *benchValue]) {
	co := NewCoherence(CoherenceConfig{Heartbeat: time.Hour, Entries: entries})
	co.Looked(time.Now())
	return co, NewCoherent(Config{Entries: entries, TTL: 24 * time.Hour}, Depends[benchKey, *benchValue]{
		Coherence: co, On: []Tag{TagOf(1), TagOf(2)},
		Tags: func(tags []Tag, k benchKey, _ *benchValue, _ bool) []Tag {
			return append(tags, TagOf(k.user), TagOf(k.tenant), TagOf("plan"))
		},
	})
}

func BenchmarkGet(b *testing.B) {
	eachDistribution(b, func(b *testing.B, keys []benchKey, order []int) {
		benchGet(b, keys, order, 0)
	})
}

// BenchmarkGetAmidChanges is BenchmarkGet with an invalidation of something else every thousand reads.
func BenchmarkGetAmidChanges(b *testing.B) {
	eachDistribution(b, func(b *testing.B, keys []benchKey, order []int) {
		benchGet(b, keys, order, 1000)
	})
}

func benchGet(b *testing.B, keys []benchKey, order []int, changeEvery int) {
	co, c := benchCoherent(benchEntries)
	defer c.Close()
	load := func(context.Context) (*benchValue, bool, error) { return &benchValue{}, true, nil }
	for _, i := range order {
		if _, _, err := c.Get(b.Context(), keys[i], load); err != nil {
			b.Fatal(err)
		}
	}
	ctx := b.Context()
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := rand.IntN(len(order)); pb.Next(); i++ {
			if changeEvery > 0 && i%changeEvery == 0 {
				co.Invalidate(Tag(i))
			}
			if _, found, err := c.Get(ctx, keys[order[i%len(order)]], load); !found || err != nil {
				b.Error(found, err)
			}
		}
	})
}

// BenchmarkInvalidate shows that the cost of an invalidation does not depend on the size of the cache.
func BenchmarkInvalidate(b *testing.B) {
	for _, entries := range []int{1000, 100_000} {
		b.Run(strconv.Itoa(entries), func(b *testing.B) {
			co, c := benchCoherent(entries)
			defer c.Close()
			for i := range entries {
				c.Put(benchKey{strconv.Itoa(i), "tenant"}, &benchValue{})
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				co.Invalidate(Tag(i), TagOf("tenant"))
			}
		})
	}
}

func BenchmarkOneMutexAroundLRU(b *testing.B) {
	eachDistribution(b, func(b *testing.B, keys []benchKey, order []int) {
		l, err := lru.NewLRU[benchKey, *benchValue](benchEntries, nil)
		if err != nil {
			b.Fatal(err)
		}
		m := &oneMutex{lru: l}
		for _, i := range order {
			m.get(keys[i])
		}
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for i := rand.IntN(len(order)); pb.Next(); i++ {
				if m.get(keys[order[i%len(order)]]) == nil {
					b.Error("nothing")
				}
			}
		})
	})
}

// BenchmarkGetOneKey is the hottest case: every processor asks for one key.
func BenchmarkGetOneKey(b *testing.B) {
	c := New[benchKey, *benchValue](Config{Entries: benchEntries, TTL: time.Hour})
	defer c.Close()
	key := benchKey{"user", "tenant"}
	c.Put(key, &benchValue{})
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, found, _ := c.Lookup(key); !found {
				b.Error("not found")
			}
		}
	})
}

func BenchmarkColdLoad(b *testing.B) {
	c := New[int, *benchValue](Config{Entries: 1024, TTL: time.Hour})
	defer c.Close()
	load := func(context.Context) (*benchValue, bool, error) { return nil, true, nil }
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		if _, _, err := c.Get(b.Context(), i, load); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAWarmGetAllocatesNothing(t *testing.T) {
	co := NewCoherence(CoherenceConfig{Heartbeat: time.Hour})
	co.Looked(time.Now())
	c := NewCoherent(Config{Entries: benchEntries, TTL: time.Hour, NegativeTTL: time.Hour}, Depends[benchKey, *benchValue]{
		Coherence: co,
		Tags: func(tags []Tag, k benchKey, _ *benchValue, _ bool) []Tag {
			return append(tags, TagOf(k.user), TagOf(k.tenant))
		},
	})
	defer c.Close()
	key, none := benchKey{"user", "tenant"}, benchKey{"user", "nowhere"}
	c.Put(key, &benchValue{})
	load := func(context.Context) (*benchValue, bool, error) { return nil, false, nil }
	ctx := t.Context()
	_, _, _ = c.Get(ctx, none, load)
	allocs := testing.AllocsPerRun(1000, func() {
		co.Invalidate(1)
		_, _, _ = c.Get(ctx, key, load)
		_, _, _ = c.Get(ctx, none, load)
		_, _, _ = c.Lookup(key)
		_, _, _ = c.Peek(none)
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
