// Package auth says who is asking: sessions in cookies, bearer tokens of OpenID providers, sign-in and sign-out, and
// the assertion that tells the app what was found out.
//
// Purpose: turn what a client presents into an Identity, or refuse. A Credentials value goes in, no http.Request; the
// pages of the sign-in flow are http handlers beside that. Nothing here decides what a person may do.
//
// Concurrency: an Auth is safe for concurrent use. Its goroutines (fetches of provider documents, writes of last use)
// are its own and Close waits for them. Facts read from the host database are remembered until they change,
// "there is none" too, and a sign-out through this Auth forgets at once; what was verified is remembered, never a
// verdict: expiry, user and block are looked at on every call.
//
// Failure mode: closed. What cannot be checked is an error (catalog.ErrUnavailable, ErrProviderUnavailable), never an
// identity. A provider that is down at the start or later stops its own sign-ins and unknown keys alone. Secrets that
// are missing or garbled stop New. Errors hold no token, cookie, code, state, nonce or secret.
package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/tenantgate/tenantgate/cache"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
)

// Errors of Authenticate; test with errors.Is. Errors of the host database (catalog.ErrUnavailable) and of the
// caller's context pass wrapped.
var (
	// ErrUnauthenticated: no credential of ours was presented.
	ErrUnauthenticated = errors.New("not signed in")
	// ErrSessionExpired: a session cookie was presented and opens nothing (any more, or here). Clear it: ClearSession.
	ErrSessionExpired = errors.New("session is not good here any more")
	// ErrInvalidToken: an Authorization header that is ours to judge was presented and is not good.
	ErrInvalidToken = errors.New("bearer token is not good")
	// ErrUnknownUser: the credential is good, but nobody known and unblocked stands behind it.
	ErrUnknownUser = errors.New("no such user")
	// ErrProviderUnavailable: the provider's keys or documents cannot be had now. Try again later.
	ErrProviderUnavailable = errors.New("identity provider unavailable")
	// ErrBadReturnTo: return_to leads somewhere that is not ours.
	ErrBadReturnTo = errors.New("return_to is neither a local path nor a URL of this installation")
)

// refusedCredential is an error of Authenticate about a credential that was proven to be a user's.
type refusedCredential struct {
	error
	user catalog.UserID
}

// Unwrap returns the error without the user.
func (r *refusedCredential) Unwrap() error { return r.error }

// refusedFor says whose credential it was that err is about; err alone where no such user is known.
func refusedFor(err error, user catalog.UserID, known bool) error {
	if !known || user == "" {
		return err
	}
	return &refusedCredential{err, user}
}

// RefusedUser is the user whose credential err refuses: a session or token that was one and is over, or whose user is
// blocked. "" where the credential proves nobody: then whoever presents it is a stranger.
func RefusedUser(err error) catalog.UserID {
	if r, ok := errors.AsType[*refusedCredential](err); ok {
		return r.user
	}
	return ""
}

// Kind is what a person was recognised by.
type Kind uint8

// The kinds of credentials.
const (
	// KindSession is the session cookie.
	KindSession Kind = iota + 1
	// KindBearer is a JWT of a provider in Authorization: Bearer.
	KindBearer
	// KindAPIToken is a token of ours that stands for a user: tg_….
	KindAPIToken
	// KindAdminToken is a token of ours that opens the admin listener and stands for no user: tga_….
	KindAdminToken
)

// String is the kind's word in logs and in explain.
func (k Kind) String() string {
	switch k {
	case KindSession:
		return "session"
	case KindBearer:
		return "bearer"
	case KindAPIToken:
		return "token"
	case KindAdminToken:
		return "admin_token"
	default:
		return "none"
	}
}

// Credentials are what a request presents, as received.
type Credentials struct {
	// Cookies are the values of the Cookie headers.
	Cookies []string
	// Authorization are the values of the Authorization headers.
	Authorization []string
	// Host is the host asked for; case, port and one trailing dot do not matter.
	Host string
	// Recheck asks whether what was presented earlier is still good. It is no use of a session or an API token.
	Recheck bool
}

// Identity is who a credential stands for. It grants nothing.
type Identity struct {
	User catalog.UserID
	Kind Kind
	// Session and SessionTenant (the picker's choice) are set for KindSession.
	Session       catalog.SessionID
	SessionTenant catalog.TenantID
	// OnlyTenant is the one tenant that a session of a custom domain reaches; "" for no such limit.
	OnlyTenant catalog.TenantID
	// Token is set for KindAPIToken and KindAdminToken; TokenTenant is the one tenant that an API token opens, "" for
	// every one of the user's.
	Token       catalog.APITokenID
	TokenTenant catalog.TenantID
	// ClaimTenant is the tenant claim of a bearer token, "" without one.
	ClaimTenant string
	Provider    string
	Subject     string // sub, without subject_prefix
	// Expires is when the session ends at the latest, or the token. Zero for an API token that does not end by itself.
	Expires time.Time
	// IssuedAt is the sign-in, or the token's iat (zero without one), or when an API token was created.
	IssuedAt time.Time
}

// Reaches reports whether the credential may open, or show, that tenant as far as it is bound to one: whether the user
// may enter it is another question.
func (id *Identity) Reaches(tenant catalog.TenantID) bool {
	return (id.TokenTenant == "" || id.TokenTenant == tenant) && (id.OnlyTenant == "" || id.OnlyTenant == tenant)
}

// Codes that handlers pass to Deps.Refuse: rows of the router's denial table.
const (
	codeBadHost             = "bad_host"
	codeBadRequest          = "bad_request"
	codeBadReturnTo         = "bad_return_to"
	codeCrossOrigin         = "cross_origin"
	codeHostDatabase        = "host_database_unavailable"
	codeInvalidToken        = "invalid_token"
	codeMethodNotAllowed    = "method_not_allowed"
	codeNoAccess            = "no_access"
	codeNotFound            = "not_found"
	codeProviderUnavailable = "provider_unavailable"
	codeRateLimited         = "rate_limited"
	codeUnknownUser         = "unknown_user"
)

// Deps are what an Auth stands on. Host, PublicURL, Secrets and Refuse are needed.
type Deps struct {
	Host *catalog.HostDatabase
	// PublicURL is public_url: scheme and host, no path. Its scheme decides the cookies' names and Secure.
	PublicURL *url.URL
	// Secrets are the master secrets of secret_key.
	Secrets seal.Keyset
	// Refuse answers a request with a row of the denial table (page or problem+json). Headers set before it stay.
	Refuse func(w http.ResponseWriter, r *http.Request, code string, err error)

	// Denied counts a refusal that is no row of the denial table: a sign-in's page, a logout token. Nil: nobody counts.
	Denied func(r *http.Request, code string, user catalog.UserID)
	// ClientIP is the address that counts for sign_up_limit and the audit. Nil: the connection's peer.
	ClientIP func(*http.Request) netip.Addr
	// RequestHost is the host asked for, with its port, where that is not r.Host. Nil: r.Host.
	RequestHost func(*http.Request) string
	// BaseDomain is tenants.base_domain; its single labels are allowed in return_to. "": none.
	BaseDomain string
	// IgnoreHost: a label under BaseDomain names no tenant (tenants.resolve without host).
	IgnoreHost bool
	// AdminURL is admin.public_url; its origin is allowed in return_to. Nil: none.
	AdminURL *url.URL
	// TenantClaim is the claim of bearer tokens that names a tenant. "": none is read.
	TenantClaim string
	// CacheEntries bounds each cache. 0: 100000.
	CacheEntries int
	// CacheTTL is how long facts are used, CacheNegativeTTL how long it is remembered that there is none. 0: 5 s;
	// negative: every call reads.
	CacheTTL, CacheNegativeTTL time.Duration
	// Coherence knows what changes in Host, and how long memory may answer. Nil: nobody tells, and facts are used for 5 s
	// at most.
	Coherence *cache.Coherence
	// Clock is the time. Nil: time.Now.
	Clock func() time.Time
	// Log gets what operators should know; never a secret. Nil: nothing is logged.
	Log *slog.Logger
	// Redact is told every secret of the configuration that must not appear in a log. Nil: nobody is told.
	Redact func(secret string)
	// Before is the Auth that this one takes over from when a configuration is reloaded: its used-up sign-ins go on. Nil:
	// none.
	Before *Auth
	// Transport replaces the network for requests to providers (tests). Nil: our own, with ca_file.
	Transport http.RoundTripper
}

// maxFactsAge is how old facts of the host database may be where nobody tells of changes.
const maxFactsAge = 5 * time.Second

const (
	defaultEntries = 100_000
	// loads bounds the reads that wait for the host database at once, for each kind of facts.
	loads = 128
)

// Auth recognises people. Make it with New.
type Auth struct {
	host       *catalog.HostDatabase
	secrets    seal.Keyset
	keys       *keyring
	clock      func() time.Time
	log        *slog.Logger
	refuse     func(http.ResponseWriter, *http.Request, string, error)
	denied     func(*http.Request, string, catalog.UserID)
	clientIP   func(*http.Request) netip.Addr
	hostOf     func(*http.Request) string
	origins    origins
	names      cookieNames
	crossSite  *http.CrossOriginProtection
	providers  []*provider // in the order of the configuration
	bearers    []*provider // those with bearer.audiences
	bearerID   [32]byte    // identity of the bearer configuration (CACHE-2)
	claim      string
	ignoreHost bool
	signUp     string
	limit      int // sign_up_limit
	idle       time.Duration
	absolute   time.Duration
	writeEvery time.Duration
	owner      *owner

	sessions *cache.Cache[sessionKey, *sessionFacts]
	subjects *cache.Cache[string, subjectFacts]
	tokens   *cache.Cache[tokenKey, *tokenFacts]
	domains  *cache.Cache[string, catalog.TenantID]
	uses     *lru.Cache[sessionKey, *lastUse]

	apiTokens    *cache.Cache[apiKey, *apiTokenFacts]
	apiTokenUses *lru.Cache[apiKey, *lastUse]
	flows        *lru.Cache[flowID, time.Time] // flows that were used up
	touches      chan touch
	reached      atomic.Int64 // when the host database last answered a ping, in nanoseconds since 1970
}

// New checks the configuration, loads or makes the sealed keys and returns an Auth that the caller closes. No provider
// needs to be up. All faults of the configuration are reported at once.
func New(ctx context.Context, cfg Config, deps Deps) (*Auth, error) {
	a, err := assemble(cfg, deps)
	if err != nil {
		return nil, err
	}
	if a.keys, err = loadKeyring(ctx, deps.Host, deps.Secrets, a.clock()); err != nil {
		return nil, err
	}
	if err := a.openCaches(deps); err != nil {
		return nil, err
	}
	a.owner = newOwner()
	for _, p := range a.providers {
		p.connect(a.owner, a.clock)
	}
	a.startTouches()
	a.startKeyLooks()
	return a, nil
}

// assemble does all of New that needs neither database nor goroutine.
func assemble(cfg Config, deps Deps) (*Auth, error) {
	faults := []error{cfg.Validate(), deps.check()}
	a := &Auth{
		host: deps.Host, secrets: deps.Secrets, clock: deps.Clock, log: deps.Log, refuse: deps.Refuse,
		denied: deps.Denied, clientIP: deps.ClientIP, hostOf: deps.RequestHost, claim: deps.TenantClaim, ignoreHost: deps.IgnoreHost,
		crossSite: http.NewCrossOriginProtection(),
		signUp:    cfg.SignUp, idle: cfg.Session.idle(), absolute: cfg.Session.absolute(),
	}
	a.writeEvery = min(a.idle/2, time.Minute)
	if a.clock == nil {
		a.clock = time.Now
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.denied == nil {
		a.denied = func(*http.Request, string, catalog.UserID) {}
	}
	if a.clientIP == nil {
		a.clientIP = peerIP
	}
	if a.hostOf == nil {
		a.hostOf = func(r *http.Request) string { return r.Host }
	}
	if deps.PublicURL != nil {
		a.origins = newOrigins(deps.PublicURL, deps.BaseDomain, deps.AdminURL)
		a.names = namesFor(a.origins.public.Scheme == "https")
	}
	for i, pc := range cfg.Providers {
		p, err := newProvider(pc, deps)
		if err != nil {
			faults = append(faults, fmt.Errorf("identity.providers[%d]: %w", i, err))
			continue
		}
		p.reserved = otherPrefixes(cfg.Providers, i)
		a.providers = append(a.providers, p)
		if len(pc.Bearer.Audiences) > 0 {
			a.bearers = append(a.bearers, p)
		}
		if deps.PublicURL != nil && sameURL(pc.Issuer, a.origins.public.String()) {
			faults = append(faults, fmt.Errorf("identity.providers[%d].issuer: is public_url itself; name the provider's", i))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	a.bearerID = bearerIdentity(a.bearers, a.claim)
	a.limit = cfg.signUpLimit()
	return a, nil
}

func (a *Auth) openCaches(deps Deps) error {
	entries := deps.CacheEntries
	if entries <= 0 {
		entries = defaultEntries
	}
	facts := cache.Config{
		Entries: entries, TTL: factsAge(deps, deps.CacheTTL), NegativeTTL: factsAge(deps, deps.CacheNegativeTTL), Loads: loads, Clock: a.clock,
	}
	a.sessions = cache.NewCoherent(facts, sessionDepends(deps.Coherence))
	a.subjects = cache.NewCoherent(facts, subjectDepends(deps.Coherence))
	a.apiTokens = cache.NewCoherent(facts, apiTokenDepends(deps.Coherence))
	few := facts
	few.Entries = 1024
	a.domains = cache.NewCoherent(few, domainDepends(deps.Coherence))
	a.tokens = cache.New[tokenKey, *tokenFacts](cache.Config{Entries: entries, TTL: rememberTokens, Clock: a.clock})
	var err error
	if a.uses, err = lru.New[sessionKey, *lastUse](entries); err != nil {
		return fmt.Errorf("session cache: %w", err)
	}
	if a.apiTokenUses, err = lru.New[apiKey, *lastUse](entries); err != nil {
		return fmt.Errorf("token cache: %w", err)
	}
	if deps.Before != nil {
		a.flows = deps.Before.flows
	} else if a.flows, err = lru.New[flowID, time.Time](usedFlows); err != nil {
		return fmt.Errorf("flow cache: %w", err)
	}
	return nil
}

// check reports what is missing.
func (d Deps) check() error {
	var faults []error
	if d.Host == nil {
		faults = append(faults, errors.New("auth: no host database"))
	}
	if d.Secrets.IsZero() {
		faults = append(faults, errors.New("secret_key: no master secret; `tenantgate key generate` makes one"))
	}
	if d.Refuse == nil {
		faults = append(faults, errors.New("auth: nothing to refuse requests with"))
	}
	if d.PublicURL == nil {
		faults = append(faults, errors.New("public_url: is missing"))
	} else if err := checkPublicURL(d.PublicURL); err != nil {
		faults = append(faults, fmt.Errorf("public_url: %w", err))
	}
	return errors.Join(faults...)
}

// Close ends the fetches and writes under way and waits for them. Calling it again does nothing.
func (a *Auth) Close() error {
	a.owner.close()
	for _, p := range a.providers {
		p.client.CloseIdleConnections()
	}
	a.sessions.Close()
	a.subjects.Close()
	a.apiTokens.Close()
	a.domains.Close()
	a.tokens.Close()
	return nil
}

// ConsumesBearer reports whether some provider has bearer.audiences, so that every Authorization: Bearer is ours.
func (a *Auth) ConsumesBearer() bool { return len(a.bearers) > 0 }
