package catalog

import (
	"context"
	"errors"
)

// unrecorded is an audit row that could not be written.
type unrecorded struct {
	event string
	err   error
}

// auditPoint is the savepoint around an audit row. Another program's lock on the audit log is waited for a second: the
// change waits with it, and what it has locked.
const (
	auditPoint = "SAVEPOINT tenantgate_audit"
	auditWait  = "; SET LOCAL lock_timeout = '1s'"
	auditPast  = "RELEASE SAVEPOINT tenantgate_audit"
	auditReset = "; SET LOCAL lock_timeout = DEFAULT"
	auditBack  = "ROLLBACK TO SAVEPOINT tenantgate_audit; RELEASE SAVEPOINT tenantgate_audit"
)

// record writes audit rows with put. Where audit.mode is best_effort and they cannot be written, the transaction goes on
// as if they had never been tried; whoever opened the database is told once it is committed. A database that is gone, or
// an engine that gave the whole transaction up, is an error in either mode: there is no change left to make.
func (tx *Tx) record(ctx context.Context, event string, put func() error) error {
	if !tx.h.bestEffort || tx.failed {
		return put()
	}
	begin, end := auditPoint, auditPast
	if tx.h.engine == EnginePostgreSQL {
		begin, end = begin+auditWait, end+auditReset
	}
	if _, err := tx.tx.ExecContext(ctx, begin); err != nil {
		return tx.note("begin the audit row", err)
	}
	err := put()
	if err == nil {
		_, err = tx.tx.ExecContext(ctx, end)
		return tx.note("end the audit row", err)
	}
	if _, back := tx.tx.ExecContext(ctx, auditBack); back != nil {
		return errors.Join(err, tx.note("undo the audit row", back))
	}
	tx.failed = false
	tx.missing = append(tx.missing, unrecorded{event, err})
	return nil
}

// tellMissing tells of audit rows that the committed transaction lacks.
func (tx *Tx) tellMissing() {
	if tx.h.unrecorded == nil {
		return
	}
	for _, u := range tx.missing {
		tx.h.unrecorded(u.event, u.err)
	}
}
