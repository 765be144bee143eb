package auth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// fetchTimeout bounds one fetch of a provider's document, redirects and body included.
	fetchTimeout = 10 * time.Second
	// fetchGap is the least time between the beginnings of two fetches of one document, whoever asks (JWKS-1).
	fetchGap = time.Second
	// maxBackoff is the longest time between two fetches of which the first failed.
	maxBackoff = 30 * time.Second
	// refreshAfter is the age at which a document that is in use is fetched again, behind its users' backs.
	refreshAfter = time.Hour
	// keepFor is how old the last good answer may be when the provider does not answer any more.
	keepFor = 24 * time.Hour
)

// errLimited: what was asked for is not in the document that was fetched less than fetchGap ago.
var errLimited = errors.New("asked for too soon after the last fetch")

// remote is one document of a provider: fetched when first needed, by one fetch at a time however many ask, detached
// from their contexts; the last good answer is kept for keepFor while the provider is down.
type remote[T any] struct {
	name  string // for errors: "discovery document", "key set"
	fetch func(context.Context) (T, error)
	same  func(a, b T) bool // whether an answer is the one we have
	clock func() time.Time
	owner *owner

	// generation counts answers that differed; readable without the lock.
	generation atomic.Uint64

	mu      sync.Mutex
	good    *answer[T]
	flight  *attempt[T]
	began   time.Time // the last fetch
	fetched bool      // there was one
	failed  int       // how many failed in a row
	lastErr error
}

// answer is what a fetch brought.
type answer[T any] struct {
	value      T
	generation uint64
	began      time.Time // of its fetch: its age counts from here
}

// attempt is a fetch under way; got and err are written before done is closed.
type attempt[T any] struct {
	done chan struct{}
	got  *answer[T]
	err  error
}

// get returns the document, fetching it if there is none. Errors wrap ErrProviderUnavailable, or are ctx's.
func (r *remote[T]) get(ctx context.Context) (*answer[T], error) {
	r.mu.Lock()
	now := r.clock()
	good := r.usable(now)
	if good != nil {
		if age := now.Sub(good.began); (age >= refreshAfter || age < 0) && r.flight == nil && r.mayFetch(now) {
			r.start(now)
		}
		r.mu.Unlock()
		return good, nil
	}
	if r.flight == nil && !r.mayFetch(now) {
		err := r.lastErr
		r.mu.Unlock()
		return nil, fmt.Errorf("%w: %s: %w", ErrProviderUnavailable, r.name, err)
	}
	f := r.flight
	if f == nil {
		f = r.start(now)
	}
	r.mu.Unlock()
	return r.wait(ctx, f)
}

// newer returns an answer of a later generation than the caller has seen, fetching if the last fetch began long enough
// ago. errLimited: too soon, or what is there now is what was there before.
func (r *remote[T]) newer(ctx context.Context, seen uint64) (*answer[T], error) {
	r.mu.Lock()
	now := r.clock()
	if good := r.usable(now); good != nil && good.generation > seen {
		r.mu.Unlock()
		return good, nil
	}
	f := r.flight
	if f == nil {
		if !r.mayFetch(now) {
			failed, err := r.failed, r.lastErr
			r.mu.Unlock()
			if failed > 0 {
				return nil, fmt.Errorf("%w: %s: %w", ErrProviderUnavailable, r.name, err)
			}
			return nil, errLimited
		}
		f = r.start(now)
	}
	r.mu.Unlock()
	got, err := r.wait(ctx, f)
	if err != nil {
		return nil, err
	}
	if got.generation <= seen {
		return nil, errLimited
	}
	return got, nil
}

// usable is the last good answer unless it is too old.
func (r *remote[T]) usable(now time.Time) *answer[T] {
	if r.good == nil || now.Sub(r.good.began) >= keepFor {
		return nil
	}
	return r.good
}

func (r *remote[T]) mayFetch(now time.Time) bool {
	if !r.fetched {
		return true
	}
	gap := fetchGap
	if r.failed > 0 {
		gap = min(fetchGap<<min(r.failed-1, 5), maxBackoff)
	}
	since := now.Sub(r.began)
	return since >= gap || since < 0
}

// start begins a fetch. The caller holds the lock.
func (r *remote[T]) start(now time.Time) *attempt[T] {
	f := &attempt[T]{done: make(chan struct{})}
	r.flight, r.began, r.fetched = f, now, true
	ok := r.owner.run(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		value, err := r.fetchSafely(ctx)
		r.finish(f, now, value, err)
	})
	if !ok {
		r.flight = nil
		f.err = errors.New("closed")
		close(f.done)
	}
	return f
}

// fetchSafely turns a panic in a parser into an error: nobody must wait for ever, and no value is shown.
func (r *remote[T]) fetchSafely(ctx context.Context) (value T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panicked with a %T", p)
		}
	}()
	return r.fetch(ctx)
}

func (r *remote[T]) finish(f *attempt[T], began time.Time, value T, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flight = nil
	defer close(f.done)
	if err != nil {
		r.failed++
		r.lastErr, f.err = err, err
		return
	}
	generation := r.generation.Load()
	if r.good == nil || !r.same(r.good.value, value) {
		generation = r.generation.Add(1)
	}
	r.failed, r.lastErr = 0, nil
	r.good = &answer[T]{value: value, generation: generation, began: began}
	f.got = r.good
}

func (r *remote[T]) wait(ctx context.Context, f *attempt[T]) (*answer[T], error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for %s: %w", r.name, ctx.Err())
	}
	if f.err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrProviderUnavailable, r.name, f.err)
	}
	return f.got, nil
}

// state says when the last good answer began to be fetched and why the last fetch failed, if it did.
func (r *remote[T]) state() (time.Time, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.good == nil {
		return time.Time{}, r.lastErr
	}
	return r.good.began, r.lastErr
}
