package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/router"
)

// Defaults of the listeners.
const (
	defaultListen      = ":8080"
	defaultAdminListen = "127.0.0.1:9901"
)

// serveGrace bounds how long requests under way may take at the end; orchestrators kill after 30 s.
const serveGrace = 25 * time.Second

func serveCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "serve", Short: "Run the proxy", Args: noArgs,
		Long: "Creates or upgrades the host database's tables (unless host_database.migrate is false), binds all addresses\n" +
			"and serves; requests get 503 until the host database can be reached. The configuration is read again when the\n" +
			"file changes and on SIGHUP; an invalid one is refused and the one before stays in force. On SIGTERM or SIGINT\n" +
			"readiness fails, requests under way end, and so does serve.",
		Example: "tenantgate serve --config /etc/tenantgate/config.yaml",
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.serve(cmd.Context()) },
	}
}

func (p *program) serve(ctx context.Context) (err error) {
	source := p.source()
	cfg, err := load(ctx, source)
	if err != nil {
		return err
	}
	var cert *certificate
	if cfg.TLS.CertFile != "" { // before the host database is touched
		pair, err := readPair(cfg.TLS.CertFile, cfg.TLS.KeyFile)
		if err != nil {
			return &usageError{err}
		}
		cert = &certificate{}
		cert.use(pair)
	}
	public, err := bindAll(ctx, publicAddresses(cfg)...)
	if err != nil {
		return err
	}
	defer closeAll(public)
	ops, err := bindAll(ctx, address{"admin.listen", cmp.Or(cfg.Admin.Listen, defaultAdminListen)})
	if err != nil {
		return err
	}
	defer closeAll(ops)
	g, err := p.open(ctx, cfg, tenantgate.Options{LogWriter: p.err, Clock: p.clock})
	if err != nil {
		return configFault(err)
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	log := g.Logger()
	logWarnings(log, cfg)
	stop := (&reloader{gate: g, cert: cert, log: log}).start(ctx, source, cfg)
	defer stop()
	logListeners(log, public, ops)
	return (&life{
		public: site{newServer(g.Handler(), cfg, log, cert), public, cert != nil},
		admin:  site{newAdminServer(g.AdminHandler(), log), ops, false},
		failed: g.Failed(), drain: g.Drain, grace: serveGrace, log: log,
	}).run(ctx)
}

func publicAddresses(cfg *config.Config) []address {
	listen := []string(cfg.Listen)
	if len(listen) == 0 {
		listen = []string{defaultListen}
	}
	all := make([]address, len(listen))
	for i, text := range listen {
		all[i] = address{"listen", text}
	}
	return all
}

func logWarnings(log *slog.Logger, cfg *config.Config) {
	for _, w := range cfg.Warnings() {
		log.Warn("configuration", "warning", w.String())
	}
}

func logListeners(log *slog.Logger, groups ...[]*bound) {
	for _, b := range slices.Concat(groups...) {
		log.Info("listening", "for", b.key, "address", b.name())
	}
}

// name is the address as it was bound: the real port where 0 was asked for.
func (b *bound) name() string {
	if b.unix {
		return b.text
	}
	return b.Addr().String()
}

// newServer has no WriteTimeout: downloads and event streams may take their time.
func newServer(h http.Handler, cfg *config.Config, log *slog.Logger, cert *certificate) *http.Server {
	s := &http.Server{
		Handler:                      h,
		DisableGeneralOptionsHandler: true, // OPTIONS * is for the handler to refuse
		MaxHeaderBytes:               headerLimit(cfg.Limits.HeaderBytes),
		ReadHeaderTimeout:            cmp.Or(cfg.Limits.ReadHeaderTimeout, 10*time.Second),
		IdleTimeout:                  cmp.Or(cfg.Limits.IdleTimeout, 120*time.Second),
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	if cert != nil {
		s.TLSConfig = cert.config()
	}
	return s
}

// headerLimit turns limits.header_bytes, negative for no limit, into what http.Server understands.
func headerLimit(n router.Bytes) int {
	const most = 1 << 30
	if n < 0 || n > most {
		return most
	}
	return int(cmp.Or(n, 32<<10))
}

// adminTimeout bounds answers of the admin listener, which are all short.
const adminTimeout = 30 * time.Second

func newAdminServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:                      h,
		DisableGeneralOptionsHandler: true,
		MaxHeaderBytes:               16 << 10,
		ReadTimeout:                  adminTimeout,
		WriteTimeout:                 adminTimeout,
		IdleTimeout:                  120 * time.Second,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// site is a server with the addresses that it serves.
type site struct {
	server    *http.Server
	listeners []*bound
	tls       bool // on TCP; the server's own TLSConfig says nothing, Serve sets one too
}

// life is the time from the first request to the last.
type life struct {
	public site
	// admin outlives public, so that readiness can be seen failing.
	admin site
	// failed tells why no request will ever be judged.
	failed <-chan error
	drain  func()
	grace  time.Duration
	log    *slog.Logger
}

// run serves until ctx ends or a listener fails, then ends in order: readiness fails, the public server takes no more
// connections and finishes its requests, the admin listener ends.
func (l *life) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for _, s := range []site{l.public, l.admin} {
		for _, b := range s.listeners {
			running.Go(func() {
				if err := s.serve(b); err != nil {
					cancel(fmt.Errorf("%s: stopped listening on %s: %w", b.key, b.name(), err))
				}
			})
		}
	}
	select {
	case err := <-l.failed:
		cancel(err)
	case <-ctx.Done():
	}
	failed := context.Cause(ctx)
	if errors.Is(failed, context.Canceled) {
		failed = nil
	}
	l.drain()
	l.log.Info("ending: no new requests are taken, those under way may finish", "grace", l.grace.String())
	end, done := context.WithTimeout(context.WithoutCancel(ctx), l.grace)
	defer done()
	cut := l.public.stop(end)
	l.admin.cut()
	running.Wait()
	if cut {
		l.log.Warn("requests were cut off at the end of the grace period")
	}
	return failed
}

// serve speaks TLS on TCP where there is a certificate; a unix socket is plain, it leaves the machine nowhere.
func (s site) serve(b *bound) error {
	var err error
	if s.tls && !b.unix {
		err = s.server.ServeTLS(b, "", "")
	} else {
		err = s.server.Serve(b)
	}
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// stop waits for requests until ctx ends, then cuts them off, which it reports.
func (s site) stop(ctx context.Context) (cut bool) {
	if err := s.server.Shutdown(ctx); err != nil {
		s.cut()
		return true
	}
	return false
}

func (s site) cut() { _ = s.server.Close() }

// reloader puts a changed configuration in force.
type reloader struct {
	gate gate
	cert *certificate // nil without TLS
	log  *slog.Logger
}

// start looks for changes of the files and listens for SIGHUP; stop ends that and waits.
func (r *reloader) start(ctx context.Context, source config.LoadOptions, loaded *config.Config) (stop func()) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	watcher := config.Watch(ctx, source, loaded, func(cfg *config.Config, err error) { r.changed(ctx, cfg, err) })
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
				watcher.Reload()
			}
		}
	})
	return func() {
		signal.Stop(hup)
		cancel()
		running.Wait()
		watcher.Close()
	}
}

// changed takes the configuration as it now stands, or leaves the one before in force and says why.
func (r *reloader) changed(ctx context.Context, cfg *config.Config, err error) {
	if err == nil {
		err = r.apply(ctx, cfg)
	}
	if err != nil {
		for _, line := range faultLines(err) {
			r.log.Error("the new configuration is refused; the one before stays in force", "fault", strings.TrimPrefix(line, linePrefix))
		}
		return
	}
	logWarnings(r.log, cfg)
	r.log.Info("the new configuration is in force")
}

func (r *reloader) apply(ctx context.Context, cfg *config.Config) error {
	if (cfg.TLS.CertFile != "") != (r.cert != nil) {
		return errors.New("tls has been switched on or off: restart to put it in force")
	}
	if r.cert == nil {
		return r.gate.Reload(ctx, cfg)
	}
	pair, err := readPair(cfg.TLS.CertFile, cfg.TLS.KeyFile)
	if err != nil {
		return err
	}
	if err := r.gate.Reload(ctx, cfg); err != nil {
		return err
	}
	r.cert.use(pair)
	return nil
}
