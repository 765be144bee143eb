package jobs

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// What comes round runs although every worker is busy and many jobs wait.
func TestWhatComesRoundWaitsForNoOtherJob(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		c := newClock()
		h := open(t, url, c)
		e := engine(t, h, Config{Workers: 1})
		began, ticked, finish := make(chan struct{}, 100), make(chan struct{}, 100), make(chan struct{})
		e.Handle("tenantgate.long", Kind{Work: func(context.Context, *Run) error {
			began <- struct{}{}
			<-finish
			return nil
		}})
		e.Every("tenantgate.tick", time.Minute, Kind{Work: func(context.Context, *Run) error {
			ticked <- struct{}{}
			return nil
		}})
		for range 50 {
			enqueue(t, h, Job{Type: "tenantgate.long"})
		}
		must(t, e.Start())
		<-began
		for range 3 {
			c.move(time.Minute)
			<-ticked
		}
		if n := len(began); n != 0 {
			t.Errorf("%d more took a worker's place", n)
		}
		close(finish)
		must(t, e.Close())
	})
}

// Another program that keeps the row of a periodic job locked delays that job alone.
func TestALockedRowStallsNoOtherJob(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	c := newClock()
	h := open(t, url, c)
	e := engine(t, h, Config{})
	ticked := make(chan struct{}, 100)
	e.Every("tenantgate.tick", time.Minute, Kind{Work: func(context.Context, *Run) error {
		ticked <- struct{}{}
		return nil
	}})
	e.Handle("tenantgate.x", Kind{Work: func(context.Context, *Run) error { return nil }})
	must(t, e.Start())
	over(t, e, enqueue(t, h, Job{Type: "tenantgate.x"})) // after a look that knows what comes round
	c.move(time.Minute)
	<-ticked
	over(t, e, catalog.PeriodicJobID("tenantgate.tick"))
	db, err := sql.Open("pgx", url)
	must(t, err)
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	must(t, err)
	_, err = tx.ExecContext(t.Context(), "SELECT id FROM sys_jobs WHERE id = $1 FOR UPDATE", string(catalog.PeriodicJobID("tenantgate.tick")))
	must(t, err)
	c.move(time.Minute)
	for range 2 {
		if row := over(t, e, enqueue(t, h, Job{Type: "tenantgate.x"})); text(row.Status) != "completed" {
			t.Errorf("%s", text(row.Status))
		}
	}
	if len(ticked) != 0 {
		t.Error("it came round although its row is locked")
	}
	must(t, tx.Rollback())
	must(t, e.Close())
	next := engine(t, h, Config{})
	next.Every("tenantgate.tick", time.Minute, Kind{Work: func(context.Context, *Run) error {
		ticked <- struct{}{}
		return nil
	}})
	must(t, next.Start())
	<-ticked
}

// A job that another program makes its own while it runs is told to stop, and its row is not touched any more, however the
// worker ends.
func TestJobThatBecomesAnothersIsLetGo(t *testing.T) {
	for name, end := range map[string]error{"done": nil, "failed": Permanent(errors.New("no")), "again": errors.New("not yet")} {
		t.Run(name, func(t *testing.T) {
			onBothEngines(t, func(t *testing.T, url string) {
				h := open(t, url, nil)
				e := engine(t, h, Config{})
				began, told := make(chan struct{}), make(chan error, 1)
				e.Handle("tenantgate.x", Kind{Work: func(ctx context.Context, _ *Run) error {
					close(began)
					<-ctx.Done()
					told <- context.Cause(ctx)
					return end
				}})
				id := enqueue(t, h, Job{Type: "tenantgate.x"})
				must(t, e.Start())
				<-began
				execute(t, url, "UPDATE sys_jobs SET job_type = 'mail' WHERE id = '"+string(id)+"'")
				before := everything(t, url)
				if err := <-told; !errors.Is(err, ErrCanceled) {
					t.Errorf("its context ended for %v", err)
				}
				must(t, e.Close())
				if after := everything(t, url); after != before || !strings.Contains(before, "running") {
					t.Errorf("before:\n%s\nafter:\n%s", before, after)
				}
			})
		})
	}
}

// The row of a periodic job that another program made its own stays as it is; given back, the job comes round again.
func TestPeriodicRowOfAnotherProgramIsLeftAlone(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		c := newClock()
		h := open(t, url, c)
		e := engine(t, h, Config{})
		ran := 0
		e.Every("tenantgate.tick", time.Minute, Kind{Work: func(context.Context, *Run) error {
			ran++
			return nil
		}})
		e.Handle("tenantgate.x", Kind{Work: func(context.Context, *Run) error { return nil }})
		look := func() error {
			e.surveyAt = time.Time{}
			err := e.look(t.Context())
			e.working.Wait()
			return err
		}
		id := string(catalog.PeriodicJobID("tenantgate.tick"))
		must(t, look())
		for _, status := range []string{"completed", "pending"} {
			c.move(time.Minute)
			must(t, look())
			was := ran
			execute(t, url, "UPDATE sys_jobs SET job_type = 'mail', status = '"+status+"' WHERE id = '"+id+"'")
			before := everything(t, url)
			for range 3 {
				c.move(time.Minute)
				if err := look(); !errors.Is(err, catalog.ErrConflict) {
					t.Errorf("%s: %v", status, err)
				}
			}
			must(t, e.RunNow(t.Context(), enqueue(t, h, Job{Type: "tenantgate.x"})))
			if after := everything(t, url); after != before || ran != was {
				t.Errorf("%s: ran %d times\n%s\n%s", status, ran-was, before, after)
			}
			execute(t, url, "UPDATE sys_jobs SET job_type = 'tenantgate.x', status = 'pending' WHERE id = '"+id+"'") // ours, of another type
			must(t, look())
			c.move(time.Minute)
			must(t, look())
			if row := jobRow(t, h, catalog.JobID(id)); ran == was || text(row.JobType) != "tenantgate.tick" {
				t.Errorf("given back, it ran %d times: %s", ran-was, text(row.JobType))
			}
		}
	})
}

// Whatever other programs write into a row while the job runs, it ends, and what they wrote is heard.
func TestStatusWrittenWhileAJobRuns(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := open(t, url, nil)
		e := engine(t, h, Config{})
		began, finish := make(chan string, 10), make(chan struct{})
		e.Handle("tenantgate.x", Kind{Work: func(ctx context.Context, run *Run) error {
			began <- string(run.ID)
			select {
			case <-finish:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}})
		must(t, e.Start())
		for _, tc := range []struct{ write, want string }{
			{"status = 'completed'", "completed"},
			{"status = 'failed'", "failed"},
			{"status = 'cancelled', error_log = 'theirs'", "cancelled"},
			{"status = 'pending'", "completed"}, // and runs again
			{"status = 'Running'", "completed"}, // a status that nobody knows: as if it were pending
			{"error_log = 'theirs'", "completed"},
		} {
			id := enqueue(t, h, Job{Type: "tenantgate.x"})
			<-began
			execute(t, url, "UPDATE sys_jobs SET "+tc.write+" WHERE id = '"+string(id)+"'")
			if tc.want == "completed" && tc.write != "status = 'completed'" {
				finish <- struct{}{}
			}
			if strings.Contains(tc.write, "'pending'") || strings.Contains(tc.write, "'Running'") {
				if again := <-began; again != string(id) {
					t.Errorf("%s: %s runs", tc.write, again)
				}
				finish <- struct{}{}
			}
			if row := over(t, e, id); text(row.Status) != tc.want {
				t.Errorf("%s: %s, %s", tc.write, text(row.Status), text(row.ErrorLog))
			}
		}
		id := enqueue(t, h, Job{Type: "tenantgate.x"})
		<-began
		execute(t, url, "DELETE FROM sys_jobs WHERE id = '"+string(id)+"'")
		must(t, e.Close())
		if _, err := h.Jobs.Get(t.Context(), id); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("what was removed is there again: %v", err)
		}
		if len(began) != 0 {
			t.Errorf("%d more runs", len(began))
		}
	})
}

// A process that was stopped for longer than its lease and goes on writes nothing any more.
func TestSuspendedReplicaIsFenced(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := open(t, url, nil)
		id := enqueue(t, h, Job{Type: "tenantgate.hold"})
		child := exec.Command(os.Args[0], "-test.run=^TestChildThatRunsJobs$", "-jobs.child="+url)
		out, err := child.StdoutPipe()
		must(t, err)
		in, err := child.StdinPipe()
		must(t, err)
		must(t, child.Start())
		defer func() {
			_ = child.Process.Kill()
			_ = child.Wait()
		}()
		lines := bufio.NewScanner(out)
		await := func(want string) {
			for lines.Scan() {
				if strings.Contains(lines.Text(), want) {
					return
				}
			}
			t.Fatalf("the child never said %q", want)
		}
		await("holds " + string(id))
		must(t, child.Process.Signal(syscall.SIGSTOP))
		e := engine(t, h, Config{Lease: time.Second})
		e.Handle("tenantgate.hold", Kind{Work: func(context.Context, *Run) error { return Permanent(errors.New("the second one")) }})
		must(t, e.Start())
		row := over(t, e, id)
		must(t, child.Process.Signal(syscall.SIGCONT))
		_, err = fmt.Fprintln(in, "go on")
		must(t, err)
		await("wrote: " + fmt.Sprint(true))
		if after := jobRow(t, h, id); text(after.Status) != "failed" || text(after.ErrorLog) != text(row.ErrorLog) || !strings.Contains(text(row.ErrorLog), "the second one") {
			t.Errorf("%s, %s", text(after.Status), text(after.ErrorLog))
		}
		if n := count(t, url, "core_tenants"); n != 0 {
			t.Error("what it wrote when it went on counts")
		}
	})
}

// holdKind takes a job and goes on when it is told to, whatever has become of its lease.
func holdKind() Kind {
	return Kind{Work: func(ctx context.Context, run *Run) error {
		fmt.Println("holds", run.ID)
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		ctx = context.WithoutCancel(ctx)
		err := run.InTx(ctx, func(tx *catalog.Tx) error {
			return tx.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "late"})
		})
		fmt.Println("wrote:", errors.Is(err, ErrLeaseLost))
		return nil
	}}
}
