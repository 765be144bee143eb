package cache

import (
	"sync"
	"sync/atomic"
	"time"
)

// CoherenceConfig says how long what is known of a source may be relied on.
type CoherenceConfig struct {
	// Heartbeat is how long after the beginning of the last look at the source memory is current. 0 or less: never,
	// every answer is read.
	Heartbeat time.Duration
	// MaxStale is how much longer memory may answer while the source cannot be read. 0 or less: not at all.
	MaxStale time.Duration
	// Entries is how many entries the caches have together, about. 0 or less: 100,000.
	Entries int
	// Unreadable reports whether an error of a load means that the source cannot be read now; anything else is the
	// caller's to deal with. A load that takes too long always counts. Nil: nothing else does.
	Unreadable func(error) bool
	// Clock is the time. Nil: time.Now.
	Clock func() time.Time
}

// Coherence is what all caches of one source share: which things have changed, and when the source was last looked at.
//
// Each invalidation has a number. A load remembers the number of the last one at its beginning; what it brings is good
// while nothing that it depends on has a larger number. So it does not matter when the load ends, in which cache its
// answer is kept, or whether that cache was made a moment ago: nothing from before an invalidation is used after it. An
// invalidation costs the same however large the caches are and however many entries it hits; those are found out when
// they are asked for, and make room like any other.
//
// Numbers are kept in a table of fixed size, by tag. Tags that meet in one place are invalidated together, which costs
// a read that was not needed: the table is so large that a change causes less than one of these.
type Coherence struct {
	clock      func() time.Time
	made       time.Time // by clock; what moments count from
	heartbeat  time.Duration
	maxStale   time.Duration
	unreadable func(error) bool

	invalidating sync.Mutex
	last         atomic.Uint64 // number of the last invalidation in force
	floor        atomic.Uint64 // nothing from before this one is used
	table        []atomic.Uint64
	mask         uint64

	look atomic.Pointer[look] // the last completed one; nil: there was none

	reads, stale, resets atomic.Uint64
}

const (
	minTags      = 1 << 10
	maxTags      = 1 << 22
	tagsPerEntry = 8
)

// NewCoherence makes one. Until the first look nothing is current. It needs no closing.
func NewCoherence(cfg CoherenceConfig) *Coherence {
	c := &Coherence{
		clock: cfg.Clock, heartbeat: max(cfg.Heartbeat, 0), maxStale: max(cfg.MaxStale, 0), unreadable: cfg.Unreadable,
	}
	if c.clock == nil {
		c.clock = time.Now
	}
	c.made = c.clock()
	entries := cfg.Entries
	if entries <= 0 {
		entries = 100_000
	}
	n := minTags
	for n < maxTags && n/tagsPerEntry < entries {
		n *= 2
	}
	c.table, c.mask = make([]atomic.Uint64, n), uint64(n-1)
	return c
}

// Invalidate forgets every answer that depends on one of the things, in all caches. Whoever asks after it has returned
// gets no answer that was read before it began. All the things are forgotten at once.
func (c *Coherence) Invalidate(things ...Tag) {
	if len(things) == 0 {
		return
	}
	c.invalidating.Lock()
	defer c.invalidating.Unlock()
	next := c.last.Load() + 1
	for _, t := range things {
		c.table[uint64(t)&c.mask].Store(next)
	}
	// Last: who sees the number must see what it stands for.
	c.last.Store(next)
}

// InvalidateAll is Invalidate of everything there is.
func (c *Coherence) InvalidateAll() {
	c.invalidating.Lock()
	defer c.invalidating.Unlock()
	next := c.last.Load() + 1
	c.floor.Store(next)
	c.last.Store(next)
	c.resets.Add(1)
}

// intact reports whether none of the places has been invalidated since number.
func (c *Coherence) intact(number uint64, places []uint32) bool {
	if c.floor.Load() > number {
		return false
	}
	for _, p := range places {
		if c.table[p].Load() > number {
			return false
		}
	}
	return true
}

// places appends where the numbers of the tags are kept.
func (c *Coherence) places(to []uint32, tags []Tag) []uint32 {
	for _, t := range tags {
		to = append(to, uint32(uint64(t)&c.mask))
	}
	return to
}

// look is when a look at the source began.
type look struct {
	moment
	at time.Time
}

// Looked says that a look at the source that began at that time is complete: every change that was visible by then has
// been invalidated. Calls come in the order of the looks.
func (c *Coherence) Looked(began time.Time) { c.look.Store(&look{c.moment(began), began}) }

func (c *Coherence) moment(t time.Time) moment {
	return moment{mono: int64(t.Sub(c.made)), wall: t.UnixNano()}
}

func (c *Coherence) now() moment { return c.moment(c.clock()) }

// view is what one look at the source vouches for: everything that is read from memory after the view was taken, for as
// long as it holds.
type view struct {
	of   *Coherence
	look *look // the last completed one when the view was taken: what it saw had been invalidated by then; nil: none
}

func (c *Coherence) view() view { return view{c, c.look.Load()} }

// holds reports whether memory was current all along until now, a reading of the clock that was taken after memory was
// read: so a process that stood still in between does not take for current what was current before.
func (v view) holds(now moment) bool { return v.look != nil && v.look.within(v.of.heartbeat, now) }

// ceased is the moment at which memory ceased to be current; ok false: it may not answer at now, even if the source
// cannot be read.
func (v view) ceased(now moment) (moment, bool) {
	if v.look == nil || v.of.maxStale <= 0 || v.holds(now) || !v.look.within(v.of.heartbeat+v.of.maxStale, now) {
		return moment{}, false
	}
	return v.look.after(v.of.heartbeat), true
}

// Current reports whether answers come from memory now.
func (c *Coherence) Current() bool {
	v := c.view()
	return v.holds(c.now())
}

// Usable reports whether memory may answer now: it is current, or not longer ago than MaxStale it was.
func (c *Coherence) Usable() bool {
	v := c.view()
	return v.look != nil && v.look.within(c.heartbeat+c.maxStale, c.now())
}

// CoherenceState is what operators see of a Coherence.
type CoherenceState struct {
	// Current: answers come from memory.
	Current bool
	// LastLook is when the last completed look began, zero without one.
	LastLook time.Time
	// Lag is how long ago that was, by the clock that shows more; 0 without one.
	Lag time.Duration
	// ReadsThrough counts reads because memory was not current, StaleAnswers what memory answered nevertheless because
	// the source could not be read, Resets how often everything was forgotten.
	ReadsThrough, StaleAnswers, Resets uint64
}

// State returns it.
func (c *Coherence) State() CoherenceState {
	s := CoherenceState{ReadsThrough: c.reads.Load(), StaleAnswers: c.stale.Load(), Resets: c.resets.Load()}
	v := c.view()
	if v.look == nil {
		return s
	}
	now := c.now()
	s.Current = v.holds(now)
	s.LastLook = v.look.at
	s.Lag = time.Duration(max(now.mono-v.look.mono, now.wall-v.look.wall))
	return s
}
