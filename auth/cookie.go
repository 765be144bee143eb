package auth

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Names of our cookies. The __Host- prefix (RFC 6265bis 4.1.3.2) makes browsers keep them to one host, path / and TLS;
// plain names are for http public URLs, which are this machine alone. Of the two spellings only one is ever read.
const (
	hostPrefix    = "__Host-"
	sessionCookie = "tg_session"
	adminCookie   = "tg_admin"
	flowCookie    = "tg_flow_"
	// adminFlowCookie has a name of its own: on one machine the admin listener shares its cookies with public_url.
	adminFlowCookie = "tg_admin_flow_"
)

// maxOurCookies bounds how many cookies of our name one request has tried; a browser sends one, or two after tossing.
const maxOurCookies = 4

const (
	sessionIDBytes     = 16
	sessionSecretBytes = 32
	tokenBytes         = sessionIDBytes + sessionSecretBytes
	tokenChars         = tokenBytes / 3 * 4 // base64url without padding
)

// cookieNames are the names that are read and set under this public_url.
type cookieNames struct {
	session, flow string
	secure        bool
}

func namesFor(secure bool) cookieNames {
	if secure {
		return cookieNames{hostPrefix + sessionCookie, hostPrefix + flowCookie, true}
	}
	return cookieNames{sessionCookie, flowCookie, false}
}

// sessionKey is the public part of a token: sessions.id as bytes.
type sessionKey [sessionIDBytes]byte

// sessionToken is what the cookie holds: id and secret.
type sessionToken [tokenBytes]byte

func (t *sessionToken) key() sessionKey { return sessionKey(t[:sessionIDBytes]) }

// encode is the cookie's value. It is no String method: a token must not print itself.
func (t sessionToken) encode() string { return encodeSextets(t[:]) }

func newSessionToken() sessionToken {
	var t sessionToken
	_, _ = rand.Read(t[:]) // never fails, see crypto/rand
	return t
}

// parseToken reads a cookie's value: exactly 64 characters of base64url, nothing trimmed (CK-1, FAIL-2). The length
// leaves no spare bits, so that a token has one spelling.
func parseToken(value string) (t sessionToken, ok bool) {
	if len(value) != tokenChars {
		return t, false
	}
	if !decodeSextets(t[:], value) {
		return sessionToken{}, false
	}
	return t, true
}

// decodeSextets decodes text of a length divisible by four, without spare bits, into as many bytes as that makes.
func decodeSextets(into []byte, text string) bool {
	var all byte
	for len(text) >= 4 && len(into) >= 3 {
		a, b, c, d := sextets[text[0]], sextets[text[1]], sextets[text[2]], sextets[text[3]]
		all |= a | b | c | d
		into[0], into[1], into[2] = a<<2|b>>4, b<<4|c>>2, c<<6|d
		text, into = text[4:], into[3:]
	}
	return all&noSextet == 0
}

func encodeSextets(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// noSextet marks what is no character of base64url; no value of one has this bit.
const noSextet = 0x80

// sextets maps base64url's characters to their values. Every request with a session decodes one token, in a fraction
// of the time of encoding/base64, which looks for line ends and spare bits that cannot be here.
var sextets = func() (table [256]byte) {
	for i := range table {
		table[i] = noSextet
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
		table[c] = byte(i)
	}
	return table
}()

// nextCookie cuts the first pair off a Cookie header's value: names and values as they stand, without the spaces and
// tabs around a pair. Quotes mean nothing, as in browsers (RFC 6265 5.4).
func nextCookie(header string) (name, value, rest string) {
	pair, rest, _ := strings.Cut(header, ";")
	name, value, _ = strings.Cut(strings.Trim(pair, " \t"), "=")
	return name, value, rest
}

// sessionTokens finds the cookies of that name. n counts them, good or not; list holds those that could be tokens.
func sessionTokens(cookies []string, name string) (list [maxOurCookies]sessionToken, good, n int) {
	for _, header := range cookies {
		for header != "" {
			var key, value string
			key, value, header = nextCookie(header)
			if key != name {
				continue
			}
			n++
			if t, ok := parseToken(value); ok && good < maxOurCookies {
				list[good] = t
				good++
			}
		}
	}
	return list, good, n
}

// isOurs reports whether a cookie's name is one of tenantgate's, in either spelling.
func isOurs(name string) bool {
	name = strings.TrimPrefix(name, hostPrefix)
	return name == sessionCookie || name == adminCookie || strings.HasPrefix(name, flowCookie) ||
		strings.HasPrefix(name, adminFlowCookie)
}

// StripCookies removes tenantgate's cookies, in both spellings, from the Cookie headers that go on to the app. Other
// cookies stay byte for byte; a header that is left empty goes.
func (a *Auth) StripCookies(h http.Header) {
	values := h["Cookie"]
	kept := values[:0:0]
	changed := false
	for _, v := range values {
		clean := stripOurs(v)
		changed = changed || len(clean) != len(v)
		if clean != "" || v == "" {
			kept = append(kept, clean)
		}
	}
	switch {
	case !changed:
	case len(kept) == 0:
		delete(h, "Cookie")
	default:
		h["Cookie"] = kept
	}
}

// stripOurs removes our pairs from one value. Names are compared without the white space around them, as lenient
// servers read them, so that no spelling of a token reaches the app.
func stripOurs(header string) string {
	if !strings.Contains(header, "tg_") {
		return header
	}
	var kept []string
	found := false
	for _, pair := range strings.Split(header, ";") {
		name, _, _ := strings.Cut(pair, "=")
		if isOurs(strings.TrimSpace(name)) {
			found = true
			continue
		}
		kept = append(kept, pair)
	}
	if !found {
		return header
	}
	return strings.TrimLeft(strings.Join(kept, ";"), " \t")
}

// setCookie appends a Set-Cookie that no script reads and no other host gets. maxAge is in whole seconds, rounded
// down: a cookie never outlives what it stands for. 0 or less deletes it.
func setCookie(w http.ResponseWriter, name, value string, secure bool, maxAge time.Duration) {
	var b strings.Builder
	b.WriteString(name + "=" + value + "; Path=/; Max-Age=" + strconv.FormatInt(int64(max(maxAge, 0)/time.Second), 10) + "; HttpOnly")
	if secure {
		b.WriteString("; Secure")
	}
	b.WriteString("; SameSite=Lax")
	w.Header().Add("Set-Cookie", b.String())
}

// ClearSession tells a browser that asked host to forget the session cookie, in both spellings. On http, where the name
// protects nothing, also one that was set for the whole of a parent domain (CK-1).
func (a *Auth) ClearSession(w http.ResponseWriter, host string) {
	ClearSession(w, host, a.names.secure)
}

// ClearSession is Auth.ClearSession where there is no Auth yet; secure: public_url is https.
func ClearSession(w http.ResponseWriter, host string, secure bool) {
	setCookie(w, hostPrefix+sessionCookie, "", true, 0)
	setCookie(w, sessionCookie, "", false, 0)
	if secure {
		return
	}
	host = normalHost(host)
	if _, err := netip.ParseAddr(host); err == nil {
		return
	}
	for strings.Contains(host, ".") {
		w.Header().Add("Set-Cookie", sessionCookie+"=; Path=/; Domain="+host+"; Max-Age=0; HttpOnly; SameSite=Lax")
		_, host, _ = strings.Cut(host, ".")
	}
}

// ClearAdminSession tells a browser to forget the admin listener's session cookie, in both spellings.
func ClearAdminSession(w http.ResponseWriter) {
	setCookie(w, hostPrefix+adminCookie, "", true, 0)
	setCookie(w, adminCookie, "", false, 0)
}
