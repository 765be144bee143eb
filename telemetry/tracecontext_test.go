package telemetry

import (
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

const goodTraceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestParseTraceparentIsStrict(t *testing.T) {
	for _, c := range []struct {
		name, in string
		ok       bool
	}{
		{"the standard's own example", goodTraceparent, true},
		{"not sampled", goodTraceparent[:53] + "00", true},
		{"unknown flags", goodTraceparent[:53] + "ff", true},
		{"a later version", "cc" + goodTraceparent[2:], true},
		{"a later version with more behind it", "cc" + goodTraceparent[2:] + "-what-the-future-will-be-like", true},
		{"a later version with junk behind it", "cc" + goodTraceparent[2:] + ".what", false},
		{"version 00 with more behind it", goodTraceparent + "-00", false},
		{"version ff", "ff" + goodTraceparent[2:], false},
		{"empty", "", false},
		{"too short", goodTraceparent[:54], false},
		{"upper case trace id", strings.ToUpper(goodTraceparent), false},
		{"upper case flags", goodTraceparent[:53] + "0A", false},
		{"trace id of zeros", "00-00000000000000000000000000000000-b7ad6b7169203331-01", false},
		{"parent id of zeros", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false},
		{"no hex", "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01", false},
		{"bad version", "0x" + goodTraceparent[2:], false},
		{"wrong separators", strings.ReplaceAll(goodTraceparent, "-", "_"), false},
		{"leading space", " " + goodTraceparent[:54], false},
		{"two headers joined", goodTraceparent + "," + goodTraceparent, false},
	} {
		got, ok := ParseTraceparent(c.in)
		if ok != c.ok {
			t.Errorf("%s: %v, want %v", c.name, ok, c.ok)
		}
		if !ok && got != (TraceContext{}) {
			t.Errorf("%s: refused, but %+v", c.name, got)
		}
	}
}

func TestTraceparentRoundTrip(t *testing.T) {
	got, ok := ParseTraceparent(goodTraceparent)
	if !ok || got.Traceparent() != goodTraceparent || !got.Sampled {
		t.Errorf("%+v: %s", got, got.Traceparent())
	}
	// Flags that Level 1 does not define are set to zero when it is sent on.
	got, _ = ParseTraceparent(goodTraceparent[:53] + "fe")
	if got.Sampled || got.Traceparent() != goodTraceparent[:53]+"00" {
		t.Errorf("%s", got.Traceparent())
	}
	if back := FromSpan(got.Remote()); back != got || !got.Remote().IsRemote() {
		t.Errorf("through OpenTelemetry: %+v, want %+v", back, got)
	}
	got.Sampled = true
	if back := FromSpan(got.Remote()); !back.Sampled {
		t.Error("sampled is lost through OpenTelemetry")
	}
}

func TestNewTracesAreValidAndDiffer(t *testing.T) {
	seen := make(map[trace.TraceID]bool)
	for range 1000 {
		c := NewTraceContext()
		child := c.Child()
		if !c.Valid() || c.Sampled || seen[c.TraceID] || child.TraceID != c.TraceID || child.SpanID == c.SpanID || !child.Valid() {
			t.Fatalf("%+v, child %+v", c, child)
		}
		seen[c.TraceID] = true
	}
	if FromSpan(trace.SpanContext{}).Valid() {
		t.Error("no span is a valid trace")
	}
}

func FuzzParseTraceparent(f *testing.F) {
	f.Add(goodTraceparent)
	f.Add("cc" + goodTraceparent[2:] + "-x")
	f.Add("00-00000000000000000000000000000000-b7ad6b7169203331-01")
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := ParseTraceparent(s)
		if !ok {
			return
		}
		sent := c.Traceparent()
		if len(sent) != traceparentLen || sent[2:53] != s[2:53] {
			t.Fatalf("%q is sent on as %q", s, sent)
		}
		if again, ok := ParseTraceparent(sent); !ok || again != c {
			t.Fatalf("%q does not read back", sent)
		}
	})
}

func TestReadingAndWritingATraceparentAllocatesNothing(t *testing.T) {
	buf := make([]byte, 0, traceparentLen)
	allocs := testing.AllocsPerRun(1000, func() {
		c, ok := ParseTraceparent(goodTraceparent)
		if buf = c.AppendTraceparent(buf[:0]); !ok || len(buf) != traceparentLen {
			t.Error("wrong")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkTraceparent(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		c, _ := ParseTraceparent(goodTraceparent)
		_ = c.Child().Traceparent()
	}
}

func BenchmarkNewTraceContext(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_ = NewTraceContext()
	}
}
