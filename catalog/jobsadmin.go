package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// CancelJob ends a job of ours, audited. One that waits is failed at once; one that runs is told, within seconds, and
// fails when its worker has heard. ErrConflict if it is another program's, or over.
func (t *Tables) CancelJob(ctx context.Context, id JobID) error {
	return t.at.change(ctx, func(tx *Tx) error {
		job, err := tx.lockJob(ctx, id)
		if err != nil {
			return err
		}
		if JobOver(job.Status) {
			return fmt.Errorf("job %s: %w: it is over", id, ErrConflict)
		}
		who := clean(actorOf(ctx).ID)
		n, err := tx.exec(ctx, "cancel a job", "job_cancel", string(id), who)
		if err != nil {
			return err
		}
		if n == 0 { // nobody runs it
			now, err := tx.Now(ctx)
			if err != nil {
				return err
			}
			if err := tx.endUnrun(ctx, id, now); err != nil {
				return err
			}
			if _, err := tx.exec(ctx, "cancel a job", "job_refuse", string(id), CanceledBy(who), Timestamp(now)); err != nil {
				return err
			}
		}
		return tx.Audit(ctx, "job.canceled", string(id), map[string]any{"job_type": *job.JobType, "running": n > 0})
	})
}

// CanceledBy is the error_log of a job that was canceled.
func CanceledBy(who string) string { return "canceled by " + who }

// RetryJob lets a failed job of ours run again, as if it had never been tried, audited. ErrConflict if it is another
// program's, if it has not failed, or if an unfinished job has its key.
func (t *Tables) RetryJob(ctx context.Context, id JobID) error {
	return t.at.change(ctx, func(tx *Tx) error {
		job, err := tx.lockJob(ctx, id)
		if err != nil {
			return err
		}
		if !JobOver(job.Status) || *job.Status == JobCompleted {
			return fmt.Errorf("job %s: %w: only what failed is tried again", id, ErrConflict)
		}
		if err := tx.lock(ctx, "job-keys"); err != nil {
			return err
		}
		n, err := tx.count(ctx, "look for the key", "job_count_key", string(id))
		if err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("job %s: %w: another job does the same already", id, ErrConflict)
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.exec(ctx, "retry a job", "job_again", string(id), *job.JobType, Timestamp(now)); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, "retry a job", "job_pending", string(id)); err != nil {
			return err
		}
		return tx.Audit(ctx, "job.retried", string(id), map[string]any{"job_type": *job.JobType})
	})
}

// lockJob reads a job of ours, locked to the transaction's end.
func (tx *Tx) lockJob(ctx context.Context, id JobID) (*SystemJob, error) {
	found, err := tx.Jobs.lockRow(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	if found.JobType == nil || !strings.HasPrefix(*found.JobType, JobPrefix) {
		return nil, fmt.Errorf("job %s: %w: it is another program's: its type does not begin with %s", id, ErrConflict, JobPrefix)
	}
	return found, nil
}

// DeleteOldJobs removes jobs of ours that are over and were kept long enough, completed ones for a week and failed ones
// for thirty days, at most limit, and says how many. Other programs' jobs stay. One audit row tells how many went.
func (h *HostDatabase) DeleteOldJobs(ctx context.Context, limit int) (removed int64, err error) {
	err = h.InTx(ctx, func(tx *Tx) error {
		const op = "remove old jobs"
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.exec(ctx, op, "job_orphans_delete", Timestamp(now.Add(-time.Hour)), limit); err != nil {
			return err
		}
		var ids []JobID
		err = tx.query(ctx, op, writeDeadline, "job_old", []any{Timestamp(now), limit}, func(rows *sql.Rows) error {
			ids = nil
			for rows.Next() {
				var id JobID
				if err := rows.Scan(into(&id)); err != nil {
					return err
				}
				ids = append(ids, id)
			}
			return rows.Err()
		})
		if err != nil || len(ids) == 0 {
			return err
		}
		gone, err := tx.exec(ctx, op, "job_delete", textSet(ids))
		if err != nil {
			return err
		}
		if removed, err = tx.exec(ctx, op, "job_runs_delete", textSet(ids)); err != nil || gone == 0 {
			return err
		}
		return tx.Audit(ctx, "job.removed", "", map[string]any{"jobs": gone})
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}
