package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// ErrNotKept: a row or an entry is not what it is said to be; nothing was deleted.
var ErrNotKept = errors.New("the log is not what was written to the file; run `tenantgate audit verify`")

// ArchivedEntry is an entry whose row is to be deleted.
type ArchivedEntry struct {
	Seq           int64
	ID            AuditID
	RowHash, Hash string
}

// Archiving is one step of an archive.
type Archiving struct {
	// Entries whose rows are to be deleted, in their order.
	Entries []ArchivedEntry
	// HashOf is the hash of a row as the chain makes it.
	HashOf func(*AuditRow) string
	// Event and Details make the audit row of that id, the record; the entries are those that were not archived before.
	Event   string
	Details func(id string, entries []ArchivedEntry) (map[string]any, error)
}

// ArchiveAudit deletes the rows of entries, marks the entries with the record that it writes, and returns how many, all in
// one transaction. Entries that are archived already are passed over. It is the table owner's: others are refused.
// ErrNotKept if a row or an entry is not what it should be.
func (h *HostDatabase) ArchiveAudit(ctx context.Context, a Archiving) (n int, err error) {
	err = h.InTx(ctx, func(tx *Tx) error {
		due, err := tx.notArchived(ctx, a.Entries)
		if n = len(due); err != nil || n == 0 {
			return err
		}
		id := GenID()
		again, err := tx.liftKeeping(ctx)
		if err != nil {
			return err
		}
		if h.engine == EnginePostgreSQL {
			err = tx.archivePostgres(ctx, id, due, a.HashOf)
		} else {
			err = tx.archiveSQLite(ctx, id, due, a.HashOf)
		}
		if err != nil {
			return err
		}
		for _, text := range again {
			if _, err := tx.execText(ctx, "keep the audit log again", text); err != nil {
				return err
			}
		}
		details, err := a.Details(id, due)
		if err != nil {
			return err
		}
		row, err := tx.auditRow(ctx, AuditID(id), a.Event, "", details)
		if err != nil {
			return err
		}
		return tx.AuditLogs.put(ctx, tx, row) // in every audit.mode: without it nothing is deleted
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// notArchived compares the entries with the chain's and returns those that are not archived.
func (tx *Tx) notArchived(ctx context.Context, entries []ArchivedEntry) (due []ArchivedEntry, err error) {
	if len(entries) == 0 {
		return nil, nil
	}
	type mark struct {
		hash     string
		archived bool
	}
	marks := make(map[int64]mark, len(entries))
	args := []any{entries[0].Seq, entries[len(entries)-1].Seq}
	err = tx.query(ctx, "read the chain", readDeadline, "audit_marks", args, func(rows *sql.Rows) error {
		for rows.Next() {
			var seq int64
			var m mark
			var by AuditValue
			if err := rows.Scan(&seq, &m.hash, &by); err != nil {
				return err
			}
			m.archived = by.Kind != AuditNull
			marks[seq] = m
		}
		return rows.Err()
	})
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		m, there := marks[e.Seq]
		if !there || m.hash != e.Hash {
			return nil, fmt.Errorf("entry %d: %w", e.Seq, ErrNotKept)
		}
		if !m.archived {
			due = append(due, e)
		}
	}
	return due, nil
}

// liftKeeping drops SQLite's triggers that keep log and chain, to the transaction's end, and returns what makes them
// again. On PostgreSQL they let the owner pass.
func (tx *Tx) liftKeeping(ctx context.Context) (again []string, err error) {
	if tx.h.engine == EnginePostgreSQL {
		return nil, nil
	}
	var drop []string
	err = tx.query(ctx, "look at the triggers", readDeadline, "sqlite_keeping_triggers", nil, func(rows *sql.Rows) error {
		for rows.Next() {
			var name, text string
			if err := rows.Scan(&name, &text); err != nil {
				return err
			}
			drop, again = append(drop, "DROP TRIGGER "+quoted(name)), append(again, text)
		}
		return rows.Err()
	})
	for _, text := range drop {
		if err == nil {
			_, err = tx.execText(ctx, "let the audit log go", text)
		}
	}
	return again, err
}

const archiveOp = "delete archived audit rows (only the owner of sys_audit_logs may)"

func (tx *Tx) archivePostgres(ctx context.Context, id string, due []ArchivedEntry, hashOf func(*AuditRow) string) error {
	ids, seqs, want := make([]string, len(due)), make([]int64, len(due)), make(map[string]string, len(due))
	for i, e := range due {
		ids[i], seqs[i], want[string(e.ID)] = string(e.ID), e.Seq, e.RowHash
	}
	found := 0
	err := tx.query(ctx, archiveOp, readDeadline, "audit_archive_row", []any{ids}, func(rows *sql.Rows) error {
		var row AuditRow
		dst := row.into([]any{new(string)})
		for rows.Next() {
			if err := rows.Scan(dst...); err != nil {
				return err
			}
			if hash, asked := want[row[0].Text]; asked && hash == hashOf(&row) {
				found++
			}
		}
		return rows.Err()
	})
	if err != nil {
		return err
	}
	if found != len(due) {
		return ErrNotKept
	}
	deleted, err := tx.exec(ctx, archiveOp, "audit_archive_delete", ids)
	if err != nil {
		return err
	}
	marked, err := tx.exec(ctx, archiveOp, "audit_archive_mark", id, seqs)
	if err == nil && (deleted != int64(len(due)) || marked != int64(len(due))) {
		err = ErrNotKept
	}
	return err
}

func (tx *Tx) archiveSQLite(ctx context.Context, id string, due []ArchivedEntry, hashOf func(*AuditRow) string) error {
	stmt, err := tx.tx.PrepareContext(ctx, tx.h.queries["audit_archive_row"])
	if err != nil {
		return tx.note(archiveOp, err)
	}
	defer func() { _ = stmt.Close() }() // the transaction ends with it
	places, marks := make([][]any, len(due)), make([][]any, len(due))
	for i, e := range due {
		var row AuditRow
		var place int64
		err := stmt.QueryRowContext(ctx, string(e.ID)).Scan(row.into([]any{&place})...)
		if errors.Is(err, sql.ErrNoRows) || err == nil && hashOf(&row) != e.RowHash {
			return fmt.Errorf("entry %d: %w", e.Seq, ErrNotKept)
		}
		if err != nil {
			return tx.note(archiveOp, err)
		}
		places[i], marks[i] = []any{place}, []any{id, e.Seq}
	}
	if err := tx.execEach(ctx, archiveOp, "audit_archive_delete", places); err != nil {
		return err
	}
	return tx.execEach(ctx, archiveOp, "audit_archive_mark", marks)
}
