package audit

import (
	"encoding/base64"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/tenantgate/tenantgate/catalog"
)

// line is a row of the log as a file holds it: its columns, and its place in the chain. A row that is not chained yet has
// none.
type line struct {
	row      *catalog.AuditRow
	entry    *catalog.ChainEntry // nil: not chained
	previous string              // the hash of the entry before
}

// check says whether the line is what it says that it is.
func (l *line) check(h *hasher) error {
	switch {
	case l.entry == nil:
		return errors.New("the row is in no entry of the chain")
	case h.row(l.row) != l.entry.RowHash:
		return errors.New("the row is not what was chained")
	case h.entry(l.previous, l.entry) != l.entry.Hash:
		return errors.New("the entry does not follow from the one before")
	}
	return nil
}

// size is what the row's columns hold, in bytes.
func (l *line) size() (n int) {
	for i := range l.row {
		n += len(l.row[i].Text)
	}
	return n
}

// lineKeys are a line's names of the columns, and then of its place in the chain: seq, a number, and four texts.
func lineKeys() []string {
	return append(catalog.AuditColumns(), "seq", "chained_at", "row_hash", "previous_hash", "hash")
}

// lineWriter writes lines as JSON (RFC 8259), each on a line of its own. A column is null, a string, {"base64":"…"} for what
// is no UTF-8 text, or {"number":"…"}. Of a long value it holds a piece.
type lineWriter struct {
	w    io.Writer
	keys []string
	buf  []byte
	err  error
}

func newLineWriter(w io.Writer) *lineWriter { return &lineWriter{w: w, keys: lineKeys()} }

func (o *lineWriter) write(l *line) error {
	for i := range l.row {
		o.key(i)
		o.column(&l.row[i])
	}
	columns := len(l.row)
	if e := l.entry; e != nil {
		o.key(columns)
		o.buf = strconv.AppendInt(o.buf, e.Seq, 10)
		for i, text := range []string{e.At, e.RowHash, l.previous, e.Hash} {
			o.key(columns + 1 + i)
			o.text(text)
		}
	} else {
		for i := range o.keys[columns:] {
			o.key(columns + i)
			o.buf = append(o.buf, "null"...)
		}
	}
	o.buf = append(o.buf, "}\n"...)
	o.spill(maxBuffer)
	return o.err
}

// flush writes what is held.
func (o *lineWriter) flush() error {
	o.spill(1)
	return o.err
}

// spill writes what is held, once it is that much.
func (o *lineWriter) spill(atLeast int) {
	if len(o.buf) < atLeast {
		return
	}
	if o.err == nil {
		_, o.err = o.w.Write(o.buf)
	}
	o.buf = o.buf[:0]
}

func (o *lineWriter) key(i int) {
	begin := byte(',')
	if i == 0 {
		begin = '{'
	}
	o.buf = append(o.buf, begin, '"')
	o.buf = append(o.buf, o.keys[i]...)
	o.buf = append(o.buf, `":`...)
}

func (o *lineWriter) column(v *catalog.AuditValue) {
	switch {
	case v.Kind == catalog.AuditNull:
		o.buf = append(o.buf, "null"...)
	case v.Kind == catalog.AuditOther:
		o.buf = append(o.buf, `{"number":`...)
		o.text(v.Text)
		o.buf = append(o.buf, '}')
	case v.Kind == catalog.AuditBytes || !utf8.ValidString(v.Text):
		o.base64(v.Text)
		if v.Kind == catalog.AuditBytes {
			o.buf = append(o.buf, `,"blob":true`...)
		}
		o.buf = append(o.buf, '}')
	default:
		o.text(v.Text)
	}
}

func (o *lineWriter) base64(s string) {
	const piece = maxBuffer / 4 * 3
	o.buf = append(o.buf, `{"base64":"`...)
	for ; len(s) > piece; s = s[piece:] {
		o.buf = base64.StdEncoding.AppendEncode(o.buf, []byte(s[:piece]))
		o.spill(maxBuffer)
	}
	o.buf = base64.StdEncoding.AppendEncode(o.buf, []byte(s))
	o.buf = append(o.buf, '"')
}

// text writes a string, which is UTF-8, as encoding/json does without escaping HTML.
func (o *lineWriter) text(s string) {
	const hex = "0123456789abcdef"
	o.buf = append(o.buf, '"')
	for i := 0; i < len(s); i++ {
		n := i
		for n < min(len(s), i+maxBuffer) && s[n] >= ' ' && s[n] != '"' && s[n] != '\\' && s[n] != 0xe2 {
			n++
		}
		if n > i {
			o.buf = append(o.buf, s[i:n]...)
			o.spill(maxBuffer)
			i = n - 1
			continue
		}
		switch c := s[i]; {
		case c == '"' || c == '\\':
			o.buf = append(o.buf, '\\', c)
		case c == 0xe2 && i+2 < len(s) && s[i+1] == 0x80 && s[i+2]&^1 == 0xa8: // line and paragraph separator
			o.buf = append(o.buf, '\\', 'u', '2', '0', '2', hex[s[i+2]&15])
			i += 2
		case c == 0xe2:
			o.buf = append(o.buf, c)
		case escapes[c] != 0:
			o.buf = append(o.buf, '\\', escapes[c])
		default:
			o.buf = append(o.buf, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		o.spill(maxBuffer)
	}
	o.buf = append(o.buf, '"')
}

// escapes are the control characters that have a letter.
var escapes = [' ']byte{'\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't'}
