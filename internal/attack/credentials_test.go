package attack

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/router"
)

// house is a gate with its admin listener, and the provider's key in the attacker's hand: what is signed with it is
// genuine, and still only good where it is meant to be.
type house struct {
	t        *testing.T
	w        *gatetest.World
	key      *ecdsa.PrivateKey
	kid      string
	adminURL string
	admin    *httptest.Server
}

func newHouse(t *testing.T) *house {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	front, err := gatetest.NewListener()
	if err != nil {
		t.Fatal(err)
	}
	provider, err := gatetest.StartProviderWithKey(key, people(), gatetest.PublicURL(front))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := provider.Close(); err != nil {
			t.Error(err)
		}
	})
	h := &house{t: t, key: key, admin: httptest.NewUnstartedServer(nil)}
	h.adminURL = gatetest.PublicURL(h.admin.Listener)
	dsn := sqliteURL(t)
	seed(t, dsn)
	h.w = gatetest.New(t, gatetest.Options{
		HostURL: dsn, App: http.HandlerFunc(echo), Listener: front, Provider: provider, Configure: func(c *config.Config) {
			byName(c)
			c.Tenants.BaseDomain = "base.localhost"
			c.Admin.PublicURL = h.adminURL
			c.Routes = []router.RouteConfig{{Path: "/account/", Access: "user", Upstream: "app"}, {Path: "/", Upstream: "app"}}
		},
	})
	if err := h.w.Gate.Host().Domains.Insert(t.Context(), &catalog.Domain{
		Host: customDomain, TenantID: catalog.TenantID(alpha.id()), Kind: "host", Verified: true,
	}); err != nil {
		t.Fatal(err)
	}
	h.admin.Config.Handler = h.w.Gate.AdminHandler()
	h.admin.Start()
	t.Cleanup(h.admin.Close)
	access := bearer(t, h.w, "both", hour, nil)
	var header struct {
		KeyID string `json:"kid"`
	}
	raw, err := base64.RawURLEncoding.DecodeString(access[:strings.IndexByte(access, '.')])
	if err != nil || json.Unmarshal(raw, &header) != nil {
		t.Fatal("the provider's token has no header")
	}
	h.kid = header.KeyID
	return h
}

// customDomain is alpha's.
const customDomain = "portal.alpha.localhost"

// at is the origin of another host of the public listener.
func (h *house) at(host string) string {
	_, port, _ := strings.Cut(h.w.Addr, ":")
	return "http://" + host + ":" + port
}

// signInAt signs a person in at an origin and returns the cookie of that name.
func (h *house) signInAt(origin, cookie, subject string) string {
	h.t.Helper()
	c := h.w.Client()
	defer c.CloseIdleConnections()
	res, err := c.Do(request(h.t, "GET", origin+"/_gate/login?return_to=/_gate/whoami"))
	if err != nil {
		h.t.Fatal(err)
	}
	_ = res.Body.Close()
	page := res.Request.URL
	if res, err = c.PostForm(page.String(), url.Values{"id": {page.Query().Get("id")}, "subject": {subject}}); err != nil {
		h.t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != 200 || res.Request.URL.String() != origin+"/_gate/whoami" {
		h.t.Fatalf("signing %s in at %s ended at %s with %s", subject, origin, res.Request.URL.Host, res.Status)
	}
	u, err := url.Parse(origin)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, k := range c.Jar.Cookies(u) {
		if k.Name == cookie {
			return k.Value
		}
	}
	h.t.Fatalf("no cookie %s at %s", cookie, origin)
	return ""
}

// sign makes a JWT of the provider's, with these claims beside the usual ones.
func (h *house) sign(typ string, claims map[string]any) string {
	h.t.Helper()
	now := time.Now()
	all := map[string]any{"iss": h.w.Provider.Issuer(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": rand.Text()}
	maps.Copy(all, claims)
	var parts []string
	for _, v := range []any{map[string]any{"alg": "ES256", "kid": h.kid, "typ": typ}, all} {
		text, err := json.Marshal(v)
		if err != nil {
			h.t.Fatal(err)
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(text))
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, ".")))
	r, s, err := ecdsa.Sign(rand.Reader, h.key, sum[:])
	if err != nil {
		h.t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return strings.Join(append(parts, base64.RawURLEncoding.EncodeToString(signature)), ".")
}

// mintToken makes an API token as `token create` does.
func mintToken(t testing.TB, host *catalog.HostDatabase, spec auth.TokenSpec) (*catalog.APIToken, string) {
	t.Helper()
	secrets, err := seal.ParseKeyset(secret.New(gatetest.MasterSecret))
	if err != nil {
		t.Fatal(err)
	}
	return mintTokenUnder(t, host, secrets, spec)
}

func mintTokenUnder(t testing.TB, host *catalog.HostDatabase, secrets seal.Keyset, spec auth.TokenSpec) (*catalog.APIToken, string) {
	t.Helper()
	maker, err := auth.NewTokenMaker(t.Context(), host, secrets)
	if err != nil {
		t.Fatal(err)
	}
	var row *catalog.APIToken
	var token secret.Text
	if err := host.InTx(t.Context(), func(tx *catalog.Tx) error {
		row, token, err = maker.Make(t.Context(), tx, spec)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return row, token.Reveal()
}

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// credentials are one of each kind, all genuine. Where a kind has a user it is "both", a member of alpha and beta.
func (h *house) credentials() map[string]string {
	t, w := h.t, h.w
	session := signIn(t, w, "both")
	var seen echoedHeader
	seen.read(t, withCookies(t, w, sessionName+"="+signIn(t, w, "onlya")))
	_, token := mintToken(t, w.Gate.Host(), auth.TokenSpec{User: userID("both")})
	_, bound := mintToken(t, w.Gate.Host(), auth.TokenSpec{User: userID("both"), Tenant: catalog.TenantID(alpha.id())})
	_, rootToken := mintToken(t, w.Gate.Host(), auth.TokenSpec{User: userID("root")})
	_, admin := mintToken(t, w.Gate.Host(), auth.TokenSpec{Admin: true})
	events := map[string]any{logoutEvent: map[string]any{}}
	return map[string]string{
		"session":                    session,
		"administrator's session":    signIn(t, w, "root"),
		"session of alpha's host":    h.signInAt(h.at(alpha.id()+".base.localhost"), sessionName, "both"),
		"session of alpha's domain":  h.signInAt(h.at(customDomain), sessionName, "both"),
		"admin session":              h.signInAt(h.adminURL, "tg_admin", "root"),
		"API token":                  token,
		"API token of one tenant":    bound,
		"administrator's API token":  rootToken,
		"admin token":                admin,
		"access token":               bearer(t, w, "both", hour, nil),
		"ID token":                   h.sign("JWT", map[string]any{"sub": "both", "aud": gatetest.ClientID, "nonce": "n"}),
		"ID token of another client": h.sign("JWT", map[string]any{"sub": "both", "aud": []string{"another", gatetest.Audience}, "azp": "another", "nonce": "n"}),
		"assertion":                  seen.assertion,
		"logout token":               h.sign("logout+jwt", map[string]any{"sub": "stranger", "aud": gatetest.ClientID, "events": events}),
		"logout token for the API":   h.sign("logout+jwt", map[string]any{"sub": "stranger", "aud": gatetest.Audience, "events": events}),
		"webhook secret":             "whsec_" + rand.Text() + rand.Text(),
		"master secret":              gatetest.MasterSecret,
	}
}

// carriers are the ways in which a request presents a credential.
var carriers = map[string]func(h http.Header, credential string){
	"bearer":         func(h http.Header, c string) { h.Set("Authorization", "Bearer "+c) },
	"session cookie": func(h http.Header, c string) { h.Set("Cookie", sessionName+"="+c) },
	"admin cookie":   func(h http.Header, c string) { h.Set("Cookie", "tg_admin="+c) },
	"__Host- cookies": func(h http.Header, c string) {
		h.Set("Cookie", "__Host-"+sessionName+"="+c+"; __Host-tg_admin="+c)
	},
}

// place is where a credential is presented; a true one shows the page's own words.
type place struct{ url, shows string }

func (h *house) places() map[string]place {
	return map[string]place{
		"tenant alpha":   {h.w.URL + "/t/" + alpha.id() + "/x", alpha.uri()},
		"alpha's host":   {h.at(alpha.id()+".base.localhost") + "/x", alpha.uri()},
		"alpha's domain": {h.at(customDomain) + "/x", alpha.uri()},
		"tenant beta":    {h.w.URL + "/t/" + beta.id() + "/x", beta.uri()},
		"no tenant":      {h.w.URL + "/x", "X-Tenant-Db-Uri"},
		"user route":     {h.w.URL + "/account/x", "X-User-Id"},
		"whoami":         {h.w.URL + "/_gate/whoami", `"current_tenant"`},
		"tenants page":   {h.w.URL + "/_gate/tenants", "workspace"},
		"admin page":     {h.adminURL + "/", "readiness"},
		"admin API":      {h.adminURL + "/api/v1/whoami", `"token_id"`},
		"admin whoami":   {h.adminURL + "/_gate/whoami", `"token_id"`},
	}
}

// intended says what each cell answers that is not refused as the credential is read: "kind, carrier, place".
func intended() map[string]string {
	want := map[string]string{}
	set := func(kind, carrier string, cells ...string) {
		for i := 0; i < len(cells); i += 2 {
			want[kind+", "+carrier+", "+cells[i]] = cells[i+1]
		}
	}
	everywhere := []string{
		"tenant alpha", "ok", "tenant beta", "ok", "no tenant", "tenant_required", "user route", "ok", "whoami", "ok", "tenants page", "ok",
	}
	set("session", "session cookie", everywhere...)
	hosts := []string{"alpha's host", "ok", "alpha's domain", "ok"}
	set("API token", "bearer", append(hosts, everywhere...)...)
	set("access token", "bearer", append(hosts, everywhere...)...)
	set("session of alpha's host", "session cookie", "alpha's host", "ok")
	set("session of alpha's domain", "session cookie", "alpha's domain", "ok")
	set("admin session", "admin cookie", "admin page", "ok", "admin API", "ok", "admin whoami", "ok")
	set("API token of one tenant", "bearer", hosts...)
	set("API token of one tenant", "bearer",
		"tenant alpha", "ok", "tenant beta", "tenant_conflict", "no tenant", "ok", "user route", "ok", "whoami", "ok", "tenants page", "ok")
	// is_sys_admin opens the admin listener and nothing else; on the public one such a user is like anyone.
	nowhere := []string{
		"tenant alpha", "no_access", "tenant beta", "no_access", "no tenant", "no_access", "user route", "ok", "whoami", "ok", "tenants page", "ok",
	}
	set("administrator's session", "session cookie", nowhere...)
	set("administrator's API token", "bearer", append([]string{"alpha's host", "no_access", "alpha's domain", "no_access"}, nowhere...)...)
	set("admin token", "bearer", "admin page", "ok", "admin API", "ok", "admin whoami", "ok")
	return want
}

// refusedAs is how a credential is refused that is not meant for the place.
func refusedAs(carrier string, atAdmin bool) string {
	switch {
	case carrier == "bearer":
		return "invalid_token"
	case carrier == "session cookie" && !atAdmin, carrier == "admin cookie" && atAdmin:
		return "session_expired"
	}
	return "unauthenticated"
}

// TestOnlyTheIntendedCellsPass: AUD-1, AUD-2, BEAR-1. Every kind of credential in every way at every place, remembered
// and not.
func TestOnlyTheIntendedCellsPass(t *testing.T) {
	h := newHouse(t)
	c := &http.Client{Transport: h.w.Transport(), Timeout: patience}
	defer c.CloseIdleConnections()
	want, met := intended(), map[string]bool{}
	statuses := maps.Clone(statuses)
	statuses["tenant_conflict"] = 400
	for kind, credential := range h.credentials() {
		for carrier, carry := range carriers {
			for at, p := range h.places() {
				cell := kind + ", " + carrier + ", " + at
				expected, meant := want[cell]
				if !meant {
					expected = refusedAs(carrier, strings.HasPrefix(at, "admin"))
				}
				met[cell] = meant
				for range 2 {
					req := request(t, "GET", p.url)
					carry(req.Header, credential)
					a := do(t, c, req)
					if got := a.code(); a.status != statuses[expected] || expected != "ok" && got != expected || expected == "ok" && !strings.Contains(a.body, p.shows) {
						t.Errorf("%s: %d %s, want %s", cell, a.status, got, expected)
					}
					if strings.Contains(a.text(), credential) {
						t.Errorf("%s: the answer repeats the credential", cell)
					}
				}
			}
		}
		h.logsOut(c, kind, credential)
	}
	for cell := range want {
		if !met[cell] {
			t.Errorf("no such cell: %s", cell)
		}
	}
}

// logsOut presents a credential as a logout token, and beside an empty form.
func (h *house) logsOut(c *http.Client, kind, credential string) {
	h.t.Helper()
	post := func(form url.Values, headers http.Header) answer {
		req, err := http.NewRequestWithContext(h.t.Context(), "POST", h.w.URL+"/_gate/backchannel-logout/dev", strings.NewReader(form.Encode()))
		if err != nil {
			h.t.Fatal(err)
		}
		maps.Copy(req.Header, headers)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return do(h.t, c, req)
	}
	expected := http.StatusBadRequest
	if kind == "logout token" {
		expected = http.StatusOK
	}
	if a := post(url.Values{"logout_token": {credential}}, nil); a.status != expected {
		h.t.Errorf("%s as logout token: %d %s", kind, a.status, a.body)
	}
	for carrier, carry := range carriers {
		header := http.Header{}
		carry(header, credential)
		if a := post(url.Values{}, header); a.status != http.StatusBadRequest {
			h.t.Errorf("%s as %s at the back channel: %d %s", kind, carrier, a.status, a.body)
		}
	}
}

// TestTokenOfOneTenantShowsNoOther: TEN-4. What the user could see elsewhere, the token does not show.
func TestTokenOfOneTenantShowsNoOther(t *testing.T) {
	h := newHouse(t)
	c := &http.Client{Transport: h.w.Transport(), Timeout: patience}
	defer c.CloseIdleConnections()
	_, bound := mintToken(t, h.w.Gate.Host(), auth.TokenSpec{User: userID("both"), Tenant: catalog.TenantID(alpha.id())})
	for _, target := range []string{
		"/_gate/whoami", "/_gate/tenants", "/x", "/account/x", "/t/" + alpha.id() + "/x", "/t/" + beta.id() + "/x", "/t/" + beta.slug() + "/account/x", "/t/" + void.id() + "/x",
	} {
		for _, header := range []string{"", beta.id(), beta.slug(), alpha.slug()} {
			for _, accept := range []string{"application/json", "text/html"} {
				req := request(t, "GET", h.w.URL+target)
				req.Header.Set("Authorization", "Bearer "+bound)
				req.Header.Set("Accept", accept)
				if header != "" {
					req.Header.Set("X-Tenant", header)
				}
				a := do(t, c, req)
				if text := strings.ReplaceAll(strings.ReplaceAll(a.text(), target, ""), url.QueryEscape(target), ""); strings.Contains(text, beta.mark) {
					t.Errorf("%s with X-Tenant %q tells of beta: %d %s", target, header, a.status, a.body)
				}
				if named := strings.Contains(target, beta.mark) || strings.Contains(header, beta.mark) || strings.Contains(target, void.mark); named && !strings.HasPrefix(target, "/_gate") && a.status != 400 && !(a.status == 302) {
					t.Errorf("%s with X-Tenant %q: %d %s", target, header, a.status, a.code())
				}
			}
		}
	}
}

// TestEndedTokensOpenNothing: deleted, ended, of a blocked or deleted user, changed in its row; with and without a
// restart of what is remembered.
func TestEndedTokensOpenNothing(t *testing.T) {
	w, dsn := newWorld(t, byName)
	c := client(t, w)
	ask := func(token string) answer {
		req := request(t, "GET", w.URL+"/t/"+alpha.id()+"/x")
		req.Header.Set("Authorization", "Bearer "+token)
		return do(t, c, req)
	}
	for name, end := range map[string]string{
		"deleted":       "DELETE FROM tenantgate.sys_api_tokens WHERE id = '%s'",
		"ended":         "UPDATE tenantgate.sys_api_tokens SET expires_at = '2020-01-01T00:00:00' WHERE id = '%s'",
		"prolonged":     "UPDATE tenantgate.sys_api_tokens SET expires_at = '2120-01-01T00:00:00' WHERE id = '%s'",
		"widened":       "UPDATE tenantgate.sys_api_tokens SET tenant_id = NULL WHERE id = '%s'",
		"another's":     "UPDATE tenantgate.sys_api_tokens SET user_id = 'uid-onlya' WHERE id = '%s'",
		"admin":         "UPDATE tenantgate.sys_api_tokens SET kind = 'admin', user_id = NULL, tenant_id = NULL WHERE id = '%s'",
		"MAC of a word": "UPDATE tenantgate.sys_api_tokens SET mac = 'x' WHERE id = '%s'",
	} {
		row, token := mintToken(t, w.Gate.Host(), auth.TokenSpec{User: userID("both"), Tenant: catalog.TenantID(alpha.id()), Expires: time.Now().Add(time.Hour)})
		if a := ask(token); a.status != 200 {
			t.Fatalf("%s: before: %d %s", name, a.status, a.code())
		}
		execSQL(t, dsn, fmt.Sprintf(end, row.ID))
		reload(t, w)
		if a := ask(token); a.code() != "invalid_token" || !strings.Contains(a.header.Get("Www-Authenticate"), `error="invalid_token"`) {
			t.Errorf("%s: %d %s, %q", name, a.status, a.code(), a.header.Get("Www-Authenticate"))
		}
	}
	_, token := mintToken(t, w.Gate.Host(), auth.TokenSpec{User: userID("both")})
	execSQL(t, dsn, "INSERT INTO tenantgate.sys_user_blocks (user_id) VALUES ('uid-both')")
	reload(t, w)
	if a := ask(token); a.code() != "unknown_user" {
		t.Errorf("another program's block: %d %s", a.status, a.code())
	}
	execSQL(t, dsn, "DELETE FROM tenantgate.sys_user_blocks")
	execSQL(t, dsn, "DELETE FROM core_users WHERE id = 'uid-both'")
	reload(t, w)
	if a := ask(token); a.code() != "unknown_user" {
		t.Errorf("a user whom another program deleted: %d %s", a.status, a.code())
	}
}
