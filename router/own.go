package router

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/page"
)

// serveOwn answers below /_gate on the public listener. Paths are exact, in exact case; whatever else lies there is
// 404 and never reaches the app.
func (g *Gate) serveOwn(w http.ResponseWriter, r *http.Request, x *exchange) {
	switch p := x.verdict.Path.escaped; {
	case p == "/_gate/ping":
		if g.takes(w, x, http.MethodGet) {
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = w.Write([]byte("ok\n"))
		}
	case p == "/_gate/jwks.json":
		if g.takes(w, x, http.MethodGet) {
			g.auth.JWKS(w, r)
		}
	case p == loginPath:
		if g.takes(w, x, http.MethodGet) && g.signsIn(w, x) {
			g.auth.Login(w, r)
		}
	case strings.HasPrefix(p, "/_gate/callback/"):
		if g.takes(w, x, http.MethodGet) && g.signsIn(w, x) {
			g.auth.Callback(w, r)
		}
	case p == logoutPath:
		if g.takes(w, x, http.MethodGet, http.MethodPost) {
			g.auth.Logout(w, r)
		}
	case strings.HasPrefix(p, "/_gate/backchannel-logout/"):
		if g.takes(w, x, http.MethodPost) {
			g.auth.Backchannel(w, r)
		}
	case p == "/_gate/whoami":
		if g.takes(w, x, http.MethodGet) {
			g.whoami(w, r, x)
		}
	case p == tenantsPath:
		if g.takes(w, x, http.MethodGet, http.MethodPost) {
			g.tenants(w, r, x)
		}
	default:
		g.refuse(w, x, deny(NotFound))
	}
}

// takes checks the method; HEAD goes with GET.
func (g *Gate) takes(w http.ResponseWriter, x *exchange, methods ...string) bool {
	for _, m := range methods {
		if x.method == m || x.method == http.MethodHead && m == http.MethodGet {
			return true
		}
	}
	g.refuse(w, x, deny(MethodNotAllowed))
	return false
}

// signsIn reports whether people sign in at this host; elsewhere it answers with the way there.
func (g *Gate) signsIn(w http.ResponseWriter, x *exchange) bool {
	class, _ := g.engine.resolver.classify(x.verdict.Host)
	if class == publicHost {
		return true
	}
	if class == otherHost {
		id, err := g.verifiedDomain(x, x.verdict.Host)
		if err != nil {
			g.refuse(w, x, denialOf(err))
			return false
		}
		if id == "" {
			g.refuse(w, x, deny(BadHost))
			return false
		}
	}
	g.refuse(w, x, deny(NotSupportedYet))
	return false
}

func (g *Gate) verifiedDomain(x *exchange, h Host) (catalog.TenantID, error) {
	n, ok := g.engine.resolver.fromHost(h)
	if !ok || n.Kind != catalog.NameDomain {
		return "", nil
	}
	return g.engine.directory.resolve(x.ctx, n)
}

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

// tenants lists the user's tenants to choose from; POST chooses.
func (g *Gate) tenants(w http.ResponseWriter, r *http.Request, x *exchange) {
	if !g.signedIn(w, x) {
		return
	}
	if x.method == http.MethodPost {
		g.choose(w, r, x)
		return
	}
	to, err := g.localReturn(x.ctx, r.URL.Query().Get("return_to"))
	if err != nil {
		g.refuse(w, x, denyFor(BadReturnTo, err))
		return
	}
	records, err := g.engine.directory.list(x.ctx, x.verdict.Identity.User)
	if err != nil {
		g.refuse(w, x, denialOf(err))
		return
	}
	page.Render(w, http.StatusOK, g.pickerPage(x, records, to))
}

func (g *Gate) pickerPage(x *exchange, records []*Record, to string) page.Data {
	d := page.Data{Heading: "Choose a workspace", Who: x.verdict.User.Email}
	ctx, cancel := context.WithTimeout(x.ctx, describeWithin)
	defer cancel()
	for _, rec := range records {
		if rec.member != activeMembership || !x.verdict.Identity.Reaches(rec.tenant.ID) {
			continue
		}
		t := g.describe(ctx, rec)
		item := page.Item{Title: t.Name, Text: describeText(t), Badge: t.Role, Action: g.enterAction(rec.tenant.ID, to)}
		if t.Access != "ok" {
			item.Badge = Code(t.Access).Refusal().Title
		}
		item.Current = x.verdict.Grant != nil && x.verdict.Grant.Tenant.ID == rec.tenant.ID
		if item.Title == "" {
			item.Title = string(t.ID)
		}
		d.Items = append(d.Items, item)
	}
	if len(d.Items) == 0 {
		d.Heading = "No workspace yet"
		d.Text = []string{"You are not a member of any workspace. Ask an owner for an invitation, or sign in as somebody else."}
	}
	d.Actions = []page.Action{{Label: "Sign out", URL: logoutPath}}
	return d
}

func describeText(t whoamiTenant) string {
	if t.Plan == "" {
		return ""
	}
	return t.Plan + " plan"
}

// enterAction leads into a tenant: by its path or its host where these name tenants, else by keeping the choice in the
// session.
func (g *Gate) enterAction(id catalog.TenantID, to string) *page.Action {
	if u := g.tenantURL(id, to); u != "" {
		return &page.Action{URL: u}
	}
	if g.engine.resolver.namedByURL() {
		return nil // an id that no path or host can carry; it is reached by header or slug
	}
	return &page.Action{URL: tenantsPath, Method: http.MethodPost, Hidden: map[string]string{"tenant": string(id), "return_to": to}}
}

// tenantURL is the tenant's own address, "" without one. Paths come first as long as nobody can sign in at a tenant's
// own host.
func (g *Gate) tenantURL(id catalog.TenantID, to string) string {
	res := &g.engine.resolver
	if res.on[SourcePath] && res.pathPrefix != "" {
		segment := url.PathEscape(string(id))
		full, ok := ParsePath(res.pathPrefix + segment + "/")
		if !ok {
			return ""
		}
		if name, _, ok, bad := full.cutPrefix(res.pathPrefix); !ok || bad || name != string(id) {
			return ""
		}
		return strings.TrimSuffix(full.escaped, "/") + to
	}
	label := string(id)
	if res.on[SourceHost] && res.baseDomain != "" && labelOK(label) {
		host := Host{Name: label + "." + res.baseDomain, Port: g.public.Port()}
		return g.public.Scheme + "://" + host.String() + to
	}
	return ""
}

// localReturn checks a return_to of the picker: a local path, not below a tenant's prefix.
func (g *Gate) localReturn(ctx context.Context, raw string) (string, error) {
	if raw == "" {
		return "/", nil
	}
	to, err := g.auth.ReturnTo(ctx, raw)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(to, "/") || ownPath(to) {
		return "/", nil
	}
	if prefix := g.engine.resolver.pathPrefix; prefix != "" && strings.HasPrefix(to, prefix) {
		return "/", nil
	}
	return to, nil
}

// maxForm bounds the picker's form.
const maxForm = 16 << 10

// choose enters a tenant: a redirect to its own address, or the session's choice where tenants have none.
func (g *Gate) choose(w http.ResponseWriter, r *http.Request, x *exchange) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		g.refuse(w, x, denyFor(BadRequest, err))
		return
	}
	to, err := g.localReturn(x.ctx, r.PostForm.Get("return_to"))
	if err != nil {
		g.refuse(w, x, denyFor(BadReturnTo, err))
		return
	}
	n := Named{Source: SourceSession, Name: r.PostForm.Get("tenant"), Kind: catalog.NamePlain}
	rec, err := g.engine.directory.byName(x.ctx, x.verdict.Identity.User, n)
	if err != nil {
		g.refuse(w, x, denialOf(err))
		return
	}
	if code := g.engine.policy.mayEnter(rec, g.clock(), nil); code != "" {
		g.refuse(w, x, deny(code))
		return
	}
	if u := g.tenantURL(rec.tenant.ID, to); u != "" {
		to = u
	} else if g.engine.resolver.namedByURL() {
		g.refuse(w, x, denyFor(BadRequest, errors.New("the tenant's id fits neither a path nor a host")))
		return
	} else if err := g.keepChoice(x, rec.tenant.ID); err != nil {
		g.refuse(w, x, denialOf(err))
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

func (g *Gate) keepChoice(x *exchange, id catalog.TenantID) error {
	if x.verdict.Identity.Kind != auth.KindSession {
		return auth.ErrUnauthenticated
	}
	return g.auth.SetTenant(x.ctx, *x.verdict.Identity, id)
}
