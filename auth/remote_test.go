package auth

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// document is a remote whose answers a test writes.
type document struct {
	*remote[string]
	owner   *owner
	fetches atomic.Int64
	answer  atomic.Pointer[func(context.Context) (string, error)]
}

func newDocument(t *testing.T) *document {
	d := &document{owner: newOwner()}
	t.Cleanup(d.owner.close)
	d.remote = &remote[string]{
		name: "document", owner: d.owner, clock: time.Now, same: func(a, b string) bool { return a == b },
		fetch: func(ctx context.Context) (string, error) {
			d.fetches.Add(1)
			return (*d.answer.Load())(ctx)
		},
	}
	d.says("one", nil)
	return d
}

func (d *document) does(f func(context.Context) (string, error)) { d.answer.Store(&f) }

func (d *document) says(s string, err error) {
	d.does(func(context.Context) (string, error) { return s, err })
}

func TestDocumentIsFetchedOnceHoweverManyAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDocument(t)
		d.does(func(context.Context) (string, error) {
			time.Sleep(time.Second)
			return "one", nil
		})
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				got, err := d.get(t.Context())
				if err != nil || got.value != "one" {
					t.Errorf("%v %v", got, err)
				}
			})
		}
		group.Wait()
		if n := d.fetches.Load(); n != 1 {
			t.Fatalf("%d fetches", n)
		}
		d.owner.close()
	})
}

func TestCallerThatGivesUpDoesNotEndTheFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDocument(t)
		d.does(func(ctx context.Context) (string, error) {
			select {
			case <-time.After(3 * time.Second):
				return "one", nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := d.get(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrProviderUnavailable) {
			t.Fatal(err)
		}
		if got, err := d.get(t.Context()); err != nil || got.value != "one" || d.fetches.Load() != 1 {
			t.Fatalf("%v %v, %d fetches", got, err, d.fetches.Load())
		}
		d.owner.close()
	})
}

func TestFailuresAreRetriedMoreAndMoreSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDocument(t)
		d.says("", errors.New("down"))
		for range 600 { // ten minutes
			if _, err := d.get(t.Context()); !errors.Is(err, ErrProviderUnavailable) {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n := d.fetches.Load(); n < 20 || n > 26 {
			t.Fatalf("%d fetches in ten minutes", n)
		}
		d.says("one", nil)
		time.Sleep(maxBackoff)
		if got, err := d.get(t.Context()); err != nil || got.value != "one" {
			t.Fatal(err)
		}
		d.owner.close()
	})
}

func TestLastGoodAnswerServesADayWhileTheProviderIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDocument(t)
		if _, err := d.get(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.says("", errors.New("down"))
		time.Sleep(keepFor - time.Minute)
		if got, err := d.get(t.Context()); err != nil || got.value != "one" {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := d.get(t.Context()); !errors.Is(err, ErrProviderUnavailable) {
			t.Fatal("served after a day")
		}
		d.owner.close()
	})
}

func TestOldAnswerIsRenewedBehindItsUsersBacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDocument(t)
		first, err := d.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		d.does(func(context.Context) (string, error) {
			time.Sleep(time.Second)
			return "two", nil
		})
		time.Sleep(refreshAfter)
		if got, err := d.get(t.Context()); err != nil || got.value != "one" {
			t.Fatalf("%v %v: nobody waits for a renewal", got, err)
		}
		time.Sleep(2 * time.Second)
		if got, err := d.get(t.Context()); err != nil || got.value != "two" || got.generation != first.generation+1 {
			t.Fatalf("%v %v", got, err)
		}
		d.owner.close()
	})
}

func TestWhatIsMissingIsLookedForOnceASecond(t *testing.T) { // JWKS-1
	synctest.Test(t, func(t *testing.T) {
		d := newDocument(t)
		first, err := d.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 1000 { // ten seconds
			if _, err := d.newer(t.Context(), first.generation); !errors.Is(err, errLimited) {
				t.Fatalf("%d: %v", i, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := d.fetches.Load(); n > 11 {
			t.Fatalf("%d fetches in ten seconds", n)
		}
		time.Sleep(time.Second)
		d.says("two", nil)
		if got, err := d.newer(t.Context(), first.generation); err != nil || got.value != "two" {
			t.Fatalf("%v %v", got, err)
		}
		fetches := d.fetches.Load()
		if got, err := d.newer(t.Context(), first.generation); err != nil || got.value != "two" || d.fetches.Load() != fetches {
			t.Fatalf("%v %v: what another one found counts", got, err)
		}
		d.says("", errors.New("down"))
		time.Sleep(time.Second)
		for range 2 {
			if _, err := d.newer(t.Context(), first.generation+1); !errors.Is(err, ErrProviderUnavailable) {
				t.Fatalf("down: %v", err)
			}
		}
		d.owner.close()
	})
}

func TestFetchThatPanicsOrOverrunsHangsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDocument(t)
		d.does(func(context.Context) (string, error) { panic("canary") })
		_, err := d.get(t.Context())
		if !errors.Is(err, ErrProviderUnavailable) || strings.Contains(err.Error(), "canary") {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		d.does(func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		})
		begun := time.Now()
		if _, err := d.get(t.Context()); !errors.Is(err, ErrProviderUnavailable) || time.Since(begun) != fetchTimeout {
			t.Fatalf("%v after %v", err, time.Since(begun))
		}
		d.owner.close()
	})
}

func TestCloseEndsFetchesAndStartsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDocument(t)
		d.does(func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		})
		done := make(chan error)
		go func() {
			_, err := d.get(context.Background())
			done <- err
		}()
		synctest.Wait()
		d.owner.close()
		if err := <-done; !errors.Is(err, ErrProviderUnavailable) {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := d.get(t.Context()); !errors.Is(err, ErrProviderUnavailable) || d.fetches.Load() != 1 {
			t.Fatalf("%v, %d fetches", err, d.fetches.Load())
		}
		d.owner.close()
	})
}
