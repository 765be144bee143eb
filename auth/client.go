package auth

import (
	"net"
	"net/http"
	"net/netip"
	"time"
)

const signUpWindow = time.Hour

// network is what counts as one client for sign_up_limit: an IPv4 address, an IPv6 /64. Without an address all count as
// one.
func network(ip netip.Addr) string {
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return "unknown"
	}
	return prefix.String()
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
