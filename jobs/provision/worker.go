package provision

import (
	"context"
	"errors"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/jobs"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
)

// Job is the type of the job that provisions; its payload is a Spec.
const Job = jobs.Prefix + "provision"

// jobTimeout bounds one attempt: a tenant's migrations are short, since its database is empty.
const jobTimeout = 15 * time.Minute

// JobKey keeps two unfinished jobs for one tenant from being inserted by us.
func JobKey(tenant catalog.TenantID) string { return "provision/" + string(tenant) }

// Enqueue inserts a job for the tenant, which is there if and only if the transaction is committed.
func Enqueue(ctx context.Context, tx *catalog.Tx, spec Spec) (catalog.JobID, error) {
	return jobs.Enqueue(ctx, tx, jobs.Job{Type: Job, Payload: spec, Key: JobKey(spec.Tenant)})
}

// Kind is how the job is run. Who may insert rows into sys_jobs makes tenants by it, and changes none that is there: one
// that no job began is refused, and so is another owner than the one that it was begun for. with hands over a Provisioner as the configuration is at that time, or says why there is
// none.
func Kind(with func(use func(*Provisioner) error) error) jobs.Kind {
	return jobs.Kind{
		Timeout: jobTimeout,
		Work: func(ctx context.Context, job *jobs.Run) error {
			var spec Spec
			if err := job.Decode(&spec); err != nil {
				return err
			}
			err := with(func(p *Provisioner) error { return p.run(ctx, spec, true, nil) })
			if lasting(err) {
				err = jobs.Permanent(err)
			}
			return err
		},
	}
}

// lasting reports whether only a change of something helps.
func lasting(err error) bool {
	for _, kind := range []error{ErrRefused, tenantdb.ErrForeign, tenantdb.ErrDenied, tenantdb.ErrGone, tenantdb.ErrMigration} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// TrialEndKind is how trials end.
func TrialEndKind(host *catalog.HostDatabase, freePlan func() string) jobs.Kind {
	return jobs.Kind{Work: func(ctx context.Context, job *jobs.Run) error {
		var end trialEnd
		if err := job.Decode(&end); err != nil {
			return err
		}
		return EndTrial(ctx, host, end, freePlan())
	}}
}
