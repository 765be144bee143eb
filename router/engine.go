package router

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/cache"
	"github.com/tenantgate/tenantgate/catalog"
)

// Facts are what the decision knows of a request: everything that any of the four shapes can tell, nothing of http.
type Facts struct {
	Method string
	// Host is the authority as sent; HostDoubled: there were several.
	Host        string
	HostDoubled bool
	// Path is escaped, without the query.
	Path string
	// TenantHeader and GateTenant hold every value of tenants.header and X-Gate-Tenant.
	TenantHeader []string
	GateTenant   []string
	Credentials  auth.Credentials
	Browser      Browser
}

// Verdict is the outcome of a request: exactly one of Denial, Own and Route with its access is what to act on.
type Verdict struct {
	Host Host
	// Path is what the app receives, or the own path.
	Path Path
	// Prefix was cut off the path: /t/acme.
	Prefix string
	// Own: the path is tenantgate's own, on this listener.
	Own bool
	// Preflight: the route answers it.
	Preflight bool
	Route     *Route
	// Identity is set once authenticated; nil on public routes.
	Identity *auth.Identity
	// User is set with Identity on user routes without a granted tenant.
	User User
	// Grant is nil on public routes, and on user routes without a granted tenant.
	Grant  *Grant
	Denial *Denial

	unpaid   *Record // whose tenant paying would let in; nil: nobody's
	named    []Named
	identity auth.Identity // what Identity points to
	names    [2]Named      // what named begins in
}

// Authenticator says whose credentials these are.
type Authenticator interface {
	// Authenticate returns auth.ErrUnauthenticated, ErrSessionExpired, ErrInvalidToken, ErrUnknownUser or
	// ErrProviderUnavailable; any other error means that it could not be found out.
	Authenticate(ctx context.Context, c auth.Credentials) (auth.Identity, error)
}

// Engine decides. All shapes and explain share one; it is safe for concurrent use.
type Engine struct {
	policy    *Policy
	resolver  resolver
	routes    routeTable
	directory *directory
	auth      Authenticator
	clock     func() time.Time
}

// Judge walks a request through every question in the contract's order and stops at the first denial. It does not
// forward and changes nothing. trace may be nil.
func (e *Engine) Judge(ctx context.Context, f *Facts, trace *Trace) *Verdict {
	v := new(Verdict)
	e.judge(ctx, f, v, trace)
	return v
}

// judge is Judge into a Verdict that the caller has.
func (e *Engine) judge(ctx context.Context, f *Facts, v *Verdict, trace *Trace) {
	if code := e.read(f, v, trace); code != "" {
		v.Denial = deny(code)
		return
	}
	if v.Own {
		return
	}
	if code := e.route(f, v, trace); code != "" {
		v.Denial = deny(code)
		return
	}
	if v.Preflight || v.Route.access == AccessPublic {
		return
	}
	if c := e.directory.coherence; c != nil && !c.Current() {
		ctx = cache.WithDecision(ctx, loadTimeout)
	}
	if v.Denial = e.authenticate(ctx, f, v, trace); v.Denial != nil {
		return
	}
	if v.Identity.Kind == auth.KindSession && crossOrigin(f.Method, v.Host, f.Browser, v.Route.crossOrigin) {
		trace.add("cross_origin", string(CrossOrigin), "Sec-Fetch-Site, Origin")
		v.Denial = deny(CrossOrigin)
		return
	}
	trace.add("cross_origin", "ok", "Sec-Fetch-Site, Origin")
	v.Denial = e.enter(ctx, f, v, trace)
}

// read takes the request apart: method, host, path, and the names in host, path and header, by syntax only.
func (e *Engine) read(f *Facts, v *Verdict, trace *Trace) Code {
	// Methods are case-sensitive (RFC 9110 9.1), but some apps fold them: to those "post" is what a rule for POST is
	// about, and "trace" an echo (METH-1).
	if f.Method == "TRACE" || f.Method == "CONNECT" || strings.ToUpper(f.Method) != f.Method {
		trace.add("method", string(MethodNotAllowed), f.Method)
		return MethodNotAllowed
	}
	host, ok := ParseHost(f.Host)
	if !ok || f.HostDoubled {
		trace.add("host", string(BadHost), "Host")
		return BadHost
	}
	v.Host = host
	path, ok := ParsePath(f.Path)
	if !ok {
		trace.add("path", string(BadPath), "request target")
		return BadPath
	}
	v.Path = path
	trace.add("path", path.escaped, "request target")
	if ownPath(path.escaped) {
		v.Own = true
		if path.ambiguous() {
			return BadPath
		}
		return ""
	}
	return e.readNames(f, v, trace)
}

func (e *Engine) readNames(f *Facts, v *Verdict, trace *Trace) Code {
	v.named = v.names[:0]
	if n, ok := e.resolver.fromHost(v.Host); ok {
		v.named = append(v.named, n)
	}
	if e.resolver.on[SourcePath] && e.resolver.pathPrefix != "" {
		name, rest, ok, bad := v.Path.cutPrefix(e.resolver.pathPrefix)
		if bad {
			trace.add("path", string(BadPath), "tenants.path_prefix")
			return BadPath
		}
		if ok {
			v.named = append(v.named, Named{Source: SourcePath, Name: name, Kind: catalog.NamePlain})
			v.Prefix = v.Path.escaped[:len(e.resolver.pathPrefix)+segmentLen(v.Path.escaped[len(e.resolver.pathPrefix):])]
			v.Path = rest
			if ownPath(rest.escaped) {
				trace.add("path", string(NotFound), "/_gate below a prefix")
				return NotFound
			}
		}
	}
	v.named = e.resolver.fromHeader(f.TenantHeader, v.named)
	if trace != nil {
		for _, n := range v.named {
			trace.add("tenant_named", n.Name, string(n.Source))
		}
	}
	return ""
}

func segmentLen(s string) int {
	for i := 0; i < len(s); i++ {
		if s[i] == '/' {
			return i
		}
	}
	return len(s)
}

// route chooses the one rule that is used for policy and for forwarding alike. A CORS preflight is answered by the
// route that the request it announces would take.
func (e *Engine) route(f *Facts, v *Verdict, trace *Trace) Code {
	if f.Browser.preflight(f.Method) {
		r, code := e.routes.match(f.Browser.RequestMethod[0], v.Host.Name, v.Path)
		if code == "" && r.cors != nil {
			v.Route, v.Preflight = r, true
			trace.add("route", r.name, "preflight")
			return ""
		}
	}
	r, code := e.routes.match(f.Method, v.Host.Name, v.Path)
	if code != "" {
		trace.add("route", string(code), "routes")
		return code
	}
	v.Route = r
	trace.add("route", r.name, "routes")
	return ""
}

func (e *Engine) authenticate(ctx context.Context, f *Facts, v *Verdict, trace *Trace) *Denial {
	var err error
	if v.identity, err = e.auth.Authenticate(ctx, f.Credentials); err != nil {
		d := denialOf(err)
		trace.add("authenticate", string(d.Code), "credentials")
		return d
	}
	v.Identity = &v.identity
	trace.add("authenticate", string(v.identity.User), v.identity.Kind.String())
	return nil
}

// enter resolves the tenant and decides. On user routes a tenant that is not granted is no denial, but a check that
// could not be made still is.
func (e *Engine) enter(ctx context.Context, f *Facts, v *Verdict, trace *Trace) *Denial {
	rec, d := e.resolve(ctx, v, trace)
	if d == nil {
		if err := e.directory.openURI(ctx, rec); err != nil {
			return denialOf(err)
		}
		var code Code
		if v.Grant, code = e.policy.Decide(v.Route, rec, e.clock(), trace); code != "" {
			d = e.refused(code, rec)
			v.mayPayFor(code, rec)
		} else if !e.sameTenant(f.GateTenant, v.Grant) {
			v.Grant, d = nil, denyIn(TenantChanged, rec)
			trace.add("tenant", string(TenantChanged), "X-Gate-Tenant")
		}
	}
	if d == nil || v.Route.access != AccessUser || !tenantOptional(d.Code) {
		return d
	}
	return e.withoutTenant(ctx, v, trace)
}

// refused is a denial that the policy found; a pause may say how long requests under way still have.
func (e *Engine) refused(code Code, rec *Record) *Denial {
	d := denyIn(code, rec)
	if drain, says := rec.locks.Drain(); says && code == TenantPaused {
		d.drain, d.drains = drain, true
	}
	return d
}

// tenantOptional reports whether a user route goes on without a tenant: for denials that are about the tenant.
func tenantOptional(c Code) bool {
	switch c {
	case NoAccess, TenantRequired, MembershipInactive, TenantInactive, TenantPaused, SubscriptionRequired,
		TenantMisconfigured:
		return true
	}
	return false
}

// withoutTenant fills in the person alone.
func (e *Engine) withoutTenant(ctx context.Context, v *Verdict, trace *Trace) *Denial {
	rec, err := e.directory.byTenant(ctx, v.Identity.User, noTenant)
	if err != nil {
		return denialOf(err)
	}
	if !rec.userKnown || rec.blocked {
		trace.add("user", string(UnknownUser), "core_users")
		return deny(UnknownUser)
	}
	v.User = rec.user
	trace.add("tenant", "none", "access: user")
	return nil
}

// noTenant stands where there is no tenant to ask for: asking for it reads the user alone, by the same query.
const noTenant catalog.TenantID = "\x01none"

// sameTenant compares X-Gate-Tenant, the tenant that a page was rendered for, with the one that was granted.
func (e *Engine) sameTenant(rendered []string, g *Grant) bool {
	for _, id := range rendered {
		if id != "" && id != string(g.Tenant.ID) && id != g.enc.tenantID {
			return false
		}
	}
	return true
}

// resolve finds the one tenant that the request is for. A session of a custom domain is good only while the domain is
// verified and its tenant's, and reaches that tenant alone; one from before the host became a custom domain ends there.
func (e *Engine) resolve(ctx context.Context, v *Verdict, trace *Trace) (*Record, *Denial) {
	only := v.Identity.OnlyTenant
	if only == "" && (v.Identity.Kind != auth.KindSession || !e.resolver.maybeDomain(v.Host)) {
		return e.find(ctx, v, trace)
	}
	id, err := e.directory.resolve(ctx, Named{Source: SourceHost, Name: v.Host.Name, Kind: catalog.NameDomain})
	if err != nil {
		return nil, denialOf(err)
	}
	if id != only {
		trace.add("resolve", string(SessionExpired), "core_tenant_domains")
		return nil, &Denial{Code: SessionExpired, ClearSession: true}
	}
	if only == "" {
		return e.find(ctx, v, trace)
	}
	rec, d := e.find(ctx, v, trace)
	if d == nil && rec.tenantKnown && rec.tenant.ID != only {
		trace.add("resolve", string(NoAccess), "the domain's session is for another tenant")
		return nil, deny(NoAccess)
	}
	return rec, d
}

// find looks where a request can name its tenant. Explicit sources must agree; then the session's choice, then the only
// active membership.
func (e *Engine) find(ctx context.Context, v *Verdict, trace *Trace) (*Record, *Denial) {
	names := v.named
	if e.resolver.on[SourceClaim] && v.Identity.ClaimTenant != "" {
		names = append(names, Named{Source: SourceClaim, Name: v.Identity.ClaimTenant, Kind: catalog.NamePlain})
	}
	names, err := e.knownDomains(ctx, names)
	if err != nil {
		return nil, denialOf(err)
	}
	if id := v.Identity.TokenTenant; id != "" {
		// The token's own comes first: whatever else agrees with it, it is this tenant's record that is decided on.
		names = append([]Named{{Source: SourceToken, Name: string(id), Kind: catalog.NamePlain}}, names...)
	}
	if len(names) > 0 {
		return e.explicit(ctx, v, names, trace)
	}
	if e.resolver.on[SourceSession] && v.Identity.SessionTenant != "" {
		rec, err := e.directory.byTenant(ctx, v.Identity.User, v.Identity.SessionTenant)
		if err != nil {
			return nil, denialOf(err)
		}
		trace.add("resolve", string(v.Identity.SessionTenant), string(SourceSession))
		return rec, nil
	}
	return e.only(ctx, v, trace)
}

// knownDomains drops a Host that is no verified custom domain: such a Host names nothing.
func (e *Engine) knownDomains(ctx context.Context, names []Named) ([]Named, error) {
	if len(names) == 0 || names[0].Kind != catalog.NameDomain {
		return names, nil
	}
	id, err := e.directory.resolve(ctx, names[0])
	if err != nil {
		return nil, err
	}
	if id == "" {
		return names[1:], nil
	}
	return names, nil
}

// maxNames bounds how many names of one request are looked up: each is a read where nothing is remembered.
const maxNames = 8

// explicit looks up what the request names. Names that differ must mean the same tenant. To a user without a membership
// row in it a tenant is as unknown as one that does not exist, and two unknown names conflict unless they are one name:
// otherwise a conflict, or none, would tell a stranger which names exist (ENUM-1).
func (e *Engine) explicit(ctx context.Context, v *Verdict, names []Named, trace *Trace) (*Record, *Denial) {
	if len(names) > maxNames {
		trace.add("resolve", string(TenantConflict), "more names than any request needs")
		return nil, deny(TenantConflict)
	}
	first := names[0]
	for _, other := range names[1:] {
		if first.same(other) {
			continue
		}
		a, err := e.known(ctx, v.Identity.User, first)
		if err != nil {
			return nil, denialOf(err)
		}
		b, err := e.known(ctx, v.Identity.User, other)
		if err != nil {
			return nil, denialOf(err)
		}
		if a != b || a == "" && !first.folds(other) {
			trace.add("resolve", string(TenantConflict), string(first.Source)+", "+string(other.Source))
			return nil, deny(TenantConflict)
		}
	}
	rec, err := e.named(ctx, v.Identity.User, first)
	if err != nil {
		return nil, denialOf(err)
	}
	trace.add("resolve", string(rec.tenant.ID), string(first.Source))
	return rec, nil
}

// named is what is known of the user in the tenant of that name. What a token names is an id and nothing else.
func (e *Engine) named(ctx context.Context, user catalog.UserID, n Named) (*Record, error) {
	if n.Source == SourceToken {
		return e.directory.byTenant(ctx, user, catalog.TenantID(n.Name))
	}
	return e.directory.byName(ctx, user, n)
}

// known is the tenant that a name means to the user, "" where that is no tenant of theirs.
func (e *Engine) known(ctx context.Context, user catalog.UserID, n Named) (catalog.TenantID, error) {
	rec, err := e.named(ctx, user, n)
	if err != nil || rec.member == noMembership {
		return "", err
	}
	return rec.tenant.ID, nil
}

// only takes the single active membership.
func (e *Engine) only(ctx context.Context, v *Verdict, trace *Trace) (*Record, *Denial) {
	records, err := e.directory.list(ctx, v.Identity.User)
	if err != nil {
		return nil, denialOf(err)
	}
	var active *Record
	count := 0
	for _, r := range records {
		if r.member == activeMembership {
			active = r
			count++
		}
	}
	switch {
	case count == 0:
		return e.nowhere(ctx, v, trace)
	case count == 1 && e.resolver.on[SourceOnly]:
		trace.add("resolve", string(active.tenant.ID), string(SourceOnly))
		return active, nil
	}
	trace.add("resolve", string(TenantRequired), "core_memberships")
	return nil, deny(TenantRequired)
}

// nowhere answers for a user without any active membership; one that is gone or blocked is unknown first.
func (e *Engine) nowhere(ctx context.Context, v *Verdict, trace *Trace) (*Record, *Denial) {
	rec, err := e.directory.byTenant(ctx, v.Identity.User, noTenant)
	if err != nil {
		return nil, denialOf(err)
	}
	if !rec.userKnown || rec.blocked {
		return rec, nil
	}
	trace.add("resolve", string(NoAccess), "core_memberships")
	return nil, &Denial{Code: NoAccess, homeless: true}
}

// denialOf maps what went wrong to a code. Whatever is not known to be the client's fault is an unavailable host
// database: nothing is let through because a check could not be made.
func denialOf(err error) *Denial {
	switch {
	case errors.Is(err, auth.ErrUnauthenticated):
		return deny(Unauthenticated)
	case errors.Is(err, auth.ErrSessionExpired):
		return &Denial{Code: SessionExpired, ClearSession: true, user: auth.RefusedUser(err)}
	case errors.Is(err, auth.ErrInvalidToken):
		return denyFor(InvalidToken, err)
	case errors.Is(err, auth.ErrUnknownUser):
		return denyFor(UnknownUser, err)
	case errors.Is(err, auth.ErrProviderUnavailable):
		return denyFor(ProviderUnavailable, err)
	}
	return denyFor(HostDatabaseUnavailable, err)
}
