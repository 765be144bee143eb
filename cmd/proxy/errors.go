package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/telemetry"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1 // failed, not found, refused, denied
	exitUsage  = 2 // wrong usage, missing or invalid configuration
)

// usageError is a wrong command line or configuration: exit code 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// errDenied ends explain with exit code 1 where the answer, not an error, stands on standard output.
var errDenied = errors.New("denied")

// report writes err to standard error, one line for each fault, and returns the exit code for it.
func (p *program) report(err error) int {
	if err == nil {
		return exitDone
	}
	if errors.Is(err, errDenied) {
		return exitFailed
	}
	for _, line := range faultLines(err) {
		_, _ = fmt.Fprintln(p.err, line)
	}
	var usage *usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// linePrefix begins every line but those of configuration faults, which begin with file:line:column.
const linePrefix = "tenantgate: "

// faultLines renders an error, joined ones each on a line of its own. A line never breaks, whatever the text holds.
func faultLines(err error) []string {
	if usage, ok := err.(*usageError); ok {
		return faultLines(usage.err)
	}
	if faults, ok := errors.AsType[*config.Error](err); ok {
		var lines []string
		for _, f := range faults.Faults {
			lines = append(lines, printable(f.String()))
		}
		return lines
	}
	if parts := joinedIn(err); len(parts) > 0 {
		var lines []string
		for _, e := range parts {
			lines = append(lines, faultLines(e)...)
		}
		return lines
	}
	// Commands call themselves by their whole path: tenantgate need not be said twice.
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), linePrefix), "tenantgate ")
	return []string{linePrefix + unsecret(text) + advice(err)}
}

// unsecret is printable without what looks like a credential: a text repeats arguments, and one may have come into the
// wrong place, such as a URI behind --db-url-file.
func unsecret(text string) string { return printable(telemetry.NewRedactor().String(text)) }

// joinedIn takes apart what errors.Join put together, each part with what stands before them all. Other errors of several,
// and line breaks that are data, stay whole.
func joinedIn(err error) []error {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		joined, ok := inner.(interface{ Unwrap() []error })
		if !ok {
			continue
		}
		parts := slices.Clone(joined.Unwrap())
		before, last := strings.CutSuffix(err.Error(), inner.Error())
		if together := errors.Join(parts...); last && together != nil && inner.Error() == together.Error() {
			for i := range parts {
				parts[i] = fmt.Errorf("%s%w", before, parts[i])
			}
			return parts
		}
	}
	return nil
}

// advice says what to do about errors of the catalog that cannot know which command asked.
func advice(err error) string {
	switch {
	case errors.Is(err, catalog.ErrSchema) && !strings.Contains(err.Error(), "tenantgate migrate"):
		return "; run `tenantgate migrate`"
	case errors.Is(err, catalog.ErrUnavailable):
		return "; check that the database runs and that host_database.url or DB_* names it"
	}
	return ""
}
