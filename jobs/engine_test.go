package jobs

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
)

func TestJobIsRunOnceAndRecorded(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := open(t, url, nil)
		e := engine(t, h, Config{})
		got := make(chan string, 10)
		e.Handle("tenantgate.greet", Kind{Work: func(_ context.Context, run *Run) error {
			var p struct{ Name string }
			if err := run.Decode(&p); err != nil {
				return err
			}
			got <- p.Name
			return nil
		}})
		id := enqueue(t, h, Job{Type: "tenantgate.greet", Payload: map[string]string{"name": "ada"}})
		if row := jobRow(t, h, id); text(row.Status) != "pending" || text(row.Payload) != `{"name":"ada"}` || row.CompletedAt != nil {
			t.Errorf("enqueued: %+v", row)
		}
		must(t, e.Start())
		row := over(t, e, id)
		if text(row.Status) != "completed" || row.CompletedAt == nil || row.ErrorLog != nil || <-got != "ada" {
			t.Errorf("row %+v", row)
		}
		must(t, e.Close())
		if len(got) != 0 {
			t.Error("it was run more than once")
		}
	})
}

func TestRolledBackJobIsNone(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := open(t, url, nil)
		var id catalog.JobID
		fail := errors.New("no")
		err := h.InTx(t.Context(), func(tx *catalog.Tx) (err error) {
			if id, err = Enqueue(t.Context(), tx, Job{Type: "tenantgate.x", Key: "k"}); err != nil {
				return err
			}
			return fail
		})
		if !errors.Is(err, fail) {
			t.Fatal(err)
		}
		if _, err := h.Jobs.Get(t.Context(), id); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("the job is there: %v", err)
		}
		if id, err := h.JobByKey(t.Context(), "k"); id != "" || err != nil {
			t.Errorf("its key is taken: %q, %v", id, err)
		}
	})
}

// What a program that knows nothing of us inserts by SQL is found, whatever it left out.
func TestRowsInsertedBySQLAreRunOrRefused(t *testing.T) {
	onBothEngines(t, func(t *testing.T, url string) {
		h := open(t, url, nil)
		e := engine(t, h, Config{})
		e.Handle("tenantgate.greet", Kind{Work: func(context.Context, *Run) error { return nil }})
		must(t, e.Start())
		huge := strings.Repeat("x", catalog.JobPayloadLimit)
		for _, tc := range []struct{ id, values, status, log string }{
			{"plain", `('plain', 'tenantgate.greet', 'pending', '{"a": 1}', '2026-01-01T00:00:00')`, "completed", "NULL"},
			{"nulls", `('nulls', 'tenantgate.greet', NULL, NULL, NULL)`, "completed", "NULL"},
			{"odd", `('odd', 'tenantgate.greet', 'QUEUED', '', '')`, "completed", "NULL"},
			{"unknown", `('unknown', 'tenantgate.nothing', 'pending', '{}', NULL)`, "failed", "knows no such job type"},
			{"bare", `('bare', 'tenantgate.', NULL, NULL, NULL)`, "failed", "knows no such job type"},
			{"broken", `('broken', 'tenantgate.greet', 'pending', '{"a": ', NULL)`, "failed", "no JSON"},
			{"huge", `('huge', 'tenantgate.greet', 'pending', '"` + huge + `"', NULL)`, "failed", "more than"},
			{"number", `('number', 'tenantgate.greet', 'Pending', '7', '2026-01-01T00:00:00+02:00')`, "completed", "NULL"},
			{"it''s; \"ö\" --", `('it''s; "ö" --', 'tenantgate.greet', 'pending', '{}', NULL)`, "completed", "NULL"},
		} {
			execute(t, url, "INSERT INTO sys_jobs (id, job_type, status, payload, created_at) VALUES "+tc.values)
			row := over(t, e, catalog.JobID(strings.ReplaceAll(tc.id, "''", "'")))
			if text(row.Status) != tc.status || !strings.Contains(text(row.ErrorLog), tc.log) || row.CompletedAt == nil || text(row.CreatedAt) == "NULL" {
				t.Errorf("%s: status %s, log %s, completed %s, created %s", tc.id, text(row.Status), text(row.ErrorLog), text(row.CompletedAt), text(row.CreatedAt))
			}
		}
	})
}
