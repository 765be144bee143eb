package denials

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// log is a Store that keeps copies of what it was given, or refuses.
type log struct {
	mu      sync.Mutex
	batches []catalog.DenialBatch
	err     error
}

func (l *log) RecordDenials(_ context.Context, b *catalog.DenialBatch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	l.batches = append(l.batches, *b)
	return nil
}

func (l *log) refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *log) total() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.batches {
		n += l.batches[i].Total()
	}
	return n
}

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newCounter(t *testing.T, out *bytes.Buffer) (*Counter, *log, *clock) {
	t.Helper()
	store, now := &log{}, &clock{now: time.Date(2026, 6, 1, 12, 0, 10, 0, time.UTC)}
	cfg := Config{Clock: now.Now}
	if out != nil {
		cfg.Log = slog.New(slog.NewTextHandler(out, nil))
	}
	c := New(cfg)
	c.steady = now.Now
	c.Start(store)
	t.Cleanup(c.Close)
	return c, store, now
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestOneRowForEachUserTenantCodeAndMinute(t *testing.T) {
	c, store, now := newCounter(t, nil)
	for range 3 {
		c.Count("ann", "acme", "role_required", addr("192.0.2.1"))
	}
	c.Count("ann", "acme", "role_required", addr("198.51.100.9")) // from anywhere
	c.Count("ann", "", "no_access", addr("192.0.2.1"))
	c.Count("bob", "acme", "role_required", addr("192.0.2.1"))
	if c.Flush(t.Context()); len(store.batches) != 0 {
		t.Fatal("a minute was written before it was over")
	}
	now.add(50 * time.Second)
	c.Count("ann", "acme", "role_required", addr("192.0.2.1"))
	if !c.Flush(t.Context()) || len(store.batches) != 1 {
		t.Fatalf("%d batches", len(store.batches))
	}
	b := store.batches[0]
	want := []catalog.DenialCount{
		{User: "ann", Tenant: "acme", Code: "role_required", Count: 4},
		{User: "bob", Tenant: "acme", Code: "role_required", Count: 1}, // each user's highest first
		{User: "ann", Code: "no_access", Count: 1},
	}
	if b.Minute != "2026-06-01T12:00:00" || len(b.Rest) != 0 || fmt.Sprint(b.Rows) != fmt.Sprint(want) {
		t.Errorf("got %+v", b)
	}
	now.add(time.Minute)
	c.Flush(t.Context())
	if len(store.batches) != 2 || store.batches[1].Minute != "2026-06-01T12:01:00" || store.batches[1].Total() != 1 {
		t.Errorf("the second minute: %+v", store.batches)
	}
}

func TestStrangersAreCountedByNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.77": "192.0.2.0/24", "::ffff:192.0.2.78": "192.0.2.0/24", "2001:db8:1:2:3::4": "2001:db8:1:2::/64",
		"fe80::1%eth0": "fe80::/64",
	} {
		if got := Network(addr(in)).String(); got != want {
			t.Errorf("%s counts as %s, want %s", in, got, want)
		}
	}
	c, store, now := newCounter(t, nil)
	for _, a := range []string{"192.0.2.77", "::ffff:192.0.2.78", "192.0.2.1"} {
		c.Count("", "", "unauthenticated", addr(a))
	}
	c.Count("", "", "unauthenticated", netip.Addr{})
	now.add(time.Minute)
	c.Flush(t.Context())
	want := []catalog.DenialCount{
		{Network: "192.0.2.0/24", Code: "unauthenticated", Count: 3}, {Code: "unauthenticated", Count: 1},
	}
	if got := store.batches[0].Rows; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v", got)
	}
}

// A flood from everywhere takes no row from those who are known, and no denial is lost.
func TestFloodIsBoundedAndHidesNoUser(t *testing.T) {
	c, store, now := newCounter(t, nil)
	for i := range 5000 {
		c.Count("", "", "unauthenticated", netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}))
	}
	for i := range 40 {
		c.Count(catalog.UserID(fmt.Sprint("user", i)), "acme", "no_access", addr("192.0.2.1"))
	}
	if n := len(c.strangers); n != keep {
		t.Errorf("%d counts are told apart", n)
	}
	now.add(time.Minute)
	c.Flush(t.Context())
	b := store.batches[0]
	for i := range 40 {
		if b.Rows[i].User == "" {
			t.Fatalf("row %d is a stranger's", i)
		}
	}
	if b.Total() != 5040 || b.Rest["unauthenticated"] != 4000 {
		t.Errorf("total %d, rest %v", b.Total(), b.Rest)
	}
	if s := c.State(); s.Counted != 5040 || s.Recorded != 5040 || s.Merged != 4000 || s.Lost != 0 {
		t.Errorf("state %+v", s)
	}
}

// One user who is refused in a thousand ways takes a share of the minute's rows; others have theirs, and what is beyond the
// share still says who it was.
func TestOneUserTakesNoRowsFromOthers(t *testing.T) {
	c, store, now := newCounter(t, nil)
	for range 5 {
		for i := range 1000 {
			c.Count("mallory", catalog.TenantID(fmt.Sprint("t", i/4)), []string{"role_required", "tier_required", "feature_required", "no_route"}[i%4], addr("192.0.2.1"))
		}
	}
	for i := range 900 {
		c.Count(catalog.UserID(fmt.Sprint("user", i)), "acme", "no_access", addr("192.0.2.1"))
	}
	now.add(time.Minute)
	c.Flush(t.Context())
	b, of, rest := store.batches[0], map[catalog.UserID]int{}, int64(0)
	for _, row := range b.Rows {
		of[row.User]++
		if row.Codes != nil {
			rest += row.Count
			if row.User != "mallory" || row.Tenant != "" || len(row.Codes) != 4 {
				t.Errorf("the rest: %+v", row)
			}
		}
	}
	if len(of) != 901 || of["mallory"] != share+1 || rest != 5*(1000-share) || b.Total() != 5900 || len(b.Rest) != 0 {
		t.Errorf("%d users, of whom mallory has %d rows, %d beyond the share, total %d, rest %v", len(of), of["mallory"], rest, b.Total(), b.Rest)
	}
	if s := c.State(); s.Merged != 0 || s.Counted != 5900 || s.Recorded != 5900 {
		t.Errorf("state %+v", s)
	}
}

// While the minute has a row for every count, each has its row, one user's too.
func TestOneUserAloneHasEveryRow(t *testing.T) {
	c, store, now := newCounter(t, nil)
	for i := range keep {
		c.Count("ann", catalog.TenantID(fmt.Sprint("t", i)), "role_required", addr("192.0.2.1"))
	}
	now.add(time.Minute)
	c.Flush(t.Context())
	of := map[catalog.TenantID]bool{}
	for _, row := range store.batches[0].Rows {
		of[row.Tenant] = row.Count == 1 && row.Code == "role_required"
	}
	if b := store.batches[0]; len(b.Rows) != keep || len(of) != keep || len(b.Rest) != 0 {
		t.Errorf("%d rows for %d tenants, rest %v", len(b.Rows), len(of), b.Rest)
	}
}

// Where there are more counts than rows, everybody has one before anybody has a second.
func TestEveryUserHasARowBeforeOneHasTwo(t *testing.T) {
	c, store, now := newCounter(t, nil)
	for u := range 100 {
		for i := range share + 5 {
			for range 3 {
				c.Count(catalog.UserID(fmt.Sprint("many", u)), catalog.TenantID(fmt.Sprint("t", i)), "role_required", addr("192.0.2.1"))
			}
		}
	}
	for u := range 700 {
		c.Count(catalog.UserID(fmt.Sprint("one", u)), "acme", "no_access", addr("192.0.2.1"))
	}
	now.add(time.Minute)
	c.Flush(t.Context())
	b, of, rests := store.batches[0], map[catalog.UserID]int{}, 0
	for _, row := range b.Rows {
		of[row.User]++
		if row.Codes != nil {
			rests++
		}
	}
	total := int64(100*(share+5)*3 + 700)
	if len(b.Rows) != keep || len(of) != 800 || rests != 100 || b.Total() != total {
		t.Errorf("%d rows of %d users, %d of them rests, total %d of %d", len(b.Rows), len(of), rests, b.Total(), total)
	}
	if s := c.State(); s.Merged == 0 || s.Recorded != total {
		t.Errorf("state %+v", s)
	}
}

// A clock that jumps holds nothing back: forward and back again, back by much, back by less than a minute.
func TestJumpsOfTheClockHoldNoCountBack(t *testing.T) {
	c, store, now := newCounter(t, nil)
	passed := time.Duration(0) // by a clock that nobody sets
	c.steady = func() time.Time { return time.Unix(0, 0).Add(passed) }
	want := int64(0)
	for name, jump := range map[string][]time.Duration{
		"an hour ahead and back": {time.Hour, -time.Hour}, "an hour back": {-time.Hour}, "forty seconds back": {-40 * time.Second},
		"a day ahead": {24 * time.Hour}, "back again and again": {-50 * time.Second, -50 * time.Second, -50 * time.Second},
	} {
		for _, d := range append(jump, 0) {
			now.add(d)
			c.Count("ann", "acme", "no_access", addr("192.0.2.1"))
			want++
		}
		for range 12 {
			passed += lookEvery
			now.add(lookEvery)
			c.Flush(t.Context())
		}
		if got := store.total(); got != want {
			t.Errorf("%s: a minute later %d of %d are written", name, got, want)
		}
	}
}

func TestCountsOutliveAnUnwritableDatabase(t *testing.T) {
	var out bytes.Buffer
	c, store, now := newCounter(t, &out)
	store.refuse(errors.New("down"))
	const minutes = 2 * keepBatches
	for range minutes {
		for u := range 30 {
			c.Count(catalog.UserID(fmt.Sprint(u)), "acme", "no_access", addr("192.0.2.1"))
		}
		now.add(time.Minute)
		if c.Flush(t.Context()) {
			t.Fatal("nothing was written")
		}
	}
	if len(c.waiting) > keepBatches || c.rows > keepRows {
		t.Errorf("%d batches with %d rows wait", len(c.waiting), c.rows)
	}
	store.refuse(nil)
	if !c.Flush(t.Context()) || store.total() != 30*minutes {
		t.Errorf("%d of %d were written", store.total(), 30*minutes)
	}
	first, last := store.batches[0], store.batches[len(store.batches)-1]
	if first.Minute != "2026-06-01T12:00:00" || first.Until != "2026-06-02T12:00:00" || len(last.Rows) != 30 {
		t.Errorf("first %s to %s, last with %d rows", first.Minute, first.Until, len(last.Rows))
	}
	if n := strings.Count(out.String(), "cannot be recorded"); n != 1 {
		t.Errorf("%d lines say that it does not work:\n%s", n, out.String())
	}
	if !strings.Contains(out.String(), "again") || c.State().Merged == 0 {
		t.Errorf("state %+v, log:\n%s", c.State(), out.String())
	}
}

func TestCloseWritesTheMinuteUnderWay(t *testing.T) {
	c, store, _ := newCounter(t, nil)
	c.Count("ann", "acme", "no_access", addr("192.0.2.1"))
	c.Close()
	c.Close()
	if store.total() != 1 {
		t.Errorf("%d written", store.total())
	}
}

func TestWhatIsLostAtTheEndIsSaid(t *testing.T) {
	var out bytes.Buffer
	c, store, _ := newCounter(t, &out)
	store.refuse(errors.New("down"))
	c.Count("ann", "acme", "no_access", addr("192.0.2.1"))
	c.Close()
	if c.State().Lost != 1 || !strings.Contains(out.String(), "denials=1") {
		t.Errorf("state %+v, log:\n%s", c.State(), out.String())
	}
	unstarted := New(Config{})
	unstarted.Count("", "", "unauthenticated", addr("192.0.2.1"))
	unstarted.Close()
	if unstarted.State().Lost != 1 {
		t.Errorf("never started: %+v", unstarted.State())
	}
}

// The contract: written within 60 s after the minute.
func TestMinuteIsWrittenSoonAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &log{}
		c := New(Config{})
		c.Start(store)
		defer c.Close()
		c.Count("ann", "acme", "no_access", addr("192.0.2.1"))
		over := time.Now().Truncate(time.Minute).Add(time.Minute)
		for store.total() == 0 {
			time.Sleep(time.Second)
			if time.Since(over) > 10*time.Second {
				t.Fatal("it takes longer than ten seconds")
			}
		}
		if time.Now().Before(over) {
			t.Error("it was written before it was over")
		}
	})
}

func TestCountingIsSafeBesideWriting(t *testing.T) {
	c, store, now := newCounter(t, nil)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				c.Count(catalog.UserID(fmt.Sprint(g)), "acme", "no_access", addr("192.0.2.1"))
				if i%500 == 0 {
					now.add(20 * time.Second)
					c.Flush(t.Context())
				}
			}
		})
	}
	wg.Wait()
	c.Close()
	if store.total() != 16000 {
		t.Errorf("%d of 16000 were written", store.total())
	}
}

func BenchmarkCount(b *testing.B) {
	from := addr("192.0.2.1")
	for name, count := range map[string]func(c *Counter){
		"network":          func(c *Counter) { c.Count("", "", "unauthenticated", from) },
		"user":             func(c *Counter) { c.Count("ann", "acme", "no_access", from) },
		"beyond the share": func(c *Counter) { c.Count("mallory", "acme", "no_access", from) },
	} {
		b.Run(name, func(b *testing.B) {
			c := New(Config{})
			defer c.Close()
			for i := range keep {
				c.Count("mallory", catalog.TenantID(fmt.Sprint(i)), "no_access", from)
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					count(c)
				}
			})
		})
	}
}
