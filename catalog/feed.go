package catalog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a Feed.
const (
	defaultHeartbeat = time.Second
	// logLife is how long a change stays in the log after it became visible. Who was away longer drops all it remembers.
	logLife = time.Hour
	// lookGap is the least time between the beginnings of two looks, so that a storm of notifications costs no more
	// than 200 looks a second.
	lookGap = 5 * time.Millisecond
	// maxLookDeadline bounds a look; a shorter heartbeat bounds it further.
	maxLookDeadline = time.Second
	minLookDeadline = 250 * time.Millisecond
)

// WatchConfig says how to watch for changes. The zero value is usable.
type WatchConfig struct {
	// Heartbeat is how old the last completed look may be while the Feed is current; a look is made at least every half
	// of it. 0: 1 s. It is best between 100 ms and a minute.
	Heartbeat time.Duration
	// Subscribers are told of changes from the first look on; more can join by Subscribe.
	Subscribers []Subscriber
	// Clock is the time. Nil: time.Now. Age goes by its monotonic and its wall reading, whichever shows more.
	Clock func() time.Time
}

// Feed looks at the change log again and again and tells its Subscribers what it finds. It never guesses: if it cannot
// prove that no change escaped it (too long away, another server, a restored backup, a log that somebody emptied), it
// tells them to forget everything.
//
// On PostgreSQL it keeps one connection of its own, on which notifications arrive; it looks when one does, and in any
// case every Heartbeat/2, so that a lost notification costs no more than that. On SQLite it asks PRAGMA data_version at
// least every 100 ms. A Feed is safe for concurrent use.
type Feed struct {
	log       changeLog
	heartbeat time.Duration
	clock     func() time.Time
	made      time.Time // by clock; what moments count from
	life      time.Duration
	looked    atomic.Pointer[moment] // when the last completed look began; nil: none yet
	first     chan struct{}          // closed by the first completed look
	deaf      atomic.Pointer[error]  // which triggers were found lacking; no look counts until it is nil again
	missed    atomic.Bool            // changes went unheard; the next look forgets
	connected chan struct{}          // the run has connected anew: time to look after the triggers
	closing   sync.Once

	mu          sync.Mutex // guards what follows
	subscribers map[int]Subscriber
	nextID      int
	stats       FeedStats

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// FeedStats are a Feed's counters since its start.
type FeedStats struct {
	// Listening says that notifications reach the Feed (PostgreSQL). On SQLite it is false: there it polls.
	Listening bool
	// LastLook is when the last completed look began, by the wall clock; zero if none has completed.
	LastLook time.Time
	// Looks that were completed, and that failed; Changes that were told, Resets, and how often the Feed connected.
	Looks, Failures, Changes, Resets, Connects uint64
	// Took is how long the last completed look took, told Subscribers included.
	Took time.Duration
	// Err says why the latest look failed; nil if it was completed. It shows no secret.
	Err error
}

// changeLog is one engine's way to look at sys_changes. Its methods are called by the Feed's one goroutine, sweep by
// another.
type changeLog interface {
	// connect makes what wait and look need, and forgets a connection that failed.
	connect(ctx context.Context) error
	// wait returns when there may be something new (nil) or ctx has ended (its error); any other error means that the
	// connection is lost.
	wait(ctx context.Context) error
	// look tells what became visible since the last look that returned a nil error, and whether that is everything.
	// false: too much, or no proof that it is; the next look counts from here all the same. tell may have been called
	// before look fails, or returns false.
	look(ctx context.Context, tell func([]Change)) (whole bool, err error)
	// forget makes the next look return false.
	forget()
	// check returns ErrSchema if triggers lack or are disabled: then changes are not heard of.
	check(ctx context.Context) error
	// sweep marks how far the log is visible now, and removes what has been visible for longer than logLife.
	sweep(ctx context.Context) error
	listening() bool
	close()
}

// Watch starts a Feed. It does not wait for the first look: until one has completed the Feed is not current. The caller
// closes the Feed, before the HostDatabase.
func (h *HostDatabase) Watch(cfg WatchConfig) (*Feed, error) {
	if cfg.Heartbeat < 0 {
		return nil, errors.New("watch: heartbeat must not be negative")
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = defaultHeartbeat
	}
	log, err := h.changeLog(cfg.Heartbeat)
	if err != nil {
		return nil, err
	}
	return startFeed(cfg, log), nil
}

func startFeed(cfg WatchConfig, log changeLog) *Feed {
	f := &Feed{log: log, heartbeat: cfg.Heartbeat, clock: cfg.Clock, life: logLife, subscribers: map[int]Subscriber{}, first: make(chan struct{}), connected: make(chan struct{}, 1)}
	if f.clock == nil {
		f.clock = time.Now
	}
	f.made = f.clock()
	for _, s := range cfg.Subscribers {
		f.Subscribe(s)
	}
	var ctx context.Context
	ctx, f.cancel = context.WithCancel(context.Background())
	f.wg.Go(func() { f.run(ctx) })
	f.wg.Go(func() { f.sweep(ctx) })
	return f
}

// Close ends the Feed and waits for what it started. It may be called again. A closed Feed is not current once its last
// look is older than the heartbeat.
func (f *Feed) Close() {
	f.cancel()
	f.wg.Wait()
	f.closing.Do(f.log.close)
}

// Subscribe adds a Subscriber, which hears of every change that becomes visible from now on, and returns how to end
// that; the Subscriber may be called once more while cancel returns. What it remembers must have been read after
// Subscribe returned.
func (f *Feed) Subscribe(s Subscriber) (cancel func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := f.nextID
	f.nextID++
	f.subscribers[id] = s
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.subscribers, id)
	}
}

// Current says whether less than the heartbeat has passed since the last completed look began: then all that committed
// before that look has been told. It costs an atomic load and no lock. now is a reading of the Feed's clock.
func (f *Feed) Current(now time.Time) bool {
	age, ok := f.Age(now)
	return ok && age < f.heartbeat
}

// Age is how long ago the last completed look began, by the monotonic clock or the wall clock, whichever shows more.
// false: none has completed.
func (f *Feed) Age(now time.Time) (time.Duration, bool) {
	m := f.looked.Load()
	if m == nil {
		return 0, false
	}
	return m.age(momentAt(f.made, now)), true
}

// First is closed once a look has completed.
func (f *Feed) First() <-chan struct{} { return f.first }

// Stats returns the counters.
func (f *Feed) Stats() FeedStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

// run connects, looks and waits, until ctx ends. Whatever fails is tried again.
func (f *Feed) run(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		err := f.log.connect(ctx)
		if err == nil {
			select {
			case f.connected <- struct{}{}:
			default:
			}
			f.note(func(s *FeedStats) { s.Connects++; s.Listening = f.log.listening() })
			var looks int
			looks, err = f.follow(ctx)
			if looks > 0 {
				failures = 0
			}
		}
		f.note(func(s *FeedStats) { s.Listening = false; s.Err = err; s.Failures++ })
		sleep(ctx, f.backoff(failures))
		failures++
	}
}

// backoff is a random time below a limit that doubles, from 10 ms to a quarter of the heartbeat: whoever heals is found
// within the heartbeat.
func (f *Feed) backoff(failures int) time.Duration {
	limit := min(10*time.Millisecond<<min(failures, 10), max(f.heartbeat/4, 10*time.Millisecond))
	return limit/2 + rand.N(limit/2)
}

// follow looks and waits on one connection until something fails; it says how many looks were completed.
func (f *Feed) follow(ctx context.Context) (looks int, err error) {
	for {
		began := time.Now() // the pace does not go by a clock that may be set
		if err := f.look(ctx, f.clock()); err != nil {
			return looks, err
		}
		looks++
		sleep(ctx, lookGap-time.Since(began))
		wait, cancel := context.WithTimeout(ctx, max(f.heartbeat/2-time.Since(began), time.Millisecond))
		err := f.log.wait(wait)
		timely := wait.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return looks, ctx.Err()
		}
		if err != nil && !timely {
			return looks, err
		}
	}
}

// look is one look. What it finds is told before it counts.
func (f *Feed) look(ctx context.Context, at time.Time) (err error) {
	ctx, cancel := context.WithTimeout(ctx, min(max(f.heartbeat, minLookDeadline), maxLookDeadline))
	defer cancel()
	if f.missed.Swap(false) {
		f.log.forget()
	}
	if lacking := f.deaf.Load(); lacking != nil {
		return *lacking
	}
	began := momentAt(f.made, at)
	if last := f.looked.Load(); last == nil || last.age(began) >= f.life {
		f.log.forget()
	}
	defer func() {
		if r := recover(); r != nil { // what the Subscriber has heard is unknown
			f.log.forget()
			err = fmt.Errorf("look at the change log: a subscriber panicked (%T)", r)
		}
	}()
	told := 0
	whole, err := f.log.look(ctx, func(changes []Change) {
		told += len(changes)
		f.tell(func(s Subscriber) { s.Changed(changes) })
	})
	if err != nil {
		return err
	}
	if !whole {
		f.tell(Subscriber.Reset)
	}
	f.tell(func(s Subscriber) {
		if l, ok := s.(LookSubscriber); ok {
			l.Looked(at)
		}
	})
	if f.looked.Swap(&began) == nil {
		close(f.first)
	}
	took := f.clock().Sub(at)
	f.note(func(s *FeedStats) {
		s.Looks++
		s.Changes += uint64(told)
		if !whole {
			s.Resets++
		}
		s.LastLook, s.Took, s.Err = at.Round(0), took, nil
	})
	return nil
}

// tell calls every Subscriber.
func (f *Feed) tell(call func(Subscriber)) {
	f.mu.Lock()
	all := make([]Subscriber, 0, len(f.subscribers))
	for _, s := range f.subscribers {
		all = append(all, s)
	}
	f.mu.Unlock()
	for _, s := range all {
		call(s)
	}
}

func (f *Feed) note(change func(*FeedStats)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.stats)
}

// sweepEvery is the time between two sweeps.
const sweepEvery = time.Minute

// sweep keeps the log short, and looks after the triggers. That it fails harms nobody: the next one, here or on another
// replica, does it.
func (f *Feed) sweep(ctx context.Context) {
	next := time.Now().Add(sweepEvery/2 + rand.N(sweepEvery))
	for {
		wait := time.Until(next)
		if f.deaf.Load() != nil {
			wait = min(wait, f.heartbeat)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-f.connected:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
		f.listenWell(ctx)
		if !time.Now().Before(next) {
			next = time.Now().Add(sweepEvery/2 + rand.N(sweepEvery))
			_ = f.log.sweep(ctx)
		}
	}
}

// listenWell finds out whether somebody has taken the triggers away. What cannot be found out changes nothing.
func (f *Feed) listenWell(ctx context.Context) {
	switch err := f.log.check(ctx); {
	case err == nil:
		f.deaf.Store(nil)
	case errors.Is(err, ErrSchema):
		f.deaf.Store(&err)
		f.missed.Store(true)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// changeLog is the engine's.
func (h *HostDatabase) changeLog(heartbeat time.Duration) (changeLog, error) {
	if h.engine == EngineSQLite {
		return newSQLiteLog(h, heartbeat)
	}
	return newPostgresLog(h, heartbeat)
}
