package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// asProgram makes the test binary be the program itself, so that tests can run it as a process of its own.
const asProgram = "RUN_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	pgtest.Main(m)
}

// canary stands for a secret: it must show nowhere but where it was asked for.
const canary = "c4nary-pa55word"

const masterSecret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

// result is what a command left behind.
type result struct {
	code     int
	out, err string
}

// cli runs commands in this process, on a host database that the environment names.
type cli struct {
	t       testing.TB
	environ []string
	clock   func() time.Time
	// lookupTXT stands for the system's resolver; nil: nothing is found.
	lookupTXT func(ctx context.Context, name string) ([]string, error)
}

func newCLI(t testing.TB, hostURL string) *cli {
	t.Helper()
	return &cli{t: t, environ: []string{"TENANTGATE_HOST_DATABASE_URL=" + hostURL}, clock: time.Now}
}

func sqliteURL(t testing.TB) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "host.db")
}

func (c *cli) feed(in string, args ...string) result {
	var out, errs syncBuffer
	p := &program{in: strings.NewReader(in), out: &out, err: &errs, environ: c.environ, clock: c.clock, open: openGate, lookupTXT: c.lookupTXT}
	code := p.run(c.t.Context(), args)
	return result{code, out.String(), errs.String()}
}

func (c *cli) run(args ...string) result { return c.feed("", args...) }

// ok runs a command that must succeed, and returns its standard output.
func (c *cli) ok(args ...string) string {
	c.t.Helper()
	r := c.run(args...)
	if r.code != 0 || r.err != "" {
		c.t.Fatalf("%q: exit %d, stderr %q", args, r.code, r.err)
	}
	return r.out
}

// object runs a command with --output json that must succeed, and returns the one object that it prints.
func (c *cli) object(args ...string) map[string]any {
	c.t.Helper()
	return decode(c.t, c.ok(append(args, "--output", "json")...))
}

// fails runs a command that must fail so, with one line that holds want and nothing on standard output.
func (c *cli) fails(code int, want string, args ...string) {
	c.t.Helper()
	c.failed(c.run(args...), code, want, args...)
}

func (c *cli) failed(r result, code int, want string, args ...string) {
	c.t.Helper()
	if r.code != code || r.out != "" || strings.Count(r.err, "\n") != 1 || !strings.Contains(r.err, want) {
		c.t.Errorf("%q: exit %d, want %d; stdout %q; stderr %q, want one line with %q", args, r.code, code, r.out, r.err, want)
	}
}

// decode reads exactly one JSON object.
func decode(t testing.TB, text string) map[string]any {
	t.Helper()
	var v map[string]any
	dec := json.NewDecoder(strings.NewReader(text))
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if _, err := dec.Token(); err != io.EOF {
		t.Fatalf("more than one value in %q", text)
	}
	return v
}

func items(t testing.TB, list map[string]any) []map[string]any {
	t.Helper()
	raw, ok := list["items"].([]any)
	if _, next := list["next"].(string); !ok || !next || len(list) != 2 {
		t.Fatalf("no list: %v", list)
	}
	out := make([]map[string]any, len(raw))
	for i, r := range raw {
		out[i] = r.(map[string]any)
	}
	return out
}

// engines runs a test on SQLite and on PostgreSQL.
func engines(t *testing.T, test func(t *testing.T, c *cli)) {
	t.Run("sqlite", func(t *testing.T) { test(t, newCLI(t, sqliteURL(t))) })
	t.Run("postgresql", func(t *testing.T) { test(t, newCLI(t, pgtest.New(t))) })
}

// syncBuffer is written by servers and read by tests at the same time. Await waits for a text.
type syncBuffer struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{}
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// await returns what was written once it holds every text n times at least.
func (s *syncBuffer) await(t testing.TB, n int, text string) string {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		s.mu.Lock()
		all := s.b.String()
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		if strings.Count(all, text) >= n {
			return all
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no %q in %s", text, all)
		}
	}
}

// process runs the program as a process of its own.
func process(t testing.TB, dir string, environ []string, args ...string) (*exec.Cmd, *syncBuffer, *syncBuffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, self, args...)
	var out, errs syncBuffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errs
	// No second is lost at each exit, in which the race detector waits for goroutines that would go on.
	cmd.Env = append([]string{asProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + t.TempDir(), "GORACE=atexit_sleep_ms=0"}, environ...)
	return cmd, &out, &errs
}

// open reaches the database itself, beside the program.
func (c *cli) open() *sql.DB {
	c.t.Helper()
	driver, url := "sqlite", strings.TrimPrefix(c.environ[0], "TENANTGATE_HOST_DATABASE_URL=")
	if strings.HasPrefix(url, "postgresql") {
		driver = "pgx"
	}
	db, err := sql.Open(driver, strings.TrimPrefix(url, "sqlite:"))
	if err != nil {
		c.t.Fatal(err)
	}
	return db
}

func (c *cli) exec(text string) {
	c.t.Helper()
	db := c.open()
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(c.t.Context(), text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cli) count(text string) (n int) {
	c.t.Helper()
	db := c.open()
	defer func() { _ = db.Close() }()
	if err := db.QueryRowContext(c.t.Context(), text).Scan(&n); err != nil {
		c.t.Fatal(err)
	}
	return n
}
