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

// The model of a replica: a source whose things change by themselves, looks at it that are late or lost, loads that
// begin and end in any order, a clock that steps, a source that cannot be read for a while. The check knows nothing of
// tags, numbers or entries: it asks whether the source has ever been, since the moment that the caller may rely on, as
// the answer says.

const (
	replicaHeartbeat = 4 * time.Second
	replicaMaxStale  = 8 * time.Second
	replicaTTL       = 30 * time.Second
)

// reading is an answer: the thing that a key leads to and its version, 0 for none.
type reading struct {
	thing   string
	version int
	at      time.Time // when it was read; no part of what is compared
}

func (r reading) same(o reading) bool { return r.thing == o.thing && r.version == o.version }

// change is one committed change of the source.
type change struct {
	order, delivered int // delivered 0: not yet
	at               time.Time
	tag              thing
}

// replica runs a script against a real cache inside a synctest bubble.
type replica struct {
	clock *fakeClock
	co    *Coherence
	cache *Cache[string, reading]

	mu         sync.Mutex
	order      int
	leads      map[string]string // key → thing
	versions   map[string]int    // thing → version, 0: gone
	everSeen   []map[string]reading
	changes    []*change
	unreadable bool
	outages    int // how often it became unreadable
	begun      *time.Time
	pending    []*pendingLoad
	wg         sync.WaitGroup
	faults     []error
}

var (
	replicaKeys   = []string{"a", "b", "c"}
	replicaThings = []string{"x", "y"}
)

func newReplica(entries int) *replica {
	r := &replica{
		clock: newFakeClock(), leads: map[string]string{"a": "x", "b": "x", "c": "y"}, versions: map[string]int{"x": 1},
	}
	r.co = NewCoherence(CoherenceConfig{
		Heartbeat: replicaHeartbeat, MaxStale: replicaMaxStale, Entries: entries, Clock: r.clock.Now,
		Unreadable: func(err error) bool { return errors.Is(err, errDown) },
	})
	r.cache = NewCoherent(
		Config{Entries: entries, TTL: replicaTTL, NegativeTTL: replicaTTL, LoadTimeout: time.Hour},
		Depends[string, reading]{Coherence: r.co, Tags: func(tags []Tag, key string, v reading, found bool) []Tag {
			if !found {
				return append(tags, TagOf(thing("key "+key)), TagOf(thing("any")))
			}
			return append(tags, TagOf(thing("key "+key)), TagOf(thing(v.thing)))
		}})
	r.snapshot()
	return r
}

// snapshot notes how the source is after the order-th action. r.mu is held, or nobody else knows r yet.
func (r *replica) snapshot() {
	all := map[string]reading{}
	for _, k := range replicaKeys {
		all[k] = r.read(k)
	}
	r.everSeen = append(r.everSeen, all)
}

func (r *replica) read(key string) reading {
	t := r.leads[key]
	if r.versions[t] == 0 {
		return reading{}
	}
	return reading{thing: t, version: r.versions[t], at: r.clock.Now()}
}

func (r *replica) commit(tag thing) {
	r.changes = append(r.changes, &change{order: r.order, at: r.clock.Now(), tag: tag})
}

// asking is when a caller asked.
type asking struct {
	order, outages int
	unreadable     bool
	at             time.Time
	mustSee        int // the last change that was delivered by then
}

func (r *replica) ask() asking {
	a := asking{order: r.order, outages: r.outages, unreadable: r.unreadable, at: r.clock.Now()}
	for _, c := range r.changes {
		if c.delivered != 0 {
			a.mustSee = max(a.mustSee, c.order)
		}
	}
	return a
}

// judge holds an answer against what the source has been.
func (r *replica) judge(what, key string, got reading, a asking, remembered bool) {
	couldRead := !a.unreadable && r.outages == a.outages
	bound := replicaHeartbeat
	if !couldRead && !remembered && got.version != 0 {
		bound += replicaMaxStale
	}
	from := a.mustSee
	for _, c := range r.changes {
		if a.at.Sub(c.at) >= bound {
			from = max(from, c.order)
		}
	}
	if got.version != 0 && a.at.Sub(got.at) >= replicaTTL+bound {
		r.faults = append(r.faults, fmt.Errorf("%s(%s) at %d answered what was read %v before", what, key, a.order, a.at.Sub(got.at)))
	}
	for o := from; o < len(r.everSeen); o++ {
		if r.everSeen[o][key].same(got) {
			return
		}
	}
	r.faults = append(r.faults, fmt.Errorf("%s(%s) at %d (%v) answered %v, which was not so from %d on", what, key, a.order, a.at, got, from))
}

func (r *replica) get(key string, release chan struct{}) {
	r.mu.Lock()
	a := r.ask()
	r.mu.Unlock()
	r.wg.Go(func() {
		v, found, err := r.cache.Get(context.Background(), key, func(context.Context) (reading, bool, error) {
			r.mu.Lock()
			read := r.read(key)
			r.mu.Unlock()
			if release != nil {
				<-release
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.unreadable {
				return reading{}, false, errDown
			}
			return read, read.version != 0, nil
		})
		r.mu.Lock()
		defer r.mu.Unlock()
		switch {
		case err != nil && !a.unreadable && r.outages == a.outages:
			r.faults = append(r.faults, fmt.Errorf("Get(%s) at %d: %w", key, a.order, err))
		case err != nil:
		case !found && v != reading{}:
			r.faults = append(r.faults, fmt.Errorf("Get(%s): %v without having found it", key, v))
		default:
			r.judge("Get", key, v, a, false)
		}
	})
	synctest.Wait()
}

// deliver ends the look that began at r.begun, or at once.
func (r *replica) deliver() {
	r.mu.Lock()
	began := r.clock.Now()
	if r.begun != nil {
		began, r.begun = *r.begun, nil
	}
	var tags []Tag
	for _, c := range r.changes {
		if c.delivered == 0 && !c.at.After(began) {
			c.delivered = r.order
			tags = append(tags, TagOf(c.tag), TagOf(thing("any")))
		}
	}
	r.mu.Unlock()
	r.co.Invalidate(tags...)
	r.co.Looked(began)
}

func (r *replica) do(a action) {
	r.mu.Lock()
	r.order++
	name := replicaThings[a.n%len(replicaThings)]
	switch a.kind {
	case "change":
		r.versions[name] = r.order
		r.commit(thing(name))
	case "delete":
		r.versions[name] = 0
		r.commit(thing(name))
	case "lead":
		r.leads[a.key] = name
		r.commit(thing("key " + a.key))
	case "unreadable":
		if !r.unreadable {
			r.outages++
		}
		r.unreadable = true
	case "readable":
		r.unreadable = false
	case "outage": // and what nobody hears of meanwhile
		if !r.unreadable {
			r.outages++
		}
		r.unreadable = true
		if r.versions[name] == 0 || a.n%3 > 0 {
			r.versions[name] = r.order
		} else {
			r.versions[name] = 0
		}
		r.commit(thing(name))
		r.snapshot()
		r.order++
		r.clock.step(time.Duration(2*a.n) * time.Second)
	case "look begins":
		if r.begun == nil {
			now := r.clock.Now()
			r.begun = &now
		}
	case "look is lost":
		r.begun = nil
	case "step":
		r.clock.step(time.Duration(a.n) * time.Second)
	}
	r.snapshot()
	down := r.unreadable
	r.mu.Unlock()
	switch a.kind {
	case "get":
		r.get(a.key, nil)
	case "begin":
		p := &pendingLoad{key: a.key, release: make(chan struct{})}
		r.pending = append(r.pending, p)
		r.get(a.key, p.release)
	case "end":
		if len(r.pending) > 0 {
			if p := r.pending[a.n%len(r.pending)]; !p.done {
				p.done = true
				close(p.release)
				synctest.Wait()
			}
		}
	case "look":
		if !down {
			r.deliver()
		}
	case "peek":
		r.peek(a.key)
	case "reset":
		r.co.InvalidateAll()
	case "forget":
		r.cache.Invalidate(a.key)
	case "put":
		r.mu.Lock()
		if v := r.read(a.key); v.version != 0 {
			r.cache.Put(a.key, v)
		}
		r.mu.Unlock()
	}
}

func (r *replica) peek(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.ask()
	if v, found, ok := r.cache.Peek(key); ok && found == (v.version != 0) {
		r.judge("Peek", key, v, a, true)
	} else if ok {
		r.faults = append(r.faults, fmt.Errorf("Peek(%s): %v %v", key, v, found))
	}
}

func replicaScripts() *rapid.Generator[[]action] {
	kinds := []string{
		"get", "get", "get", "begin", "begin", "end", "end", "peek", "put", "forget", "reset",
		"change", "change", "delete", "lead", "look", "look", "look begins", "look is lost", "step", "step", "outage", "unreadable", "readable",
	}
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) action {
		return action{
			kind: rapid.SampledFrom(kinds).Draw(t, "kind"),
			key:  rapid.SampledFrom(replicaKeys).Draw(t, "key"),
			n:    rapid.IntRange(0, 9).Draw(t, "n"),
		}
	}), 1, 80)
}

func TestModelNoReplicaAnswersFromBeforeWhatItMayRelyOn(t *testing.T) {
	for range 20 { // of -rapid.checks: a script is quick
		checkReplica(t)
	}
}

func checkReplica(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		script := replicaScripts().Draw(rt, "script")
		entries := rapid.IntRange(1, 4).Draw(rt, "entries")
		var faults []error
		synctest.Test(t, func(*testing.T) {
			r := newReplica(entries)
			for _, a := range script {
				r.do(a)
			}
			for _, p := range r.pending {
				if !p.done {
					p.done = true
					close(p.release)
				}
			}
			r.wg.Wait()
			r.cache.Close()
			faults = r.faults
		})
		if err := errors.Join(faults...); err != nil {
			rt.Fatalf("%v", err)
		}
	})
}
