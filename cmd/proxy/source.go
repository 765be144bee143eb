package main

import (
	"context"
	"errors"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
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
	cfg.Clock = p.clock
	return cfg, nil
}
