package router

import (
	"context"
	"crypto/sha256"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/cache"
	"github.com/tenantgate/tenantgate/catalog"
)

// maxOwnHeaders is how many headers appHeaders can set.
const maxOwnHeaders = 20

// appHeaders returns what the app receives: what came, but for what a client must not say, then everything of ours from
// the verdict, each exactly once (HDR-2, HDR-3). It may change from.
func (g *Gate) appHeaders(from http.Header, x *exchange) http.Header {
	g.stripOnly(from, x)
	h := make(http.Header, len(from)+maxOwnHeaders)
	maps.Copy(h, from)
	set := setter{header: h, values: make([]string, 0, maxOwnHeaders)}
	v, c := &x.verdict, &x.client
	set.one("X-Forwarded-For", c.forwardedFor)
	set.one("X-Forwarded-Host", v.Host.String())
	set.one("X-Forwarded-Proto", c.proto)
	set.one("X-Forwarded-Prefix", c.prefix+v.Prefix)
	set.one("X-Real-Ip", c.realIP)
	set.one("X-Request-Id", c.requestID)
	set.one("Traceparent", c.trace.Traceparent())
	set.one("Tracestate", c.state)
	switch {
	case v.Grant != nil:
		g.headers.setGrant(&set, v.Grant, g.withURI)
	case v.Identity != nil:
		g.headers.setUser(&set, v.User)
	default:
		return h
	}
	set.one(g.headers.assertion, x.assertion)
	return h
}

// stripOnly removes what a client must not say and what is not the app's: our names, what hops say, our cookies and a
// token that was consumed.
func (g *Gate) stripOnly(h http.Header, x *exchange) {
	g.headers.stripRequest(h, g.overridesPass)
	g.auth.StripCookies(h)
	id := x.verdict.Identity
	consumed := id != nil && (id.Kind == auth.KindBearer || id.Kind == auth.KindAPIToken)
	if consumed && g.authorizationPasses {
		return
	}
	// A token of ours goes on public routes too, where it was not looked at.
	if consumed || slices.ContainsFunc(h["Authorization"], auth.OwnToken) {
		delete(h, "Authorization")
	}
}

// onlyWebSocket lets nothing be switched to but a WebSocket, whatever else was asked for beside it: behind another
// protocol (h2c) the app would take requests that nobody judges (CONN-1).
func onlyWebSocket(h http.Header, handshake bool) {
	if len(h["Upgrade"]) == 0 {
		return
	}
	delete(h, "Upgrade")
	if handshake {
		h["Upgrade"] = []string{"websocket"}
	}
}

// onlyUpgrade leaves of Connection what a handshake needs: an app in this process that is a proxy itself would drop
// every header that is named there, ours too (HOP-1).
func onlyUpgrade(h http.Header) {
	upgrade := len(h["Upgrade"]) > 0 && httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade")
	delete(h, "Connection")
	if upgrade {
		h["Connection"] = []string{"Upgrade"}
	}
}

// stripHints removes what is ours from an informational response.
func (g *Gate) stripHints(h http.Header) {
	g.headers.stripResponse(h)
	g.dropOwnCookies(h)
}

// dropOwnCookies keeps an app from setting tenantgate's cookies.
func (g *Gate) dropOwnCookies(h http.Header) {
	cookies := h["Set-Cookie"]
	for i := 0; i < len(cookies); i++ {
		// A cookie without a name whose value is "tg_session=…" comes back as one of that name.
		name, _, _ := strings.Cut(strings.TrimLeft(cookies[i], "= \t"), "=")
		if ownCookie(strings.TrimSpace(name)) {
			cookies = append(cookies[:i:i], cookies[i+1:]...)
			i--
		}
	}
	switch {
	case len(cookies) == len(h["Set-Cookie"]):
	case len(cookies) == 0:
		delete(h, "Set-Cookie")
	default:
		h["Set-Cookie"] = cookies
	}
}

func ownCookie(name string) bool {
	name = strings.TrimPrefix(strings.ToLower(name), "__host-")
	return name == "tg_session" || name == "tg_admin" || strings.HasPrefix(name, "tg_flow_") || strings.HasPrefix(name, "tg_admin_flow_")
}

// stripTrailers removes our names from trailers that an app in this process has set, in either of net/http's ways.
func (g *Gate) stripTrailers(h http.Header) {
	for name := range h {
		if g.headers.ours(strings.TrimPrefix(name, http.TrailerPrefix)) {
			delete(h, name)
		}
	}
}

// assertionKey is everything that an assertion says, so that a remembered one never says it of somebody else.
type assertionKey struct {
	audience, email, role, profile, plan, status string
	user                                         catalog.UserID
	tenant                                       catalog.TenantID
	uri                                          [sha256.Size]byte
}

func (g *Gate) newAssertions(c AssertionConfig, entries int) {
	if c.Enabled != nil && !*c.Enabled {
		return
	}
	g.defaultAudience = c.Audience
	if g.defaultAudience == "" {
		g.defaultAudience = "app"
	}
	lifetime := c.Lifetime
	if lifetime == 0 {
		lifetime = time.Minute
	}
	if entries == 0 {
		entries = 100000
	}
	g.assertionLifetime = lifetime
	g.assertions = cache.New[assertionKey, string](cache.Config{
		Entries: max(entries/4, 1), TTL: lifetime / 2, Clock: g.clock,
	})
}

// assertion returns the signed statement of the verdict, remembered for half its lifetime.
func (g *Gate) assertion(x *exchange) (string, error) {
	v := &x.verdict
	key := assertionKey{audience: g.defaultAudience, user: v.User.ID, email: v.User.Email}
	if v.Route.upstream != nil && v.Route.upstream.audience != "" {
		key.audience = v.Route.upstream.audience
	}
	if gr := v.Grant; gr != nil {
		key.user, key.email, key.tenant = gr.User.ID, gr.User.Email, gr.Tenant.ID
		key.role, key.profile = gr.Membership.Role, gr.Membership.ProfileID
		key.plan, key.status = gr.Plan.Key, gr.Subscription.Status
		if g.withURI {
			key.uri = gr.uriHash()
		}
	}
	if token, found, ok := g.assertions.Lookup(key); ok && found {
		return token, nil
	}
	token, _, err := g.assertions.Get(x.ctx, key, func(context.Context) (string, bool, error) {
		in := auth.AssertionInput{
			Audience: key.audience, User: key.user, Email: key.email, Tenant: key.tenant, Role: key.role,
			Profile: key.profile, Plan: key.plan, Subscription: key.status, Lifetime: g.assertionLifetime,
		}
		if v.Grant != nil && g.withURI {
			in.DBURI = v.Grant.DBURI()
		}
		token, err := g.auth.Assert(in)
		return token, true, err
	})
	return token, err
}
