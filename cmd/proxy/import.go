package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenantgate/tenantgate/catalog"
)

func (k *kind[ID, T]) imports(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "import --file PATH", Short: "Read " + k.plural + " from a CSV or JSON lines file", Args: noArgs,
		Long: "Adds the rows of a file whole or not at all, each with its audit row. The file is CSV with a header, or JSON\n" +
			"lines, by its name or else its content; - is standard input. Columns are the table's, references are ids. A\n" +
			"column that is absent gets its default; an empty CSV field and JSON's null are NULL. What is wrong is reported\n" +
			"with its line, up to " + fmt.Sprint(catalog.MaxImportFaults) + " faults at once.\n\nColumns: " + strings.Join(k.importNames(), ", "),
		Example: "tenantgate " + k.name + " import --file " + k.plural + ".csv",
	}
	output := outputFlag(cmd)
	path := cmd.Flags().String("file", "", "the file; - is standard input")
	dry := cmd.Flags().Bool("dry-run", false, "check every row, import none")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *path == "" {
			return usagef("%s needs --file", cmd.CommandPath())
		}
		in, name := p.in, "standard input"
		if *path != "-" {
			f, err := os.Open(*path)
			if err != nil {
				return fmt.Errorf("import: %w", err)
			}
			defer func() { _ = f.Close() }()
			in, name = f, *path
		}
		var n int
		err := p.withHost(cmd.Context(), func(ctx context.Context, host *catalog.HostDatabase) error {
			table := k.table(&host.Tables)
			rows, err := openRows(in, *path, k.importable)
			if err != nil {
				return err
			}
			n, err = table.Import(ctx, func() (*T, int, error) { return k.vetted(ctx, rows, table.Blank()) }, *dry)
			return err
		})
		if err != nil {
			return importFaults(name, err)
		}
		if *dry {
			return writeOne(p.out, *output, record{{"imported", 0}, {"would_import", n}})
		}
		return writeOne(p.out, *output, record{{"imported", n}})
	}
	return cmd
}

// importColumns are the table's columns: those that are shown, and those that only an import gives.
func (k *kind[ID, T]) importColumns() []column[T] { return slices.Concat(k.columns, k.importOnly) }

func (k *kind[ID, T]) importNames() []string {
	var names []string
	for _, c := range k.importColumns() {
		names = append(names, c.name)
	}
	return names
}

func (k *kind[ID, T]) importable(name string) error {
	if names := k.importNames(); !slices.Contains(names, name) {
		return fmt.Errorf("no such column: want some of %s", strings.Join(names, ", "))
	}
	return nil
}

// vetted is readRow with what the kind refuses.
func (k *kind[ID, T]) vetted(ctx context.Context, rows rowFile, blank T) (*T, int, error) {
	row, line, err := k.readRow(rows, blank)
	if err != nil || k.vet == nil {
		return row, line, err
	}
	if column, err := k.vet(ctx, row); err != nil {
		return nil, line, &catalog.ImportFault{Line: line, Column: column, Reason: err.Error()}
	}
	return row, line, nil
}

// readRow makes the next row: the defaults of blank, and over them what the file gives.
func (k *kind[ID, T]) readRow(rows rowFile, blank T) (*T, int, error) {
	given, line, err := rows.read()
	if err != nil {
		return nil, line, err
	}
	row := &blank
	columns := k.importColumns()
	missing := slices.Clone(k.required)
	if k.argument != nil {
		missing = append(missing, columns[0].name)
	}
	for _, v := range given {
		c := &columns[slices.IndexFunc(columns, func(c column[T]) bool { return c.name == v.column })]
		fault := &catalog.ImportFault{Line: line, Position: v.position, Column: v.column}
		text, err := c.wired(v)
		if err == nil {
			err = c.bind(row).set(text)
		}
		if err != nil {
			fault.Reason = err.Error()
			return nil, line, fault
		}
		i := slices.Index(missing, v.column)
		if text == "" && (i >= 0 || v.column == columns[0].name) {
			fault.Reason = "must not be empty"
			if i < 0 {
				fault.Reason += "; leave the column out to have ids made"
			}
			return nil, line, fault
		}
		if i >= 0 {
			missing = slices.Delete(missing, i, i+1)
		}
	}
	if len(missing) > 0 {
		return nil, line, &catalog.ImportFault{Line: line, Column: missing[0], Reason: "the column is needed"}
	}
	return row, line, nil
}

// wired is a value of a file as set takes it, if its kind is the column's.
func (c *column[T]) wired(v wireValue) (string, error) {
	if v.kind == wireNull {
		return "", nil
	}
	switch {
	case c.truth && v.kind == wireBare: // as psql and SQLite write them, too
		switch v.text {
		case "t", "1":
			return "true", nil
		case "f", "0":
			return "false", nil
		}
	case c.truth && v.kind != wireBool:
		return "", errors.New("want true or false")
	case c.number && v.kind != wireBare && v.kind != wireNumber:
		return "", errors.New("want a whole number")
	case !c.truth && !c.number && v.kind != wireBare && v.kind != wireText:
		return "", errors.New("want a string")
	}
	return v.text, nil
}

// importFaults puts the file's name before each fault, a line for each.
func importFaults(name string, err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if broken, ok := errors.AsType[*brokenFile](err); ok {
		err = broken.error
	}
	if one, ok := err.(*catalog.ImportFault); ok {
		return faultAt(name, *one)
	}
	all, ok := errors.AsType[*catalog.ImportError](err)
	if !ok {
		return err
	}
	var faults []error
	for _, f := range all.Faults {
		faults = append(faults, faultAt(name, f))
	}
	if all.More {
		faults = append(faults, fmt.Errorf("%s: there are more faults; these are the first %d", name, len(all.Faults)))
	}
	return errors.Join(append(faults, fmt.Errorf("%s: nothing was imported", name))...)
}

func faultAt(name string, f catalog.ImportFault) error {
	at := fmt.Sprintf("%s:%d", name, f.Line)
	if f.Position > 0 {
		at += fmt.Sprintf(":%d", f.Position)
	}
	if f.Column != "" {
		at += ": " + f.Column
	}
	return errors.New(at + ": " + f.Reason)
}
