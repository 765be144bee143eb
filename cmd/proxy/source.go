package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/seal"
)

// source is where a command's configuration comes from: --config, else ./config.yaml, else the environment alone.
func (p *program) source() config.LoadOptions {
	return config.LoadOptions{Path: p.configFile, Environ: p.environ, Serve: true}
}

// load reads the whole configuration for a proxy.
func load(ctx context.Context, source config.LoadOptions) (*config.Config, error) {
	cfg, err := config.Load(ctx, source)
	if err != nil {
		return nil, configFault(err)
	}
	return cfg, nil
}

// configFault marks what is wrong with the configuration, exit code 2, and leaves what failed for other reasons.
func configFault(err error) error {
	for _, other := range []error{catalog.ErrUnavailable, catalog.ErrSchema, catalog.ErrConflict, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, other) {
			return err
		}
	}
	return &usageError{err}
}

// hostConfig reads what administration needs: where the host database is. The rest of the configuration may be missing
// or wrong.
func (p *program) hostConfig(ctx context.Context) (catalog.Config, error) {
	cfg, err := config.LoadHostDatabase(ctx, p.source())
	if err != nil {
		return catalog.Config{}, configFault(err)
	}
	cfg.Clock, cfg.Unrecorded = p.clock, p.unrecorded
	return cfg, nil
}

// keysConfig is hostConfig for what also needs the master secrets.
func (p *program) keysConfig(ctx context.Context) (catalog.Config, seal.Keyset, error) {
	cfg, key, err := config.LoadKeys(ctx, p.source())
	if err != nil {
		return catalog.Config{}, seal.Keyset{}, configFault(err)
	}
	secrets, err := seal.ParseKeyset(key)
	if err != nil {
		return catalog.Config{}, seal.Keyset{}, configFault(fmt.Errorf("secret_key: %w", err))
	}
	cfg.Clock, cfg.Unrecorded = p.clock, p.unrecorded
	return cfg, secrets, nil
}

// unrecorded says that a change was made without its row in the audit log (audit.mode best_effort).
func (p *program) unrecorded(event string, err error) {
	_, _ = fmt.Fprintf(p.err, "warning: %s is done and not in the audit log: %s\n", printable(event), unsecret(err.Error()))
}
