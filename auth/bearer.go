package auth

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"slices"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// rememberTokens bounds for how long a verified token need not be verified again; its own exp usually comes first.
const rememberTokens = 24 * time.Hour

// tokenKey is a token's hash and the identity of the configuration that it was verified under (CACHE-2).
type tokenKey struct{ token, config [sha256.Size]byte }

// tokenFacts are what a verified token says. Times, keys, user and block are looked at on every use (CACHE-1).
type tokenFacts struct {
	provider   *provider
	generation uint64 // of the provider's keys
	subject    string
	oauthID    string
	tenant     string
	expires    time.Time
	notBefore  time.Time
	issued     time.Time
}

// subjectFacts are what the host database says of an oauth_id.
type subjectFacts struct {
	user    catalog.UserID
	blocked bool
}

// bearerIdentity is a hash over all that decides whether a token is good: another configuration, another identity.
func bearerIdentity(bearers []*provider, claim string) (sum [sha256.Size]byte) {
	h := sha256.New()
	writeText(h, claim)
	for _, p := range bearers {
		writeText(h, p.name, p.issuer, p.discovery, p.prefix, p.leeway.String())
		writeText(h, append([]string{fmt.Sprint(len(p.audiences))}, p.audiences...)...)
		writeText(h, append([]string{fmt.Sprint(len(p.algorithms))}, p.algorithms...)...)
		writeText(h, append([]string{fmt.Sprint(len(p.reserved))}, p.reserved...)...)
	}
	h.Sum(sum[:0])
	return sum
}

// writeText hashes texts with their lengths, so that no two lists meet in one input (SF-1).
func writeText(h hash.Hash, texts ...string) {
	var n [8]byte
	for _, s := range texts {
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
}

// authenticateBearer judges a bearer token of a provider; everything that is no JWT fails to parse as one.
func (a *Auth) authenticateBearer(ctx context.Context, token string) (Identity, error) {
	if len(token) == 0 || len(token) > maxBearer || len(a.bearers) == 0 {
		return Identity{}, ErrInvalidToken
	}
	key := tokenKey{config: a.bearerID}
	key.token = hashToken(token)
	f, _, ok := a.tokens.Lookup(key)
	now := a.clock()
	if !ok || f.generation != f.provider.keys.generation.Load() {
		var err error
		if f, err = a.verifyBearer(ctx, token, now); err != nil {
			return Identity{}, bearerError(ctx, err)
		}
		a.tokens.Put(key, f)
	}
	if err := f.timely(now); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	s, found, err := a.subject(ctx, f.oauthID)
	if err != nil {
		return Identity{}, err
	}
	if !found || s.blocked {
		return Identity{}, refusedFor(ErrUnknownUser, s.user, found)
	}
	return Identity{
		User: s.user, Kind: KindBearer, ClaimTenant: f.tenant, Provider: f.provider.name, Subject: f.subject,
		Expires: f.expires, IssuedAt: f.issued,
	}, nil
}

// hashToken is SHA-256 without a copy on the heap. Most tokens fit into the smaller buffer, which is cleared faster.
func hashToken(s string) [sha256.Size]byte {
	var buf [2 << 10]byte
	if len(s) > len(buf) {
		return hashLongToken(s)
	}
	return sha256.Sum256(buf[:copy(buf[:], s)])
}

//go:noinline
func hashLongToken(s string) [sha256.Size]byte {
	var buf [maxBearer]byte
	return sha256.Sum256(buf[:copy(buf[:], s)])
}

func bearerError(ctx context.Context, err error) error {
	if errors.Is(err, ErrProviderUnavailable) || errors.Is(err, ErrUnknownUser) || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrInvalidToken, err)
}

// verifyBearer checks everything about a token that does not change: the cheap things first, the signature last.
func (a *Auth) verifyBearer(ctx context.Context, token string, now time.Time) (*tokenFacts, error) {
	t, err := parseJWS(token, maxBearer)
	if err != nil {
		return nil, err
	}
	p, err := a.issuerOf(t)
	if err != nil {
		return nil, err
	}
	f := &tokenFacts{provider: p}
	if err := p.checkAccess(t, f); err != nil {
		return nil, err
	}
	if err := f.timely(now); err != nil {
		return nil, err
	}
	var ok bool
	if f.oauthID, ok = p.oauthID(f.subject); !ok {
		return nil, fmt.Errorf("%w: its sub begins with another provider's prefix", ErrUnknownUser)
	}
	if f.tenant, err = tenantOf(t.claims, a.claim); err != nil {
		return nil, err
	}
	if f.generation, err = p.verifySignature(ctx, t); err != nil {
		return nil, err
	}
	return f, nil
}

// issuerOf picks the provider by the unverified iss and, of several with one issuer, by audience. Everything after it
// is checked against that provider alone.
func (a *Auth) issuerOf(t *jws) (*provider, error) {
	iss, ok := t.claims.text("iss")
	if !ok {
		return nil, errors.New("token has no iss")
	}
	aud, ok := t.claims.audience()
	if !ok {
		return nil, errors.New("token has no aud that is a text or a list of texts")
	}
	for _, p := range a.bearers {
		if p.issuer == iss && slices.ContainsFunc(aud, p.accepts) {
			return p, nil
		}
	}
	return nil, errors.New("token is of no provider and audience that is configured")
}

func (p *provider) accepts(audience string) bool { return slices.Contains(p.audiences, audience) }

// checkAccess holds a token against its provider's rules and reads what is remembered of it. A token that another kind
// of use was made for is refused: a logout token, an ID token that another client asked for (AUD-1, AUD-2, AZP-1).
func (p *provider) checkAccess(t *jws, f *tokenFacts) error {
	if !slices.Contains(p.algorithms, t.alg) {
		return fmt.Errorf("token is signed with %s, which is not among bearer.algorithms", t.alg)
	}
	switch t.typ {
	case "", "jwt", "at+jwt":
	default:
		return fmt.Errorf("token is of type %q", clip(t.typ))
	}
	if _, ok := t.claims["events"]; ok {
		return errors.New("token is a logout or event token")
	}
	if err := p.checkAuthorizedParty(t.claims); err != nil {
		return err
	}
	var ok bool
	if f.subject, ok = t.claims.subject(); !ok {
		return errors.New("token has no sub that is a short text")
	}
	var given bool
	if f.expires, given, ok = t.claims.date("exp"); !given || !ok {
		return errors.New("token has no exp that is a date")
	}
	if f.notBefore, _, ok = t.claims.date("nbf"); !ok {
		return errors.New("token has an nbf that is no date")
	}
	if f.issued, _, ok = t.claims.date("iat"); !ok {
		return errors.New("token has an iat that is no date")
	}
	return nil
}

// checkAuthorizedParty: a token that shows itself as an ID token (by nonce or a hash) must have been issued to one of
// the audiences, not only be addressed to it among others.
func (p *provider) checkAuthorizedParty(claims object) error {
	isIDToken := false
	for _, name := range []string{"nonce", "at_hash", "c_hash", "s_hash"} {
		_, ok := claims[name]
		isIDToken = isIDToken || ok
	}
	if !isIDToken {
		return nil
	}
	if _, given := claims["azp"]; given {
		if azp, ok := claims.text("azp"); !ok || !p.accepts(azp) {
			return errors.New("token is the ID token of another client")
		}
		return nil
	}
	if aud, ok := claims.audience(); !ok || len(aud) != 1 {
		return errors.New("token is an ID token for several audiences without azp")
	}
	return nil
}

// timely looks at the clock, with the provider's leeway.
func (f *tokenFacts) timely(now time.Time) error {
	leeway := f.provider.leeway
	switch {
	case !now.Before(f.expires.Add(leeway)):
		return errors.New("token has expired")
	case now.Add(leeway).Before(f.notBefore):
		return errors.New("token is not valid yet")
	case now.Add(leeway).Before(f.issued):
		return errors.New("token was issued in the future")
	}
	return nil
}

// tenantOf reads the claim that names a tenant. One that is there and is no text cannot be agreed with: refused.
func tenantOf(claims object, name string) (string, error) {
	raw, given := claims[name]
	if name == "" || !given || string(raw) == "null" {
		return "", nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", errors.New("token has a tenant claim that is no text")
	}
	s, ok := claims.text(name)
	if !ok {
		return "", errors.New("token has a tenant claim with control characters")
	}
	return s, nil
}

// subject finds the user of an oauth_id, from memory or read; found false: nobody has it.
func (a *Auth) subject(ctx context.Context, oauthID string) (subjectFacts, bool, error) {
	if s, found, ok := a.subjects.Lookup(oauthID); ok {
		return s, found, nil
	}
	s, found, err := a.subjects.Get(ctx, oauthID, func(ctx context.Context) (subjectFacts, bool, error) {
		user, blocked, err := a.host.UserBySubject(ctx, oauthID)
		if errors.Is(err, catalog.ErrNotFound) {
			return subjectFacts{}, false, nil
		}
		if err != nil {
			return subjectFacts{}, false, err
		}
		return subjectFacts{user: user.ID, blocked: blocked}, true, nil
	})
	if err != nil {
		return subjectFacts{}, false, fmt.Errorf("read user: %w", unavailable(ctx, err))
	}
	return s, found, nil
}
