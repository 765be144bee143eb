package router

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Access says who may pass a route.
type Access uint8

// The access levels, strictest first: the zero value asks for everything.
const (
	AccessTenant Access = iota
	AccessUser
	AccessPublic
)

// Route is one compiled rule. It is immutable.
type Route struct {
	name   string // its path, for logs and metrics
	exact  string // canonical path without the trailing slash, as configured
	folded string // the same in ASCII lower case
	host   string
	access Access
	// methods that match; nil: all. unsafe: all but GET, HEAD and OPTIONS.
	methods []string
	unsafe  bool

	upstream             *upstream
	subscriptionOptional bool
	minRole              string
	feature              string
	minTier              *int64
	timeout              time.Duration
	cors                 *cors
	crossOrigin          []string
	allowEncodedSlash    bool
	allowPathParameters  bool
}

// Name is the route's path as configured.
func (r *Route) Name() string { return r.name }

func compileRoute(c RouteConfig) (*Route, error) {
	path, ok := ParsePath(c.Path)
	if !ok || path.ambiguous() {
		return nil, fmt.Errorf("route path %q: write it as a plain absolute path such as /settings/", c.Path)
	}
	exact := matchForm(strings.TrimSuffix(path.escaped, "/"))
	r := &Route{
		name: c.Path, exact: exact, folded: lowerASCII(exact), host: lowerASCII(c.Host),
		subscriptionOptional: c.Subscription == "optional", minRole: c.MinRole, feature: c.Feature, minTier: c.MinTier,
		timeout: c.Timeout, crossOrigin: c.CrossOrigin,
		allowEncodedSlash: c.AllowEncodedSlash, allowPathParameters: c.AllowPathParameters,
	}
	switch c.Access {
	case "", "tenant":
	case "user":
		r.access = AccessUser
	case "public":
		r.access = AccessPublic
	default:
		return nil, fmt.Errorf("route %s: access %q: use public, user or tenant", c.Path, c.Access)
	}
	if r.access != AccessTenant && (r.minRole != "" || r.feature != "" || r.minTier != nil) {
		return nil, fmt.Errorf("route %s: min_role, min_tier and feature need access: tenant", c.Path)
	}
	for _, m := range c.Methods {
		if strings.EqualFold(m, "unsafe") {
			r.unsafe = true
			continue
		}
		r.methods = append(r.methods, strings.ToUpper(m))
	}
	if c.CORS != nil {
		r.cors = compileCORS(*c.CORS)
	}
	return r, nil
}

// takesMethod judges the real method of the request (METH-1). HEAD goes with GET, as in the apps behind: a rule for GET
// that let HEAD pass by would tell of what it guards.
func (r *Route) takesMethod(method string) bool {
	if len(r.methods) == 0 && !r.unsafe {
		return true
	}
	return r.unsafe && !safeMethod(method) || slices.Contains(r.methods, method) ||
		method == http.MethodHead && slices.Contains(r.methods, http.MethodGet)
}

func safeMethod(m string) bool {
	return m == http.MethodGet || m == http.MethodHead || m == http.MethodOptions
}

// takesPath matches a prefix, in its match form, on segment boundaries. Case is ignored, but for public routes: a spelling that the app
// might treat as another path must not open a door.
func (r *Route) takesPath(p string) bool {
	want := r.folded
	if r.access == AccessPublic {
		want = r.exact
	}
	if len(p) < len(want) || len(p) > len(want) && p[len(want)] != '/' {
		return false
	}
	if r.access == AccessPublic {
		return p[:len(want)] == want
	}
	return equalFoldASCII(p[:len(want)], want)
}

// equalFoldASCII compares s, in any case, with lower, which is in lower case already. Other than strings.EqualFold it
// never folds non-ASCII letters.
func equalFoldASCII(s, lower string) bool {
	for i := 0; i < len(lower); i++ {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// routeTable finds the rule for a request; the first that fits wins.
type routeTable struct{ routes []*Route }

func (t routeTable) find(method, host, path string) *Route {
	path = matchForm(path)
	for _, r := range t.routes {
		if (r.host == "" || r.host == host) && r.takesMethod(method) && r.takesPath(path) {
			return r
		}
	}
	return nil
}

// match routes a path in every reading that a server might have of it (ROUTE-1, SKIP-2). An ambiguous path passes only
// where all readings give one and the same route and that route permits the ambiguity.
func (t routeTable) match(method, host string, p Path) (*Route, Code) {
	if !p.ambiguous() {
		if r := t.find(method, host, p.escaped); r != nil {
			return r, ""
		}
		return nil, NoRoute
	}
	var route *Route
	for i, reading := range p.readings() {
		r := t.find(method, host, reading)
		if ownPath(reading) || i > 0 && r != route {
			return nil, BadPath
		}
		route = r
	}
	if route == nil || p.encodedSlash && !route.allowEncodedSlash || p.parameters && !route.allowPathParameters {
		return nil, BadPath
	}
	return route, ""
}
