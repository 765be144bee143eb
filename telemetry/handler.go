package telemetry

import (
	"bytes"
	"context"
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Bounds of one log record's parts; what is longer is cut after it was redacted.
const (
	maxLogText  = 16 << 10
	maxLogDepth = 16
)

// lineWriter serialises the log's lines, which come from slog and from the access log, one Write each.
type lineWriter struct {
	mu  sync.Mutex
	out io.Writer
}

func (w *lineWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(line)
}

// handler redacts every part of a record before the handler below sees it.
type handler struct {
	below  slog.Handler
	redact *Redactor
	clock  func() time.Time // nil: the record's own time
}

func newHandler(out io.Writer, format string, level slog.Level, redact *Redactor, clock func() time.Time) slog.Handler {
	opts := &slog.HandlerOptions{Level: level}
	last := &lastLook{out: out, redact: redact}
	var below slog.Handler
	if format == "text" {
		below = slog.NewTextHandler(last, opts)
	} else {
		below = slog.NewJSONHandler(last, opts)
	}
	return &handler{below: below, redact: redact, clock: clock}
}

// lastLook replaces registered secrets in finished lines of slog: one that was registered after an attribute was bound
// to a logger goes no further.
type lastLook struct {
	out    io.Writer
	redact *Redactor
}

func (l *lastLook) Write(line []byte) (int, error) {
	s := string(line)
	if clean := l.redact.finished(s); clean != s {
		_, err := io.WriteString(l.out, clean)
		return len(line), err
	}
	return l.out.Write(line)
}

func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.below.Enabled(ctx, level)
}

func (h *handler) Handle(ctx context.Context, rec slog.Record) error {
	at := rec.Time
	if h.clock != nil {
		at = h.clock()
	}
	clean := slog.NewRecord(at, rec.Level, cut(h.redact.String(rec.Message)), 0)
	rec.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(h.attr(a, 0))
		return true
	})
	return h.below.Handle(ctx, clean)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = h.attr(a, 0)
	}
	return &handler{below: h.below.WithAttrs(clean), redact: h.redact, clock: h.clock}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{below: h.below.WithGroup(h.redact.String(name)), redact: h.redact, clock: h.clock}
}

// attr is a without secrets. It never panics, whatever the value's methods do.
func (h *handler) attr(a slog.Attr, depth int) (clean slog.Attr) {
	key := cut(h.redact.String(a.Key))
	defer func() {
		if recover() != nil {
			clean = slog.String(key, "value panicked when it was logged")
		}
	}()
	if depth > maxLogDepth {
		return slog.String(key, "nested too deep")
	}
	v := unwrap(a.Value.Resolve())
	switch v.Kind() {
	case slog.KindGroup:
		members := slices.Clone(v.Group())
		for i := range members {
			if sensitiveKey(a.Key) {
				members[i].Key = a.Key + "." + members[i].Key // a sensitive group makes its members sensitive
			}
			members[i] = h.attr(members[i], depth+1)
		}
		return slog.Attr{Key: key, Value: slog.GroupValue(members...)}
	case slog.KindBool, slog.KindDuration, slog.KindTime:
		return slog.Attr{Key: key, Value: v}
	case slog.KindInt64, slog.KindUint64, slog.KindFloat64:
		return slog.Attr{Key: key, Value: h.number(a.Key, v)}
	case slog.KindString:
		return slog.String(key, h.text(a.Key, v.String()))
	default:
		return slog.Attr{Key: key, Value: h.any(a.Key, v.Any())}
	}
}

// unwrap turns an attribute that was given as a value into a group of one; slog would print it unresolved.
func unwrap(v slog.Value) slog.Value {
	if v.Kind() == slog.KindAny {
		if a, ok := v.Any().(slog.Attr); ok {
			return slog.GroupValue(a)
		}
	}
	return v
}

// number lets numbers through but those that a registered secret could be.
func (h *handler) number(key string, v slog.Value) slog.Value {
	if sensitiveKey(key) {
		return slog.StringValue(Redacted)
	}
	if known := h.redact.known.Load(); known != nil && known.numeric {
		if s := v.String(); h.redact.exact(s) != s {
			return slog.StringValue(Redacted)
		}
	}
	return v
}

func (h *handler) text(key, s string) string {
	if s != "" && sensitiveKey(key) {
		return Redacted
	}
	return cut(h.redact.String(s))
}

// any shows a value the way its own methods want it shown, never its unexported fields.
func (h *handler) any(key string, v any) slog.Value {
	switch t := v.(type) {
	case nil:
		return slog.AnyValue(nil)
	case error:
		return slog.StringValue(h.text(key, t.Error()))
	case fmt.Formatter:
		return slog.StringValue(h.text(key, fmt.Sprintf("%v", t)))
	case fmt.Stringer:
		return slog.StringValue(h.text(key, t.String()))
	case encoding.TextMarshaler:
		b, err := t.MarshalText()
		if err != nil {
			return slog.StringValue(h.text(key, err.Error()))
		}
		return slog.StringValue(h.text(key, string(b)))
	case []byte:
		return slog.StringValue(h.text(key, string(t)))
	}
	if sensitiveKey(key) {
		return slog.StringValue(Redacted)
	}
	return h.tree(v)
}

// tree shows a value as JSON would, each of its texts redacted.
func (h *handler) tree(v any) slog.Value {
	b, err := json.Marshal(v)
	if err != nil {
		return slog.StringValue(cut(h.redact.String(fmt.Sprintf("%T cannot be logged: %v", v, err))))
	}
	if len(b) > maxLogText {
		return slog.StringValue(fmt.Sprintf("%T too long to be logged", v))
	}
	var decoded any
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&decoded); err != nil {
		return slog.StringValue(fmt.Sprintf("%T cannot be logged", v))
	}
	return slog.AnyValue(h.walk("", decoded, 0))
}

func (h *handler) walk(key string, v any, depth int) any {
	if depth > maxLogDepth {
		return "nested too deep"
	}
	switch t := v.(type) {
	case string:
		return h.text(key, t)
	case json.Number:
		if clean := h.text(key, t.String()); clean != t.String() {
			return clean
		}
		return t
	case []any:
		for i := range t {
			t[i] = h.walk(key, t[i], depth+1)
		}
		return t
	case map[string]any:
		clean := make(map[string]any, len(t))
		for k, member := range t {
			inner := k
			if sensitiveKey(key) {
				inner = key
			}
			clean[cut(h.redact.String(k))] = h.walk(inner, member, depth+1)
		}
		return clean
	default:
		return v
	}
}

// cut bounds a text that is redacted already.
func cut(s string) string {
	if len(s) <= maxLogText {
		return s
	}
	return s[:maxLogText] + "…"
}
