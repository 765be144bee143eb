// Package tenantgate puts authentication, tenant routing and the subscription check in front of an app: as net/http
// middleware inside a Go program, or as the reverse proxy that cmd/proxy runs.
//
//	gate, err := tenantgate.Open(ctx, cfg)
//	defer gate.Close()
//	http.ListenAndServe(":8080", gate.Middleware(app))
//
// Concurrency: a Gate is safe for concurrent use. Reload puts a new configuration in force for requests that begin
// after it; requests under way end under the old one.
//
// Failure mode: Open fails rather than start half-configured. Once open, what cannot be checked is denied.
package tenantgate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/tenantgate/tenantgate/admin"
	"github.com/tenantgate/tenantgate/audit"
	"github.com/tenantgate/tenantgate/audit/denials"
	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/billing"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/jobs"
	"github.com/tenantgate/tenantgate/router"
	"github.com/tenantgate/tenantgate/sealing"
	"github.com/tenantgate/tenantgate/telemetry"
)

// Grant is what a request was let through with.
type Grant = router.Grant

// Options are what a program may hand in beside the configuration. The zero value is what the proxy uses.
type Options struct {
	// LogWriter receives log lines and access lines. Nil: standard error.
	LogWriter io.Writer
	// Version is shown in telemetry.
	Version string
	// Clock is the time. Nil: time.Now.
	Clock func() time.Time
	// SpanExporter receives the spans, redacted, where telemetry.traces is otlp. Nil: the OTLP exporter, which
	// OTEL_EXPORTER_OTLP_* leads to the collector.
	SpanExporter sdktrace.SpanExporter
	// OnlyAsks is for a program that asks questions (Explain) and ends: it takes no jobs.
	OnlyAsks bool
}

// Gate is an open tenantgate: the host database, what is remembered of it, and the configuration in force.
type Gate struct {
	host      *catalog.HostDatabase // not to be looked at before current is set
	telemetry *telemetry.Telemetry
	clock     func() time.Time
	version   string
	current   atomic.Pointer[generation]
	admin     *admin.Admin
	freshness *freshness
	denials   *denials.Counter
	unwritten unrecorded                  // audit rows that audit.mode best_effort went without
	jobs      atomic.Pointer[jobs.Engine] // nil until the host database has been reached
	onlyAsks  bool
	chain     *audit.Chain // nil: not begun
	draining  atomic.Bool

	reload sync.Mutex     // also guards shut and old
	shut   bool           // closed: no configuration is put in force any more
	old    []*generation  // replaced ones, of which requests may still be under way
	opened *config.Config // what Open was called with
	wanted *config.Config // what is put in force once the host database is there

	waiting waiting
	close   sync.Once
	err     error
}

// Open connects to the host database, creates or upgrades its tables unless host_database.migrate is false, and puts
// cfg in force. Identity providers need not be up. Where the host database cannot be reached the Gate answers 503 and is
// not ready until it can, which it finds out by itself (Waiting, Failed). The caller closes the Gate.
func Open(ctx context.Context, cfg *config.Config) (*Gate, error) {
	return OpenWith(ctx, cfg, Options{})
}

// OpenWith is Open with options.
func OpenWith(ctx context.Context, cfg *config.Config, opts Options) (*Gate, error) {
	cfg, err := complete(cfg)
	if err != nil {
		return nil, err
	}
	if opts.LogWriter == nil {
		opts.LogWriter = os.Stderr
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	tel, err := telemetry.New(cfg.Telemetry, telemetry.Options{
		Writer: opts.LogWriter, Version: opts.Version, Clock: opts.Clock, SpanExporter: opts.SpanExporter,
	})
	if err != nil {
		return nil, err
	}
	g := &Gate{telemetry: tel, clock: opts.Clock, version: opts.Version, opened: cfg, wanted: cfg, onlyAsks: opts.OnlyAsks}
	g.denials = denials.New(denials.Config{Clock: opts.Clock, Log: tel.Logger})
	g.unwritten.log, g.unwritten.clock = tel.Logger, opts.Clock
	g.waiting.failed = make(chan error, 1)
	if err := g.open(ctx, cfg); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// complete returns cfg with the files of secrets read and the defaults filled in, checked. The caller's cfg stays as it
// is, so that reading again sees what the files hold by then.
func complete(cfg *config.Config) (*config.Config, error) {
	c := *cfg
	c.Identity.Providers = slices.Clone(cfg.Identity.Providers)
	if err := c.ReadSecrets(nil); err != nil {
		return nil, err
	}
	c.Defaults()
	return &c, c.Validate()
}

func (g *Gate) open(ctx context.Context, cfg *config.Config) error {
	db := cfg.HostDatabase
	if db.URL.IsZero() {
		fromEnv, err := catalog.URLFromEnv(os.Getenv)
		if err != nil {
			return fmt.Errorf("host_database.url is not set: %w", err)
		}
		db.URL = fromEnv
	}
	g.hide(cfg)
	g.telemetry.Redact(db.URL.Reveal())
	g.freshness = newFreshness(cfg, g.clock)
	err := errors.Join(g.telemetry.WatchFreshness(g.freshness.metrics), g.watchJobs())
	if err != nil {
		return err
	}
	if err := g.telemetry.WatchAudit(g.auditMetrics); err != nil {
		return err
	}
	db.Unrecorded = g.unwritten.tell
	maxLook := max(heartbeat(cfg), maxStale(cfg))
	if g.admin, err = admin.New(admin.Config{PublicURL: cfg.Admin.PublicURL, MaxLookAge: maxLook}, admin.Deps{
		State: g.state, Metrics: g.telemetry.MetricsHandler(), Clock: g.clock, Doors: doors{g}, Denied: g.deniedAt, Version: g.version,
	}); err != nil {
		return err
	}
	if err = g.connect(ctx, db); errors.Is(err, catalog.ErrUnavailable) && ctx.Err() == nil {
		g.await(db, err)
		return nil
	}
	return err
}

// hide keeps the secrets of cfg out of logs, spans and metrics from now on; those of older configurations stay hidden.
func (g *Gate) hide(cfg *config.Config) {
	for _, s := range cfg.Secrets() {
		g.telemetry.Redact(s.Reveal())
	}
}

// generation is one configuration in force, and the requests that are under way with it.
type generation struct {
	cfg    *config.Config
	gate   *router.Gate
	auth   *auth.Auth
	opener *sealing.Opener
	paying paying
	books  books

	keys seal.Keyset

	freshness *freshness // what it hears of changes from
	active    atomic.Int64
	retired   atomic.Bool
	closed    sync.Once
	err       error
}

func (n *generation) shut() error {
	n.closed.Do(func() {
		n.freshness.remove(n)
		n.books.close()
		n.gate.Close()
		n.opener.Close()
		n.paying.close()
		n.err = n.auth.Close()
	})
	return n.err
}

func (n *generation) release() {
	if n.active.Add(-1) == 0 && n.retired.Load() {
		_ = n.shut()
	}
}

// acquire takes the generation in force; the caller releases it.
func (g *Gate) acquire() *generation {
	for {
		n := g.current.Load()
		n.active.Add(1)
		if n == g.current.Load() {
			return n
		}
		n.release()
	}
}

// compile builds what cfg asks for. It reads files and the host database but changes nothing that is in force.
func (g *Gate) compile(ctx context.Context, cfg *config.Config) (*generation, error) {
	public, err := url.Parse(cfg.PublicURL)
	if err != nil {
		return nil, errors.New("public_url: not a URL")
	}
	secrets, err := seal.ParseKeyset(cfg.SecretKey)
	if err != nil {
		return nil, fmt.Errorf("secret_key: %w", err)
	}
	trusted, err := prefixes(cfg.TrustedProxies)
	if err != nil {
		return nil, err
	}
	rules, err := billing.New(cfg.Subscription)
	if err != nil {
		return nil, err
	}
	deps, err := g.authDeps(cfg, public, secrets)
	if err != nil {
		return nil, err
	}
	a, err := auth.New(ctx, cfg.Identity, deps)
	if err != nil {
		return nil, err
	}
	opener := sealing.New(sealing.Config{
		Keys: secrets, Refs: cfg.HostDatabase.Refs, Entries: cfg.Cache.Entries, Clock: g.clock, Log: g.telemetry.Logger,
	})
	paying, err := g.openPaying(ctx, cfg, rules, secrets)
	if err != nil {
		opener.Close()
		return nil, errors.Join(err, a.Close())
	}
	books, keep, err := g.openBooks(ctx, cfg, rules, secrets)
	if err != nil {
		opener.Close()
		paying.close()
		return nil, errors.Join(err, a.Close())
	}
	gate, err := router.New(router.Config{
		PublicURL: public, TrustedProxies: trusted, Tenants: cfg.Tenants, Upstreams: cfg.Upstreams, Routes: cfg.Routes,
		Roles: cfg.Roles, Subscription: rules, Forward: cfg.Forward, Cache: cfg.Cache, Limits: cfg.Limits,
	}, router.Deps{
		Host: g.host, Auth: a, Telemetry: g.telemetry, Opener: opener, Coherence: g.freshness.Coherence, Denied: g.denials.Count,
		SetUp: g.setUp(cfg), Billing: paying.pages, Webhook: books.webhook, Clock: g.clock,
	})
	if err != nil {
		opener.Close()
		paying.close()
		books.close()
		return nil, errors.Join(err, a.Close())
	}
	books.keeper = keep()
	n := &generation{cfg: cfg, keys: secrets, gate: gate, auth: a, opener: opener, paying: paying, books: books, freshness: g.freshness}
	g.freshness.add(n)
	return n, nil
}

// authDeps are what auth stands on under cfg.
func (g *Gate) authDeps(cfg *config.Config, public *url.URL, secrets seal.Keyset) (deps auth.Deps, err error) {
	deps = auth.Deps{
		Host: g.host, PublicURL: public, Secrets: secrets, Refuse: g.refuse, Denied: g.deniedAt, ClientIP: clientIP,
		RequestHost: router.RequestHost, BaseDomain: cfg.Tenants.BaseDomain, TenantClaim: cfg.Tenants.Claim,
		CacheEntries: cfg.Cache.Entries, CacheTTL: lifeOf(cfg.Cache.TTL, router.DefaultTTL),
		CacheNegativeTTL: lifeOf(cfg.Cache.NegativeTTL, router.DefaultNegativeTTL), Coherence: g.freshness.Coherence,
		Clock: g.clock, Log: g.telemetry.Logger, Redact: g.telemetry.Redact,
	}
	if n := g.current.Load(); n != nil {
		deps.Before = n.auth
	}
	deps.IgnoreHost = len(cfg.Tenants.Resolve) > 0 && !slices.Contains(cfg.Tenants.Resolve, string(router.SourceHost))
	switch {
	case len(cfg.Tenants.Resolve) > 0 && !slices.Contains(cfg.Tenants.Resolve, string(router.SourceClaim)):
		deps.TenantClaim = "" // not a source: whatever the claim holds is none of our business
	case deps.TenantClaim == "":
		deps.TenantClaim = "tenant"
	}
	if cfg.Admin.PublicURL != "" {
		if deps.AdminURL, err = url.Parse(cfg.Admin.PublicURL); err != nil {
			return deps, errors.New("admin.public_url: not a URL")
		}
	}
	return deps, nil
}

// lifeOf is a time of the section cache for auth: the default where it is not set, and negative, which is never, where it is
// 0.
func lifeOf(set *time.Duration, byDefault time.Duration) time.Duration {
	switch {
	case set == nil:
		return byDefault
	case *set == 0:
		return -1
	}
	return *set
}

func prefixes(cidrs []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(cidrs))
	for _, c := range cidrs {
		p, err := netip.ParsePrefix(c)
		if err != nil {
			return nil, fmt.Errorf("trusted_proxies: %q is not a CIDR such as 10.0.0.0/8", c)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// Reload puts cfg in force for requests that begin from now on. A configuration with a fault changes nothing. What only
// a restart can change (listeners, the host database, telemetry) is refused with the key's name.
func (g *Gate) Reload(ctx context.Context, cfg *config.Config) error {
	g.reload.Lock()
	defer g.reload.Unlock()
	if g.shut {
		return errors.New("the gate is closed")
	}
	cfg, err := complete(cfg)
	if err != nil {
		return err
	}
	g.hide(cfg)
	if err := g.needsRestart(cfg); err != nil {
		return err
	}
	if g.current.Load() == nil {
		g.wanted = cfg // the host database is not there yet
		return nil
	}
	next, err := g.compile(ctx, cfg)
	if err != nil {
		return err
	}
	old := g.current.Swap(next)
	g.old = append(slices.DeleteFunc(g.old, func(n *generation) bool { return n.active.Load() == 0 }), old)
	old.books.retire()
	old.retired.Store(true)
	old.active.Add(1)
	old.release()
	return nil
}

func (g *Gate) needsRestart(cfg *config.Config) error {
	var faults []error
	for _, k := range []struct {
		key     string
		changed bool
	}{
		{"host_database", cfg.HostDatabase.URL != g.opened.HostDatabase.URL || cfg.HostDatabase.MaxConnections != g.opened.HostDatabase.MaxConnections},
		{"audit.mode", cfg.Audit.Mode != g.opened.Audit.Mode},
		{"telemetry", cfg.Telemetry != g.opened.Telemetry},
		{"admin", cfg.Admin != g.opened.Admin},
		{"listen", fmt.Sprint(cfg.Listen) != fmt.Sprint(g.opened.Listen)},
		{"limits.header_bytes", cfg.Limits.HeaderBytes != g.opened.Limits.HeaderBytes},
		{"limits.read_header_timeout", cfg.Limits.ReadHeaderTimeout != g.opened.Limits.ReadHeaderTimeout},
		{"limits.idle_timeout", cfg.Limits.IdleTimeout != g.opened.Limits.IdleTimeout},
		{"cache.heartbeat", heartbeat(cfg) != heartbeat(g.opened)},
		{"cache.max_stale", maxStale(cfg) != maxStale(g.opened)},
	} {
		if k.changed {
			faults = append(faults, fmt.Errorf("%s has changed: restart to put it in force", k.key))
		}
	}
	return errors.Join(faults...)
}

// Handler is the reverse proxy: it judges requests, forwards them to the upstreams and serves /_gate/.
func (g *Gate) Handler() http.Handler {
	return g.serving(g.clearSession, func(n *generation, w http.ResponseWriter, r *http.Request) { n.gate.ServeHTTP(w, r) })
}

// Middleware judges requests, serves /_gate/, and passes what is let through to app with section 4's headers and the
// grant in the context.
func (g *Gate) Middleware(app http.Handler) http.Handler {
	return g.serving(g.clearSession, func(n *generation, w http.ResponseWriter, r *http.Request) { n.gate.Middleware(app).ServeHTTP(w, r) })
}

// AdminHandler serves the admin listener: health, readiness, metrics, and behind its doors what operators may see.
func (g *Gate) AdminHandler() http.Handler { return g.admin }

// FromContext returns the grant under which a Middleware let the request of ctx through. It returns false on public
// routes and on user routes without a granted tenant.
func FromContext(ctx context.Context) (*Grant, bool) { return router.FromContext(ctx) }

// Explain answers a question with the decision and every step, without forwarding anything.
func (g *Gate) Explain(ctx context.Context, q router.Question) (router.Explanation, error) {
	if err := g.Waiting(); err != nil {
		return router.Explanation{}, err
	}
	n := g.acquire()
	defer n.release()
	return n.gate.Explain(ctx, q), nil
}

// Host is the host database; nil as long as it has not been reached.
func (g *Gate) Host() *catalog.HostDatabase {
	if g.current.Load() == nil {
		return nil
	}
	return g.host
}

// Logger is the redacting logger.
func (g *Gate) Logger() *slog.Logger { return g.telemetry.Logger }

// Drain makes readiness fail, so that load balancers send no more requests. Requests are still served.
func (g *Gate) Drain() { g.draining.Store(true) }

// Close ends everything that the Gate started and waits for it. It may be called again.
func (g *Gate) Close() error {
	g.close.Do(func() {
		g.waiting.stop()
		g.err = g.stopJobs()
		g.reload.Lock()
		defer g.reload.Unlock()
		g.shut = true
		if g.freshness != nil {
			g.freshness.stop()
		}
		if n := g.current.Load(); n != nil {
			g.old = append(g.old, n)
		}
		for _, n := range g.old {
			g.err = errors.Join(g.err, n.shut())
		}
		g.denials.Close()
		g.stopChain()
		if g.host != nil {
			g.err = errors.Join(g.err, g.host.Close())
		}
		ctx, cancel := context.WithTimeout(context.Background(), telemetryFlush)
		defer cancel()
		g.err = errors.Join(g.err, g.telemetry.Close(ctx))
	})
	return g.err
}

// telemetryFlush bounds the export of the last spans.
const telemetryFlush = 2 * time.Second

func (g *Gate) state() admin.State {
	last := g.freshness.State().LastLook
	s := admin.State{HostReached: !last.IsZero(), LastLook: last, Draining: g.draining.Load()}
	if g.current.Load() == nil {
		return s
	}
	s.KeysLoaded = true
	n := g.acquire()
	defer n.release()
	for _, p := range n.auth.Providers() {
		s.Providers = append(s.Providers, admin.Provider{Name: p.Name, Status: providerStatus(p)})
	}
	return s
}

// providerStatus is the word for how a provider was last met.
func providerStatus(p auth.ProviderState) string {
	switch {
	case p.Err != nil:
		return "down"
	case p.Reached.IsZero():
		return "unknown"
	}
	return "up"
}

func heartbeat(cfg *config.Config) time.Duration {
	if cfg.Cache.Heartbeat > 0 {
		return cfg.Cache.Heartbeat
	}
	return time.Second
}

func maxStale(cfg *config.Config) time.Duration {
	if cfg.Cache.MaxStale != nil {
		return *cfg.Cache.MaxStale
	}
	return 30 * time.Second
}
