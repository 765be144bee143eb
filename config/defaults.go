package config

import (
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/router"
)

// Defaults fills every field that is at its zero value with the documented default, so that c says what is in force.
// Lists, maps and pointers that c shares with other Configs are replaced, never written through.
func (c *Config) Defaults() {
	if len(c.Listen) == 0 {
		c.Listen = Listen{":8080"}
	}
	list(&c.TrustedProxies)
	fill(&c.Admin.Listen, "127.0.0.1:9901")
	fill(&c.Admin.PublicURL, "http://localhost:9901")
	list(&c.ForwardAuth.Peers, "127.0.0.1/32", "::1/128")
	fill(&c.HostDatabase.MaxConnections, 10)
	point(&c.HostDatabase.Migrate, true)
	c.identityDefaults()
	some(&c.Tenants.Resolve, "host", "path", "header", "claim", "session", "only")
	fill(&c.Tenants.Header, "X-Tenant")
	fill(&c.Tenants.Claim, "tenant")
	c.routingDefaults()
	some(&c.Roles, "member", "admin", "owner")
	point(&c.Subscription.Required, true)
	point(&c.Subscription.GracePeriod, 72*time.Hour)
	fill(&c.Subscription.GraceFrom, "period_end")
	list(&c.Subscription.ExemptPlans)
	table(&c.Subscription.PlanAliases)
	fill(&c.Subscription.FreePlan, "free")
	c.forwardDefaults()
	c.boundDefaults()
	fill(&c.Provisioning.Engine, "postgresql")
	point(&c.Provisioning.Seal, true)
	fill(&c.Audit.Mode, "required")
	c.HostDatabase.Reserved = c.reservedNames()
	c.HostDatabase.BestEffortAudit = c.Audit.Mode == "best_effort"
}

// reservedNames are the hosts that the proxy itself answers under. A URL that is wrong, and so refused elsewhere, reserves
// none.
func (c *Config) reservedNames() catalog.Reserved {
	r := catalog.Reserved{BaseDomain: c.Tenants.BaseDomain}
	for _, text := range []string{c.PublicURL, c.Admin.PublicURL} {
		if u, err := url.Parse(text); err == nil && u.Hostname() != "" {
			r.Hosts = append(r.Hosts, u.Hostname())
		}
	}
	return r
}

func (c *Config) identityDefaults() {
	id := &c.Identity
	id.Providers = slices.Clone(id.Providers)
	for i := range id.Providers {
		providerDefaults(&id.Providers[i])
	}
	fill(&id.Session.IdleTimeout, time.Hour)
	fill(&id.Session.AbsoluteTimeout, 24*time.Hour)
	fill(&id.SignUp, "deny")
	fill(&id.SignUpLimit, 10)
}

func providerDefaults(p *auth.Provider) {
	fill(&p.ClientAuth, "basic")
	some(&p.Scopes, "openid", "email", "profile")
	list(&p.EmailDomains)
	list(&p.Bearer.Audiences)
	some(&p.Bearer.Algorithms, "RS256", "ES256", "EdDSA")
	point(&p.Bearer.Leeway, time.Minute)
}

func (c *Config) routingDefaults() {
	upstreams := make(map[string]router.UpstreamConfig, len(c.Upstreams))
	for name, u := range c.Upstreams {
		fill(&u.Timeout, time.Minute)
		fill(&u.Host, "pass")
		upstreams[name] = u
	}
	c.Upstreams = upstreams
	c.Routes = slices.Clone(c.Routes)
	for i := range c.Routes {
		r := &c.Routes[i]
		fill(&r.Access, "tenant")
		if r.Access == "tenant" {
			fill(&r.Subscription, "required")
		}
		list(&r.CrossOrigin)
	}
}

func (c *Config) forwardDefaults() {
	f := &c.Forward
	fill(&f.DBURI, "header")
	table(&f.Headers)
	fill(&f.MethodOverride, "strip")
	fill(&f.Authorization, "strip")
	point(&f.MiddlewareHeaders, true)
	point(&f.Assertion.Enabled, true)
	fill(&f.Assertion.Audience, "app")
	fill(&f.Assertion.Lifetime, time.Minute)
}

func (c *Config) boundDefaults() {
	fill(&c.Cache.Entries, 100_000)
	point(&c.Cache.TTL, 5*time.Minute)
	point(&c.Cache.NegativeTTL, 5*time.Second)
	fill(&c.Cache.Heartbeat, time.Second)
	point(&c.Cache.MaxStale, 30*time.Second)
	fill(&c.Limits.HeaderBytes, 32<<10)
	fill(&c.Limits.ReadHeaderTimeout, 10*time.Second)
	fill(&c.Limits.IdleTimeout, 2*time.Minute)
	fill(&c.Telemetry.Traces, "off")
	fill(&c.Telemetry.Metrics, "prometheus")
	fill(&c.Telemetry.Log.Level, "info")
	fill(&c.Telemetry.Log.Format, "json")
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func point[T any](field **T, value T) {
	if *field == nil {
		*field = new(value)
	}
}

// list fills a list that was left out; an empty one is an answer.
func list(field *[]string, values ...string) {
	if *field == nil {
		*field = append([]string{}, values...)
	}
}

// some fills a list that is of no use when empty.
func some(field *[]string, values ...string) {
	if len(*field) == 0 {
		*field = values
	}
}

func table(field *map[string]string) {
	if *field == nil {
		*field = map[string]string{}
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
