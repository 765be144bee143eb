package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

func TestAuthorizationRequestIsCodeFlowWithPKCEStateAndNonce(t *testing.T) {
	g := newRig(t, func(g *rig) { g.cfg.Providers[0].Prompt = "select_account" })
	b := g.browser()
	u := b.away("?return_to=/deep%3Fsecret-canary=1")
	q := u.Query()
	for name, want := range map[string]string{
		"response_type": "code", "client_id": clientID, "scope": "openid email profile", "code_challenge_method": "S256", "prompt": "select_account", "tenant": "x",
		"redirect_uri": "https://app.example.com/_gate/callback/main",
	} {
		if got := q.Get(name); got != want || len(q[name]) != 1 {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if len(q.Get("code_challenge")) != 43 || len(q.Get("nonce")) != 43 || len(q.Get("state")) < 64 {
		t.Errorf("challenge %q, nonce %q, state %q", q.Get("code_challenge"), q.Get("nonce"), q.Get("state"))
	}
	if strings.Contains(u.String(), "canary") { // REDIR-2
		t.Error("the provider learns where the browser goes")
	}
	again := b.away("")
	for _, name := range []string{"code_challenge", "nonce", "state"} {
		if again.Query().Get(name) == q.Get(name) {
			t.Errorf("%s twice", name)
		}
	}
}

func TestClientAuthenticatesInOneWayOnly(t *testing.T) {
	for _, way := range []string{"", "basic", "post"} {
		g := newRig(t, func(g *rig) { g.cfg.Providers[0].ClientAuth = way })
		g.addUser("main|alice", "")
		g.op.checkClient = func(r *http.Request, form url.Values) {
			_, _, basic := r.BasicAuth()
			post := form.Has("client_secret")
			if basic == post || basic != (way != "post") {
				t.Errorf("%q: basic %v, post %v", way, basic, post)
			}
		}
		g.browser().mustSignIn("alice")
		if n := g.op.exchanges.Load(); n != 1 {
			t.Errorf("%q: %d token requests", way, n)
		}
	}
}

func TestSignInIsAuditedAndRemembered(t *testing.T) {
	g := newRig(t)
	user := g.addUser("main|alice", "")
	g.browser().mustSignIn("alice")
	rows := g.audits("sign_in")
	if len(rows) != 1 || text(rows[0].ActorUserID) != string(user) || text(rows[0].TargetID) != string(user) || text(rows[0].IPAddress) != "192.0.2.1" {
		t.Fatalf("%+v", rows)
	}
	u, err := g.host.GlobalUsers.Get(t.Context(), user)
	if err != nil || text(u.LastLogin) != catalog.Timestamp(g.clock.Now()) {
		t.Fatalf("last_login %q %v", text(u.LastLogin), err)
	}
}

func TestNewSignInEndsTheSessionThatWasPresented(t *testing.T) { // SESS-1
	g := newRig(t)
	alice := g.addUser("main|alice", "")
	g.addUser("main|mallory", "")
	b := g.browser()
	first := b.mustSignIn("mallory") // planted by an attacker, say
	second := b.mustSignIn("alice")
	if first == second || first[:22] == second[:22] {
		t.Fatal("the token, or its id, stayed")
	}
	if _, err := g.auth.present("app.example.com", sessionName+first); !errors.Is(err, ErrSessionExpired) {
		t.Fatalf("the old token: %v", err)
	}
	id, err := b.identity()
	if err != nil || id.User != alice {
		t.Fatal(err)
	}
	if n := len(g.audits("sign_out")); n != 1 {
		t.Fatalf("%d sign_out rows", n)
	}
	// A cookie with somebody's session id and another secret ends nothing.
	forged := g.browser()
	good, _ := parseToken(second)
	good[40] ^= 1
	forged.cookies["__Host-tg_session"] = good.encode()
	forged.mustSignIn("mallory")
	if _, err := b.identity(); err != nil {
		t.Fatalf("ended by somebody who knows the id: %v", err)
	}
}

func TestTenTabsAtOnceAllSucceed(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	var tabs []*url.URL
	for i := range 10 {
		tabs = append(tabs, b.away(fmt.Sprint("?return_to=/tab/", i)))
	}
	for i, u := range tabs {
		if w := b.back(g.op, "main", u, "alice", nil); w.Code != http.StatusFound || w.Header().Get("Location") != fmt.Sprint("/tab/", i) {
			t.Fatalf("tab %d: %d %s", i, w.Code, w.Header().Get("Location"))
		}
	}
	if len(b.cookies) != 1 {
		t.Fatalf("left over: %v", b.cookies)
	}
	if n := g.sessionCount(mustIdentity(t, b).User); n != 1 {
		t.Fatalf("%d sessions", n)
	}
}

func mustIdentity(t *testing.T, b *browser) Identity {
	t.Helper()
	id, err := b.identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestStaleFlowCookiesNeverBlockASignIn(t *testing.T) { // CK-2
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	for i := range 20 {
		b.cookies[fmt.Sprintf("__Host-tg_flow_stale%011d", i)] = "v1:0123456789abcdef:AAAA" // of another installation
		b.cookies[fmt.Sprintf("__Host-tg_flow_%d", i)] = "junk"
	}
	old := g.browser()
	for range 12 {
		old.away("")
		for k, v := range old.cookies {
			b.cookies[k] = v
		}
		old.cookies = map[string]string{}
	}
	for range 8 {
		b.cookies["__Host-tg_flow_"+newFlow("main", g.clock.Now()).id.String()] = ""
	}
	if len(b.cookies) != 60 {
		t.Fatalf("%d cookies", len(b.cookies))
	}
	g.clock.advance(flowLifetime)
	u := b.away("?return_to=/x")
	if len(b.cookies) > maxFlows {
		t.Fatalf("%d cookies left", len(b.cookies))
	}
	if w := b.back(g.op, "main", u, "alice", nil); w.Header().Get("Location") != "/x" {
		t.Fatalf("status %d", w.Code)
	}
}

func TestOldestFlowsAreDroppedAndTheNewestTwelveWork(t *testing.T) { // CK-2
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	var tabs []*url.URL
	for range 30 {
		tabs = append(tabs, b.away(""))
		g.clock.advance(time.Second)
		if len(b.cookies) > maxFlows {
			t.Fatalf("%d flow cookies", len(b.cookies))
		}
	}
	for i, u := range tabs[18:] {
		if w := b.back(g.op, "main", u, "alice", nil); w.Code != http.StatusFound {
			t.Fatalf("%d: status %d", i, w.Code)
		}
	}
	b.cookies = map[string]string{}
	if w := b.back(g.op, "main", tabs[17], "alice", nil); w.Code != http.StatusBadRequest {
		t.Fatalf("dropped one: status %d", w.Code)
	}
}

func TestCallbackOpenedTwiceGoesOn(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	u := b.away("?return_to=/deep")
	kept := map[string]string{}
	for k, v := range b.cookies {
		kept[k] = v
	}
	if w := b.back(g.op, "main", u, "alice", nil); w.Code != http.StatusFound {
		t.Fatal(w.Code)
	}
	if w := b.back(g.op, "main", u, "alice", nil); w.Code != http.StatusFound || w.Header().Get("Location") != "/deep" {
		t.Fatalf("signed in, opened again: %d %s", w.Code, w.Header().Get("Location"))
	}
	if n := g.op.exchanges.Load(); n != 1 {
		t.Fatalf("%d token requests", n)
	}
	// With the flow cookie kept, without a session: state is used up (FLOW-1).
	b.cookies = kept
	w := b.back(g.op, "main", u, "alice", nil)
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "/_gate/login?return_to=%2Fdeep") || g.op.exchanges.Load() != 1 {
		t.Fatalf("replayed: %d %s", w.Code, w.Body)
	}
}

func TestCallbackInAnotherBrowserOrOfAnotherProviderSignsNobodyIn(t *testing.T) { // FLOW-1: login CSRF, mix-up
	g := newRig(t)
	other := newIssuer(t, g.clock.Now)
	g.cfg.Providers = append(g.cfg.Providers, Provider{
		Name: "other", Issuer: other.url(), ClientID: clientID, ClientSecret: secret.New(clientSecret), SubjectPrefix: "other|",
	})
	g.auth = g.replica()
	g.addUser("main|alice", "")
	g.addUser("other|alice", "")
	victim, attacker := g.browser(), g.browser()
	u := attacker.away("?provider=main")
	if w := victim.back(g.op, "main", u, "alice", nil); w.Code != http.StatusBadRequest || len(victim.cookies) != 0 {
		t.Fatalf("another browser: %d %v", w.Code, victim.cookies)
	}
	if w := attacker.back(other, "other", u, "alice", nil); w.Code != http.StatusBadRequest {
		t.Fatalf("another provider's callback: %d", w.Code)
	}
	for name, iss := range map[string]string{"other's iss": other.url(), "empty iss": "", "iss with a slash": g.op.url() + "/"} { // RFC 9207
		b := g.browser()
		u := b.away("?provider=main")
		q := url.Values{"state": {u.Query().Get("state")}, "code": {g.op.grant(u, "alice", nil)}, "iss": {iss}}
		if w := b.do(http.MethodGet, callbackPath+"main?"+q.Encode()); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	b := g.browser()
	u = b.away("?provider=main")
	q := url.Values{"state": {u.Query().Get("state")}, "code": {g.op.grant(u, "alice", nil)}, "iss": {g.op.url()}}
	if w := b.do(http.MethodGet, callbackPath+"main?"+q.Encode()); w.Code != http.StatusFound {
		t.Errorf("right iss: %d", w.Code)
	}
	if n := len(g.audits("sign_in")); n != 1 {
		t.Errorf("%d sign-ins", n)
	}
	if other.exchanges.Load() != 0 {
		t.Error("a code of one provider was sent to another")
	}
}

func TestIssIsDemandedWhereTheProviderSendsIt(t *testing.T) { // RFC 9207 2.4
	g := newRig(t)
	g.op.discovery = func(doc map[string]any) { doc["authorization_response_iss_parameter_supported"] = true }
	g.addUser("main|alice", "")
	if w := g.browser().signIn("alice", nil); w.Code != http.StatusBadRequest {
		t.Fatal(w.Code)
	}
}

func TestCallbackWithBrokenParametersIs400(t *testing.T) { // CB-1
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	u := b.away("")
	state := u.Query().Get("state")
	for name, query := range map[string]string{
		"nothing": "", "no state": "code=a", "no code": "state=" + state, "empty state": "state=&code=a", "empty code": "state=" + state + "&code=", "two states": "state=" + state + "&state=" + state + "&code=a",
		"two codes": "state=" + state + "&code=a&code=b", "two errors": "state=" + state + "&error=a&error=b", "code and error": "state=" + state + "&code=a&error=b", "two iss": "state=" + state + "&code=a&iss=x&iss=x",
		"long code": "state=" + state + "&code=" + strings.Repeat("a", maxCode+1), "long state": "state=" + strings.Repeat("a", maxState+1) + "&code=a", "long query": "state=" + state + "&code=a&x=" + strings.Repeat("a", maxCallbackQuery),
		"bad escape": "state=%zz&code=a", "strange state": "state=abc&code=a", "state of ours, changed": "state=" + state[:len(state)-1] + "&code=a", "nul": "state=%00&code=%00", "semicolons": "state=" + state + ";code=a",
	} {
		w := b.do(http.MethodGet, callbackPath+"main?"+query)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "Sign in again") {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	if w := b.do(http.MethodPost, callbackPath+"main?code=a&state="+state); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET" {
		t.Errorf("POST: %d", w.Code)
	}
	for _, name := range []string{"", "nobody", "main/x", "MAIN"} {
		if w := b.do(http.MethodGet, callbackPath+name+"?code=a&state="+state); w.Code != http.StatusNotFound {
			t.Errorf("provider %q: %d", name, w.Code)
		}
	}
	if w := b.back(g.op, "main", u, "alice", nil); w.Code != http.StatusFound {
		t.Errorf("none of that used the flow up: %d", w.Code)
	}
}

func TestProvidersErrorsArePagesWithAWayOn(t *testing.T) {
	g := newRig(t)
	for code, want := range map[string]int{
		"access_denied": 403, "login_required": 400, "invalid_scope": 400, "server_error": 503, "temporarily_unavailable": 503, "<script>alert(1)</script>": 400, "canary-words": 400,
	} {
		b := g.browser()
		u := b.away("?return_to=/x")
		q := url.Values{"state": {u.Query().Get("state")}, "error": {code}, "error_description": {"call 555-canary"}}
		w := b.do(http.MethodGet, callbackPath+"main?"+q.Encode())
		body := w.Body.String()
		if w.Code != want || strings.Contains(body, "canary") || strings.Contains(body, "<script") {
			t.Errorf("%s: %d %s", code, w.Code, body)
		}
		if want != 503 && !strings.Contains(body, "/_gate/login?return_to=%2Fx") {
			t.Errorf("%s: no way on", code)
		}
		if len(b.cookies) != 0 {
			t.Errorf("%s: left %v", code, b.cookies)
		}
	}
}

func TestSeveralProvidersGiveAChoice(t *testing.T) {
	g := newRig(t)
	other := newIssuer(t, g.clock.Now)
	g.cfg.Providers = append(g.cfg.Providers,
		Provider{Name: "other", Issuer: other.url(), ClientID: clientID, ClientSecret: secret.New(clientSecret), SubjectPrefix: "other|"},
		Provider{Name: "machines", Issuer: other.url(), SubjectPrefix: "machines|", Bearer: BearerConfig{Audiences: []string{"api"}}})
	g.auth = g.replica()
	g.addUser("other|alice", "")
	b := g.browser()
	w := b.do(http.MethodGet, loginPath+"?return_to=/x%26y")
	body := w.Body.String()
	if w.Code != http.StatusOK || !strings.Contains(body, "provider=main&amp;return_to=%2Fx%26y") || !strings.Contains(body, "provider=other") || strings.Contains(body, "machines") {
		t.Fatalf("%d %s", w.Code, body)
	}
	if len(b.cookies) != 0 || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatal("a page to choose begins nothing")
	}
	u := b.away("?provider=other&return_to=/x")
	if !strings.HasPrefix(u.String(), other.url()) {
		t.Fatal(u)
	}
	if w := b.back(other, "other", u, "alice", nil); w.Header().Get("Location") != "/x" {
		t.Fatal(w.Code)
	}
	for query, want := range map[string]int{"?provider=nobody": 404, "?provider=machines": 404, "?provider=main&provider=other": 400, "?return_to=/a&return_to=/b": 400, "?return_to=//evil.com": 400, "?%zz": 400} {
		if w := b.do(http.MethodGet, loginPath+query); w.Code != want {
			t.Errorf("%s: %d, want %d", query, w.Code, want)
		}
	}
}

func TestSignInHappensOnThePublicHostAlone(t *testing.T) {
	g := newRig(t)
	for _, host := range []string{"acme.app.example.com", "evil.com", ""} {
		for _, f := range []http.HandlerFunc{g.auth.Login, g.auth.Callback} {
			r := httptest.NewRequest(http.MethodGet, loginPath, nil)
			r.Host = host
			w := httptest.NewRecorder()
			f(w, r)
			if w.Header().Get("X-Code") != codeBadHost || len(w.Header()["Set-Cookie"]) != 0 {
				t.Errorf("%q: %d %s", host, w.Code, w.Header().Get("X-Code"))
			}
		}
	}
	if w := g.browser().do(http.MethodPost, loginPath); w.Code != http.StatusMethodNotAllowed {
		t.Error(w.Code)
	}
}

func TestProviderThatIsDownStopsItsSignInAlone(t *testing.T) {
	g := newRig(t)
	g.op.answer(wellKnown, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	g.addUser("main|alice", "")
	b := g.browser()
	if w := b.do(http.MethodGet, loginPath); w.Header().Get("X-Code") != codeProviderUnavailable || len(b.cookies) != 0 {
		t.Fatalf("%d %s", w.Code, w.Header().Get("X-Code"))
	}
	if s := g.auth.Providers(); len(s) != 1 || s[0].Err == nil || !s[0].Reached.IsZero() {
		t.Fatalf("%+v", s)
	}
	g.op.answer(wellKnown, nil)
	g.clock.advance(2 * time.Second)
	b.mustSignIn("alice")
	if s := g.auth.Providers(); s[0].Err != nil || s[0].Reached.IsZero() {
		t.Fatalf("%+v", s)
	}
	g.op.answer("/token", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	if w := b.signIn("alice", nil); w.Header().Get("X-Code") != codeProviderUnavailable {
		t.Fatalf("token endpoint down: %d", w.Code)
	}
	if _, err := b.identity(); err != nil {
		t.Fatalf("the session that was there: %v", err)
	}
	for name, f := range map[string]http.HandlerFunc{
		"words": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }, "nothing": func(http.ResponseWriter, *http.Request) {},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"no access token": func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, map[string]any{"id_token": "x"}) },
		"huge":            func(w http.ResponseWriter, _ *http.Request) { pour(w, 100<<20) },
	} {
		g.op.answer("/token", f)
		if w := b.signIn("alice", nil); w.Code < 400 || len(g.audits("sign_in")) != 1 {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
}

// pour writes n bytes, or as many as are read.
func pour(w http.ResponseWriter, n int) {
	chunk := bytes.Repeat([]byte(" "), 64<<10)
	_, _ = w.Write([]byte(`{"keys":[`))
	for range n / len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func TestHostileDiscoveryIsRefused(t *testing.T) { // SSRF-1, LIM-1
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another host was asked") }))
	t.Cleanup(evil.Close)
	set := func(name string, v any) func(map[string]any) { return func(doc map[string]any) { doc[name] = v } }
	for name, lie := range map[string]func(map[string]any){
		"other issuer": set("issuer", "https://evil.example.com"), "issuer with a slash": func(doc map[string]any) { doc["issuer"] = doc["issuer"].(string) + "/" },
		"no issuer": set("issuer", ""), "no jwks": set("jwks_uri", ""), "file jwks": set("jwks_uri", "file:///etc/passwd"), "plain jwks elsewhere": set("jwks_uri", "http://keys.example.com/jwks"),
		"script": set("authorization_endpoint", "javascript:alert(1)"), "user info": set("token_endpoint", "https://a@b/token"), "number": set("issuer", 1),
	} {
		g := newRig(t)
		g.op.discovery = lie
		if w := g.browser().do(http.MethodGet, loginPath); w.Header().Get("X-Code") != codeProviderUnavailable {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	for name, f := range map[string]http.HandlerFunc{
		"redirect to another host": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, evil.URL+wellKnown, http.StatusFound)
		},
		"endless redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, wellKnown, http.StatusFound) },
		"huge":             func(w http.ResponseWriter, _ *http.Request) { pour(w, 100<<20) },
		"declared huge":    func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", fmt.Sprint(100<<20)) },
		"words":            func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) },
	} {
		g := newRig(t)
		g.op.answer(wellKnown, f)
		if w := g.browser().do(http.MethodGet, loginPath); w.Header().Get("X-Code") != codeProviderUnavailable {
			t.Errorf("%s: %d", name, w.Code)
		}
		if n := g.op.discoveries.Load(); n > 1+maxHops {
			t.Errorf("%s: %d requests", name, n)
		}
	}
}

func TestSignInWhileTheHostDatabaseIsDownIs503(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	u := b.away("")
	if err := g.host.Close(); err != nil {
		t.Fatal(err)
	}
	w := b.back(g.op, "main", u, "alice", nil)
	if w.Header().Get("X-Code") != codeHostDatabase || b.cookies["__Host-tg_session"] != "" {
		t.Fatalf("%d %v", w.Code, b.cookies)
	}
	g.clock.advance(pingEvery)
	if w := b.do(http.MethodGet, loginPath); w.Header().Get("X-Code") != codeHostDatabase || len(b.cookies) != 0 {
		t.Fatalf("sent away to come back to an error: %d %v", w.Code, b.cookies)
	}
}

func TestManySignInsOfOnePersonAtOnceMakeOneUser(t *testing.T) {
	onBothEngines(t, func(t *testing.T, engine rigOption) {
		g := newRig(t, engine, trusting, signingUp, func(g *rig) { g.cfg.SignUpLimit = 1000 })
		linked := g.addUser("", "linked@example.com")
		replicas := []*Auth{g.auth, g.replica()}
		var group sync.WaitGroup
		for i := range 32 {
			b := g.browser()
			b.auth = replicas[i%2]
			group.Go(func() {
				name := []string{"alice", "linked"}[i/2%2]
				if w := b.signIn(name, verifiedMail(name+"@example.com")); w.Code != http.StatusFound {
					t.Errorf("%s: %d %s", name, w.Code, w.Header().Get("X-Code"))
				}
				if _, err := b.identity(); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		users, err := g.host.UsersByEmail(context.Background(), "alice@example.com")
		if err != nil || len(users) != 1 || g.sessionCount(users[0].ID) != 16 {
			t.Fatalf("%d users, %v", len(users), err)
		}
		if n := g.sessionCount(linked); n != 16 {
			t.Fatalf("%d sessions of the linked user", n)
		}
		if n := len(g.audits("sign_in")); n != 32 {
			t.Fatalf("%d audit rows", n)
		}
	})
}

func TestSessionLivesAndEndsOnBothEngines(t *testing.T) {
	onBothEngines(t, func(t *testing.T, engine rigOption) {
		g := newRig(t, engine)
		user := g.addUser("main|alice", "")
		b := g.browser()
		first := b.mustSignIn("alice")
		b.mustSignIn("alice")
		if _, err := g.auth.present("app.example.com", sessionName+first); !errors.Is(err, ErrSessionExpired) {
			t.Fatalf("replaced: %v", err)
		}
		other := g.replica()
		id, err := other.present("app.example.com", b.cookieHeader()...)
		if err != nil || id.User != user {
			t.Fatal(err)
		}
		if err := other.SetTenant(t.Context(), id, "acme"); err != nil {
			t.Fatal(err)
		}
		g.clock.advance(59 * time.Minute)
		if id, err = b.identity(); err != nil || id.SessionTenant != "acme" {
			t.Fatalf("%+v %v", id, err)
		}
		if err := g.auth.Close(); err != nil {
			t.Fatal(err)
		}
		if got := g.lastSeen(id.Session); !got.Equal(g.clock.Now()) {
			t.Fatalf("last_seen %v", got)
		}
		b.auth = other
		if w := b.do(http.MethodPost, logoutPath); w.Code != http.StatusSeeOther || g.sessionCount(user) != 0 || len(g.audits("sign_out")) != 2 {
			t.Fatalf("%d, %d sessions", w.Code, g.sessionCount(user))
		}
	})
}

func TestSecretsOfASignInAreInNoLogPageOrThirdPartyURL(t *testing.T) { // LEAK-2, LEAK-3, REDIR-2
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	u := b.away("")
	cookie := b.cookieHeader()[0]
	w := b.back(g.op, "main", u, "alice", nil)
	session := b.cookies["__Host-tg_session"]
	out := w.Body.String() + w.Header().Get("Location")
	g.op.tokenAnswer = func(answer map[string]any) { answer["id_token"] = "id-token-canary" }
	refused := b.signIn("alice", nil)
	out += refused.Body.String()
	g.op.answer("/token", func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, "echo %s %s %s", r.PostForm, r.Header, clientSecret)
	})
	refused = b.signIn("alice", nil)
	g.op.answer("/token", nil)
	replay := b.back(g.op, "main", u, "alice", nil)
	out += refused.Body.String() + replay.Body.String() + g.log.String()
	_, sealed, _ := strings.Cut(cookie, "=")
	for name, canary := range map[string]string{
		"code": "code-canary", "state": u.Query().Get("state"), "nonce": u.Query().Get("nonce"), "access token": "access-canary", "id token": "id-token-canary",
		"client secret": clientSecret, "session": session, "flow cookie": sealed, "verifier": "code_verifier",
	} {
		if strings.Contains(out, canary) {
			t.Errorf("%s shows up:\n%s", name, out)
		}
	}
	if refused.Header().Get("Referrer-Policy") != "no-referrer" || w.Header().Get("Referrer-Policy") != "no-referrer" {
		t.Error("a callback's address is named to others")
	}
}
