// Package fhsaas is the other program: it writes a host database as fh-saas does, with its SQL, its shapes and its NULLs,
// and remembers what it wrote. Tests and benchmarks run it beside tenantgate.
//
// A Writer is for one goroutine. Failure mode: the first error ends it, as it would end a request of fh-saas's.
package fhsaas

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// table is one of the eight, with all its columns: fh-saas names each of them in every INSERT.
type table struct {
	name    string
	columns string
	flags   string // those of columns that are BOOLEAN
	numbers string // those of columns that are INTEGER
}

func tables() []table {
	return []table{
		{name: "core_users", columns: "id email oauth_id password_hash stripe_cust_id is_sys_admin created_at last_login", flags: "is_sys_admin"},
		{name: "core_tenants", columns: "id name db_url is_active plan_tier created_at", flags: "is_active"},
		{name: "core_memberships", columns: "id user_id tenant_id profile_id meta_attributes role is_active created_at", flags: "is_active"},
		{
			name: "core_subscriptions", flags: "cancel_at_period_end", numbers: "amount_cents",
			columns: "id tenant_id stripe_sub_id stripe_cust_id plan_tier status current_period_end cancel_at_period_end payment_type amount_cents product_name trial_end created_at",
		},
		{
			name: "core_pricing_plans", flags: "is_active", numbers: "amount_monthly amount_yearly trial_days tier_level sort_order",
			columns: "id name description stripe_price_monthly stripe_price_yearly amount_monthly amount_yearly currency trial_days features tier_level is_active sort_order created_at",
		},
		{name: "sys_audit_logs", columns: "id actor_user_id event_type target_id details ip_address created_at"},
		{name: "sys_jobs", columns: "id job_type status payload error_log created_at completed_at"},
		{name: "core_stripe_webhook_events", columns: "id event_id event_type status payload_json created_at"},
	}
}

// Schema is what fh-saas executes on an empty database, on either engine.
func Schema() string {
	var b strings.Builder
	for _, t := range tables() {
		b.WriteString("CREATE TABLE " + t.name + " (\n")
		for c := range strings.FieldsSeq(t.columns) {
			kind := "VARCHAR"
			switch {
			case has(t.flags, c):
				kind = "BOOLEAN"
			case has(t.numbers, c):
				kind = "INTEGER"
			}
			b.WriteString("\t" + c + " " + kind + ",\n")
		}
		b.WriteString("\tPRIMARY KEY (id)\n);\n")
	}
	return b.String()
}

func has(list, name string) bool {
	for f := range strings.FieldsSeq(list) {
		if f == name {
			return true
		}
	}
	return false
}

// Writer is one connection of fh-saas's. Each of its transactions writes all eight tables and updates some of the rows;
// every third is rolled back.
type Writer struct {
	db      *sql.DB
	name    string
	n       int
	kept    []string // ids of committed transactions
	dropped []string // of rolled-back ones
}

// NewWriter makes a writer whose ids begin with name. db is its own: one connection, as fh-saas has.
func NewWriter(db *sql.DB, name string) *Writer {
	db.SetMaxOpenConns(1)
	return &Writer{db: db, name: name}
}

// Transactions says how many were committed and how many rolled back.
func (w *Writer) Transactions() (committed, rolledBack int) { return len(w.kept), len(w.dropped) }

// Run makes one transaction after the other, one begun every pace at most, until ctx ends, which is no error.
func (w *Writer) Run(ctx context.Context, pace time.Duration) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		// Cancelling would break the transaction off, which is not what fh-saas does: it ends with what it began.
		if err := w.Once(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Once makes one transaction.
func (w *Writer) Once(ctx context.Context) error {
	w.n++
	id := fmt.Sprintf("%s%06d", w.name, w.n)
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: begin: %w", id, err)
	}
	if err := write(ctx, tx, id); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", id, err), tx.Rollback())
	}
	if w.n%3 == 0 {
		w.dropped = append(w.dropped, id)
		return tx.Rollback()
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%s: commit: %w", id, err)
	}
	w.kept = append(w.kept, id)
	return nil
}

// write inserts a row into each table and changes some, as a sign-up, a payment and a job of fh-saas's do.
func write(ctx context.Context, tx *sql.Tx, id string) error {
	for _, t := range tables() {
		if _, err := tx.ExecContext(ctx, t.insert(id)); err != nil {
			return fmt.Errorf("insert into %s: %w", t.name, err)
		}
	}
	for _, text := range []string{
		"UPDATE core_users SET last_login = '2026-06-01T12:00:00.123456' WHERE core_users.id = '" + id + "'",
		"UPDATE core_tenants SET plan_tier = 'pro' WHERE core_tenants.id = '" + id + "'",
		"UPDATE core_subscriptions SET status = 'past_due' WHERE core_subscriptions.id = '" + id + "'",
		"UPDATE core_memberships SET is_active = false WHERE core_memberships.id = '" + id + "'",
		"UPDATE core_memberships SET is_active = NULL WHERE core_memberships.id = '" + id + "'",
		"UPDATE sys_jobs SET status = 'completed', completed_at = '2026-06-01T12:00:00' WHERE sys_jobs.id = '" + id + "'",
		"DELETE FROM core_pricing_plans WHERE core_pricing_plans.id = '" + id + "'",
	} {
		if _, err := tx.ExecContext(ctx, text); err != nil {
			verb, _, _ := strings.Cut(text, " SET ")
			return fmt.Errorf("%s: %w", verb, err)
		}
	}
	return nil
}

// insert is a whole row: columns that hold an id hold id, some are NULL, as in a database that fh-saas filled.
func (t table) insert(id string) string {
	var values []string
	for c := range strings.FieldsSeq(t.columns) {
		v := "NULL"
		switch {
		case c == "id" || strings.HasSuffix(c, "_id") || c == "name":
			v = "'" + id + "'"
		case c == "email":
			v = "'" + id + "@example.com'"
		case c == "created_at":
			v = "'2026-06-01T11:00:00.000001'"
		case c == "payment_type":
			v = "'subscription'"
		case c == "status", c == "plan_tier", c == "role":
			v = "'active'"
		case c == "is_active":
			v = "true"
		case has(t.numbers, c):
			v = "1"
		}
		values = append(values, v)
	}
	return "INSERT INTO " + t.name + " (" + strings.Join(strings.Fields(t.columns), ", ") + ") VALUES (" + strings.Join(values, ", ") + ")"
}

// Verify says what of the writer's work is lost, changed, or there although it was rolled back.
func (w *Writer) Verify(ctx context.Context) error {
	ask := "SELECT count(*) FROM core_users u" +
		" JOIN core_tenants t ON t.id = u.id AND t.plan_tier = 'pro' AND t.name = u.id" +
		" JOIN core_memberships m ON m.id = u.id AND m.is_active IS NULL AND m.user_id = u.id AND m.tenant_id = u.id" +
		" JOIN core_subscriptions s ON s.id = u.id AND s.status = 'past_due'" +
		" JOIN sys_audit_logs a ON a.id = u.id JOIN sys_jobs j ON j.id = u.id AND j.status = 'completed'" +
		" JOIN core_stripe_webhook_events e ON e.id = u.id" +
		" WHERE u.last_login = '2026-06-01T12:00:00.123456' AND u.oauth_id = u.id AND u.password_hash IS NULL AND u.id LIKE '" + w.name + "%'"
	var n int
	if err := w.db.QueryRowContext(ctx, ask).Scan(&n); err != nil {
		return err
	}
	if n != len(w.kept) {
		return fmt.Errorf("%s: %d of %d committed transactions are there whole", w.name, n, len(w.kept))
	}
	for _, t := range tables() {
		want := len(w.kept)
		if t.name == "core_pricing_plans" {
			want = 0
		}
		if err := w.db.QueryRowContext(ctx, "SELECT count(*) FROM "+t.name+" WHERE id LIKE '"+w.name+"%'").Scan(&n); err != nil {
			return err
		}
		if n != want {
			return fmt.Errorf("%s: %s has %d of its rows, want %d", w.name, t.name, n, want)
		}
	}
	return nil
}

// Reader is a connection that reads whole tables, as fh-saas does for each request, and then stays idle in transaction
// until its next turn.
func Reader(ctx context.Context, db *sql.DB, pace time.Duration) error {
	db.SetMaxOpenConns(1)
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		tx, err := db.BeginTx(context.WithoutCancel(ctx), nil)
		if err != nil {
			return fmt.Errorf("reader: begin: %w", err)
		}
		for _, t := range tables() {
			if err := readAll(context.WithoutCancel(ctx), tx, t.name); err != nil {
				return errors.Join(fmt.Errorf("reader: %s: %w", t.name, err), tx.Rollback())
			}
		}
		select {
		case <-ctx.Done():
			return tx.Rollback()
		case <-tick.C:
		}
		if err := tx.Rollback(); err != nil {
			return fmt.Errorf("reader: rollback: %w", err)
		}
	}
}

func readAll(ctx context.Context, tx *sql.Tx, table string) error {
	rows, err := tx.QueryContext(ctx, "SELECT * FROM "+table)
	if err != nil {
		return err
	}
	for rows.Next() {
	}
	return errors.Join(rows.Err(), rows.Close())
}
