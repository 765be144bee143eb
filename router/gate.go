// Package router is a request's way: path, route, identity, tenant, grant, policy, headers, upstream.
//
// Purpose: judge each request once and forward exactly what was judged. The decision is a pure function (Policy.Decide);
// around it Engine walks through the questions in their order, and Gate is the http side: the reverse proxy, the
// middleware, the denials and tenantgate's own pages.
//
// Concurrency: Gate and Engine are immutable once made and safe for concurrent use. What they remember is in bounded
// caches, which forget what changes and answer only while somebody looks for changes.
//
// Failure mode: closed. A question that cannot be answered is a denial (503), never a pass; a panic is a 500 and a log
// line without the values that it was about.
package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/cache"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/telemetry"
)

// Config is everything that the way of a request depends on.
type Config struct {
	PublicURL      *url.URL
	TrustedProxies []netip.Prefix
	Tenants        TenantsConfig
	Upstreams      map[string]UpstreamConfig
	Routes         []RouteConfig
	Roles          []string // lowest first; empty: member, admin, owner
	Subscription   billing.Rules
	Forward        ForwardConfig
	Cache          CacheConfig
	Limits         LimitsConfig
}

// Deps are what a Gate stands on. All are needed but Opener, Coherence, Denied, Billing, Webhook and Clock.
type Deps struct {
	Host      HostDatabase
	Auth      *auth.Auth
	Telemetry *telemetry.Telemetry
	// Opener opens db_urls that are sealed or references. Nil: their tenants are misconfigured.
	Opener Opener
	// Coherence knows what changes in Host, and how long memory may answer. Nil: nobody tells, and nothing is remembered
	// for more than five seconds.
	Coherence *cache.Coherence
	// Denied counts what was not let through, or not any more, for the audit: whose credential it was ("" for a
	// stranger's), the tenant that the user belongs to ("" for none), and the client's address, the zero Addr on a unix
	// socket. It must not block. Nil: nobody counts.
	Denied func(user catalog.UserID, tenant catalog.TenantID, code string, from netip.Addr)
	// Billing is nil without a Stripe API key: then a tenant cannot be paid for here.
	Billing Billing
	// Webhook takes Stripe's events. Nil: there is no such page.
	Webhook http.Handler
	// SetUp makes tenants for people who belong to none. Nil: /_gate/setup is 404.
	SetUp SetUp
	// Clock is the time. Nil: time.Now.
	Clock func() time.Time
}

// Gate serves requests. Make it with New; the caller closes it.
type Gate struct {
	public    *url.URL
	engine    *Engine
	auth      *auth.Auth
	billing   Billing
	headers   headerNames
	hops      hops
	buffers   copyBuffers
	forward   map[*Route]*forwarder
	balancers []*balancer
	bodyBytes int64

	withURI, overridesPass, authorizationPasses, middlewareHeaders bool

	denied  func(catalog.UserID, catalog.TenantID, string, netip.Addr)
	webhook http.Handler // nil: none
	setUp   SetUp        // nil: nobody makes a tenant by signing up
	streams *streams     // what was let through and has not ended

	assertions        *cache.Cache[assertionKey, string] // nil: switched off
	assertionLifetime time.Duration
	defaultAudience   string
	tenantHeader      string // canonical

	telemetry *telemetry.Telemetry
	log       *slog.Logger
	errorLog  io.Writer
	clock     func() time.Time
}

// New compiles the configuration. All faults are reported together; nothing is listened on or connected to.
func New(cfg Config, deps Deps) (*Gate, error) {
	g := &Gate{
		public: cfg.PublicURL, auth: deps.Auth, billing: deps.Billing, buffers: newCopyBuffers(), hops: hops{trusted: cfg.TrustedProxies, ids: new(identifiers)},
		forward: map[*Route]*forwarder{}, telemetry: deps.Telemetry, log: deps.Telemetry.Logger, denied: deps.Denied, setUp: deps.SetUp, clock: deps.Clock,
		bodyBytes:           int64(cfg.Limits.BodyBytes),
		withURI:             cfg.Forward.DBURI != "off",
		overridesPass:       cfg.Forward.MethodOverride == "pass",
		authorizationPasses: cfg.Forward.Authorization == "pass",
		middlewareHeaders:   cfg.Forward.MiddlewareHeaders == nil || *cfg.Forward.MiddlewareHeaders,
	}
	g.webhook = deps.Webhook
	if g.clock == nil {
		g.clock = time.Now
	}
	if g.denied == nil {
		g.denied = func(catalog.UserID, catalog.TenantID, string, netip.Addr) {}
	}
	g.errorLog = telemetry.UnquotedWriter(slog.NewLogLogger(g.log.Handler(), slog.LevelWarn).Writer())
	if cfg.Tenants.Header == "" {
		cfg.Tenants.Header = "X-Tenant"
	}
	if cfg.Tenants.Claim == "" {
		cfg.Tenants.Claim = "tenant"
	}
	g.tenantHeader = http.CanonicalHeaderKey(cfg.Tenants.Header)
	g.headers = compileHeaders(cfg.Forward.Headers, cfg.Tenants.Header)
	public, ok := ParseHost(cfg.PublicURL.Host)
	if !ok {
		return nil, fmt.Errorf("public_url: %q has no usable host", cfg.PublicURL.Host)
	}
	policy := newPolicy(cfg, g.withURI)
	g.engine = &Engine{
		policy: policy, resolver: newResolver(cfg.Tenants, public), auth: deps.Auth, clock: g.clock,
		directory: newDirectory(deps.Host, policy, cfg.Cache, deps.Coherence, g.clock),
	}
	g.engine.directory.loaded, g.engine.directory.opener = g.loaded, deps.Opener
	g.newAssertions(cfg.Forward.Assertion, cfg.Cache.Entries)
	g.streams = newStreams(g.clock)
	g.streams.judge, g.streams.until, g.streams.counted = g.rejudge, g.ends, g.wasCut
	if deps.Coherence != nil {
		g.streams.usable, g.streams.probe = deps.Coherence.Usable, g.readable
	}
	g.streams.start()
	if err := g.compileRoutes(cfg); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

func newPolicy(cfg Config, needURI bool) *Policy {
	roles := cfg.Roles
	if len(roles) == 0 {
		roles = []string{"member", "admin", "owner"}
	}
	p := &Policy{rules: cfg.Subscription, needURI: needURI, plans: newPlanViews(), roles: make(map[string]int, len(roles)), payers: payers(roles)}
	for i, r := range roles {
		p.roles[r] = i + 1
	}
	return p
}

// compileRoutes makes one pool of connections for each upstream and response timeout.
func (g *Gate) compileRoutes(cfg Config) error {
	type poolKey struct {
		upstream string
		timeout  time.Duration
	}
	var faults []error
	upstreams := map[string]*upstream{}
	for name, c := range cfg.Upstreams {
		u, err := newUpstream(name, c)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		upstreams[name] = u
	}
	pools := map[poolKey]*forwarder{}
	for _, c := range cfg.Routes {
		r, err := compileRoute(c)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if r.minRole != "" && g.engine.policy.rank(r.minRole) == 0 {
			faults = append(faults, fmt.Errorf("route %s: min_role %q is not one of roles", c.Path, r.minRole))
		}
		g.engine.routes.routes = append(g.engine.routes.routes, r)
		if len(cfg.Upstreams) == 0 && c.Upstream == "" {
			continue // a middleware: the app is in this process
		}
		u := upstreams[c.Upstream]
		if u == nil {
			if _, faulty := cfg.Upstreams[c.Upstream]; !faulty {
				faults = append(faults, fmt.Errorf("route %s: upstream %q is not configured", c.Path, c.Upstream))
			}
			continue
		}
		r.upstream = u
		key := poolKey{c.Upstream, c.Timeout}
		if pools[key] == nil {
			b := u.transport(c.Timeout)
			g.balancers = append(g.balancers, b)
			pools[key] = g.newForwarder(b)
		}
		g.forward[r] = pools[key]
	}
	return errors.Join(faults...)
}

// Engine is the gate's decision engine, for explain.
func (g *Gate) Engine() *Engine { return g.engine }

// Close ends loads and idle connections. Requests under way fail closed.
func (g *Gate) Close() {
	g.streams.close()
	g.engine.directory.close()
	if g.assertions != nil {
		g.assertions.Close()
	}
	for _, b := range g.balancers {
		b.close()
	}
}

// ServeHTTP judges the request and forwards it to the route's upstream.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.serve(w, r, nil) }

// Middleware judges the request and passes it to app, in this process, with the grant in its context.
func (g *Gate) Middleware(app http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serve(w, r, app) })
}

func (g *Gate) serve(rw http.ResponseWriter, r *http.Request, app http.Handler) {
	x := &exchange{gate: g, start: g.clock(), method: r.Method, outer: r.Context()}
	w := &x.answer
	w.ResponseWriter = rw
	x.client = g.hops.read(r)
	end := g.begin(x)
	defer g.finish(w, r, x, end)
	x.readFacts(r, g.tenantHeader)
	x.seen = g.streams.changes.Load()
	g.judge(x)
	switch v := &x.verdict; {
	case v.Denial != nil:
		g.refuse(w, x, v.Denial)
	case v.Own:
		g.serveOwn(w, r.WithContext(x.ctx), x)
	case v.Preflight:
		x.code = "preflight"
		v.Route.cors.answerPreflight(w, r)
	case g.bodyBytes > 0 && r.ContentLength > g.bodyBytes:
		g.refuse(w, x, deny(BodyTooLarge))
	default:
		g.let(w, r, x, app)
	}
}

// let forwards what was let through, once it can be vouched for: without the assertion that the app relies on, nothing
// goes.
func (g *Gate) let(w *recorder, r *http.Request, x *exchange, app http.Handler) {
	if g.assertions != nil && x.verdict.Identity != nil {
		token, err := g.assertion(x)
		if err != nil {
			g.refuse(w, x, denyFor(HostDatabaseUnavailable, err))
			return
		}
		x.assertion = token
	}
	r, leave := g.enter(r, x)
	defer leave()
	if app != nil {
		g.pass(w, r, x, app)
	} else {
		g.send(w, r, x)
	}
	if x.open.sent() {
		panic(http.ErrAbortHandler) // not to be met by the next request on the connection
	}
}

// send forwards to the route's upstream.
func (g *Gate) send(w *recorder, r *http.Request, x *exchange) {
	f := g.forward[x.verdict.Route]
	if f == nil {
		g.refuse(w, x, denyFor(UpstreamUnavailable, errors.New("the route has no upstream: it serves a middleware only")))
		return
	}
	g.limitBody(w, r)
	onlyWebSocket(r.Header, x.facts.Browser.WebSocket)
	w.informational = g.stripHints
	end := g.span(x, "upstream")
	defer end()
	duplex := fullDuplex(w, r)
	f.proxy.ServeHTTP(w, r)
	if duplex {
		// What the app left unread is read now, after the answer: later it would collide with the next request.
		w.Flush()
		_ = r.Body.Close()
	}
}

// fullDuplex lets an app answer while it is still being sent the request. Otherwise net/http's HTTP/1 server would
// itself take the rest of the body away before the answer's header goes out: the app would miss bytes, or the answer be
// cut. Not with Expect: 100-continue, where an unread body may never be sent.
func fullDuplex(w http.ResponseWriter, r *http.Request) bool {
	return r.ProtoMajor == 1 && r.ContentLength != 0 && len(r.Header["Expect"]) == 0 &&
		http.NewResponseController(w).EnableFullDuplex() == nil
}

func (g *Gate) limitBody(w http.ResponseWriter, r *http.Request) {
	if g.bodyBytes > 0 {
		r.Body = http.MaxBytesReader(w, r.Body, g.bodyBytes)
	}
}

// pass hands the request to an app in this process: the judged path, our headers, the grant in the context.
func (g *Gate) pass(w *recorder, r *http.Request, x *exchange, app http.Handler) {
	g.limitBody(w, r)
	if x.verdict.Grant != nil {
		r = r.WithContext(context.WithValue(r.Context(), grantKey{}, x.verdict.Grant))
	}
	u := *r.URL
	setPath(&u, x.verdict.Path)
	r.URL, r.RequestURI, r.Host = &u, u.RequestURI(), x.verdict.Host.String()
	r.Header = r.Header.Clone()
	onlyWebSocket(r.Header, x.facts.Browser.WebSocket)
	onlyUpgrade(r.Header)
	r.Trailer = nil
	if g.middlewareHeaders {
		r.Header = g.appHeaders(r.Header, x)
	} else {
		g.stripOnly(r.Header, x)
	}
	clean := func(h http.Header) {
		g.headers.stripResponse(h)
		g.dropOwnCookies(h)
		if x.verdict.Identity != nil && len(h["Cache-Control"]) == 0 {
			h["Cache-Control"] = privateCache
		}
		if c := x.verdict.Route.cors; c != nil && x.origin != "" {
			dropCORS(h)
			c.allow(h, x.origin)
		}
	}
	w.before = func(h http.Header) {
		clean(h)
		if x.open.shard != nil {
			x.open.answers(h)
		}
	}
	w.informational = g.stripHints
	app.ServeHTTP(&cuttable{w}, r)
	if d := x.open.cut.Load(); d != nil {
		g.finishCut(w, x, d)
		return
	}
	if w.status == 0 && !w.hijacked {
		w.WriteHeader(http.StatusOK)
	}
	g.stripTrailers(w.Header())
}

type grantKey struct{}

// FromContext returns the grant under which the request of ctx was let through. It returns false on public routes, on
// user routes without a granted tenant, and outside of a Middleware.
func FromContext(ctx context.Context) (*Grant, bool) {
	g, ok := ctx.Value(grantKey{}).(*Grant)
	return g, ok
}
