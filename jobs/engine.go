package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/telemetry"
)

// Defaults of a Config.
const (
	DefaultWorkers = 8
	DefaultPoll    = time.Second
	DefaultLease   = 30 * time.Second
	DefaultGrace   = 10 * time.Second
)

// Config of an Engine; the zero value is what the proxy uses.
type Config struct {
	// Workers is how many jobs run at once, beside those that come round (Every), of which each has its own. 0:
	// DefaultWorkers.
	Workers int
	// Poll is the time between two looks for jobs. 0: DefaultPoll.
	Poll time.Duration
	// Lease is how long a job of a process that died stays untouched; it is renewed three times as often. 0: DefaultLease.
	Lease time.Duration
	// Grace is how long Close lets jobs finish before it ends them, and waits for them once more. 0: DefaultGrace.
	Grace time.Duration
}

// Metrics hears how attempts ended: outcome is completed, retried, failed, canceled, handed_back or lost.
type Metrics interface {
	Job(jobType, outcome string, took time.Duration)
}

// Deps are what an Engine stands on. Host is needed.
type Deps struct {
	Host *catalog.HostDatabase
	// Log; nil: none.
	Log *slog.Logger
	// Redact makes an error fit for error_log. Nil: a telemetry.Redactor that knows patterns alone.
	Redact func(string) string
	// Metrics; nil: none.
	Metrics Metrics
}

// Engine takes jobs and runs them. Register workers (Handle, Every), then Start, or RunNow.
type Engine struct {
	cfg      Config
	deps     Deps
	holder   string
	kinds    map[string]kind
	periodic []string
	faults   []error

	wake    chan struct{} // holds one: somebody wants a look
	stop    chan struct{} // closed: no more looks
	looping sync.WaitGroup
	working sync.WaitGroup
	closing sync.Once
	err     error

	mu      sync.Mutex // guards what follows
	closed  bool
	running map[catalog.JobID]*Run
	waiting int64         // backlog at the last count
	oldest  time.Duration // age of its oldest

	jitter func(longest time.Duration) time.Duration
	// Of the loop's goroutine alone:
	kept      bool // the periodic jobs have their rows
	surveyAt  time.Time
	countAt   time.Time
	lookFault string // of the last look that failed, said once
}

// New makes an engine that runs nothing yet.
func New(cfg Config, deps Deps) *Engine {
	cfg.Workers = cmp.Or(max(cfg.Workers, 0), DefaultWorkers)
	cfg.Poll = cmp.Or(cfg.Poll, DefaultPoll)
	cfg.Lease = cmp.Or(cfg.Lease, DefaultLease)
	cfg.Grace = cmp.Or(cfg.Grace, DefaultGrace)
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Redact == nil {
		deps.Redact = telemetry.NewRedactor().String
	}
	return &Engine{
		cfg: cfg, deps: deps, holder: catalog.GenID(), kinds: map[string]kind{}, running: map[catalog.JobID]*Run{},
		wake: make(chan struct{}, 1), stop: make(chan struct{}), jitter: jitter,
	}
}

// Start looks for jobs from now on. It fails only if a worker was registered wrongly; that the host database cannot be
// reached is not its concern.
func (e *Engine) Start() error {
	if err := errors.Join(e.faults...); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errors.New("jobs: the engine is closed")
	}
	e.looping.Go(e.loop)
	return nil
}

// Wake makes the engine look for jobs now.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Backlog is how many jobs waited although their time had come when that was last counted, and for how long the oldest
// had.
func (e *Engine) Backlog() (waiting int64, oldest time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.waiting, e.oldest
}

// Close takes no more jobs, gives those that run Config.Grace to end, then ends their contexts and hands them back. Its
// error names jobs that did not end although they were told. It may be called again.
func (e *Engine) Close() error {
	e.closing.Do(func() {
		e.mu.Lock()
		e.closed = true
		e.mu.Unlock()
		close(e.stop)
		e.looping.Wait()
		if e.finished() {
			return
		}
		for _, r := range e.runs() {
			r.cancel(ErrShutdown)
		}
		if !e.finished() {
			var types []string
			for _, r := range e.runs() {
				types = append(types, r.Type)
			}
			e.err = fmt.Errorf("jobs: these did not end: %s", strings.Join(types, ", "))
		}
	})
	return e.err
}

// finished waits for the jobs that run, at most the grace.
func (e *Engine) finished() bool {
	done := make(chan struct{})
	go func() {
		e.working.Wait()
		close(done)
	}()
	timer := time.NewTimer(e.cfg.Grace)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

func (e *Engine) runs() []*Run {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Values(e.running))
}

// loop looks for jobs until Close.
func (e *Engine) loop() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-e.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer func() { <-stopped }()
	defer cancel()
	for {
		e.note(e.look(ctx))
		timer := time.NewTimer(e.cfg.Poll/2 + e.jitter(e.cfg.Poll))
		select {
		case <-timer.C:
		case <-e.wake:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// note says once that looks fail, and once that they do not any more.
func (e *Engine) note(err error) {
	switch {
	case err == nil && e.lookFault != "":
		e.deps.Log.Info("jobs are looked for again")
		e.lookFault = ""
	case err != nil && !errors.Is(err, context.Canceled) && err.Error() != e.lookFault:
		e.deps.Log.Warn("jobs cannot be looked for", "error", err)
		e.lookFault = err.Error()
	}
}
