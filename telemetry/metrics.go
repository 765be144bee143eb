package telemetry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Bounds of what one label may take. Beyond them a value counts as "other", so that no outside input and no odd
// upstream can make series without end.
const (
	maxCodes = 256 // pairs of denial code and status
	maxNames = 64  // kinds of loads, names of caches

	labelOther     = "other"
	labelForwarded = "forwarded" // code of a request that the upstream answered
)

// Metrics are the instruments of one process. Methods are safe for concurrent use and do not block.
type Metrics struct {
	requests metric.Int64Counter
	duration metric.Float64Histogram
	load     metric.Float64Histogram
	lookups  metric.Int64Counter
	cuts     metric.Int64Counter
	jobs     metric.Float64Histogram
	events   metric.Int64Counter
	inFlight atomic.Int64 // read when somebody looks: a request pays for two atomic adds

	codes     labels[codeStatus, []metric.AddOption]
	forwarded [600]atomic.Pointer[[]metric.AddOption]
	classes   [6][]metric.RecordOption
	loads     labels[loadResult, []metric.RecordOption]
	caches    labels[cacheResult, []metric.AddOption]
	jobTypes  labels[jobOutcome, []metric.RecordOption]
	outcomes  labels[string, []metric.AddOption]
}

type (
	codeStatus struct {
		code   string
		status int
	}
	loadResult struct {
		kind   string
		failed bool
	}
	cacheResult struct {
		name string
		hit  bool
	}
)

func newMetrics(meter metric.Meter) (*Metrics, error) {
	m := &Metrics{}
	slow := metric.WithExplicitBucketBoundaries(5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
	var errs [8]error
	m.requests, errs[0] = meter.Int64Counter("tenantgate.requests",
		metric.WithDescription("Requests answered, by denial code (forwarded: none) and status."))
	m.duration, errs[1] = meter.Float64Histogram("tenantgate.request.duration", metric.WithUnit("s"), slow,
		metric.WithDescription("Time from a request's head to the end of its answer, by class of status."))
	m.load, errs[2] = meter.Float64Histogram("tenantgate.load.duration", metric.WithUnit("s"), slow,
		metric.WithDescription("Time that a read of the host database or a provider took, by kind and result."))
	m.lookups, errs[3] = meter.Int64Counter("tenantgate.cache.lookups",
		metric.WithDescription("Questions put to a cache, by cache and result."))
	_, errs[4] = meter.Int64ObservableUpDownCounter("tenantgate.requests.in_flight",
		metric.WithDescription("Requests under way."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(m.inFlight.Load())
			return nil
		}))
	m.cuts, errs[5] = meter.Int64Counter("tenantgate.requests.cut",
		metric.WithDescription("Requests under way that were ended because they would not be let through any more, by code."))
	m.jobs, errs[6] = newJobs(meter)
	m.events, errs[7] = newStripeEvents(meter)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("make instruments: %w", err)
	}
	for i := range m.classes {
		class := labelOther
		if i > 0 {
			class = string(rune('0'+i)) + "xx"
		}
		m.classes[i] = []metric.RecordOption{attrs(attribute.String("class", class))}
	}
	m.codes.limit, m.loads.limit, m.caches.limit, m.jobTypes.limit = maxCodes, 2*maxNames, 2*maxNames, 6*maxNames
	m.outcomes.limit = maxNames
	return m, nil
}

func attrs(kv ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(kv...))
}

// Request counts one answered request. The code is the denial's, "" for a request that the upstream answered; codes
// must come from the program's own table.
func (m *Metrics) Request(code string, status int, d time.Duration) {
	ctx := context.Background()
	m.requests.Add(ctx, 1, m.requestLabels(code, status)...)
	m.duration.Record(ctx, d.Seconds(), m.classes[statusClass(status)]...)
}

func (m *Metrics) requestLabels(code string, status int) []metric.AddOption {
	if status < 100 || status >= len(m.forwarded) {
		status = 0
	}
	if code != "" {
		return m.codes.get(codeStatus{code, status}, codeStatus{labelOther, 0}, codeLabels)
	}
	slot := &m.forwarded[status]
	if opts := slot.Load(); opts != nil {
		return *opts
	}
	opts := codeLabels(codeStatus{labelForwarded, status})
	slot.Store(&opts)
	return opts
}

func codeLabels(k codeStatus) []metric.AddOption {
	status := labelOther
	if k.status != 0 {
		status = fmt.Sprint(k.status)
	}
	return []metric.AddOption{attrs(attribute.String("code", k.code), attribute.String("status", status))}
}

func statusClass(status int) int {
	if status < 100 || status > 599 {
		return 0
	}
	return status / 100
}

// Cut counts a request under way that was ended because it would not be let through any more. The code is the denial's.
func (m *Metrics) Cut(code string) {
	m.cuts.Add(context.Background(), 1, metric.WithAttributes(attribute.String("code", code)))
}

// Load records how long a read took and whether it failed; of err nothing else is looked at.
func (m *Metrics) Load(kind string, d time.Duration, err error) {
	opts := m.loads.get(loadResult{kind, err != nil}, loadResult{labelOther, err != nil}, func(k loadResult) []metric.RecordOption {
		result := "ok"
		if k.failed {
			result = "error"
		}
		return []metric.RecordOption{attrs(attribute.String("kind", k.kind), attribute.String("result", result))}
	})
	m.load.Record(context.Background(), d.Seconds(), opts...)
}

// CacheHit counts an answer that the named cache gave from memory.
func (m *Metrics) CacheHit(cache string) { m.lookup(cacheResult{cache, true}) }

// CacheMiss counts a question that the named cache could not answer from memory.
func (m *Metrics) CacheMiss(cache string) { m.lookup(cacheResult{cache, false}) }

func (m *Metrics) lookup(k cacheResult) {
	opts := m.caches.get(k, cacheResult{labelOther, k.hit}, func(k cacheResult) []metric.AddOption {
		result := "miss"
		if k.hit {
			result = "hit"
		}
		return []metric.AddOption{attrs(attribute.String("cache", k.name), attribute.String("result", result))}
	})
	m.lookups.Add(context.Background(), 1, opts...)
}

// InFlight adds delta (1 or -1) to the requests under way.
func (m *Metrics) InFlight(delta int64) { m.inFlight.Add(delta) }

// labels remembers the precomputed labels of each key, up to a limit. Reads take no lock.
type labels[K comparable, V any] struct {
	limit int
	known atomic.Pointer[map[K]V]
	mu    sync.Mutex
}

// get returns key's labels. Where the limit is reached a new key gets those of other.
func (l *labels[K, V]) get(key, other K, create func(K) V) V {
	if known := l.known.Load(); known != nil {
		if v, ok := (*known)[key]; ok {
			return v
		}
		if len(*known) >= l.limit {
			if v, ok := (*known)[other]; ok {
				return v
			}
		}
	}
	return l.learn(key, other, create)
}

func (l *labels[K, V]) learn(key, other K, create func(K) V) V {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := make(map[K]V)
	if known := l.known.Load(); known != nil {
		if v, ok := (*known)[key]; ok {
			return v
		}
		for k, v := range *known {
			next[k] = v
		}
	}
	if len(next) >= l.limit {
		key = other // one key more than the limit, or few where other has several forms
	}
	v, ok := next[key]
	if !ok {
		v = create(key)
		next[key] = v
	}
	l.known.Store(&next)
	return v
}
