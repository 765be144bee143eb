package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver "pgx"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/fhsaas"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// hostSettings are those of the host database's benchmarks.
type hostSettings struct {
	engines  []string
	postgres string // URL of a server to use; "": one of our own
	dir      string // where SQLite's file goes
	sizes    []int
	duration time.Duration
	rate     int
}

// runHost runs one of the benchmarks of the host database.
func runHost(ctx context.Context, word string, args []string) error {
	bench, ok := map[string]func(context.Context, hostSettings, *hostDB) error{
		"lookup": lookup, "migrate": migrateBeside, "beside": beside, "tenants": tenantsLife,
	}[word]
	if !ok {
		return fmt.Errorf("unknown benchmark %q: lookup, migrate, beside or tenants", word)
	}
	s := hostSettings{}
	flags := flag.NewFlagSet("bench "+word, flag.ContinueOnError)
	engines := flags.String("engines", "postgresql,sqlite", "comma-separated engines")
	flags.StringVar(&s.postgres, "postgres", "", "URL of an EMPTY database on a server of yours; empty: a server of its own")
	flags.StringVar(&s.dir, "dir", os.TempDir(), "where SQLite's file goes")
	sizes := flags.String("rows", "100000", "comma-separated: memberships (lookup), rows of all tables (migrate)")
	flags.DurationVar(&s.duration, "duration", 10*time.Second, "measured time of each run (lookup, beside)")
	flags.IntVar(&s.rate, "writes", 200, "writes a second of the other program (migrate)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s.engines = strings.Split(*engines, ",")
	for text := range strings.SplitSeq(*sizes, ",") {
		var n int
		if _, err := fmt.Sscan(text, &n); err != nil || n < 100 {
			return fmt.Errorf("-rows: want numbers of 100 and more, comma-separated")
		}
		s.sizes = append(s.sizes, n)
	}
	for _, engine := range s.engines {
		for _, n := range s.sizes {
			if err := onFresh(ctx, s, engine, n, bench); err != nil {
				return fmt.Errorf("%s, %d rows: %w", engine, n, err)
			}
		}
	}
	return nil
}

// hostDB is a fresh host database as fh-saas makes it, and another program's connections to it.
type hostDB struct {
	engine string
	url    string
	size   int
	dir    string // "" on PostgreSQL
}

func onFresh(ctx context.Context, s hostSettings, engine string, size int, bench func(context.Context, hostSettings, *hostDB) error) error {
	d := &hostDB{engine: engine, size: size}
	switch engine {
	case catalog.EnginePostgreSQL:
		d.url = s.postgres
		if d.url == "" {
			var err error
			if d.url, err = pgtest.ForExample(); err != nil { // ends with this process
				return err
			}
		}
	case catalog.EngineSQLite:
		dir, err := os.MkdirTemp(s.dir, "bench")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		d.dir, d.url = dir, "sqlite:"+filepath.Join(dir, "host.db")
	default:
		return errors.New("unknown engine: postgresql or sqlite")
	}
	db, err := d.open()
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, fhsaas.Schema())
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	return bench(ctx, s, d)
}

// open is a connection as fh-saas makes one: psycopg2 speaks the simple protocol, Python's sqlite3 waits 5 s for a lock.
func (d *hostDB) open() (*sql.DB, error) {
	if path, ok := strings.CutPrefix(d.url, "sqlite:"); ok {
		return sql.Open("sqlite", path+"?_pragma=busy_timeout(5000)")
	}
	sep := "?"
	if strings.Contains(d.url, "?") {
		sep = "&"
	}
	return sql.Open("pgx", d.url+sep+"default_query_exec_mode=simple_protocol")
}

// identifier is SQL for the id of the i-th row of a kind: 32 hex characters, spread as random ones are. The Go function
// of the same name gives the same text.
func identifierSQL(engine, i string, kind int) string {
	var parts []string
	for _, factor := range factors(kind) {
		n := fmt.Sprintf("((%s) * %d %% 4294967296)", i, factor)
		if engine == catalog.EngineSQLite {
			parts = append(parts, "printf('%08x', "+n+")")
		} else {
			parts = append(parts, "lpad(to_hex("+n+"), 8, '0')")
		}
	}
	return strings.Join(parts, " || ")
}

func identifier(i int64, kind int) string {
	var b strings.Builder
	for _, factor := range factors(kind) {
		fmt.Fprintf(&b, "%08x", i*factor%4294967296)
	}
	return b.String()
}

func factors(kind int) []int64 {
	return []int64{2654435761 + 2*int64(kind), 2246822519, 3266489917, 668265263}
}

// Kinds of rows.
const (
	kindUser = iota
	kindTenant
	kindMembership
	kindSubscription
	kindAudit
)

// shape is how many rows of each kind go with that many memberships: 4 memberships a user, 20 a tenant.
type shape struct{ memberships, users, tenants int }

func shapeOf(memberships int) shape {
	return shape{memberships, max(memberships/4, 1), max(memberships/20, 1)}
}

// pair is whose the j-th membership is. Users and tenants meet each other at most once.
func (s shape) pair(j int64) (user, tenant int64) {
	return j % int64(s.users), (j/int64(s.users)*7919 + j) % int64(s.tenants)
}

// fill writes rows of every kind, as fh-saas would have over the years. audit is how many audit rows there are.
func (d *hostDB) fill(ctx context.Context, s shape, audit int) error {
	db, err := d.open()
	if err != nil {
		return err
	}
	defer db.Close()
	series := func(n int) string {
		if d.engine == catalog.EngineSQLite {
			return fmt.Sprintf("(WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d) SELECT i FROM n) AS s", n-1)
		}
		return fmt.Sprintf("generate_series(0::bigint, %d) AS s (i)", n-1)
	}
	id := func(i string, kind int) string { return identifierSQL(d.engine, i, kind) }
	user := fmt.Sprintf("i %% %d", s.users)
	tenant := fmt.Sprintf("(i / %d * 7919 + i) %% %d", s.users, s.tenants)
	texts := []string{
		"INSERT INTO core_users (id, email, oauth_id, is_sys_admin, created_at, last_login) SELECT " + id("i", kindUser) +
			", 'user' || i || '@example.com', '1000000000' || i, false, '2025-04-27T12:00:00.018527', '2026-06-01T11:00:00.906267' FROM " + series(s.users),
		"INSERT INTO core_tenants (id, name, db_url, is_active, plan_tier, created_at) SELECT " + id("i", kindTenant) +
			", 'Tenant ' || i, 'postgresql://t' || i || ':secret@db.internal:5432/t' || i, true, 'pro', '2025-05-17T12:00:00.891818' FROM " + series(s.tenants),
		"INSERT INTO core_memberships (id, user_id, tenant_id, profile_id, role, is_active, created_at) SELECT " + id("i", kindMembership) + ", " +
			id(user, kindUser) + ", " + id(tenant, kindTenant) + ", " + id(user, kindUser) + ", 'member', true, '2025-08-05T12:00:00.426402' FROM " + series(s.memberships),
		"INSERT INTO core_subscriptions (id, tenant_id, stripe_sub_id, stripe_cust_id, plan_tier, status, current_period_end, cancel_at_period_end, payment_type, created_at) SELECT " +
			id("i", kindSubscription) + ", " + id("i", kindTenant) + ", 'sub_' || i, 'cus_' || i, 'pro', 'active', '2036-06-01T00:00:00', false, 'subscription', '2026-01-02T00:00:00' FROM " + series(s.tenants),
		"INSERT INTO core_pricing_plans (id, name, features, tier_level, is_active) SELECT 'pro', 'Pro', '[\"exports\"]', 2, true",
		"INSERT INTO sys_audit_logs (id, event_type, target_id, details, created_at) SELECT " + id("i", kindAudit) +
			", 'login', 'x', '{\"ip\": \"203.0.113.9\"}', '2026-01-02T00:00:00' FROM " + series(max(audit, 1)),
		"ANALYZE",
	}
	if d.engine == catalog.EngineSQLite {
		texts = slices.Insert(texts, 0, "PRAGMA journal_mode = wal", "PRAGMA synchronous = off")
	}
	for _, text := range texts {
		if _, err := db.ExecContext(ctx, text); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	return nil
}

// percentile of sorted durations.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(float64(len(sorted))*p), len(sorted)-1)]
}
