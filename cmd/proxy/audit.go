package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/audit"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
)

func auditCommand(p *program) *cobra.Command {
	cmd := group("audit", "Read and check the audit log", "tenantgate audit list --target-id acme")
	cmd.AddCommand(auditList(p), auditVerify(p), auditExport(p), auditArchive(p))
	return cmd
}

func auditVerify(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify", Short: "Find what was changed, removed or put in", Args: noArgs,
		Long: "Compares the audit log with its chain, both as they stand at one moment, and names every row and entry that does\n" +
			"not fit. Rows that are not chained yet are the tail: they are counted, and no finding. Exits 1 with findings.\n\n" +
			"A checkpoint, from the field checkpoint of the program's log, finds what was cut off or computed anew behind it.\n" +
			"It takes the master secret; without one the chain alone is checked.",
		Example: "tenantgate audit verify --checkpoint \"$(grep -o 'tenantgate-audit-1/[^\"]*' proxy.log | tail -1)\"",
	}
	output := outputFlag(cmd)
	checkpoints := cmd.Flags().StringArray("checkpoint", nil, "text of a checkpoint; may be given several times: older ones narrow down where it was rewritten")
	file := cmd.Flags().String("file", "", "check a file of audit archive by itself instead of the log")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *file != "" {
			return p.verifyFile(cmd, *output, *file, *checkpoints)
		}
		return p.withCheckpoints(cmd.Context(), *checkpoints, func(ctx context.Context, host *catalog.HostDatabase, keys *audit.Keys, at []audit.Checkpoint) error {
			entries := 0
			tell := p.progress("verify", "entries", &entries)
			r, err := audit.Verify(ctx, host, keys, at, func(n int64) { tell(int(n) - entries) })
			if err != nil {
				return err
			}
			return errors.Join(writeOne(p.out, *output, verified(*output, &r, len(at))), findings(*output, &r))
		})
	}
	return cmd
}

// verifyFile checks a file of audit archive; where there is no master secret its signature is not looked at.
func (p *program) verifyFile(cmd *cobra.Command, output format, path string, checkpoints []string) error {
	if len(checkpoints) > 0 {
		return usagef("%s: --file checks a file by itself: it takes no --checkpoint", cmd.CommandPath())
	}
	return p.withCheckpoints(cmd.Context(), nil, func(_ context.Context, _ *catalog.HostDatabase, keys *audit.Keys, _ []audit.Checkpoint) error {
		rows, checkpoint, err := audit.VerifyFile(path, keys)
		if err != nil {
			return fmt.Errorf("audit verify: %w", err)
		}
		return writeOne(p.out, output, record{{"rows", rows}, {"checkpoint", checkpoint}, {"signed", keys != nil}})
	})
}

// withCheckpoints opens the host database, and the keys where there is a master secret; a checkpoint that is none or is
// forged is refused.
func (p *program) withCheckpoints(ctx context.Context, texts []string,
	f func(context.Context, *catalog.HostDatabase, *audit.Keys, []audit.Checkpoint) error,
) error {
	cfg, secrets, err := p.keysConfig(ctx)
	if err != nil {
		if len(texts) > 0 {
			return err
		}
		if cfg, err = p.hostConfig(ctx); err != nil {
			return err
		}
		secrets = seal.Keyset{}
	}
	return openHost(ctx, cfg, func(ctx context.Context, host *catalog.HostDatabase) error {
		if secrets.IsZero() {
			return f(ctx, host, nil, nil)
		}
		keys, err := audit.ReadKeys(ctx, host, secrets)
		if err != nil {
			return err
		}
		checkpoints := make([]audit.Checkpoint, len(texts))
		for i, text := range texts {
			if checkpoints[i], err = keys.ParseCheckpoint(text); err != nil {
				return fmt.Errorf("audit verify: --checkpoint: %w", err)
			}
		}
		return f(ctx, host, keys, checkpoints)
	})
}

// verified is what verify prints.
func verified(f format, r *audit.Report, checkpoints int) record {
	out := record{
		{"rows", r.Rows},
		{"entries", r.Entries},
		{"tail", r.Tail},
		{"archived", r.Archived},
		{"backfilled", r.Backfilled},
		{"seq", r.Head.Seq},
		{"hash", r.Head.Hash},
		{"checkpoints", checkpoints},
		{"unsigned", r.Unsigned},
		{"found", r.Count},
	}
	if f == formatJSON {
		list := r.Findings
		if list == nil {
			list = []audit.Finding{}
		}
		out = append(out, field{"findings", list})
	}
	return out
}

// findings is a line for each; with JSON they stand in the object, and one line says so.
func findings(f format, r *audit.Report) error {
	if r.Count == 0 {
		return nil
	}
	if f == formatJSON {
		return fmt.Errorf("audit verify: %d findings", r.Count)
	}
	var errs []error
	for _, found := range r.Findings {
		if found.Seq > 0 {
			errs = append(errs, fmt.Errorf("audit verify: entry %d: %s", found.Seq, found.What))
			continue
		}
		errs = append(errs, fmt.Errorf("audit verify: %s", found.What))
	}
	if more := r.Count - len(r.Findings); more > 0 {
		errs = append(errs, fmt.Errorf("audit verify: %d findings more", more))
	}
	return errors.Join(errs...)
}

func auditExport(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "export", Short: "Write the log out", Args: noArgs,
		Long: "Writes every row of the audit log, in the order of the chain, with its place in it: to standard output, or to a\n" +
			"new file (mode 0600) that is there whole or not at all. JSON lines keep NULL apart from the empty text. CSV does\n" +
			"not, and holds values as they are: a spreadsheet may take one that begins with =, +, - or @ for a formula.",
		Example: "tenantgate audit export --file audit.jsonl",
	}
	as := exportFormat(audit.JSONLines)
	cmd.Flags().Var(&as, "format", "jsonl or csv")
	file := cmd.Flags().String("file", "", "a file that is not there yet, instead of standard output")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return p.withHost(cmd.Context(), func(ctx context.Context, host *catalog.HostDatabase) error {
			var done audit.Exported
			var err error
			write := func(w io.Writer) error {
				done, err = audit.Export(ctx, host, w, audit.Format(as))
				return err
			}
			if *file != "" {
				err = audit.WriteFile(*file, write)
			} else {
				out := bufio.NewWriterSize(p.out, 1<<16)
				err = errors.Join(write(out), out.Flush())
			}
			if err != nil {
				return fmt.Errorf("audit export: %w", err)
			}
			if done.Missing > 0 {
				return fmt.Errorf("audit export: %d rows that were chained are gone; run `tenantgate audit verify`", done.Missing)
			}
			return nil
		})
	}
	return cmd
}

// exportFormat is the value of --format.
type exportFormat audit.Format

// String, Set and Type implement pflag.Value.
func (f *exportFormat) String() string { return string(*f) }

func (f *exportFormat) Set(text string) error {
	if f2 := audit.Format(text); f2 != audit.JSONLines && f2 != audit.CSV {
		return errors.New("want jsonl or csv")
	}
	*f = exportFormat(text)
	return nil
}

func (f *exportFormat) Type() string { return "jsonl|csv" }

func auditArchive(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "archive --before DATE --file PATH", Short: "Move old rows into a file", Args: noArgs,
		Long: "Writes the rows of before that date, as far as they are chained, to a new file with a signed last line, reads the\n" +
			"file again, and then deletes them, a thousand in a transaction. The chain keeps their entries, and each transaction\n" +
			"a signed record, so that `audit verify` still finds whatever was tampered with. Nothing is done where it finds\n" +
			"something now. Only the owner of the table sys_audit_logs may delete. Ended at any moment, the same command finishes.",
		Example: "tenantgate audit archive --before 2026-01-01 --file audit-2025.jsonl",
	}
	output := outputFlag(cmd)
	var before moment
	cmd.Flags().Var(&before, "before", "rows created before this time, ISO 8601")
	file := cmd.Flags().String("file", "", "the file; one that is there is taken if it is this archive's, whole")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if before == "" || *file == "" {
			return usagef("%s: needs --before and --file", cmd.CommandPath())
		}
		return p.withKeys(cmd.Context(), func(ctx context.Context, host *catalog.HostDatabase, secrets seal.Keyset) error {
			keys, err := audit.LoadKeys(ctx, host, secrets)
			if err != nil {
				return err
			}
			rows := 0
			done, err := audit.Archive(ctx, host, keys, string(before), *file, p.clock(), p.progress("archive", "rows", &rows))
			if err != nil {
				return fmt.Errorf("audit archive: %d rows were deleted: %w", done.Deleted, err)
			}
			written := *file
			if done.Rows == 0 {
				written = ""
			}
			return writeOne(p.out, *output, record{
				{"file", written}, {"rows", done.Rows}, {"deleted", done.Deleted}, {"resumed", done.Resumed}, {"sha256", done.SHA256},
			})
		})
	}
	return cmd
}
