package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

const (
	// holdPrefix begins the holders of our pauses in sys_tenant_locks.
	holdPrefix = "migrate:"
	// holdLasts is how long the pause of a run that was killed keeps people out.
	holdLasts = time.Minute
	// holdRenewed is how often a run that lives moves the end.
	holdRenewed = holdLasts / 4
	// judged bounds how long a request may be between the look at the host database that let it in and the moment from
	// which it counts as under way: the deadline of that look.
	judged = time.Second
	// settled bounds the end of a pause.
	settled = 20 * time.Second
)

// errUnguarded ends a migration whose pause could not be kept: people may be inside again.
var errUnguarded = errors.New("the pause could not be kept, so that the migration was ended")

// paused runs f while nobody enters the tenant and what was under way has ended: every replica has heard of the pause
// (Freshness), then requests have had their time (Drain), and only then f begins. The pause is renewed meanwhile; where
// that fails until it would end, f's context ends first. Killed, it ends by the clock.
func (m *Migrator) paused(ctx context.Context, tenant catalog.TenantID, f func(context.Context) error) (err error) {
	hold := catalog.Hold{Tenant: tenant, Holder: holdPrefix + m.cfg.Run, Reason: "tenant migrate", Drain: m.cfg.Drain, Lasts: holdLasts}
	if err := m.deps.Host.HoldTenant(ctx, hold); err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	guarded, cancel := context.WithCancelCause(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() { m.renew(guarded, hold, cancel) })
	defer func() {
		cancel(nil)
		renewing.Wait()
		end, done := context.WithTimeout(context.WithoutCancel(ctx), settled)
		defer done()
		if released := m.deps.Host.ReleaseTenant(end, hold); released != nil && !errors.Is(released, catalog.ErrNotFound) {
			err = errors.Join(err, fmt.Errorf("the pause ends within %s by itself: %w", holdLasts, released))
		}
	}()
	if err := wait(guarded, m.cfg.Freshness+judged+m.cfg.Drain); err != nil {
		return err
	}
	err = f(guarded)
	if cause := context.Cause(guarded); errors.Is(cause, errUnguarded) {
		return cause
	}
	return err
}

// renew moves the pause's end until ctx ends.
func (m *Migrator) renew(ctx context.Context, hold catalog.Hold, cancel context.CancelCauseFunc) {
	kept := m.deps.Clock()
	for {
		if wait(ctx, holdRenewed) != nil {
			return
		}
		now := m.deps.Clock()
		once, done := context.WithTimeout(ctx, holdRenewed)
		err := m.deps.Host.RenewHold(once, hold)
		done()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			kept = now
		case errors.Is(err, catalog.ErrNotFound) || m.deps.Clock().Sub(kept) > holdLasts-holdRenewed:
			cancel(errUnguarded)
			return
		}
	}
}
