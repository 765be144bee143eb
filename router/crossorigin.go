package router

import (
	"net/http"
	"slices"
	"strings"
)

// Browser is what a browser adds to a request of its own accord. Each holds every value sent under its name.
type Browser struct {
	Origin        []string
	SecFetchSite  []string
	SecFetchMode  []string
	Accept        []string
	HTMX          []string // HX-Request
	RequestMethod []string // Access-Control-Request-Method
	WebSocket     bool     // a WebSocket handshake (RFC 6455 4.1)
}

// crossOrigin reports whether a request that carries a cookie came from another site (CSRF-1, WS-2). Only methods
// other than GET, HEAD and OPTIONS and WebSocket handshakes are asked. Doubled headers count as foreign.
func crossOrigin(method string, host Host, b Browser, allowed []string) bool {
	if safeMethod(method) && !b.WebSocket {
		return false
	}
	if len(b.Origin) > 1 || len(b.SecFetchSite) > 1 {
		return true
	}
	if len(b.Origin) == 1 && (slices.Contains(allowed, b.Origin[0]) || slices.Contains(allowed, "*")) {
		return false
	}
	if len(b.Origin) == 0 && b.WebSocket {
		return true
	}
	if len(b.SecFetchSite) == 1 {
		return b.SecFetchSite[0] != "same-origin" && b.SecFetchSite[0] != "none"
	}
	return len(b.Origin) == 1 && !originIs(b.Origin[0], host)
}

// originIs compares an Origin (RFC 6454 7) with the Host that the request was sent to.
func originIs(origin string, host Host) bool {
	scheme, authority, ok := strings.Cut(origin, "://")
	if !ok || scheme != "http" && scheme != "https" {
		return false
	}
	parsed, ok := ParseHost(authority)
	return ok && sameAuthority(scheme, parsed, host)
}

// cors is a compiled CORSConfig.
type cors struct {
	origins     []string
	any         bool
	credentials bool
}

func compileCORS(c CORSConfig) *cors {
	return &cors{origins: c.Origins, any: slices.Contains(c.Origins, "*"), credentials: c.Credentials}
}

// preflight reports whether the request is a CORS preflight (Fetch standard, 4.8).
func (b Browser) preflight(method string) bool {
	return method == http.MethodOptions && len(b.Origin) == 1 && len(b.RequestMethod) == 1
}

// allow sets the response headers that let the origin read the answer. A wildcard never goes with credentials: then
// only listed origins are allowed.
func (c *cors) allow(h http.Header, origin string) bool {
	h.Add("Vary", "Origin")
	listed := slices.Contains(c.origins, origin)
	switch {
	case listed:
		h.Set("Access-Control-Allow-Origin", origin)
		if c.credentials {
			h.Set("Access-Control-Allow-Credentials", "true")
		}
	case c.any:
		h.Set("Access-Control-Allow-Origin", "*")
	default:
		return false
	}
	return true
}

// dropCORS removes what the app says about origins: on a route with cors this configuration decides.
func dropCORS(h http.Header) {
	for k := range h {
		if strings.HasPrefix(k, "Access-Control-Allow-") {
			delete(h, k)
		}
	}
}

// answerPreflight answers 204 with what the route allows, or without any permission.
func (c *cors) answerPreflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
	if c.allow(h, r.Header.Get("Origin")) {
		h.Set("Access-Control-Allow-Methods", r.Header.Get("Access-Control-Request-Method"))
		if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
			h.Set("Access-Control-Allow-Headers", asked)
		}
		h.Set("Access-Control-Max-Age", "300")
	}
	w.WriteHeader(http.StatusNoContent)
}

// navigation reports whether a person's browser is loading a page: Accept names text/html and, where it is sent,
// Sec-Fetch-Mode is navigate.
func (b Browser) navigation() bool {
	if len(b.SecFetchMode) > 0 && b.SecFetchMode[0] != "navigate" {
		return false
	}
	for _, a := range b.Accept {
		if strings.Contains(a, "text/html") {
			return true
		}
	}
	return false
}

func (b Browser) htmx() bool { return len(b.HTMX) > 0 && b.HTMX[0] == "true" }
