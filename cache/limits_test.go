package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLoadsUnderWayAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New[string, int](Config{Entries: 100, TTL: time.Hour, LoadTimeout: time.Second, Loads: 2})
		defer c.Close()
		release := make(chan struct{})
		under, most := 0, 0
		var mu sync.Mutex
		load := func(context.Context) (int, bool, error) {
			mu.Lock()
			under++
			most = max(most, under)
			mu.Unlock()
			<-release
			mu.Lock()
			under--
			mu.Unlock()
			return 1, true, nil
		}
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() { mustGet(t, c, fmt.Sprint(i), load) })
		}
		wg.Go(func() { mustGet(t, c, "0", load) })
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		synctest.Wait()
		if _, _, err := c.Get(cancelled, "impatient", neverLoad(t)); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled caller without a slot: %v", err)
		}
		close(release)
		wg.Wait()
		if most != 2 {
			t.Errorf("%d loads at once, want 2", most)
		}
	})
}

func TestWhoFindsNoSlotInTimeIsToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New[string, int](Config{Entries: 100, TTL: time.Hour, LoadTimeout: time.Second, Loads: 1})
		defer c.Close()
		release := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			// It ends just after its time, which is soon enough for who waits for it.
			mustGet(t, c, "slow", func(context.Context) (int, bool, error) {
				<-release
				return 1, true, nil
			})
		})
		synctest.Wait()
		if _, _, err := c.Get(t.Context(), "other", neverLoad(t)); !errors.Is(err, ErrLoadTimeout) {
			t.Errorf("other: %v", err)
		}
		close(release)
		wg.Wait()
	})
}

func TestCloseEndsLoadsWaitsForThemAndRefusesMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New[string, int](Config{Entries: 8, TTL: time.Hour, LoadTimeout: time.Hour, Loads: 1})
		c.Put("kept", 1)
		ended := false
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _, err := c.Get(t.Context(), "k", func(ctx context.Context) (int, bool, error) {
				<-ctx.Done()
				ended = true
				return 0, false, ctx.Err()
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("load under way: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if _, _, err := c.Get(t.Context(), "waits for a slot", neverLoad(t)); !errors.Is(err, ErrClosed) {
				t.Errorf("waiting for a slot: %v", err)
			}
		})
		synctest.Wait()
		c.Close()
		if !ended {
			t.Error("Close did not wait for the load")
		}
		wg.Wait()
		c.Close()
		if _, _, err := c.Get(t.Context(), "k", neverLoad(t)); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if c.Len() != 0 {
			t.Errorf("%d entries after Close", c.Len())
		}
	})
}
