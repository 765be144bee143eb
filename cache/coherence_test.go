package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// thing is what answers of these tests depend on.
type thing string

var errDown = errors.New("source is down")

// world is a source with a coherence, under a clock of its own.
type world struct {
	*Coherence
	clock *fakeClock
}

func newWorld(cfg CoherenceConfig) *world {
	w := &world{clock: newFakeClock()}
	cfg.Clock = w.clock.Now
	cfg.Unreadable = func(err error) bool { return errors.Is(err, errDown) }
	w.Coherence = NewCoherence(cfg)
	w.Looked(w.clock.Now())
	return w
}

// byValue ties an answer to the thing that has its name: it is known once the load has ended.
func byValue(tags []Tag, key, value string, _ bool) []Tag {
	return append(tags, TagOf(thing("key "+key)), TagOf(thing(value)))
}

func (w *world) cache(t testing.TB, cfg Config) *Cache[string, string] {
	c := NewCoherent(cfg, Depends[string, string]{
		Coherence: w.Coherence, On: []Tag{TagOf(thing("everything"))}, Tags: byValue,
	})
	t.Cleanup(c.Close)
	return c
}

func answering(value string, found bool) func(context.Context) (string, bool, error) {
	return func(context.Context) (string, bool, error) { return value, found, nil }
}

func failing(context.Context) (string, bool, error) { return "", false, errDown }

func mustFind(t testing.TB, c *Cache[string, string], key, want string, load func(context.Context) (string, bool, error)) {
	t.Helper()
	if got, found, err := c.Get(t.Context(), key, load); got != want || found != (want != "") || err != nil {
		t.Errorf("Get(%q) = %q %v %v, want %q", key, got, found, err, want)
	}
}

func hourly() CoherenceConfig { return CoherenceConfig{Heartbeat: time.Hour, MaxStale: time.Hour} }

func roomy() Config {
	return Config{Entries: 64, TTL: 24 * time.Hour, NegativeTTL: 24 * time.Hour, LoadTimeout: time.Second}
}

func TestAnInvalidationForgetsWhatDependsOnTheThingAndNothingElse(t *testing.T) {
	w := newWorld(hourly())
	c := w.cache(t, roomy())
	load := func() {
		mustFind(t, c, "a", "x", answering("x", true))
		mustFind(t, c, "b", "x", answering("x", true))
		mustFind(t, c, "c", "y", answering("y", true))
		mustFind(t, c, "none", "", answering("", false))
	}
	for name, want := range map[string]string{
		"x": "c none", "y": "a b none", "key a": "b c none", "key none": "a b c", "everything": "", "nothing": "a b c none",
	} {
		load()
		w.Invalidate(TagOf(thing(name)))
		if got := keptKeys(c); got != want {
			t.Errorf("after %q: %q is kept, want %q", name, got, want)
		}
	}
	load()
	w.InvalidateAll()
	if got := keptKeys(c); got != "" || w.State().Resets != 1 {
		t.Errorf("after everything was invalidated %q is kept", got)
	}
	load()
	w.Invalidate()
	if got := keptKeys(c); got != "a b c none" {
		t.Errorf("after an invalidation of nothing: %q", got)
	}
}

func keptKeys(c *Cache[string, string]) string {
	list := ""
	for _, key := range []string{"a", "b", "c", "none"} {
		if _, _, ok := c.Peek(key); ok {
			list += " " + key
		}
	}
	if list == "" {
		return ""
	}
	return list[1:]
}

func TestWhatWasInvalidatedMakesRoom(t *testing.T) {
	w := newWorld(hourly())
	c := w.cache(t, roomy())
	mustFind(t, c, "a", "x", answering("x", true))
	w.Invalidate(TagOf(thing("x")))
	c.Lookup("a")
	if c.Len() != 0 {
		t.Errorf("%d entries", c.Len())
	}
}

// The race that put old facts behind revocations elsewhere, in both orders, with a thing that only the answer names.
func TestALoadThatBeganBeforeAnInvalidationNeverFillsTheCacheAfterIt(t *testing.T) {
	forget := map[string]func(*world){
		"the thing in the answer": func(w *world) { w.Invalidate(TagOf(thing("old"))) },
		"the key's thing":         func(w *world) { w.Invalidate(TagOf(thing("key k"))) },
		"what all depend on":      func(w *world) { w.Invalidate(TagOf(thing("else")), TagOf(thing("everything"))) },
		"everything":              func(w *world) { w.InvalidateAll() },
	}
	for name, forget := range forget {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(hourly())
				c := w.cache(t, roomy())
				release := make(chan struct{})
				var wg sync.WaitGroup
				wg.Go(func() {
					// It asked before the change: the old answer is right for it.
					mustFind(t, c, "k", "old", func(context.Context) (string, bool, error) { <-release; return "old", true, nil })
				})
				synctest.Wait()
				forget(w)
				wg.Go(func() {
					// It asked after the change: it may wait for the load under way, but not believe it.
					mustFind(t, c, "k", "new", answering("new", true))
				})
				synctest.Wait()
				close(release)
				wg.Wait()
				if v, _, ok := c.Peek("k"); v != "new" || !ok {
					t.Errorf("kept %q %v", v, ok)
				}
			})
		})
		t.Run(name+", nobody asks again", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(hourly())
				c := w.cache(t, roomy())
				release := make(chan struct{})
				var wg sync.WaitGroup
				wg.Go(func() {
					mustFind(t, c, "k", "old", func(context.Context) (string, bool, error) { <-release; return "old", true, nil })
				})
				synctest.Wait()
				forget(w)
				close(release)
				wg.Wait()
				if _, _, ok := c.Peek("k"); ok || c.Len() != 0 {
					t.Error("what was read before the invalidation is kept")
				}
			})
		})
		t.Run(name+" first, then the load", func(t *testing.T) {
			w := newWorld(hourly())
			c := w.cache(t, roomy())
			forget(w)
			mustFind(t, c, "k", "old", answering("old", true))
			mustFind(t, c, "k", "old", answering("newer", true)) // from memory
		})
	}
}

func TestAnInvalidationOfOtherThingsDisturbsNoLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(hourly())
		c := w.cache(t, roomy())
		release := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			mustFind(t, c, "k", "v", func(context.Context) (string, bool, error) { <-release; return "v", true, nil })
		})
		synctest.Wait()
		w.Invalidate(TagOf(thing("other")))
		wg.Go(func() { mustFind(t, c, "k", "v", answering("loaded twice", true)) })
		synctest.Wait()
		close(release)
		wg.Wait()
		if v, _, ok := c.Peek("k"); v != "v" || !ok {
			t.Errorf("kept %q %v", v, ok)
		}
	})
}

// What did not exist and was asked for must be found once it does.
func TestANegativeAnswerEndsWhenTheThingComesToBe(t *testing.T) {
	w := newWorld(hourly())
	c := w.cache(t, roomy())
	mustFind(t, c, "k", "", answering("", false))
	mustFind(t, c, "k", "", answering("new", true)) // remembered that there is none
	w.Invalidate(TagOf(thing("key k")))
	mustFind(t, c, "k", "new", answering("new", true))
}

func TestACacheMadeLaterIsCoherentToo(t *testing.T) {
	w := newWorld(hourly())
	first, second := w.cache(t, roomy()), w.cache(t, roomy())
	mustFind(t, first, "k", "v", answering("v", true))
	mustFind(t, second, "k", "v", answering("v", true))
	w.Invalidate(TagOf(thing("v")))
	for _, c := range []*Cache[string, string]{first, second} {
		if _, _, ok := c.Peek("k"); ok {
			t.Error("a cache did not hear of it")
		}
	}
}

func TestPutIsForgottenLikeALoad(t *testing.T) {
	w := newWorld(hourly())
	c := w.cache(t, roomy())
	c.Put("k", "v")
	if v, found, ok := c.Lookup("k"); v != "v" || !found || !ok {
		t.Fatalf("kept %q %v %v", v, found, ok)
	}
	w.Invalidate(TagOf(thing("v")))
	if _, _, ok := c.Lookup("k"); ok {
		t.Error("still kept")
	}
}

// A process that stood still after it had read its memory must not take the next look for the one that it relied on.
func TestAProcessThatStoodStillTakesNothingOldForCurrent(t *testing.T) {
	now := newFakeClock()
	freeze := func() {}
	co := NewCoherence(CoherenceConfig{Heartbeat: time.Second, MaxStale: time.Minute, Clock: func() time.Time {
		f := freeze
		freeze = func() {}
		f()
		return now.Now()
	}})
	co.Looked(now.Now())
	c := NewCoherent(roomy(), Depends[string, string]{Coherence: co, Tags: byValue})
	defer c.Close()
	c.Put("k", "old")
	freeze = func() {
		now.step(time.Hour)
		co.Invalidate(TagOf(thing("old"))) // on waking up others were faster: they looked
		co.Looked(now.Now())
	}
	if v, _, ok := c.Lookup("k"); ok {
		t.Errorf("answered %q", v)
	}
}

func TestMemoryAnswersOnlyWhileSomebodyLooks(t *testing.T) {
	w := newWorld(CoherenceConfig{Heartbeat: time.Second, MaxStale: time.Minute})
	c := w.cache(t, roomy())
	mustFind(t, c, "k", "1", answering("1", true))
	w.clock.step(time.Second - 1)
	mustFind(t, c, "k", "1", answering("2", true))
	w.clock.step(1)
	if w.Current() || w.State().Current {
		t.Error("still current a heartbeat after the look began")
	}
	mustFind(t, c, "k", "2", answering("2", true))
	mustFind(t, c, "k", "3", answering("3", true)) // what was read a moment ago does not answer either
	if n := w.State().ReadsThrough; n != 2 {
		t.Errorf("%d reads through", n)
	}
	w.Looked(w.clock.Now())
	mustFind(t, c, "k", "3", answering("4", true))
	if s := w.State(); !s.Current || s.Lag != 0 || !s.LastLook.Equal(w.clock.Now()) {
		t.Errorf("state %+v", s)
	}
}

func TestCurrentGoesByTheClockThatShowsMore(t *testing.T) {
	co := NewCoherence(CoherenceConfig{Heartbeat: 100, MaxStale: 1000})
	for _, c := range []struct {
		name           string
		mono, wall     int64
		current, stale bool
	}{
		{"now", 0, 0, true, false},
		{"just within", 99, 99, true, false},
		{"by neither clock", 100, 100, false, true},
		{"the machine slept: only the wall clock went on", 1, 100, false, true},
		{"the wall clock was set back", 100, -5000, false, true},
		{"to the last", 1099, 1099, false, true},
		{"past max_stale", 1100, 1100, false, false},
		{"past max_stale by the wall clock alone", 1, 1100, false, false},
		{"past max_stale by the monotonic clock alone", 1100, -1, false, false},
		{"before the look", -1, -1, false, false},
	} {
		v := view{of: co, look: &look{moment: moment{5000, 1_000_000}}}
		now := moment{5000 + c.mono, 1_000_000 + c.wall}
		if got := v.holds(now); got != c.current {
			t.Errorf("%s: current %v", c.name, got)
		}
		if _, got := v.ceased(now); got != c.stale {
			t.Errorf("%s: may answer stale %v", c.name, got)
		}
	}
	if co.view().holds(moment{}) {
		t.Error("current without any look")
	}
	if _, ok := co.view().ceased(moment{}); ok {
		t.Error("stale without any look")
	}
}

func TestWhatCannotBeReadIsAnsweredFromMemoryUntilMaxStale(t *testing.T) {
	for _, c := range []struct {
		name     string
		maxStale time.Duration
		after    time.Duration // the last look
		want     string
	}{
		{"while current", time.Minute, time.Second - 1, "v"},
		{"when it ceased", time.Minute, time.Second, "v"},
		{"just before the end", time.Minute, 61*time.Second - 1, "v"},
		{"at the end", time.Minute, 61 * time.Second, ""},
		{"long after it", time.Minute, time.Hour, ""},
		{"max_stale 0", 0, time.Second, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(CoherenceConfig{Heartbeat: time.Second, MaxStale: c.maxStale})
			cache := w.cache(t, roomy())
			mustFind(t, cache, "k", "v", answering("v", true))
			mustFind(t, cache, "none", "", answering("", false))
			w.clock.step(c.after)
			got, found, err := cache.Get(t.Context(), "k", failing)
			if got != c.want || found != (c.want != "") || c.want == "" != errors.Is(err, errDown) {
				t.Errorf("Get = %q %v %v", got, found, err)
			}
			if c.after < time.Second {
				return
			}
			if _, found, err := cache.Get(t.Context(), "none", failing); found || !errors.Is(err, errDown) {
				t.Errorf("that there is none: %v %v, want an error", found, err)
			}
			if _, found, err := cache.Get(t.Context(), "never read", failing); found || !errors.Is(err, errDown) {
				t.Errorf("never read: %v %v", found, err)
			}
		})
	}
}

func TestStaleAnswersKeepToTheTTLOfWhenMemoryCeasedToBeCurrent(t *testing.T) {
	w := newWorld(CoherenceConfig{Heartbeat: time.Second, MaxStale: time.Minute})
	c := w.cache(t, Config{Entries: 8, TTL: 10 * time.Second, LoadTimeout: time.Second})
	mustFind(t, c, "ended", "v", answering("v", true))
	w.clock.step(10 * time.Second)
	w.Looked(w.clock.Now())
	mustFind(t, c, "lives", "v", answering("v", true))
	if _, found, err := c.Get(t.Context(), "ended", failing); found || !errors.Is(err, errDown) {
		t.Errorf("past its TTL and current: %v %v", found, err)
	}
	w.clock.step(50 * time.Second)
	mustFind(t, c, "lives", "v", failing) // past its TTL, but not when memory ceased to be current
	if _, found, err := c.Get(t.Context(), "ended", failing); found || !errors.Is(err, errDown) {
		t.Errorf("past its TTL before: %v %v", found, err)
	}
	mustFind(t, c, "lives", "v2", answering("v2", true))
	mustFind(t, c, "lives", "v2", failing) // read since
	if n := w.State().StaleAnswers; n != 2 {
		t.Errorf("%d stale answers", n)
	}
	w.Invalidate(TagOf(thing("v2")))
	if _, found, err := c.Get(t.Context(), "lives", failing); found || !errors.Is(err, errDown) {
		t.Errorf("known to have changed: %v %v", found, err)
	}
}

func TestOnlyAnUnreadableSourceIsStoodInForByMemory(t *testing.T) {
	w := newWorld(CoherenceConfig{Heartbeat: time.Second, MaxStale: time.Minute})
	c := w.cache(t, roomy())
	mustFind(t, c, "k", "v", answering("v", true))
	w.clock.step(2 * time.Second)
	broken := errors.New("an answer that makes no sense")
	if _, found, err := c.Get(t.Context(), "k", func(context.Context) (string, bool, error) { return "", false, broken }); found || !errors.Is(err, broken) {
		t.Errorf("%v %v", found, err)
	}
	if _, found, err := c.Get(t.Context(), "k", func(context.Context) (string, bool, error) { panic("at the source") }); found || err == nil {
		t.Errorf("%v %v", found, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, found, err := c.Get(gone, "k", failing); found || err == nil {
		t.Errorf("a caller that is gone: %v %v", found, err)
	}
	mustFind(t, c, "k", "", answering("", false))
	if _, found, err := c.Get(t.Context(), "k", failing); found || err == nil {
		t.Errorf("what was found gone came back: %v %v", found, err)
	}
}

func TestAFrozenSourceHoldsADecisionForItsTimeAndNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(CoherenceConfig{Heartbeat: time.Second, MaxStale: time.Minute})
		c := NewCoherent(roomy(), Depends[string, string]{Coherence: w.Coherence, Tags: byValue})
		defer c.Close()
		for _, k := range []string{"a", "b", "c"} {
			mustFind(t, c, k, k, answering(k, true))
		}
		w.clock.step(2 * time.Second)
		frozen := func(ctx context.Context) (string, bool, error) { <-ctx.Done(); return "", false, errDown }
		began := time.Now()
		ctx := WithDecision(t.Context(), time.Second)
		for _, k := range []string{"a", "b", "c"} {
			if v, found, err := c.Get(ctx, k, frozen); v != k || !found || err != nil {
				t.Errorf("Get(%q) = %q %v %v", k, v, found, err)
			}
		}
		if took := time.Since(began); took > 1500*time.Millisecond {
			t.Errorf("one decision took %v", took)
		}
		// A load that others wait for takes no one longer than its own time.
		began = time.Now()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { mustFind(t, c, "a", "a", frozen) })
		}
		wg.Wait()
		if took := time.Since(began); took > 1500*time.Millisecond {
			t.Errorf("twenty took %v", took)
		}
	})
}

// While memory is not current a load counts for those who had asked when it began: the others share the next one.
func TestReadsThroughAreSharedByWhoAskedBeforeTheyBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(CoherenceConfig{})
		c := NewCoherent(roomy(), Depends[string, string]{Coherence: w.Coherence})
		defer c.Close()
		var loads atomic.Int64
		release := make(chan struct{})
		slow := func(context.Context) (string, bool, error) {
			n := loads.Add(1)
			<-release
			return fmt.Sprint(n), true, nil
		}
		var wg sync.WaitGroup
		wg.Go(func() { mustFind(t, c, "k", "1", slow) })
		synctest.Wait()
		for range 50 {
			wg.Go(func() { mustFind(t, c, "k", "2", slow) })
		}
		synctest.Wait()
		if n := loads.Load(); n != 1 {
			t.Errorf("%d loads at once", n)
		}
		close(release)
		wg.Wait()
		if n := loads.Load(); n != 2 {
			t.Errorf("%d loads for 51 callers", n)
		}
	})
}

func TestTagsOfThingsOfDifferentKindsDiffer(t *testing.T) {
	type person struct{ kind, id string }
	seen := map[Tag]string{}
	for _, p := range []person{{"a", "bc"}, {"ab", "c"}, {"", "abc"}, {"user", "1"}, {"tenant", "1"}} {
		tag := TagOf(p)
		if other, ok := seen[tag]; ok {
			t.Errorf("%v and %s have one tag", p, other)
		}
		seen[tag] = fmt.Sprint(p)
		if tag != TagOf(p) {
			t.Error("a tag changes")
		}
	}
}
