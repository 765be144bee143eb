package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Tx is a transaction, for one goroutine. Its Tables read and write inside it. Once a statement failed in the engine the
// transaction can only be rolled back: Commit then does that and returns an error. A call of HostDatabase's own methods
// while a Tx is open is another transaction; on SQLite, where there is one writer, a write would wait for this one in
// vain until its deadline.
type Tx struct {
	Tables
	h       *HostDatabase
	tx      *sql.Tx
	release context.CancelFunc
	failed  bool
	done    bool
	missing []unrecorded // audit rows that could not be written (audit.mode best_effort)
}

// Begin starts a transaction that may write. On SQLite it waits for the one writer, at most 10 s if ctx has no
// deadline. When ctx ends, the transaction is rolled back.
func (h *HostDatabase) Begin(ctx context.Context) (*Tx, error) {
	t := &Tx{h: h}
	err := h.retry(ctx, "begin transaction", writeDeadline, func(wait context.Context) error {
		var err error
		t.tx, t.release, err = beginWithin(ctx, wait, h.write)
		return err
	})
	if err != nil {
		return nil, err
	}
	t.Tables = newTables(t)
	return t, nil
}

// beginWithin begins a transaction that lives as long as ctx, but waits for it only as long as wait. release must be
// called when the transaction is over.
func beginWithin(ctx, wait context.Context, db *sql.DB) (tx *sql.Tx, release context.CancelFunc, err error) {
	life, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(wait, cancel)
	tx, err = db.BeginTx(life, nil)
	if !stop() && err == nil { // the wait ended at the last moment, and the transaction with it
		err = tx.Rollback()
	}
	if wait.Err() != nil {
		err = wait.Err()
	}
	if err != nil {
		cancel()
		return nil, nil, err
	}
	return tx, cancel, nil
}

// InTx runs f in a transaction, committed if f returns nil and rolled back otherwise, also on a panic. An error of the
// commit itself may leave open whether it happened, when the connection broke meanwhile.
func (h *HostDatabase) InTx(ctx context.Context, f func(*Tx) error) error {
	tx, err := h.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing; before, the reason is on its way already
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// Commit makes the transaction's changes last.
func (tx *Tx) Commit() error {
	if tx.done {
		return errors.New("commit: the transaction is over")
	}
	if tx.failed {
		return errors.Join(errors.New("commit: a statement of the transaction failed, so it was rolled back"), tx.Rollback())
	}
	tx.done = true
	defer tx.release()
	if err := tx.tx.Commit(); err != nil {
		return safe("commit", err)
	}
	tx.tellMissing()
	return nil
}

// Rollback undoes the transaction's changes. After Commit or Rollback it does nothing, so that it can be deferred.
func (tx *Tx) Rollback() error {
	if tx.done {
		return nil
	}
	tx.done = true
	defer tx.release()
	if err := tx.tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return safe("roll back", err)
	}
	return nil
}

func (tx *Tx) host() *HostDatabase { return tx.h }

func (tx *Tx) change(_ context.Context, f func(*Tx) error) error { return f(tx) }

func (tx *Tx) query(ctx context.Context, op string, deadline time.Duration, name string, args []any,
	collect func(*sql.Rows) error,
) error {
	return tx.queryText(ctx, op, deadline, tx.h.queries[name], args, collect)
}

func (tx *Tx) queryText(ctx context.Context, op string, deadline time.Duration, text string, args []any,
	collect func(*sql.Rows) error,
) error {
	ctx, cancel := within(ctx, deadline)
	defer cancel()
	return tx.note(op, gather(collect)(tx.tx.QueryContext(ctx, text, args...)))
}

// note remembers that the engine refused a statement, and makes the error fit to be shown.
func (tx *Tx) note(op string, err error) error {
	if err != nil {
		tx.failed = true
	}
	return safe(op, err)
}

// execText runs a statement and returns how many rows it changed.
func (tx *Tx) execText(ctx context.Context, op, text string, args ...any) (int64, error) {
	ctx, cancel := within(ctx, writeDeadline)
	defer cancel()
	res, err := tx.tx.ExecContext(ctx, text, args...)
	if err != nil {
		return 0, tx.note(op, err)
	}
	n, err := res.RowsAffected()
	return n, tx.note(op, err)
}

// exec runs a named statement.
func (tx *Tx) exec(ctx context.Context, op, name string, args ...any) (int64, error) {
	return tx.execText(ctx, op, tx.h.queries[name], args...)
}

// count runs a named statement that counts.
func (tx *Tx) count(ctx context.Context, op, name string, args ...any) (int64, error) {
	var n int64
	err := tx.query(ctx, op, readDeadline, name, args, func(rows *sql.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&n); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return n, err
}

// LockUser waits for the lock of that key and holds it to the transaction's end, across all replicas: between it and
// the end nobody else who locks the key can link or create that user.
func (tx *Tx) LockUser(ctx context.Context, key string) error { return tx.lock(ctx, "user/"+key) }

// lock takes an advisory lock on PostgreSQL. On SQLite the transaction is the only one that writes.
func (tx *Tx) lock(ctx context.Context, key string) error {
	if tx.h.engine == EngineSQLite {
		return nil
	}
	_, err := tx.exec(ctx, "lock", "lock", clean(key))
	return err
}

// Actor is who makes a change, for the audit.
type Actor struct {
	ID string // actor_user_id: a user's id, cli:<os user>@<host>, or system
	IP string // ip_address, "" for none
}

type actorKey struct{}

// WithActor names the actor of all changes made with the context. Without it the actor is "system".
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

func actorOf(ctx context.Context) Actor {
	a, _ := ctx.Value(actorKey{}).(Actor)
	if a.ID == "" {
		a.ID = "system"
	}
	return a
}

// auditValueLimit bounds one value in details, in bytes; a longer one is cut.
const auditValueLimit = 1000

// Audit writes a sys_audit_logs row: who (WithActor) did what to which id. Details are JSON's to render and must hold
// no secret; texts longer than 1000 bytes are cut.
func (tx *Tx) Audit(ctx context.Context, event, target string, details map[string]any) error {
	row, err := tx.auditRow(ctx, AuditID(GenID()), event, target, details)
	if err != nil {
		return err
	}
	return tx.record(ctx, event, func() error { return tx.AuditLogs.put(ctx, tx, row) })
}

func (tx *Tx) auditRow(ctx context.Context, id AuditID, event, target string, details map[string]any) (*HostAuditLog, error) {
	text, err := auditDetails(details)
	if err != nil {
		return nil, err
	}
	actor := actorOf(ctx)
	return &HostAuditLog{
		ID: id, ActorUserID: new(clean(actor.ID)), EventType: new(clean(event)),
		TargetID: orNil(clean(target)), Details: text, IPAddress: orNil(clean(actor.IP)), CreatedAt: new(tx.h.now()),
	}, nil
}

func auditDetails(details map[string]any) (*string, error) {
	if len(details) == 0 {
		return nil, nil
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	short := make(map[string]any, len(details))
	for k, v := range details {
		short[clean(k)] = shorten(v)
	}
	if err := enc.Encode(short); err != nil {
		return nil, fmt.Errorf("audit: details are no JSON (%T)", err)
	}
	return new(strings.TrimSuffix(b.String(), "\n")), nil
}

func shorten(v any) any {
	switch t := v.(type) {
	case string:
		t = clean(t)
		if len(t) > auditValueLimit {
			t = strings.ToValidUTF8(t[:auditValueLimit], "") + "…"
		}
		return t
	case map[string]any:
		short := make(map[string]any, len(t))
		for k, e := range t {
			short[clean(k)] = shorten(e)
		}
		return short
	}
	return v
}

// clean drops what PostgreSQL cannot store in text, so that an audit row never fails on what a client sent.
func clean(s string) string { return strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\x00", "") }

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
