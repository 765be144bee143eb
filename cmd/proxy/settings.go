package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/config"
)

func configCommand(p *program) *cobra.Command {
	cmd := group("config", "Check and print the configuration", "tenantgate config check config.yaml")
	cmd.AddCommand(configCheck(p), configPrint(p))
	return cmd
}

func configCheck(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "check [FILE]", Short: "Say what is wrong with a configuration, and where", Args: atMostOneArg,
		Long: "Checks FILE (else --config, else ./config.yaml, else the environment alone) as serve would, and reports every\n" +
			"fault in one go, each with its line and column. Exits 2 if there is one.",
		Example: "tenantgate config check /etc/tenantgate/config.yaml",
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		src := p.source()
		if len(args) == 1 {
			if src.Path != "" {
				return usagef("%s: the file is named twice: as the argument and by --config", cmd.CommandPath())
			}
			src.Path = args[0]
		}
		cfg, err := load(cmd.Context(), src)
		return errors.Join(p.tellCheck(*output, cfg, err), err)
	}
	return cmd
}

// tellCheck prints what is right; what is wrong goes to standard error, and for programs here as well.
func (p *program) tellCheck(f format, cfg *config.Config, err error) error {
	var warnings []config.Fault
	file := any(nil)
	if cfg != nil {
		warnings, file = cfg.Warnings(), orDash(cfg.File())
	}
	if f == formatJSON {
		var faults []config.Fault
		if found, ok := errors.AsType[*config.Error](err); ok {
			faults = found.Faults
		}
		return writeJSON(p.out, record{{"valid", err == nil}, {"file", file}, {"faults", faultRecords(faults)}, {"warnings", faultRecords(warnings)}})
	}
	if err != nil {
		return nil
	}
	for _, w := range warnings {
		_, _ = fmt.Fprintf(p.out, "warning: %s\n", printable(w.String()))
	}
	_, err = fmt.Fprintf(p.out, "%s: valid\n", cmp.Or(cfg.File(), "environment"))
	return err
}

func faultRecords(faults []config.Fault) []record {
	out := make([]record, len(faults))
	for i, f := range faults {
		out[i] = record{
			{"file", orDash(f.File)}, {"line", f.Line}, {"column", f.Column}, {"variable", orDash(f.Variable)}, {"path", orDash(f.Path)}, {"message", f.Message},
		}
	}
	return out
}

func configPrint(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "print", Short: "Print the configuration in force, secrets redacted", Args: noArgs,
		Long:    "Prints every key with the value that is in force and where it comes from: a line of the file, a variable, or the\ndefault. Secrets read ***.",
		Example: "tenantgate config print --config config.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(cmd.Context(), p.source())
			if err != nil {
				return err
			}
			_, err = p.out.Write(cfg.YAML())
			return err
		},
	}
}

// The files that init writes.
const (
	starterFile = config.DefaultPath
	masterFile  = "tenantgate.secret"
)

func initCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "init", Short: "Write a commented starter configuration and a master secret", Args: noArgs,
		Long: "Writes " + starterFile + " and a master secret, which is for you alone (mode 0600). A file that is there already\n" +
			"is never overwritten.",
		Example: "tenantgate init --dir /etc/tenantgate",
	}
	output := outputFlag(cmd)
	dir := cmd.Flags().String("dir", ".", "directory to write to; it is made if it is not there")
	cmd.RunE = func(*cobra.Command, []string) error {
		starter, key, err := writeStarter(*dir)
		if err != nil {
			return err
		}
		return writeOne(p.out, *output, record{
			{"config", starter},
			{"secret_key_file", key},
			{"next", "fill in the provider and the upstream, then run: tenantgate config check " + starter},
		})
	}
	return cmd
}

// writeStarter writes both files or none.
func writeStarter(dir string) (starter, key string, err error) {
	// secret_key_file is absolute, so that serve finds it from every directory.
	if dir, err = filepath.Abs(dir); err != nil {
		return "", "", fmt.Errorf("--dir: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", fmt.Errorf("--dir: %w", err)
	}
	starter, key = filepath.Join(dir, starterFile), filepath.Join(dir, masterFile)
	for _, path := range []string{starter, key} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return "", "", fmt.Errorf("%s is there already and stays as it is: remove it or give another --dir", path)
		}
	}
	if err := createFile(key, []byte(config.NewSecret()+"\n"), 0o600); err != nil {
		return "", "", err
	}
	if err := createFile(starter, config.Starter(key), 0o644); err != nil {
		return "", "", errors.Join(err, os.Remove(key))
	}
	return starter, key, nil
}

// createFile never overwrites, not even what comes between a look and the write.
func createFile(path string, text []byte, mode fs.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(path)
		}
	}()
	_, err = f.Write(text)
	return err
}
