package acceptance

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
)

// movedClock is the time, moved on by the test.
type movedClock struct{ by atomic.Int64 }

func (c *movedClock) now() time.Time { return time.Now().Add(time.Duration(c.by.Load())) }

func (c *movedClock) move(d time.Duration) { c.by.Add(int64(d)) }

// cutWorld is a gate whose open requests are to be cut, in both shapes.
func cutWorld(t *testing.T, middleware bool) (*gatetest.World, *streamApp, *movedClock) {
	t.Helper()
	dsn := sqliteURL(t)
	seed(t, dsn)
	app, clock := newStreamApp(), &movedClock{}
	mux := http.NewServeMux()
	mux.Handle("/", app.handler())
	mux.HandleFunc("/half", halfFrame)
	mux.HandleFunc("/endless", endless)
	mux.HandleFunc("/rpc", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc+proto")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	w := gatetest.New(t, gatetest.Options{
		HostURL: dsn, App: mux, People: people, Middleware: middleware, Clock: clock.now,
		Configure: func(cfg *config.Config) {
			cfg.Identity.Session.IdleTimeout, cfg.Identity.Session.AbsoluteTimeout = time.Hour, 10*time.Hour
		},
	})
	return w, app, clock
}

func inBothShapes(t *testing.T, f func(*testing.T, bool)) {
	for name, middleware := range map[string]bool{"proxy": false, "middleware": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, middleware)
		})
	}
}

// halfFrame begins a frame of a megabyte and never ends it.
func halfFrame(w http.ResponseWriter, r *http.Request) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	_, _ = rw.Write(append([]byte{0x82, 127, 0, 0, 0, 0, 0, 16, 0, 0}, make([]byte, 1000)...))
	_ = rw.Flush()
	_, _ = io.Copy(io.Discard, conn)
}

// endless sends more than any buffer between here and the client holds.
func endless(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := w.Write(make([]byte, megabyte)); err != nil {
			return
		}
	}
}

// rawWebSocket is a client's end of a WebSocket, read by the byte.
type rawWebSocket struct {
	net.Conn
	in *bufio.Reader
}

func dialRaw(t *testing.T, w *gatetest.World, path, cookie string) *rawWebSocket {
	t.Helper()
	conn, err := net.Dial("tcp", w.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: %s\r\n\r\n",
		path, strings.TrimPrefix(w.URL, "http://"), w.URL, cookie)
	if err != nil {
		t.Fatal(err)
	}
	s := &rawWebSocket{conn, bufio.NewReader(conn)}
	res, err := http.ReadResponse(s.in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %v %v", res, err)
	}
	return s
}

// frame reads one short frame.
func (s *rawWebSocket) frame() (opcode byte, payload []byte, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(s.in, head); err != nil {
		return 0, nil, err
	}
	if head[1] > 125 {
		return 0, nil, errors.New("a frame longer than any that is expected")
	}
	payload = make([]byte, head[1])
	_, err = io.ReadFull(s.in, payload)
	return head[0] & 0x0f, payload, err
}

// say sends a masked text frame (RFC 6455 5.3).
func (s *rawWebSocket) say(text string) error {
	_, err := s.Write(append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...))
	return err
}

// closes reads until the close frame and holds it against 1008 and the reason.
func (s *rawWebSocket) closes(t *testing.T, reason string) {
	t.Helper()
	for {
		opcode, payload, err := s.frame()
		if err != nil {
			t.Fatalf("before a close frame: %v", err)
		}
		if opcode != 8 {
			continue
		}
		if len(payload) < 2 || binary.BigEndian.Uint16(payload) != 1008 || string(payload[2:]) != reason {
			t.Errorf("closed with %q, want 1008 %s", payload, reason)
		}
		if _, err := s.in.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("after the close frame: %v, want the connection's end", err)
		}
		return
	}
}

// The clock alone ends a session: each kind of answer under way ends as the contract, section 7, says.
func TestWhatIsOpenEndsWithItsSession(t *testing.T) {
	inBothShapes(t, func(t *testing.T, middleware bool) {
		w, app, clock := cutWorld(t, middleware)
		browser := signedIn(t, w, "dan")
		cookie := cookies(t, browser, w.URL)
		ws := dialRaw(t, w, "/ws", cookie)
		if _, hello, err := ws.frame(); err != nil || string(hello) != "hello id-dan in acme" {
			t.Fatalf("%q %v", hello, err)
		}
		half := dialRaw(t, w, "/half", cookie)
		if _, err := io.ReadFull(half.in, make([]byte, 1010)); err != nil {
			t.Fatal(err)
		}
		events := open(t, browser, newRequest(t, t.Context(), "GET", w.URL+"/events", nil, nil))
		app.events <- "one"
		rpc := open(t, browser, newRequest(t, t.Context(), "POST", w.URL+"/rpc", map[string]string{"Sec-Fetch-Site": "same-origin"}, nil))
		download := open(t, browser, newRequest(t, t.Context(), "GET", w.URL+"/download", nil, nil))
		slow := open(t, browser, newRequest(t, t.Context(), "GET", w.URL+"/endless", nil, nil))
		public := make(chan *http.Response, 1)
		go func() {
			res, err := browser.Do(newRequest(t, t.Context(), "GET", w.URL+"/hang", nil, nil))
			if err != nil {
				t.Error(err)
			}
			public <- res
		}()
		await(t, app.chunks, "the request that gets no answer")

		clock.move(11 * time.Hour)
		ws.closes(t, "session_expired")
		if rest, err := io.ReadAll(half.in); err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") || len(rest) > 0 {
			t.Errorf("a frame under way: %d more bytes, %v", len(rest), err)
		}
		if text, err := io.ReadAll(events.Body); err != nil || string(text) != "data: one\n\n" {
			t.Errorf("event stream: %q, %v; want its end", text, err)
		}
		if _, err := io.Copy(io.Discard, rpc.Body); err != nil || rpc.Trailer.Get("Grpc-Status") != "7" || rpc.Trailer.Get("Grpc-Message") != "session_expired" {
			t.Errorf("gRPC: %v, %v; want status 7", rpc.Trailer, err)
		}
		if n, err := io.Copy(io.Discard, download.Body); err == nil {
			t.Errorf("a download of %d bytes ended as if it were complete", n)
		}
		if n, err := io.Copy(io.Discard, slow.Body); err == nil {
			t.Errorf("a download that nobody read, of %d bytes, ended as if it were complete", n)
		}
		res := await(t, public, "the answer to a request that got none")
		if res == nil || res.StatusCode != http.StatusUnauthorized {
			t.Errorf("no answer yet: %v, want 401", res)
		}
		if res != nil {
			_ = res.Body.Close()
		}
		if err := ws.say("still here"); err == nil {
			_, _ = ws.in.ReadByte()
		}
		// Each of the app's own requests has ended: the WebSocket, the events, the hanging one.
		for range 3 {
			await(t, app.gone, "the app's requests to end")
		}
	})
}

// Bytes from the client are use; a look at what is open is none.
func TestAnOpenStreamIsInUseByWhatTheClientSends(t *testing.T) {
	inBothShapes(t, func(t *testing.T, middleware bool) {
		w, app, clock := cutWorld(t, middleware)
		browser := signedIn(t, w, "dan")
		ws := dialRaw(t, w, "/ws", cookies(t, browser, w.URL))
		if _, _, err := ws.frame(); err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			clock.move(40 * time.Minute)
			said := fmt.Sprintf("after %d", i)
			if err := ws.say(said); err != nil {
				t.Fatal(err)
			}
			if opcode, got, err := ws.frame(); err != nil || opcode == 8 || string(got) != said {
				t.Fatalf("in use: opcode %d %q %v", opcode, got, err)
			}
		}
		clock.move(61 * time.Minute)
		ws.closes(t, "session_expired")
		await(t, app.gone, "the app to see the end")
	})
}

// A request over HTTP/2 is cut without its connection: others on it go on.
func TestACutRequestOverHTTP2EndsAlone(t *testing.T) {
	t.Parallel()
	w, app, clock := cutWorld(t, false)
	front := httptest.NewUnstartedServer(w.Gate.Handler())
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(front.Close)
	ask := func(ctx context.Context, path string, header map[string]string) *http.Response {
		req := newRequest(t, ctx, "GET", front.URL+path, header, nil)
		req.Host = strings.TrimPrefix(w.URL, "http://")
		return open(t, front.Client(), req)
	}
	browser := signedIn(t, w, "dan")
	events := ask(t.Context(), "/events", map[string]string{"Cookie": cookies(t, browser, w.URL)})
	download := ask(t.Context(), "/download", map[string]string{"Cookie": cookies(t, browser, w.URL)})
	if events.ProtoMajor != 2 {
		t.Fatal(events.Proto)
	}
	clock.move(11 * time.Hour)
	if _, err := io.Copy(io.Discard, events.Body); err != nil {
		t.Errorf("event stream: %v, want its end", err)
	}
	if _, err := io.Copy(io.Discard, download.Body); err == nil {
		t.Error("a download ended as if it were complete")
	}
	await(t, app.gone, "the app's request to end")
	clock.move(-11 * time.Hour)
	if res := ask(t.Context(), "/other", map[string]string{"Cookie": cookies(t, browser, w.URL)}); res.StatusCode != 200 {
		t.Error(res.Status)
	}
}
