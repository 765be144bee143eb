package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func compact(header, payload string) string {
	return b64(header) + "." + b64(payload) + "." + b64("signature")
}

func TestTokensThatCanBeReadInTwoWaysAreNotRead(t *testing.T) { // JWT-1, JWT-2, JWT-3
	const good = `{"alg":"ES256","kid":"k"}`
	if _, err := parseJWS(compact(good, `{"sub":"a","nested":{"a":[1,{"b":2}]}}`), maxBearer); err != nil {
		t.Fatal(err)
	}
	header := func(extra string) string { return compact(`{"alg":"ES256",`+extra+`}`, `{"sub":"a"}`) }
	deep := strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20)
	for name, token := range map[string]string{
		"empty": "", "dots": "..", "no dots": "abc", "two parts": "a.b", "four parts": compact(good, "{}") + ".x", "five parts (JWE)": compact(good, "{}") + ".x.y",
		"empty signature": b64(good) + "." + b64("{}") + ".", "empty payload": b64(good) + "..x", "too long": compact(good, `{"a":"`+strings.Repeat("a", maxBearer)+`"}`),
		"many dots": strings.Repeat(".", maxBearer), "padding": compact(good, `{"sub":"ab"}`) + "=", "line end": strings.Replace(compact(good, "{}"), ".", "\n.", 1),
		"space": " " + compact(good, "{}"), "standard base64": b64(good) + "." + b64("{}") + ".ab+/", "spare bits": b64(good) + "." + b64("{}") + ".AB",
		"alg none": compact(`{"alg":"none"}`, "{}"), "alg None": compact(`{"alg":"None"}`, "{}"), "no alg": compact(`{"kid":"k"}`, "{}"), "alg null": compact(`{"alg":null}`, "{}"),
		"HS256": compact(`{"alg":"HS256"}`, "{}"), "PS256": compact(`{"alg":"PS256"}`, "{}"), "ES384": compact(`{"alg":"ES384"}`, "{}"), "alg list": compact(`{"alg":["ES256"]}`, "{}"),
		"alg twice": compact(`{"alg":"ES256","alg":"none"}`, "{}"), "crit": header(`"crit":["exp"]`), "zip": header(`"zip":"DEF"`), "jku": header(`"jku":"https://evil"`),
		"jwk": header(`"jwk":{}`), "x5u": header(`"x5u":"https://evil"`), "b64": header(`"b64":false`), "enc": header(`"enc":"A128GCM"`),
		"kid number": header(`"kid":1`), "kid empty": header(`"kid":""`), "kid long": header(`"kid":"` + strings.Repeat("k", 300) + `"`), "kid nul": header(`"kid":"a\u0000b"`), "typ number": header(`"typ":1`),
		"payload list": compact(good, `[]`), "payload text": compact(good, `"x"`), "payload null": compact(good, `null`), "payload none": compact(good, ` `), "trailing": compact(good, `{}{}`),
		"trailing words": compact(good, `{} x`), "sub twice": compact(good, `{"sub":"a","sub":"b"}`), "sub twice by escape": compact(good, `{"sub":"a","\u0073ub":"b"}`),
		"nested twice": compact(good, `{"a":{"b":1,"b":2}}`), "twice in a list": compact(good, `{"a":[{"b":1,"b":2}]}`), "SUB beside sub": compact(good, `{"sub":"a","SUB":"b"}`),
		"Sub alone": compact(good, `{"Sub":"a"}`), "ſub": compact(good, `{"ſub":"a"}`), "not UTF-8": compact(good, "{\"sub\":\"a\xff\"}"), "deep": compact(good, deep), "cut": compact(good, `{"sub":"a"`),
		"Email": compact(good, `{"EMAIL_VERIFIED":true}`),
	} {
		if _, err := parseJWS(token, maxBearer); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

func TestClaimsHaveOneMeaning(t *testing.T) {
	o, err := parseObject([]byte(`{"s":"x","empty":"","n":1,"null":null,"lone":"a\ud800","ctl":"a\u0001","t":true,"T":"true","one":1,
		"d":1700000000,"frac":1700000000.5,"e":1.7e9,"neg":-1,"huge":1e300,"text":"1700000000","obj":{},"list":["a","b"],"mixed":["a",1],"none":[],"blank":[""]}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"s": true, "empty": true, "n": false, "null": false, "lone": false, "ctl": false, "absent": false, "list": false} {
		if _, ok := o.text(name); ok != want {
			t.Errorf("text(%s) = %v", name, ok)
		}
	}
	for name, want := range map[string]bool{"t": true, "T": false, "one": false, "null": false, "absent": false} { // LINK-2
		if got := o.isTrue(name); got != want {
			t.Errorf("isTrue(%s) = %v", name, got)
		}
	}
	for name, want := range map[string]bool{"d": true, "frac": true, "e": true, "neg": false, "huge": false, "text": false, "obj": false, "null": false, "t": false} {
		if at, given, ok := o.date(name); ok != want || !given || (ok && at.Unix() != 1700000000) {
			t.Errorf("date(%s) = %v %v %v", name, at, given, ok)
		}
	}
	if _, given, ok := o.date("absent"); given || !ok {
		t.Error("an absent date is no fault")
	}
	for claim, want := range map[string]int{"s": 1, "list": 2, "mixed": 0, "none": 0, "blank": 0, "empty": 0, "n": 0, "obj": 0, "null": 0} {
		aud, ok := object{"aud": o[claim]}.audience()
		if ok != (want > 0) || len(aud) != want {
			t.Errorf("aud %s: %q %v", claim, aud, ok)
		}
	}
}

func TestKeySetTakesOnlyKeysThatFitOneAlgorithm(t *testing.T) {
	for name, doc := range map[string]string{
		"words": "hello", "empty": `{"keys":[]}`, "no keys": `{}`, "symmetric": `{"keys":[{"kty":"oct","kid":"a","k":"c2VjcmV0"}]}`,
		"encryption key": `{"keys":[{"kty":"EC","crv":"P-256","use":"enc","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`,
		"other alg":      `{"keys":[{"kty":"EC","crv":"P-256","alg":"RS256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`,
		"small RSA":      `{"keys":[{"kty":"RSA","n":"wzE0XwnMGnwbvQjXyqzrxgs","e":"AQAB"}]}`,
		"private key":    `{"keys":[{"kty":"EC","crv":"P-256","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`,
		"too many":       `{"keys":[` + strings.Repeat(`{},`, maxKeys) + `{}]}`,
	} {
		if set, err := parseKeySet([]byte(doc)); err == nil {
			t.Errorf("%s: %d keys", name, len(set.keys))
		}
	}
	op := newIssuer(t, time.Now)
	op.keys = []signingKey{newKey(t, "r", algRS256), newKey(t, "e", algES256), newKey(t, "d", algEdDSA)}
	good := op.jwks()
	mixed := strings.Replace(string(good), `{"keys":[`, `{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"mystery"},7,`, 1)
	for _, doc := range []string{string(good), mixed} {
		set, err := parseKeySet([]byte(doc))
		if err != nil || len(set.keys) != 3 {
			t.Fatalf("%v %v", set, err)
		}
		for _, k := range op.keys {
			tok, err := parseJWS(signRaw(t, k, nil, []byte(`{"sub":"a"}`)), maxBearer)
			if err != nil || !set.verifies(tok) {
				t.Errorf("%s: %v", k.alg, err)
			}
			tok.payload, tok.signed = nil, tok.signed+"x"
			if set.verifies(tok) {
				t.Errorf("%s: verifies another text", k.alg)
			}
		}
	}
	a, _ := parseKeySet(good)
	b, _ := parseKeySet([]byte(mixed))
	if !sameKeys(a, b) {
		t.Error("keys that are passed over make another generation")
	}
}

func TestKeyOfOneTypeVerifiesNoOtherAlgorithm(t *testing.T) { // JWT-3: key confusion
	rsaKey, ecKey := newKey(t, "k", algRS256), newKey(t, "k", algES256)
	op := newIssuer(t, time.Now)
	op.keys = []signingKey{rsaKey}
	set, err := parseKeySet(op.jwks())
	if err != nil {
		t.Fatal(err)
	}
	tok, err := parseJWS(signRaw(t, ecKey, nil, []byte(`{"sub":"a"}`)), maxBearer)
	if err != nil {
		t.Fatal(err)
	}
	if set.verifies(tok) || len(set.candidates(tok)) != 0 {
		t.Fatal("an RSA key was tried for ES256")
	}
}

func FuzzParseJWS(f *testing.F) {
	f.Add(compact(`{"alg":"ES256","kid":"k"}`, `{"sub":"a","aud":["x"],"exp":1}`))
	f.Add(compact(`{"alg":"none"}`, `{}`))
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		tok, err := parseJWS(token, maxBearer)
		if err != nil {
			return
		}
		if len(token) > maxBearer || strings.Count(token, ".") != 2 || !json.Valid(tok.payload) {
			t.Fatalf("read %q", token)
		}
		whole := tok.signed + "." + base64.RawURLEncoding.EncodeToString(tok.signature)
		if whole != token {
			t.Fatalf("%q has another spelling: %q", token, whole)
		}
		_, _ = tok.claims.audience()
		_, _, _ = tok.claims.date("exp")
		_, _ = tok.claims.subject()
		_ = fmt.Sprint(sha256.Sum256(tok.payload))
	})
}

func FuzzParseKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AA","e":"AQAB"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		set, err := parseKeySet(b)
		if (err == nil) != (set != nil && len(set.keys) > 0) {
			t.Fatalf("%v %v", set, err)
		}
	})
}
