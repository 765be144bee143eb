package auth

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
)

// A session lives by its own clock, not by a provider's tokens: refresh tokens are neither asked for nor kept.
func TestRefreshTokensAreNeitherAskedForNorKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.db")
	host, err := catalog.Open(context.Background(), "sqlite:"+path)
	if err != nil {
		t.Fatal(err)
	}
	g := newRig(t, func(g *rig) { g.host = host })
	const refresh, access = "refresh-token-canary", "access-canary"
	g.op.tokenAnswer = func(answer map[string]any) { answer["refresh_token"] = refresh }
	g.addUser("main|alice", "")
	b := g.browser()
	authorize := b.away("")
	if scope := authorize.Query().Get("scope"); scope != "openid email profile" || authorize.Query().Get("access_type") != "" {
		t.Errorf("asks for %q", authorize.RawQuery)
	}
	w := b.back(g.op, "main", authorize, "alice", nil)
	if w.Code != http.StatusFound {
		t.Fatalf("%d\n%s", w.Code, g.log)
	}
	if err := g.auth.Close(); err != nil {
		t.Fatal(err)
	}
	if err := host.Close(); err != nil {
		t.Fatal(err)
	}
	told := g.log.String() + strings.Join(b.cookieHeader(), "") + w.Header().Get("Location") + w.Body.String()
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(content), "op-session") && f == path {
			t.Error("the database does not hold the session at all")
		}
		told += string(content)
	}
	for _, token := range []string{refresh, access} {
		if strings.Contains(told, token) {
			t.Errorf("%s left a trace", token)
		}
	}
	if n := g.op.exchanges.Load(); n != 1 {
		t.Errorf("%d requests at the token endpoint", n)
	}
}
