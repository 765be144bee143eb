package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tenantgate/tenantgate/catalog"
)

const (
	adoptAtOnce = 200              // rows of other programs in one transaction
	countEvery  = 10 * time.Second // between two counts of what waits
	// firstPeriod is when a type that is new comes round for the first time, unless its interval is shorter.
	firstPeriod = time.Minute
	// roundPatience bounds the transaction that starts a period.
	roundPatience = 2 * time.Second
)

// look does what there is to do now: hears of cancellations, takes note of new rows, and takes what is due.
func (e *Engine) look(ctx context.Context) error {
	if err := e.watch(ctx); err != nil {
		return err
	}
	return errors.Join(e.survey(ctx), e.count(ctx), e.takeDue(ctx)) // what fails keeps nothing else from being done
}

// takeDue takes what is due, as long as there are workers.
func (e *Engine) takeDue(ctx context.Context) error {
	free, busy := e.room()
	if free == 0 {
		return nil
	}
	due, err := e.deps.Host.JobDue(ctx, busy)
	if err != nil || !due {
		return err
	}
	began := time.Now()
	var taken []*Run
	var settled int
	err = e.deps.Host.InTx(ctx, func(tx *catalog.Tx) error {
		taken, settled = nil, 0
		found, err := tx.DueJobs(ctx, busy, free)
		if err != nil {
			return err
		}
		picked := map[string]int{}
		for i := range found {
			if e.full(found[i].Type, picked) {
				continue // its turn comes when one of its type has ended
			}
			run, err := e.take(ctx, tx, &found[i], began)
			if err != nil {
				return err
			}
			if run == nil {
				settled++
				continue
			}
			taken = append(taken, run)
			picked[run.Type]++
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, run := range taken {
		e.run(run)
	}
	if settled > 0 {
		e.Wake() // there may be more behind what was not run
	}
	return nil
}

// run does a job that was taken.
func (e *Engine) run(run *Run) {
	do := e.start(context.Background(), run)
	go func() { _ = do() }() // how it ended stands in sys_jobs
}

// watch ends jobs that somebody canceled, and those that another replica has by now.
func (e *Engine) watch(ctx context.Context) error {
	running := e.runs()
	if len(running) == 0 {
		return nil
	}
	ids := make([]catalog.JobID, len(running))
	for i, r := range running {
		ids[i] = r.ID
	}
	kept, err := e.deps.Host.JobRuns(ctx, ids...)
	if err != nil {
		return err
	}
	for _, r := range running {
		switch k, there := kept[r.ID]; {
		case !there || k.Token == nil || *k.Token != r.lease.Token || k.DoneAt != nil || k.Holder != e.holder:
			if e.isRunning(r) {
				r.cancel(ErrLeaseLost)
			}
		case k.CanceledBy != nil:
			r.cancel(canceled{*k.CanceledBy})
		case k.Status == nil || catalog.JobOver(k.Status) || k.RowType == nil || *k.RowType != r.Type:
			r.cancel(canceled{"another program"})
		}
		if !r.told && time.Since(r.began) > r.timeout+e.cfg.Lease && e.isRunning(r) {
			r.told = true
			e.deps.Log.Error("a job does not end although its time is over: it keeps its worker and its lease until this process ends",
				"job_id", string(r.ID), "job_type", r.Type, "timeout", r.timeout.String())
		}
	}
	return nil
}

// isRunning reports whether a run has not ended since it was listed: then its row may rightly be over.
func (e *Engine) isRunning(r *Run) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.running[r.ID] == r && !r.ending
}

// canceled is ErrCanceled with who did it.
type canceled struct{ by string }

func (c canceled) Error() string        { return catalog.CanceledBy(c.by) }
func (c canceled) Is(target error) bool { return target == ErrCanceled }

// survey takes note of jobs that other programs inserted, starts periods that are over, and runs what comes round. Where
// that takes long it is done more rarely.
func (e *Engine) survey(ctx context.Context) (err error) {
	if time.Now().Before(e.surveyAt) {
		return nil
	}
	began := time.Now()
	defer func() { e.surveyAt = time.Now().Add(max(e.cfg.Poll/2, 10*time.Since(began))) }()
	if !e.kept {
		err := e.deps.Host.InTx(ctx, func(tx *catalog.Tx) error {
			for _, t := range e.periodic {
				every := e.kinds[t].every
				if err := tx.KeepJob(ctx, t, every, min(every, firstPeriod)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		e.kept = true
	}
	news, err := e.deps.Host.JobSurvey(ctx, e.periodic)
	if err != nil {
		return err
	}
	var faults []error
	for _, t := range news.Over {
		faults = append(faults, e.round(ctx, t, true))
	}
	for _, t := range news.Due {
		faults = append(faults, e.round(ctx, t, false))
	}
	if news.Adopt {
		faults = append(faults, e.deps.Host.InTx(ctx, func(tx *catalog.Tx) error { return tx.AdoptJobs(ctx, e.cfg.Lease, adoptAtOnce) }))
	}
	return errors.Join(faults...)
}

// round runs the job of a type that comes round, begun anew if its period is over. It has a worker of its own: however
// many jobs wait, it waits for none of them. Another program that has locked the job's row is waited for shortly.
func (e *Engine) round(ctx context.Context, jobType string, over bool) error {
	if e.full(&jobType, nil) || e.shut() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, roundPatience)
	defer cancel()
	began := time.Now()
	var taken *Run
	err := e.deps.Host.InTx(ctx, func(tx *catalog.Tx) error {
		taken = nil
		if over {
			if err := tx.ArmJob(ctx, jobType, e.kinds[jobType].every); err != nil {
				return err
			}
		}
		due, err := tx.DueJobNow(ctx, catalog.PeriodicJobID(jobType))
		if err != nil || due == nil {
			return err
		}
		taken, err = e.take(ctx, tx, due, began)
		return err
	})
	if err == nil && taken != nil {
		e.run(taken)
	}
	return err
}

func (e *Engine) shut() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// count keeps Backlog up to date.
func (e *Engine) count(ctx context.Context) error {
	if time.Now().Before(e.countAt) {
		return nil
	}
	waiting, oldest, err := e.deps.Host.JobBacklog(ctx)
	if err != nil {
		return err
	}
	e.countAt = time.Now().Add(countEvery)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting, e.oldest = waiting, oldest
	return nil
}

// room is how many more jobs may run, and the types of which none may.
func (e *Engine) room() (free int, busy []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return 0, nil
	}
	of, round := map[string]int{}, 0
	for _, r := range e.running {
		of[r.Type]++
		if r.ID == catalog.PeriodicJobID(r.Type) {
			round++ // by a worker of its own
		}
	}
	for t, n := range of {
		if k := e.kinds[t]; k.Parallel > 0 && n >= k.Parallel {
			busy = append(busy, t)
		}
	}
	return max(e.cfg.Workers-(len(e.running)-round), 0), busy
}

// full reports whether no other job of a type may be taken besides those that are picked.
func (e *Engine) full(jobType *string, picked map[string]int) bool {
	if jobType == nil {
		return false
	}
	k := e.kinds[*jobType]
	if k.Parallel <= 0 {
		return false
	}
	n := picked[*jobType]
	for _, r := range e.runs() {
		if r.Type == *jobType {
			n++
		}
	}
	return n >= k.Parallel
}

// take makes a due job this process's, or nil of one that is not to be run.
func (e *Engine) take(ctx context.Context, tx *catalog.Tx, due *catalog.DueJob, began time.Time) (*Run, error) {
	if due.Type == nil || len(*due.Type) < len(Prefix) || (*due.Type)[:len(Prefix)] != Prefix || catalog.JobOver(due.Status) {
		return nil, tx.SettleJob(ctx, due)
	}
	k, known := e.kinds[*due.Type]
	var refuse string
	switch {
	case due.CanceledBy != nil:
		refuse = catalog.CanceledBy(*due.CanceledBy)
	case !known:
		refuse = "this version of tenantgate knows no such job type"
	case !utf8.ValidString(string(due.ID)) || strings.Contains(string(due.ID), "\x00"):
		refuse = "its id is no text that another table can name"
	case due.Attempt >= int64(k.MaxAttempts):
		refuse = fmt.Sprintf("given up after %d attempts: the last one did not say how it ended", due.Attempt)
	case due.Size > catalog.JobPayloadLimit:
		refuse = fmt.Sprintf("its payload has more than %d bytes", catalog.JobPayloadLimit)
	case due.Payload != nil && *due.Payload != "" && !json.Valid([]byte(*due.Payload)):
		refuse = "its payload is no JSON"
	}
	if refuse != "" {
		e.measure(*due.Type, outcomeFailed, 0)
		return nil, tx.RefuseJob(ctx, due, refuse)
	}
	lease, err := tx.LeaseJob(ctx, due, e.holder, k.MaxAttempts, e.cfg.Lease)
	if err != nil {
		return nil, err
	}
	run := &Run{
		ID: due.ID, Type: *due.Type, Attempt: int(due.Attempt) + 1, MaxAttempts: k.MaxAttempts,
		engine: e, lease: lease, timeout: k.Timeout, began: began,
	}
	if due.Payload != nil && *due.Payload != "" {
		run.Payload = json.RawMessage(*due.Payload)
	}
	return run, nil
}

// RunNow takes one job, before its time too, and runs one attempt of it here, under the same lease as everywhere. The
// engine need not be started. It returns what the attempt returned: nil if the job is completed; ErrTaken if somebody
// else runs it, ErrOver if it has ended. When ctx ends the job is handed back.
func (e *Engine) RunNow(ctx context.Context, id catalog.JobID) error {
	if err := errors.Join(e.faults...); err != nil {
		return err
	}
	began := time.Now()
	var run *Run
	err := e.deps.Host.InTx(ctx, func(tx *catalog.Tx) error {
		run = nil
		if err := tx.AdoptJobs(ctx, e.cfg.Lease, adoptAtOnce); err != nil {
			return err
		}
		due, err := tx.DueJobNow(ctx, id)
		if err != nil {
			return err
		}
		if due == nil {
			return e.absent(ctx, tx, id)
		}
		run, err = e.take(ctx, tx, due, began)
		return err
	})
	if err != nil {
		return err
	}
	if run == nil { // settled or refused
		return e.outcome(ctx, id)
	}
	return e.start(ctx, run)()
}

// absent says why a job cannot be taken.
func (e *Engine) absent(ctx context.Context, tx *catalog.Tx, id catalog.JobID) error {
	job, err := tx.Jobs.Get(ctx, id)
	if err != nil {
		return err
	}
	if catalog.JobOver(job.Status) {
		return ErrOver
	}
	return ErrTaken
}

// Wait waits until a job is over, whoever runs it: nil if it is completed, else an error with its error_log.
func (e *Engine) Wait(ctx context.Context, id catalog.JobID) error {
	ticker := time.NewTicker(e.cfg.Poll / 4)
	defer ticker.Stop()
	for {
		job, err := e.deps.Host.Jobs.Get(ctx, id)
		if err != nil {
			return err
		}
		if catalog.JobOver(job.Status) {
			return e.outcome(ctx, id)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// outcome is how a job that is over ended.
func (e *Engine) outcome(ctx context.Context, id catalog.JobID) error {
	job, err := e.deps.Host.Jobs.Get(ctx, id)
	switch {
	case err != nil:
		return err
	case job.Status != nil && *job.Status == catalog.JobCompleted:
		return nil
	case job.ErrorLog == nil:
		return ErrOver
	}
	return Permanent(errors.New(*job.ErrorLog))
}
