package freshness

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/gatetest"
	"github.com/tenantgate/tenantgate/internal/pgtest"
)

// socket is a client's end of a WebSocket.
type socket struct {
	net.Conn
	in     *bufio.Reader
	closed chan ending
}

// ending is when and how a socket was closed by the server.
type ending struct {
	at     time.Time
	status uint16
	reason string
	err    error
}

func dial(tb testing.TB, w *gatetest.World, path, cookie string) *socket {
	tb.Helper()
	conn, err := net.Dial("tcp", w.Addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	s := &socket{Conn: conn, in: bufio.NewReader(conn), closed: make(chan ending, 1)}
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: %s\r\n\r\n",
		path, strings.TrimPrefix(w.URL, "http://"), w.URL, cookie); err != nil {
		tb.Fatal(err)
	}
	res, err := http.ReadResponse(s.in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		tb.Fatalf("handshake of %s: %v %v", path, res, err)
	}
	if _, text, err := s.frame(); err != nil || string(text) != "hello" {
		tb.Fatalf("greeting of %s: %q %v", path, text, err)
	}
	return s
}

func (s *socket) frame() (opcode byte, payload []byte, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(s.in, head); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, head[1]&0x7f)
	_, err = io.ReadFull(s.in, payload)
	return head[0] & 0x0f, payload, err
}

// await reads until the socket is closed.
func (s *socket) await() {
	opcode, payload, err := s.frame()
	e := ending{at: time.Now(), err: err}
	if err == nil && opcode == 8 && len(payload) >= 2 {
		e.status, e.reason = binary.BigEndian.Uint16(payload), string(payload[2:])
	} else if err == nil {
		e.err = fmt.Errorf("opcode %d", opcode)
	}
	s.closed <- e
}

// alive sends something and waits for its echo.
func (s *socket) alive() error {
	if _, err := s.Write([]byte{0x81, 0x82, 0, 0, 0, 0, 'h', 'i'}); err != nil {
		return err
	}
	if opcode, payload, err := s.frame(); err != nil || opcode != 1 || string(payload) != "hi" {
		return fmt.Errorf("opcode %d %q %v", opcode, payload, err)
	}
	return nil
}

const (
	sockets       = 1000
	socketTenants = 100
)

// open makes sockets, in turn on each replica, ten for each of a hundred tenants.
func (b *bed) open(tb testing.TB) [][]*socket {
	tb.Helper()
	b.exec(tb, b.db, `INSERT INTO core_tenants (id, db_url, is_active, plan_tier) SELECT 'w' || i, 'postgresql://w@db/w' || i, true, 'free' FROM generate_series(0, 99) AS i`)
	b.exec(tb, b.db, `INSERT INTO core_subscriptions (id, tenant_id, status, payment_type) SELECT 'sw' || i, 'w' || i, 'active', 'subscription' FROM generate_series(0, 99) AS i`)
	b.exec(tb, b.db, `INSERT INTO core_memberships (id, user_id, tenant_id, role, is_active) SELECT 'mw' || i, 'u' || i % 20, 'w' || i, 'member', true FROM generate_series(0, 99) AS i`)
	all := make([][]*socket, socketTenants)
	for i := range sockets {
		tenant := i % socketTenants
		w := b.replicas[i/socketTenants%len(b.replicas)]
		all[tenant] = append(all[tenant], dial(tb, w, fmt.Sprintf("/t/w%d/ws", tenant), b.cookies[tenant%people]))
	}
	return all
}

// One tenant of a hundred is suspended: its ten WebSockets are closed on both replicas, the others never notice.
func TestTheWebSocketsOfASuspendedTenantAreClosedAndNoOthers(t *testing.T) {
	b := newBed(t, pgtest.New(t), 2, nil)
	all := b.open(t)
	for _, s := range all[7] {
		go s.await()
	}
	committed := b.change(t, b.db, []string{"UPDATE core_tenants SET is_active = false WHERE id = 'w7'"})
	for _, s := range all[7] {
		if e := <-s.closed; e.status != 1008 || e.reason != "tenant_inactive" {
			t.Errorf("closed with %d %q, %v", e.status, e.reason, e.err)
		} else if late := e.at.Sub(committed); late > patience {
			t.Errorf("closed %v after the commit", late)
		}
	}
	// Changes that take nothing away cut nobody.
	b.change(t, b.db, []string{
		"UPDATE core_tenants SET name = 'Another name' WHERE id <> 'w7'", "UPDATE core_memberships SET profile_id = 'p', role = 'owner' WHERE tenant_id LIKE 'w%'",
		"UPDATE core_users SET last_login = '2030-01-01T00:00:00', stripe_cust_id = 'cus_x'",
	})
	for tenant, list := range all {
		if tenant == 7 {
			continue
		}
		for _, s := range list {
			if err := s.alive(); err != nil {
				t.Fatalf("w%d: %v", tenant, err)
			}
		}
	}
}

// BenchmarkCommitToClosedWebSocket suspends a tenant with ten of a thousand open WebSockets, b.N times.
func BenchmarkCommitToClosedWebSocket(b *testing.B) {
	bed := newBed(b, pgtest.New(b), 2, nil)
	all := bed.open(b)
	var lags []time.Duration
	for n := range min(b.N, socketTenants) {
		for _, s := range all[n] {
			go s.await()
		}
		committed := bed.change(b, bed.db, []string{fmt.Sprintf("UPDATE core_tenants SET is_active = false WHERE id = 'w%d'", n)})
		for _, s := range all[n] {
			e := <-s.closed
			if e.status != 1008 {
				b.Fatalf("closed with %d %q, %v", e.status, e.reason, e.err)
			}
			lags = append(lags, max(e.at.Sub(committed), 0))
		}
	}
	report(b, lags)
}

// An event stream ends, and a slow download that nobody finishes breaks off, when the membership goes.
func TestEventsAndDownloadsEndWithTheMembership(t *testing.T) {
	engines(t, func(tb testing.TB, hostURL string) {
		t := tb.(*testing.T)
		t.Parallel()
		b := newBed(t, hostURL, 2, nil)
		var events []*http.Response
		for _, w := range b.replicas {
			transport := w.Transport()
			t.Cleanup(transport.CloseIdleConnections)
			for _, path := range []string{"/t/t1/events", "/t/t2/events"} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Cookie", b.cookies[1])
				res, err := transport.RoundTrip(req)
				if err != nil || res.StatusCode != 200 {
					t.Fatal(res, err)
				}
				t.Cleanup(func() { _ = res.Body.Close() })
				events = append(events, res)
			}
		}
		b.change(t, b.db, []string{"DELETE FROM core_memberships WHERE id = 'm1-1'"})
		for i, res := range events {
			if i%2 == 1 {
				continue // another tenant's
			}
			if text, err := io.ReadAll(res.Body); err != nil || string(text) != "data: open\n\n" {
				t.Errorf("%q %v", text, err)
			}
		}
		for i, res := range events {
			if i%2 == 0 {
				continue
			}
			line := make([]byte, len("data: open\n\n"))
			if _, err := io.ReadFull(res.Body, line); err != nil {
				t.Error(err)
			}
		}
	})
}

// What nobody can vouch for any more ends: an open WebSocket outlives a database that is gone by no more than max_stale,
// and one that is gone for less not at all.
func TestWebSocketsEndWhenTheDatabaseIsGoneForLongerThanMaxStale(t *testing.T) {
	server := pgtest.NewServer(t)
	stale := time.Second
	b := newBed(t, server.URL(t), 1, func(c *config.Config) { c.Cache.Heartbeat, c.Cache.MaxStale = 500*time.Millisecond, &stale })
	s := dial(t, b.replicas[0], "/t/t1/ws", b.cookies[1])
	server.TerminateBackends(t)
	if err := s.alive(); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	server.Stop(t)
	s.await()
	if e := <-s.closed; e.status != 1008 || e.reason != "host_database_unavailable" || e.at.Sub(stopped) < stale {
		t.Errorf("closed %v after the stop with %d %q, %v", e.at.Sub(stopped), e.status, e.reason, e.err)
	}
	server.Start(t)
	deadline := time.Now().Add(patience)
	for transport := b.replicas[0].Transport(); ; {
		a := fetch(t.Context(), transport, b.replicas[0].URL+"/t/t1/x", http.Header{"Cookie": {b.cookies[1]}})
		transport.CloseIdleConnections()
		if granted.fits(a.status, a.body) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after the restart: %d %s %v", a.status, a.body, a.err)
		}
		pause(t.Context(), 10*time.Millisecond)
	}
	dial(t, b.replicas[0], "/t/t1/ws", b.cookies[1])
}
