package router

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/cache"
	"github.com/tenantgate/tenantgate/catalog"
)

// switched is a host database that can be cut off, and counts its reads.
type switched struct {
	*catalog.HostDatabase
	down  atomic.Bool
	reads atomic.Int64
}

func (s *switched) read() error {
	s.reads.Add(1)
	if s.down.Load() {
		return catalog.ErrUnavailable
	}
	return nil
}

func (s *switched) GrantFacts(ctx context.Context, q catalog.GrantQuery) (catalog.GrantFacts, error) {
	if err := s.read(); err != nil {
		return catalog.GrantFacts{}, err
	}
	return s.HostDatabase.GrantFacts(ctx, q)
}

func (s *switched) UserGrants(ctx context.Context, user catalog.UserID, aliases map[string]string, limit int) ([]catalog.GrantFacts, error) {
	if err := s.read(); err != nil {
		return nil, err
	}
	return s.HostDatabase.UserGrants(ctx, user, aliases, limit)
}

func (s *switched) ResolveTenant(ctx context.Context, name string, kind catalog.NameKind) (catalog.TenantID, bool, error) {
	if err := s.read(); err != nil {
		return "", false, err
	}
	return s.HostDatabase.ResolveTenant(ctx, name, kind)
}

// replica is an engine that hears of changes from the test, under the test's clock.
type replica struct {
	*Engine
	coherent *catalog.Coherent
	host     *switched
	now      time.Time
}

func newTestReplica(t *testing.T, host *catalog.HostDatabase) *replica {
	r := &replica{host: &switched{HostDatabase: host}, now: time.Now()}
	clock := func() time.Time { return r.now }
	c := cache.NewCoherence(cache.CoherenceConfig{
		Heartbeat: time.Second, MaxStale: 30 * time.Second, Clock: clock,
		Unreadable: func(err error) bool { return errors.Is(err, catalog.ErrUnavailable) },
	})
	r.coherent = &catalog.Coherent{Coherence: c}
	r.coherent.Looked(r.now)
	r.Engine = coherentEngine(t, r.host, everySource, c, clock)
	return r
}

// ways are all the ways to name globex, or none where there is only one.
func (r *replica) ask(t *testing.T, user catalog.UserID, host, path string) Code {
	t.Helper()
	r.auth = person{User: user, Kind: auth.KindBearer}
	return codeOf(r.Judge(t.Context(), &Facts{Method: "GET", Host: host, Path: path}, nil))
}

func TestAChangeIsInForceOnceItHasBeenTold(t *testing.T) {
	ctx := context.Background()
	type answers map[string]Code // way → code
	ways := map[string][2]string{
		"label": {"globex.app.example.com", "/x"}, "slug": {"glx.app.example.com", "/x"}, "domain": {"portal.globex.test", "/x"},
		"path": {"app.example.com", "/t/globex/x"}, "only": {"app.example.com", "/x"},
	}
	all := func(c Code) answers {
		return answers{"label": c, "slug": c, "domain": c, "path": c, "only": c}
	}
	for _, tc := range []struct {
		name   string
		change func(tx *catalog.Tx) error
		tell   []catalog.Change
		want   answers // after; only what differs from let through
	}{
		{
			"membership deactivated", func(tx *catalog.Tx) error {
				return memberships(tx, "cyd", func(m *catalog.Membership) { m.IsActive = new(false) })
			},
			[]catalog.Change{{Kind: catalog.ChangedMembership, ID: "m", User: "cyd", Tenant: "globex"}},
			answers{"label": MembershipInactive, "slug": MembershipInactive, "domain": MembershipInactive, "path": MembershipInactive, "only": NoAccess},
		},
		{
			"user blocked", func(tx *catalog.Tx) error { return tx.BlockUser(ctx, "cyd", "") },
			[]catalog.Change{{Kind: catalog.ChangedBlock, ID: "cyd", User: "cyd"}},
			all(UnknownUser),
		},
		{
			"user gone", func(tx *catalog.Tx) error { return tx.GlobalUsers.Delete(ctx, "cyd") },
			[]catalog.Change{{Kind: catalog.ChangedUser, ID: "cyd", User: "cyd"}},
			all(UnknownUser),
		},
		{
			"tenant suspended", func(tx *catalog.Tx) error {
				return tenant(tx, func(c *catalog.TenantCatalog) { c.IsActive = new(false) })
			},
			[]catalog.Change{{Kind: catalog.ChangedTenant, ID: "globex", Tenant: "globex"}},
			all(TenantInactive),
		},
		{"tenant's URI unusable", func(tx *catalog.Tx) error {
			return tenant(tx, func(c *catalog.TenantCatalog) { c.DBURL = catalog.NewDBURI("ref:what") })
		}, []catalog.Change{{Kind: catalog.ChangedTenant, ID: "globex", Tenant: "globex"}}, all(TenantMisconfigured)},
		{
			"tenant paused", func(tx *catalog.Tx) error { return tx.PauseTenant(ctx, "globex", "", time.Time{}) },
			[]catalog.Change{{Kind: catalog.ChangedLock, ID: "globex", Tenant: "globex"}},
			all(TenantPaused),
		},
		{
			"subscription canceled", func(tx *catalog.Tx) error { return subscription(tx) },
			[]catalog.Change{{Kind: catalog.ChangedSubscription, ID: "x", Tenant: "globex"}},
			all(SubscriptionRequired),
		},
		{
			"slug and domain gone", func(tx *catalog.Tx) error {
				return errors.Join(tx.Domains.Delete(ctx, "glx"), tx.Domains.Delete(ctx, "portal.globex.test"))
			},
			[]catalog.Change{{Kind: catalog.ChangedDomain, ID: "glx", Tenant: "globex"}, {Kind: catalog.ChangedDomain, ID: "portal.globex.test", Tenant: "globex"}},
			answers{"slug": NoAccess},
		}, // a host that is no domain names nobody: the only membership is left
		{
			"every membership", func(tx *catalog.Tx) error {
				return memberships(tx, "cyd", func(m *catalog.Membership) { m.IsActive = new(false) })
			},
			[]catalog.Change{{Kind: catalog.ChangedMembership, Every: true}},
			answers{"label": MembershipInactive, "slug": MembershipInactive, "domain": MembershipInactive, "path": MembershipInactive, "only": NoAccess},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host := testHost(t)
			if err := host.InTx(ctx, func(tx *catalog.Tx) error {
				return errors.Join(tx.GlobalUsers.Insert(ctx, &catalog.GlobalUser{ID: "cyd"}),
					tx.Memberships.Insert(ctx, &catalog.Membership{ID: "m", UserID: "cyd", TenantID: "globex", Role: new("owner")}))
			}); err != nil {
				t.Fatal(err)
			}
			r := newTestReplica(t, host)
			expect := func(when string, want answers) {
				t.Helper()
				for way, at := range ways {
					if got := r.ask(t, "cyd", at[0], at[1]); got != want[way] {
						t.Errorf("%s, by %s: %q, want %q", when, way, got, want[way])
					}
				}
			}
			expect("before", answers{})
			if err := host.InTx(ctx, tc.change); err != nil {
				t.Fatal(err)
			}
			reads := r.host.reads.Load()
			expect("untold", answers{}) // from memory: otherwise this shows nothing
			if r.host.reads.Load() != reads {
				t.Fatal("memory was not used")
			}
			r.coherent.Changed(tc.tell)
			expect("told", tc.want)
		})
	}
}

func memberships(tx *catalog.Tx, user catalog.UserID, change func(*catalog.Membership)) error {
	ctx := context.Background()
	m, err := tx.Memberships.Get(ctx, "m")
	if err != nil {
		return err
	}
	change(m)
	return tx.Memberships.Update(ctx, m)
}

func tenant(tx *catalog.Tx, change func(*catalog.TenantCatalog)) error {
	ctx := context.Background()
	c, err := tx.Tenants.Get(ctx, "globex")
	if err != nil {
		return err
	}
	change(c)
	return tx.Tenants.Update(ctx, c)
}

func subscription(tx *catalog.Tx) error {
	return tx.Subscriptions.Insert(context.Background(), &catalog.Subscription{
		ID: "x", TenantID: "globex", Status: new("canceled"), PaymentType: new("subscription"), CreatedAt: new("2999-01-01T00:00:00"),
	})
}

func TestAPlanIsInForceOnceItsChangeHasBeenTold(t *testing.T) {
	host := testHost(t)
	r := newTestReplica(t, host)
	grant := func() *Grant {
		r.auth = person{User: "bob", Kind: auth.KindBearer}
		v := r.Judge(t.Context(), &Facts{Method: "GET", Host: "acme.app.example.com", Path: "/x"}, nil)
		if v.Grant == nil {
			t.Fatalf("refused: %q", codeOf(v))
		}
		return v.Grant
	}
	if level := grant().Plan.TierLevel; level != 1 {
		t.Fatalf("without a row the plan has level %d", level)
	}
	if err := host.PricingPlans.Insert(t.Context(), &catalog.PricingPlan{ID: "pro", TierLevel: new(int64(7))}); err != nil {
		t.Fatal(err)
	}
	if grant().Plan.TierLevel != 1 {
		t.Fatal("memory was not used")
	}
	r.coherent.Changed([]catalog.Change{{Kind: catalog.ChangedPlan, ID: "pro"}})
	if level := grant().Plan.TierLevel; level != 7 {
		t.Errorf("level %d after the plan was made", level)
	}
}

// What was asked for before it existed works once it has been told that it does, in whichever order its rows come.
func TestWhatWasAskedForBeforeItExisted(t *testing.T) {
	ctx := context.Background()
	type step struct {
		name string
		do   func(tx *catalog.Tx) error
		tell catalog.Change
	}
	steps := map[string]step{
		"user": {"user", func(tx *catalog.Tx) error {
			return tx.GlobalUsers.Insert(ctx, &catalog.GlobalUser{ID: "dan", OAuthID: new("dan")})
		}, catalog.Change{Kind: catalog.ChangedUser, ID: "dan", User: "dan", Subject: "dan"}},
		"tenant": {"tenant", func(tx *catalog.Tx) error {
			return tx.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "Hooli-1", DBURL: catalog.NewDBURI("postgresql://x:y@db/h"), IsActive: new(true)})
		}, catalog.Change{Kind: catalog.ChangedTenant, ID: "Hooli-1", Tenant: "Hooli-1"}},
		"membership": {"membership", func(tx *catalog.Tx) error {
			return tx.Memberships.Insert(ctx, &catalog.Membership{ID: "h", UserID: "dan", TenantID: "Hooli-1", Role: new("owner")})
		}, catalog.Change{Kind: catalog.ChangedMembership, ID: "h", User: "dan", Tenant: "Hooli-1"}},
		"slug": {"slug", func(tx *catalog.Tx) error {
			return domain(tx, "hooli", "slug")
		}, catalog.Change{Kind: catalog.ChangedDomain, ID: "hooli", Tenant: "Hooli-1"}},
		"domain": {"domain", func(tx *catalog.Tx) error {
			return domain(tx, "hooli.test", "host")
		}, catalog.Change{Kind: catalog.ChangedDomain, ID: "hooli.test", Tenant: "Hooli-1"}},
		"payment": {"payment", func(tx *catalog.Tx) error {
			return tx.Subscriptions.Insert(ctx, &catalog.Subscription{ID: "h", TenantID: "Hooli-1", Status: new("active"), PaymentType: new("subscription")})
		}, catalog.Change{Kind: catalog.ChangedSubscription, ID: "h", Tenant: "Hooli-1"}},
	}
	ways := map[string][2]string{
		"label": {"hooli-1.app.example.com", "/x"}, "slug": {"HOOLI.app.example.com", "/x"}, "domain": {"hooli.test", "/x"},
		"path": {"app.example.com", "/t/Hooli-1/x"}, "path slug": {"app.example.com", "/t/hooli/x"}, "only": {"app.example.com", "/x"},
	}
	delete(ways, "label") // a host label is lower case: it can name that tenant by its slug alone
	for _, order := range [][]string{
		{"user", "tenant", "membership", "slug", "domain", "payment"},
		{"payment", "domain", "slug", "membership", "tenant", "user"},
		{"slug", "membership", "user", "tenant", "payment", "domain"},
		{"membership", "user", "payment", "domain", "slug", "tenant"},
	} {
		host := testHost(t)
		r := newTestReplica(t, host)
		askAll := func() (let int) {
			for _, at := range ways {
				if r.ask(t, "dan", at[0], at[1]) == "" {
					let++
				}
			}
			return let
		}
		if askAll() != 0 {
			t.Fatal("let through before anything existed")
		}
		for _, name := range order {
			s := steps[name]
			if err := host.InTx(ctx, s.do); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			r.coherent.Changed([]catalog.Change{s.tell})
			askAll() // remembered at every stage
		}
		for way, at := range ways {
			if code := r.ask(t, "dan", at[0], at[1]); code != "" {
				t.Errorf("%v: by %s: %q", order, way, code)
			}
		}
	}
}

// domain makes a domain of a tenant, whether that exists or not: so can a domain that another program wrote.
func domain(tx *catalog.Tx, host, kind string) error {
	ctx := context.Background()
	_, err := tx.Tenants.Get(ctx, "Hooli-1")
	missing := errors.Is(err, catalog.ErrNotFound)
	if missing {
		err = tx.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "Hooli-1"})
	}
	err = errors.Join(err, tx.Domains.Insert(ctx, &catalog.Domain{Host: catalog.DomainName(host), TenantID: "Hooli-1", Kind: kind, Verified: true}))
	if missing {
		err = errors.Join(err, tx.Tenants.Delete(ctx, "Hooli-1"))
	}
	return err
}

func TestWithoutLooksDecisionsAreReadAndThenComeFromMemoryForAWhile(t *testing.T) {
	host := testHost(t)
	r := newTestReplica(t, host)
	ask := func() Code { return r.ask(t, "bob", "acme.app.example.com", "/x") }
	expect := func(when string, want Code) {
		t.Helper()
		if got := ask(); got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	expect("current", "")
	r.now = r.now.Add(time.Second)
	reads := r.host.reads.Load()
	expect("not current", "")
	if r.host.reads.Load() == reads {
		t.Error("decided from memory although nobody looks")
	}
	r.host.down.Store(true)
	expect("unreadable", "")
	if code := r.ask(t, "eve", "acme.app.example.com", "/x"); code != HostDatabaseUnavailable {
		t.Errorf("a stranger, unreadable: %q", code)
	}
	r.now = r.now.Add(30*time.Second - 1)
	expect("just before max_stale", "")
	r.now = r.now.Add(1)
	expect("at max_stale", HostDatabaseUnavailable)
	r.host.down.Store(false)
	expect("readable again", "")
	r.coherent.Looked(r.now)
	reads = r.host.reads.Load()
	expect("current again", "")
	if r.host.reads.Load() != reads {
		t.Error("read although current")
	}
}
