package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A replica that stood still (SIGSTOP, a paused machine) for longer than max_stale must not take what it remembers for
// current when it goes on: requests that waited for it, sent after the change, see the change.
func TestAReplicaThatStoodStillAnswersNothingOld(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-User-Profile-Id"))
	}))
	defer app.Close()
	dir := t.TempDir()
	const heartbeat, maxStale = 200 * time.Millisecond, 300 * time.Millisecond
	write(t, filepath.Join(dir, "config.yaml"), goodConfig(app.URL, fmt.Sprintf(
		"subscription: {required: false}\ncache: {heartbeat: %s, max_stale: %s}\n", heartbeat, maxStale)))
	c := newCLI(t, "sqlite:"+filepath.Join(dir, "host.db"))
	c.environ = append(c.environ, "TENANTGATE_SECRET_KEY="+masterSecret)
	c.ok("tenant", "create", "--id", "acme", "--db-url", "postgresql://a:b@db/acme")
	c.ok("user", "create", "--id", "u1")
	c.ok("member", "create", "--user", "u1", "--tenant", "acme", "--profile-id", "1")
	token := strings.TrimSpace(c.ok("token", "create", "--user", "u1", "--tenant", "acme"))

	cmd, _, errs := process(t, dir, nil, "serve")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	errs.await(t, 2, `"msg":"listening"`)
	r := &running{t: t, log: errs}
	target := "http://" + r.address("listen", 0) + "/"
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	client := &http.Client{Transport: transport, Timeout: 2 * time.Minute}
	defer client.CloseIdleConnections()
	ask := func() (string, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
		if err != nil {
			return "", err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := client.Do(req)
		if err != nil {
			return "", err
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		return fmt.Sprintf("%d %s", res.StatusCode, body), err
	}
	all := func() []string {
		answers := make([]string, 12)
		var asking sync.WaitGroup
		for i := range answers {
			asking.Go(func() {
				answer, err := ask()
				if err != nil {
					answer = err.Error()
				}
				answers[i] = answer
			})
		}
		asking.Wait()
		return answers
	}
	for profile := 1; profile <= 3; profile++ {
		want := fmt.Sprintf("200 %d", profile)
		for remembered := 0; remembered < 2; remembered++ { // rounds; a read that a busy machine holds up is refused
			for _, answer := range all() {
				if strings.HasPrefix(answer, "503 ") {
					remembered = -1
				} else if answer != want {
					t.Fatalf("%q, want %q: %s", answer, want, errs)
				}
			}
		}
		for try := 0; ; try++ {
			if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			r := c.run("member", "update", "--user", "u1", "--tenant", "acme", "--profile-id", fmt.Sprint(profile+1))
			if r.code == 0 {
				break
			}
			if try == 20 { // it may have been stopped while it was writing: then the file is locked
				t.Fatal(r.err)
			}
			if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			all() // it has gone on
		}
		sent := make(chan []string, 1)
		go func() { sent <- all() }()
		still := time.NewTimer(2 * (heartbeat + maxStale))
		<-still.C
		if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		for _, answer := range <-sent {
			if answer != fmt.Sprintf("200 %d", profile+1) && !strings.HasPrefix(answer, "503 ") {
				t.Errorf("after it had stood still: %q, want %d", answer, profile+1)
			}
		}
	}
}
