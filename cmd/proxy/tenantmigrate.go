package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/jobs/lifecycle"
)

func tenantMigrate(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "migrate [ID|SLUG… | --all]", Short: "Bring tenants' own databases up to date",
		Long: "Applies what of provisioning.migrations_dir a tenant's database has not seen, with the rights of the tenant's own\n" +
			"URI, several tenants at once. A tenant that fails is named at the end (exit 1) and stops no other. Ended at any\n" +
			"moment it can be run again: it goes on where it was. Suspended tenants are migrated too; deleted ones, unfinished\n" +
			"ones and databases that are not of `tenant provision`'s making are left out and named.\n\n" +
			"--pause keeps everybody out of a tenant while its own schema changes: requests get 503 tenant_paused, streams are\n" +
			"closed, and what is under way has the time of --drain before anything changes. Tenants that are up to date are not\n" +
			"paused. --check changes nothing and says who is behind.",
		Example: "tenantgate tenant migrate --all --pause",
	}
	output := outputFlag(cmd)
	all := cmd.Flags().Bool("all", false, "every tenant")
	var cfg lifecycle.MigrateConfig
	cmd.Flags().IntVar(&cfg.Parallel, "parallel", lifecycle.DefaultParallel, fmt.Sprintf("how many tenants at once, at most %d", lifecycle.MaxParallel))
	cmd.Flags().BoolVar(&cfg.Pause, "pause", false, "keep everybody out of a tenant while its schema changes")
	drain, timeout := duration(lifecycle.DefaultDrain), duration(lifecycle.DefaultTimeout)
	cmd.Flags().Var(&drain, "drain", "with --pause: how long requests under way may take, in whole seconds")
	cmd.Flags().Var(&timeout, "timeout", "how long one tenant may take")
	cmd.Flags().BoolVar(&cfg.Adopt, "adopt", false, "also begin with databases that tenant provision did not make")
	cmd.Flags().BoolVar(&cfg.Check, "check", false, "change nothing, say who is behind")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (len(args) > 0) == *all {
			return usagef("%s: name tenants, or all by --all", cmd.CommandPath())
		}
		if cfg.Check && cfg.Pause {
			return usagef("%s: --check changes nothing, so that nobody need be kept out: leave --pause out", cmd.CommandPath())
		}
		if cmd.Flags().Changed("drain") && !cfg.Pause {
			return usagef("%s: --drain says how long --pause waits: give --pause too", cmd.CommandPath())
		}
		cfg.Drain, cfg.Timeout = time.Duration(drain), time.Duration(timeout)
		return p.withTenants(cmd.Context(), func(ctx context.Context, conf *config.Config, deps lifecycle.Deps) error {
			cfg.Freshness = freshness(conf)
			migrator, err := lifecycle.NewMigrator(cfg, deps)
			if err != nil {
				return usagef("%s: %w", cmd.CommandPath(), err)
			}
			ids, err := tenantIDs(ctx, deps.Host, args)
			if err != nil {
				return err
			}
			show := &bar{to: p.err, live: terminal(p.err), clock: p.clock, quiet: *output == formatJSON && !terminal(p.err)}
			sum, err := migrator.Run(ctx, ids, show)
			show.end()
			if printed := writeOne(p.out, *output, show.summary(*output, sum)); printed != nil {
				return printed
			}
			return errors.Join(show.faults(len(args) > 0), stopped(err))
		})
	}
	return cmd
}

func stopped(err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.New("migrate: ended before all tenants were done; run it again: it goes on where it was")
	}
	return err
}

// bar shows how far a run is: on a terminal in one line that changes, elsewhere by a line for each tenant. It is a
// lifecycle.Progress.
type bar struct {
	to    io.Writer
	live  bool
	quiet bool // programs get one object at the end
	clock func() time.Time

	began    time.Time
	total    int
	done     int
	outcomes []lifecycle.Outcome
	failed   int
}

// Begin implements lifecycle.Progress.
func (b *bar) Begin(total, _ int) {
	b.began, b.total = b.clock(), total
	b.draw()
}

// Done implements lifecycle.Progress.
func (b *bar) Done(o lifecycle.Outcome) {
	b.done++
	b.outcomes = append(b.outcomes, o)
	if o.Result == lifecycle.Failed {
		b.failed++
	}
	switch {
	case b.live && o.Result == lifecycle.Failed:
		_, _ = fmt.Fprintf(b.to, "\r\x1b[K%s\n", lineOf(o))
	case !b.live && !b.quiet:
		_, _ = fmt.Fprintf(b.to, "migrate: %s\n", lineOf(o))
	}
	b.draw()
}

func lineOf(o lifecycle.Outcome) string {
	text := fmt.Sprintf("%s: %s", printable(string(o.Tenant)), strings.ReplaceAll(string(o.Result), "_", " "))
	switch o.Result {
	case lifecycle.Migrated:
		text += fmt.Sprintf(", version %d to %d, %s", o.From, o.To, o.Took.Round(time.Millisecond))
	case lifecycle.Current, lifecycle.Behind:
		text += fmt.Sprintf(", version %d", o.From)
	default:
		text += ": " + printable(o.Reason)
	}
	return text
}

const barWidth = 30

// draw shows the bar with counts and the time that is left if the rest takes as long as what is done.
func (b *bar) draw() {
	if !b.live || b.total == 0 {
		return
	}
	filled := barWidth * b.done / b.total
	left := "…"
	if spent := b.clock().Sub(b.began); b.done > 0 {
		left = (spent / time.Duration(b.done) * time.Duration(b.total-b.done)).Round(time.Second).String()
	}
	_, _ = fmt.Fprintf(b.to, "\r\x1b[K[%s%s] %d of %d, %d failed, %s left", strings.Repeat("#", filled), strings.Repeat("-", barWidth-filled),
		b.done, b.total, b.failed, left)
}

// end leaves the terminal with a line that is ended.
func (b *bar) end() {
	if b.live && b.total > 0 {
		_, _ = fmt.Fprintln(b.to)
	}
}

func (b *bar) summary(f format, s lifecycle.Summary) record {
	r := record{
		{"run", s.Run},
		{"target", s.Target},
		{"tenants", s.Total},
		{"migrated", s.Migrated},
		{"current", s.Current},
		{"behind", s.Behind},
		{"failed", s.Failed},
		{"left_out", s.LeftOut},
		{"not_begun", s.Total - b.done},
		{"parallel", s.Parallel},
		{"seconds", s.Took.Round(time.Millisecond).Seconds()},
	}
	if f != formatJSON {
		return r
	}
	items := make([]record, len(b.outcomes))
	for i, o := range b.outcomes {
		var reason any
		if o.Reason != "" {
			reason = o.Reason
		}
		items[i] = record{
			{"tenant_id", o.Tenant}, {"result", o.Result}, {"from", o.From}, {"to", o.To}, {"seconds", o.Took.Round(time.Millisecond).Seconds()}, {"reason", reason},
		}
	}
	return append(r, field{"items", items})
}

// faults is a line for each tenant that failed; for those left out too, where they were named.
func (b *bar) faults(named bool) error {
	var errs []error
	for _, o := range b.outcomes {
		if o.Result == lifecycle.Failed || named && o.Result == lifecycle.LeftOut {
			errs = append(errs, fmt.Errorf("migrate: tenant %s: %s", o.Tenant, o.Reason))
		}
	}
	return errors.Join(errs...)
}
