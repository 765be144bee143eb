package acceptance

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/tenantgate/tenantgate/assertion"
	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/seal"
)

// movable is a clock that a test can put forward. Requests hold it still: read-locked while one is under way.
type movable struct {
	sync.RWMutex
	ahead atomic.Int64
}

func (m *movable) now() time.Time { return time.Now().Add(time.Duration(m.ahead.Load())) }

func (m *movable) forward(d time.Duration) {
	m.Lock()
	defer m.Unlock()
	m.ahead.Add(int64(d))
}

// The assertion's key is renewed on two replicas that run: each finds it by itself, and an app that verifies every
// assertion, with keys from either replica, refuses no request.
func TestAssertionKeyIsRenewedWhileRequestsRun(t *testing.T) {
	t.Parallel()
	clock := &movable{}
	dsn := pgtest.New(t)
	seed(t, dsn)
	var verifier atomic.Pointer[assertion.Verifier]
	var kids sync.Map
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, err := verifier.Load().FromRequest(r)
		if err != nil || claims.Tenant != "acme" || !claims.MatchesDBURI(r.Header.Get("X-Tenant-Db-Uri")) {
			http.Error(w, "not through the gate", http.StatusTeapot)
			t.Errorf("the app refuses an assertion: %v", err)
			return
		}
		kids.Store(kidOf(t, r.Header.Get(assertion.Header)), true)
	})
	l, err := gatetest.NewListener()
	if err != nil {
		t.Fatal(err)
	}
	provider, err := gatetest.StartProvider(people, gatetest.PublicURL(l))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := provider.Close(); err != nil {
			t.Error(err)
		}
	})
	first := gatetest.New(t, gatetest.Options{HostURL: dsn, App: app, Provider: provider, Listener: l, Clock: clock.now})
	second := gatetest.New(t, gatetest.Options{HostURL: dsn, App: app, Provider: provider, Clock: clock.now, Configure: func(cfg *config.Config) {
		cfg.PublicURL = first.URL
	}})
	replicas := []*gatetest.World{first, second}
	var turn atomic.Int64
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		replicas[turn.Add(1)%2].Gate.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(keys.Close)
	v, err := assertion.New(assertion.Config{JWKSURL: keys.URL + "/_gate/jwks.json", Issuer: first.URL, Audience: "app", Clock: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	verifier.Store(v)
	token, err := provider.MintAccessToken("ada", gatetest.Audience, 4*time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var group sync.WaitGroup
	var sent, failed atomic.Int64
	stop := sync.OnceFunc(func() { close(done); group.Wait() })
	defer stop()
	for _, w := range replicas {
		c := client(t, w)
		group.Go(func() {
			pause := time.NewTicker(20 * time.Millisecond) // leave the machine to other tests
			defer pause.Stop()
			for {
				select {
				case <-done:
					return
				case <-pause.C:
				}
				clock.RLock()
				res, body, err := do(c, "GET", "http://"+w.Addr+"/t/acme/x", map[string]string{"Authorization": "Bearer " + token, "Host": "app.test"}, nil)
				clock.RUnlock()
				if sent.Add(1); err != nil || res.StatusCode != http.StatusOK {
					if failed.Add(1) < 10 {
						t.Errorf("%v %s", err, body)
					}
				}
			}
		})
	}
	published := func(n int) func() bool {
		return func() bool {
			for _, w := range replicas {
				_, body := fetch(t, client(t, w), "GET", "http://"+w.Addr+"/_gate/jwks.json", nil)
				var set struct{ Keys []struct{ Kid string } }
				if json.Unmarshal([]byte(body), &set) != nil || len(set.Keys) != n {
					return false
				}
			}
			return true
		}
	}
	secrets, err := seal.ParseKeyset(first.Config.SecretKey)
	if err != nil {
		t.Fatal(err)
	}
	clock.forward(time.Minute)
	renewed, err := auth.RenewAssertionKey(t.Context(), first.Gate.Host(), secrets, clock.now(), false)
	if err != nil || !renewed.Created {
		t.Fatalf("%+v %v", renewed, err)
	}
	eventually(t, patience, "both replicas publish the new key", published(2))
	if _, signs := kids.Load(renewed.ID); signs {
		t.Error("signed with the new key before apps could know it")
	}
	clock.forward(16 * time.Minute)
	eventually(t, patience, "assertions are signed with the new key", func() bool { _, signs := kids.Load(renewed.ID); return signs })
	clock.forward(75 * time.Minute)
	eventually(t, patience, "the old key is gone", published(1))
	enough := sent.Load() + 50
	eventually(t, patience, "requests afterwards", func() bool { return sent.Load() > enough })
	stop()
	t.Logf("%d requests while the key was renewed, %d failed", sent.Load(), failed.Load())
}

// kidOf reads the header of a token that was verified.
func kidOf(t *testing.T, token string) string {
	t.Helper()
	parsed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Error(err)
		return ""
	}
	return parsed.Signatures[0].Header.KeyID
}
