// Package devidp is an OpenID provider for development: it stands on loopback, has no passwords, and lets whoever opens
// its page pick the person to be. It speaks the code flow with PKCE (S256, always demanded), userinfo, RP-initiated
// logout and JWKS, on github.com/zitadel/oidc. It must never be reachable from another machine: New refuses an issuer
// that is not on loopback, and requests whose Host is not a loopback name are answered 421.
//
// A Provider is safe for concurrent use. All state is in memory and bounded by count and by time: the oldest pending
// sign-in or token goes first. Nothing outlives Close, and a restart forgets every sign-in in progress; tokens signed
// before it stay valid if the key is kept (Config.Key). Whatever cannot be checked is refused.
package devidp

import (
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/tenantgate/tenantgate/internal/secret"
)

// Limits of what a Provider remembers and reads.
const (
	defaultMaxPending = 1000
	defaultPendingTTL = 10 * time.Minute
	maxTokens         = 1000
	codeTTL           = time.Minute
	tokenTTL          = time.Hour
	maxPeople         = 200
	maxBody           = 64 << 10
)

// Person is somebody who can be picked.
type Person struct {
	// Subject is the sub claim: 1 to 255 printable ASCII bytes, no colon.
	Subject       string
	Email         string
	EmailVerified bool
	Name          string
	// Note tells whoever picks what to expect, e.g. "owner of Acme, paying".
	Note string
}

// Config describes one provider with one confidential client.
type Config struct {
	// Issuer is http://HOST:PORT with a loopback host and no path.
	Issuer string
	// People who can be picked, in the page's order; at least one, at most 200.
	People []Person
	// ClientID and ClientSecret (basic or post) of the one client.
	ClientID     string
	ClientSecret secret.Text
	// ClientName is shown on the page; empty: ClientID.
	ClientName string
	// RedirectURIs and PostLogoutRedirectURIs are compared exactly.
	RedirectURIs           []string
	PostLogoutRedirectURIs []string
	// Key signs: an RSA key with RS256, an ECDSA P-256 key with ES256. Nil: a new RSA key of 2048 bits.
	Key crypto.Signer
	// Clock is what pending sign-ins, codes and tokens end by; nil: time.Now. The library under this package stamps
	// ID tokens by the system's clock.
	Clock func() time.Time
	// MaxPending bounds sign-ins in progress. 0: 1000.
	MaxPending int
	// PendingTTL is how long the page may stay open. 0: 10 minutes.
	PendingTTL time.Duration
}

// Provider is the http.Handler of a development OpenID provider.
type Provider struct {
	issuer  string
	name    string
	home    string // where the client lives, for pages that lead back
	people  []Person
	store   *store
	op      *op.Provider
	signer  jose.Signer
	clock   func() time.Time
	origin  *http.CrossOriginProtection
	handler http.Handler
}

// New checks cfg and returns a provider that serves nothing but loopback.
func New(cfg Config) (*Provider, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("development provider: %w", err)
	}
	key, err := newSigningKey(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("development provider: %w", err)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.ClientName == "" {
		cfg.ClientName = cfg.ClientID
	}
	p := &Provider{
		issuer: cfg.Issuer,
		name:   cfg.ClientName,
		home:   originOf(cfg.RedirectURIs[0]),
		people: slices.Clone(cfg.People),
		store:  newStore(cfg, key),
		clock:  cfg.Clock,
		origin: http.NewCrossOriginProtection(),
	}
	if p.signer, err = key.accessTokenSigner(); err != nil {
		return nil, fmt.Errorf("development provider: %w", err)
	}
	if p.op, err = newOP(cfg, p.store, key); err != nil {
		return nil, fmt.Errorf("development provider: %w", err)
	}
	p.handler = p.routes()
	return p, nil
}

func newOP(cfg Config, st *store, key *signingKey) (*op.Provider, error) {
	conf := &op.Config{
		DefaultLogoutRedirectURI: cfg.Issuer + pathSignedOut,
		CodeMethodS256:           true,
		AuthMethodPost:           true,
		SupportedScopes:          []string{"openid", "email", "profile"},
		SupportedClaims: []string{
			"sub", "aud", "exp", "iat", "iss", "auth_time", "nonce", "name", "preferred_username", "email", "email_verified",
		},
	}
	if _, err := rand.Read(conf.CryptoKey[:]); err != nil {
		return nil, fmt.Errorf("random key: %w", err)
	}
	algorithm := string(key.algorithm)
	return op.NewProvider(conf, st, op.StaticIssuer(cfg.Issuer),
		op.WithAllowInsecure(),
		op.WithCORSOptions(nil),
		op.WithAccessTokenVerifierOpts(op.WithSupportedAccessTokenSigningAlgorithms(algorithm)),
		op.WithIDTokenHintVerifierOpts(op.WithSupportedIDTokenHintSigningAlgorithms(algorithm)),
	)
}

// Issuer is the iss claim, and the URL under which the provider must be served.
func (p *Provider) Issuer() string { return p.issuer }

// ServeHTTP implements http.Handler.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// Close forgets every pending sign-in and token; requests that follow are answered 503. It may be called repeatedly.
func (p *Provider) Close() error {
	p.store.close()
	return nil
}

func (c *Config) check() error {
	u, err := url.Parse(c.Issuer)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("issuer %q must be http://HOST:PORT, without a path", c.Issuer)
	}
	if !isLoopback(u.Host) {
		return fmt.Errorf("issuer %q must be on loopback: anybody who reaches this provider can be anybody", c.Issuer)
	}
	if c.ClientID == "" || c.ClientSecret.IsZero() {
		return errors.New("client id and client secret are required")
	}
	if len(c.RedirectURIs) == 0 {
		return errors.New("at least one redirect uri is required")
	}
	for _, uri := range slices.Concat(c.RedirectURIs, c.PostLogoutRedirectURIs) {
		if u, err := url.Parse(uri); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("redirect uri %q must be an absolute http or https URL", uri)
		}
	}
	if c.MaxPending < 0 || c.PendingTTL < 0 {
		return errors.New("limits must not be negative")
	}
	return checkPeople(c.People)
}

func checkPeople(people []Person) error {
	if len(people) == 0 || len(people) > maxPeople {
		return fmt.Errorf("between 1 and %d people are required, not %d", maxPeople, len(people))
	}
	seen := make(map[string]bool, len(people))
	for _, who := range people {
		if !validSubject(who.Subject) {
			return fmt.Errorf("subject %q must be 1 to 255 printable ASCII bytes without a colon", who.Subject)
		}
		if seen[who.Subject] {
			return fmt.Errorf("subject %q is there twice", who.Subject)
		}
		seen[who.Subject] = true
	}
	return nil
}

// validSubject refuses colons because the opaque access token carries id and subject with a colon between them.
func validSubject(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' })
}

// isLoopback reports whether hostport names this machine alone, so that no other site's name can be rebound to us.
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

func originOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host + "/"
}
