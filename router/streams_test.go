package router

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/cache"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/telemetry"
)

// testGate is a gate that takes everybody for the person, with one feed of changes: the test.
func testGate(t *testing.T, host *catalog.HostDatabase, reads HostDatabase, who auth.Identity) (*Gate, *catalog.Coherent) {
	t.Helper()
	tel, err := telemetry.New(telemetry.Config{}, telemetry.Options{Writer: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := seal.ParseKeyset(secret.New("dGVzdC1tYXN0ZXItc2VjcmV0LXRlc3QtbWFzdGVyLXNlY3JldC0xMjM0NTY3ODk="))
	if err != nil {
		t.Fatal(err)
	}
	public := &url.URL{Scheme: "https", Host: "app.example.com"}
	provider := auth.Provider{Name: "idp", Issuer: "https://idp.example.com", ClientID: "x", ClientSecret: secret.New("y")}
	a, err := auth.New(t.Context(), auth.Config{Providers: []auth.Provider{provider}}, auth.Deps{
		Host: host, PublicURL: public, Secrets: secrets, Refuse: Refuse,
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &catalog.Coherent{Coherence: cache.NewCoherence(cache.CoherenceConfig{Heartbeat: time.Hour})}
	c.Looked(time.Now())
	g, err := New(Config{
		PublicURL: public, Tenants: everySource, Routes: []RouteConfig{{Path: "/account/", Access: "user"}, {Path: "/"}},
	}, Deps{Host: reads, Auth: a, Telemetry: tel, Coherence: c.Coherence})
	if err != nil {
		t.Fatal(err)
	}
	g.engine.auth = person(who)
	t.Cleanup(func() {
		g.Close()
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if err := tel.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return g, c
}

// overtaken is a host database whose first answer about a grant is overtaken by a change before it is used.
type overtaken struct {
	*catalog.HostDatabase
	change func()
}

// GrantFacts implements HostDatabase.
func (o *overtaken) GrantFacts(ctx context.Context, q catalog.GrantQuery) (catalog.GrantFacts, error) {
	facts, err := o.HostDatabase.GrantFacts(ctx, q)
	if change := o.change; change != nil {
		o.change = nil
		change()
	}
	return facts, err
}

// untilCut asks for something that never ends by itself and reports what the app saw and how it was answered.
func untilCut(t *testing.T, g *Gate, target string, begun func()) (entered bool, status int) {
	t.Helper()
	app := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		entered = true
		begun()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	w := httptest.NewRecorder()
	g.Middleware(app).ServeHTTP(w, httptest.NewRequest("GET", target, nil).WithContext(ctx))
	if ctx.Err() != nil {
		t.Error("nothing ended it")
	}
	return entered, w.Code
}

// A right that ends between the judgement that found it and the moment from which changes find the request: the request
// is judged anew.
func TestAChangeThatOvertakesADecisionEndsWhatItLetThrough(t *testing.T) {
	host := testHost(t)
	reads := &overtaken{HostDatabase: host}
	g, coherent := testGate(t, host, reads, auth.Identity{User: "bob", Kind: auth.KindBearer})
	reads.change = func() {
		if err := host.BlockUser(t.Context(), "bob", "left"); err != nil {
			t.Error(err)
		}
		coherent.Changed([]catalog.Change{{Kind: catalog.ChangedBlock, User: "bob"}})
		g.Reconsider(func(k StreamKeys) bool { return k.User == "bob" })
	}
	if entered, status := untilCut(t, g, "https://acme.app.example.com/", func() {}); !entered || status != http.StatusForbidden {
		t.Errorf("entered %v, answered %d, want 403", entered, status)
	}
}

// What a custom domain's session opened ends with the domain, also where no tenant was granted.
func TestADomainThatIsTakenAwayEndsWhatItsSessionsOpened(t *testing.T) {
	host := testHost(t)
	g, coherent := testGate(t, host, host, auth.Identity{User: "eve", Kind: auth.KindSession, OnlyTenant: "globex", Expires: time.Now().Add(time.Hour)})
	entered, status := untilCut(t, g, "https://portal.globex.test/account/", func() {
		if err := host.Domains.Delete(t.Context(), "portal.globex.test"); err != nil {
			t.Error(err)
		}
		coherent.Changed([]catalog.Change{{Kind: catalog.ChangedDomain, ID: "portal.globex.test", Tenant: "globex"}})
		g.Reconsider(func(k StreamKeys) bool { return k.Tenant == "globex" })
	})
	if !entered || status != http.StatusUnauthorized {
		t.Errorf("entered %v, answered %d, want 401", entered, status)
	}
}
