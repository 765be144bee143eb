package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// root builds the command tree. Each program has its own: cobra's commands keep what they parsed.
func (p *program) root() *cobra.Command {
	root := group("tenantgate", "A reverse proxy that knows who asks, for which tenant, and whether it pays", "tenantgate demo")
	root.Long = "tenantgate stands in front of an app. For every request it finds out who asks, for which tenant, where that\n" +
		"tenant's data is and whether it pays, and forwards the answers to the app in headers. What cannot be checked is\n" +
		"denied. `tenantgate demo` shows all of it, without any set-up."
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%s: %w; see %s --help", cmd.CommandPath(), err, cmd.CommandPath())
	})
	root.PersistentFlags().StringVar(&p.configFile, "config", "", "configuration file; absent: ./config.yaml, else the environment alone")
	root.AddCommand(
		demoCommand(p), initCommand(p), serveCommand(p), configCommand(p), migrateCommand(p), explainCommand(p),
		tenants(p).command(p, tenantDelete(p), tenantRestore(p),
			tenantActivity(p, "suspend", "Keep everybody out of a tenant", false),
			tenantActivity(p, "resume", "Let members into a suspended tenant again", true),
			tenantProvision(p), tenantMigrate(p),
			tenantPause(p), tenantUnpause(p),
			tenantEncrypt(p), tenantDoctor(p)),
		users().command(p, userBlock(p), userUnblock(p)),
		members().command(p), plans().command(p, planSync(p)),
		subscriptions().command(p, subscriptionReconcile(p)), domains().command(p, domainVerify(p)), sessionCommand(p),
		auditCommand(p), keyCommand(p), versionCommand(p), completionCommand(p),
		tokenCommand(p), jobCommand(p),
	)
	return root
}

// group is a command that only has others below it: alone, or with a word that is none of them, it is wrong usage.
func group(use, short, example string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Example: example, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("%s: no such command; want one of %s", cmd.CommandPath(), verbs(cmd))
			}
			return usagef("%s: say what to do: %s", cmd.CommandPath(), verbs(cmd))
		},
	}
}

func verbs(cmd *cobra.Command) string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			names = append(names, c.Name())
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no argument; see %s --help", cmd.CommandPath(), cmd.CommandPath())
	}
	return nil
}

func oneArg(naming string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return usagef("%s needs one argument: %s; see %s --help", cmd.CommandPath(), naming, cmd.CommandPath())
		}
		return nil
	}
}

func atMostOneArg(cmd *cobra.Command, args []string) error {
	if len(args) > 1 || len(args) == 1 && args[0] == "" {
		return usagef("%s takes at most one argument; see %s --help", cmd.CommandPath(), cmd.CommandPath())
	}
	return nil
}

// joinBools lets people write --is-active false: a flag that may stand alone takes its value only after "=".
func joinBools(args []string) []string {
	out := make([]string, 0, len(args))
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			return append(out, args[i:]...)
		}
		next := i+1 < len(args) && (args[i+1] == "true" || args[i+1] == "false")
		if next && slices.Contains([]string{"--is-active", "--is-sys-admin", "--cancel-at-period-end"}, args[i]) {
			out = append(out, args[i]+"="+args[i+1])
			i++
			continue
		}
		out = append(out, args[i])
	}
	return out
}
