package auth

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
)

func goodProvider(name, prefix string) Provider {
	return Provider{Name: name, Issuer: "https://" + name + ".example.com", ClientID: "id", ClientSecret: secret.New("canary-secret"), SubjectPrefix: prefix}
}

func TestFaultsOfTheConfigurationAreNamedAllAtOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  Config
		want []string
	}{
		"good":          {Config{Providers: []Provider{goodProvider("a", "")}}, nil},
		"no providers":  {Config{}, nil},
		"two good":      {Config{Providers: []Provider{goodProvider("a", "a|"), goodProvider("b", "b|")}}, nil},
		"names":         {Config{Providers: []Provider{goodProvider("A", "a|"), goodProvider("-x", "b|"), goodProvider("a/b", "c|"), goodProvider(strings.Repeat("a", 33), "d|")}}, []string{"providers[0].name", "providers[1].name", "providers[2].name", "providers[3].name"}},
		"same name":     {Config{Providers: []Provider{goodProvider("a", "a|"), goodProvider("a", "b|")}}, []string{"providers[1].name"}},
		"empty prefix":  {Config{Providers: []Provider{goodProvider("a", ""), goodProvider("b", "b|")}}, []string{"providers[0].subject_prefix"}},
		"allowed empty": {Config{Providers: []Provider{goodProvider("a", ""), goodProvider("b", "b|")}, InsecureEmptyPrefix: true}, nil},
		"two empty":     {Config{Providers: []Provider{goodProvider("a", ""), goodProvider("b", "")}, InsecureEmptyPrefix: true}, []string{"providers[1].subject_prefix"}},
		"prefix of":     {Config{Providers: []Provider{goodProvider("a", "g|"), goodProvider("b", "g|x|")}}, []string{"providers[1].subject_prefix"}},
		"same prefix":   {Config{Providers: []Provider{goodProvider("a", "g|"), goodProvider("b", "g|")}}, []string{"providers[1].subject_prefix"}},
		"sign-up":       {Config{Providers: []Provider{goodProvider("a", "")}, SignUp: "create_user"}, []string{"providers[0].email_domains"}},
		"open sign-up":  {Config{Providers: []Provider{goodProvider("a", "")}, SignUp: "create_user", InsecureOpenSignUp: true}, nil},
		"tenant":        {Config{Providers: []Provider{goodProvider("a", "")}, SignUp: "create_tenant"}, []string{"providers[0].email_domains"}},
		"word":          {Config{SignUp: "yes"}, []string{"sign_up"}},
		"negative":      {Config{Session: SessionConfig{IdleTimeout: -1, AbsoluteTimeout: -1}, SignUpLimit: -1}, []string{"session.idle_timeout", "session.absolute_timeout", "sign_up_limit"}},
		"many at once": {Config{Providers: []Provider{{
			Name: "a", Issuer: "http://idp.example.com", DiscoveryURL: "ftp://x", ClientAuth: "jwt", Prompt: "a&b=c", Scopes: []string{"email", "a b"},
			EmailDomains: []string{"example.com", "not a domain", "*.example.com"}, Bearer: BearerConfig{Audiences: []string{""}, Algorithms: []string{"HS256"}, Leeway: new(-time.Second)}, SubjectPrefix: "a\n",
		}}}, []string{
			"providers[0].issuer", "providers[0].discovery_url", "providers[0].client_auth", "providers[0].prompt", "providers[0].scopes[1]", "providers[0].scopes:",
			"providers[0].email_domains[1]", "providers[0].email_domains[2]", "providers[0].bearer.audiences[0]", "providers[0].bearer.algorithms[0]", "providers[0].bearer.leeway", "providers[0].subject_prefix",
		}},
		"same issuer and audience": {Config{Providers: []Provider{
			{Name: "a", Issuer: "https://a.example.com", SubjectPrefix: "a|", Bearer: BearerConfig{Audiences: []string{"api"}}},
			{Name: "b", Issuer: "https://a.example.com", SubjectPrefix: "b|", Bearer: BearerConfig{Audiences: []string{"x", "api"}}},
		}}, []string{"providers[1].bearer.audiences"}},
		"no client":    {Config{Providers: []Provider{{Name: "a", Issuer: "https://a.example.com"}}}, []string{"providers[0].client_id"}},
		"no secret":    {Config{Providers: []Provider{{Name: "a", Issuer: "https://a.example.com", ClientID: "x"}}}, []string{"providers[0].client_secret"}},
		"bearer alone": {Config{Providers: []Provider{{Name: "a", Issuer: "https://a.example.com", Bearer: BearerConfig{Audiences: []string{"api"}}}}}, nil},
		"refresh token": {Config{Providers: []Provider{func() Provider {
			p := goodProvider("a", "")
			p.Scopes = []string{"openid", "offline_access"}
			return p
		}()}}, []string{"providers[0].scopes[1]"}},
		"issuer query": {Config{Providers: []Provider{func() Provider { p := goodProvider("a", ""); p.Issuer += "/?x"; return p }()}}, []string{"providers[0].issuer"}},
		"user info":    {Config{Providers: []Provider{func() Provider { p := goodProvider("a", ""); p.Issuer = "https://u:p@a.example.com"; return p }()}}, []string{"providers[0].issuer"}},
		"loopback":     {Config{Providers: []Provider{func() Provider { p := goodProvider("a", ""); p.Issuer = "http://idp.localhost:8081"; return p }()}}, nil},
	} {
		err := tc.cfg.Validate()
		if (err != nil) != (len(tc.want) > 0) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), "identity."+want) {
				t.Errorf("%s: %q lacks %q", name, err, want)
			}
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: shows the secret", name)
		}
	}
}

func TestNothingStartsWithoutItsSecretsAndFiles(t *testing.T) { // FAIL-1
	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*rig){
		"no master secret":     func(g *rig) { g.deps.Secrets = seal.Keyset{} },
		"no public URL":        func(g *rig) { g.deps.PublicURL = nil },
		"plain public URL":     func(g *rig) { g.deps.PublicURL = &url.URL{Scheme: "http", Host: "app.example.com"} },
		"public URL with path": func(g *rig) { g.deps.PublicURL = &url.URL{Scheme: "https", Host: "app.example.com", Path: "/x"} },
		"no host database":     func(g *rig) { g.deps.Host = nil },
		"nothing to refuse":    func(g *rig) { g.deps.Refuse = nil },
		"CA file missing":      func(g *rig) { g.cfg.Providers[0].CAFile = filepath.Join(t.TempDir(), "none.pem") },
		"CA file empty":        func(g *rig) { g.cfg.Providers[0].CAFile = empty },
		"CA file a directory":  func(g *rig) { g.cfg.Providers[0].CAFile = t.TempDir() },
		"issuer is us":         func(g *rig) { g.cfg.Providers[0].Issuer = "https://app.example.com/" },
		"bad config":           func(g *rig) { g.cfg.SignUp = "everybody" },
	} {
		g := newRig(t)
		change(g)
		a, err := New(context.Background(), g.cfg, g.deps)
		if err == nil {
			t.Errorf("%s: started", name)
			_ = a.Close()
			continue
		}
		if strings.Contains(err.Error(), clientSecret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	g := newRig(t)
	if err := g.host.Close(); err != nil {
		t.Fatal(err)
	}
	if a, err := New(context.Background(), g.cfg, g.deps); err == nil {
		_ = a.Close()
		t.Error("started without the host database's keys")
	}
}

func TestCloseMayBeCalledAgainAndEndsEverything(t *testing.T) {
	g := newRig(t)
	for range 2 {
		if err := g.auth.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.auth.present("app.example.com", sessionName+newSessionToken().encode()); err == nil {
		t.Fatal("closed, and lets in")
	}
}
