package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// logoutClaims are those of an honest logout token; changes replace or, by nil, remove them.
func (g *rig) logoutClaims(changes map[string]any) map[string]any {
	claims := map[string]any{
		"iss": g.op.url(), "aud": clientID, "iat": g.clock.Now().Unix(), "exp": g.clock.Now().Add(2 * time.Minute).Unix(),
		"jti": "jti-" + catalog.GenID(), "sub": "alice", "sid": "op-session", "events": map[string]any{logoutEvent: map[string]any{}},
	}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

func (g *rig) logoutToken(changes map[string]any) string {
	return g.op.sign(g.logoutClaims(changes), map[string]any{"typ": "logout+jwt"})
}

// postLogout sends a form to a, as the provider would.
func postLogout(a *Auth, provider, kind, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, backchannelPath+provider, strings.NewReader(body))
	r.Host = "app.example.com"
	r.Header.Set("Content-Type", kind)
	w := httptest.NewRecorder()
	a.Backchannel(w, r)
	return w
}

const formType = "application/x-www-form-urlencoded"

func (g *rig) backchannel(token string) *httptest.ResponseRecorder {
	return postLogout(g.auth, "main", formType, url.Values{"logout_token": {token}}.Encode())
}

func TestBackchannelLogoutEndsWhatTheProviderNames(t *testing.T) { // LOGOUT-1
	onBothEngines(t, func(t *testing.T, engine rigOption) {
		g := newRig(t, engine)
		alice := g.addUser("main|alice", "alice@example.com")
		g.addUser("main|bob", "")
		session := func(subject, sid string) *browser {
			b := g.browser()
			var claims map[string]any
			if sid != "op-session" {
				claims = map[string]any{"sid": sid}
			}
			if w := b.signIn(subject, claims); w.Code != http.StatusFound {
				t.Fatalf("%d\n%s", w.Code, g.log)
			}
			if _, err := b.identity(); err != nil {
				t.Fatal(err)
			}
			return b
		}
		for name, tc := range map[string]struct {
			change map[string]any
			ends   []string // of alice's sids
			bob    bool     // bob's session under sid "shared" ends
		}{
			"sid and sub":         {nil, []string{"op-session", ""}, false},
			"sid alone":           {map[string]any{"sub": nil}, []string{"op-session"}, false},
			"sub alone":           {map[string]any{"sid": nil}, []string{"op-session", "other", "shared", ""}, false},
			"sid of two people":   {map[string]any{"sid": "shared", "sub": nil}, []string{"shared"}, true},
			"sid with one person": {map[string]any{"sid": "shared"}, []string{"shared", ""}, false},
			"unknown sid":         {map[string]any{"sid": "unknown", "sub": nil}, nil, false},
			"unknown sub":         {map[string]any{"sid": nil, "sub": "nobody"}, nil, false},
			"prefixed sub":        {map[string]any{"sid": nil, "sub": "main|alice"}, nil, false},
			"like a pattern":      {map[string]any{"sid": "%", "sub": "%"}, nil, false},
		} {
			before := len(g.audits("sign_out"))
			browsers := map[string]*browser{}
			for _, sid := range []string{"op-session", "other", "shared", ""} {
				browsers[sid] = session("alice", sid)
			}
			bob := session("bob", "shared")
			w := g.backchannel(g.logoutToken(tc.change))
			if w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "no-store" || w.Body.Len() != 0 {
				t.Fatalf("%s: %d %v %s", name, w.Code, w.Header(), w.Body)
			}
			for sid, b := range browsers {
				_, err := b.identity()
				ends := false
				for _, e := range tc.ends {
					ends = ends || e == sid
				}
				if (err != nil) != ends {
					t.Errorf("%s: session %q: %v, ends %v", name, sid, err, ends)
				}
			}
			if _, err := bob.identity(); (err != nil) != tc.bob {
				t.Errorf("%s: bob: %v", name, err)
			}
			users := 0
			if len(tc.ends) > 0 {
				users++
			}
			if tc.bob {
				users++
			}
			rows := g.audits("sign_out")
			if len(rows)-before != users {
				t.Errorf("%s: %d audit rows, want one for each of %d users", name, len(rows)-before, users)
			}
			if _, err := g.host.Sessions.DeleteByUser(t.Context(), alice); err != nil {
				t.Fatal(err)
			}
			g.clock.advance(time.Hour / 2) // what was ended stays ended for a while
		}
		row := g.audits("sign_out")[0]
		if text(row.ActorUserID) != "provider:main" || text(row.IPAddress) != "192.0.2.1" || !strings.Contains(text(row.Details), "back channel") {
			t.Errorf("%+v %s", row, text(row.Details))
		}
	})
}

func TestBadLogoutTokensAreRefusedAndEndNothing(t *testing.T) { // AUD-2, JWT-1, JWT-3, AZP-1
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	b.mustSignIn("alice")
	at := func(d time.Duration) int64 { return g.clock.Now().Add(d).Unix() }
	tokens := map[string]string{"empty": "", "words": "hello"}
	for name, change := range map[string]map[string]any{
		"other issuer": {"iss": "https://evil.example.com"}, "issuer with a slash": {"iss": g.op.url() + "/"}, "no issuer": {"iss": nil},
		"other audience": {"aud": "another-client"}, "no audience": {"aud": nil}, "audience object": {"aud": map[string]any{clientID: 1}},
		"nonce": {"nonce": "n"}, "nonce null": {"nonce": json.RawMessage("null")}, "empty nonce": {"nonce": ""},
		"no events": {"events": nil}, "events text": {"events": logoutEvent}, "other event": {"events": map[string]any{"urn:other": map[string]any{}}},
		"event text": {"events": map[string]any{logoutEvent: "yes"}}, "event null": {"events": map[string]any{logoutEvent: nil}}, "event list": {"events": []any{logoutEvent}},
		"no iat": {"iat": nil}, "future iat": {"iat": at(2 * time.Minute)}, "old iat": {"iat": at(-11 * time.Minute), "exp": at(time.Hour)}, "iat text": {"iat": "1"},
		"no exp": {"exp": nil}, "expired": {"exp": at(-61 * time.Second)}, "exp text": {"exp": "2099"}, "nbf": {"nbf": at(2 * time.Minute)}, "nbf text": {"nbf": "x"},
		"no jti": {"jti": nil}, "empty jti": {"jti": ""}, "jti number": {"jti": 7}, "long jti": {"jti": strings.Repeat("j", 257)}, "jti with nul": {"jti": "a\x00b"},
		"neither sub nor sid": {"sub": nil, "sid": nil}, "sub number": {"sub": 1}, "empty sub": {"sub": ""}, "long sub": {"sub": strings.Repeat("s", 256)},
		"sid number": {"sid": 1}, "empty sid": {"sid": ""}, "long sid": {"sid": strings.Repeat("s", 257)}, "sid null": {"sid": json.RawMessage("null")},
		"another case": {"SUB": "bob"},
	} {
		tokens[name] = g.logoutToken(change)
	}
	for name, typ := range map[string]string{"ID token's typ": "id+jwt", "access token": "at+jwt", "long typ of one": "application/at+jwt", "event": "secevent+jwt"} {
		tokens[name] = g.op.sign(g.logoutClaims(nil), map[string]any{"typ": typ})
	}
	for name, header := range map[string]map[string]any{"crit": {"crit": []string{"x"}}, "jku": {"jku": "https://evil"}, "unknown kid": {"kid": "unknown"}, "RS512": {"alg": "RS512"}} {
		tokens[name] = g.op.sign(g.logoutClaims(nil), header)
	}
	g.op.forge = func(signed string, _ grant) string { tokens["ID token"] = signed; return signed }
	other := g.browser()
	other.mustSignIn("alice")
	g.op.forge = nil
	good := strings.Split(g.logoutToken(nil), ".")
	tokens["alg none"] = b64(`{"alg":"none"}`) + "." + good[1] + "."
	der, err := x509.MarshalPKIXPublicKey(g.op.keys[0].private.Public())
	if err != nil {
		t.Fatal(err)
	}
	signed := b64(`{"alg":"HS256","kid":"rsa-1"}`) + "." + good[1]
	m := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	m.Write([]byte(signed))
	tokens["HS256 with the public key"] = signed + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
	payload, err := json.Marshal(g.logoutClaims(nil))
	if err != nil {
		t.Fatal(err)
	}
	tokens["another key"] = signRaw(t, signingKey{"rsa-1", algRS256, newKey(t, "strange", algRS256).private}, nil, payload)
	tokens["claims changed"] = good[0] + "." + b64(strings.Replace(string(payload), "op-session", "another", 1)) + "." + good[2]
	tokens["sid twice"] = signRaw(t, g.op.keys[0], nil, []byte(strings.Replace(string(payload), "{", `{"sid":"x",`, 1)))
	tokens["huge"] = g.logoutToken(map[string]any{"x": strings.Repeat("x", maxIDToken)})
	for name, token := range tokens {
		w := g.backchannel(token)
		var answer map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &answer); w.Code != http.StatusBadRequest || err != nil || answer["error"] != "invalid_request" || answer["error_description"] == "" {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v", name, w.Header())
		}
		if len(token) > 20 && strings.Contains(g.log.String(), token) {
			t.Errorf("%s: logged", name)
		}
	}
	form := url.Values{"logout_token": {g.logoutToken(nil)}}.Encode()
	for name, tc := range map[string]struct{ kind, body string }{
		"JSON": {"application/json", form}, "no type": {"", form}, "multipart": {"multipart/form-data; boundary=x", form}, "twice": {formType, form + "&" + form},
		"no token": {formType, "x=1"}, "broken escape": {formType, "logout_token=%zz"}, "semicolon": {formType, "a;" + form}, "long body": {formType, form + "&x=" + strings.Repeat("x", maxLogoutForm)},
	} {
		if w := postLogout(g.auth, "main", tc.kind, tc.body); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	w := postLogout(g.auth, "main?"+form, formType, "")
	if w.Code != http.StatusBadRequest {
		t.Errorf("token in the query: %d", w.Code)
	}
	for name, x := range map[string]*browser{"first": b, "second": other} {
		if _, err := x.identity(); err != nil {
			t.Errorf("%s session: %v", name, err)
		}
	}
	if rows := g.audits("sign_out"); len(rows) != 0 {
		t.Errorf("%+v", rows)
	}
	if w := postLogout(g.auth, "main", formType+"; charset=utf-8", form); w.Code != http.StatusOK {
		t.Errorf("the good one: %d %s", w.Code, w.Body)
	}
}

func TestLogoutTokenCountsOnceOnAllReplicasAndRestarts(t *testing.T) {
	onBothEngines(t, func(t *testing.T, engine rigOption) {
		g := newRig(t, engine)
		user := g.addUser("main|alice", "")
		g.browser().mustSignIn("alice")
		second := g.replica()
		token := g.logoutToken(map[string]any{"exp": g.clock.Now().Add(time.Hour).Unix()})
		body := url.Values{"logout_token": {token}}.Encode()
		var group sync.WaitGroup
		codes := make([]int, 8)
		for i := range codes {
			group.Go(func() { codes[i] = postLogout([]*Auth{g.auth, second}[i%2], "main", formType, body).Code })
		}
		group.Wait()
		good := 0
		for _, code := range codes {
			if code == http.StatusOK {
				good++
			} else if code != http.StatusBadRequest {
				t.Errorf("status %d", code)
			}
		}
		if good != 1 || g.sessionCount(user) != 0 {
			t.Fatalf("%v, %d sessions", codes, g.sessionCount(user))
		}
		g.clock.advance(2 * time.Second)
		if w := g.browser().signIn("alice", map[string]any{"sid": "new"}); w.Code != http.StatusFound {
			t.Fatalf("a new sign-in: %d\n%s", w.Code, g.log)
		}
		for range 3 { // to the end of the token's own life here, and cleaned up in between
			g.clock.advance(5 * time.Minute)
			if _, err := g.host.CleanUp(t.Context(), g.clock.Now(), 100); err != nil {
				t.Fatal(err)
			}
			if w := postLogout(g.auth, "main", formType, body); w.Code != http.StatusBadRequest {
				t.Fatalf("%v: replayed: %d", g.clock.Now(), w.Code)
			}
		}
		if g.sessionCount(user) != 1 {
			t.Error("a replay ended the new session")
		}
	})
}

func TestLogoutTokenOfOneProviderEndsNothingOfAnother(t *testing.T) { // TEN-4
	g := newRig(t)
	op2 := newIssuer(t, g.clock.Now)
	op2.keys = []signingKey{newKey(t, "op2", algRS256)}
	g.cfg.Providers = append(g.cfg.Providers,
		Provider{Name: "second", Issuer: op2.url(), ClientID: clientID, ClientSecret: secret.New(clientSecret), SubjectPrefix: "second|"},
		Provider{Name: "bearer", Issuer: op2.url(), SubjectPrefix: "b|", Bearer: BearerConfig{Audiences: []string{"api"}}})
	g.auth = g.replica()
	g.addUser("main|alice", "")
	b := g.browser()
	if w := b.back(g.op, "main", b.away("?provider=main"), "alice", nil); w.Code != http.StatusFound {
		t.Fatal(w.Code)
	}
	claims := g.logoutClaims(map[string]any{"iss": op2.url()})
	for name, tc := range map[string]struct {
		at    string
		token string
		want  int
	}{
		"its own door":                    {"second", op2.sign(claims, nil), 200},
		"the other's door":                {"main", op2.sign(g.logoutClaims(map[string]any{"iss": op2.url()}), nil), 400},
		"the other's issuer in its token": {"main", op2.sign(g.logoutClaims(nil), nil), 400},
		"the other's token at its door":   {"second", g.logoutToken(nil), 400},
		"no client":                       {"bearer", op2.sign(claims, nil), 404},
		"no provider":                     {"third", op2.sign(claims, nil), 404},
		"nothing":                         {"", op2.sign(claims, nil), 404},
	} {
		w := postLogout(g.auth, tc.at, formType, url.Values{"logout_token": {tc.token}}.Encode())
		if w.Code != tc.want {
			t.Errorf("%s: %d, want %d", name, w.Code, tc.want)
		}
	}
	if _, err := b.identity(); err != nil {
		t.Error(err)
	}
}

func TestBackchannelLogoutThatCannotBeDoneIsRefusedAndCanComeAgain(t *testing.T) {
	g := newRig(t)
	user := g.addUser("main|alice", "")
	g.browser().mustSignIn("alice")
	g.auth = g.replica() // knows no keys yet
	token := g.logoutToken(nil)
	g.op.answer("/jwks", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	if w := g.backchannel(token); w.Code != http.StatusServiceUnavailable || w.Header().Get("X-Code") != codeProviderUnavailable {
		t.Fatalf("without keys: %d %s", w.Code, w.Header().Get("X-Code"))
	}
	g.op.answer("/jwks", nil)
	g.clock.advance(2 * time.Second)
	if w := g.backchannel(token); w.Code != http.StatusOK || g.sessionCount(user) != 0 {
		t.Fatalf("again: %d %s", w.Code, w.Body)
	}
	if err := g.host.Close(); err != nil {
		t.Fatal(err)
	}
	if w := g.backchannel(g.logoutToken(nil)); w.Code != http.StatusServiceUnavailable || w.Header().Get("X-Code") != codeHostDatabase {
		t.Fatalf("database down: %d %s", w.Code, w.Header().Get("X-Code"))
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodHead} {
		w := httptest.NewRecorder()
		g.auth.Backchannel(w, httptest.NewRequest(method, backchannelPath+"main", nil))
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != http.MethodPost {
			t.Errorf("%s: %d %v", method, w.Code, w.Header())
		}
	}
}

func TestSignInThatTheProviderEndedMeanwhileIsNotFinished(t *testing.T) {
	for name, tc := range map[string]struct {
		change, claims map[string]any
		want           int
	}{
		"its sid":                      {nil, nil, 400},
		"its sid, without sub":         {map[string]any{"sub": nil}, nil, 400},
		"another sid":                  {map[string]any{"sid": "another"}, nil, 302},
		"all of the person":            {map[string]any{"sid": nil}, nil, 400},
		"all of the person, no sid":    {map[string]any{"sid": nil}, map[string]any{"sid": nil}, 400},
		"all of the person, yesterday": {map[string]any{"sid": nil, "iat": float64(time.Date(2026, 11, 23, 7, 30, 59, 0, time.UTC).Unix())}, nil, 302},
		"all of somebody else":         {map[string]any{"sid": nil, "sub": "bob"}, nil, 302},
	} {
		g := newRig(t)
		user := g.addUser("main|alice", "")
		b := g.browser()
		authorize := b.away("?return_to=/x")
		if w := g.backchannel(g.logoutToken(tc.change)); w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
		w := b.back(g.op, "main", authorize, "alice", tc.claims)
		if w.Code != tc.want || (g.sessionCount(user) == 1) != (tc.want == 302) {
			t.Errorf("%s: %d, %d sessions", name, w.Code, g.sessionCount(user))
		}
		if tc.want == 400 && !strings.Contains(w.Body.String(), "Sign in again") {
			t.Errorf("%s: no way on:\n%s", name, w.Body)
		}
	}
}

func TestSignInAndLogoutOfOneSessionDoNotMissEachOther(t *testing.T) {
	onBothEngines(t, func(t *testing.T, engine rigOption) {
		g := newRig(t, engine)
		user := g.addUser("main|alice", "")
		var group sync.WaitGroup
		for i := range 8 {
			sid := fmt.Sprint("sid-", i)
			b := g.browser()
			authorize := b.away("")
			group.Go(func() {
				if w := b.back(g.op, "main", authorize, "alice", map[string]any{"sid": sid}); w.Code != http.StatusFound && w.Code != http.StatusBadRequest {
					t.Errorf("sign-in: %d", w.Code)
				}
			})
			group.Go(func() {
				if w := g.backchannel(g.logoutToken(map[string]any{"sid": sid})); w.Code != http.StatusOK {
					t.Errorf("logout: %d %s", w.Code, w.Body)
				}
			})
		}
		group.Wait()
		if n := g.sessionCount(user); n != 0 {
			t.Errorf("%d sessions outlive their logout", n)
		}
	})
}

func TestBackchannelLogoutReachesAllHostsAndWhatIsOnItsWay(t *testing.T) { // LOGOUT-1
	onBothEngines(t, func(t *testing.T, engine rigOption) {
		g, alice, _ := people(t, engine)
		p := g.surfer()
		p.enter(acmeHost, "alice")
		onItsWay := location(t, p.get(p.ask(domainHost, ""))) // a code that nobody has redeemed yet
		for host := range p.hosts {
			if _, err := p.at(host).identity(); err != nil && host != domainHost {
				t.Fatalf("%s: %v", host, err)
			}
		}
		if w := g.backchannel(g.logoutToken(nil)); w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		for host, b := range p.hosts {
			if _, err := b.identity(); err == nil {
				t.Errorf("%s is still signed in", host)
			}
		}
		if w := p.get(onItsWay); w.Code == http.StatusFound || g.sessionCount(alice) != 0 {
			t.Errorf("a hand-off after the logout: %d, %d sessions", w.Code, g.sessionCount(alice))
		}
		rows := g.audits("sign_out")
		if len(rows) != 1 || !strings.Contains(text(rows[0].Details), `"sessions":2`) {
			t.Errorf("%+v", rows)
		}
	})
}
