package freshness

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/auth"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/internal/secret"
)

// answer is what a replica said to a request that began then.
type answer struct {
	began  time.Time
	status int
	body   string
	err    error
}

// watcher asks every replica the same, open-loop, and keeps the answers to what began since the last forget.
type watcher struct {
	mu      sync.Mutex
	answers [][]answer // by replica
	missed  int        // requests that were due while too many were under way

	cancel context.CancelFunc
	group  sync.WaitGroup
}

const maxUnderWay = 256

func (b *bed) watch(tb testing.TB, path string, header http.Header, every time.Duration) *watcher {
	ctx, cancel := context.WithCancel(tb.Context())
	w := &watcher{answers: make([][]answer, len(b.replicas)), cancel: cancel}
	for i, r := range b.replicas {
		w.group.Go(func() { w.ask(ctx, i, r, path, header, every) })
	}
	tb.Cleanup(w.close)
	return w
}

func (w *watcher) close() {
	w.cancel()
	w.group.Wait()
}

func (w *watcher) ask(ctx context.Context, i int, r *gatetest.World, path string, header http.Header, every time.Duration) {
	transport := r.Transport()
	transport.MaxIdleConnsPerHost = maxUnderWay
	defer transport.CloseIdleConnections()
	slots := make(chan struct{}, maxUnderWay)
	var requests sync.WaitGroup
	defer requests.Wait()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case slots <- struct{}{}:
		default:
			w.mu.Lock()
			w.missed++
			w.mu.Unlock()
			continue
		}
		requests.Go(func() {
			defer func() { <-slots }()
			a := fetch(ctx, transport, r.URL+path, header)
			if ctx.Err() != nil {
				return
			}
			w.mu.Lock()
			w.answers[i] = append(w.answers[i], a)
			w.mu.Unlock()
		})
	}
}

func fetch(ctx context.Context, transport http.RoundTripper, target string, header http.Header) answer {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return answer{err: err}
	}
	req.Header = header
	a := answer{began: time.Now()}
	res, err := transport.RoundTrip(req)
	if err != nil {
		a.err = err
		return a
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	a.status, a.body, a.err = res.StatusCode, string(body), err
	return a
}

// enough is how many answers to requests that began one after the other show that a replica has heard.
const enough = 4

// lag waits until every replica answers by what is true since the commit, and says how long after it the last request
// began that was answered by what was true before. Answers that are neither are an error.
func (w *watcher) lag(tb testing.TB, committed time.Time, before, since answerPart) time.Duration {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; {
		last, heard, fault := w.judge(committed, before, since)
		if fault != "" {
			tb.Fatal(fault)
		}
		if heard {
			return last
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%v after the commit some replica has not heard", patience)
		}
		select {
		case <-tb.Context().Done():
			tb.Fatal(tb.Context().Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (w *watcher) judge(committed time.Time, before, since answerPart) (last time.Duration, heard bool, fault string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	heard = true
	for i, all := range w.answers {
		lastOld, fresh := committed, 0
		for _, a := range all {
			after := a.began.After(committed)
			switch {
			case a.err != nil:
				return 0, false, fmt.Sprintf("replica %d: %v", i, a.err)
			case after && before.fits(a.status, a.body):
				if a.began.After(lastOld) {
					lastOld = a.began
				}
			case !since.fits(a.status, a.body) && !before.fits(a.status, a.body):
				return 0, false, fmt.Sprintf("replica %d answered neither the old nor the new: %d %.200s", i, a.status, a.body)
			}
		}
		for _, a := range all {
			if a.began.After(lastOld) && since.fits(a.status, a.body) {
				fresh++
			}
		}
		last = max(last, lastOld.Sub(committed))
		heard = heard && fresh >= enough
	}
	return last, heard, ""
}

// settled waits until every replica answers like that, enough times.
func (w *watcher) settled(tb testing.TB, like answerPart) {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; {
		w.mu.Lock()
		ok := true
		for _, all := range w.answers {
			n := 0
			for _, a := range slices.Backward(all) {
				if a.err != nil || !like.fits(a.status, a.body) {
					break
				}
				n++
			}
			ok = ok && n >= enough
		}
		w.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			w.mu.Lock()
			defer w.mu.Unlock()
			tb.Fatalf("some replica never answered %v: last %v", like, w.answers[0][max(len(w.answers[0])-1, 0):])
		}
		select {
		case <-tb.Context().Done():
			tb.Fatal(tb.Context().Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (w *watcher) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.answers {
		w.answers[i] = w.answers[i][:0]
	}
}

// credentials are person 1's, by session or API token.
func (b *bed) credentials(tb testing.TB, k *kind, token string) http.Header {
	if k.token {
		return http.Header{"Authorization": {"Bearer " + token}}
	}
	return http.Header{"Cookie": {b.cookies[1]}}
}

// token makes an API token of person 1.
func (b *bed) token(tb testing.TB) string {
	tb.Helper()
	host, err := catalog.Open(tb.Context(), b.hostURL)
	if err != nil {
		tb.Fatal(err)
	}
	defer host.Close()
	secrets, err := seal.ParseKeyset(secret.New(gatetest.MasterSecret))
	if err != nil {
		tb.Fatal(err)
	}
	maker, err := auth.NewTokenMaker(tb.Context(), host, secrets)
	if err != nil {
		tb.Fatal(err)
	}
	var text secret.Text
	if err := host.InTx(tb.Context(), func(tx *catalog.Tx) (err error) {
		_, text, err = maker.Make(tb.Context(), tx, auth.TokenSpec{User: "u1"})
		return err
	}); err != nil {
		tb.Fatal(err)
	}
	return text.Reveal()
}

// change makes a state and returns when its commit had returned.
func (b *bed) change(tb testing.TB, db *sql.DB, statements []string) time.Time {
	tb.Helper()
	b.exec(tb, db, strings.Join(statements, "; "))
	return time.Now()
}

// never reports an answer that should not have been given.
func (w *watcher) never(part answerPart) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, all := range w.answers {
		for _, a := range all {
			if part.fits(a.status, a.body) {
				return fmt.Sprintf("replica %d answered by what was not committed: %d %.200s", i, a.status, a.body)
			}
		}
	}
	return ""
}
