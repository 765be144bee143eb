package acceptance

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/faultwire"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// history is when each version of a row was replaced: the checker's own knowledge, from a connection of its own.
type history struct {
	mu       sync.Mutex
	replaced []time.Time // replaced[v]: the commit of v+1 had returned by then
	faulty   []interval
}

type interval struct{ from, to time.Time } // to zero: still

func (h *history) committed(v int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.replaced) < v {
		h.replaced = append(h.replaced, time.Now())
	}
}

func (h *history) fault() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faulty = append(h.faulty, interval{from: time.Now()})
}

// healed ends a fault: a decision that began in it may still end in it.
func (h *history) healed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faulty[len(h.faulty)-1].to = time.Now().Add(2 * time.Second)
}

// judge says what is wrong with an answer of version v to a request that was sent at asked and answered at got.
func (h *history) judge(v int, asked, got time.Time, heartbeat, maxStale time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v >= len(h.replaced) {
		return nil
	}
	bound := heartbeat
	for _, f := range h.faulty {
		if got.After(f.from) && (f.to.IsZero() || asked.Before(f.to)) {
			bound = heartbeat + maxStale
		}
	}
	if age := asked.Sub(h.replaced[v]); age >= bound {
		return fmt.Errorf("a request was answered with what had been replaced %v before it was sent; %v is allowed", age, bound)
	}
	return nil
}

// Between a replica and its database everything that a network and an operator can do happens, one after the other,
// while rows change behind it. No answer is older than the contract allows, whatever this machine is busy with: ages are
// counted from the commit's return to the request's beginning.
func TestFaultsBetweenAReplicaAndItsDatabase(t *testing.T) {
	t.Parallel()
	const heartbeat = 400 * time.Millisecond
	t.Run("memory answers meanwhile", func(t *testing.T) {
		t.Parallel()
		// So long a max_stale that no pause of this machine outlasts it: a frozen database costs each answer a second.
		f := newFaultRun(t, heartbeat, 30*time.Second)
		f.faults(false, []fault{
			{"listener's and all other backends terminated", func() { f.pg.TerminateBackends(t) }, func() {}},
			{"cut", f.wire.Cut, f.wire.Heal},
			{"frozen", f.wire.Freeze, f.wire.Heal},
		})
	})
	t.Run("for more than max_stale", func(t *testing.T) {
		t.Parallel()
		f := newFaultRun(t, heartbeat, 2*time.Second)
		f.faults(true, []fault{
			{"cut", f.wire.Cut, f.wire.Heal},
			{"frozen", f.wire.Freeze, f.wire.Heal},
			{"server stopped and started", func() { f.stopWriting(); f.pg.Stop(t) }, func() { f.pg.Start(t); f.stopWriting = f.write() }},
		})
	})
}

const looksDone = `tenantgate_freshness_looks_total{result="ok"}`

type fault struct {
	name        string
	begin, heal func()
}

// faults lets one after the other happen: long ones until requests are refused, others until memory has answered.
func (f *faultRun) faults(long bool, faults []fault) {
	t := f.t
	f.stopWriting = f.write()
	defer func() { f.stopWriting() }()
	stopAsking := f.ask(4)
	defer stopAsking()

	f.more("answers", &f.good)
	for _, fault := range faults {
		if !long { // what changes is not remembered: memory has something to answer with while nothing does
			f.stopWriting()
			looks := f.metric(looksDone)
			eventually(t, 2*patience, "looks at the change log before: "+fault.name, func() bool {
				return f.metric(looksDone) >= looks+2 // the second began after the last change
			})
			f.more("answers before: "+fault.name, &f.good)
		}
		f.h.fault()
		fault.begin()
		if long {
			f.more("refusals: "+fault.name, &f.refused)
		} else {
			f.more("answers: "+fault.name, &f.good)
			f.stopWriting = f.write()
		}
		fault.heal()
		f.h.healed()
		f.more("answers after: "+fault.name, &f.good)
		eventually(t, 2*patience, "memory is current after: "+fault.name, func() bool {
			return f.metric("tenantgate_freshness_current") == 1
		})
	}
	for _, name := range []string{"tenantgate_freshness_lag_seconds", "tenantgate_freshness_reads_through_total", "tenantgate_freshness_stale_answers_total"} {
		f.metric(name)
	}
}

// echoProfile answers with the version that the request came with.
var echoProfile = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, r.Header.Get("X-User-Profile-Id"))
})

// faultRun asks and writes without pause.
type faultRun struct {
	t                   *testing.T
	pg                  *pgtest.Server
	direct              string // leads to the database past the wire
	wire                *faultwire.Wire
	w                   *gatetest.World
	h                   *history
	heartbeat, maxStale time.Duration
	token               map[string]string
	good, refused       atomic.Int64
	wrong               atomic.Int64 // answers that were too old
	stopWriting         func()
	version             int
}

func newFaultRun(t *testing.T, heartbeat, maxStale time.Duration) *faultRun {
	pg := pgtest.NewServer(t)
	direct := pg.URL(t)
	seed(t, direct)
	wire, dsn := faultwire.URL(t, direct)
	w := gatetest.New(t, gatetest.Options{HostURL: dsn, App: echoProfile, People: people, Configure: func(cfg *config.Config) {
		cfg.Cache.Heartbeat, cfg.Cache.MaxStale = heartbeat, new(maxStale)
		cfg.Telemetry.Metrics = "prometheus"
	}})
	return &faultRun{
		t: t, pg: pg, direct: direct, wire: wire, w: w, h: &history{},
		heartbeat: heartbeat, maxStale: maxStale, token: bearer(t, w, "bob"),
	}
}

// metric is the value of a series without a time; one that is not there ends the test.
func (f *faultRun) metric(series string) float64 {
	f.t.Helper()
	answer := httptest.NewRecorder()
	f.w.Gate.AdminHandler().ServeHTTP(answer, httptest.NewRequestWithContext(f.t.Context(), "GET", "http://localhost/metrics", nil))
	for line := range strings.Lines(answer.Body.String()) {
		value, found := strings.CutPrefix(strings.TrimSpace(line), series+" ")
		if !found {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			f.t.Fatalf("%s: %v", line, err)
		}
		return v
	}
	f.t.Fatalf("no %s in the metrics", series)
	return 0
}

// more waits until a few more have been counted than there are.
func (f *faultRun) more(what string, count *atomic.Int64) {
	f.t.Helper()
	n := count.Load()
	eventually(f.t, 2*patience, "more "+what, func() bool { return count.Load() > n+8 })
}

// write replaces the row again and again, over a connection of its own.
func (f *faultRun) write() (stop func()) {
	db := openSQL(f.t, f.direct)
	ctx, cancel := context.WithCancel(context.Background())
	var writing sync.WaitGroup
	writing.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			next := f.version + 1
			if _, err := db.ExecContext(context.Background(), `UPDATE core_memberships SET profile_id = $1 WHERE user_id = 'id-bob'`, strconv.Itoa(next)); err == nil {
				f.version = next
				f.h.committed(next)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	return sync.OnceFunc(func() {
		cancel()
		writing.Wait()
		if err := db.Close(); err != nil {
			f.t.Error(err)
		}
	})
}

// ask sends requests from n clients and judges every answer.
func (f *faultRun) ask(n int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var asking sync.WaitGroup
	for range n {
		c := &http.Client{Transport: f.w.Transport(), Timeout: patience}
		asking.Go(func() {
			defer c.CloseIdleConnections()
			for ctx.Err() == nil {
				f.one(c)
				timer := time.NewTimer(5 * time.Millisecond)
				select {
				case <-timer.C:
				case <-ctx.Done():
					timer.Stop()
				}
			}
		})
	}
	return func() {
		cancel()
		asking.Wait()
	}
}

func (f *faultRun) one(c *http.Client) {
	asked := time.Now()
	res, body, err := do(c, "GET", f.w.URL+"/t/acme/", f.token, nil)
	got := time.Now()
	switch {
	case err != nil:
		f.t.Error(err)
	case res.StatusCode == http.StatusServiceUnavailable && codeOf(body) == "host_database_unavailable":
		f.refused.Add(1)
	case res.StatusCode != http.StatusOK:
		f.t.Errorf("%s %s", res.Status, body)
	default:
		v, err := strconv.Atoi(body)
		if err != nil {
			v = 0 // the row as it was at the start
		}
		if err := f.h.judge(v, asked, got, f.heartbeat, f.maxStale); err != nil && f.wrong.Add(1) <= 5 {
			f.t.Error(err)
		}
		f.good.Add(1)
	}
}
