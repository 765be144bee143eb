package auth

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// documented is the block of that language in a page of the documentation.
func documented(t *testing.T, page, language string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "```"+language+"\n")
	code, _, end := strings.Cut(rest, "\n```")
	if !ok || !end {
		t.Fatalf("%s has no block of %s", page, language)
	}
	return code
}

// asksExample has each line of its standard input judged by the documented example.
const asksExample = `
import { createInterface } from 'node:readline';
import { verifyAssertion } from './gate.mjs';

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = { claims: await verifyAssertion(JSON.parse(line)) };
  } catch (error) {
    answer = { error: error.message };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
}
`

type exampleAnswer struct {
	Claims map[string]any
	Error  string
}

// runExample starts the documented Node.js example against a key set and returns what asks it.
func runExample(t *testing.T, keys string) func(headers map[string]string) exampleAnswer {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"gate.mjs": documented(t, "assertion.md", "js"), "asks.mjs": asksExample} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var stderr bytes.Buffer
	node := exec.Command("node", "asks.mjs")
	node.Dir, node.Stderr = dir, &stderr
	node.Env = append(os.Environ(), "GATE_ISSUER=https://app.example.com", "GATE_AUDIENCE=app", "GATE_KEYS="+keys)
	in, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatalf("Node.js is needed: %v", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := node.Wait(); err != nil {
			t.Errorf("%v\n%s", err, stderr.String())
		}
	})
	lines := bufio.NewReader(out)
	return func(headers map[string]string) (a exampleAnswer) {
		t.Helper()
		line, err := json.Marshal(headers)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(append(line, '\n')); err != nil {
			t.Fatal(err)
		}
		text, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatalf("%v\n%s", err, stderr.String())
		}
		if err := json.Unmarshal(text, &a); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return a
	}
}

func TestDocumentedExampleForOtherLanguagesVerifiesAssertions(t *testing.T) {
	t.Parallel()
	g := newRig(t, wallClock)
	g.clock.advance(-time.Minute) // Node.js has the real time
	var fetches atomic.Int64
	var down atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetches.Add(1)
		if down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		g.auth.JWKS(w, r)
	}))
	t.Cleanup(server.Close)
	ask := runExample(t, server.URL)
	const uri = "postgresql://acme:pw@db/acme?x=1"
	sign := func(change func(*AssertionInput)) string {
		in := AssertionInput{
			Audience: "app", User: "u1", Email: "a@example.com", Tenant: "acme", Role: "owner", Plan: "pro", Subscription: "active",
			DBURI: catalog.NewDBURI(uri), Lifetime: time.Minute,
		}
		if change != nil {
			change(&in)
		}
		token, err := g.auth.Assert(in)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	headers := func(token string) map[string]string {
		return map[string]string{"x-gate-assertion": token, "x-tenant-db-uri": uri}
	}
	good := sign(nil)
	parts := strings.Split(good, ".")
	got := ask(headers(good))
	if got.Error != "" || got.Claims["sub"] != "u1" || got.Claims["tenant"] != "acme" || got.Claims["subscription"] != "active" {
		t.Fatalf("%+v", got)
	}
	if got := ask(map[string]string{"x-gate-assertion": sign(func(in *AssertionInput) { in.DBURI = catalog.DBURI{} })}); got.Error != "" {
		t.Errorf("without a database: %s", got.Error)
	}
	old := func() string {
		g.clock.advance(-time.Hour)
		defer g.clock.advance(time.Hour)
		return sign(nil)
	}()
	early := func() string {
		g.clock.advance(time.Hour)
		defer g.clock.advance(-time.Hour)
		return sign(nil)
	}()
	strange := newRig(t, func(g *rig) { g.clock.now = time.Now().UTC() })
	foreign, err := strange.auth.Assert(AssertionInput{Audience: "app", User: "root", Lifetime: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]map[string]string{
		"none": {}, "empty": headers(""), "two": headers(good + ", " + good), "words": headers("hello"), "long": headers(good + strings.Repeat("A", 8192)),
		"another app's":      headers(sign(func(in *AssertionInput) { in.Audience = "other" })),
		"over":               headers(old),
		"early":              headers(early),
		"another gate's key": headers(foreign),
		"claims changed":     headers(parts[0] + "." + b64(`{"iss":"https://app.example.com","aud":"app","sub":"root","iat":1,"exp":99999999999}`) + "." + parts[2]),
		"alg none":           headers(b64(`{"alg":"none","kid":"x"}`) + "." + parts[1] + "." + parts[2]),
		"crit":               headers(b64(`{"alg":"ES256","kid":"x","crit":["b64"]}`) + "." + parts[1] + "." + parts[2]),
		"another database":   {"x-gate-assertion": good, "x-tenant-db-uri": uri + "x"},
		"database without":   {"x-gate-assertion": sign(func(in *AssertionInput) { in.DBURI = catalog.DBURI{} }), "x-tenant-db-uri": uri},
	} {
		if got := ask(bad); got.Error == "" {
			t.Errorf("%s: verified as %v", name, got.Claims)
		}
	}
	asked := fetches.Load()
	began := time.Now()
	for i := range 100 {
		if got := ask(headers(b64(`{"alg":"ES256","kid":"`+strings.Repeat("x", i+1)+`"}`) + "." + parts[1] + "." + parts[2])); got.Error == "" {
			t.Fatal("an unknown key verifies")
		}
	}
	if n := fetches.Load() - asked; n > int64(time.Since(began)/time.Second)+1 {
		t.Errorf("%d fetches for unknown keys in %s", n, time.Since(began))
	}
	down.Store(true)
	if got := ask(headers(sign(nil))); got.Error != "" {
		t.Errorf("with known keys while the gate is down: %s", got.Error)
	}
}
