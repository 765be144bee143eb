package jobs

import (
	"context"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// CleanUpType comes round every CleanUpInterval and removes what has ended.
const (
	CleanUpType     = Prefix + "clean_up"
	CleanUpInterval = 10 * time.Minute
)

const (
	cleanAtOnce = 500                   // rows of one kind in one transaction
	cleanRest   = 20 * time.Millisecond // between two, so that other writers have their turn
)

// CleanUp removes sessions, codes and tokens that have ended, and jobs of ours that ended long ago, in short transactions.
// It goes by the clock that all replicas share: one whose own is ahead must not end what others still honour.
func CleanUp(host *catalog.HostDatabase) Kind {
	return Kind{MaxAttempts: 3, Parallel: 1, Work: func(ctx context.Context, _ *Run) error {
		for {
			now, err := host.Now(ctx)
			if err != nil {
				return err
			}
			more, err := host.CleanUp(ctx, now, cleanAtOnce)
			if err != nil {
				return err
			}
			old, err := host.DeleteOldJobs(ctx, cleanAtOnce)
			if err != nil {
				return err
			}
			if !more && old < cleanAtOnce {
				return nil
			}
			if !sleep(ctx, cleanRest) {
				return ctx.Err()
			}
		}
	}}
}
