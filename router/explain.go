package router

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
)

// Question is a request that explain decides without forwarding it: as the user, signed in by a browser at that host, or
// with an API token.
type Question struct {
	// User is whose session it would be; "" for nobody.
	User catalog.UserID
	// Token is the id of the API token that it would be sent with; then User does not count.
	Token catalog.APITokenID
	// Host; "": public_url's.
	Host string
	// Method; "": GET.
	Method string
	// Path, with or without a query, in escaped form; "": "/".
	Path string
}

// Explanation is a decision and every step that led to it.
type Explanation struct {
	Allowed bool   `json:"allowed"`
	Status  int    `json:"status"`
	Code    string `json:"code"` // "" where allowed
	Steps   []Step `json:"steps"`
}

// signedInAs is an Authenticator for one known person, on a custom domain bound to its tenant.
type signedInAs struct {
	user catalog.UserID
	only catalog.TenantID
}

func (s signedInAs) Authenticate(context.Context, auth.Credentials) (auth.Identity, error) {
	if s.user == "" {
		return auth.Identity{}, auth.ErrUnauthenticated
	}
	return auth.Identity{User: s.user, Kind: auth.KindSession, OnlyTenant: s.only}, nil
}

// sentWith is an Authenticator for one API token.
type sentWith struct {
	auth  *auth.Auth
	token catalog.APITokenID
}

func (s sentWith) Authenticate(ctx context.Context, _ auth.Credentials) (auth.Identity, error) {
	return s.auth.TokenIdentity(ctx, s.token)
}

// Explain answers q by the engine that serves requests.
func (g *Gate) Explain(ctx context.Context, q Question) Explanation {
	e := *g.engine
	if q.Host == "" {
		q.Host = g.public.Host
	}
	e.auth = signedInAs{q.User, e.domainOf(ctx, q.Host)}
	if q.Token != "" {
		e.auth = sentWith{g.auth, q.Token}
	}
	if q.Method == "" {
		q.Method = http.MethodGet
	}
	path, _, _ := strings.Cut(q.Path, "?")
	if path == "" {
		path = "/"
	}
	if u, err := url.ParseRequestURI(path); err == nil {
		path = sentPath(u)
	}
	var trace Trace
	v := e.Judge(ctx, &Facts{Method: q.Method, Host: q.Host, Path: path}, &trace)
	out := Explanation{Allowed: true, Status: http.StatusOK, Steps: trace.Steps}
	switch {
	case v.Denial != nil:
		out.Allowed, out.Status, out.Code = false, v.Denial.Code.Refusal().Status, string(v.Denial.Code)
	case v.Own:
		out.Steps = append(out.Steps, Step{Step: "own", Result: "ok", Source: "tenantgate's own page"})
	}
	return out
}

// domainOf is the tenant whose custom domain a Host is, "" for none. Where that cannot be read, neither can the decision.
func (e *Engine) domainOf(ctx context.Context, text string) catalog.TenantID {
	host, ok := ParseHost(text)
	if !ok || !e.resolver.maybeDomain(host) {
		return ""
	}
	id, err := e.directory.resolve(ctx, Named{Source: SourceHost, Name: host.Name, Kind: catalog.NameDomain})
	if err != nil {
		return ""
	}
	return id
}
