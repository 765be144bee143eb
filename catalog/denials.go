package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// DeniedEvent is the event_type of rows that count denials and refused credentials.
const DeniedEvent = "request.denied"

// DenialRows is how many rows at most are written for one minute, on all replicas together. What does not fit in is one
// more row for each batch.
const DenialRows = 1000

// DenialBatch is what one replica refused in a minute.
type DenialBatch struct {
	// ID makes the batch's writing repeatable: a batch that is known already is not written again.
	ID string
	// Minute is when it was counted, as catalog.Timestamp writes the minute's beginning. Until, where it is later, is the
	// last of several minutes.
	Minute, Until string
	// Rows come in the order in which they are worth a row of their own.
	Rows []DenialCount
	// Rest is what has no row, by code.
	Rest map[string]int64
}

// DenialCount is how often one was refused for one reason.
type DenialCount struct {
	User    UserID   // "": nobody known
	Network string   // where nobody known came from, CIDR, "" for a unix socket
	Tenant  TenantID // "": none, or none that the user belongs to
	Code    string
	Count   int64
	// Codes are the sums of several by code, which Count is the sum of; then Code and Tenant are empty. nil: it is one code.
	Codes map[string]int64
}

// AddTo adds the count to sums by code.
func (c *DenialCount) AddTo(sums map[string]int64) {
	if c.Codes == nil {
		sums[c.Code] += c.Count
		return
	}
	for code, n := range c.Codes {
		sums[code] += n
	}
}

// Total is how many denials the batch counts.
func (b *DenialBatch) Total() (n int64) {
	for i := range b.Rows {
		n += b.Rows[i].Count
	}
	for _, count := range b.Rest {
		n += count
	}
	return n
}

// denialsKept is how long a batch is known. A replica that could not reach the database for longer than that and lost
// the answer to its last commit might write a batch twice.
const denialsKept = 24 * time.Hour

// RecordDenials writes the batch to the audit log, in one transaction, whole or not at all. It may be repeated.
func (h *HostDatabase) RecordDenials(ctx context.Context, b *DenialBatch) error {
	return h.InTx(ctx, func(tx *Tx) error {
		if err := tx.lock(ctx, "denials"); err != nil {
			return err
		}
		known, err := tx.count(ctx, "read denials", "denials_known", b.ID)
		if err != nil || known > 0 {
			return err
		}
		written, err := tx.count(ctx, "read denials", "denials_written", b.Minute)
		if err != nil {
			return err
		}
		n := min(int(max(DenialRows-written, 0)), len(b.Rows))
		rows, err := json.Marshal(b.auditRows(n))
		if err != nil {
			return errors.New("record denials: a count cannot be written as JSON")
		}
		now := tx.h.clock()
		if _, err := tx.exec(ctx, "record denials", "denials_insert", string(rows), DeniedEvent, Timestamp(now)); err != nil {
			return err
		}
		if _, err := tx.exec(ctx, "record denials", "denials_batch", b.ID, b.Minute, n); err != nil {
			return err
		}
		_, err = tx.exec(ctx, "forget old denials", "denials_forget", Timestamp(now.Add(-denialsKept)))
		return err
	})
}

// denialRow is a row of the audit log on its way. A field that is "" becomes NULL.
type denialRow struct {
	ID      string `json:"id"`
	Actor   string `json:"actor"`
	Target  string `json:"target,omitempty"`
	Network string `json:"network,omitempty"`
	Details string `json:"details"`
}

// Actors of rows that are about no known user: a client without an address, and the row that holds the rest.
const (
	deniedUnknown = "unknown"
	deniedOthers  = "others"
)

// auditRows are the first n counts, and one row for the others.
func (b *DenialBatch) auditRows(n int) []denialRow {
	rows := make([]denialRow, 0, n+1)
	rest := make(map[string]int64, len(b.Rest))
	var total int64
	for code, count := range b.Rest {
		rest[code] += count
		total += count
	}
	for i := range b.Rows {
		c := &b.Rows[i]
		if i >= n {
			c.AddTo(rest)
			total += c.Count
			continue
		}
		actor := clean(string(c.User))
		if actor == "" {
			actor = c.Network
		}
		if actor == "" {
			actor = deniedUnknown
		}
		details := map[string]any{"code": c.Code, "count": c.Count}
		if c.Codes != nil {
			details = map[string]any{"codes": c.Codes, "count": c.Count}
		}
		rows = append(rows, denialRow{
			ID: GenID(), Actor: actor, Target: clean(string(c.Tenant)), Network: c.Network, Details: b.details(details),
		})
	}
	if total > 0 {
		rows = append(rows, denialRow{
			ID: GenID(), Actor: deniedOthers, Details: b.details(map[string]any{"count": total, "codes": rest}),
		})
	}
	return rows
}

func (b *DenialBatch) details(d map[string]any) string {
	d["minute"] = b.Minute
	if b.Until > b.Minute {
		d["until"] = b.Until
	}
	text, err := json.Marshal(d)
	if err != nil { // texts and numbers
		return "{}"
	}
	return string(text)
}
