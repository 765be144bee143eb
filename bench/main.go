// Command bench measures what tenantgate costs beside a bare reverse proxy, in one run on one machine:
//
//	go run ./bench
//	go run ./bench -import 100000 -import-url postgresql://…
//
// For each variant a proxy process of its own runs with GOMAXPROCS=1. This process is the load generator and the app:
// both write and read raw bytes, so that the proxy is what is measured. The variants take turns, round after round, so
// that a slow spell of the machine hits all of them. Printed are requests per second, the proxy's CPU time and
// allocations a request, latencies, and the ratio to the bare proxy: the median over the rounds of the ratio within
// each round.
//
// With a word in front it measures the host database instead, each on PostgreSQL and SQLite (see the word's -h):
//
//	go run ./bench lookup     # the routing look-up among many memberships, with the engine's plan
//	go run ./bench migrate    # migrate of a large database beside another program's writes
//	go run ./bench beside     # fh-saas's writes and tenantgate's side by side: nothing lost, no error
//	go run ./bench tenants    # -rows 500 tenants provisioned and migrated, ended halfway and begun again
//
// Concurrency: the load is closed-loop over a fixed number of connections. A run is bounded in time and ends all its
// processes; any failed request ends the run with an error.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings of one run.
type settings struct {
	rounds      int
	duration    time.Duration
	warmup      time.Duration
	connections int
	only        []string // nil: all variants
}

func (s settings) runs(variant string) bool { return s.only == nil || slices.Contains(s.only, variant) }

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return runHost(ctx, args[0], args[1:])
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	role := flags.String("role", "", "used by the command itself: the variant whose proxy this process is")
	app := flags.String("app", "", "used by the command itself: the app's address")
	profile := flags.String("profile", "", "used by the command itself: where the proxy writes its profiles")
	s := settings{}
	only := flags.String("only", "", "comma-separated variants to run besides the bare proxy; empty: all")
	flags.IntVar(&s.rounds, "rounds", 5, "rounds over all variants")
	flags.DurationVar(&s.duration, "duration", 3*time.Second, "measured time of a variant in a round")
	flags.DurationVar(&s.warmup, "warmup", time.Second, "time before measuring")
	flags.IntVar(&s.connections, "connections", 32, "connections of the load generator")
	profiles := flags.String("profiles", "", "directory for CPU and allocation profiles of each variant's proxy")
	imports := flags.Int("import", 0, "measure instead the import of so many tenants, users and memberships; see -import-url")
	importURL := flags.String("import-url", "", "an empty host database to import into; empty: a new SQLite file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *imports > 0 {
		return measureImport(ctx, *importURL, *imports)
	}
	if *role != "" {
		return serveVariant(ctx, *role, *app, *profile)
	}
	if s.rounds < 1 || s.connections < 1 || s.duration <= 0 {
		return fmt.Errorf("rounds, connections and duration must be positive")
	}
	if *only != "" {
		s.only = append(strings.Split(*only, ","), variantBare)
	}
	return compare(ctx, s, *profiles)
}

// compare runs all variants in turn and prints the table.
func compare(ctx context.Context, s settings, profiles string) error {
	upstream, err := startApp()
	if err != nil {
		return err
	}
	defer upstream.close()
	all := make(map[string][]sample)
	for range s.rounds {
		for _, v := range variants {
			if !s.runs(v) {
				continue
			}
			one, err := measure(ctx, s, v, upstream.addr(), profiles)
			if err != nil {
				return fmt.Errorf("%s: %w", v, err)
			}
			all[v] = append(all[v], one)
		}
	}
	print(all)
	return nil
}

func measure(ctx context.Context, s settings, variant, app, profiles string) (sample, error) {
	if variant == variantDirect {
		return load(ctx, s, target{addr: app, head: plainHead})
	}
	p, err := startProxy(ctx, variant, app, profiles)
	if err != nil {
		return sample{}, err
	}
	defer p.stop()
	if _, err := load(ctx, settings{duration: s.warmup, connections: s.connections}, p.target); err != nil {
		return sample{}, fmt.Errorf("warming up: %w", err)
	}
	before, err := p.usage()
	if err != nil {
		return sample{}, err
	}
	one, err := load(ctx, s, p.target)
	if err != nil {
		return sample{}, err
	}
	after, err := p.usage()
	if err != nil {
		return sample{}, err
	}
	one.cpu = (after.CPU - before.CPU) / time.Duration(max(one.requests, 1))
	one.allocs = float64(after.Mallocs-before.Mallocs) / float64(max(one.requests, 1))
	one.bytes = float64(after.Bytes-before.Bytes) / float64(max(one.requests, 1))
	return one, nil
}

func print(all map[string][]sample) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "variant\treq/s\tCPU µs/req\tallocs/req\tB/req\tp50 µs\tp99 µs\treq/s ÷ bare\tbare CPU ÷ CPU\t")
	for _, v := range variants {
		if len(all[v]) == 0 {
			continue
		}
		m := medians(all[v])
		fmt.Fprintf(w, "%s\t%.0f\t%.1f\t%.0f\t%.0f\t%d\t%d\t%.3f\t%.3f\t\n", v, m.rate(), micros(m.cpu), m.allocs, m.bytes,
			m.p50.Microseconds(), m.p99.Microseconds(),
			medianRatio(all[v], all[variantBare], sample.rate),
			medianRatio(all[variantBare], all[v], func(s sample) float64 { return micros(s.cpu) }))
	}
	_ = w.Flush()
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
