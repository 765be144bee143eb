package acceptance

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/internal/gatetest"
)

// endedByTheProvider signs one person in twice, in two browsers, and out at the provider in one of them: the gate's
// session of that browser ends, by the provider's doing alone.
func endedByTheProvider(t *testing.T, w *gatetest.World, issuer, login string, answers map[string]string, user string) {
	t.Helper()
	browsers := []*http.Client{client(t, w), client(t, w)}
	for _, c := range browsers {
		if _, body, _ := walk(t, c, login, answers, w.URL); body != "ok\n" {
			t.Fatalf("sign-in: %s", body)
		}
		inAcme(t, c, w, nil, user)
	}
	cookie := cookies(t, browsers[0], w.URL)
	if _, body, _ := walk(t, browsers[0], issuer+"/session/end", map[string]string{"logout": "yes"}, issuer+"/session/end/success"); !strings.Contains(body, "Sign-out") {
		t.Fatalf("sign-out at the provider: %s", body)
	}
	if cookies(t, browsers[0], w.URL) != cookie {
		t.Fatal("the browser's cookie went away: this is not the back channel")
	}
	eventually(t, patience, "the session that the provider ended is refused", func() bool {
		_, body := fetch(t, browsers[0], "GET", w.URL+"/t/acme/x", nil)
		return codeOf(body) == "session_expired"
	})
	inAcme(t, browsers[1], w, nil, user)
}

// keysChange takes a provider through a change of its keys while requests with tokens and sessions run: none fails.
// token redeems a new access token by the algorithm of that name; login signs somebody in.
func keysChange(t *testing.T, w *gatetest.World, step func(*testing.T, string), token func(name string) string, login func(name string) error) {
	t.Helper()
	names := []string{"rs256", "es256", "eddsa"}
	var mu sync.Mutex
	tokens := map[string]string{} // the newest of each algorithm; guarded by mu
	renew := func() {
		for _, name := range names {
			text := token(name)
			mu.Lock()
			tokens[name] = text
			mu.Unlock()
		}
	}
	renew()
	var sent, failed atomic.Int64
	done := make(chan struct{})
	var group sync.WaitGroup
	stop := sync.OnceFunc(func() { close(done); group.Wait() })
	defer stop()
	for _, name := range names {
		c := client(t, w)
		group.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				mu.Lock()
				header := map[string]string{"Authorization": "Bearer " + tokens[name]}
				mu.Unlock()
				res, body, err := do(c, "GET", w.URL+"/t/acme/x", header, nil)
				if sent.Add(1); err != nil || res.StatusCode != http.StatusOK {
					if failed.Add(1) < 10 {
						t.Errorf("by %s: %v %s", name, err, body)
					}
				}
			}
		})
	}
	began := sent.Load()
	for _, name := range []string{"publish", "sign", "drop"} {
		step(t, name)
		if name == "drop" {
			continue // the tokens in use are of the new keys already
		}
		seen := time.Now()
		// Keys are fetched at most once a second; a provider publishes a key before it signs with it.
		eventually(t, patience, "a second has passed", func() bool { return time.Since(seen) > 1100*time.Millisecond })
		renew()
		for _, alg := range names {
			if err := login(alg); err != nil {
				t.Error(err)
			}
		}
	}
	enough := sent.Load() + 100
	eventually(t, patience, "requests after the last step", func() bool { return sent.Load() > enough })
	stop()
	t.Logf("%d requests while the keys changed, %d failed", sent.Load()-began, failed.Load())
	if failed.Load() != 0 {
		t.Error(fmt.Sprint(failed.Load()) + " requests failed")
	}
}
