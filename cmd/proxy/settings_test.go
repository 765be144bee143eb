package main

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// goodConfig is a configuration that serve takes; the upstream's URL and what else is wanted are put in.
func goodConfig(upstream, more string) string {
	return `public_url: "http://localhost:8080"
secret_key: "` + masterSecret + `"
listen: "127.0.0.1:0"
admin: {listen: "localhost:0"}
host_database: {url: "sqlite:host.db"}
identity:
  providers:
    - {name: idp, issuer: "http://127.0.0.1:1", client_id: app, client_secret: "` + canary + `", bearer: {audiences: [api]}}
tenants: {path_prefix: /t/}
upstreams: {app: {urls: ["` + upstream + `"]}}
routes:
  - {path: /public/, access: public, upstream: app}
  - {path: /settings/, min_role: admin, upstream: app}
  - {path: /, upstream: app}
` + more
}

func TestConfigCheckNamesEveryFaultWithItsPlace(t *testing.T) {
	t.Chdir(t.TempDir())
	c := &cli{t: t, clock: time.Now, environ: []string{"HOME=/"}}
	write(t, "good.yaml", goodConfig("http://127.0.0.1:1", ""))
	write(t, "config.yaml", goodConfig("http://127.0.0.1:1", ""))
	for _, args := range [][]string{{"good.yaml"}, {"--config", "good.yaml"}, {}} {
		if out := c.ok(append([]string{"config", "check"}, args...)...); !strings.HasSuffix(out, ": valid\n") {
			t.Errorf("%q: %s", args, out)
		}
	}
	if got := c.object("config", "check", "good.yaml"); got["valid"] != true || got["file"] != "good.yaml" {
		t.Errorf("%v", got)
	}
	write(t, "bad.yaml", goodConfig("http://127.0.0.1:1", "rouets: []\nforward_auth: {listen: \"127.0.0.1:1\"}\ncache: {ttl: -1s}\n"))
	r := c.run("config", "check", "bad.yaml")
	lines := strings.Split(strings.TrimSuffix(r.err, "\n"), "\n")
	if r.code != 2 || r.out != "" || len(lines) != 3 {
		t.Fatalf("%+v", r)
	}
	for i, want := range []string{"bad.yaml:15:1: rouets: ", "bad.yaml:16:24: forward_auth.listen: not supported yet", "bad.yaml:17:14: cache.ttl: "} {
		if !strings.HasPrefix(lines[i], want) {
			t.Errorf("line %d is %q, want %q…", i, lines[i], want)
		}
	}
	r = c.run("config", "check", "bad.yaml", "--output", "json")
	got := decode(t, r.out)
	if faults := got["faults"].([]any); r.code != 2 || got["valid"] != false || len(faults) != 3 || faults[0].(map[string]any)["line"] != float64(15) {
		t.Errorf("%+v", r)
	}
	c.fails(2, "none.yaml", "config", "check", "none.yaml")
	for _, cmd := range []string{"serve", "explain"} {
		if r := c.run(cmd, "--config", "bad.yaml"); r.code != 2 || strings.Count(r.err, "\n") != 3 {
			t.Errorf("%s: %+v", cmd, r)
		}
	}
}

func TestConfigCheckTellsWarnings(t *testing.T) {
	t.Chdir(t.TempDir())
	c := &cli{t: t, clock: time.Now, environ: []string{"HOME=/"}}
	text := strings.Replace(goodConfig("http://127.0.0.1:1", ""), "{path: /settings/, ", "{path: /settings/, methods: [POST], ", 1)
	write(t, "config.yaml", text)
	if out := c.ok("config", "check"); !strings.Contains(out, "warning: config.yaml:13:") {
		t.Errorf("%s", out)
	}
	if w := c.object("config", "check")["warnings"].([]any); len(w) != 1 {
		t.Errorf("%v", w)
	}
}

func TestConfigPrintRedactsSecretsAndNamesSources(t *testing.T) {
	t.Chdir(t.TempDir())
	c := &cli{t: t, clock: time.Now, environ: []string{"TENANTGATE_CACHE_ENTRIES=77"}}
	write(t, "config.yaml", goodConfig("http://127.0.0.1:1", ""))
	out := c.ok("config", "print")
	if strings.Contains(out, canary) || strings.Contains(out, masterSecret) {
		t.Fatalf("secrets show in %s", out)
	}
	for _, want := range []string{`client_secret: "***"`, "entries: 77 # TENANTGATE_CACHE_ENTRIES", "idle_timeout: 1h # default", "# config.yaml:1"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	c.fails(2, "none.yaml", "config", "print", "--config", "none.yaml")
}

func TestInitWritesOnceAndKeepsTheSecretPrivate(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	c := &cli{t: t, clock: time.Now, environ: []string{"HOME=/"}}
	out := c.ok("init")
	info, err := os.Stat(masterFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info.Mode(), err)
	}
	key, err := os.ReadFile(masterFile)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(key))); err != nil || len(raw) < 32 {
		t.Errorf("the secret has %d bytes, %v", len(raw), err)
	}
	if strings.Contains(out, strings.TrimSpace(string(key))) {
		t.Error("init prints the secret")
	}
	// What lacks is what only the operator knows, in the file that was written.
	r := c.run("config", "check")
	if r.code != 2 || strings.Contains(r.err, "secret_key") {
		t.Errorf("%+v", r)
	}
	for line := range strings.Lines(r.err) {
		if !strings.HasPrefix(line, "config.yaml:") || !strings.Contains(line, "client_") {
			t.Errorf("the starter lacks more than the provider's client: %s", line)
		}
	}
	c.fails(1, "is there already", "init")
	if again, err := os.ReadFile(masterFile); err != nil || string(again) != string(key) {
		t.Error("the second init changed the secret")
	}
	if err := os.Remove("config.yaml"); err != nil {
		t.Fatal(err)
	}
	c.fails(1, masterFile, "init")
	if _, err := os.Stat("config.yaml"); err == nil {
		t.Error("a refused init wrote a file")
	}
	got := c.object("init", "--dir", "a/b")
	if got["config"] != filepath.Join(dir, "a/b/config.yaml") {
		t.Errorf("%v", got)
	}
}

func TestKeyGeneratePrintsANewSecretAlone(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	one, two := c.ok("key", "generate"), c.ok("key", "generate")
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(one, "\n"))
	if err != nil || len(raw) < 32 || one == two || strings.Count(one, "\n") != 1 {
		t.Errorf("%q, %q", one, two)
	}
}

func TestVersionAndCompletion(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	if v := c.object("version"); v["version"] == "" || !strings.HasPrefix(v["go"].(string), "go1") {
		t.Errorf("%v", v)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out := c.ok("completion", shell); !strings.Contains(out, "tenantgate") {
			t.Errorf("%s: %q", shell, out)
		}
	}
	if r := c.run("__complete", "tenant", "list", "--output", ""); !strings.Contains(r.out, "json") {
		t.Errorf("%+v", r)
	}
}

func TestMigrateReportsAndIsDoneOnce(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		check := c.object("migrate", "--check")
		if len(check["changes"].([]any)) == 0 || check["checked_only"] != true {
			t.Errorf("%v", check)
		}
		if done := c.object("migrate"); len(done["changes"].([]any)) == 0 || len(done["doubts"].([]any)) != 0 {
			t.Errorf("%v", done)
		}
		for _, args := range [][]string{{"migrate"}, {"migrate", "--check"}} {
			if out := c.ok(args...); !strings.Contains(out, "nothing to change") {
				t.Errorf("%q: %s", args, out)
			}
		}
		// Findings are no failure.
		c.ok("user", "create", "--id", "u1", "--email", "a@example.com")
		c.ok("user", "create", "--id", "u2", "--email", "A@example.com")
		if out := c.ok("migrate", "--check"); !strings.Contains(out, "u1, u2") {
			t.Errorf("%s", out)
		}
	})
}
