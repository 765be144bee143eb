package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
)

func keyRenew(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "renew", Short: "Make a new key for assertions", Args: noArgs,
		Long: "Makes a new key for X-Gate-Assertion. Running replicas publish it within ten seconds and sign with it after a\n" +
			"quarter of an hour; the old one stays published until the last assertion under it has ended, so that no request\n" +
			"fails. Every ninety days this happens by itself. Where a new key is on its way already, nothing is done.\n\n" +
			"With --now the old keys are retired at once: for a key that has become known to others. Apps then refuse\n" +
			"requests until they have fetched the key set again.",
		Example: "tenantgate key renew",
	}
	output := outputFlag(cmd)
	now := cmd.Flags().Bool("now", false, "retire the old keys at once; some requests fail until apps know the new one")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, secrets, err := p.keysConfig(cmd.Context())
		if err != nil {
			return err
		}
		return openHost(cmd.Context(), cfg, func(ctx context.Context, host *catalog.HostDatabase) error {
			done, err := auth.RenewAssertionKey(ctx, host, secrets, p.clock(), *now)
			if err != nil {
				return err
			}
			return writeOne(p.out, *output, record{{"id", done.ID}, {"created", done.Created}, {"signs_from", catalog.Timestamp(done.Signs)}})
		})
	}
	return cmd
}
