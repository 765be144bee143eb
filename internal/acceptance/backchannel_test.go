package acceptance

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zitadel/oidc/v3/example/server/storage"
	zitadel "github.com/zitadel/oidc/v3/pkg/crypto"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

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

// rotating is zitadel's example storage with a second key, and steps from the first to it.
type rotating struct {
	*storage.Storage
	spare *storage.Storage

	mu    sync.Mutex
	stage int // 0: the first; 1: both published; 2: the second signs; 3: the second alone
}

func newRotating(issuer string, first *storage.Storage) *rotating {
	return &rotating{Storage: first, spare: storage.NewStorageWithClients(storage.NewUserStore(issuer), nil)}
}

func (r *rotating) step(t *testing.T, name string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stage = map[string]int{"publish": 1, "sign": 2, "drop": 3}[name]
}

func (r *rotating) at() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stage
}

// SigningKey implements op.AuthStorage.
func (r *rotating) SigningKey(ctx context.Context) (op.SigningKey, error) {
	if r.at() >= 2 {
		return r.spare.SigningKey(ctx)
	}
	return r.Storage.SigningKey(ctx)
}

// KeySet implements op.AuthStorage.
func (r *rotating) KeySet(ctx context.Context) ([]op.Key, error) {
	var all []op.Key
	if r.at() < 3 {
		keys, err := r.Storage.KeySet(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
	}
	if r.at() > 0 {
		keys, err := r.spare.KeySet(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
	}
	return all, nil
}

// logoutToken is the library's, for all sessions of a subject.
func (r *rotating) logoutToken(t *testing.T, issuer, subject, audience string) string {
	t.Helper()
	key, err := r.SigningKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := op.SignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	claims := oidc.NewLogoutTokenClaims(issuer, subject, oidc.Audience{audience}, time.Now().Add(2*time.Minute), rand.Text(), "", 0)
	token, err := zitadel.Sign(claims, signer)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// keysChange takes a provider through a change of its keys while requests with tokens and sessions run: none fails.
// token redeems a new access token by the algorithm of that name; login signs somebody in.
func keysChange(t *testing.T, w *gatetest.World, step func(*testing.T, string), token func(name string) string, login func(name string) error, names ...string) {
	t.Helper()
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
