package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/router"
)

// byHand is a valid Config that no file made.
func byHand() Config {
	return Config{
		PublicURL: "https://app.example.com", SecretKey: secret.New(masterSecret),
		Upstreams: map[string]router.UpstreamConfig{"app": {URLs: []string{"http://127.0.0.1:3000"}}},
		Routes:    []router.RouteConfig{{Path: "/", Upstream: "app"}},
	}
}

func TestConfigFilledByHandIsJudgedLikeAFile(t *testing.T) {
	cfg := byHand()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	cfg.Subscription.GracePeriod = new(-time.Hour)
	cfg.Cache.Entries = -1
	cfg.Routes[0].MinTier = new(int64(-2))
	cfg.Audit.Mode = "sometimes"
	cfg.Forward.Headers = map[string]string{"nonsense": "X-A"}
	want := []string{
		"cache.entries: must not be negative", "routes[0].min_tier: must not be negative", "subscription.grace_period: must not be negative",
		"audit.mode: must be required or best_effort", "forward.headers.nonsense: unknown key; known here: assertion, ",
	}
	got := lines(t, cfg.Validate())
	for _, w := range want {
		if !slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, w) }) {
			t.Errorf("%q is not among\n%s", w, strings.Join(got, "\n"))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d faults, want %d", len(got), len(want))
	}
}

func TestUpstreamsFilesAreForHTTPSAndInPairs(t *testing.T) {
	cfg := byHand()
	cfg.Upstreams["app"] = router.UpstreamConfig{URLs: []string{"unix:/x"}, CAFile: "a", CertFile: "b", Host: "upstream"}
	want := []string{
		"upstreams.app.key_file: missing", "upstreams.app.ca_file: is for https://", "upstreams.app.cert_file: is for https://",
		"upstreams.app.host: a unix socket has no host",
	}
	if got := lines(t, cfg.Validate()); !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("got %q", got)
	}
	cfg.Upstreams["app"] = router.UpstreamConfig{URLs: []string{"https://app.example"}, CAFile: "a", CertFile: "b", KeyFile: "c", Host: "upstream"}
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidateAndDefaultsLeaveWhatTheyAreGiven(t *testing.T) {
	cfg := byHand()
	cfg.Identity.Providers = []auth.Provider{{Name: "a", Issuer: "https://a.example", ClientID: "i", ClientSecret: secret.New("s")}}
	copied := cfg
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	cfg.Defaults()
	if copied.Identity.Providers[0].Scopes != nil || copied.Routes[0].Access != "" || copied.Upstreams["app"].Timeout != 0 {
		t.Errorf("what is shared was written to: %+v", copied)
	}
	again := cfg
	again.Defaults()
	if !reflect.DeepEqual(cfg, again) {
		t.Error("defaults of defaults differ")
	}
}

// Contract: a feature that is not there yet is refused, never ignored; its default written out is fine.
func TestWhatIsNotThereYetIsRefusedInTheseWords(t *testing.T) {
	for key, text := range map[string]string{
		"forward_auth.listen":      "forward_auth: {listen: \":9000\"}",
		"forward_auth.secret":      "forward_auth: {secret: abcdef}",
		"forward_auth.secret_file": "forward_auth: {secret_file: /s}",
		"ext_authz.listen":         "ext_authz: {listen: \":9001\"}",
	} {
		_, err := load(t, at(text))
		if got := lines(t, err); len(got) != 1 || !strings.HasPrefix(got[0], "config.yaml:5:") || !strings.HasSuffix(got[0], " "+key+": not supported yet") {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestWhereTenantsDatabasesAreMade(t *testing.T) {
	const canary = "C4naryPass"
	for text, want := range map[string]string{
		"{admin_url: \"postgresql://admin:" + canary + "@db:5432/postgres\"}":                                    "",
		"{admin_url: \"postgresql+psycopg://admin:" + canary + "@db/postgres?sslmode=require\"}":                 "",
		"{engine: sqlite, admin_url: \"sqlite:/var/lib/tenants\", migrations_dir: /etc/migrations, seal: false}": "",
		"{migrations_dir: /etc/migrations}":                                                                      "",
		"{admin_url: \"sqlite:/var/lib/tenants\"}":                                                               "provisioning.engine: is postgresql, and admin_url is for sqlite",
		"{engine: sqlite, admin_url: \"postgresql://admin@db/postgres\"}":                                        "provisioning.engine: is sqlite, and admin_url is for postgresql",
		"{engine: mysql}": "provisioning.engine: must be postgresql or sqlite",
		"{admin_url: \"mysql://admin:" + canary + "@db/x\"}":               "provisioning.admin_url: write postgresql://",
		"{admin_url: \"postgresql:admin:" + canary + "\"}":                 "provisioning.admin_url: after postgresql:",
		"{admin_url: \"postgresql://a:" + canary + "@one,two/x\"}":         "provisioning.admin_url: names several hosts",
		"{admin_url: \"postgresql://a:" + canary + "@db/x?sslmode=some\"}": "provisioning.admin_url: not understood",
		"{engine: sqlite, admin_url: \"sqlite::memory:\"}":                 "provisioning.admin_url: sqlite: write sqlite:PATH",
		"{engine: sqlite, admin_url: \"sqlite:/a b\"}":                     "provisioning.admin_url: sqlite: the directory's path",
	} {
		_, err := load(t, minimal+"provisioning: "+text+"\n")
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if got := lines(t, err); len(got) != 1 || !strings.Contains(got[0], want) || strings.Contains(got[0], canary) {
			t.Errorf("%s: %v", text, got)
		}
	}
	cfg, err := load(t, minimal+"provisioning: {admin_url: \"postgresql://admin:"+canary+"@db/x\"}\n")
	if err != nil || strings.Contains(string(cfg.YAML()), canary) || !slices.ContainsFunc(cfg.Secrets(), func(s secret.Text) bool { return s.Reveal() == canary }) {
		t.Errorf("the administrator's password: %v", err)
	}
}

func TestReferencesAreBounded(t *testing.T) {
	with := func(refs string) (*Config, error) {
		return load(t, strings.Replace(minimal, "url: sqlite:host.db", "url: sqlite:host.db\n  refs: "+refs, 1))
	}
	cfg, err := with("{env_prefix: TENANT_, dir: /d}")
	if err != nil || cfg.HostDatabase.Refs.EnvPrefix != "TENANT_" || cfg.HostDatabase.Refs.Dir != "/d" {
		t.Errorf("refs: %v", err)
	}
	for refs, want := range map[string]string{
		"{env_prefix: TENANTGATE_}":  "names tenantgate's own variables",
		"{env_prefix: tenantgate_x}": "names tenantgate's own variables",
		"{env_prefix: \"A=\"}":       "must be the beginning of a variable's name",
		"{env_prefix: \"A\\nB\"}":    "must be the beginning of a variable's name",
		"{dir: \"/a\\n/b\"}":         "must be one line of text",
	} {
		_, err := with(refs)
		if got := lines(t, err); len(got) != 1 || !strings.HasPrefix(got[0], "config.yaml:") || !strings.Contains(got[0], want) {
			t.Errorf("%s: %v", refs, got)
		}
	}
}

func TestServeDemandsAnAppAndRoutes(t *testing.T) {
	_, err := Load(t.Context(), LoadOptions{Path: "c", Serve: true, Environ: []string{}, ReadFile: files{"c": minimal, "/run/key": masterSecret}.read})
	got := lines(t, err)
	if len(got) != 2 || !strings.HasPrefix(got[0], "c:1:1: upstreams: missing") || !strings.HasPrefix(got[1], "c:1:1: routes: missing") {
		t.Errorf("got %v", got)
	}
	if _, err := load(t, minimal+"routes: [{path: /}]\n"); err != nil {
		t.Errorf("middleware needs no upstream: %v", err)
	}
}

func TestHostDatabaseURLs(t *testing.T) {
	tests := []struct{ url, want string }{
		{"postgresql://u:p@h:5432/d", ""},
		{"postgres://h/d", ""},
		{"postgresql+psycopg2://u:p@h/d", ""},
		{"postgresql:///d?host=/run/pg", ""},
		{"sqlite:x.db", ""},
		{"sqlite:///x.db", ""},
		{"sqlite:////abs/x.db", ""},
		{"postgresql://u:p%2Fq%25@[::1]/d?sslmode=require", ""},
		{"postgresql://a,b/d?target_session_attrs=read-write", ""},
		{"postgresql://a:1,b:2/d?target_session_attrs=primary", ""},
		{"postgresql://a,b/d", "names several hosts"},
		{"postgresql://a:1,b:2/d?target_session_attrs=any", "names several hosts"},
		{"postgresql://a,b/d?target_session_attrs=prefer-standby", "names several hosts"},
		{"postgresql:///d?host=a,b", "names several hosts"},
		{"postgresql://a/d?hostaddr=10.0.0.1,10.0.0.2", "names several hosts"},
		{"postgresql://a/d?target_session_attrs=standby", "asks for a standby"},
		{"postgresql:h/d", "after postgresql: comes //"},
		{"postgresql://u:a/b@h/d", "must be written %2F"},
		{"postgresql://u:%zz@h/d", "write %25"},
		{"postgresql://h/d?%zz", "the parameters after ?"},
		{"postgresql://u:p@h:port/d", "not understood"},
		{"postgresql://u:p q@h/d", "not understood"},
		{"postgresql://h/d?sslmode=bogus", "not understood"},
		{"postgresql://h/d?default_query_exec_mode=simple_protocol", "simple_protocol is refused"},
		{"mysql://h/d", "must begin with postgresql://"},
		{"h/d", "must begin with"},
		{"sqlite:", "sqlite needs a file"},
		{"sqlite://host/x", "sqlite has no host"},
		{"sqlite::memory:", "a database in memory"},
		{"sqlite:x?mode=ro", "sqlite takes no parameters"},
		{"postgresql://h/d\nx", "must be one line"},
	}
	for _, tt := range tests {
		cfg := byHand()
		cfg.HostDatabase.URL = catalog.NewDBURI(tt.url)
		got := lines(t, cfg.Validate())
		if tt.want == "" && got != nil || tt.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], "host_database.url: ") || !strings.Contains(got[0], tt.want)) {
			t.Errorf("%s: %v, want %q", tt.url, got, tt.want)
		}
	}
}

// Contract section 6, Linking: whatever prefixes pass, no two subjects of two providers make one oauth_id, unless the
// operator allowed the empty prefix.
func TestPrefixesThatPassTellProvidersApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := byHand()
		prefixes := rapid.SliceOfN(rapid.StringMatching(`[ab:]{0,3}`), 1, 4).Draw(t, "prefixes")
		for i, p := range prefixes {
			cfg.Identity.Providers = append(cfg.Identity.Providers, auth.Provider{
				Name: fmt.Sprintf("p%d", i), Issuer: fmt.Sprintf("https://p%d.example", i), ClientID: "i", ClientSecret: secret.New("s"), SubjectPrefix: p,
			})
		}
		cfg.Identity.InsecureEmptyPrefix = rapid.Bool().Draw(t, "insecure")
		good, empty := true, 0
		for i, p := range prefixes {
			if p == "" {
				empty++
			}
			for j, q := range prefixes {
				if i != j && strings.HasPrefix(q, p) && (p != "" || q == "" || !cfg.Identity.InsecureEmptyPrefix) {
					good = false
				}
			}
		}
		if err := cfg.Validate(); (err == nil) != good {
			t.Fatalf("prefixes %q, insecure %v: %v", prefixes, cfg.Identity.InsecureEmptyPrefix, err)
		}
	})
}

// What the package that uses the section would refuse at the start, Validate refuses.
func TestAuthRefusesNothingThatPasses(t *testing.T) {
	for name, change := range map[string]func(*auth.Provider){
		"prompt":  func(p *auth.Provider) { p.Prompt = "LOGIN!" },
		"scope":   func(p *auth.Provider) { p.Scopes = []string{"openid", "ü"} },
		"prefix":  func(p *auth.Provider) { p.SubjectPrefix = strings.Repeat("x", 300) },
		"issuer":  func(p *auth.Provider) { p.Issuer = "https://a b" },
		"domain":  func(p *auth.Provider) { p.EmailDomains = []string{"a_b.example"} },
		"secret":  func(p *auth.Provider) { p.ClientSecret = secret.Text{} },
		"no id":   func(p *auth.Provider) { p.ClientID = "" },
		"opaque":  func(p *auth.Provider) { p.Issuer = "https:a.example" },
		"loop":    func(p *auth.Provider) { p.DiscoveryURL = "http://10.0.0.1/x" },
		"no name": func(p *auth.Provider) { p.Name = "" },
	} {
		cfg := byHand()
		p := auth.Provider{Name: "a", Issuer: "https://a.example", ClientID: "i", ClientSecret: secret.New("s")}
		change(&p)
		cfg.Identity.Providers = []auth.Provider{p}
		if cfg.Identity.Validate() == nil {
			t.Errorf("%s: auth accepts it, the test is of no use", name)
		}
		if cfg.Validate() == nil {
			t.Errorf("%s: auth refuses what passes here", name)
		}
	}
	cfg := byHand()
	cfg.Identity.Providers = []auth.Provider{{Name: "a", Issuer: "https://a.example", Bearer: auth.BearerConfig{Audiences: []string{"api"}}}}
	if err := cfg.Validate(); err != nil {
		t.Errorf("a provider of bearer tokens alone needs no client: %v", err)
	}
}

func TestWarnings(t *testing.T) {
	const head = "upstreams: {app: {urls: [\"unix:/x\"]}, idle: {urls: [\"unix:/y\"]}}\n"
	routes := func(s string) string {
		return head + provider + "routes:\n" + s + "  - {path: /~idle/, host: x.example, upstream: idle}\n  - {path: /, upstream: app}\n"
	}
	tests := []struct{ name, text, want string }{
		{"POST without PATCH and DELETE", routes("  - {path: /a/, methods: [POST], upstream: app}\n"), "config.yaml:8:26: routes[0].methods: names POST or PUT without PATCH and DELETE"},
		{"PUT and DELETE without PATCH", routes("  - {path: /a/, methods: [GET, PUT, DELETE], upstream: app}\n"), "config.yaml:8:26: routes[0].methods: names POST or PUT"},
		{"POST with unsafe", routes("  - {path: /a/, methods: [POST, unsafe], upstream: app}\n"), ""},
		{"all of them", routes("  - {path: /a/, methods: [POST, PATCH, DELETE], upstream: app}\n"), ""},
		{"route behind another", routes("  - {path: /a/, upstream: app}\n  - {path: /A/b, methods: [GET], upstream: app}\n"), "config.yaml:9:12: routes[1].path: is never reached; routes[0]"},
		{"route behind one of other methods", routes("  - {path: /a/, methods: [GET], upstream: app}\n  - {path: /a/, upstream: app}\n"), ""},
		{"route behind one for unsafe methods", routes("  - {path: /a, methods: [unsafe], upstream: app}\n  - {path: /a, methods: [POST, PATCH, DELETE], upstream: app}\n"), "routes[1].path: is never reached"},
		{"route behind one of another host", routes("  - {path: /a/, host: h.example, upstream: app}\n  - {path: /a/, upstream: app}\n"), ""},
		{"route with a longer name", routes("  - {path: /a, upstream: app}\n  - {path: /ab, upstream: app}\n"), ""},
		{"route behind a public one", routes("  - {path: /a, access: public, upstream: app}\n  - {path: /a/b, upstream: app}\n"), ""},
		{"trust in everybody", "trusted_proxies: [\"0.0.0.0/0\"]\n" + routes(""), "config.yaml:5:19: trusted_proxies[0]: believes everybody"},
		{"nobody can sign in", strings.Replace(routes(""), provider, "", 1), "config.yaml:1:1: identity.providers: is empty; nobody can sign in"},
		{"upstream that no route uses", strings.Replace(routes(""), "upstream: idle", "upstream: app", 1), "upstreams.idle: no route leads here"},
		{"a key of another form", "billing: {stripe: {api_key: abc}}\n" + routes(""), "config.yaml:5:29: billing.stripe.api_key: begins neither with sk_live_"},
		{"a restricted key", "billing: {stripe: {api_key: rk_live_1}}\n" + routes(""), ""},
		{"no route", strings.SplitN(head, ",", 2)[0] + "}\n" + provider, "config.yaml:1:1: routes: is empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := load(t, at(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, w := range cfg.Warnings() {
				if tt.name == "no route" && strings.HasPrefix(w.Path, "upstreams") {
					continue // unused, of course
				}
				got = append(got, w.String())
			}
			if tt.want == "" && got != nil || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestZeroMeansUnlimitedOnlyWhereItIsSaid(t *testing.T) {
	cfg, err := load(t, at("limits: {header_bytes: 0, body_bytes: 0, read_header_timeout: 0, idle_timeout: 0s}\nsubscription: {grace_period: 0}\ncache: {max_stale: 0}\n"))
	if err != nil {
		t.Fatal(err)
	}
	l := cfg.Limits
	if l.HeaderBytes != -1 || l.BodyBytes != 0 || l.ReadHeaderTimeout >= 0 || l.IdleTimeout >= 0 || *cfg.Subscription.GracePeriod != 0 || *cfg.Cache.MaxStale != 0 {
		t.Errorf("limits %+v, grace %v, max_stale %v", l, *cfg.Subscription.GracePeriod, *cfg.Cache.MaxStale)
	}
	if again, err := load(t, strings.Replace(string(cfg.YAML()), "***", "x", 1)); err != nil || again.Limits != l {
		t.Errorf("what is printed loads as %v, %v", again, err)
	}
}

func TestSectionsThatAdministrationDoesNotNeedMayBeWrong(t *testing.T) {
	opts := func(text string, environ ...string) LoadOptions {
		return LoadOptions{Path: "c", Environ: append([]string{"X=1"}, environ...), ReadFile: files{"c": text}.read}
	}
	text := "public_url: nonsense\nroutes: [{path: x}]\nadmin: {listne: 1}\nhost_database: {url: \"sqlite:x\", max_connections: 3}\nidentity: {providers: [{client_secret: \"${NONE}\"}]}\n"
	db, err := LoadHostDatabase(t.Context(), opts(text))
	if err != nil || db.URL.Reveal() != "sqlite:x" || db.MaxConnections != 3 {
		t.Errorf("%+v, %v", db, err)
	}
	for text, want := range map[string]string{
		"host_databse: {url: \"sqlite:x\"}\n":    "c:1:1: host_databse: unknown key; did you mean host_database?",
		"host_database: {url: \"mysql:x\"}\n":    "c:1:22: host_database.url: must begin with",
		"host_database: {urll: \"sqlite:x\"}\n":  "c:1:17: host_database.urll: unknown key; did you mean url?",
		"host_database: {url_file: /none}\n":     "c:1:27: host_database.url_file: the file cannot be read",
		"public_url: x\n":                        "c:1:1: host_database.url: missing, and the DB_ variables",
		"host_database: {max_connections: lots}": "c:1:34: host_database.max_connections: must be a whole number",
	} {
		environ := "DB_TYPE=SQLITE"
		if strings.HasPrefix(text, "public") {
			environ = "DB_TYPE=POSTGRESQL"
		}
		_, err := LoadHostDatabase(t.Context(), opts(text, environ))
		if got := lines(t, err); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%s: %v", text, got)
		}
	}
	if _, err := LoadHostDatabase(t.Context(), opts("", "DB_TYPE=SQLITE", "TENANTGATE_HOST_DATABSE_URL=sqlite:x")); err == nil {
		t.Error("a misspelt variable leads to another database")
	}
}
