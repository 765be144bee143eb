package config

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/tenantgate/tenantgate/billing/ledger"
	"github.com/tenantgate/tenantgate/router"
)

// doubtful finds what is allowed and probably not meant.
func (v *validator) doubtful() {
	c := &v.c
	for i, cidr := range c.TrustedProxies {
		if p, err := netip.ParsePrefix(cidr); err == nil && p.Bits() == 0 {
			v.bad(indexPath("trusted_proxies", i), "believes everybody; list the proxies in front")
		}
	}
	if len(c.Identity.Providers) == 0 {
		v.bad("identity.providers", "is empty; nobody can sign in")
	}
	if key := c.Billing.Stripe.APIKey; !key.IsZero() && ledger.ModeOf(key.Reveal()) == ledger.ModeUnknown {
		v.bad(v.stripeKeyPath(), "begins neither with sk_live_ or rk_live_ nor with sk_test_ or rk_test_, as Stripe's keys do")
	}
	if len(c.Routes) == 0 {
		v.bad("routes", "is empty; every request is denied")
	}
	used := map[string]bool{}
	for i := range c.Routes {
		v.doubtfulRoute(i)
		used[c.Routes[i].Upstream] = true
	}
	for _, name := range sortedKeys(c.Upstreams) {
		if !used[name] {
			v.bad(childPath("upstreams", showKey(name)), "no route leads here")
		}
	}
}

func (v *validator) doubtfulRoute(i int) {
	r := &v.c.Routes[i]
	has := func(method string) bool { return slices.Contains(r.Methods, method) }
	if (has("POST") || has("PUT")) && !has("unsafe") && (!has("PATCH") || !has("DELETE")) {
		v.bad(indexPath("routes", i)+".methods",
			"names POST or PUT without PATCH and DELETE, which then match a later route; unsafe stands for all methods that change something")
	}
	for j := range i {
		if covers(&v.c.Routes[j], r) {
			v.bad(indexPath("routes", i)+".path", "is never reached; routes[%d] comes before it and matches all that it would", j)
			return
		}
	}
}

// covers reports whether a matches every request that b matches.
func covers(a, b *router.RouteConfig) bool {
	if a.Host != "" && a.Host != b.Host {
		return false
	}
	if !coversMethods(a.Methods, b.Methods) {
		return false
	}
	p, q := strings.TrimSuffix(a.Path, "/"), strings.TrimSuffix(b.Path, "/")
	if len(q) < len(p) || len(q) > len(p) && q[len(p)] != '/' {
		return false
	}
	if a.Access == "public" { // whose case counts, so that it covers no other kind
		return b.Access == "public" && q[:len(p)] == p
	}
	return strings.EqualFold(q[:len(p)], p)
}

func coversMethods(a, b []string) bool {
	if len(a) == 0 {
		return true
	}
	if len(b) == 0 {
		return false
	}
	unsafe := slices.Contains(a, "unsafe")
	for _, m := range b {
		safe := m == "GET" || m == "HEAD" || m == "OPTIONS"
		if !slices.Contains(a, m) && !(unsafe && !safe) {
			return false
		}
	}
	return true
}
