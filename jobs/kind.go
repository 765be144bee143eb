package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Defaults of a Kind.
const (
	DefaultMaxAttempts = 10
	DefaultTimeout     = 5 * time.Minute
	DefaultBackoff     = time.Second
	DefaultMaxBackoff  = 10 * time.Minute
)

// Kind says how jobs of one type are run.
type Kind struct {
	// Work does one attempt. It ends soon after its context does, and may be called again for the same job, here or
	// elsewhere, also after it has done everything. Its error goes into error_log, redacted and cut, and holds no secret.
	Work func(ctx context.Context, run *Run) error
	// MaxAttempts is how often the job is tried. 0: DefaultMaxAttempts.
	MaxAttempts int
	// Timeout bounds one attempt. 0: DefaultTimeout.
	Timeout time.Duration
	// Backoff is the longest wait before the second attempt; it doubles with each one, up to MaxBackoff. Of it a random
	// part is waited, so that what failed together does not come back together. 0: DefaultBackoff, DefaultMaxBackoff.
	Backoff, MaxBackoff time.Duration
	// Parallel is how many jobs of the type one process runs at once. 0: as many as there are workers.
	Parallel int
}

// kind is a Kind that is registered under a type.
type kind struct {
	Kind
	every time.Duration // of a periodic one
}

// Handle registers the worker of a type, which must be known before the engine starts.
func (e *Engine) Handle(jobType string, k Kind) { e.register(jobType, kind{Kind: k}) }

// Every registers a type that comes round: one job, over all replicas, each time the interval is over. What is still
// running or failing then is left to end first; periods that nobody was there for are made up for once. Its one row of
// sys_jobs tells of the last time.
func (e *Engine) Every(jobType string, interval time.Duration, k Kind) {
	if interval <= 0 {
		e.faults = append(e.faults, fmt.Errorf("jobs: %s: its interval is not positive", jobType))
	}
	e.register(jobType, kind{Kind: k, every: interval})
	e.periodic = append(e.periodic, jobType)
}

func (e *Engine) register(jobType string, k kind) {
	switch _, double := e.kinds[jobType]; {
	case !strings.HasPrefix(jobType, Prefix):
		e.faults = append(e.faults, fmt.Errorf("jobs: %q does not begin with %s", jobType, Prefix))
	case double:
		e.faults = append(e.faults, fmt.Errorf("jobs: %s has two workers", jobType))
	case k.Work == nil:
		e.faults = append(e.faults, fmt.Errorf("jobs: %s has no worker", jobType))
	}
	k.MaxAttempts = cmp.Or(k.MaxAttempts, DefaultMaxAttempts)
	k.Timeout = cmp.Or(k.Timeout, DefaultTimeout)
	k.Backoff = cmp.Or(k.Backoff, DefaultBackoff)
	k.MaxBackoff = cmp.Or(k.MaxBackoff, DefaultMaxBackoff)
	e.kinds[jobType] = k
}

// longestWait is the upper bound of the wait after an attempt (from 1).
func (k *kind) longestWait(attempt int) time.Duration {
	wait := k.Backoff
	for range attempt - 1 {
		if wait >= k.MaxBackoff/2 {
			return k.MaxBackoff
		}
		wait *= 2
	}
	return min(wait, k.MaxBackoff)
}

// jitter is a random part of a wait.
func jitter(longest time.Duration) time.Duration { return rand.N(longest) }

// isPermanent reports whether an error says that no other attempt would mend it.
func isPermanent(err error) bool {
	_, ok := errors.AsType[permanent](err)
	return ok
}
