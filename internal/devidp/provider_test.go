package devidp

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"go.uber.org/goleak"
	"golang.org/x/oauth2"

	"github.com/tenantgate/tenantgate/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const callback = "http://127.0.0.1:9/_gate/callback/dev"

// harness is a provider on a real socket, and a browser and a client (coreos/go-oidc) for it.
type harness struct {
	t        *testing.T
	ctx      context.Context
	provider *Provider
	server   *httptest.Server
	browser  *http.Client
	client   *oidc.Provider
	oauth    oauth2.Config
	now      func(time.Duration) // moves the clock
}

func people() []Person {
	return []Person{
		{Subject: "olivia", Email: "olivia@acme.example", EmailVerified: true, Name: "Olivia Ortega", Note: "owner of Acme, paying"},
		{Subject: "mara", Email: "mara@globex.example", Name: "Mara Lindqvist"},
	}
}

func newHarness(t *testing.T, change func(*Config)) *harness {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	var mu sync.Mutex
	now := time.Now()
	cfg := Config{
		Issuer: "http://" + server.Listener.Addr().String(), People: people(),
		ClientID: "tenantgate", ClientSecret: secret.New("s3cret/with+signs"), ClientName: "the demo",
		RedirectURIs: []string{callback}, PostLogoutRedirectURIs: []string{"http://127.0.0.1:9/"},
		Key: testKey(),
		Clock: func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		},
	}
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = p
	server.Start()
	transport := &http.Transport{}
	jar, _ := cookiejar.New(nil)
	h := &harness{
		t: t, provider: p, server: server,
		browser: &http.Client{
			Transport: transport, Jar: jar, Timeout: time.Minute,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		now: func(d time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			now = now.Add(d)
		},
	}
	t.Cleanup(func() {
		_ = p.Close()
		server.Close()
		transport.CloseIdleConnections()
	})
	h.ctx = oidc.ClientContext(t.Context(), &http.Client{Transport: transport, Timeout: time.Minute})
	if h.client, err = oidc.NewProvider(h.ctx, p.Issuer()); err != nil {
		t.Fatal(err)
	}
	h.oauth = oauth2.Config{
		ClientID: "tenantgate", ClientSecret: "s3cret/with+signs", Endpoint: h.client.Endpoint(),
		RedirectURL: callback, Scopes: []string{"openid", "email", "profile"},
	}
	return h
}

// testKey is one RSA key for all tests: making one takes most of a test's time.
var testKey = sync.OnceValue(func() crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func (h *harness) get(target string) (*http.Response, string) {
	h.t.Helper()
	res, err := h.browser.Get(h.resolve(target))
	return h.read(res, err)
}

func (h *harness) post(target string, form url.Values) (*http.Response, string) {
	h.t.Helper()
	res, err := h.browser.PostForm(h.resolve(target), form)
	return h.read(res, err)
}

func (h *harness) resolve(target string) string {
	if strings.HasPrefix(target, "/") {
		return h.server.URL + target
	}
	return target
}

func (h *harness) read(res *http.Response, err error) (*http.Response, string) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return res, string(body)
}

// begin opens the authorization endpoint and returns the sign-in's id and the verifier.
func (h *harness) begin(extra ...oauth2.AuthCodeOption) (id, verifier string) {
	h.t.Helper()
	verifier = oauth2.GenerateVerifier()
	options := append([]oauth2.AuthCodeOption{oauth2.S256ChallengeOption(verifier), oidc.Nonce("nonce-1")}, extra...)
	res, body := h.get(h.oauth.AuthCodeURL("state-1", options...))
	location, err := res.Location()
	if err != nil {
		h.t.Fatalf("authorize: %d %s", res.StatusCode, body)
	}
	if id = location.Query().Get("id"); id == "" {
		h.t.Fatalf("authorize went to %s", location)
	}
	return id, verifier
}

// pick posts the page's form and returns where it leads.
func (h *harness) pick(id, subject string) url.Values {
	h.t.Helper()
	res, body := h.post("/login", url.Values{"id": {id}, "subject": {subject}})
	location, err := res.Location()
	if err != nil {
		h.t.Fatalf("login: %d %s", res.StatusCode, body)
	}
	if got := location.Scheme + "://" + location.Host + location.Path; got != callback {
		h.t.Fatalf("login went to %s", got)
	}
	return location.Query()
}

// code is begin and pick.
func (h *harness) code(subject string) (code, verifier string) {
	h.t.Helper()
	id, verifier := h.begin()
	q := h.pick(id, subject)
	if q.Get("code") == "" || q.Get("state") != "state-1" {
		h.t.Fatalf("callback got %v", q)
	}
	return q.Get("code"), verifier
}

func TestCodeFlowGivesVerifiableIdentity(t *testing.T) {
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"RS256": testKey(), "ES256": ecKey} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, func(c *Config) { c.Key = key })
			code, verifier := h.code("olivia")
			tok, err := h.oauth.Exchange(h.ctx, code, oauth2.VerifierOption(verifier))
			if err != nil {
				t.Fatal(err)
			}
			raw, _ := tok.Extra("id_token").(string)
			idToken, err := h.client.Verifier(&oidc.Config{ClientID: "tenantgate", SupportedSigningAlgs: []string{name}}).Verify(h.ctx, raw)
			if err != nil {
				t.Fatal(err)
			}
			if idToken.Subject != "olivia" || idToken.Nonce != "nonce-1" || idToken.VerifyAccessToken(tok.AccessToken) != nil {
				t.Fatalf("unexpected id token %+v", idToken)
			}
			var claims struct {
				Email    string `json:"email"`
				Verified bool   `json:"email_verified"`
				Name     string `json:"name"`
			}
			if err := idToken.Claims(&claims); err != nil {
				t.Fatal(err)
			}
			if claims.Email != "olivia@acme.example" || !claims.Verified || claims.Name != "Olivia Ortega" {
				t.Fatalf("claims %+v", claims)
			}
			info, err := h.client.UserInfo(h.ctx, oauth2.StaticTokenSource(tok))
			if err != nil {
				t.Fatal(err)
			}
			if info.Subject != "olivia" || info.Email != "olivia@acme.example" || !info.EmailVerified {
				t.Fatalf("userinfo %+v", info)
			}
			if tok.RefreshToken != "" {
				t.Fatal("a refresh token was given")
			}
		})
	}
}

func TestUnverifiedAddressStaysUnverified(t *testing.T) {
	h := newHarness(t, nil)
	code, verifier := h.code("mara")
	tok, err := h.oauth.Exchange(h.ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	info, err := h.client.UserInfo(h.ctx, oauth2.StaticTokenSource(tok))
	if err != nil {
		t.Fatal(err)
	}
	if info.Email != "mara@globex.example" || info.EmailVerified {
		t.Fatalf("userinfo %+v", info)
	}
}

// PKCE-1 (CVE-2023-48228): the verifier is demanded, not merely checked when it is there.
func TestCodeWithoutItsVerifierIsRefused(t *testing.T) {
	h := newHarness(t, nil)
	for name, options := range map[string][]oauth2.AuthCodeOption{
		"none":  nil,
		"empty": {oauth2.SetAuthURLParam("code_verifier", "")},
		"wrong": {oauth2.VerifierOption(oauth2.GenerateVerifier())},
	} {
		t.Run(name, func(t *testing.T) {
			code, verifier := h.code("olivia")
			if _, err := h.oauth.Exchange(h.ctx, code, options...); err == nil {
				t.Fatal("the code was exchanged")
			}
			if _, err := h.oauth.Exchange(h.ctx, code, oauth2.VerifierOption(verifier)); err == nil {
				t.Fatal("a code that was shown with a wrong verifier is still good")
			}
		})
	}
}

func TestSignInWithoutS256ChallengeIsRefused(t *testing.T) {
	h := newHarness(t, nil)
	verifier := oauth2.GenerateVerifier()
	for name, options := range map[string][]oauth2.AuthCodeOption{
		"no challenge":        nil,
		"plain":               {oauth2.SetAuthURLParam("code_challenge", verifier), oauth2.SetAuthURLParam("code_challenge_method", "plain")},
		"no method":           {oauth2.SetAuthURLParam("code_challenge", verifier)},
		"unknown method":      {oauth2.SetAuthURLParam("code_challenge", verifier), oauth2.SetAuthURLParam("code_challenge_method", "S512")},
		"challenge too short": {oauth2.SetAuthURLParam("code_challenge", "abc"), oauth2.SetAuthURLParam("code_challenge_method", "S256")},
		"form_post":           {oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("response_mode", "form_post")},
		"prompt none":         {oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("prompt", "none")},
		"no openid":           {oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("scope", "email")},
		"nonce too long":      {oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("nonce", strings.Repeat("n", 3000))},
	} {
		t.Run(name, func(t *testing.T) {
			res, body := h.get(h.oauth.AuthCodeURL("state-1", options...))
			location, err := res.Location()
			if err != nil {
				t.Fatalf("%d %s", res.StatusCode, body)
			}
			if location.Path == "/login" || !strings.HasPrefix(location.String(), callback) {
				t.Fatalf("went to %s", location)
			}
			if !strings.Contains(location.String(), "error=") {
				t.Fatalf("no error in %s", location)
			}
		})
	}
}

func TestImplicitFlowIsRefused(t *testing.T) {
	h := newHarness(t, nil)
	for _, kind := range []string{"id_token", "id_token token", "token", ""} {
		res, _ := h.get(h.oauth.AuthCodeURL("s", oauth2.S256ChallengeOption(oauth2.GenerateVerifier()),
			oauth2.SetAuthURLParam("response_type", kind)))
		if location := res.Header.Get("Location"); strings.HasPrefix(location, "/login") || res.StatusCode == http.StatusOK {
			t.Errorf("%q: %d, Location %q", kind, res.StatusCode, location)
		}
	}
}

func TestCodeIsGoodOnceEvenForTwoAtOnce(t *testing.T) {
	h := newHarness(t, nil)
	code, verifier := h.code("olivia")
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 8 {
		wg.Go(func() {
			if _, err := h.oauth.Exchange(h.ctx, code, oauth2.VerifierOption(verifier)); err == nil {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Fatalf("%d of 8 exchanges won", won)
	}
}

func TestExchangeNeedsTheClientAndItsRedirect(t *testing.T) {
	h := newHarness(t, nil)
	for name, change := range map[string]func(*oauth2.Config){
		"wrong secret":   func(c *oauth2.Config) { c.ClientSecret = "guess" },
		"no secret":      func(c *oauth2.Config) { c.ClientSecret = "" },
		"other client":   func(c *oauth2.Config) { c.ClientID = "other" },
		"other redirect": func(c *oauth2.Config) { c.RedirectURL = "http://127.0.0.1:9/elsewhere" },
	} {
		t.Run(name, func(t *testing.T) {
			code, verifier := h.code("olivia")
			conf := h.oauth
			change(&conf)
			if _, err := conf.Exchange(h.ctx, code, oauth2.VerifierOption(verifier)); err == nil {
				t.Fatal("the code was exchanged")
			}
		})
	}
}

func TestUnregisteredRedirectNeverReceivesAnything(t *testing.T) {
	h := newHarness(t, nil)
	for _, target := range []string{"http://127.0.0.1:9/other", "http://evil.example/_gate/callback/dev", callback + "?x=1", callback + "/"} {
		conf := h.oauth
		conf.RedirectURL = target
		res, _ := h.get(conf.AuthCodeURL("s", oauth2.S256ChallengeOption(oauth2.GenerateVerifier())))
		if res.StatusCode != http.StatusBadRequest || res.Header.Get("Location") != "" {
			t.Errorf("%s: %d, Location %q", target, res.StatusCode, res.Header.Get("Location"))
		}
	}
}

func TestPageShowsPeopleAndWorksWithoutScript(t *testing.T) {
	h := newHarness(t, func(c *Config) {
		c.People = append(c.People, Person{Subject: "x", Name: "<script>alert(1)</script>", Email: "x@y.example"})
	})
	id, _ := h.begin(oauth2.SetAuthURLParam("login_hint", "MARA@globex.example"))
	res, body := h.get("/login?id=" + id)
	if res.StatusCode != http.StatusOK {
		t.Fatal(res.StatusCode)
	}
	for _, want := range []string{"Olivia Ortega", "olivia@acme.example", "owner of Acme, paying", "the demo", "127.0.0.1:9", `value="mara" autofocus`} {
		if !strings.Contains(body, want) {
			t.Errorf("page lacks %q", want)
		}
	}
	if strings.Contains(strings.ToLower(body), "<script") || strings.Contains(body, "style=") {
		t.Error("the page carries a script or an inline style")
	}
	if csp := res.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("CSP %q", csp)
	}
	if res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Set-Cookie") != "" {
		t.Errorf("headers %v", res.Header)
	}
	if res, _ := h.get("/style.css"); res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/css") {
		t.Errorf("style: %d", res.StatusCode)
	}
}

func TestCancelTellsTheClient(t *testing.T) {
	h := newHarness(t, nil)
	id, _ := h.begin()
	if q := h.pick(id, ""); q.Get("error") != "access_denied" || q.Get("state") != "state-1" || q.Has("code") {
		t.Fatalf("callback got %v", q)
	}
	if res, body := h.get("/login?id=" + id); res.StatusCode != http.StatusBadRequest || !strings.Contains(body, "sign in again") {
		t.Fatalf("after the cancel: %d", res.StatusCode)
	}
}

func TestSecondPickVoidsTheFirstCode(t *testing.T) {
	h := newHarness(t, nil)
	id, verifier := h.begin()
	first, second := h.pick(id, "olivia").Get("code"), h.pick(id, "mara").Get("code")
	if _, err := h.oauth.Exchange(h.ctx, first, oauth2.VerifierOption(verifier)); err == nil {
		t.Fatal("the first code is still good")
	}
	if _, err := h.oauth.Exchange(h.ctx, second, oauth2.VerifierOption(verifier)); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownSubjectOrRequestEndsInAPage(t *testing.T) {
	h := newHarness(t, nil)
	id, _ := h.begin()
	for _, form := range []url.Values{
		{"id": {id}, "subject": {"nobody"}},
		{"id": {"guess"}, "subject": {"olivia"}},
		{"id": {"guess"}},
		{},
		{"id": {strings.Repeat("x", maxBody)}, "subject": {"olivia"}},
	} {
		if res, body := h.post("/login", form); res.StatusCode != http.StatusBadRequest || !strings.Contains(body, "has ended") {
			t.Errorf("%.60v: %d", form, res.StatusCode)
		}
	}
}

// CSRF-1: a form of another site picks nobody.
func TestPickFromAnotherSiteIsRefused(t *testing.T) {
	h := newHarness(t, nil)
	id, _ := h.begin()
	for _, header := range []http.Header{
		{"Sec-Fetch-Site": {"cross-site"}},
		{"Sec-Fetch-Site": {"same-site"}},
		{"Origin": {"http://evil.example"}},
	} {
		req, _ := http.NewRequestWithContext(h.ctx, "POST", h.server.URL+"/login",
			strings.NewReader(url.Values{"id": {id}, "subject": {"olivia"}}.Encode()))
		req.Header = header.Clone()
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if res, _ := h.read(h.browser.Do(req)); res.StatusCode != http.StatusForbidden {
			t.Errorf("%v: %d", header, res.StatusCode)
		}
	}
}

// A name that an attacker rebinds to 127.0.0.1 must not reach the page.
func TestOnlyLoopbackNamesAreAnswered(t *testing.T) {
	h := newHarness(t, nil)
	for host, want := range map[string]int{
		"127.0.0.1:8081": 200, "localhost": 200, "[::1]:8081": 200, "acme.localhost:1": 200,
		"evil.example": 421, "localhost.evil.example": 421, "10.0.0.1": 421, "0.0.0.0:8081": 421, "": 421,
	} {
		req := httptest.NewRequest("GET", discoveryPath, nil)
		req.Host = host
		rec := httptest.NewRecorder()
		h.provider.ServeHTTP(rec, req)
		if rec.Code != want {
			t.Errorf("Host %q: %d, want %d", host, rec.Code, want)
		}
	}
}

func TestDiscoveryNamesOnlyWhatIsServed(t *testing.T) {
	h := newHarness(t, nil)
	_, body := h.get(discoveryPath)
	var doc map[string]any
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	for key, value := range doc {
		target, ok := value.(string)
		if !ok || !strings.HasSuffix(key, "_endpoint") && key != "jwks_uri" {
			continue
		}
		res, _ := h.get(target)
		if res.StatusCode == http.StatusNotFound {
			t.Errorf("%s = %s is not served", key, target)
		}
	}
	for _, absent := range []string{"introspection_endpoint", "revocation_endpoint", "device_authorization_endpoint"} {
		if _, ok := doc[absent]; ok {
			t.Errorf("%s is advertised", absent)
		}
	}
	for _, path := range []string{"/oauth/introspect", "/revoke", "/device_authorization", "/authorize/callback", "/ready", "/nothing"} {
		if res, _ := h.post(path, nil); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	if methods, _ := doc["code_challenge_methods_supported"].([]any); len(methods) != 1 || methods[0] != "S256" {
		t.Errorf("code challenge methods %v", methods)
	}
	if res, _ := h.get("/oauth/token?grant_type=authorization_code"); res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET on the token endpoint: %d", res.StatusCode)
	}
}

func TestOtherGrantsAreRefused(t *testing.T) {
	h := newHarness(t, nil)
	for _, grant := range []string{
		"password", "client_credentials", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code",
		"urn:ietf:params:oauth:grant-type:token-exchange", "urn:ietf:params:oauth:grant-type:jwt-bearer", "",
	} {
		form := url.Values{
			"grant_type": {grant}, "client_id": {"tenantgate"}, "client_secret": {"s3cret/with+signs"},
			"username": {"olivia"}, "scope": {"openid"}, "refresh_token": {"x"}, "assertion": {"x"},
		}
		if res, body := h.post("/oauth/token", form); res.StatusCode < 400 || strings.Contains(body, "access_token\"") {
			t.Errorf("%q: %d %s", grant, res.StatusCode, body)
		}
	}
}

func TestEndSessionReturnsToTheClientAndEndsItsTokens(t *testing.T) {
	h := newHarness(t, nil)
	code, verifier := h.code("olivia")
	tok, err := h.oauth.Exchange(h.ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	hint, _ := tok.Extra("id_token").(string)
	var doc struct {
		EndSession string `json:"end_session_endpoint"`
	}
	if err := h.client.Claims(&doc); err != nil {
		t.Fatal(err)
	}
	res, _ := h.get(doc.EndSession + "?" + url.Values{
		"id_token_hint": {hint}, "post_logout_redirect_uri": {"http://127.0.0.1:9/"}, "state": {"bye"},
	}.Encode())
	if got := res.Header.Get("Location"); got != "http://127.0.0.1:9/?state=bye" {
		t.Fatalf("%d, Location %q", res.StatusCode, got)
	}
	if _, err := h.client.UserInfo(h.ctx, oauth2.StaticTokenSource(tok)); err == nil {
		t.Fatal("the access token still opens userinfo")
	}
	for _, target := range []string{"http://evil.example/", "http://127.0.0.1:9/other"} {
		res, _ := h.get(doc.EndSession + "?" + url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {target}}.Encode())
		if res.StatusCode != http.StatusBadRequest || res.Header.Get("Location") != "" {
			t.Errorf("%s: %d", target, res.StatusCode)
		}
	}
	res, _ = h.get(doc.EndSession + "?post_logout_redirect_uri=" + url.QueryEscape("http://evil.example/"))
	if got := res.Header.Get("Location"); got != h.server.URL+"/signed-out" {
		t.Errorf("without a hint: %q", got)
	}
	if res, body := h.get("/signed-out"); res.StatusCode != http.StatusOK || !strings.Contains(body, "You are signed out") {
		t.Errorf("signed-out page: %d", res.StatusCode)
	}
}

func TestPendingSignInsAndCodesExpire(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.PendingTTL = 5 * time.Minute })
	id, _ := h.begin()
	code, verifier := h.code("olivia")
	h.now(61 * time.Second)
	if _, err := h.oauth.Exchange(h.ctx, code, oauth2.VerifierOption(verifier)); err == nil {
		t.Error("a code older than a minute is still good")
	}
	if res, _ := h.get("/login?id=" + id); res.StatusCode != http.StatusOK {
		t.Errorf("after a minute the page is gone: %d", res.StatusCode)
	}
	h.now(5 * time.Minute)
	if res, _ := h.get("/login?id=" + id); res.StatusCode != http.StatusBadRequest {
		t.Errorf("after its time the page is there: %d", res.StatusCode)
	}
}

func TestStateIsBounded(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.MaxPending = 3 })
	var ids []string
	for range 5 {
		id, _ := h.begin()
		h.now(time.Second)
		ids = append(ids, id)
	}
	for i, id := range ids {
		want := http.StatusOK
		if i < 2 {
			want = http.StatusBadRequest
		}
		if res, _ := h.get("/login?id=" + id); res.StatusCode != want {
			t.Errorf("sign-in %d of 5: %d, want %d", i, res.StatusCode, want)
		}
	}
	for range maxTokens + 5 {
		if _, _, err := h.provider.store.CreateAccessToken(t.Context(), &authRequest{subject: "olivia"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(h.provider.store.tokens); n != maxTokens {
		t.Errorf("%d tokens are kept, want %d", n, maxTokens)
	}
	h.now(2 * tokenTTL)
	if _, _, err := h.provider.store.CreateAccessToken(t.Context(), &authRequest{subject: "olivia"}); err != nil {
		t.Fatal(err)
	}
	if n := len(h.provider.store.tokens); n != 1 {
		t.Errorf("%d tokens are kept after all but one ended", n)
	}
}

func TestClosedProviderRefuses(t *testing.T) {
	h := newHarness(t, nil)
	id, _ := h.begin()
	if err := h.provider.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.provider.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/login?id=" + id, discoveryPath, "/keys"} {
		if res, _ := h.get(path); res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
}

func TestMintedTokenIsVerifiableByJWKSForItsAudienceOnly(t *testing.T) {
	h := newHarness(t, nil)
	raw, err := h.provider.MintAccessToken("olivia", "tenantgate-api", time.Hour, map[string]any{"tenant": "acme", "sub": "root", "iss": "x"})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := h.client.Verifier(&oidc.Config{ClientID: "tenantgate-api", SupportedSigningAlgs: []string{"RS256"}}).Verify(h.ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := tok.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	if tok.Subject != "olivia" || claims["tenant"] != "acme" || claims["client_id"] != "tenantgate" || claims["email_verified"] != true {
		t.Fatalf("claims %v", claims)
	}
	if _, err := h.client.Verifier(&oidc.Config{ClientID: "tenantgate"}).Verify(h.ctx, raw); err == nil {
		t.Error("the token passes as an ID token")
	}
	if _, err := h.client.UserInfo(h.ctx, oauth2.StaticTokenSource(&oauth2.Token{AccessToken: raw})); err == nil {
		t.Error("the token opens userinfo")
	}
	for name, try := range map[string]func() (string, error){
		"stranger":    func() (string, error) { return h.provider.MintAccessToken("nobody", "a", time.Hour, nil) },
		"no audience": func() (string, error) { return h.provider.MintAccessToken("olivia", "", time.Hour, nil) },
		"no lifetime": func() (string, error) { return h.provider.MintAccessToken("olivia", "a", 0, nil) },
		"too long":    func() (string, error) { return h.provider.MintAccessToken("olivia", "a", 31*24*time.Hour, nil) },
	} {
		if got, err := try(); err == nil || got != "" {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestKeptKeyKeepsItsKidAndTokens(t *testing.T) {
	pem, err := MarshalKey(testKey())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	a, err := newSigningKey(testKey())
	if err != nil {
		t.Fatal(err)
	}
	b, err := newSigningKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if a.id != b.id || a.algorithm != "RS256" {
		t.Fatalf("kid %s became %s", a.id, b.id)
	}
}

func TestUnusableKeysAreRefusedWithoutBeingShown(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := MarshalKey(p384)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{"", "canary-text", "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----\n", string(text)} {
		_, err := ParseKey([]byte(in))
		if err == nil {
			t.Errorf("%.20q was taken", in)
		} else if strings.Contains(err.Error(), "canary") {
			t.Errorf("the error shows the text: %v", err)
		}
	}
}

func TestConfigIsCheckedBeforeAnythingIsServed(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no issuer":          func(c *Config) { c.Issuer = "" },
		"not loopback":       func(c *Config) { c.Issuer = "http://10.1.2.3:8081" },
		"rebindable name":    func(c *Config) { c.Issuer = "http://localhost.evil.example" },
		"https":              func(c *Config) { c.Issuer = "https://127.0.0.1" },
		"path":               func(c *Config) { c.Issuer = "http://127.0.0.1/x" },
		"no people":          func(c *Config) { c.People = nil },
		"too many people":    func(c *Config) { c.People = make([]Person, maxPeople+1) },
		"same subject twice": func(c *Config) { c.People = append(c.People, c.People[0]) },
		"subject with colon": func(c *Config) { c.People[0].Subject = "a:b" },
		"empty subject":      func(c *Config) { c.People[0].Subject = "" },
		"no client":          func(c *Config) { c.ClientID = "" },
		"no secret":          func(c *Config) { c.ClientSecret = secret.Text{} },
		"no redirect":        func(c *Config) { c.RedirectURIs = nil },
		"script redirect":    func(c *Config) { c.RedirectURIs = []string{"javascript:alert(1)"} },
		"relative logout":    func(c *Config) { c.PostLogoutRedirectURIs = []string{"/"} },
		"negative limit":     func(c *Config) { c.MaxPending = -1 },
	} {
		cfg := Config{
			Issuer: "http://127.0.0.1:8081", People: people(), ClientID: "c", ClientSecret: secret.New("canary-secret"),
			RedirectURIs: []string{callback}, Key: testKey(),
		}
		change(&cfg)
		if p, err := New(cfg); err == nil || p != nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error shows the secret", name)
		}
	}
}

func FuzzAuthorizeNeverPanicsNorLeaks(f *testing.F) {
	f.Add("client_id=c&redirect_uri=" + url.QueryEscape(callback) + "&response_type=code&scope=openid&code_challenge=x")
	f.Add("client_id=c&redirect_uri=http://evil.example&response_type=code&scope=openid")
	f.Add("request=a.b.c&client_id=c&id_token_hint=x.y.z")
	f.Add("%zz;=&&&")
	p, err := New(Config{
		Issuer: "http://127.0.0.1:8081", People: people(), ClientID: "c", ClientSecret: secret.New("canary-secret"),
		RedirectURIs: []string{callback}, Key: testKey(),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, query string) {
		for _, path := range []string{"/authorize", "/login", "/end_session"} {
			req := httptest.NewRequest("GET", path, nil)
			req.Host, req.URL.RawQuery = "127.0.0.1:8081", query
			rec := httptest.NewRecorder()
			p.ServeHTTP(rec, req)
			if strings.Contains(rec.Body.String()+rec.Header().Get("Location"), "canary-secret") {
				t.Fatal("the client secret is shown")
			}
			to, err := url.Parse(rec.Header().Get("Location"))
			if err != nil {
				t.Fatalf("Location %q", rec.Header().Get("Location"))
			}
			if to.Host != "" && to.Host != "127.0.0.1:9" && to.Host != "127.0.0.1:8081" {
				t.Fatalf("redirects to %s", to)
			}
		}
	})
}
