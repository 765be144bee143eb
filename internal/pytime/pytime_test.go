package pytime

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// testdata/fromisoformat.json holds texts and what Python 3.11's datetime.fromisoformat itself made of them:
// microseconds since 1970-01-01T00:00:00 UTC (naive read as UTC), or null where it raised.
func pythonSays(t testing.TB) map[string]*int64 {
	t.Helper()
	raw, err := os.ReadFile("testdata/fromisoformat.json")
	if err != nil {
		t.Fatal(err)
	}
	var pairs [][2]json.RawMessage
	if err := json.Unmarshal(raw, &pairs); err != nil {
		t.Fatal(err)
	}
	answers := make(map[string]*int64, len(pairs))
	for _, p := range pairs {
		var s string
		var micros *int64
		if err := json.Unmarshal(p[0], &s); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(p[1], &micros); err != nil {
			t.Fatal(err)
		}
		answers[s] = micros
	}
	return answers
}

// stricter are texts that Python reads by an oversight in its parser (it does not look at what stands between a
// time and the zone, nor behind a NUL). They are refused.
var stricter = map[string]bool{"2026-06-01T00:00:00 Z": true, "2026-06-01T00:00:00\x00": true}

func TestReadsWhatPythonReads(t *testing.T) {
	answers := pythonSays(t)
	if len(answers) < 100 {
		t.Fatalf("only %d texts", len(answers))
	}
	for s, want := range answers {
		got, err := Parse(s)
		switch {
		case stricter[s]:
			if err == nil {
				t.Errorf("%q: read as %v", s, got)
			}
		case want == nil && err == nil:
			t.Errorf("%q: read as %v, Python raises", s, got)
		case want != nil && err != nil:
			t.Errorf("%q: %v, Python reads it", s, err)
		case want != nil && got.UnixMicro() != *want:
			t.Errorf("%q: %v, Python says %v", s, got, time.UnixMicro(*want).UTC())
		case err == nil && got.Location() != time.UTC:
			t.Errorf("%q: zone %v", s, got.Location())
		case err != nil && len(s) > 7 && strings.Contains(err.Error(), s):
			t.Errorf("the error repeats the text: %v", err)
		}
	}
}

func TestMaxIsPythonsLastMoment(t *testing.T) {
	last, err := Parse("9999-12-31T23:59:59.999999")
	if err != nil || !last.Equal(Max()) {
		t.Errorf("%v %v", last, err)
	}
}

// Whatever comes in: no panic, a year that Python knows but for the zone's shift, and one answer for one moment.
func FuzzParse(f *testing.F) {
	for s := range pythonSays(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Parse(s)
		if err != nil {
			if !got.IsZero() {
				t.Fatalf("%q: an error and %v", s, got)
			}
			return
		}
		if got.Year() < 0 || got.Year() > maxYear+1 || got.Nanosecond()%1000 != 0 {
			t.Fatalf("%q: %v", s, got)
		}
		if got.Year() < 1 || got.Year() > maxYear {
			return
		}
		again, err := Parse(got.Format("2006-01-02T15:04:05.000000"))
		if err != nil || !again.Equal(got) {
			t.Fatalf("%q: %v, then %v (%v)", s, got, again, err)
		}
	})
}
