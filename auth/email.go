package auth

import (
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

const maxEmail = 254 // RFC 5321 4.5.3.1.3, without the brackets

// emailDomain reads an address strictly (ID-1): one @, an unquoted local part of ASCII letters, digits and the marks of
// RFC 5322 3.2.3, a domain of two labels or more. It returns the domain in lower-case ASCII. Whatever two programs
// could read as different addresses is not ok.
func emailDomain(address string) (domain string, ok bool) {
	if len(address) > maxEmail || strings.Count(address, "@") != 1 {
		return "", false
	}
	local, rest, _ := strings.Cut(address, "@")
	if local == "" || len(local) > 64 || local[0] == '.' || local[len(local)-1] == '.' || strings.Contains(local, "..") {
		return "", false
	}
	for i := range len(local) {
		if !isAtext(local[i]) && local[i] != '.' {
			return "", false
		}
	}
	return asciiDomain(rest)
}

func isAtext(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// asciiDomain is a domain name in lower-case ASCII (IDNA 2008, lookup rules).
func asciiDomain(s string) (string, bool) {
	if s == "" || len(s) > maxHost {
		return "", false
	}
	d, err := idna.Lookup.ToASCII(s)
	if err != nil || !isDomainName(d) || strings.Contains(d, "_") {
		return "", false
	}
	return d, true
}

// verifiedAddress is the address that an ID token vouches for: email_verified is JSON true and the address reads as
// one. "" otherwise.
func verifiedAddress(claims object) (address, domain string) {
	if !claims.isTrue("email_verified") {
		return "", ""
	}
	address, ok := claims.text("email")
	if !ok {
		return "", ""
	}
	if domain, ok = emailDomain(address); !ok {
		return "", ""
	}
	return address, domain
}

// admitsDomain reports whether email_domains lets a verified address of that domain in; without a limit all, verified
// or not.
func (p *provider) admitsDomain(domain string) bool {
	return len(p.domains) == 0 || (domain != "" && slices.Contains(p.domains, domain))
}
