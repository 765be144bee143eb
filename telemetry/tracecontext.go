package telemetry

import (
	"crypto/rand"

	"go.opentelemetry.io/otel/trace"
)

// traceparentLen is the length of a version 00 traceparent: 2+1+32+1+16+1+2 characters.
const traceparentLen = 55

// TraceContext is what a traceparent header says (W3C Trace Context, Level 1). The zero value is no trace.
type TraceContext struct {
	TraceID trace.TraceID
	SpanID  trace.SpanID // the parent-id: the span that sent, or will send, the header
	Sampled bool         // the one flag that Level 1 defines
}

// NewTraceContext starts a trace that is not sampled, with random ids.
func NewTraceContext() TraceContext {
	var t TraceContext
	for !t.Valid() {
		_, _ = rand.Read(t.TraceID[:]) // crypto/rand.Read never fails: it ends the program instead
		_, _ = rand.Read(t.SpanID[:])
	}
	return t
}

// Valid reports whether neither id is all zeros.
func (t TraceContext) Valid() bool { return t.TraceID.IsValid() && t.SpanID.IsValid() }

// Child is the same trace with a span id of its own.
func (t TraceContext) Child() TraceContext {
	t.SpanID = trace.SpanID{}
	for !t.SpanID.IsValid() {
		_, _ = rand.Read(t.SpanID[:])
	}
	return t
}

// FromSpan is the context of an OpenTelemetry span; invalid where tracing is off.
func FromSpan(sc trace.SpanContext) TraceContext {
	return TraceContext{TraceID: sc.TraceID(), SpanID: sc.SpanID(), Sampled: sc.IsSampled()}
}

// Remote is the context as the remote parent of a span.
func (t TraceContext) Remote() trace.SpanContext {
	cfg := trace.SpanContextConfig{TraceID: t.TraceID, SpanID: t.SpanID, Remote: true}
	if t.Sampled {
		cfg.TraceFlags = trace.FlagsSampled
	}
	return trace.NewSpanContext(cfg)
}

// ParseTraceparent reads a traceparent header (W3C Trace Context Level 1, section 3.2). It accepts version 00 of
// exactly 55 characters and, as the standard asks, later versions whose first 55 characters have that form and are
// followed by nothing or by "-". Upper case, version ff and all-zero ids are refused. Flags but sampled are dropped.
func ParseTraceparent(s string) (TraceContext, bool) {
	if len(s) < traceparentLen || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return TraceContext{}, false
	}
	var version, flags [1]byte
	if !unhex(version[:], s[:2]) || version[0] == 0xff {
		return TraceContext{}, false
	}
	if len(s) > traceparentLen && (version[0] == 0 || s[traceparentLen] != '-') {
		return TraceContext{}, false
	}
	var t TraceContext
	if !unhex(t.TraceID[:], s[3:35]) || !unhex(t.SpanID[:], s[36:52]) || !unhex(flags[:], s[53:55]) || !t.Valid() {
		return TraceContext{}, false
	}
	t.Sampled = flags[0]&1 == 1
	return t, true
}

// AppendTraceparent appends the header's value, version 00.
func (t TraceContext) AppendTraceparent(b []byte) []byte {
	b = append(b, "00-"...)
	b = appendHex(b, t.TraceID[:])
	b = append(b, '-')
	b = appendHex(b, t.SpanID[:])
	if t.Sampled {
		return append(b, "-01"...)
	}
	return append(b, "-00"...)
}

// Traceparent is the header's value.
func (t TraceContext) Traceparent() string {
	var buf [traceparentLen]byte
	return string(t.AppendTraceparent(buf[:0]))
}

const hexDigits = "0123456789abcdef"

func appendHex(b, src []byte) []byte {
	for _, c := range src {
		b = append(b, hexDigits[c>>4], hexDigits[c&15])
	}
	return b
}

// unhex reads exactly len(dst) pairs of lower-case hex digits.
func unhex(dst []byte, s string) bool {
	for i := range dst {
		hi, lo := nibble(s[2*i]), nibble(s[2*i+1])
		if hi > 15 || lo > 15 {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return true
}

func nibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	default:
		return 0xff
	}
}
