package catalog

import (
	"cmp"
	"context"
	"database/sql"
)

// AuditSnapshot is the log and its chain at one moment, for one goroutine, while ReadAudit runs.
type AuditSnapshot struct {
	h  *HostDatabase
	tx *sql.Tx
}

// auditPage is how many entries are asked for at once.
const auditPage = 10_000

// ReadAudit hands f the log and its chain as they stand at one moment, however long f takes and whatever is written
// meanwhile. Nothing waits for it.
func (h *HostDatabase) ReadAudit(ctx context.Context, f func(*AuditSnapshot) error) error {
	ctx, cancel := within(ctx, auditDeadline)
	defer cancel()
	opts := &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	if h.engine == EngineSQLite {
		opts = nil // a reader's transaction sees one moment
	}
	tx, err := h.read.BeginTx(ctx, opts)
	if err != nil {
		return safe("read the audit log", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	if h.engine == EnginePostgreSQL {
		if _, err := tx.ExecContext(ctx, h.queries["audit_read_patience"]); err != nil {
			return safe("read the audit log", err)
		}
	}
	return f(&AuditSnapshot{h, tx})
}

// query runs a named statement. Where collect gives up, the connection is given up with it: what is left of the answer may be
// any number of large rows.
func (s *AuditSnapshot) query(ctx context.Context, op, name string, args []any, collect func(*sql.Rows) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	return safe(op, gather(func(rows *sql.Rows) error {
		err := collect(rows)
		if err != nil {
			stop()
		}
		return err
	})(s.tx.QueryContext(ctx, s.h.queries[name], args...)))
}

// plans says what PostgreSQL is to plan for: pages ("off" to what reads whole tables), or whole tables ("on").
func (s *AuditSnapshot) plans(ctx context.Context, whole string) error {
	if s.h.engine == EngineSQLite {
		return nil
	}
	_, err := s.tx.ExecContext(ctx, s.h.queries["audit_read_plans"], whole)
	return safe("read the audit log", err)
}

func (s *AuditSnapshot) number(ctx context.Context, op, name string) (n int64, err error) {
	err = s.query(ctx, op, name, nil, func(rows *sql.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&n); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return n, err
}

// Entries hands each every entry behind that seq, in their order, with its row; row is nil where there is none, or where
// the entry is of a row without an id. Where several rows have one id, the entry comes once with each. Both are valid
// only until each returns.
func (s *AuditSnapshot) Entries(ctx context.Context, after int64, each func(e *ChainEntry, row *AuditRow) error) error {
	if err := s.plans(ctx, "off"); err != nil {
		return err
	}
	theirs := s.pages(ctx, after, each)
	if err := s.plans(ctx, "on"); theirs == nil {
		return err
	}
	return theirs // of a statement that failed, or of each
}

func (s *AuditSnapshot) pages(ctx context.Context, after int64, each func(e *ChainEntry, row *AuditRow) error) error {
	var theirs error
	for {
		n, last := 0, after
		err := s.query(ctx, "read the chain", "audit_entries", []any{after, auditPage}, func(rows *sql.Rows) error {
			var e ChainEntry
			var row AuditRow
			var there any
			dst := row.into([]any{&e.Seq, &e.AuditID, &e.RowHash, &e.Hash, &e.At, &e.Archived, &there})
			for rows.Next() {
				if err := rows.Scan(dst...); err != nil {
					return err
				}
				n++
				last = e.Seq
				at := &row
				if there == false || there == int64(0) {
					at = nil
				}
				if theirs = each(&e, at); theirs != nil {
					return theirs
				}
			}
			return rows.Err()
		})
		if err != nil || n == 0 {
			return cmp.Or(theirs, err)
		}
		after = last
	}
}

// rowsOf walks through rows that come alone, each with something that tells about it.
func (s *AuditSnapshot) rowsOf(ctx context.Context, name string, args []any, about any, each func(row *AuditRow) error) error {
	var theirs error
	err := s.query(ctx, "read the audit log", name, args, func(rows *sql.Rows) error {
		var row AuditRow
		var dst []any
		if about != nil {
			dst = append(dst, about)
		}
		dst = row.into(dst)
		for rows.Next() {
			if err := rows.Scan(dst...); err != nil {
				return err
			}
			if theirs = each(&row); theirs != nil {
				return theirs
			}
		}
		return rows.Err()
	})
	return cmp.Or(theirs, err)
}

// Nameless hands each every row without an id, and the place at which NamelessRow finds it again. PostgreSQL has none: id
// is a primary key.
func (s *AuditSnapshot) Nameless(ctx context.Context, each func(place int64, row *AuditRow) error) error {
	if s.h.engine == EnginePostgreSQL {
		return nil
	}
	var place int64
	return s.rowsOf(ctx, "sqlite_audit_nameless", nil, &place, func(row *AuditRow) error { return each(place, row) })
}

// NamelessRow is the row at a place that Nameless named.
func (s *AuditSnapshot) NamelessRow(ctx context.Context, place int64) (*AuditRow, error) {
	var found *AuditRow
	err := s.rowsOf(ctx, "sqlite_audit_nameless_row", []any{place}, nil, func(row *AuditRow) error {
		found = row
		return nil
	})
	return found, err
}

// Unchained hands each every row with an id that is in no entry, and whether it waits to be chained.
func (s *AuditSnapshot) Unchained(ctx context.Context, each func(waiting bool, row *AuditRow) error) error {
	var waiting bool
	return s.rowsOf(ctx, "audit_unchained", nil, into(&waiting), func(row *AuditRow) error { return each(waiting, row) })
}

// Rows is how many rows the log has.
func (s *AuditSnapshot) Rows(ctx context.Context) (int64, error) {
	return s.number(ctx, "count the audit log", "audit_rows")
}

// Waiting is how many rows of the log wait in the queue.
func (s *AuditSnapshot) Waiting(ctx context.Context) (int64, error) {
	return s.number(ctx, "count the audit queue", "audit_rows_waiting")
}

// Backfilled says whether all rows were taken in that there were before the queue: from then on a row that is in no
// entry waits in the queue, or was put in past the trigger.
func (s *AuditSnapshot) Backfilled(ctx context.Context) (done bool, err error) {
	err = s.query(ctx, "read the backfill", "audit_backfill", nil, func(rows *sql.Rows) error {
		done = true
		for rows.Next() {
			var b backfill
			if err := rows.Scan(&b.created, &b.id, &b.at, &b.to, into(&done)); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return done, err
}
