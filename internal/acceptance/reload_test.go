package acceptance

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/internal/secret"
	"github.com/tenantgate/tenantgate/router"
)

// altered is a copy of the configuration that the gate was opened with, changed.
func altered(w *gatetest.World, change func(*config.Config)) *config.Config {
	c := *w.Config
	c.Upstreams = map[string]router.UpstreamConfig{}
	for k, v := range w.Config.Upstreams {
		c.Upstreams[k] = v
	}
	change(&c)
	return &c
}

func TestReloadPutsNewRoutesInForceWithoutFailingARequest(t *testing.T) {
	t.Parallel()
	dsn := sqliteURL(t)
	seed(t, dsn)
	held, release := make(chan struct{}), make(chan struct{})
	w := gatetest.New(t, gatetest.Options{HostURL: dsn, People: people, App: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			rw.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(rw).Flush()
			held <- struct{}{}
			<-release
			_, _ = rw.Write([]byte("held to its end"))
			return
		}
		echo(rw, r)
	})})
	c, dan := client(t, w), bearer(t, w, "dan")
	browser := signedIn(t, w, "ada")
	for _, b := range []*http.Client{c, browser} {
		b.Transport = b.Transport.(again).Transport // a request that fails has failed
	}

	// One request is under way from before the first reload until after the last.
	holding := make(chan error, 1)
	go func() {
		res, body, err := do(c, "GET", w.URL+"/hold", dan, nil)
		if err == nil && (res.StatusCode != 200 || body != "held to its end") {
			err = fmt.Errorf("%s %q", res.Status, body)
		}
		holding <- err
	}()
	await(t, held, "the request that is held")

	var stop atomic.Bool
	var group sync.WaitGroup
	var served atomic.Int64
	faults := make(chan error, 64)
	for i := range 4 {
		group.Go(func() {
			for !stop.Load() {
				who, browse := dan, c
				if i == 0 {
					who, browse = map[string]string{"X-Tenant": "acme"}, browser
				}
				res, body, err := do(browse, "GET", w.URL+"/x", who, nil)
				if err == nil && res.StatusCode != 200 {
					err = fmt.Errorf("%s %s", res.Status, body)
				}
				if err != nil {
					select {
					case faults <- err:
					default:
					}
				}
				served.Add(1)
			}
		})
	}
	for n := range 30 {
		code, min := "", int64(0)
		if n%2 == 0 {
			code, min = "tier_required", 99
		}
		err := w.Gate.Reload(t.Context(), altered(w, func(cfg *config.Config) {
			cfg.Routes = []router.RouteConfig{{Path: "/gold/", Upstream: "app", MinTier: &min}, {Path: "/", Upstream: "app"}}
		}))
		if err != nil {
			t.Fatal(err)
		}
		if res, body := fetch(t, c, "GET", w.URL+"/gold/", dan); codeOf(body) != code {
			t.Errorf("after reload %d: %s %s, want %q", n, res.Status, body, code)
		}
		// Each generation begins with nothing remembered, so that some requests are still being judged when it is replaced.
		before := served.Load()
		eventually(t, patience, "requests go on", func() bool { return served.Load() > before })
	}
	stop.Store(true)
	group.Wait()
	close(release)
	if err := await(t, holding, "the request that was held"); err != nil {
		t.Errorf("the request that was under way during the reloads: %v", err)
	}
	close(faults)
	for err := range faults {
		t.Error(err)
	}
}

func TestReloadWithAFaultLeavesTheOldConfigurationInForce(t *testing.T) {
	t.Parallel()
	dsn := sqliteURL(t)
	seed(t, dsn)
	w := gatetest.New(t, gatetest.Options{HostURL: dsn, App: echo, People: people})
	c, dan := client(t, w), bearer(t, w, "dan")
	for name, broken := range map[string]struct {
		change func(*config.Config)
		says   string
	}{
		"upstream that is not there": {func(cfg *config.Config) { cfg.Routes = []router.RouteConfig{{Path: "/", Upstream: "nowhere"}} }, "routes[0].upstream"},
		"role that is not one": {func(cfg *config.Config) {
			cfg.Routes = []router.RouteConfig{{Path: "/", Upstream: "app", MinRole: "king"}}
		}, "routes[0].min_role"},
		"path that is ambiguous": {func(cfg *config.Config) { cfg.Routes = []router.RouteConfig{{Path: "/a/../b", Upstream: "app"}} }, "routes[0].path"},
		"public_url":             {func(cfg *config.Config) { cfg.PublicURL = "http://app.example.com" }, "public_url"},
		"certificate that cannot be read": {func(cfg *config.Config) {
			cfg.Upstreams["app"] = router.UpstreamConfig{URLs: []string{"https://127.0.0.1:1"}, CAFile: "/nonexistent/ca.pem"}
		}, "ca_file"},
		"missing secret": {func(cfg *config.Config) { cfg.SecretKey, cfg.SecretKeyFile = secret.New(""), "" }, "secret_key"},
	} {
		err := w.Gate.Reload(t.Context(), altered(w, broken.change))
		if err == nil || !strings.Contains(err.Error(), broken.says) {
			t.Errorf("%s: %v; want an error that names %s", name, err, broken.says)
		}
		res, body := fetch(t, c, "GET", w.URL+"/x", dan)
		var app echoed
		if res.StatusCode != 200 || json.Unmarshal([]byte(body), &app) != nil || app.Header.Get("X-Tenant-Id") != "acme" {
			t.Errorf("%s: the old configuration answers %s %s", name, res.Status, body)
		}
	}
}

func TestReloadRefusesByNameWhatOnlyARestartCanChange(t *testing.T) {
	t.Parallel()
	dsn := sqliteURL(t)
	seed(t, dsn)
	w := gatetest.New(t, gatetest.Options{HostURL: dsn, App: echo, People: people})
	for key, change := range map[string]func(*config.Config){
		"host_database":              func(cfg *config.Config) { cfg.HostDatabase.URL = catalog.NewDBURI("sqlite:/elsewhere.db") },
		"telemetry":                  func(cfg *config.Config) { cfg.Telemetry.Log.Level = "debug" },
		"admin":                      func(cfg *config.Config) { cfg.Admin.Listen = "127.0.0.1:1" },
		"limits.header_bytes":        func(cfg *config.Config) { cfg.Limits.HeaderBytes = 1 << 20 },
		"limits.read_header_timeout": func(cfg *config.Config) { cfg.Limits.ReadHeaderTimeout = time.Minute },
		"limits.idle_timeout":        func(cfg *config.Config) { cfg.Limits.IdleTimeout = time.Hour },
		"cache.heartbeat":            func(cfg *config.Config) { cfg.Cache.Heartbeat = 2 * time.Second },
		"cache.max_stale":            func(cfg *config.Config) { cfg.Cache.MaxStale = new(time.Duration(0)) },
		"listen":                     func(cfg *config.Config) { cfg.Listen = append(cfg.Listen[:0:0], "127.0.0.1:1") },
	} {
		err := w.Gate.Reload(t.Context(), altered(w, change))
		if err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "restart") {
			t.Errorf("%s: %v", key, err)
		}
	}
	both := w.Gate.Reload(t.Context(), altered(w, func(cfg *config.Config) {
		cfg.Telemetry.Log.Level, cfg.Admin.Listen = "debug", "127.0.0.1:1"
	}))
	var joined interface{ Unwrap() []error }
	if !errors.As(both, &joined) || len(joined.Unwrap()) != 2 {
		t.Errorf("two keys at once: %v", both)
	}
	if err := w.Gate.Reload(t.Context(), altered(w, func(*config.Config) {})); err != nil {
		t.Errorf("the same configuration again: %v", err)
	}
}

// The host database holds a request back while it is being judged; the configuration that judges it is replaced.
func TestReloadLeavesARequestThatIsBeingJudgedToTheOldConfiguration(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	seed(t, dsn)
	w := gatetest.New(t, gatetest.Options{HostURL: dsn, App: echo, People: people})
	db := openSQL(t, dsn)
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	c := w.Client() // which asks once
	defer c.CloseIdleConnections()
	ada := bearer(t, w, "ada")
	if res, body := fetch(t, client(t, w), "GET", w.URL+"/t/acme/", ada); res.StatusCode != 200 {
		t.Fatalf("%s %s", res.Status, body)
	}
	for attempt, began := 0, time.Now(); time.Since(began) < patience; attempt++ {
		tenant := []string{"globex", "acme"}[attempt%2]
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), `LOCK TABLE core_memberships IN ACCESS EXCLUSIVE MODE`); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		answers := make(chan string, 1)
		go func() {
			res, body, err := do(c, "GET", w.URL+"/t/"+tenant+"/", ada, nil)
			if err != nil {
				answers <- err.Error()
				return
			}
			answers <- res.Status + " " + codeOf(body)
		}()
		eventually(t, patience, "the request waits for the host database", func() bool {
			var waiting int
			err := tx.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'core_memberships'::regclass`).Scan(&waiting)
			return err == nil && waiting > 0 || time.Since(began) > time.Second
		})
		reloaded := w.Gate.Reload(t.Context(), altered(w, func(*config.Config) {}))
		if err := errors.Join(reloaded, tx.Rollback()); err != nil {
			t.Fatal(err)
		}
		held := time.Since(began)
		switch got := await(t, answers, "the request"); {
		case got == "200 OK ":
			return
		case held < 700*time.Millisecond:
			t.Fatalf("held for %s: %s", held, got)
		}
		// The machine was so busy that the read's second had passed: another attempt.
	}
	t.Fatal("the machine is too busy to hold a request back for less than a second")
}
