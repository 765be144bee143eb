package telemetry

import (
	"io"
	"strings"
)

// Unquoted returns err with a text that stops where it begins to repeat what a peer sent: net/http's client quotes
// lines that are no HTTP, and an app or a provider that is broken, or wants to, can have anything in them. errors.Is and
// errors.As see all of err.
func Unquoted(err error) error {
	if err == nil {
		return nil
	}
	return unquoted{err}
}

type unquoted struct{ error }

func (u unquoted) Error() string { return unquotedText(u.error.Error()) }

func (u unquoted) Unwrap() error { return u.error }

// unquotedText ends s where a quotation begins. One message of net/textproto's quotes without quotation marks.
func unquotedText(s string) string {
	end := len(s)
	for _, mark := range []string{`"`, "malformed MIME header line: "} {
		if i := strings.Index(s, mark); i >= 0 {
			end = min(end, i+len(mark))
		}
	}
	if end == len(s) {
		return s
	}
	return strings.TrimRight(s[:end], `" `) + " " + Redacted
}

// UnquotedWriter is Unquoted for a log of lines that the standard library writes to out.
func UnquotedWriter(out io.Writer) io.Writer { return unquotedWriter{out} }

type unquotedWriter struct{ out io.Writer }

func (w unquotedWriter) Write(line []byte) (int, error) {
	text := strings.TrimSuffix(string(line), "\n")
	if _, err := io.WriteString(w.out, unquotedText(text)+"\n"); err != nil {
		return 0, err
	}
	return len(line), nil
}
