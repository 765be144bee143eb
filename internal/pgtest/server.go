package pgtest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Server is one running PostgreSQL server.
type Server struct {
	bin, dir string
	port     int
	password string
	cred     *syscall.Credential // not nil when we are root, which the server refuses to be
	leash    *os.File            // the watchdog's pipe; closing it ends server and directory
	watchdog *exec.Cmd

	mu   sync.Mutex
	proc *exec.Cmd // nil while stopped
}

// watchdogScript waits for the end of the test process (its end of the pipe closes, however it died), then ends the
// server and removes its directory. $1 is that directory.
const watchdogScript = `trap '' INT TERM HUP QUIT
cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
	kill -QUIT "$pid" 2>/dev/null
	n=0
	while kill -0 "$pid" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.05; n=$((n+1)); done
fi
cd / && rm -rf "$1"`

func startServer() (_ *Server, err error) {
	bin, err := findBinaries()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, password: rand.Text()}
	if s.cred, err = serverUser(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "tgpg"); err != nil {
		return nil, err
	}
	if err := s.startWatchdog(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	if err := s.initdb(); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

// findBinaries looks where PATH's pg_config points, then where Debian puts servers, newest first.
func findBinaries() (string, error) {
	var dirs []string
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	debian, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	slices.SortFunc(debian, func(a, b string) int { return debianVersion(b) - debianVersion(a) })
	for _, dir := range append(dirs, debian...) {
		if executable(filepath.Join(dir, "initdb")) && executable(filepath.Join(dir, "postgres")) {
			return dir, nil
		}
	}
	return "", errors.New("pgtest: no PostgreSQL server found (initdb, postgres): install Debian's package postgresql (15 or later)")
}

// Tool returns the path of one of the server's own client programs (psql, pg_dump).
func Tool(t testing.TB, name string) string {
	t.Helper()
	dir, err := findBinaries()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if !executable(path) {
		t.Fatalf("pgtest: %s is missing beside the server: install Debian's package postgresql", name)
	}
	return path
}

func debianVersion(bindir string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(bindir)))
	if err != nil {
		return 0
	}
	return n
}

func executable(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}

// serverUser is nil unless we are root; then it is the user postgres.
func serverUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, errors.New("pgtest: running as root and there is no user postgres: install Debian's package postgresql")
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// command runs in a session of its own, so that a Ctrl-C meant for the tests does not reach it before its time.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=" + s.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: s.cred}
	return cmd
}

func (s *Server) startWatchdog() error {
	if s.cred != nil {
		if err := os.Chown(s.dir, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			return err
		}
	}
	r, w, err := os.Pipe() // both ends close on exec, so no other child keeps the watchdog waiting
	if err != nil {
		return err
	}
	defer r.Close()
	s.watchdog = s.command("/bin/sh", "-c", watchdogScript, "tgpg-watchdog", s.dir)
	s.watchdog.Stdin = r
	if err := s.watchdog.Start(); err != nil {
		return errors.Join(fmt.Errorf("pgtest: start the watchdog: %w", err), w.Close())
	}
	s.leash = w
	return nil
}

func (s *Server) initdb() error {
	pw := filepath.Join(s.dir, "password")
	if err := os.WriteFile(pw, []byte(s.password+"\n"), 0o600); err != nil {
		return err
	}
	if s.cred != nil {
		if err := os.Chown(pw, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			return err
		}
	}
	cmd := s.command(filepath.Join(s.bin, "initdb"), "--pgdata", s.data(), "--no-sync", "--username", "postgres",
		"--pwfile", pw, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8",
		"--locale-provider", "icu", "--icu-locale", "en-US")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pgtest: initdb (PostgreSQL 15 or later with ICU is needed): %w\n%s", err, out)
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) url(database string) string {
	u := url.URL{
		Scheme: "postgresql", User: url.UserPassword("postgres", s.password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// SocketURL is URL's database through the unix socket.
func (s *Server) SocketURL(t testing.TB, tcp string) string {
	t.Helper()
	u, err := url.Parse(tcp)
	if err != nil {
		t.Fatal("pgtest: not a URL of this server")
	}
	u.Host = ""
	u.RawQuery = url.Values{"host": {s.dir}, "port": {strconv.Itoa(s.port)}, "sslmode": {"disable"}}.Encode()
	return u.String()
}

// start picks a port on first use and keeps it; another program may take it in between, so it tries a few.
func (s *Server) start() error {
	fixed := s.port != 0
	for range 5 {
		if !fixed {
			port, err := freePort()
			if err != nil {
				return err
			}
			s.port = port
		}
		log, err := os.CreateTemp(s.dir, "log")
		if err != nil {
			return err
		}
		cmd := s.command(filepath.Join(s.bin, "postgres"), "-D", s.data(), "-p", strconv.Itoa(s.port), "-k", s.dir,
			"-h", "127.0.0.1", "-c", "fsync=off", "-c", "full_page_writes=off",
			"-c", "max_connections=200", "-c", "autovacuum=off", "-c", "shared_buffers=64MB",
			"-c", "unix_socket_permissions=0777", "-c", "max_prepared_transactions=0")
		cmd.Stdout, cmd.Stderr = log, log
		err = cmd.Start()
		if err = errors.Join(err, log.Close()); err != nil {
			return fmt.Errorf("pgtest: start the server: %w", err)
		}
		s.proc = cmd
		err = s.waitReady()
		if err == nil {
			return nil
		}
		out, _ := os.ReadFile(log.Name())
		s.halt()
		if fixed || !strings.Contains(string(out), "could not bind") {
			return fmt.Errorf("%w\n%s", err, out)
		}
	}
	return errors.New("pgtest: no free port on 127.0.0.1 in five tries")
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// waitReady connects until the server answers, has exited, or patience ends.
func (s *Server) waitReady() error {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := execSQL(s.url("postgres"), "SELECT 1")
		if err == nil {
			return nil
		}
		var ws syscall.WaitStatus
		if pid, werr := syscall.Wait4(s.proc.Process.Pid, &ws, syscall.WNOHANG, nil); werr == nil && pid != 0 {
			return errors.New("pgtest: the server exited while starting")
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("pgtest: the server did not answer within %s: %w", patience, err)
		}
		<-tick.C
	}
}

func (s *Server) admin(sql string) error { return execSQL(s.url("postgres"), sql) }

// halt ends the server process at once, as a crash would.
func (s *Server) halt() {
	if s.proc == nil {
		return
	}
	_ = s.proc.Process.Signal(syscall.SIGQUIT) // immediate shutdown; it may have exited already
	_ = s.proc.Wait()                          // its exit status says only how we ended it
	s.proc = nil
}

// Stop ends the server at once, as a crash would; clients see their connections break, new ones are refused.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halt()
}

// Start starts a stopped server again, with the same port and data. It returns once the server answers.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		t.Fatal("pgtest: the server runs already")
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// Standby restarts the server as a replica that follows nobody: it is in recovery and answers reads alone.
func (s *Server) Standby(t testing.TB) {
	t.Helper()
	s.restart(t, func(signal string) error { return os.WriteFile(signal, nil, 0o644) })
}

// Promote restarts it as a primary again.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	s.restart(t, os.Remove)
}

func (s *Server) restart(t testing.TB, before func(signalFile string) error) {
	t.Helper()
	s.Stop(t)
	if err := before(filepath.Join(s.data(), "standby.signal")); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
}

func (s *Server) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc == nil
}

// TerminateBackends ends every client's connection and returns once they are gone.
func (s *Server) TerminateBackends(t testing.TB) {
	t.Helper()
	err := s.admin(`SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
		WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`)
	if err != nil {
		t.Fatalf("pgtest: terminate backends: %v", err)
	}
}

// remove ends server, watchdog and directory. Calling it again does nothing.
func (s *Server) remove() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halt()
	if s.leash == nil {
		return nil
	}
	err := s.leash.Close()
	s.leash = nil
	return errors.Join(err, s.watchdog.Wait())
}
