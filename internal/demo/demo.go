// Package demo is the whole product in one process on loopback, for somebody who has just cloned the repository: an
// embedded SQLite host database, a development OpenID provider with a page to pick a person, an app that opens the
// tenant's database from the header, a Stripe at which nothing costs anything, and the proxy in front. It needs no
// network and no set-up.
//
// Run owns everything it starts: when its context ends, five servers, the gate and the provider have ended within two
// seconds, and unless a directory was given the files are gone. Either all ports are bound before anything starts,
// or Run fails and names the flag. It refuses an address that is not on loopback, since whoever reaches the provider can
// be anybody.
package demo

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tenantgate/tenantgate"
	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/demoapp"
	"github.com/tenantgate/tenantgate/internal/devidp"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/internal/stripefake"
	"github.com/tenantgate/tenantgate/router"
	"github.com/tenantgate/tenantgate/telemetry"
)

// The flags' defaults.
const (
	DefaultListen       = "127.0.0.1:8080"
	DefaultProviderPort = 8081
	DefaultAppPort      = 8082
	DefaultAdminPort    = 9901
)

// ErrUsage is wrapped by errors about an option's value, as opposed to a machine that does not play along.
var ErrUsage = errors.New("wrong usage")

const (
	providerName = "demo"
	clientID     = "tenantgate-demo"
	apiAudience  = "tenantgate-demo-api" // of bearer tokens, so that no ID token is one
	appAudience  = "app"
	pathPrefix   = "/t/"
	tokenLife    = 24 * time.Hour
	grace        = 600 * time.Millisecond // for requests under way when the end has come
)

// Options are the command's flags. A port of 0 takes any free one; what was taken is printed.
type Options struct {
	// Listen is the proxy's address, host:port on loopback; the others stand on the same host. "": DefaultListen.
	Listen       string
	ProviderPort int
	AppPort      int
	AdminPort    int
	StripePort   int
	// DataDir keeps everything and is started from again; "" keeps nothing.
	DataDir string
	// Output is text (also "" and table) or json.
	Output string
	// Stdout receives where everything is, once it can be opened. Nil: nothing is printed.
	Stdout io.Writer
	// Log receives warnings and errors. Nil: standard error.
	Log io.Writer
	// Version is shown in telemetry.
	Version string
}

// Run runs the demo until ctx ends and returns nil then. Errors about an option wrap ErrUsage.
func Run(ctx context.Context, opts Options) (err error) {
	tell, err := teller(opts.Output)
	if err != nil {
		return err
	}
	ports, err := bind(ctx, opts)
	if err != nil {
		return err
	}
	defer ports.close()
	dir, err := openDirectory(opts.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.leave()) }()

	stripe, err := newStripe(ports)
	if err != nil {
		return err
	}
	gate, provider, err := raise(ctx, opts, ports, dir, stripe)
	if err != nil {
		if ctx.Err() != nil {
			return nil // ended before it had begun, which is what was asked for
		}
		return err
	}
	defer func() { err = errors.Join(err, provider.Close(), gate.Close()) }()
	app, err := demoapp.New(demoapp.Config{
		JWKSURL: ports.proxy.url + "/_gate/jwks.json", Issuer: ports.proxy.url, Audience: appAudience,
	})
	if err != nil {
		return err
	}
	facts, err := gather(ports, dir, provider)
	if err != nil {
		return err
	}
	return serve(ctx, gate, []service{
		{ports.proxy, gate.Handler()},
		{ports.admin, gate.AdminHandler()},
		{ports.provider, provider},
		{ports.app, app},
		{ports.stripe, stripe},
	}, stripe.Run, func() error { return tell(opts.Stdout, facts) })
}

// raise opens the gate with its rows, and makes the provider meanwhile: making its key takes as long.
func raise(ctx context.Context, opts Options, p *ports, d *directory, stripe *stripefake.Server) (*tenantgate.Gate, *devidp.Provider, error) {
	master, err := d.masterKey()
	if err != nil {
		return nil, nil, err
	}
	client := secret.New(rand.Text())
	var group errgroup.Group
	var provider *devidp.Provider
	group.Go(func() error {
		key, err := d.providerKey()
		if err != nil {
			return err
		}
		provider, err = newProvider(p, key, client)
		return err
	})
	var gate *tenantgate.Gate
	group.Go(func() error {
		var err error
		gate, err = tenantgate.OpenWith(ctx, paidAt(p, gateConfig(p, d, master, client)), tenantgate.Options{LogWriter: opts.Log, Version: opts.Version})
		if err != nil {
			return fmt.Errorf("start the demo's proxy: %w", err)
		}
		if err := gate.Waiting(); err != nil {
			return fmt.Errorf("start the demo's proxy: %w", err)
		}
		if err := Seed(ctx, gate.Host(), d.path); err != nil {
			return err
		}
		return fillStripe(ctx, stripe, gate.Host(), p.proxy.url)
	})
	if err := group.Wait(); err != nil {
		if gate != nil {
			err = errors.Join(err, gate.Close())
		}
		return nil, nil, err
	}
	return gate, provider, nil
}

// gateConfig is what an operator would write in YAML.
func gateConfig(p *ports, d *directory, master, client secret.Text) *config.Config {
	return &config.Config{
		Listen: config.Listen{p.proxy.address}, PublicURL: p.proxy.url, SecretKey: master,
		Admin:        config.Admin{Listen: p.admin.address, PublicURL: p.admin.url},
		HostDatabase: catalog.Config{URL: catalog.NewDBURI("sqlite:" + d.file("host.db"))},
		Identity: auth.Config{Providers: []auth.Provider{{
			Name: providerName, Issuer: p.provider.url, ClientID: clientID, ClientSecret: client, SubjectPrefix: subjectPrefix,
			Bearer: auth.BearerConfig{Audiences: []string{apiAudience}},
		}}},
		Tenants:   router.TenantsConfig{PathPrefix: pathPrefix},
		Upstreams: map[string]router.UpstreamConfig{"app": {URLs: []string{p.app.url}}},
		Routes: []router.RouteConfig{
			{Path: "/healthz", Access: "public", Upstream: "app"},
			{Path: "/assets/", Access: "public", Upstream: "app"},
			{Path: "/account/", Access: "user", Upstream: "app"},
			{Path: "/settings/", MinRole: "admin", Upstream: "app"},
			{Path: "/reports/", Feature: "advanced_analytics", Upstream: "app"},
			{Path: "/", Upstream: "app"},
		},
		Forward:   router.ForwardConfig{Assertion: router.AssertionConfig{Audience: appAudience}},
		Telemetry: telemetry.Config{Log: telemetry.LogConfig{Level: "warn", Format: "text"}},
	}
}

func newProvider(p *ports, key crypto.Signer, client secret.Text) (*devidp.Provider, error) {
	return devidp.New(devidp.Config{
		Issuer: p.provider.url, People: people(), Key: key,
		ClientID: clientID, ClientSecret: client, ClientName: "the tenantgate demo",
		RedirectURIs:           []string{p.proxy.url + "/_gate/callback/" + providerName},
		PostLogoutRedirectURIs: []string{p.proxy.url + "/_gate/logout", p.proxy.url + "/"},
	})
}

// service is a handler and the port on which it is served.
type service struct {
	port    *port
	handler http.Handler
}

// serve serves until ctx ends or a server fails, and returns when every server has ended. Requests under way get grace;
// then their contexts end, which ends event streams, and their connections are closed.
func serve(ctx context.Context, gate *tenantgate.Gate, services []service, deliver func(context.Context) error, ready func() error) error {
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	group, ctx := errgroup.WithContext(ctx)
	servers := make([]*http.Server, len(services))
	for i, s := range services {
		servers[i] = newServer(base, gate, s.handler)
		group.Go(func() error {
			if err := servers[i].Serve(s.port.listener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve %s: %w", s.port.address, err)
			}
			return nil
		})
	}
	group.Go(func() error {
		<-ctx.Done()
		gate.Drain()
		return shut(servers, cut)
	})
	group.Go(func() error {
		if err := deliver(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("deliver webhooks: %w", err)
		}
		return nil
	})
	group.Go(ready)
	return group.Wait()
}

func shut(servers []*http.Server, cut context.CancelFunc) error {
	patience, done := context.WithTimeout(context.Background(), grace)
	defer done()
	var group errgroup.Group
	for _, server := range servers {
		group.Go(func() error { return server.Shutdown(patience) })
	}
	// A stream that is still open when patience ends is no fault: it is cut below.
	err := group.Wait()
	cut()
	for _, server := range servers {
		if closed := server.Close(); closed != nil {
			err = errors.Join(err, closed)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}
