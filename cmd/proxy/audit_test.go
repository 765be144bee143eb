package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/audit"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// chainAll does what a running proxy does, and returns the checkpoint that it logs when it stops.
func chainAll(t *testing.T, c *cli) string {
	t.Helper()
	host, err := catalog.Open(t.Context(), strings.TrimPrefix(c.environ[0], "TENANTGATE_HOST_DATABASE_URL="))
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	secrets, err := seal.ParseKeyset(secret.New(masterSecret))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := audit.LoadKeys(t.Context(), host, secrets)
	if err != nil {
		t.Fatal(err)
	}
	var log syncBuffer
	audit.Start(audit.Config{Every: time.Hour}, audit.Deps{Host: host, Keys: keys, Log: slog.New(slog.NewTextHandler(&log, nil)), Clock: time.Now}).Close()
	text := regexp.MustCompile(`tenantgate-audit-1/[^ "]+`).FindString(log.String())
	if text == "" {
		t.Fatalf("no checkpoint in %s", log.String())
	}
	return text
}

func TestAuditVerifyTellsByItsExitCode(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		c.environ = append(c.environ, "TENANTGATE_SECRET_KEY="+masterSecret)
		c.ok("plan", "create", "--id", "pro")
		if r := c.object("audit", "verify"); r["tail"] != 1.0 || r["found"] != 0.0 {
			t.Errorf("a tail alone: %v", r)
		}
		checkpoint := chainAll(t, c)
		if r := c.object("audit", "verify", "--checkpoint", checkpoint); r["tail"] != 0.0 || r["found"] != 0.0 || r["checkpoints"] != 1.0 {
			t.Errorf("%v", r)
		}
		c.fails(1, "no checkpoint", "audit", "verify", "--checkpoint", "x")
		forged := strings.Replace(checkpoint, "-1/2/", "-1/3/", 1)
		if forged == checkpoint {
			t.Fatalf("checkpoint %s", checkpoint)
		}
		c.fails(1, "signature", "audit", "verify", "--checkpoint", forged)
		without := &cli{t: t, environ: c.environ[:1], clock: time.Now}
		if r := without.object("audit", "verify"); r["found"] != 0.0 || r["entries"] != 2.0 {
			t.Errorf("without the master secret: %v", r)
		}
		db := c.open()
		defer db.Close()
		for _, text := range []string{
			"DROP TRIGGER tenantgate_sys_audit_chain_keep_deleted" + on(c, " ON %s"), "DELETE FROM " + on(c, "tenantgate.") + "sys_audit_chain WHERE seq = 2",
		} {
			text = strings.ReplaceAll(text, "%s", "tenantgate.sys_audit_chain")
			if strings.HasPrefix(text, "DROP") && on(c, "x") == "x" {
				continue // the owner passes
			}
			if _, err := db.ExecContext(t.Context(), text); err != nil {
				t.Fatal(err)
			}
		}
		r := c.run("audit", "verify", "--checkpoint", checkpoint, "--output", "json")
		if r.code != 1 || !strings.Contains(r.out, `"kind":"chain_cut"`) || !strings.Contains(r.out, `"kind":"row_inserted"`) || strings.Count(r.err, "\n") != 1 {
			t.Errorf("cut off: exit %d, %s, %s", r.code, r.out, r.err)
		}
	})
}

// on is a text for PostgreSQL alone.
func on(c *cli, text string) string {
	if strings.Contains(c.environ[0], "postgresql") {
		return text
	}
	return ""
}

func TestAuditExportAndArchiveWriteWholeFiles(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		c.environ = append(c.environ, "TENANTGATE_SECRET_KEY="+masterSecret)
		c.ok("plan", "create", "--id", "pro")
		c.exec("INSERT INTO sys_audit_logs (id, event_type, created_at) VALUES ('old1', 'login', '2020-01-01T00:00:00'), ('old2', 'login', '2020-01-02T00:00:00')")
		chainAll(t, c)
		dir := t.TempDir()
		if out := c.ok("audit", "export"); strings.Count(out, "\n") != 4 || !strings.Contains(out, `"id":"old1"`) {
			t.Errorf("export: %s", out)
		}
		path := filepath.Join(dir, "all.csv")
		c.ok("audit", "export", "--format", "csv", "--file", path)
		if text, err := os.ReadFile(path); err != nil || strings.Count(string(text), "\n") != 5 {
			t.Errorf("csv: %s, %v", text, err)
		}
		c.fails(1, "exist", "audit", "export", "--file", path)
		c.fails(2, "jsonl or csv", "audit", "export", "--format", "xml")
		c.fails(2, "--before", "audit", "archive", "--file", path)
		old := filepath.Join(dir, "old.jsonl")
		if r := c.object("audit", "archive", "--before", "2021-01-01", "--file", old); r["rows"] != 2.0 || r["deleted"] != 2.0 {
			t.Errorf("archive: %v", r)
		}
		if r := c.object("audit", "verify", "--file", old); r["rows"] != 2.0 || r["signed"] != true {
			t.Errorf("the file: %v", r)
		}
		chainAll(t, c)
		if r := c.object("audit", "verify"); r["found"] != 0.0 || r["archived"] != 2.0 || r["tail"] != 0.0 {
			t.Errorf("verify: %v", r)
		}
		if n := len(c.list("audit")); n != 3 {
			t.Errorf("%d rows are left", n)
		}
	})
}
