package catalog

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"
)

// longBuild is how long an index may take to build before other programs are let in ahead of the next one.
const longBuild = 100 * time.Millisecond

// migrateSQLite applies everything versioned in one transaction that begins as the writer: of many programs that start
// at once one does the work and the others, who waited, find it done; killed at any moment, nothing of it happened.
// Indexes follow in transactions of their own, with a pause as long as it took after one that took long, so that
// whoever waits to write waits for one of them and not for all. While another program's transaction stays open, it asks again and again.
func (h *HostDatabase) migrateSQLite(ctx context.Context) ([]string, error) {
	var p *plan
	err := patiently(ctx, func() (err error) {
		p, err = h.versionsOnSQLite(ctx)
		return err
	})
	if err != nil {
		return nil, safe("migrate", err)
	}
	done := p.versions()
	var made []string
	err = patiently(ctx, func() (err error) {
		made, err = h.makeTriggersSQLite(ctx)
		return err
	})
	if done = append(done, made...); err != nil {
		return done, safe("migrate: create triggers", err)
	}
	for _, i := range p.indexes {
		if i.name == uniqueSubjectIndex && len(p.missingTables) == 0 {
			doubled, err := h.exists(ctx, "has_doubled_oauth_id")
			if err != nil {
				return done, err
			}
			if doubled {
				continue // reported, and lived with
			}
		}
		var took time.Duration
		err := patiently(ctx, func() error {
			begin := time.Now()
			_, err := h.write.ExecContext(ctx, h.queries[i.name])
			took = time.Since(begin)
			return err
		})
		if err != nil {
			return done, safe("migrate: create index "+i.name, err)
		}
		done = append(done, "create index "+i.name+" on "+i.table)
		if took > longBuild { // those who waited are let through, and those behind them
			if err := pauseFor(ctx, max(took, migrationPoll)); err != nil {
				return done, safe("migrate: let other programs write", err)
			}
		}
	}
	return done, nil
}

// versionsOnSQLite takes the one writing connection, which also turns the file to WAL, and applies what is pending.
func (h *HostDatabase) versionsOnSQLite(ctx context.Context) (p *plan, err error) {
	conn, err := h.write.Conn(ctx)
	if err != nil {
		return nil, err
	}
	err = conn.Raw(func(c any) error {
		p, err = h.versionsInOneTransaction(ctx, c)
		return err
	})
	return p, errors.Join(err, conn.Close())
}

func (h *HostDatabase) versionsInOneTransaction(ctx context.Context, c any) (p *plan, err error) {
	inner, ok := c.(sqliteConn)
	if !ok {
		return nil, errors.New("migrate: the driver's connection runs no statements")
	}
	run := func(ctx context.Context, text string) error {
		_, err := inner.ExecContext(ctx, text, nil)
		return err
	}
	if err := run(ctx, "BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, run(context.WithoutCancel(ctx), "ROLLBACK"))
		}
	}()
	if p, err = h.plan(ctx); err != nil { // a reader beside us sees what was committed before we began
		return nil, err
	}
	db := sql.OpenDB(nested{inner})
	db.SetMaxOpenConns(1)
	if err = errors.Join(h.applyVersions(ctx, db, p), db.Close()); err != nil {
		return nil, err
	}
	return p, run(ctx, "COMMIT")
}

// sqliteConn is what of the driver's connection is needed.
type sqliteConn interface {
	driver.Conn
	driver.ExecerContext
	driver.QueryerContext
}

// nested lets a library that begins and commits transactions work inside one that is open: its transactions become
// savepoints.
type nested struct{ conn sqliteConn }

// Connect implements driver.Connector.
func (n nested) Connect(context.Context) (driver.Conn, error) { return nestedConn{n.conn}, nil }

// Driver implements driver.Connector.
func (n nested) Driver() driver.Driver { return nil }

type nestedConn struct{ sqliteConn }

// Close leaves the connection to its owner.
func (nestedConn) Close() error { return nil }

// Begin implements driver.Conn.
func (n nestedConn) Begin() (driver.Tx, error) {
	return n.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx implements driver.ConnBeginTx.
func (n nestedConn) BeginTx(ctx context.Context, _ driver.TxOptions) (driver.Tx, error) {
	_, err := n.ExecContext(ctx, "SAVEPOINT nested", nil)
	return nestedTx{n}, err
}

type nestedTx struct{ conn nestedConn }

// Commit implements driver.Tx.
func (t nestedTx) Commit() error { return t.run("RELEASE nested") }

// Rollback implements driver.Tx.
func (t nestedTx) Rollback() error {
	return errors.Join(t.run("ROLLBACK TO nested"), t.run("RELEASE nested"))
}

func (t nestedTx) run(text string) error {
	_, err := t.conn.ExecContext(context.Background(), text, nil)
	return err
}
