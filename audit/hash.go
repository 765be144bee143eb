package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"

	"github.com/tenantgate/tenantgate/catalog"
)

// What is hashed begins with one of these, so that nothing stands for something else. The number is the form's.
const (
	rowForm   = "tenantgate audit row 1\x00"
	entryForm = "tenantgate audit entry 1\x00"
)

// hasher makes the chain's hashes; its buffer is used again. Not safe for concurrent use.
type hasher struct {
	buf  []byte
	long hash.Hash // of what the buffer had no room for; nil before the first such row
	used bool      // long holds the beginning
}

// maxBuffer bounds what is hashed in one piece, in bytes: a long value is not copied whole.
const maxBuffer = 64 << 10

// row is the hash of a row: for each of the seven columns one byte for its kind (0 NULL, 1 text, 2 bytes, 3 a number) and,
// but for NULL, its length in eight bytes, big-endian, and its bytes.
func (h *hasher) row(row *catalog.AuditRow) string {
	h.begin(rowForm)
	for i := range row {
		h.value(&row[i])
	}
	return h.sum()
}

// entry is the hash of an entry that follows the one of that hash ("" before the first): over that hash, seq in eight
// bytes, big-endian, the row's id, the row's hash and when it was chained, each in the form of a column.
func (h *hasher) entry(previous string, e *catalog.ChainEntry) string {
	h.begin(entryForm)
	h.text(previous)
	h.buf = binary.BigEndian.AppendUint64(h.buf, uint64(e.Seq))
	h.value(&e.AuditID)
	h.text(e.RowHash)
	h.text(e.At)
	return h.sum()
}

func (h *hasher) begin(form string) {
	h.buf, h.used = append(h.buf[:0], form...), false
}

func (h *hasher) value(v *catalog.AuditValue) {
	h.buf = append(h.buf, byte(v.Kind))
	if v.Kind == catalog.AuditNull {
		return
	}
	h.buf = binary.BigEndian.AppendUint64(h.buf, uint64(len(v.Text)))
	rest := v.Text
	for len(h.buf)+len(rest) > maxBuffer {
		n := max(maxBuffer-len(h.buf), 0)
		h.buf = append(h.buf, rest[:n]...)
		rest = rest[n:]
		h.spill()
	}
	h.buf = append(h.buf, rest...)
}

func (h *hasher) text(s string) { h.value(&catalog.AuditValue{Kind: catalog.AuditText, Text: s}) }

// spill makes room in the buffer.
func (h *hasher) spill() {
	if h.long == nil {
		h.long = sha256.New()
	}
	if !h.used {
		h.long.Reset()
		h.used = true
	}
	_, _ = h.long.Write(h.buf) // a hash never fails
	h.buf = h.buf[:0]
}

func (h *hasher) sum() string {
	if h.used {
		h.spill()
		return hex.EncodeToString(h.long.Sum(nil))
	}
	sum := sha256.Sum256(h.buf)
	return hex.EncodeToString(sum[:])
}

// link makes the entries of rows, which follow head.
func link(head catalog.ChainHead, rows []catalog.UnchainedRow, at string) []catalog.ChainEntry {
	var h hasher
	entries := make([]catalog.ChainEntry, len(rows))
	for i := range rows {
		e := &entries[i]
		e.Seq, e.AuditID, e.RowHash, e.At = head.Seq+1, rows[i].AuditID, rows[i].RowHash, at
		e.Hash = h.entry(head.Hash, e)
		head = catalog.ChainHead{Seq: e.Seq, Hash: e.Hash}
	}
	return entries
}
