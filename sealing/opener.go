package sealing

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/tenantgate/tenantgate/cache"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
)

// Config is what an Opener stands on. The zero value opens plain URIs alone.
type Config struct {
	// Keys are the master secrets.
	Keys seal.Keyset
	// Refs bounds what references may point at.
	Refs catalog.Refs
	// Lookup reads the environment. Nil: os.LookupEnv.
	Lookup func(name string) (string, bool)
	// Entries bounds how many references are remembered. 0: 100000.
	Entries int
	// Clock is the time. Nil: time.Now.
	Clock func() time.Time
	// Log hears of each tenant whose db_url is not usable, once in ten minutes; at most a hundred lines a minute.
	// Nil: nobody does.
	Log *slog.Logger
}

const (
	// referenceAge bounds how long what a reference points at is used, or a reference counts as broken, before it is read
	// again: a change is in force within 60 s with room to spare.
	referenceAge = 10 * time.Second
	// readWait bounds how long a request waits for a file.
	readWait = 500 * time.Millisecond

	defaultEntries = 100_000
)

// Opener opens what core_tenants.db_url holds. Make it with New; the caller closes it.
type Opener struct {
	keys       seal.Keyset
	references *references
	known      *cache.Cache[referenceKey, *resolution]
	trouble    *trouble
}

type referenceKey struct{ text string }

// resolution is what a reference pointed at when it was last read; immutable.
type resolution struct {
	uri catalog.DBURI
	err error
}

// New makes an Opener. Nothing is read yet.
func New(cfg Config) *Opener {
	if cfg.Lookup == nil {
		cfg.Lookup = os.LookupEnv
	}
	if cfg.Entries <= 0 {
		cfg.Entries = defaultEntries
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	return &Opener{
		keys: cfg.Keys,
		references: &references{
			refs: cfg.Refs, lookup: cfg.Lookup, readFile: readWithin, pending: make(map[string]*reading),
		},
		known:   cache.New[referenceKey, *resolution](cache.Config{Entries: cfg.Entries, TTL: referenceAge, LoadTimeout: 2 * readWait, Clock: cfg.Clock}),
		trouble: newTrouble(cfg.Log, cfg.Clock),
	}
}

// Close forgets all references and ends reads under way; Open of a reference fails from then on.
func (o *Opener) Close() {
	o.known.Close()
	o.references.close()
}

// ErrInterrupted: whether the db_url is usable was not found out, because ctx ended or the Opener was closed. It says
// nothing of the tenant.
var ErrInterrupted = errors.New("opening db_url was interrupted")

// Open returns the URI that a tenant's stored db_url stands for: itself if it is plain or absent, what is sealed in it,
// or what it refers to, at most ten seconds old. Whether a plain or sealed text is fit for a header is the caller's to
// judge. An error is ErrInterrupted or one that Reason knows, for this tenant alone. Only references may wait, half a
// second at most.
func (o *Opener) Open(ctx context.Context, tenant catalog.TenantID, stored catalog.DBURI) (uri catalog.DBURI, err error) {
	switch FormOf(stored) {
	case Sealed:
		uri, err = Unseal(o.keys, tenant, stored)
	case Reference:
		uri, err = o.refer(ctx, stored)
	default:
		return stored, nil
	}
	if err != nil && !errors.Is(err, ErrInterrupted) {
		o.trouble.tell(ctx, tenant, Reason(err))
	}
	return uri, err
}

func (o *Opener) refer(ctx context.Context, stored catalog.DBURI) (catalog.DBURI, error) {
	key := referenceKey{stored.Reveal()}
	if r, _, ok := o.known.Lookup(key); ok {
		return r.uri, r.err
	}
	r, _, err := o.known.Get(ctx, key, func(ctx context.Context) (*resolution, bool, error) {
		ctx, cancel := context.WithTimeout(ctx, readWait)
		defer cancel()
		uri, err := o.references.resolve(ctx, key.text)
		if errors.Is(err, ErrInterrupted) {
			return nil, false, err
		}
		return &resolution{uri: uri, err: err}, true, nil
	})
	switch {
	case errors.Is(err, cache.ErrLoadTimeout):
		return catalog.DBURI{}, ErrSlow
	case err != nil:
		return catalog.DBURI{}, ErrInterrupted
	}
	return r.uri, r.err
}

// trouble tells the log of tenants whose db_url is not usable, without flooding it.
type trouble struct {
	log   *slog.Logger
	clock func() time.Time

	mu     sync.Mutex
	told   *lru.Cache[catalog.TenantID, lastTold]
	minute time.Time
	lines  int
	left   int // lines left out since the last one
}

type lastTold struct {
	reason string
	at     time.Time
}

const (
	tellEvery    = 10 * time.Minute
	linesAMinute = 100
	toldTenants  = 4096
)

func newTrouble(log *slog.Logger, clock func() time.Time) *trouble {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	told, err := lru.New[catalog.TenantID, lastTold](toldTenants)
	if err != nil { // only a size below one is refused
		panic(err)
	}
	return &trouble{log: log, clock: clock, told: told}
}

func (t *trouble) tell(ctx context.Context, tenant catalog.TenantID, reason string) {
	if left, due := t.due(tenant, reason); due {
		t.log.WarnContext(ctx, "db_url of a tenant is not usable", "tenant", string(tenant), "reason", reason, "lines_left_out", left)
	}
}

// due reports whether a line is to be written, and how many were left out before it.
func (t *trouble) due(tenant catalog.TenantID, reason string) (left int, due bool) {
	now := t.clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.told.Get(tenant); ok && last.reason == reason && now.Sub(last.at) < tellEvery {
		return 0, false
	}
	if now.Sub(t.minute) >= time.Minute || now.Before(t.minute) {
		t.minute, t.lines = now, 0
	}
	if t.lines >= linesAMinute {
		t.left++
		return 0, false
	}
	t.lines++
	t.told.Add(tenant, lastTold{reason, now})
	left, t.left = t.left, 0
	return left, true
}
