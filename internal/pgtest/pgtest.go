// Package pgtest starts a real PostgreSQL server for tests, from the machine's own binaries, in a temporary directory.
//
// One server serves a test process, however many tests run at once; every test gets a database of its own. The server
// and its files are gone when the process is, also when that was killed: a watchdog holds the other end of a pipe.
// Databases collate by ICU en-US, so that a query that forgets COLLATE "C" is found out.
//
// Failure mode: missing binaries, or a server that does not come up in time, fail the test and say what to install;
// nothing is ever skipped.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// patience bounds every wait for the server.
const patience = 60 * time.Second

// shared is the process's one server. It is test state, not a program's: the process is the scope that tests share.
var shared struct {
	sync.Mutex
	server *Server
}

// Main runs a package's tests, stops the shared server, fails if a goroutine is left, and exits:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main without the exit, for a TestMain that has more to do. It returns the exit code.
func Run(m *testing.M) int {
	code := m.Run()
	shared.Lock()
	s := shared.server
	shared.server = nil
	shared.Unlock()
	if s != nil {
		if err := s.remove(); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest: stop the server:", err)
			code = max(code, 1)
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest: a test left goroutines behind:", err)
			code = 1
		}
	}
	return code
}

// New returns the URL of a fresh, empty database on the shared server; it is dropped when the test ends.
func New(t testing.TB) string {
	t.Helper()
	s, err := sharedServer()
	if err != nil {
		t.Fatal(err)
	}
	return s.URL(t)
}

// ForExample is New for an Example function, which has no test at hand: the database ends with the shared server.
func ForExample() (url string, err error) {
	s, err := sharedServer()
	if err != nil {
		return "", err
	}
	name, err := s.create()
	if err != nil {
		return "", err
	}
	return s.url(name), nil
}

func sharedServer() (*Server, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		s, err := startServer()
		if err != nil {
			return nil, err
		}
		shared.server = s
	}
	return shared.server, nil
}

// NewServer starts a server of the test's own, for faults that would disturb others. It ends with the test.
func NewServer(t testing.TB) *Server {
	t.Helper()
	s, err := startServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.remove(); err != nil {
			t.Errorf("pgtest: stop the server: %v", err)
		}
	})
	return s
}

// URL creates a fresh, empty database and returns its URL: superuser, password, loopback TCP.
func (s *Server) URL(t testing.TB) string {
	t.Helper()
	name, err := s.create()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A server that the test left stopped takes its databases with it.
		if err := s.admin(`DROP DATABASE IF EXISTS "` + name + `" WITH (FORCE)`); err != nil && !s.stopped() {
			t.Errorf("pgtest: drop the database: %v", err)
		}
	})
	return s.url(name)
}

// Tablespace makes a tablespace of that directory, which the server's user must be able to write to, and returns its
// name. It ends with the server.
func (s *Server) Tablespace(t testing.TB, dir string) string {
	t.Helper()
	place := filepath.Join(dir, "tablespace")
	if err := os.Mkdir(place, 0o700); err != nil {
		t.Fatal(err)
	}
	if s.cred != nil {
		if err := os.Chown(place, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	name := "ts_" + strings.ToLower(rand.Text())
	if err := s.admin("CREATE TABLESPACE " + name + " LOCATION '" + place + "'"); err != nil {
		t.Fatalf("pgtest: create a tablespace: %v", err)
	}
	return name
}

// ReadOnly makes every new transaction of the server read-only by default, or not, also on open connections.
func (s *Server) ReadOnly(t testing.TB, yes bool) {
	t.Helper()
	value := "off"
	if yes {
		value = "on"
	}
	conf := filepath.Join(s.data(), "postgresql.auto.conf") // ALTER SYSTEM would be a write that off could not follow
	if err := os.WriteFile(conf, []byte("default_transaction_read_only = '"+value+"'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.admin("SELECT pg_reload_conf()"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for {
		got, err := s.setting("default_transaction_read_only")
		if err != nil {
			t.Fatal(err)
		}
		if got == value {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("pgtest: the server does not take the setting over")
		}
	}
}

// setting is a setting as a new connection finds it.
func (s *Server) setting(name string) (value string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	err = conn.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&value)
	return value, err
}

func (s *Server) create() (name string, err error) {
	name = "tg_" + rand.Text()
	if err := s.admin(`CREATE DATABASE "` + name + `"`); err != nil {
		return "", fmt.Errorf("pgtest: create a database: %w", err)
	}
	return name, nil
}

// LoadSQL executes a file of SQL statements (a plain pg_dump) on a connection of its own, which is then closed: what
// the file sets for the session does not outlive it.
func LoadSQL(t testing.TB, url, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	Exec(t, url, string(text))
}

// Exec executes SQL statements on a connection of its own, as another program would.
func Exec(t testing.TB, url, sql string) {
	t.Helper()
	if err := execSQL(url, sql); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

func execSQL(url, sql string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}
