package demoapp

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// visit is what one request is about, for the pages.
type visit struct {
	Prefix       string // of links, "" or /t/acme
	Path         string // as the app received it
	Page         string // which of pages/
	Email        string
	UserID       string
	Role         string
	Tenant       string
	Plan         string
	Features     []string
	Subscription string
	Headers      []pair
	Claims       []pair
	Books        *books
}

type pair struct{ Name, Value, Note string }

func newVisit(r *http.Request, token string, now time.Time) (*visit, error) {
	claims, err := readClaims(token, now)
	if err != nil {
		return nil, err
	}
	h := r.Header
	v := &visit{
		Prefix:       prefixOf(r),
		Path:         r.URL.Path,
		Email:        decode(h.Get("X-User-Email")),
		UserID:       decode(h.Get("X-User-Id")),
		Role:         decode(h.Get("X-User-Role")),
		Tenant:       decode(h.Get("X-Tenant-Id")),
		Plan:         decode(h.Get("X-Tenant-Plan")),
		Subscription: decode(h.Get("X-Subscription-Status")),
		Headers:      received(h),
		Claims:       claims,
	}
	for feature := range strings.SplitSeq(h.Get("X-Tenant-Features"), ",") {
		if feature != "" {
			v.Features = append(v.Features, decode(feature))
		}
	}
	return v, nil
}

// Source is what says where the page's rows are, of all that came.
func (v *visit) Source() []pair {
	return slices.DeleteFunc(slices.Clone(v.Headers), func(p pair) bool {
		return p.Name != headerDBURI && p.Name != headerAssertion && p.Name != "X-Tenant-Id"
	})
}

// Who is how the page names the person.
func (v *visit) Who() string {
	if v.Email != "" {
		return v.Email
	}
	return v.UserID
}

// decode undoes the proxy's percent-encoding (CONTRACT: bytes outside 0x21 to 0x7E and %); what is no such encoding is
// shown as it came.
func decode(s string) string {
	if out, err := url.PathUnescape(s); err == nil {
		return out
	}
	return s
}

// prefixOf is the path below which this app stands for the browser. Anything that is not a plain path is ignored: links
// must not lead elsewhere.
func prefixOf(r *http.Request) string {
	prefix := strings.TrimSuffix(r.Header.Get(headerPrefix), "/")
	if len(prefix) > 256 || !strings.HasPrefix(prefix, "/") || strings.Contains(prefix, "//") {
		return ""
	}
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("/-._~%", c)
	}
	if strings.ContainsFunc(prefix, func(c rune) bool { return !plain(c) }) {
		return ""
	}
	return prefix
}

// received lists the X- headers and the trace context, credentials left out: a database URI is redacted, an assertion
// shortened to less than its signature.
func received(h http.Header) []pair {
	var out []pair
	for name, values := range h {
		if !strings.HasPrefix(name, "X-") && name != "Traceparent" {
			continue
		}
		for _, value := range values {
			p := pair{Name: name, Value: value}
			switch name {
			case headerDBURI:
				p.Value, p.Note = shownURI(value), "shown without credentials"
			case headerAssertion:
				p.Value, p.Note = value[:min(len(value), 24)]+"…", fmt.Sprintf("%d bytes, verified", len(value))
			}
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b pair) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// shownURI shows a SQLite path, which is no secret, and of any other URI what catalog.DBURI shows.
func shownURI(uri string) string {
	if path, err := sqlitePath(uri); err == nil {
		return "sqlite:" + path
	}
	return catalog.NewDBURI(uri).String()
}

// readClaims lists the claims of an assertion that has been verified, times with what is left of them.
func readClaims(token string, now time.Time) ([]pair, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("the assertion is not a compact JWS")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, errors.New("the assertion's payload is not base64url")
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		return nil, errors.New("the assertion's payload is not JSON")
	}
	order := []string{"iss", "aud", "sub", "email", "tenant", "role", "profile", "plan", "subscription", "db_uri_sha256", "iat", "exp"}
	var out []pair
	for _, name := range order {
		if value, ok := claims[name]; ok {
			out = append(out, claim(name, value, now))
			delete(claims, name)
		}
	}
	rest := make([]pair, 0, len(claims))
	for name, value := range claims {
		rest = append(rest, claim(name, value, now))
	}
	slices.SortFunc(rest, func(a, b pair) int { return strings.Compare(a.Name, b.Name) })
	return append(out, rest...), nil
}

func claim(name string, value any, now time.Time) pair {
	p := pair{Name: name}
	switch v := value.(type) {
	case string:
		p.Value = v
	case float64:
		p.Value = fmt.Sprintf("%.0f", v)
		at := time.Unix(int64(v), 0).UTC()
		switch name {
		case "iat":
			p.Note = fmt.Sprintf("%s, %s ago", at.Format(time.TimeOnly), now.Sub(at).Round(time.Second))
		case "exp":
			p.Note = fmt.Sprintf("%s, in %s", at.Format(time.TimeOnly), at.Sub(now).Round(time.Second))
		}
	default:
		text, err := json.Marshal(v)
		if err != nil {
			text = []byte("?")
		}
		p.Value = string(text)
	}
	if name == "db_uri_sha256" {
		p.Note = "is that of " + headerDBURI
	}
	return p
}
