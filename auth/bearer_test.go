package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// access are the claims of a good bearer token.
func (g *rig) access(change map[string]any) map[string]any {
	now := g.clock.Now()
	claims := map[string]any{
		"iss": g.op.url(), "aud": "api", "sub": "alice", "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "tenant": "acme", "client_id": "cli",
	}
	for k, v := range change {
		claims[k] = v
		if v == nil {
			delete(claims, k)
		}
	}
	return claims
}

func TestBearerTokenOfAProviderIsAnIdentity(t *testing.T) {
	for _, alg := range []string{algRS256, algES256, algEdDSA} {
		g := newRig(t)
		g.op.keys = []signingKey{newKey(t, "k", alg)}
		user := g.addUser("main|alice", "")
		for _, header := range []map[string]any{nil, {"typ": "JWT"}, {"typ": "at+jwt"}, {"typ": "application/at+JWT"}, {"kid": nil}, {"x5t": "abc"}} {
			id, err := g.bearer(g.op.sign(g.access(nil), header))
			if err != nil {
				t.Fatalf("%s %v: %v", alg, header, err)
			}
			if id.User != user || id.Kind != KindBearer || id.Session != "" || id.ClaimTenant != "acme" || id.Provider != "main" || id.Subject != "alice" ||
				id.Expires.Unix() != g.clock.Now().Add(5*time.Minute).Unix() || id.IssuedAt.Unix() != g.clock.Now().Unix() {
				t.Fatalf("%+v", id)
			}
		}
		for _, change := range []map[string]any{{"tenant": nil}, {"aud": []string{"other", "api"}}, {"iat": nil}, {"tenant": ""}} {
			if _, err := g.bearer(g.op.sign(g.access(change), nil)); err != nil {
				t.Errorf("%v: %v", change, err)
			}
		}
	}
}

func TestBearerTokensThatAreNotForUsAreRefused(t *testing.T) { // BEAR-1, AUD-1, AUD-2, JWT-3
	g := newRig(t)
	g.addUser("main|alice", "")
	at := func(d time.Duration) int64 { return g.clock.Now().Add(d).Unix() }
	good := g.op.sign(g.access(nil), nil)
	h, p, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(p, ".")
	assertion, err := g.auth.Assert(AssertionInput{Audience: "api", User: "u", Lifetime: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	tokens := map[string]string{
		"words": "hello", "empty": "", "tg_": "tg_abc", "tga_": "tga_abc", "our own assertion": assertion, "session token": newSessionToken().encode(),
		"alg none": b64(`{"alg":"none"}`) + "." + payload + ".", "no signature": h + "." + payload + ".", "cut": good[:len(good)-5], "space inside": good[:20] + " " + good[20:],
		"two tokens": good + "," + good, "JWE": good + ".a.b", "long": good + strings.Repeat("A", maxBearer), "changed": h + "." + payload[:len(payload)-4] + "AAAA." + signature,
		"strange key":        signRaw(t, signingKey{"rsa-1", algRS256, newKey(t, "strange", algRS256).private}, nil, []byte(fmt.Sprintf(`{"iss":%q,"aud":"api","sub":"alice","exp":%d}`, g.op.url(), at(time.Minute)))),
		"sub twice":          signRaw(t, g.op.keys[0], nil, []byte(fmt.Sprintf(`{"iss":%q,"aud":"api","sub":"bob","sub":"alice","exp":%d}`, g.op.url(), at(time.Minute)))),
		"aud twice":          signRaw(t, g.op.keys[0], nil, []byte(fmt.Sprintf(`{"iss":%q,"aud":"x","aud":"api","sub":"alice","exp":%d}`, g.op.url(), at(time.Minute)))),
		"AUD instead of aud": signRaw(t, g.op.keys[0], nil, []byte(fmt.Sprintf(`{"iss":%q,"AUD":"api","sub":"alice","exp":%d}`, g.op.url(), at(time.Minute)))),
		"typ logout+jwt":     g.op.sign(g.access(nil), map[string]any{"typ": "logout+jwt"}), "typ secevent": g.op.sign(g.access(nil), map[string]any{"typ": "secevent+jwt"}),
		"typ dpop": g.op.sign(g.access(nil), map[string]any{"typ": "dpop+jwt"}), "crit": g.op.sign(g.access(nil), map[string]any{"crit": []string{"exp"}}),
		"jwk of its own": g.op.sign(g.access(nil), map[string]any{"jwk": map[string]any{"kty": "RSA"}}), "jku": g.op.sign(g.access(nil), map[string]any{"jku": g.op.url() + "/jwks"}),
	}
	for name, change := range map[string]map[string]any{
		"other issuer": {"iss": "https://evil.example.com"}, "issuer with a slash": {"iss": g.op.url() + "/"}, "no issuer": {"iss": nil}, "issuer list": {"iss": []string{g.op.url()}},
		"other audience": {"aud": "other"}, "client as audience (ID token)": {"aud": clientID}, "no audience": {"aud": nil}, "null audience": {"aud": []any{nil}}, "number audience": {"aud": 1}, "audience with more": {"aud": "api "},
		"expired": {"exp": at(-61 * time.Second)}, "no exp": {"exp": nil}, "exp text": {"exp": fmt.Sprint(at(time.Minute))}, "exp null": {"exp": map[string]any{}}, "far exp": {"exp": 1e300},
		"not yet": {"nbf": at(62 * time.Second)}, "issued in the future": {"iat": at(62 * time.Second)}, "nbf text": {"nbf": "x"}, "iat text": {"iat": "x"},
		"no sub": {"sub": nil}, "sub number": {"sub": 1}, "sub nul": {"sub": "alice\x00"}, "logout token": {"events": map[string]any{}}, "tenant list": {"tenant": []string{"acme"}}, "tenant number": {"tenant": 1}, "tenant control": {"tenant": "a\n"},
		"ID token of another client":          {"aud": []string{"other", "api"}, "azp": "other", "nonce": "n"},
		"ID token for several without azp":    {"aud": []string{"other", "api"}, "at_hash": "x"},
		"ID token with one aud, other's azp":  {"aud": "api", "azp": "other", "nonce": "n"},
		"ID token whose azp is no text":       {"aud": "api", "azp": []string{"api"}, "nonce": "n"},
		"case of a claim that was registered": {"Exp": at(time.Minute)},
	} {
		tokens[name] = g.op.sign(g.access(change), nil)
	}
	for name, token := range tokens {
		if id, err := g.bearer(token); !errors.Is(err, ErrInvalidToken) || id != (Identity{}) {
			t.Errorf("%s: %v %+v", name, err, id)
		}
	}
	for name, change := range map[string]map[string]any{ // TIME-2
		"expired within leeway": {"exp": at(-59 * time.Second)}, "nbf within leeway": {"nbf": at(59 * time.Second)}, "ID token for our audience": {"nonce": "n"}, "with our azp": {"nonce": "n", "azp": "api", "aud": []string{"api", "x"}},
	} {
		if _, err := g.bearer(g.op.sign(g.access(change), nil)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAlgorithmsAndAudiencesAreTheProvidersOwn(t *testing.T) {
	g := newRig(t, func(g *rig) { g.cfg.Providers[0].Bearer.Algorithms = []string{algES256} })
	g.addUser("main|alice", "")
	if _, err := g.bearer(g.op.sign(g.access(nil), nil)); !errors.Is(err, ErrInvalidToken) {
		t.Fatalf("RS256: %v", err)
	}
	other := newIssuer(t, g.clock.Now)
	g.cfg.Providers = append(g.cfg.Providers, Provider{
		Name: "other", Issuer: other.url(), SubjectPrefix: "other|", Bearer: BearerConfig{Audiences: []string{"other-api"}, Leeway: new(time.Duration(0))},
	})
	g.auth = g.replica()
	user := g.addUser("other|alice", "")
	claims := g.access(map[string]any{"iss": other.url(), "aud": "other-api"})
	if id, err := g.bearer(other.sign(claims, nil)); err != nil || id.User != user || id.Provider != "other" {
		t.Fatalf("%+v %v", id, err)
	}
	claims["aud"] = "api"
	if _, err := g.bearer(other.sign(claims, nil)); !errors.Is(err, ErrInvalidToken) {
		t.Fatalf("audience of another provider: %v", err)
	}
	claims["aud"], claims["iss"] = "api", g.op.url()
	if _, err := g.bearer(other.sign(claims, nil)); !errors.Is(err, ErrInvalidToken) {
		t.Fatalf("signed by another provider: %v", err)
	}
	claims["aud"], claims["iss"], claims["exp"] = "other-api", other.url(), g.clock.Now().Unix()
	if _, err := g.bearer(other.sign(claims, nil)); !errors.Is(err, ErrInvalidToken) {
		t.Fatalf("no leeway: %v", err)
	}
}

func TestAuthorizationHeaderIsOursByTheRules(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	token := g.browser().mustSignIn("alice")
	good := g.op.sign(g.access(nil), nil)
	silent := g.cfg
	silent.Providers = append([]Provider(nil), g.cfg.Providers...)
	silent.Providers[0].Bearer = BearerConfig{}
	without, err := New(context.Background(), silent, g.deps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = without.Close() })
	if !g.auth.ConsumesBearer() || without.ConsumesBearer() {
		t.Fatal("ConsumesBearer")
	}
	for _, tc := range []struct {
		values        []string
		with, without error // beside a good cookie; nil: an identity
		kind          Kind
	}{
		{nil, nil, nil, KindSession},
		{[]string{"Bearer " + good}, nil, nil, KindBearer},
		{[]string{"bearer  " + good}, nil, nil, KindBearer},
		{[]string{"BEARER\t" + good}, nil, nil, KindBearer},
		{[]string{"Bearer x"}, ErrInvalidToken, nil, 0},
		{[]string{"Bearer"}, ErrInvalidToken, nil, 0},
		{[]string{"Bearer "}, ErrInvalidToken, nil, 0},
		{[]string{"Bearer tg_x"}, ErrInvalidToken, ErrInvalidToken, 0},
		{[]string{"bearer tga_x"}, ErrInvalidToken, ErrInvalidToken, 0},
		{[]string{"Bearer TG_x"}, ErrInvalidToken, nil, 0},
		{[]string{"Basic dXNlcjpwdw=="}, nil, nil, KindSession},
		{[]string{"Bearerx y"}, nil, nil, KindSession},
		{[]string{"DPoP tg_x"}, nil, nil, KindSession},
		{[]string{""}, nil, nil, KindSession},
		{[]string{"Basic a", "Digest b"}, nil, nil, KindSession},
		{[]string{"Bearer " + good, "Bearer " + good}, ErrInvalidToken, nil, 0},
		{[]string{"Basic a", "Bearer " + good}, ErrInvalidToken, nil, 0},
		{[]string{"Bearer " + good, "Basic a"}, ErrInvalidToken, nil, 0},
		{[]string{"Basic a", "Bearer tg_x"}, ErrInvalidToken, ErrInvalidToken, 0},
	} {
		c := Credentials{Authorization: tc.values, Cookies: []string{sessionName + token}, Host: "app.example.com"}
		id, err := g.auth.Authenticate(t.Context(), c)
		if !errors.Is(err, tc.with) || id.Kind != tc.kind {
			t.Errorf("%q: %v %v, want %v", tc.values, id.Kind, err, tc.with)
		}
		if owns := g.auth.OwnsAuthorization(tc.values); owns != (tc.with != nil || tc.kind == KindBearer) {
			t.Errorf("%q: owned %v", tc.values, owns)
		}
		id, err = without.Authenticate(t.Context(), c)
		if !errors.Is(err, tc.without) || (err == nil) != (id.Kind == KindSession) {
			t.Errorf("%q without audiences: %v %v, want %v", tc.values, id.Kind, err, tc.without)
		}
	}
}

func TestUnknownSubjectIsUnknownAndNewOneKnownWithinFiveSeconds(t *testing.T) {
	g := newRig(t, signingUp, trusting)
	g.addUser("", "alice@example.com")
	token := g.op.sign(g.access(map[string]any{"email": "alice@example.com", "email_verified": true}), nil)
	if _, err := g.bearer(token); !errors.Is(err, ErrUnknownUser) {
		t.Fatalf("linking and sign-up belong to browsers: %v", err)
	}
	user := g.addUser("main|alice", "")
	g.clock.advance(maxFactsAge)
	if id, err := g.bearer(token); err != nil || id.User != user {
		t.Fatal(err)
	}
	if err := g.host.BlockUser(t.Context(), user, "test"); err != nil {
		t.Fatal(err)
	}
	g.clock.advance(maxFactsAge)
	if _, err := g.bearer(token); !errors.Is(err, ErrUnknownUser) { // STATE-1, CACHE-1: the token is remembered, its user is not
		t.Fatalf("blocked: %v", err)
	}
}

func TestRememberedTokenStillExpires(t *testing.T) { // CACHE-1, Oathkeeper CVE-2021-32701
	g := newRig(t)
	g.addUser("main|alice", "")
	token := g.op.sign(g.access(nil), nil)
	if _, err := g.bearer(token); err != nil {
		t.Fatal(err)
	}
	g.clock.advance(5*time.Minute + 59*time.Second)
	if _, err := g.bearer(token); err != nil {
		t.Fatal(err)
	}
	g.clock.advance(time.Second)
	if _, err := g.bearer(token); !errors.Is(err, ErrInvalidToken) {
		t.Fatalf("expired: %v", err)
	}
}

func TestRememberedTokenEndsWithItsKey(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	token := g.op.sign(g.access(map[string]any{"exp": g.clock.Now().Add(24 * time.Hour).Unix()}), nil)
	if _, err := g.bearer(token); err != nil {
		t.Fatal(err)
	}
	g.op.mu.Lock()
	g.op.keys = []signingKey{newKey(t, "rsa-2", algRS256)} // the old key was stolen, say
	g.op.mu.Unlock()
	g.clock.advance(2 * time.Second)
	if _, err := g.bearer(g.op.sign(g.access(nil), nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := g.bearer(token); !errors.Is(err, ErrInvalidToken) {
		t.Fatalf("token of a key that is gone: %v", err)
	}
}

func TestKeyRotationUnderTrafficFailsNobody(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	if _, err := g.bearer(g.op.sign(g.access(nil), nil)); err != nil {
		t.Fatal(err)
	}
	var tokens []string
	for i := range 3 {
		g.op.mu.Lock()
		g.op.keys = append([]signingKey{newKey(t, fmt.Sprint("rotated-", i), algES256)}, g.op.keys...)
		g.op.mu.Unlock()
		g.clock.advance(2 * time.Second)
		tokens = append(tokens, g.op.sign(g.access(map[string]any{"jti": i}), nil))
		var group sync.WaitGroup
		for j := range 20 {
			group.Go(func() {
				if _, err := g.bearer(tokens[j%len(tokens)]); err != nil {
					t.Errorf("rotation %d: %v", i, err)
				}
			})
		}
		group.Wait()
	}
	if n := g.op.keyFetches.Load(); n != 4 {
		t.Errorf("%d fetches for three rotations", n)
	}
}

func TestFloodOfUnknownKeysHarmsNobody(t *testing.T) { // JWKS-1
	g := newRig(t)
	g.addUser("main|alice", "")
	good := g.op.sign(g.access(nil), nil)
	if _, err := g.bearer(good); err != nil {
		t.Fatal(err)
	}
	ec := newKey(t, "flood", algES256)
	payload := []byte(fmt.Sprintf(`{"iss":%q,"aud":"api","sub":"alice","exp":%d}`, g.op.url(), g.clock.Now().Add(time.Minute).Unix()))
	for i := range 1000 {
		if i%100 == 0 {
			g.clock.advance(100 * time.Millisecond) // ten seconds' worth in all: one
		}
		token := signRaw(t, signingKey{fmt.Sprint("flood-", i), algES256, ec.private}, nil, payload)
		if _, err := g.bearer(token); !errors.Is(err, ErrInvalidToken) {
			t.Fatalf("%d: %v", i, err)
		}
		if i%50 == 0 {
			if _, err := g.bearer(g.op.sign(g.access(map[string]any{"jti": i}), nil)); err != nil {
				t.Fatalf("good token during the flood: %v", err)
			}
		}
	}
	if n := g.op.keyFetches.Load(); n > 3 {
		t.Fatalf("%d fetches in a second", n)
	}
	if n := g.auth.tokens.Len(); n > 30 {
		t.Fatalf("%d bad tokens remembered", n)
	}
}

func TestKeysThatCannotBeHadAreUnavailableOthersGoOn(t *testing.T) {
	g := newRig(t)
	other := newIssuer(t, g.clock.Now)
	g.cfg.Providers = append(g.cfg.Providers, Provider{
		Name: "other", Issuer: other.url(), SubjectPrefix: "other|", Bearer: BearerConfig{Audiences: []string{"api"}},
	})
	g.auth = g.replica()
	g.addUser("main|alice", "")
	g.addUser("other|alice", "")
	g.op.answer("/jwks", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	if _, err := g.bearer(g.op.sign(g.access(nil), nil)); !errors.Is(err, ErrProviderUnavailable) {
		t.Fatalf("keys never had: %v", err)
	}
	if _, err := g.bearer(other.sign(g.access(map[string]any{"iss": other.url()}), nil)); err != nil {
		t.Fatalf("the other provider: %v", err)
	}
	g.op.answer("/jwks", nil)
	g.clock.advance(2 * time.Second)
	if _, err := g.bearer(g.op.sign(g.access(nil), nil)); err != nil {
		t.Fatal(err)
	}
	g.op.answer("/jwks", func(w http.ResponseWriter, _ *http.Request) { pour(w, 100<<20) })
	g.clock.advance(keepFor - time.Minute)
	if _, err := g.bearer(g.op.sign(g.access(nil), nil)); err != nil {
		t.Fatalf("last good keys: %v", err)
	}
	g.clock.advance(2 * time.Minute)
	if _, err := g.bearer(g.op.sign(g.access(nil), nil)); !errors.Is(err, ErrProviderUnavailable) {
		t.Fatalf("keys too old: %v", err)
	}
}

func TestBearerWhileTheHostDatabaseIsDownIsUnavailable(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	token := g.op.sign(g.access(nil), nil)
	if _, err := g.bearer(token); err != nil {
		t.Fatal(err)
	}
	if err := g.host.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := g.bearer(token); err != nil {
		t.Fatalf("facts a moment old: %v", err)
	}
	g.clock.advance(maxFactsAge)
	if _, err := g.bearer(token); !errors.Is(err, catalog.ErrUnavailable) {
		t.Fatal(err)
	}
}

func TestAnotherConfigurationRemembersItsOwnTokens(t *testing.T) { // CACHE-2
	base := func() []*provider {
		return []*provider{{name: "main", issuer: "https://op", prefix: "p|", audiences: []string{"a", "b"}, algorithms: []string{algES256}, leeway: time.Minute}}
	}
	seen := map[[32]byte]string{bearerIdentity(base(), "tenant"): "base"}
	for name, change := range map[string]func(*provider){
		"issuer": func(p *provider) { p.issuer = "https://op2" }, "prefix": func(p *provider) { p.prefix = "q|" }, "audiences": func(p *provider) { p.audiences = []string{"a"} },
		"audiences joined": func(p *provider) { p.audiences = []string{"ab"} }, "algorithms": func(p *provider) { p.algorithms = []string{algRS256} }, "leeway": func(p *provider) { p.leeway = 0 },
		"reserved": func(p *provider) { p.reserved = []string{"x|"} }, "name": func(p *provider) { p.name = "x" }, "discovery": func(p *provider) { p.discovery = "https://x" },
	} {
		list := base()
		change(list[0])
		id := bearerIdentity(list, "tenant")
		if twin, ok := seen[id]; ok {
			t.Errorf("%s has the identity of %s", name, twin)
		}
		seen[id] = name
	}
	if _, ok := seen[bearerIdentity(base(), "org")]; ok {
		t.Error("the tenant claim does not count")
	}
}

func TestWarmBearerAllocatesAtMostOnce(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	ctx := context.Background()
	for _, padding := range []int{0, 4000} {
		token := g.op.sign(g.access(map[string]any{"groups": strings.Repeat("g", padding)}), nil)
		c := Credentials{Authorization: []string{"Bearer " + token}, Host: "app.example.com"}
		if _, err := g.auth.Authenticate(ctx, c); err != nil {
			t.Fatal(err)
		}
		if allocs := testing.AllocsPerRun(200, func() {
			if _, err := g.auth.Authenticate(ctx, c); err != nil {
				t.Error(err)
			}
		}); allocs > 1 {
			t.Errorf("token of %d bytes: %v allocations", len(token), allocs)
		}
	}
}

func FuzzAuthorization(f *testing.F) {
	g := newRig(f)
	g.addUser("main|alice", "")
	good := g.op.sign(g.access(nil), nil)
	if _, err := g.bearer(good); err != nil {
		f.Fatal(err)
	}
	f.Add("Bearer "+good, "")
	f.Add("Bearer tg_x", "Basic y")
	f.Add("bearer\t\t.", "")
	f.Fuzz(func(t *testing.T, one, two string) {
		values := []string{one}
		if two != "" {
			values = append(values, two)
		}
		id, err := g.auth.Authenticate(context.Background(), Credentials{Authorization: values})
		if err == nil && (len(values) != 1 || !strings.HasSuffix(strings.TrimRight(one, " \t"), good) || id.Kind != KindBearer) {
			t.Fatalf("%q accepted", values)
		}
		if err != nil && !errors.Is(err, ErrInvalidToken) && !errors.Is(err, ErrUnauthenticated) {
			t.Fatalf("%q: %v", values, err)
		}
	})
}
