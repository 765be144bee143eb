package attack

import (
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// statuses of the codes that the matrix can meet.
var statuses = map[string]int{
	"ok": 200, "unauthenticated": 401, "session_expired": 401, "invalid_token": 401, "subscription_required": 402,
	"no_access": 403, "membership_inactive": 403, "tenant_inactive": 403, "unknown_user": 403, "tenant_required": 400,
}

// The oracle: who (rows) is answered what in which tenant (columns), however the tenant was named; and where nothing
// names one. "ok" there stands with the tenant that must be granted. It is written by hand from the contract.
var oracle = []struct {
	actor                         string
	alpha, beta, susp, laps, void string
	only                          string
	onlyTenant                    *tenantSeed
}{
	{"nobody", "unauthenticated", "unauthenticated", "unauthenticated", "unauthenticated", "unauthenticated", "unauthenticated", nil},
	{"onlya", "ok", "no_access", "no_access", "no_access", "no_access", "ok", &alpha},
	{"both", "ok", "ok", "no_access", "no_access", "no_access", "tenant_required", nil},
	{"inactive", "membership_inactive", "no_access", "no_access", "no_access", "no_access", "no_access", nil},
	{"suspm", "no_access", "no_access", "tenant_inactive", "no_access", "no_access", "tenant_inactive", nil},
	{"lapsm", "no_access", "no_access", "no_access", "subscription_required", "no_access", "subscription_required", nil},
	{"stranger", "no_access", "no_access", "no_access", "no_access", "no_access", "no_access", nil},
	{"unknown", "unknown_user", "unknown_user", "unknown_user", "unknown_user", "unknown_user", "unknown_user", nil},
	{"blocked", "unknown_user", "unknown_user", "unknown_user", "unknown_user", "unknown_user", "unknown_user", nil},
	{"expired", "EXPIRED", "EXPIRED", "EXPIRED", "EXPIRED", "EXPIRED", "EXPIRED", nil},
	{"root", "no_access", "no_access", "no_access", "no_access", "no_access", "no_access", nil},
}

// expectation of one actor in one column.
func expectation(actor, column, credential string) string {
	for _, row := range oracle {
		if row.actor != actor {
			continue
		}
		want := map[string]string{
			alpha.mark: row.alpha, beta.mark: row.beta, susp.mark: row.susp, laps.mark: row.laps, void.mark: row.void, "only": row.only,
		}[column]
		if want == "EXPIRED" {
			want = map[string]string{"cookie": "session_expired", "bearer": "invalid_token"}[credential]
		}
		return want
	}
	return "no such row"
}

// matrixClock is ahead of the provider's, so that what ended in between has ended for the gates.
func matrixClock() time.Time { return time.Now().Add(2 * time.Minute) }

// bench of gates on one host database: proxy and middleware, each in both configurations.
type bench struct {
	dsn              string
	named, byHand    map[string]*gatetest.World // shape → gate, byName and bySession
	cookies, bearers map[string]string          // by actor
}

func newBench(t *testing.T, dsn string) *bench {
	t.Helper()
	seed(t, dsn)
	app := http.HandlerFunc(echo)
	short := func(c *config.Config) { c.Identity.Session = auth.SessionConfig{AbsoluteTimeout: time.Minute} }
	worlds := gates(t,
		gatetest.Options{HostURL: dsn, App: app, Clock: matrixClock, Configure: byName},
		gatetest.Options{HostURL: dsn, App: app, Clock: matrixClock, Configure: bySession},
		gatetest.Options{HostURL: dsn, App: app, Clock: matrixClock, Configure: byName, Middleware: true},
		gatetest.Options{HostURL: dsn, App: app, Clock: matrixClock, Configure: bySession, Middleware: true},
		// At the true time sessions of a minute are good; for the others they are over.
		gatetest.Options{HostURL: dsn, App: app, Configure: short},
	)
	b := &bench{
		dsn:    dsn,
		named:  map[string]*gatetest.World{"proxy": worlds[0], "middleware": worlds[2]},
		byHand: map[string]*gatetest.World{"proxy": worlds[1], "middleware": worlds[3]},
	}
	b.collectCredentials(t, worlds[0], worlds[4])
	return b
}

// collectCredentials signs everybody in who can, before what ends or blocks them.
func (b *bench) collectCredentials(t *testing.T, front, short *gatetest.World) {
	b.cookies, b.bearers = map[string]string{}, map[string]string{}
	if err := front.Gate.Host().GlobalUsers.Insert(t.Context(), &catalog.GlobalUser{ID: "uid-unknown", OAuthID: new("unknown")}); err != nil {
		t.Fatal(err)
	}
	for _, row := range oracle {
		switch row.actor {
		case "nobody":
			continue
		case "expired":
			b.cookies[row.actor] = signIn(t, short, row.actor)
			b.bearers[row.actor] = bearer(t, front, row.actor, 30*time.Second, nil)
			continue
		}
		b.cookies[row.actor] = signIn(t, front, row.actor)
		b.bearers[row.actor] = bearer(t, front, row.actor, time.Hour, nil)
	}
	// Another program's rows, with the one column that is enough.
	execSQL(t, b.dsn, `INSERT INTO tenantgate.sys_user_blocks (user_id) VALUES ('uid-blocked')`)
	execSQL(t, b.dsn, `DELETE FROM core_users WHERE id = 'uid-unknown'`)
	for _, set := range []map[string]*gatetest.World{b.named, b.byHand} {
		for _, w := range set {
			reload(t, w)
		}
	}
}

// reload forgets all that a gate remembers.
func reload(t testing.TB, w *gatetest.World) {
	t.Helper()
	if err := w.Gate.Reload(t.Context(), w.Config); err != nil {
		t.Fatal(err)
	}
}

// execSQL runs a statement as another program would.
func execSQL(t testing.TB, dsn, statement string) {
	t.Helper()
	path, ok := strings.CutPrefix(dsn, "sqlite:")
	if !ok {
		pgtest.Exec(t, dsn, statement)
		return
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), strings.ReplaceAll(statement, "tenantgate.", "")); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// echoed is what an app received.
type echoed struct {
	Method, Host, URI, Path string
	Header                  http.Header
	Trailer                 http.Header
	Body                    string
}

// echo is an app that answers with the request that reached it.
func echo(w http.ResponseWriter, r *http.Request) {
	body := make([]byte, 1<<16)
	n := 0
	for n < len(body) {
		k, err := r.Body.Read(body[n:])
		if n += k; err != nil {
			break
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(echoed{r.Method, r.Host, r.RequestURI, r.URL.EscapedPath(), r.Header, r.Trailer, string(body[:n])})
}

// cell is one question of the matrix.
type cell struct {
	actor, credential, source string
	tenant                    tenantSeed // void for "only", which names nothing
}

func (c cell) String() string {
	return c.actor + " by " + c.credential + " names " + c.tenant.mark + " by " + c.source
}

func (c cell) column() string {
	if c.source == "only" {
		return "only"
	}
	return c.tenant.mark
}

// cells of an actor.
func cells(actor string) []cell {
	var list []cell
	for _, tenant := range []tenantSeed{alpha, beta, susp, laps, void} {
		for _, source := range []string{"path", "header", "host", "claim", "session"} {
			for _, credential := range []string{"cookie", "bearer"} {
				switch {
				case source == "session" && credential == "bearer", (source == "host" || source == "claim") && credential == "cookie":
					continue // there is no such thing: a bearer token has no session, a cookie is public_url's and has no claim
				}
				list = append(list, cell{actor, credential, source, tenant})
			}
		}
	}
	return append(list, cell{actor, "cookie", "only", void}, cell{actor, "bearer", "only", void})
}

// ask makes the cell's request.
func (b *bench) ask(t *testing.T, shape string, c cell) (*gatetest.World, *http.Request) {
	t.Helper()
	w := b.named[shape]
	switch c.source {
	case "session":
		w = b.byHand[shape]
		b.choose(t, w, c, catalog.TenantID(c.tenant.id()))
	case "only":
		b.choose(t, w, c, "")
	}
	target := w.URL + "/x"
	if c.source == "path" {
		target = w.URL + "/t/" + c.tenant.id() + "/x"
	}
	req := request(t, "GET", target)
	token := b.bearers[c.actor]
	switch c.source {
	case "header":
		req.Header.Set("X-Tenant", c.tenant.id())
	case "host":
		req.Host = c.tenant.id() + ".base.test"
	case "claim":
		if c.actor != "nobody" && c.actor != "expired" {
			token = bearer(t, w, c.actor, time.Hour, map[string]any{"tenant": c.tenant.id()})
		}
	}
	switch {
	case c.actor == "nobody":
	case c.credential == "cookie":
		req.Header.Set("Cookie", sessionName+"="+b.cookies[c.actor])
	default:
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return w, req
}

// choose writes the tenant into the session's row, past every check that the picker makes.
func (b *bench) choose(t *testing.T, w *gatetest.World, c cell, tenant catalog.TenantID) {
	t.Helper()
	token := b.cookies[c.actor]
	if token == "" {
		return
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Gate.Host().Sessions.SetTenant(t.Context(), catalog.SessionID(fmt.Sprintf("%x", raw[:16])), tenant); err != nil {
		t.Fatal(err)
	}
}

// granted is the tenant whose data the cell's answer must show, nil for none.
func granted(c cell, want string) *tenantSeed {
	if want != "ok" {
		return nil
	}
	if c.source != "only" {
		return &c.tenant
	}
	for _, row := range oracle {
		if row.actor == c.actor {
			return row.onlyTenant
		}
	}
	return nil
}

// TestCrossTenantMatrix: TEN-1, TEN-2, STATE-1, POL-1, CACHE-1. Every actor, every tenant, every way to name it, by
// cookie and by bearer token, with nothing remembered and with everything, through the proxy and the middleware.
func TestCrossTenantMatrix(t *testing.T) {
	b := newBench(t, sqliteURL(t))
	for _, shape := range []string{"proxy", "middleware"} {
		for _, row := range oracle {
			t.Run(shape+"/"+row.actor, func(t *testing.T) {
				c := client(t, b.named[shape])
				c.Jar = nil
				for _, q := range cells(row.actor) {
					w, req := b.ask(t, shape, q)
					reload(t, w)
					for _, state := range []string{"cold", "warm"} {
						assertCell(t, q, state, do(t, c, req))
					}
				}
			})
		}
	}
}

// TestCrossTenantMatrixOnPostgreSQL asks a subset, with everything remembered from one actor to the next.
func TestCrossTenantMatrixOnPostgreSQL(t *testing.T) {
	b := newBench(t, pgtest.New(t))
	c := client(t, b.named["proxy"])
	c.Jar = nil
	for _, state := range []string{"cold", "warm"} {
		for _, row := range oracle {
			for _, q := range cells(row.actor) {
				if q.source == "claim" {
					continue
				}
				shape := "proxy"
				if q.source == "header" {
					shape = "middleware"
				}
				w, req := b.ask(t, shape, q)
				if q.source == "session" || q.source == "only" {
					reload(t, w) // the row was changed behind the gate's back
				}
				assertCell(t, q, state, do(t, c, req))
			}
		}
	}
}

// assertCell holds one answer against the oracle: status, code, and not a byte of a tenant that was not granted.
func assertCell(t *testing.T, c cell, state string, a answer) {
	t.Helper()
	want := expectation(c.actor, c.column(), c.credential)
	code := a.code()
	if a.status == http.StatusOK {
		code = "ok"
	}
	if a.status != statuses[want] || code != want {
		t.Errorf("%s, %s: %d %q; want %d %q", c, state, a.status, code, statuses[want], want)
		return
	}
	grant := granted(c, want)
	text := a.text()
	for _, s := range existing {
		if (grant == nil || s.mark != grant.mark) && strings.Contains(strings.ToLower(text), s.mark) {
			t.Errorf("%s, %s: the answer tells of %s:\n%s", c, state, s.mark, text)
		}
	}
	if grant != nil {
		assertShows(t, c, state, a, *grant)
	}
}

// assertShows holds what the app received against the one tenant that was granted.
func assertShows(t *testing.T, c cell, state string, a answer, s tenantSeed) {
	t.Helper()
	var got echoed
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Errorf("%s, %s: %v", c, state, err)
		return
	}
	for name, want := range map[string]string{
		"X-Tenant-Id": s.id(), "X-Tenant-Db-Uri": s.uri(), "X-Tenant-Plan": s.plan(), "X-Tenant-Features": s.feature(),
		"X-Subscription-Status": "active", "X-User-Id": string(userID(c.actor)), "X-User-Email": c.actor + "@people.test",
		"X-User-Role": "owner", "X-User-Profile-Id": s.profile(c.actor),
	} {
		if v := got.Header[name]; len(v) != 1 || v[0] != want {
			t.Errorf("%s, %s: the app received %s %q; want %q", c, state, name, v, want)
		}
	}
	claims := assertionClaims(t, got.Header.Get("X-Gate-Assertion"))
	if claims["tenant"] != s.id() || claims["sub"] != string(userID(c.actor)) || claims["profile"] != s.profile(c.actor) {
		t.Errorf("%s, %s: the assertion says %v", c, state, claims)
	}
	for _, other := range existing {
		if text := fmt.Sprint(claims); other.mark != s.mark && strings.Contains(text, other.mark) {
			t.Errorf("%s, %s: the assertion tells of %s: %s", c, state, other.mark, text)
		}
	}
}

// assertionClaims reads an assertion without verifying it: package assertion has its own tests.
func assertionClaims(t testing.TB, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("the assertion is no JWS: %q", token)
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// TestACookieIsOfOneHost: a session is good on the host that it was issued for and nowhere else, member or not (TEN-1).
func TestACookieIsOfOneHost(t *testing.T) {
	b := newBench(t, sqliteURL(t))
	c := client(t, b.named["proxy"])
	c.Jar = nil
	for _, shape := range []string{"proxy", "middleware"} {
		for _, host := range []string{alpha.id() + ".base.test", "base.test", "127.0.0.1", "other.test", "localhost.base.test", "notlocalhost", "localhost.evil.test", "xlocalhost"} {
			req := request(t, "GET", b.named[shape].URL+"/x")
			req.Host = host
			req.Header.Set("Cookie", sessionName+"="+b.cookies["both"])
			if a := do(t, c, req); a.status != 401 || a.code() != "session_expired" {
				t.Errorf("%s, Host %s: %d %s", shape, host, a.status, a.code())
			}
		}
		for _, host := range []string{"LOCALHOST", "localhost.", "localhost:1", "localhost.:65535"} {
			req := request(t, "GET", b.named[shape].URL+"/t/"+alpha.id()+"/x")
			req.Host = host
			req.Header.Set("Cookie", sessionName+"="+b.cookies["both"])
			if a := do(t, c, req); a.status != 200 {
				t.Errorf("%s, Host %s: %d %s; it is the session's", shape, host, a.status, a.code())
			}
		}
	}
}

// TestWhoamiTellsOfOwnTenantsAlone: LEAK-1. Neither whoami nor the picker shows a tenant in which the person has no
// active membership, nor any URI.
func TestWhoamiTellsOfOwnTenantsAlone(t *testing.T) {
	b := newBench(t, sqliteURL(t))
	c := client(t, b.named["proxy"])
	c.Jar = nil
	for _, row := range oracle {
		for _, path := range []string{"/_gate/whoami", "/_gate/tenants", "/_gate/logout", "/_gate/login", "/_gate/jwks.json"} {
			for _, header := range []string{"", alpha.id(), beta.slug(), void.id()} {
				req := request(t, "GET", b.named["proxy"].URL+path)
				req.Header.Set("Cookie", sessionName+"="+b.cookies[row.actor])
				if header != "" {
					req.Header.Set("X-Tenant", header)
				}
				a := do(t, c, req)
				text := strings.ToLower(a.text())
				for _, s := range existing {
					mine := a.status == 200 && row.actor != "inactive"
					if mine = mine && containsSeed(memberOf[row.actor], s); !mine && strings.Contains(text, s.mark) {
						t.Errorf("%s, %s, X-Tenant %q tells of %s:\n%s", row.actor, path, header, s.mark, text)
					}
					if strings.Contains(text, "pw-"+s.mark) || strings.Contains(text, "db-"+s.mark) {
						t.Errorf("%s, %s shows the URI of %s:\n%s", row.actor, path, s.mark, text)
					}
				}
			}
		}
	}
}

func containsSeed(list []tenantSeed, s tenantSeed) bool {
	for _, one := range list {
		if one.mark == s.mark {
			return true
		}
	}
	return false
}
