// Package demoapp is the app behind the proxy in the demo: the books of whichever tenant the request is for. It shows
// what any app behind tenantgate does: it takes the tenant's database from X-Tenant-Db-Uri, but only after it has
// verified X-Gate-Assertion and found that the assertion speaks of that very database, so that a caller who comes past
// the proxy gets nothing. It knows no users, no sessions and no tenants of its own.
//
// The tenant's database is PostgreSQL or a SQLite file; the demo's own are files.
//
// An App is safe for concurrent use and keeps nothing between requests but the assertion's public keys: the database is
// opened read-only for one request and closed at its end. Whatever is missing or cannot be verified is a 500 that says
// so; a database that cannot be read is a 503. An event stream ends when its client goes, and at the latest when the
// server's base context ends.
package demoapp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/assertion"
)

// The headers that the app reads; the proxy sets or removes every one of them.
const (
	headerDBURI     = "X-Tenant-Db-Uri"
	headerAssertion = "X-Gate-Assertion"
	headerPrefix    = "X-Forwarded-Prefix"
)

const (
	defaultTick = time.Second
	maxStream   = time.Hour
	maxStreams  = 100
)

// Config says whom the app believes.
type Config struct {
	// JWKSURL, Issuer and Audience are the assertion's: the proxy's /_gate/jwks.json, its public_url and
	// forward.assertion.audience.
	JWKSURL  string
	Issuer   string
	Audience string
	// HTTPClient fetches the keys; nil: the assertion package's own.
	HTTPClient *http.Client
	// Clock is what the assertion expires by; nil: time.Now.
	Clock func() time.Time
	// Tick is the time between two events of /events. 0: one second.
	Tick time.Duration
}

// App is the http.Handler.
type App struct {
	// verify accepts an assertion that is good and speaks of that database URI, "" for none.
	verify  func(ctx context.Context, token, dbURI string) error
	front   string // where the proxy is, for a caller who came past it
	clock   func() time.Time
	tick    time.Duration
	streams chan struct{}
	views   *views
	mux     *http.ServeMux
}

// New returns the app. It fetches nothing yet: the proxy may start later than the app.
func New(cfg Config) (*App, error) {
	verifier, err := assertion.New(assertion.Config{
		JWKSURL: cfg.JWKSURL, Issuer: cfg.Issuer, Audience: cfg.Audience, HTTPClient: cfg.HTTPClient, Clock: cfg.Clock,
	})
	if err != nil {
		return nil, fmt.Errorf("demo app: %w", err)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Tick <= 0 {
		cfg.Tick = defaultTick
	}
	a := &App{
		front: cfg.Issuer, clock: cfg.Clock, tick: cfg.Tick,
		streams: make(chan struct{}, maxStreams), mux: http.NewServeMux(),
		verify: func(ctx context.Context, token, dbURI string) error {
			claims, err := verifier.Verify(ctx, token)
			if err != nil {
				return err
			}
			if dbURI != "" && !claims.MatchesDBURI(dbURI) {
				return errors.New("the assertion speaks of another database than X-Tenant-Db-Uri")
			}
			return nil
		},
	}
	if a.views, err = newViews(); err != nil {
		return nil, fmt.Errorf("demo app: %w", err)
	}
	a.routes()
	return a, nil
}

func (a *App) routes() {
	a.mux.HandleFunc("GET /{$}", a.tenant(a.show("invoices")))
	for _, name := range []string{"reports", "settings", "live", "request"} {
		a.mux.HandleFunc("GET /"+name+"/{$}", a.tenant(a.show(name)))
	}
	a.mux.HandleFunc("GET /account/{$}", a.person(a.show("account")))
	a.mux.HandleFunc("GET /api/rows", a.tenant(serveRows))
	a.mux.HandleFunc("GET /events", a.tenant(a.serveEvents))
	a.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
	a.mux.HandleFunc("GET /assets/style.css", asset("text/css; charset=utf-8", styleSource))
	a.mux.HandleFunc("GET /assets/live.js", asset("text/javascript; charset=utf-8", scriptSource))
	a.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		a.fail(w, r, refusal{
			Status: http.StatusNotFound, Title: "There is no such page", Text: "Nothing of this app is at this address.",
			Link: prefixOf(r) + "/", Label: "Go to the invoices",
		})
	})
}

// ServeHTTP implements http.Handler.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Content-Security-Policy",
		"default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'")
	a.mux.ServeHTTP(w, r)
}

type page func(http.ResponseWriter, *http.Request, *visit)

// tenant serves what belongs to a tenant: no database URI, no page.
func (a *App) tenant(next page) http.HandlerFunc {
	return a.person(func(w http.ResponseWriter, r *http.Request, v *visit) {
		uri := r.Header.Get(headerDBURI)
		if uri == "" {
			a.fail(w, r, refusal{
				Status: http.StatusInternalServerError, Title: "This request names no tenant",
				Text: "The app got no " + headerDBURI + " header. Choose a workspace first.", Link: "/_gate/tenants", Label: "Choose a workspace",
			})
			return
		}
		open, err := openerOf(uri)
		if err != nil {
			a.fail(w, r, refusal{Status: http.StatusInternalServerError, Title: "This database cannot be read here", Text: sentence(err)})
			return
		}
		if v.Books, err = readBooks(r.Context(), open); err != nil {
			a.fail(w, r, refusal{Status: http.StatusServiceUnavailable, Title: "The tenant's database cannot be read", Text: "Try again in a moment."})
			return
		}
		next(w, r, v)
	})
}

// person serves whom the proxy has let in, whether a tenant is named or not.
func (a *App) person(next page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f := refusal{Status: http.StatusInternalServerError, Link: a.front, Label: "Open tenantgate"}
		tokens := r.Header.Values(headerAssertion)
		if len(tokens) != 1 || len(r.Header.Values(headerDBURI)) > 1 {
			f.Title = "This request did not come through tenantgate"
			f.Text = "The app got no " + headerDBURI + " header with an " + headerAssertion + " beside it, and shows nothing without them."
			a.fail(w, r, f)
			return
		}
		err := a.verify(r.Context(), tokens[0], r.Header.Get(headerDBURI))
		var v *visit
		if err == nil {
			v, err = newVisit(r, tokens[0], a.clock())
		}
		if err != nil {
			f.Title, f.Text = "The assertion cannot be verified", "The app shows nothing: "+sentence(err)
			a.fail(w, r, f)
			return
		}
		next(w, r, v)
	}
}

func sentence(err error) string { return strings.TrimSuffix(err.Error(), ".") + "." }
