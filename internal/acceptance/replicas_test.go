package acceptance

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// replicas are two gates with one public_url, one PostgreSQL and one provider, as behind a load balancer.
type replicas struct {
	dsn  string
	a, b *gatetest.World
}

func newReplicas(t *testing.T) replicas {
	t.Helper()
	r := replicas{dsn: pgtest.New(t)}
	seed(t, r.dsn)
	l, err := gatetest.NewListener()
	if err != nil {
		t.Fatal(err)
	}
	provider, err := gatetest.StartProvider(people, gatetest.PublicURL(l))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := provider.Close(); err != nil {
			t.Error(err)
		}
	})
	r.a = gatetest.New(t, gatetest.Options{HostURL: r.dsn, App: echo, Provider: provider, Listener: l})
	r.b = gatetest.New(t, gatetest.Options{HostURL: r.dsn, App: echo, Provider: provider, Configure: func(cfg *config.Config) {
		cfg.PublicURL = r.a.URL
	}})
	return r
}

// overB is the same browser whose requests the load balancer gives to b.
func (r replicas) overB(t *testing.T, browser *http.Client) *http.Client {
	t.Helper()
	transport := r.b.Transport()
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: time.Minute}).DialContext(ctx, network, r.b.Addr)
	}
	c := &http.Client{Jar: browser.Jar, Transport: again{transport}, Timeout: patience}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// outcome is the status and the code of a request; "" for one that reached the app.
func (r replicas) outcome(t *testing.T, c *http.Client, path string) string {
	t.Helper()
	res, body := fetch(t, c, "GET", r.a.URL+path, nil)
	if res.StatusCode == http.StatusOK {
		return ""
	}
	return codeOf(body)
}

func TestTwoReplicasShareSignInsAndSignOuts(t *testing.T) {
	t.Parallel()
	r := newReplicas(t)
	onA := signedIn(t, r.a, "ada")
	onB := r.overB(t, onA)
	for range 2 {
		res, body := fetch(t, onB, "GET", r.a.URL+"/t/acme/x", nil)
		var app echoed
		if res.StatusCode != 200 || json.Unmarshal([]byte(body), &app) != nil || app.Header.Get("X-User-Id") != "id-ada" || app.Header.Get("X-Tenant-Id") != "acme" {
			t.Fatalf("signed in on one replica, the other answers %s %s", res.Status, body)
		}
		if code := r.outcome(t, onA, "/t/acme/"); code != "" {
			t.Fatalf("the replica that signed in answers %s", code)
		}
	}
	// The other way round: what the second replica ends the first one refuses. The jar forgets its cookie at sign-out, so
	// a copy of it goes on, as a thief's would.
	stolen := with(nil, "Cookie", cookies(t, onA, r.a.URL))
	thief := client(t, r.a)
	if res, body := fetch(t, thief, "GET", r.a.URL+"/t/acme/", stolen); res.StatusCode != 200 {
		t.Fatalf("before the sign-out: %s %s", res.Status, body)
	}
	noFollow := *onB
	noFollow.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, body := fetch(t, &noFollow, "POST", r.a.URL+"/_gate/logout", map[string]string{"Origin": r.a.URL, "Sec-Fetch-Site": "same-origin"})
	if res.StatusCode != http.StatusSeeOther {
		t.Fatalf("sign-out: %s %s", res.Status, body)
	}
	ended := time.Now()
	onB2 := r.overB(t, thief)
	if res, body := fetch(t, onB2, "GET", r.a.URL+"/t/acme/", stolen); codeOf(body) != "session_expired" {
		t.Errorf("the replica that signed out answers %s %s", res.Status, body)
	}
	eventually(t, freshness-time.Since(ended), "the other replica refuses the session that was signed out", func() bool {
		_, body := fetch(t, thief, "GET", r.a.URL+"/t/acme/", stolen)
		return codeOf(body) == "session_expired"
	})
}

// cookies is the Cookie header that the browser would send.
func cookies(t *testing.T, c *http.Client, target string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	list := c.Jar.Cookies(req.URL)
	for _, k := range list {
		req.AddCookie(k)
	}
	if len(list) == 0 {
		t.Fatal("the browser has no cookie")
	}
	return req.Header.Get("Cookie")
}

func TestWhatAnotherProgramRevokesIsRefusedByEveryReplica(t *testing.T) {
	t.Parallel()
	r := newReplicas(t)
	for _, c := range []struct {
		name, who, path, sql, code string
	}{
		{"membership deleted", "bob", "/t/acme/", `DELETE FROM core_memberships WHERE user_id = 'id-bob'`, "no_access"},
		{"membership switched off", "dan", "/t/acme/", `UPDATE core_memberships SET is_active = false WHERE user_id = 'id-dan'`, "membership_inactive"},
		{"tenant suspended", "ada", "/t/globex/", `UPDATE core_tenants SET is_active = false WHERE id = 'globex'`, "tenant_inactive"},
		{"user blocked", "eve", "/t/acme/", `INSERT INTO tenantgate.sys_user_blocks (user_id) VALUES ('id-eve')`, "unknown_user"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			onA := signedIn(t, r.a, c.who)
			onB := r.overB(t, onA)
			// By session and by token, on both, so that every memory is warm.
			token := bearer(t, r.a, c.who)
			asks := map[string]func() string{
				"session on the first":  func() string { return r.outcome(t, onA, c.path) },
				"session on the second": func() string { return r.outcome(t, onB, c.path) },
				"bearer on the first":   func() string { _, b := fetch(t, onA, "GET", r.a.URL+c.path, token); return codeOf(b) },
				"bearer on the second":  func() string { _, b := fetch(t, onB, "GET", r.a.URL+c.path, token); return codeOf(b) },
			}
			for name, ask := range asks {
				if code := ask(); code != "" {
					t.Fatalf("%s before: %s", name, code)
				}
			}
			execSQL(t, r.dsn, c.sql)
			committed := time.Now()
			for name, ask := range asks {
				eventually(t, freshness-time.Since(committed), name+" is refused", func() bool {
					code := ask()
					if code != "" && code != c.code {
						t.Fatalf("%s: %s, want %s", name, code, c.code)
					}
					return code == c.code
				})
			}
		})
	}
}
