package tenantgate

import (
	"fmt"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/jobs"
	"github.com/tenantgate/tenantgate/jobs/lifecycle"
	"github.com/tenantgate/tenantgate/jobs/provision"
)

// startJobs makes this process one of those that do the host database's jobs. It takes any number of them.
func (g *Gate) startJobs() error {
	if g.onlyAsks {
		return nil
	}
	e := jobs.New(jobs.Config{}, jobs.Deps{
		Host: g.host, Log: g.telemetry.Logger, Redact: g.telemetry.Redactor.String, Metrics: g.telemetry.Metrics,
	})
	g.registerJobs(e)
	if err := e.Start(); err != nil {
		return err
	}
	g.jobs.Store(e)
	return nil
}

// registerJobs names the worker of each type. Every process knows all of them, whatever its configuration: a type that
// nobody knows is refused. What a worker needs of the configuration it reads when it runs, by inForce.
func (g *Gate) registerJobs(e *jobs.Engine) {
	e.Every(reconcileType, reconcileEvery, g.reconcileKind())
	e.Every(jobs.CleanUpType, jobs.CleanUpInterval, jobs.CleanUp(g.host))
	e.Every(lifecycle.PurgeType, lifecycle.PurgeInterval, g.purge())
	e.Every(provision.CloseType, provision.CloseInterval, provision.CloseKind(g.provisioning, func(err error) {
		g.telemetry.Logger.Warn("a database stays open to every role of its server", "error", err)
	}))
	e.Handle(provision.Job, provision.Kind(g.provisioning))
	e.Handle(provision.TrialEndJob, provision.TrialEndKind(g.host, func() string { return g.inForce().Subscription.FreePlan }))
}

// inForce is the configuration under which jobs that begin now are done.
func (g *Gate) inForce() *config.Config { return g.current.Load().cfg }

// stopJobs lets jobs that run end, or hands them back.
func (g *Gate) stopJobs() error {
	e := g.jobs.Load()
	if e == nil {
		return nil
	}
	return e.Close()
}

// watchJobs shows in the metrics what waits.
func (g *Gate) watchJobs() error {
	waiting := func() (n, age int64) {
		if e := g.jobs.Load(); e != nil {
			count, oldest := e.Backlog()
			return count, int64(oldest.Seconds())
		}
		return 0, 0
	}
	if err := g.telemetry.Gauge("tenantgate.jobs.waiting", "Jobs that wait although their time has come.", func() int64 {
		n, _ := waiting()
		return n
	}); err != nil {
		return fmt.Errorf("watch jobs: %w", err)
	}
	return g.telemetry.Gauge("tenantgate.jobs.oldest_waiting_seconds", "For how many seconds the longest of them has waited.", func() int64 {
		_, age := waiting()
		return age
	})
}
