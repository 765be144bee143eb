package audit

import (
	"context"
	"encoding/csv"
	"encoding/json"
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
// chained yet. Its memory does not grow with the log.
func Export(ctx context.Context, host *catalog.HostDatabase, w io.Writer, format Format) (done Exported, err error) {
	write, flush := jsonLines(w)
	if format == CSV {
		write, flush = csvLines(w)
	}
	err = host.ReadAudit(ctx, func(s *catalog.AuditSnapshot) error {
		x := &exporting{write: write, done: &done, nameless: map[string][]catalog.AuditRow{}}
		if err := s.Nameless(ctx, x.keep); err != nil {
			return err
		}
		if err := s.Entries(ctx, 0, x.entry); err != nil {
			return err
		}
		for _, rows := range x.nameless {
			for i := range rows {
				if err := x.tail(true, &rows[i]); err != nil {
					return err
				}
			}
		}
		if err := s.Unchained(ctx, x.tail); err != nil {
			return err
		}
		return flush()
	})
	return done, err
}

type exporting struct {
	hash     hasher
	write    func(*line) error
	done     *Exported
	previous string
	nameless map[string][]catalog.AuditRow
}

func (x *exporting) keep(row *catalog.AuditRow) error {
	h := x.hash.row(row)
	x.nameless[h] = append(x.nameless[h], *row)
	return nil
}

func (x *exporting) entry(e *catalog.ChainEntry, row *catalog.AuditRow) error {
	previous := x.previous
	x.previous = e.Hash
	if rows := x.nameless[e.RowHash]; e.AuditID.Kind == catalog.AuditNull && len(rows) > 0 {
		row, x.nameless[e.RowHash] = &rows[len(rows)-1], rows[:len(rows)-1]
	}
	if row == nil {
		if e.Archived.Kind == catalog.AuditNull {
			x.done.Missing++
		}
		return nil
	}
	x.done.Rows++
	return x.write(newLine(row, e, previous))
}

func (x *exporting) tail(_ bool, row *catalog.AuditRow) error {
	x.done.Rows++
	x.done.Tail++
	return x.write(newLine(row, nil, ""))
}

func jsonLines(w io.Writer) (write func(*line) error, flush func() error) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return func(l *line) error { return enc.Encode(l) }, func() error { return nil }
}

// csvLines writes values as they are: a spreadsheet may take one that begins with =, +, - or @ for a formula.
func csvLines(w io.Writer) (write func(*line) error, flush func() error) {
	out := csv.NewWriter(w)
	header := append(catalog.AuditColumns(), "seq", "chained_at", "row_hash", "previous_hash", "hash")
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
		cells := make([]string, 0, len(header))
		for _, c := range l.columns() {
			cells = append(cells, c.Text)
		}
		seq := ""
		if l.Seq != nil {
			seq = strconv.FormatInt(*l.Seq, 10)
		}
		cells = append(cells, seq)
		for _, s := range []*string{l.ChainedAt, l.RowHash, l.Previous, l.Hash} {
			if s == nil {
				cells = append(cells, "")
				continue
			}
			cells = append(cells, *s)
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
