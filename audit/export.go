package audit

import (
	"context"
	"encoding/csv"
	"errors"
	"io"
	"strconv"

	"github.com/tenantgate/tenantgate/catalog"
)

// Exported is what Export wrote.
type Exported struct {
	Rows    int64 // all of them
	Tail    int64 // of which are not chained yet
	Missing int64 // entries whose row is gone, and was not archived
}

// Format is the form of an export.
type Format string

// The forms. JSON lines keep NULL apart from "", and can be verified by themselves; CSV does not and cannot.
const (
	JSONLines Format = "jsonl"
	CSV       Format = "csv"
)

// Export writes every row of the log as it stands at one moment: in the order of the chain, then those that are not
// chained yet. It holds one row at a time, however large, and of rows without an id, which SQLite allows, a hash each.
func Export(ctx context.Context, host *catalog.HostDatabase, w io.Writer, format Format) (done Exported, err error) {
	x := &exporting{done: &done, nameless: map[string][]int64{}}
	lines := newLineWriter(w)
	flush := lines.flush
	if x.write = lines.write; format == CSV {
		x.write, flush = csvLines(w)
	}
	err = host.ReadAudit(ctx, func(s *catalog.AuditSnapshot) error {
		x.row = func(place int64) (*catalog.AuditRow, error) { return s.NamelessRow(ctx, place) }
		return errors.Join(x.all(ctx, s), flush())
	})
	return done, err
}

type exporting struct {
	hash     hasher
	write    func(*line) error
	done     *Exported
	previous string
	nameless map[string][]int64 // by their hash, where they are
	row      func(place int64) (*catalog.AuditRow, error)
}

func (x *exporting) all(ctx context.Context, s *catalog.AuditSnapshot) error {
	err := s.Nameless(ctx, func(place int64, row *catalog.AuditRow) error {
		h := x.hash.row(row)
		x.nameless[h] = append(x.nameless[h], place)
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.Entries(ctx, 0, x.entry); err != nil {
		return err
	}
	for _, places := range x.nameless {
		for _, place := range places {
			row, err := x.row(place)
			if err != nil {
				return err
			}
			if err := x.tail(true, row); err != nil {
				return err
			}
		}
	}
	return s.Unchained(ctx, x.tail)
}

func (x *exporting) entry(e *catalog.ChainEntry, row *catalog.AuditRow) (err error) {
	previous := x.previous
	x.previous = e.Hash
	if places := x.nameless[e.RowHash]; e.AuditID.Kind == catalog.AuditNull && len(places) > 0 {
		last := len(places) - 1
		if row, err = x.row(places[last]); err != nil {
			return err
		}
		x.nameless[e.RowHash] = places[:last]
	}
	if row == nil {
		if e.Archived.Kind == catalog.AuditNull {
			x.done.Missing++
		}
		return nil
	}
	x.done.Rows++
	return x.write(&line{row, e, previous})
}

func (x *exporting) tail(_ bool, row *catalog.AuditRow) error {
	x.done.Rows++
	x.done.Tail++
	return x.write(&line{row: row})
}

// csvLines writes values as they are: a spreadsheet may take one that begins with =, +, - or @ for a formula.
func csvLines(w io.Writer) (write func(*line) error, flush func() error) {
	out := csv.NewWriter(w)
	header := lineKeys()
	begun := false
	begin := func() error {
		if begun {
			return nil
		}
		begun = true
		return out.Write(header)
	}
	write = func(l *line) error {
		if err := begin(); err != nil {
			return err
		}
		cells := make([]string, len(header))
		for i := range l.row {
			cells[i] = l.row[i].Text
		}
		if e := l.entry; e != nil {
			copy(cells[len(l.row):], []string{strconv.FormatInt(e.Seq, 10), e.At, e.RowHash, l.previous, e.Hash})
		}
		return out.Write(cells)
	}
	return write, func() error {
		if err := begin(); err != nil {
			return err
		}
		out.Flush()
		return out.Error()
	}
}
