package router

import (
	"net/http"
	"net/url"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/billing/checkout"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/page"
)

// Billing serves the pages on which a tenant is paid for. It is called only for somebody who may pay for the tenant.
type Billing interface {
	// Plans lists what there is to buy; GET.
	Plans(w http.ResponseWriter, r *http.Request, v checkout.Visit)
	// Checkout leads to payment by the form in r.PostForm; POST.
	Checkout(w http.ResponseWriter, r *http.Request, v checkout.Visit)
	// Portal leads to payment methods and invoices; POST.
	Portal(w http.ResponseWriter, r *http.Request, v checkout.Visit)
}

// tenantParameter names the tenant on our own pages where on the app's a path does: `/_gate` below a prefix is 404.
const tenantParameter = "tenant"

// payRoute is the rule of the pages on which a tenant is paid for.
var payRoute = &Route{name: checkout.Path, subscriptionOptional: true}

// paying serves a page of checkout's to those who may pay.
func (g *Gate) paying(page func(http.ResponseWriter, *http.Request, checkout.Visit)) func(http.ResponseWriter, *http.Request, *exchange) {
	return func(w http.ResponseWriter, r *http.Request, x *exchange) {
		if rec := g.payer(w, r, x); rec != nil {
			g.visit(w, r, x, rec, page)
		}
	}
}

// payer judges who asks, for which tenant, and whether they may pay for it, in the order of every other request but
// without asking for a subscription or a database. It returns nil once it has refused.
func (g *Gate) payer(w http.ResponseWriter, r *http.Request, x *exchange) *Record {
	v := &x.verdict
	v.Route = payRoute
	rec, d := g.judgePayer(w, r, x)
	if d == nil && !g.engine.policy.mayPay(rec) {
		d = deny(RoleRequired)
	}
	if d != nil {
		g.refuse(w, x, d)
		return nil
	}
	return rec
}

func (g *Gate) judgePayer(w http.ResponseWriter, r *http.Request, x *exchange) (*Record, *Denial) {
	v, e := &x.verdict, g.engine
	if n, ok := e.resolver.fromHost(v.Host); ok {
		v.named = append(v.named, n)
	}
	v.named = e.resolver.fromHeader(x.facts.TenantHeader, v.named)
	if d := e.authenticate(x.ctx, &x.facts, v, nil); d != nil {
		return nil, d
	}
	if v.Identity.Kind == auth.KindSession && crossOrigin(x.method, v.Host, x.facts.Browser, nil) {
		return nil, deny(CrossOrigin)
	}
	if x.method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			return nil, denyFor(BadRequest, err)
		}
	}
	v.named = e.resolver.fromParameter(r.URL.Query()[tenantParameter], v.named)
	v.named = e.resolver.fromParameter(r.PostForm[tenantParameter], v.named)
	rec, d := e.resolve(x.ctx, v, nil)
	if d != nil {
		return nil, d
	}
	v.User = rec.user
	if code := e.policy.mayEnter(rec, e.clock(), nil); code != "" {
		return nil, e.refused(code, rec)
	}
	grant := &Grant{User: rec.user, Membership: rec.membership, Tenant: rec.tenant, enc: &rec.enc}
	e.policy.subscribe(grant, rec, e.clock())
	if !e.sameTenant(x.facts.GateTenant, grant) {
		return nil, deny(TenantChanged)
	}
	v.Grant = grant
	return rec, nil
}

// fromParameter returns the names that the tenant parameter of our own pages carries. It stands for the path, and is read
// where that is a source.
func (r *resolver) fromParameter(values []string, into []Named) []Named {
	if !r.on[SourcePath] || r.pathPrefix == "" {
		return into
	}
	for _, v := range values {
		if v != "" {
			into = append(into, Named{Source: SourcePath, Name: v, Kind: catalog.NamePlain})
		}
	}
	return into
}

// payers are the roles that may pay for a tenant: owner and admin, as far as they are roles of this configuration; where
// neither is, the highest. A role that is not listed may not, whatever its name.
func payers(roles []string) map[string]bool {
	may := map[string]bool{}
	for _, r := range roles {
		if r == "owner" || r == "admin" {
			may[r] = true
		}
	}
	if len(may) == 0 && len(roles) > 0 {
		may[roles[len(roles)-1]] = true
	}
	return may
}

// mayPay reports whether the record's member may pay for its tenant.
func (p *Policy) mayPay(rec *Record) bool { return p.payers[rec.membership.Role] }

// visit calls a page with what it has to know.
func (g *Gate) visit(w http.ResponseWriter, r *http.Request, x *exchange, rec *Record, page func(http.ResponseWriter, *http.Request, checkout.Visit)) {
	app, err := g.appPath(x, rec)
	if err != nil {
		g.refuse(w, x, denialOf(err))
		return
	}
	v := checkout.Visit{
		Tenant: rec.tenant.ID, Name: rec.tenant.Name, User: rec.user.ID, Email: rec.user.Email,
		Parameter: g.payParameter(x, rec.tenant.ID), Origin: g.origin(x), App: app,
	}
	if x.client.addr.IsValid() {
		v.Address = x.client.addr.String()
	}
	page(w, r, v)
}

// hostNames reports whether the host of the request names its tenant.
func (x *exchange) hostNames() bool {
	if x.verdict.Identity != nil && x.verdict.Identity.OnlyTenant != "" {
		return true
	}
	class, _ := x.gate.engine.resolver.classify(x.verdict.Host)
	return x.gate.engine.resolver.on[SourceHost] && class == labelHost
}

// payParameter is what links to our own pages name the tenant by; "" where the address does.
func (g *Gate) payParameter(x *exchange, tenant catalog.TenantID) string {
	if res := &g.engine.resolver; x.hostNames() || !res.on[SourcePath] || res.pathPrefix == "" {
		return ""
	}
	return string(tenant)
}

// payPath is where the tenant can be paid for.
func (g *Gate) payPath(x *exchange, tenant catalog.TenantID) string {
	if p := g.payParameter(x, tenant); p != "" {
		return checkout.Path + "?" + url.Values{tenantParameter: {p}}.Encode()
	}
	return checkout.Path
}

// origin is the scheme and host that a browser of this request comes back to: its own host, unless that is none on which
// people are signed in.
func (g *Gate) origin(x *exchange) string {
	class, _ := g.engine.resolver.classify(x.verdict.Host)
	if class == otherHost && x.verdict.Identity.OnlyTenant == "" {
		return g.public.Scheme + "://" + g.public.Host
	}
	return g.public.Scheme + "://" + x.verdict.Host.String()
}

// appPath is where the tenant's app begins, on the same host.
func (g *Gate) appPath(x *exchange, rec *Record) (string, error) {
	if g.payParameter(x, rec.tenant.ID) == "" {
		return "/", nil
	}
	path := g.engine.resolver.tenantPath(string(rec.tenant.ID))
	if path == "" {
		slugs, err := g.slugs(x)
		if err != nil {
			return "", err
		}
		path = g.engine.resolver.tenantPath(slugs[rec.tenant.ID])
	}
	return path + "/", nil
}

// mayPayFor notes, on a denial that paying would mend, whose tenant that is.
func (v *Verdict) mayPayFor(code Code, rec *Record) {
	switch code {
	case SubscriptionRequired, TierRequired, FeatureRequired:
		v.unpaid = rec
	}
}

// payLink is where the one who was denied can pay, "" for nobody.
func (g *Gate) payLink(x *exchange) string {
	if rec := x.verdict.unpaid; g.billing != nil && rec != nil && g.engine.policy.mayPay(rec) {
		return g.payPath(x, rec.tenant.ID)
	}
	return ""
}

// unpaidPage leads those who may pay to where they can, and tells the others whom to ask.
func (g *Gate) unpaidPage(x *exchange, c Code, d page.Data) page.Data {
	another := page.Action{Label: "Choose another workspace", URL: tenantsPath}
	start := page.Action{Label: "Back to the start", URL: x.verdict.Prefix + "/"}
	link := g.payLink(x)
	switch {
	case link != "" && c == SubscriptionRequired:
		d.Text = []string{"This workspace has no active subscription. Choose a plan, or pay what is due, to open it."}
	case link != "":
		d.Text = []string{"This needs a higher plan. You can change the workspace's plan."}
	case c == SubscriptionRequired:
		d.Text = []string{"This workspace has no active subscription. Ask one of its owners or admins: they can choose a plan here."}
	}
	if link != "" {
		d.Actions = append(d.Actions, page.Action{Label: "Plans and payment", URL: link, Primary: true})
	}
	if c == SubscriptionRequired {
		another.Primary = link == ""
		d.Actions = append(d.Actions, another, page.Action{Label: "Sign out", URL: logoutPath})
		return d
	}
	start.Primary = link == ""
	d.Actions = append(d.Actions, start, another)
	return d
}
