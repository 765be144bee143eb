package attack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/devidp"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// tenantSeed is a tenant of the attacked world. Its mark is in everything that is the tenant's: id, name, slug, URI,
// plan, features, profile ids. A response that holds the mark of a tenant tells something about it.
type tenantSeed struct {
	mark      string
	suspended bool
	lapsed    bool
}

func (s tenantSeed) id() string      { return "t-" + s.mark }
func (s tenantSeed) slug() string    { return "slug-" + s.mark }
func (s tenantSeed) name() string    { return "Name of " + s.mark }
func (s tenantSeed) plan() string    { return "plan-" + s.mark }
func (s tenantSeed) feature() string { return "feature-" + s.mark }
func (s tenantSeed) uri() string {
	return "postgresql://user_" + s.mark + ":pw-" + s.mark + "-Zx9@db-" + s.mark + ".internal:5432/data_" + s.mark
}

// profile is a member's profile id in the tenant.
func (s tenantSeed) profile(actor string) string { return "profile-" + s.mark + "-" + actor }

// The tenants. Nothing holds the mark of void: it does not exist.
var (
	alpha = tenantSeed{mark: "qalphaq"}
	beta  = tenantSeed{mark: "qbetaq"}
	susp  = tenantSeed{mark: "qsuspq", suspended: true}
	laps  = tenantSeed{mark: "qlapsq", lapsed: true}
	void  = tenantSeed{mark: "qvoidq"}

	existing = []tenantSeed{alpha, beta, susp, laps}
)

// The people. unknown has an account at the provider and nobody in the host database; root is is_sys_admin without a
// membership.
var memberOf = map[string][]tenantSeed{
	"onlya":    {alpha},
	"both":     {alpha, beta},
	"inactive": {alpha},
	"suspm":    {susp},
	"lapsm":    {laps},
	"stranger": nil,
	"blocked":  {alpha, beta},
	"expired":  {alpha},
	"root":     nil,
}

// people are all who have an account at the provider.
func people() []devidp.Person {
	list := []devidp.Person{{Subject: "unknown", Email: "unknown@people.test", EmailVerified: true}}
	for name := range memberOf {
		list = append(list, devidp.Person{Subject: name, Email: name + "@people.test", EmailVerified: true, Name: name})
	}
	return list
}

func userID(actor string) catalog.UserID { return catalog.UserID("uid-" + actor) }

func sqliteURL(t testing.TB) string {
	return "sqlite:" + filepath.Join(t.TempDir(), "host.db")
}

// seed fills a host database with the tenants and the people.
func seed(t testing.TB, dsn string) {
	t.Helper()
	ctx := context.Background()
	host, err := catalog.Open(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	err = host.InTx(ctx, func(tx *catalog.Tx) error {
		var errs []error
		for _, s := range existing {
			errs = append(errs, seedTenant(ctx, tx, s))
		}
		for name, tenants := range memberOf {
			errs = append(errs, tx.GlobalUsers.Insert(ctx, &catalog.GlobalUser{
				ID: userID(name), Email: new(name + "@people.test"), OAuthID: &name, IsSysAdmin: new(name == "root"),
			}))
			for _, s := range tenants {
				errs = append(errs, tx.Memberships.Insert(ctx, &catalog.Membership{
					UserID: userID(name), TenantID: catalog.TenantID(s.id()), Role: new("owner"),
					ProfileID: new(s.profile(name)), IsActive: new(name != "inactive"),
				}))
			}
		}
		return errors.Join(errs...)
	})
	if err := errors.Join(err, host.Close()); err != nil {
		t.Fatal(err)
	}
}

func seedTenant(ctx context.Context, tx *catalog.Tx, s tenantSeed) error {
	status := "active"
	if s.lapsed {
		status = "canceled"
	}
	return errors.Join(
		tx.PricingPlans.Insert(ctx, &catalog.PricingPlan{
			ID: catalog.PlanID(s.plan()), Name: new(s.name()), TierLevel: new(int64(2)), Features: new(`["` + s.feature() + `"]`),
		}),
		tx.Tenants.Insert(ctx, &catalog.TenantCatalog{
			ID: catalog.TenantID(s.id()), Name: new(s.name()), DBURL: catalog.NewDBURI(s.uri()),
			IsActive: new(!s.suspended), PlanTier: new(s.plan()),
		}),
		tx.Subscriptions.Insert(ctx, &catalog.Subscription{
			TenantID: catalog.TenantID(s.id()), Status: &status, PaymentType: new("subscription"), PlanTier: new(s.plan()),
		}),
		tx.Domains.Insert(ctx, &catalog.Domain{Host: catalog.DomainName(s.slug()), TenantID: catalog.TenantID(s.id()), Kind: "slug", Verified: true}),
	)
}

// gates starts a provider of the people for the worlds that follow, each made by its own options, on one host database
// of their own or a shared one. The provider signs with an ECDSA key: those are quick to make.
func gates(t testing.TB, options ...gatetest.Options) []*gatetest.World {
	t.Helper()
	var urls []string
	for i := range options {
		if options[i].Listener == nil {
			l, err := gatetest.NewListener()
			if err != nil {
				t.Fatal(err)
			}
			options[i].Listener = l
		}
		urls = append(urls, gatetest.PublicURL(options[i].Listener))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	provider, err := gatetest.StartProviderWithKey(key, people(), urls...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := provider.Close(); err != nil {
			t.Error(err)
		}
	})
	worlds := make([]*gatetest.World, len(options))
	for i, o := range options {
		o.Provider = provider
		worlds[i] = gatetest.New(t, o)
	}
	return worlds
}

// gate is gates for one.
func gate(t testing.TB, o gatetest.Options) *gatetest.World {
	t.Helper()
	return gates(t, o)[0]
}

// Two configurations of tenants: byName lets a request name its tenant in every way; bySession has neither paths nor
// hosts for tenants, so that the session keeps the choice.
func byName(c *config.Config) {
	c.Tenants.PathPrefix, c.Tenants.BaseDomain = "/t/", "base.test"
}

func bySession(c *config.Config) {
	c.Tenants.PathPrefix, c.Tenants.BaseDomain = "", ""
}

// client makes a browser without a screen whose connections end with the test.
func client(t testing.TB, w *gatetest.World) *http.Client {
	t.Helper()
	c := w.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// signIn signs the person in and returns the session's token.
func signIn(t testing.TB, w *gatetest.World, subject string) string {
	t.Helper()
	c := w.Client()
	defer c.CloseIdleConnections()
	if err := w.SignIn(t.Context(), c, subject); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(w.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, cookie := range c.Jar.Cookies(u) {
		if cookie.Name == sessionName {
			return cookie.Value
		}
	}
	t.Fatalf("signing %s in set no session cookie", subject)
	return ""
}

// sessionName is the session cookie under an http public_url.
const sessionName = "tg_session"

// bearer makes an access token, which ends after ttl.
func bearer(t testing.TB, w *gatetest.World, subject string, ttl time.Duration, claims map[string]any) string {
	t.Helper()
	token, err := w.Provider.MintAccessToken(subject, gatetest.Audience, ttl, claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// answer is a whole response.
type answer struct {
	status int
	header http.Header
	body   string
}

// text is everything that the client was told: each byte of headers and body.
func (a answer) text() string {
	var b strings.Builder
	for k, values := range a.header {
		for _, v := range values {
			b.WriteString(k + ": " + v + "\n")
		}
	}
	return b.String() + "\n" + a.body
}

// code is the denial's code, "" if the body is no problem.
func (a answer) code() string {
	if a.header.Get("Content-Type") != "application/problem+json" {
		return ""
	}
	_, rest, _ := strings.Cut(a.body, `"code":"`)
	code, _, _ := strings.Cut(rest, `"`)
	return code
}

func do(t testing.TB, c *http.Client, req *http.Request) answer {
	t.Helper()
	res, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	return answer{res.StatusCode, res.Header, string(body)}
}

func request(t testing.TB, method, target string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return req
}
