// Package gatetest puts a whole tenantgate on loopback for tests and benchmarks: a host database, the development
// provider, an app, and a gate in front of it.
//
// A World is used by one test at a time; its servers are safe for concurrent requests. Close ends everything that Start
// began and says what would not end. Nothing here is fit for production: secrets are made up and people have no
// passwords.
package gatetest

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/tenantgate/tenantgate"
	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/devidp"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/router"
)

// The provider's client, and the audience of bearer tokens.
const (
	ClientID = "tenantgate"
	Audience = "https://api.test"
	// MasterSecret is the secret_key of every World.
	MasterSecret = "dGVzdC1tYXN0ZXItc2VjcmV0LXRlc3QtbWFzdGVyLXNlY3JldC0xMjM0NTY3ODk="
	clientSecret = "test-client-secret"
)

// Options shape a World. HostURL and App are needed unless Middleware is set.
type Options struct {
	// HostURL is the host database.
	HostURL string
	// App is the app behind the gate, on a server of its own.
	App http.Handler
	// Middleware runs the app inside the gate's process instead.
	Middleware bool
	// People who can sign in.
	People []devidp.Person
	// Configure changes the configuration before it is used.
	Configure func(*config.Config)
	// Listener is the gate's; nil: a free port on 127.0.0.1.
	Listener net.Listener
	// Provider is shared with another World; nil: one of its own.
	Provider *Provider
	// LogWriter; nil: discarded.
	LogWriter io.Writer
	// Clock; nil: time.Now.
	Clock func() time.Time
	// SpanExporter receives spans where telemetry.traces is on; nil: the OTLP exporter.
	SpanExporter sdktrace.SpanExporter
}

// World is everything on loopback.
type World struct {
	Gate     *tenantgate.Gate
	Config   *config.Config
	Provider *Provider
	// URL is the gate's public_url.
	URL string
	// Addr is where the gate listens.
	Addr string
	// AppAddr is where the app listens.
	AppAddr string

	servers     []*http.Server
	ownProvider bool
}

// Provider is a development provider on its own listener.
type Provider struct {
	*devidp.Provider
	server *http.Server
}

// NewListener takes a free port on loopback.
func NewListener() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

// PublicURL is the public_url of a gate behind l.
func PublicURL(l net.Listener) string {
	return fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port)
}

// StartProvider serves a provider whose client may come back to the gates at those public URLs.
func StartProvider(people []devidp.Person, publicURLs ...string) (*Provider, error) {
	return StartProviderWithKey(nil, people, publicURLs...)
}

// StartProviderWithKey is StartProvider with the key that signs; nil: a new RSA key, which takes a while to make.
func StartProviderWithKey(key crypto.Signer, people []devidp.Person, publicURLs ...string) (*Provider, error) {
	l, err := NewListener()
	if err != nil {
		return nil, err
	}
	cfg := devidp.Config{
		Issuer: "http://" + l.Addr().String(), People: people, ClientID: ClientID, ClientSecret: secret.New(clientSecret),
		Key: key,
	}
	for _, u := range publicURLs {
		cfg.RedirectURIs = append(cfg.RedirectURIs, u+"/_gate/callback/dev")
		cfg.PostLogoutRedirectURIs = append(cfg.PostLogoutRedirectURIs, u+"/_gate/logout", u+"/")
	}
	p, err := devidp.New(cfg)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &Provider{Provider: p, server: serve(l, p)}, nil
}

// Close ends the provider.
func (p *Provider) Close() error { return errors.Join(p.server.Close(), p.Provider.Close()) }

func serve(l net.Listener, h http.Handler) *http.Server {
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	return s
}

// Start puts a World up.
func Start(ctx context.Context, o Options) (*World, error) {
	w := &World{Provider: o.Provider}
	if err := w.start(ctx, o); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *World) start(ctx context.Context, o Options) error {
	l := o.Listener
	if l == nil {
		var err error
		if l, err = NewListener(); err != nil {
			return err
		}
	}
	w.URL, w.Addr = PublicURL(l), l.Addr().String()
	if w.Provider == nil {
		var err error
		if w.Provider, err = StartProvider(o.People, w.URL); err != nil {
			return err
		}
		w.ownProvider = true
	}
	appURL := "http://127.0.0.1:1"
	if o.App != nil && !o.Middleware {
		appListener, err := NewListener()
		if err != nil {
			return err
		}
		w.AppAddr = appListener.Addr().String()
		appURL = "http://" + w.AppAddr
		w.servers = append(w.servers, serve(appListener, o.App))
	}
	w.Config = w.configuration(o, appURL)
	if o.Configure != nil {
		o.Configure(w.Config)
	}
	logs := o.LogWriter
	if logs == nil {
		logs = io.Discard
	}
	gate, err := tenantgate.OpenWith(ctx, w.Config, tenantgate.Options{LogWriter: logs, Clock: o.Clock, SpanExporter: o.SpanExporter})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	w.Gate = gate
	handler := gate.Handler()
	if o.Middleware {
		handler = gate.Middleware(o.App)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, DisableGeneralOptionsHandler: true}
	go func() { _ = server.Serve(l) }()
	w.servers = append(w.servers, server)
	return nil
}

func (w *World) configuration(o Options, appURL string) *config.Config {
	return &config.Config{
		PublicURL: w.URL, SecretKey: secret.New(MasterSecret),
		HostDatabase: catalog.Config{URL: catalog.NewDBURI(o.HostURL)},
		Identity: auth.Config{Providers: []auth.Provider{{
			Name: "dev", Issuer: w.Provider.Issuer(), ClientID: ClientID, ClientSecret: secret.New(clientSecret),
			Bearer: auth.BearerConfig{Audiences: []string{Audience}},
		}}},
		Tenants:   router.TenantsConfig{PathPrefix: "/t/"},
		Upstreams: map[string]router.UpstreamConfig{"app": {URLs: []string{appURL}}},
		Routes:    []router.RouteConfig{{Path: "/", Upstream: "app"}},
	}
}

// Close ends everything.
func (w *World) Close() error {
	var errs []error
	for i := len(w.servers) - 1; i >= 0; i-- {
		errs = append(errs, w.servers[i].Close())
	}
	if w.Gate != nil {
		errs = append(errs, w.Gate.Close())
	}
	if w.ownProvider {
		errs = append(errs, w.Provider.Close())
	}
	return errors.Join(errs...)
}

// New is Start for a test, which also ends the World.
func New(t testing.TB, o Options) *World {
	t.Helper()
	w, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return w
}

// Client is a browser without a screen: it keeps cookies, follows redirects, and finds every *.localhost on loopback.
// It is the caller's: CloseIdleConnections when done.
func (w *World) Client() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil { // the nil list of public suffixes has no fault
		panic(err)
	}
	return &http.Client{Jar: jar, Timeout: 2 * time.Minute, Transport: w.Transport()}
}

// Transport dials the gate for every name under localhost and the named port otherwise.
func (w *World) Transport() *http.Transport {
	dialer := &net.Dialer{Timeout: time.Minute}
	return &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(addr)
			if err == nil && (host == "localhost" || strings.HasSuffix(host, ".localhost")) {
				addr = net.JoinHostPort("127.0.0.1", port)
			}
			return dialer.DialContext(ctx, network, addr)
		},
	}
}

// SignIn signs the person in through the provider's page, as a browser does, and leaves the session in c's jar.
func (w *World) SignIn(ctx context.Context, c *http.Client, subject string) error {
	res, err := get(ctx, c, w.URL+"/_gate/login?return_to=/_gate/ping")
	if err != nil {
		return err
	}
	if res.Request.URL.Path != "/login" {
		return fmt.Errorf("sign-in ended at %s with %s, not at the provider's page", res.Request.URL.Path, res.Status)
	}
	form := url.Values{"id": {res.Request.URL.Query().Get("id")}, "subject": {subject}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, res.Request.URL.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	done, err := c.Do(req)
	if err != nil {
		return err
	}
	defer done.Body.Close()
	if done.StatusCode != http.StatusOK || done.Request.URL.Path != "/_gate/ping" {
		return fmt.Errorf("sign-in of %s ended at %s with %s", subject, done.Request.URL.Path, done.Status)
	}
	return nil
}

func get(ctx context.Context, c *http.Client, target string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	res, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	return res, res.Body.Close()
}

// Bearer makes an access token of the provider for the person.
func (w *World) Bearer(subject string, extra map[string]any) (string, error) {
	return w.Provider.MintAccessToken(subject, Audience, time.Hour, extra)
}
