package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

const (
	// lookEvery is the time between two looks for rows to chain: a committed row is chained well within a second.
	lookEvery = 200 * time.Millisecond
	// lookTimeout bounds a transaction of the chain.
	lookTimeout = 10 * time.Second
	// chainRows and chainBytes bound one transaction: SQLite's other writers wait no longer than it takes. A row that is larger
	// comes alone.
	chainRows  = 1000
	chainBytes = 8 << 20
	// aloneTimeout bounds a transaction that takes one row, after others failed: the row may be a large one, the way long.
	aloneTimeout = 2 * time.Minute
	// maxRest bounds the rest between two transactions while there is more, which is as long as the one before took.
	maxRest = 100 * time.Millisecond
	// checkpointEvery is contract section 10's.
	checkpointEvery = time.Minute
	// lastTimeout bounds what Close does after the loop has ended.
	lastTimeout = 3 * time.Second
	// lastLooks is how often Close comes again while another replica is at it, a maxRest apart.
	lastLooks = 20
	// wholeEvery is how often the whole queue is looked at. In between, places are passed over that every transaction younger
	// than forgetAfter has behind it: while one stays open for long, PostgreSQL keeps what was deleted there.
	wholeEvery  = 30 * time.Second
	forgetAfter = 10 * time.Minute
)

// Config says how often. The zero value is the program's.
type Config struct {
	Every       time.Duration // between two looks; 0: 200ms
	Checkpoints time.Duration // between two checkpoints; 0: a minute
}

// Deps are what a Chain stands on.
type Deps struct {
	Host *catalog.HostDatabase
	Keys *Keys // sign the checkpoints
	// Log receives the checkpoints, field `checkpoint`, and failures.
	Log   *slog.Logger
	Clock func() time.Time
}

// Stats is how a Chain fares.
type Stats struct {
	Seq        int64         // the last entry that was seen
	Chained    uint64        // rows that this replica chained
	Failures   uint64        // looks and checkpoints that failed
	Waiting    int64         // rows that waited at the last checkpoint or failure, up to 100,000
	Lag        time.Duration // since the last look began that left nothing to be chained
	Checkpoint time.Duration // since the last checkpoint; since the start before the first
}

// Chain appends committed audit rows to the chain and logs checkpoints, beside its equals in other replicas.
type Chain struct {
	cfg    Config
	deps   Deps
	cancel context.CancelFunc
	done   chan struct{}

	// The loop's own.
	hash   hasher
	rows   int    // of the next transaction: fewer after a failure
	said   string // the last failure that was logged
	busy   bool   // another replica was at it at the last look
	whole  time.Time
	passed [2]mark // see behind
	stuck  int64   // a place of the queue whose row cannot be read: passed over until the whole queue is looked at again
	old    bool    // a row that was there before the queue cannot be read: likewise

	mu    sync.Mutex
	stats Stats
	clear time.Time // when the last look began that left nothing
	made  time.Time // when the last checkpoint was made
}

// mark is a place of the queue, and when everything up to it had been taken.
type mark struct {
	place int64
	at    time.Time
}

// Start begins to chain. Close ends it.
func Start(cfg Config, deps Deps) *Chain {
	if cfg.Every <= 0 {
		cfg.Every = lookEvery
	}
	if cfg.Checkpoints <= 0 {
		cfg.Checkpoints = checkpointEvery
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Chain{cfg: cfg, deps: deps, cancel: cancel, done: make(chan struct{}), rows: chainRows}
	c.clear = deps.Clock()
	c.made = c.clear
	go c.run(ctx)
	return c
}

// Close ends the loop, chains what waits, logs a last checkpoint, and waits for that, three seconds at most. It may be
// called again.
func (c *Chain) Close() {
	c.cancel()
	<-c.done
}

// Stats returns how it fares; it does not block.
func (c *Chain) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, now := c.stats, c.deps.Clock()
	s.Lag, s.Checkpoint = max(now.Sub(c.clear), 0), max(now.Sub(c.made), 0)
	return s
}

func (c *Chain) run(ctx context.Context) {
	defer close(c.done)
	tick := time.NewTicker(c.cfg.Every)
	defer tick.Stop()
	due := c.deps.Clock().Add(c.cfg.Checkpoints)
	for ctx.Err() == nil {
		c.note(ctx, "audit rows could not be chained; they wait", c.look(ctx))
		if now := c.deps.Clock(); !now.Before(due) {
			c.note(ctx, "the audit chain's checkpoint could not be made", c.checkpoint(ctx))
			due = now.Add(c.cfg.Checkpoints)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTimeout)
	defer cancel()
	err := c.look(last)
	for range lastLooks { // what was written at the end is to stand before the last checkpoint, though another replica is at it
		if err != nil || !c.busy || rest(last, maxRest) != nil {
			break
		}
		err = c.look(last)
	}
	c.note(last, "audit rows could not be chained; they wait", err)
	c.note(last, "the audit chain's checkpoint could not be made", c.checkpoint(last))
}

// note counts a failure, and logs it unless the one before was the same.
func (c *Chain) note(ctx context.Context, what string, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	c.mu.Lock()
	c.stats.Failures++
	c.mu.Unlock()
	if text := what + err.Error(); text != c.said {
		c.said = text
		c.deps.Log.WarnContext(ctx, what, "error", err)
	}
}

// look chains everything that it finds. Others get their turn between its transactions. What failed with many rows is tried
// with fewer, down to one.
func (c *Chain) look(ctx context.Context) error {
	for {
		from := time.Now()
		look, err := c.step(ctx)
		if err != nil {
			c.failed(&look)
			return err
		}
		c.rows = min(c.rows*2, chainRows)
		if !look.More {
			if look.TooLarge > 0 {
				return fmt.Errorf("%d rows of about 1 GiB or more cannot be read, and stay unchained", look.TooLarge)
			}
			return nil
		}
		if err := rest(ctx, time.Since(from)); err != nil {
			return err
		}
	}
}

// failed makes the next transaction smaller. A row that cannot be read even alone, from a damaged page, keeps no other from
// being chained.
func (c *Chain) failed(look *catalog.ChainLook) {
	if c.rows > 1 {
		c.rows = max(c.rows/4, 1)
		return
	}
	c.stuck, c.old = max(c.stuck, look.Stuck), c.old || look.StuckBefore
}

// step is one transaction.
func (c *Chain) step(ctx context.Context) (look catalog.ChainLook, err error) {
	limit := lookTimeout
	if c.rows == 1 {
		limit = aloneTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began, behind := c.deps.Clock(), c.behind()
	waiting, err := c.deps.Host.AuditWaiting(ctx, behind)
	if err == nil && waiting {
		at := catalog.Timestamp(began)
		look, err = c.deps.Host.Chain(ctx, catalog.Chaining{
			Behind: behind, Rows: c.rows, Bytes: chainBytes, QueueOnly: c.old, HashOf: c.hash.row,
			Link: func(head catalog.ChainHead, rows []catalog.UnchainedRow) []catalog.ChainEntry {
				return link(head, rows, at)
			},
		})
	}
	if err == nil {
		c.looked(began, &look)
	}
	return look, err
}

// looked takes down what a look did.
func (c *Chain) looked(began time.Time, look *catalog.ChainLook) {
	c.busy = look.Busy
	if c.said != "" && look.Chained > 0 {
		c.said = ""
	}
	if look.Seen > 0 && c.deps.Host.Engine() == catalog.EnginePostgreSQL && began.Sub(c.passed[1].at) >= forgetAfter {
		c.passed[0], c.passed[1] = c.passed[1], mark{look.Seen, began}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Chained += uint64(look.Chained)
	c.stats.Seq = max(c.stats.Seq, look.Head.Seq)
	if !look.More && !look.Busy && look.TooLarge == 0 && c.stuck == 0 && !c.old {
		c.clear = began
	}
}

// behind is the place of the queue behind which to look.
func (c *Chain) behind() int64 {
	now := c.deps.Clock()
	if now.Sub(c.whole) >= wholeEvery || now.Before(c.whole) {
		c.whole, c.stuck, c.old = now, 0, false
		return 0
	}
	return max(c.passed[0].place, c.stuck)
}

func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(min(d, maxRest))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkpoint signs how far the chain is, and logs it.
func (c *Chain) checkpoint(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	head, err := c.deps.Host.AuditHead(ctx)
	if err != nil {
		return err
	}
	waiting, err := c.deps.Host.AuditQueueLength(ctx)
	if err != nil {
		return err
	}
	now := c.deps.Clock()
	c.deps.Log.InfoContext(ctx, "audit checkpoint", "checkpoint", c.deps.Keys.Sign(newCheckpoint(head, now)), "seq", head.Seq, "waiting", waiting)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Seq, c.stats.Waiting, c.made = head.Seq, waiting, now
	return nil
}
