package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/tenantgate/tenantgate/catalog"
)

// withHost opens the host database for a command of an operator, who is the actor of every change, and closes it.
func (p *program) withHost(ctx context.Context, f func(context.Context, *catalog.HostDatabase) error) error {
	cfg, err := p.hostConfig(ctx)
	if err != nil {
		return err
	}
	return openHost(ctx, cfg, f)
}

func openHost(ctx context.Context, cfg catalog.Config, f func(context.Context, *catalog.HostDatabase) error) error {
	host, err := catalog.New(ctx, cfg)
	if err != nil {
		return err
	}
	err = f(catalog.WithActor(ctx, catalog.Actor{ID: actor()}), host)
	if closed := host.Close(); err == nil {
		err = closed
	}
	return err
}

// change runs f in one transaction and, once that is committed, prints what f returns.
func (p *program) change(ctx context.Context, out format, f func(context.Context, *catalog.Tx) (record, error)) error {
	return p.changeRemarked(ctx, out, func(ctx context.Context, tx *catalog.Tx) (record, string, error) {
		done, err := f(ctx, tx)
		return done, "", err
	})
}

// changeRemarked is change with a line for standard error once it is done; "": none.
func (p *program) changeRemarked(ctx context.Context, out format, f func(context.Context, *catalog.Tx) (record, string, error)) error {
	return p.withHost(ctx, func(ctx context.Context, host *catalog.HostDatabase) error {
		var done record
		var remark string
		err := host.InTx(ctx, func(tx *catalog.Tx) (err error) {
			done, remark, err = f(ctx, tx)
			return err
		})
		if err != nil {
			return err
		}
		if remark != "" {
			_, _ = fmt.Fprintf(p.err, "warning: %s\n", printable(remark))
		}
		return writeOne(p.out, out, done)
	})
}

// actor is cli:<os user>@<host>.
func actor() string {
	name := "uid" + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	return "cli:" + name + "@" + host
}
