package config

import (
	"strings"
	"testing"
)

// at returns minimal with text after it, so that text begins on line 5.
func at(text string) string { return minimal + text }

const provider = "identity: {providers: [{name: a, issuer: https://a.example, client_id: i, client_secret: s}]}\n"

func TestEachFaultIsOneLineThatSaysWhereAndWhatToDo(t *testing.T) {
	tests := []struct {
		name string
		text string
		want []string // lines, or their beginnings
	}{
		{"unknown key", at("trusted_proxys: []\n"), []string{"config.yaml:5:1: trusted_proxys: unknown key; did you mean trusted_proxies?"}},
		{"unknown key in a section", at("admin:\n  adress: x\n"), []string{"config.yaml:6:3: admin.adress: unknown key; known here: listen, public_url"}},
		{
			"key of another section", at("session: {}\nidle_timeout: 1h\n"),
			[]string{"config.yaml:5:1: session: unknown key; did you mean identity.session?", "config.yaml:6:1: idle_timeout: unknown key; did you mean identity.session.idle_timeout?"},
		},
		{
			"unknown key in a list of sections", at("routes:\n  - path: /\n    pathh: /\n"),
			[]string{"config.yaml:7:5: routes[0].pathh: unknown key; did you mean path?"},
		},
		{"unknown key of a map", at("forward: {headers: {tenantid: X-A}}\n"), []string{"config.yaml:5:21: forward.headers.tenantid: unknown key; did you mean tenant_id?"}},
		{"duplicate key", at("listen: :1\nroles: [a]\nlisten: :2\n"), []string{"config.yaml:7:1: listen: stands here a second time; the first is at line 5"}},
		{"duplicate key in flow", at("admin: {listen: \":1\", listen: \":2\"}\n"), []string{"config.yaml:5:23: admin.listen: stands here a second time"}},
		{"text for a number", at("host_databases: 1\ncache:\n  entries: many\n"), []string{"config.yaml:5:1: host_databases: unknown key", "config.yaml:7:12: cache.entries: must be a whole number"}},
		{"number in quotes", at("cache: {entries: \"5\"}\n"), []string{"config.yaml:5:18: cache.entries: must be a whole number, not text; take the quotes off"}},
		{"float for a number", at("cache: {entries: 1.5}\n"), []string{"config.yaml:5:18: cache.entries: must be a whole number"}},
		{"negative number", at("cache: {entries: -5}\n"), []string{"config.yaml:5:18: cache.entries: must not be negative"}},
		{"word for a boolean", at("subscription: {required: yes}\n"), []string{"config.yaml:5:26: subscription.required: must be true or false"}},
		{"boolean for text", at("subscription: {free_plan: true}\n"), []string{"config.yaml:5:27: subscription.free_plan: must be text; put the word in quotes"}},
		{"value for a list", at("roles: member\n"), []string{"config.yaml:5:8: roles: must be a list, such as [a, b], and is a single value"}},
		{"list for a value", at("subscription: {free_plan: [a]}\n"), []string{"config.yaml:5:27: subscription.free_plan: must be text, and is a list"}},
		{"value for a section", at("cache: big\n"), []string{"config.yaml:5:8: cache: must be a section of keys, and is a single value"}},
		{"mapping for a list", at("routes: {path: /}\n"), []string{"config.yaml:5:9: routes: must be a list, and is a mapping"}},
		{"list for sections by name", at("upstreams: [a]\n"), []string{"config.yaml:5:12: upstreams: must be sections by name, and is a list"}},
		{"mapping in a list of text", at("roles: [{a: b}]\n"), []string{"config.yaml:5:9: roles[0]: must be text, and is a mapping"}},
		{"no value", at("routes:\n  - path: /\n    min_role:\n"), []string{"config.yaml:7:5: routes[0].min_role: has no value; write one, or leave the key out"}},
		{"empty value that reads like none", at("routes: [{path: /, min_role: \"\"}]\n"), []string{"config.yaml:5:30: routes[0].min_role: must not be empty; leave it out for any member"}},
		{"empty list that reads like none", at("tenants: {resolve: []}\n"), []string{"config.yaml:5:20: tenants.resolve: must not be empty; leave it out for all six, or write [only]"}},
		{"zero that would mean the default", at("identity: {session: {idle_timeout: 0s}}\n"), []string{"config.yaml:5:36: identity.session.idle_timeout: must be more than 0"}},
		{"duration without unit", at("cache: {ttl: 60}\n"), []string{"config.yaml:5:14: cache.ttl: needs a unit: s, m, h or d"}},
		{"negative duration", at("subscription:\n  grace_period: -1h\n"), []string{"config.yaml:6:17: subscription.grace_period: must not be negative"}},
		{"size with another unit", at("limits: {body_bytes: 1MB}\n"), []string{"config.yaml:5:22: limits.body_bytes: must be a size: a whole number with B, KiB, MiB or GiB"}},
		{"word that is not one of the choices", at("telemetry:\n  log: {level: warning}\n"), []string{"config.yaml:6:16: telemetry.log.level: must be debug, info, warn or error; did you mean warn?"}},
		{"item that is not one of the choices", at("tenants: {resolve: [host, subdomain]}\n"), []string{"config.yaml:5:27: tenants.resolve[1]: must be host, path, header, claim, session or only"}},
		{"item twice", at("roles: [a, b, a]\n"), []string{"config.yaml:5:15: roles[2]: stands here a second time; it is item 0 already"}},
		{"empty item", at("roles: [a, \"\"]\n"), []string{"config.yaml:5:12: roles[1]: must not be empty"}},
		{"variable that is not set", at("admin: {listen: \"${ADMIN}\"}\n"), []string{"config.yaml:5:17: admin.listen: the environment variable ADMIN is not set; set it, or write $$ for a plain $"}},
		{"variable with a default", at("admin: {listen: \"${ADMIN:-x}\"}\n"), []string{"config.yaml:5:17: admin.listen: ${NAME} takes the name"}},
		{"broken YAML", at("roles: [a, b\n"), []string{"config.yaml:5:8: not valid YAML"}},
		{"tab", at("cache:\n\tttl: 1m\n"), []string{"config.yaml:6:1: not valid YAML"}},
		{"text alone", "hello\n", []string{"config.yaml:1:1: must be a section of keys, and is a single value"}},
		{"two documents", at("---\nroles: [a]\n"), []string{"config.yaml:6:1: holds a second YAML document"}},
		{"tag", at("roles: [!!binary aGk=]\n"), []string{"config.yaml:5:9: roles[0]: YAML tags mean nothing here"}},
		{"not UTF-8", "listen: \"\xff\"\n", []string{"config.yaml:1:1: is not UTF-8 text"}},
		{"alias without anchor", at("roles: *x\n"), []string{"config.yaml:5:8: roles: no anchor of this name"}},
		{"alias in itself", at("roles: &x [*x]\n"), []string{"config.yaml:5:12: roles[0]: the alias stands inside its own anchor"}},
		{"merge of a value", at("cache: {<<: 1}\n"), []string{"config.yaml:5:13: cache: << takes a mapping"}},
		{"key that is no text", at("cache: {[a]: 1}\n"), []string{"config.yaml:5"}},
		{"positions after wide characters", at("roles: [\"é\", \"é\"]\n"), []string{"config.yaml:5:14: roles[1]: stands here a second time"}},
		{"positions after a literal block", at("roles:\n  - |\n    a\n    b\n  - x\n  - x\n"), []string{"config.yaml:6:5: roles[0]: must be plain text", "config.yaml:10:5: roles[2]: stands here a second time"}},
		{"several faults in the order of the file", "b: 1\npublic_url: x\na: 1\n", []string{
			"config.yaml:1:1: b: unknown key; config.example.yaml shows all", "config.yaml:1:1: host_database.url: missing, and the DB_ variables do not say it",
			"config.yaml:1:1: secret_key_file: missing; name a file",
			"config.yaml:2:13: public_url: must be scheme and host alone", "config.yaml:3:1: a: unknown key",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.text)
			got := lines(t, err)
			ok := len(got) == len(tt.want)
			for i := range min(len(got), len(tt.want)) {
				ok = ok && strings.HasPrefix(got[i], tt.want[i])
			}
			if !ok {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

func TestEachContradictionIsOneLineThatSaysWhereAndWhatToDo(t *testing.T) {
	up := "upstreams: {app: {urls: [\"http://127.0.0.1:3000\"]}}\n"
	tests := []struct{ name, text, want string }{
		{"public_url without https", "public_url: http://app.example.com\n", ":1:13: public_url: must begin with https://; http is for loopback"},
		{"public_url with a path", "public_url: https://app.example.com/x\n", ":1:13: public_url: must be scheme and host alone"},
		{"public_url with a slash at its end", "public_url: https://app.example.com/\n", ":1:13: public_url: must be scheme and host alone, such as https://app.example.com; take the / off"},
		{"public_url with a user", "public_url: https://u:p@app.example.com\n", ":1:13: public_url: must be scheme and host alone"},
		{"public_url with a query", "public_url: https://app.example.com?x\n", ":1:13: public_url: must be scheme and host alone"},
		{"public_url in capitals", "public_url: https://App.example.com\n", ":1:13: public_url: must be written in lower case"},
		{"public_url with the scheme's port", "public_url: https://app.example.com:443\n", ":1:13: public_url: must leave the scheme's own port out"},
		{"public_url with a second spelling of a name (HOST-2)", "public_url: https://xn--app-.example.com\n", ":1:13: public_url: must be scheme and host alone, such as https://app.example.com; its host is not valid"},
		{"one address twice", at("listen: [\":1\", \":1\"]\n"), ":5:16: listen[1]: stands here a second time"},
		{"address without port", at("listen: localhost\n"), ":5:9: listen[0]: must be host:port, :port or unix:/path"},
		{"port out of range", at("listen: \":70000\"\n"), ":5:9: listen[0]: the port must be a number"},
		{"relative socket", at("listen: unix:x.sock\n"), ":5:9: listen[0]: a unix socket is written unix:/path"},
		{"admin on the public address", at("listen: \"127.0.0.1:9901\"\n"), ":1:1: admin.listen: must not be an address of the public listener"},
		{"admin off", at("admin: {listen: \"\"}\n"), ":5:17: admin.listen: must not be empty; the listener cannot be switched off"},
		{"one URL for both listeners", at("admin: {public_url: \"https://app.example.com\"}\n"), ":5:21: admin.public_url: must differ from public_url"},
		{"proxy that is no CIDR", at("trusted_proxies: [10.0.0.1]\n"), ":5:19: trusted_proxies[0]: must be a CIDR; for one address append /32"},
		{"proxy with bits beyond the mask (FWD-2)", at("trusted_proxies: [10.0.0.1/8]\n"), ":5:19: trusted_proxies[0]: has bits beyond /8"},
		{"certificate without key", at("tls: {cert_file: a}\n"), ":5:6: tls.key_file: missing; cert_file needs its key"},
		{"provider without all it needs", at("identity:\n  providers:\n    - name: a\n      client_id: x\n      client_secret: y\n"), ":7:7: identity.providers[0].issuer: missing"},
		{"provider's name", at(strings.Replace(provider, "name: a", "name: A b", 1)), ":5:31: identity.providers[0].name: must be a-z"},
		{"a publishable key", at("billing: {stripe: {api_key: pk_live_abcdef}}"), ":5:29: billing.stripe.api_key: that is a publishable key (pk_…)"},
		{"a webhook secret as key", at("billing: {stripe: {api_key: whsec_abcdef}}"), ":5:29: billing.stripe.api_key: that is a webhook secret (whsec_…)"},
		{"Stripe in plain text", at("billing: {stripe: {api_url: http://stripe.example}}"), ":5:29: billing.stripe.api_url: must begin with https://; http is for loopback"},
		{"Stripe with a path", at("billing: {stripe: {api_url: https://stripe.example/v1}}"), ":5:29: billing.stripe.api_url: must be https://HOST[:PORT], without a path"},
		{"issuer in plain text", at(strings.Replace(provider, "https://a", "http://a", 1)), ":5:42: identity.providers[0].issuer: must begin with https://; http is for loopback"},
		{"issuer with a query", at(strings.Replace(provider, "a.example", "a.example?x", 1)), ":5:42: identity.providers[0].issuer: must have neither query nor fragment"},
		{"algorithm none (JWT-3)", at(strings.Replace(provider, "}]}", ", bearer: {algorithms: [none]}}]}", 1)), ": identity.providers[0].bearer.algorithms[0]: must be RS256, ES256 or EdDSA"},
		{"algorithm by a shared secret (JWT-3)", at(strings.Replace(provider, "}]}", ", bearer: {algorithms: [HS256]}}]}", 1)), ": identity.providers[0].bearer.algorithms[0]: must be RS256, ES256 or EdDSA; did you mean RS256?"},
		{"leeway that keeps tokens good", at(strings.Replace(provider, "}]}", ", bearer: {leeway: 1d}}]}", 1)), ": identity.providers[0].bearer.leeway: must be at most 10m"},
		{"scopes without openid", at(strings.Replace(provider, "}]}", ", scopes: [email]}]}", 1)), ": identity.providers[0].scopes: must contain openid"},
		{"client_auth", at(strings.Replace(provider, "}]}", ", client_auth: none}]}", 1)), ": identity.providers[0].client_auth: must be basic or post"},
		{"sign-up for anybody", at(strings.Replace(provider, "]}", "], sign_up: create_user}", 1)), ":5:24: identity.providers[0].email_domains: missing; with sign_up anybody"},
		{"email domain with @ (ID-1)", at(strings.Replace(provider, "}]}", ", email_domains: [\"@a.example\"]}]}", 1)), ": identity.providers[0].email_domains[0]: must be a domain without @"},
		{"base_domain with a port", at("tenants: {base_domain: \"app.example.com:8080\"}\n"), ":5:24: tenants.base_domain: must be a host name in lower case without port"},
		{"path_prefix without slashes", at("tenants: {path_prefix: t}\n"), ":5:24: tenants.path_prefix: must begin and end with /"},
		{"path_prefix of ours", at("tenants: {path_prefix: /_GATE/x/}\n"), ":5:24: tenants.path_prefix: must not be /_gate or below it"},
		{"tenant header that is standard", at("tenants: {header: Host}\n"), ":5:19: tenants.header: is a standard, hop-by-hop or proxy header"},
		{"tenant header that is no token", at("tenants: {header: \"X Tenant\"}\n"), ":5:19: tenants.header: must be made of letters, digits and -"},
		{"upstream without address", at("upstreams: {app: {timeout: 1s}}\n"), ":5:18: upstreams.app.urls: missing"},
		{"upstream in plain text to another machine (LEAK-4)", at("upstreams: {app: {urls: [\"http://10.0.0.1:3000\"]}}\n"), ":5:26: upstreams.app.urls[0]: would send the tenant's database URI to another machine in plain text"},
		{"h2c to another machine (LEAK-4)", at("upstreams: {app: {urls: [\"h2c://app:3000\"]}}\n"), ":5:26: upstreams.app.urls[0]: would send the tenant's database URI"},
		{"upstream with a path (PATH-2)", at("upstreams: {app: {urls: [\"http://127.0.0.1/x\"]}}\n"), ":5:26: upstreams.app.urls[0]: must end after the host and port"},
		{"upstream scheme", at("upstreams: {app: {urls: [\"ftp://127.0.0.1\"]}}\n"), ":5:26: upstreams.app.urls[0]: must be http://host:port"},
		{"upstream's name", at("upstreams: {\"a b\": {urls: [\"unix:/x\"]}}\n"), ":5:13: upstreams[\"…\"]: a name is made of letters"},
		{"route to nowhere", at(up + "routes: [{path: /, upstream: ap}]\n"), ":6:30: routes[0].upstream: no upstream has this name; did you mean app?; known are app"},
		{"route without upstream", at(up + "routes: [{path: /}]\n"), ":6:10: routes[0].upstream: missing; known are app"},
		{"route without path", at(up + "routes: [{upstream: app}]\n"), ":6:10: routes[0].path: missing"},
		{"route that is a pattern (SKIP-1)", at(up + "routes: [{path: /api/*, upstream: app}]\n"), ":6:17: routes[0].path: is a prefix, not a pattern"},
		{"route with a query (SKIP-1)", at(up + "routes: [{path: \"/a?b\", upstream: app}]\n"), ":6:17: routes[0].path: must be a path alone"},
		{"route with dot segments (PATH-1)", at(up + "routes: [{path: /a/../b, upstream: app}]\n"), ":6:17: routes[0].path: must be a plain path"},
		{"route in another spelling (PATH-1)", at(up + "routes: [{path: /%61, upstream: app}]\n"), ":6:17: routes[0].path: must be in canonical form"},
		{"route with an encoded slash (PATH-1)", at(up + "routes: [{path: /a%2Fb, upstream: app}]\n"), ":6:17: routes[0].path: must hold neither ;"},
		{"route of ours", at(up + "routes: [{path: /_gate/login, upstream: app}]\n"), ":6:17: routes[0].path: must not be /_gate"},
		{"unknown role", at(up + "routes: [{path: /, min_role: admn, upstream: app}]\n"), ":6:30: routes[0].min_role: is not among roles; did you mean admin?"},
		{"role on a route without tenant (POL-1)", at(up + "routes: [{path: /, access: public, min_role: admin, upstream: app}]\n"), ":6:46: routes[0].min_role: needs access: tenant"},
		{"subscription on a route without tenant (POL-1)", at(up + "routes: [{path: /, access: user, subscription: required, upstream: app}]\n"), ":6:48: routes[0].subscription: needs access: tenant"},
		{"negative tier", at(up + "routes: [{path: /, min_tier: -1, upstream: app}]\n"), ":6:30: routes[0].min_tier: must not be negative"},
		{"method in small letters (METH-1)", at(up + "routes: [{path: /, methods: [post], upstream: app}]\n"), ":6:30: routes[0].methods[0]: must be a method in capitals"},
		{"method that is always refused", at(up + "routes: [{path: /, methods: [TRACE], upstream: app}]\n"), ":6:30: routes[0].methods[0]: is always refused"},
		{"any origin with credentials", at(up + "routes: [{path: /, cors: {origins: [\"*\"], credentials: true}, upstream: app}]\n"), ":6:37: routes[0].cors.origins[0]: any origin together with credentials"},
		{"any origin for unsafe methods (CSRF-1)", at(up + "routes: [{path: /, cross_origin: [\"*\"], upstream: app}]\n"), ":6:35: routes[0].cross_origin[0]: must be an origin"},
		{"origin with a slash", at(up + "routes: [{path: /, cross_origin: [\"https://a.example/\"], upstream: app}]\n"), ":6:35: routes[0].cross_origin[0]: must be an origin as browsers write it"},
		{"free plan that is exempt", at("subscription: {exempt_plans: [free]}\n"), ":5:15: subscription.free_plan: stands in exempt_plans"},
		{"header renamed to a standard one", at("forward: {headers: {user_id: Cookie}}\n"), ":5:30: forward.headers.user_id: is a standard"},
		{"header renamed to a hop-by-hop one (HOP-1)", at("forward: {headers: {user_id: Connection}}\n"), ":5:30: forward.headers.user_id: is a standard, hop-by-hop"},
		{"header renamed to what a trusted hop says", at("forward: {headers: {user_id: X-Forwarded-User}}\n"), ":5:30: forward.headers.user_id: is a standard, hop-by-hop or proxy"},
		{"header with an underscore (HDR-1)", at("forward: {headers: {user_id: X_User}}\n"), ":5:30: forward.headers.user_id: must be made of letters, digits and -"},
		{"two headers of one name", at("forward: {headers: {user_id: X-A, user_role: x-a}}\n"), ":5:46: forward.headers.user_role: is the header of user_id too"},
		{"header renamed to another's", at("forward: {headers: {user_id: X-Tenant-Id}}\n"), ":5:30: forward.headers.user_id: is the header of tenant_id too"},
		{"header renamed to the tenant header", at("forward: {headers: {user_id: X-Tenant}}\n"), ":5:30: forward.headers.user_id: is tenants.header"},
		{"assertion too short", at("forward: {assertion: {lifetime: 1s}}\n"), ":5:33: forward.assertion.lifetime: must be from 2s to 1h"},
		{"assertion too long", at("forward: {assertion: {lifetime: 1d}}\n"), ":5:33: forward.assertion.lifetime: must be from 2s to 1h"},
		{"headers too small to be of use", at("limits: {header_bytes: 10B}\n"), ":5:24: limits.header_bytes: must be at least 1KiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := tt.text
			if strings.HasPrefix(text, "public_url") && !strings.HasPrefix(text, minimal) {
				text += strings.SplitAfterN(minimal, "\n", 2)[1]
			}
			_, err := load(t, text)
			got := lines(t, err)
			if len(got) != 1 || !strings.HasPrefix(got[0], "config.yaml:") || !strings.Contains(got[0], tt.want) {
				t.Errorf("got\n%s\nwant\nconfig.yaml%s", strings.Join(got, "\n"), tt.want)
			}
		})
	}
}
