// Package jobs runs what has to be done in the background: rows of sys_jobs whose job_type begins with "tenantgate.",
// whoever inserts them. Other programs' rows are never touched. docs/jobs.md tells what people see of it.
//
// Every replica may run an Engine. A job is taken in one transaction, under a lease that its holder renews; who holds it
// has a token, and what an earlier holder writes (Run.InTx, the outcome) does not count. Still a job can be run twice: its
// holder may have died after the work and before it could say so. Workers are written so that this does no harm.
//
// Concurrency: an Engine is safe for concurrent use; each job has a goroutine, at most Config.Workers at once. Close waits
// for them.
//
// Failure mode: while the host database cannot be reached nothing is taken, and what runs is told to stop before its lease
// ends. What failed is tried again, later and later; what failed too often stays in sys_jobs as failed, with the reason.
package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// Prefix begins every job type of ours.
const Prefix = catalog.JobPrefix

// Reasons for which a worker's context ends, see context.Cause, and what RunNow returns.
var (
	// ErrLeaseLost: another replica may have the job by now. Nothing that is written counts.
	ErrLeaseLost = catalog.ErrLeaseLost
	// ErrCanceled: somebody canceled the job.
	ErrCanceled = errors.New("the job was canceled")
	// ErrShutdown: this process ends. The job is handed back.
	ErrShutdown = errors.New("this process is ending")
	// ErrTimeout: the attempt took longer than its Kind allows.
	ErrTimeout = errors.New("it took too long")
	// ErrTaken: somebody else runs the job.
	ErrTaken = errors.New("somebody else runs the job")
	// ErrOver: the job has ended already.
	ErrOver = errors.New("the job is over")
)

// Job is what Enqueue inserts.
type Job struct {
	Type string // begins with Prefix
	// Payload is made JSON of; nil is none. It holds no secret: sys_jobs is for everybody to read.
	Payload any
	// RunAt is when the job runs at the earliest; zero: now.
	RunAt time.Time
	// Key, where it is not "", makes the job the only one with it until it is over: "provision/acme".
	Key string
}

// Enqueue inserts a job, which is there if and only if the transaction is committed; Engine.Wake then makes it run sooner
// than the next look. Where an unfinished job has its key, nothing is inserted and that one's id is returned.
func Enqueue(ctx context.Context, tx *catalog.Tx, job Job) (catalog.JobID, error) {
	var payload []byte
	if job.Payload != nil {
		var err error
		if payload, err = json.Marshal(job.Payload); err != nil {
			return "", fmt.Errorf("enqueue %s: its payload (%T) is no JSON", job.Type, job.Payload)
		}
	}
	return tx.EnqueueJob(ctx, catalog.NewJob{Type: job.Type, Payload: string(payload), RunAt: job.RunAt, Key: job.Key})
}

// permanent is an error that trying again would not mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks an error that no other attempt would mend: the job fails at once.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// Run is one attempt of a job.
type Run struct {
	ID          catalog.JobID
	Type        string
	Attempt     int // from 1
	MaxAttempts int
	Payload     json.RawMessage // valid JSON; nil for none

	engine  *Engine
	lease   catalog.JobLease
	timeout time.Duration
	cancel  context.CancelCauseFunc
	began   time.Time // when the lease was asked for
	ending  bool      // the worker has returned; guarded by the engine's mu
	told    bool      // that it does not end was logged; the loop's goroutine alone
}

// Decode reads the payload into v. Its error is permanent and does not repeat the payload.
func (r *Run) Decode(v any) error {
	if err := json.Unmarshal(r.Payload, v); err != nil {
		return Permanent(fmt.Errorf("the payload of %s does not fit (%T)", r.Type, err))
	}
	return nil
}

// InTx is HostDatabase.InTx for what only the holder of the job may write: ErrLeaseLost, and nothing written, if another
// replica has the job by now. Keep it short: on SQLite the lease cannot be renewed meanwhile.
func (r *Run) InTx(ctx context.Context, f func(*catalog.Tx) error) error {
	return r.engine.deps.Host.InTx(ctx, func(tx *catalog.Tx) error {
		if err := tx.HoldsJob(ctx, r.lease); err != nil {
			return err
		}
		return f(tx)
	})
}
