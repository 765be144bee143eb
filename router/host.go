package router

import (
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// Host is the authority that a request was sent to, in its one normal form.
type Host struct {
	// Name is lower case, IDNA-ASCII, without a trailing dot; an IPv6 literal keeps its brackets.
	Name string
	// Port is empty where the request named none.
	Port string

	text string // both, as String returns them; "" where nobody has put them together
}

// String returns name or name:port.
func (h Host) String() string {
	switch {
	case h.Port == "":
		return h.Name
	case h.text != "":
		return h.text
	}
	return h.Name + ":" + h.Port
}

// spelled keeps s where it is the normal form already, so that String need not build it.
func (h Host) spelled(s string) Host {
	if h.Port != "" && len(s) == len(h.Name)+1+len(h.Port) && s[:len(h.Name)] == h.Name && s[len(h.Name)+1:] == h.Port {
		h.text = s
	}
	return h
}

// ParseHost reads a Host header or an authority (RFC 9110 7.2). It refuses what is missing or malformed: user
// information, several values, empty or overlong labels, bytes outside letters, digits, "-", "_" and ".", a bad port,
// and xn-- labels that do not decode or that decode to plain ASCII, which would be a second spelling of one name.
func ParseHost(s string) (Host, bool) {
	name, port, ok := splitPort(s)
	if !ok || name == "" || len(name) > 254 {
		return Host{}, false
	}
	if name[0] == '[' {
		addr, err := netip.ParseAddr(name[1 : len(name)-1])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return Host{}, false
		}
		return Host{Name: "[" + addr.String() + "]", Port: port}.spelled(s), true
	}
	name = lowerASCII(strings.TrimSuffix(name, "."))
	for rest, more := name, true; more; {
		var label string
		label, rest, more = strings.Cut(rest, ".")
		if !labelOK(label) {
			return Host{}, false
		}
	}
	return Host{Name: name, Port: port}.spelled(s), true
}

// splitPort cuts ":port" off and checks it. Brackets must surround an IPv6 literal and nothing else.
func splitPort(s string) (name, port string, ok bool) {
	at := strings.LastIndexByte(s, ':')
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", "", false
		}
		if end == len(s)-1 {
			return s, "", true
		}
		if s[end+1] != ':' {
			return "", "", false
		}
		at = end + 1
	}
	if at < 0 {
		return s, "", true
	}
	name, port = s[:at], s[at+1:]
	if port == "" {
		return name, "", true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '+' {
		return "", "", false
	}
	return name, strconv.FormatUint(n, 10), true
}

func labelOK(label string) bool {
	if label == "" || len(label) > 63 {
		return false
	}
	for i := 0; i < len(label); i++ {
		c := label[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	if !strings.HasPrefix(label, "xn--") {
		return true
	}
	decoded, err := idna.Lookup.ToUnicode(label)
	if err != nil || decoded == label {
		return false
	}
	for i := 0; i < len(decoded); i++ {
		if decoded[i] >= 0x80 {
			return true
		}
	}
	return false
}

// lowerASCII folds A-Z only; it returns s itself where nothing changes.
func lowerASCII(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// sameAuthority compares two authorities under a scheme, whose default port may be absent in either.
func sameAuthority(scheme string, a, b Host) bool {
	return a.Name == b.Name && effectivePort(scheme, a.Port) == effectivePort(scheme, b.Port)
}

func effectivePort(scheme, port string) string {
	switch {
	case port != "":
		return port
	case scheme == "https":
		return "443"
	}
	return "80"
}
