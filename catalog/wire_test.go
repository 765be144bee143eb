package catalog

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// wire is a TCP relay before a PostgreSQL server that counts round trips and can stop relaying, as a network does that
// drops packets.
type wire struct {
	url    string
	trips  atomic.Int64 // Sync and Query messages of clients: each makes the server answer
	frozen atomic.Bool

	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func newWire(t *testing.T, dburl string) *wire {
	t.Helper()
	u, err := url.Parse(dburl)
	must(t, err)
	server := u.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	u.Host = l.Addr().String()
	w := &wire{url: u.String()}
	w.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, client, upstream)
			w.mu.Unlock()
			w.wg.Go(func() { w.count(upstream, client) })
			w.wg.Go(func() { w.relay(client, upstream) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.mu.Lock()
		for _, c := range w.conns {
			_ = c.Close()
		}
		w.mu.Unlock()
		w.wg.Wait()
	})
	return w
}

// count relays a client's messages one by one (PostgreSQL documentation, 55.7).
func (w *wire) count(to, from net.Conn) {
	defer to.Close()
	startup := true
	for {
		head := make([]byte, 5)
		if startup {
			head = head[:4]
		}
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		size := binary.BigEndian.Uint32(head[len(head)-4:])
		if size < 4 || size > 1<<24 {
			return
		}
		body := make([]byte, size-4)
		if _, err := io.ReadFull(from, body); err != nil {
			return
		}
		if !startup && (head[0] == 'S' || head[0] == 'Q') {
			w.trips.Add(1)
		}
		startup = false
		if w.frozen.Load() {
			continue // lost on the way
		}
		if _, err := to.Write(append(head, body...)); err != nil {
			return
		}
	}
}

func (w *wire) relay(to, from net.Conn) {
	defer to.Close()
	_, _ = io.Copy(to, from) // ends when either side does
}
