package auth

import (
	"context"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/tenantgate/tenantgate/catalog"
)

func BenchmarkCookieWarm(b *testing.B) {
	g := newRig(b)
	g.addUser("main|alice", "")
	c := Credentials{Cookies: []string{"theme=dark; " + sessionName + g.browser().mustSignIn("alice")}, Host: "app.example.com"}
	a := warm(b, g, c)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Authenticate(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
}

// warm makes facts that last as long as the benchmark.
func warm(b *testing.B, g *rig, c Credentials) *Auth {
	b.Helper()
	if _, err := g.auth.Authenticate(context.Background(), c); err != nil {
		b.Fatal(err)
	}
	return g.auth
}

func BenchmarkCookieCold(b *testing.B) {
	g := newRig(b)
	g.addUser("main|alice", "")
	c := Credentials{Cookies: []string{sessionName + g.browser().mustSignIn("alice")}, Host: "app.example.com"}
	a := warm(b, g, c)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		a.sessions.Purge()
		if _, err := a.Authenticate(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCookieInParallel(b *testing.B) {
	g := newRig(b)
	g.addUser("main|alice", "")
	c := Credentials{Cookies: []string{sessionName + g.browser().mustSignIn("alice")}, Host: "app.example.com"}
	a := warm(b, g, c)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := a.Authenticate(context.Background(), c); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkAPITokenWarm(b *testing.B) {
	g := newRig(b)
	_, token := g.mint(TokenSpec{User: g.addUser("main|alice", "")})
	c := Credentials{Authorization: []string{"Bearer " + token}, Host: "app.example.com"}
	a := warm(b, g, c)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Authenticate(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAPITokenCold(b *testing.B) {
	g := newRig(b)
	_, token := g.mint(TokenSpec{User: g.addUser("main|alice", "")})
	c := Credentials{Authorization: []string{"Bearer " + token}, Host: "app.example.com"}
	a := warm(b, g, c)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		a.apiTokens.Purge()
		if _, err := a.Authenticate(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBearerRemembered(b *testing.B) {
	g := newRig(b)
	g.op.keys = []signingKey{newKey(b, "k", algES256)}
	g.addUser("main|alice", "")
	c := Credentials{Authorization: []string{"Bearer " + g.op.sign(g.access(nil), nil)}}
	a := warm(b, g, c)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Authenticate(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBearerFirstTime(b *testing.B) {
	for _, alg := range []string{algES256, algRS256, algEdDSA} {
		b.Run(alg, func(b *testing.B) {
			g := newRig(b)
			g.op.keys = []signingKey{newKey(b, "k", alg)}
			g.addUser("main|alice", "")
			token := g.op.sign(g.access(nil), nil)
			c := Credentials{Authorization: []string{"Bearer " + token}}
			a := warm(b, g, c)
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				a.tokens.Purge()
				if _, err := a.Authenticate(ctx, c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBearerGoOIDC is coreos/go-oidc's verifier on the same token, for comparison.
func BenchmarkBearerGoOIDC(b *testing.B) {
	g := newRig(b)
	g.op.keys = []signingKey{newKey(b, "k", algES256)}
	token := g.op.sign(g.access(nil), nil)
	v := oidc.NewVerifier(g.op.url(), oidc.NewRemoteKeySet(context.Background(), g.op.url()+"/jwks"), &oidc.Config{
		ClientID: "api", SupportedSigningAlgs: []string{algES256}, Now: g.clock.Now,
	})
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(ctx, token); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAssert(b *testing.B) {
	g := newRig(b)
	in := AssertionInput{
		Audience: "app", User: "u1", Email: "a@example.com", Tenant: "acme", Role: "owner", Plan: "pro", Subscription: "active",
		DBURI: catalog.NewDBURI("postgresql://acme:secret@db/acme"), Lifetime: time.Minute,
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.auth.Assert(in); err != nil {
			b.Fatal(err)
		}
	}
}
