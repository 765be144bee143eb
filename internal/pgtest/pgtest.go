// Package pgtest starts a real PostgreSQL server for tests, from the machine's own binaries, in a temporary directory.
//
// One server serves a test process; every test gets a fresh database. Safe for parallel tests. Failure mode: a missing
// binary or a server that does not come up fails the test with what to install; nothing is ever skipped.
package pgtest

import (
	"os"
	"testing"
)

// Main runs a package's tests and then stops the shared server and removes its files: func TestMain(m *testing.M) { pgtest.Main(m) }.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main without the exit, for a TestMain that has more to do. It returns the exit code.
func Run(m *testing.M) int { return m.Run() }

// New returns the URL of a fresh, empty database on the shared server, dropped at the test's end.
func New(t testing.TB) string {
	t.Helper()
	t.Fatal("the server cannot be started yet")
	return ""
}

// LoadSQL executes a file of SQL statements (a plain pg_dump) on a connection of its own.
func LoadSQL(t testing.TB, url, file string) {
	t.Helper()
	t.Fatal("the server cannot be started yet")
}

// Server is a server of a test's own, for faults.
type Server struct{}

// NewServer starts one that ends with the test.
func NewServer(t testing.TB) *Server {
	t.Helper()
	t.Fatal("the server cannot be started yet")
	return nil
}

// URL creates a fresh database and returns its URL.
func (s *Server) URL(t testing.TB) string { t.Helper(); return "" }

// Stop ends the server at once; Start starts it again on the same port with the same data.
func (s *Server) Stop(t testing.TB) { t.Helper() }

// Start starts a stopped server again.
func (s *Server) Start(t testing.TB) { t.Helper() }

// TerminateBackends ends all client connections to the server's databases.
func (s *Server) TerminateBackends(t testing.TB) { t.Helper() }
