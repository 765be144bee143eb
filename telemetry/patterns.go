package telemetry

import (
	"encoding/base64"
	"regexp"
	"strings"
)

// suspicious is the cheap test that most texts fail: no pattern below can match a text without one of these marks.
func suspicious(s string) bool {
	run := 0
	for i := range len(s) {
		switch c := s[i]; {
		case isToken(c):
			run++
			if run >= minRun || c == '_' && i >= 2 && strings.IndexByte("gakc", s[i-1]) >= 0 { // tg_, tga_, sk_, rk_, whsec_
				return true
			}
		case c == ':' || c == '=' || c == ' ' || c == '\t' || c == '.' && run >= minJWTHeader:
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
	for {
		scheme := schemeBefore(s[:at])
		b.WriteString(s[:at+3])
		s = s[at+3:]
		end, next := nextURI(s)
		b.WriteString(redactUserinfo(scheme, s[:end]))
		if next < 0 {
			return b.String()
		}
		s, at = s[end:], next-end
	}
}

// nextURI says where the next URI begins in what follows a "://", and where its own "://" stands. A URI begins behind a
// space, a quote or a bracket: "user://" right behind a scheme is a password that begins with slashes.
func nextURI(s string) (begins, at int) {
	for from := 0; ; {
		i := strings.Index(s[from:], "://")
		if i < 0 {
			return len(s), -1
		}
		at = from + i
		begins = at - len(schemeBefore(s[:at]))
		if begins > 0 && begins < at && strings.IndexByte(" \t\r\n\"'`([{<>,;=|", s[begins-1]) >= 0 {
			return begins, at
		}
		from = at + 3
	}
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
	minToken     = 8 // what follows tg_ in an API token; names of cookies are shorter
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
	for at := 0; at+minToken < len(run); at++ {
		if at > 0 && isWord(run[at-1]) || run[at] != 't' {
			continue
		}
		for _, prefix := range []string{"tg_", "tga_"} {
			if strings.HasPrefix(run[at:], prefix) && len(run)-at-len(prefix) >= minToken {
				return i + at + len(prefix), end
			}
		}
	}
	if at := stripeKey(run); at >= 0 {
		return i + at, end
	}
	if (len(run) == minRun || len(run) == sessionRun) && random(run) {
		return i, end
	}
	return i, i
}

// stripeKey says where in a run a secret or restricted API key or a webhook's secret of Stripe's begins, -1: nowhere. One
// that was replaced, or is another account's, is registered nowhere.
func stripeKey(run string) int {
	for _, prefix := range [...]string{"sk_live_", "sk_test_", "rk_live_", "rk_test_", "whsec_"} {
		at := strings.Index(run, prefix)
		if at >= 0 && (at == 0 || !isWord(run[at-1])) && len(run)-at-len(prefix) >= minToken {
			return at
		}
	}
	return -1
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

// isToken reports whether c is of base64url's alphabet.
func isToken(c byte) bool {
	const low, high = digitBits | 1<<'-', uint64(letterBits) | 1<<('_'-64)
	return c < 64 && low>>c&1 != 0 || c >= 64 && c < 128 && high>>(c-64)&1 != 0
}

// redactNamed hides what stands behind a name that says it is secret. Few texts have such a name, so looking for the
// names first spares most texts the patterns.
func redactNamed(s string) string {
	found := mentions(s)
	if found&nameHeader != 0 {
		s = headerLine.ReplaceAllString(s, "${1}${2}${3}"+Redacted)
	}
	if found&nameScheme != 0 {
		s = authScheme.ReplaceAllStringFunc(s, redactScheme)
	}
	if found&nameOurs != 0 {
		s = ourCookie.ReplaceAllString(s, "${1}"+Redacted)
	}
	if found&nameQuery != 0 {
		s = queryParameter.ReplaceAllString(s, "${1}"+Redacted)
	}
	if found&namePassword != 0 {
		s = redactPairs(s, password, false)
	}
	if found&nameOther != 0 {
		s = redactPairs(s, namedValue, true)
	}
	return s
}

// Which of the patterns' names a text mentions.
const (
	nameHeader = 1 << iota
	nameScheme
	nameOurs
	nameQuery
	namePassword
	nameOther
)

// mentions looks once over s. Each pattern needs one of the words, whatever their case.
func mentions(s string) (found int) {
	for i := range len(s) {
		switch s[i] | 0x20 {
		case 'a':
			found |= mention(s[i:], "authorization", nameHeader) | mention(s[i:], "api", nameOther) | mention(s[i:], "assertion", nameOther)
		case 'b':
			found |= mention(s[i:], "bearer", nameScheme) | mention(s[i:], "basic", nameScheme)
		case 'c':
			found |= mention(s[i:], "cookie", nameHeader) | mention(s[i:], "credential", nameOther) | mention(s[i:], "code_verifier", nameOther)
		case 'p':
			found |= mention(s[i:], "pass", namePassword) | mention(s[i:], "pwd", namePassword) | mention(s[i:], "private", nameOther)
		case 's':
			found |= mention(s[i:], "secret", nameOther)
		case 't':
			found |= mention(s[i:], "token", nameOther) | mention(s[i:], "tg_", nameOurs)
		case '?', '&': // both have the bit set already
			found |= nameQuery
		}
	}
	return found
}

func mention(s, word string, name int) int {
	if len(s) >= len(word) && s[1]|0x20 == word[1] && strings.EqualFold(s[:len(word)], word) {
		return name
	}
	return 0
}

// The patterns; RE2 takes linear time whatever the text. Names are matched inside longer ones (client_secret). A value
// is a quoted string, or reaches to the next space or "&".
const quotedOrWord = `("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|(?:\\.|[^\s&\\])+)`

var (
	// A header's line is hidden to its end, for a cookie's value may hold anything; in JSON to the end of its string or array.
	headerLine = regexp.MustCompile(`(?i)((?:authorization|set-cookie)"\s*:\s*|cookie"\s*:\s*)(?:"(?:[^"\\]|\\.)*"|\[(?:\s*"(?:[^"\\]|\\.)*"\s*,?)*)` +
		`|(?i)((?:authorization)(?:\\*["'])?\s*[:=]\s*)[^\r\n]+|(cookie(?:\\*["'])?\s*[:=]\s*)[^\s=;]+=[^\r\n]*`)
	authScheme     = regexp.MustCompile(`(?i)\b(?:bearer|basic)[ \t]+[a-z0-9._~+/=-]+`)
	ourCookie      = regexp.MustCompile(`(tg_[A-Za-z0-9_-]+=)[^;\s]+`)
	queryParameter = regexp.MustCompile(`(?i)([?&](?:code|state|nonce|id_token_hint|session_state)=)[^&\s"'#]+`)
	// Name, what stands between, value.
	password   = regexp.MustCompile(`(?i)([a-z0-9_-]*(?:password|passwd|passphrase|pwd)[a-z0-9_-]*)((?:\\*["'])?\s*(?:=>|=|:)\s*)` + quotedOrWord)
	namedValue = regexp.MustCompile(`(?i)([a-z0-9_-]*(?:secret|token|api_?key|credential|private_?key|code_verifier|assertion)[a-z0-9_-]*)((?:\\*["'])?(?:\s*=>?\s*|:\s*))` + quotedOrWord)
)

// redactScheme hides the credential behind "Bearer" or "Basic" where it is one and not the next word of a sentence.
func redactScheme(match string) string {
	at := strings.LastIndexAny(match, " \t") + 1
	name, credential := match[:at], match[at:]
	switch name[1] {
	case 'e', 'E': // bearer
		if name[0] == 'b' && len(credential) < 20 && strings.Trim(credential, "abcdefghijklmnopqrstuvwxyz.") == "" {
			return match
		}
	default:
		decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(credential, "="))
		if err != nil || !strings.Contains(string(decoded), ":") {
			return match
		}
	}
	return name + Redacted
}

// redactPairs hides the value of name=value, name: value or "name":"value". Names of files are no secrets. With prose
// set, a word behind "token: " in a sentence is none: there only what has a digit and some length is hidden.
func redactPairs(s string, pattern *regexp.Regexp, prose bool) string {
	var b strings.Builder
	done := 0
	for _, m := range pattern.FindAllStringSubmatchIndex(s, -1) {
		name, between, value := strings.ToLower(s[m[2]:m[3]]), s[m[4]:m[5]], s[m[6]:m[7]]
		if strings.HasSuffix(name, "_file") || strings.HasSuffix(name, "-file") {
			continue
		}
		if prose && strings.HasPrefix(between, ":") && len(between) > 1 && (len(value) < 12 || !strings.ContainsAny(value, "0123456789")) {
			continue
		}
		b.WriteString(s[done:m[6]])
		quote := ""
		if value[0] == '"' || value[0] == '\'' {
			quote = value[:1]
		}
		b.WriteString(quote + Redacted + quote)
		done = m[7]
	}
	b.WriteString(s[done:])
	return b.String()
}

// sensitiveKey reports whether an attribute's key says that its value is a credential.
func sensitiveKey(key string) bool {
	key = strings.ToLower(key)
	if strings.HasSuffix(key, "_file") {
		return false // a path
	}
	for _, word := range []string{
		"authorization", "cookie", "password", "passwd", "passphrase", "pwd", "secret", "token", "apikey", "api_key",
		"api-key", "credential", "private_key", "privatekey", "db_url", "db_uri", "db-url", "db-uri", "dburl", "dburi", "dsn",
		"code_verifier", "assertion",
	} {
		if strings.Contains(key, word) {
			return true
		}
	}
	return false
}
