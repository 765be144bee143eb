// Package wire is a TCP connection that can fail, for tests: everything between a client and a server passes it, and it
// can be cut, frozen and healed.
//
// Concurrency: a Wire is safe for concurrent use. Close ends every connection and waits for what it started.
//
// Failure mode: it fails as it is told to. A frozen wire takes connections and bytes and passes none on; what came
// meanwhile is passed on once it is healed, as by a network that was only slow.
package wire

import (
	"errors"
	"io"
	"net"
	"sync"
)

// Wire listens on loopback and leads to a target.
type Wire struct {
	target string
	listen net.Listener

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	cut    bool
	frozen chan struct{} // closed when the wire is not frozen (any more)
	closed bool
	done   chan struct{} // closed by Close
	group  sync.WaitGroup
}

// New makes a Wire to a TCP address.
func New(target string) (*Wire, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &Wire{target: target, listen: l, conns: make(map[net.Conn]struct{}), frozen: make(chan struct{}), done: make(chan struct{})}
	close(w.frozen)
	w.group.Go(w.accept)
	return w, nil
}

// Addr is where clients connect to, host:port.
func (w *Wire) Addr() string { return w.listen.Addr().String() }

// Cut ends every connection and refuses new ones, until Heal.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	w.drop()
}

// Drop ends every connection; new ones are made as before.
func (w *Wire) Drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop()
}

func (w *Wire) drop() {
	for c := range w.conns {
		_ = c.Close()
	}
}

// Freeze stops all bytes, in both directions, until Heal. Connections stay, and new ones are accepted.
func (w *Wire) Freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.frozen:
		w.frozen = make(chan struct{})
	default:
	}
}

// Heal ends Cut and Freeze.
func (w *Wire) Heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
	w.thaw()
}

func (w *Wire) thaw() {
	select {
	case <-w.frozen:
	default:
		close(w.frozen)
	}
}

// Close ends the Wire.
func (w *Wire) Close() error {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.done)
		w.drop()
	}
	w.mu.Unlock()
	err := w.listen.Close()
	w.group.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (w *Wire) accept() {
	for {
		client, err := w.listen.Accept()
		if err != nil {
			return
		}
		if !w.take(client) {
			continue
		}
		w.group.Go(func() { w.serve(client) })
	}
}

// take notes a connection; false: it was closed instead.
func (w *Wire) take(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut || w.closed {
		_ = c.Close()
		return false
	}
	w.conns[c] = struct{}{}
	return true
}

func (w *Wire) leave(c net.Conn) {
	_ = c.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
}

func (w *Wire) serve(client net.Conn) {
	defer w.leave(client)
	if !w.pass() {
		return
	}
	server, err := net.Dial("tcp", w.target)
	if err != nil || !w.take(server) {
		return
	}
	defer w.leave(server)
	var both sync.WaitGroup
	both.Go(func() { w.copy(server, client) })
	both.Go(func() { w.copy(client, server) })
	both.Wait()
}

// copy passes bytes on until one end closes, then closes the other.
func (w *Wire) copy(to, from net.Conn) {
	defer to.Close()
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
			if errors.Is(err, io.EOF) {
				w.pass()
			}
			return
		}
	}
}

// pass waits until bytes may pass; false: they never will.
func (w *Wire) pass() bool {
	w.mu.Lock()
	frozen := w.frozen
	w.mu.Unlock()
	select {
	case <-frozen:
		return true
	case <-w.done:
		return false
	}
}
