package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"golang.org/x/net/html"
	"golang.org/x/oauth2"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// form is the first form of a page.
type form struct {
	action string
	fields url.Values
}

// readForm finds the form as a browser does; nil without one.
func readForm(t *testing.T, page string, base *url.URL) *form {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	var found *form
	for n := range doc.Descendants() {
		attr := map[string]string{}
		for _, a := range n.Attr {
			attr[a.Key] = a.Val
		}
		switch {
		case n.Type == html.ElementNode && n.Data == "form" && found == nil:
			action, err := base.Parse(attr["action"])
			if err != nil {
				t.Fatal(err)
			}
			found = &form{action: action.String(), fields: url.Values{}}
		case n.Type == html.ElementNode && n.Data == "input" && found != nil:
			found.fields.Set(attr["name"], attr["value"])
		}
	}
	return found
}

// walk opens an address and fills in form after form, with the person's answers, until a page lies at an address that
// begins with one of ends. It returns that page and how many forms there were.
func walk(t *testing.T, c *http.Client, start string, answers map[string]string, ends ...string) (res *http.Response, body string, forms int) {
	t.Helper()
	res, body = fetch(t, c, "GET", start, nil)
	for {
		for _, end := range ends {
			at := res.Request.URL.String()
			if to := res.Header.Get("Location"); to != "" {
				at = to
			}
			if strings.HasPrefix(at, end) {
				return res, body, forms
			}
		}
		f := readForm(t, body, res.Request.URL)
		if forms++; f == nil || forms > 5 {
			t.Fatalf("after %d forms at %s: %s\n%s", forms-1, res.Request.URL, res.Status, body)
		}
		for name, value := range answers {
			f.fields.Set(name, value)
		}
		var err error
		header := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
		if res, body, err = do(c, "POST", f.action, header, strings.NewReader(f.fields.Encode())); err != nil {
			t.Fatal(err)
		}
	}
}

// nowhere is the redirect address of a command-line client; nothing listens there.
const nowhere = "http://127.0.0.1:1/done"

// redeem signs the person in for the client of that id, as a command-line program would, and returns its tokens.
func redeem(t *testing.T, issuer, authorize, token, clientID, clientSecret string, answers map[string]string, resource string) *oauth2.Token {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Jar: jar, Timeout: patience, Transport: &http.Transport{}, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), nowhere) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	t.Cleanup(c.CloseIdleConnections)
	program := oauth2.Config{
		ClientID: clientID, ClientSecret: clientSecret, RedirectURL: nowhere, Scopes: []string{"openid", "email"},
		Endpoint: oauth2.Endpoint{AuthURL: issuer + authorize, TokenURL: issuer + token},
	}
	var options []oauth2.AuthCodeOption
	if resource != "" {
		program.Scopes = append(program.Scopes, "api")
		options = append(options, oauth2.SetAuthURLParam("resource", resource))
	}
	verifier := oauth2.GenerateVerifier()
	res, body, _ := walk(t, c, program.AuthCodeURL("state", append(options, oauth2.S256ChallengeOption(verifier))...), answers, nowhere)
	to, err := url.Parse(res.Header.Get("Location"))
	if err != nil || to.Query().Get("code") == "" {
		t.Fatalf("%s to %q: %s", res.Status, res.Header.Get("Location"), body)
	}
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, c)
	got, err := program.Exchange(ctx, to.Query().Get("code"), append(options, oauth2.VerifierOption(verifier))...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// inAcme asks the app in tenant acme and fails unless it is that user who arrives.
func inAcme(t *testing.T, c *http.Client, w *gatetest.World, header map[string]string, user string) {
	t.Helper()
	res, body := fetch(t, c, "GET", w.URL+"/t/acme/x", header)
	var app echoed
	if res.StatusCode != 200 || json.Unmarshal([]byte(body), &app) != nil || app.Header.Get("X-User-Id") != user || app.Header.Get("X-Tenant-Id") != "acme" {
		t.Errorf("%s in acme: %s %s", user, res.Status, body)
	}
}

// nodeProvider runs npm's oidc-provider, from the versions and hashes of the lock file, until the test ends. step takes it
// one step on in a change of keys: publish, sign, drop.
func nodeProvider(t *testing.T, settings map[string]any) (issuer string, step func(*testing.T, string)) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "provider.mjs"} {
		text, err := os.ReadFile(filepath.Join("testdata", "oidc-provider", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	install, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	npm := exec.CommandContext(install, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--no-update-notifier", "--loglevel=error")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("installing oidc-provider (Node.js 20 or later with npm is needed): %v\n%s", err, out)
	}
	line, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	node := exec.Command("node", "provider.mjs")
	node.Dir, node.Stderr = dir, &stderr
	in, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(in.Close(), node.Wait()); err != nil {
			t.Errorf("%v\n%s", err, stderr.String())
		}
	})
	if _, err := in.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 8)
	go func() {
		defer close(said)
		for lines := bufio.NewScanner(out); lines.Scan(); { // it tells other things too
			if text := lines.Text(); text == "done" || strings.HasPrefix(text, "http://") {
				said <- text
			}
		}
	}()
	if issuer = await(t, said, "the provider to start"); issuer == "" {
		t.Fatalf("oidc-provider did not start; its output: %s", stderr.String())
	}
	return issuer, func(t *testing.T, name string) {
		t.Helper()
		if _, err := in.Write([]byte(name + "\n")); err != nil {
			t.Fatal(err)
		}
		if got := await(t, said, "the provider's keys"); got != "done" {
			t.Fatalf("step %s: %q\n%s", name, got, stderr.String())
		}
	}
}

func TestAgainstNpmOIDCProvider(t *testing.T) {
	t.Parallel()
	l, err := gatetest.NewListener()
	if err != nil {
		t.Fatal(err)
	}
	public := gatetest.PublicURL(l)
	algorithms := []string{"RS256", "ES256", "EdDSA"}
	clients := []map[string]any{{
		"client_id": "program", "token_endpoint_auth_method": "none", "redirect_uris": []string{nowhere}, "scope": "openid email api",
	}}
	resources := map[string]string{"https://elsewhere.test": "RS256"}
	for _, alg := range algorithms {
		name := strings.ToLower(alg)
		resources["https://api.test/"+name] = alg
		clients = append(clients, map[string]any{
			"client_id": "gate-" + name, "client_secret": "secret of the gate " + name, "id_token_signed_response_alg": alg,
			"redirect_uris": []string{public + "/_gate/callback/" + name}, "post_logout_redirect_uris": []string{public + "/_gate/logout"},
			"backchannel_logout_uri": public + "/_gate/backchannel-logout/" + name, "backchannel_logout_session_required": true,
		})
	}
	issuer, step := nodeProvider(t, map[string]any{"clients": clients, "resources": resources})
	dsn := sqliteURL(t)
	seed(t, dsn)
	for _, alg := range algorithms {
		name := strings.ToLower(alg)
		execSQL(t, dsn, `UPDATE core_users SET oauth_id = '`+name+`|ada' WHERE id = 'id-`+map[string]string{"rs256": "ada", "es256": "bob", "eddsa": "dan"}[name]+`'`)
	}
	w := gatetest.New(t, gatetest.Options{
		HostURL: dsn, App: echo, People: people, Listener: l,
		Configure: func(cfg *config.Config) {
			cfg.Identity.Providers = nil
			for _, alg := range algorithms {
				name := strings.ToLower(alg)
				cfg.Identity.Providers = append(cfg.Identity.Providers, auth.Provider{
					Name: name, Issuer: issuer, ClientID: "gate-" + name, ClientSecret: secret.New("secret of the gate " + name), SubjectPrefix: name + "|",
					Bearer: auth.BearerConfig{Audiences: []string{"https://api.test/" + name}, Algorithms: []string{alg}},
				})
			}
		},
	})
	users := map[string]string{"rs256": "id-ada", "es256": "id-bob", "eddsa": "id-dan"}
	answers := map[string]string{"login": "ada", "password": "anything"}
	for name, user := range users {
		t.Run("code flow, ID token by "+name, func(t *testing.T) {
			c := client(t, w)
			login := w.URL + "/_gate/login?provider=" + name + "&return_to=/_gate/ping"
			if _, body, forms := walk(t, c, login, answers, w.URL); body != "ok\n" || forms != 2 {
				t.Fatalf("after %d forms (password, consent): %s", forms, body)
			}
			inAcme(t, c, w, nil, user)
			if _, _, forms := walk(t, c, login, answers, w.URL); forms != 0 {
				t.Errorf("the provider, where one is signed in, showed %d forms", forms)
			}
			signOutEverywhere(t, c, w, issuer, login)
		})
		t.Run("access token by "+name, func(t *testing.T) {
			c := client(t, w)
			token := redeem(t, issuer, "/auth", "/token", "program", "", answers, "https://api.test/"+name)
			inAcme(t, c, w, map[string]string{"Authorization": "Bearer " + token.AccessToken}, user)
			bad := token.AccessToken[:len(token.AccessToken)-8] + "AAAAAAAA"
			if res, body := fetch(t, c, "GET", w.URL+"/t/acme/x", map[string]string{"Authorization": "Bearer " + bad}); codeOf(body) != "invalid_token" {
				t.Errorf("with another signature: %s %s", res.Status, body)
			}
		})
	}
	t.Run("access token for somebody else", func(t *testing.T) { // AUD-1
		token := redeem(t, issuer, "/auth", "/token", "program", "", answers, "https://elsewhere.test")
		for _, text := range []string{token.AccessToken, token.Extra("id_token").(string)} {
			if res, body := fetch(t, client(t, w), "GET", w.URL+"/t/acme/x", map[string]string{"Authorization": "Bearer " + text}); codeOf(body) != "invalid_token" {
				t.Errorf("%s %s", res.Status, body)
			}
		}
	})
	for name, user := range users {
		t.Run("back-channel logout by "+name, func(t *testing.T) { // LOGOUT-1
			endedByTheProvider(t, w, issuer, w.URL+"/_gate/login?provider="+name+"&return_to=/_gate/ping", answers, user)
		})
	}
	t.Run("keys change while requests run", func(t *testing.T) {
		login := func(name string) error {
			c := client(t, w)
			_, body, _ := walk(t, c, w.URL+"/_gate/login?provider="+name+"&return_to=/_gate/ping", answers, w.URL)
			inAcme(t, c, w, nil, users[name])
			if body != "ok\n" {
				return fmt.Errorf("sign-in by %s: %s", name, body)
			}
			return nil
		}
		token := func(name string) string {
			return redeem(t, issuer, "/auth", "/token", "program", "", answers, "https://api.test/"+name).AccessToken
		}
		algorithmNames := []string{"rs256", "es256", "eddsa"}
		keysChange(t, w, step, token, login, algorithmNames...)
	})
}

// signOutEverywhere signs out at the gate and goes through the provider's own page, after which it asks for the password
// again.
func signOutEverywhere(t *testing.T, c *http.Client, w *gatetest.World, issuer, login string) {
	t.Helper()
	old := map[string]string{"Cookie": cookies(t, c, w.URL)}
	res, body := fetch(t, stays(c), "POST", w.URL+"/_gate/logout", submits)
	to := res.Header.Get("Location")
	if res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to, issuer) {
		t.Fatalf("sign-out: %s to %q %s", res.Status, to, body)
	}
	res, body, forms := walk(t, c, to, map[string]string{"logout": "yes"}, w.URL)
	if res.Request.URL.Path != "/_gate/logout" || forms != 1 || !strings.Contains(body, "You are signed out") {
		t.Errorf("after the provider's page (%d forms) at %s: %s\n%s", forms, res.Request.URL, res.Status, body)
	}
	if res, body := fetch(t, client(t, w), "GET", w.URL+"/t/acme/", old); codeOf(body) != "session_expired" {
		t.Errorf("the old cookie: %s %s", res.Status, body)
	}
	res, body = fetch(t, c, "GET", login, nil)
	if f := readForm(t, body, res.Request.URL); f == nil || !f.fields.Has("password") {
		t.Errorf("the provider does not ask for the password again: %s at %s", res.Status, res.Request.URL)
	}
}

func TestAgainstZitadelsExampleServer(t *testing.T) {
	old := slog.Default() // the example logs there, and replaces it
	t.Cleanup(func() { slog.SetDefault(old) })
	idp, err := gatetest.NewListener()
	if err != nil {
		t.Fatal(err)
	}
	l, err := gatetest.NewListener()
	if err != nil {
		t.Fatal(err)
	}
	issuer := "http://" + idp.Addr().String()
	store := storage.NewStorageWithClients(storage.NewUserStore(issuer), map[string]*storage.Client{
		"gate":    storage.WebClient("gate", "the gate's secret", gatetest.PublicURL(l)+"/_gate/callback/zitadel"),
		"program": storage.WebClient("program", "a program's secret", nowhere),
	})
	rotating := newRotating(issuer, store)
	serveOn(t, idp, exampleop.SetupServer(issuer, rotating, slog.New(slog.NewTextHandler(io.Discard, nil)), false), false)
	dsn := sqliteURL(t)
	seed(t, dsn)
	// The row that an administrator made before the person first came: it is linked by the verified address.
	execSQL(t, dsn, `UPDATE core_users SET oauth_id = NULL, email = 'Test-User@zitadel.ch' WHERE id = 'id-ada'`)
	w := gatetest.New(t, gatetest.Options{
		HostURL: dsn, App: echo, People: people, Listener: l,
		Configure: func(cfg *config.Config) {
			cfg.Identity.Providers = []auth.Provider{{
				Name: "zitadel", Issuer: issuer, ClientID: "gate", ClientSecret: secret.New("the gate's secret"), TrustEmail: true,
				SubjectPrefix: "z|", EmailDomains: []string{"zitadel.ch"}, Bearer: auth.BearerConfig{Audiences: []string{"program"}},
			}}
		},
	})
	c := client(t, w)
	answers := map[string]string{"username": "test-user@127.0.0.1", "password": "verysecure"}
	token := redeem(t, issuer, "/auth", "/oauth/token", "program", "a program's secret", answers, "")
	byToken := map[string]string{"Authorization": "Bearer " + token.Extra("id_token").(string)}
	if res, body := fetch(t, c, "GET", w.URL+"/t/acme/x", byToken); codeOf(body) != "unknown_user" {
		t.Errorf("a bearer token links nobody: %s %s", res.Status, body)
	}

	if _, body, forms := walk(t, c, w.URL+"/_gate/login?return_to=/_gate/ping", answers, w.URL); body != "ok\n" || forms != 1 {
		t.Fatalf("after %d forms: %s", forms, body)
	}
	inAcme(t, c, w, nil, "id-ada")
	if who := askWhoami(t, c, w, nil); who.User.ID != "id-ada" || len(who.Tenants) != 2 {
		t.Errorf("%+v", who)
	}
	// The person is known by now; what was remembered of the stranger is forgotten in time.
	eventually(t, freshness, "the bearer token counts", func() bool {
		res, _ := fetch(t, c, "GET", w.URL+"/t/acme/x", byToken)
		return res.StatusCode == 200
	})
	inAcme(t, client(t, w), w, byToken, "id-ada")
	if res, body := fetch(t, c, "GET", w.URL+"/t/acme/x", map[string]string{"Authorization": "Bearer " + token.AccessToken}); codeOf(body) != "invalid_token" {
		t.Errorf("an opaque access token: %s %s", res.Status, body)
	}

	t.Run("keys change while requests run", func(t *testing.T) {
		newToken := func(string) string {
			return redeem(t, issuer, "/auth", "/oauth/token", "program", "a program's secret", answers, "").Extra("id_token").(string)
		}
		login := func(string) error {
			c := client(t, w)
			_, body, _ := walk(t, c, w.URL+"/_gate/login?return_to=/_gate/ping", answers, w.URL)
			inAcme(t, c, w, nil, "id-ada")
			if body != "ok\n" {
				return errors.New("sign-in: " + body)
			}
			return nil
		}
		keysChange(t, w, rotating.step, newToken, login, "rs256")
	})
	t.Run("back-channel logout", func(t *testing.T) { // the example tells nobody; this is the library's token
		other := client(t, w)
		if _, body, _ := walk(t, other, w.URL+"/_gate/login?return_to=/_gate/ping", answers, w.URL); body != "ok\n" {
			t.Fatal(body)
		}
		inAcme(t, other, w, nil, "id-ada")
		order := rotating.logoutToken(t, issuer, "id1", "gate")
		for try, want := range []int{200, 400} {
			header := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
			res, body, err := do(client(t, w), "POST", w.URL+"/_gate/backchannel-logout/zitadel", header, strings.NewReader(url.Values{"logout_token": {order}}.Encode()))
			if err != nil || res.StatusCode != want || res.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%d. time: %v %s %v", try+1, res.Status, body, err)
			}
		}
		for _, gone := range []*http.Client{other, c} { // all of the person's
			if res, body := fetch(t, gone, "GET", w.URL+"/t/acme/", nil); codeOf(body) != "session_expired" {
				t.Errorf("%s %s", res.Status, body)
			}
		}
		since := time.Now()
		eventually(t, patience, "the second of the logout is over", func() bool { return time.Since(since) > 1100*time.Millisecond })
		if _, body, _ := walk(t, c, w.URL+"/_gate/login?return_to=/_gate/ping", answers, w.URL); body != "ok\n" {
			t.Fatal(body)
		}
	})
	stolen := map[string]string{"Cookie": cookies(t, c, w.URL)}
	res, body := fetch(t, stays(c), "POST", w.URL+"/_gate/logout", submits)
	if to := res.Header.Get("Location"); res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to, issuer+"/end_session?") || !strings.Contains(to, "id_token_hint=") {
		t.Errorf("sign-out: %s to %q %s", res.Status, to, body)
	}
	if res, body := fetch(t, client(t, w), "GET", w.URL+"/t/acme/", stolen); codeOf(body) != "session_expired" {
		t.Errorf("the old cookie: %s %s", res.Status, body)
	}
}
