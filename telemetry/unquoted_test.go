package telemetry

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestErrorsDoNotRepeatWhatAPeerSent(t *testing.T) {
	for in, want := range map[string]string{
		`malformed HTTP status code "CANARY"`:         `malformed HTTP status code ***`,
		`malformed MIME header line: x CANARY`:        `malformed MIME header line: ***`,
		`x: malformed MIME header line: a "CANARY" b`: `x: malformed MIME header line: ***`,
		`GOAWAY; debug="CANARY`:                       `GOAWAY; debug= ***`,
		`dial tcp 127.0.0.1:1: connect: refused`:      `dial tcp 127.0.0.1:1: connect: refused`,
		``:                                            ``,
	} {
		err := Unquoted(fmt.Errorf("%s%w", in, errors.Join(io.EOF)))
		if got := Unquoted(errors.New(in)).Error(); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%q: the cause is lost", in)
		}
		var out strings.Builder
		if n, err := io.WriteString(UnquotedWriter(&out), in+"\n"); n != len(in)+1 || err != nil || out.String() != want+"\n" {
			t.Errorf("%q: wrote %q, %d, %v", in, out.String(), n, err)
		}
	}
	if Unquoted(nil) != nil {
		t.Error("an error came of none")
	}
}
