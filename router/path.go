package router

import (
	"strings"
)

// Path is a request path in the one form that is judged and forwarded: percent-encoded, unreserved octets decoded
// (RFC 3986 6.2.2.2), hex digits in upper case, without dot segments, empty segments, backslashes or control bytes.
type Path struct {
	escaped      string
	encodedSlash bool // has %2F
	parameters   bool // has ; or %3B
}

// String returns the escaped path.
func (p Path) String() string { return p.escaped }

// ambiguous reports whether a server could read the path in more than one way, which only a route's flag permits.
func (p Path) ambiguous() bool { return p.encodedSlash || p.parameters }

const upperHex = "0123456789ABCDEF"

// ParsePath reads the path of a request target in escaped form. It returns false for what two servers could read
// differently whatever the route: a path that does not begin with "/", invalid escapes, backslash, NUL and other
// control bytes, dot segments in any encoding, empty segments, and overlong UTF-8. Encoded slashes and path parameters
// are noted for the route to decide on.
func ParsePath(escaped string) (Path, bool) {
	if escaped == "" || escaped[0] != '/' {
		return Path{}, false
	}
	if plainPath(escaped) {
		return Path{escaped: escaped}, true
	}
	p, ok := canonicalPath(escaped)
	if !ok || !segmentsOK(p.escaped) {
		return Path{}, false
	}
	for _, reading := range p.readings() {
		if !segmentsOK(reading) {
			return Path{}, false
		}
	}
	return p, true
}

// plainPath reports whether s needs no work at all: the common case, kept free of allocations.
func plainPath(s string) bool {
	prev := byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !pathOctet[c] || c == ';' || prev == '/' && (c == '/' || c == '.') {
			return false
		}
		prev = c
	}
	return true
}

// canonicalPath decodes unreserved octets, encodes what a path may not hold raw and refuses what is never data.
func canonicalPath(s string) (Path, bool) {
	var p Path
	var b strings.Builder
	var utf overlong
	b.Grow(len(s) + 8)
	for i := 0; i < len(s); i++ {
		c, encoded := s[i], false
		if c == '%' {
			if i+2 >= len(s) {
				return Path{}, false
			}
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi < 0 || lo < 0 {
				return Path{}, false
			}
			c, encoded = byte(hi<<4|lo), true
			i += 2
		}
		if c < 0x20 || c == 0x7f || c == '\\' || (c == ' ' || c == '#' || c == '?') && !encoded || utf.refuses(c) {
			return Path{}, false
		}
		switch {
		case c == ';':
			p.parameters = true
		case c == '/' && encoded:
			p.encodedSlash = true
		}
		if unreserved(c) || !encoded && pathOctet[c] {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upperHex[c>>4])
		b.WriteByte(upperHex[c&15])
	}
	p.escaped = b.String()
	return p, true
}

// overlong recognises UTF-8 that spells a character in more bytes than it needs (or with bytes that UTF-8 never has):
// lax decoders read %C0%AF as "/". Other invalid UTF-8, such as Latin-1, is data.
type overlong struct{ prev byte }

func (o *overlong) refuses(c byte) bool {
	prev := o.prev
	o.prev = c
	switch {
	case c == 0xC0, c == 0xC1:
		return true
	case prev == 0xE0 && c >= 0x80 && c < 0xA0:
		return true
	case prev == 0xF0 && c >= 0x80 && c < 0x90:
		return true
	}
	return false
}

// readings returns every way in which a server might read an ambiguous path, the path itself first: %2F kept and as
// "/", parameters kept and cut. A path that is not ambiguous has one.
func (p Path) readings() []string {
	out := []string{p.escaped}
	if p.encodedSlash {
		out = append(out, strings.ReplaceAll(p.escaped, "%2F", "/"))
	}
	if p.parameters {
		for _, s := range out[:len(out):len(out)] {
			out = append(out, cutParameters(s))
		}
	}
	return out
}

// matchForm is the spelling that rules are compared in: octets that may stand in a path raw or encoded (":", "@", "+" …)
// stand raw, because app servers decode them before they look. It is never forwarded.
func matchForm(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' && i+2 < len(s) {
			if d := byte(unhex(s[i+1])<<4 | unhex(s[i+2])); pathOctet[d] && d != '/' && d != ';' {
				c, i = d, i+2
			}
		}
		b = append(b, c)
	}
	return string(b)
}

// cutParameters removes from each segment what follows ";" or "%3B".
func cutParameters(s string) string {
	segments := strings.Split(s, "/")
	for i, seg := range segments {
		if at := strings.IndexByte(seg, ';'); at >= 0 {
			seg = seg[:at]
		}
		if at := strings.Index(seg, "%3B"); at >= 0 {
			seg = seg[:at]
		}
		segments[i] = seg
	}
	return strings.Join(segments, "/")
}

// segmentsOK reports whether no segment is empty (but for the last), "." or "..".
func segmentsOK(s string) bool {
	for i := 0; i < len(s); {
		end := strings.IndexByte(s[i+1:], '/')
		last := end < 0
		if last {
			end = len(s) - i - 1
		}
		seg := s[i+1 : i+1+end]
		if seg == "." || seg == ".." || seg == "" && !last {
			return false
		}
		i += 1 + end
	}
	return true
}

// cutPrefix splits /t/NAME/rest for the prefix "/t/". The name is the decoded segment; the rest begins with "/".
// It returns ok false where the path is not below the prefix or names nothing, and bad true where the name itself
// could be read in two ways.
func (p Path) cutPrefix(prefix string) (name string, rest Path, ok, bad bool) {
	tail, below := strings.CutPrefix(p.escaped, prefix) // a prefix is made of octets that have one spelling
	if !below || tail == "" {
		return "", Path{}, false, false
	}
	seg, after, _ := strings.Cut(tail, "/")
	if seg == "" {
		return "", Path{}, false, false
	}
	name, valid := unescapeSegment(seg)
	if !valid {
		return "", Path{}, false, true
	}
	rest, valid = ParsePath("/" + after)
	if !valid {
		return "", Path{}, false, true
	}
	return name, rest, true, false
}

// unescapeSegment decodes a canonical segment and refuses one whose name holds a slash or a parameter.
func unescapeSegment(seg string) (string, bool) {
	if strings.IndexByte(seg, ';') >= 0 {
		return "", false
	}
	if strings.IndexByte(seg, '%') < 0 {
		return seg, true
	}
	b := make([]byte, 0, len(seg))
	for i := 0; i < len(seg); i++ {
		c := seg[i]
		if c == '%' {
			c = byte(unhex(seg[i+1])<<4 | unhex(seg[i+2]))
			i += 2
		}
		if c == '/' || c == ';' {
			return "", false
		}
		b = append(b, c)
	}
	return string(b), true
}

// ownPath reports whether the path is tenantgate's own: /_gate or below it, in any case, so that no spelling of it
// reaches the app.
func ownPath(s string) bool {
	const own = "/_gate"
	return len(s) >= len(own) && strings.EqualFold(s[:len(own)], own) && (len(s) == len(own) || s[len(own)] == '/')
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// pathOctet says which bytes stand raw in a canonical path: pchar of RFC 3986 3.3 without "%", "/" and the square
// brackets that net/url forwards as they are.
var pathOctet = func() (t [256]bool) {
	for c := range t {
		t[c] = unreserved(byte(c)) || strings.IndexByte("/!$&'()*+,;=:@[]", byte(c)) >= 0
	}
	return t
}()
