package sealing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// Column is a sealed column and what its seals are bound to. Whoever seals what the host database keeps declares one, so
// that Rotate knows of it.
type Column struct {
	catalog.SealedColumn
	// Prefix stands before the seal; a value without it is not sealed and left alone. "": all but the empty value are.
	Prefix string
	// Purpose is what the value of a row is sealed for.
	Purpose func(id, detail string) string
	// Event, if set, is the audit event of each row that is sealed anew. "": one row of the audit counts those of a
	// transaction, for what comes in great numbers.
	Event string
}

// TenantURLs is core_tenants.db_url.
func TenantURLs() Column {
	return Column{
		SealedColumn: catalog.SealedTenantURLs(), Prefix: sealedPrefix, Event: "tenant.resealed",
		Purpose: func(id, _ string) string { return purpose(catalog.TenantID(id)) },
	}
}

const (
	// batch bounds the rows of one transaction: others wait for a locked row no longer than it takes.
	batch = 50
	// page is how many rows are read at once.
	page = 500
	// attempts bounds how often a row is read again that changes while it is being sealed, and a transaction begun again
	// that the database could not take.
	attempts = 5
	// lockedAttempts bounds how often a locked row is waited for, ten seconds each time.
	lockedAttempts = 3
	// maxFailures bounds the failures that are listed; all are counted.
	maxFailures = 100
	// maxPause bounds the rest between two transactions, which is as long as the one before took: other writers get
	// their turn, above all on SQLite, where there is one at a time.
	maxPause = 100 * time.Millisecond
)

// Failure is a row that could not be sealed, and why: a fixed text.
type Failure struct{ Column, ID, Reason string }

// Failures counts and lists them, at most a hundred.
type Failures struct {
	Count int
	First []Failure
}

func (f *Failures) add(column, id, reason string) {
	f.Count++
	if len(f.First) < maxFailures {
		f.First = append(f.First, Failure{column, id, reason})
	}
}

// outcome is what became of a row.
type outcome int

const (
	changed outcome = iota // or to be changed
	current                // sealed already, and under the first secret where that is asked for
	plain
	referred
	empty
	failed
	outcomes // how many there are
)

// verdict says what is to become of a value.
type verdict struct {
	outcome outcome
	to      secret.Text
	reason  string // of failed
}

// change is a value that was replaced.
type change struct {
	row catalog.SealedValue
	to  secret.Text
}

// sweep walks through a column in the order of ids and replaces values, in short transactions.
type sweep struct {
	host   *catalog.HostDatabase
	column catalog.SealedColumn
	judge  func(catalog.SealedValue) verdict
	audit  func(context.Context, *catalog.Tx, []change) error
	// progress is told how many more rows were looked at.
	progress func(rows int)

	count    [outcomes]int
	failures *Failures
}

// all sweeps the whole column. After an error it can be begun again: what is done is done.
func (s *sweep) all(ctx context.Context) error {
	for after := ""; ; {
		rows, err := s.host.SealedPage(ctx, s.column, after, page)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return nil
		}
		if err := s.rows(ctx, rows); err != nil {
			return err
		}
		s.progress(len(rows))
		after = rows[len(rows)-1].ID
	}
}

// one sweeps one row; catalog.ErrNotFound without it.
func (s *sweep) one(ctx context.Context, id string) error {
	row, err := s.host.SealedGet(ctx, s.column, id)
	if err != nil {
		return err
	}
	return s.rows(ctx, []catalog.SealedValue{row})
}

func (s *sweep) rows(ctx context.Context, rows []catalog.SealedValue) error {
	due := make([]change, 0, batch)
	for i := range rows {
		v := s.judge(rows[i])
		if v.outcome != changed {
			s.settle(rows[i].ID, v)
			continue
		}
		due = append(due, change{rows[i], v.to})
		if len(due) == batch {
			if err := s.replace(ctx, due); err != nil {
				return err
			}
			due = due[:0]
		}
	}
	return s.replace(ctx, due)
}

func (s *sweep) settle(id string, v verdict) {
	s.count[v.outcome]++
	if v.outcome == failed {
		s.failures.add(s.column.Name, id, v.reason)
	}
}

// replace puts all new values in one transaction, which waits for nobody's rows; those that another program has locked
// or changed meanwhile follow one by one.
func (s *sweep) replace(ctx context.Context, due []change) error {
	if len(due) == 0 {
		return nil
	}
	var done, left []change
	err := s.again(ctx, func(tx *catalog.Tx) error {
		done, left = nil, nil
		for _, c := range due {
			ok, err := tx.ReplaceSealed(ctx, s.column, c.row.ID, c.row.Value, c.to, false)
			switch {
			case err != nil:
				return err
			case ok:
				done = append(done, c)
			default:
				left = append(left, c)
			}
		}
		if len(done) == 0 {
			return nil
		}
		return s.audit(ctx, tx, done)
	})
	if err != nil {
		return err
	}
	s.count[changed] += len(done)
	for _, c := range left {
		if err := s.alone(ctx, c.row.ID); err != nil {
			return err
		}
	}
	return nil
}

// alone replaces one value in a transaction of its own, which may wait for whoever has the row locked.
func (s *sweep) alone(ctx context.Context, id string) error {
	for try := range attempts {
		row, err := s.host.SealedGet(ctx, s.column, id)
		if errors.Is(err, catalog.ErrNotFound) {
			return nil // deleted meanwhile
		}
		if err != nil {
			return err
		}
		v := s.judge(row)
		if v.outcome != changed {
			s.settle(id, v)
			return nil
		}
		var ok bool
		err = s.host.InTx(ctx, func(tx *catalog.Tx) (err error) {
			if ok, err = tx.ReplaceSealed(ctx, s.column, id, row.Value, v.to, true); err != nil || !ok {
				return err
			}
			return s.audit(ctx, tx, []change{{row, v.to}})
		})
		switch {
		case errors.Is(err, catalog.ErrUnavailable) && ctx.Err() == nil && s.host.Ping(ctx) == nil:
			if try+1 < lockedAttempts {
				continue
			}
			s.settle(id, verdict{outcome: failed, reason: "another program keeps the row locked"})
			return nil
		case err != nil:
			return err
		case ok:
			s.count[changed]++
			return nil
		}
	}
	s.settle(id, verdict{outcome: failed, reason: "another program changes the row again and again"})
	return nil
}

// again runs a transaction that can be begun again, and rests after it. An error of the commit leaves open whether it
// happened: the values that are there by then are judged anew, one by one.
func (s *sweep) again(ctx context.Context, f func(*catalog.Tx) error) (err error) {
	for range attempts {
		began := time.Now()
		err = s.host.InTx(ctx, f)
		if e := rest(ctx, time.Since(began)); e != nil {
			return e
		}
		if !errors.Is(err, catalog.ErrUnavailable) {
			return err
		}
	}
	return err
}

func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(min(d, maxPause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Encrypted is what Encrypt met.
type Encrypted struct {
	Sealed        int // now
	AlreadySealed int
	References    int
	Empty         int
	Failures      Failures
}

// Encrypt seals the db_url of one tenant, or of all where tenant is "", under the first secret; what is sealed, a
// reference or empty stays. Each change is audited in its own transaction. progress, if not nil, is told how many more
// tenants were looked at. Killed or failed at any moment it can be begun again. catalog.ErrNotFound without the tenant.
func Encrypt(ctx context.Context, host *catalog.HostDatabase, keys seal.Keyset, tenant catalog.TenantID, progress func(int)) (Encrypted, error) {
	if keys.IsZero() {
		return Encrypted{}, errors.New("encrypt: no master secret")
	}
	column := TenantURLs()
	var done Encrypted
	s := &sweep{
		host: host, column: column.SealedColumn, progress: orNobody(progress), failures: &done.Failures,
		judge: func(v catalog.SealedValue) verdict { return encrypt(keys, v) },
		audit: func(ctx context.Context, tx *catalog.Tx, changes []change) error {
			return auditURIs(ctx, tx, "tenant.encrypted", keys, changes)
		},
	}
	var err error
	if tenant == "" {
		err = s.all(ctx)
	} else {
		err = s.one(ctx, string(tenant))
	}
	done.Sealed, done.AlreadySealed, done.References, done.Empty = s.count[changed], s.count[current], s.count[referred], s.count[empty]
	return done, err
}

func encrypt(keys seal.Keyset, v catalog.SealedValue) verdict {
	stored := catalog.NewDBURI(v.Value.Reveal())
	switch FormOf(stored) {
	case Absent:
		return verdict{outcome: empty}
	case Sealed:
		return verdict{outcome: current}
	case Reference:
		return verdict{outcome: referred}
	}
	to, err := Seal(keys, catalog.TenantID(v.ID), stored)
	if err != nil {
		return verdict{outcome: failed, reason: Reason(err)}
	}
	return verdict{outcome: changed, to: secret.New(to.Reveal())}
}

// auditURIs writes a row for each tenant, in the form of every change of a row.
func auditURIs(ctx context.Context, tx *catalog.Tx, event string, keys seal.Keyset, changes []change) error {
	for _, c := range changes {
		err := tx.Audit(ctx, event, c.row.ID, map[string]any{
			"db_url": map[string]any{"from": catalog.NewDBURI(c.row.Value.Reveal()).String(), "to": catalog.NewDBURI(c.to.Reveal()).String()},
			"key":    keys.FirstID(),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Rotated is what Rotate met in one column.
type Rotated struct {
	Column   string
	Resealed int // now
	Current  int // lay under the first secret already
	Failed   int
}

// Rotate seals every value of the columns that lies under another secret anew under the first: then the others can go.
// Values that do not open stay as they are and are Failures. What runs beside it goes on, as long as it has read the
// first secret. Killed or failed at any moment it can be begun again; once done it changes nothing.
func Rotate(ctx context.Context, host *catalog.HostDatabase, keys seal.Keyset, columns []Column, progress func(int)) ([]Rotated, Failures, error) {
	if keys.IsZero() {
		return nil, Failures{}, errors.New("rotate: no master secret")
	}
	var done []Rotated
	var failures Failures
	for i := range columns {
		c := &columns[i]
		s := &sweep{
			host: host, column: c.SealedColumn, progress: orNobody(progress), failures: &failures,
			judge: func(v catalog.SealedValue) verdict { return c.reseal(keys, v) },
			audit: func(ctx context.Context, tx *catalog.Tx, changes []change) error {
				return c.auditReseal(ctx, tx, keys, changes)
			},
		}
		err := s.all(ctx)
		done = append(done, Rotated{Column: c.Name, Resealed: s.count[changed], Current: s.count[current], Failed: s.count[failed]})
		if err != nil {
			return done, failures, fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return done, failures, nil
}

// reseal judges a value: one under the first secret stays, but only if it opens.
func (c *Column) reseal(keys seal.Keyset, v catalog.SealedValue) verdict {
	text := v.Value.Reveal()
	if text == "" {
		return verdict{outcome: empty}
	}
	if len(text) < len(c.Prefix) || text[:len(c.Prefix)] != c.Prefix {
		return verdict{outcome: plain}
	}
	text = text[len(c.Prefix):]
	to := c.Purpose(v.ID, v.Detail)
	opened, err := keys.Open(to, text)
	switch {
	case err != nil:
		return verdict{outcome: failed, reason: Reason(err)}
	case keys.UnderFirst(text):
		return verdict{outcome: current}
	}
	anew, err := keys.Seal(to, opened)
	if err != nil {
		return verdict{outcome: failed, reason: Reason(err)}
	}
	return verdict{outcome: changed, to: secret.New(c.Prefix + anew)}
}

func (c *Column) auditReseal(ctx context.Context, tx *catalog.Tx, keys seal.Keyset, changes []change) error {
	if c.Event == "" {
		return tx.Audit(ctx, "key.rotated", "", map[string]any{"column": c.Name, "rows": len(changes), "key": keys.FirstID()})
	}
	for _, row := range changes {
		if err := tx.Audit(ctx, c.Event, row.row.ID, map[string]any{"column": c.Name, "key": keys.FirstID()}); err != nil {
			return err
		}
	}
	return nil
}

func orNobody(progress func(int)) func(int) {
	if progress == nil {
		return func(int) {}
	}
	return progress
}
