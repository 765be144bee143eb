package pgtest

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) {
	if os.Getenv("PGTEST_CHILD") != "" {
		os.Exit(m.Run()) // as a package would that forgot Main
	}
	Main(m)
}

func ask(t *testing.T, url, sql string) string {
	t.Helper()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var out string
	if err := conn.QueryRow(ctx, sql).Scan(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEveryTestGetsAFreshDatabase(t *testing.T) {
	a, b := New(t), New(t)
	if a == b {
		t.Fatal("two tests share one database")
	}
	Exec(t, a, "CREATE TABLE only_here (id text); INSERT INTO only_here VALUES ('x')")
	if got := ask(t, a, "SELECT id FROM only_here"); got != "x" {
		t.Fatalf("got %q", got)
	}
	if got := ask(t, b, "SELECT coalesce(to_regclass('only_here')::text, 'absent')"); got != "absent" {
		t.Fatalf("the other database has the table too: %s", got)
	}
}

func TestDatabaseIsDroppedWithItsTest(t *testing.T) {
	var name string
	t.Run("inner", func(t *testing.T) {
		u, err := url.Parse(New(t))
		if err != nil {
			t.Fatal(err)
		}
		name = strings.TrimPrefix(u.Path, "/")
	})
	if got := ask(t, New(t), "SELECT count(*)::text FROM pg_database WHERE datname = '"+name+"'"); got != "0" {
		t.Fatalf("database %s is left", name)
	}
}

func TestCollationIsNotBytewise(t *testing.T) {
	if got := ask(t, New(t), "SELECT ('a' < 'B')::text || (('a' COLLATE \"C\") < 'B')::text"); got != "truefalse" {
		t.Fatalf("got %s: a query that forgets COLLATE \"C\" would not be found out", got)
	}
}

func TestServerStopsBreaksAndComesBackWithItsData(t *testing.T) {
	s := NewServer(t)
	u := s.URL(t)
	Exec(t, u, "CREATE TABLE kept (id text); INSERT INTO kept VALUES ('x')")
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, u)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	s.TerminateBackends(t)
	if _, err := conn.Exec(ctx, "SELECT 1"); err == nil {
		t.Fatal("the connection outlived TerminateBackends")
	}
	s.Stop(t)
	if c, err := pgx.Connect(ctx, u); err == nil {
		_ = c.Close(ctx)
		t.Fatal("a stopped server accepts connections")
	}
	s.Start(t)
	if got := ask(t, u, "SELECT id FROM kept"); got != "x" {
		t.Fatalf("got %q", got)
	}
	if got := ask(t, s.SocketURL(t, u), "SELECT id FROM kept"); got != "x" {
		t.Fatalf("over the socket: got %q", got)
	}
}

func TestStandbyIsInRecoveryUntilPromoted(t *testing.T) {
	s := NewServer(t)
	u := s.URL(t)
	s.Standby(t)
	if got := ask(t, u, "SELECT pg_is_in_recovery()::text"); got != "true" {
		t.Fatalf("in recovery: %s", got)
	}
	s.Promote(t)
	if got := ask(t, u, "SELECT pg_is_in_recovery()::text"); got != "false" {
		t.Fatalf("in recovery: %s", got)
	}
}

// A child process takes a server and is killed; nothing of it may stay.
func TestKilledProcessLeavesNothingBehind(t *testing.T) {
	tmp, err := os.MkdirTemp("", "tgk")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o777); err != nil { // the server's user works there
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestChildThatIsKilled$")
	cmd.Env = append(os.Environ(), "PGTEST_CHILD=1", "TMPDIR="+tmp)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 6)
	if _, err := out.Read(buf); err != nil || string(buf) != "ready\n" {
		t.Fatalf("child said %q, %v", buf, err)
	}
	pids, err := filepath.Glob(filepath.Join(tmp, "tgpg*", "data", "postmaster.pid"))
	if err != nil || len(pids) != 1 {
		t.Fatalf("no running server found below %s (%v)", tmp, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		left, err := filepath.Glob(filepath.Join(tmp, "tgpg*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind: %v", left)
		}
	}
}

// TestChildThatIsKilled is the child's part of the test above; by itself it shows that a server starts without Main.
func TestChildThatIsKilled(t *testing.T) {
	u := NewServer(t).URL(t)
	if got := ask(t, u, "SELECT 'up'"); got != "up" {
		t.Fatal(got)
	}
	if os.Getenv("PGTEST_CHILD") != "" {
		_, _ = os.Stdout.WriteString("ready\n")
		select {}
	}
}
