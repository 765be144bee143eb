package cache

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeClock is a clock that tests step; it has no monotonic reading, like a wall clock.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func newFakeClock() *fakeClock {
	return &fakeClock{now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// open makes a cache that ends with the test.
func open[V any](t testing.TB, cfg Config) *Cache[string, V] {
	t.Helper()
	c := New[string, V](cfg)
	t.Cleanup(c.Close)
	return c
}

// counting is a load that says how often it ran.
func counting(n *int) func(context.Context) (int, bool, error) {
	return func(context.Context) (int, bool, error) {
		*n++
		return *n, true, nil
	}
}

// mustGet fails the test on an error and returns the value, 0 for "not found".
func mustGet(t testing.TB, c *Cache[string, int], key string, load func(context.Context) (int, bool, error)) int {
	t.Helper()
	v, found, err := c.Get(t.Context(), key, load)
	if err != nil {
		t.Fatalf("Get(%q): %v", key, err)
	}
	if !found && v != 0 {
		t.Fatalf("Get(%q) = %d without having found it", key, v)
	}
	return v
}

func neverLoad(t testing.TB) func(context.Context) (int, bool, error) {
	return func(context.Context) (int, bool, error) {
		t.Error("loaded although the answer was kept")
		return 0, false, nil
	}
}

func TestAnswersFromMemoryUntilTheTTLAndNeverAfterIt(t *testing.T) {
	const ttl = 10 * time.Second
	for _, c := range []struct {
		name  string
		after time.Duration
		kept  bool
	}{
		{"at once", 0, true},
		{"just before the last tenth", 9*time.Second - 1, true},
		{"at the TTL", ttl, false},
		{"long after it", time.Hour, false},
		{"clock stepped back", -1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := newFakeClock()
			cache := open[int](t, Config{Entries: 8, TTL: ttl, Clock: clock.Now})
			loads := 0
			mustGet(t, cache, "k", counting(&loads))
			clock.step(c.after)
			if _, _, ok := cache.Peek("k"); ok != c.kept {
				t.Errorf("Peek: kept %v, want %v", ok, c.kept)
			}
			mustGet(t, cache, "k", counting(&loads))
			if kept := loads == 1; kept != c.kept {
				t.Errorf("loaded %d times, want kept %v", loads, c.kept)
			}
		})
	}
}

func TestAgeCountsFromWhenTheLoadBegan(t *testing.T) {
	clock := newFakeClock()
	c := open[int](t, Config{Entries: 8, TTL: 10 * time.Second, Clock: clock.Now})
	slow := func(context.Context) (int, bool, error) {
		clock.step(8 * time.Second)
		return 1, true, nil
	}
	mustGet(t, c, "k", slow)
	clock.step(2 * time.Second)
	if _, _, ok := c.Peek("k"); ok {
		t.Error("an answer read 10 s ago is still used")
	}
}

func TestAgeIsWhatTheClockShowsMore(t *testing.T) {
	read := moment{mono: 1000, wall: 1_000_000}
	for _, c := range []struct {
		name       string
		mono, wall int64
		usable     bool
	}{
		{"now", 0, 0, true},
		{"just within", 99, 99, true},
		{"just too old", 100, 100, false},
		{"the machine slept: only the wall clock went on", 1, 5000, false},
		{"the wall clock was set back", 150, -5000, false},
		{"set back, but still young", 50, -5000, true},
		{"from the future", -1, -1, false},
		{"from the future by the monotonic clock", -1, 50, false},
	} {
		if got := read.within(100, moment{read.mono + c.mono, read.wall + c.wall}); got != c.usable {
			t.Errorf("%s: usable %v", c.name, got)
		}
	}
}

func TestEntriesLoadedTogetherDoNotExpireTogether(t *testing.T) {
	ends := make(map[time.Duration]bool)
	for range 100 {
		life := jitter(10 * time.Second)
		if life > 10*time.Second || life < 9*time.Second {
			t.Fatalf("life %v", life)
		}
		ends[life] = true
	}
	if len(ends) < 50 {
		t.Errorf("100 entries have %d different ends", len(ends))
	}
	if jitter(3) != 3 {
		t.Error("a TTL too short for a tenth was changed")
	}
}

func TestNegativeAnswersHaveTheirOwnTTL(t *testing.T) {
	clock := newFakeClock()
	c := open[int](t, Config{Entries: 8, TTL: time.Minute, NegativeTTL: time.Second, Clock: clock.Now})
	loads := 0
	absent := func(context.Context) (int, bool, error) {
		loads++
		return 99, false, nil
	}
	for range 3 {
		if v, found, err := c.Get(t.Context(), "k", absent); v != 0 || found || err != nil {
			t.Fatalf("Get = %d %v %v", v, found, err)
		}
	}
	if v, found, ok := c.Lookup("k"); v != 0 || found || !ok {
		t.Errorf("Lookup = %d %v %v, want a kept negative", v, found, ok)
	}
	clock.step(time.Second)
	mustGet(t, c, "k", absent)
	if loads != 2 {
		t.Errorf("loaded %d times, want 2", loads)
	}
}

func TestNegativeTTLIsNeverLongerThanTTL(t *testing.T) {
	clock := newFakeClock()
	c := open[int](t, Config{Entries: 8, TTL: time.Second, NegativeTTL: time.Hour, Clock: clock.Now})
	mustGet(t, c, "k", func(context.Context) (int, bool, error) { return 0, false, nil })
	clock.step(time.Second)
	if _, _, ok := c.Lookup("k"); ok {
		t.Error("a negative answer outlived the TTL")
	}
}

// What is created must not stay hidden behind the answer that it does not exist, nor the reverse.
func TestOneKeyHasOneAnswer(t *testing.T) {
	clock := newFakeClock()
	c := open[int](t, Config{Entries: 8, TTL: time.Minute, NegativeTTL: time.Second, Clock: clock.Now})
	absent := func(context.Context) (int, bool, error) { return 0, false, nil }
	mustGet(t, c, "k", absent)
	c.Put("k", 7)
	if v, found, ok := c.Lookup("k"); v != 7 || !found || !ok {
		t.Errorf("after Put: %d %v %v", v, found, ok)
	}
	clock.step(time.Minute)
	mustGet(t, c, "k", absent)
	if c.Len() != 1 {
		t.Errorf("%d entries for one key", c.Len())
	}
	clock.step(time.Second)
	if _, _, ok := c.Lookup("k"); ok {
		t.Error("the positive answer came back")
	}
}

func TestNegativesWithoutTTLAreNotKeptAndEndThePositive(t *testing.T) {
	clock := newFakeClock()
	c := open[int](t, Config{Entries: 8, TTL: time.Minute, Clock: clock.Now})
	c.Put("k", 1)
	clock.step(time.Minute)
	mustGet(t, c, "k", func(context.Context) (int, bool, error) { return 0, false, nil })
	clock.step(-time.Second) // within the old entry's life
	if _, _, ok := c.Lookup("k"); ok {
		t.Error("the old positive answer is used after the key was found absent")
	}
}

func TestErrorsAreNeverKept(t *testing.T) {
	c := open[int](t, Config{Entries: 8, TTL: time.Minute, NegativeTTL: time.Minute})
	gone := errors.New("database gone")
	for range 3 {
		v, found, err := c.Get(t.Context(), "k", func(context.Context) (int, bool, error) { return 5, true, gone })
		if v != 0 || found || !errors.Is(err, gone) {
			t.Fatalf("Get = %d %v %v", v, found, err)
		}
	}
	if c.Len() != 0 {
		t.Errorf("%d entries kept", c.Len())
	}
	loads := 0
	if mustGet(t, c, "k", counting(&loads)) != 1 {
		t.Error("the load after the failure was not used")
	}
}

func TestZeroConfigKeepsNothing(t *testing.T) {
	for _, cfg := range []Config{{}, {Entries: 8}, {TTL: time.Minute}, {Entries: -1, TTL: -1, NegativeTTL: -1, LoadTimeout: -1, Loads: -1}} {
		c := open[int](t, cfg)
		loads := 0
		mustGet(t, c, "k", counting(&loads))
		mustGet(t, c, "k", counting(&loads))
		mustGet(t, c, "none", func(context.Context) (int, bool, error) { return 0, false, nil })
		c.Put("p", 1)
		if _, _, ok := c.Peek("p"); ok || loads != 2 || c.Len() != 0 {
			t.Errorf("%+v: %d loads, %d entries", cfg, loads, c.Len())
		}
		c.Invalidate("p")
		c.Purge()
	}
}

func TestEntriesAreBounded(t *testing.T) {
	for _, entries := range []int{1, 2, 7, 8, 100, 1000, 5000} {
		c := open[int](t, Config{Entries: entries, TTL: time.Hour})
		for i := range 2*entries + 100 {
			c.Put(fmt.Sprint(i), i)
		}
		if c.Len() > entries {
			t.Errorf("%d entries kept, bound %d", c.Len(), entries)
		}
	}
}

func TestShardCountIsBoundedByEntriesAndProcessors(t *testing.T) {
	for _, c := range []struct{ entries, procs, want int }{
		{0, 8, 1},
		{1, 8, 1},
		{255, 64, 1},
		{256, 64, 2},
		{100_000, 1, 4},
		{100_000, 2, 8},
		{100_000, 3, 16},
		{1 << 30, 1000, maxShards},
	} {
		if got := shardCount(c.entries, c.procs); got != c.want {
			t.Errorf("shardCount(%d, %d) = %d, want %d", c.entries, c.procs, got, c.want)
		}
	}
}

func TestShardsShareTheEntriesWithoutLosingOne(t *testing.T) {
	const want = 1001
	c := open[int](t, Config{Entries: want, TTL: time.Hour})
	got := 0
	for i := range c.shards {
		for n := range want {
			c.shards[i].fill(fmt.Sprint(n), &entry[int]{value: n, found: true, life: time.Hour})
		}
		got += c.shards[i].positive.Len()
	}
	if got != want {
		t.Errorf("shards hold %d together, want %d", got, want)
	}
}

// Asking for what does not exist must not push out what does.
func TestNegativeEntriesCannotEvictPositiveOnes(t *testing.T) {
	c := open[int](t, Config{Entries: 64, TTL: time.Hour, NegativeTTL: time.Hour})
	for i := range 32 {
		c.Put(fmt.Sprintf("real-%d", i), i)
	}
	for i := range 10_000 {
		mustGet(t, c, fmt.Sprintf("made-up-%d", i), func(context.Context) (int, bool, error) { return 0, false, nil })
	}
	for i := range 32 {
		if _, found, ok := c.Peek(fmt.Sprintf("real-%d", i)); !found || !ok {
			t.Fatalf("real-%d was pushed out", i)
		}
	}
	if c.Len() > 64+8 {
		t.Errorf("%d entries", c.Len())
	}
}

func TestUseDelaysEvictionAndPeekDoesNot(t *testing.T) {
	c := open[int](t, Config{Entries: 2, TTL: time.Hour})
	c.Put("used", 1)
	c.Put("peeked", 2)
	c.Lookup("used")
	c.Peek("peeked")
	c.Put("new", 3)
	if _, _, ok := c.Peek("used"); !ok {
		t.Error("the entry just used was evicted")
	}
	if _, _, ok := c.Peek("peeked"); ok {
		t.Error("Peek kept the oldest entry")
	}
}

// SF-1, CACHE-2: keys whose parts join to the same text are different keys.
func TestKeysOfSeveralPartsDoNotMeet(t *testing.T) {
	type key struct{ user, tenant string }
	c := New[key, string](Config{Entries: 1000, TTL: time.Hour})
	defer c.Close()
	pairs := []key{{"a", "bc"}, {"ab", "c"}, {"abc", ""}, {"", "abc"}, {"a\x00b", "c"}, {"a", "\x00bc"}}
	var wg sync.WaitGroup
	for _, k := range pairs {
		wg.Go(func() {
			want := k.user + "|" + k.tenant
			for range 100 {
				got, _, err := c.Get(t.Context(), k, func(context.Context) (string, bool, error) { return want, true, nil })
				if err != nil || got != want {
					t.Errorf("%+v got %q, %v", k, got, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestConcurrentCallersShareOneLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New[string, int](Config{Entries: 8, TTL: time.Minute})
		defer c.Close()
		release := make(chan struct{})
		loads := 0
		load := func(context.Context) (int, bool, error) {
			loads++
			<-release
			return loads, true, nil
		}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if v, found, err := c.Get(t.Context(), "k", load); v != 1 || !found || err != nil {
					t.Errorf("Get = %d %v %v", v, found, err)
				}
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		if loads != 1 {
			t.Errorf("%d loads", loads)
		}
	})
}

func TestACancelledFirstCallerDoesNotFailTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New[string, int](Config{Entries: 8, TTL: time.Minute, LoadTimeout: time.Second})
		defer c.Close()
		release := make(chan struct{})
		type traced struct{}
		var loadErr error
		load := func(ctx context.Context) (int, bool, error) {
			<-release
			loadErr = ctx.Err()
			if ctx.Value(traced{}) != "first" {
				t.Error("the load lost the first caller's values")
			}
			if _, ok := ctx.Deadline(); !ok {
				t.Error("the load has no deadline")
			}
			return 1, true, nil
		}
		first, cancel := context.WithCancel(context.WithValue(t.Context(), traced{}, "first"))
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, found, err := c.Get(first, "k", load); found || !errors.Is(err, context.Canceled) {
				t.Errorf("first: %v %v", found, err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if v, found, err := c.Get(t.Context(), "k", neverLoad(t)); v != 1 || !found || err != nil {
				t.Errorf("second: %d %v %v", v, found, err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(release)
		wg.Wait()
		if loadErr != nil {
			t.Errorf("the shared load's context ended: %v", loadErr)
		}
		if _, found, ok := c.Peek("k"); !found || !ok {
			t.Error("the answer was not kept")
		}
	})
}

func TestALoadThatPanicsOrExitsGivesEveryWaiterAnError(t *testing.T) {
	for name, end := range map[string]func(){
		"panic":     func() { panic("postgresql://u:hunter2@h/db") },
		"nil panic": func() { panic(nil) }, //nolint:govet // becomes *runtime.PanicNilError
		"goexit":    runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := New[string, int](Config{Entries: 8, TTL: time.Minute})
				defer c.Close()
				release := make(chan struct{})
				var wg sync.WaitGroup
				for range 5 {
					wg.Go(func() {
						_, found, err := c.Get(t.Context(), "k", func(context.Context) (int, bool, error) {
							<-release
							end()
							return 1, true, nil
						})
						var panicked *PanicError
						switch {
						case found || err == nil:
							t.Error("an answer came from nowhere")
						case name == "goexit" && !errors.Is(err, ErrLoadAborted):
							t.Errorf("goexit: %v", err)
						case name != "goexit" && (!errors.As(err, &panicked) || len(panicked.Stack) == 0):
							t.Errorf("panic: %v", err)
						case strings.Contains(err.Error(), "hunter2"):
							t.Errorf("LEAK-3: the error shows the panic's value: %v", err)
						}
					})
				}
				synctest.Wait()
				close(release)
				wg.Wait()
				loads := 0
				if mustGet(t, c, "k", counting(&loads)) != 1 {
					t.Error("the key does not load any more")
				}
			})
		})
	}
}

func TestALoadThatIgnoresItsDeadlineHoldsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New[string, int](Config{Entries: 8, TTL: time.Hour, LoadTimeout: time.Second})
		defer c.Close()
		release := make(chan struct{})
		stuck := func(context.Context) (int, bool, error) {
			<-release
			return 1, true, nil
		}
		began := time.Now()
		_, _, err := c.Get(t.Context(), "k", stuck)
		if !errors.Is(err, ErrLoadTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if waited := time.Since(began); waited > 2*time.Second {
			t.Errorf("waited %v", waited)
		}
		// Nobody joins a load whose time is up, and what it says at last is not kept over the newer answer.
		c2 := mustGet(t, c, "k", func(context.Context) (int, bool, error) { return 2, true, nil })
		close(release)
		synctest.Wait()
		if v, _, _ := c.Peek("k"); v != 2 || c2 != 2 {
			t.Errorf("kept %d", v)
		}
	})
}

func TestALoadsOwnTimeoutErrorReachesTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New[string, int](Config{Entries: 8, TTL: time.Hour, LoadTimeout: time.Second})
		defer c.Close()
		own := errors.New("host database unavailable")
		_, _, err := c.Get(t.Context(), "k", func(ctx context.Context) (int, bool, error) {
			<-ctx.Done()
			return 0, false, own
		})
		if !errors.Is(err, own) {
			t.Errorf("error %v", err)
		}
	})
}
