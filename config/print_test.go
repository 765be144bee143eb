package config

import (
	"reflect"
	"strings"
	"testing"
)

// reload loads what YAML printed, with the secrets put back.
func reload(t *testing.T, cfg *Config) *Config {
	t.Helper()
	text := string(cfg.YAML())
	for hidden, shown := range map[string]string{
		`secret_key: "***"`: "secret_key: " + masterSecret, `client_secret: "***"`: "client_secret: s", `url: "postgresql://u:***@`: `url: "postgresql://u:p@`,
		`url: "sqlite:***"`: "url: sqlite:host.db",
	} {
		text = strings.ReplaceAll(text, hidden, shown)
	}
	again, err := Load(t.Context(), LoadOptions{Path: "printed.yaml", Environ: []string{}, ReadFile: files{
		"printed.yaml": text, "/run/secrets/tenantgate": masterSecret + "\n", "/run/key": masterSecret, "/run/secrets/host_database": "postgresql://u:p@db/host\n", "/run/secrets/google": "secret",
	}.read})
	if err != nil {
		t.Fatalf("what is printed does not load: %v\n%s", err, text)
	}
	return again
}

// same compares what is in force, wherever it was written.
func same(t *testing.T, a, b *Config) {
	t.Helper()
	x, y := *a, *b
	x.src, y.src = nil, nil
	if !reflect.DeepEqual(x, y) {
		t.Errorf("differs after printing and loading:\n%+v\n%+v", x, y)
	}
}

func TestWhatIsPrintedLoadsAsTheSame(t *testing.T) {
	shown, _ := example(t)
	same(t, shown, reload(t, shown))
	odd, err := load(t, at(provider+`roles: ["$$${R}", "on", "é\"\\", "#x", "- y", "7", "true"]
subscription: {plan_aliases: {"a: b": "c #d", "${R}": "x$$y"}}
upstreams: {app: {urls: ["unix:/a b"], host: upstream.example}}
routes: [{path: /, upstream: app, min_tier: 0, cors: {origins: ["*"]}}]
forward: {headers: {tenant_id: X-Org}}
`), "R=${r}")
	if err != nil {
		t.Fatal(err)
	}
	if odd.Roles[0] != "$${r}" {
		t.Fatalf("roles = %q", odd.Roles)
	}
	same(t, odd, reload(t, odd))
}

func TestPrintSaysWhereEachValueComesFrom(t *testing.T) {
	cfg, err := load(t, at("cache: {ttl: 90s}\n"), "TENANTGATE_ROLES=a,b")
	if err != nil {
		t.Fatal(err)
	}
	out := string(cfg.YAML())
	for _, want := range []string{
		"\npublic_url: \"https://app.example.com\" # config.yaml:1\n", "\n  ttl: 1m30s # config.yaml:5\n", "\nroles: [a, b] # TENANTGATE_ROLES\n",
		"\n  entries: 100000 # default\n", "\n# secret_key: read from secret_key_file\n", "\n  # No entry is used longer.\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

func TestStarterIsCompleteButForWhatOnlyTheOperatorKnows(t *testing.T) {
	text := string(Starter("/run/key"))
	_, err := load(t, text)
	got := lines(t, err)
	if len(got) != 1 || !strings.Contains(got[0], "identity.providers[0].client_id: missing") {
		t.Fatalf("got %v", got)
	}
	cfg, err := load(t, text, "TENANTGATE_IDENTITY_PROVIDERS_0_CLIENT_ID=i", "TENANTGATE_IDENTITY_PROVIDERS_0_CLIENT_SECRET=s")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range cfg.Warnings() {
		t.Errorf("the starter is doubtful: %s", w)
	}
	if odd := string(Starter("/a b/$x: #")); !strings.Contains(odd, `secret_key_file: "/a b/$$x: #"`) {
		t.Errorf("an odd file name is not quoted:\n%s", odd)
	}
}

// The compact form in which the contract shows the defaults.
func TestFlowStyleDefaultsLoad(t *testing.T) {
	text := strings.Split(minimal, "host_database")[0] + `
listen: ":8080"
trusted_proxies: []
tls: {cert_file: "", key_file: ""}
admin: {listen: "127.0.0.1:9901", public_url: "http://localhost:9901"}
forward_auth: {listen: "", peers: ["127.0.0.1/32", "::1/128"], secret_file: ""}
ext_authz: {listen: ""}
host_database:
  url: "sqlite:x"
  max_connections: 10
  migrate: true
  refs: {env_prefix: "", dir: ""}
identity:
  providers:
    - name: google
      issuer: https://accounts.google.com
      client_id: "i"
      client_secret: "s"
      scopes: [openid, email, profile]
      subject_prefix: ""
      email_domains: []
      trust_email: false
      bearer: {audiences: [], algorithms: [RS256, ES256, EdDSA], leeway: 60s}
  session: {idle_timeout: 1h, absolute_timeout: 24h}
  sign_up: deny
  sign_up_limit: 10
tenants:
  resolve: [host, path, header, claim, session, only]
  base_domain: app.example.com
  path_prefix: /t/
  header: X-Tenant
  claim: tenant
upstreams:
  app: {urls: ["http://127.0.0.1:3000"], timeout: 60s, host: pass}
routes:
  - {path: /healthz, access: public, upstream: app}
  - {path: /, upstream: app}
roles: [member, admin, owner]
subscription: {required: true, grace_period: 72h, grace_from: period_end, exempt_plans: [], plan_aliases: {}, free_plan: free}
forward: {db_uri: header, headers: {}, method_override: strip, authorization: strip, middleware_headers: true,   # strip | pass
          assertion: {enabled: true, audience: app, lifetime: 60s}}
cache: {entries: 100000, ttl: 5m, negative_ttl: 5s, heartbeat: 1s, max_stale: 30s}
billing: {stripe: {webhook_secret_file: "", api_key_file: "", api_url: "", trust_metadata: false}}
provisioning: {engine: postgresql, admin_url_file: "", migrations_dir: "", seal: true}
audit: {mode: required}
limits: {header_bytes: 32KiB, body_bytes: 0, read_header_timeout: 10s, idle_timeout: 120s}
telemetry: {traces: off, metrics: prometheus, log: {level: info, format: json}}
`
	cfg, err := load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	short, err := load(t, minimal[:strings.Index(minimal, "host_d")]+`host_database: {url: "sqlite:x"}
tenants: {base_domain: app.example.com, path_prefix: /t/}
identity: {providers: [{name: google, issuer: "https://accounts.google.com", client_id: i, client_secret: s}]}
upstreams: {app: {urls: ["http://127.0.0.1:3000"]}}
routes: [{path: /healthz, access: public, upstream: app}, {path: /, upstream: app}]
`)
	if err != nil {
		t.Fatal(err)
	}
	same(t, cfg, short)
}
