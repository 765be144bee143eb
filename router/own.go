package router

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/billing/checkout"
	"github.com/tenantgate/tenantgate/catalog"
)

// serveOwn answers below /_gate on the public listener. Paths are exact, in exact case; whatever else lies there is
// 404 and never reaches the app.
func (g *Gate) serveOwn(w http.ResponseWriter, r *http.Request, x *exchange) {
	methods, serve := g.ownPage(x.verdict.Path.escaped, x.verdict.Host)
	switch {
	case serve == nil:
		g.refuse(w, x, deny(NotFound))
	case !slices.Contains(methods, x.method):
		g.refuse(w, x, deny(MethodNotAllowed))
	default:
		serve(w, r, x)
	}
}

// ownPage is what lies at a path below /_gate, with the methods that it takes; nil: nothing.
func (g *Gate) ownPage(path string, host Host) (methods []string, serve func(http.ResponseWriter, *http.Request, *exchange)) {
	reads, once, posts := []string{http.MethodGet, http.MethodHead}, []string{http.MethodGet}, []string{http.MethodPost}
	both := []string{http.MethodGet, http.MethodHead, http.MethodPost}
	plain := func(page http.HandlerFunc) func(http.ResponseWriter, *http.Request, *exchange) {
		return func(w http.ResponseWriter, r *http.Request, _ *exchange) { page(w, r) }
	}
	switch {
	case path == "/_gate/ping":
		return reads, plain(pong)
	case path == "/_gate/jwks.json":
		return reads, plain(g.auth.JWKS)
	case path == loginPath:
		return reads, plain(g.auth.Login)
	case strings.HasPrefix(path, "/_gate/callback/"):
		return once, plain(g.auth.Callback)
	case path == handoffPath:
		return once, plain(g.auth.Handoff)
	case path == logoutPath:
		return both, plain(g.auth.Logout)
	case strings.HasPrefix(path, "/_gate/backchannel-logout/"):
		return posts, plain(g.auth.Backchannel)
	case path == "/_gate/whoami":
		return reads, g.whoami
	case path == tenantsPath:
		return both, g.tenants
	case path == checkout.Path && g.billing != nil:
		return reads, g.paying(g.billing.Plans)
	case path == checkout.CheckoutPath && g.billing != nil:
		return posts, g.paying(g.billing.Checkout)
	case path == checkout.PortalPath && g.billing != nil:
		return posts, g.paying(g.billing.Portal)
	case path == webhookPath && g.webhook != nil && host.Name == g.engine.resolver.public.Name:
		return posts, plain(g.webhook.ServeHTTP)
	case path == setupPath && g.setUp != nil:
		return both, g.setup
	}
	return nil, nil
}

func pong(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// allowed are the methods of the address that a request asked for, as Allow names them (RFC 9110 10.2.1): a page of ours
// has its own, and of the app every method is taken that is not refused everywhere.
func (g *Gate) allowed(x *exchange) string {
	host, _ := ParseHost(x.facts.Host)
	if path, ok := ParsePath(x.facts.Path); ok {
		if methods, serve := g.ownPage(path.escaped, host); serve != nil {
			return strings.Join(methods, ", ")
		}
	}
	return "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
}

// webhookPath is where Stripe sends its events: on public_url's host, whatever the port. Nobody is signed in there; what is
// sent is signed.
const webhookPath = "/_gate/webhooks/stripe"

// ownRoute is the rule for pages of ours that need a person and would like a tenant.
var ownRoute = &Route{name: "/_gate", access: AccessUser, subscriptionOptional: true}

// signedIn authenticates a request to a page of ours and finds the tenant that it is in, if any.
func (g *Gate) signedIn(w http.ResponseWriter, x *exchange) bool {
	v := &x.verdict
	v.Route = ownRoute
	if n, ok := g.engine.resolver.fromHost(v.Host); ok {
		v.named = append(v.named, n)
	}
	v.named = g.engine.resolver.fromHeader(x.facts.TenantHeader, v.named)
	d := g.engine.authenticate(x.ctx, &x.facts, v, nil)
	if d == nil && v.Identity.Kind == auth.KindSession && crossOrigin(x.method, v.Host, x.facts.Browser, nil) {
		d = deny(CrossOrigin)
	}
	if d == nil {
		d = g.engine.enter(x.ctx, &x.facts, v, nil)
	}
	if d != nil {
		g.refuse(w, x, d)
		return false
	}
	if v.Grant != nil {
		v.User = v.Grant.User
	}
	return true
}

type whoamiTenant struct {
	ID     catalog.TenantID `json:"id"`
	Name   string           `json:"name"`
	Role   string           `json:"role"`
	Plan   string           `json:"plan"`
	Status string           `json:"subscription_status"`
	// Access is "ok", or the code of the denial that entering it would meet.
	Access string `json:"access"`
}

type whoamiAnswer struct {
	User struct {
		ID    catalog.UserID `json:"id"`
		Email string         `json:"email"`
	} `json:"user"`
	Tenants       []whoamiTenant    `json:"tenants"`
	CurrentTenant *catalog.TenantID `json:"current_tenant"`
	Session       struct {
		Kind      string `json:"kind"`
		ExpiresAt string `json:"expires_at"`
	} `json:"session"`
}

// whoami says who is signed in, where they may go, and until when. It never shows a database URI.
func (g *Gate) whoami(w http.ResponseWriter, _ *http.Request, x *exchange) {
	if !g.signedIn(w, x) {
		return
	}
	records, err := g.engine.directory.list(x.ctx, x.verdict.Identity.User)
	if err != nil {
		g.refuse(w, x, denialOf(err))
		return
	}
	a := whoamiAnswer{Tenants: []whoamiTenant{}}
	a.User.ID, a.User.Email = x.verdict.User.ID, x.verdict.User.Email
	a.Session.Kind = x.verdict.Identity.Kind.String()
	if exp := x.verdict.Identity.Expires; !exp.IsZero() {
		a.Session.ExpiresAt = exp.UTC().Format(time.RFC3339)
	}
	if x.verdict.Grant != nil {
		a.CurrentTenant = &x.verdict.Grant.Tenant.ID
	}
	ctx, cancel := context.WithTimeout(x.ctx, describeWithin)
	defer cancel()
	for _, rec := range records {
		if rec.member == activeMembership && x.verdict.Identity.Reaches(rec.tenant.ID) {
			a.Tenants = append(a.Tenants, g.describe(ctx, rec))
		}
	}
	body, err := json.Marshal(a)
	if err != nil {
		g.refuse(w, x, denyFor(InternalError, err))
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(append(body, '\n'))
}

// describeWithin bounds how long all of a list's tenants may wait for what their db_urls refer to.
const describeWithin = time.Second

// describe says what entering a tenant would give.
func (g *Gate) describe(ctx context.Context, rec *Record) whoamiTenant {
	t := whoamiTenant{ID: rec.tenant.ID, Name: rec.tenant.Name, Role: rec.membership.Role, Access: "ok"}
	var probe Grant
	g.engine.policy.subscribe(&probe, rec, g.clock())
	t.Plan, t.Status = probe.Plan.Key, probe.Subscription.Status
	if err := g.engine.directory.openURI(ctx, rec); err != nil {
		t.Access = string(denialOf(err).Code)
	} else if _, code := g.engine.policy.Decide(tenantRoute, rec, g.clock(), nil); code != "" {
		t.Access = string(code)
	}
	return t
}

// tenantRoute is the plainest rule of access: tenant.
var tenantRoute = &Route{name: "/"}
