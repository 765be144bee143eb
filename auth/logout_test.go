package auth

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/assertion"
	"github.com/tenantgate/tenantgate/catalog"
)

func TestSignOutEndsTheSessionAndGoesToTheProvider(t *testing.T) { // LOGOUT-1
	g := newRig(t)
	user := g.addUser("main|alice", "alice@example.com")
	b := g.browser()
	b.mustSignIn("alice")
	w := b.do(http.MethodGet, logoutPath)
	body := w.Body.String()
	if w.Code != http.StatusOK || !strings.Contains(body, "alice@example.com") || !strings.Contains(body, `<form method="post" action="/_gate/logout">`) {
		t.Fatalf("%d %s", w.Code, body)
	}
	if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' https://app.example.com "+g.op.url()) {
		t.Errorf("the form's redirect would be stopped: %s", csp)
	}
	if _, err := b.identity(); err != nil {
		t.Fatal("opening the page ended the session")
	}
	b.header = http.Header{"Sec-Fetch-Site": {"same-origin"}}
	w = b.do(http.MethodPost, logoutPath)
	if w.Code != http.StatusSeeOther || len(b.cookies) != 0 || g.sessionCount(user) != 0 {
		t.Fatalf("%d, cookies %v, %d sessions", w.Code, b.cookies, g.sessionCount(user))
	}
	u, err := url.Parse(w.Header().Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if u.Path != "/logout" || q.Get("x") != "1" || q.Get("client_id") != clientID || q.Get("post_logout_redirect_uri") != "https://app.example.com/_gate/logout" {
		t.Errorf("%v", u)
	}
	hint, err := parseJWS(q.Get("id_token_hint"), maxIDToken)
	if err != nil || string(hint.claims["sub"]) != `"alice"` {
		t.Errorf("hint %v %v", hint, err)
	}
	rows := g.audits("sign_out")
	if len(rows) != 1 || text(rows[0].ActorUserID) != string(user) || text(rows[0].TargetID) != string(user) {
		t.Errorf("%+v", rows)
	}
	if w := b.do(http.MethodGet, logoutPath); !strings.Contains(w.Body.String(), "You are signed out") {
		t.Error("where the provider sends people back to")
	}
}

func TestSignOutIsForFormsOfOurOwnAlone(t *testing.T) { // CSRF-1
	g := newRig(t)
	g.addUser("main|alice", "")
	for name, tc := range map[string]struct {
		header http.Header
		want   int
	}{
		"cross-site":          {http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		"same-site":           {http.Header{"Sec-Fetch-Site": {"same-site"}, "Origin": {"https://evil.example.com"}}, 403},
		"other origin":        {http.Header{"Origin": {"https://evil.com"}}, 403},
		"origin null":         {http.Header{"Origin": {"null"}}, 403},
		"lying origin":        {http.Header{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://app.example.com"}}, 403},
		"same origin":         {http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"https://app.example.com"}}, 303},
		"our origin, no site": {http.Header{"Origin": {"https://app.example.com"}}, 303},
		"no browser":          {http.Header{}, 303},
	} {
		b := g.browser()
		b.mustSignIn("alice")
		kept := b.cookieHeader()
		b.header = tc.header
		w := b.do(http.MethodPost, logoutPath)
		if w.Code != tc.want {
			t.Errorf("%s: %d, want %d", name, w.Code, tc.want)
		}
		_, err := g.auth.present("app.example.com", kept...)
		if (err == nil) != (tc.want == 403) || (tc.want == 403 && len(b.cookies) == 0) {
			t.Errorf("%s: session %v, cookies %v", name, err, b.cookies)
		}
	}
	b := g.browser()
	if w := b.do(http.MethodDelete, logoutPath); w.Code != http.StatusMethodNotAllowed {
		t.Error(w.Code)
	}
}

func TestSignOutWhileTheHostDatabaseIsDownClearsTheCookieAll(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	b.mustSignIn("alice")
	if _, err := b.identity(); err != nil {
		t.Fatal(err)
	}
	if err := g.host.Close(); err != nil {
		t.Fatal(err)
	}
	w := b.do(http.MethodPost, logoutPath)
	if w.Header().Get("X-Code") != codeHostDatabase || len(b.cookies) != 0 {
		t.Fatalf("%d %v", w.Code, b.cookies)
	}
}

func TestSignOutWithoutAProviderToGoTo(t *testing.T) {
	g := newRig(t)
	g.op.discovery = func(doc map[string]any) { delete(doc, "end_session_endpoint") }
	user := g.addUser("main|alice", "")
	b := g.browser()
	b.mustSignIn("alice")
	if w := b.do(http.MethodPost, logoutPath); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "You are signed out") || g.sessionCount(user) != 0 {
		t.Fatal(w.Code)
	}
	if w := b.do(http.MethodPost, logoutPath); w.Code != http.StatusOK {
		t.Fatalf("signed out already: %d", w.Code)
	}
	stranger := g.browser()
	stranger.cookies["__Host-tg_session"] = newSessionToken().encode()
	if w := stranger.do(http.MethodPost, logoutPath); w.Code != http.StatusOK || len(stranger.cookies) != 0 || len(g.audits("sign_out")) != 1 {
		t.Fatalf("strange cookie: %d %v", w.Code, stranger.cookies)
	}
}

func TestSignOutReachesOldIdleAndBlockedSessions(t *testing.T) {
	g := newRig(t)
	user := g.addUser("main|alice", "")
	b := g.browser()
	b.mustSignIn("alice")
	g.clock.advance(2 * time.Hour)
	if w := b.do(http.MethodPost, logoutPath); w.Code != http.StatusSeeOther || g.sessionCount(user) != 0 {
		t.Fatalf("%d, %d sessions", w.Code, g.sessionCount(user))
	}
}

func TestLongIDTokenIsNotCarriedInAURL(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	if w := b.signIn("alice", map[string]any{"groups": strings.Repeat("g", maxIDTokenHint)}); w.Code != http.StatusFound {
		t.Fatal(w.Code)
	}
	w := b.do(http.MethodPost, logoutPath)
	if loc := w.Header().Get("Location"); len(loc) > 1000 || strings.Contains(loc, "id_token_hint") {
		t.Fatalf("%d bytes", len(loc))
	}
}

func TestIDTokenLiesSealedInTheDatabase(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	b.mustSignIn("alice")
	row, _, _, err := g.host.SessionUser(t.Context(), mustIdentity(t, b).Session)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(row.IDToken, "v1:") || strings.Contains(row.IDToken, "eyJ") || row.SID != "op-session" {
		t.Fatalf("%q %q", row.IDToken, row.SID)
	}
	if _, err := g.deps.Secrets.Open(idTokenPurpose("another"), row.IDToken); err == nil {
		t.Fatal("opens in another row")
	}
}

func TestAssertionIsVerifiedByTheAppsPackage(t *testing.T) {
	g := newRig(t)
	server := httptest.NewServer(http.HandlerFunc(g.auth.JWKS))
	t.Cleanup(server.Close)
	v, err := assertion.New(assertion.Config{JWKSURL: server.URL, Issuer: "https://app.example.com", Audience: "app", Clock: g.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	const uri = "postgresql://acme:canary-password@db/acme?x=<&>"
	in := AssertionInput{
		Audience: "app", User: "u1", Email: "a@example.com", Tenant: "acme", Role: "owner", Profile: "p1", Plan: "pro", Subscription: "active",
		DBURI: catalog.NewDBURI(uri), Lifetime: time.Minute,
	}
	token, err := g.auth.Assert(in)
	if err != nil {
		t.Fatal(err)
	}
	c, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if c.User != "u1" || c.Email != "a@example.com" || c.Tenant != "acme" || c.Role != "owner" || c.Profile != "p1" || c.Plan != "pro" || c.Subscription != "active" ||
		!c.MatchesDBURI(uri) || c.MatchesDBURI(uri+"x") || c.Expires.Sub(c.IssuedAt) != time.Minute {
		t.Fatalf("%+v", c)
	}
	raw, err := parseJWS(token, maxBearer)
	if err != nil || strings.Contains(string(raw.payload), "canary") || raw.kid == "" || raw.alg != algES256 {
		t.Fatalf("%s %v", raw.payload, err)
	}
	bare, err := g.auth.Assert(AssertionInput{Audience: "app", User: "u1", Lifetime: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	raw, err = parseJWS(bare, maxBearer)
	if err != nil || len(raw.claims) != 5 {
		t.Fatalf("absent claims are there: %s %v", raw.payload, err)
	}
	for _, bad := range []AssertionInput{{User: "u", Lifetime: time.Minute}, {Audience: "a", Lifetime: time.Minute}, {Audience: "a", User: "u"}} {
		if _, err := g.auth.Assert(bad); err == nil {
			t.Errorf("signed %+v", bad)
		}
	}
	other := g.replica()
	again, err := other.Assert(in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), again); err != nil {
		t.Errorf("another replica's assertion: %v", err)
	}
}

func TestPublicKeysAreForEverybodyAndHoldNoPrivateOne(t *testing.T) {
	g := newRig(t)
	w := g.browser().do(http.MethodGet, "/_gate/jwks.json")
	if w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "public, max-age=300" || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	var doc struct{ Keys []map[string]string }
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || len(doc.Keys) != 1 {
		t.Fatalf("%s %v", w.Body, err)
	}
	if k := doc.Keys[0]; k["d"] != "" || k["kty"] != "EC" || k["crv"] != "P-256" || k["alg"] != "ES256" || k["use"] != "sig" || k["kid"] == "" || len(k["x"]) != 43 || len(k["y"]) != 43 {
		t.Fatalf("%v", k)
	}
	if w := g.browser().do(http.MethodPost, "/_gate/jwks.json"); w.Code != http.StatusMethodNotAllowed {
		t.Error(w.Code)
	}
}
