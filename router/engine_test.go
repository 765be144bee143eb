package router

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/cache"
	"github.com/tenantgate/tenantgate/catalog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// person is an Authenticator for one identity.
type person auth.Identity

func (p person) Authenticate(context.Context, auth.Credentials) (auth.Identity, error) {
	return auth.Identity(p), nil
}

// testHost is a real SQLite host database: ada is owner of acme and member of globex, bob of acme alone, eve of
// nothing, lou of a suspended tenant. globex has the slug glx and the verified domain portal.globex.test.
func testHost(t testing.TB) *catalog.HostDatabase {
	t.Helper()
	ctx := context.Background()
	host, err := catalog.Open(ctx, "sqlite:"+filepath.Join(t.TempDir(), "host.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	err = host.InTx(ctx, func(tx *catalog.Tx) error {
		var errs []error
		for _, u := range []string{"ada", "bob", "eve", "lou"} {
			errs = append(errs, tx.GlobalUsers.Insert(ctx, &catalog.GlobalUser{ID: catalog.UserID(u), Email: new(u + "@example.com"), OAuthID: &u}))
		}
		for _, id := range []string{"acme", "globex", "umbrella", "Mixed-Case"} {
			errs = append(errs,
				tx.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: catalog.TenantID(id), Name: new(id), DBURL: catalog.NewDBURI("postgresql://x:y@db/" + id), IsActive: new(id != "umbrella"), PlanTier: new("pro")}),
				tx.Subscriptions.Insert(ctx, &catalog.Subscription{TenantID: catalog.TenantID(id), Status: new("active"), PaymentType: new("subscription"), PlanTier: new("pro")}))
		}
		for _, m := range [][3]string{{"ada", "acme", "owner"}, {"ada", "globex", "member"}, {"bob", "acme", "member"}, {"lou", "umbrella", "owner"}} {
			errs = append(errs, tx.Memberships.Insert(ctx, &catalog.Membership{UserID: catalog.UserID(m[0]), TenantID: catalog.TenantID(m[1]), Role: &m[2]}))
		}
		errs = append(errs,
			tx.Domains.Insert(ctx, &catalog.Domain{Host: "glx", TenantID: "globex", Kind: "slug", Verified: true}),
			tx.Domains.Insert(ctx, &catalog.Domain{Host: "portal.globex.test", TenantID: "globex", Kind: "host", Verified: true}),
			tx.Domains.Insert(ctx, &catalog.Domain{Host: "soon.globex.test", TenantID: "globex", Kind: "host"}))
		errs = append(errs,
			tx.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "gone"}),
			tx.Domains.Insert(ctx, &catalog.Domain{Host: "gone.example.test", TenantID: "gone", Kind: "host", Verified: true}),
			tx.Tenants.Delete(ctx, "gone"))
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
	return host
}

func testEngine(t testing.TB, host HostDatabase, tenants TenantsConfig, routes ...RouteConfig) *Engine {
	t.Helper()
	return coherentEngine(t, host, tenants, nil, time.Now, routes...)
}

func coherentEngine(t testing.TB, host HostDatabase, tenants TenantsConfig, c *cache.Coherence, clock func() time.Time, routes ...RouteConfig) *Engine {
	t.Helper()
	policy := testPolicy(t, billing.Config{})
	public, _ := ParseHost("app.example.com")
	e := &Engine{policy: policy, resolver: newResolver(tenants, public), clock: clock, directory: newDirectory(host, policy, CacheConfig{}, c, clock)}
	if len(routes) == 0 {
		routes = []RouteConfig{{Path: "/account/", Access: "user"}, {Path: "/open/", Access: "public"}, {Path: "/"}}
	}
	for _, c := range routes {
		r, err := compileRoute(c)
		if err != nil {
			t.Fatal(err)
		}
		e.routes.routes = append(e.routes.routes, r)
	}
	t.Cleanup(e.directory.close)
	return e
}

var everySource = TenantsConfig{BaseDomain: "app.example.com", PathPrefix: "/t/", Header: "X-Tenant"}

func TestWhichTenantARequestNames(t *testing.T) { // TEN-1, TEN-2, ENUM-1
	host := testHost(t)
	type ask struct {
		user       catalog.UserID
		host, path string
		header     []string
		claim      string
		session    catalog.TenantID
		token      catalog.TenantID
	}
	for _, c := range []struct {
		name   string
		ask    ask
		tenant catalog.TenantID
		code   Code
	}{
		{"host label", ask{user: "ada", host: "acme.app.example.com"}, "acme", ""},
		{"host label in capitals", ask{user: "ada", host: "ACME.app.example.com"}, "acme", ""},
		{"host slug", ask{user: "ada", host: "glx.app.example.com"}, "globex", ""},
		{"host with trailing dot and port", ask{user: "ada", host: "acme.app.example.com.:8443"}, "acme", ""},
		{"base domain names none", ask{user: "bob", host: "app.example.com"}, "acme", ""},
		{"two labels name none", ask{user: "bob", host: "x.acme.app.example.com"}, "acme", ""},
		{"verified domain", ask{user: "ada", host: "portal.globex.test"}, "globex", ""},
		{"verified domain of a tenant that is not mine", ask{user: "bob", host: "portal.globex.test"}, "", NoAccess},
		{"unverified domain names none", ask{user: "bob", host: "soon.globex.test"}, "acme", ""},
		{"a sidecar's name names none", ask{user: "bob", host: "app.svc.cluster.local"}, "acme", ""},
		{"path", ask{user: "ada", path: "/t/globex/x"}, "globex", ""},
		{"path slug in capitals", ask{user: "ada", path: "/t/GLX/"}, "globex", ""},
		{"an id is exact", ask{user: "ada", path: "/t/ACME/"}, "", NoAccess},
		{"header", ask{user: "ada", header: []string{"globex"}}, "globex", ""},
		{"header twice, the same", ask{user: "ada", header: []string{"globex", "glx"}}, "globex", ""},
		{"header twice, different", ask{user: "ada", header: []string{"globex", "acme"}}, "", TenantConflict},
		{"claim", ask{user: "ada", claim: "globex"}, "globex", ""},
		{"a session's choice counts only where tenants have no address", ask{user: "ada", session: "globex"}, "", TenantRequired},
		{"a verified domain whose tenant is gone", ask{user: "bob", host: "gone.example.test"}, "", NoAccess},
		{"only membership", ask{user: "bob"}, "acme", ""},
		{"several memberships", ask{user: "ada"}, "", TenantRequired},
		{"no membership", ask{user: "eve"}, "", NoAccess},
		{"no such user", ask{user: "zoe"}, "", UnknownUser},
		{"host and path agree by id and slug", ask{user: "ada", host: "glx.app.example.com", path: "/t/globex/"}, "globex", ""},
		{"host and path disagree", ask{user: "ada", host: "acme.app.example.com", path: "/t/globex/"}, "", TenantConflict},
		{"token's own tenant", ask{user: "ada", token: "globex"}, "globex", ""},
		{"token and host agree by id and slug", ask{user: "ada", token: "globex", host: "glx.app.example.com"}, "globex", ""},
		{"token and path agree", ask{user: "ada", token: "acme", path: "/t/acme/"}, "acme", ""},
		{"token and domain agree", ask{user: "ada", token: "globex", host: "portal.globex.test"}, "globex", ""},
		{"token and host disagree", ask{user: "ada", token: "globex", host: "acme.app.example.com"}, "", TenantConflict},
		{"token and header disagree", ask{user: "ada", token: "globex", header: []string{"acme"}}, "", TenantConflict},
		{"token and domain disagree", ask{user: "ada", token: "acme", host: "portal.globex.test"}, "", TenantConflict},
		{"token and an unknown name disagree alike", ask{user: "ada", token: "acme", path: "/t/nothing/"}, "", TenantConflict},
		{"token and a foreign name disagree alike", ask{user: "bob", token: "acme", path: "/t/globex/"}, "", TenantConflict},
		{"a token's tenant is no slug", ask{user: "ada", token: "glx"}, "", NoAccess},
		{"a token's tenant is no slug, whatever the path says", ask{user: "ada", token: "glx", path: "/t/glx/"}, "", TenantConflict},
		{"token of a tenant that is not mine any more", ask{user: "bob", token: "globex"}, "", NoAccess},
		{"token of a tenant that is not mine any more, named too", ask{user: "bob", token: "globex", path: "/t/globex/"}, "", NoAccess},
		{"token beats the only membership", ask{user: "bob", token: "umbrella"}, "", NoAccess},
		{"header and claim disagree", ask{user: "ada", header: []string{"acme"}, claim: "globex"}, "", TenantConflict},
		{"unknown and known disagree", ask{user: "ada", host: "acme.app.example.com", path: "/t/nothing/"}, "", TenantConflict},
		{"known foreign and unknown disagree alike", ask{user: "bob", host: "globex.app.example.com", path: "/t/nothing/"}, "", TenantConflict},
		{"two unknown disagree alike", ask{user: "bob", host: "nobody.app.example.com", path: "/t/nothing/"}, "", TenantConflict},
		{"one unknown name twice", ask{user: "bob", host: "nothing.app.example.com", path: "/t/Nothing/"}, "", NoAccess},
		{"unknown", ask{user: "bob", path: "/t/nothing/"}, "", NoAccess},
		{"not mine", ask{user: "bob", path: "/t/globex/"}, "", NoAccess},
		{"suspended", ask{user: "lou", path: "/t/umbrella/"}, "", TenantInactive},
		{"suspended and not mine", ask{user: "bob", path: "/t/umbrella/"}, "", NoAccess},
		{"a name no database can hold", ask{user: "bob", claim: "acme\x00"}, "", NoAccess},
		{"invalid UTF-8", ask{user: "bob", path: "/t/acme%ff/"}, "", NoAccess},
		{"SQL", ask{user: "bob", path: "/t/acme'%20OR%201=1--/"}, "", NoAccess},
		{"own path below a prefix", ask{user: "ada", path: "/t/acme/_gate/login"}, "", NotFound},
		{"own path below a prefix, in capitals", ask{user: "ada", path: "/t/acme/_GATE/"}, "", NotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := testEngine(t, host, everySource)
			e.auth = person{User: c.ask.user, Kind: auth.KindBearer, ClaimTenant: c.ask.claim, SessionTenant: c.ask.session, TokenTenant: c.ask.token}
			f := Facts{Method: "GET", Host: c.ask.host, Path: c.ask.path, TenantHeader: c.ask.header}
			if f.Host == "" {
				f.Host = "app.example.com"
			}
			if f.Path == "" {
				f.Path = "/x"
			}
			for _, warmth := range []string{"cold", "warm"} {
				v := e.Judge(t.Context(), &f, nil)
				var code Code
				var tenant catalog.TenantID
				if v.Denial != nil {
					code = v.Denial.Code
				}
				if v.Grant != nil {
					tenant = v.Grant.Tenant.ID
				}
				if code != c.code || tenant != c.tenant {
					t.Errorf("%s: %q %q; want %q %q (%v)", warmth, tenant, code, c.tenant, c.code, v.Denial)
				}
			}
		})
	}
}

func TestTheSessionsChoice(t *testing.T) {
	e := testEngine(t, testHost(t), TenantsConfig{Header: "X-Tenant"})
	e.auth = person{User: "ada", Kind: auth.KindSession, SessionTenant: "globex"}
	for header, want := range map[string]catalog.TenantID{"": "globex", "acme": "acme"} {
		v := e.Judge(t.Context(), &Facts{Method: "GET", Host: "app.example.com", Path: "/", TenantHeader: []string{header}}, nil)
		if v.Grant == nil || v.Grant.Tenant.ID != want {
			t.Errorf("header %q: %+v %v", header, v.Grant, v.Denial)
		}
	}
}

func TestOnlyConfiguredSourcesAreRead(t *testing.T) {
	host := testHost(t)
	for _, c := range []struct {
		sources []string
		facts   Facts
		tenant  catalog.TenantID
		code    Code
	}{
		{[]string{"header"}, Facts{Path: "/t/globex/", TenantHeader: []string{"acme"}}, "acme", ""},
		{[]string{"path"}, Facts{Path: "/t/globex/", TenantHeader: []string{"acme"}}, "globex", ""},
		{[]string{"host"}, Facts{Path: "/", TenantHeader: []string{"acme"}}, "", TenantRequired},
	} {
		cfg := everySource
		cfg.Resolve = c.sources
		e := testEngine(t, host, cfg)
		e.auth = person{User: "ada", Kind: auth.KindSession, ClaimTenant: "acme", SessionTenant: "acme"}
		c.facts.Method, c.facts.Host = "GET", "app.example.com"
		v := e.Judge(t.Context(), &c.facts, nil)
		if c.tenant != "" && (v.Grant == nil || v.Grant.Tenant.ID != c.tenant) || c.code != "" && (v.Denial == nil || v.Denial.Code != c.code) {
			t.Errorf("%v: %+v %+v", c.sources, v.Grant, v.Denial)
		}
	}
}

func TestOnUserRoutesATenantIsOptional(t *testing.T) {
	host := testHost(t)
	for _, c := range []struct {
		user   catalog.UserID
		path   string
		tenant catalog.TenantID
		code   Code
	}{
		{"ada", "/account/", "", ""},
		{"ada", "/t/acme/account/", "acme", ""},
		{"bob", "/t/globex/account/", "", ""},
		{"lou", "/t/umbrella/account/", "", ""},
		{"eve", "/account/", "", ""},
		{"zoe", "/account/", "", UnknownUser},
	} {
		e := testEngine(t, host, everySource)
		e.auth = person{User: c.user, Kind: auth.KindSession}
		v := e.Judge(t.Context(), &Facts{Method: "GET", Host: "app.example.com", Path: c.path}, nil)
		switch {
		case c.code != "":
			if v.Denial == nil || v.Denial.Code != c.code {
				t.Errorf("%s %s: %+v", c.user, c.path, v.Denial)
			}
		case v.Denial != nil:
			t.Errorf("%s %s: denied %s", c.user, c.path, v.Denial.Code)
		case c.tenant == "":
			if v.Grant != nil || v.User.ID != c.user || v.User.Email != string(c.user)+"@example.com" {
				t.Errorf("%s %s: grant %v, user %+v", c.user, c.path, v.Grant, v.User)
			}
		case v.Grant == nil || v.Grant.Tenant.ID != c.tenant:
			t.Errorf("%s %s: %+v", c.user, c.path, v.Grant)
		}
	}
}

func TestTheTenantAPageWasMadeForMustBeTheTenantGranted(t *testing.T) {
	e := testEngine(t, testHost(t), TenantsConfig{Header: "X-Tenant"})
	e.auth = person{User: "ada", Kind: auth.KindSession, SessionTenant: "globex"}
	for rendered, code := range map[string]Code{"globex": "", "": "", "acme": TenantChanged} {
		v := e.Judge(t.Context(), &Facts{Method: "GET", Host: "app.example.com", Path: "/", GateTenant: []string{rendered}}, nil)
		if got := codeOf(v); got != code {
			t.Errorf("rendered for %q: %q", rendered, got)
		}
	}
}

func codeOf(v *Verdict) Code {
	if v.Denial == nil {
		return ""
	}
	return v.Denial.Code
}

// broken is a host database that cannot be read.
type broken struct{}

func (broken) GrantFacts(context.Context, catalog.GrantQuery) (catalog.GrantFacts, error) {
	return catalog.GrantFacts{}, catalog.ErrUnavailable
}

func (broken) TenantSlugs(context.Context, catalog.UserID) (map[catalog.TenantID]string, error) {
	return nil, catalog.ErrUnavailable
}

func (broken) UserGrants(context.Context, catalog.UserID, map[string]string, int) ([]catalog.GrantFacts, error) {
	return nil, catalog.ErrUnavailable
}

func (broken) MembershipTenants(context.Context, catalog.UserID, int) ([]catalog.TenantID, error) {
	return nil, catalog.ErrUnavailable
}

func (broken) ResolveTenant(context.Context, string, catalog.NameKind) (catalog.TenantID, bool, error) {
	return "", false, catalog.ErrUnavailable
}

func TestWithoutTheHostDatabaseNothingIsLetThrough(t *testing.T) { // FAIL-1
	for _, f := range []Facts{
		{Path: "/"},
		{Path: "/t/acme/"},
		{Path: "/account/"},
		{Path: "/t/acme/account/"},
		{Path: "/", Host: "portal.globex.test"},
		{Path: "/", Host: "acme.app.example.com"},
		{Path: "/t/acme/", TenantHeader: []string{"globex"}},
	} {
		e := testEngine(t, broken{}, everySource)
		e.auth = person{User: "ada", Kind: auth.KindSession}
		if f.Host == "" {
			f.Host = "app.example.com"
		}
		f.Method = "GET"
		if v := e.Judge(t.Context(), &f, nil); codeOf(v) != HostDatabaseUnavailable || v.Grant != nil {
			t.Errorf("%+v: %q", f, codeOf(v))
		}
	}
	e := testEngine(t, broken{}, everySource)
	if v := e.Judge(t.Context(), &Facts{Method: "GET", Host: "app.example.com", Path: "/open/"}, nil); codeOf(v) != "" {
		t.Errorf("a public route needs no database: %q", codeOf(v))
	}
}

// answersFor gives facts about another tenant than asked for.
type answersFor struct {
	broken
	facts catalog.GrantFacts
}

func (a answersFor) GrantFacts(context.Context, catalog.GrantQuery) (catalog.GrantFacts, error) {
	return a.facts, nil
}

func TestAnAnswerAboutSomebodyElseIsNoAnswer(t *testing.T) { // SF-1
	facts := payingFacts()
	e := testEngine(t, answersFor{facts: facts}, TenantsConfig{PathPrefix: "/t/"})
	for user, tenant := range map[catalog.UserID]catalog.TenantID{"u2": "acme", "u1": "globex"} {
		e.auth = person{User: user, Kind: auth.KindSession, SessionTenant: tenant}
		if v := e.Judge(t.Context(), &Facts{Method: "GET", Host: "app.example.com", Path: "/"}, nil); codeOf(v) != HostDatabaseUnavailable {
			t.Errorf("%s in %s: %q", user, tenant, codeOf(v))
		}
	}
}

func BenchmarkJudgeWarm(b *testing.B) {
	host := testHost(b)
	e := testEngine(b, host, everySource)
	e.auth = person{User: "ada", Kind: auth.KindSession, SessionTenant: "acme"}
	route := e.routes.routes[2]
	id := auth.Identity{User: "ada", Kind: auth.KindSession}
	f := Facts{Method: "GET", Host: "app.example.com", Path: "/x"}
	b.ReportAllocs()
	for b.Loop() {
		v := Verdict{Route: route, Identity: &id, Host: Host{Name: "app.example.com"}, named: []Named{{Source: SourcePath, Name: "acme"}}}
		if d := e.enter(b.Context(), &f, &v, nil); d != nil || v.Grant == nil {
			b.Fatal(d)
		}
	}
}
