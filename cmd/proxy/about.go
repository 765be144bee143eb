package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/config"
)

// build says what this binary was made of.
type build struct{ version, commit, time string }

// version reads it from the binary itself: the module's version where it was installed by one, else the commit.
func version() build {
	b := build{version: "devel"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.version = v
	}
	modified := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.commit = s.Value
		case "vcs.time":
			b.time = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	if modified && b.commit != "" {
		b.commit += "+changes"
	}
	return b
}

func versionCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "Say which version this is", Args: noArgs,
		Example: "tenantgate version --output json",
	}
	output := outputFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		b := version()
		return writeOne(p.out, *output, record{
			{"version", b.version},
			{"commit", orDash(b.commit)},
			{"commit_time", orDash(b.time)},
			{"go", runtime.Version()},
			{"platform", runtime.GOOS + "/" + runtime.GOARCH},
		})
	}
	return cmd
}

// orDash makes an absent text NULL.
func orDash(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func completionCommand(p *program) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use: "completion bash|zsh|fish|powershell", Short: "Write a completion script for a shell",
		Example: "tenantgate completion bash > /etc/bash_completion.d/tenantgate",
		Args:    oneArg("bash, zsh, fish or powershell"), ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(p.out, true)
			case "zsh":
				return root.GenZshCompletion(p.out)
			case "fish":
				return root.GenFishCompletion(p.out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(p.out)
			}
			return usagef("%s: no such shell; want bash, zsh, fish or powershell", cmd.CommandPath())
		},
	}
}

func keyCommand(p *program) *cobra.Command {
	cmd := group("key", "Make and rotate master secrets, renew keys", "umask 077; tenantgate key generate >> /run/secrets/tenantgate")
	cmd.AddCommand(&cobra.Command{
		Use: "generate", Short: "Print a new master secret, alone", Args: noArgs,
		Long: "Prints a new master secret, which is a line for secret_key_file. The first line signs, all verify: a new one\n" +
			"is added last, and moved first once every replica has read it.",
		Example: "umask 077; tenantgate key generate >> /run/secrets/tenantgate",
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(p.out, config.NewSecret())
			return err
		},
	}, keyRotate(p), keyRenew(p))
	return cmd
}
