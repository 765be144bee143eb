package auth

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	signUpWindow = time.Hour
	signUpPeers  = 10_000
)

// signUpLimit counts new users an hour and client IP (of IPv6 its /64), in this process.
type signUpLimit struct {
	limit int
	clock func() time.Time
	mu    sync.Mutex
	peers *simplelru.LRU[netip.Prefix, []time.Time] // oldest first, at most limit each
}

func newSignUpLimit(limit int, clock func() time.Time) *signUpLimit {
	peers, _ := simplelru.NewLRU[netip.Prefix, []time.Time](signUpPeers, nil) // fails for sizes below 1 alone
	return &signUpLimit{limit: limit, clock: clock, peers: peers}
}

// take counts a sign-up, unless there were too many. give takes it back: the user was not made after all.
func (l *signUpLimit) take(ip netip.Addr) (give func(), ok bool) {
	key := network(ip)
	now := l.clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	times, _ := l.peers.Get(key)
	for len(times) > 0 && now.Sub(times[0]) >= signUpWindow {
		times = times[1:]
	}
	if len(times) >= l.limit {
		l.peers.Add(key, times)
		return nil, false
	}
	l.peers.Add(key, append(times[:len(times):len(times)], now))
	return func() { l.giveBack(key, now) }, true
}

func (l *signUpLimit) giveBack(key netip.Prefix, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	times, _ := l.peers.Get(key)
	for i, t := range times {
		if t.Equal(at) {
			l.peers.Add(key, append(times[:i:i], times[i+1:]...))
			return
		}
	}
}

// network is what counts as one client: an IPv4 address, an IPv6 /64. Without an address all count as one.
func network(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

// peerIP is the connection's peer, the zero Addr if that is no IP (a unix socket).
func peerIP(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return ip.Unmap()
}
