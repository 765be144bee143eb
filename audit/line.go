package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"github.com/tenantgate/tenantgate/catalog"
)

// line is a row of the log as a file holds it: its columns, and its place in the chain. A row that is not chained yet has
// none.
type line struct {
	ID          column  `json:"id"`
	ActorUserID column  `json:"actor_user_id"`
	EventType   column  `json:"event_type"`
	TargetID    column  `json:"target_id"`
	Details     column  `json:"details"`
	IPAddress   column  `json:"ip_address"`
	CreatedAt   column  `json:"created_at"`
	Seq         *int64  `json:"seq"`
	ChainedAt   *string `json:"chained_at"`
	RowHash     *string `json:"row_hash"`
	Previous    *string `json:"previous_hash"`
	Hash        *string `json:"hash"`
}

func (l *line) columns() []*column {
	return []*column{&l.ID, &l.ActorUserID, &l.EventType, &l.TargetID, &l.Details, &l.IPAddress, &l.CreatedAt}
}

func newLine(row *catalog.AuditRow, e *catalog.ChainEntry, previous string) *line {
	var l line
	for i, c := range l.columns() {
		*c = column(row[i])
	}
	if e != nil {
		seq, at, rowHash, hash := e.Seq, e.At, e.RowHash, e.Hash
		l.Seq, l.ChainedAt, l.RowHash, l.Previous, l.Hash = &seq, &at, &rowHash, &previous, &hash
	}
	return &l
}

// entry gives back the row and its entry; an error if the line is not what it says that it is.
func (l *line) entry(h *hasher) (row catalog.AuditRow, e catalog.ChainEntry, err error) {
	for i, c := range l.columns() {
		row[i] = catalog.AuditValue(*c)
	}
	if l.Seq == nil || l.ChainedAt == nil || l.RowHash == nil || l.Previous == nil || l.Hash == nil {
		return row, e, errors.New("the row is in no entry of the chain")
	}
	e = catalog.ChainEntry{Seq: *l.Seq, AuditID: row[0], RowHash: *l.RowHash, Hash: *l.Hash, At: *l.ChainedAt}
	if h.row(&row) != e.RowHash {
		return row, e, errors.New("the row is not what was chained")
	}
	if h.entry(*l.Previous, &e) != e.Hash {
		return row, e, errors.New("the entry does not follow from the one before")
	}
	return row, e, nil
}

// column is a value in JSON: null, a string, {"base64":"…"} for what is no UTF-8 text, or {"number":"…"}.
type column catalog.AuditValue

type odd struct {
	Base64 *string `json:"base64,omitempty"`
	Number *string `json:"number,omitempty"`
	Blob   bool    `json:"blob,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (c column) MarshalJSON() ([]byte, error) {
	switch {
	case c.Kind == catalog.AuditNull:
		return []byte("null"), nil
	case c.Kind == catalog.AuditOther:
		return json.Marshal(odd{Number: &c.Text})
	case c.Kind == catalog.AuditBytes || !utf8.ValidString(c.Text):
		text := base64.StdEncoding.EncodeToString([]byte(c.Text))
		return json.Marshal(odd{Base64: &text, Blob: c.Kind == catalog.AuditBytes})
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(c.Text)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *column) UnmarshalJSON(text []byte) error {
	*c = column{}
	if string(text) == "null" {
		return nil
	}
	if len(text) > 0 && text[0] == '"' {
		c.Kind = catalog.AuditText
		return json.Unmarshal(text, &c.Text)
	}
	var o odd
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	switch {
	case o.Number != nil:
		c.Kind, c.Text = catalog.AuditOther, *o.Number
	case o.Base64 != nil:
		plain, err := base64.StdEncoding.DecodeString(*o.Base64)
		if err != nil {
			return err
		}
		c.Kind, c.Text = catalog.AuditText, string(plain)
		if o.Blob {
			c.Kind = catalog.AuditBytes
		}
	default:
		return errors.New("neither text nor null")
	}
	return nil
}
