package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a configuration, or, among Warnings, probably wrong.
type Fault struct {
	// File, with Line and Column counted from 1 in characters, is where the fault stands. All are zero for a fault that
	// stands in no file.
	File         string
	Line, Column int
	// Variable is the environment variable that the fault stands in, if any.
	Variable string
	// Path is the key, such as identity.providers[0].issuer. Empty where the fault concerns the whole input.
	Path string
	// Message says what is wrong and what to do. It never repeats a value: values may be secrets.
	Message string
}

// String returns the fault as one line: config.yaml:12:5: identity.providers[0].issuer: what to do.
func (f Fault) String() string {
	var b strings.Builder
	switch {
	case f.Variable != "":
		b.WriteString(f.Variable + ": ")
	case f.File != "" && f.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", f.File, f.Line, f.Column)
	case f.File != "":
		b.WriteString(f.File + ": ")
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Message)
	return oneLine(b.String())
}

// Error holds every fault that was found, in the order of the file, then of the variables' names.
type Error struct{ Faults []Fault }

// Error returns one line a fault, see Fault.String.
func (e *Error) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// maxFaults bounds what one configuration can make us say.
const maxFaults = 100

// findings collects faults. Those beyond maxFaults are counted only.
type findings struct {
	list []Fault
	more int
}

func (l *findings) full() bool { return len(l.list) >= maxFaults }

func (l *findings) add(f Fault) {
	if l.full() {
		l.more++
		return
	}
	if !slices.Contains(l.list, f) {
		l.list = append(l.list, f)
	}
}

// sorted returns the faults in order: those of the file by position, of variables by name, others last.
func (l *findings) sorted() []Fault {
	slices.SortStableFunc(l.list, func(a, b Fault) int {
		return cmp.Or(
			cmp.Compare(rank(a), rank(b)),
			cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Variable, b.Variable),
		)
	})
	return l.list
}

func rank(f Fault) int {
	switch {
	case f.File != "":
		return 0
	case f.Variable != "":
		return 1
	}
	return 2
}

// err returns nil or an *Error of all faults.
func (l *findings) err() error {
	if len(l.list) == 0 {
		return nil
	}
	out := l.sorted()
	if l.more > 0 {
		out = append(out, Fault{Message: fmt.Sprintf("and %d more faults; mend these first", l.more)})
	}
	return &Error{Faults: out}
}
