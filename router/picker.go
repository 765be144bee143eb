package router

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/billing/checkout"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/page"
)

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
	slugs, err := g.slugs(x)
	if err != nil {
		g.refuse(w, x, denialOf(err))
		return
	}
	page.Render(w, http.StatusOK, g.pickerPage(x, records, slugs, to))
}

// slugs are the user's tenants' second names, where tenants have addresses that need one.
func (g *Gate) slugs(x *exchange) (map[catalog.TenantID]string, error) {
	if !g.engine.resolver.namedByURL() {
		return nil, nil
	}
	return g.engine.directory.host.TenantSlugs(x.ctx, x.verdict.Identity.User)
}

func (g *Gate) pickerPage(x *exchange, records []*Record, slugs map[catalog.TenantID]string, to string) page.Data {
	d := page.Data{Heading: "Choose a workspace", Who: x.verdict.User.Email}
	ctx, cancel := context.WithTimeout(x.ctx, describeWithin)
	defer cancel()
	for _, rec := range records {
		if rec.member != activeMembership || !x.verdict.Identity.Reaches(rec.tenant.ID) {
			continue
		}
		t := g.describe(ctx, rec)
		item := page.Item{Title: t.Name, Text: describeText(t), Badge: t.Role, Action: g.enterAction(x, rec.tenant.ID, slugs[rec.tenant.ID], to)}
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
	if len(d.Items) == 0 && g.setUp != nil && x.verdict.Identity.Kind == auth.KindSession {
		d.Actions = append([]page.Action{{Label: "Create a workspace", URL: g.public.String() + setupPath, Primary: true}}, d.Actions...)
	}
	return d
}

func describeText(t whoamiTenant) string {
	if t.Plan == "" {
		return ""
	}
	return t.Plan + " plan"
}

// enterAction leads into a tenant: to its host or its path where these name tenants, else by keeping the choice in the
// session.
func (g *Gate) enterAction(x *exchange, id catalog.TenantID, slug, to string) *page.Action {
	if u := g.tenantURL(x, id, slug, to); u != "" {
		return &page.Action{URL: u}
	}
	if g.engine.resolver.namedByURL() {
		return nil // no host or path can carry its id, and it has no slug; it is reached by header
	}
	return &page.Action{URL: tenantsPath, Method: http.MethodPost, Hidden: map[string]string{"tenant": string(id), "return_to": to}}
}

// tenantURL is the tenant's own address, "" without one: its host under base_domain, else its path on public_url, by its
// id, or by its slug ("" for none) where the id does not fit. On its custom domain the tenant is where one is already.
func (g *Gate) tenantURL(x *exchange, id catalog.TenantID, slug, to string) string {
	if x.verdict.Identity.OnlyTenant == id && id != "" {
		return to
	}
	res := &g.engine.resolver
	for _, label := range []string{string(id), slug} {
		if res.on[SourceHost] && res.baseDomain != "" && labelOK(label) && label[0] != '-' && label[len(label)-1] != '-' {
			host := Host{Name: label + "." + res.baseDomain, Port: g.public.Port()}
			return g.public.Scheme + "://" + host.String() + to
		}
	}
	for _, name := range []string{string(id), slug} {
		if p := res.tenantPath(name); p != "" {
			at := ""
			if class, _ := res.classify(x.verdict.Host); class != publicHost {
				at = g.public.Scheme + "://" + g.public.Host // a host that names another tenant would be at odds with it
			}
			if to == checkout.Path {
				return at + to + "?" + url.Values{tenantParameter: {name}}.Encode()
			}
			return at + p + to
		}
	}
	return ""
}

// tenantPath is path_prefix with a tenant's name, without a slash at its end; "" where a path cannot carry the name.
func (r *resolver) tenantPath(name string) string {
	if !r.on[SourcePath] || r.pathPrefix == "" || name == "" {
		return ""
	}
	full, ok := ParsePath(r.pathPrefix + url.PathEscape(name) + "/")
	if !ok {
		return ""
	}
	if got, _, ok, bad := full.cutPrefix(r.pathPrefix); !ok || bad || got != name {
		return ""
	}
	return strings.TrimSuffix(full.escaped, "/")
}

// localReturn checks a return_to of the picker: a local path, not below a tenant's prefix, and of our own pages the one on
// which a tenant is paid for.
func (g *Gate) localReturn(ctx context.Context, raw string) (string, error) {
	if raw == "" {
		return "/", nil
	}
	to, err := g.auth.ReturnTo(ctx, raw)
	if err != nil {
		return "", err
	}
	if path, _, _ := strings.Cut(to, "?"); path == checkout.Path {
		return path, nil
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
		g.refuse(w, x, denyIn(code, rec))
		return
	}
	slugs, err := g.slugs(x)
	if err != nil {
		g.refuse(w, x, denialOf(err))
		return
	}
	if !x.verdict.Identity.Reaches(rec.tenant.ID) {
		g.refuse(w, x, deny(NoAccess))
		return
	}
	if u := g.tenantURL(x, rec.tenant.ID, slugs[rec.tenant.ID], to); u != "" {
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
