// Package assertion is for apps behind tenantgate that are written in Go: it verifies the X-Gate-Assertion header, by
// which an app knows that a request came through the gate and for whom. It imports nothing else of tenantgate.
//
//	v, err := assertion.New(assertion.Config{
//		JWKSURL:  "https://app.example.com/_gate/jwks.json",
//		Issuer:   "https://app.example.com",
//		Audience: "app",
//	})
//	…
//	claims, err := v.FromRequest(r)
//	if err != nil || !claims.MatchesDBURI(r.Header.Get("X-Tenant-Db-Uri")) {
//		http.Error(w, "not through the gate", http.StatusForbidden)
//		return
//	}
//
// Concurrency: a Verifier is safe for concurrent use and starts no goroutine; keys are fetched by whoever needs them,
// one fetch at a time.
//
// Failure mode: closed. A request without exactly one good assertion is an error, and so is a key that cannot be had.
// Keys fetched before are used for a day when the gate does not answer.
package assertion

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Header is where the gate puts the assertion, unless forward.headers renames it.
const Header = "X-Gate-Assertion"

// MaxToken is the longest assertion that is read, in bytes.
const MaxToken = 8 << 10

const defaultLeeway = 5 * time.Second

var (
	// ErrMissing: the request has no assertion, or more than one. It did not come through the gate.
	ErrMissing = errors.New("request has not exactly one assertion")
	// ErrInvalid: the assertion is not good. It wraps why.
	ErrInvalid = errors.New("assertion is not good")
	// ErrKeys: the gate's keys cannot be had now; whether the assertion is good is not known.
	ErrKeys = errors.New("keys of the gate cannot be had")
)

// Config says whose assertions count. JWKSURL, Issuer and Audience are needed.
type Config struct {
	// JWKSURL is public_url + /_gate/jwks.json, or the same path at an address that the app reaches the gate by.
	// https, or http on loopback.
	JWKSURL string
	// Issuer is public_url, without a slash at its end.
	Issuer string
	// Audience is forward.assertion.audience, or the upstream's own.
	Audience string
	// Header is the name that forward.headers gives the assertion. "": X-Gate-Assertion.
	Header string
	// InsecurePlaintext allows http:// to another machine: whoever is on the way can put in keys of its own.
	InsecurePlaintext bool
	// HTTPClient fetches the keys, without following redirects. Nil: one with a timeout of 5 s.
	HTTPClient *http.Client
	// Leeway is how far the clocks of gate and app may differ. 0: 5s; negative: not at all.
	Leeway time.Duration
	// Clock is the time. Nil: time.Now.
	Clock func() time.Time
}

// Claims are what a verified assertion says. Absent ones are "".
type Claims struct {
	Issuer       string
	Audience     []string
	User         string // sub: X-User-Id
	Email        string
	Tenant       string // X-Tenant-Id
	Role         string
	Profile      string
	Plan         string
	Subscription string
	// DBURISHA256 is the SHA-256 of X-Tenant-Db-Uri, base64url without padding.
	DBURISHA256 string
	IssuedAt    time.Time
	Expires     time.Time
}

// MatchesDBURI reports whether uri is the database URI that the assertion was made for. Without one it never is.
func (c Claims) MatchesDBURI(uri string) bool {
	if c.DBURISHA256 == "" || uri == "" {
		return false
	}
	sum := sha256.Sum256([]byte(uri))
	want := base64.RawURLEncoding.EncodeToString(sum[:])
	return subtle.ConstantTimeCompare([]byte(want), []byte(c.DBURISHA256)) == 1
}

// Verifier verifies assertions of one gate for one audience.
type Verifier struct {
	header string
	parser *jwt.Parser
	keys   *keys
}

// New checks the configuration. It fetches nothing: the gate may start later than the app.
func New(cfg Config) (*Verifier, error) {
	if cfg.Issuer == "" || cfg.Audience == "" {
		return nil, errors.New("assertion: Issuer and Audience are needed")
	}
	if err := checkURL(cfg.JWKSURL, cfg.InsecurePlaintext); err != nil {
		return nil, fmt.Errorf("assertion: JWKSURL: %w", err)
	}
	if cfg.Header == "" {
		cfg.Header = Header
	}
	if cfg.Leeway == 0 {
		cfg.Leeway = defaultLeeway
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	return &Verifier{
		header: http.CanonicalHeaderKey(cfg.Header),
		keys:   newKeys(cfg),
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(cfg.Issuer), jwt.WithAudience(cfg.Audience),
			jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithStrictDecoding(),
			jwt.WithLeeway(max(cfg.Leeway, 0)), jwt.WithTimeFunc(cfg.Clock),
		),
	}, nil
}

func checkURL(raw string, plain bool) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		return errors.New("is not an absolute URL")
	case u.Scheme == "https", u.Scheme == "http" && (plain || isLoopback(u.Hostname())):
		return nil
	default:
		return errors.New("must be https://, or http:// on loopback")
	}
}

func isLoopback(host string) bool {
	host = strings.ToLower(host)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || (err == nil && ip.Unmap().IsLoopback())
}

// FromRequest verifies the request's assertion. ErrMissing if it has none or several, else as Verify.
func (v *Verifier) FromRequest(r *http.Request) (Claims, error) {
	values := r.Header[v.header]
	if len(values) != 1 || values[0] == "" {
		return Claims{}, ErrMissing
	}
	return v.Verify(r.Context(), values[0])
}

// Verify checks an assertion: a compact JWS signed with ES256 by one of the gate's keys, for this issuer and audience,
// not expired. Errors wrap ErrInvalid, ErrKeys or ctx's; claims count only without one.
func (v *Verifier) Verify(ctx context.Context, token string) (Claims, error) {
	if len(token) == 0 || len(token) > MaxToken {
		return Claims{}, fmt.Errorf("%w: it has %d bytes, 1 to %d are read", ErrInvalid, len(token), MaxToken)
	}
	var c wire
	_, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		if _, critical := t.Header["crit"]; critical {
			return nil, errors.New("it has critical headers")
		}
		kid, _ := t.Header["kid"].(string)
		return v.keys.find(ctx, kid)
	})
	switch {
	case err != nil && (errors.Is(err, ErrKeys) || ctx.Err() != nil):
		return Claims{}, err
	case err != nil:
		return Claims{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	case c.Subject == "" || c.IssuedAt == nil:
		return Claims{}, fmt.Errorf("%w: sub or iat is missing", ErrInvalid)
	}
	return c.claims(), nil
}

// wire is the payload as sent.
type wire struct {
	jwt.RegisteredClaims

	Email        string `json:"email"`
	Tenant       string `json:"tenant"`
	Role         string `json:"role"`
	Profile      string `json:"profile"`
	Plan         string `json:"plan"`
	Subscription string `json:"subscription"`
	DBURISHA256  string `json:"db_uri_sha256"`
}

func (c *wire) claims() Claims {
	return Claims{
		Issuer: c.Issuer, Audience: c.Audience, User: c.Subject, Email: c.Email, Tenant: c.Tenant, Role: c.Role,
		Profile: c.Profile, Plan: c.Plan, Subscription: c.Subscription, DBURISHA256: c.DBURISHA256,
		IssuedAt: c.IssuedAt.Time, Expires: c.ExpiresAt.Time,
	}
}
