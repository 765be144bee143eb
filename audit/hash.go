package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/tenantgate/tenantgate/catalog"
)

// What is hashed begins with one of these, so that nothing stands for something else. The number is the form's.
const (
	rowForm   = "tenantgate audit row 1\x00"
	entryForm = "tenantgate audit entry 1\x00"
)

// hasher makes the chain's hashes; its buffer is used again. Not safe for concurrent use.
type hasher struct{ buf []byte }

// row is the hash of a row: for each of the seven columns one byte for its kind (0 NULL, 1 text, 2 bytes, 3 a number) and,
// but for NULL, its length in eight bytes, big-endian, and its bytes.
func (h *hasher) row(row *catalog.AuditRow) string {
	h.buf = append(h.buf[:0], rowForm...)
	for i := range row {
		h.buf = appendValue(h.buf, &row[i])
	}
	return h.sum()
}

// entry is the hash of an entry that follows the one of that hash ("" before the first): over that hash, seq in eight
// bytes, big-endian, the row's id, the row's hash and when it was chained, each in the form of a column.
func (h *hasher) entry(previous string, e *catalog.ChainEntry) string {
	h.buf = append(h.buf[:0], entryForm...)
	h.buf = appendText(h.buf, previous)
	h.buf = binary.BigEndian.AppendUint64(h.buf, uint64(e.Seq))
	h.buf = appendValue(h.buf, &e.AuditID)
	h.buf = appendText(h.buf, e.RowHash)
	h.buf = appendText(h.buf, e.At)
	return h.sum()
}

func (h *hasher) sum() string {
	sum := sha256.Sum256(h.buf)
	return hex.EncodeToString(sum[:])
}

func appendValue(b []byte, v *catalog.AuditValue) []byte {
	b = append(b, byte(v.Kind))
	if v.Kind == catalog.AuditNull {
		return b
	}
	b = binary.BigEndian.AppendUint64(b, uint64(len(v.Text)))
	return append(b, v.Text...)
}

func appendText(b []byte, s string) []byte {
	b = append(b, byte(catalog.AuditText))
	b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
	return append(b, s...)
}

// link makes the entries of rows, which follow head.
func link(head catalog.ChainHead, rows []catalog.UnchainedRow, at string) []catalog.ChainEntry {
	var h hasher
	entries := make([]catalog.ChainEntry, len(rows))
	for i := range rows {
		e := &entries[i]
		e.Seq, e.AuditID, e.At = head.Seq+1, rows[i].AuditID, at
		if rows[i].Row != nil {
			e.RowHash = h.row(rows[i].Row)
		}
		e.Hash = h.entry(head.Hash, e)
		head = catalog.ChainHead{Seq: e.Seq, Hash: e.Hash}
	}
	return entries
}
