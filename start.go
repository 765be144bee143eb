package tenantgate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/router"
)

// Time between two tries to reach a host database that was not there at the start. It doubles.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// waiting is a Gate's time until its host database is there for the first time.
type waiting struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing tries any more
	failed chan error    // what no try can mend

	mu  sync.Mutex
	why error // of the last try
}

func (w *waiting) reason() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.why
}

func (w *waiting) set(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.why = err
}

// stop ends the tries and waits for the one under way.
func (w *waiting) stop() {
	if w.cancel != nil {
		w.cancel()
		<-w.done
	}
}

// await tries again and again, in the background, to do what open could not.
func (g *Gate) await(db catalog.Config, why error) {
	var ctx context.Context
	ctx, g.waiting.cancel = context.WithCancel(context.Background())
	g.waiting.done = make(chan struct{})
	g.waiting.set(why)
	g.telemetry.Logger.Warn("the host database cannot be reached: every request is answered with 503 until it can", "error", why)
	go func() {
		defer close(g.waiting.done)
		for retry := firstRetry; ; retry = min(2*retry, lastRetry) {
			timer := time.NewTimer(retry)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
			err := g.connect(ctx, db)
			switch {
			case err == nil:
				g.telemetry.Logger.Info("the host database is there: requests are judged")
				return
			case ctx.Err() != nil:
				return
			case !errors.Is(err, catalog.ErrUnavailable):
				g.waiting.set(err)
				g.telemetry.Logger.Error("the start has failed", "error", err)
				g.waiting.failed <- err
				return
			case err.Error() != g.waiting.reason().Error():
				g.waiting.set(err)
				g.telemetry.Logger.Warn("the host database cannot be reached", "error", err)
			}
		}
	}()
}

// connect opens the host database and puts the configuration in force, or leaves everything as it was.
func (g *Gate) connect(ctx context.Context, db catalog.Config) (err error) {
	host, err := catalog.New(ctx, db)
	if err != nil {
		return fmt.Errorf("opening the host database: %w", err)
	}
	g.reload.Lock()
	defer g.reload.Unlock()
	g.host = host
	defer func() {
		if err != nil {
			g.freshness.stop()
			g.stopChain()
			g.host = nil
			err = errors.Join(err, host.Close())
		}
	}()
	if err := g.freshness.start(host, heartbeat(g.wanted), g.clock); err != nil {
		return fmt.Errorf("watching the host database: %w", err)
	}
	if err := g.freshness.first(ctx); err != nil {
		return err
	}
	next, err := g.compile(ctx, g.wanted)
	if err != nil {
		return err
	}
	if err := g.startChain(ctx); err != nil {
		return errors.Join(err, next.shut())
	}
	g.current.Store(next)
	g.denials.Start(host)
	return g.startJobs()
}

// Waiting says why no request is judged yet: the host database has not been reached since Open. Nil once it has.
func (g *Gate) Waiting() error {
	if g.current.Load() != nil {
		return nil
	}
	if why := g.waiting.reason(); why != nil {
		return why
	}
	return catalog.ErrUnavailable
}

// Failed tells, once, why a Gate that waited for its host database will never judge a request: what it found there, a
// schema or keys that do not fit, needs somebody to do something. Open would have failed with it.
func (g *Gate) Failed() <-chan error { return g.waiting.failed }

// serving serves with the configuration in force, or says that there is none yet. clear takes the listener's session
// cookie away: a sign-out does that in any case.
func (g *Gate) serving(clear func(http.ResponseWriter, *http.Request), serve func(n *generation, w http.ResponseWriter, r *http.Request)) http.Handler {
	crossSite := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.current.Load() == nil {
			if r.Method == http.MethodPost && r.URL.Path == "/_gate/logout" && crossSite.Check(r) == nil {
				clear(w, r)
			}
			g.deniedAt(r, string(router.HostDatabaseUnavailable), "")
			router.Refuse(w, r, string(router.HostDatabaseUnavailable), nil)
			return
		}
		n := g.acquire()
		defer n.release()
		serve(n, w, r)
	})
}

// clearSession is the public listener's.
func (g *Gate) clearSession(w http.ResponseWriter, r *http.Request) {
	auth.ClearSession(w, r.Host, strings.HasPrefix(strings.ToLower(g.opened.PublicURL), "https:"))
}
