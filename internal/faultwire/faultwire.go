// Package faultwire is a TCP wire for tests that can be cut, frozen and healed, between a program and a server on
// loopback: what a network does to connections, without touching either end.
//
// Concurrency: every method is safe for concurrent use. Close waits for what the Wire started.
//
// Failure mode: a server that cannot be reached shows as a connection that ends at once.
package faultwire

import (
	"errors"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Wire relays connections to one server.
type Wire struct {
	server   string
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	healed *sync.Cond // signalled by Heal, Cut and Close
	frozen bool
	cut    bool
	closed bool
	conns  map[net.Conn]struct{}
}

// New makes a wire to server (host:port), which ends with the test.
func New(t testing.TB, server string) *Wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{server: server, listener: l, conns: map[net.Conn]struct{}{}}
	w.healed = sync.NewCond(&w.mu)
	w.wg.Go(w.accept)
	t.Cleanup(w.Close)
	return w
}

// URL makes a wire to the server that a URL names and returns the URL that leads through it.
func URL(t testing.TB, raw string) (*Wire, string) {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal("faultwire: not a URL") // which may hold a password
	}
	w := New(t, u.Host)
	u.Host = w.Addr()
	return w, u.String()
}

// Addr is the host:port that leads through the wire.
func (w *Wire) Addr() string { return w.listener.Addr().String() }

// Freeze lets nothing through any more, in either direction, and says so to nobody, as a network does that loses every
// packet. Connections stay open, new ones are taken and get no answer.
func (w *Wire) Freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen = true
}

// Cut ends every connection, and new ones as soon as they are made, until Heal.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	w.dropAll()
}

// Drop ends every connection there is; new ones pass.
func (w *Wire) Drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropAll()
}

// dropAll wakes those that a freeze holds, whose connections are closed now. The caller holds mu.
func (w *Wire) dropAll() {
	for c := range w.conns {
		_ = c.Close() // an error says that it was closed already
	}
	w.healed.Broadcast()
}

// Heal lets everything through again. What was sent while the wire was frozen arrives late, in order.
func (w *Wire) Heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen, w.cut = false, false
	w.healed.Broadcast()
}

// Conns is how many connections are open on the clients' side.
func (w *Wire) Conns() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return (len(w.conns) + 1) / 2
}

// Close ends the wire and waits for its connections. It may be called again.
func (w *Wire) Close() {
	w.mu.Lock()
	w.closed = true
	_ = w.listener.Close() // an error says that it was closed already
	w.dropAll()
	w.mu.Unlock()
	w.wg.Wait()
}

func (w *Wire) accept() {
	for {
		client, err := w.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if w.add(client) {
			w.wg.Go(func() { w.join(client) })
		}
	}
}

// add remembers a connection, so that it can be ended; false: it was ended instead.
func (w *Wire) add(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut || w.closed {
		_ = c.Close()
		return false
	}
	w.conns[c] = struct{}{}
	return true
}

func (w *Wire) remove(c net.Conn) {
	_ = c.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
}

func (w *Wire) join(client net.Conn) {
	defer w.remove(client)
	if !w.pass() {
		return
	}
	server, err := net.Dial("tcp", w.server)
	if err != nil || !w.add(server) {
		return
	}
	defer w.remove(server)
	var both sync.WaitGroup
	both.Go(func() { w.relay(server, client) })
	both.Go(func() { w.relay(client, server) })
	both.Wait()
}

// relay copies until either side ends, and then ends both.
func (w *Wire) relay(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !w.pass() {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits while the wire is frozen; false: it was cut or closed.
func (w *Wire) pass() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.frozen && !w.cut && !w.closed {
		w.healed.Wait()
	}
	return !w.cut && !w.closed
}
