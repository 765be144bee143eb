package config

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/tenantgate/tenantgate/router"
)

func (v *validator) tenants() {
	t := &v.c.Tenants
	if t.BaseDomain != "" {
		host, ok := router.ParseHost(t.BaseDomain)
		if !ok || host.Port != "" || host.Name != t.BaseDomain || isAddress(host.Name) {
			v.bad("tenants.base_domain", "must be a host name in lower case without port, such as app.example.com")
		}
	}
	if t.PathPrefix != "" {
		v.problem("tenants.path_prefix", pathPrefixProblem(t.PathPrefix))
	}
	v.problem("tenants.header", headerProblem(t.Header))
	if strings.HasPrefix(foldHeader(t.Header), "x-gate-") {
		v.bad("tenants.header", "must not begin with X-Gate-; such headers have their own meaning")
	}
	if hasControl(t.Claim) {
		v.bad("tenants.claim", "must be the name of a claim")
	}
}

func pathPrefixProblem(s string) string {
	path, ok := router.ParsePath(s)
	switch {
	case !ok || s == "/" || !strings.HasSuffix(s, "/"):
		return "must begin and end with /, such as /t/"
	case path.String() != s || strings.ContainsAny(s, ";%!$&'()*+,:=@[]"):
		return "must be made of plain characters, such as /t/"
	case ownPath(s):
		return "must not be /_gate or below it; that is tenantgate's own"
	}
	return ""
}

// isLoopback is stricter than loopbackName: names below localhost are looked up by DNS where nothing prevents it, and
// what is sent there is a password.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

func ownPath(s string) bool {
	s = strings.ToLower(s)
	return s == "/_gate" || strings.HasPrefix(s, "/_gate/")
}

func (v *validator) upstreams() {
	for _, name := range sortedKeys(v.c.Upstreams) {
		u := v.c.Upstreams[name]
		path := childPath("upstreams", showKey(name))
		if !looksLikeKey(name) {
			v.bad(path, "a name is made of letters, digits, - and _, 64 at most")
		}
		if len(u.URLs) == 0 {
			v.bad(path+".urls", "missing; write at least one, such as http://127.0.0.1:3000")
		}
		secure, socket := false, false
		for i, raw := range u.URLs {
			v.problem(indexPath(path+".urls", i), upstreamProblem(raw, u.InsecurePlaintext))
			secure = secure || strings.HasPrefix(raw, "https:")
			socket = socket || strings.HasPrefix(raw, "unix:")
		}
		v.pair(path, u.CertFile, u.KeyFile)
		if !secure && len(u.URLs) > 0 {
			v.httpsOnly(path, "ca_file", u.CAFile)
			v.httpsOnly(path, "cert_file", u.CertFile)
			v.httpsOnly(path, "key_file", u.KeyFile)
		}
		switch host, ok := router.ParseHost(u.Host); {
		case u.Host == "pass":
		case u.Host == "upstream" && socket:
			v.bad(path+".host", "a unix socket has no host; write pass or a name")
		case u.Host != "upstream" && (!ok || host.String() != u.Host):
			v.bad(path+".host", "must be pass, upstream or a host name in lower case")
		}
		if hasControl(u.Audience) {
			v.bad(path+".audience", "must be plain text")
		}
	}
}

func (v *validator) httpsOnly(path, key, file string) {
	if file != "" {
		v.bad(childPath(path, key), "is for https:// and none of urls is")
	}
}

// upstreamProblem judges one address of an app. It has no path: the app receives exactly the path that was judged
// (PATH-2). Plain text to another machine would show every tenant's database password on the wire (LEAK-4).
func upstreamProblem(raw string, plaintext bool) string {
	if path, ok := strings.CutPrefix(raw, "unix:"); ok {
		if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || hasControl(path) {
			return "a unix socket is written unix:/path"
		}
		return ""
	}
	const form = "must be http://host:port, https://host, h2c://host:port or unix:/path"
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "":
		return form
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c":
		return form
	case u.User != nil:
		return "must not hold a user or a password"
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || strings.Contains(raw, "#"):
		return "must end after the host and port; the app receives exactly the path that was judged"
	}
	if _, ok := router.ParseHost(u.Host); !ok {
		return "its host is not valid"
	}
	if u.Scheme != "https" && !isLoopback(u.Hostname()) && !plaintext {
		return "would send the tenant's database URI to another machine in plain text; use https://, or set insecure_plaintext: true on this upstream"
	}
	return ""
}

func (v *validator) routes() {
	for i := range v.c.Routes {
		v.route(&v.c.Routes[i], indexPath("routes", i))
	}
}

func (v *validator) route(r *router.RouteConfig, path string) {
	if r.Path == "" {
		v.bad(path+".path", "missing; / stands for all paths")
	} else {
		v.problem(path+".path", routePathProblem(r.Path))
	}
	for i, method := range r.Methods {
		v.problem(indexPath(path+".methods", i), methodProblem(method))
	}
	if r.Host != "" {
		host, ok := router.ParseHost(r.Host)
		if !ok || host.Port != "" || host.Name != r.Host {
			v.bad(path+".host", "must be a host name in lower case without port; patterns are not known here")
		}
	}
	_, known := v.c.Upstreams[r.Upstream]
	switch names := sortedKeys(v.c.Upstreams); {
	case r.Upstream == "" && len(names) > 0:
		v.bad(path+".upstream", "missing; known are %s", strings.Join(names, ", "))
	case r.Upstream != "" && len(names) == 0:
		v.bad(path+".upstream", "no upstream has this name; `upstreams` is empty")
	case r.Upstream != "" && !known:
		v.bad(path+".upstream", "no upstream has this name%s; known are %s", meant(r.Upstream, names), strings.Join(names, ", "))
	}
	if r.MinRole != "" && !slices.Contains(v.c.Roles, r.MinRole) {
		v.bad(path+".min_role", "is not among roles%s", meant(r.MinRole, v.c.Roles))
	}
	if r.Access != "tenant" {
		v.tenantOnly(r, path)
	}
	if r.CORS != nil {
		if len(r.CORS.Origins) == 0 {
			v.bad(path+".cors.origins", "missing; list the origins, or leave cors out")
		}
		for i, origin := range r.CORS.Origins {
			switch {
			case origin == "*" && r.CORS.Credentials:
				v.bad(indexPath(path+".cors.origins", i), "any origin together with credentials would let every site read a signed-in person's answers; list the origins")
			case origin != "*":
				v.problem(indexPath(path+".cors.origins", i), originProblem(origin))
			}
		}
	}
	for i, origin := range r.CrossOrigin {
		v.problem(indexPath(path+".cross_origin", i), originProblem(origin))
	}
}

// tenantOnly refuses rules that a route without a tenant could not hold (POL-1).
func (v *validator) tenantOnly(r *router.RouteConfig, path string) {
	for _, rule := range []struct {
		key   string
		asked bool
	}{
		{"min_role", r.MinRole != ""},
		{"feature", r.Feature != ""},
		{"min_tier", r.MinTier != nil},
		{"subscription", r.Subscription == "required"},
	} {
		if rule.asked {
			v.bad(childPath(path, rule.key), "needs access: tenant; on this route there need not be a tenant to ask it of")
		}
	}
}

func routePathProblem(s string) string {
	path, ok := router.ParsePath(s)
	switch {
	case !strings.HasPrefix(s, "/"):
		return "must begin with /"
	case strings.ContainsAny(s, "*{}[]"):
		return "is a prefix, not a pattern; write /api/ for all that is below it"
	case strings.ContainsAny(s, "?#"):
		return "must be a path alone, without query and fragment"
	case !ok:
		return "must be a plain path: no //, no . or .. segment, no backslash, no control character, no broken escape"
	case strings.Contains(s, ";") || strings.Contains(path.String(), "%2F") || strings.Contains(path.String(), "%3B"):
		return "must hold neither ; nor %2F nor %3B"
	case path.String() != s:
		return "must be in canonical form: letters, digits and -._~ as they are, all else escaped with capital hex digits (RFC 3986 6.2.2)"
	case ownPath(s):
		return "must not be /_gate or below it; that is tenantgate's own"
	}
	return ""
}

func methodProblem(m string) string {
	switch {
	case m == "unsafe":
		return ""
	case m == "TRACE" || m == "CONNECT":
		return "is always refused"
	case m == "" || strings.Trim(m, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_0123456789") != "":
		return "must be a method in capitals, such as POST, or unsafe"
	}
	return ""
}

// originProblem judges an origin as browsers write it (RFC 6454 6.2).
func originProblem(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return "must be an origin such as https://app.example.com"
	}
	host, ok := router.ParseHost(u.Host)
	switch {
	case !ok || s != u.Scheme+"://"+host.String():
		return "must be an origin as browsers write it: scheme and host in lower case, no path, no / at the end"
	case u.Scheme == "https" && host.Port == "443" || u.Scheme == "http" && host.Port == "80":
		return "must leave the scheme's own port out, as browsers do"
	}
	return ""
}
