package router

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
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

// cutAtTheEnd is an app's answer whose request is cut once all of it has been copied.
type cutAtTheEnd struct {
	io.Reader
	cut func()
}

func (c cutAtTheEnd) Close() error {
	c.cut()
	return nil
}

// A cut that comes when everything has been sent ends the connection, on which the next request would find a deadline
// that has passed.
func TestACutAfterTheLastByteLeavesNoBrokenConnection(t *testing.T) {
	host := testHost(t)
	g, _ := testGate(t, host, host, auth.Identity{})
	g.assertions = nil // nothing is signed here
	route := &Route{}
	g.forward = map[*Route]*forwarder{route: {gate: g, proxy: &httputil.ReverseProxy{
		Rewrite: func(*httputil.ProxyRequest) {},
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			x := exchangeOf(r.Context())
			body := cutAtTheEnd{strings.NewReader("all"), func() { x.open.close(deny(UnknownUser)) }}
			return &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Length": {"3"}}, Body: body, ContentLength: 3, Request: r}, nil
		}),
		ModifyResponse: func(res *http.Response) error {
			exchangeOf(res.Request.Context()).open.watch(res)
			return nil
		},
		FlushInterval: -1,
	}}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{gate: g, outer: r.Context(), verdict: Verdict{Route: route, Identity: &auth.Identity{Kind: auth.KindBearer}}}
		x.ctx = exchangeContext{x}
		x.answer.ResponseWriter = w
		g.let(&x.answer, r, x, nil)
	}))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "all" {
		t.Errorf("%q, %v", body, err)
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the answer: %v, want the connection's end", err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// More requests wait to be judged anew than can be at once, and no judgement ends, as where the host database hangs: what
// memory cannot vouch for any more is cut without them, and then not judged at all.
func TestChecksThatHangKeepNothingOpen(t *testing.T) {
	const n = 3 * streamChecks
	hung, begun, cuts := make(chan struct{}), make(chan struct{}, n), make(chan *Denial, n)
	var usable atomic.Bool
	usable.Store(true)
	s := newStreams(time.Now)
	s.judge = func(context.Context, *open) *Denial {
		begun <- struct{}{}
		<-hung
		return nil
	}
	s.until = func(*open) (time.Time, bool) { return time.Time{}, false }
	s.usable = usable.Load
	s.probe = func(context.Context) error { return catalog.ErrUnavailable }
	s.counted = func(_ *open, d *Denial) { cuts <- d }
	s.start()
	for range n {
		x := &exchange{verdict: Verdict{Identity: &auth.Identity{}}}
		x.open.streaming.Store(true)
		s.add(&x.open, x, 0, func() {})
	}
	s.reconsider(func(StreamKeys) bool { return true })
	for range streamChecks {
		<-begun
	}
	usable.Store(false)
	for i := range n {
		select {
		case d := <-cuts:
			if d.Code != HostDatabaseUnavailable {
				t.Errorf("cut with %s", d.Code)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%d of %d were cut", i, n)
		}
	}
	close(hung)
	s.close()
	if len(begun) > 0 {
		t.Errorf("%d more were judged after they had been cut", len(begun))
	}
}

// What a client sends after its right has ended reaches no app, also one in this process that reads on.
func TestWhatIsSentAfterTheEndReachesNoApp(t *testing.T) {
	host := testHost(t)
	g, coherent := testGate(t, host, host, auth.Identity{User: "bob", Kind: auth.KindBearer})
	body, client := io.Pipe()
	app := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadFull(r.Body, make([]byte, len("before"))); err != nil {
			t.Error(err)
		}
		if err := host.BlockUser(t.Context(), "bob", "left"); err != nil {
			t.Error(err)
		}
		coherent.Changed([]catalog.Change{{Kind: catalog.ChangedBlock, User: "bob"}})
		g.Reconsider(func(k StreamKeys) bool { return k.User == "bob" })
		<-r.Context().Done()
		go func() {
			_, _ = client.Write([]byte("after"))
			_ = client.Close()
		}()
		if got, err := io.ReadAll(r.Body); err == nil || len(got) > 0 {
			t.Errorf("the app received %q, %v", got, err)
		}
	})
	go func() { _, _ = client.Write([]byte("before")) }()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), "POST", "https://acme.app.example.com/", body)
	g.Middleware(app).ServeHTTP(w, r)
	if err := errors.Join(client.Close(), body.Close()); err != nil {
		t.Error(err)
	}
	if w.Code != http.StatusForbidden {
		t.Errorf("answered %d, want 403", w.Code)
	}
}
