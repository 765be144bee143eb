package auth

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// maxBearer is the longest bearer token that is looked at, maxIDToken the longest id_token of a provider (JWT-1).
	maxBearer  = 8 << 10
	maxIDToken = 16 << 10

	maxJSONDepth = 16
	maxKid       = 256
	maxSubject   = 255 // OpenID Connect Core 2: sub MUST NOT exceed 255 ASCII characters
)

// Algorithms that are ever accepted (JWT-3): nothing symmetric, nothing unsigned.
const (
	algRS256 = "RS256"
	algES256 = "ES256"
	algEdDSA = "EdDSA"
)

func allAlgorithms() []string { return []string{algRS256, algES256, algEdDSA} }

var errMalformed = errors.New("not a compact JWS of a JSON object")

// object is a JSON object without doubled keys, its values undecoded. Keys are exact: unlike encoding/json with a
// struct, "Sub" never stands for "sub".
type object map[string]json.RawMessage

// jws is a signed token taken apart and not verified. Nothing in it may be believed before verify.
type jws struct {
	signed    string // header.payload, as signed
	signature []byte
	alg, kid  string
	typ       string
	payload   []byte
	claims    object
}

// parseJWS takes a compact JWS apart (RFC 7515 3.1): three parts, strict base64url, a JSON object with unique keys in
// each of the first two, and no header that names keys or changes how the rest is read. Its work is bounded by limit.
func parseJWS(token string, limit int) (*jws, error) {
	if len(token) == 0 || len(token) > limit {
		return nil, fmt.Errorf("token has %d bytes, 1 to %d are read", len(token), limit)
	}
	first := strings.IndexByte(token, '.')
	last := strings.LastIndexByte(token, '.')
	if first <= 0 || last == first || last == len(token)-1 || strings.IndexByte(token[first+1:last], '.') >= 0 {
		return nil, errMalformed // five parts are a JWE (JWT-2)
	}
	header, err := decodePart(token[:first])
	if err != nil {
		return nil, err
	}
	t := &jws{signed: token[:last]}
	if t.payload, err = decodePart(token[first+1 : last]); err != nil {
		return nil, err
	}
	if t.signature, err = decodePart(token[last+1:]); err != nil {
		return nil, err
	}
	if err := t.readHeader(header); err != nil {
		return nil, err
	}
	if t.claims, err = parseObject(t.payload); err != nil {
		return nil, err
	}
	return t, t.claims.noLookalikes()
}

// decodePart is strict: base64 in Go passes over line ends, and a token must have one spelling only.
func decodePart(s string) ([]byte, error) {
	for i := range len(s) {
		if !isBase64URL(s[i]) {
			return nil, errMalformed
		}
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errMalformed
	}
	return b, nil
}

func isBase64URL(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

func (t *jws) readHeader(raw []byte) error {
	header, err := parseObject(raw)
	if err != nil {
		return err
	}
	for _, name := range []string{"crit", "zip", "jku", "jwk", "x5u", "b64", "enc"} {
		if _, ok := header[name]; ok {
			return fmt.Errorf("token header has %s", name)
		}
	}
	var ok bool
	if t.alg, ok = header.text("alg"); !ok || !slices.Contains(allAlgorithms(), t.alg) {
		return errors.New("token is not signed with RS256, ES256 or EdDSA")
	}
	if _, given := header["kid"]; given {
		if t.kid, ok = header.text("kid"); !ok || t.kid == "" || len(t.kid) > maxKid {
			return errors.New("token header has a kid that is not a short text")
		}
	}
	if _, given := header["typ"]; given {
		if t.typ, ok = header.text("typ"); !ok {
			return errors.New("token header has a typ that is not a text")
		}
		t.typ = strings.TrimPrefix(strings.ToLower(t.typ), "application/")
	}
	return nil
}

// verify checks the signature with one key. The key's type was matched to the algorithm when it was read.
func (t *jws) verify(key crypto.PublicKey) bool {
	switch t.alg {
	case algRS256:
		return jwt.SigningMethodRS256.Verify(t.signed, t.signature, key) == nil
	case algES256:
		return jwt.SigningMethodES256.Verify(t.signed, t.signature, key) == nil
	case algEdDSA:
		return jwt.SigningMethodEdDSA.Verify(t.signed, t.signature, key) == nil
	default:
		return false
	}
}

// parseObject reads one JSON object: UTF-8, no key twice at any depth, nothing behind it, at most maxJSONDepth deep.
func parseObject(b []byte) (object, error) {
	if !utf8.Valid(b) {
		return nil, errMalformed
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return nil, errMalformed
	}
	if err := walkObject(dec, 1); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errMalformed
	}
	var o object
	if err := json.Unmarshal(b, &o); err != nil {
		return nil, errMalformed
	}
	return o, nil
}

// walkObject reads to the end of an object whose brace was read.
func walkObject(dec *json.Decoder, depth int) error {
	seen := make(map[string]struct{})
	for dec.More() {
		tok, err := dec.Token()
		key, ok := tok.(string)
		if err != nil || !ok {
			return errMalformed
		}
		if _, twice := seen[key]; twice {
			return errors.New("token has a key twice")
		}
		seen[key] = struct{}{}
		if err := walkValue(dec, depth); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return errMalformed
	}
	return nil
}

func walkValue(dec *json.Decoder, depth int) error {
	tok, err := dec.Token()
	if err != nil {
		return errMalformed
	}
	open, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	if depth++; depth > maxJSONDepth {
		return errors.New("token is nested too deeply")
	}
	if open == '{' {
		return walkObject(dec, depth)
	}
	for dec.More() {
		if err := walkValue(dec, depth); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return errMalformed
	}
	return nil
}

// noLookalikes refuses "SUB" beside or instead of "sub": a parser that ignores case would read another token.
func (o object) noLookalikes() error {
	for key := range o {
		for _, known := range []string{
			"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "azp", "nonce", "at_hash", "sid", "email", "email_verified", "events",
		} {
			if key != known && strings.EqualFold(key, known) {
				return fmt.Errorf("token spells %s in another case", known)
			}
		}
	}
	return nil
}

// text is a string member. It is not ok if absent, another type, or holding what cannot be compared safely: control
// characters, or the replacement character, which different broken spellings decode to.
func (o object) text(name string) (string, bool) {
	var s *string
	if raw, ok := o[name]; !ok || json.Unmarshal(raw, &s) != nil || s == nil {
		return "", false
	}
	for _, r := range *s {
		if r < 0x20 || r == 0x7f || r == utf8.RuneError {
			return "", false
		}
	}
	return *s, true
}

// isTrue reports whether a member is JSON true; the text "true" is not (LINK-2).
func (o object) isTrue(name string) bool { return string(bytes.TrimSpace(o[name])) == "true" }

// date is a NumericDate (RFC 7519 2): seconds, fraction allowed. ok is false if it is there and is none.
func (o object) date(name string) (t time.Time, given, ok bool) {
	raw, given := o[name]
	if !given {
		return time.Time{}, false, true
	}
	var n json.Number
	if len(raw) == 0 || raw[0] == '"' || json.Unmarshal(raw, &n) != nil {
		return time.Time{}, true, false
	}
	f, err := n.Float64()
	const year9999 = 253402300799
	if err != nil || math.IsNaN(f) || f < 0 || f > year9999 {
		return time.Time{}, true, false
	}
	seconds := math.Floor(f)
	return time.Unix(int64(seconds), int64((f-seconds)*1e9)), true, true
}

// audience is aud: a text or a list of texts, at least one (RFC 7519 4.1.3).
func (o object) audience() ([]string, bool) {
	if one, ok := o.text("aud"); ok && one != "" {
		return []string{one}, true
	}
	var many []*string
	if raw, ok := o["aud"]; !ok || json.Unmarshal(raw, &many) != nil || len(many) == 0 || len(many) > 64 {
		return nil, false
	}
	list := make([]string, len(many))
	for i, p := range many {
		if p == nil || *p == "" {
			return nil, false
		}
		list[i] = *p
	}
	return list, true
}

// subject is sub, not empty and at most 255 bytes.
func (o object) subject() (string, bool) {
	sub, ok := o.text("sub")
	return sub, ok && sub != "" && len(sub) <= maxSubject
}
