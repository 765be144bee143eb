package telemetry

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Neither a client nor an odd upstream can make series without end (the class of CVE-2023-25151).
func TestLabelsAreBounded(t *testing.T) {
	tel, _ := start(t, Config{}, Options{})
	m := tel.Metrics
	for i := range 3000 {
		m.Request(fmt.Sprintf("code-%d", i), 400+i%100, time.Millisecond)
		m.Request("", i, time.Millisecond)
		m.Load(fmt.Sprintf("kind-%d", i), time.Millisecond, nil)
		m.Load(fmt.Sprintf("kind-%d", i), time.Millisecond, errors.New("x"))
		m.CacheHit(fmt.Sprintf("cache-%d", i))
		m.CacheMiss(fmt.Sprintf("cache-%d", i))
	}
	text := scrape(t, tel)
	for prefix, bound := range map[string]int{
		"tenantgate_requests_total{":               maxCodes + 1 + 501,
		"tenantgate_request_duration_seconds_sum{": 6,
		"tenantgate_load_duration_seconds_sum{":    2*maxNames + 2,
		"tenantgate_cache_lookups_total{":          2*maxNames + 2,
	} {
		if n := strings.Count(text, "\n"+prefix); n == 0 || n > bound {
			t.Errorf("%s: %d series, bound %d", prefix, n, bound)
		}
	}
	for _, want := range []string{`{code="other",status="other"}`, `{kind="other",result="error"}`, `{cache="other",result="hit"}`} {
		if !strings.Contains(text, want) {
			t.Errorf("what is beyond the bound is not counted as %s", want)
		}
	}
	if strings.Contains(text, `otel_metric_overflow`) {
		t.Error("the SDK's own limit is smaller than ours: series would be lost")
	}
}

func TestNoRequestIsLostInTheCounting(t *testing.T) {
	tel, _ := start(t, Config{}, Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				tel.Metrics.Request(fmt.Sprintf("code-%d", (i+j)%20), 403, time.Millisecond)
				tel.Metrics.Request("", 200, time.Millisecond)
			}
		})
	}
	wg.Wait()
	text := scrape(t, tel)
	if !strings.Contains(text, `tenantgate_requests_total{code="forwarded",status="200"} 4000`) {
		t.Error("forwarded requests")
	}
	for i := range 20 {
		if want := fmt.Sprintf(`tenantgate_requests_total{code="code-%d",status="403"} 200`, i); !strings.Contains(text, want) {
			t.Errorf("scrape lacks %s", want)
		}
	}
}

func TestMetricsOffServeNothingAndStillWork(t *testing.T) {
	tel, _ := start(t, Config{Metrics: "off"}, Options{})
	m := tel.Metrics
	m.Request("x", 403, 1)
	m.Request("", 200, 1)
	m.Load("x", 1, nil)
	m.CacheHit("x")
	m.CacheMiss("x")
	m.InFlight(1)
	if err := tel.Gauge("tenantgate.x", "X.", func() int64 { return 1 }); err != nil {
		t.Error(err)
	}
	rec := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusNotFound {
		t.Errorf("status %d", rec.Code)
	}
}

func TestTwoTelemetriesShareNothing(t *testing.T) {
	a, _ := start(t, Config{}, Options{})
	b, _ := start(t, Config{}, Options{})
	a.Metrics.Request("", 200, 1)
	a.Redact("swordfish")
	if strings.Contains(scrape(t, b), "tenantgate_requests_total{") {
		t.Error("a request of one is counted by the other")
	}
	if b.Redactor.String("swordfish") != "swordfish" {
		t.Error("a secret of one is known to the other")
	}
}

func TestAGaugeOfABadNameIsAnError(t *testing.T) {
	tel, _ := start(t, Config{}, Options{})
	if err := tel.Gauge("", "X.", func() int64 { return 1 }); err == nil {
		t.Error("no error")
	}
}

func TestTheHotPathOfMetricsAllocatesAtMostOnce(t *testing.T) {
	tel, _ := start(t, Config{}, Options{})
	m := tel.Metrics
	for name, f := range map[string]func(){
		"Request":   func() { m.Request("", 200, time.Millisecond) },
		"denial":    func() { m.Request("no_access", 403, time.Millisecond) },
		"Load":      func() { m.Load("grant", time.Millisecond, nil) },
		"CacheHit":  func() { m.CacheHit("grants") },
		"CacheMiss": func() { m.CacheMiss("grants") },
		"InFlight":  func() { m.InFlight(1) },
	} {
		if allocs := testing.AllocsPerRun(1000, f); allocs > 1 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

func BenchmarkMetrics(b *testing.B) {
	tel, _ := start(b, Config{}, Options{})
	m := tel.Metrics
	for name, f := range map[string]func(){
		"Request":  func() { m.Request("", 200, time.Millisecond) },
		"Denial":   func() { m.Request("no_access", 403, time.Millisecond) },
		"CacheHit": func() { m.CacheHit("grants") },
		"InFlight": func() { m.InFlight(1) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}
