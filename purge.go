package tenantgate

import (
	"context"
	"errors"
	"fmt"

	"github.com/tenantgate/tenantgate/jobs"
	"github.com/tenantgate/tenantgate/jobs/lifecycle"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
)

// purge removes tenants whose retention is over, with what provisioning.admin_url leads to.
func (g *Gate) purge() jobs.Kind {
	return jobs.Kind{Timeout: lifecycle.PurgeTimeout, Work: func(ctx context.Context, _ *jobs.Run) (err error) {
		deps := lifecycle.Deps{Host: g.host, Clock: g.clock}
		if admin := g.inForce().ProvisionConfig().AdminURL; !admin.IsZero() {
			installation, err := g.host.Installation(ctx)
			if err != nil {
				return err
			}
			deps.Server, err = tenantdb.New(tenantdb.Config{URL: admin, Installation: installation})
			if err != nil {
				return jobs.Permanent(fmt.Errorf("provisioning.admin_url: %w", err))
			}
			defer func() { err = errors.Join(err, deps.Server.Close()) }()
		}
		n, err := lifecycle.NewRemover(lifecycle.RemoveConfig{}, deps).PurgeDue(ctx)
		if n > 0 {
			g.telemetry.Logger.InfoContext(ctx, "deleted tenants were removed", "tenants", n)
		}
		return err
	}}
}
