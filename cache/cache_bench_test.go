package cache

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"
)

// benchKey is shaped like the proxy's hottest key: who, where.
type benchKey struct{ user, tenant string }

type benchValue [8]int64

const (
	benchKeys    = 50_000 // all of them fit: what is measured is the warm path
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
	for name, zipf := range map[string]bool{"zipf": true, "uniform": false} {
		keys, order := benchData(zipf)
		b.Run(name, func(b *testing.B) { run(b, keys, order) })
	}
}

func BenchmarkGet(b *testing.B) {
	eachDistribution(b, func(b *testing.B, keys []benchKey, order []int) {
		c := New[benchKey, *benchValue](Config{Entries: benchEntries, TTL: time.Hour})
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
				if _, found, err := c.Get(ctx, keys[order[i%len(order)]], load); !found || err != nil {
					b.Error(found, err)
				}
			}
		})
	})
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
	c := New[benchKey, *benchValue](Config{Entries: benchEntries, TTL: time.Hour, NegativeTTL: time.Hour})
	defer c.Close()
	key, none := benchKey{"user", "tenant"}, benchKey{"user", "nowhere"}
	c.Put(key, &benchValue{})
	load := func(context.Context) (*benchValue, bool, error) { return nil, false, nil }
	ctx := t.Context()
	allocs := testing.AllocsPerRun(1000, func() {
		_, _, _ = c.Get(ctx, key, load)
		_, _, _ = c.Get(ctx, none, load)
		_, _, _ = c.Lookup(key)
		_, _, _ = c.Peek(none)
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
