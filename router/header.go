package router

import (
	"net/http"
	"strings"
)

// The names that configuration may rename, and the headers they stand for.
var defaultHeaders = map[string]string{
	"tenant_id":           "X-Tenant-Id",
	"tenant_db_uri":       "X-Tenant-Db-Uri",
	"tenant_plan":         "X-Tenant-Plan",
	"tenant_features":     "X-Tenant-Features",
	"subscription_status": "X-Subscription-Status",
	"user_id":             "X-User-Id",
	"user_email":          "X-User-Email",
	"user_role":           "X-User-Role",
	"user_profile_id":     "X-User-Profile-Id",
	"assertion":           "X-Gate-Assertion",
}

// headerNames holds the names that the app sees, in canonical form.
type headerNames struct {
	tenantID, dbURI, plan, features, status, userID, email, role, profileID, assertion string

	// protected are folded names, beside the prefixes, that no client may send: renamed headers and the tenant header.
	protected map[string]bool
}

func compileHeaders(renames map[string]string, tenantHeader string) headerNames {
	name := func(key string) string {
		if n := renames[key]; n != "" {
			return http.CanonicalHeaderKey(n)
		}
		return defaultHeaders[key]
	}
	n := headerNames{
		tenantID: name("tenant_id"), dbURI: name("tenant_db_uri"), plan: name("tenant_plan"),
		features: name("tenant_features"), status: name("subscription_status"), userID: name("user_id"),
		email: name("user_email"), role: name("user_role"), profileID: name("user_profile_id"),
		assertion: name("assertion"), protected: map[string]bool{},
	}
	for _, renamed := range renames {
		n.protected[foldName(renamed)] = true
	}
	n.protected[foldName(tenantHeader)] = true
	return n
}

// ourPrefixes are folded: whatever begins so is ours, in requests and in responses.
var ourPrefixes = [...]string{"x-tenant-", "x-user-", "x-subscription-", "x-gate-"}

// hopPrefix is folded: what hops say of a request, and what other proxies say of its user (X-Forwarded-User).
const hopPrefix = "x-forwarded-"

// hopNames are folded: rebuilt by us, never taken from a peer that is not trusted, and never in a second spelling.
var hopNames = map[string]bool{
	"x-original-url": true, "x-scheme": true, "x-url-scheme": true, "front-end-https": true,
	"x-original-uri": true, "x-original-method": true, "x-original-host": true, "x-rewrite-url": true, "x-host": true,
	"forwarded": true, "x-real-ip": true, "x-client-ip": true, "x-cluster-client-ip": true, "true-client-ip": true,
	"x-request-id": true, "traceparent": true, "tracestate": true,
}

// overrideNames are folded: headers by which some frameworks take another method than the one that was judged.
var overrideNames = map[string]bool{
	"x-http-method-override": true, "x-http-method": true, "x-method-override": true,
}

// foldName maps a header name to the one form that all app servers' spellings of it share: lower case, and "-" for
// whatever is neither letter nor digit (CGI and WSGI fold "-" and "_"; some servers "." and more).
func foldName(name string) string {
	b := make([]byte, len(name))
	for i := range b {
		b[i] = foldByte(name[i])
	}
	return string(b)
}

func foldByte(c byte) byte {
	switch {
	case c >= 'A' && c <= 'Z':
		return c + 'a' - 'A'
	case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		return c
	}
	return '-'
}

// maxFolded bounds the names that are compared by map; longer ones match by prefix alone.
const maxFolded = 64

// ours reports whether a name, in any spelling, is one that tenantgate alone sets.
func (n *headerNames) ours(name string) bool {
	var buf [maxFolded]byte
	k := min(len(name), maxFolded)
	for i := range k {
		buf[i] = foldByte(name[i])
	}
	folded := buf[:k]
	for _, p := range ourPrefixes {
		if len(folded) >= len(p) && string(folded[:len(p)]) == p {
			return true
		}
	}
	return len(name) <= maxFolded && n.protected[string(folded)]
}

// stripRequest removes from h everything that a client must not be able to say: our headers, what hops say of
// themselves, and method overrides unless they pass.
func (n *headerNames) stripRequest(h http.Header, overridesPass bool) {
	for name := range h {
		if n.ours(name) {
			delete(h, name)
			continue
		}
		var buf [maxFolded]byte
		k := min(len(name), maxFolded)
		for i := range k {
			buf[i] = foldByte(name[i])
		}
		folded := buf[:k]
		if c := folded[0]; c != 'x' && c != 'f' && c != 't' {
			continue
		}
		hop := len(folded) >= len(hopPrefix) && string(folded[:len(hopPrefix)]) == hopPrefix
		if hop || len(name) <= maxFolded && (hopNames[string(folded)] || !overridesPass && overrideNames[string(folded)]) {
			delete(h, name)
		}
	}
}

// stripResponse removes our names from what the app answers, so that a reflected URI goes no further (LEAK-4).
func (n *headerNames) stripResponse(h http.Header) {
	for name := range h {
		if n.ours(name) {
			delete(h, name)
		}
	}
}

// encoded holds the header values of a record that do not depend on the moment.
type encoded struct {
	tenantID, userID, email, role, profileID string
}

func encodeRecord(r *Record) encoded {
	e := encoded{
		tenantID: encodeValue(string(r.tenant.ID)), userID: encodeValue(string(r.user.ID)),
		email: encodeValue(r.user.Email), role: encodeValue(r.membership.Role),
		profileID: encodeValue(r.membership.ProfileID),
	}
	return e
}

// encodeValue percent-encodes every byte outside 0x21-0x7E, and "%" itself, so that a value is one visible token.
func encodeValue(s string) string {
	return encodeExcept(s, 0)
}

// encodeExcept also encodes the byte `also`, unless it is 0.
func encodeExcept(s string, also byte) string {
	n := 0
	for i := 0; i < len(s); i++ {
		if mustEncode(s[i], also) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+2*n)
	for i := 0; i < len(s); i++ {
		c := s[i]
		if mustEncode(c, also) {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
			continue
		}
		b = append(b, c)
	}
	return string(b)
}

func mustEncode(c, also byte) bool {
	return c < 0x21 || c > 0x7E || c == '%' || also != 0 && c == also
}

// encodeFeatures joins feature keys in order, duplicates removed, "," inside a key as %2C.
func encodeFeatures(features []string) string {
	var b strings.Builder
	seen := make(map[string]bool, len(features))
	for _, f := range features {
		if f == "" || seen[f] {
			continue
		}
		seen[f] = true
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(encodeExcept(f, ','))
	}
	return b.String()
}

// setter sets headers to exactly one value each, all in one allocation. Names must be canonical.
type setter struct {
	header http.Header
	values []string // with room for all
}

// one sets a header; an empty value leaves it absent.
func (s *setter) one(name, value string) {
	if value == "" {
		return
	}
	s.values = append(s.values, value)
	n := len(s.values)
	s.header[name] = s.values[n-1 : n : n]
}

// setUser sets the headers of a person without a tenant.
func (n *headerNames) setUser(s *setter, u User) {
	s.one(n.userID, encodeValue(string(u.ID)))
	s.one(n.email, encodeValue(u.Email))
}

// setGrant sets the headers of section 4.
func (n *headerNames) setGrant(s *setter, g *Grant, withURI bool) {
	s.one(n.tenantID, g.enc.tenantID)
	if withURI {
		s.one(n.dbURI, g.DBURI().Reveal())
	}
	s.one(n.plan, encodeValue(g.Plan.Key))
	s.one(n.features, g.features)
	s.one(n.status, encodeValue(g.Subscription.Status))
	s.one(n.userID, g.enc.userID)
	s.one(n.email, g.enc.email)
	s.one(n.role, g.enc.role)
	s.one(n.profileID, g.enc.profileID)
}
