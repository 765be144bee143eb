package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
)

// secretFileOf makes the file of the master secrets; write replaces its lines.
func secretFileOf(t testing.TB, c *cli, lines ...string) (write func(lines ...string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	write = func(lines ...string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(lines...)
	c.environ = append(c.environ, "TENANTGATE_SECRET_KEY_FILE="+path)
	return write
}

func masterLine(n byte) string {
	b := make([]byte, 32)
	for i := range b {
		b[i] = n + byte(i)
	}
	return base64.StdEncoding.EncodeToString(b)
}

func TestEncryptAsksAndSaysThatSealedValuesAreForTenantgateAlone(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	secretFileOf(t, c, masterLine(1))
	c.ok("tenant", "create", "--id", "acme", "--db-url", "postgresql://a:"+canary+"@db/acme")
	for _, answer := range []string{"", "no\n", "y\n", "acme\n"} {
		r := c.feed(answer, "tenant", "encrypt", "acme")
		if r.code != 1 || r.out != "" || !strings.Contains(r.err, "for tenantgate alone") || !strings.Contains(r.err, "nothing is changed") {
			t.Errorf("%q: exit %d, %s", answer, r.code, r.err)
		}
	}
	if got := c.object("tenant", "show", "acme", "--reveal")["db_url"]; got != "postgresql://a:"+canary+"@db/acme" {
		t.Errorf("changed without consent: %v", got)
	}
	r := c.feed("yes\n", "tenant", "encrypt", "acme", "--output", "json")
	if r.code != 0 || decode(t, r.out)["sealed"] != float64(1) {
		t.Errorf("exit %d: %s %s", r.code, r.out, r.err)
	}
	if got := c.object("tenant", "show", "acme")["db_url"]; got != "enc:***" {
		t.Errorf("shown as %v", got)
	}
	c.fails(2, "name one tenant, or all", "tenant", "encrypt")
	c.fails(2, "name one tenant, or all", "tenant", "encrypt", "acme", "--all")
	c.fails(1, "not found", "tenant", "encrypt", "nobody", "--yes")
}

func TestEncryptAndRotateNeedTheMasterSecret(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	c.fails(2, "secret_key_file: missing", "tenant", "encrypt", "--all", "--yes")
	c.fails(2, "secret_key_file: missing", "key", "rotate")
	c.environ = append(c.environ, "TENANTGATE_SECRET_KEY_FILE="+filepath.Join(t.TempDir(), "nothing"))
	c.fails(2, "cannot be read", "key", "rotate")
}

func TestEncryptThenRotate(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		one, two := masterLine(1), masterLine(2)
		write := secretFileOf(t, c, one)
		for i := range 3 {
			c.ok("tenant", "create", "--id", fmt.Sprint("t", i), "--db-url", fmt.Sprintf("postgresql://a:%s@db/t%d", canary, i))
		}
		c.ok("tenant", "create", "--id", "empty")
		c.ok("user", "create", "--id", "u")
		c.ok("token", "create", "--user", "u") // makes a key
		for i, want := range []map[string]float64{
			{"sealed": 3, "already_sealed": 0, "references": 0, "empty": 1, "failed": 0},
			{"sealed": 0, "already_sealed": 3, "references": 0, "empty": 1, "failed": 0},
		} {
			got := c.object("tenant", "encrypt", "--all", "--yes")
			for k, n := range want {
				if got[k] != n {
					t.Errorf("run %d: %v", i, got)
				}
			}
		}
		if rows := c.audit("tenant.encrypted"); len(rows) != 3 || rows[0]["actor_user_id"] != actor() || !strings.Contains(rows[0]["details"].(string), "postgresql://a:***@db") {
			t.Errorf("audit: %v", rows)
		}
		write(two, one)
		got := c.object("key", "rotate")
		if got["resealed"] != float64(4) || got["current"] != float64(0) || got["failed"] != float64(0) || len(got["columns"].([]any)) != len(sealedColumns()) {
			t.Errorf("rotated: %v", got)
		}
		if out := c.ok("key", "rotate"); !strings.Contains(out, "core_tenants.db_url: 0 of 3") {
			t.Errorf("as table: %s", out)
		}
		write(two)
		again := c.object("key", "rotate")
		if again["resealed"] != float64(0) || again["current"] != float64(4) || again["failed"] != float64(0) || again["key"] != got["key"] {
			t.Errorf("with the new line alone: %v", again)
		}
		c.ok("token", "create", "--user", "u")

		// Without the line that everything lies under, nothing opens, nothing is lost, and it says so.
		write(one)
		r := c.run("key", "rotate", "--output", "json")
		if r.code != 1 || decode(t, r.out)["failed"] != float64(4) || strings.Count(r.err, "\n") != 4 || !strings.Contains(r.err, "core_tenants.db_url of t0: sealed under a master secret that") {
			t.Errorf("exit %d: %s %s", r.code, r.out, r.err)
		}
		write(one, two)
		if back := c.object("key", "rotate"); back["resealed"] != float64(4) {
			t.Errorf("back again: %v", back)
		}
	})
}

// All that lies sealed is known to `key rotate`: a column that names itself so and is missing would be lost with the
// older lines.
func TestRotateKnowsEverySealedColumn(t *testing.T) {
	known := map[string]bool{}
	for _, c := range sealedColumns() {
		if known[c.Name] || c.Purpose("1", "a") == c.Purpose("2", "a") {
			t.Errorf("%s is listed twice, or its seal is not bound to the row", c.Name)
		}
		known[c.Name] = true
	}
	for _, c := range []catalog.SealedColumn{catalog.SealedTenantURLs(), catalog.SealedKeys(), catalog.SealedIDTokens()} {
		if !known[c.Name] {
			t.Errorf("%s is not sealed anew", c.Name)
		}
	}
	if len(auth.SealedColumns()) < 2 {
		t.Error("auth lists nothing")
	}
}

func TestRevealShowsWhatTheAppWouldReceive(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		write := secretFileOf(t, c, masterLine(1))
		dir := t.TempDir()
		plain := "postgresql://a:" + canary + "@db/acme"
		if err := os.WriteFile(filepath.Join(dir, "acme"), []byte(plain+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c.environ = append(c.environ, "TENANTGATE_HOST_DATABASE_REFS_DIR="+dir, "TENANTGATE_HOST_DATABASE_REFS_ENV_PREFIX=T_", "T_ACME="+plain)
		c.ok("tenant", "create", "--id", "sealed", "--db-url", plain)
		c.ok("tenant", "encrypt", "sealed", "--yes")
		c.ok("tenant", "create", "--id", "file", "--db-url", "ref:file:acme")
		c.ok("tenant", "create", "--id", "env", "--db-url", "ref:env:T_ACME")
		for _, id := range []string{"sealed", "file", "env"} {
			if got := c.object("tenant", "show", id, "--reveal")["db_url"]; got != plain {
				t.Errorf("%s is revealed as %v", id, got)
			}
			if out := c.ok("tenant", "show", id); strings.Contains(out, canary) || strings.Contains(out, "acme") || strings.Contains(out, "T_ACME") {
				t.Errorf("%s is shown as %s", id, out)
			}
		}
		if n := len(c.audit("tenant.revealed")); n != 3 {
			t.Errorf("%d audit rows of revealing", n)
		}
		for _, row := range items(t, decode(t, c.ok("audit", "list", "--limit", "1000", "--output", "json"))) {
			if strings.Contains(fmt.Sprint(row), canary) || strings.Contains(fmt.Sprint(row), "enc:v1") {
				t.Errorf("the audit holds %v", row)
			}
		}

		// What does not open is shown as it is stored, and said.
		write(masterLine(2))
		r := c.run("tenant", "list", "--reveal", "--output", "json")
		if r.code != 1 || strings.Count(r.err, "\n") != 1 || !strings.Contains(r.err, "tenant sealed: db_url is shown as it is stored: sealed under a master secret") {
			t.Errorf("exit %d: %s", r.code, r.err)
		}
		for _, row := range items(t, decode(t, r.out)) {
			if uri := row["db_url"].(string); (row["id"] == "sealed") != strings.HasPrefix(uri, "enc:v1:") || row["id"] != "sealed" && uri != plain {
				t.Errorf("%v is revealed as %v", row["id"], uri)
			}
		}
	})
}

func TestSealedValueIsTakenOnlyForTheTenantItOpensFor(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	c.ok("tenant", "create", "--id", "bare", "--db-url", "ref:file:x") // needs no secret
	c.fails(2, "secret_key_file: missing", "tenant", "create", "--id", "a", "--db-url", "enc:v1:x")
	secretFileOf(t, c, masterLine(1))
	c.ok("tenant", "create", "--id", "acme", "--db-url", "postgresql://a:"+canary+"@db/acme")
	c.ok("tenant", "encrypt", "acme", "--yes")
	var stored string
	host, err := catalog.Open(t.Context(), strings.TrimPrefix(c.environ[0], "TENANTGATE_HOST_DATABASE_URL="))
	if err != nil {
		t.Fatal(err)
	}
	row, err := host.Tenants.Get(t.Context(), "acme")
	if err := errors.Join(err, host.Close()); err != nil {
		t.Fatal(err)
	}
	stored = row.DBURL.Reveal()
	c.ok("tenant", "update", "acme", "--db-url", stored)
	c.ok("tenant", "update", "acme", "--db-url", "ref:env:T_ACME")
	c.ok("tenant", "update", "acme", "--db-url", stored, "--name", "Acme") // back again
	for _, line := range [][]string{
		{"tenant", "create", "--id", "globex", "--db-url", stored},
		{"tenant", "create", "--db-url", stored},
		{"tenant", "update", "bare", "--db-url", stored},
		{"tenant", "update", "acme", "--db-url", stored[:len(stored)-2]},
		{"tenant", "update", "acme", "--db-url", "enc:v1:made:up"},
		{"tenant", "update", "acme", "--db-url", "ref:vault:x"},
		{"tenant", "update", "acme", "--db-url", "ref:env:"},
	} {
		r := c.run(line...)
		c.failed(r, 2, "--db-url", line...)
		if strings.Contains(r.err, stored[10:30]) {
			t.Errorf("the error repeats the value: %s", r.err)
		}
	}
	if got := c.object("tenant", "show", "acme", "--reveal")["db_url"]; got != "postgresql://a:"+canary+"@db/acme" {
		t.Errorf("acme has %v", got)
	}

	// A file may carry sealed values back to the tenants they are of, and to no others.
	r := c.feed("id,db_url\nglobex,"+stored+"\n", "tenant", "import", "--file", "-")
	if r.code != 1 || r.out != "" || !strings.Contains(r.err, "standard input:2: db_url: does not open for this tenant") {
		t.Errorf("import: exit %d, %s", r.code, r.err)
	}
	r = c.feed("id,db_url\none,ref:file:x\ntwo,postgresql://h/d\n", "tenant", "import", "--file", "-")
	if r.code != 0 {
		t.Errorf("import: exit %d, %s", r.code, r.err)
	}
}
