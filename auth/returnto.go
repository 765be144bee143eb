package auth

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/tenantgate/tenantgate/catalog"
)

const (
	maxReturnTo = 2048
	maxHost     = 253
	maxOrigin   = len("https://") + maxHost + len(":65535")
)

// origins are the places that return_to may lead to (contract, section 5). Immutable.
type origins struct {
	public     *url.URL // scheme and host alone
	publicHost string   // lower case, no port
	publicPort string   // the effective one
	baseDomain string   // lower case, "" for none
	admin      *url.URL // nil for none
}

func newOrigins(public *url.URL, baseDomain string, admin *url.URL) origins {
	o := origins{
		public:     &url.URL{Scheme: strings.ToLower(public.Scheme), Host: strings.ToLower(public.Host)},
		publicHost: normalHost(public.Host),
		baseDomain: normalHost(baseDomain),
	}
	o.publicPort = effectivePort(o.public)
	if admin != nil && admin.Host != "" {
		o.admin = &url.URL{Scheme: strings.ToLower(admin.Scheme), Host: strings.ToLower(admin.Host)}
	}
	return o
}

// normalHost is a host without port, trailing dot and capitals. One that is so already is returned as it is.
func normalHost(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
	}
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	if n := len(host); n > 0 && host[n-1] == '.' {
		host = host[:n-1]
	}
	return strings.ToLower(host)
}

func effectivePort(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "http" {
		return "80"
	}
	return "443"
}

// ReturnTo checks where a browser wants to go after signing in and returns it written anew: a local path, or a URL on
// public_url's host, a single label under base_domain or a verified domain, with public_url's scheme and port, or on
// admin.public_url's origin. "" is "/". Everything that two readers could take for different places is ErrBadReturnTo
// (REDIR-1); errors of the host database pass wrapped.
func (a *Auth) ReturnTo(ctx context.Context, raw string) (string, error) {
	if raw == "" {
		return "/", nil
	}
	limit := maxReturnTo
	if raw[0] != '/' {
		limit += maxOrigin // what was a local path on another host is still allowed with that host in front
	}
	if len(raw) > limit || !plainBytes(raw) {
		return "", ErrBadReturnTo
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || u.User != nil || !plainPath(u) {
		return "", ErrBadReturnTo
	}
	local := &url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery, Fragment: u.Fragment, RawFragment: u.RawFragment}
	if raw[0] == '/' {
		if u.Scheme != "" || u.Host != "" {
			return "", ErrBadReturnTo
		}
		return written(local.String(), "")
	}
	u.Scheme = strings.ToLower(u.Scheme)
	u.Host = strings.ToLower(u.Host)
	if !strings.HasPrefix(strings.ToLower(raw), u.Scheme+"://"+u.Host) {
		return "", ErrBadReturnTo
	}
	if err := a.allowedOrigin(ctx, u); err != nil {
		return "", err
	}
	if local.Path == "" {
		local.Path = "/"
	}
	return written(u.Scheme+"://"+u.Host+local.String(), u.Scheme+"://"+u.Host)
}

// written checks once more what will be sent: read again, it must still lead to that origin ("" is ours, by path).
func written(target, origin string) (string, error) {
	u, err := url.Parse(target)
	if err != nil || !plainBytes(target) || u.User != nil || u.Opaque != "" {
		return "", ErrBadReturnTo
	}
	if origin == "" {
		if u.Scheme != "" || u.Host != "" || target[0] != '/' || (len(target) > 1 && target[1] == '/') {
			return "", ErrBadReturnTo
		}
		return target, nil
	}
	if u.Scheme+"://"+u.Host != origin || !strings.HasPrefix(target, origin+"/") {
		return "", ErrBadReturnTo
	}
	return target, nil
}

// plainBytes reports whether s is printable ASCII without backslash: browsers drop tabs and line ends, take "\" for
// "/", and map other scripts' dots and slashes onto ours.
func plainBytes(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '\\' {
			return false
		}
	}
	return true
}

// plainPath refuses paths that mean something else once decoded or cleaned, and our own pages that would sign in anew.
func plainPath(u *url.URL) bool {
	path := u.Path
	if path == "" {
		return u.Host != ""
	}
	if path[0] != '/' || strings.Contains(path, "//") || strings.ContainsAny(path, "\\") {
		return false
	}
	for i := range len(path) {
		if path[i] < ' ' || path[i] == 0x7f {
			return false
		}
	}
	for _, segment := range strings.Split(path, "/") {
		name, _, _ := strings.Cut(segment, ";")
		if name == "." || name == ".." {
			return false
		}
	}
	lower := strings.ReplaceAll(strings.ToLower(path), ";", "/") + "/"
	for _, own := range []string{"/_gate/login/", "/_gate/callback/", "/_gate/handoff/"} {
		if strings.HasPrefix(lower, own) {
			return false
		}
	}
	return true
}

func (a *Auth) allowedOrigin(ctx context.Context, u *url.URL) error {
	o := &a.origins
	if o.admin != nil && u.Scheme == o.admin.Scheme && u.Hostname() == o.admin.Hostname() && effectivePort(u) == effectivePort(o.admin) {
		return nil
	}
	if u.Scheme != o.public.Scheme || effectivePort(u) != o.publicPort || strings.HasSuffix(u.Host, ":") {
		return ErrBadReturnTo
	}
	host := u.Hostname()
	if host == o.publicHost {
		return nil
	}
	if o.baseDomain != "" {
		if label, ok := strings.CutSuffix(host, "."+o.baseDomain); ok && isLabel(label) {
			return nil
		}
	}
	if !isDomainName(host) {
		return ErrBadReturnTo
	}
	tenant, err := a.domainTenant(ctx, host)
	if err != nil {
		return err
	}
	if tenant == "" {
		return ErrBadReturnTo
	}
	return nil
}

// domainTenant is the tenant whose verified custom domain the host is, "" if it is nobody's.
func (a *Auth) domainTenant(ctx context.Context, host string) (catalog.TenantID, error) {
	id, _, err := a.domains.Get(ctx, host, func(ctx context.Context) (catalog.TenantID, bool, error) {
		return a.host.ResolveTenant(ctx, host, catalog.NameDomain)
	})
	if err != nil {
		return "", fmt.Errorf("look for domain: %w", unavailable(ctx, err))
	}
	return id, nil
}

// isLabel reports whether s is one host label: letters, digits, - and _, not empty, no - at either end.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// isDomainName reports whether s is two labels or more, in lower case, and no address.
func isDomainName(s string) bool {
	if len(s) > maxHost || !strings.Contains(s, ".") {
		return false
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if !isLabel(l) {
			return false
		}
	}
	last := labels[len(labels)-1]
	return last[0] < '0' || last[0] > '9' // WHATWG URL: a host that ends in a number is an IPv4 address
}
