package catalog

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"net/url"
	"time"
)

// sqlitePoll is the longest time between two looks whether another connection has committed.
const sqlitePoll = 40 * time.Millisecond

// sqliteLog is the change log on SQLite, where ids come in the order of commits: what a look has seen is the highest id.
type sqliteLog struct {
	h       *HostDatabase
	db      *sql.DB
	conn    *sql.Conn
	poll    time.Duration
	most    int   // lookLimit
	version int64 // PRAGMA data_version at the last look; it speaks of other connections than this one, which only reads
	seen    liteHead
	known   bool
}

// liteHead is what the first row of a look says.
type liteHead struct {
	last    int64  // the highest id ever used
	floor   int64  // ids below have been visible for so long that their rows may be gone
	before  string // when the row was written that was last at the look before; "": it is gone
	written string // when the row last was written
}

func newSQLiteLog(h *HostDatabase, heartbeat time.Duration) (*sqliteLog, error) {
	db, err := sql.Open("sqlite", sqliteDSN(h.loc.path, url.Values{
		"_pragma": {"busy_timeout(500)", "query_only(1)"},
	}))
	if err != nil {
		return nil, safe("watch for changes", err)
	}
	db.SetMaxOpenConns(1)
	return &sqliteLog{h: h, db: db, most: lookLimit, poll: min(sqlitePoll, max(heartbeat/4, time.Millisecond))}, nil
}

func (s *sqliteLog) close() {
	s.drop()
	_ = s.db.Close() // nothing is lost with it
}

func (s *sqliteLog) drop() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

func (s *sqliteLog) listening() bool { return false }

func (s *sqliteLog) check(ctx context.Context) error { return s.h.unheard(ctx) }

func (s *sqliteLog) forget() { s.known = false }

func (s *sqliteLog) connect(ctx context.Context) error {
	s.drop()
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return safe("watch for changes: open", err)
	}
	s.conn = conn
	return nil
}

// wait asks for data_version again and again.
func (s *sqliteLog) wait(ctx context.Context) error {
	for {
		sleep(ctx, s.poll)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		now, err := s.dataVersion(ctx)
		if err != nil || now != s.version {
			return err
		}
	}
}

func (s *sqliteLog) dataVersion(ctx context.Context) (version int64, err error) {
	err = s.conn.QueryRowContext(ctx, s.h.queries["sqlite_data_version"]).Scan(&version)
	return version, safe("watch for changes: poll", err)
}

// look reads data_version first: what commits between that and the look is seen by both, which costs one look more.
func (s *sqliteLog) look(ctx context.Context, tell func([]Change)) (bool, error) {
	version, err := s.dataVersion(ctx)
	if err != nil {
		return false, err
	}
	if s.known && version == s.version {
		return true, nil // nobody has committed anything
	}
	rows, err := s.conn.QueryContext(ctx, s.h.queries["sqlite_look"], s.seen.last, s.most+1)
	if err != nil {
		return false, safe("look at the change log", err)
	}
	var now liteHead
	count := 0
	err = gather(func(rows *sql.Rows) error {
		var err error
		count, err = collectChanges(rows, tell, func(fields []any) []any {
			return append(fields, &keptNumber{to: &now.last}, &keptNumber{to: &now.floor}, &keptWord{to: &now.before}, &keptWord{to: &now.written})
		})
		return err
	})(rows, nil)
	if err != nil {
		return false, safe("look at the change log", err)
	}
	whole := s.known && now.continues(s.seen)
	s.seen, s.version, s.known = now, version, true
	return whole && count <= s.most, nil
}

// continues says whether a look continues the one that saw seen: the row that was last then is still what it was, unless
// it was swept, and nothing was removed that seen did not see. A backup that was restored fails that.
func (now liteHead) continues(seen liteHead) bool {
	if now.floor > now.last+1 {
		now.floor = 0 // of a time when ids were higher; here nothing has been removed by it
	}
	if now.last < seen.last || now.floor > seen.last+1 {
		return false
	}
	return now.floor == seen.last+1 || now.before == seen.written
}

// keptNumber and keptWord keep the last value that was not NULL.
type (
	keptNumber struct{ to *int64 }
	keptWord   struct{ to *string }
)

// Scan implements sql.Scanner.
func (k *keptNumber) Scan(v any) error {
	var n sql.NullInt64
	err := n.Scan(v)
	if n.Valid {
		*k.to = n.Int64
	}
	return err
}

// Scan implements sql.Scanner.
func (k *keptWord) Scan(v any) error {
	var w sql.NullString
	err := w.Scan(v)
	if w.Valid {
		*k.to = w.String
	}
	return err
}

// sweep works in short transactions, between which other writers have their turn.
func (s *sqliteLog) sweep(ctx context.Context) error {
	for {
		n, err := s.h.sweepOnce(ctx)
		if err != nil || n < sweepBatch {
			return err
		}
		sleep(ctx, sweepRest/2+rand.N(sweepRest))
	}
}
