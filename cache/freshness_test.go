package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// A load that began before an invalidation must not fill the cache after it, in either order of their ends; one that
// began after it must. FIELD section 4, pitfalls (e) and (g).
func TestALoadAndAnInvalidationInEveryOrder(t *testing.T) {
	forget := map[string]func(*Cache[string, int]){
		"Invalidate": func(c *Cache[string, int]) { c.Invalidate("k") },
		"Purge":      func(c *Cache[string, int]) { c.Purge() },
	}
	for name, forget := range forget {
		t.Run(name+" during the load", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := New[string, int](Config{Entries: 8, TTL: time.Hour})
				defer c.Close()
				release := make(chan struct{})
				var wg sync.WaitGroup
				wg.Go(func() {
					// It asked before the change: the old answer is right for it.
					if v := mustGet(t, c, "k", func(context.Context) (int, bool, error) { <-release; return 1, true, nil }); v != 1 {
						t.Errorf("first caller got %d", v)
					}
				})
				synctest.Wait()
				forget(c)
				wg.Go(func() {
					// It asked after the change: joining the load that began before would give it the past.
					if v := mustGet(t, c, "k", func(context.Context) (int, bool, error) { return 2, true, nil }); v != 2 {
						t.Errorf("caller after the invalidation got %d", v)
					}
				})
				synctest.Wait()
				close(release)
				wg.Wait()
				if v, found, ok := c.Peek("k"); v != 2 || !found || !ok {
					t.Errorf("kept %d %v %v, want the newer answer", v, found, ok)
				}
			})
		})
		t.Run(name+" during the load, nobody asks again", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := New[string, int](Config{Entries: 8, TTL: time.Hour, NegativeTTL: time.Hour})
				defer c.Close()
				for _, found := range []bool{true, false} {
					release := make(chan struct{})
					var wg sync.WaitGroup
					wg.Go(func() {
						mustGet(t, c, "k", func(context.Context) (int, bool, error) { <-release; return 1, found, nil })
					})
					synctest.Wait()
					forget(c)
					close(release)
					wg.Wait()
					if _, _, ok := c.Peek("k"); ok {
						t.Errorf("an answer (found %v) read before the invalidation was kept", found)
					}
				}
			})
		})
		t.Run(name+" before the load", func(t *testing.T) {
			c := open[int](t, Config{Entries: 8, TTL: time.Hour})
			c.Put("k", 1)
			forget(c)
			if v := mustGet(t, c, "k", func(context.Context) (int, bool, error) { return 2, true, nil }); v != 2 {
				t.Errorf("got %d", v)
			}
			if v, _, _ := c.Peek("k"); v != 2 {
				t.Errorf("kept %d", v)
			}
		})
	}
}

func TestPutTakesThePlaceOfALoadUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New[string, int](Config{Entries: 8, TTL: time.Hour})
		defer c.Close()
		release := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			mustGet(t, c, "k", func(context.Context) (int, bool, error) { <-release; return 1, true, nil })
		})
		synctest.Wait()
		c.Put("k", 2)
		close(release)
		wg.Wait()
		if v, _, _ := c.Peek("k"); v != 2 {
			t.Errorf("kept %d", v)
		}
	})
}

func TestALoadOlderThanTheTTLIsNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := newFakeClock()
		c := New[string, int](Config{Entries: 8, TTL: 5 * time.Second, LoadTimeout: time.Hour, Clock: clock.Now})
		defer c.Close()
		release := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			mustGet(t, c, "k", func(context.Context) (int, bool, error) { <-release; return 1, true, nil })
		})
		synctest.Wait()
		clock.step(5 * time.Second)
		if v := mustGet(t, c, "k", func(context.Context) (int, bool, error) { return 2, true, nil }); v != 2 {
			t.Errorf("got %d", v)
		}
		close(release)
		wg.Wait()
	})
}

// The model test: any sequence of loads that begin and end in any order, puts, invalidations and clock steps.
// Everything an answer could depend on is numbered, so that "too old" can be said exactly.

type action struct {
	kind string
	key  string
	n    int
}

const modelTTL = 10 * time.Second

// truth is what a load reads: when it read, by the count of actions and by the clock.
type truth struct {
	order int
	at    time.Time
}

type pendingLoad struct {
	key     string
	release chan struct{}
	done    bool
}

// model runs actions against a real cache inside a synctest bubble.
type model struct {
	clock   *fakeClock
	cache   *Cache[string, truth]
	order   int
	changed map[string]int // order of the key's last invalidation
	pending []*pendingLoad
	wg      sync.WaitGroup
	mu      sync.Mutex
	faults  []error
}

func (m *model) fault(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, fmt.Errorf(format, args...))
}

// judge says whether an answer may be used by a caller that asked at (order, now).
func (m *model) judge(what, key string, v truth, asked int, changed int, now time.Time) {
	if v.order <= changed {
		m.fault("%s(%s) at %d answered what was read at %d, invalidated at %d", what, key, asked, v.order, changed)
	}
	if age := now.Sub(v.at); age >= modelTTL {
		m.fault("%s(%s) at %d answered what is %v old", what, key, asked, age)
	}
}

func (m *model) get(key string, release chan struct{}) {
	asked, changed, now := m.order, m.changed[key], m.clock.Now()
	m.wg.Go(func() {
		v, found, err := m.cache.Get(context.Background(), key, func(context.Context) (truth, bool, error) {
			read := truth{order: asked, at: m.clock.Now()}
			if release != nil {
				<-release
			}
			return read, true, nil
		})
		if err != nil || !found {
			m.fault("Get(%s): %v %v", key, found, err)
			return
		}
		m.judge("Get", key, v, asked, changed, now)
	})
	synctest.Wait()
}

func (m *model) do(a action) {
	m.order++
	switch a.kind {
	case "get":
		m.get(a.key, nil)
	case "begin":
		p := &pendingLoad{key: a.key, release: make(chan struct{})}
		m.pending = append(m.pending, p)
		m.get(a.key, p.release)
	case "end":
		if len(m.pending) > 0 {
			if p := m.pending[a.n%len(m.pending)]; !p.done {
				p.done = true
				close(p.release)
				synctest.Wait()
			}
		}
	case "peek":
		if v, found, ok := m.cache.Peek(a.key); ok {
			if !found {
				m.fault("Peek(%s): negative from nowhere", a.key)
			}
			m.judge("Peek", a.key, v, m.order, m.changed[a.key], m.clock.Now())
		}
	case "put":
		m.cache.Put(a.key, truth{order: m.order, at: m.clock.Now()})
	case "invalidate":
		m.changed[a.key] = m.order
		m.cache.Invalidate(a.key)
	case "purge":
		for _, key := range modelKeys {
			m.changed[key] = m.order
		}
		m.cache.Purge()
	case "step":
		m.clock.step(time.Duration(a.n) * time.Second)
	}
}

var modelKeys = []string{"a", "b", "c"}

func TestModelNothingOlderThanTheTTLOrTheLastInvalidationIsEverAnswered(t *testing.T) {
	actions := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) action {
		return action{
			kind: rapid.SampledFrom([]string{"get", "get", "begin", "begin", "end", "end", "peek", "put", "invalidate", "purge", "step"}).Draw(t, "kind"),
			key:  rapid.SampledFrom(modelKeys).Draw(t, "key"),
			n:    rapid.IntRange(0, 12).Draw(t, "n"),
		}
	}), 1, 60)
	rapid.Check(t, func(rt *rapid.T) {
		script := actions.Draw(rt, "script")
		entries := rapid.IntRange(1, 4).Draw(rt, "entries")
		var faults []error
		synctest.Test(t, func(*testing.T) {
			m := &model{clock: newFakeClock(), changed: make(map[string]int)}
			m.cache = New[string, truth](Config{Entries: entries, TTL: modelTTL, LoadTimeout: time.Hour, Clock: m.clock.Now})
			for _, a := range script {
				m.do(a)
			}
			for _, p := range m.pending {
				if !p.done {
					close(p.release)
				}
			}
			m.wg.Wait()
			if n := m.cache.Len(); n > entries+1 {
				m.fault("%d entries, bound %d", n, entries)
			}
			m.cache.Close()
			faults = m.faults
		})
		if err := errors.Join(faults...); err != nil {
			rt.Fatalf("%v", err)
		}
	})
}

// Many goroutines, the race detector and a counter that only grows: an answer must never be from before the last
// change that its caller knew of.
func TestUnderContentionNobodySeesThePast(t *testing.T) {
	c := New[int, int64](Config{Entries: 64, TTL: time.Hour})
	defer c.Close()
	const keys, writers, readers, rounds = 4, 2, 6, 3000
	var source [keys]struct {
		sync.Mutex
		version int64
	}
	read := func(k int) int64 {
		source[k].Lock()
		defer source[k].Unlock()
		return source[k].version
	}
	var committed [keys]struct {
		sync.Mutex
		version int64 // changes whose invalidation has been made
	}
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for i := range rounds {
				k := i % keys
				source[k].Lock()
				source[k].version++
				v := source[k].version
				source[k].Unlock()
				if i%50 == 0 {
					c.Purge()
				} else {
					c.Invalidate(k)
				}
				committed[k].Lock()
				committed[k].version = max(committed[k].version, v)
				committed[k].Unlock()
			}
		})
	}
	for range readers {
		wg.Go(func() {
			for i := range rounds {
				k := i % keys
				committed[k].Lock()
				atLeast := committed[k].version
				committed[k].Unlock()
				v, _, err := c.Get(t.Context(), k, func(context.Context) (int64, bool, error) { return read(k), true, nil })
				if err != nil || v < atLeast {
					t.Errorf("key %d: version %d after %d was in force (%v)", k, v, atLeast, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
