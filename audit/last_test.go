package audit

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// What was written before the end stands before the last checkpoint, though another replica held the chain just then.
func TestTheLastCheckpointWaitsForAnotherReplica(t *testing.T) {
	r := newRig(t, pgtest.New(t)) // on SQLite whoever writes has the file alone
	for range 3 {
		must(t, r.host.AuditLogs.Insert(t.Context(), &catalog.HostAuditLog{EventType: new("denied")}))
	}
	held, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var hash hasher
	first := true
	go func() {
		_, err := r.host.Chain(t.Context(), catalog.Chaining{Rows: chainRows, Bytes: chainBytes, HashOf: hash.row, Link: func(head catalog.ChainHead, rows []catalog.UnchainedRow) []catalog.ChainEntry {
			if first {
				first = false
				close(held)
				<-release
			}
			return link(head, rows, catalog.Timestamp(time.Now()))
		}})
		ended <- err
	}()
	<-held
	var closing atomic.Bool
	var asked atomic.Int64
	var other error
	clock := func() time.Time { // two calls a look: the second look finds the chain free
		if closing.Load() && asked.Add(1) == 4 {
			close(release)
			other = <-ended
		}
		return time.Now()
	}
	c := Start(Config{Every: time.Hour}, Deps{Host: r.host, Keys: r.keys, Log: slog.New(slog.DiscardHandler), Clock: clock})
	closing.Store(true)
	c.Close()
	if s := c.Stats(); s.Waiting != 0 || s.Seq == 0 {
		t.Errorf("the last checkpoint is of %d entries, and %d rows wait", s.Seq, s.Waiting)
	}
	must(t, other)
}
