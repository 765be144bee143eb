package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"
)

// format is the value of --output.
type format string

const (
	formatTable format = "table"
	formatJSON  format = "json"
)

// String, Set and Type implement pflag.Value.
func (f *format) String() string { return string(*f) }

func (f *format) Set(text string) error {
	switch format(text) {
	case formatTable, formatJSON:
		*f = format(text)
		return nil
	}
	return fmt.Errorf("want table or json")
}

func (f *format) Type() string { return "table|json" }

// outputFlag adds --output to a command.
func outputFlag(cmd *cobra.Command) *format {
	f := formatTable
	cmd.Flags().Var(&f, "output", "table for people, json for programs")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return &f
}

// field is a column with its value: nil, string, bool, int64 or what encoding/json takes.
type field struct {
	name  string
	value any
}

// record is a row in the order of its columns.
type record []field

// MarshalJSON implements json.Marshaler: one object, keys in order.
func (r record) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range r {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, v := range []any{f.name, f.value} {
			text, err := marshal(v)
			if err != nil {
				return nil, err
			}
			if j == 1 {
				b.WriteByte(':')
			}
			b.Write(text)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// marshal is json.Marshal without the escapes that HTML would need.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func writeJSON(w io.Writer, v any) error {
	text, err := marshal(v)
	if err != nil {
		return fmt.Errorf("write json: %w", err)
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// writeOne prints a single object.
func writeOne(w io.Writer, f format, r record) error {
	if f == formatJSON {
		return writeJSON(w, r)
	}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, field := range r {
		_, _ = fmt.Fprintf(tw, "%s\t%s\n", field.name, cellText(field.value))
	}
	return tw.Flush()
}

// writeList prints a page of a list; next is what --after takes for the one that follows.
func writeList(w io.Writer, f format, columns []string, rows []record, next string) error {
	if f == formatJSON {
		if rows == nil {
			rows = []record{}
		}
		return writeJSON(w, record{{"items", rows}, {"next", next}})
	}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(tw, strings.ToUpper(strings.Join(columns, "\t")))
	for _, r := range rows {
		cells := make([]string, len(r))
		for i, field := range r {
			cells[i] = shortened(cellText(field.value))
		}
		_, _ = fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if next != "" {
		_, err := fmt.Fprintf(w, "more with --after %s\n", printable(next))
		return err
	}
	return nil
}

// listCell is how much of a value a list shows, in characters: one payload of a megabyte would make a table of blanks.
const listCell = 500

// shortened cuts a list's cell; show and json have all of it.
func shortened(cell string) string {
	if len(cell) <= listCell {
		return cell
	}
	if runes := []rune(cell); len(runes) > listCell {
		return string(runes[:listCell-1]) + "…"
	}
	return cell
}

// cellText renders a value for people; NULL is a dash.
func cellText(v any) string {
	switch t := v.(type) {
	case nil:
		return "-"
	case string:
		return printable(t)
	case []string:
		return printable(strings.Join(t, ", "))
	}
	return printable(fmt.Sprint(v))
}

// printable escapes what would move a terminal's cursor or break a line: values in the database are not ours.
func printable(s string) string {
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			b.WriteString(strings.Trim(fmt.Sprintf("%q", r), "'"))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func hidden(r rune) bool { return !unicode.IsPrint(r) }
