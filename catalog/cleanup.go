package catalog

import (
	"context"
	"time"
)

// How long what has ended is still kept: a replica whose clock is a few minutes behind still honours it, and must still
// know of a logout token that it was used; counted sign-ups are needed for an hour, and of an API token people may want
// to see that it has ended.
const (
	keepEnded    = 15 * time.Minute
	keepSignUps  = 2 * time.Hour
	keepExpired  = 30 * 24 * time.Hour
	tokensRemove = "clean_api_tokens"
)

// CleanUp removes sessions, hand-off codes and logout tokens that ended a quarter of an hour before now, sign-ups that
// count no longer, and API tokens that ended thirty days before: of each kind at most limit rows, in a transaction of its
// own. more: some kind may have more. Nobody relies on it: what has ended opens nothing while its row still stands.
func (h *HostDatabase) CleanUp(ctx context.Context, now time.Time, limit int) (more bool, err error) {
	for name, end := range map[string]time.Time{
		"clean_sessions": now.Add(-keepEnded), "clean_handoffs": now.Add(-keepEnded), "clean_logout_tokens": now.Add(-keepEnded),
		"clean_sign_ups": now.Add(-keepSignUps), tokensRemove: now.Add(-keepExpired),
	} {
		var n int64
		err := h.InTx(ctx, func(tx *Tx) (err error) {
			n, err = tx.exec(ctx, "remove what has ended", name, Timestamp(end), limit)
			if err != nil || n == 0 || name != tokensRemove {
				return err
			}
			return tx.Audit(ctx, "token.removed", "", map[string]any{"tokens": n})
		})
		if err != nil {
			return false, err
		}
		more = more || n >= int64(limit)
	}
	return more, nil
}
