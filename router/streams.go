package router

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
)

const (
	// streamTick is how often the clock is held against what is open: an end by the clock comes no later than that.
	streamTick = 25 * time.Millisecond
	// streamChecks bounds how many open requests are judged anew at once.
	streamChecks = 32
	// streamRetry is the time between tries where a check of something open could not be made, streamTries their number.
	streamRetry = 250 * time.Millisecond
	streamTries = 4
	// briefly is how long a request that is neither WebSocket, event stream nor gRPC may still take when it is not let
	// through any more: it was, and most are over by then.
	briefly = 250 * time.Millisecond
	// drain is the same for a tenant that is paused, unless the pause says otherwise: nobody's right has ended.
	drain = 10 * time.Second

	streamShards = 16
)

// StreamKeys name what a request that is under way was let through by.
type StreamKeys struct {
	User    catalog.UserID
	Tenant  catalog.TenantID // "" without one
	Session catalog.SessionID
	Plan    catalog.PlanID
}

// open is a request that was let through for somebody and has not ended. It is a part of its exchange.
type open struct {
	x          *exchange
	shard      *streamShard
	next, prev *open // in the shard
	due        int64 // guarded by the shard: when the clock next has a say, in Unix nanoseconds; 0: not looked at yet

	judging sync.Mutex // held while it is judged, so that what a later judgement says is not undone by an earlier one
	queued  sync.Mutex // guards waiting
	// waiting: a check is to come that begins after the change that asked for it.
	waiting bool

	mu      sync.Mutex // guards over, aborted and end, and is held while end runs
	over    bool
	aborted bool                   // the connection takes nothing any more
	cut     atomic.Pointer[Denial] // why it was cut
	cancel  context.CancelFunc
	end     func() // ends what is being sent to the client; nil: cancel does

	// streaming: a WebSocket, an event stream or gRPC; it is cut at once.
	streaming atomic.Bool
	refused   int64      // guarded by the shard: since when it would be, in Unix nanoseconds; 0: it would not
	kind      streamKind // of the answer; its own goroutines' alone
	body      watchedBody
}

// keys are read from the verdict, which nobody changes once it is made.
func (o *open) keys() StreamKeys {
	v := &o.x.verdict
	k := StreamKeys{User: v.Identity.User, Session: v.Identity.Session}
	if v.Grant != nil {
		k.Tenant, k.Plan = v.Grant.Tenant.ID, catalog.PlanID(v.Grant.Plan.Key)
	} else {
		k.Tenant = v.Identity.OnlyTenant // whose domain the session is good on
	}
	return k
}

// ends sets what ends the request from here on; it is called at once if that is due already.
func (o *open) ends(end func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.end = end
	if o.cut.Load() != nil && !o.over {
		end()
	}
}

// close cuts the request, once.
func (o *open) close(d *Denial) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over || !o.cut.CompareAndSwap(nil, d) {
		return false
	}
	if o.end != nil {
		o.end()
		return true
	}
	o.cancel()
	return true
}

// unlessOver runs f while the request cannot end: a deadline set after its end would hit the next one on the connection.
func (o *open) unlessOver(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.over {
		f()
	}
}

// ended says that nothing is left to be cut.
func (o *open) ended() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.over || o.cut.Load() != nil
}

// sent says that all of the answer was written: nothing ends it from here on. true: the connection, or the HTTP/2
// stream, was made useless just before, and must go with it.
func (o *open) sent() (useless bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = true
	return o.aborted
}

type streamShard struct {
	mu    sync.Mutex
	first *open
	_     [64]byte // keeps neighbours' locks off this cache line
}

// streams are all requests under way that somebody was let through with. Each is found again by what it depends on and
// judged anew when that changes, or when the clock may end it; what is not let through any more is cut. Short requests
// pay for two steps in a list.
type streams struct {
	shards [streamShards]streamShard
	clock  func() time.Time
	// judge says why an open request would be refused now; nil: it would not.
	judge func(context.Context, *open) *Denial
	// until is when the clock may end it.
	until func(*open) (time.Time, bool)
	// usable reports whether memory can still vouch for what is open. Nil: it always can.
	usable func() bool
	// probe looks whether the host database can be read.
	probe func(context.Context) error
	// counted is told of each cut.
	counted func(*open, *Denial)

	// changes counts the calls of reconsider: a request that was judged before one and came in after it missed it.
	changes atomic.Uint64

	probing atomic.Bool

	ctx    context.Context
	cancel context.CancelFunc
	queue  struct {
		sync.Mutex
		list []*open
	}
	wake   chan struct{}
	slots  chan struct{}
	group  sync.WaitGroup
	closed sync.Once
}

func newStreams(clock func() time.Time) *streams {
	s := &streams{clock: clock, wake: make(chan struct{}, 1), slots: make(chan struct{}, streamChecks)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// start begins to watch; close ends it and waits.
func (s *streams) start() {
	s.group.Go(func() {
		for {
			select {
			case <-s.ctx.Done():
				return
			case <-s.wake:
				s.check()
			}
		}
	})
	s.group.Go(s.watch)
}

func (s *streams) close() {
	s.closed.Do(s.cancel)
	s.group.Wait()
}

// add registers a request that was let through; cancel ends its way to the app. What has changed since before it was
// judged, seen being changes of then, may have been missed by that judgement and by reconsider: it is judged anew.
func (s *streams) add(o *open, x *exchange, seen uint64, cancel context.CancelFunc) {
	o.x, o.cancel = x, cancel
	o.shard = &s.shards[rand.Uint32N(streamShards)]
	s.insert(o)
	if s.changes.Load() != seen {
		s.enqueue(o)
	}
}

func (s *streams) insert(o *open) {
	o.shard.mu.Lock()
	defer o.shard.mu.Unlock()
	o.next = o.shard.first
	if o.next != nil {
		o.next.prev = o
	}
	o.shard.first = o
}

// remove takes a request out once it has ended.
func (s *streams) remove(o *open) {
	o.mu.Lock()
	o.over = true
	o.mu.Unlock()
	o.shard.mu.Lock()
	defer o.shard.mu.Unlock()
	if o.prev != nil {
		o.prev.next = o.next
	} else {
		o.shard.first = o.next
	}
	if o.next != nil {
		o.next.prev = o.prev
	}
}

// reconsider judges every request under way anew whose keys changed reports. It returns at once. What a new judgement
// needs must have been forgotten before.
func (s *streams) reconsider(changed func(StreamKeys) bool) {
	s.changes.Add(1) // before the look: what comes in after it sees the number
	var found []*open
	s.each(func(o *open) {
		if changed(o.keys()) {
			found = append(found, o)
		}
	})
	s.enqueue(found...)
}

func (s *streams) each(f func(*open)) {
	for i := range s.shards {
		shard := &s.shards[i]
		shard.mu.Lock()
		for o := shard.first; o != nil; o = o.next {
			f(o)
		}
		shard.mu.Unlock()
	}
}

func (s *streams) enqueue(found ...*open) {
	s.queue.Lock()
	for _, o := range found {
		o.queued.Lock()
		if !o.waiting {
			o.waiting = true
			s.queue.list = append(s.queue.list, o)
		}
		o.queued.Unlock()
	}
	s.queue.Unlock()
	if len(found) > 0 {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// watch looks at the clock. It waits for no check: those may take long while the host database cannot be read, which is
// when what is open must be cut without them.
func (s *streams) watch() {
	tick := time.NewTicker(streamTick)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			s.tick()
		}
	}
}

// tick finds what the clock may have ended.
func (s *streams) tick() {
	now := s.clock()
	var found []*open
	busy := false
	s.each(func(o *open) {
		busy = true
		if o.due == 0 {
			o.due = s.next(o, now)
		}
		if now.UnixNano() >= o.due {
			o.due = now.Add(time.Second).UnixNano() // unless the check sets another
			found = append(found, o)
		}
	})
	s.enqueue(found...)
	if busy && s.usable != nil && !s.usable() && s.probing.CompareAndSwap(false, true) {
		s.group.Go(s.vouch)
	}
}

// vouch is for what is open while nobody knows what has changed: if the host database can be read, all of it is judged
// anew, and once more each second as long as that lasts; if not, all of it is cut.
func (s *streams) vouch() {
	defer s.probing.Store(false)
	err := s.probe(s.ctx)
	if s.ctx.Err() != nil {
		return
	}
	var all []*open
	s.each(func(o *open) { all = append(all, o) })
	if err != nil && !s.usable() {
		d := denyFor(HostDatabaseUnavailable, err)
		for _, o := range all {
			if !s.spared(o, d) {
				s.end(o, d)
			}
		}
		return
	}
	s.enqueue(all...)
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
	}
}

const never = int64(1<<63 - 1)

// next is when the clock has a say in an open request.
func (s *streams) next(o *open, now time.Time) int64 {
	until, ok := s.until(o)
	if !ok {
		return never
	}
	// What still holds behind its end (a token's leeway) is looked at each second from there on.
	if !until.After(now) {
		return now.Add(time.Second).UnixNano()
	}
	return until.UnixNano()
}

// check judges what is queued, streamChecks at once.
func (s *streams) check() {
	s.queue.Lock()
	list := s.queue.list
	s.queue.list = nil
	s.queue.Unlock()
	for _, o := range list {
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		s.group.Go(func() {
			defer func() { <-s.slots }()
			o.judging.Lock()
			defer o.judging.Unlock()
			o.queued.Lock()
			o.waiting = false
			o.queued.Unlock()
			s.rejudge(o)
		})
	}
}

// rejudge cuts o unless it would be let through as it was. A check that cannot be made is tried again a few times.
func (s *streams) rejudge(o *open) {
	for try := 1; ; try++ {
		if o.ended() {
			return
		}
		d := s.judge(s.ctx, o)
		if s.ctx.Err() != nil {
			return
		}
		if d == nil {
			break
		}
		if d.Code != HostDatabaseUnavailable && d.Code != ProviderUnavailable || try == streamTries {
			if !s.spared(o, d) {
				s.end(o, d)
			}
			return
		}
		timer := time.NewTimer(streamRetry)
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			timer.Stop()
			return
		}
	}
	now := s.clock()
	o.shard.mu.Lock()
	o.due, o.refused = s.next(o, now), 0
	o.shard.mu.Unlock()
}

// spared lets a request that is no stream go on for a moment, and has it judged again then.
func (s *streams) spared(o *open, d *Denial) bool {
	if o.streaming.Load() {
		return false
	}
	now := s.clock()
	o.shard.mu.Lock()
	defer o.shard.mu.Unlock()
	if o.refused == 0 {
		o.refused = now.UnixNano()
	}
	until := o.x.start.Add(briefly)
	if d.Code == TenantPaused {
		left := drain
		if d.drains {
			left = d.drain
		}
		until = time.Unix(0, o.refused).Add(left)
	}
	if !now.Before(until) {
		return false
	}
	o.due = until.UnixNano()
	return true
}

func (s *streams) end(o *open, d *Denial) {
	if o.close(d) {
		s.counted(o, d)
	}
}

// Reconsider judges every request under way anew whose keys changed reports. It returns at once; what is not let
// through any more is closed: a WebSocket with 1008, an event stream by its end, gRPC with status 7, anything else that
// has taken longer than a moment aborted, so that it never looks complete. Facts that changed must have been forgotten
// before.
func (g *Gate) Reconsider(changed func(StreamKeys) bool) { g.streams.reconsider(changed) }

// rejudge asks the engine again, with what the request presented, and compares the grants: who it is, which tenant,
// where the data is, and that the role has not become less.
func (g *Gate) rejudge(ctx context.Context, o *open) *Denial {
	facts := o.x.facts
	facts.Credentials.Recheck = true
	var now Verdict
	g.engine.judge(ctx, &facts, &now, nil)
	was := &o.x.verdict
	switch {
	case now.Denial != nil:
		return now.Denial
	case now.Identity == nil || now.Identity.User != was.Identity.User:
		return deny(UnknownUser)
	case was.Grant == nil:
		return nil // what the app was told of the person alone still holds
	case now.Grant == nil:
		return deny(NoAccess)
	case now.Grant.Tenant.ID != was.Grant.Tenant.ID, now.Grant.DBURI() != was.Grant.DBURI():
		return deny(TenantChanged)
	case !g.engine.policy.covers(now.Grant.Membership.Role, was.Grant.Membership.Role):
		return deny(RoleRequired)
	}
	return nil
}

// covers reports whether role allows all that before did.
func (p *Policy) covers(role, before string) bool {
	return role == before || p.rank(role) > p.rank(before)
}

// ends is when the clock may end an open request: its session or token, or the grace of a late payment.
func (g *Gate) ends(o *open) (time.Time, bool) {
	until, ok := g.auth.EndsAt(*o.x.verdict.Identity)
	if gr := o.x.verdict.Grant; gr != nil && !gr.until.IsZero() && (!ok || gr.until.Before(until)) {
		until, ok = gr.until, true
	}
	return until, ok
}

// readable asks the host database something whose answer does not matter, within a decision's deadline.
func (g *Gate) readable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, _, err := g.engine.directory.host.ResolveTenant(ctx, string(noTenant), catalog.NamePlain)
	return err
}

// wasCut counts a cut and says so in the log.
func (g *Gate) wasCut(o *open, d *Denial) {
	g.telemetry.Metrics.Cut(string(d.Code))
	g.log.InfoContext(o.x.outer, "open request cut", "request_id", o.x.client.requestID, "code", string(d.Code),
		"user_id", string(o.x.verdict.Identity.User))
}

// errCut ends what is being copied for a request that is not let through any more.
var errCut = errors.New("the request is not let through any more")

// used notes that bytes came from the client: a stream in use keeps its session from becoming idle.
func (g *Gate) used(id *auth.Identity) func() {
	last := g.clock()
	return func() {
		if now := g.clock(); now.Sub(last) >= time.Second {
			last = now
			g.auth.Use(*id)
		}
	}
}
