package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/jobs/lifecycle"
	"github.com/tenantgate/tenantgate/jobs/tenantdb"
	"github.com/tenantgate/tenantgate/sealing"
)

// withTenants is withKeys for what moves, ends and examines tenants. Where provisioning.admin_url is not set there is no
// Server.
func (p *program) withTenants(ctx context.Context, f func(context.Context, *config.Config, lifecycle.Deps) error) error {
	cfg, err := config.LoadProvisioning(ctx, p.source())
	if err != nil {
		return configFault(err)
	}
	var keys seal.Keyset
	if !cfg.SecretKey.IsZero() {
		if keys, err = seal.ParseKeyset(cfg.SecretKey); err != nil {
			return configFault(fmt.Errorf("secret_key: %w", err))
		}
	}
	migrations, err := tenantdb.LoadMigrations(cfg.Provisioning.MigrationsDir)
	if err != nil {
		return configFault(err)
	}
	cfg.HostDatabase.Clock = p.clock
	return openHost(ctx, cfg.HostDatabase, func(ctx context.Context, host *catalog.HostDatabase) error {
		opener := sealing.New(sealing.Config{Keys: keys, Refs: cfg.HostDatabase.Refs, Clock: p.clock, Lookup: p.lookup})
		defer opener.Close()
		deps := lifecycle.Deps{Host: host, Opener: opener, Migrations: migrations, Clock: p.clock}
		admin := cfg.ProvisionConfig().AdminURL
		if admin.IsZero() {
			return f(ctx, cfg, deps)
		}
		installation, err := host.Installation(ctx)
		if err != nil {
			return err
		}
		if deps.Server, err = tenantdb.New(tenantdb.Config{URL: admin, Installation: installation}); err != nil {
			return configFault(fmt.Errorf("provisioning.admin_url: %w", err))
		}
		return errors.Join(f(ctx, cfg, deps), deps.Server.Close())
	})
}

// freshness is how long a replica may take to hear of a change.
func freshness(cfg *config.Config) time.Duration { return cfg.Cache.Heartbeat }

// tenantIDs turns arguments into ids; none is every tenant.
func tenantIDs(ctx context.Context, host *catalog.HostDatabase, args []string) ([]catalog.TenantID, error) {
	ids := make([]catalog.TenantID, len(args))
	for i, name := range args {
		var err error
		if ids[i], err = findTenant(ctx, &host.Tables, name); err != nil {
			return nil, err
		}
	}
	return ids, nil
}
