package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/telemetry"
)

const (
	// maxDocument bounds every body that a provider sends (LIM-1, JWKS-2).
	maxDocument = 1 << 20
	maxCAFile   = 4 << 20
	maxHops     = 3
)

var errTooLarge = fmt.Errorf("answer is larger than %d bytes", maxDocument)

// newClient makes the one client through which a provider is reached: timeouts, a cap on what is read, redirects only
// within the same origin and never for a POST, which would carry the code along.
func newClient(roots *x509.CertPool, override http.RoundTripper) *http.Client {
	base := override
	if base == nil {
		base = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout:    5 * time.Second,
			ResponseHeaderTimeout:  5 * time.Second,
			ExpectContinueTimeout:  time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			MaxConnsPerHost:        16,
			MaxIdleConnsPerHost:    4,
			IdleConnTimeout:        30 * time.Second,
			ForceAttemptHTTP2:      true,
		}
	}
	return &http.Client{Transport: capped{base}, Timeout: fetchTimeout, CheckRedirect: sameOriginOnly}
}

func sameOriginOnly(req *http.Request, via []*http.Request) error {
	first := via[0]
	switch {
	case len(via) > maxHops:
		return errors.New("too many redirects")
	case first.Method != http.MethodGet && first.Method != http.MethodHead:
		return errors.New("answered a form with a redirect")
	case req.URL.Scheme != first.URL.Scheme || req.URL.Host != first.URL.Host:
		return errors.New("redirects to another host")
	}
	return nil
}

// capped bounds the body of every answer.
type capped struct{ next http.RoundTripper }

func (c capped) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.ContentLength > maxDocument {
		_ = resp.Body.Close()
		return nil, errTooLarge
	}
	resp.Body = &cappedBody{ReadCloser: resp.Body, left: maxDocument}
	return resp, nil
}

// CloseIdleConnections lets http.Client reach the transport's.
func (c capped) CloseIdleConnections() {
	if t, ok := c.next.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

type cappedBody struct {
	io.ReadCloser
	left int64
}

// Read fails, rather than ends, beyond the cap: half a document must not look like a whole one.
func (b *cappedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// getDocument reads a JSON document. Errors name the host, never a query or a body.
func getDocument(ctx context.Context, client *http.Client, target, accessToken string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return nil, errors.New("malformed URL")
	}
	req.Header.Set("Accept", "application/json")
	if accessToken != "" {
		req.Header.Set("Authorization", "Bearer "+accessToken)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered with status %d", req.URL.Host, resp.StatusCode)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", req.URL.Host, telemetry.Unquoted(err))
	}
	return body, nil
}

// withoutURL keeps the cause and the host of a failed request; a URL may hold what must not be logged.
func withoutURL(err error) error {
	var failed *url.Error
	if !errors.As(err, &failed) {
		return telemetry.Unquoted(err)
	}
	host := "provider"
	if u, perr := url.Parse(failed.URL); perr == nil && u.Host != "" {
		host = u.Host
	}
	return fmt.Errorf("%s: %w", host, telemetry.Unquoted(failed.Err))
}

// readRoots loads ca_file, which replaces the system's roots. A file without a certificate is an error (FAIL-1).
func readRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	defer func() { _ = f.Close() }()
	pem, err := io.ReadAll(io.LimitReader(f, maxCAFile))
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file: %s holds no PEM certificate", path)
	}
	return pool, nil
}

// checkEndpoint says whether a URL may be used as a provider's: https, or http where plain is allowed and the host is
// this machine.
func checkEndpoint(raw string, plain bool) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Opaque != "" || u.User != nil || u.Fragment != "" || strings.ContainsAny(raw, " \\\t\r\n") {
		return nil, errors.New("is not an absolute URL")
	}
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && plain && isLoopback(u.Hostname()):
	case u.Scheme == "http":
		return nil, errors.New("must be https://; http:// only on loopback")
	default:
		return nil, errors.New("must be https://")
	}
	return u, nil
}

// isLoopback reports whether a host name means this machine: an address of 127.0.0.0/8 or ::1, localhost, or a name
// under it (RFC 6761 6.3).
func isLoopback(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
