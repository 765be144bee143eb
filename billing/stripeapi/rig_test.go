package stripeapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/internal/stripefake"
)

const testKey = "sk_test_canary51Fake7f3a"

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// rig is a fake account and a client of it, whose pauses are noted and not waited for.
type rig struct {
	*stripefake.Server
	*Client
	url    string
	mu     sync.Mutex
	pauses []time.Duration
}

func newRig(t *testing.T, edit ...func(*Config)) *rig {
	t.Helper()
	var h http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	fake, err := stripefake.New(stripefake.Config{
		Origin: server.URL, Clock: func() time.Time { return begin },
		Keys: []stripefake.Key{{Secret: secret.New(testKey)}, {Secret: secret.New("sk_live_fake"), Live: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	h = fake
	r := &rig{Server: fake, url: server.URL}
	cfg := Config{Key: secret.New(testKey), URL: server.URL, Sleep: func(ctx context.Context, d time.Duration) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.pauses = append(r.pauses, d)
		return ctx.Err()
	}}
	for _, e := range edit {
		e(&cfg)
	}
	if r.Client, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Client.Close)
	return r
}

// faults befall the requests that follow, one each.
func (r *rig) faults(list ...*stripefake.Fault) {
	var mu sync.Mutex
	r.SetFaults(func(*http.Request) *stripefake.Fault {
		mu.Lock()
		defer mu.Unlock()
		if len(list) == 0 {
			return nil
		}
		f := list[0]
		list = list[1:]
		return f
	})
}
