package acceptance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/sealing"
)

// What an operator does to seal everything and to change the master secret, in the order of docs/secrets.md, while
// requests run: none fails, each gets its tenant's URI, sessions stay, and the assertion's key is the same.
func TestSealingAndRotationFailNoRequest(t *testing.T) {
	t.Run("postgresql", func(t *testing.T) {
		t.Parallel()
		rotation(t, pgtest.New(t))
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		rotation(t, sqliteURL(t))
	})
}

// asking sends requests until it is stopped, and keeps what went wrong.
type asking struct {
	w      *gatetest.World
	stop   atomic.Bool
	served atomic.Int64
	group  sync.WaitGroup
	faults chan error
}

func (a *asking) start(c *http.Client, header map[string]string, tenant string) {
	want := "postgresql://" + tenant + ":pw-of-" + tenant + "@db.internal/" + tenant
	a.group.Go(func() {
		for !a.stop.Load() {
			res, body, err := do(c, "GET", a.w.URL+"/t/"+tenant+"/x", header, nil)
			var got echoed
			switch {
			case err != nil:
			case res.StatusCode != 200:
				err = fmt.Errorf("%s %s", res.Status, body)
			case json.Unmarshal([]byte(body), &got) != nil || got.Header.Get("X-Tenant-Db-Uri") != want:
				err = fmt.Errorf("%s: the app received %q", tenant, got.Header.Get("X-Tenant-Db-Uri"))
			}
			if err != nil {
				select {
				case a.faults <- err:
				default:
				}
			}
			a.served.Add(1)
		}
	})
}

// goesOn waits until some more requests were answered.
func (a *asking) goesOn(t *testing.T) {
	t.Helper()
	before := a.served.Load()
	eventually(t, patience, "requests go on", func() bool { return a.served.Load() >= before+20 })
}

func rotation(t *testing.T, dsn string) {
	seed(t, dsn)
	one, two := gatetest.MasterSecret, seal.GenerateSecret().Reveal()
	w := gatetest.New(t, gatetest.Options{HostURL: dsn, App: echo, People: people})
	c, dan := client(t, w), bearer(t, w, "dan")
	browser := signedIn(t, w, "ada")
	_, keysBefore := fetch(t, c, "GET", w.URL+"/_gate/jwks.json", nil)
	ask := &asking{w: w, faults: make(chan error, 64)}
	ask.start(c, dan, "acme")
	ask.start(browser, nil, "acme")
	ask.start(browser, nil, "globex")
	reload := func(lines string) {
		t.Helper()
		err := w.Gate.Reload(t.Context(), altered(w, func(cfg *config.Config) { cfg.SecretKey = secret.New(lines) }))
		if err != nil {
			t.Fatal(err)
		}
		ask.goesOn(t)
	}
	host, err := catalog.Open(t.Context(), dsn) // another process, as the command line is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	ask.goesOn(t)
	done, err := sealing.Encrypt(t.Context(), host, worldKeys(t), "", nil)
	if err != nil || done.Sealed != 6 || done.Failures.Count != 0 {
		t.Errorf("encrypt: %+v, %v", done, err)
	}
	ask.goesOn(t)
	reload(one + "\n" + two)
	reload(two + "\n" + one)
	both, err := seal.ParseKeyset(secret.New(two + "\n" + one))
	if err != nil {
		t.Fatal(err)
	}
	columns := append(auth.SealedColumns(), sealing.TenantURLs())
	rotated, failures, err := sealing.Rotate(t.Context(), host, both, columns, nil)
	if err != nil || failures.Count != 0 {
		t.Errorf("rotate: %+v, %v", failures, err)
	}
	for _, column := range rotated {
		if column.Resealed == 0 {
			t.Errorf("nothing of %s was sealed anew: the test shows less than it says", column.Column)
		}
	}
	ask.goesOn(t)
	reload(two)
	ask.stop.Store(true)
	ask.group.Wait()
	close(ask.faults)
	for err := range ask.faults {
		t.Error(err)
	}
	if _, keysAfter := fetch(t, c, "GET", w.URL+"/_gate/jwks.json", nil); keysAfter != keysBefore {
		t.Errorf("the assertion's keys became %s", keysAfter)
	}
	if who := askWhoami(t, browser, w, nil); who.User.Email != "ada@example.com" {
		t.Errorf("the session ended: %+v", who)
	}
	after, err := seal.ParseKeyset(secret.New(two))
	if err != nil {
		t.Fatal(err)
	}
	opensAll(t, host, after, columns)
}

// opensAll checks that everything sealed opens under the keys alone.
func opensAll(t *testing.T, host *catalog.HostDatabase, keys seal.Keyset, columns []sealing.Column) {
	t.Helper()
	_, failures, err := sealing.Rotate(t.Context(), host, keys, columns, nil)
	if err != nil || failures.Count != 0 {
		t.Errorf("under the new line alone: %+v, %v", failures, err)
	}
}
