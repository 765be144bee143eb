package tenantgate

import (
	"context"
	"fmt"

	"github.com/tenantgate/tenantgate/audit"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/telemetry"
)

// startChain begins to chain the audit log; Close ends it. The key that signs checkpoints is read once: a master secret
// that is replaced meanwhile does not matter to it.
func (g *Gate) startChain(ctx context.Context) error {
	if g.onlyAsks {
		return nil
	}
	secrets, err := seal.ParseKeyset(g.wanted.SecretKey)
	if err != nil {
		return err
	}
	keys, err := audit.LoadKeys(ctx, g.host, secrets)
	if err != nil {
		return fmt.Errorf("the audit chain: %w", err)
	}
	g.chain = audit.Start(audit.Config{}, audit.Deps{Host: g.host, Keys: keys, Log: g.telemetry.Logger, Clock: g.clock})
	chain := g.chain
	return g.telemetry.WatchAuditChain(func() telemetry.AuditChain {
		s := chain.Stats()
		return telemetry.AuditChain{
			Lag: s.Lag, SinceCheckpoint: s.Checkpoint, Unchained: s.Waiting, Entries: s.Seq, Chained: s.Chained, Failures: s.Failures,
		}
	})
}

// stopChain chains what waits and logs a last checkpoint.
func (g *Gate) stopChain() {
	if g.chain != nil {
		g.chain.Close()
		g.chain = nil
	}
}
