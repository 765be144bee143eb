package catalog

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// JobPrefix begins the job_type of every job that is ours, whoever inserts it.
const JobPrefix = "tenantgate."

// Statuses of sys_jobs, which are fh-saas's.
const (
	JobPending   = "pending"
	JobRunning   = "running"
	JobCompleted = "completed"
	JobFailed    = "failed"
)

// JobPayloadLimit bounds a job's payload, in bytes. A longer one is not read.
const JobPayloadLimit = 1 << 20

// How long the rows of a job that is over are kept.
const (
	keepCompleted = 7 * 24 * time.Hour
	keepFailed    = 30 * 24 * time.Hour
)

// JobOver reports whether a status says that a job runs no more. Whatever else another program wrote there is open.
func JobOver(status *string) bool {
	return status != nil && slices.Contains([]string{JobCompleted, JobFailed, "canceled", "cancelled"}, *status)
}

// NewJob is a job to be inserted.
type NewJob struct {
	Type    string // begins with JobPrefix
	Payload string // JSON, "" for none
	// RunAt is when it runs at the earliest; zero: now.
	RunAt time.Time
	// Key, where it is not "", keeps a second job with it from being inserted until this one is over.
	Key string
}

// EnqueueJob inserts a job, so that it is there if and only if the transaction is committed. Where an unfinished job has
// its key, that one's id is returned. Not audited: what it belongs to is.
func (tx *Tx) EnqueueJob(ctx context.Context, job NewJob) (JobID, error) {
	const op = "enqueue job"
	for name, v := range map[string]string{"job_type": job.Type, "payload": job.Payload, "key": job.Key} {
		if err := checkStorable(name, v); err != nil {
			return "", fmt.Errorf("%s: %w", op, err)
		}
	}
	if !strings.HasPrefix(job.Type, JobPrefix) || len(job.Payload) > JobPayloadLimit {
		return "", fmt.Errorf("%s: its type begins with %s, and its payload has at most %d bytes", op, JobPrefix, JobPayloadLimit)
	}
	now, err := tx.Now(ctx)
	if err != nil {
		return "", err
	}
	if job.RunAt.IsZero() {
		job.RunAt = now
	}
	for range 3 { // the one with the key may have ended in between
		id := JobID(GenID())
		n, err := tx.exec(ctx, op, "job_run_insert", string(id), job.Type, Timestamp(job.RunAt), storable(job.Key))
		if err != nil {
			return "", err
		}
		if n == 1 {
			_, err = tx.exec(ctx, op, "job_insert", string(id), job.Type, textOrNull(job.Payload), Timestamp(now))
			return id, err
		}
		if id, err = tx.JobByKey(ctx, job.Key); err != nil || id != "" {
			return id, err
		}
	}
	return "", fmt.Errorf("%s: %w: its key is taken again and again", op, ErrConflict)
}

// JobByKey returns the unfinished job that has the key, "" without one.
func (t *Tables) JobByKey(ctx context.Context, key string) (id JobID, err error) {
	err = t.at.query(ctx, "find the job", readDeadline, "job_by_key", []any{storable(key)}, func(rows *sql.Rows) error {
		id = ""
		for rows.Next() {
			if err := rows.Scan(into(&id)); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return id, err
}

// JobRun is what sys_job_runs keeps of a job.
type JobRun struct {
	JobID       JobID
	Type        string
	Attempt     *int64 // of the try that runs, or ran last
	MaxAttempts *int64 // 0 before the first
	RunAt       string // when it is tried, or was
	Holder      string // of the lease, "" while nobody runs it
	Token       *int64
	Key         *string
	CanceledBy  *string
	NextAt      *string // of a job that comes round: when it does next
	StartedAt   *string
	DoneAt      *string
	Status      *string // of the row of sys_jobs
	RowType     *string // its job_type, which another program may have changed meanwhile
}

// JobRuns returns what is kept of those of the jobs that are ours and have been seen, at most 1000.
func (t *Tables) JobRuns(ctx context.Context, ids ...JobID) (map[JobID]JobRun, error) {
	if len(ids) > maxPage {
		return nil, fmt.Errorf("job runs: ask for at most %d", maxPage)
	}
	var found map[JobID]JobRun
	err := t.at.query(ctx, "read the runs of jobs", readDeadline, "job_runs", []any{textSet(ids)}, func(rows *sql.Rows) error {
		found = make(map[JobID]JobRun, len(ids))
		for rows.Next() {
			var r JobRun
			if err := rows.Scan(intoAll(nil, []any{
				&r.JobID, &r.Type, &r.Attempt, &r.MaxAttempts, &r.RunAt, &r.Holder, &r.Token, &r.Key, &r.CanceledBy,
				&r.NextAt, &r.StartedAt, &r.DoneAt, &r.Status, &r.RowType,
			})...); err != nil {
				return err
			}
			found[r.JobID] = r
		}
		return rows.Err()
	})
	return found, err
}

// textSet is a set of texts as statements take it: the values of a JSON object.
func textSet[S ~string](values []S) string {
	named := make(map[string]string, len(values))
	for i, v := range values {
		named[strconv.Itoa(i)] = clean(string(v))
	}
	text, _ := json.Marshal(named) // strings are always JSON
	return string(text)
}

// JobDue reports whether there is a job whose time has come and whose type is not among busy.
func (t *Tables) JobDue(ctx context.Context, busy []string) (bool, error) {
	now, err := t.Now(ctx)
	if err != nil {
		return false, err
	}
	var n int64
	err = t.at.query(ctx, "look for jobs", readDeadline, "job_due_exists", []any{Timestamp(now), textSet(busy)}, func(rows *sql.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&n); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return n > 0, err
}

// JobNews is what there is to take note of.
type JobNews struct {
	Adopt bool     // another program has inserted jobs: AdoptJobs
	Over  []string // types whose period is over: ArmJob
	Due   []string // types that come round and whose job's time has come
}

// JobSurvey looks for jobs that another program inserted, and at the jobs of types that come round.
func (t *Tables) JobSurvey(ctx context.Context, periodic []string) (news JobNews, err error) {
	now, err := t.Now(ctx)
	if err != nil {
		return JobNews{}, err
	}
	types := make(map[JobID]string, len(periodic))
	for _, jobType := range periodic {
		types[PeriodicJobID(jobType)] = jobType
	}
	named, _ := json.Marshal(types) // strings are always JSON
	err = t.at.query(ctx, "look for jobs", readDeadline, "job_survey", []any{Timestamp(now), string(named)}, func(rows *sql.Rows) error {
		news = JobNews{}
		for rows.Next() {
			var what, jobType string
			if err := rows.Scan(&what, &jobType); err != nil {
				return err
			}
			switch what {
			case "adopt":
				news.Adopt = true
			case "over":
				news.Over = append(news.Over, jobType)
			default:
				news.Due = append(news.Due, jobType)
			}
		}
		return rows.Err()
	})
	return news, err
}

// AdoptJobs takes note of jobs that other programs inserted or made pending again, at most limit. One that calls itself
// running although nobody of us runs it is taken a while later: somebody may be about to say how it ended.
func (tx *Tx) AdoptJobs(ctx context.Context, patience time.Duration, limit int) error {
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	const op = "look for jobs"
	if _, err := tx.exec(ctx, op, "job_nameless", Timestamp(now)); err != nil {
		return err
	}
	_, err = tx.exec(ctx, op, "job_adopt", Timestamp(now), Timestamp(now.Add(patience)), limit)
	return err
}

// DueJob is a job that may be taken. It is locked to the transaction's end.
type DueJob struct {
	ID         JobID
	Attempt    int64   // how often it was tried
	Holder     string  // who had it and did not say how it ended, "" for nobody
	CanceledBy *string // who wants it to end
	Type       *string // as sys_jobs has it now
	Status     *string
	Payload    *string // nil if it is longer than JobPayloadLimit
	Size       int64   // of the payload, in bytes
}

// DueJobs locks jobs whose time has come and whose type is not among busy, the longest due first, at most limit. What
// another transaction has locked is passed over.
func (tx *Tx) DueJobs(ctx context.Context, busy []string, limit int) ([]DueJob, error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return nil, err
	}
	return tx.dueJobs(ctx, "job_due", Timestamp(now), textSet(busy), limit)
}

// DueJobNow locks one job, before its time too; nil if somebody has it or if it is over.
func (tx *Tx) DueJobNow(ctx context.Context, id JobID) (*DueJob, error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return nil, err
	}
	found, err := tx.dueJobs(ctx, "job_due_one", string(id), Timestamp(now))
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

func (tx *Tx) dueJobs(ctx context.Context, name string, args ...any) ([]DueJob, error) {
	var due []DueJob
	err := tx.query(ctx, "look for jobs that are due", writeDeadline, name, args, func(rows *sql.Rows) error {
		due = nil
		for rows.Next() {
			var d DueJob
			if err := rows.Scan(into(&d.ID), &d.Attempt, into(&d.Holder), &d.CanceledBy, &d.Type, &d.Status, &d.Payload, &d.Size); err != nil {
				return err
			}
			due = append(due, d)
		}
		return rows.Err()
	})
	return due, err
}

// JobLease is a job that a process runs. Its token is larger than that of whoever had the job before.
type JobLease struct {
	ID     JobID
	Holder string // unique to the process
	Token  int64
}

// LeaseJob takes a job of DueJobs for a while, as one more attempt of at most so many.
func (tx *Tx) LeaseJob(ctx context.Context, due *DueJob, holder string, attempts int, life time.Duration) (JobLease, error) {
	const op = "take a job"
	lease := JobLease{ID: due.ID, Holder: holder}
	now, err := tx.Now(ctx)
	if err != nil {
		return lease, err
	}
	args := []any{string(due.ID), *due.Type, attempts, holder, Timestamp(now.Add(life)), Timestamp(now)}
	err = tx.query(ctx, op, writeDeadline, "job_lease", args, func(rows *sql.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&lease.Token); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err == nil {
		_, err = tx.exec(ctx, op, "job_running", string(due.ID), Timestamp(now))
	}
	return lease, err
}

// RenewJob lets the lease end a while from now; ErrLeaseLost if somebody took the job or ended it.
func (t *Tables) RenewJob(ctx context.Context, lease JobLease, life time.Duration) error {
	return t.at.change(ctx, func(tx *Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		n, err := tx.exec(ctx, "renew a job's lease", "job_renew", string(lease.ID), lease.Holder, lease.Token, Timestamp(now.Add(life)))
		return lease.lost(n, err)
	})
}

// HoldsJob makes sure, to the transaction's end, that nobody took the job; ErrLeaseLost if somebody did.
func (tx *Tx) HoldsJob(ctx context.Context, lease JobLease) error {
	n, err := tx.count(ctx, "look for the job's lease", "job_held", string(lease.ID), lease.Holder, lease.Token)
	return lease.lost(n, err)
}

func (l JobLease) lost(n int64, err error) error {
	if err == nil && n == 0 {
		err = fmt.Errorf("job %s: %w", l.ID, ErrLeaseLost)
	}
	return err
}

// EndJob writes how the job ended: JobCompleted, or JobFailed with a reason fit to be shown. ErrLeaseLost if that is not
// the holder's to say any more; then nothing is written. A failure is audited.
func (tx *Tx) EndJob(ctx context.Context, lease JobLease, jobType, status, errorLog string) error {
	const op = "end a job"
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	n, err := tx.exec(ctx, op, "job_end", string(lease.ID), lease.Holder, lease.Token, Timestamp(now), keepUntil(now, status))
	if err := lease.lost(n, err); err != nil {
		return err
	}
	if _, err := tx.exec(ctx, op, "job_ended", string(lease.ID), status, storable(clean(errorLog)), Timestamp(now), jobType); err != nil {
		return err
	}
	if status != JobFailed {
		return nil
	}
	return tx.Audit(ctx, "job.failed", string(lease.ID), map[string]any{"job_type": jobType, "error_log": errorLog})
}

func keepUntil(now time.Time, status string) string {
	if status == JobCompleted {
		return Timestamp(now.Add(keepCompleted))
	}
	return Timestamp(now.Add(keepFailed))
}

// PutJobBack lets a job be tried again after a while. An attempt that was cut short by us alone does not count.
func (tx *Tx) PutJobBack(ctx context.Context, lease JobLease, jobType string, after time.Duration, errorLog string, counts bool) error {
	const op = "put a job back"
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	uncounted := 1
	if counts {
		uncounted = 0
	}
	n, err := tx.exec(ctx, op, "job_put_back", string(lease.ID), lease.Holder, lease.Token, Timestamp(now.Add(after)), uncounted)
	if err := lease.lost(n, err); err != nil {
		return err
	}
	_, err = tx.exec(ctx, op, "job_waits", string(lease.ID), storable(clean(errorLog)), jobType)
	return err
}

// RefuseJob ends a job of DueJobs without running it. Audited.
func (tx *Tx) RefuseJob(ctx context.Context, due *DueJob, errorLog string) error {
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	if err := tx.endUnrun(ctx, due.ID, now); err != nil {
		return err
	}
	if _, err := tx.exec(ctx, "refuse a job", "job_refuse", string(due.ID), storable(clean(errorLog)), Timestamp(now)); err != nil {
		return err
	}
	return tx.Audit(ctx, "job.failed", string(due.ID), map[string]any{"job_type": *due.Type, "error_log": errorLog})
}

// SettleJob takes note that another program ended a job of DueJobs, or made it its own. Its row of sys_jobs stays.
func (tx *Tx) SettleJob(ctx context.Context, due *DueJob) error {
	if due.Type == nil || !strings.HasPrefix(*due.Type, JobPrefix) {
		if n, err := tx.exec(ctx, "let go of a job", "job_drop", string(due.ID)); err != nil || n > 0 {
			return err
		}
	}
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	return tx.endUnrun(ctx, due.ID, now)
}

func (tx *Tx) endUnrun(ctx context.Context, id JobID, now time.Time) error {
	_, err := tx.exec(ctx, "end a job", "job_over", string(id), Timestamp(now), keepUntil(now, JobFailed))
	return err
}

// PeriodicJobID is the id of the one job that comes round under a type.
func PeriodicJobID(jobType string) JobID {
	sum := sha256.Sum256([]byte("every\x00" + jobType))
	return JobID(hex.EncodeToString(sum[:16]))
}

// KeepJob makes a type come round every so often, first after a while. Doing it again, on every replica, changes nothing
// but an interval that has become shorter.
func (tx *Tx) KeepJob(ctx context.Context, jobType string, every, first time.Duration) error {
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	_, err = tx.exec(ctx, "keep a periodic job", "job_every", string(PeriodicJobID(jobType)), jobType, Timestamp(now),
		Timestamp(now.Add(first)), Timestamp(now.Add(every)))
	return err
}

// ArmJob makes a periodic job pending if its period is over. Of all replicas one does it. ErrConflict if another program
// made the job's row its own: that row stays as it is.
func (tx *Tx) ArmJob(ctx context.Context, jobType string, every time.Duration) error {
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	const op = "start a period of a job"
	id := string(PeriodicJobID(jobType))
	n, err := tx.exec(ctx, op, "job_arm", id, Timestamp(now), Timestamp(now.Add(every)), jobType)
	if err != nil || n == 0 {
		return err
	}
	if n, err = tx.exec(ctx, op, "job_armed", id, jobType, Timestamp(now)); err == nil && n == 0 {
		err = fmt.Errorf("%s does not come round: %w: the row of job %s is another program's", jobType, ErrConflict, id)
	}
	return err
}

// JobBacklog says how many jobs wait although their time has come, and for how long the oldest has.
func (t *Tables) JobBacklog(ctx context.Context) (waiting int64, oldest time.Duration, err error) {
	now, err := t.Now(ctx)
	if err != nil {
		return 0, 0, err
	}
	var since *string
	err = t.at.query(ctx, "count jobs", readDeadline, "job_backlog", []any{Timestamp(now)}, func(rows *sql.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&waiting, &since); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err != nil || since == nil {
		return waiting, 0, err
	}
	if at, err := ParseTimestamp(*since); err == nil {
		oldest = max(now.Sub(at), 0)
	}
	return waiting, oldest, nil
}
