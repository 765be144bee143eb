package main

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/tenantgate/tenantgate"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/router"
)

// gate is what serve, demo and explain need of a tenantgate.Gate.
type gate interface {
	Handler() http.Handler
	AdminHandler() http.Handler
	Reload(context.Context, *config.Config) error
	Explain(context.Context, router.Question) (router.Explanation, error)
	Host() *catalog.HostDatabase
	Logger() *slog.Logger
	Waiting() error
	Failed() <-chan error
	Drain()
	Close() error
}

// opener wires a gate together.
type opener func(context.Context, *config.Config, tenantgate.Options) (gate, error)

// openGate opens the real one.
func openGate(ctx context.Context, cfg *config.Config, opts tenantgate.Options) (gate, error) {
	opts.Version = version().version
	g, err := tenantgate.OpenWith(ctx, cfg, opts)
	if err != nil {
		return nil, err
	}
	return g, nil
}
