package acceptance

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/router"
)

// streamApp is an app whose every step the test sees: what it received goes out on channels, and it goes on when told.
type streamApp struct {
	events  chan string      // to be sent as server-sent events
	gone    chan struct{}    // a request's context ended
	chunks  chan int         // bytes read of an upload
	proceed chan struct{}    // go on with a download
	trailer chan http.Header // of a request, after its body
}

func newStreamApp() *streamApp {
	return &streamApp{
		events: make(chan string), gone: make(chan struct{}, 8), chunks: make(chan int, 1024), proceed: make(chan struct{}),
		trailer: make(chan http.Header, 1),
	}
}

const (
	megabyte = 1 << 20
	uploaded = 24 * megabyte
)

func (a *streamApp) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/ws", websocket.Handler(a.webSocket))
	mux.HandleFunc("/events", a.serverSentEvents)
	mux.HandleFunc("/upload", a.upload)
	mux.HandleFunc("/download", a.download)
	mux.HandleFunc("/progress", progress)
	mux.HandleFunc("/trailers", announcedTrailers)
	mux.HandleFunc("/hints", earlyHints)
	mux.HandleFunc("/slow/", a.hang)
	mux.HandleFunc("/hang", a.hang)
	mux.HandleFunc("/body-trailers", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		a.trailer <- r.Trailer
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("/length", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "12345")
		w.Header().Set("X-App-Method", r.Method)
	})
	mux.Handle("/", echo)
	return mux
}

// webSocket pushes a greeting before anything was said, then repeats what is said.
func (a *streamApp) webSocket(conn *websocket.Conn) {
	defer func() { a.gone <- struct{}{} }()
	r := conn.Request()
	if websocket.Message.Send(conn, "hello "+r.Header.Get("X-User-Id")+" in "+r.Header.Get("X-Tenant-Id")) != nil {
		return
	}
	for {
		var said []byte
		if websocket.Message.Receive(conn, &said) != nil || websocket.Message.Send(conn, said) != nil {
			return
		}
	}
}

func (a *streamApp) serverSentEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	for {
		select {
		case e := <-a.events:
			_, _ = fmt.Fprintf(w, "data: %s\n\n", e)
			_ = flush.Flush()
		case <-r.Context().Done():
			a.gone <- struct{}{}
			return
		}
	}
}

// upload reports each megabyte that it has read and answers with the hash of all.
func (a *streamApp) upload(w http.ResponseWriter, r *http.Request) {
	sum, buf := sha256.New(), make([]byte, megabyte)
	for {
		n, err := io.ReadFull(r.Body, buf)
		sum.Write(buf[:n])
		a.chunks <- n
		if err != nil {
			break
		}
	}
	_, _ = fmt.Fprintf(w, "%x", sum.Sum(nil))
}

// progress answers each line of an upload before the next arrives, over HTTP/1.1 too.
func progress(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	if r.ProtoMajor == 1 {
		_ = c.EnableFullDuplex()
	}
	w.WriteHeader(http.StatusOK)
	_ = c.Flush()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		_, _ = fmt.Fprintf(w, "%s seen\n", lines.Text())
		_ = c.Flush()
	}
}

// download sends the first half, waits, and sends the second.
func (a *streamApp) download(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	for i := range uploaded / megabyte {
		if i == uploaded/megabyte/2 {
			_ = http.NewResponseController(w).Flush()
			select {
			case <-a.proceed:
			case <-r.Context().Done():
				return
			}
		}
		_, _ = io.MultiWriter(w, sum).Write(block(i))
	}
	w.Header().Set(http.TrailerPrefix+"X-Sum", fmt.Sprintf("%x", sum.Sum(nil)))
}

// block is the i-th megabyte of a body that has no two alike.
func block(i int) []byte {
	b := make([]byte, megabyte)
	for j := 0; j < len(b); j += 8 {
		binary.LittleEndian.PutUint64(b[j:], uint64(i)<<32|uint64(j))
	}
	return b
}

func announcedTrailers(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Trailer", "X-Sum, X-Tenant-Db-Uri")
	_, _ = io.WriteString(w, "body")
	w.Header().Set("X-Sum", "42")
	w.Header().Set("X-Tenant-Db-Uri", "postgresql://leaked")
	w.Header().Set(http.TrailerPrefix+"X_User_Email", "leaked@example.com")
}

func earlyHints(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Link", "</style.css>; rel=preload")
	w.Header().Set("X-Tenant-Db-Uri", "postgresql://leaked")
	w.Header().Set("X_Gate_Assertion", "leaked")
	w.WriteHeader(http.StatusEarlyHints)
	w.WriteHeader(http.StatusNoContent)
}

func (a *streamApp) hang(_ http.ResponseWriter, r *http.Request) {
	a.chunks <- 0 // it has arrived
	<-r.Context().Done()
	a.gone <- struct{}{}
}

// grpcLike answers each message of a stream before the next arrives, with the status in trailers nobody announced, as
// gRPC does.
func grpcLike(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 2 {
		http.Error(w, "not HTTP/2", http.StatusHTTPVersionNotSupported)
		return
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("X-App-Te", r.Header.Get("Te"))
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		_, _ = fmt.Fprintf(w, "%s for %s\n", lines.Text(), r.Header.Get("X-Tenant-Id"))
		_ = flush.Flush()
	}
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	w.Header().Set(http.TrailerPrefix+"X-Tenant-Db-Uri", "postgresql://leaked")
}

// serveOn serves on the listener until the test ends.
func serveOn(t *testing.T, l net.Listener, h http.Handler, h2c bool) {
	t.Helper()
	s := &http.Server{Handler: h, ReadHeaderTimeout: patience, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(!h2c)
	s.Protocols.SetUnencryptedHTTP2(h2c)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// socketDir is short: a unix socket's path has about a hundred bytes.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tga")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// streamWorld is a gate before that app by every kind of upstream.
func streamWorld(t *testing.T) (*gatetest.World, *streamApp) {
	t.Helper()
	dsn := sqliteURL(t)
	seed(t, dsn)
	app := newStreamApp()
	socket := filepath.Join(socketDir(t), "app.sock")
	serveOn(t, listen(t, "unix", socket), echo, false)
	h2 := listen(t, "tcp", "127.0.0.1:0")
	serveOn(t, h2, http.HandlerFunc(grpcLike), true)
	alive := listen(t, "tcp", "127.0.0.1:0")
	serveOn(t, alive, app.handler(), false)
	dead := listen(t, "tcp", "127.0.0.1:0")
	deadURL := "http://" + dead.Addr().String()
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	return gatetest.New(t, gatetest.Options{
		HostURL: dsn, App: app.handler(), People: people,
		Configure: func(cfg *config.Config) {
			cfg.Upstreams["socket"] = router.UpstreamConfig{URLs: []string{"unix:" + socket}}
			cfg.Upstreams["h2"] = router.UpstreamConfig{URLs: []string{"h2c://" + h2.Addr().String()}}
			cfg.Upstreams["several"] = router.UpstreamConfig{URLs: []string{deadURL, "http://" + alive.Addr().String()}}
			cfg.Upstreams["dead"] = router.UpstreamConfig{URLs: []string{deadURL}}
			cfg.Upstreams["slow"] = router.UpstreamConfig{URLs: []string{"http://" + alive.Addr().String()}, Timeout: 150 * time.Millisecond}
			cfg.Routes = []router.RouteConfig{
				{Path: "/socket/", Upstream: "socket"},
				{Path: "/rpc/", Upstream: "h2"},
				{Path: "/several/", Upstream: "several"},
				{Path: "/dead/", Upstream: "dead"},
				{Path: "/slow/", Upstream: "slow"},
				{Path: "/", Upstream: "app"},
			}
		},
	}), app
}
