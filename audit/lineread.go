package audit

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tenantgate/tenantgate/catalog"
)

const (
	// maxRow bounds what a line's columns hold, in bytes: no engine hands out a larger row.
	maxRow = 1 << 30
	// maxPlain bounds a line's numbers, hashes and times, and the last line of a file.
	maxPlain = 1 << 16
)

// errNoLine: it is not what lineWriter writes. encoding/json wrote the same before.
var errNoLine = errors.New("no row of the log")

// lineReader reads what lineWriter wrote, from a file that may be anybody's. It holds the columns of one row; the text of
// the line, which escapes make up to six times as long, never whole.
type lineReader struct {
	in   *bufio.Reader
	keys []string
	sum  hash.Hash // of what was read
	raw  []byte    // read, and not in sum yet
	room int       // what the row's columns may still hold
	err  error     // of reading, io.EOF too; then what next returns is 0
}

func newLineReader(f io.Reader, sum hash.Hash) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(f, maxBuffer), keys: lineKeys(), sum: sum}
}

// seals returns the last line of an archive if that is what comes next, and io.EOF where nothing does. It is no part of the
// sum.
func (r *lineReader) seals() (*seals, error) {
	begin, err := r.in.Peek(len(lastLineBegin))
	if len(begin) == 0 {
		return nil, err
	}
	if string(begin) != lastLineBegin {
		return nil, nil
	}
	text, err := r.in.ReadSlice('\n') // at most what the reader's buffer holds
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errNotWhole
	}
	var l lastLine
	if json.Unmarshal(bytes.TrimSuffix(text, []byte("\n")), &l) != nil || l.Archive == nil {
		return nil, errNotWhole
	}
	return l.Archive, nil
}

// line reads the next one.
func (r *lineReader) line() (*line, error) {
	r.room = maxRow
	l := &line{row: new(catalog.AuditRow)}
	for i := range l.row {
		if err := r.column(i, &l.row[i]); err != nil {
			return nil, err
		}
	}
	if err := r.place(l); err != nil {
		return nil, err
	}
	if r.next() != '}' || r.next() != '\n' {
		return nil, r.broken()
	}
	r.count()
	return l, nil
}

// place reads where the row stands in the chain: a number and four texts, or null five times.
func (r *lineReader) place(l *line) error {
	at := len(l.row)
	if err := r.expect(r.begins(at)); err != nil {
		return err
	}
	if c, _ := r.in.Peek(1); string(c) == "n" {
		rest := "null"
		for i := at + 1; i < len(r.keys); i++ {
			rest += r.begins(i) + "null"
		}
		return r.expect(rest)
	}
	var digits []byte
	for c, _ := r.in.Peek(1); len(c) > 0 && c[0] != ',' && len(digits) < 20; c, _ = r.in.Peek(1) {
		digits = append(digits, r.next())
	}
	seq, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil || strconv.FormatInt(seq, 10) != string(digits) {
		return r.broken()
	}
	l.entry = &catalog.ChainEntry{Seq: seq, AuditID: l.row[0]}
	r.room = maxPlain
	for i, to := range []*string{&l.entry.At, &l.entry.RowHash, &l.previous, &l.entry.Hash} {
		if err := r.expect(r.begins(at+1+i) + `"`); err != nil {
			return err
		}
		if *to, err = r.text(); err != nil {
			return err
		}
	}
	return nil
}

func (r *lineReader) begins(i int) string {
	if i == 0 {
		return `{"` + r.keys[i] + `":`
	}
	return `,"` + r.keys[i] + `":`
}

func (r *lineReader) column(i int, v *catalog.AuditValue) (err error) {
	if err := r.expect(r.begins(i)); err != nil {
		return err
	}
	switch r.next() {
	case 'n':
		return r.expect("ull")
	case '"':
		v.Kind = catalog.AuditText
		v.Text, err = r.text()
		return err
	case '{':
		return r.odd(v)
	}
	return r.broken()
}

// odd reads the rest of a column that is no text.
func (r *lineReader) odd(v *catalog.AuditValue) error {
	const base, number = `"base64":"`, `"number":"`
	begin, _ := r.in.Peek(len(base))
	if string(begin) != base && string(begin) != number {
		return r.broken()
	}
	v.Kind = catalog.AuditOther
	isBytes := string(begin) == base
	if err := r.expect(string(begin)); err != nil {
		return err
	}
	text, err := r.text()
	if err != nil {
		return err
	}
	if v.Text = text; isBytes {
		plain, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			return r.broken()
		}
		v.Kind, v.Text = catalog.AuditText, string(plain)
		if c, _ := r.in.Peek(1); string(c) == "," {
			v.Kind = catalog.AuditBytes
			return r.expect(`,"blob":true}`)
		}
	}
	return r.expect("}")
}

// text reads a string from behind its first quotation mark.
func (r *lineReader) text() (string, error) {
	var b strings.Builder
	for {
		b.WriteString(r.run())
		c := r.next()
		switch {
		case c == '"':
			r.room -= b.Len()
			return b.String(), nil
		case c < ' ': // or the end
			return "", r.broken()
		case c != '\\':
			b.WriteByte(c)
		default:
			e, ok := r.escaped()
			if !ok {
				return "", r.broken()
			}
			b.WriteRune(e)
		}
		if b.Len() > r.room {
			return "", fmt.Errorf("a row of more than %d bytes", maxRow)
		}
	}
}

// run reads what stands for itself of what is at hand: it saves next its every byte.
func (r *lineReader) run() string {
	at, _ := r.in.Peek(min(r.in.Buffered(), maxBuffer-1-len(r.raw)))
	n := 0
	for n < len(at) && at[n] >= ' ' && at[n] != '"' && at[n] != '\\' {
		n++
	}
	text := string(at[:n])
	r.raw = append(r.raw, text...)
	_, _ = r.in.Discard(n) // it is there
	return text
}

// escaped reads what stands behind a backslash. Half a surrogate pair is none.
func (r *lineReader) escaped() (rune, bool) {
	switch c := r.next(); c {
	case '"', '\\', '/':
		return rune(c), true
	case 'u':
		first, ok := r.unit()
		if !ok || !utf16.IsSurrogate(first) {
			return first, ok
		}
		if r.next() != '\\' || r.next() != 'u' {
			return 0, false
		}
		second, ok := r.unit()
		whole := utf16.DecodeRune(first, second)
		return whole, ok && whole != utf8.RuneError
	default:
		for control, letter := range escapes {
			if letter != 0 && letter == c {
				return rune(control), true
			}
		}
	}
	return 0, false
}

// unit reads four hexadecimal digits.
func (r *lineReader) unit() (rune, bool) {
	var digits [4]byte
	for i := range digits {
		digits[i] = r.next()
	}
	n, err := strconv.ParseUint(string(digits[:]), 16, 16)
	return rune(n), err == nil
}

func (r *lineReader) expect(text string) error {
	for i := range len(text) {
		if r.next() != text[i] {
			return r.broken()
		}
	}
	return nil
}

// next reads a byte; 0, which is nowhere in a line, at the end.
func (r *lineReader) next() byte {
	c, err := r.in.ReadByte()
	if err != nil {
		r.err = err
		return 0
	}
	if r.raw = append(r.raw, c); len(r.raw) == maxBuffer {
		r.count()
	}
	return c
}

// count takes what was read into the sum.
func (r *lineReader) count() {
	_, _ = r.sum.Write(r.raw) // a hash never fails
	r.raw = r.raw[:0]
}

// broken is why a line is none.
func (r *lineReader) broken() error {
	if r.err != nil && !errors.Is(r.err, io.EOF) {
		return r.err
	}
	return errNoLine
}
