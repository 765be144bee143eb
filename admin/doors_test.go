package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
)

// keeper lets in whom its cookie or token names.
type keeper struct{ asked int }

var end = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func (k *keeper) Enter(_ context.Context, c auth.Credentials) (auth.Administrator, error) {
	k.asked++
	switch strings.Join(append(c.Authorization, c.Cookies...), "|") {
	case "":
		return auth.Administrator{}, auth.ErrUnauthenticated
	case "Bearer good":
		return auth.Administrator{Identity: auth.Identity{Kind: auth.KindAdminToken, Token: "t1"}}, nil
	case "Bearer bad":
		return auth.Administrator{}, auth.ErrInvalidToken
	case "root":
		return auth.Administrator{Identity: auth.Identity{Kind: auth.KindSession, User: "u1", Expires: end}, Email: "root@example.com"}, nil
	case "old":
		return auth.Administrator{}, auth.ErrSessionExpired
	case "member":
		return auth.Administrator{}, auth.ErrNotAdmin
	case "gone":
		return auth.Administrator{}, auth.ErrUnknownUser
	}
	return auth.Administrator{}, errors.Join(catalog.ErrUnavailable, errors.New("postgresql://u:pw@db"))
}

func named(name string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { _, _ = w.Write([]byte("page " + name)) }
}
func (k *keeper) Login(w http.ResponseWriter, _ *http.Request)   { named("login")(w) }
func (k *keeper) Handoff(w http.ResponseWriter, _ *http.Request) { named("handoff")(w) }
func (k *keeper) Logout(w http.ResponseWriter, _ *http.Request)  { named("logout")(w) }

// ADM-1
func TestNobodyLearnsWhatIsBehindTheDoorsFromOutside(t *testing.T) {
	a := newAdmin(t, Deps{Doors: &keeper{}})
	for _, path := range []string{"/", "/api/v1/whoami", "/_gate/whoami", "/nothing", "/api/v1/tenants", "/Healthz", "/healthz/", "/_gate/nothing", "/_gate/login/", "/_gate%2Flogin", "/console"} {
		for _, tc := range []struct {
			header []string
			status int
			code   string
		}{
			{nil, 401, "unauthenticated"},
			{[]string{"Authorization", "Bearer bad"}, 401, "invalid_token"},
			{[]string{"Cookie", "old"}, 401, "session_expired"},
			{[]string{"Cookie", "member"}, 403, "no_access"},
			{[]string{"Cookie", "gone"}, 403, "unknown_user"},
			{[]string{"Cookie", "database down"}, 503, "host_database_unavailable"},
		} {
			for _, method := range []string{"GET", "POST", "DELETE", "OPTIONS", "TRACE"} {
				w := ask(a, method, path, append(tc.header, "Host", "ops.example.com")...)
				if w.Code != tc.status || !strings.Contains(w.Body.String(), `"code":"`+tc.code+`"`) {
					t.Errorf("%s %s with %q: %d %s", method, path, tc.header, w.Code, w.Body)
				}
				if challenge := w.Header().Get("Www-Authenticate"); (tc.status == 401) != strings.HasPrefix(challenge, "Bearer ") || (tc.code == "invalid_token") != strings.Contains(challenge, "invalid_token") {
					t.Errorf("%s: challenge %q", tc.code, challenge)
				}
				if gone := strings.Join(w.Header()["Set-Cookie"], "|"); (tc.code == "session_expired") != strings.HasPrefix(gone, "__Host-tg_admin=; Path=/; Max-Age=0;") || strings.Contains(gone, "tg_session") {
					t.Errorf("%s: cookies %q", tc.code, gone)
				}
				if strings.Contains(w.Body.String(), "pw@") || w.Header().Get("Cache-Control") != "no-store" {
					t.Errorf("%s: %v %s", tc.code, w.Header(), w.Body)
				}
			}
		}
	}
}

func TestBehindTheDoors(t *testing.T) {
	a := newAdmin(t, Deps{Doors: &keeper{}, Version: "v1.2.3", Metrics: http.NotFoundHandler()})
	token := []string{"Host", "ops.example.com", "Authorization", "Bearer good"}
	root := []string{"Host", "ops.example.com", "Cookie", "root"}
	for _, path := range []string{"/nothing", "/api/v1/", "/api/v1/whoami/", "/%5Fgate/whoami", "/api%2Fv1/whoami"} {
		if w := ask(a, "GET", path, token...); w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	for _, path := range []string{"/", "/api/v1/whoami", "/_gate/whoami"} {
		if w := ask(a, "POST", path, token...); w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("POST %s: %d", path, w.Code)
		}
	}
	home := ask(a, "GET", "/", root...)
	for _, want := range []string{"root@example.com", "v1.2.3", "host_database", "/metrics", "/_gate/logout"} {
		if home.Code != 200 || !strings.Contains(home.Body.String(), want) {
			t.Errorf("home lacks %s: %d", want, home.Code)
		}
	}
	if strings.Contains(ask(a, "GET", "/", token...).Body.String(), "/_gate/logout") {
		t.Error("a token is offered to sign out")
	}
	for path, header := range map[string][]string{"/_gate/whoami": root, "/api/v1/whoami": token} {
		var got map[string]any
		w := ask(a, "GET", path, header...)
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Header().Get("Content-Type") != "application/json" {
			t.Fatalf("%v in %s", err, w.Body)
		}
		session := got["session"].(map[string]any)
		if header[3] == "root" {
			if got["user"].(map[string]any)["email"] != "root@example.com" || session["kind"] != "session" || session["expires_at"] != "2026-06-01T12:00:00Z" {
				t.Errorf("%v", got)
			}
		} else if got["user"] != nil || session["kind"] != "admin_token" || session["token_id"] != "t1" || session["expires_at"] != nil {
			t.Errorf("%v", got)
		}
	}
}

func TestBrowserIsLedToSignInAndProgramsAreNot(t *testing.T) {
	a := newAdmin(t, Deps{Doors: &keeper{}})
	page := []string{"Host", "ops.example.com", "Accept", "text/html", "Sec-Fetch-Mode", "navigate"}
	for target, want := range map[string]string{
		"/": "/_gate/login?return_to=%2F", "/tenants?x=1": "/_gate/login?return_to=%2Ftenants%3Fx%3D1", "//evil.example/": "/_gate/login?return_to=%2F",
		"/" + strings.Repeat("x", 3000): "/_gate/login?return_to=%2F",
	} {
		w := ask(a, "GET", "http://ops.example.com"+target, page...)
		if w.Code != 302 || w.Header().Get("Location") != want {
			t.Errorf("%.40s: %d to %.60q", target, w.Code, w.Header().Get("Location"))
		}
	}
	if w := ask(a, "GET", "/", append(page, "Cookie", "old")...); w.Code != 302 {
		t.Errorf("old session: %d", w.Code)
	}
	if w := ask(a, "GET", "/", append(page, "Cookie", "member")...); w.Code != 403 || !strings.Contains(w.Body.String(), "is_sys_admin") || !strings.Contains(w.Body.String(), "<html") {
		t.Errorf("no administrator: %d", w.Code)
	}
	for _, header := range [][]string{{}, {"Accept", "application/json"}, {"Accept", "text/html", "Sec-Fetch-Mode", "cors"}, {"Accept", "text/html", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Mode", "cors"}} {
		if w := ask(a, "GET", "/", append(header, "Host", "ops.example.com")...); w.Code != 401 {
			t.Errorf("%q: %d", header, w.Code)
		}
	}
	if w := ask(a, "POST", "/", page...); w.Code != 401 {
		t.Errorf("POST: %d", w.Code)
	}
}

func TestSigningInAndOutIsOpenToTheRightHostAndOriginAlone(t *testing.T) {
	k := &keeper{}
	a := newAdmin(t, Deps{Doors: k})
	for _, name := range []string{"login", "handoff", "logout"} {
		if w := ask(a, "GET", "/_gate/"+name, "Host", "ops.example.com"); w.Body.String() != "page "+name {
			t.Errorf("%s: %s", name, w.Body)
		}
		for _, header := range [][]string{{"Host", "rebound.evil.example"}, {"Host", "ops.example.com", "Origin", "https://evil.example"}} {
			if w := ask(a, "POST", "/_gate/"+name, header...); w.Code != 403 {
				t.Errorf("%s with %q: %d %s", name, header, w.Code, w.Body)
			}
		}
	}
	// Whatever is presented, Host and Origin are looked at before it.
	for _, header := range [][]string{{"Host", "rebound.evil.example"}, {"Host", "ops.example.com", "Origin", "https://evil.example"}, {"Host", "localhost", "Origin", "http://localhost:3000"}} {
		if w := ask(a, "GET", "/api/v1/whoami", append(header, "Authorization", "Bearer good")...); w.Code != 403 {
			t.Errorf("%q: %d", header, w.Code)
		}
	}
	if k.asked != 0 {
		t.Error("credentials were looked at before the Host")
	}
}

func TestWhatAnotherSiteSendsWithTheCookieIsRefused(t *testing.T) { // CSRF-1
	a := newAdmin(t, Deps{Doors: &keeper{}})
	for _, site := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Site", "none"}} {
		w := ask(a, "POST", "/api/v1/whoami", append(site, "Host", "ops.example.com", "Cookie", "root")...)
		if w.Code != 403 || !strings.Contains(w.Body.String(), "cross_origin") {
			t.Errorf("%q: %d %s", site, w.Code, w.Body)
		}
		if w := ask(a, "POST", "/api/v1/whoami", append(site, "Host", "ops.example.com", "Authorization", "Bearer good")...); w.Code != 405 {
			t.Errorf("a token is sent by no browser by itself: %d", w.Code)
		}
	}
	if w := ask(a, "POST", "/api/v1/whoami", "Host", "ops.example.com", "Cookie", "root", "Sec-Fetch-Site", "same-origin", "Origin", "https://ops.example.com"); w.Code != 405 {
		t.Errorf("our own page: %d", w.Code)
	}
}
