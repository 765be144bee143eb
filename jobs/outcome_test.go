package jobs

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

func TestFailuresAreTriedAgainLaterAndLaterThenGivenUp(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		c := newClock()
		h := open(t, url, c)
		e := engine(t, h, Config{})
		var waits []time.Duration
		e.jitter = func(longest time.Duration) time.Duration {
			if longest >= time.Second { // not the loop's
				waits = append(waits, longest)
				return longest
			}
			return longest / 2
		}
		e.Handle("tenantgate.fail", Kind{MaxAttempts: 4, Backoff: time.Minute, MaxBackoff: 3 * time.Minute, Work: func(_ context.Context, run *Run) error {
			return errors.New("no route to postgresql://u:hunter22@db/x")
		}})
		id := enqueue(t, h, Job{Type: "tenantgate.fail"})
		ctx := t.Context()
		for attempt, wait := range []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute} {
			if err := e.RunNow(ctx, id); err == nil {
				t.Fatal("it did not fail")
			}
			row := jobRow(t, h, id)
			if text(row.Status) != "pending" || !strings.Contains(text(row.ErrorLog), "attempt "+string(rune('1'+attempt))+" of 4: no route") {
				t.Errorf("after attempt %d: %s, %s", attempt+1, text(row.Status), text(row.ErrorLog))
			}
			c.move(wait - time.Millisecond)
			must(t, e.look(ctx))
			if due, err := h.JobDue(ctx, nil); due || err != nil {
				t.Errorf("it is due too soon after attempt %d: %v", attempt+1, err)
			}
			c.move(time.Millisecond)
			if due, err := h.JobDue(ctx, nil); !due || err != nil {
				t.Errorf("it is not due after attempt %d: %v", attempt+1, err)
			}
		}
		must(t, e.look(ctx))
		row := over(t, e, id)
		if text(row.Status) != "failed" || !strings.Contains(text(row.ErrorLog), "attempt 4 of 4") || strings.Contains(text(row.ErrorLog), "hunter22") || row.CompletedAt == nil {
			t.Errorf("%s, %s", text(row.ErrorLog), text(row.CompletedAt))
		}
		audited, _, err := h.AuditLogs.List(ctx, catalog.Page{Filter: map[string]string{"event_type": "job.failed", "target_id": string(id)}})
		must(t, err)
		if len(audited) != 1 || text(audited[0].ActorUserID) != "system" || strings.Contains(text(audited[0].Details), "hunter22") {
			t.Errorf("audit: %+v", audited)
		}
		must(t, e.Close())
		if len(waits) != 3 {
			t.Errorf("waits: %v", waits)
		}
	})
}

func TestBackoffDoublesUpToItsBound(t *testing.T) {
	k := kind{Kind: Kind{Backoff: time.Second, MaxBackoff: 10 * time.Minute}}
	for attempt, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 10: 512 * time.Second, 11: 10 * time.Minute, 100: 10 * time.Minute, 1 << 30: 10 * time.Minute} {
		if got := k.longestWait(attempt); got != want {
			t.Errorf("attempt %d: %s, want %s", attempt, got, want)
		}
	}
}

func TestPermanentErrorsAndPanicsAndTimeouts(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := open(t, url, nil)
		e := engine(t, h, Config{})
		e.Handle("tenantgate.permanent", Kind{Work: func(context.Context, *Run) error { return Permanent(errors.New("never")) }})
		e.Handle("tenantgate.panic", Kind{MaxAttempts: 1, Work: func(_ context.Context, run *Run) error {
			panic("secret-" + string(run.Payload))
		}})
		e.Handle("tenantgate.slow", Kind{MaxAttempts: 1, Timeout: 30 * time.Millisecond, Work: func(ctx context.Context, _ *Run) error {
			<-ctx.Done()
			return ctx.Err()
		}})
		must(t, e.Start())
		for jobType, want := range map[string]string{
			"tenantgate.permanent": "attempt 1 of 10: never",
			"tenantgate.panic":     "attempt 1 of 1: the worker panicked (string) at github.com/tenantgate/tenantgate/jobs.TestPermanent",
			"tenantgate.slow":      "attempt 1 of 1: it took too long: more than 30ms",
		} {
			row := over(t, e, enqueue(t, h, Job{Type: jobType, Payload: "x"}))
			if text(row.Status) != "failed" || !strings.HasPrefix(text(row.ErrorLog), want) || strings.Contains(text(row.ErrorLog), "secret") {
				t.Errorf("%s: %s, %q", jobType, text(row.Status), text(row.ErrorLog))
			}
		}
	})
}

func TestKeyIsOfOneUnfinishedJob(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := open(t, url, nil)
		e := engine(t, h, Config{})
		e.Handle("tenantgate.x", Kind{Work: func(context.Context, *Run) error { return nil }})
		first := enqueue(t, h, Job{Type: "tenantgate.x", Key: "x/1"})
		if again := enqueue(t, h, Job{Type: "tenantgate.x", Key: "x/1"}); again != first {
			t.Errorf("a second one: %s, %s", first, again)
		}
		if other := enqueue(t, h, Job{Type: "tenantgate.x", Key: "x/2"}); other == first {
			t.Error("another key has the same job")
		}
		must(t, e.RunNow(t.Context(), first))
		if next := enqueue(t, h, Job{Type: "tenantgate.x", Key: "x/1"}); next == first {
			t.Error("what is over keeps its key")
		}
		if err := e.RunNow(t.Context(), first); !errors.Is(err, ErrOver) {
			t.Errorf("run again: %v", err)
		}
	})
}

func TestCancel(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := open(t, url, nil)
		e := engine(t, h, Config{})
		running := make(chan error, 1)
		e.Handle("tenantgate.long", Kind{Work: func(ctx context.Context, _ *Run) error {
			running <- nil
			<-ctx.Done()
			running <- context.Cause(ctx)
			return ctx.Err()
		}})
		waiting := enqueue(t, h, Job{Type: "tenantgate.long", RunAt: time.Now().Add(time.Hour)})
		ctx := catalog.WithActor(t.Context(), catalog.Actor{ID: "cli:ada@host"})
		must(t, h.CancelJob(ctx, waiting))
		if row := jobRow(t, h, waiting); text(row.Status) != "failed" || text(row.ErrorLog) != "canceled by cli:ada@host" || row.CompletedAt == nil {
			t.Errorf("waiting: %+v", row)
		}
		must(t, e.Start())
		id := enqueue(t, h, Job{Type: "tenantgate.long"})
		<-running
		must(t, h.CancelJob(ctx, id))
		if cause := <-running; !errors.Is(cause, ErrCanceled) {
			t.Errorf("its context ended for %v", cause)
		}
		if row := over(t, e, id); text(row.Status) != "failed" || text(row.ErrorLog) != "canceled by cli:ada@host" {
			t.Errorf("running: %s, %s", text(row.Status), text(row.ErrorLog))
		}
		if err := h.CancelJob(ctx, id); !errors.Is(err, catalog.ErrConflict) {
			t.Errorf("canceled when it was over: %v", err)
		}
		// By SQL, too.
		id = enqueue(t, h, Job{Type: "tenantgate.long"})
		<-running
		execute(t, url, "UPDATE sys_jobs SET status = 'canceled' WHERE id = '"+string(id)+"'")
		<-running
		must(t, e.Close())
		if row := jobRow(t, h, id); text(row.Status) != "canceled" {
			t.Errorf("what another program wrote is gone: %s", text(row.Status))
		}
	})
}

func TestRetryOfWhatFailedAndOfNothingElse(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := open(t, url, nil)
		e := engine(t, h, Config{})
		var works atomic.Bool
		e.Handle("tenantgate.x", Kind{MaxAttempts: 1, Work: func(context.Context, *Run) error {
			if works.Load() {
				return nil
			}
			return errors.New("not yet")
		}})
		ctx := t.Context()
		id := enqueue(t, h, Job{Type: "tenantgate.x", Key: "k"})
		if err := e.RunNow(ctx, id); err == nil {
			t.Fatal("it did not fail")
		}
		works.Store(true)
		double := enqueue(t, h, Job{Type: "tenantgate.x", Key: "k"})
		if err := h.RetryJob(ctx, id); !errors.Is(err, catalog.ErrConflict) {
			t.Errorf("retried beside one with its key: %v", err)
		}
		must(t, e.RunNow(ctx, double))
		must(t, h.RetryJob(ctx, id))
		if row := jobRow(t, h, id); text(row.Status) != "pending" || row.CompletedAt != nil {
			t.Errorf("retried: %+v", row)
		}
		must(t, e.RunNow(ctx, id))
		if err := h.RetryJob(ctx, id); !errors.Is(err, catalog.ErrConflict) {
			t.Errorf("retried what is completed: %v", err)
		}
		execute(t, url, "INSERT INTO sys_jobs (id, job_type, status) VALUES ('theirs', 'mail', 'failed'), ('never-seen', 'tenantgate.x', 'failed')")
		for _, change := range []func(context.Context, catalog.JobID) error{h.RetryJob, h.CancelJob} {
			if err := change(ctx, "theirs"); !errors.Is(err, catalog.ErrConflict) {
				t.Errorf("another program's: %v", err)
			}
			if err := change(ctx, "none"); !errors.Is(err, catalog.ErrNotFound) {
				t.Errorf("none: %v", err)
			}
		}
		must(t, h.RetryJob(ctx, "never-seen"))
		must(t, e.RunNow(ctx, "never-seen"))
		// By SQL, too: what somebody makes pending runs again.
		execute(t, url, "UPDATE sys_jobs SET status = 'pending' WHERE id = '"+string(id)+"'")
		must(t, e.RunNow(ctx, id))
	})
}

func TestCloseLetsJobsEndThenHandsThemBack(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := open(t, url, nil)
		e := engine(t, h, Config{Grace: 100 * time.Millisecond})
		began, finish := make(chan struct{}, 2), make(chan struct{})
		e.Handle("tenantgate.quick", Kind{Work: func(ctx context.Context, _ *Run) error {
			began <- struct{}{}
			<-finish
			return ctx.Err()
		}})
		e.Handle("tenantgate.long", Kind{Work: func(ctx context.Context, _ *Run) error {
			began <- struct{}{}
			<-ctx.Done()
			return context.Cause(ctx)
		}})
		quick, long := enqueue(t, h, Job{Type: "tenantgate.quick"}), enqueue(t, h, Job{Type: "tenantgate.long"})
		must(t, e.Start())
		<-began
		<-began
		close(finish)
		must(t, e.Close())
		if row := jobRow(t, h, quick); text(row.Status) != "completed" {
			t.Errorf("quick: %s, %s", text(row.Status), text(row.ErrorLog))
		}
		if row := jobRow(t, h, long); text(row.Status) != "pending" || row.ErrorLog != nil {
			t.Errorf("long: %s, %s", text(row.Status), text(row.ErrorLog))
		}
		runs, err := h.JobRuns(t.Context(), long)
		must(t, err)
		if *runs[long].Attempt != 0 || runs[long].Holder != "" {
			t.Errorf("handed back: %+v", runs[long])
		}
		other := engine(t, h, Config{})
		other.Handle("tenantgate.long", Kind{Work: func(context.Context, *Run) error { return nil }})
		must(t, other.Start())
		over(t, other, long) // at once, not when a lease has ended
	})
}

func TestWronglyRegisteredWorkersStopTheStart(t *testing.T) {
	h := open(t, "sqlite:"+t.TempDir()+"/host.db", nil)
	for name, register := range map[string]func(*Engine){
		"foreign": func(e *Engine) { e.Handle("mail", Kind{Work: func(context.Context, *Run) error { return nil }}) },
		"no work": func(e *Engine) { e.Handle("tenantgate.x", Kind{}) },
		"interval": func(e *Engine) {
			e.Every("tenantgate.x", 0, Kind{Work: func(context.Context, *Run) error { return nil }})
		},
	} {
		e := engine(t, h, Config{})
		register(e)
		if err := e.Start(); err == nil {
			t.Errorf("%s: started", name)
		}
	}
}
