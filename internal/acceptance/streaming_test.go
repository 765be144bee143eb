package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// await takes the next value of a channel, or fails the test.
func await[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v := <-ch:
		return v
	case <-timer.C:
		t.Fatalf("waited %s for %s", patience, what)
		panic("unreachable")
	}
}

func newRequest(t *testing.T, ctx context.Context, method, target string, header map[string]string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	return req
}

// open sends a request and hands over the answer with its body still coming in.
func open(t *testing.T, c *http.Client, req *http.Request) *http.Response {
	t.Helper()
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

// noLeak fails if a header of ours, in any spelling, has come from the app to the client.
func noLeak(t *testing.T, where string, h http.Header) {
	t.Helper()
	for name := range h {
		folded := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
		for _, p := range []string{"x-tenant-", "x-user-", "x-subscription-", "x-gate-"} {
			if strings.HasPrefix(folded, p) {
				t.Errorf("%s: %s reached the client", where, name)
			}
		}
	}
}

func TestWebSocketPassesBothWaysAndItsEndReachesTheApp(t *testing.T) {
	t.Parallel()
	w, app := streamWorld(t)
	browser := signedIn(t, w, "dan")
	dial := func(origin string) (*websocket.Conn, error) {
		cfg, err := websocket.NewConfig("ws"+strings.TrimPrefix(w.URL, "http")+"/ws", origin)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Header = http.Header{"Cookie": {cookies(t, browser, w.URL)}}
		conn, err := net.Dial("tcp", w.Addr)
		if err != nil {
			t.Fatal(err)
		}
		ws, err := websocket.NewClient(cfg, conn)
		if err != nil {
			_ = conn.Close()
		}
		return ws, err
	}
	ws, err := dial(w.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err := ws.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{"", "one", strings.Repeat("long ", 40_000), "two"} {
		want := said
		if said == "" {
			want = "hello id-dan in acme" // before anything was said
		} else if err := websocket.Message.Send(ws, said); err != nil {
			t.Fatal(err)
		}
		var got string
		if err := websocket.Message.Receive(ws, &got); err != nil || got != want {
			t.Fatalf("received %d bytes %.40q, %v; want %d bytes %.40q", len(got), got, err, len(want), want)
		}
	}
	if err := ws.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, app.gone, "the app to see the end of the WebSocket")

	if ws, err := dial("https://evil.example"); err == nil {
		_ = ws.Close()
		t.Error("a WebSocket of another site was let through") // WS-2
	}
}

func TestServerSentEventsArriveOneByOneAndADisconnectEndsTheAppsRequest(t *testing.T) {
	t.Parallel()
	w, app := streamWorld(t)
	c := client(t, w)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	res := open(t, c, newRequest(t, ctx, "GET", w.URL+"/events", bearer(t, w, "dan"), nil))
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s %v", res.Status, res.Header)
	}
	in := bufio.NewReader(res.Body)
	for _, e := range []string{"first", "second", "third"} {
		// The next event is not made before this one has arrived: nothing on the way can be waiting for more.
		app.events <- e
		line, err := in.ReadString('\n')
		if err != nil || line != "data: "+e+"\n" {
			t.Fatalf("received %q, %v; want %s", line, err, e)
		}
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	await(t, app.gone, "the app's request to end with the client's")

	// The same before the app has answered anything.
	ctx, cancel = context.WithCancel(t.Context())
	failed := make(chan error, 1)
	req := newRequest(t, ctx, "GET", w.URL+"/hang", bearer(t, w, "dan"), nil)
	go func() {
		res, err := c.Do(req)
		if err == nil {
			_ = res.Body.Close()
		}
		failed <- err
	}()
	await(t, app.chunks, "the request to arrive")
	cancel()
	await(t, app.gone, "the app's request to end with the client's")
	if err := await(t, failed, "the client's request to end"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestAnUploadReachesTheAppWhileItIsBeingSent(t *testing.T) {
	t.Parallel()
	w, app := streamWorld(t)
	c := client(t, w)
	body, sender := io.Pipe()
	sum := sha256.New()
	sent := make(chan error, 1)
	go func() {
		for i := range uploaded / megabyte {
			if _, err := io.MultiWriter(sender, sum).Write(block(i)); err != nil {
				sent <- err
				return
			}
			// No further megabyte before the app has read this one.
			select {
			case n := <-app.chunks:
				if n != megabyte {
					sent <- fmt.Errorf("the app read %d bytes of a megabyte", n)
					return
				}
			case <-t.Context().Done():
				sent <- t.Context().Err()
				return
			}
		}
		sent <- sender.Close()
	}()
	res := open(t, c, newRequest(t, t.Context(), "POST", w.URL+"/upload", bearer(t, w, "dan"), body))
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := await(t, sent, "the end of the upload"); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%x", sum.Sum(nil)); res.StatusCode != 200 || string(got) != want {
		t.Errorf("%s, the app's hash %s, want %s", res.Status, got, want)
	}
}

func TestAnAppMayAnswerBeforeItHasReadTheUpload(t *testing.T) {
	t.Parallel()
	w, _ := streamWorld(t)
	c, dan := client(t, w), bearer(t, w, "dan")
	t.Run("answer and upload take turns", func(t *testing.T) {
		body, sender := io.Pipe()
		defer sender.Close()
		answers := make(chan *http.Response, 1)
		req := newRequest(t, t.Context(), "POST", w.URL+"/progress", dan, body)
		go func() {
			defer close(answers)
			res, err := c.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			answers <- res
		}()
		if _, err := io.WriteString(sender, "one\n"); err != nil {
			t.Fatal(err)
		}
		res := await(t, answers, "the answer to an upload that has not ended")
		if res == nil {
			return
		}
		defer res.Body.Close()
		in := bufio.NewReader(res.Body)
		for _, next := range []string{"two", "three", ""} {
			if line, err := in.ReadString('\n'); err != nil || !strings.HasSuffix(line, " seen\n") {
				t.Fatalf("received %q, %v", line, err)
			}
			if next == "" {
				continue
			}
			if _, err := io.WriteString(sender, next+"\n"); err != nil {
				t.Fatal(err)
			}
		}
		if err := sender.Close(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
			t.Errorf("%q %v", rest, err)
		}
	})
	t.Run("unread uploads neither cut the answer nor break the connection", func(t *testing.T) {
		small, large := bytes.Repeat([]byte("x"), 5), bytes.Repeat([]byte("x"), 100<<10)
		for i := range 60 {
			for path, status := range map[string]int{"/echo": 200, "/dead/x": 502} {
				for _, body := range [][]byte{small, large} {
					res, text, err := do(c, "POST", w.URL+path, dan, bytes.NewReader(body))
					if err != nil || res.StatusCode != status {
						t.Fatalf("request %d with %d bytes to %s: %v %v %s", i, len(body), path, err, res, text)
					}
				}
			}
		}
	})
}

func TestADownloadReachesTheClientWhileItIsBeingMade(t *testing.T) {
	t.Parallel()
	w, app := streamWorld(t)
	res := open(t, client(t, w), newRequest(t, t.Context(), "GET", w.URL+"/download", bearer(t, w, "dan"), nil))
	sum := sha256.New()
	readHalf(t, res.Body, sum)
	app.proceed <- struct{}{} // the second half is made only now
	readHalf(t, res.Body, sum)
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
		t.Errorf("%d bytes too many, %v", len(rest), err)
	}
	if want := fmt.Sprintf("%x", sum.Sum(nil)); res.Trailer.Get("X-Sum") != want {
		t.Errorf("the app's hash %q, want %s", res.Trailer.Get("X-Sum"), want)
	}
	if res.Header.Get("Cache-Control") != "private" {
		t.Errorf("Cache-Control %q, want private (CC-1)", res.Header.Get("Cache-Control"))
	}
}

func readHalf(t *testing.T, from io.Reader, sum hash.Hash) {
	t.Helper()
	if _, err := io.CopyN(sum, from, uploaded/2); err != nil {
		t.Fatal(err)
	}
}

func TestResponseTrailersPassWithoutOurNames(t *testing.T) {
	t.Parallel()
	w, _ := streamWorld(t)
	c := client(t, w)
	for path, want := range map[string][2]string{"/trailers": {"X-Sum", "42"}, "/rpc/call": {"Grpc-Status", "0"}} {
		res := open(t, c, newRequest(t, t.Context(), "POST", w.URL+path, with(bearer(t, w, "dan"), "Te", "trailers"), strings.NewReader("one\n")))
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != 200 || res.Trailer.Get(want[0]) != want[1] {
			t.Errorf("%s: %s, trailers %v, want %v", path, res.Status, res.Trailer, want)
		}
		noLeak(t, path+" headers", res.Header)
		noLeak(t, path+" trailers", res.Trailer)
	}
}

func TestABidirectionalStreamPassesOverHTTP2(t *testing.T) {
	t.Parallel()
	w, _ := streamWorld(t)
	front := httptest.NewUnstartedServer(w.Gate.Handler())
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(front.Close)
	body, sender := io.Pipe()
	req := newRequest(t, t.Context(), "POST", front.URL+"/rpc/stream", with(bearer(t, w, "dan"), "Te", "trailers", "Content-Type", "application/grpc"), body)
	req.Host = strings.TrimPrefix(w.URL, "http://")
	type opened struct {
		res *http.Response
		err error
	}
	answers := make(chan opened, 1)
	go func() {
		res, err := front.Client().Do(req)
		answers <- opened{res, err}
	}()
	a := await(t, answers, "the answer to a stream that has not ended") // its headers come before the first message
	if a.err != nil {
		t.Fatal(a.err)
	}
	defer a.res.Body.Close()
	if a.res.StatusCode != 200 || a.res.ProtoMajor != 2 || a.res.Header.Get("X-App-Te") != "trailers" {
		t.Fatalf("%s %s, te %q at the app", a.res.Proto, a.res.Status, a.res.Header.Get("X-App-Te"))
	}
	in := bufio.NewReader(a.res.Body)
	for _, said := range []string{"one", "two", "three"} {
		if _, err := io.WriteString(sender, said+"\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := in.ReadString('\n'); err != nil || line != said+" for acme\n" {
			t.Fatalf("received %q, %v", line, err)
		}
	}
	if err := sender.Close(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
		t.Fatalf("%q %v", rest, err)
	}
	if a.res.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("trailers %v", a.res.Trailer)
	}
	noLeak(t, "trailers", a.res.Trailer)
}

func TestRequestTrailersAreDropped(t *testing.T) { // TRL-1
	t.Parallel()
	w, app := streamWorld(t)
	req := newRequest(t, t.Context(), "POST", w.URL+"/body-trailers", bearer(t, w, "dan"), io.MultiReader(strings.NewReader("body")))
	req.Trailer = http.Header{"X-Sum": {"42"}, "X-Tenant-Id": {"globex"}}
	if res := open(t, client(t, w), req); res.StatusCode != http.StatusNoContent {
		t.Fatal(res.Status)
	}
	if got := await(t, app.trailer, "the body to end"); len(got) > 0 {
		t.Errorf("the app received trailers %v", got)
	}
}

func TestInformationalResponsesPassWithoutOurNames(t *testing.T) {
	t.Parallel()
	w, _ := streamWorld(t)
	var mu sync.Mutex
	var hints []http.Header
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
			mu.Lock()
			defer mu.Unlock()
			if status == http.StatusEarlyHints {
				hints = append(hints, http.Header(h))
			}
			return nil
		},
	})
	res := open(t, client(t, w), newRequest(t, ctx, "GET", w.URL+"/hints", bearer(t, w, "dan"), nil))
	mu.Lock()
	defer mu.Unlock()
	if res.StatusCode != http.StatusNoContent || len(hints) != 1 || hints[0].Get("Link") != "</style.css>; rel=preload" {
		t.Fatalf("%s after early hints %v", res.Status, hints)
	}
	noLeak(t, "103", hints[0])
	noLeak(t, "204", res.Header)
}

// watched reports whether it was read.
type watched struct {
	io.Reader
	read chan struct{}
}

func (w watched) Read(p []byte) (int, error) {
	select {
	case w.read <- struct{}{}:
	default:
	}
	return w.Reader.Read(p)
}

func TestExpectContinueHoldsTheBodyBackUntilTheAppWantsIt(t *testing.T) {
	t.Parallel()
	w, app := streamWorld(t)
	transport := w.Transport()
	transport.ExpectContinueTimeout = 2 * patience // never sent unasked
	c := &http.Client{Transport: transport, Timeout: patience}
	t.Cleanup(c.CloseIdleConnections)
	for _, a := range []struct {
		name   string
		header map[string]string
		status int
	}{{"let through", bearer(t, w, "dan"), 200}, {"denied", nil, 401}} {
		body := watched{bytes.NewReader(block(7)), make(chan struct{}, 1)}
		req := newRequest(t, t.Context(), "POST", w.URL+"/upload", with(a.header, "Expect", "100-continue"), body)
		req.ContentLength = megabyte
		res := open(t, c, req)
		got, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != a.status {
			t.Fatalf("%s: %s %s %v", a.name, res.Status, got, err)
		}
		if a.status == 200 {
			if want := fmt.Sprintf("%x", sha256.Sum256(block(7))); string(got) != want {
				t.Errorf("%s: the app's hash %s, want %s", a.name, got, want)
			}
			for range 2 { // a whole megabyte, and the end
				await(t, app.chunks, "the app's count")
			}
		} else if len(body.read) > 0 {
			t.Errorf("%s: the body was asked for", a.name)
		}
	}
}

func TestEveryKindOfUpstreamAnswersOrIsToldApart(t *testing.T) {
	t.Parallel()
	w, app := streamWorld(t)
	c := client(t, w)
	dan := bearer(t, w, "dan")
	t.Run("HEAD", func(t *testing.T) {
		res, body := fetch(t, c, "HEAD", w.URL+"/length", dan)
		if res.StatusCode != 200 || res.ContentLength != 12345 || body != "" || res.Header.Get("X-App-Method") != "HEAD" {
			t.Errorf("%s, length %d, body %q, method at the app %s", res.Status, res.ContentLength, body, res.Header.Get("X-App-Method"))
		}
	})
	t.Run("unix socket", func(t *testing.T) {
		if res, body := fetch(t, c, "GET", w.URL+"/socket/x", dan); res.StatusCode != 200 || !strings.Contains(body, `"X-Tenant-Id":["acme"]`) {
			t.Errorf("%s %s", res.Status, body)
		}
	})
	t.Run("one of several is dead", func(t *testing.T) {
		for i := range 6 {
			if res, body := fetch(t, c, "GET", w.URL+"/several/x", dan); res.StatusCode != 200 {
				t.Errorf("request %d: %s %s", i, res.Status, body)
			}
			// Nothing was sent to an address that cannot be connected to, so a body is no reason to give up.
			if res, body, err := do(c, "POST", w.URL+"/several/x", dan, strings.NewReader("body")); err != nil || res.StatusCode != 200 {
				t.Errorf("request %d with a body: %v %s %v", i, res, body, err)
			}
		}
	})
	t.Run("all are dead", func(t *testing.T) {
		res, body := fetch(t, c, "GET", w.URL+"/dead/x", dan)
		if res.StatusCode != 502 || codeOf(body) != "upstream_unavailable" || strings.Contains(body, "127.0.0.1") {
			t.Errorf("%s %s", res.Status, body)
		}
	})
	t.Run("timeout", func(t *testing.T) {
		res, body := fetch(t, c, "GET", w.URL+"/slow/x", dan)
		if res.StatusCode != 504 || codeOf(body) != "upstream_timeout" {
			t.Errorf("%s %s", res.Status, body)
		}
		await(t, app.gone, "the app's request to be cancelled")
	})
}
