package main

import (
	"errors"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/internal/demo"
)

func demoCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "demo", Short: "See everything work, in one process, without set-up", Args: noArgs,
		Long: "Runs the proxy, a development OpenID provider with a page to pick a person, an app that opens the tenant's own\n" +
			"database from the header, and a development Stripe that takes no money, all on loopback. Needs no network and no set-up; Ctrl-C ends it and leaves nothing\n" +
			"behind, unless --data says where to keep it.",
		Example: "tenantgate demo --listen 127.0.0.1:9000 --data ./demo-data",
	}
	opts := demo.Options{Stdout: p.out, Log: p.err, Version: version().version}
	cmd.Flags().StringVar(&opts.Listen, "listen", demo.DefaultListen, "address of the proxy, on loopback")
	cmd.Flags().IntVar(&opts.ProviderPort, "provider-port", demo.DefaultProviderPort, "port of the development OpenID provider")
	cmd.Flags().IntVar(&opts.AppPort, "app-port", demo.DefaultAppPort, "port of the app")
	cmd.Flags().IntVar(&opts.AdminPort, "admin-port", demo.DefaultAdminPort, "port of health, readiness and metrics")
	cmd.Flags().IntVar(&opts.StripePort, "stripe-port", 0, "port of the development Stripe; 0: any free one")
	cmd.Flags().StringVar(&opts.DataDir, "data", "", "directory that keeps everything and is started from again; absent: nothing is kept")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		opts.Output = string(*output)
		// A terminal that is closed must leave nothing behind either.
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
		defer stop()
		err := demo.Run(ctx, opts)
		if errors.Is(err, demo.ErrUsage) {
			return &usageError{err}
		}
		return err
	}
	return cmd
}
