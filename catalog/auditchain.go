package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// AuditValue is a column of sys_audit_logs as it is stored. SQLite keeps whatever a program stored in it.
type AuditValue struct {
	Kind AuditKind
	Text string
}

// AuditKind is what an AuditValue is.
type AuditKind byte

// Kinds of an AuditValue. Their numbers are part of what the chain hashes: they stay.
const (
	AuditNull  AuditKind = 0
	AuditText  AuditKind = 1
	AuditBytes AuditKind = 2 // a BLOB of SQLite
	AuditOther AuditKind = 3 // a number of SQLite, in Go's form
)

// Scan implements sql.Scanner.
func (v *AuditValue) Scan(src any) error {
	switch src := src.(type) {
	case nil:
		*v = AuditValue{}
	case string:
		*v = AuditValue{AuditText, src}
	case []byte:
		*v = AuditValue{AuditBytes, string(src)}
	default:
		*v = AuditValue{AuditOther, fmt.Sprint(src)}
	}
	return nil
}

func (v AuditValue) parameter() any {
	switch v.Kind {
	case AuditNull:
		return nil
	case AuditBytes:
		return []byte(v.Text)
	}
	return v.Text
}

// AuditColumns are the columns of an AuditRow, in their order.
func AuditColumns() []string { return auditModel().columns }

// AuditRow is a row of sys_audit_logs: id, actor_user_id, event_type, target_id, details, ip_address, created_at.
type AuditRow [7]AuditValue

func (r *AuditRow) into(dst []any) []any {
	for i := range r {
		dst = append(dst, &r[i])
	}
	return dst
}

// ChainEntry is a row of sys_audit_chain.
type ChainEntry struct {
	Seq      int64
	AuditID  AuditValue // of the row that it is about
	RowHash  string     // "": the row was gone before it was chained
	Hash     string
	At       string // when it was chained, see Timestamp
	Archived AuditValue
}

// ChainHead is the end of the chain; the zero value's is its beginning.
type ChainHead struct {
	Seq  int64
	Hash string
}

// UnchainedRow is a row that is to be chained.
type UnchainedRow struct {
	AuditID AuditValue
	RowHash string // "": the row is gone
}

// Chaining says what one transaction of the chain does.
type Chaining struct {
	// Behind is the place of the queue to look behind.
	Behind int64
	// Rows bounds the rows of the queue, and those that were there before the queue; Bytes bounds what all of them hold. A row
	// that holds more comes alone. Both are at least 1.
	Rows  int
	Bytes int64
	// QueueOnly leaves the rows alone that were there before the queue.
	QueueOnly bool
	// HashOf is the hash of a row, which is valid only until it returns: rows are held one at a time.
	HashOf func(*AuditRow) string
	// Link makes the entries that follow head, one for each row. It is pure.
	Link func(head ChainHead, rows []UnchainedRow) []ChainEntry
}

// maxAuditRow is the size of a row from which on PostgreSQL cannot send it whole: a message has less than 1 GiB.
const maxAuditRow = 1<<30 - 1<<20

// ChainLook is what Chain did.
type ChainLook struct {
	Head    ChainHead
	Chained int
	// Busy: another replica is at it; nothing was done.
	Busy bool
	// More: there is more to be chained.
	More bool
	// Seen is the largest place of the queue up to which all was taken, 0 for none.
	Seen int64
	// TooLarge are rows that PostgreSQL cannot send whole, about 1 GiB: they wait for ever, and keep nothing else from being
	// chained.
	TooLarge int
	// After an error: the one place of the queue whose row could not be read, 0 for none; and whether it was a row of those that
	// were there before the queue.
	Stuck       int64
	StuckBefore bool
}

// AuditWaiting says whether rows may be waiting to be chained, behind that place of the queue.
func (h *HostDatabase) AuditWaiting(ctx context.Context, behind int64) (bool, error) {
	n, err := false, error(nil)
	err = h.query(ctx, "look for audit rows to chain", hotDeadline, "audit_waiting", []any{behind}, func(rows *sql.Rows) error {
		for rows.Next() {
			if err := rows.Scan(into(&n)); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return n, err
}

// AuditQueueLength is how many rows wait, up to 100,000.
func (h *HostDatabase) AuditQueueLength(ctx context.Context) (int64, error) {
	return h.number(ctx, "audit_queue_length")
}

// AuditHead is the chain's end.
func (h *HostDatabase) AuditHead(ctx context.Context) (head ChainHead, err error) {
	return auditHead(ctx, h)
}

func auditHead(ctx context.Context, at access) (head ChainHead, err error) {
	err = at.query(ctx, "read the chain's end", readDeadline, "audit_chain_head", nil, func(rows *sql.Rows) error {
		head = ChainHead{}
		for rows.Next() {
			if err := rows.Scan(&head.Seq, &head.Hash); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return head, err
}

// Chain appends to the chain what is committed and not chained yet, in one transaction. One replica at a time does so; the
// number is the table's key, so that the chain never forks.
func (h *HostDatabase) Chain(ctx context.Context, c Chaining) (ChainLook, error) {
	var look ChainLook
	err := h.InTx(ctx, func(tx *Tx) error {
		look = ChainLook{}
		if ok, err := tx.tryChainLock(ctx); err != nil || !ok {
			look.Busy = err == nil
			return err
		}
		head, err := auditHead(ctx, tx)
		if err != nil {
			return err
		}
		b, err := tx.backfill(ctx)
		if err != nil {
			return err
		}
		queue, err := tx.takeQueue(ctx, &c, b)
		if err != nil {
			if len(queue.places) == 1 {
				look.Stuck = queue.places[0]
			}
			return err
		}
		rows, before := queue.rows, !b.done && !c.QueueOnly
		if before && !queue.more {
			old, err := tx.takeBackfill(ctx, &c, &b, c.Bytes-queue.bytes, len(queue.places) == 0)
			if err != nil {
				look.StuckBefore = true
				return err
			}
			rows = append(rows, old...)
		}
		entries := c.Link(head, rows)
		if err := tx.appendChain(ctx, entries); err != nil {
			return err
		}
		if err := tx.leaveQueue(ctx, queue.places); err != nil {
			return err
		}
		look.Head, look.Chained, look.More = head, len(entries), queue.more || before && !b.done
		if n := len(entries); n > 0 {
			look.Head = ChainHead{entries[n-1].Seq, entries[n-1].Hash}
		}
		look.TooLarge = queue.tooLarge
		if n := len(queue.places); n > 0 && queue.tooLarge == 0 {
			look.Seen = queue.places[n-1]
		}
		return nil
	})
	if err != nil {
		return ChainLook{Stuck: look.Stuck, StuckBefore: look.StuckBefore}, err
	}
	return look, nil
}

func (tx *Tx) tryChainLock(ctx context.Context) (ok bool, err error) {
	if tx.h.engine == EngineSQLite {
		return true, nil
	}
	err = tx.query(ctx, "lock the chain", writeDeadline, "audit_chain_lock", nil, func(rows *sql.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&ok); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return ok, err
}

// queued is what was taken from the queue: its places, and those of its rows that are not chained.
type queued struct {
	places   []int64
	bytes    int64
	rows     []UnchainedRow
	more     bool // there is more than fitted
	tooLarge int
}

func (tx *Tx) takeQueue(ctx context.Context, c *Chaining, b backfill) (queued, error) {
	var covered []any // SQLite
	if tx.h.engine == EngineSQLite {
		if covered = []any{b.at, b.to.Int64}; b.done {
			covered = []any{0, 0}
		}
	}
	q, err := tx.fitting(ctx, c, append([]any{c.Behind, c.Rows}, covered...))
	if err != nil || len(q.places) == 0 {
		return q, err
	}
	if err := tx.patience(ctx, q.bytes > c.Bytes); err != nil {
		return q, err
	}
	args := []any{q.places}
	if tx.h.engine == EngineSQLite {
		args = append([]any{c.Behind, q.places[len(q.places)-1]}, covered...)
	}
	err = tx.query(ctx, "read the audit queue", readDeadline, "audit_queue_take", args, func(rows *sql.Rows) error {
		q.rows = nil
		for rows.Next() {
			r, chained, err := scanUnchained(rows, c.HashOf)
			if err != nil {
				return err
			}
			if !chained {
				q.rows = append(q.rows, r)
			}
		}
		return rows.Err()
	})
	return q, err
}

// fitting are the places of the queue whose rows are within the bounds: the first at least, however large.
func (tx *Tx) fitting(ctx context.Context, c *Chaining, args []any) (q queued, err error) {
	err = tx.query(ctx, "read the audit queue", readDeadline, "audit_queue_sizes", args, func(rows *sql.Rows) error {
		q = queued{}
		seen := 0
		for rows.Next() {
			var place, size int64
			if err := rows.Scan(&place, &size); err != nil {
				return err
			}
			seen++
			switch {
			case q.more:
			case size > maxAuditRow && tx.h.engine == EnginePostgreSQL:
				q.tooLarge++
			case len(q.places) > 0 && q.bytes+size > c.Bytes:
				q.more = true
			default:
				q.places, q.bytes = append(q.places, place), q.bytes+size
			}
		}
		q.more = q.more || seen == c.Rows && len(q.places) > 0
		return rows.Err()
	})
	return q, err
}

// patience lifts the server's bound on a statement for a row that is larger than all of a transaction may be.
func (tx *Tx) patience(ctx context.Context, needed bool) error {
	if !needed || tx.h.engine == EngineSQLite {
		return nil
	}
	_, err := tx.exec(ctx, "read a large audit row", "audit_read_patience")
	return err
}

// scanUnchained reads place, whether there is a row, whether it is chained, its id, and the row.
func scanUnchained(rows *sql.Rows, hashOf func(*AuditRow) string) (r UnchainedRow, chained bool, err error) {
	var there bool
	var row AuditRow
	err = rows.Scan(row.into([]any{new(int64), into(&there), into(&chained), &r.AuditID})...)
	if err == nil && there && !chained {
		r.RowHash = hashOf(&row)
	}
	return r, chained, err
}

func (tx *Tx) leaveQueue(ctx context.Context, places []int64) error {
	if len(places) == 0 {
		return nil
	}
	const op = "take from the audit queue"
	if tx.h.engine == EnginePostgreSQL {
		_, err := tx.exec(ctx, op, "audit_queue_delete", places)
		return err
	}
	args := make([][]any, len(places))
	for i, p := range places {
		args[i] = []any{p}
	}
	return tx.execEach(ctx, op, "audit_queue_delete", args)
}

func (tx *Tx) appendChain(ctx context.Context, entries []ChainEntry) error {
	if len(entries) == 0 {
		return nil
	}
	const op = "append to the chain"
	if tx.h.engine == EngineSQLite {
		args := make([][]any, len(entries))
		for i := range entries {
			e := &entries[i]
			args[i] = []any{e.Seq, e.AuditID.parameter(), e.RowHash, e.Hash, e.At}
		}
		return tx.execEach(ctx, op, "audit_chain_insert", args)
	}
	seqs, ids := make([]int64, len(entries)), make([]any, len(entries))
	rowHashes, hashes, ats := make([]string, len(entries)), make([]string, len(entries)), make([]string, len(entries))
	for i := range entries {
		e := &entries[i]
		seqs[i], ids[i], rowHashes[i], hashes[i], ats[i] = e.Seq, e.AuditID.parameter(), e.RowHash, e.Hash, e.At
	}
	_, err := tx.exec(ctx, op, "audit_chain_insert", seqs, textArray(ids), rowHashes, hashes, ats)
	return err
}

// textArray is an array of texts and NULLs as pgx takes it.
func textArray(values []any) []*string {
	out := make([]*string, len(values))
	for i, v := range values {
		if s, ok := v.(string); ok {
			out[i] = &s
		}
	}
	return out
}

// execEach runs a named statement once for each set of parameters, compiled once. It returns an error, but no count.
func (tx *Tx) execEach(ctx context.Context, op, name string, all [][]any) error {
	ctx, cancel := within(ctx, scanDeadline)
	defer cancel()
	stmt, err := tx.tx.PrepareContext(ctx, tx.h.queries[name])
	if err != nil {
		return tx.note(op, err)
	}
	for _, args := range all {
		if _, err = stmt.ExecContext(ctx, args...); err != nil {
			break
		}
	}
	if e := stmt.Close(); err == nil {
		err = e
	}
	return tx.note(op, err)
}

// backfill is how far the rows are chained that were there before the queue.
type backfill struct {
	created, id string        // PostgreSQL: of the last row that was looked at
	at          int64         // SQLite: its rowid
	to          sql.NullInt64 // SQLite: the last row that there was
	done        bool
}

// backfill reads it; on SQLite it begins it: from then on rows up to the last one are the backfill's, others the queue's.
func (tx *Tx) backfill(ctx context.Context) (b backfill, err error) {
	err = tx.query(ctx, "read the backfill", readDeadline, "audit_backfill", nil, func(rows *sql.Rows) error {
		b = backfill{done: true} // no row: whoever took it away wants none
		for rows.Next() {
			if err := rows.Scan(&b.created, &b.id, &b.at, &b.to, into(&b.done)); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err != nil || b.done || b.to.Valid || tx.h.engine == EnginePostgreSQL {
		return b, err
	}
	b.to.Valid = true
	if b.to.Int64, err = tx.count(ctx, "begin the backfill", "sqlite_audit_last_row"); err != nil {
		return b, err
	}
	if _, err = tx.exec(ctx, "begin the backfill", "sqlite_audit_queue_covered", b.at, b.to.Int64); err != nil {
		return b, err
	}
	return b, tx.setBackfill(ctx, b)
}

func (tx *Tx) setBackfill(ctx context.Context, b backfill) error {
	_, err := tx.exec(ctx, "note the backfill", "audit_backfill_set", b.created, b.id, b.at, b.to, b.done)
	return err
}

// takeBackfill takes the next rows that fit into so many bytes, at least one if it must, and notes how far it came.
func (tx *Tx) takeBackfill(ctx context.Context, c *Chaining, b *backfill, room int64, must bool) ([]UnchainedRow, error) {
	names, args := [2]string{"postgresql_audit_backfill_sizes", "postgresql_audit_backfill_rows"}, []any{b.created, b.id, c.Rows}
	if tx.h.engine == EngineSQLite {
		names, args = [2]string{"sqlite_audit_backfill_sizes", "sqlite_audit_backfill_rows"}, []any{b.at, b.to.Int64, c.Rows}
	}
	fit, all, err := tx.fittingBackfill(ctx, names[0], args, room, must)
	if err != nil || fit == 0 && !all {
		return nil, err
	}
	var taken []UnchainedRow
	from := b.at
	args[2] = fit
	err = tx.query(ctx, "read audit rows to chain", readDeadline, names[1], args, func(rows *sql.Rows) error {
		taken = nil
		for rows.Next() {
			var place any = new(bool) // PostgreSQL has none
			if tx.h.engine == EngineSQLite {
				place = &b.at
			}
			r, chained, err := b.scan(rows, place, c.HashOf)
			if err != nil {
				return err
			}
			if !chained {
				taken = append(taken, r)
			}
		}
		return rows.Err()
	})
	if err != nil {
		return nil, err
	}
	b.done = all && fit < c.Rows
	if tx.h.engine == EngineSQLite { // rows that were put in there since stand in the queue, too
		to := b.at
		if b.done {
			to = b.to.Int64
		}
		if _, err := tx.exec(ctx, "note the backfill", "sqlite_audit_queue_covered", from, to); err != nil {
			return nil, err
		}
	}
	return taken, tx.setBackfill(ctx, *b)
}

// fittingBackfill is how many of the next rows fit, and whether those are all that were asked for. It makes room for a row
// that is larger than a transaction may be.
func (tx *Tx) fittingBackfill(ctx context.Context, name string, args []any, room int64, must bool) (fit int, all bool, err error) {
	large := false
	err = tx.query(ctx, "read audit rows to chain", readDeadline, name, args, func(rows *sql.Rows) error {
		fit, all = 0, true
		left := room
		for rows.Next() {
			var size int64
			if err := rows.Scan(&size); err != nil {
				return err
			}
			first := fit == 0 && must
			if all = all && (size <= left || first); all {
				large = large || size > left
				fit, left = fit+1, left-size
			}
		}
		return rows.Err()
	})
	if err == nil {
		err = tx.patience(ctx, large)
	}
	return fit, all, err
}

func (b *backfill) scan(rows *sql.Rows, place any, hashOf func(*AuditRow) string) (UnchainedRow, bool, error) {
	var row AuditRow
	var r UnchainedRow
	var chained bool
	dst := []any{place}
	if _, lite := place.(*int64); lite {
		dst = append(dst, new(int64))
	}
	if err := rows.Scan(row.into(append(dst, into(&chained), &r.AuditID))...); err != nil {
		return r, false, err
	}
	if !chained {
		r.RowHash = hashOf(&row)
	}
	b.created, b.id = row[6].Text, row[0].Text
	return r, chained, nil
}

// auditDeadline bounds a walk through the log whose context has no deadline.
const auditDeadline = 24 * time.Hour
