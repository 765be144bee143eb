package tenantgate_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/jobs"
)

// A Gate does the jobs of its host database, those that other programs insert too, from its start to its end.
func TestGateDoesJobs(t *testing.T) {
	for engine, url := range map[string]string{catalog.EnginePostgreSQL: pgtest.New(t), catalog.EngineSQLite: sqliteURL(t)} {
		t.Run(engine, func(t *testing.T) {
			seed(t, url)
			world := gatetest.New(t, gatetest.Options{HostURL: url, App: echo, People: people})
			host := world.Gate.Host()
			waiter := jobs.New(jobs.Config{}, jobs.Deps{Host: host})
			for id, want := range map[catalog.JobID]string{"clean_up": catalog.JobCompleted, "nothing": catalog.JobFailed} {
				if err := host.Jobs.Insert(t.Context(), &catalog.SystemJob{ID: id, JobType: new(catalog.JobPrefix + string(id)), Status: new("pending")}); err != nil {
					t.Fatal(err)
				}
				err := waiter.Wait(t.Context(), id) // whoever runs it
				if job, getErr := host.Jobs.Get(t.Context(), id); getErr != nil || *job.Status != want {
					t.Errorf("%s: %v, %v", id, err, getErr)
				}
			}
			metrics := httptest.NewRecorder()
			world.Gate.AdminHandler().ServeHTTP(metrics, httptest.NewRequest("GET", "http://localhost:9901/metrics", nil))
			if text := metrics.Body.String(); !strings.Contains(text, `tenantgate_job_duration_seconds_count{outcome="completed",type="tenantgate.clean_up"} 1`) ||
				!strings.Contains(text, "tenantgate_jobs_waiting") {
				t.Errorf("metrics: %s", text)
			}
		})
	}
}
