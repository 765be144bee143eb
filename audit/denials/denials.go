// Package denials counts what was refused, for the audit log.
//
// Purpose: a denial costs a number, not a row. Denials and refused credentials are counted per user, tenant, code and
// minute; where nobody known asked, per network instead of a user. When the minute is over its counts become rows of
// sys_audit_logs. What a stranger typed is never part of it.
//
// Concurrency: a Counter is safe for concurrent use. Its one goroutine writes what is complete; Close waits for it.
// Counting takes a lock for as long as a map needs and allocates nothing for what was counted in that minute before.
//
// Time: a minute is over by the clock, monotonic or wall, that shows more; a clock that is set back ends it, too. No jump of
// the clock holds counts back.
//
// Failure mode: a request never waits for the audit log here, and none is let through because counting failed. While
// the host database cannot be written to, counts are kept and written later: in a bounded space, beyond which the oldest
// keep their sums by code and lose who it was, which a metric shows. What is still unwritten when the process ends is
// logged as a number. A process that is killed loses the minute that it was in.
package denials

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

const (
	// keep is how many rows a minute has at most: so many of known users, and so many of networks. The ones that come first
	// to the audit log are users', so that no flood of strangers hides what a known user tried.
	keep = catalog.DenialRows
	// keepKnown is how many counts of users are told apart, and share how many of one user once there are more than a minute
	// has rows. What else that user is refused is one row more of that user, so that none hides what another tried.
	keepKnown = 5 * keep
	share     = 30
	// keepRows and keepBatches bound what waits for the database.
	keepRows    = 20_000
	keepBatches = 1440
	// lookEvery is how often it is looked whether a minute is over; writeTimeout bounds one batch.
	lookEvery    = 5 * time.Second
	writeTimeout = 10 * time.Second
	// lastTimeout bounds all writing at Close.
	lastTimeout = 3 * time.Second
)

// Store takes batches; *catalog.HostDatabase is one. An error means that the batch may be tried again.
type Store interface {
	RecordDenials(ctx context.Context, b *catalog.DenialBatch) error
}

// Config says what a Counter works with.
type Config struct {
	// Clock is the time. Nil: time.Now.
	Clock func() time.Time
	// Log is told when counts cannot be written, and when they can again. Nil: nothing is logged.
	Log *slog.Logger
}

// key is one row to come.
type key struct {
	user    catalog.UserID
	tenant  catalog.TenantID
	network netip.Prefix // of nobody known
	code    string
	more    bool // beyond the user's share: of any tenant
}

// Counter counts denials. Make it with New; the caller closes it.
type Counter struct {
	clock  func() time.Time
	steady func() time.Time // whose readings nobody sets
	log    *slog.Logger

	mu        sync.Mutex
	minute    int64         // since 1970: what known, strangers and rest are about
	began     time.Time     // when it began to be counted, by steady
	known     map[key]int64 // of users
	shares    map[catalog.UserID]int
	strangers map[key]int64 // of networks
	rest      map[string]int64
	waiting   []*catalog.DenialBatch // of minutes that are over, the oldest first
	rows      int                    // of waiting
	state     State
	store     Store

	writing sync.Mutex // one writer at a time
	failing bool       // guarded by writing

	start, close sync.Once
	life         context.Context // of the goroutine
	stop         context.CancelFunc
	done         chan struct{}
}

// State is what became of what was counted, since the start.
type State struct {
	// Counted denials: Recorded of them are in the audit log; Merged of them without saying who it was, because there
	// were too many different ones in their minute or they waited too long. Lost were given up when the process ended.
	Counted, Recorded, Merged, Lost int64
}

// New makes a Counter. It counts at once; nothing is written before Start.
func New(cfg Config) *Counter {
	c := &Counter{clock: cfg.Clock, steady: time.Now, log: cfg.Log, done: make(chan struct{})}
	c.life, c.stop = context.WithCancel(context.Background())
	if c.clock == nil {
		c.clock = time.Now
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.empty()
	return c
}

// empty begins a minute. The lock is held, or nobody else knows c.
func (c *Counter) empty() {
	c.known, c.strangers, c.rest = map[key]int64{}, map[key]int64{}, map[string]int64{}
	c.shares = map[catalog.UserID]int{}
}

// Count counts one denial with that code. user is "" where nobody known asked: then from counts, by its /24 or /64, the
// zero Addr where there is none (a unix socket). tenant is "" where none is known. Callers hand in ids of rows that
// exist and codes of the denial table, never what a request said.
func (c *Counter) Count(user catalog.UserID, tenant catalog.TenantID, code string, from netip.Addr) {
	k := key{user: user, tenant: tenant, code: code}
	if user == "" {
		k.network = Network(from)
	}
	now := c.clock().Unix() / 60
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over(now) {
		c.turn(now)
	}
	c.state.Counted++
	counts, most := c.known, keepKnown
	if user == "" {
		counts, most = c.strangers, keep
	}
	n, ok := counts[k]
	if !ok && user != "" && len(counts) >= keep && c.shares[user] >= share {
		k.tenant, k.more = "", true
		n, ok = counts[k]
	}
	if !ok && len(counts) >= most {
		c.rest[code]++
		c.state.Merged++
		return
	}
	if !ok && user != "" && !k.more {
		c.shares[user]++
	}
	counts[k] = n + 1
}

// over says whether another minute than the one that is counted has begun, also by a clock that was set back. The minute
// before may be the reading of one who waited for the lock. The lock is held.
func (c *Counter) over(now int64) bool { return now > c.minute || now < c.minute-1 }

// Network is what counts as one place: an IPv4 /24, an IPv6 /64; an IPv4-mapped address is the IPv4 one. The zero
// Prefix for the zero Addr.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// turn closes the minute that was counted, and begins the one of now. The lock is held.
func (c *Counter) turn(now int64) {
	minute := c.minute
	c.minute, c.began = now, c.steady()
	if len(c.known)+len(c.strangers)+len(c.rest) == 0 {
		return
	}
	b := &catalog.DenialBatch{
		ID: catalog.GenID(), Minute: catalog.Timestamp(time.Unix(minute*60, 0)), Rows: users(c.known), Rest: c.rest,
	}
	for _, left := range b.Rows[min(len(b.Rows), keep):] {
		left.AddTo(b.Rest)
		c.state.Merged += left.Count
	}
	b.Rows = append(b.Rows[:min(len(b.Rows), keep)], sorted(c.strangers)...)
	c.empty()
	c.waiting = append(c.waiting, b)
	c.rows += len(b.Rows)
	c.bound()
}

// users are the counts of users as rows: the highest of each, then what is beyond each one's share, then the second of each,
// and so on. However many rows there is room for, none has many before another has one.
func users(counts map[key]int64) []catalog.DenialCount {
	rows, more := shared(counts)
	turns := make([][]catalog.DenialCount, 2)
	had := map[catalog.UserID]int{}
	for _, row := range rows {
		at := had[row.User]
		if had[row.User]++; at == 0 && more[row.User] != nil {
			had[row.User]++
		}
		for len(turns) <= at {
			turns = append(turns, nil)
		}
		turns[at] = append(turns[at], row)
	}
	var rests []catalog.DenialCount
	for user, codes := range more {
		row := catalog.DenialCount{User: user, Codes: codes}
		for _, n := range codes {
			row.Count += n
		}
		rests = append(rests, row)
	}
	slices.SortFunc(rests, byCount)
	turns[1] = append(rests, turns[1]...)
	return slices.Concat(turns...)
}

// shared are the counts of users as rows, the highest first, and what is beyond the share of each, by code: of nobody while
// the minute has a row for every count.
func shared(counts map[key]int64) (rows []catalog.DenialCount, more map[catalog.UserID]map[string]int64) {
	own := make(map[key]int64, len(counts))
	more = map[catalog.UserID]map[string]int64{}
	beyond := func(user catalog.UserID, code string, n int64) {
		if more[user] == nil {
			more[user] = map[string]int64{}
		}
		more[user][code] += n
	}
	for k, n := range counts {
		if k.more {
			beyond(k.user, k.code, n)
		} else {
			own[k] = n
		}
	}
	rows = sorted(own)
	if len(rows) <= keep {
		return rows, more
	}
	had := map[catalog.UserID]int{}
	rows = slices.DeleteFunc(rows, func(row catalog.DenialCount) bool {
		had[row.User]++
		if had[row.User] <= share {
			return false
		}
		beyond(row.User, row.Code, row.Count)
		return true
	})
	return rows, more
}

// sorted are counts as rows, the highest first.
func sorted(counts map[key]int64) []catalog.DenialCount {
	rows := make([]catalog.DenialCount, 0, len(counts))
	for k, n := range counts {
		row := catalog.DenialCount{User: k.user, Tenant: k.tenant, Code: k.code, Count: n}
		if k.network.IsValid() {
			row.Network = k.network.String()
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, byCount)
	return rows
}

func byCount(a, b catalog.DenialCount) int {
	return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.User, b.User), cmp.Compare(a.Network, b.Network),
		cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Code, b.Code))
}

// bound takes from the oldest batches who it was, and then puts the two oldest together, until what waits is small
// enough. The lock is held.
func (c *Counter) bound() {
	for i := 0; c.rows > keepRows && i < len(c.waiting); i++ {
		c.merge(c.waiting[i])
	}
	for len(c.waiting) > keepBatches {
		oldest, next := c.waiting[0], c.waiting[1]
		c.merge(oldest)
		c.merge(next)
		for code, n := range oldest.Rest {
			next.Rest[code] += n
		}
		next.Until = max(next.Minute, next.Until)
		next.Minute = oldest.Minute
		c.waiting = slices.Delete(c.waiting, 0, 1)
	}
}

// merge leaves of a batch the sums by code. The lock is held.
func (c *Counter) merge(b *catalog.DenialBatch) {
	for i := range b.Rows {
		b.Rows[i].AddTo(b.Rest)
		c.state.Merged += b.Rows[i].Count
	}
	c.rows -= len(b.Rows)
	b.Rows = nil
}

// Start writes to store from now on, in the background. Only the first call counts.
func (c *Counter) Start(store Store) {
	c.start.Do(func() {
		c.mu.Lock()
		c.store = store
		c.mu.Unlock()
		go c.run()
	})
}

func (c *Counter) run() {
	defer close(c.done)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			c.Flush(c.life)
		case <-c.life.Done():
			return
		}
	}
}

// Flush writes the minutes that are over, until one cannot be written; that one and those after it are kept. It reports
// whether all were written.
func (c *Counter) Flush(ctx context.Context) bool { return c.flush(ctx, false) }

// flush with all writes the minute under way, too.
func (c *Counter) flush(ctx context.Context, all bool) bool {
	c.writing.Lock()
	defer c.writing.Unlock()
	now := c.clock().Unix() / 60
	c.mu.Lock()
	store := c.store
	if store == nil {
		c.mu.Unlock()
		return false
	}
	if c.over(now) || c.steady().Sub(c.began) >= time.Minute || all {
		c.turn(now)
	}
	c.mu.Unlock()
	for {
		b := c.take()
		if b == nil {
			return true
		}
		if err := c.write(ctx, store, b); err != nil {
			c.putBack(b)
			if !c.failing && ctx.Err() == nil {
				c.failing = true
				c.log.WarnContext(ctx, "denials cannot be recorded in the audit log now: they are kept until they can", "error", err)
			}
			return false
		}
		if c.failing {
			c.failing = false
			c.log.InfoContext(ctx, "denials are recorded in the audit log again")
		}
	}
}

func (c *Counter) write(ctx context.Context, store Store, b *catalog.DenialBatch) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := store.RecordDenials(ctx, b); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Recorded += b.Total()
	return nil
}

// take takes the oldest batch away, so that it stays as it is while it is written; nil if none waits.
func (c *Counter) take() *catalog.DenialBatch {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		return nil
	}
	b := c.waiting[0]
	c.waiting = slices.Delete(c.waiting, 0, 1)
	c.rows -= len(b.Rows)
	return b
}

// putBack keeps a batch whose writing failed. It may have been written all the same: therefore it stays as it is for
// as long as nothing forces it to become smaller.
func (c *Counter) putBack(b *catalog.DenialBatch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = slices.Insert(c.waiting, 0, b)
	c.rows += len(b.Rows)
	c.bound()
}

// State is what became of what was counted.
func (c *Counter) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Close writes what was counted, within three seconds, and ends the goroutine. What cannot be written is logged as a
// number. Calling it again does nothing; what is counted afterwards is never written.
func (c *Counter) Close() {
	c.close.Do(func() {
		c.stop()
		c.start.Do(func() { close(c.done) }) // it never ran
		<-c.done
		ctx, cancel := context.WithTimeout(context.Background(), lastTimeout)
		defer cancel()
		c.flush(ctx, true)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.turn(c.minute) // where nothing ever took what was counted
		for _, b := range c.waiting {
			c.state.Lost += b.Total()
		}
		c.waiting, c.rows = nil, 0
		if c.state.Lost > 0 {
			c.log.Error("denials were counted and could not be recorded in the audit log before the end", "denials", c.state.Lost)
		}
	})
}
