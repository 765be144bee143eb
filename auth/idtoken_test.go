package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"
)

// refusedSignIn reports a sign-in that was not refused, or that left something behind.
func refusedSignIn(t *testing.T, g *rig, name string) {
	t.Helper()
	b := g.browser()
	w := b.signIn("alice", nil)
	if w.Code != http.StatusBadRequest || len(b.cookies) != 0 || !strings.Contains(w.Body.String(), "Sign in again") {
		t.Errorf("%s: %d %s, cookies %v", name, w.Code, w.Header().Get("X-Code"), b.cookies)
	}
	if n := len(g.audits("sign_in")); n != 0 {
		t.Errorf("%s: %d sign-ins", name, n)
	}
}

func TestIDTokensThatAreNotForThisSignInAreRefused(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	at := func(d time.Duration) int64 { return g.clock.Now().Add(d).Unix() }
	for name, change := range map[string]map[string]any{
		"other issuer": {"iss": "https://evil.example.com"}, "issuer with a slash": {"iss": g.op.url() + "/"}, "no issuer": {"iss": nil}, "issuer list": {"iss": []string{g.op.url()}},
		"other audience": {"aud": "another-client"}, "no audience": {"aud": nil}, "audience object": {"aud": map[string]any{clientID: true}}, "empty audience": {"aud": []string{}},
		"two audiences without azp": {"aud": []string{clientID, "another"}}, "azp of another": {"aud": []string{clientID, "another"}, "azp": "another"}, "azp of another, one audience": {"azp": "another"}, "azp number": {"azp": 1}, // AZP-1
		"other nonce": {"nonce": "abc"}, "no nonce": {"nonce": nil}, "empty nonce": {"nonce": ""}, "nonce list": {"nonce": []string{"x"}},
		"expired": {"exp": at(-61 * time.Second)}, "no exp": {"exp": nil}, "exp text": {"exp": "2099-01-01"}, "not yet": {"nbf": at(2 * time.Minute)}, "nbf text": {"nbf": "x"},
		"issued in the future": {"iat": at(2 * time.Minute)}, "no iat": {"iat": nil}, "wrong at_hash": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, "at_hash number": {"at_hash": 1},
		"no sub": {"sub": nil}, "empty sub": {"sub": ""}, "sub number": {"sub": 7}, "long sub": {"sub": strings.Repeat("a", 256)}, "sub with nul": {"sub": "a\x00"}, "sub list": {"sub": []string{"alice"}},
		"logout token": {"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}}, // AUD-2
	} {
		g.op.idToken = func(claims, _ map[string]any) {
			for k, v := range change {
				claims[k] = v
				if v == nil {
					delete(claims, k)
				}
			}
		}
		refusedSignIn(t, g, name)
	}
	for name, change := range map[string]map[string]any{
		"logout+jwt": {"typ": "logout+jwt"}, "at+jwt": {"typ": "at+jwt"}, "crit": {"crit": []string{"exp"}}, "jku": {"jku": "https://evil"}, "jwk": {"jwk": map[string]any{}}, "zip": {"zip": "DEF"},
		"unknown kid": {"kid": "../../etc/passwd"}, "kid of SQL": {"kid": "' OR 1=1 --"},
	} {
		g.op.idToken = func(_, header map[string]any) {
			for k, v := range change {
				header[k] = v
			}
		}
		g.clock.advance(2 * time.Second)
		refusedSignIn(t, g, name)
	}
	// The limits themselves are good.
	for name, change := range map[string]map[string]any{
		"just expired, within leeway": {"exp": g.clock.Now().Add(-59 * time.Second).Unix()}, "two audiences with azp": {"aud": []string{clientID, "another"}, "azp": clientID}, "audience list": {"aud": []string{clientID}},
		"clock a little ahead": {"iat": g.clock.Now().Add(59 * time.Second).Unix(), "nbf": g.clock.Now().Add(59 * time.Second).Unix()},
	} { // TIME-2
		g.op.idToken = func(claims, _ map[string]any) {
			for k, v := range change {
				claims[k] = v
			}
		}
		if w := g.browser().signIn("alice", nil); w.Code != http.StatusFound {
			t.Errorf("%s: %d\n%s", name, w.Code, g.log)
		}
	}
}

func TestForgedIDTokensAreRefused(t *testing.T) { // JWT-1, JWT-2, JWT-3
	g := newRig(t)
	g.addUser("main|alice", "")
	parts := func(s string) (header, payload, signature string) {
		p := strings.Split(s, ".")
		return p[0], p[1], p[2]
	}
	strange := newKey(t, "strange", algRS256)
	for name, forge := range map[string]func(string, grant) string{
		"nothing": func(string, grant) string { return "" }, "words": func(string, grant) string { return "hello" },
		"alg none": func(s string, _ grant) string { _, p, _ := parts(s); return b64(`{"alg":"none"}`) + "." + p + "." },
		"none with text": func(s string, _ grant) string {
			_, p, sig := parts(s)
			return b64(`{"alg":"none"}`) + "." + p + "." + sig
		},
		"HS256 with the public key": func(s string, _ grant) string {
			_, p, _ := parts(s)
			der, err := x509.MarshalPKIXPublicKey(g.op.keys[0].private.Public())
			if err != nil {
				t.Fatal(err)
			}
			text := b64(`{"alg":"HS256","kid":"rsa-1"}`) + "." + p
			m := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
			m.Write([]byte(text))
			return text + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
		},
		"another key under our kid": func(s string, _ grant) string {
			_, p, _ := parts(s)
			payload, _ := base64.RawURLEncoding.DecodeString(p)
			return signRaw(t, signingKey{"rsa-1", algRS256, strange.private}, nil, payload)
		},
		"no signature": func(s string, _ grant) string { h, p, _ := parts(s); return h + "." + p + "." },
		"claims changed": func(s string, _ grant) string {
			h, p, sig := parts(s)
			payload, _ := base64.RawURLEncoding.DecodeString(p)
			return h + "." + b64(strings.Replace(string(payload), "alice", "admin", 1)) + "." + sig
		},
		"five parts": func(s string, _ grant) string { return s + ".a.b" },
		"huge":       func(s string, _ grant) string { return s + strings.Repeat("A", maxIDToken) },
		"sub twice": func(s string, _ grant) string {
			_, p, _ := parts(s)
			payload, _ := base64.RawURLEncoding.DecodeString(p)
			return signRaw(t, g.op.keys[0], nil, []byte(strings.Replace(string(payload), `{`, `{"sub":"admin",`, 1)))
		},
		"Sub beside sub": func(s string, _ grant) string {
			_, p, _ := parts(s)
			payload, _ := base64.RawURLEncoding.DecodeString(p)
			return signRaw(t, g.op.keys[0], nil, []byte(strings.TrimSuffix(string(payload), "}")+`,"SUB":"admin"}`))
		},
		"nonce of another sign-in": func(s string, gr grant) string {
			_, p, _ := parts(s)
			payload, _ := base64.RawURLEncoding.DecodeString(p)
			return signRaw(t, g.op.keys[0], nil, []byte(strings.Replace(string(payload), gr.nonce, newFlow("main", g.clock.Now()).nonce(), 1)))
		},
	} {
		g.op.forge = forge
		g.clock.advance(2 * time.Second)
		refusedSignIn(t, g, name)
	}
	g.op.forge = nil
	g.op.tokenAnswer = func(answer map[string]any) { answer["id_token"] = map[string]any{"a": 1} }
	refusedSignIn(t, g, "id_token is no text")
	g.op.tokenAnswer = nil
	if w := g.browser().signIn("alice", nil); w.Code != http.StatusFound {
		t.Fatalf("%d\n%s", w.Code, g.log)
	}
}

func TestIDTokenIsBoundToItsAccessTokenWhereItSaysSo(t *testing.T) {
	for _, alg := range []string{algRS256, algES256, algEdDSA} {
		g := newRig(t)
		g.addUser("main|alice", "")
		g.op.keys = []signingKey{newKey(t, "k", alg)}
		g.op.idToken = func(claims, _ map[string]any) {
			if alg == algEdDSA {
				return // no hash is defined for it by OpenID Connect Core 3.1.3.6
			}
			sum := sha256.Sum256([]byte("access-canary"))
			claims["at_hash"] = base64.RawURLEncoding.EncodeToString(sum[:16])
		}
		if w := g.browser().signIn("alice", nil); w.Code != http.StatusFound {
			t.Errorf("%s: %d\n%s", alg, w.Code, g.log)
		}
	}
}

func TestHostileKeySetsRefuseSignIns(t *testing.T) { // JWKS-2
	for name, f := range map[string]http.HandlerFunc{
		"100 MB": func(w http.ResponseWriter, _ *http.Request) { pour(w, 100<<20) },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		},
		"endless": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/jwks", http.StatusFound) },
		"words":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) },
		"empty":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
		"error":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) },
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"keys":[`))
		},
	} {
		g := newRig(t)
		g.addUser("main|alice", "")
		g.op.answer("/jwks", f)
		b := g.browser()
		if w := b.signIn("alice", nil); w.Header().Get("X-Code") != codeProviderUnavailable || len(b.cookies) != 0 {
			t.Errorf("%s: %d %s", name, w.Code, w.Header().Get("X-Code"))
		}
	}
}

func TestAddressFromUserInfoCountsOnlyForTheSamePerson(t *testing.T) {
	options := func(g *rig) { g.cfg.Providers[0].EmailDomains = []string{"example.com"} }
	for name, tc := range map[string]struct {
		info map[string]any
		want int
	}{
		"same person":    {map[string]any{"sub": "alice", "email": "alice@example.com", "email_verified": true}, 302},
		"another person": {map[string]any{"sub": "bob", "email": "alice@example.com", "email_verified": true}, 400},
		"nobody":         {map[string]any{"email": "alice@example.com", "email_verified": true}, 400},
		"not verified":   {map[string]any{"sub": "alice", "email": "alice@example.com"}, 403},
		"verified text":  {map[string]any{"sub": "alice", "email": "alice@example.com", "email_verified": "true"}, 403},
		"capitals":       {map[string]any{"sub": "alice", "EMAIL": "alice@example.com", "email_verified": true}, 400},
		"refused":        {nil, 503},
	} {
		g := newRig(t, options)
		g.addUser("main|alice", "")
		g.op.userInfo = tc.info
		if w := g.browser().signIn("alice", nil); w.Code != tc.want {
			t.Errorf("%s: %d, want %d", name, w.Code, tc.want)
		}
	}
	g := newRig(t, options)
	g.addUser("main|alice", "")
	g.op.userInfo = map[string]any{"sub": "alice", "email": "alice@example.com", "email_verified": true}
	if w := g.browser().signIn("alice", map[string]any{"email": "alice@evil.com", "email_verified": true}); w.Code != 403 || g.op.userInfos.Load() != 0 {
		t.Errorf("the ID token's own address counts first: %d", w.Code)
	}
}
