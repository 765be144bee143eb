package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

// writers is how many connections the other program writes by.
const writers = 8

// migrateBeside migrates a database of that many rows while another program writes on a fixed schedule. A write's time
// counts from the moment it was due, so that one that waits makes those behind it late, as it would people.
func migrateBeside(ctx context.Context, s hostSettings, d *hostDB) error {
	sh := shapeOf(d.size * 6 / 10)
	if err := d.fill(ctx, sh, d.size-sh.memberships-sh.users-2*sh.tenants); err != nil {
		return err
	}
	stop, end := context.WithCancel(ctx)
	defer end()
	load := &writeLoad{rate: s.rate}
	done := make(chan error, 1)
	go func() { done <- load.run(stop, d) }()
	if err := wait(ctx, 3*time.Second); err != nil {
		return err
	}
	before := load.take()
	begin := time.Now()
	report, err := catalog.Migrate(ctx, catalog.Config{URL: catalog.NewDBURI(d.url)})
	took := time.Since(begin)
	beside := load.take()
	end()
	if err = errors.Join(err, <-done); err != nil {
		return err
	}
	fmt.Printf("migrate, %s, %d rows, %d writes/s: took %s, %d changes; of %d writes beside it the slowest took %s (p99 %s); before, of %d, %s (p99 %s)\n",
		d.engine, d.size, s.rate, took.Round(time.Millisecond), len(report.Changes), len(beside), percentile(beside, 1), percentile(beside, 0.99),
		len(before), percentile(before, 1), percentile(before, 0.99))
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writeLoad is the other program.
type writeLoad struct {
	rate int

	mu   sync.Mutex
	took []time.Duration
}

// take returns the sorted times of the writes since it was last called.
func (l *writeLoad) take() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.took
	l.took = nil
	slices.Sort(all)
	return all
}

// run writes until ctx ends: each connection takes the next write that is due.
func (l *writeLoad) run(ctx context.Context, d *hostDB) error {
	start := time.Now()
	var next atomic.Int64
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			db, err := d.open()
			if err != nil {
				errs[i] = err
				return
			}
			defer db.Close()
			db.SetMaxOpenConns(1)
			for {
				n := next.Add(1)
				due := start.Add(time.Duration(n) * time.Second / time.Duration(l.rate))
				if wait(ctx, time.Until(due)) != nil {
					return
				}
				if err := writeOne(context.WithoutCancel(ctx), db, n); err != nil {
					errs[i] = fmt.Errorf("a write of the other program: %w", err)
					return
				}
				l.mu.Lock()
				l.took = append(l.took, time.Since(due))
				l.mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// writeOne touches the tables in turn.
func writeOne(ctx context.Context, db *sql.DB, n int64) error {
	id := fmt.Sprintf("w%d", n)
	text := []string{
		"INSERT INTO core_users (id, oauth_id, created_at) VALUES ('ID', 'ID', '2026-06-01T12:00:00')",
		"INSERT INTO core_memberships (id, user_id, tenant_id, role, is_active) VALUES ('ID', 'ID', 'ID', 'member', true)",
		"INSERT INTO core_subscriptions (id, tenant_id, payment_type, status) VALUES ('ID', 'ID', 'subscription', 'active')",
		"INSERT INTO core_tenants (id, name, is_active) VALUES ('ID', 'ID', true)",
		"INSERT INTO sys_audit_logs (id, event_type) VALUES ('ID', 'login')",
	}[n%5]
	_, err := db.ExecContext(ctx, strings.ReplaceAll(text, "ID", id))
	return err
}
