package router

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/internal/page"
)

// The own paths that people are sent to.
const (
	loginPath   = "/_gate/login"
	logoutPath  = "/_gate/logout"
	handoffPath = "/_gate/handoff"
	tenantsPath = "/_gate/tenants"
)

// maxReturnTo bounds a return_to that is made from a request, in bytes; longer ones lead to "/".
const maxReturnTo = 2000

// problem is the body of a denial (RFC 9457).
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Code      Code   `json:"code"`
	RequestID string `json:"request_id"`
	// BillingURL is where the one who asked can pay, a local path; absent for everybody else.
	BillingURL string `json:"billing_url,omitempty"`
}

// problemType is the page that explains a code.
const problemType = "https://github.com/tenantgate/tenantgate/blob/main/docs/denials.md#"

// refuse answers a denial: a redirect where a browser can go on by itself, else a page for a navigation, else
// problem+json. What it says depends on the code alone, and, where paying would mend it, on whether the one who asked may.
func (g *Gate) refuse(w http.ResponseWriter, x *exchange, d *Denial) {
	x.code, x.denial = d.Code, d
	ref := d.Code.Refusal()
	if d.Code == BadHost {
		ref.Detail += " It is " + g.public.Scheme + "://" + g.public.Host + "."
	}
	h := w.Header()
	ref.head(h)
	if d.ClearSession {
		g.auth.ClearSession(w, x.verdict.Host.Name)
	}
	if x.verdict.Route != nil && x.verdict.Route.cors != nil && x.origin != "" {
		x.verdict.Route.cors.allow(h, x.origin)
	}
	switch ref.Status {
	case http.StatusUnauthorized:
		h.Set("Www-Authenticate", challenge(d.Code))
	case http.StatusMethodNotAllowed:
		h.Set("Allow", g.allowed(x))
	}
	if g.sendOn(w, x, d.Code) {
		return
	}
	if x.facts.Browser.navigation() {
		page.Render(w, ref.Status, g.denialPage(x, d.Code, ref))
		return
	}
	writeProblem(w, ref, d.Code, x.client.requestID, g.payLink(x))
}

// head sets what every refusal has. Whoever knows better when to come again has said so before.
func (r Refusal) head(h http.Header) {
	h.Set("Cache-Control", "no-store")
	if r.RetryAfter > 0 && h.Get("Retry-After") == "" {
		h.Set("Retry-After", strconv.Itoa(int(r.RetryAfter.Seconds())))
	}
}

// refuseOutside answers a request that no Gate serves: there is none yet.
func refuseOutside(w http.ResponseWriter, r *http.Request, c Code) {
	x := &exchange{client: hops{ids: new(identifiers)}.read(r)}
	x.readFacts(r, "")
	ref := c.Refusal()
	ref.head(w.Header())
	if x.facts.Browser.navigation() {
		page.Render(w, ref.Status, page.Data{Heading: ref.Title, Text: []string{ref.Detail}, Code: string(c), RequestID: x.client.requestID})
		return
	}
	writeProblem(w, ref, c, x.client.requestID, "")
}

// challenge is the WWW-Authenticate value (RFC 6750 3).
func challenge(c Code) string {
	if c == InvalidToken {
		return `Bearer realm="tenantgate", error="invalid_token"`
	}
	return `Bearer realm="tenantgate"`
}

// sendOn redirects a browser that can mend the denial itself: to sign in, or to choose a tenant.
func (g *Gate) sendOn(w http.ResponseWriter, x *exchange, c Code) bool {
	target := ""
	switch c {
	case Unauthenticated, SessionExpired:
		target = loginPath
	case TenantRequired:
		target = tenantsPath
	case NoAccess:
		if !x.denial.homeless || g.setUp == nil || x.verdict.Identity.Kind != auth.KindSession {
			return false
		}
		target = setupPath
	default:
		return false
	}
	if x.facts.Browser.htmx() && target == loginPath {
		w.Header().Set("Hx-Redirect", target+"?return_to="+url.QueryEscape(x.currentPage()))
		return false
	}
	if x.method != http.MethodGet || !x.facts.Browser.navigation() || x.verdict.Own && target == tenantsPath && x.verdict.Route != payRoute {
		return false
	}
	if target == setupPath {
		target = g.public.String() + target // the one place to sign up, and a new tenant has its own start
	} else {
		target += "?return_to=" + url.QueryEscape(x.returnTo())
	}
	w.Header().Set("Location", target)
	w.WriteHeader(http.StatusFound)
	return true
}

// returnTo is where the browser wanted to go, as a local path.
func (x *exchange) returnTo() string {
	if to := x.target; len(to) <= maxReturnTo && strings.HasPrefix(to, "/") {
		return to
	}
	return "/"
}

// currentPage is the page that an htmx request was made from, as a local path.
func (x *exchange) currentPage() string {
	u, err := url.Parse(x.htmxURL)
	if err != nil || u.Path == "" || len(x.htmxURL) > maxReturnTo {
		return "/"
	}
	return u.RequestURI()
}

func writeProblem(w http.ResponseWriter, ref Refusal, c Code, requestID, payAt string) {
	body, err := json.Marshal(problem{
		Type: problemType + string(c), Title: ref.Title, Status: ref.Status, Detail: ref.Detail, Code: c,
		RequestID: requestID, BillingURL: payAt,
	})
	if err != nil { // a struct of strings and a number
		body = []byte(`{}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(ref.Status)
	_, _ = w.Write(body)
}

// denialPage says what happened and what to do next.
func (g *Gate) denialPage(x *exchange, c Code, ref Refusal) page.Data {
	d := page.Data{
		Heading: ref.Title, Text: []string{ref.Detail}, Code: string(c), RequestID: x.client.requestID,
	}
	another := page.Action{Label: "Choose another workspace", URL: tenantsPath, Primary: true}
	leave := page.Action{Label: "Sign out", URL: logoutPath}
	if g.billing != nil && x.verdict.unpaid != nil {
		return g.unpaidPage(x, c, d)
	}
	switch c {
	case Unauthenticated, SessionExpired:
		d.Actions = []page.Action{{Label: "Sign in", URL: loginPath, Primary: true}}
	case UnknownUser:
		leave.Primary = true
		d.Actions = []page.Action{leave}
	case NoAccess, MembershipInactive, TenantInactive, SubscriptionRequired, TenantPaused, TenantMisconfigured,
		TenantConflict, TenantRequired:
		d.Actions = []page.Action{another, leave}
	case RoleRequired, TierRequired, FeatureRequired:
		another.Primary = false
		d.Actions = []page.Action{{Label: "Back to the start", URL: x.verdict.Prefix + "/", Primary: true}, another}
	case BadHost, BadReturnTo, BadRequest:
		d.Actions = []page.Action{{Label: "Go to " + g.public.Host, URL: g.public.String() + "/", Primary: true}}
	case BillingUnavailable, RateLimited:
		if x.verdict.Route == payRoute && x.verdict.Grant != nil {
			d.Actions = []page.Action{{Label: "Back to the plans", URL: g.payPath(x, x.verdict.Grant.Tenant.ID), Primary: true}}
		}
	case HostDatabaseUnavailable, UpstreamUnavailable, ProviderUnavailable:
		if strings.HasPrefix(x.target, "/_gate/callback/") { // its code is spent; the way on is a new sign-in
			d.Actions = []page.Action{{Label: "Sign in again", URL: loginPath, Primary: true}}
		} else if x.method == http.MethodGet && strings.HasPrefix(x.target, "/") && !strings.HasPrefix(x.target, "//") {
			d.Actions = []page.Action{{Label: "Try again", URL: x.target, Primary: true}}
		}
	}
	return d
}
