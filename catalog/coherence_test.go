package catalog

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/cache"
)

// dependants is a cache with one answer for each thing that answers can depend on.
func dependants() (*Coherent, *cache.Cache[string, cache.Tag], []string) {
	things := map[string]cache.Tag{
		"user u": UserTag("u"), "user v": UserTag("v"), "subject s": SubjectTag("s"), "tenant t": TenantTag("t"),
		"tenant w": TenantTag("w"), "name Acme": NameTag("Acme"), "name t": NameTag("t"), "unknown names": UnknownNameTag(),
		"plan p": PlanTag("p"), "session i": SessionTag("i"), "token i": APITokenTag("i"),
		"all users": EveryTag(ChangedUser)[0], "all tenants": EveryTag(ChangedTenant)[0],
	}
	c := &Coherent{Coherence: cache.NewCoherence(cache.CoherenceConfig{Heartbeat: time.Hour})}
	c.Looked(time.Now())
	answers := cache.NewCoherent(cache.Config{Entries: 1000, TTL: 2 * time.Hour}, cache.Depends[string, cache.Tag]{
		Coherence: c.Coherence,
		Tags:      func(tags []cache.Tag, _ string, tag cache.Tag, _ bool) []cache.Tag { return append(tags, tag) },
	})
	names := make([]string, 0, len(things))
	for name, tag := range things {
		names = append(names, name)
		answers.Put(name, tag)
	}
	slices.Sort(names)
	return c, answers, names
}

func TestAChangeForgetsWhatDependsOnItsRow(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change Change
		forgot []string
	}{
		{"user", Change{Kind: ChangedUser, ID: "u", User: "u", Subject: "s"}, []string{"subject s", "user u"}},
		{"membership", Change{Kind: ChangedMembership, ID: "m", User: "u", Tenant: "t"}, []string{"user u"}},
		{"block", Change{Kind: ChangedBlock, ID: "u", User: "u"}, []string{"user u"}},
		{"tenant", Change{Kind: ChangedTenant, ID: "t", Tenant: "t"}, []string{"name t", "tenant t", "unknown names"}},
		{"lock", Change{Kind: ChangedLock, ID: "t", Tenant: "t"}, []string{"tenant t"}},
		{"subscription", Change{Kind: ChangedSubscription, ID: "x", Tenant: "t"}, []string{"tenant t"}},
		{"plan", Change{Kind: ChangedPlan, ID: "p"}, []string{"plan p"}},
		{"domain", Change{Kind: ChangedDomain, ID: "acme", Tenant: "t"}, []string{"name Acme", "tenant t", "unknown names"}},
		{"session", Change{Kind: ChangedSession, ID: "i", User: "u", Tenant: "t"}, []string{"session i"}},
		{"token", Change{Kind: ChangedToken, ID: "i", User: "u", Tenant: "t"}, []string{"token i"}},
		{"every user", Change{Kind: ChangedUser, Every: true}, []string{"all users"}},
		{"every tenant", Change{Kind: ChangedTenant, Every: true}, []string{"all tenants", "unknown names"}},
		{"nothing that is remembered", Change{Kind: ChangedUser, ID: "other", User: "other"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, answers, names := dependants()
			defer answers.Close()
			c.Changed([]Change{tc.change})
			var forgot []string
			for _, name := range names {
				if _, _, ok := answers.Peek(name); !ok {
					forgot = append(forgot, name)
				}
			}
			if !slices.Equal(forgot, tc.forgot) {
				t.Errorf("forgot %q, want %q", forgot, tc.forgot)
			}
		})
	}
}

func TestAResetAndAChangeOfAnUnknownKindForgetEverything(t *testing.T) {
	for name, tell := range map[string]func(*Coherent){
		"reset":   (*Coherent).Reset,
		"unknown": func(c *Coherent) { c.Changed([]Change{{Kind: ChangedPlan, ID: "p"}, {Kind: "surprise", ID: "x"}}) },
	} {
		c, answers, names := dependants()
		tell(c)
		for _, key := range names {
			if _, _, ok := answers.Peek(key); ok {
				t.Errorf("%s: %s is remembered", name, key)
			}
		}
		answers.Close()
	}
}

// oneLook is a change log that has one change to tell.
type oneLook struct {
	told   chan struct{}
	change Change
}

func (l *oneLook) connect(context.Context) error { return nil }
func (l *oneLook) wait(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (l *oneLook) look(_ context.Context, tell func([]Change)) (bool, error) {
	select {
	case <-l.told:
	default:
		tell([]Change{l.change})
		close(l.told)
	}
	return true, nil
}
func (l *oneLook) forget()                     {}
func (l *oneLook) sweep(context.Context) error { return nil }
func (l *oneLook) check(context.Context) error { return nil }
func (l *oneLook) listening() bool             { return false }
func (l *oneLook) close()                      {}

func TestMemoryIsCurrentOnceALookHasToldWhatItSaw(t *testing.T) {
	c, answers, _ := dependants()
	defer answers.Close()
	*c = Coherent{Coherence: c.Coherence}
	looked := make(chan bool, 100)
	log := &oneLook{told: make(chan struct{}), change: Change{Kind: ChangedPlan, ID: "p"}}
	feed := startFeed(WatchConfig{Heartbeat: time.Hour, Subscribers: []Subscriber{c, watcher(func() {
		_, _, ok := answers.Peek("plan p")
		looked <- ok
	})}}, log)
	defer feed.Close()
	if <-looked {
		t.Error("a look counted before what it saw was forgotten")
	}
}

// watcher is told of looks alone.
type watcher func()

func (watcher) Changed([]Change)   {}
func (watcher) Reset()             {}
func (w watcher) Looked(time.Time) { w() }
