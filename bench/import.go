package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// measureImport times `tenantgate KIND import` of n tenants, n users and n memberships, each a process of its own as an
// operator runs it, into the host database at url, which must be empty; "" is a new SQLite file. It prints the seconds.
func measureImport(ctx context.Context, url string, n int) (err error) {
	dir, err := os.MkdirTemp("", "bench-import")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if url == "" {
		url = "sqlite:" + filepath.Join(dir, "host.db")
	}
	program := filepath.Join(dir, "tenantgate")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/proxy").CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w: %s", err, out)
	}
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "TENANTGATE_HOST_DATABASE_URL="+url)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("tenantgate %s: %w: %s", strings.Join(args, " "), err, errs.String())
		}
		return string(out), err
	}
	if _, err := run("migrate"); err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "import\trows\tseconds\trows/s\t")
	var total time.Duration
	for _, k := range importFiles() {
		file := filepath.Join(dir, k.kind+".csv")
		if err := writeImport(file, k.header, k.row, n); err != nil {
			return err
		}
		start := time.Now()
		out, err := run(k.kind, "import", "--file", file, "--output", "json")
		took := time.Since(start)
		if err != nil {
			return err
		}
		var done struct{ Imported int }
		if err := json.Unmarshal([]byte(out), &done); err != nil || done.Imported != n {
			return fmt.Errorf("%s: %d of %d rows were imported: %w", k.kind, done.Imported, n, err)
		}
		total += took
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%.0f\t\n", k.kind, n, took.Seconds(), float64(n)/took.Seconds())
	}
	fmt.Fprintf(w, "all\t%d\t%.1f\t%.0f\t\n", 3*n, total.Seconds(), float64(3*n)/total.Seconds())
	return w.Flush()
}

type importFile struct {
	kind, header string
	row          func(i int) string
}

// importFiles are the kinds in the order in which they refer to each other.
func importFiles() []importFile {
	return []importFile{
		{"tenant", "id,name,db_url,plan_tier", func(i int) string {
			return fmt.Sprintf("t%d,Tenant %d,postgresql://t%d:password@db.internal:5432/t%d,pro", i, i, i, i)
		}},
		{"user", "id,email,oauth_id", func(i int) string { return fmt.Sprintf("u%d,user%d@example.com,google:%d", i, i, i) }},
		{"member", "user_id,tenant_id,role", func(i int) string { return fmt.Sprintf("u%d,t%d,owner", i, i) }},
	}
}

func writeImport(path, header string, row func(int) string, n int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, header)
	for i := range n {
		fmt.Fprintln(w, row(i))
	}
	if err := w.Flush(); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
