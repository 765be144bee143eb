package router

import (
	"strings"
	"unicode/utf8"

	"github.com/tenantgate/tenantgate/catalog"
)

// Source is a part of a request that can name a tenant.
type Source string

// The sources, in the order of tenants.resolve's default, and an API token's own tenant, which always counts.
const (
	SourceToken   Source = "token"
	SourceHost    Source = "host"
	SourcePath    Source = "path"
	SourceHeader  Source = "header"
	SourceClaim   Source = "claim"
	SourceSession Source = "session"
	SourceOnly    Source = "only"
)

// Named is one source's word for a tenant.
type Named struct {
	Source Source
	Name   string
	Kind   catalog.NameKind
}

// resolver reads the sources that are switched on.
type resolver struct {
	on         map[Source]bool
	public     Host // public_url's host
	baseDomain string
	pathPrefix string
	header     string // canonical
	claim      string
}

func newResolver(c TenantsConfig, public Host) resolver {
	sources := c.Resolve
	if len(sources) == 0 {
		sources = []string{"host", "path", "header", "claim", "session", "only"}
	}
	r := resolver{
		on: map[Source]bool{}, public: public, baseDomain: strings.TrimSuffix(lowerASCII(c.BaseDomain), "."),
		pathPrefix: c.PathPrefix, header: c.Header, claim: c.Claim,
	}
	for _, s := range sources {
		r.on[Source(s)] = true
	}
	if r.namedByURL() {
		r.on[SourceSession] = false // a session keeps a choice only where tenants have no address of their own
	}
	return r
}

// namedByURL reports whether tenants have addresses: a host or a path.
func (r *resolver) namedByURL() bool {
	return r.on[SourcePath] && r.pathPrefix != "" || r.on[SourceHost] && r.baseDomain != ""
}

// hostClass says what a Host is to us.
type hostClass uint8

const (
	// publicHost is public_url's: people sign in here.
	publicHost hostClass = iota
	// labelHost is a single label under base_domain.
	labelHost
	// otherHost may be a verified custom domain, or a name that a sidecar is called by.
	otherHost
)

// classify compares names only; the port does not matter to a name.
func (r *resolver) classify(h Host) (hostClass, string) {
	if h.Name == r.public.Name {
		return publicHost, ""
	}
	if r.baseDomain != "" {
		if h.Name == r.baseDomain {
			return otherHost, ""
		}
		if label, ok := strings.CutSuffix(h.Name, "."+r.baseDomain); ok && !strings.Contains(label, ".") {
			return labelHost, label
		}
	}
	return otherHost, ""
}

// fromHost returns what the Host names. A name that is neither public_url's, nor base_domain, nor a label under it is
// asked for as a custom domain, which names a tenant only if it is verified.
func (r *resolver) fromHost(h Host) (Named, bool) {
	if !r.on[SourceHost] {
		return Named{}, false
	}
	if class, label := r.classify(h); class == labelHost {
		return Named{Source: SourceHost, Name: label, Kind: catalog.NameHost}, true
	}
	if !r.maybeDomain(h) {
		return Named{}, false
	}
	return Named{Source: SourceHost, Name: h.Name, Kind: catalog.NameDomain}, true
}

// maybeDomain reports whether the host is one that a custom domain can have.
func (r *resolver) maybeDomain(h Host) bool {
	class, _ := r.classify(h)
	return class == otherHost && h.Name != r.baseDomain && strings.Contains(h.Name, ".") && !isAddress(h.Name)
}

// isAddress reports whether a host name is an IP address, which is never a custom domain.
func isAddress(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	return name[0] == '[' || last != "" && last[0] >= '0' && last[0] <= '9'
}

// fromHeader returns every name that the tenant header carries; several must agree like any other sources.
func (r *resolver) fromHeader(values []string, into []Named) []Named {
	if !r.on[SourceHeader] {
		return into
	}
	for _, v := range values {
		if v != "" {
			into = append(into, Named{Source: SourceHeader, Name: v, Kind: catalog.NamePlain})
		}
	}
	return into
}

// same reports whether two names are one name without asking the database. A token's is an id, which a name that reads
// alike need not mean.
func (n Named) same(o Named) bool {
	return n.Name == o.Name && n.Kind == o.Kind && (n.Source == SourceToken) == (o.Source == SourceToken)
}

// folds reports whether two names that fit no tenant could be the same name: as slugs they are.
func (n Named) folds(o Named) bool {
	return (n.Kind == catalog.NameDomain) == (o.Kind == catalog.NameDomain) && lowerASCII(n.Name) == lowerASCII(o.Name)
}

// maxName bounds a name in bytes; no tenant has a longer id.
const maxName = 512

// queryable is the name as a database takes it. Text that no database can hold (NUL, invalid UTF-8) fits no tenant,
// and is asked for like any other name that fits none.
func (n Named) queryable() string {
	if n.Name == "" || len(n.Name) > maxName || strings.IndexByte(n.Name, 0) >= 0 || !utf8.ValidString(n.Name) {
		return string(noTenant)
	}
	return n.Name
}
