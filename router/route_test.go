package router

import "testing"

func table(t *testing.T, configs ...RouteConfig) routeTable {
	t.Helper()
	var tab routeTable
	for _, c := range configs {
		r, err := compileRoute(c)
		if err != nil {
			t.Fatal(err)
		}
		tab.routes = append(tab.routes, r)
	}
	return tab
}

func TestTheFirstRouteThatFitsWins(t *testing.T) { // ROUTE-1, SKIP-1
	tab := table(t,
		RouteConfig{Path: "/healthz", Access: "public"},
		RouteConfig{Path: "/static/", Access: "public"},
		RouteConfig{Path: "/settings/", Methods: []string{"unsafe"}, MinRole: "admin"},
		RouteConfig{Path: "/settings/", Feature: "read"},
		RouteConfig{Path: "/files/", AllowEncodedSlash: true},
		RouteConfig{Path: "/matrix/", AllowPathParameters: true},
		RouteConfig{Path: "/only-get/", Methods: []string{"GET"}},
		RouteConfig{Path: "/api/", Host: "API.example.com"},
	)
	for _, c := range []struct {
		method, host, path string
		want               string
		code               Code
	}{
		{"GET", "h", "/healthz", "/healthz", ""},
		{"GET", "h", "/healthz/deep", "/healthz", ""},
		{"GET", "h", "/healthzz", "", NoRoute},
		{"GET", "h", "/Healthz", "", NoRoute}, // public needs the exact case
		{"GET", "h", "/STATIC/x", "", NoRoute},
		{"GET", "h", "/static", "/static/", ""},
		{"POST", "h", "/settings/x", "/settings/", ""},
		{"POST", "h", "/SETTINGS/x", "/settings/", ""},
		{"GET", "h", "/settings", "/settings/", ""},
		{"GET", "h", "/%73ettings/", "/settings/", ""},
		{"GET", "h", "/settingsx", "", NoRoute},
		{"PUT", "h", "/only-get/", "", NoRoute},
		{"GET", "api.example.com", "/api/x", "/api/", ""},
		{"GET", "other.example.com", "/api/x", "", NoRoute},
		{"GET", "h", "/files/a%2Fb", "/files/", ""},
		{"GET", "h", "/settings/a%2Fb", "", BadPath},
		{"GET", "h", "/files%2Fa", "", BadPath}, // its readings give different routes
		{"GET", "h", "/matrix/a;v=1/b", "/matrix/", ""},
		{"GET", "h", "/files/a;v=1", "", BadPath},
		{"GET", "h", "/matrix;x/a", "", BadPath},
		{"GET", "h", "/_gate%2Flogin", "", BadPath},
		{"GET", "h", "/admin?x=/static/", "", ""},
	} {
		p, ok := ParsePath(c.path)
		if !ok {
			if c.code == "" && c.want == "" {
				continue // refused before any rule
			}
			t.Fatalf("ParsePath(%q) refused", c.path)
		}
		r, code := tab.match(c.method, c.host, p)
		if code != c.code || c.want != "" && (r == nil || r.name != c.want) {
			t.Errorf("%s %s%s: %v %q; want %q %q", c.method, c.host, c.path, r, code, c.want, c.code)
		}
	}
	post, _ := tab.match("POST", "h", Path{escaped: "/settings/x"})
	get, _ := tab.match("GET", "h", Path{escaped: "/settings/x"})
	if post.minRole != "admin" || get.minRole != "" || get.feature != "read" {
		t.Error("a route whose methods do not fit is not passed over")
	}
}

func TestNoSpellingOfTheOwnPathReachesTheApp(t *testing.T) {
	for p, own := range map[string]bool{
		"/_gate": true, "/_gate/login": true, "/_GATE/login": true, "/%5fgate/login": true, "/_Gate/": true,
		"/_gatex": false, "/x/_gate": false, "/_gat": false,
	} {
		parsed, ok := ParsePath(p)
		if !ok || ownPath(parsed.escaped) != own {
			t.Errorf("%s: own = %v", p, !own)
		}
	}
}

func TestRulesThatNeedATenantAreRefusedElsewhere(t *testing.T) {
	for _, c := range []RouteConfig{
		{Path: "/x/", Access: "public", MinRole: "admin"},
		{Path: "/x/", Access: "user", Feature: "f"},
		{Path: "/x/", Access: "user", MinTier: new(int64(1))},
		{Path: "x"},
		{Path: "/a//b"},
		{Path: "/a;b"},
		{Path: "/", Access: "everyone"},
	} {
		if _, err := compileRoute(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

func TestTwoSpellingsOfOneOctetAreOneRoute(t *testing.T) { // ROUTE-1, SKIP-2
	tab := table(t,
		RouteConfig{Path: "/users:export", MinRole: "owner"},
		RouteConfig{Path: "/files/@private/"},
		RouteConfig{Path: "/files/", Access: "public"},
		RouteConfig{Path: "/q%40r/", Feature: "f"},
		RouteConfig{Path: "/a+b/", MinRole: "admin", AllowEncodedSlash: true},
		RouteConfig{Path: "/"},
	)
	for path, want := range map[string]string{
		"/users:export": "/users:export", "/users%3Aexport": "/users:export", "/users%3aexport/x": "/users:export",
		"/USERS%3Aexport": "/users:export", "/files/@private/x": "/files/@private/", "/files/%40private/x": "/files/@private/",
		"/files/x": "/files/", "/q@r/x": "/q%40r/", "/q%40r/x": "/q%40r/", "/a%2Bb/x": "/a+b/", "/a%2Bb/x%2Fy": "/a+b/",
		"/users%253Aexport": "/",
	} {
		p, ok := ParsePath(path)
		if !ok {
			t.Fatalf("ParsePath(%q) refused", path)
		}
		if r, code := tab.match("GET", "h", p); r == nil || r.name != want {
			t.Errorf("%s: %v %q; want %s", path, r, code, want)
		}
	}
	for c := range 256 {
		if !pathOctet[c] || c == '/' || c == ';' || unreserved(byte(c)) {
			continue
		}
		raw, encoded := "/x"+string(rune(c))+"y/", "/x%"+string(upperHex[c>>4])+string(upperHex[c&15])+"y/"
		for _, rule := range []string{raw, encoded} {
			tab := table(t, RouteConfig{Path: rule, MinRole: "owner"}, RouteConfig{Path: "/"})
			for _, asked := range []string{raw, encoded} {
				p, ok := ParsePath(asked)
				if !ok {
					t.Fatalf("ParsePath(%q) refused", asked)
				}
				if r, _ := tab.match("GET", "h", p); r == nil || r.minRole == "" {
					t.Errorf("rule %s does not judge %s", rule, asked)
				}
			}
		}
	}
}
