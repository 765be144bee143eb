package tenantgate_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// A Gate does the jobs of its host database, those that other programs insert too, from its start to its end.
func TestGateDoesJobs(t *testing.T) {
	for engine, url := range map[string]string{catalog.EnginePostgreSQL: pgtest.New(t), catalog.EngineSQLite: sqliteURL(t)} {
		t.Run(engine, func(t *testing.T) {
			seed(t, url)
			world := gatetest.New(t, gatetest.Options{HostURL: url, App: echo, People: people})
			host := world.Gate.Host()
			for id, want := range map[catalog.JobID]string{"clean_up": catalog.JobCompleted, "nothing": catalog.JobFailed} {
				if err := host.Jobs.Insert(t.Context(), &catalog.SystemJob{ID: id, JobType: new(catalog.JobPrefix + string(id)), Status: new("pending")}); err != nil {
					t.Fatal(err)
				}
				deadline := time.Now().Add(20 * time.Second)
				for {
					job, err := host.Jobs.Get(t.Context(), id)
					if err != nil {
						t.Fatal(err)
					}
					if *job.Status == want {
						break
					}
					if time.Now().After(deadline) {
						t.Fatalf("%s is %s", id, *job.Status)
					}
					time.Sleep(20 * time.Millisecond)
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
