package auth

import (
	"context"
	"errors"
	"strings"
)

// Authenticate says who presents these credentials (contract, section 6, Credentials). An Authorization header that is
// ours to judge counts alone; otherwise the session cookie does. Errors: see the variables of this package.
//
// For a session or an API token that was seen in the last seconds it reads nothing and allocates nothing.
func (a *Auth) Authenticate(ctx context.Context, c Credentials) (Identity, error) {
	token, ours, single := a.bearerToken(c.Authorization)
	if ours {
		if !single {
			return Identity{}, ErrInvalidToken
		}
		if ownToken(token) {
			return a.authenticateAPIToken(ctx, token, !c.Recheck)
		}
		return a.authenticateBearer(ctx, token)
	}
	return a.authenticateCookie(ctx, c.Cookies, normalHost(c.Host), !c.Recheck)
}

// OwnsAuthorization reports whether these Authorization headers are ours to judge, so that they must not reach the app
// unless forward.authorization says so.
func (a *Auth) OwnsAuthorization(values []string) bool {
	_, ours, _ := a.bearerToken(values)
	return ours
}

// bearerToken finds the token among the Authorization headers. ours: at least one of them is ours to judge; single: it
// is the only one. Two headers of which one is ours are never resolved by picking.
func (a *Auth) bearerToken(values []string) (token string, ours, single bool) {
	for _, v := range values {
		t, ok := cutBearer(v)
		if ok && (len(a.bearers) > 0 || ownToken(t)) {
			token, ours = t, true
		}
	}
	return token, ours, len(values) == 1
}

// OwnToken reports whether an Authorization header holds a token of tenantgate's own, which is for no app to see.
func OwnToken(v string) bool {
	t, ok := cutBearer(v)
	return ok && ownToken(t)
}

func ownToken(t string) bool {
	return strings.HasPrefix(t, userTokenPrefix) || strings.HasPrefix(t, adminTokenPrefix)
}

// cutBearer takes the scheme off (RFC 9110 11.4, case-insensitive). White space is read as leniently as an app might
// read it; what follows is judged strictly.
func cutBearer(v string) (string, bool) {
	const scheme = "bearer"
	v = strings.Trim(v, " \t")
	if len(v) < len(scheme) || !strings.EqualFold(v[:len(scheme)], scheme) {
		return "", false
	}
	rest := v[len(scheme):]
	if rest == "" {
		return "", true
	}
	if rest[0] != ' ' && rest[0] != '\t' {
		return "", false // another scheme
	}
	return strings.TrimLeft(rest, " \t"), true
}

// authenticateCookie tries each cookie of our name; the first that opens a session counts. A database that fails on one
// of them is an error only if no other is good. use: the session is in use.
func (a *Auth) authenticateCookie(ctx context.Context, cookies []string, host string, use bool) (Identity, error) {
	tokens, good, n := sessionTokens(cookies, a.names.session)
	if n == 0 {
		return Identity{}, ErrUnauthenticated
	}
	var failed error
	for i := range good {
		f, err := a.open(ctx, &tokens[i], host)
		if err == nil {
			if use {
				a.used(tokens[i].key(), f.use, a.clock())
			}
			return f.identity(), nil
		}
		failed = worse(failed, err)
	}
	if failed == nil {
		failed = ErrSessionExpired
	}
	return Identity{}, failed
}

// worse picks which of two refusals is told: a check that could not be made, then an unknown user, then an expired one.
func worse(a, b error) error {
	rank := func(err error) int {
		switch {
		case err == nil:
			return 0
		case errors.Is(err, ErrSessionExpired):
			return 1
		case errors.Is(err, ErrUnknownUser):
			return 2
		default:
			return 3
		}
	}
	if rank(b) > rank(a) {
		return b
	}
	return a
}

func (f *sessionFacts) identity() Identity {
	return Identity{
		User: f.row.UserID, Kind: KindSession, Session: f.row.ID, SessionTenant: f.row.TenantID, OnlyTenant: f.row.OnlyTenant,
		Provider: f.row.Provider, Subject: f.row.Subject, Expires: f.expires, IssuedAt: f.created,
	}
}
