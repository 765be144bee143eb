package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/tenantgate/tenantgate/catalog"
)

// rowLimit bounds one row of an import, in bytes.
const rowLimit = 1 << 20

// errRowTooLong ends an import: where the next row begins is not known.
var errRowTooLong = fmt.Errorf("the row has more than %d bytes; is a quote not closed?", rowLimit)

// wireKind is what a value of an import was written as.
type wireKind int

const (
	wireText   wireKind = iota // a JSON string
	wireBare                   // a CSV field, which may be anything
	wireNull                   // JSON's null, and an empty CSV field
	wireBool                   // JSON's true and false
	wireNumber                 // a JSON number
	wireOther                  // a JSON object or array
)

// wireValue is a value of an import and where it stands.
type wireValue struct {
	column   string
	text     string
	kind     wireKind
	position int
}

// rowFile reads an import: CSV with a header, or JSON lines.
type rowFile interface {
	// read returns the next row's values and its line, io.EOF at the end. A *catalog.ImportFault concerns that row alone.
	read() ([]wireValue, int, error)
}

// openRows recognises the format by the file's name, else by its content: JSON begins with {. An array, which
// begins with [, is refused as JSON that is no lines. check judges a column's name.
func openRows(in io.Reader, name string, check func(column string) error) (rowFile, error) {
	r := bufio.NewReaderSize(in, 64<<10)
	if mark, err := r.Peek(3); err == nil && string(mark) == "\ufeff" {
		_, _ = r.Discard(3)
	}
	switch strings.ToLower(filepath.Ext(name)) {
	case ".csv":
		return newCSVRows(r, check)
	case ".json", ".jsonl", ".ndjson":
		return newJSONRows(r, check), nil
	}
	start, err := r.Peek(4096)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	start = bytes.TrimLeftFunc(start, unicode.IsSpace)
	if len(start) > 0 && (start[0] == '{' || start[0] == '[') {
		return newJSONRows(r, check), nil
	}
	return newCSVRows(r, check)
}

// boundedReader refuses to go on once a row is too long.
type boundedReader struct {
	in   io.Reader
	left int
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errRowTooLong
	}
	n, err := b.in.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// csvRows is RFC 4180 with a header.
type csvRows struct {
	bound  *boundedReader
	csv    *csv.Reader
	header []string
	row    []wireValue
}

func newCSVRows(in io.Reader, check func(string) error) (*csvRows, error) {
	c := &csvRows{bound: &boundedReader{in: in, left: rowLimit}}
	c.csv = csv.NewReader(c.bound)
	header, err := c.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, &catalog.ImportFault{Line: 1, Reason: "the file is empty: want a header with the columns' names"}
	}
	if err != nil {
		return nil, csvFault(err)
	}
	c.csv.ReuseRecord = true
	seen := map[string]bool{}
	for i, name := range header {
		line, at := c.csv.FieldPos(i)
		if err := check(name); err != nil {
			return nil, &catalog.ImportFault{Line: line, Position: at, Column: name, Reason: err.Error()}
		}
		if seen[name] {
			return nil, &catalog.ImportFault{Line: line, Position: at, Column: name, Reason: "the column stands in the header twice"}
		}
		seen[name] = true
	}
	c.header = header
	return c, nil
}

func csvFault(err error) error {
	parse, ok := errors.AsType[*csv.ParseError](err)
	if !ok {
		return err
	}
	reason := parse.Err.Error()
	if errors.Is(err, csv.ErrFieldCount) {
		reason = "the row does not have as many fields as the header"
	}
	return &catalog.ImportFault{Line: parse.StartLine, Position: parse.Column, Reason: reason}
}

func (c *csvRows) read() ([]wireValue, int, error) {
	c.bound.left = rowLimit
	fields, err := c.csv.Read()
	if errors.Is(err, csv.ErrFieldCount) {
		return nil, 0, csvFault(err)
	}
	if err != nil {
		return nil, 0, &brokenFile{csvFault(err)}
	}
	line, _ := c.csv.FieldPos(0)
	c.row = c.row[:0]
	for i, text := range fields {
		_, at := c.csv.FieldPos(i)
		v := wireValue{column: c.header[i], text: text, kind: wireBare, position: at}
		if text == "" {
			v.kind = wireNull
		}
		c.row = append(c.row, v)
	}
	return c.row, line, nil
}

// brokenFile ends an import: what follows cannot be told apart.
type brokenFile struct{ error }

// Unwrap hides an ImportFault, which would be taken for that of one row, and nothing else.
func (b *brokenFile) Unwrap() error {
	if _, ok := b.error.(*catalog.ImportFault); ok {
		return nil
	}
	return b.error
}

// jsonRows is one JSON object a line (https://jsonlines.org).
type jsonRows struct {
	lines *bufio.Scanner
	line  int
	check func(string) error
	row   []wireValue
	seen  map[string]bool
}

func newJSONRows(in io.Reader, check func(string) error) *jsonRows {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 64<<10), rowLimit)
	return &jsonRows{lines: lines, check: check, seen: map[string]bool{}}
}

func (j *jsonRows) read() ([]wireValue, int, error) {
	for j.lines.Scan() {
		j.line++
		text := j.lines.Bytes()
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		if err := j.object(text); err != nil {
			return nil, j.line, err
		}
		return j.row, j.line, nil
	}
	err := j.lines.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, 0, &brokenFile{&catalog.ImportFault{Line: j.line + 1, Reason: errRowTooLong.Error()}}
	case err != nil:
		return nil, 0, err
	}
	return nil, 0, io.EOF
}

func (j *jsonRows) fault(at int64, column, reason string) error {
	return &catalog.ImportFault{Line: j.line, Position: int(at) + 1, Column: column, Reason: reason}
}

// object reads one line: an object without doubled names, and nothing behind it.
func (j *jsonRows) object(text []byte) error {
	j.row = j.row[:0]
	clear(j.seen)
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return j.fault(0, "", "want one JSON object a line")
	}
	for dec.More() {
		at := dec.InputOffset()
		name, err := dec.Token()
		column, ok := name.(string)
		if err != nil || !ok {
			return j.fault(at, "", "no valid JSON")
		}
		if err := j.check(column); err != nil {
			return j.fault(at, column, err.Error())
		}
		if j.seen[column] {
			return j.fault(at, column, "the column stands in the row twice")
		}
		j.seen[column] = true
		at = dec.InputOffset() + 1
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return j.fault(at, column, "no valid JSON")
		}
		v, err := jsonValue(raw)
		if err != nil {
			return j.fault(at, column, "no valid JSON")
		}
		v.column, v.position = column, int(at)+1
		j.row = append(j.row, v)
	}
	if _, err := dec.Token(); err != nil {
		return j.fault(dec.InputOffset(), "", "no valid JSON")
	}
	end := dec.InputOffset()
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return j.fault(end, "", "want one JSON object a line")
	}
	return nil
}

func jsonValue(raw json.RawMessage) (wireValue, error) {
	switch raw[0] {
	case '"':
		v := wireValue{kind: wireText}
		return v, json.Unmarshal(raw, &v.text)
	case 'n':
		return wireValue{kind: wireNull}, nil
	case 't', 'f':
		return wireValue{kind: wireBool, text: string(raw)}, nil
	case '{', '[':
		return wireValue{kind: wireOther}, nil
	}
	return wireValue{kind: wireNumber, text: string(raw)}, nil
}
