package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEnvironmentComesBeforeFileBeforeDefault(t *testing.T) {
	cfg, err := load(t, at("cache: {ttl: 1m, negative_ttl: 2s}\n"), "TENANTGATE_CACHE_TTL=90s")
	if err != nil {
		t.Fatal(err)
	}
	if got := []time.Duration{*cfg.Cache.TTL, *cfg.Cache.NegativeTTL, *cfg.Cache.MaxStale}; !slices.Equal(got, []time.Duration{90 * time.Second, 2 * time.Second, 30 * time.Second}) {
		t.Errorf("ttl, negative_ttl, max_stale = %v", got)
	}
}

func TestEveryFormOfVariableSetsItsKey(t *testing.T) {
	text := at(`identity: {providers: [{name: a, issuer: "https://a.example", client_id: i, client_secret: s}]}
upstreams:
  my-app: {urls: ["http://127.0.0.1:1"]}
subscription: {plan_aliases: {Pro Plan: pro}}
routes: [{path: /x/, upstream: my-app}]
`)
	cfg, err := load(t, text,
		"TENANTGATE_LISTEN=:1, unix:/run/s",
		"TENANTGATE_HOST_DATABASE_URL=postgresql://u:$${p}@h/d",
		"TENANTGATE_HOST_DATABASE_MAX_CONNECTIONS=3",
		"TENANTGATE_HOST_DATABASE_MIGRATE=false",
		"TENANTGATE_IDENTITY_PROVIDERS_0_CLIENT_ID=env",
		"TENANTGATE_IDENTITY_PROVIDERS_0_BEARER_AUDIENCES=one,two",
		"TENANTGATE_IDENTITY_PROVIDERS_0_SUBJECT_PREFIX=a:",
		"TENANTGATE_IDENTITY_PROVIDERS_1_NAME=b",
		"TENANTGATE_IDENTITY_PROVIDERS_1_ISSUER=https://b.example",
		"TENANTGATE_IDENTITY_PROVIDERS_1_CLIENT_ID=j",
		"TENANTGATE_IDENTITY_PROVIDERS_1_CLIENT_SECRET=t",
		"TENANTGATE_IDENTITY_PROVIDERS_1_SUBJECT_PREFIX=b:",
		"TENANTGATE_UPSTREAMS_APP_URLS=http://127.0.0.1:2,http://127.0.0.1:3",
		"TENANTGATE_UPSTREAMS_MY_APP_TIMEOUT=5s",
		"TENANTGATE_UPSTREAMS_THE_OTHER_URLS_0=unix:/run/other",
		"TENANTGATE_FORWARD_HEADERS_TENANT_ID=X-Org",
		"TENANTGATE_SUBSCRIPTION_PLAN_ALIASES_PRO_PLAN=max",
		"TENANTGATE_SUBSCRIPTION_PLAN_ALIASES_OLD_PLAN=new",
		"TENANTGATE_SUBSCRIPTION_EXEMPT_PLANS=",
		"TENANTGATE_ROUTES_1_PATH=/",
		"TENANTGATE_ROUTES_1_UPSTREAM=app",
		"TENANTGATE_ROUTES_1_MIN_TIER=2",
		"TENANTGATE_ROUTES_1_CORS_ORIGINS=https://x.example",
		"TENANTGATE_LIMITS_BODY_BYTES=1MiB",
		"TENANTGATE_PORT=tcp://10.0.0.1:8080", "TENANTGATE_PORT_8080_TCP_ADDR=10.0.0.1", "TENANTGATE_SERVICE_HOST=10.0.0.1",
		"TENANTGATE_SERVICE_PORT_HTTP=8080",
	)
	if err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{
		"list":                       slices.Equal(cfg.Listen, []string{":1", "unix:/run/s"}),
		"secret, verbatim":           cfg.HostDatabase.URL.Reveal() == "postgresql://u:$${p}@h/d",
		"number":                     cfg.HostDatabase.MaxConnections == 3,
		"pointer":                    !*cfg.HostDatabase.Migrate,
		"item that the file has":     cfg.Identity.Providers[0].ClientID == "env" && cfg.Identity.Providers[0].Issuer == "https://a.example",
		"list in an item":            slices.Equal(cfg.Identity.Providers[0].Bearer.Audiences, []string{"one", "two"}),
		"item of variables alone":    cfg.Identity.Providers[1].Name == "b" && cfg.Identity.Providers[1].ClientSecret.Reveal() == "t",
		"name of variables alone":    slices.Equal(cfg.Upstreams["app"].URLs, []string{"http://127.0.0.1:2", "http://127.0.0.1:3"}),
		"name that the file has":     cfg.Upstreams["my-app"].Timeout == 5*time.Second && len(cfg.Upstreams["my-app"].URLs) == 1,
		"name with a border in it":   slices.Equal(cfg.Upstreams["the_other"].URLs, []string{"unix:/run/other"}),
		"known key of a map":         cfg.Forward.Headers["tenant_id"] == "X-Org",
		"map key that the file has":  cfg.Subscription.PlanAliases["Pro Plan"] == "max",
		"map key in lower case":      cfg.Subscription.PlanAliases["old_plan"] == "new",
		"empty variable, empty list": cfg.Subscription.ExemptPlans != nil && len(cfg.Subscription.ExemptPlans) == 0,
		"pointer in an item":         *cfg.Routes[1].MinTier == 2,
		"section that was absent":    cfg.Routes[1].CORS.Origins[0] == "https://x.example",
		"size":                       cfg.Limits.BodyBytes == 1<<20,
	} {
		if !ok {
			t.Errorf("%s is not set: %+v", name, cfg)
		}
	}
}

func TestEnvironmentAloneIsEnough(t *testing.T) {
	cfg, err := Load(t.Context(), LoadOptions{ReadFile: files{}.read, Serve: true, Environ: []string{
		"TENANTGATE_PUBLIC_URL=https://app.example.com", "TENANTGATE_SECRET_KEY=" + masterSecret, "DB_TYPE=SQLITE",
		"TENANTGATE_UPSTREAMS_APP_URLS=http://127.0.0.1:3000", "TENANTGATE_ROUTES_0_PATH=/", "TENANTGATE_ROUTES_0_UPSTREAM=app",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.HostDatabase.URL.Reveal() != "sqlite:app_host.db" || cfg.File() != "" {
		t.Errorf("url %q, file %q", cfg.HostDatabase.URL.Reveal(), cfg.File())
	}
}

func TestFaultsOfVariablesNameTheVariable(t *testing.T) {
	tests := []struct{ variable, want string }{
		{"TENANTGATE_LISTN=:1", "TENANTGATE_LISTN: unknown variable; did you mean TENANTGATE_LISTEN?"},
		{"TENANTGATE_IDENTITY_PROVIDERS_7_ISSER=x", "TENANTGATE_IDENTITY_PROVIDERS_7_ISSER: unknown variable; did you mean TENANTGATE_IDENTITY_PROVIDERS_0_ISSUER?"},
		{"TENANTGATE_WHATEVER_THIS_IS=x", "TENANTGATE_WHATEVER_THIS_IS: unknown variable; it stands for no key"},
		{"TENANTGATE_TLS=x", "TENANTGATE_TLS: unknown variable"},
		{"TENANTGATE_ADMIN_SERVICE_HOST=10.0.0.1", "TENANTGATE_ADMIN_SERVICE_HOST: unknown variable, which Kubernetes made"},
		{"TENANTGATE_ADMIN_PORT_9901_TCP_PROTO=tcp", "TENANTGATE_ADMIN_PORT_9901_TCP_PROTO: unknown variable, which Kubernetes made"},
		{"TENANTGATE_CACHE_TTL=soon", "TENANTGATE_CACHE_TTL: cache.ttl: must be a duration"},
		{"TENANTGATE_CACHE_ENTRIES=", "TENANTGATE_CACHE_ENTRIES: cache.entries: must be a whole number"},
		{"TENANTGATE_ROLES=", "TENANTGATE_ROLES: roles: must not be empty; leave it out"},
		{"TENANTGATE_ROLES=a,,b", "TENANTGATE_ROLES: roles: holds an empty item"},
		{"TENANTGATE_ROUTES_3_PATH=/", "TENANTGATE_ROUTES_3_PATH: routes[3].path: item 3 cannot be set: the list has 0"},
		{"TENANTGATE_ROUTES_00_PATH=/", "TENANTGATE_ROUTES_00_PATH: unknown variable"},
		{"TENANTGATE_FORWARD_HEADERS_TENANT=X-A", "TENANTGATE_FORWARD_HEADERS_TENANT: unknown variable"},
		{"TENANTGATE_PUBLIC_URL=http://x.example", "TENANTGATE_PUBLIC_URL: public_url: must begin with https://"},
		{"TENANTGATE_ROUTES_0_UPSTREAM=app", "TENANTGATE_ROUTES_0_UPSTREAM: routes[0].path: missing"},
		{"TENANTGATE_SECRET_KEY=" + masterSecret, "TENANTGATE_SECRET_KEY: secret_key: is set together with secret_key_file; keep one of the two"},
	}
	for _, tt := range tests {
		t.Run(tt.variable, func(t *testing.T) {
			text := minimal
			if strings.Contains(tt.variable, "ROUTES_0_UP") {
				text = at("upstreams: {app: {urls: [\"http://127.0.0.1:1\"]}}\n")
			}
			_, err := load(t, text, tt.variable)
			got := lines(t, err)
			if len(got) != 1 || !strings.HasPrefix(got[0], tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), tt.want)
			}
		})
	}
}

func TestVariableThatFitsTwoNamesIsRefused(t *testing.T) {
	text := at("upstreams: {a-b: {urls: [\"unix:/x\"]}, a_b: {urls: [\"unix:/y\"]}}\n")
	_, err := load(t, text, "TENANTGATE_UPSTREAMS_A_B_TIMEOUT=1s")
	want := "TENANTGATE_UPSTREAMS_A_B_TIMEOUT: may mean upstreams.a-b.timeout or upstreams.a_b.timeout; set it in the file"
	if got := lines(t, err); len(got) != 1 || !strings.HasPrefix(got[0], want) {
		t.Errorf("got %v", got)
	}
}

func TestValuesTakeVariablesOnceAndKeysNever(t *testing.T) {
	if _, err := load(t, at("listen: [\"${HOST}:${N}\"]\n"), "N=7", "HOST=::1]"); err == nil || !strings.Contains(err.Error(), "listen[0]") {
		t.Fatalf("a bad address that variables made is let through: %v", err)
	}
	cfg, err := load(t, at(`cache: {entries: "${N}", ttl: "${T}"}
subscription: {free_plan: "a$b$$c${OUTER}$", plan_aliases: {"${N}": x}}
forward: {middleware_headers: "${B}"}
`), "N=7", "T=2m", "OUTER=<${N}>", "B=false")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Cache.Entries != 7 || *cfg.Cache.TTL != 2*time.Minute || *cfg.Forward.MiddlewareHeaders {
		t.Errorf("numbers, durations and booleans do not take variables: %+v", cfg.Cache)
	}
	if cfg.Subscription.FreePlan != "a$b$c<${N}>$" {
		t.Errorf("free_plan = %q", cfg.Subscription.FreePlan)
	}
	if cfg.Subscription.PlanAliases["${N}"] != "x" {
		t.Errorf("a variable was put into a key: %v", cfg.Subscription.PlanAliases)
	}
}

func TestExpand(t *testing.T) {
	env := environment{"A": "1", "EMPTY": "", "D": "$$${A}"}
	tests := []struct{ in, want string }{
		{"", ""},
		{"x", "x"},
		{"$", "$"},
		{"$$", "$"},
		{"$$$", "$$"},
		{"$A", "$A"},
		{"${A}", "1"},
		{"$${A}", "${A}"},
		{"$$${A}", "$1"},
		{"x${A}y${A}z", "x1y1z"},
		{"${EMPTY}", ""},
		{"${D}", "$$${A}"},
		{"a}b{", "a}b{"},
	}
	for _, tt := range tests {
		if got, _, problem := expand(tt.in, env.lookup); got != tt.want || problem != "" {
			t.Errorf("expand(%q) = %q, %q; want %q", tt.in, got, problem, tt.want)
		}
	}
	for _, in := range []string{"${", "${}", "${A", "${A B}", "${1}", "${NONE}", "${A:-b}", "${${A}}"} {
		if _, _, problem := expand(in, env.lookup); problem == "" {
			t.Errorf("expand(%q) finds nothing wrong", in)
		}
	}
}
