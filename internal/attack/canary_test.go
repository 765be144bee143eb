package attack

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/tenantgate/tenantgate"
	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/router"
	"github.com/tenantgate/tenantgate/sealing"
)

// nest is the world of the canaries: one host database, one provider, and the gate that is visited.
type nest struct {
	*spill
	server       *pgtest.Server
	hostURL      string
	masterSecret string
	clientSecret string
	uris         map[string]string // what tenants' db_urls stand for
	stored       map[string]string // db_urls that are sealed or references
	dir          string            // of files that references lead to
	provider     *leakyProvider
	world        *gatetest.World
	stripe       leakyStripe
	middleware   bool
	admin        *httptest.Server // the admin listener

	seen sync.Map // tenants whose URI the app received verbatim
}

func newNest(t *testing.T) *nest {
	t.Helper()
	n := &nest{spill: newSpill(), server: pgtest.NewServer(t)}
	raw := "p@/:%#" + n.plant("host database's password")
	n.hostURL = n.server.URL(t)
	pgtest.Exec(t, n.hostURL, "CREATE ROLE canary LOGIN SUPERUSER PASSWORD '"+raw+"'")
	u, err := url.Parse(n.hostURL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("canary", raw)
	n.hostURL = u.String()
	n.masterSecret = base64.StdEncoding.EncodeToString([]byte(n.plant("master secret") + "0123456789"))
	n.add("master secret as it is written", strings.TrimRight(n.masterSecret, "="), false, false)
	n.clientSecret = n.plant("client secret") + "/+ %"
	at := func(tenant string) string { return n.plant("password of tenant " + tenant) }
	n.uris = map[string]string{
		"plain":     "postgresql://u:" + at("plain") + "@db.internal:5432/d",
		"escaped":   "postgresql://u:%40%2F" + at("escaped") + "%25@db.internal/d",
		"unescaped": "postgresql://u:p/" + at("unescaped") + "#a?b@c@db.internal/d",
		"query":     "postgresql://db.internal/d?user=u&password=" + at("query"),
		"control":   "postgresql://u:\x01" + at("control") + "@db.internal/d",
		"unicode":   "postgresql://u:ü" + at("unicode") + "@db.internal/d",
		"words":     "host=db.internal password=" + at("words"),
		"sealed":    "enc:v1:key:" + at("sealed"),
		"reference": "ref:env:" + at("reference"),
		"suspended": "postgresql://u:" + at("suspended") + "@db.internal/d",
		"lapsed":    "postgresql://u:" + at("lapsed") + "@db.internal/d",
		"foreign":   "postgresql://u:" + at("foreign") + "@db.internal/d",
		"left":      "postgresql://u:" + at("left") + "@db.internal/d",
		"opened":    "postgresql://u:" + at("opened") + "@db.internal/d",
		"referred":  "postgresql://u:" + at("referred") + "@db.internal/d",
		"variable":  "postgresql://u:" + at("variable") + "@db.internal/d",
		"moved":     "postgresql://u:" + at("moved") + "@db.internal/d",
		"misplaced": at("misplaced") + " is no URI",
	}
	n.store(t)
	n.seed(t)
	n.startStripe(t)
	return n
}

// store puts some tenants' URIs under a seal, into a file and into a variable: right, and wrong.
func (n *nest) store(t *testing.T) {
	t.Helper()
	keys, err := seal.ParseKeyset(secret.New(n.masterSecret))
	if err != nil {
		t.Fatal(err)
	}
	sealed := func(tenant catalog.TenantID, uri string) string {
		s, err := sealing.Seal(keys, tenant, catalog.NewDBURI(n.input(uri)))
		if err != nil {
			t.Fatal(err)
		}
		return s.Reveal()
	}
	n.dir = t.TempDir()
	for _, id := range []string{"referred", "misplaced"} {
		if err := os.WriteFile(filepath.Join(n.dir, id), []byte(n.input(n.uris[id])), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("CANARY_URL", n.input(n.uris["variable"]))
	n.stored = map[string]string{
		"opened": sealed("opened", n.uris["opened"]), "moved": sealed("opened", n.uris["moved"]), "referred": "ref:file:referred",
		"misplaced": "ref:file:misplaced", "variable": "ref:env:CANARY_URL",
	}
}

func (n *nest) seed(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	host, err := catalog.Open(ctx, n.input(n.hostURL))
	if err != nil {
		t.Fatal(err)
	}
	err = host.InTx(ctx, func(tx *catalog.Tx) error {
		errs := []error{
			tx.GlobalUsers.Insert(ctx, &catalog.GlobalUser{ID: "uid-owner", Email: new("owner@people.test"), OAuthID: new("owner"), IsSysAdmin: new(true), PasswordHash: new(n.plant("password hash"))}),
		}
		for id, uri := range n.uris {
			status := "active"
			if id == "lapsed" {
				status = "canceled"
			}
			uri = cmp.Or(n.stored[id], uri)
			row := &catalog.TenantCatalog{ID: catalog.TenantID(id), Name: &id, DBURL: catalog.NewDBURI(n.input(uri)), IsActive: new(id != "suspended")}
			errs = append(errs, tx.Tenants.Insert(ctx, row))
			row.Name, row.DBURL = new(id+" renamed"), catalog.NewDBURI(uri+" ")
			errs = append(errs, tx.Tenants.Update(ctx, row))
			row.DBURL = catalog.NewDBURI(uri)
			errs = append(errs, tx.Tenants.Update(ctx, row), tx.Subscriptions.Insert(ctx,
				&catalog.Subscription{TenantID: row.ID, Status: &status, PaymentType: new("subscription")}))
			if id != "foreign" {
				errs = append(errs, tx.Memberships.Insert(ctx, &catalog.Membership{UserID: "uid-owner", TenantID: row.ID, Role: new("member"), IsActive: new(id != "left")}))
			}
		}
		return errors.Join(errs...)
	})
	user, getErr := host.GlobalUsers.Get(ctx, "uid-owner")
	if err := errors.Join(err, getErr); err != nil {
		t.Fatal(err)
	}
	n.input(*user.PasswordHash)
	n.tell("error", fmt.Sprintf("%v %+v %#v %s", host, host, host, host))
	if err := host.Close(); err != nil {
		t.Fatal(err)
	}
}

// ServeHTTP is the app: it checks that it was given the URI, and fails in the way that its path names.
func (n *nest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	tenant, uri := r.Header.Get("X-Tenant-Id"), r.Header.Get("X-Tenant-Db-Uri")
	if uri != "" && uri == n.uris[tenant] {
		n.seen.Store(tenant, true)
	}
	if a := r.Header.Get("X-Gate-Assertion"); a != "" {
		n.learn("assertion", a)
	}
	switch r.URL.Path {
	case "/slow/":
		<-r.Context().Done()
	case "/app/panic":
		panic(fmt.Errorf("cannot open %s as %s", uri, n.plantGiven("value of a panic")))
	case "/app/late":
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(uri + n.plantGiven("value of a late panic"))
	case "/app/garble":
		garble(w, uri+" "+n.plantGiven("garbage of an app"))
	default:
		_, _ = io.WriteString(w, "ok")
	}
}

// spans is a collector of spans.
type spans struct{ s *spill }

// ExportSpans implements sdktrace.SpanExporter.
func (e spans) ExportSpans(_ context.Context, list []sdktrace.ReadOnlySpan) error {
	for _, span := range list {
		e.s.tell("span", fmt.Sprintln(span.Name(), span.Attributes(), span.Status(), span.Events(), span.Links(),
			span.SpanContext().TraceState(), span.Parent().TraceState(), span.Resource()))
	}
	return nil
}

// Shutdown implements sdktrace.SpanExporter.
func (e spans) Shutdown(context.Context) error { return nil }

func (n *nest) configure(c *config.Config) {
	c.Admin.PublicURL = gatetest.PublicURL(n.admin.Listener)
	c.SecretKey = secret.New(n.input(n.masterSecret))
	c.HostDatabase.Refs = catalog.Refs{EnvPrefix: "CANARY_", Dir: n.dir}
	decoded, err := base64.StdEncoding.DecodeString(c.SecretKey.Reveal())
	if err != nil {
		panic(err)
	}
	n.input(string(decoded))
	c.Identity.Providers[0].ClientSecret = secret.New(n.clientSecret)
	c.Telemetry.Traces, c.Telemetry.Log.Level = "otlp", "debug"
	c.Tenants.BaseDomain = baseDomain
	n.configureStripe(c)
	c.Limits.BodyBytes = 1 << 10
	c.Upstreams["dead"] = router.UpstreamConfig{URLs: []string{"http://127.0.0.1:1"}}
	c.Routes = []router.RouteConfig{
		{Path: "/public/", Access: "public", Upstream: "app"},
		{Path: "/slow/", Upstream: "app", Timeout: 50 * time.Millisecond},
		{Path: "/dead/", Upstream: "dead"},
		{Path: "/role/", Upstream: "app", MinRole: "admin"},
		{Path: "/tier/", Upstream: "app", MinTier: new(int64(9))},
		{Path: "/feature/", Upstream: "app", Feature: "gold"},
		{Path: "/app/", Upstream: "app"},
	}
}

// visit runs every kind of traffic through one gate and closes it, so that the last span is out.
func (n *nest) visit(t *testing.T, l net.Listener) {
	n.admin = httptest.NewUnstartedServer(nil)
	w, err := gatetest.Start(t.Context(), gatetest.Options{
		HostURL: n.hostURL, App: n, Middleware: n.middleware, Listener: l, Provider: &gatetest.Provider{Provider: n.provider.Provider},
		LogWriter: teller{n.spill, "log"}, SpanExporter: spans{n.spill}, Configure: n.configure,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.world = w
	n.admin.Config.Handler = w.Gate.AdminHandler()
	n.admin.Start()
	defer n.admin.Close()
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	session := n.flows(t)
	n.handoffs(t)
	n.probes(t, session)
	n.tokens(t)
	n.logouts(t)
	n.stripeEvents(t)
	n.administrator(t)
	n.rows(t)
	n.pages(t, session)
	n.outage(t)
	n.reload(t)
	n.pages(t, session)
}

func (n *nest) client(t *testing.T) *http.Client {
	t.Helper()
	c := n.world.Client()
	c.Transport = &tap{s: n.spill, provider: n.provider.addr, next: c.Transport}
	c.CheckRedirect = func(req *http.Request, _ []*http.Request) error {
		if req.URL.Host != n.provider.addr && !strings.HasPrefix(req.URL.Path, "/_gate/login") {
			return http.ErrUseLastResponse
		}
		return nil
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// begin goes through the provider's page and returns where that sends the browser back to.
func (n *nest) begin(t *testing.T, c *http.Client, subject string) string {
	t.Helper()
	res, err := c.Do(request(t, http.MethodGet, n.world.URL+"/_gate/login?return_to="+url.QueryEscape("/app/?token="+n.plantOwn("token in return_to"))))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	page := res.Request.URL
	res, err = c.PostForm(page.String(), url.Values{"id": {page.Query().Get("id")}, "subject": {subject}})
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	back := res.Header.Get("Location")
	if !strings.HasPrefix(back, n.world.URL+"/_gate/callback/dev?") {
		t.Fatalf("the provider led to %s with %s", back, res.Status)
	}
	return back
}

// flows ends sign-ins in every way and returns the token of the one that succeeded.
func (n *nest) flows(t *testing.T) string {
	t.Helper()
	c := n.client(t)
	finish := func(what, subject string, want int, change func(string) string) {
		t.Helper()
		back := n.begin(t, c, subject)
		code := regexp.MustCompile(`code=([^&]+)`).FindStringSubmatch(back)[1]
		n.learnOwn("code", code)
		if change != nil {
			back = change(back)
		}
		if a := do(t, c, request(t, http.MethodGet, back)); a.status != want {
			t.Errorf("%s: %d, want %d", what, a.status, want)
		}
	}
	for mode, want := range map[string]int{"refuse": 503, "break": 503, "garble": 503} {
		n.provider.set(mode)
		finish("token endpoint: "+mode, "owner", want, nil)
	}
	n.provider.set("")
	finish("a person without a row", "unknown", 403, nil)
	finish("state twice", "owner", 400, func(s string) string { return s + "&" + s[strings.Index(s, "state="):] })
	finish("code changed", "owner", 400, func(s string) string { return strings.Replace(s, "code=", "code="+n.plantOwn("forged code"), 1) })
	finish("state changed", "owner", 400, func(s string) string { return strings.Replace(s, "state=", "state="+n.plantOwn("forged state"), 1) })
	finish("an error with a story", "owner", 503, func(s string) string {
		return strings.Replace(s, "code=", "error=server_error&error_description="+n.plantOwn("error_description")+"&x=", 1)
	})
	finish("an error of nobody's", "owner", 400, func(s string) string { return strings.Replace(s, "code=", "error="+n.plantOwn("error")+"&x=", 1) })
	finish("another's iss", "owner", 400, func(s string) string { return s + "&iss=https://" + n.plantOwn("iss") })
	var up func()
	finish("provider down", "owner", 503, func(s string) string { up = n.provider.down(t); return s })
	up()
	finish("success", "owner", 302, nil)
	u, err := url.Parse(n.world.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, cookie := range c.Jar.Cookies(u) {
		if cookie.Name == sessionName {
			return cookie.Value
		}
	}
	t.Fatal("no session came of the sign-in")
	return ""
}

// SHOW-8, LEAK-1, LEAK-2, LEAK-3: a secret in every input, traffic of every kind, and nothing told but to whom it is
// for.
func TestCanarySecretsAreToldToNobody(t *testing.T) {
	n := newNest(t)
	before := log.Writer()
	log.SetOutput(teller{n.spill, "standard log"})
	defer log.SetOutput(before)
	listeners := make([]net.Listener, 2)
	urls := make([]string, 2)
	for i := range listeners {
		var err error
		if listeners[i], err = gatetest.NewListener(); err != nil {
			t.Fatal(err)
		}
		urls[i] = gatetest.PublicURL(listeners[i])
	}
	n.provider = startLeakyProvider(t, n.spill, n.clientSecret, urls...)
	for i, l := range listeners {
		n.middleware = i == 1
		n.visit(t, l)
	}
	n.databases(t)
	n.openings(t)
	n.files(t)
	n.sealing(t)
	n.rows(t)
	for _, leak := range n.leaks() {
		t.Error(leak)
	}
	n.complete(t)
}

// complete makes sure that the test could have failed: every canary was in an input, every collector collected.
func (n *nest) complete(t *testing.T) {
	t.Helper()
	for _, c := range n.canaries {
		if !c.given {
			t.Errorf("the %s was in no input", c.name)
		}
	}
	for _, id := range []string{"plain", "escaped", "unescaped", "query", "opened", "referred", "variable"} {
		if _, ok := n.seen.Load(id); !ok {
			t.Errorf("the app never received the URI of tenant %s", id)
		}
	}
	for where, wants := range map[string][]string{
		"log": {
			`"msg":"request"`, `"msg":"request denied"`, `"msg":"panic while serving a request"`, `"code":"host_database_unavailable"`,
			`"path":"/t/plain/app/x"`, `"level":"WARN"`, "stripe event refused", "stripe event failed and is recorded",
		},
		"span": {"decide", "load", "upstream", "request"}, "/metrics": {"tenantgate_requests_total{"}, "/readyz": {"ready"},
		"answer": {"<html", `"code":"tenant_misconfigured"`, "workspace"}, ownLink: {"/_gate/login"}, "explain": {`"steps"`},
		"error": {"reload: provider"}, "configuration": {"client_secret: "}, "row": {"tenant.created", "tenant.updated", "sys_sessions", "sys_api_tokens"}, "admin page": {"readiness", "unauthenticated"},
	} {
		for _, want := range wants {
			if !strings.Contains(n.text(where), want) {
				t.Errorf("nothing was collected of %s with %q in it", where, want)
			}
		}
	}
}

// A canary that gets out is found in each form.
func TestCanaryIsFoundInEveryForm(t *testing.T) {
	for name, form := range map[string]func(string) string{
		"plain": func(s string) string { return "x" + s + "x" }, "first half": func(s string) string { return s[:len(s)/2] },
		"second half": func(s string) string { return s[len(s)/2:] }, "small": strings.ToLower, "hex": func(s string) string { return hex.EncodeToString([]byte(s)) },
		"base64": func(s string) string { return base64.StdEncoding.EncodeToString([]byte("user:" + s)) },
		"shift":  func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte("u:" + s)) },
		"even":   func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
	} {
		s := newSpill()
		c := s.plant(name)
		s.tell("log", "nothing")
		if leaks := s.leaks(); len(leaks) != 0 {
			t.Errorf("%s: found in nothing: %v", name, leaks)
		}
		s.tell("log", form(c))
		if len(s.leaks()) != 1 {
			t.Errorf("%s: not found in %q", name, form(c))
		}
	}
}

// databases opens host databases by URLs with faults beside their passwords (pgx repeats a URL that it cannot read).
func (n *nest) databases(t *testing.T) {
	t.Helper()
	server := strings.SplitAfter(n.hostURL, "@")[1]
	for _, form := range []string{
		"postgresql://u:%s@127.0.0.1:1/d", "postgresql://u:%s%%zz@h/d", "postgresql://u:%s@h:port/d", "postgresql://u:%s@h/d?sslmode=maybe",
		"postgresql://u:%s@h/d?sslrootcert=/nothing&sslmode=verify-full", "postgresql://u:\x00%s@h/d", "postgresql://u:a b%s@[::1/d", "postgresql:%s",
		"mysql://u:%s@h/d", "%s", "postgresql://postgres:%s@" + server, "postgresql://127.0.0.1:1/d?password=%s", "postgresql://u:p/%s#x@127.0.0.1:1/d",
		"postgresql://u:%s@127.0.0.1:1,127.0.0.1:2/d?connect_timeout=x", "postgresql://u:%s@127.0.0.1:1/d?pool_max_conns=x", "sqlite://%s/x", "postgresql://u:%s@h/d\n",
		"postgresql://u@127.0.0.1:1/d?sslpassword=%s&options=-c%%20x=%[1]s",
	} {
		dsn := n.input(fmt.Sprintf(form, n.plant("password in "+form)))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := catalog.Open(ctx, dsn)
		cancel()
		n.fails(t, "catalog.Open "+form, err)
		n.tell("error", fmt.Sprintf("%v %+v %#v %q", catalog.NewDBURI(dsn), catalog.Config{URL: catalog.NewDBURI(dsn)}, catalog.NewDBURI(dsn), catalog.NewDBURI(dsn)))
	}
	env := map[string]string{"DB_PASS": n.input(n.plant("DB_PASS")), "DB_HOST": "a b%", "DB_PORT": "x", "DB_TYPE": "ORACLE"}
	_, err := catalog.URLFromEnv(func(name string) string { return env[name] })
	n.fails(t, "URLFromEnv", err)
}

// openings opens gates whose configuration is wrong beside its secrets.
func (n *nest) openings(t *testing.T) {
	t.Helper()
	for name, change := range map[string]func(*config.Config){
		"secret_key": func(c *config.Config) { c.SecretKey = secret.New(n.input(n.plant("no base64") + "?")) },
		"issuer": func(c *config.Config) {
			c.Identity.Providers[0].Issuer = "ftp://u:" + n.input(n.plant("issuer's password")) + "@x"
		},
		"url": func(c *config.Config) {
			c.HostDatabase.URL = catalog.NewDBURI("postgresql://u:" + n.input(n.plant("refused password")) + "@127.0.0.1:1/d")
		},
		"public_url": func(c *config.Config) { c.PublicURL = "https://u:" + n.input(n.plant("public_url's password")) + "@x" },
		"ca_file": func(c *config.Config) {
			c.Identity.Providers[0].ClientSecret = secret.New(n.input(n.plant("secret beside ca_file")))
			c.Identity.Providers[0].CAFile = "/nothing"
		},
	} {
		c := *n.world.Config
		c.Identity.Providers = slices.Clone(c.Identity.Providers)
		change(&c)
		g, err := tenantgate.OpenWith(t.Context(), &c, tenantgate.Options{LogWriter: teller{n.spill, "log"}})
		if g != nil { // it waits for a host database that does not answer
			rec := httptest.NewRecorder()
			g.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, n.world.URL+"/x", http.NoBody))
			err = errors.Join(err, fmt.Errorf("%d %s", rec.Code, rec.Body.String()), g.Close())
		}
		n.fails(t, "open: "+name, err)
		n.tell("error", fmt.Sprintf("%v %+v %#v", c.SecretKey, c.HostDatabase, c.Identity.Providers[0].ClientSecret))
	}
}

// files loads configurations with faults next to secrets, and prints one without.
func (n *nest) files(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	load := func(text string, env ...string) (*config.Config, error) {
		if err := os.WriteFile(path, []byte(n.input(text)), 0o600); err != nil {
			t.Fatal(err)
		}
		return config.Load(t.Context(), config.LoadOptions{Path: path, Environ: append(env, n.input("SPARE="+n.plant("variable")))})
	}
	good := "public_url: http://localhost:8080\nsecret_key: " + n.masterSecret + "\nhost_database: {url: \"postgresql://u:" + n.plant("password in a file") +
		"@h/d\"}\nidentity: {providers: [{name: dev, issuer: \"http://localhost:1\", client_id: x, client_secret: " + n.plant("client secret in a file") + "}]}\n"
	cfg, err := load(good)
	if err != nil {
		t.Fatal(err)
	}
	n.tell("configuration", string(cfg.YAML())+fmt.Sprintf("%v\n%+v\n%#v", cfg, *cfg, *cfg))
	asJSON, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.tell("configuration", string(asJSON))
	for _, fault := range []string{
		"secret_key: [%s]\n", "secret_key: {a: %s}\n", "secret_key: \"%s\n", "secret_key: %s!\n", "secret_kee: %s\n", "secret_key: |\n  %s\n \tx: [\n",
		"host_database: {url: \"oracle://u:%s@h/d\"}\n", "host_database: {url: \"postgresql://u:%s%%zz@h/d\"}\n", "host_database: {urll: \"postgresql://u:%s@h/d\"}\n",
		"host_database: {url: \"postgresql://u:%s@a,b/d\"}\n", "identity: {providers: [{client_secret: %s, client_secret_file: x}]}\n",
		"identity: {providers: [{client_secret: {file: %s}}]}\n", "identity: {providers: {client_secret: %s}}\n", "identity: {providers: [client_secret: %s, x\n",
		"client_secret: %s\n", "forward_auth: {secret: %s, listen: \":1\"}\n", "admin: {public_url: \"http://u:%s@x\"}\n", "secret_key: &a %s\npublic_url: *b\n",
		"upstreams: {app: {urls: [\"http://u:%s@127.0.0.1:1\"]}}\n", "secret_key: !!binary %s\n", "secret_key: %s\nsecret_key: %[1]s\n", "billing: {stripe: {webhook_secret: %s}}\n",
	} {
		_, err := load(fmt.Sprintf(fault, n.plant("secret in "+fault)))
		n.fails(t, "load "+fault, err)
	}
	for _, variable := range []string{"TENANTGATE_SECRET_KEY=%s", "TENANTGATE_SECRET=%s", "TENANTGATE_HOST_DATABASE_URL=postgresql://u:%s@h:x/d", "DB_PASS=%s", "TENANTGATE_IDENTITY_PROVIDERS_7_CLIENT_SECRET=%s"} {
		_, err := load("listen: [\n"+strings.Repeat("#", 3), n.input(fmt.Sprintf(variable, n.plant("variable "+variable))))
		n.fails(t, "load "+variable, err)
		_, err = load("telemetry: {traces: never}\n", n.input(fmt.Sprintf(variable, n.plant("variable "+variable))))
		n.fails(t, "load "+variable, err)
	}
}

// sealing seals everything, and everything anew: what that tells is in the audit, and in the failures.
func (n *nest) sealing(t *testing.T) {
	t.Helper()
	host, err := catalog.Open(t.Context(), n.hostURL)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.ParseKeyset(secret.New(seal.GenerateSecret().Reveal() + "\n" + n.masterSecret))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := sealing.Encrypt(t.Context(), host, keys, "", nil)
	if err != nil || sealed.Sealed < 5 {
		t.Errorf("%+v, %v", sealed, err)
	}
	done, failures, err := sealing.Rotate(t.Context(), host, keys, append(auth.SealedColumns(), sealing.TenantURLs()), nil)
	if err != nil || failures.Count == 0 {
		t.Errorf("%+v, %v", done, err)
	}
	n.tell("error", fmt.Sprintf("%+v %+v %+v %v", sealed, done, failures, keys))
	if err := host.Close(); err != nil {
		t.Error(err)
	}
}

// rows looks at everything that the host database keeps, but for the URIs and the password hash that it was given.
func (n *nest) rows(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, n.hostURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	found, err := conn.Query(ctx, "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables WHERE table_schema IN ('public', 'tenantgate')")
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		var text *string
		if err := conn.QueryRow(ctx, "SELECT string_agg((to_jsonb(t) - 'db_url' - 'password_hash')::text, E'\\n') FROM "+table+" t").Scan(&text); err != nil {
			t.Fatal(err)
		}
		if text != nil {
			n.tell("row", table+": "+*text)
		}
	}
}
