package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"time"

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

// opener wires a gate together; its log goes to the writer.
type opener func(context.Context, *config.Config, io.Writer, func() time.Time) (gate, error)

// openGate opens the real one.
func openGate(ctx context.Context, cfg *config.Config, log io.Writer, clock func() time.Time) (gate, error) {
	g, err := tenantgate.OpenWith(ctx, cfg, tenantgate.Options{LogWriter: log, Version: version().version, Clock: clock})
	if err != nil {
		return nil, err
	}
	return g, nil
}
