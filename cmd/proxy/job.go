package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/catalog"
)

func jobCommand(p *program) *cobra.Command {
	k := jobs()
	cmd := group("job", "See and steer jobs: what has to be done in the background", "tenantgate job list --status failed")
	cmd.AddCommand(k.list(p), k.show(p),
		changeJob(p, "retry", "Let a failed job of tenantgate's run again", (*catalog.Tables).RetryJob,
			"Makes a failed job pending, as if it had never been tried; a process that serves takes it within seconds.\n"+
				"Jobs of other programs, whose type does not begin with tenantgate., are refused."),
		changeJob(p, "cancel", "End a job of tenantgate's", (*catalog.Tables).CancelJob,
			"A job that waits is failed at once. One that runs is told within seconds, and failed when its worker has ended.\n"+
				"Jobs of other programs, whose type does not begin with tenantgate., are refused."))
	return cmd
}

// changeJob changes one job and prints it as it then stands.
func changeJob(p *program, verb, short string, change func(*catalog.Tables, context.Context, catalog.JobID) error, long string) *cobra.Command {
	cmd := &cobra.Command{
		Use: verb + " ID", Short: short, Long: long, Args: oneArg("ID"),
		Example: "tenantgate job " + verb + " 9a1b2c3d4e5f60718293a4b5c6d7e8f9",
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		k := jobs()
		return p.change(cmd.Context(), *output, func(ctx context.Context, tx *catalog.Tx) (record, error) {
			row, err := k.get(ctx, &tx.Tables, selector{id: args[0]})
			if err != nil {
				return nil, err
			}
			if err := change(&tx.Tables, ctx, row.ID); err != nil {
				return nil, err
			}
			if row, err = k.get(ctx, &tx.Tables, selector{id: args[0]}); err != nil {
				return nil, err
			}
			return k.one(ctx, &tx.Tables, row, false)
		})
	}
	return cmd
}

// jobRunNames are what our own tables say about a job of ours, beside its columns.
func jobRunNames() []string {
	return []string{"attempts", "max_attempts", "run_at", "next_at", "canceled_by"}
}

// jobRuns tells how often jobs were tried and when they are tried next; of other programs' jobs, nothing.
func jobRuns(ctx context.Context, t *catalog.Tables, rows []catalog.SystemJob) ([]record, error) {
	ids := make([]catalog.JobID, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	runs, err := t.JobRuns(ctx, ids...)
	if err != nil {
		return nil, err
	}
	names := jobRunNames()
	out := make([]record, len(rows))
	for i, id := range ids {
		values := make([]any, len(names))
		if run, ours := runs[id]; ours {
			values = []any{number(run.Attempt), number(run.MaxAttempts), run.RunAt, stringOrNil(run.NextAt), stringOrNil(run.CanceledBy)}
		}
		for j, name := range names {
			out[i] = append(out[i], field{name, values[j]})
		}
	}
	return out, nil
}

func number(n *int64) any {
	if n == nil {
		return nil
	}
	return *n
}

func stringOrNil(s *string) any {
	if s == nil {
		return nil
	}
	return *s
}
