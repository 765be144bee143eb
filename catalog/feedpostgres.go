package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// lookLimit is how many changes one look tells one by one; of more it tells that anything may have changed.
	lookLimit = 20_000
	// lookBatch is how many changes a Subscriber is told at once.
	lookBatch = 500
	// sweepBatch is how many rows of the log one transaction removes.
	sweepBatch = 5_000
	// dialRace is how many attempts to connect run beside each other at most. A network that heals answers a new attempt
	// at once, an old one only when its turn to try again has come.
	dialRace = 8
)

// snapshot is what PostgreSQL's pg_current_snapshot says: which transactions' changes a statement saw (those below xmax
// that were not at work).
type snapshot struct {
	text       string
	xmin, xmax uint64
}

// parseSnapshot reads xmin:xmax:at,work.
func parseSnapshot(text string) (snapshot, error) {
	s := snapshot{text: text}
	first, rest, ok := strings.Cut(text, ":")
	second, _, ok2 := strings.Cut(rest, ":")
	var err, err2 error
	s.xmin, err = strconv.ParseUint(first, 10, 64)
	s.xmax, err2 = strconv.ParseUint(second, 10, 64)
	if !ok || !ok2 || err != nil || err2 != nil {
		return snapshot{}, errors.New("a snapshot is not understood")
	}
	return s, nil
}

// postgresLog is the change log on PostgreSQL. What a look has seen is remembered as the snapshot of its one statement;
// the next look asks for what that snapshot did not see. So a transaction that commits late is seen when it commits,
// however many ids above its own have been seen before, and delays nobody.
type postgresLog struct {
	h    *HostDatabase
	cfg  *pgx.ConnConfig
	race time.Duration // between two attempts to connect
	most int           // lookLimit
	conn *pgx.Conn

	boot string   // when the server last recovered from a crash; see postgresql_boot
	seen snapshot // of the last look; text "": none
	life string   // which server, which table; see postgresql_look
}

func newPostgresLog(h *HostDatabase, heartbeat time.Duration) (*postgresLog, error) {
	cfg, err := postgresConfig(h.loc)
	if err != nil {
		return nil, err
	}
	// Whatever the log's statistics say, a look goes by the index: its cost does not depend on the log's length.
	cfg.ConnConfig.RuntimeParams["enable_seqscan"] = "off"
	cfg.ConnConfig.RuntimeParams["enable_bitmapscan"] = "off"
	return &postgresLog{h: h, cfg: cfg.ConnConfig, most: lookLimit, race: max(heartbeat/4, 50*time.Millisecond)}, nil
}

func (p *postgresLog) close() {
	if p.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = p.conn.Close(ctx) // nothing is lost with it
	p.conn = nil
}

func (p *postgresLog) listening() bool { return p.conn != nil && !p.conn.IsClosed() }

func (p *postgresLog) check(ctx context.Context) error { return p.h.unheard(ctx) }

func (p *postgresLog) forget() { p.seen = snapshot{} }

func (p *postgresLog) connect(ctx context.Context) error {
	p.close()
	conn, err := p.dial(ctx)
	if err != nil {
		return safe("watch for changes: connect", err)
	}
	p.conn = conn
	// A crash ends every connection: once on each is enough.
	ask, cancel := context.WithTimeout(ctx, maxLookDeadline)
	defer cancel()
	err = conn.QueryRow(ask, p.h.queries["postgresql_boot"]).Scan(&p.boot)
	return safe("watch for changes: connect", err)
}

// dial starts an attempt, another if that takes long, and so on; the first that succeeds counts.
func (p *postgresLog) dial(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	type answer struct {
		conn *pgx.Conn
		err  error
	}
	answers := make(chan answer)
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			if a := <-answers; a.conn != nil {
				_ = a.conn.Close(ctx) // came second
			}
		}
	}()
	tick := time.NewTicker(p.race)
	defer tick.Stop()
	for {
		if running < dialRace {
			running++
			go func() {
				conn, err := p.attempt(ctx)
				answers <- answer{conn, err}
			}()
		}
		select {
		case a := <-answers:
			running--
			return a.conn, a.err
		case <-tick.C:
		}
	}
}

func (p *postgresLog) attempt(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, max(dialRace*p.race, 2*time.Second))
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, p.cfg.Copy())
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, p.h.queries["postgresql_listen"]); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

func (p *postgresLog) wait(ctx context.Context) error {
	_, err := p.conn.WaitForNotification(ctx)
	return safe("watch for changes: wait", err)
}

func (p *postgresLog) look(ctx context.Context, tell func([]Change)) (bool, error) {
	var seen *string
	if p.seen.text != "" {
		seen = &p.seen.text
	}
	rows, err := p.conn.Query(ctx, p.h.queries["postgresql_look"], seen, p.most+1)
	if err != nil {
		return false, safe("look at the change log", err)
	}
	defer rows.Close()
	var head postgresHead
	count, err := collectChanges(rows, tell, func(fields []any) []any {
		return append(fields, &head.snapshot, &head.floor, &head.recovery, &head.life)
	})
	if err != nil {
		return false, safe("look at the change log", err)
	}
	head.life.String += " " + p.boot
	now, whole, err := head.judge(p.seen, p.life)
	if err != nil {
		return false, safe("look at the change log", err)
	}
	p.seen, p.life = now, head.life.String
	return whole && count <= p.most, nil
}

// postgresHead is what the first row of a look says; in the rows of changes its columns are NULL, which leave what has
// been read.
type postgresHead struct {
	snapshot, floor, life keptText
	recovery              keptText
}

// keptText keeps the last text that was not NULL.
type keptText struct{ sql.NullString }

// Scan implements sql.Scanner.
func (k *keptText) Scan(v any) error {
	if v == nil {
		return nil
	}
	return k.NullString.Scan(v)
}

// judge says whether the look continues the one that saw seen: the same server since the same start, the same table, no
// snapshot of the past, and nothing removed that seen did not see.
func (head *postgresHead) judge(seen snapshot, life string) (now snapshot, whole bool, err error) {
	if head.recovery.String != "false" {
		return now, false, errRecovery
	}
	if now, err = parseSnapshot(head.snapshot.String); err != nil {
		return now, false, err
	}
	var floor uint64
	if head.floor.Valid {
		if floor, err = strconv.ParseUint(head.floor.String, 10, 64); err != nil {
			return now, false, errors.New("a mark is not understood")
		}
	}
	if floor > now.xmax {
		floor = 0 // of a server that this database was copied from; here nothing has been removed by it
	}
	whole = seen.text != "" && life == head.life.String && now.xmax >= seen.xmax && now.xmin >= seen.xmin && floor <= seen.xmin
	return now, whole, nil
}

// changeRows are the rows of a look, of either engine's driver.
type changeRows interface {
	Next() bool
	Scan(dst ...any) error
	Err() error
}

// collectChanges tells the rows in batches, so that memory does not grow with them.
func collectChanges(rows changeRows, tell func([]Change), head func([]any) []any) (count int, err error) {
	batch := make([]Change, 0, lookBatch)
	for rows.Next() {
		var kind, id, user, tenant, subject sql.NullString
		var every sql.NullBool
		if err := rows.Scan(head([]any{&kind, &id, &user, &tenant, &subject, &every})...); err != nil {
			return count, err
		}
		if !kind.Valid {
			continue
		}
		count++
		batch = append(batch, Change{
			Kind: ChangeKind(kind.String), Every: every.Bool, ID: id.String,
			User: UserID(user.String), Tenant: TenantID(tenant.String), Subject: subject.String,
		})
		if len(batch) == cap(batch) {
			tell(batch)
			batch = batch[:0]
		}
	}
	if err := rows.Err(); err != nil {
		return count, err
	}
	if len(batch) > 0 {
		tell(batch)
	}
	return count, nil
}

// sweep works in short transactions of its own, with rests, so that writers never wait for it and an hour of a busy
// log's rows goes in some seconds.
func (p *postgresLog) sweep(ctx context.Context) error {
	for {
		n, err := p.h.sweepOnce(ctx)
		if err != nil || n < sweepBatch {
			return err
		}
		sleep(ctx, sweepRest/2+rand.N(sweepRest))
	}
}

// sweepRest is the mean time between two transactions that remove rows.
const sweepRest = 50 * time.Millisecond

// sweepOnce marks, and removes at most sweepBatch rows. The mark that moves the log's beginning is committed with the
// first rows that it lets go.
func (h *HostDatabase) sweepOnce(ctx context.Context) (removed int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, readDeadline)
	defer cancel()
	err = h.InTx(ctx, func(tx *Tx) error {
		if h.engine == EnginePostgreSQL {
			var mine bool
			err := tx.query(ctx, "sweep the change log", readDeadline, "sweep_lock", nil, func(rows *sql.Rows) error {
				for rows.Next() {
					if err := rows.Scan(&mine); err != nil {
						return err
					}
				}
				return rows.Err()
			})
			if err != nil || !mine {
				return err
			}
		}
		for _, name := range []string{"_forget_marks", "_mark", "_sweep_mark"} {
			if _, err := tx.exec(ctx, "sweep the change log", h.engine+name); err != nil {
				return err
			}
		}
		var err error
		removed, err = tx.exec(ctx, "sweep the change log", h.engine+"_sweep", sweepBatch)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("%w", err)
	}
	return removed, nil
}
