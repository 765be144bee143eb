package telemetry

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Redacted stands where a secret was.
const Redacted = "***"

// wordSecret is the length below which a registered secret is replaced only where it stands alone: two letters of it
// inside every other word would tell nothing and make the log unreadable.
const wordSecret = 6

// Redactor replaces what looks like a credential, and every registered secret, in any text: passwords in URIs' userinfo
// and in key=value form, Authorization and Cookie lines, JWTs, tokens that begin with tg_ or tga_, and values of
// tenantgate's cookies. It prefers hiding too much. Safe for concurrent use.
type Redactor struct {
	mu      sync.Mutex
	secrets []string
	known   atomic.Pointer[registered]
}

// registered is what the secrets known so far compile to; immutable.
type registered struct {
	anywhere *strings.Replacer // nil: none
	lines    *strings.Replacer // those that may be replaced in a finished line without breaking its JSON
	words    []string
	numeric  bool // some secret could be printed by a number
}

// NewRedactor makes a redactor that knows patterns alone.
func NewRedactor() *Redactor { return &Redactor{} }

// Add registers a secret, with the spellings in which Go and others may print it: percent-encoded, decoded, quoted and
// in base64. If it is a URI its password is registered too. The empty text is no secret.
func (r *Redactor) Add(secret string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.secrets)
	for _, s := range spellings(secret) {
		if s != "" && !slices.Contains(r.secrets, s) {
			r.secrets = append(r.secrets, s)
		}
	}
	if len(r.secrets) == before {
		return
	}
	// The longest first: of two secrets that begin alike the longer one must be hidden whole.
	slices.SortFunc(r.secrets, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	next := &registered{}
	var anywhere, lines []string
	for _, s := range r.secrets {
		if len(s) < wordSecret {
			next.words = append(next.words, s)
		} else {
			anywhere = append(anywhere, s, Redacted)
			if !numberLike(s) && json.Valid([]byte(`"`+s+`"`)) {
				lines = append(lines, s, Redacted)
			}
		}
		next.numeric = next.numeric || numberLike(s)
	}
	if len(anywhere) > 0 {
		next.anywhere = strings.NewReplacer(anywhere...)
	}
	if len(lines) > 0 {
		next.lines = strings.NewReplacer(lines...)
	}
	r.known.Store(next)
}

// spellings of a secret, and of its password if it is a URI.
func spellings(secret string) []string {
	if strings.TrimSpace(secret) == "" {
		return nil
	}
	all := spell(nil, secret)
	if _, rest, ok := strings.Cut(secret, "://"); ok {
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			if _, password, ok := strings.Cut(rest[:at], ":"); ok && password != "" {
				all = spell(all, password)
			}
		}
		if _, query, ok := strings.Cut(rest, "?"); ok {
			values, _ := url.ParseQuery(query)
			for _, key := range []string{"password", "sslpassword"} {
				for _, v := range values[key] {
					all = spell(all, v)
				}
			}
		}
	}
	return all
}

func spell(all []string, s string) []string {
	plain := []string{s}
	if d, err := url.PathUnescape(s); err == nil {
		plain = append(plain, d)
	}
	if d, err := url.QueryUnescape(s); err == nil {
		plain = append(plain, d)
	}
	for _, p := range plain {
		quoted := strconv.Quote(p)
		all = append(all, p, url.QueryEscape(p), url.PathEscape(p), url.UserPassword("", p).String()[1:], quoted[1:len(quoted)-1])
		if j, err := json.Marshal(p); err == nil {
			all = append(all, string(j[1:len(j)-1]))
		}
		all = append(all, string(appendJSON(nil, p)))
		if len(p) >= wordSecret {
			all = append(all, base64.StdEncoding.EncodeToString([]byte(p)), base64.RawURLEncoding.EncodeToString([]byte(p)))
		}
	}
	return all
}

func numberLike(s string) bool {
	return strings.Trim(s, "0123456789.+-eE") == ""
}

// String returns s without what looks like a credential. It returns s itself, without allocating, where nothing does.
func (r *Redactor) String(s string) string {
	s = r.exact(s)
	if !suspicious(s) {
		return s
	}
	s = redactURIs(s)
	s = redactRuns(s)
	return redactNamed(s)
}

// exact replaces the registered secrets.
func (r *Redactor) exact(s string) string {
	known := r.known.Load()
	if known == nil || s == "" {
		return s
	}
	if known.anywhere != nil {
		s = known.anywhere.Replace(s)
	}
	for _, w := range known.words {
		if strings.Contains(s, w) {
			s = replaceWord(s, w)
		}
	}
	return s
}

// finished replaces the registered secrets in a line of JSON or text that is complete.
func (r *Redactor) finished(line string) string {
	known := r.known.Load()
	if known == nil || known.lines == nil {
		return line
	}
	return known.lines.Replace(line)
}

// replaceWord replaces w where no letter or digit touches it.
func replaceWord(s, w string) string {
	var b strings.Builder
	rest, before := s, byte(0)
	for {
		i := strings.Index(rest, w)
		if i < 0 {
			b.WriteString(rest)
			return b.String()
		}
		if i > 0 {
			before = rest[i-1]
		}
		end := i + len(w)
		alone := !isWord(before) && (end == len(rest) || !isWord(rest[end]))
		b.WriteString(rest[:i])
		if alone {
			b.WriteString(Redacted)
		} else {
			b.WriteString(w)
		}
		before = rest[end-1]
		rest = rest[end:]
	}
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// suspicious is the cheap test that most texts fail: no pattern below can match a text without one of these marks.
func suspicious(s string) bool {
	run := 0
	for i := range len(s) {
		switch c := s[i]; {
		case isToken(c):
			run++
			if run >= minRun || c == '_' && i >= 2 && (s[i-1] == 'g' || s[i-1] == 'a') {
				return true
			}
		case c == ':' || c == '=' || c == ' ' || c == '.' && run >= minJWTHeader:
			return true
		default:
			run = 0
		}
	}
	return false
}

// redactURIs hides the password of every scheme://user:password@host. Broken URIs are the ones that error texts quote,
// so a password may hold any character: it ends at the last @ before the next URI.
func redactURIs(s string) string {
	at := strings.Index(s, "://")
	if at < 0 {
		return s
	}
	var b strings.Builder
	for at >= 0 {
		scheme := schemeBefore(s[:at])
		b.WriteString(s[:at+3])
		rest := s[at+3:]
		end, next := len(rest), strings.Index(rest, "://")
		if next >= 0 {
			end = next - len(schemeBefore(rest[:next]))
		}
		b.WriteString(redactUserinfo(scheme, rest[:end]))
		if next < 0 {
			return b.String()
		}
		s, at = rest[end:], next-end
	}
	return b.String()
}

// schemeBefore is the URI scheme (RFC 3986 section 3.1) that s ends with.
func schemeBefore(s string) string {
	i := len(s)
	for i > 0 && (isWord(s[i-1]) || s[i-1] == '+' || s[i-1] == '-' || s[i-1] == '.') {
		i--
	}
	return s[i:]
}

// redactUserinfo works on what stands between one :// and the next URI.
func redactUserinfo(scheme, s string) string {
	if line := strings.IndexAny(s, "\r\n"); line >= 0 {
		return redactUserinfo(scheme, s[:line]) + s[line:]
	}
	limit := len(s)
	if web(scheme) {
		// Paths and queries of the web hold @ and : often, passwords of web URIs hardly ever anything unescaped.
		if i := strings.IndexAny(s, "/?# \t\"'<>"); i >= 0 {
			limit = i
		}
	}
	end := strings.LastIndexByte(s[:limit], '@')
	colon := strings.IndexByte(s, ':')
	if end < 0 || colon < 0 || colon > end {
		return s
	}
	return s[:colon+1] + Redacted + s[end:]
}

func web(scheme string) bool {
	switch strings.ToLower(scheme) {
	case "http", "https", "ws", "wss", "h2c":
		return true
	default:
		return false
	}
}

// Lengths that tell a credential from a word.
const (
	minRun       = 43 // 32 random bytes in base64url
	sessionRun   = 64 // 48 random bytes in base64url
	minJWTHeader = 10
	minToken     = 16 // what follows tg_ in an API token
)

// redactRuns hides JWTs, API tokens and bare random tokens: runs of base64url characters that look like one.
func redactRuns(s string) string {
	var b []byte
	done := 0
	for i := 0; i < len(s); {
		if !isToken(s[i]) {
			i++
			continue
		}
		end := i
		for end < len(s) && isToken(s[end]) {
			end++
		}
		from, to := credential(s, i, end)
		if to > from {
			b = append(b, s[done:from]...)
			b = append(b, Redacted...)
			done, end = to, to
		}
		i = end
	}
	if b == nil {
		return s
	}
	return string(append(b, s[done:]...))
}

// credential says which part of s, beginning in the run s[i:end], is a credential; to == from: none.
func credential(s string, i, end int) (from, to int) {
	run := s[i:end]
	if end < len(s) && s[end] == '.' && jwtHeader(run) {
		for end < len(s) && (isToken(s[end]) || s[end] == '.') {
			end++
		}
		return i, end
	}
	for _, prefix := range []string{"tg_", "tga_"} {
		at := strings.Index(run, prefix)
		if at >= 0 && (at == 0 || !isWord(run[at-1])) && len(run)-at-len(prefix) >= minToken {
			return i + at + len(prefix), end
		}
	}
	if (len(run) == minRun || len(run) == sessionRun) && random(run) {
		return i, end
	}
	return i, i
}

// jwtHeader reports whether a run decodes to the beginning of a JSON object, as a JOSE header does (RFC 7515).
func jwtHeader(run string) bool {
	if len(run) < minJWTHeader || run[0] != 'e' {
		return false
	}
	head, err := base64.RawURLEncoding.DecodeString(run[:min(len(run), 32)&^3])
	return err == nil && strings.HasPrefix(strings.TrimLeft(string(head[1:]), " \t\r\n"), `"`) && head[0] == '{'
}

// random tells random base64url from hex digests, words and numbers: it has digits and both cases.
func random(run string) bool {
	var lower, upper, digit bool
	for i := range len(run) {
		c := run[i]
		lower = lower || c >= 'a' && c <= 'z'
		upper = upper || c >= 'A' && c <= 'Z'
		digit = digit || c >= '0' && c <= '9'
	}
	return lower && upper && digit
}

func isToken(c byte) bool { return isWord(c) || c == '-' || c == '_' }

// redactNamed hides what stands behind a name that says it is secret.
func redactNamed(s string) string {
	s = headerLine().ReplaceAllString(s, "${1}"+Redacted)
	s = scheme().ReplaceAllString(s, "${1}"+Redacted)
	s = ourCookie().ReplaceAllString(s, "${1}"+Redacted)
	s = queryParameter().ReplaceAllString(s, "${1}"+Redacted)
	return namedValue().ReplaceAllString(s, "${1}"+Redacted)
}

// The patterns, compiled once. RE2 takes linear time whatever the text.
var (
	headerLine = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)((?:proxy-authorization|authorization|set-cookie|cookie)"?\s*(?:[:=]\s*|":\s*)\[?"?)[^\s\]"\r\n*][^\]"\r\n]*`)
	})
	scheme = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+)[a-z0-9._~+/=-]{8,}`)
	})
	ourCookie = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(tg_[A-Za-z0-9_-]+=)[^;,\s"'*]+`)
	})
	queryParameter = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)([?&](?:code|state|nonce|id_token_hint|session_state)=)[^&\s"'#*]+`)
	})
	namedValue = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)([a-z0-9_-]*(?:password|passwd|passphrase|pwd|secret|token|api_?key|apikey|credential|private_?key|code_verifier|assertion)[a-z0-9_]*"?\s*(?:=>|=|:)\s*)(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s&,;)\]}"'*][^\s&,;)\]}"']*)`)
	})
)

// sensitiveKey reports whether an attribute's key says that its value is a credential.
func sensitiveKey(key string) bool {
	key = strings.ToLower(key)
	for _, word := range []string{
		"authorization", "cookie", "password", "passwd", "passphrase", "pwd", "secret", "token", "apikey", "api_key",
		"api-key", "credential", "private_key", "privatekey", "db_url", "db_uri", "dburl", "dburi", "dsn", "code_verifier",
	} {
		if strings.Contains(key, word) {
			return true
		}
	}
	return false
}
