package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenantgate/tenantgate/internal/faultwire"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// hearer is a Subscriber that remembers, and wakes who waits.
type hearer struct {
	mu     sync.Mutex
	heard  []string
	resets int
	wake   chan struct{}
}

func newHearer() *hearer { return &hearer{wake: make(chan struct{}, 1)} }

func (h *hearer) Changed(changes []Change) {
	h.mu.Lock()
	for _, c := range changes {
		h.heard = append(h.heard, word(c))
	}
	h.mu.Unlock()
	h.poke()
}

func (h *hearer) Reset() {
	h.mu.Lock()
	h.resets++
	h.mu.Unlock()
	h.poke()
}

func (h *hearer) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// patience bounds every wait for another process: only what hangs takes so long, however busy the machine is.
const patience = 2 * time.Minute

// until waits until ok holds for what was heard and how often a Reset came.
func (h *hearer) until(t *testing.T, what string, ok func(heard []string, resets int) bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		h.mu.Lock()
		heard, resets := slices.Clone(h.heard), h.resets
		h.mu.Unlock()
		if ok(heard, resets) {
			return
		}
		select {
		case <-h.wake:
		case <-deadline:
			t.Fatalf("%s: heard %q and %d resets", what, heard, resets)
		}
	}
}

func (h *hearer) untilHeard(t *testing.T, change string) {
	t.Helper()
	h.until(t, change, func(heard []string, _ int) bool { return slices.Contains(heard, change) })
}

func (h *hearer) untilReset(t *testing.T, more int) {
	t.Helper()
	h.until(t, "a reset", func(_ []string, resets int) bool { return resets >= more })
}

func (h *hearer) count() (heard, resets int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.heard), h.resets
}

// poll waits until ok holds.
func poll(t *testing.T, f *Feed, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not %s: %+v", what, f.Stats())
		}
	}
}

// untilCurrent waits for a look that began after the call.
func untilCurrent(t *testing.T, f *Feed) {
	t.Helper()
	began := time.Now()
	poll(t, f, "current", func() bool {
		now := time.Now()
		age, ok := f.Age(now)
		return ok && age < now.Sub(began)
	})
}

// untilStale waits until the feed is not current any more.
func untilStale(t *testing.T, f *Feed) {
	t.Helper()
	poll(t, f, "stale", func() bool { return !f.Current(time.Now()) })
}

func watch(t *testing.T, h *HostDatabase, cfg WatchConfig) (*Feed, *hearer) {
	t.Helper()
	heard := newHearer()
	cfg.Subscribers = append(cfg.Subscribers, heard)
	f, err := h.Watch(cfg)
	must(t, err)
	t.Cleanup(f.Close)
	select {
	case <-f.First():
	case <-time.After(patience):
		t.Fatalf("no first look: %+v", f.Stats())
	}
	heard.untilReset(t, 1)
	return f, heard
}

func TestFeedTellsWhatOthersCommit(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		// A heartbeat so long that only a notification, or SQLite's poll, can be what wakes it.
		f, heard := watch(t, h, WatchConfig{Heartbeat: time.Hour})
		db := rawDB(t, url)
		execOn(t, db, "INSERT INTO core_tenants (id) VALUES ('t1')")
		heard.untilHeard(t, "tenant/t1//t1/")
		late := newHearer()
		cancel := f.Subscribe(late)
		must(t, h.Tenants.Insert(t.Context(), &TenantCatalog{ID: "t2"}))
		late.untilHeard(t, "tenant/t2//t2/")
		heard.untilHeard(t, "tenant/t2//t2/")
		cancel()
		before, _ := late.count()
		execOn(t, db, "DELETE FROM core_tenants WHERE id = 't1'")
		heard.until(t, "deleted", func(all []string, _ int) bool { return len(all) == 3 })
		if after, _ := late.count(); after != before {
			t.Error("told after it had left")
		}
		poll(t, f, "counted", func() bool { return f.Stats().Changes == 3 })
		s := f.Stats()
		if s.Changes != 3 || s.Resets != 1 || s.Err != nil || s.Looks < 2 || s.LastLook.IsZero() || s.Connects != 1 {
			t.Errorf("stats %+v", s)
		}
		if s.Listening != (h.engine == EnginePostgreSQL) || !f.Current(time.Now()) {
			t.Errorf("stats %+v", s)
		}
		f.Close()
		f.Close()
		if f.Stats().Listening {
			t.Error("a closed feed listens")
		}
	})
}

// blocker is a Subscriber that holds the feed until it is let go.
type blocker struct {
	entered, leave chan struct{}
}

func (b *blocker) Changed([]Change) {
	b.entered <- struct{}{}
	<-b.leave
}
func (b *blocker) Reset() {}

// A look counts only once everybody has been told what it found.
func TestLookCountsAfterEverybodyWasTold(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		b := &blocker{make(chan struct{}), make(chan struct{})}
		f, _ := watch(t, h, WatchConfig{Subscribers: []Subscriber{b}})
		execOn(t, rawDB(t, url), "INSERT INTO core_tenants (id) VALUES ('t1')")
		<-b.entered
		looks, now := f.Stats().Looks, time.Now()
		before, _ := f.Age(now)
		for range 3 {
			if age, ok := f.Age(now); !ok || age != before || f.Stats().Looks != looks {
				t.Errorf("a look has counted: age %s, then %s", before, age)
			}
		}
		if f.Current(now.Add(defaultHeartbeat)) {
			t.Error("current although the look has not ended")
		}
		close(b.leave)
		untilCurrent(t, f)
	})
}

type panicker struct{ times atomic.Int32 }

func (p *panicker) Changed([]Change) {
	if p.times.Add(1) == 1 {
		panic("boom")
	}
}
func (p *panicker) Reset() {}

func TestSubscriberThatPanicsMakesTheLookFail(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		p := &panicker{}
		f, heard := watch(t, h, WatchConfig{Subscribers: []Subscriber{p}})
		execOn(t, rawDB(t, url), "INSERT INTO core_tenants (id) VALUES ('t1')")
		heard.untilReset(t, 2) // what was told is unknown
		if s := f.Stats(); s.Failures != 1 {
			t.Errorf("stats %+v", s)
		}
		execOn(t, rawDB(t, url), "INSERT INTO core_tenants (id) VALUES ('t2')")
		heard.untilHeard(t, "tenant/t2//t2/")
	})
}

// More than is worth telling one by one is a reset; memory does not grow with it.
func TestVeryManyChangesAreAReset(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		log := logOf(t, h)
		fill := func(n int) {
			series := fmt.Sprintf("generate_series(1, %d) AS i", n)
			if h.engine == EngineSQLite {
				series = fmt.Sprintf("(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) SELECT i FROM n)", n)
			}
			execAs(t, url, h, "INSERT INTO tenantgate.sys_changes (kind, row_id) SELECT 'plan', i FROM "+series)
		}
		const most = 3 * lookBatch
		switch l := log.(type) {
		case *postgresLog:
			l.most = most
		case *sqliteLog:
			l.most = most
		}
		fill(most)
		largest, told := 0, 0
		whole, err := log.look(t.Context(), func(c []Change) { largest = max(largest, len(c)); told += len(c) })
		if err != nil || !whole || told != most || largest > lookBatch {
			t.Errorf("told %d in batches of %d, whole: %v, %v", told, largest, whole, err)
		}
		fill(most + 1)
		if _, whole := lookAt(t, log); whole {
			t.Error("too many changes were whole")
		}
		execOn(t, rawDB(t, url), "INSERT INTO core_tenants (id) VALUES ('t1')")
		wantChanges(t, log, "afterwards", "tenant/t1//t1/")
	})
}

// steps is a clock whose wall alone shows; tests move it.
type steps struct{ at atomic.Int64 }

func (s *steps) now() time.Time { return time.Unix(0, s.at.Load()).UTC() }

func TestAwayLongerThanTheLogIsKeptIsAReset(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		clock := &steps{}
		clock.at.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
		f, heard := watch(t, h, WatchConfig{Clock: clock.now, Heartbeat: 100 * time.Millisecond})
		step := func(d time.Duration) { clock.at.Add(int64(d)) }
		step(logLife - time.Second)
		if f.Current(clock.now()) {
			t.Error("current after a step of the clock")
		}
		poll(t, f, "current again", func() bool { return f.Current(clock.now()) })
		if _, resets := heard.count(); resets != 1 {
			t.Errorf("%d resets within the log's life", resets)
		}
		step(logLife)
		heard.untilReset(t, 2)
		step(-2 * logLife) // a clock that is set back makes nothing younger
		if f.Current(clock.now()) {
			t.Error("current after the clock was set back")
		}
		heard.untilReset(t, 3)
	})
}

func TestAgeGoesByTheClockThatShowsMore(t *testing.T) {
	start := time.Now()
	m := momentAt(start, start.Add(time.Minute))
	for name, c := range map[string]struct {
		now  moment
		want time.Duration
	}{
		"both":             {moment{int64(61 * time.Second), m.wall + int64(time.Second)}, time.Second},
		"wall stands back": {moment{int64(61 * time.Second), m.wall - int64(time.Hour)}, time.Second},
		"wall ahead":       {moment{int64(61 * time.Second), m.wall + int64(time.Hour)}, time.Hour},
		"machine slept":    {moment{int64(60 * time.Second), m.wall + int64(time.Hour)}, time.Hour},
		"from the future":  {moment{int64(59 * time.Second), m.wall}, maxAge},
	} {
		if got := m.age(c.now); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// scriptedLog is a change log whose looks the test decides.
type scriptedLog struct {
	lookErr atomic.Pointer[error]
	looks   atomic.Int64
	forgot  atomic.Int64
	took    atomic.Int64
}

func (s *scriptedLog) connect(context.Context) error { return nil }
func (s *scriptedLog) wait(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (s *scriptedLog) look(ctx context.Context, _ func([]Change)) (bool, error) {
	s.looks.Add(1)
	sleep(ctx, time.Duration(s.took.Load()))
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err := s.lookErr.Load(); err != nil {
		return false, *err
	}
	return true, nil
}
func (s *scriptedLog) forget()                     { s.forgot.Add(1) }
func (s *scriptedLog) check(context.Context) error { return nil }
func (s *scriptedLog) sweep(context.Context) error { return nil }
func (s *scriptedLog) listening() bool             { return true }
func (s *scriptedLog) close()                      {}

// Looks come at least every half of the heartbeat; a look that fails is not one, and is tried again within it.
func TestFeedIsCurrentWhileLooksSucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &scriptedLog{}
		log.took.Store(int64(10 * time.Millisecond))
		f := startFeed(WatchConfig{Heartbeat: time.Second}, log)
		defer f.Close()
		if f.Current(time.Now()) {
			t.Error("current before the first look")
		}
		<-f.First()
		for range 1000 {
			time.Sleep(7 * time.Millisecond)
			if age, ok := f.Age(time.Now()); !ok || age > 520*time.Millisecond || !f.Current(time.Now()) {
				t.Fatalf("age %s", age)
			}
		}
		if n := log.looks.Load(); n < 14 || n > 20 {
			t.Errorf("%d looks in seven seconds", n)
		}
		gone := errors.New("gone")
		log.lookErr.Store(&gone)
		time.Sleep(time.Second)
		if f.Current(time.Now()) || f.Stats().Err == nil {
			t.Errorf("current although looks fail: %+v", f.Stats())
		}
		before := log.looks.Load()
		time.Sleep(10 * time.Second)
		if n := log.looks.Load() - before; n < 30 || n > 100 {
			t.Errorf("%d tries in ten seconds", n)
		}
		log.lookErr.Store(nil)
		time.Sleep(time.Second / 2)
		if !f.Current(time.Now()) || f.Stats().Err != nil {
			t.Errorf("not current again: %+v", f.Stats())
		}
		log.took.Store(int64(time.Hour)) // a look that never ends is given up
		time.Sleep(3 * time.Second)
		if f.Current(time.Now()) || !errors.Is(f.Stats().Err, context.DeadlineExceeded) {
			t.Errorf("stats %+v", f.Stats())
		}
	})
}

// What the log must have lost is found out, whoever did it; what it has rightly let go is no reason.
func TestFeedForgetsWhenTheLogProvesNothing(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		log, db := logOf(t, h), rawDB(t, url)
		n := 0
		change := func() string {
			n++
			execOn(t, db, fmt.Sprintf("INSERT INTO core_tenants (id) VALUES ('n%d')", n))
			return fmt.Sprintf("tenant/n%d//n%d/", n, n)
		}
		wantChanges(t, log, "at first", change())
		// Everything is an hour old, and is swept: who has seen it goes on, who has not knows that.
		behind := logOf(t, h)
		unseen := change()
		wantChanges(t, log, "before the sweep", unseen)
		sweepAll := func() {
			t.Helper()
			_, err := h.sweepOnce(t.Context())
			must(t, err)
			execAs(t, url, h, "UPDATE tenantgate.sys_change_marks SET made_at = '2020-01-01T00:00:00.000'")
			_, err = h.sweepOnce(t.Context())
			must(t, err)
		}
		sweepAll()
		var left int
		must(t, h.read.QueryRowContext(t.Context(), dialect(h.engine, "SELECT count(*) FROM tenantgate.sys_changes")).Scan(&left))
		if left != 0 {
			t.Errorf("%d rows are left", left)
		}
		wantChanges(t, log, "swept")
		if _, whole := lookAt(t, behind); whole {
			t.Error("a look missed what was swept, and says that it is whole")
		}
		wantChanges(t, behind, "from there on", change())
		lookAt(t, log)
		if h.engine == EnginePostgreSQL {
			execURL(t, url, "TRUNCATE tenantgate.sys_changes")
		} else {
			execAs(t, url, h, "DELETE FROM sys_changes")
		}
		if _, whole := lookAt(t, log); whole {
			t.Error("somebody emptied the log, and a look is whole")
		}
		wantChanges(t, log, "from there on", change())
		if h.engine == EngineSQLite { // a backup of yesterday, restored into the file
			execAs(t, url, h, "UPDATE sys_changes SET changed_at = 'then'")
			if _, whole := lookAt(t, log); whole {
				t.Error("the last row is another, and a look is whole")
			}
			execAs(t, url, h, "DELETE FROM sys_changes; UPDATE sqlite_sequence SET seq = 0 WHERE name = 'sys_changes'")
			if _, whole := lookAt(t, log); whole {
				t.Error("ids went back, and a look is whole")
			}
		}
		wantChanges(t, log, "from there on", change())
	})
}

// A database that was copied from a server which had come further brings that one's marks along: they let nothing go.
func TestMarksOfAnotherServerAreForgotten(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		log := logOf(t, h)
		execAs(t, url, h, "INSERT INTO tenantgate.sys_change_marks (horizon, swept, made_at) VALUES ('999999999', true, '2020'), ('999999998', false, '2020')")
		must(t, h.Tenants.Insert(t.Context(), &TenantCatalog{ID: "t1"}))
		for range 2 {
			_, err := h.sweepOnce(t.Context())
			must(t, err)
		}
		wantChanges(t, log, "after the sweep", "tenant/t1//t1/")
		var n int
		err := h.read.QueryRowContext(t.Context(), dialect(h.engine, "SELECT count(*) FROM tenantgate.sys_change_marks")).Scan(&n)
		if err != nil || n != 1 {
			t.Errorf("%d marks, %v", n, err)
		}
	})
}

// A change stays for an hour after it became visible, not after it was written; a mark is made once a minute at most.
func TestSweepKeepsWhatBecameVisibleLate(t *testing.T) {
	url := newPostgres(t)
	h := openTest(t, url)
	tx, err := rawDB(t, url).BeginTx(t.Context(), nil)
	must(t, err)
	execOn(t, tx, "INSERT INTO core_tenants (id) VALUES ('late')")
	execURL(t, url, "INSERT INTO core_tenants (id) VALUES ('soon')")
	for range 3 {
		_, err := h.sweepOnce(t.Context())
		must(t, err)
	}
	var marks int
	must(t, h.read.QueryRowContext(t.Context(), "SELECT count(*) FROM tenantgate.sys_change_marks").Scan(&marks))
	if marks != 1 {
		t.Errorf("%d marks", marks)
	}
	must(t, tx.Commit())
	log := logOf(t, h)
	execURL(t, url, "UPDATE tenantgate.sys_change_marks SET made_at = '2020-01-01T00:00:00.000'; UPDATE tenantgate.sys_changes SET changed_at = '2020-01-01T00:00:00.000'")
	_, err = h.sweepOnce(t.Context())
	must(t, err)
	var left string
	must(t, h.read.QueryRowContext(t.Context(), "SELECT string_agg(row_id, ',' ORDER BY row_id) FROM tenantgate.sys_changes").Scan(&left))
	if left != "late,soon" { // the mark was made while late was open: what is above its xid is not known to be old
		t.Errorf("left: %s", left)
	}
	wantChanges(t, log, "swept below")
}

// The listener's connection dies, notifications get lost, the server goes away and comes back: what commits is told, and
// the feed is current again by itself.
func TestFeedSurvivesThePostgresServer(t *testing.T) {
	server := pgtest.NewServer(t)
	url := server.URL(t)
	h := openTest(t, url)
	f, heard := watch(t, h, WatchConfig{Heartbeat: 200 * time.Millisecond})
	insert := func(id string) string {
		t.Helper()
		execURL(t, url, "INSERT INTO core_tenants (id) VALUES ('"+id+"')")
		return "tenant/" + id + "//" + id + "/"
	}
	heard.untilHeard(t, insert("a"))
	_, resets := heard.count()

	connects := f.Stats().Connects
	server.TerminateBackends(t)
	heard.untilHeard(t, insert("killed"))
	if _, now := heard.count(); now != resets {
		t.Error("a lost connection to the same server is no reason to forget")
	}
	if f.Stats().Connects == connects {
		t.Error("the connection was not lost")
	}

	// No notification is sent at all.
	execURL(t, url, "UPDATE pg_proc SET prosrc = replace(prosrc, 'PERFORM pg_catalog.pg_notify(''tenantgate_changes'', '''')', 'NULL') WHERE proname LIKE 'announce%'")
	server.TerminateBackends(t) // sessions that have compiled the function are gone
	heard.untilHeard(t, insert("unnotified"))
	must(t, errOf(h.Migrate(t.Context())))

	server.Stop(t)
	untilStale(t, f)
	_, resets = heard.count()
	server.Start(t)
	heard.untilReset(t, resets+1) // another start of the server may have lost what was seen
	heard.untilHeard(t, insert("restarted"))
	untilCurrent(t, f)

	server.Standby(t)
	began := time.Now()
	poll(t, f, "stale", func() bool {
		s := f.Stats()
		return s.Err != nil && s.LastLook.Before(began) && !f.Current(time.Now())
	})
	if err := f.Stats().Err; !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	server.Promote(t)
	heard.untilHeard(t, insert("promoted"))
	untilCurrent(t, f)
}

// The network loses every packet for a while, or ends every connection.
func TestFeedSurvivesTheNetwork(t *testing.T) {
	direct := newPostgres(t)
	wire, through := faultwire.URL(t, direct)
	h := openTest(t, through)
	f, heard := watch(t, h, WatchConfig{Heartbeat: 200 * time.Millisecond})
	for i, fault := range []func(){wire.Freeze, wire.Cut, wire.Drop} {
		fault()
		id := fmt.Sprint("n", i)
		execURL(t, direct, "INSERT INTO core_tenants (id) VALUES ('"+id+"')")
		if i < 2 {
			untilStale(t, f)
		}
		wire.Heal()
		heard.untilHeard(t, "tenant/"+id+"//"+id+"/")
		untilCurrent(t, f)
	}
	if _, resets := heard.count(); resets != 1 {
		t.Errorf("%d resets: the log was there all the time", resets)
	}
	wire.Freeze()
	f.Close() // whatever hangs
}

// Who takes the triggers away makes no replica believe in what it remembers.
func TestFeedWithoutTriggersIsNotCurrent(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := openTest(t, url)
		f, heard := watch(t, h, WatchConfig{Heartbeat: 200 * time.Millisecond})
		harm := "DROP TRIGGER tenantgate_core_users_update"
		if h.engine == EnginePostgreSQL {
			harm = "ALTER TABLE core_users DISABLE TRIGGER tenantgate_core_users_update"
		}
		f.listenWell(t.Context())
		untilCurrent(t, f)
		execAs(t, url, h, harm)
		f.listenWell(t.Context())
		untilStale(t, f)
		poll(t, f, "told", func() bool { return errors.Is(f.Stats().Err, ErrSchema) })
		_, resets := heard.count()
		must(t, errOf(h.Migrate(t.Context())))
		heard.untilReset(t, resets+1) // by itself, within a heartbeat
		untilCurrent(t, f)
	})
}

func BenchmarkCurrent(b *testing.B) {
	f := &Feed{heartbeat: time.Second, made: time.Now()}
	m := momentAt(f.made, time.Now())
	f.looked.Store(&m)
	now := time.Now()
	for b.Loop() {
		if !f.Current(now) {
			b.Fatal("not current")
		}
	}
}
