package telemetry

import (
	"io"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"
)

// maxAccessField bounds each text of an access line, in bytes; what is longer is cut and ends in "…".
const maxAccessField = 2048

// Access is one request as its access line tells it. Path is the path alone: a query never comes here. Empty texts
// are left out of the line.
type Access struct {
	Time      time.Time // when the request came
	RequestID string
	Method    string
	Host      string
	Path      string
	Status    int
	Code      string // denial code, "" for a forwarded request
	BytesIn   int64  // of the request's body
	BytesOut  int64  // of the response's body
	Duration  time.Duration
	UserID    string
	TenantID  string
	Route     string
	Upstream  string
	RemoteIP  string
	TraceID   trace.TraceID
}

// AccessLog writes one JSON line a request, in the shape of slog's JSON lines, without their cost. Safe for concurrent
// use; each line is one Write. A line that cannot be written is lost: requests do not fail over it.
type AccessLog struct {
	out     io.Writer
	redact  *Redactor
	enabled bool
	buffers sync.Pool
}

func newAccessLog(out io.Writer, redact *Redactor, enabled bool) *AccessLog {
	return &AccessLog{out: out, redact: redact, enabled: enabled, buffers: sync.Pool{New: func() any {
		b := make([]byte, 0, 1024)
		return &b
	}}}
}

// Enabled reports whether lines are written: they are of level info.
func (l *AccessLog) Enabled() bool { return l.enabled }

// Write writes the line. What looks like a credential in the texts that a client chose is redacted, and whatever
// bytes they hold, they stay inside their JSON strings.
func (l *AccessLog) Write(a *Access) {
	if !l.enabled {
		return
	}
	buf := l.buffers.Get().(*[]byte)
	line := l.append((*buf)[:0], a)
	_, _ = l.out.Write(line)
	if cap(line) <= 16<<10 {
		*buf = line
		l.buffers.Put(buf)
	}
}

func (l *AccessLog) append(b []byte, a *Access) []byte {
	b = append(b, `{"time":"`...)
	b = appendTime(b, a.Time)
	b = append(b, `","level":"INFO","msg":"request"`...)
	b = appendText(b, `,"request_id":`, l.redact.String(a.RequestID))
	b = appendText(b, `,"method":`, l.redact.exact(a.Method))
	b = appendText(b, `,"host":`, l.redact.exact(a.Host))
	b = appendText(b, `,"path":`, l.redact.String(a.Path))
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(a.Status), 10)
	b = appendText(b, `,"code":`, a.Code)
	b = append(b, `,"bytes_in":`...)
	b = strconv.AppendInt(b, a.BytesIn, 10)
	b = append(b, `,"bytes_out":`...)
	b = strconv.AppendInt(b, a.BytesOut, 10)
	b = append(b, `,"duration_ms":`...)
	b = appendMillis(b, a.Duration)
	b = appendText(b, `,"user_id":`, a.UserID)
	b = appendText(b, `,"tenant_id":`, a.TenantID)
	b = appendText(b, `,"route":`, a.Route)
	b = appendText(b, `,"upstream":`, a.Upstream)
	b = appendText(b, `,"remote_ip":`, a.RemoteIP)
	if a.TraceID.IsValid() {
		b = append(b, `,"trace_id":"`...)
		b = appendHex(b, a.TraceID[:])
		b = append(b, '"')
	}
	return append(b, '}', '\n')
}

func appendText(b []byte, key, s string) []byte {
	if s == "" {
		return b
	}
	b = append(b, key...)
	b = append(b, '"')
	if len(s) <= maxAccessField {
		b = appendJSON(b, s)
	} else {
		b = appendJSON(b, s[:maxAccessField])
		b = append(b, "…"...)
	}
	return append(b, '"')
}

// appendTime writes RFC 3339 in UTC with microseconds.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return append(b, "0001-01-01T00:00:00.000000Z"...)
	}
	hour, minute, second := t.Clock()
	b = appendPadded(b, year, 4)
	b = appendPadded(append(b, '-'), int(month), 2)
	b = appendPadded(append(b, '-'), day, 2)
	b = appendPadded(append(b, 'T'), hour, 2)
	b = appendPadded(append(b, ':'), minute, 2)
	b = appendPadded(append(b, ':'), second, 2)
	b = appendPadded(append(b, '.'), t.Nanosecond()/1000, 6)
	return append(b, 'Z')
}

// appendMillis writes a duration in milliseconds with three decimals.
func appendMillis(b []byte, d time.Duration) []byte {
	micros := max(d, 0).Microseconds()
	b = strconv.AppendInt(b, micros/1000, 10)
	return appendPadded(append(b, '.'), int(micros%1000), 3)
}

func appendPadded(b []byte, n, width int) []byte {
	var digits [8]byte
	for i := width - 1; i >= 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
	return append(b, digits[:width]...)
}

// plain8 reports whether none of eight bytes needs an escape: each is ASCII, no control character, quote or backslash.
// It looks at them as one number: a borrow or carry out of a byte's seven bits shows in its eighth.
func plain8(s string) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	x := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	quote, backslash := x^(ones*'"'), x^(ones*'\\')
	return (x|(x+ones)|(x-ones*0x20)|(quote-ones)|(backslash-ones))&high == 0
}

// appendJSON appends s as the inside of a JSON string (RFC 8259 section 7). Control characters, DEL and the C1 range
// (a terminal obeys them) and the line separators U+2028 and U+2029 are escaped; invalid UTF-8 becomes U+FFFD.
func appendJSON(b []byte, s string) []byte {
	start := 0
	for i := 0; i < len(s); {
		for i+8 <= len(s) && plain8(s[i:i+8]) {
			i += 8
		}
		if i == len(s) {
			break
		}
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			if c == '"' || c == '\\' {
				b = append(b, '\\', c)
			} else {
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		invalid := r == utf8.RuneError && size == 1
		if !invalid && r >= 0xa0 && r != '\u2028' && r != '\u2029' {
			i += size
			continue
		}
		if invalid {
			r = utf8.RuneError
		}
		b = append(b, s[start:i]...)
		b = append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
		i += size
		start = i
	}
	return append(b, s[start:]...)
}
