package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/sealing"
)

// withKeys is withHost for what also needs the master secrets.
func (p *program) withKeys(ctx context.Context, f func(context.Context, *catalog.HostDatabase, seal.Keyset) error) error {
	cfg, keys, err := p.keysConfig(ctx)
	if err != nil {
		return err
	}
	return openHost(ctx, cfg, func(ctx context.Context, host *catalog.HostDatabase) error { return f(ctx, host, keys) })
}

func tenantEncrypt(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "encrypt [ID|SLUG | --all]", Short: "Seal db_url under the master secret", Args: atMostOneArg,
		Long: "Seals the plain db_url of one tenant, or of all, under the first line of the secret file. What is sealed, a\n" +
			"reference or empty stays as it is. Requests go on meanwhile. Ended at any moment it can be run again.\n\n" +
			"A sealed db_url is for tenantgate alone: another program that reads core_tenants.db_url, such as an fh-saas app,\n" +
			"cannot use it. That is why it asks, or takes --yes.",
		Example: "tenantgate tenant encrypt --all",
	}
	output := outputFlag(cmd)
	all := cmd.Flags().Bool("all", false, "every tenant")
	yes := cmd.Flags().Bool("yes", false, "no other program reads db_url: do not ask")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (len(args) == 1) == *all {
			return usagef("%s: name one tenant, or all by --all", cmd.CommandPath())
		}
		return p.withKeys(cmd.Context(), func(ctx context.Context, host *catalog.HostDatabase, keys seal.Keyset) error {
			var id catalog.TenantID
			if !*all {
				var err error
				if id, err = findTenant(ctx, &host.Tables, args[0]); err != nil {
					return err
				}
			}
			if !*yes {
				if err := p.confirmEncrypt(); err != nil {
					return err
				}
			}
			rows := 0
			done, err := sealing.Encrypt(ctx, host, keys, id, p.progress("encrypt", "tenants", &rows))
			if err != nil {
				return interrupted("encrypt", done.Sealed, err)
			}
			return errors.Join(writeOne(p.out, *output, record{
				{"sealed", done.Sealed},
				{"already_sealed", done.AlreadySealed},
				{"references", done.References},
				{"empty", done.Empty},
				{"failed", done.Failures.Count},
				{"key", keys.FirstID()},
			}), failures("encrypt", &done.Failures))
		})
	}
	return cmd
}

// confirmEncrypt asks whether anybody else needs the plain URIs.
func (p *program) confirmEncrypt() error {
	_, _ = fmt.Fprint(p.err, "Sealed values are for tenantgate alone: another program that reads core_tenants.db_url, such as an fh-saas app,\n"+
		"cannot use them. Type yes to go on: ")
	line, err := bufio.NewReader(io.LimitReader(p.in, 4096)).ReadString('\n')
	_, _ = fmt.Fprintln(p.err)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(line) != "yes" {
		return errors.New("encrypt: nothing is changed; pass --yes to go on without asking")
	}
	return nil
}

func keyRotate(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "rotate", Short: "Seal everything anew under the secret file's first line", Args: noArgs,
		Long: "Seals what lies sealed in the host database under an older line of the secret file anew under its first line:\n" +
			"keys, tenants' db_url and what sessions keep. The file itself is only read. A new line is added last, and moved\n" +
			"first once every replica has read it; then this is run, and the older lines can go: sessions and assertions stay\n" +
			"good. Requests go on meanwhile. Ended at any moment it can be run again. Exits 1 if something did not open.",
		Example: "tenantgate key rotate --output json",
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return p.withKeys(cmd.Context(), func(ctx context.Context, host *catalog.HostDatabase, keys seal.Keyset) error {
			rows := 0
			done, failed, err := sealing.Rotate(ctx, host, keys, sealedColumns(), p.progress("rotate", "rows", &rows))
			total := sealing.Rotated{}
			for _, c := range done {
				total.Resealed, total.Current, total.Failed = total.Resealed+c.Resealed, total.Current+c.Current, total.Failed+c.Failed
			}
			if err != nil {
				return interrupted("rotate", total.Resealed, err)
			}
			return errors.Join(writeOne(p.out, *output, record{
				{"key", keys.FirstID()},
				{"resealed", total.Resealed},
				{"current", total.Current},
				{"failed", total.Failed},
				{"columns", columnsOf(*output, done)},
			}), failures("rotate", &failed))
		})
	}
	return cmd
}

// sealedColumns is everything that lies sealed in the host database.
func sealedColumns() []sealing.Column {
	return append(auth.SealedColumns(), sealing.TenantURLs())
}

func columnsOf(f format, done []sealing.Rotated) any {
	if f == formatJSON {
		out := make([]record, len(done))
		for i, c := range done {
			out[i] = record{{"column", c.Column}, {"resealed", c.Resealed}, {"current", c.Current}, {"failed", c.Failed}}
		}
		return out
	}
	out := make([]string, len(done))
	for i, c := range done {
		out[i] = fmt.Sprintf("%s: %d of %d", c.Column, c.Resealed, c.Resealed+c.Current+c.Failed)
	}
	return out
}

// progressEvery is how many rows go by between two lines of progress.
const progressEvery = 10_000

// progress tells standard error how far a long command is.
func (p *program) progress(verb, rows string, total *int) func(int) {
	return func(more int) {
		before := *total
		*total += more
		if *total/progressEvery > before/progressEvery {
			_, _ = fmt.Fprintf(p.err, "%s: %d %s looked at\n", verb, *total, rows)
		}
	}
}

// interrupted says that what is done is done.
func interrupted(verb string, done int, err error) error {
	return fmt.Errorf("%s: ended after %d were sealed: %w; run it again: it goes on where it was", verb, done, err)
}

// failures is a line for each row that could not be sealed.
func failures(verb string, f *sealing.Failures) error {
	var errs []error
	for _, row := range f.First {
		errs = append(errs, fmt.Errorf("%s: %s of %s: %s", verb, row.Column, row.ID, row.Reason))
	}
	if more := f.Count - len(f.First); more > 0 {
		errs = append(errs, fmt.Errorf("%s: %d rows more", verb, more))
	}
	return errors.Join(errs...)
}

// vetTenant refuses a sealed db_url that does not open for the tenant: it was made for another, or by hand. The master
// secrets are read when the first sealed one comes.
func (p *program) vetTenant() func(context.Context, *catalog.TenantCatalog) (string, error) {
	var keys seal.Keyset
	return func(ctx context.Context, t *catalog.TenantCatalog) (string, error) {
		const column = "db_url"
		if sealing.FormOf(t.DBURL) != sealing.Sealed {
			return column, nil
		}
		if t.ID == "" {
			return column, errors.New("a sealed value belongs to a tenant's id: give the id")
		}
		if keys.IsZero() {
			var err error
			if _, keys, err = p.keysConfig(ctx); err != nil {
				return column, err
			}
		}
		if _, err := sealing.Unseal(keys, t.ID, t.DBURL); err != nil {
			return column, fmt.Errorf("does not open for this tenant: %s; give a plain URI, and seal it by `tenant encrypt`", sealing.Reason(err))
		}
		return column, nil
	}
}

// unlockTenants gives the URIs that the app would receive. References are read here, in this program's environment, as
// the proxy would read them in its own.
func (p *program) unlockTenants(ctx context.Context, rows []catalog.TenantCatalog) error {
	var opener *sealing.Opener
	var errs []error
	for i := range rows {
		form := sealing.FormOf(rows[i].DBURL)
		if form != sealing.Sealed && form != sealing.Reference {
			continue
		}
		if opener == nil {
			var err error
			if opener, err = p.opener(ctx); err != nil {
				return err
			}
			defer opener.Close()
		}
		uri, err := opener.Open(ctx, rows[i].ID, rows[i].DBURL)
		if err != nil {
			errs = append(errs, fmt.Errorf("tenant %s: db_url is shown as it is stored: %s", rows[i].ID, sealing.Reason(err)))
			continue
		}
		rows[i].DBURL = uri
	}
	return errors.Join(errs...)
}

func (p *program) opener(ctx context.Context) (*sealing.Opener, error) {
	cfg, keys, err := p.keysConfig(ctx)
	if err != nil {
		return nil, err
	}
	return sealing.New(sealing.Config{Keys: keys, Refs: cfg.Refs, Clock: p.clock, Lookup: p.lookup}), nil
}

// lookup reads the environment.
func (p *program) lookup(name string) (string, bool) {
	for _, entry := range p.environ {
		if n, text, ok := strings.Cut(entry, "="); ok && n == name {
			return text, true
		}
	}
	return "", false
}
