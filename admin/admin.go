// Package admin serves the admin listener: health, readiness and metrics for machines, and behind its doors what
// operators may see.
//
// Purpose: what an orchestrator and a scraper ask, on a listener of its own that no route of the proxy can reach. Health
// is answered on exact paths only; no header turns another request into a health check (HEALTH-1). Everything else
// needs a Host that is admin.public_url's or loopback, which a rebound DNS name is not, and no foreign Origin; then an
// admin token or the session of a system administrator, before it is looked at which path was asked for (ADM-1).
//
// Concurrency: an Admin is immutable after New and safe for concurrent use, as its Deps must be.
//
// Failure mode: not ready unless every check says so, 503 with the names of those that do not. Who cannot be recognised
// stays outside (401, 403, or 503 where that could not be found out); an unknown path is 404 behind the doors. No answer
// holds a URL, an error text of another system or a secret.
package admin

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// Config is what the listener's answers depend on.
type Config struct {
	// PublicURL is where people reach the listener, an absolute http or https URL. Empty: http://localhost:9901.
	PublicURL string
	// MaxLookAge is how old the last look at the host database may be before readiness fails: the larger of
	// cache.heartbeat and cache.max_stale. It must be positive.
	MaxLookAge time.Duration
}

// State is what the rest of the process knows about itself at one moment.
type State struct {
	// HostReached: the host database has answered since the start.
	HostReached bool
	// LastLook is when the last completed look at the host database began; the zero time for never.
	LastLook time.Time
	// KeysLoaded: the keys of sessions and assertions are in memory.
	KeysLoaded bool
	// Draining: the process is ending.
	Draining bool
	// Providers are listed and keep nobody from readiness.
	Providers []Provider
}

// Provider is an identity provider as it was last seen.
type Provider struct {
	Name string `json:"name"`
	// Status is up, down, or unknown as long as nobody needed it.
	Status string `json:"status"`
}

// Deps are what the answers are made of.
type Deps struct {
	// State must answer from memory, at once: it is called for every look at /readyz.
	State func() State
	// Metrics answers /metrics; nil: 404.
	Metrics http.Handler
	// Doors say who may enter. Nil: nobody; everything but health and metrics is 404.
	Doors Doors
	// Denied counts a refusal, for the audit; user is "" for a stranger. Nil: nobody counts.
	Denied func(r *http.Request, code string, user catalog.UserID)
	// Version is shown behind the doors.
	Version string
	// Clock; nil: time.Now.
	Clock func() time.Time
}

// Admin is the http.Handler of the admin listener.
type Admin struct {
	public *url.URL
	maxAge time.Duration
	deps   Deps
}

// New checks cfg and deps.
func New(cfg Config, deps Deps) (*Admin, error) {
	if cfg.PublicURL == "" {
		cfg.PublicURL = "http://localhost:9901"
	}
	public, err := url.Parse(cfg.PublicURL)
	if err != nil || (public.Scheme != "http" && public.Scheme != "https") || public.Host == "" || public.User != nil {
		return nil, errors.New("admin.public_url: want an http or https URL without user, such as http://localhost:9901")
	}
	if cfg.MaxLookAge <= 0 {
		return nil, errors.New("admin: the largest age of a look at the host database must be positive")
	}
	if deps.State == nil {
		return nil, errors.New("admin: without State nothing can be said about readiness")
	}
	if deps.Clock == nil {
		deps.Clock = time.Now
	}
	if deps.Denied == nil {
		deps.Denied = func(*http.Request, string, catalog.UserID) {}
	}
	return &Admin{public: public, maxAge: cfg.MaxLookAge, deps: deps}, nil
}

// ServeHTTP implements http.Handler.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if serve := a.open(r); serve != nil {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			refuse(w, http.StatusMethodNotAllowed, "method_not_allowed", "This address takes GET and HEAD.")
			return
		}
		serve(w, r)
		return
	}
	switch {
	case !a.ours(r.Host):
		a.deps.Denied(r, "bad_host", "")
		refuse(w, http.StatusForbidden, "bad_host", "The Host is neither admin.public_url's nor loopback.")
	case a.foreign(r):
		a.deps.Denied(r, "cross_origin", "")
		refuse(w, http.StatusForbidden, "cross_origin", "A page of another site sent this request.")
	case a.deps.Doors == nil:
		refuse(w, http.StatusNotFound, "not_found", "There is nothing at this address.")
	default:
		a.serveDoors(w, r)
	}
}

// open returns what answers the request whoever asks, or nil. The path counts as it was sent: an escape in it makes it
// another path.
func (a *Admin) open(r *http.Request) http.HandlerFunc {
	if r.URL.RawPath != "" {
		return nil
	}
	switch r.URL.Path {
	case "/healthz":
		return func(w http.ResponseWriter, _ *http.Request) {
			answer(w, http.StatusOK, "application/json", map[string]string{"status": "alive"})
		}
	case "/readyz":
		return a.ready
	case "/metrics":
		if a.deps.Metrics != nil {
			return a.deps.Metrics.ServeHTTP
		}
	}
	return nil
}

// Readiness is the body of /readyz.
type Readiness struct {
	// Status is ready or not_ready.
	Status    string     `json:"status"`
	Checks    []Check    `json:"checks"`
	Providers []Provider `json:"providers"`
}

// Check is one condition of readiness.
type Check struct {
	// Name is host_database, keys or running.
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Detail says what is the matter, "" if nothing is.
	Detail string `json:"detail,omitempty"`
}

// Judge says whether the state is ready at that time. It is pure.
func (a *Admin) Judge(s State, now time.Time) Readiness {
	database := Check{Name: "host_database"}
	switch age := now.Sub(s.LastLook); {
	case !s.HostReached || s.LastLook.IsZero():
		database.Detail = "not reached since the start"
	case age > a.maxAge:
		database.Detail = "last look " + age.Truncate(time.Millisecond).String() + " ago, allowed " + a.maxAge.String()
	default:
		database.OK = true
	}
	keys := Check{Name: "keys", OK: s.KeysLoaded}
	if !s.KeysLoaded {
		keys.Detail = "not loaded"
	}
	running := Check{Name: "running", OK: !s.Draining}
	if s.Draining {
		running.Detail = "draining"
	}
	out := Readiness{Status: "ready", Checks: []Check{database, keys, running}, Providers: s.Providers}
	if out.Providers == nil {
		out.Providers = []Provider{}
	}
	if !database.OK || !keys.OK || !running.OK {
		out.Status = "not_ready"
	}
	return out
}

func (a *Admin) ready(w http.ResponseWriter, _ *http.Request) {
	readiness := a.Judge(a.deps.State(), a.deps.Clock())
	status := http.StatusOK
	if readiness.Status != "ready" {
		status = http.StatusServiceUnavailable
	}
	answer(w, status, "application/json", readiness)
}

// ours reports whether a request with that Host was meant for this listener: its name is public_url's, or loopback's.
func (a *Admin) ours(host string) bool {
	return sameAuthority(host, a.public.Host, a.public.Scheme) || loopback(host)
}

func loopback(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	} else {
		name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	}
	if strings.EqualFold(strings.TrimSuffix(name, "."), "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Zone() == "" && ip.Unmap().IsLoopback()
}

// foreign reports whether a page of another origin sent the request. Programs send no Origin.
func (a *Admin) foreign(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return false
	}
	if len(origins) > 1 {
		return true
	}
	origin, err := url.Parse(origins[0])
	if err != nil || origin.Host == "" || origin.Path != "" || origin.User != nil {
		return true
	}
	if origin.Scheme == a.public.Scheme && sameAuthority(origin.Host, a.public.Host, a.public.Scheme) {
		return false
	}
	// Through a tunnel the listener is called by a loopback name and any port; its own pages then say the same.
	return origin.Scheme != "http" || !loopback(r.Host) || !sameAuthority(origin.Host, r.Host, origin.Scheme)
}

// sameAuthority compares two authorities, ASCII case, one trailing dot and the scheme's own port aside.
func sameAuthority(a, b, scheme string) bool { return authority(a, scheme) == authority(b, scheme) }

func authority(host, scheme string) string {
	port := ":80"
	if scheme == "https" {
		port = ":443"
	}
	name := strings.TrimSuffix(strings.ToLower(host), port)
	if i := strings.LastIndexByte(name, ':'); i >= 0 && !strings.HasSuffix(name, "]") {
		return strings.TrimSuffix(name[:i], ".") + name[i:]
	}
	return strings.TrimSuffix(name, ".")
}

// problem is RFC 9457's problem details.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

func refuse(w http.ResponseWriter, status int, code, detail string) {
	answer(w, status, "application/problem+json", problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Code: code,
	})
}

func answer(w http.ResponseWriter, status int, contentType string, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, "the answer could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}
