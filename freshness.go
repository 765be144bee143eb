package tenantgate

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/tenantgate/tenantgate/cache"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/router"
	"github.com/tenantgate/tenantgate/telemetry"
)

// freshness is what keeps decisions fresh: one feed of the host database's changes, what all caches of all
// configurations know of them, and the requests under way that they concern.
type freshness struct {
	catalog.Coherent

	mu   sync.Mutex // guards feed and live
	feed *catalog.Feed
	live []*generation // those with which requests may be under way
}

var _ catalog.LookSubscriber = (*freshness)(nil)

func newFreshness(cfg *config.Config, clock func() time.Time) *freshness {
	return &freshness{Coherent: catalog.Coherent{Coherence: cache.NewCoherence(cache.CoherenceConfig{
		Heartbeat: heartbeat(cfg), MaxStale: maxStale(cfg), Entries: cfg.Cache.Entries, Clock: clock,
		Unreadable: func(err error) bool {
			return errors.Is(err, catalog.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
		},
	})}}
}

// start begins to look for changes; stop ends it. Until the first look is complete every decision is read.
func (f *freshness) start(host *catalog.HostDatabase, heartbeat time.Duration, clock func() time.Time) error {
	feed, err := host.Watch(catalog.WatchConfig{Heartbeat: heartbeat, Subscribers: []catalog.Subscriber{f}, Clock: clock})
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.feed = feed
	return nil
}

// first waits for the first look, though not for long: a database that cannot be looked at is the Feed's to try again,
// and readiness's to tell.
func (f *freshness) first(ctx context.Context) error {
	timer := time.NewTimer(firstLook)
	defer timer.Stop()
	select {
	case <-f.feed.First():
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// firstLook is how long the start waits for the first look at the change log.
const firstLook = time.Second

func (f *freshness) stop() {
	f.mu.Lock()
	feed := f.feed
	f.feed = nil
	f.mu.Unlock()
	if feed != nil {
		feed.Close()
	}
}

// add makes the requests of a generation hear of changes; remove ends that.
func (f *freshness) add(n *generation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live = append(f.live, n)
}

func (f *freshness) remove(n *generation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live = slices.DeleteFunc(f.live, func(l *generation) bool { return l == n })
}

// Changed forgets what depends on the rows, then has what is under way by them judged anew.
func (f *freshness) Changed(changes []catalog.Change) {
	f.Coherent.Changed(changes)
	concerned := concern(changes)
	f.reconsider(concerned.request)
	for _, n := range f.generations() {
		n.books.changed(changes)
	}
}

// Reset forgets everything and has everything judged anew.
func (f *freshness) Reset() {
	f.Coherent.Reset()
	f.reconsider(func(router.StreamKeys) bool { return true })
	for _, n := range f.generations() {
		n.books.reset()
	}
}

func (f *freshness) reconsider(concerned func(router.StreamKeys) bool) {
	for _, n := range f.generations() {
		n.gate.Reconsider(concerned)
	}
}

func (f *freshness) generations() []*generation {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.live)
}

// concerned are the keys that a set of changes is about.
type concerned struct {
	every    bool
	users    map[catalog.UserID]bool
	tenants  map[catalog.TenantID]bool
	plans    map[catalog.PlanID]bool
	sessions map[catalog.SessionID]bool
}

func concern(changes []catalog.Change) *concerned {
	c := &concerned{
		users: map[catalog.UserID]bool{}, tenants: map[catalog.TenantID]bool{}, plans: map[catalog.PlanID]bool{},
		sessions: map[catalog.SessionID]bool{},
	}
	for i := range changes {
		switch ch := &changes[i]; {
		case ch.Every:
			c.every = true
		case ch.Kind == catalog.ChangedUser, ch.Kind == catalog.ChangedMembership, ch.Kind == catalog.ChangedBlock,
			ch.Kind == catalog.ChangedToken:
			c.users[ch.User] = true
		case ch.Kind == catalog.ChangedTenant, ch.Kind == catalog.ChangedSubscription, ch.Kind == catalog.ChangedLock,
			ch.Kind == catalog.ChangedDomain:
			c.tenants[ch.Tenant] = true
		case ch.Kind == catalog.ChangedPlan:
			c.plans[catalog.PlanID(ch.ID)] = true
		case ch.Kind == catalog.ChangedSession:
			c.sessions[catalog.SessionID(ch.ID)] = true
		default:
			c.every = true // a kind that this program does not know
		}
	}
	return c
}

func (c *concerned) request(k router.StreamKeys) bool {
	return c.every || c.users[k.User] || k.Tenant != "" && c.tenants[k.Tenant] || c.plans[k.Plan] || c.sessions[k.Session]
}

// metrics is what /metrics shows of it.
func (f *freshness) metrics() telemetry.Freshness {
	s := f.State()
	out := telemetry.Freshness{
		Current: s.Current, Lag: s.Lag, ReadsThrough: s.ReadsThrough, StaleAnswers: s.StaleAnswers, Resets: s.Resets,
	}
	f.mu.Lock()
	feed := f.feed
	f.mu.Unlock()
	if feed != nil {
		stats := feed.Stats()
		out.Looks, out.FailedLooks, out.Changes, out.Listening = stats.Looks, stats.Failures, stats.Changes, stats.Listening
	}
	return out
}
