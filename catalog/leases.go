package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// ErrLeaseLost: somebody else took the lease, or may have: what was to be written under it is not.
var ErrLeaseLost = errors.New("the lease is lost")

// Lease is what one holder alone has, over all replicas, until it ends. Its token is larger than that of every lease of
// that name before.
type Lease struct {
	Name   string
	Holder string // unique to the process and its try
	Token  int64
}

// Now is the time by the clock that all who share the database share: on PostgreSQL the server's, so that a replica
// whose clock is wrong neither takes what is another's nor keeps what is not its own; on SQLite the machine's. A
// Config.SharedClock takes the place of both.
func (t *Tables) Now(ctx context.Context) (time.Time, error) {
	switch h := t.at.host(); {
	case h.shared != nil:
		return h.shared().UTC(), nil
	case h.engine == EngineSQLite:
		return time.Now().UTC(), nil
	}
	var text string
	err := t.at.query(ctx, "read the clock", hotDeadline, "database_now", nil, func(rows *sql.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&text); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err != nil {
		return time.Time{}, err
	}
	return ParseTimestamp(text)
}

// TakeLease takes the lease of that name for a while unless somebody has it. false: somebody has. Not audited.
func (t *Tables) TakeLease(ctx context.Context, name, holder string, life time.Duration) (lease Lease, taken bool, err error) {
	err = t.at.change(ctx, func(tx *Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		args := []any{storable(name), storable(holder), Timestamp(now), Timestamp(now.Add(life))}
		return tx.query(ctx, "take a lease", writeDeadline, "lease_take", args, func(rows *sql.Rows) error {
			lease, taken = Lease{Name: name, Holder: holder}, false
			for rows.Next() {
				if err := rows.Scan(&lease.Token); err != nil {
					return err
				}
				taken = true
			}
			return rows.Err()
		})
	})
	return lease, taken && err == nil, err
}

// RenewLease lets the lease end a while from now; ErrLeaseLost if somebody took it.
func (t *Tables) RenewLease(ctx context.Context, lease Lease, life time.Duration) error {
	return t.moveLease(ctx, "renew a lease", "lease_renew", lease, life)
}

// ReleaseLease ends the lease, so that another need not wait for its end; ErrLeaseLost if somebody took it.
func (t *Tables) ReleaseLease(ctx context.Context, lease Lease) error {
	return t.moveLease(ctx, "release a lease", "lease_release", lease, 0)
}

func (t *Tables) moveLease(ctx context.Context, op, query string, lease Lease, life time.Duration) error {
	return t.at.change(ctx, func(tx *Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		n, err := tx.exec(ctx, op, query, storable(lease.Name), storable(lease.Holder), lease.Token, Timestamp(now.Add(life)))
		if err == nil && n == 0 {
			err = fmt.Errorf("%s (%s): %w", op, lease.Name, ErrLeaseLost)
		}
		return err
	})
}

// Holds makes sure, to the transaction's end, that nobody took the lease; ErrLeaseLost if somebody did. Whatever is
// written under a lease is written in such a transaction.
func (tx *Tx) Holds(ctx context.Context, lease Lease) error {
	n, err := tx.count(ctx, "look for the lease", "lease_held", storable(lease.Name), storable(lease.Holder), lease.Token)
	if err == nil && n == 0 {
		err = fmt.Errorf("%s: %w", lease.Name, ErrLeaseLost)
	}
	return err
}

// DefaultLeadLife is how long a leader that died is waited for where LeadConfig does not say.
const DefaultLeadLife = 10 * time.Second

// LeadConfig says what is led.
type LeadConfig struct {
	Name string // of the lease: one leader for each name
	// Life is how long a leader that died is waited for; it renews three times as often. 0: DefaultLeadLife.
	Life time.Duration
	// Failed hears, where it is set, of an error that the host database gave. The loop goes on.
	Failed func(error)
}

// Lead runs lead in one replica at a time, until ctx ends. Its context ends as soon as the lease could be another's: it
// then returns soon. When lead returns, with or without an error, the lease is given back, and after a rest somebody
// leads again. What lead writes stands in transactions that begin with Tx.Holds: a replica that slept through its
// lease's end writes nothing.
func (h *HostDatabase) Lead(ctx context.Context, cfg LeadConfig, lead func(context.Context, Lease) error) {
	if cfg.Life <= 0 {
		cfg.Life = DefaultLeadLife
	}
	failed := func(err error) {
		if err != nil && cfg.Failed != nil && ctx.Err() == nil {
			cfg.Failed(err)
		}
	}
	for ctx.Err() == nil {
		holder := GenID()
		began := time.Now() // before the database reads its clock: the lease ends there no sooner than here
		lease, taken, err := h.TakeLease(ctx, cfg.Name, holder, cfg.Life)
		failed(err)
		if taken {
			failed(h.hold(ctx, lease, cfg.Life, began, lead))
		}
		if pauseFor(ctx, cfg.Life/6+rand.N(cfg.Life/6)) != nil {
			return
		}
	}
}

// hold runs lead and renews meanwhile.
func (h *HostDatabase) hold(ctx context.Context, lease Lease, life time.Duration, began time.Time, lead func(context.Context, Lease) error) error {
	leading, cancel := context.WithCancelCause(ctx)
	end := time.AfterFunc(time.Until(began.Add(life)), func() { cancel(ErrLeaseLost) })
	renewing := make(chan struct{})
	go func() {
		defer close(renewing)
		for pauseFor(leading, life/3) == nil {
			asked := time.Now()
			err := h.renewWithin(leading, lease, life)
			if errors.Is(err, ErrLeaseLost) {
				cancel(ErrLeaseLost)
				return
			}
			if err == nil && end.Stop() {
				end.Reset(time.Until(asked.Add(life)))
			}
		}
	}()
	defer func() {
		cancel(nil)
		<-renewing
		end.Stop()
		giving, done := context.WithTimeout(context.WithoutCancel(ctx), hotDeadline)
		defer done()
		_ = h.ReleaseLease(giving, lease) // it ends by itself where that fails
	}()
	return lead(leading, lease)
}

// renewWithin does not wait for an answer until it is too late to ask again.
func (h *HostDatabase) renewWithin(ctx context.Context, lease Lease, life time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, life/3)
	defer cancel()
	return h.RenewLease(ctx, lease, life)
}
