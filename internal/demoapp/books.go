package demoapp

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	readTimeout = 3 * time.Second
	maxRows     = 200
)

// books are one tenant's rows.
type books struct {
	Company   string     `json:"company"`
	City      string     `json:"city"`
	Currency  string     `json:"currency"`
	Customers []customer `json:"customers"`
	Invoices  []invoice  `json:"invoices"`
}

type customer struct {
	ID      int64  `json:"id"`
	Name    string `json:"name"`
	City    string `json:"city"`
	Contact string `json:"contact"`
	Since   string `json:"since"`
}

type invoice struct {
	Number      string `json:"number"`
	Customer    string `json:"customer"`
	IssuedOn    string `json:"issued_on"`
	DueOn       string `json:"due_on"`
	AmountCents int64  `json:"amount_cents"`
	Status      string `json:"status"` // paid, open or overdue
}

// Total is the sum of invoices with that status, in minor units.
func (b *books) Total(status string) int64 {
	var sum int64
	for _, i := range b.Invoices {
		if i.Status == status {
			sum += i.AmountCents
		}
	}
	return sum
}

var (
	errNotSQLite = errors.New("the tenant's database is no SQLite file at an absolute path")
	errUnknown   = errors.New("this demo app reads postgresql://… and sqlite:/ABSOLUTE/PATH only")
)

// opener opens the tenant's database of the one request that it is for.
type opener func() (*sql.DB, error)

// openerOf reads X-Tenant-Db-Uri. The error never shows the URI: it may carry a password.
func openerOf(uri string) (opener, error) {
	if path, err := sqlitePath(uri); err == nil {
		return func() (*sql.DB, error) { return sql.Open("sqlite", dataSource(path, "ro")) }, nil
	}
	scheme, rest, _ := strings.Cut(uri, ":")
	if driverless, _, _ := strings.Cut(scheme, "+"); driverless != "postgresql" && driverless != "postgres" {
		return nil, errUnknown
	}
	cfg, err := pgx.ParseConfig("postgresql:" + rest)
	if err != nil {
		return nil, errUnknown
	}
	cfg.ConnectTimeout = readTimeout
	cfg.RuntimeParams["default_transaction_read_only"] = "on"
	cfg.RuntimeParams["statement_timeout"] = fmt.Sprint(readTimeout.Milliseconds())
	return func() (*sql.DB, error) { return stdlib.OpenDB(*cfg), nil }, nil
}

// sqlitePath reads sqlite:PATH, sqlite:///PATH and sqlite:////PATH; the path must be absolute. The error never shows
// the URI: one of another kind carries a password.
func sqlitePath(uri string) (string, error) {
	path, ok := strings.CutPrefix(uri, "sqlite:")
	if !ok {
		return "", errNotSQLite
	}
	if rest, ok := strings.CutPrefix(path, "//"); ok {
		path = rest
	}
	path, _, _ = strings.Cut(path, "?")
	if !strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0) {
		return "", errNotSQLite
	}
	return filepath.Clean(path), nil
}

// dataSource is what modernc.org/sqlite opens; mode is ro or rw, so that a path that is wrong makes no new file.
func dataSource(path, mode string) string {
	u := url.URL{Scheme: "file", Path: path, RawQuery: "mode=" + mode + "&_pragma=busy_timeout(2000)"}
	return u.String()
}

// readBooks opens the database, reads it and closes it: nothing of one tenant is left when the next one's request comes.
func readBooks(ctx context.Context, open opener) (b *books, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	db, err := open()
	if err != nil {
		return nil, fmt.Errorf("open the tenant's database: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	b = &books{Customers: []customer{}, Invoices: []invoice{}}
	err = db.QueryRowContext(ctx, "SELECT name, city, currency FROM company LIMIT 1").Scan(&b.Company, &b.City, &b.Currency)
	if err != nil {
		return nil, fmt.Errorf("read the tenant's database: %w", err)
	}
	rows, err := db.QueryContext(ctx, "SELECT id, name, city, contact, since FROM customers ORDER BY name LIMIT $1", maxRows)
	if err != nil {
		return nil, fmt.Errorf("read customers: %w", err)
	}
	if err := each(rows, func() error {
		var c customer
		err := rows.Scan(&c.ID, &c.Name, &c.City, &c.Contact, &c.Since)
		b.Customers = append(b.Customers, c)
		return err
	}); err != nil {
		return nil, fmt.Errorf("read customers: %w", err)
	}
	rows, err = db.QueryContext(ctx, `SELECT i.number, c.name, i.issued_on, i.due_on, i.amount_cents, i.status
		FROM invoices i JOIN customers c ON c.id = i.customer_id ORDER BY i.issued_on DESC, i.id DESC LIMIT $1`, maxRows)
	if err != nil {
		return nil, fmt.Errorf("read invoices: %w", err)
	}
	if err := each(rows, func() error {
		var i invoice
		err := rows.Scan(&i.Number, &i.Customer, &i.IssuedOn, &i.DueOn, &i.AmountCents, &i.Status)
		b.Invoices = append(b.Invoices, i)
		return err
	}); err != nil {
		return nil, fmt.Errorf("read invoices: %w", err)
	}
	return b, nil
}

func each(rows *sql.Rows, scan func() error) error {
	for rows.Next() {
		if err := scan(); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}
