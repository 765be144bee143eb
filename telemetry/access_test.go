package telemetry

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
)

func sample() *Access {
	return &Access{
		Time: time.Date(2026, 11, 23, 7, 31, 0, 123456789, time.UTC), RequestID: "9f86d081884c7d65", Method: "GET",
		Host: "acme.app.example.com", Path: "/reports/2026/11/summary", Status: 200, BytesIn: 0, BytesOut: 51234,
		Duration: 12345678 * time.Nanosecond, UserID: "49874b645a544296b1aa6427682be48c", TenantID: "190c55ceac184d08a88b7b1b18c09c85",
		Route: "/reports/", Upstream: "app", RemoteIP: "203.0.113.7", TraceID: trace.TraceID{1, 2, 3, 15: 0xff},
	}
}

// oneLine writes a and decodes the line.
func oneLine(t testing.TB, a *Access) map[string]any {
	t.Helper()
	var out bytes.Buffer
	newAccessLog(&out, NewRedactor(), true).Write(a)
	if n := bytes.Count(out.Bytes(), []byte("\n")); n != 1 || out.Bytes()[out.Len()-1] != '\n' {
		t.Fatalf("%d lines: %q", n, out.String())
	}
	return lines(t, &out)[0]
}

func TestAccessLineHasEveryField(t *testing.T) {
	a := sample()
	a.Code = "no_access"
	got := oneLine(t, a)
	want := map[string]any{
		"time": "2026-11-23T07:31:00.123456Z", "level": "INFO", "msg": "request", "request_id": "9f86d081884c7d65", "method": "GET",
		"host": "acme.app.example.com", "path": "/reports/2026/11/summary", "status": 200.0, "code": "no_access", "bytes_in": 0.0,
		"bytes_out": 51234.0, "duration_ms": 12.345, "user_id": "49874b645a544296b1aa6427682be48c",
		"tenant_id": "190c55ceac184d08a88b7b1b18c09c85", "route": "/reports/", "upstream": "app", "remote_ip": "203.0.113.7",
		"trace_id": "010203000000000000000000000000ff",
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s: %v, want %v", key, got[key], value)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d fields, want %d: %v", len(got), len(want), got)
	}
}

func TestAccessLineLeavesOutWhatIsEmpty(t *testing.T) {
	got := oneLine(t, &Access{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)), Duration: -time.Second})
	if len(got) != 7 || got["time"] != "2026-01-02T02:04:05.000000Z" || got["duration_ms"] != 0.0 {
		t.Errorf("%v", got)
	}
	if got := oneLine(t, &Access{Time: time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)}); got["time"] != "0001-01-01T00:00:00.000000Z" {
		t.Errorf("a year that RFC 3339 cannot write: %v", got["time"])
	}
}

// LEAK-3: what a client writes into a request is not shown if it looks like a credential.
func TestAccessLineHidesSecrets(t *testing.T) {
	var out bytes.Buffer
	r := NewRedactor()
	r.Add("swordfish")
	l := newAccessLog(&out, r, true)
	for _, s := range []string{"swordfish", token, jwt, session, "postgres://u:" + canary + "@h/d"} {
		l.Write(&Access{Path: "/x/" + s, RequestID: s})
		if strings.HasPrefix(s, "sword") {
			l.Write(&Access{Host: s + ".example.com", Method: s})
		}
	}
	for _, leak := range []string{"swordfish", token[3:], jwt, session, canary} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%s came out: %s", leak, out.String())
		}
	}
	lines(t, &out)
}

func TestLongFieldsAreCut(t *testing.T) {
	got := oneLine(t, &Access{Path: "/" + strings.Repeat("ü", 10_000)})
	path, ok := got["path"].(string)
	if !ok || len(path) > maxAccessField+10 || !strings.HasSuffix(path, "…") {
		t.Errorf("path of %d bytes", len(path))
	}
}

func TestLinesOfManyRequestsDoNotMix(t *testing.T) {
	tel, out := start(t, Config{}, Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				a := sample()
				a.Path = "/" + strings.Repeat(string(rune('a'+i)), 50)
				tel.Access.Write(a)
				tel.Logger.Info("other line")
			}
		})
	}
	wg.Wait()
	all := lines(t, out)
	if len(all) != 3200 {
		t.Errorf("%d lines", len(all))
	}
	for _, line := range all {
		if path, ok := line["path"].(string); ok && strings.Count(path, path[1:2]) != 50 {
			t.Fatalf("mixed: %q", path)
		}
	}
}

// Whatever bytes a request holds, the line is one line of valid JSON that says the same as encoding/json would.
func FuzzAccessLine(f *testing.F) {
	for _, s := range []string{"", "/a", "\"\\\n\r\t\x00\x1b[31m\x7f", "\xff\xfe/\xc3\x28", "\u2028\u2029\u0085\u009b", "😀\xed\xa0\x80", "</script>&", "}\n{\"level\":\"ERROR\"", "\ufffd"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, path, host string) {
		got := oneLine(t, &Access{Path: path, Host: host, Status: 1})
		r := NewRedactor()
		for field, s := range map[string]string{"path": r.String(path), "host": host} {
			if s == "" || len(s) > maxAccessField {
				continue
			}
			encoded, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			var want string
			if err := json.Unmarshal(encoded, &want); err != nil {
				t.Fatal(err)
			}
			if got[field] != want {
				t.Fatalf("%s: %q, want %q", field, got[field], want)
			}
		}
		raw := appendJSON(nil, path+host)
		if i := bytes.IndexFunc(raw, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 }); i >= 0 {
			t.Fatalf("control character in %q", raw)
		}
	})
}

func TestEveryByteIsEscapedInEveryPlace(t *testing.T) {
	for c := range 256 {
		for at := range 16 {
			s := []byte("0123456789abcdef")
			s[at] = byte(c)
			plain := c >= 0x20 && c < 0x7f && c != '"' && c != '\\'
			if got := plain8(string(s[at/8*8:][:8])); got && !plain || !got && plain && at%8 == 7 {
				t.Fatalf("byte %#x at %d: plain %v", c, at, got)
			}
			if got := string(appendJSON(nil, string(s))); plain != (got == string(s)) {
				t.Fatalf("byte %#x at %d: %q", c, at, got)
			}
		}
	}
}

func TestAccessLineAllocatesNothing(t *testing.T) {
	l, a := newAccessLog(io.Discard, NewRedactor(), true), sample()
	if allocs := testing.AllocsPerRun(1000, func() { l.Write(a) }); allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkAccessLine(b *testing.B) {
	tel, err := New(Config{}, Options{Writer: io.Discard})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = tel.Close(b.Context()) }()
	for i := range 20 {
		tel.Redact(strings.Repeat(string(rune('A'+i)), 20))
	}
	a := sample()
	b.ReportAllocs()
	for b.Loop() {
		tel.Access.Write(a)
	}
}

// BenchmarkAccessLineBySlog is what the line would cost through slog's own JSON handler.
func BenchmarkAccessLineBySlog(b *testing.B) {
	tel, err := New(Config{}, Options{Writer: io.Discard})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = tel.Close(b.Context()) }()
	a := sample()
	b.ReportAllocs()
	for b.Loop() {
		tel.Logger.Info("request", "request_id", a.RequestID, "method", a.Method, "host", a.Host, "path", a.Path, "status", a.Status,
			"code", a.Code, "bytes_in", a.BytesIn, "bytes_out", a.BytesOut, "duration_ms", a.Duration.Milliseconds(), "user_id", a.UserID,
			"tenant_id", a.TenantID, "route", a.Route, "upstream", a.Upstream, "remote_ip", a.RemoteIP, "trace_id", a.TraceID.String())
	}
}
