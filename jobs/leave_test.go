package jobs

import (
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
)

// A run whose lease was lost may end after the same process has taken the job anew.
func TestAnOldRunThatEndsForgetsNoLaterOne(t *testing.T) {
	before, after := &Run{ID: "job"}, &Run{ID: "job"}
	e := &Engine{running: map[catalog.JobID]*Run{"job": after}, wake: make(chan struct{}, 1)}
	e.working.Add(2)
	e.leave(before)
	if e.running["job"] != after {
		t.Error("the run under way is forgotten: nobody could cancel it")
	}
	e.leave(after)
	if len(e.running) != 0 {
		t.Error("the run that ended is remembered")
	}
	e.working.Wait()
}
