package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start makes a Telemetry that writes to the returned buffer and ends with the test.
func start(t testing.TB, cfg Config, opts Options) (*Telemetry, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	opts.Writer = &out
	tel, err := New(cfg, opts)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() {
		if err := tel.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return tel, &out
}

// lines decodes every line of a JSON log.
func lines(t testing.TB, out *bytes.Buffer) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.SplitSeq(strings.TrimSuffix(out.String(), "\n"), "\n") {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("line %q is no JSON: %v", line, err)
		}
		all = append(all, m)
	}
	return all
}

func TestEveryFaultOfTheConfigIsReportedAtOnce(t *testing.T) {
	_, err := New(Config{Traces: "jaeger", Metrics: "statsd", Log: LogConfig{Level: "loud", Format: "xml"}}, Options{Writer: io.Discard})
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("error %v joins nothing", err)
	}
	var keys []string
	for _, e := range joined.Unwrap() {
		var key *KeyError
		if !errors.As(e, &key) {
			t.Fatalf("%v is no KeyError", e)
		}
		keys = append(keys, key.Key)
	}
	if got := strings.Join(keys, " "); got != "traces metrics log.level log.format" {
		t.Errorf("faults: %s", got)
	}
}

func TestLevelHoldsForLoggerAndAccessLog(t *testing.T) {
	for level, want := range map[string]int{"debug": 4, "": 3, "info": 3, "warn": 1, "error": 0} {
		tel, out := start(t, Config{Log: LogConfig{Level: level}}, Options{})
		tel.Logger.Debug("d")
		tel.Logger.Info("i")
		tel.Access.Write(&Access{Status: 200})
		tel.Logger.Warn("w")
		if got := strings.Count(out.String(), "\n"); got != want {
			t.Errorf("level %q: %d lines, want %d", level, got, want)
		}
	}
}

func TestTheClockDatesTheLog(t *testing.T) {
	at := time.Date(2026, 11, 23, 7, 31, 0, 0, time.UTC)
	tel, out := start(t, Config{}, Options{Clock: func() time.Time { return at }})
	tel.Logger.Info("hello")
	if got := lines(t, out)[0]["time"]; got != "2026-11-23T07:31:00Z" {
		t.Errorf("time %v", got)
	}
}

func scrape(t testing.TB, tel *Telemetry) string {
	t.Helper()
	rec := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("scrape: %d", rec.Code)
	}
	return rec.Body.String()
}

func TestMetricsReachPrometheusUnderTheirNames(t *testing.T) {
	tel, _ := start(t, Config{}, Options{})
	if err := tel.Gauge("tenantgate.db.connections", "Open connections.", func() int64 { return 7 }); err != nil {
		t.Fatal(err)
	}
	m := tel.Metrics
	m.Request("", 200, 3*time.Millisecond)
	m.Request("no_access", 403, time.Millisecond)
	m.Request("no_access", 403, time.Millisecond)
	m.Load("grant", time.Millisecond, nil)
	m.Load("grant", time.Millisecond, errors.New("gone"))
	m.CacheHit("grants")
	m.CacheMiss("grants")
	m.InFlight(2)
	m.InFlight(-1)
	text := scrape(t, tel)
	for _, want := range []string{
		`tenantgate_requests_total{code="forwarded",status="200"} 1`,
		`tenantgate_requests_total{code="no_access",status="403"} 2`,
		`tenantgate_request_duration_seconds_count{class="2xx"} 1`,
		`tenantgate_request_duration_seconds_count{class="4xx"} 2`,
		`tenantgate_load_duration_seconds_count{kind="grant",result="ok"} 1`,
		`tenantgate_load_duration_seconds_count{kind="grant",result="error"} 1`,
		`tenantgate_cache_lookups_total{cache="grants",result="hit"} 1`,
		`tenantgate_cache_lookups_total{cache="grants",result="miss"} 1`,
		`tenantgate_requests_in_flight 1`,
		`tenantgate_db_connections 7`,
		`go_goroutines `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("scrape lacks %s", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}
