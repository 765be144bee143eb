package telemetry

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/url"
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
// and in key=value form, Authorization and Cookie lines, JWTs, tokens that begin with tg_ or tga_, Stripe's keys, and values of
// tenantgate's cookies. It prefers hiding too much. Safe for concurrent use.
type Redactor struct {
	mu      sync.Mutex
	secrets []string
	known   atomic.Pointer[registered]
}

// registered is what the secrets known so far compile to; immutable.
type registered struct {
	anywhere matcher
	lines    matcher // those that may be replaced in a finished line without breaking its JSON
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
	for _, s := range r.secrets {
		if len(s) < wordSecret {
			next.words = append(next.words, s)
		} else {
			next.anywhere.add(s)
			if !numberLike(s) && json.Valid([]byte(`"`+s+`"`)) {
				next.lines.add(s)
			}
		}
		next.numeric = next.numeric || numberLike(s)
	}
	r.known.Store(next)
}

// spellings of a secret, and of its password if it is a URI.
func spellings(secret string) []string {
	if strings.TrimSpace(secret) == "" {
		return nil
	}
	var all []string
	for line := range strings.SplitSeq(secret, "\n") {
		all = spell(all, strings.TrimRight(line, "\r"))
	}
	all = spell(all, secret)
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

// Bounds of the work on one text: what is longer is cut, with so much less shown that no secret is shown by half.
const (
	maxRedact = 64 << 10
	cutMargin = 8 << 10
)

// String returns s without what looks like a credential. It returns s itself, without allocating, where nothing does.
// Of a text longer than 64 KiB only the beginning is returned, followed by "…".
func (r *Redactor) String(s string) string {
	if len(s) > maxRedact {
		s = r.String(s[:maxRedact])
		return s[:max(0, len(s)-cutMargin)] + "…"
	}
	s = r.exact(s)
	if !suspicious(s) {
		return s
	}
	return redactPatterns(s)
}

// redactPatterns hides what the patterns know. If one of them fails on a text, all of the text is hidden.
func redactPatterns(s string) (clean string) {
	defer func() {
		if recover() != nil {
			clean = Redacted
		}
	}()
	return redactNamed(redactRuns(redactURIs(s)))
}

// exact replaces the registered secrets.
func (r *Redactor) exact(s string) string {
	known := r.known.Load()
	if known == nil || s == "" {
		return s
	}
	s = known.anywhere.replace(s)
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
	if known == nil {
		return line
	}
	return known.lines.replace(line)
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

// Sets of ASCII bytes: bits 0-63 and 64-127.
const (
	digitBits  = (1<<10 - 1) << '0'
	letterBits = (1<<26-1)<<('A'-64) | (1<<26-1)<<('a'-64)
)

func isWord(c byte) bool {
	return c < 64 && digitBits>>c&1 != 0 || c >= 64 && c < 128 && uint64(letterBits)>>(c-64)&1 != 0
}

// matcher finds registered secrets. It looks at every fourth pair of bytes of a text alone: a secret has at least five
// bytes, so one of its first four pairs stands there.
type matcher struct {
	heads map[[4]byte][]string // secrets by their first bytes, longest first
	pairs [256][4]uint64       // the first four pairs of all secrets: for each first byte the set of second bytes
}

const matchStride = 4

func (m *matcher) add(secret string) {
	if m.heads == nil {
		m.heads = make(map[[4]byte][]string)
	}
	key := [4]byte([]byte(secret[:4]))
	m.heads[key] = append(m.heads[key], secret)
	for i := range matchStride {
		m.pairs[secret[i]][secret[i+1]>>6] |= 1 << (secret[i+1] & 63)
	}
}

// at is the length of the longest secret that begins at s[i], or 0.
func (m *matcher) at(s string, i int) int {
	if i+wordSecret > len(s) {
		return 0
	}
	for _, secret := range m.heads[[4]byte{s[i], s[i+1], s[i+2], s[i+3]}] {
		if strings.HasPrefix(s[i:], secret) {
			return len(secret)
		}
	}
	return 0
}

// next finds the first secret that begins at or after from; n is 0 if there is none.
func (m *matcher) next(s string, from int) (i, n int) {
	for p := from; p+1 < len(s); p += matchStride {
		if m.pairs[s[p]][s[p+1]>>6]>>(s[p+1]&63)&1 == 0 {
			continue
		}
		for i := max(from, p-matchStride+1); i <= p; i++ {
			if n := m.at(s, i); n > 0 {
				return i, n
			}
		}
	}
	return 0, 0
}

// replace hides every secret in s; secrets that overlap are hidden together. Without any it returns s itself.
func (m *matcher) replace(s string) string {
	if m.heads == nil {
		return s
	}
	var b []byte
	done := 0
	for i, n := m.next(s, 0); n > 0; i, n = m.next(s, done) {
		end := i + n
		for j := i + 1; j < end; j++ {
			end = max(end, j+m.at(s, j))
		}
		b = append(b, s[done:i]...)
		b = append(b, Redacted...)
		done = end
	}
	if b == nil {
		return s
	}
	return string(append(b, s[done:]...))
}
