// Package stripefake is a Stripe of our own on loopback, for tests and for the demo: customers, products, prices,
// checkout with a page to pay on, the customer portal with a page, subscriptions with their whole life, invoices, events,
// webhooks signed and delivered. It is stateful, unlike stripe-mock, and answers as Stripe documents: idempotency keys,
// cursor paging, keys that see one mode alone, shapes by API version, lists that lag behind.
//
// What happens by the clock (renewals, ends of trials, retries of a payment) happens when somebody asks or Advance is
// called, in the order of its time and stamped with it.
//
// A Server is safe for concurrent use; one lock orders everything, as if requests came one after the other. It starts no
// goroutine: Run delivers webhooks until its context ends. All state is in memory and is gone with the process. It must
// never be reachable from another machine: New refuses an origin that is not on loopback, and requests whose Host is not
// a loopback name are answered 421.
package stripefake

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tenantgate/tenantgate/internal/secret"
)

// API versions whose shapes the fake speaks. Everything before Basil has the old shape: a period on the subscription
// itself, invoice.subscription.
const (
	VersionOld     = "2022-11-15"
	VersionBasil   = "2025-03-31.basil"
	VersionCurrent = "2026-03-25.dahlia"
)

// Limits of what a Server reads and keeps.
const (
	maxBody     = 64 << 10
	maxRequests = 10000
	eventsKept  = 30 * 24 * time.Hour // as long as Stripe lists an event
	idemKept    = 24 * time.Hour
)

// Key is an API key. It sees the objects of its mode alone.
type Key struct {
	Secret secret.Text
	Live   bool
	// May limits a restricted key: "subscriptions:read", "checkout/sessions:write" …, by the path's first parts. Write
	// contains read. Nil: everything.
	May []string
}

// Dunning is what Stripe is set to do about a payment that fails.
type Dunning struct {
	// Every is the time between attempts; 0: 72 hours.
	Every time.Duration
	// Attempts in all, the first one too; 0: 4.
	Attempts int
	// End is the subscription's status after the last one: canceled (also ""), unpaid or past_due.
	End string
}

// Config describes one account.
type Config struct {
	// Origin is http://HOST:PORT on loopback, where the Server is served; pages are linked there.
	Origin string
	Keys   []Key
	// Clock is where the account's time begins and how it runs; Advance adds to it. Nil: time.Now.
	Clock func() time.Time
	// DeliveryClock stamps signatures, which the receiver compares with its own clock. Nil: time.Now.
	DeliveryClock func() time.Time
	// APIVersion of requests that name none; "": VersionCurrent.
	APIVersion string
	Dunning    Dunning
	// FlexibleBilling: an end at the period's end is told by cancel_at alone, as on accounts with flexible billing.
	FlexibleBilling bool
	// Client delivers webhooks; nil: one with a timeout of 10 seconds. It never follows a redirect.
	Client *http.Client
}

// Server is the http.Handler of a Stripe account.
type Server struct {
	cfg     Config
	mux     *http.ServeMux
	origin  *http.CrossOriginProtection
	client  *http.Client
	changed chan struct{} // a delivery may be due; capacity 1

	mu        sync.Mutex
	ahead     time.Duration // by how much Advance moved the clock
	at        time.Time     // the moment being settled; zero: now
	entries   map[string]*entry
	order     map[string][]string // ids by kind, oldest first
	lives     map[string]*life    // by subscription
	cards     map[string]Card     // by customer
	portals   map[string]string   // a page's secret → session id
	idem      map[string]replay
	lag       time.Duration
	fault     func(*http.Request) *Fault
	requests  []Request
	endpoints []Endpoint
	pending   []Delivery
	arrange   func([]Delivery) []Delivery
}

// New checks cfg and returns an empty account.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("stripe fake: %w", err)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.DeliveryClock == nil {
		cfg.DeliveryClock = time.Now
	}
	if cfg.APIVersion == "" {
		cfg.APIVersion = VersionCurrent
	}
	if cfg.Dunning.Every == 0 {
		cfg.Dunning.Every = 72 * time.Hour
	}
	if cfg.Dunning.Attempts == 0 {
		cfg.Dunning.Attempts = 4
	}
	if cfg.Dunning.End == "" {
		cfg.Dunning.End = "canceled"
	}
	client := http.Client{Timeout: 10 * time.Second}
	if cfg.Client != nil {
		client = *cfg.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s := &Server{
		cfg: cfg, client: &client, origin: http.NewCrossOriginProtection(), changed: make(chan struct{}, 1),
		entries: map[string]*entry{}, order: map[string][]string{}, lives: map[string]*life{}, cards: map[string]Card{},
		portals: map[string]string{}, idem: map[string]replay{},
	}
	s.mux = s.routes()
	return s, nil
}

func (c *Config) check() error {
	u, err := url.Parse(c.Origin)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("origin %q must be http://HOST:PORT, without a path", c.Origin)
	}
	if !isLoopback(u.Host) {
		return fmt.Errorf("origin %q must be on loopback: anybody who reaches this page can pay", c.Origin)
	}
	if len(c.Keys) == 0 || slices.ContainsFunc(c.Keys, func(k Key) bool { return k.Secret.IsZero() }) {
		return errors.New("an API key is required")
	}
	if end := c.Dunning.End; !slices.Contains([]string{"", "canceled", "unpaid", "past_due"}, end) {
		return fmt.Errorf("dunning cannot end in %q", end)
	}
	if c.Dunning.Every < 0 || c.Dunning.Attempts < 0 {
		return errors.New("dunning must not be negative")
	}
	return nil
}

// isLoopback reports whether hostport names this machine alone.
func isLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !isLoopback(r.Host) {
		http.Error(w, "this Stripe is for loopback alone", http.StatusMisdirectedRequest)
		return
	}
	s.mux.ServeHTTP(w, r)
}

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/", s.api)
	mux.HandleFunc("GET /c/pay/{id}", s.payPage)
	mux.HandleFunc("POST /c/pay/{id}", s.payForm)
	mux.HandleFunc("GET /p/session/{secret}", s.portalPage)
	mux.HandleFunc("POST /p/session/{secret}", s.portalForm)
	return mux
}

// Now is the account's time.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now()
}

func (s *Server) now() time.Time {
	if !s.at.IsZero() {
		return s.at
	}
	return s.cfg.Clock().Add(s.ahead)
}

// Advance moves the account's clock ahead and does whatever becomes due on the way.
func (s *Server) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead += d
	s.settle()
}

// SetListLag makes lists show the account as it was that long ago; objects fetched by id are always current.
func (s *Server) SetListLag(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lag = d
}

// Request is what was asked of the API, without its parameters.
type Request struct {
	Method, Path, IdempotencyKey string
	Status                       int
}

// Requests are the last 10,000 requests to the API, oldest first.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}
