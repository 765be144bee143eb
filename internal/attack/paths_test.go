package attack

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/router"
)

// guarded routes: what is public, what nobody may (no role reaches root), and what may be written ambiguously.
func guardedRoutes(c *config.Config) {
	byName(c)
	c.Roles = []string{"member", "admin", "owner", "root"}
	c.Routes = []router.RouteConfig{
		{Path: "/public/", Access: "public", Upstream: "app"},
		{Path: "/user/", Access: "user", Upstream: "app"},
		{Path: "/admin/", MinRole: "root", Upstream: "app"},
		{Path: "/run:all@once/", MinRole: "root", Upstream: "app"},
		{Path: "/written/", Methods: []string{"POST", "PUT", "PATCH", "DELETE"}, MinRole: "root", Upstream: "app"},
		{Path: "/read/", Methods: []string{"GET"}, MinRole: "root", Upstream: "app"},
		{Path: "/changed/", Methods: []string{"unsafe"}, MinRole: "root", Upstream: "app"},
		{Path: "/files/", AllowEncodedSlash: true, Upstream: "app"},
		{Path: "/params/", AllowPathParameters: true, Upstream: "app"},
		{Path: "/", Upstream: "app"},
	}
}

// verdict is what a target must come to: "" and the path that the app receives, or the code of the denial. bare is a
// refusal of net/http itself, before any handler.
type verdict struct{ target, code, forwarded string }

const bare = "bare"

// assertVerdict sends one request and holds answer and app against the verdict.
func (r *rigged) assertVerdict(t *testing.T, method string, v verdict, fields ...string) {
	t.Helper()
	r.app.take()
	raw := send(t, r.Addr, head(method+" "+v.target+" HTTP/1.1", slices.Concat([]string{"Host: localhost"}, fields)...))
	got := r.app.take()
	a := first(t, raw)
	if v.code == "" {
		if a.status != 200 || len(got) != 1 || got[0].target() != v.forwarded {
			t.Errorf("%s %s: %d %s, the app received %v; want %s", method, v.target, a.status, a.code(), lines(got), v.forwarded)
		}
		return
	}
	code := a.code()
	if code == "" && a.status == 400 && a.header.Get("Content-Type") == "text/plain; charset=utf-8" {
		code = bare
	}
	if code != v.code || len(got) > 0 {
		t.Errorf("%s %s: %d %s, the app received %v; want %s", method, v.target, a.status, code, lines(got), v.code)
	}
	if code != bare && a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s %s: a denial with Cache-Control %q", method, v.target, a.header.Get("Cache-Control"))
	}
}

func lines(got []received) []string {
	list := make([]string, len(got))
	for i, r := range got {
		list[i] = r.line
	}
	return list
}

// TestNobodyReachesMoreThanPublicPaths: SKIP-1, SKIP-2, PATH-1, PATH-2, ROUTE-1 without a credential.
func TestNobodyReachesMoreThanPublicPaths(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	const signIn = "unauthenticated"
	for _, v := range []verdict{
		{"/public/x", "", "/public/x"},
		{"/public", "", "/public"},
		{"/public/", "", "/public/"},
		{"/public/x?a=/../admin&b=%2e%2e#", "bad_path", ""},
		{"/public/x?a=/../admin&b=%2e%2e;c=\\", "", "/public/x?a=/../admin&b=%2e%2e;c=\\"},
		{"/public/x?", "", "/public/x?"},
		{"/%70ublic/x", "", "/public/x"},
		{"/public/%7Euser", "", "/public/~user"},
		{"/public/a%3fb", "", "/public/a%3Fb"},
		{"/public/a%23b", "", "/public/a%23b"},
		{"/public/%25", "", "/public/%25"},
		{"/public/%252e%252e/admin", "", "/public/%252e%252e/admin"},
		{"/public/%252fadmin", "", "/public/%252fadmin"},
		{"/public/a\"b<c>", "", "/public/a%22b%3Cc%3E"},
		{"/public/\xc3\xa9", "", "/public/%C3%A9"},
		{"/public/[x]", "", "/public/[x]"},
		{"/public/a:b@c,d=e$f!g*h'(i)", "", "/public/a:b@c,d=e$f!g*h'(i)"},
		{"/public/...", "", "/public/..."},
		{"/public/.hidden", "", "/public/.hidden"},

		{"/public/../admin", "bad_path", ""},
		{"/public/..", "bad_path", ""},
		{"/public/.", "bad_path", ""},
		{"/public/./x", "bad_path", ""},
		{"/public/%2e%2e/admin", "bad_path", ""},
		{"/public/.%2E/admin", "bad_path", ""},
		{"/public/%2e/x", "bad_path", ""},
		{"/public//x", "bad_path", ""},
		{"//public/x", "bad_path", ""},
		{"///public/x", "bad_path", ""},
		{"/public/x//", "bad_path", ""},
		{"/public%2fx", "bad_path", ""},
		{"/public%2Fx", "bad_path", ""},
		{"/public/..%2fadmin", "bad_path", ""},
		{"/public%2f..%2fadmin", "bad_path", ""},
		{"/public/a%2Fb\"c", "bad_path", ""}, // net/url encodes such a path anew, and the slash with it
		{"/public%2Fx<", "bad_path", ""},
		{"/admin%2F\xe9", "bad_path", ""},
		{"/public/..;/admin", "bad_path", ""},
		{"/public;/../admin", "bad_path", ""},
		{"/public/x;y", "bad_path", ""},
		{"/public/x%3by", "bad_path", ""},
		{"/public/x%3By\"", "bad_path", ""},
		{"/public/\\..\\admin", "bad_path", ""},
		{"/public/%5c..%5cadmin", "bad_path", ""},
		{"/public\\x", "bad_path", ""},
		{"/public/%00", "bad_path", ""},
		{"/public/x%00.css", "bad_path", ""},
		{"/public/%0a", "bad_path", ""},
		{"/public/%0d%0aX-Tenant-Id:%20x", "bad_path", ""},
		{"/public/%09", "bad_path", ""},
		{"/public/%1f", "bad_path", ""},
		{"/public/%7f", "bad_path", ""},
		{"/public/%c0%ae%c0%ae/admin", "bad_path", ""},
		{"/public/%c0%afadmin", "bad_path", ""},
		{"/public/%e0%80%afadmin", "bad_path", ""},
		{"/public/%f0%80%80%afadmin", "bad_path", ""},
		{"/public/\xc0\xae\xc0\xae/admin", "bad_path", ""},
		{"/public/x#y", "bad_path", ""},
		{"/admin#/public/", "bad_path", ""},
		{"/public/%zz", bare, ""},
		{"/public/%2", bare, ""},
		{"/public/%", bare, ""},
		{"/public/%u002e", bare, ""},
		{"/public/a b", bare, ""},
		{"/public/\x01", bare, ""},

		{"/PUBLIC/x", signIn, ""},
		{"/Public/x", signIn, ""},
		{"/%50ublic/x", signIn, ""},
		{"/publi", signIn, ""},
		{"/publicx", signIn, ""},
		{"/public./x", signIn, ""},
		{"/public%20/x", signIn, ""},
		{"/%20public/x", signIn, ""},
		{"/public%3f/x", signIn, ""},
		{"/public%23/x", signIn, ""},
		{"/public%25/x", signIn, ""},
		{"/publ\xc4\xb1c/x", signIn, ""}, // a dotless i, which upper-cases to I
		{"/admin?x=/public/", signIn, ""},
		{"/admin?/public/x", signIn, ""},
		{"/admin%3f/public/", signIn, ""},
		{"/admin%23/public/", signIn, ""},
		{"/admin%3fx=/public/", signIn, ""},
		{"/x/public/x", signIn, ""},
		{"/", signIn, ""},
		{"/user/x", signIn, ""},
		{"/t/" + alpha.id() + "/x", signIn, ""},
		{"/t/" + alpha.id() + "/public/x", "", "/public/x"},
		{"/t/" + void.id() + "/public/x", "", "/public/x"},
		{"/t/" + alpha.id() + "/public/../x", "bad_path", ""},
		{"/t/" + alpha.id() + "//public/x", "bad_path", ""},
		{"/t/public/x", signIn, ""}, // a tenant named public
		{"/T/" + alpha.id() + "/public/x", signIn, ""},
		{"/t/", signIn, ""},
		{"/t/a%2fb/public/x", "bad_path", ""},
		{"/t/a;b/public/x", "bad_path", ""},
		{"/t/%2e%2e/public/x", "bad_path", ""},
		{"/t/../public/x", "bad_path", ""},
		{"/t//public/x", "bad_path", ""},

		{"http://localhost/public/x", "", "/public/x"},
		{"http://localhost", signIn, ""},
		{"http://localhost/admin", signIn, ""},
		{"http://localhost/public/../admin", "bad_path", ""},
		{"http://localhost/public%2fx", "bad_path", ""},
		{"http://localhost//public/x", "bad_path", ""},
		{"http://nobody:secret@localhost/public/x", "bad_path", ""},
		{"http://public@localhost/admin", "bad_path", ""},
		{"mailto:public@localhost", "bad_path", ""},
		{"localhost:80/public/x", "bad_path", ""},
		{"public/x", bare, ""},
		{"?/public/x", bare, ""},
		{"*", "bad_path", ""},
	} {
		r.assertVerdict(t, "GET", v)
	}
}

// TestAmbiguousPathsNeedTheirRoutesPermission: ROUTE-1, PATH-1 for somebody signed in: every reading of a path must
// take the one route that permits the ambiguity.
func TestAmbiguousPathsNeedTheirRoutesPermission(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	cookie := "Cookie: " + sessionName + "=" + r.cookie
	at := "/t/" + alpha.id()
	for _, v := range []verdict{
		{at + "/files/a%2fb", "", "/files/a%2Fb"},
		{at + "/files/a%2Fb%2f", "", "/files/a%2Fb%2F"},
		{at + "/files/a%2F%2fb", "bad_path", ""},
		{at + "/files/..%2fadmin/", "bad_path", ""},
		{at + "/files/%2e%2e%2fadmin/", "bad_path", ""},
		{at + "/files%2f..%2fadmin", "bad_path", ""},
		{at + "/files%2fx", "bad_path", ""},
		{at + "/files/a;b", "bad_path", ""},
		{at + "/files/a%2fb;c", "bad_path", ""},
		{at + "/files/a%2F_gate", "", "/files/a%2F_gate"},
		{at + "/params/a;b=c", "", "/params/a;b=c"},
		{at + "/params/a%3bb", "", "/params/a%3Bb"},
		{at + "/params/..;/admin/", "bad_path", ""},
		{at + "/params/;/x", "bad_path", ""},
		{at + "/params;x/y", "bad_path", ""},
		{at + "/params/a%2fb", "bad_path", ""},
		{at + "/x;y", "bad_path", ""},
		{at + "/admin;x/", "bad_path", ""},
		{at + "/x%2fadmin", "bad_path", ""},
		{at + "/admin/x", "role_required", ""},
		{at + "/ADMIN/x", "role_required", ""},
		{at + "/%61dmin/x", "role_required", ""},
		{at + "/Admin", "role_required", ""},
		{at + "/adm\xc4\xb1n/x", "", "/adm%C4%B1n/x"},
		{at + "/run%3Aall%40once/x", "role_required", ""},
		{at + "/run:all%40once", "role_required", ""},
		{at + "/RUN%3aALL@once/x", "role_required", ""},
		{at + "/run%253Aall@once/x", "", "/run%253Aall@once/x"},
		{at + "/administer", "", "/administer"},
		{at + "/admin%20/x", "", "/admin%20/x"},
		{at + "/x?/admin/", "", "/x?/admin/"},

		{at + "/_gate/whoami", "not_found", ""},
		{at + "/_gate", "not_found", ""},
		{at + "/_GATE/whoami", "not_found", ""},
		{at + "/%5fgate/whoami", "not_found", ""},
		{at + "/_g%61te/decide", "not_found", ""},
		{at + "/_gate;x/whoami", "bad_path", ""},
		{at + "/_gate%2fwhoami", "bad_path", ""},
		{at + "/files/%2f_gate", "bad_path", ""},
		{at + "/_gates", "", "/_gates"},
		{at + "/x/_gate/whoami", "", "/x/_gate/whoami"},
		{at + "/t/" + beta.id() + "/x", "", "/t/" + beta.id() + "/x"},
		{"/_gate", "not_found", ""},
		{"/_gate/", "not_found", ""},
		{"/_gate/decide", "not_found", ""},
		{"/_gate/denied", "not_found", ""},
		{"/_gate/handoff/", "not_found", ""},
		{"/_gate/Handoff", "not_found", ""},
		{"/_gate/whoami/", "not_found", ""},
		{"/_gate/Whoami", "not_found", ""},
		{"/_GATE/whoami", "not_found", ""},
		{"/_gate/metrics", "not_found", ""},
		{"/_gate/healthz", "not_found", ""},
		{"/_gate//whoami", "bad_path", ""},
		{"/_gate/../x", "bad_path", ""},
		{"/_gate%2fwhoami", "bad_path", ""},
		{"/_gate;/whoami", "bad_path", ""},
		{"/_gate\\whoami", "bad_path", ""},
		{"/_gate/callback/nobody?state=a&code=b", "not_found", ""},
	} {
		r.assertVerdict(t, "GET", v, cookie)
	}
}

// TestMethodsAreJudgedAsSent: METH-1. No spelling of a method and no override passes a rule by, and no echo shows the URI.
func TestMethodsAreJudgedAsSent(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	cookie := "Cookie: " + sessionName + "=" + r.cookie
	at := "/t/" + alpha.id()
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		r.assertVerdict(t, method, verdict{at + "/written/x", "role_required", ""}, cookie)
		r.assertVerdict(t, method, verdict{at + "/changed/x", "role_required", ""}, cookie)
		for _, spelled := range []string{strings.ToLower(method), method[:1] + strings.ToLower(method[1:])} {
			r.assertVerdict(t, spelled, verdict{at + "/written/x", "method_not_allowed", ""}, cookie)
		}
	}
	for _, method := range []string{"GET", "HEAD"} {
		raw := send(t, r.Addr, head(method+" "+at+"/read/x HTTP/1.1", "Host: localhost", cookie))
		if got := r.app.take(); !strings.HasPrefix(raw, "HTTP/1.1 403") || len(got) > 0 {
			t.Errorf("%s past a rule for GET: %q, the app received %v", method, raw, lines(got))
		}
	}
	for _, method := range []string{"TRACE", "CONNECT", "trace", "Trace", "connect", "get", "gET"} {
		for _, target := range []string{at + "/x", "/public/x", "/_gate/whoami"} {
			r.assertVerdict(t, method, verdict{target, "method_not_allowed", ""}, cookie)
		}
	}
	r.assertVerdict(t, "CONNECT", verdict{"localhost:80", "method_not_allowed", ""}, cookie)
	r.assertVerdict(t, "OPTIONS", verdict{"*", "bad_path", ""}, cookie)
	for _, method := range []string{"PURGE", "X", "M-SEARCH", "PROPFIND", "QUERY"} {
		r.assertVerdict(t, method, verdict{at + "/changed/x", "role_required", ""}, cookie)
		r.assertVerdict(t, method, verdict{at + "/x", "", "/x"}, cookie)
	}
	for _, method := range []string{"GET", "HEAD"} {
		r.assertVerdict(t, method, verdict{at + "/changed/x?_method=POST", "", "/changed/x?_method=POST"}, cookie,
			"X-HTTP-Method-Override: DELETE", "X-Http-Method: DELETE", "x_method_override: DELETE")
	}
	for _, line := range []string{"GET", "GET /", "GET /public/x HTTP/9.9", "GET  /public/x HTTP/1.1", "G ET /public/x HTTP/1.1", "\"GET\" /public/x HTTP/1.1", "PRI * HTTP/2.0"} {
		raw := send(t, r.Addr, line+"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if got := r.app.take(); len(got) > 0 || strings.Contains(raw, " 200 ") {
			t.Errorf("%q: %q, the app received %v", line, raw, lines(got))
		}
	}
}

// readings are all that some app could take a path for: decoded or not, parameters kept or cut, backslashes as slashes,
// cleaned or not.
func readings(target string) []string {
	p, _, _ := strings.Cut(target, "?")
	list := []string{p}
	if d, err := url.PathUnescape(p); err == nil {
		list = append(list, d)
	}
	for _, s := range slices.Clone(list) {
		list = append(list, strings.ReplaceAll(s, "\\", "/"))
	}
	for _, s := range slices.Clone(list) {
		segments := strings.Split(s, "/")
		for i := range segments {
			segments[i], _, _ = strings.Cut(segments[i], ";")
		}
		list = append(list, strings.Join(segments, "/"))
	}
	for _, s := range slices.Clone(list) {
		s, _, _ = strings.Cut(s, "\x00")
		list = append(list, path.Clean(s))
	}
	return list
}

// TestNoPathIsReadInTwoWays: PATH-1, PATH-2, SKIP-2, ROUTE-1 as a property. However hostile segments are put together:
// what reaches the app without a credential is public in every reading of it, and what reaches it with one is in no
// reading what the rules keep everybody from.
func TestNoPathIsReadInTwoWays(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	parts := []string{
		"/", "/", "/", "/public", "/public/", "/admin", "/admin/", "/Admin", "/files/", "/params/", "/user/", "/_gate/", "/t/" + alpha.id(),
		"..", ".", "%2e", "%2E", "%2e%2e", "%2f", "%2F", "%5c", "\\", ";", ";x=y", "%3b", "//", "%00", "%0a", "%c0%af", "%c0%ae", "?", "?/", "%23",
		"%3f", "%25", "%252f", "%252e", "~", "%7e", "\"", "<", "\xe9", "\xc3\xa9", "%20", "*", "@", ":", "%61dmin", "adm%69n", "%70ublic", "x", "a.b",
	}
	random := rand.New(rand.NewPCG(20261124, 3))
	reached := 0
	for i := range 3000 {
		target := "/"
		for range 1 + random.IntN(6) {
			target += parts[random.IntN(len(parts))]
		}
		if random.IntN(2) == 0 && strings.HasPrefix(target, "//") {
			target = target[1:]
		}
		fields := []string{"Host: localhost"}
		if i%2 == 0 {
			fields = append(fields, "Cookie: "+sessionName+"="+r.cookie)
			target = "/t/" + alpha.id() + target
		}
		raw := send(t, r.Addr, head("GET "+target+" HTTP/1.1", fields...))
		for _, got := range r.app.take() {
			reached++
			for _, reading := range readings(got.target()) {
				public := reading == "/public" || strings.HasPrefix(reading, "/public/")
				lower := strings.ToLower(reading) + "/"
				if len(got.values("X-User-Id")) == 0 && !public || strings.HasPrefix(lower, "/admin/") || strings.HasPrefix(lower, "/_gate/") {
					t.Errorf("%q reached the app as %q, which can be read as %q (%.80q)", target, got.target(), reading, raw)
				}
			}
		}
	}
	if reached < 100 {
		t.Errorf("only %d of the paths reached the app: the test shows nothing", reached)
	}
}

// TestHosts: HOST-1, HOST-2. One name in every spelling of it; whatever two servers could take for two is refused.
func TestHosts(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	token := "Authorization: Bearer " + r.bearer
	ask := func(fields ...string) (answer, []received) {
		r.app.take()
		a := first(t, send(t, r.Addr, head("GET /x HTTP/1.1", append(fields, token)...)))
		return a, r.app.take()
	}
	for _, c := range []struct{ host, forwarded string }{
		{alpha.id() + ".base.test", alpha.id() + ".base.test"},
		{strings.ToUpper(alpha.id()) + ".BASE.Test", alpha.id() + ".base.test"},
		{alpha.id() + ".base.test.", alpha.id() + ".base.test"},
		{alpha.id() + ".base.test.:8080", alpha.id() + ".base.test:8080"},
		{alpha.id() + ".base.test:443", alpha.id() + ".base.test:443"},
		{strings.ToUpper(alpha.slug()) + ".base.test", alpha.slug() + ".base.test"},
	} {
		a, got := ask("Host: " + c.host)
		if a.status != 200 || len(got) != 1 {
			t.Errorf("Host %s: %d %s", c.host, a.status, a.code())
			continue
		}
		if id := got[0].values("X-Tenant-Id"); len(id) != 1 || id[0] != alpha.id() {
			t.Errorf("Host %s: X-Tenant-Id %q", c.host, id)
		}
		if h, f := got[0].values("Host"), got[0].values("X-Forwarded-Host"); len(h) != 1 || h[0] != c.forwarded || len(f) != 1 || f[0] != c.forwarded {
			t.Errorf("Host %s: the app received Host %q, X-Forwarded-Host %q", c.host, h, f)
		}
	}
	base := alpha.id() + ".base.test"
	for _, host := range []string{
		"", " ", "..", ".", "." + base, "a.." + base, base + "..", base + ":", base + ":0", base + ":x", base + ":99999", base + ":-1", base + ":+80", base + ":80:80",
		"user@" + base, "user:pw@" + base, base + "/", base + "/x", base + "?x", base + "#x", base + "\\", base + " x", base + ",", base + ", localhost", base + ";",
		"%74" + base[1:], "[" + base + "]", "[::1", "::1]", "[::1]x", "[::1%25lo]", "[127.0.0.1]", "\xe9." + base, "xn--" + base, "xn--t-.base.test", "xn--a.base.test", "xn--abc-.base.test",
		"xn--" + alpha.id() + "-.base.test", strings.Repeat("a", 64) + ".base.test", strings.Repeat("a.", 130) + "base.test", "*.base.test", "a b.base.test", "\"" + base + "\"", "<" + base + ">",
	} {
		a, got := ask("Host: " + host)
		code := a.code()
		if a.status != 400 || code != "bad_host" && code != "" || len(got) > 0 {
			if host == base+":" {
				continue // an empty port is a port that is not named (RFC 3986 3.2.3)
			}
			t.Errorf("Host %q: %d %s, the app received %v", host, a.status, code, lines(got))
		}
	}
	for name, fields := range map[string][]string{
		"no Host": nil, "two": {"Host: localhost", "Host: " + base}, "two alike": {"Host: localhost", "Host: localhost"},
		"two cases": {"Host: localhost", "HOST: " + base}, "with a space": {"Host : localhost"}, "folded": {"Host: localhost", "\t" + base},
	} {
		if a, got := ask(fields...); a.status != 400 || len(got) > 0 {
			t.Errorf("%s: %d, the app received %v", name, a.status, lines(got))
		}
	}
	// Other spellings of Host are other headers, and no Host.
	for _, field := range []string{"X-Host: " + base, "X-Forwarded-Host: " + base, "X-Original-Host: " + base, "Forwarded: host=" + base, "Ho_st: " + base, "X-Forwarded-Server: " + base} {
		if a, got := ask("Host: localhost", field); a.code() != "tenant_required" || len(got) > 0 {
			t.Errorf("%s: %d %s", field, a.status, a.code())
		}
	}
	raw := send(t, r.Addr, "GET /x HTTP/1.0\r\n"+token+"\r\n\r\n")
	if a := first(t, raw); a.code() != "bad_host" {
		t.Errorf("HTTP/1.0 without Host: %d %s", a.status, a.code())
	}
}

// TestACustomDomainIsAHostAlone: TEN-1, CACHE-1. What names a tenant as a Host names none elsewhere, also when it is
// remembered as a Host; an unverified one names none at all.
func TestACustomDomainIsAHostAlone(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	for _, d := range []catalog.Domain{
		{Host: "portal.alpha.test", TenantID: catalog.TenantID(alpha.id()), Kind: "host", Verified: true},
		{Host: "soon.beta.test", TenantID: catalog.TenantID(beta.id()), Kind: "host"},
		{Host: "portal.susp.test", TenantID: catalog.TenantID(susp.id()), Kind: "host", Verified: true},
	} {
		if err := r.Gate.Host().Domains.Insert(t.Context(), &d); err != nil {
			t.Fatal(err)
		}
	}
	token := "Authorization: Bearer " + r.bearer
	for range 2 {
		for _, c := range []struct {
			fields []string
			code   string
		}{
			{[]string{"Host: portal.alpha.test"}, ""},
			{[]string{"Host: PORTAL.alpha.test.:8443"}, ""},
			{[]string{"Host: localhost", "X-Tenant: portal.alpha.test"}, "no_access"},
			{[]string{"Host: portal.alpha.test.base.test"}, "tenant_required"},
			{[]string{"Host: x.portal.alpha.test"}, "tenant_required"},
			{[]string{"Host: portal.alpha.test", "X-Tenant: " + alpha.id()}, ""},
			{[]string{"Host: portal.alpha.test", "X-Tenant: portal.alpha.test"}, "tenant_conflict"},
			{[]string{"Host: portal.alpha.test", "X-Tenant: " + beta.id()}, "tenant_conflict"},
			{[]string{"Host: portal.susp.test"}, "no_access"},
			{[]string{"Host: soon.beta.test"}, "tenant_required"},
			{[]string{"Host: soon.beta.test", "X-Tenant: " + alpha.id()}, ""},
			{[]string{"Host: " + alpha.slug()}, "tenant_required"},
			{[]string{"Host: " + alpha.id()}, "tenant_required"},
		} {
			r.app.take()
			a := first(t, send(t, r.Addr, head("GET /x HTTP/1.1", append(c.fields, token)...)))
			got := r.app.take()
			if a.code() != c.code || c.code == "" && (len(got) != 1 || got[0].values("X-Tenant-Id")[0] != alpha.id()) {
				t.Errorf("%q: %d %s, the app received %v; want %q", c.fields, a.status, a.code(), lines(got), c.code)
			}
		}
		// Where somebody signs in, known tenant or not, it is at public_url; no session of another host is good.
		for host, signsIn := range map[string]bool{"portal.alpha.test": true, "soon.beta.test": false, alpha.id() + ".base.test": true, void.id() + ".base.test": true} {
			a := first(t, send(t, r.Addr, head("GET /_gate/login HTTP/1.1", "Host: "+host)))
			toPublic := a.status == 302 && strings.HasPrefix(strings.Join(a.header["Location"], ""), r.URL+"/_gate/login?handoff=")
			if set := strings.Join(a.header["Set-Cookie"], "|"); signsIn != toPublic || !signsIn && (a.status != 400 || set != "") || strings.Contains(set, sessionName+"=") {
				t.Errorf("login at %s: %d, %q", host, a.status, a.header)
			}
			if a := first(t, send(t, r.Addr, head("GET /x HTTP/1.1", "Host: "+host, "Cookie: "+sessionName+"="+r.cookie))); a.code() != "session_expired" {
				t.Errorf("the cookie at %s: %d %s", host, a.status, a.code())
			}
		}
	}
}

// TestTheTargetsAuthorityIsTheHost: TEN-1, HOST-1 (RFC 9112 3.2.2): of an absolute target and a Host that differs, one
// is judged and the same one is forwarded.
func TestTheTargetsAuthorityIsTheHost(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	token := "Authorization: Bearer " + bearer(t, r.World, "onlya", hour, nil)
	for _, c := range []struct{ target, host, want string }{
		{"http://" + alpha.id() + ".base.test/x", "localhost", ""},
		{"http://" + alpha.id() + ".base.test/x", beta.id() + ".base.test", ""},
		{"http://" + beta.id() + ".base.test/x", alpha.id() + ".base.test", "no_access"},
		{"https://" + beta.id() + ".base.test/x", alpha.id() + ".base.test", "no_access"},
		{"http://" + alpha.id() + ".base.test/t/" + beta.id() + "/x", "localhost", "tenant_conflict"},
		{"http://a..b/x", alpha.id() + ".base.test", "bad_host"},
		{"http://" + alpha.id() + ".base.test:0/x", "localhost", "bad_host"},
	} {
		r.app.take()
		a := first(t, send(t, r.Addr, head("GET "+c.target+" HTTP/1.1", "Host: "+c.host, token)))
		got := r.app.take()
		if a.code() != c.want || len(got) != map[bool]int{true: 1}[c.want == ""] {
			t.Errorf("%s with Host %s: %d %s, the app received %v; want %q", c.target, c.host, a.status, a.code(), lines(got), c.want)
		}
		for _, g := range got {
			if h := g.values("Host"); len(h) != 1 || h[0] != alpha.id()+".base.test" {
				t.Errorf("%s with Host %s: the app received Host %q", c.target, c.host, h)
			}
		}
	}
}

// TestWhatPeersSayOfTheRequestIsIgnored: FWD-1, FWD-2, FWD-3, HEALTH-1. With nobody trusted, no header makes a request
// another one.
func TestWhatPeersSayOfTheRequestIsIgnored(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	for _, field := range []string{
		"X-Forwarded-Uri: /public/x", "X-Original-Url: /public/x", "X-Rewrite-Url: /public/x", "X-Original-Uri: /public/x", "X-Forwarded-Prefix: /public",
		"X-Forwarded-Method: OPTIONS", "X-Original-Method: GET", "X-Forwarded-Host: localhost", "Forwarded: for=127.0.0.1;host=localhost;proto=https",
		"X-Forwarded-For: 127.0.0.1", "X-Real-Ip: 127.0.0.1", "User-Agent: kube-probe/1.30", "User-Agent: GoogleHC/1.0", "User-Agent: ELB-HealthChecker/2.0",
		"X-Forwarded-User: both", "X-Forwarded-Email: both@people.test", "X-Remote-User: both", "Remote-User: both", "X-Gate-Assertion: x.y.z", "X-Auth-Request-User: both",
	} {
		r.assertVerdict(t, "GET", verdict{"/admin/x", "unauthenticated", ""}, field)
	}
	// Nor do addresses and schemes: the redirect leads to the own path, the log has the peer's address.
	raw := send(t, r.Addr, head("GET /x HTTP/1.1", "Host: localhost", "Accept: text/html", "X-Forwarded-Host: evil.test", "X-Forwarded-Proto: https", "X-Forwarded-Prefix: /evil"))
	if a := first(t, raw); a.status != 302 || a.header.Get("Location") != "/_gate/login?return_to=%2Fx" || strings.Contains(raw, "evil") {
		t.Errorf("%q", raw)
	}
}

// TestTrustedPeersAreBelievedOnce: FWD-1 for a peer that is trusted: each header once, or it counts as not sent.
func TestTrustedPeersAreBelievedOnce(t *testing.T) {
	r := newRigged(t, func(c *config.Config) {
		guardedRoutes(c)
		c.TrustedProxies = []string{"127.0.0.0/8"}
	})
	token := "Authorization: Bearer " + r.bearer
	inAlpha, inBeta := "X-Forwarded-Host: "+alpha.id()+".base.test", "X-Forwarded-Host: "+beta.id()+".base.test"
	for _, c := range []struct {
		fields []string
		code   string
	}{
		{[]string{inAlpha}, ""},
		{[]string{inAlpha, inAlpha}, "bad_host"},
		{[]string{inAlpha, inBeta}, "bad_host"},
		{[]string{inAlpha + ", " + beta.id() + ".base.test"}, "bad_host"},
		{[]string{"X-Forwarded-Host:"}, "bad_host"},
		{[]string{"x_forwarded_host: " + alpha.id() + ".base.test"}, "tenant_required"},
		{[]string{inAlpha, "X-Forwarded-Uri: /public/x"}, ""},
	} {
		r.app.take()
		a := first(t, send(t, r.Addr, head("GET /x HTTP/1.1", append(c.fields, "Host: localhost", token)...)))
		got := r.app.take()
		if a.code() != c.code || c.code == "" && (len(got) != 1 || got[0].values("X-Tenant-Id")[0] != alpha.id() || got[0].target() != "/x") {
			t.Errorf("%q: %d %s, the app received %v", c.fields, a.status, a.code(), lines(got))
		}
	}
	got, ok := r.one(t, "hops", head("GET /public/x HTTP/1.1", "Host: localhost", "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 127.0.0.2", "X-Forwarded-Proto: https",
		"X-Forwarded-Proto: http", "X-Forwarded-Prefix: //evil", "X-Request-Id: a\tb", "Traceparent: 00-"+strings.Repeat("0", 32)+"-"+strings.Repeat("0", 16)+"-01"))
	if !ok {
		return
	}
	for name, want := range map[string]string{"X-Real-Ip": "203.0.113.9", "X-Forwarded-For": "6.6.6.6, 203.0.113.9, 127.0.0.2, 127.0.0.1", "X-Forwarded-Proto": "http"} {
		if v := got.values(name); len(v) != 1 || v[0] != want {
			t.Errorf("the app received %s %q; want %q", name, v, want)
		}
	}
	if strings.Contains(got.raw, "evil") || strings.Contains(got.raw, "a\tb") || strings.Contains(got.raw, strings.Repeat("0", 32)) {
		t.Errorf("the app received %q", got.raw)
	}
}

// TestNobodysNameOpensAConflict: ENUM-1. Whatever pair of names a stranger sends, what exists is answered like what
// does not: names of one tenant, of two, in other case, by slug and by id.
func TestNobodysNameOpensAConflict(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	token := "Authorization: Bearer " + bearer(t, r.World, "stranger", hour, nil)
	title := func(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
	ask := func(path, header, host string) string {
		raw := send(t, r.Addr, head("GET /t/"+path+"/x HTTP/1.1", "Host: "+host, token, "X-Tenant: "+header))
		return fmt.Sprint(first(t, raw).status, " ", first(t, raw).code())
	}
	pairs := func(s, other tenantSeed) [][2]string {
		return [][2]string{
			{s.id(), s.slug()},
			{s.slug(), s.id()},
			{s.id(), title(s.id())},
			{title(s.id()), s.id()},
			{title(s.slug()), s.slug()},
			{strings.ToUpper(s.slug()), title(s.slug())},
			{s.id(), s.id()},
			{s.id(), void.id()},
			{void.id(), s.slug()},
			{s.id(), other.id()},
			{other.slug(), s.slug()},
			{s.slug(), other.id()},
		}
	}
	ghost, ghosts := tenantSeed{mark: "qghostq"}, pairs(tenantSeed{mark: "qghostq"}, tenantSeed{mark: "qspookq"})
	if ghost.id() == void.id() {
		t.Fatal("the ghost needs a name of its own")
	}
	for _, two := range [][2]tenantSeed{{alpha, beta}, {beta, susp}, {susp, laps}, {laps, alpha}} {
		for i, pair := range pairs(two[0], two[1]) {
			for _, hosts := range [][2]string{
				{"localhost", "localhost"}, {pair[0] + ".base.test", ghosts[i][0] + ".base.test"}, {two[0].slug() + ".base.test", ghost.slug() + ".base.test"},
			} {
				there, nowhere := ask(pair[0], pair[1], hosts[0]), ask(ghosts[i][0], ghosts[i][1], hosts[1])
				if there != nowhere {
					t.Errorf("%q on %s: %s; names that do not exist, %q on %s: %s", pair, hosts[0], there, ghosts[i], hosts[1], nowhere)
				}
			}
		}
	}
	// A member of both is told of the conflict, and nothing is forwarded.
	a := first(t, send(t, r.Addr, head("GET /t/"+alpha.id()+"/x HTTP/1.1", "Host: localhost", "Authorization: Bearer "+r.bearer, "X-Tenant: "+beta.id())))
	if a.code() != "tenant_conflict" {
		t.Errorf("two tenants of one's own: %d %s", a.status, a.code())
	}
	if got := r.app.take(); len(got) > 0 {
		t.Errorf("the app received %v", lines(got))
	}
}

// TestUnknownAndForeignTenantsAreAlike: ENUM-1, byte for byte but for request_id and Date, for programs and browsers,
// however the tenant is named.
func TestUnknownAndForeignTenantsAreAlike(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	cookie := "Cookie: " + sessionName + "=" + signIn(t, r.World, "onlya")
	mine := func(claims map[string]any) string {
		return "Authorization: Bearer " + bearer(t, r.World, "onlya", hour, claims)
	}
	// Names of one length, so that nothing but existence differs.
	foreign := []string{beta.id(), susp.id(), laps.id()}
	for name, ask := range map[string]func(id string, more ...string) string{
		"path": func(id string, more ...string) string {
			return send(t, r.Addr, head("GET /t/"+id+"/x HTTP/1.1", append(more, "Host: localhost", cookie)...))
		},
		"header": func(id string, more ...string) string {
			return send(t, r.Addr, head("POST /x HTTP/1.1", append(more, "Host: localhost", cookie, "X-Tenant: "+id)...))
		},
		"host": func(id string, more ...string) string {
			return send(t, r.Addr, head("GET /x HTTP/1.1", append(more, "Host: "+id+".base.test", mine(nil))...))
		},
		"claim": func(id string, more ...string) string {
			return send(t, r.Addr, head("GET /x HTTP/1.1", append(more, "Host: localhost", mine(map[string]any{"tenant": id}))...))
		},
		"websocket": func(id string, more ...string) string {
			return send(t, r.Addr, "GET /t/"+id+"/x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://localhost\r\n"+
				strings.Join(append(more, mine(nil), "Connection: close", "", ""), "\r\n"))
		},
		"user route": func(id string, more ...string) string {
			return send(t, r.Addr, head("GET /t/"+id+"/user/x HTTP/1.1", append(more, "Host: localhost", cookie)...))
		},
		"picker": func(id string, more ...string) string {
			form := "tenant=" + id
			return send(t, r.Addr, head("POST /_gate/tenants HTTP/1.1", append(more, "Host: localhost", cookie, "Content-Type: application/x-www-form-urlencoded", fmt.Sprint("Content-Length: ", len(form)))...)+form)
		},
		"whoami": func(id string, more ...string) string {
			return send(t, r.Addr, head("GET /_gate/whoami HTTP/1.1", append(more, "Host: localhost", cookie, "X-Tenant: "+id)...))
		},
	} {
		for _, kind := range [][]string{{"Accept: application/json"}, {"Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: same-origin"}} {
			nowhere := alike(ask(void.id(), kind...))
			for _, id := range foreign {
				if there := alike(ask(id, kind...)); there != nowhere {
					t.Errorf("%s, %s, %s:\n%s\nand what does not exist:\n%s", name, kind[0], id, there, nowhere)
				}
			}
			if name != "user route" && name != "whoami" && !strings.Contains(nowhere, "403 Forbidden") {
				t.Errorf("%s, %s: %s", name, kind[0], nowhere)
			}
		}
	}
}

// alike blanks what may differ between two answers: Date, request_id and its length.
func alike(raw string) string {
	lines := strings.Split(raw, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "Date: ") {
			lines[i] = "Date"
		}
	}
	raw = strings.Join(lines, "\n")
	for _, mark := range []string{`"request_id":"`, "<code>"} {
		before, rest, ok := strings.Cut(raw, mark)
		if id, after, closed := strings.Cut(rest, map[string]string{`"request_id":"`: `"`, "<code>": "</code>"}[mark]); ok && closed && len(id) == 32 {
			raw = before + mark + "ID" + after
		}
	}
	return blankHex(raw)
}

// blankHex replaces each run of 32 hexadecimal digits: request ids, wherever a page shows them.
func blankHex(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		n := 0
		for i+n < len(s) && strings.IndexByte("0123456789abcdef", s[i+n]) >= 0 {
			n++
		}
		if n == 32 {
			b.WriteString("ID")
		} else {
			b.WriteString(s[i : i+n])
		}
		if i += n; i < len(s) {
			b.WriteByte(s[i])
			i++
		}
	}
	return b.String()
}

// TestNothingOfOursIsStored: CC-1. What depends on who asked is private, our own answers are not stored at all,
// whatever the path looks like.
func TestNothingOfOursIsStored(t *testing.T) {
	r := newRigged(t, guardedRoutes)
	at := "/t/" + alpha.id()
	cookie := "Cookie: " + sessionName + "=" + r.cookie
	for _, path := range []string{at + "/account/x.css", at + "/logo.png", at + "/x.js?v=1", at + "/user/x.css", "/user/x.css"} {
		for _, answer := range []struct{ field, want string }{
			{"", "private"}, {"Cache-Control: public, max-age=600\r\n", "public, max-age=600"}, {"Expires: Thu, 01 Dec 2044 16:00:00 GMT\r\n", "private"},
		} {
			r.app.says("HTTP/1.1 200 OK\r\n" + answer.field + "Content-Length: 2\r\n\r\nok")
			a := first(t, send(t, r.Addr, head("GET "+path+" HTTP/1.1", "Host: localhost", cookie)))
			if v := a.header.Values("Cache-Control"); a.status != 200 || len(v) != 1 || v[0] != answer.want {
				t.Errorf("%s, app's %q: %d, Cache-Control %q", path, answer.field, a.status, v)
			}
		}
	}
	for _, path := range []string{"/x.css", at + "/x.css", "/_gate/login", "/_gate/whoami", "/_gate/tenants", "/_gate/logout", "/_gate/ping", "/_gate/nothing.css"} {
		for _, accept := range []string{"*/*", "text/html"} {
			a := first(t, send(t, r.Addr, head("GET "+path+" HTTP/1.1", "Host: localhost", "Accept: "+accept)))
			if v := a.header.Values("Cache-Control"); len(v) != 1 || v[0] != "no-store" {
				t.Errorf("%s: %d, Cache-Control %q", path, a.status, v)
			}
		}
	}
	if a := first(t, send(t, r.Addr, head("GET /_gate/jwks.json HTTP/1.1", "Host: localhost"))); a.header.Get("Cache-Control") != "public, max-age=300" || a.status != http.StatusOK {
		t.Errorf("jwks.json: %d, Cache-Control %q", a.status, a.header.Get("Cache-Control"))
	}
}
