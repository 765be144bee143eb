package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// Outcomes of an attempt, as Metrics hears them.
const (
	outcomeCompleted = "completed"
	outcomeRetried   = "retried"
	outcomeFailed    = "failed"
	outcomeCanceled  = "canceled"
	outcomeBack      = "handed_back"
	outcomeLost      = "lost"
)

// errorLogLimit bounds error_log, in bytes.
const errorLogLimit = 4096

// start enters a run among those that Close waits for, and returns what does it: one attempt of the job, and writing how
// it ended. The run is to be done, at once.
func (e *Engine) start(ctx context.Context, run *Run) (do func() error) {
	leased, lose := context.WithCancelCause(context.WithoutCancel(ctx)) // ends with the lease
	working, cancel := context.WithCancelCause(leased)
	run.cancel = cancel
	e.mu.Lock()
	closed := e.closed
	if !closed {
		e.working.Add(1)
		e.running[run.ID] = run
	}
	e.mu.Unlock()
	return func() error {
		defer lose(nil)
		if closed {
			return e.conclude(leased, run, ErrShutdown, ErrShutdown, 0)
		}
		defer e.leave(run)
		defer e.renew(leased, run, lose)()
		defer context.AfterFunc(ctx, func() { cancel(ErrShutdown) })()
		began := time.Now()
		timed, done := context.WithTimeoutCause(working, run.timeout, ErrTimeout)
		err := e.attempt(timed, run)
		cause := context.Cause(timed)
		done()
		e.mu.Lock()
		run.ending = true
		e.mu.Unlock()
		return e.conclude(leased, run, err, cause, time.Since(began))
	}
}

// leave forgets a run, but not a later one of the same job that this process has begun meanwhile: that one must still hear
// that it is canceled.
func (e *Engine) leave(run *Run) {
	e.mu.Lock()
	if e.running[run.ID] == run {
		delete(e.running, run.ID)
	}
	e.mu.Unlock()
	e.working.Done()
	e.Wake()
}

// renew keeps the lease while the job runs and its outcome is written. The lease is given up for lost when the database
// was last heard of so long ago that it may be another's. The returned function ends that and waits.
func (e *Engine) renew(leased context.Context, run *Run, lose context.CancelCauseFunc) (stop func()) {
	ctx, cancel := context.WithCancel(leased)
	end := time.AfterFunc(time.Until(run.began.Add(e.cfg.Lease)), func() { lose(ErrLeaseLost) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		for sleep(ctx, e.cfg.Lease/3) {
			asked := time.Now()
			asking, answered := context.WithTimeout(ctx, e.cfg.Lease/3)
			err := e.deps.Host.RenewJob(asking, run.lease, e.cfg.Lease)
			answered()
			switch {
			case errors.Is(err, ErrLeaseLost):
				if e.isRunning(run) { // else its end was just written
					lose(ErrLeaseLost)
				}
				return
			case err == nil && end.Stop():
				end.Reset(time.Until(asked.Add(e.cfg.Lease)))
			}
		}
	}()
	return func() {
		cancel()
		<-done
		end.Stop()
	}
}

// sleep waits; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// attempt calls the worker. A panic is an error that says where, and of what type; never with what value.
func (e *Engine) attempt(ctx context.Context, run *Run) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the worker panicked (%T) %s", p, panickedAt())
		}
	}()
	return e.kinds[run.Type].Work(ctx, run)
}

// panickedAt is the place of the panic that is being recovered from.
func panickedAt() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") {
			return fmt.Sprintf("at %s:%d", f.Function, f.Line)
		}
		if !more {
			return "at an unknown place"
		}
	}
}

// conclude writes how an attempt ended, and returns it as RunNow does.
func (e *Engine) conclude(leased context.Context, run *Run, err, cause error, took time.Duration) error {
	k := e.kinds[run.Type]
	outcome, status, text := outcomeRetried, catalog.JobPending, ""
	switch {
	case errors.Is(cause, ErrLeaseLost):
		outcome, err = outcomeLost, ErrLeaseLost
	case err == nil:
		outcome, status = outcomeCompleted, catalog.JobCompleted
	case errors.Is(cause, ErrCanceled):
		outcome, status, err, text = outcomeCanceled, catalog.JobFailed, cause, cause.Error()
	case errors.Is(cause, ErrShutdown):
		outcome, err = outcomeBack, cause
	default:
		if errors.Is(cause, ErrTimeout) {
			err = fmt.Errorf("%w: more than %s", ErrTimeout, run.timeout)
		}
		text = e.errorLog(run, err)
		if isPermanent(err) || run.Attempt >= run.MaxAttempts {
			outcome, status = outcomeFailed, catalog.JobFailed
		}
	}
	var written error
	if outcome != outcomeLost {
		written = e.write(leased, func(ctx context.Context, tx *catalog.Tx) error {
			if status != catalog.JobPending {
				return tx.EndJob(ctx, run.lease, run.Type, status, text)
			}
			var wait time.Duration
			if outcome == outcomeRetried {
				wait = e.jitter(k.longestWait(run.Attempt))
			}
			return tx.PutJobBack(ctx, run.lease, run.Type, wait, text, outcome == outcomeRetried)
		})
	}
	if written != nil {
		outcome, err = outcomeLost, fmt.Errorf("how job %s ended could not be written: %w", run.ID, written)
	}
	e.measure(run.Type, outcome, took)
	e.tell(leased, run, outcome, err)
	return err
}

// write does what f does as soon as the database lets it, as long as the lease is this process's.
func (e *Engine) write(leased context.Context, f func(context.Context, *catalog.Tx) error) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		ctx, cancel := context.WithTimeout(leased, e.cfg.Lease/3)
		err := e.deps.Host.InTx(ctx, func(tx *catalog.Tx) error { return f(ctx, tx) })
		cancel()
		if err == nil || errors.Is(err, ErrLeaseLost) || !sleep(leased, wait) {
			return err
		}
	}
}

// errorLog is what error_log says of a failed attempt.
func (e *Engine) errorLog(run *Run, err error) string {
	text := fmt.Sprintf("attempt %d of %d: %s", run.Attempt, run.MaxAttempts, e.deps.Redact(err.Error()))
	if len(text) > errorLogLimit {
		text = strings.ToValidUTF8(text[:errorLogLimit], "") + "…"
	}
	return text
}

func (e *Engine) measure(jobType, outcome string, took time.Duration) {
	if _, known := e.kinds[jobType]; !known {
		jobType = "unknown"
	}
	if e.deps.Metrics != nil {
		e.deps.Metrics.Job(jobType, outcome, took)
	}
}

// tell logs what somebody should know of.
func (e *Engine) tell(ctx context.Context, run *Run, outcome string, err error) {
	attrs := []any{"job_id", string(run.ID), "job_type", run.Type, "attempt", run.Attempt}
	switch outcome {
	case outcomeCompleted, outcomeBack:
		e.deps.Log.DebugContext(ctx, "job "+outcome, attrs...)
	default:
		e.deps.Log.WarnContext(ctx, "job "+outcome, append(attrs, "error", e.deps.Redact(err.Error()))...)
	}
}
