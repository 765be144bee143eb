package router

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// The times and counts of connections to apps.
const (
	defaultUpstreamTimeout = 60 * time.Second
	dialTimeout            = 10 * time.Second
	tlsHandshakeTimeout    = 10 * time.Second
	upstreamIdleTimeout    = 90 * time.Second
	upstreamIdlePerHost    = 512
)

// upstream is one app: its addresses, used in turn, behind one pool of connections per response timeout.
type upstream struct {
	name     string
	audience string
	targets  []*url.URL
	next     atomic.Uint64
	hostMode string // pass, upstream or a literal name
	config   UpstreamConfig
	tls      *tls.Config
}

// newUpstream checks and reads what the configuration names. Unreadable certificates are an error, never "no
// verification" (FAIL-1).
func newUpstream(name string, c UpstreamConfig) (*upstream, error) {
	u := &upstream{name: name, audience: c.Audience, hostMode: c.Host, config: c}
	if u.hostMode == "" {
		u.hostMode = "pass"
	}
	for _, raw := range c.URLs {
		target, err := parseTarget(raw, c.InsecurePlaintext)
		if err != nil {
			return nil, fmt.Errorf("upstream %s: %w", name, err)
		}
		u.targets = append(u.targets, target)
	}
	if len(u.targets) == 0 {
		return nil, fmt.Errorf("upstream %s: urls is empty", name)
	}
	var err error
	if u.tls, err = clientTLS(c); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", name, err)
	}
	return u, nil
}

// parseTarget reads http://, https://, h2c:// and unix:/PATH. A tenant's URI is a credential: it leaves the machine
// only over TLS, or where insecure_plaintext says so.
func parseTarget(raw string, plaintext bool) (*url.URL, error) {
	if path, ok := strings.CutPrefix(raw, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			return nil, fmt.Errorf("%q: write unix:/absolute/path", raw)
		}
		return &url.URL{Scheme: "unix", Path: path}, nil
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Path != "" && u.Path != "/" {
		return nil, errors.New("url: write scheme://host:port without user, path or query")
	}
	switch u.Scheme {
	case "https":
	case "http", "h2c":
		if !plaintext && !loopbackHost(u.Hostname()) {
			return nil, fmt.Errorf("%s://%s is plain text to another machine and the tenant's URI is a credential: use https, or insecure_plaintext: true", u.Scheme, u.Host)
		}
	default:
		return nil, fmt.Errorf("scheme %q: use http, https, h2c or unix:/path", u.Scheme)
	}
	return u, nil
}

func loopbackHost(name string) bool {
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

func clientTLS(c UpstreamConfig) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s: no certificate in it", c.CAFile)
		}
	}
	if c.CertFile != "" || c.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file, key_file: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// transport makes the pool for one response timeout. The timeout runs from the end of the request to the response's
// headers, so that neither a long upload nor a long download is cut by it.
func (u *upstream) transport(timeout time.Duration) *balancer {
	if timeout == 0 {
		timeout = u.config.Timeout
	}
	if timeout == 0 {
		timeout = defaultUpstreamTimeout
	}
	b := &balancer{upstream: u}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	base := http.Transport{
		DialContext:           dialer.DialContext,
		TLSClientConfig:       u.tls.Clone(),
		TLSHandshakeTimeout:   tlsHandshakeTimeout,
		ResponseHeaderTimeout: timeout,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       upstreamIdleTimeout,
		MaxIdleConnsPerHost:   upstreamIdlePerHost,
		DisableCompression:    true, // the app's encoding passes as it is
		ForceAttemptHTTP2:     true,
	}
	for _, target := range u.targets {
		t := base.Clone()
		endpoint := endpoint{target: target, transport: t}
		switch target.Scheme {
		case "unix":
			path := target.Path
			t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", path)
			}
			endpoint.target = &url.URL{Scheme: "http", Host: "localhost"}
		case "h2c":
			t.Protocols = new(http.Protocols)
			t.Protocols.SetUnencryptedHTTP2(true)
			endpoint.target = &url.URL{Scheme: "http", Host: target.Host}
		}
		b.endpoints = append(b.endpoints, endpoint)
	}
	return b
}

type endpoint struct {
	target    *url.URL
	transport *http.Transport
}

// balancer sends requests to an upstream's addresses in turn. Where an address cannot be connected to, nothing has
// been sent and the next is tried; after that point nothing is ever sent twice.
type balancer struct {
	upstream  *upstream
	endpoints []endpoint
}

// RoundTrip implements http.RoundTripper.
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	n := uint64(len(b.endpoints))
	first := uint64(0)
	if n > 1 {
		first = b.upstream.next.Add(1)
	}
	if n > 1 && r.Body != nil && r.Body != http.NoBody {
		r.Body = heldOpen{r.Body}
	}
	var err error
	for i := range n {
		e := &b.endpoints[(first+i)%n]
		r.URL.Scheme, r.URL.Host = e.target.Scheme, e.target.Host
		if b.upstream.hostMode == "upstream" {
			r.Host = e.target.Host
		}
		var res *http.Response
		if res, err = e.transport.RoundTrip(r); err == nil {
			return res, nil
		}
		if !dialFailed(err) || r.Context().Err() != nil {
			return nil, err
		}
	}
	return nil, err
}

// heldOpen is a request's body that an address which cannot be connected to leaves as it is, unread and open, for the
// next. ReverseProxy closes the body itself once the request is over.
type heldOpen struct{ io.Reader }

// Close implements io.Closer; it closes nothing.
func (heldOpen) Close() error { return nil }

func dialFailed(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func (b *balancer) close() {
	for _, e := range b.endpoints {
		e.transport.CloseIdleConnections()
	}
}
