package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/tenantgate/tenantgate/billing/stripeapi"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/router"
)

// notSupportedYet is what every key says that asks for what this version does not do.
const notSupportedYet = "not supported yet"

// Validate reports, as an *Error, everything that is wrong with c. It does no I/O and does not change c, so it serves
// Configs that were filled by hand as well; faults of loaded ones have their place. Files are not looked at: a secret
// whose *_file is named counts as given.
func (c *Config) Validate() error {
	v := newValidator(c)
	v.all()
	return v.faults.err()
}

// Warnings reports what is allowed and probably not meant.
func (c *Config) Warnings() []Fault {
	v := newValidator(c)
	v.doubtful()
	return v.faults.sorted()
}

// validator judges c with its defaults filled in.
type validator struct {
	c      Config
	src    *sources
	faults findings
}

func newValidator(c *Config) *validator {
	v := &validator{c: *c, src: c.src}
	v.c.Defaults()
	return v
}

func (v *validator) bad(path, format string, args ...any) {
	v.faults.add(v.src.fault(path, fmt.Sprintf(format, args...)))
}

// problem reports a fault unless the message is empty.
func (v *validator) problem(path, message string) {
	if message != "" {
		v.bad(path, "%s", message)
	}
}

func (v *validator) all() {
	v.values()
	v.later()
	v.listeners()
	v.secrets()
	v.hostDatabase()
	v.provisioning()
	v.identity()
	v.tenants()
	v.upstreams()
	v.routes()
	v.access()
	v.forward()
	v.stripe()
	v.bounds()
}

// serve demands what a proxy needs and middleware does not.
func (v *validator) serve() {
	if len(v.c.Upstreams) == 0 {
		v.bad("upstreams", "missing; name at least one app, such as app: {urls: [\"http://127.0.0.1:3000\"]}")
	}
	if len(v.c.Routes) == 0 {
		v.bad("routes", "missing; without a route every request is denied; {path: /, upstream: NAME} lets members in")
	}
}

// values holds the rules that the keys' documentation states.
func (v *validator) values() {
	schema().walk(reflect.ValueOf(&v.c).Elem(), "", func(s *spec, r reflect.Value, path string) {
		if !r.IsValid() {
			return
		}
		switch s.kind {
		case integerKind, durationKind, sizeKind:
			if r.Int() < 0 && !s.unlimited {
				v.bad(path, "must not be negative")
			}
		case textKind:
			if s.oneOf != nil && r.String() != "" && !slices.Contains(s.oneOf, r.String()) {
				v.bad(path, "must be %s%s", alternatives(s.oneOf), meant(r.String(), s.oneOf))
			}
		case textsKind:
			v.items(s, r, path)
		}
	})
}

// items holds the rules for lists: no item twice, none empty, each of those allowed.
func (v *validator) items(s *spec, r reflect.Value, path string) {
	seen := map[string]int{}
	for i := range r.Len() {
		item, at := r.Index(i).String(), indexPath(path, i)
		first, twice := seen[item]
		switch {
		case item == "":
			v.bad(at, "must not be empty")
		case twice:
			v.bad(at, "stands here a second time; it is item %d already", first)
		case s.oneOf != nil && !slices.Contains(s.oneOf, item):
			v.bad(at, "must be %s%s", alternatives(s.oneOf), meant(item, s.oneOf))
		}
		if !twice {
			seen[item] = i
		}
	}
}

func alternatives(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// meant suggests the nearest of the known words, which, other than the value, may be repeated.
func meant(value string, words []string) string {
	if near := nearest(value, words); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

func (v *validator) listeners() {
	c := &v.c
	seen := map[string]bool{}
	for i, address := range c.Listen {
		v.problem(indexPath("listen", i), addressProblem(address))
		seen[address] = true
	}
	v.problem("admin.listen", addressProblem(c.Admin.Listen))
	if seen[c.Admin.Listen] {
		v.bad("admin.listen", "must not be an address of the public listener")
	}
	if c.PublicURL == "" {
		v.bad("public_url", "missing; write where browsers reach the proxy, such as https://app.example.com")
	} else {
		v.problem("public_url", publicURLProblem(c.PublicURL))
	}
	v.problem("admin.public_url", publicURLProblem(c.Admin.PublicURL))
	if c.Admin.PublicURL == c.PublicURL {
		v.bad("admin.public_url", "must differ from public_url; the two listeners share no page")
	}
	for i, cidr := range c.TrustedProxies {
		v.problem(indexPath("trusted_proxies", i), prefixProblem(cidr))
	}
	for i, cidr := range c.ForwardAuth.Peers {
		v.problem(indexPath("forward_auth.peers", i), prefixProblem(cidr))
	}
	v.pair("tls", c.TLS.CertFile, c.TLS.KeyFile)
}

// pair demands that a certificate has its key and the other way round.
func (v *validator) pair(path, cert, key string) {
	switch {
	case cert != "" && key == "":
		v.bad(path+".key_file", "missing; cert_file needs its key")
	case cert == "" && key != "":
		v.bad(path+".cert_file", "missing; key_file needs its certificate")
	}
}

// addressProblem judges host:port and unix:/path.
func addressProblem(s string) string {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		switch {
		case !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//"):
			return "a unix socket is written unix:/path"
		case len(path) > 107 || hasControl(path):
			return "the unix socket's path is longer than 107 bytes or no plain text"
		}
		return ""
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "must be host:port, :port or unix:/path"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || port != strconv.FormatUint(n, 10) {
		return "the port must be a number from 0 to 65535"
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return ""
	}
	if _, ok := router.ParseHost(host); !ok {
		return "the host must be an IP address or a host name"
	}
	return ""
}

// publicURLProblem judges a URL that stands for an origin: scheme and host, in the one spelling that browsers use.
func publicURLProblem(s string) string {
	const form = "must be scheme and host alone, such as https://app.example.com"
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return form
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return "must begin with https://"
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Path != "" && u.Path != "/":
		return form + ", without user, path, query and fragment"
	case u.Path == "/":
		return form + "; take the / off at its end"
	}
	host, ok := router.ParseHost(u.Host)
	switch {
	case !ok:
		return form + "; its host is not valid"
	case s != u.Scheme+"://"+host.String():
		return "must be written in lower case, international names in their xn-- form, without a dot or a bare : at the end"
	case u.Scheme == "https" && host.Port == "443" || u.Scheme == "http" && host.Port == "80":
		return "must leave the scheme's own port out, as browsers do"
	case u.Scheme == "http" && !loopbackName(u.Hostname()):
		return "must begin with https://; http is for loopback addresses, localhost and *.localhost"
	}
	return ""
}

// loopbackName reports whether a host is this machine whatever a resolver says (RFC 6761 6.3 for localhost).
func loopbackName(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback()
	}
	host = strings.ToLower(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func prefixProblem(s string) string {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if ip, err := netip.ParseAddr(s); err == nil {
			return fmt.Sprintf("must be a CIDR; for one address append /%d", ip.BitLen())
		}
		return "must be a CIDR such as 10.0.0.0/8 or fd00::/8"
	}
	switch {
	case p.Addr().Is4In6():
		return "must be written as an IPv4 CIDR"
	case p != p.Masked():
		return fmt.Sprintf("has bits beyond /%d; write the network's first address, or /%d for one address", p.Bits(), p.Addr().BitLen())
	}
	return ""
}

// secrets demands what the proxy cannot start without, and refuses a secret that is given twice.
func (v *validator) secrets() {
	for _, t := range v.c.twins() {
		fromFile := v.src != nil && v.src.read[t.path] == t.file
		if t.value != "" && t.file != "" && !fromFile {
			v.bad(t.path, "is set together with %s_file; keep one of the two", lastKey(t.path))
		}
	}
	c := &v.c
	if c.SecretKey.IsZero() {
		if c.SecretKeyFile == "" {
			v.bad("secret_key_file", "missing; name a file that holds a master secret, which `tenantgate key generate` makes")
		}
		return
	}
	if _, err := seal.ParseKeyset(c.SecretKey); err != nil {
		path := "secret_key"
		if c.SecretKeyFile != "" {
			path = "secret_key_file"
		}
		v.bad(path, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

// stripe judges what leads to Stripe's API.
func (v *validator) stripe() {
	s := &v.c.Billing.Stripe
	if err := stripeapi.CheckURL(s.APIURL); err != nil {
		v.bad("billing.stripe.api_url", "%v", err)
	}
	if s.APIKey.IsZero() {
		return
	}
	if err := stripeapi.CheckKey(s.APIKey); err != nil {
		v.bad(v.stripeKeyPath(), "%v", err)
	}
}

// stripeKeyPath is where the API key was given.
func (v *validator) stripeKeyPath() string {
	if v.c.Billing.Stripe.APIKeyFile != "" {
		return "billing.stripe.api_key_file"
	}
	return "billing.stripe.api_key"
}

func lastKey(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// later refuses what the configuration can say and this version cannot do.
func (v *validator) later() {
	c := &v.c
	for _, t := range c.twins() {
		if t.later && t.value != "" {
			v.bad(t.path, notSupportedYet)
		}
		if t.later && t.file != "" {
			v.bad(t.path+"_file", notSupportedYet)
		}
	}
	for _, k := range []struct {
		path  string
		asked bool
	}{
		{"forward_auth.listen", c.ForwardAuth.Listen != ""},
		{"ext_authz.listen", c.ExtAuthz.Listen != ""},
	} {
		if k.asked {
			v.bad(k.path, notSupportedYet)
		}
	}
}

// bounds holds the ranges of what is neither listed nor just positive.
func (v *validator) bounds() {
	c := &v.c
	if c.Cache.Entries > 100_000_000 {
		v.bad("cache.entries", "must be at most 100000000")
	}
	if c.HostDatabase.MaxConnections > 10_000 {
		v.bad("host_database.max_connections", "must be at most 10000")
	}
	if n := c.Limits.HeaderBytes; n > 0 && n < 1<<10 {
		v.bad("limits.header_bytes", "must be at least 1KiB, or 0 for no limit")
	}
}
