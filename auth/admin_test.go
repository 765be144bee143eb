package auth

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

const adminURL = "http://localhost:9901"

func withAdmin(raw string) rigOption {
	return func(g *rig) {
		u, err := url.Parse(raw)
		if err != nil {
			panic(err)
		}
		g.deps.AdminURL = u
	}
}

// operator is a browser that has public_url and the admin listener open; each keeps its own cookies.
type operator struct {
	*browser
	admin map[string]string // cookies of the admin listener
	base  string
}

func (g *rig) operator(base string) *operator {
	return &operator{browser: g.browser(), admin: map[string]string{}, base: base}
}

func (o *operator) enter() (Administrator, error) {
	_, host, _ := strings.Cut(o.base, "://")
	return o.enterAt(host)
}

func (o *operator) enterAt(host string) (Administrator, error) {
	var pairs []string
	for name, value := range o.admin {
		pairs = append(pairs, name+"="+value)
	}
	return o.auth.EnterAdmin(context.Background(), Credentials{Cookies: pairs, Host: host})
}

// atAdmin asks a page of the admin listener.
func (o *operator) atAdmin(method, target string, header ...string) *httptest.ResponseRecorder {
	o.g.t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	for name, value := range o.admin {
		r.Header.Add("Cookie", name+"="+value)
	}
	w := httptest.NewRecorder()
	switch r.URL.Path {
	case loginPath:
		o.auth.AdminLogin(w, r)
	case handoffPath:
		o.auth.AdminHandoff(w, r)
	case logoutPath:
		o.auth.AdminLogout(w, r)
	default:
		o.g.t.Fatalf("no page at %s", target)
	}
	for _, line := range w.Header()["Set-Cookie"] {
		c, err := http.ParseSetCookie(line)
		if err != nil {
			o.g.t.Fatal(err)
		}
		if delete(o.admin, c.Name); c.MaxAge > 0 {
			o.admin[c.Name] = c.Value
		}
	}
	return w
}

// ask begins at the admin listener and returns what public_url answers.
func (o *operator) ask() *httptest.ResponseRecorder {
	o.g.t.Helper()
	w := o.atAdmin("GET", o.base+loginPath+"?return_to=/tenants")
	to := w.Header().Get("Location")
	if w.Code != 302 || !strings.HasPrefix(to, "https://app.example.com"+loginPath+"?") {
		o.g.t.Fatalf("admin login: %d to %q", w.Code, to)
	}
	return o.do("GET", strings.TrimPrefix(to, "https://app.example.com"))
}

// arrive takes a code from public_url to the admin listener.
func (o *operator) arrive(w *httptest.ResponseRecorder) *httptest.ResponseRecorder {
	o.g.t.Helper()
	to := w.Header().Get("Location")
	if w.Code != 302 || !strings.HasPrefix(to, o.base+handoffPath+"?") {
		o.g.t.Fatalf("public_url hands on: %d (%s) to %q\n%s", w.Code, w.Header().Get("X-Code"), to, o.g.log)
	}
	return o.atAdmin("GET", to)
}

// throughProvider signs in where public_url sends the browser to.
func (o *operator) throughProvider(w *httptest.ResponseRecorder, subject string) *httptest.ResponseRecorder {
	o.g.t.Helper()
	authorize, err := url.Parse(w.Header().Get("Location"))
	if err != nil || authorize.Query().Get("state") == "" {
		o.g.t.Fatalf("not sent to the provider: %d %q", w.Code, w.Header().Get("Location"))
	}
	return o.back(o.g.op, "main", authorize, subject, nil)
}

func (g *rig) setAdmin(user catalog.UserID, is *bool) {
	g.t.Helper()
	u, err := g.host.GlobalUsers.Get(context.Background(), user)
	if err != nil {
		g.t.Fatal(err)
	}
	u.IsSysAdmin = is
	if err := g.host.GlobalUsers.Update(context.Background(), u); err != nil {
		g.t.Fatal(err)
	}
}

func TestAdministratorSignsInAtTheAdminListener(t *testing.T) {
	for base, cookie := range map[string]string{adminURL: "tg_admin", "https://ops.example.com": "__Host-tg_admin"} {
		g := newRig(t, withAdmin(base))
		root := g.addUser("main|root", "root@example.com")
		g.setAdmin(root, new(true))
		o := g.operator(base)
		if _, err := o.enter(); !errors.Is(err, ErrUnauthenticated) {
			t.Fatal(err)
		}
		w := o.arrive(o.throughProvider(o.ask(), "root"))
		if w.Code != 302 || w.Header().Get("Location") != "/tenants" || len(o.admin) != 1 || o.admin[cookie] == "" {
			t.Fatalf("%d to %q, cookies %d", w.Code, w.Header().Get("Location"), len(o.admin))
		}
		id, err := o.enter()
		if err != nil || id.User != root || id.Email != "root@example.com" || id.Kind != KindSession || !id.Expires.Equal(g.clock.Now().Add(12*time.Hour)) {
			t.Fatalf("%+v, %v", id, err)
		}
		// No membership is asked for, and none is given: the public listener knows nothing of this cookie.
		for _, name := range []string{"tg_admin", "__Host-tg_admin", "tg_session", "__Host-tg_session"} {
			for _, host := range []string{"app.example.com", "localhost", "localhost:9901", "ops.example.com"} {
				if _, err := g.auth.present(host, name+"="+o.admin[cookie]); err == nil {
					t.Errorf("as %s at %s it opens the public listener", name, host)
				}
			}
		}
		// Nor is the public session good here.
		public := o.cookies["__Host-tg_session"]
		for _, name := range []string{"tg_admin", "__Host-tg_admin", "tg_session", "__Host-tg_session"} {
			if _, err := g.auth.EnterAdmin(context.Background(), Credentials{Cookies: []string{name + "=" + public}}); err == nil {
				t.Errorf("the public session opens the admin listener as %s", name)
			}
		}
	}
}

func TestNobodyElseGetsACodeForTheAdminListener(t *testing.T) {
	g := newRig(t, withAdmin(adminURL))
	alice := g.addUser("main|alice", "")
	for what, is := range map[string]*bool{"no": new(false), "NULL": nil} {
		g.setAdmin(alice, is)
		o := g.operator(adminURL)
		w := o.throughProvider(o.ask(), "alice")
		if w.Header().Get("X-Code") != codeNoAccess || w.Header().Get("Location") != "" {
			t.Errorf("is_sys_admin %s: %d %s", what, w.Code, w.Header().Get("X-Code"))
		}
	}
}

func TestAdminSessionFollowsItsUserAndEndsAfterTwelveHours(t *testing.T) {
	g := newRig(t, withAdmin(adminURL))
	root := g.addUser("main|root", "")
	g.setAdmin(root, new(true))
	o := g.operator(adminURL)
	o.arrive(o.throughProvider(o.ask(), "root"))
	g.setAdmin(root, new(false))
	g.clock.advance(maxFactsAge)
	if _, err := o.enter(); !errors.Is(err, ErrNotAdmin) {
		t.Errorf("no administrator any more: %v", err)
	}
	g.setAdmin(root, new(true))
	for range 23 {
		g.clock.advance(30 * time.Minute)
		if _, err := o.enter(); err != nil {
			t.Fatal(err)
		}
		if _, err := o.identity(); err != nil { // public_url is in use too
			t.Fatal(err)
		}
	}
	for host, good := range map[string]bool{"localhost:9901": true, "LOCALHOST.:8000": true, "127.0.0.1:9901": false, "[::1]:9901": false} {
		if _, err := o.enterAt(host); good && err != nil || !good && !errors.Is(err, ErrSessionExpired) {
			t.Errorf("at %s: %v", host, err)
		}
	}
	g.clock.advance(30*time.Minute - maxFactsAge - time.Microsecond)
	if _, err := o.enter(); err != nil {
		t.Fatalf("a moment before twelve hours: %v", err)
	}
	g.clock.advance(time.Microsecond)
	if _, err := o.enter(); !errors.Is(err, ErrSessionExpired) {
		t.Fatalf("after twelve hours: %v", err)
	}
	// The session on public_url lives on, but does not do: it is as old.
	w := o.ask()
	if to := w.Header().Get("Location"); strings.HasPrefix(to, adminURL) {
		t.Fatal("handed on without a new sign-in")
	}
	o.arrive(o.throughProvider(w, "root"))
	if _, err := o.enter(); err != nil {
		t.Fatal(err)
	}
	if err := g.host.BlockUser(context.Background(), root, "test"); err != nil {
		t.Fatal(err)
	}
	g.clock.advance(maxFactsAge)
	if _, err := o.enter(); err == nil {
		t.Error("a blocked administrator enters")
	}
}

func TestCodeForTheAdminListenerIsGoodThereAloneOnceInOneBrowser(t *testing.T) {
	g := newRig(t, withAdmin(adminURL))
	g.setAdmin(g.addUser("main|root", ""), new(true))
	o := g.operator(adminURL)
	code := o.throughProvider(o.ask(), "root").Header().Get("Location")
	query := code[strings.Index(code, "?"):]
	thief := g.operator(adminURL)
	if w := thief.atAdmin("GET", code); w.Code != 400 || len(thief.admin) != 0 {
		t.Errorf("in another browser: %d", w.Code)
	}
	r := httptest.NewRequest("GET", "https://app.example.com"+handoffPath+query, nil)
	for name, value := range o.admin {
		r.Header.Add("Cookie", "__Host-"+strings.Replace(name, "tg_admin_flow_", "tg_flow_", 1)+"="+value)
	}
	w := httptest.NewRecorder()
	g.auth.Handoff(w, r)
	if w.Code != 400 {
		t.Errorf("at public_url: %d", w.Code)
	}
	if w := o.atAdmin("GET", code); w.Code != 302 {
		t.Fatalf("where it was made for: %d", w.Code)
	}
	o.admin = map[string]string{}
	if w := o.atAdmin("GET", code); w.Code != 400 {
		t.Errorf("twice: %d", w.Code)
	}
}

func TestSigningOutOfTheAdminListenerEndsTheSignInEverywhere(t *testing.T) {
	g := newRig(t, withAdmin(adminURL))
	g.setAdmin(g.addUser("main|root", ""), new(true))
	o := g.operator(adminURL)
	o.arrive(o.throughProvider(o.ask(), "root"))
	for _, foreign := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}} {
		if w := o.atAdmin("POST", adminURL+logoutPath, foreign...); w.Header().Get("X-Code") != codeCrossOrigin || len(o.admin) != 1 {
			t.Errorf("%q: %d", foreign, w.Code)
		}
	}
	if w := o.atAdmin("GET", adminURL+logoutPath); w.Code != 200 || !strings.Contains(w.Body.String(), "Sign out") || len(o.admin) != 1 {
		t.Errorf("page: %d", w.Code)
	}
	if w := o.atAdmin("POST", adminURL+logoutPath, "Origin", adminURL, "Sec-Fetch-Site", "same-origin"); w.Code >= 400 || len(o.admin) != 0 {
		t.Errorf("sign-out: %d, %d cookies", w.Code, len(o.admin))
	}
	if _, err := o.identity(); !errors.Is(err, ErrSessionExpired) {
		t.Errorf("on public_url: %v", err)
	}
}

func TestOtherNamesOfTheAdminListenerLeadToItsOwn(t *testing.T) {
	g := newRig(t, withAdmin(adminURL))
	o := g.operator(adminURL)
	for host, own := range map[string]bool{"localhost:9901": true, "LOCALHOST:9901": true, "127.0.0.1:9901": false, "localhost:1234": false, "[::1]:9901": false, "localhost": false} {
		w := o.atAdmin("GET", "http://"+host+loginPath+"?return_to=/x%3Fa=1")
		to := w.Header().Get("Location")
		if own != strings.HasPrefix(to, "https://app.example.com/") || !own && to != adminURL+loginPath+"?return_to=/x%3Fa=1" {
			t.Errorf("%s: %d to %q", host, w.Code, to)
		}
	}
}
