package jobs

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

func TestPeriodicJobComesRoundOnceForAllReplicas(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		c := newClock()
		var ran atomic.Int64
		var engines []*Engine
		var host *catalog.HostDatabase
		for range 3 {
			host = open(t, url, c)
			e := engine(t, host, Config{})
			e.Every("tenantgate.tick", 10*time.Minute, Kind{Work: func(context.Context, *Run) error {
				ran.Add(1)
				return nil
			}})
			engines = append(engines, e)
		}
		id := catalog.PeriodicJobID("tenantgate.tick")
		all := func() {
			t.Helper()
			var wg sync.WaitGroup
			for _, e := range engines {
				wg.Go(func() {
					e.surveyAt = time.Time{}
					if err := e.look(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			for _, e := range engines {
				e.working.Wait()
			}
		}
		all()
		if _, err := host.Jobs.Get(t.Context(), id); !errors.Is(err, catalog.ErrNotFound) || ran.Load() != 0 {
			t.Errorf("it came round at once: %v", err)
		}
		for period, step := range []time.Duration{time.Minute, 10 * time.Minute, 10 * time.Minute, 5 * time.Hour} { // the last misses some
			c.move(step)
			all()
			all()
			if n := ran.Load(); n != int64(period+1) {
				t.Errorf("after %d periods it ran %d times", period+1, n)
			}
			if row := jobRow(t, host, id); text(row.Status) != "completed" || text(row.CreatedAt) != catalog.Timestamp(c.read()) {
				t.Errorf("period %d: %s, %s", period, text(row.Status), text(row.CreatedAt))
			}
		}
		execute(t, url, "DELETE FROM sys_jobs WHERE id = '"+string(id)+"'")
		c.move(10 * time.Minute)
		all()
		all()
		if n := ran.Load(); n != 5 {
			t.Errorf("after its row was removed it ran %d times", n)
		}
	})
}

// Whoever slept through the end of a lease can neither write under it nor say how the job ended.
func TestLostLeaseIsFenced(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		c := newClock()
		h, other := open(t, url, c), open(t, url, c)
		sleeper, next := engine(t, h, Config{}), engine(t, other, Config{})
		began, wake := make(chan struct{}), make(chan struct{})
		var wrote error
		sleeper.Handle("tenantgate.x", Kind{Work: func(ctx context.Context, run *Run) error {
			close(began)
			<-wake // it does not look at its context
			wrote = run.InTx(context.WithoutCancel(ctx), func(tx *catalog.Tx) error {
				return tx.Tenants.Insert(context.WithoutCancel(ctx), &catalog.TenantCatalog{ID: "late"})
			})
			return nil
		}})
		next.Handle("tenantgate.x", Kind{Work: func(context.Context, *Run) error { return Permanent(errors.New("the second one")) }})
		id := enqueue(t, h, Job{Type: "tenantgate.x"})
		done := make(chan error, 1)
		go func() { done <- sleeper.RunNow(context.WithoutCancel(t.Context()), id) }()
		<-began
		if err := next.RunNow(t.Context(), id); !errors.Is(err, ErrTaken) {
			t.Errorf("taken from who has it: %v", err)
		}
		c.move(DefaultLease)
		if err := next.RunNow(t.Context(), id); err == nil || !strings.Contains(err.Error(), "second") {
			t.Errorf("the second one: %v", err)
		}
		close(wake)
		if err := <-done; !errors.Is(err, ErrLeaseLost) || !errors.Is(wrote, ErrLeaseLost) {
			t.Errorf("the first one: %v; it wrote: %v", err, wrote)
		}
		if row := jobRow(t, h, id); text(row.Status) != "failed" || !strings.Contains(text(row.ErrorLog), "attempt 2 of 10: the second one") {
			t.Errorf("%s, %s", text(row.Status), text(row.ErrorLog))
		}
		if _, err := h.Tenants.Get(t.Context(), "late"); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("what the first one wrote: %v", err)
		}
	})
}

// A job whose holders die each time is given up.
func TestJobThatKillsItsHoldersIsGivenUp(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		c := newClock()
		h := open(t, url, c)
		e := engine(t, h, Config{})
		e.Handle("tenantgate.x", Kind{MaxAttempts: 2, Work: func(context.Context, *Run) error { return nil }})
		id := enqueue(t, h, Job{Type: "tenantgate.x"})
		for range 2 {
			must(t, h.InTx(t.Context(), func(tx *catalog.Tx) error {
				due, err := tx.DueJobNow(t.Context(), id)
				if err == nil {
					_, err = tx.LeaseJob(t.Context(), due, "dead", 2, time.Minute)
				}
				return err
			}))
			c.move(time.Minute)
		}
		must(t, e.look(t.Context()))
		if row := jobRow(t, h, id); text(row.Status) != "failed" || !strings.Contains(text(row.ErrorLog), "given up after 2 attempts") {
			t.Errorf("%s, %s", text(row.Status), text(row.ErrorLog))
		}
	})
}

// While the database cannot be reached a worker is told to stop before its lease could be another's.
func TestOutageEndsTheWorkersContextWithItsLease(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	h := open(t, server.URL(t), nil)
	e := engine(t, h, Config{Lease: 600 * time.Millisecond})
	began, ended := make(chan struct{}), make(chan error, 1)
	var tries atomic.Int64
	e.Handle("tenantgate.x", Kind{Work: func(ctx context.Context, _ *Run) error {
		if tries.Add(1) > 1 {
			return nil
		}
		close(began)
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return ctx.Err()
	}})
	id := enqueue(t, h, Job{Type: "tenantgate.x"})
	must(t, e.Start())
	<-began
	server.Stop(t)
	select {
	case err := <-ended:
		if !errors.Is(err, ErrLeaseLost) {
			t.Errorf("it ended for %v", err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("the worker was not told")
	}
	server.Start(t)
	if row := over(t, e, id); text(row.Status) != "completed" {
		t.Errorf("%s, %s", text(row.Status), text(row.ErrorLog))
	}
}

// One leads at a time; when it ends another does, and what it still writes does not count.
func TestLead(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		var leading atomic.Int64
		leaders := make(chan catalog.Lease)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		hosts := []*catalog.HostDatabase{open(t, url, nil), open(t, url, nil), open(t, url, nil)}
		for _, h := range hosts {
			wg.Go(func() {
				h.Lead(ctx, catalog.LeadConfig{Name: "chain", Life: 3 * time.Second}, func(ctx context.Context, l catalog.Lease) error {
					if leading.Add(1) > 1 {
						t.Error("two lead")
					}
					defer leading.Add(-1)
					select {
					case leaders <- l:
					case <-ctx.Done():
					}
					return nil
				})
			})
		}
		first, second := <-leaders, <-leaders
		if second.Token <= first.Token {
			t.Errorf("tokens: %d, then %d", first.Token, second.Token)
		}
		err := hosts[0].InTx(t.Context(), func(tx *catalog.Tx) error { return tx.Holds(t.Context(), first) })
		if !errors.Is(err, catalog.ErrLeaseLost) {
			t.Errorf("the first one holds it still: %v", err)
		}
		cancel()
		wg.Wait()
	})
}

var (
	kills    = flag.Int("jobs.kills", 3, "how often a process is killed, on each engine")
	childURL = flag.String("jobs.child", "", "the database of a process that is to be killed")
)

// TestChildThatRunsJobs is a replica of its own, in the tests below.
func TestChildThatRunsJobs(t *testing.T) {
	if *childURL == "" {
		return
	}
	h := open(t, *childURL, nil)
	e := New(Config{Poll: 20 * time.Millisecond, Lease: time.Second, Workers: 4}, Deps{Host: h})
	e.Handle("tenantgate.work", stressKind(h))
	e.Handle("tenantgate.hold", holdKind())
	must(t, e.Start())
	fmt.Println("child runs")
	select {}
}

// stressKind notes each attempt, and the effect of each job: an attempt that two processes made would be a taken key.
func stressKind(h *catalog.HostDatabase) Kind {
	return Kind{MaxAttempts: 1000, Backoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond, Work: func(ctx context.Context, run *Run) error {
		err := run.InTx(ctx, func(tx *catalog.Tx) error {
			return tx.GlobalUsers.Insert(ctx, &catalog.GlobalUser{ID: catalog.UserID(fmt.Sprintf("%s/%d", run.ID, run.Attempt))})
		})
		if err != nil || !sleep(ctx, 5*time.Millisecond) {
			return errors.Join(err, ctx.Err())
		}
		return run.InTx(ctx, func(tx *catalog.Tx) error {
			_, err := tx.Tenants.Get(ctx, catalog.TenantID(run.ID))
			if errors.Is(err, catalog.ErrNotFound) { // else whoever was killed had done it, and could not say so
				err = tx.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: catalog.TenantID(run.ID)})
			}
			return err
		})
	}}
}

// Two processes, of which one is killed again and again: every job ends, its effect is there once, and no attempt was two
// processes' at a time.
func TestKilledReplicasLoseNoJobAndDoubleNone(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := open(t, url, nil)
		e := engine(t, h, Config{Lease: time.Second, Workers: 2})
		e.Handle("tenantgate.work", stressKind(h))
		must(t, e.Start())
		var ids []catalog.JobID
		for range *kills {
			child := exec.Command(os.Args[0], "-test.run=^TestChildThatRunsJobs$", "-jobs.child="+url)
			out, err := child.StdoutPipe()
			must(t, err)
			must(t, child.Start())
			if !bufio.NewScanner(out).Scan() {
				t.Error("the child did not start")
			}
			for range 30 {
				ids = append(ids, enqueue(t, h, Job{Type: "tenantgate.work"}))
			}
			must(t, child.Process.Kill())
			_ = child.Wait() // killed
		}
		for _, id := range ids {
			if row := over(t, e, id); text(row.Status) != "completed" {
				t.Errorf("%s: %s, %s", id, text(row.Status), text(row.ErrorLog))
			}
		}
		if n := count(t, url, "core_tenants"); n != len(ids) {
			t.Errorf("%d effects of %d jobs", n, len(ids))
		}
		t.Logf("%d jobs, %d attempts", len(ids), count(t, url, "core_users"))
	})
}
