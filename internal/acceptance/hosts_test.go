package acceptance

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/config"
	"github.com/tenantgate/tenantgate/internal/browsertest"
	"github.com/tenantgate/tenantgate/internal/gatetest"
)

// The names of a gate with several hosts: under TLS names of the .test domain, which a browser is told to find on
// loopback; without it names under localhost, where every browser looks there.
const (
	tlsPublic, tlsDomain     = "app.gate.test", "portal.globex.test"
	plainPublic, plainDomain = "gate.localhost", "portal.globex.localhost"
)

// hosts is a gate that people sign in to at several hosts.
type hosts struct {
	world  *gatetest.World
	dsn    string
	scheme string
	public string // host alone
	domain string // globex's custom domain
	port   int
	pin    string // of the certificate's key, for Chromium
	roots  *x509.CertPool
}

func (h *hosts) url(host, path string) string {
	return fmt.Sprintf("%s://%s:%d%s", h.scheme, host, h.port, path)
}

// tenant is the host of a tenant.
func (h *hosts) tenant(id string) string { return id + "." + h.public }

// newHosts starts a gate at its hosts: base_domain is public_url's own name.
func newHosts(t *testing.T, withTLS bool) *hosts {
	t.Helper()
	h := &hosts{dsn: sqliteURL(t), scheme: "http", public: plainPublic, domain: plainDomain}
	seed(t, h.dsn)
	l, err := gatetest.NewListener()
	if err != nil {
		t.Fatal(err)
	}
	h.port = l.Addr().(*net.TCPAddr).Port
	if withTLS {
		h.scheme, h.public, h.domain = "https", tlsPublic, tlsDomain
		l = tls.NewListener(l, h.certificate(t))
	}
	provider, err := gatetest.StartProvider(people, h.url(h.public, ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := provider.Close(); err != nil {
			t.Error(err)
		}
	})
	h.world = gatetest.New(t, gatetest.Options{HostURL: h.dsn, App: echo, Provider: provider, Listener: l, Configure: func(cfg *config.Config) {
		cfg.PublicURL = h.url(h.public, "")
		cfg.Tenants.BaseDomain = h.public
	}})
	if err := h.world.Gate.Host().Domains.Insert(t.Context(), &catalog.Domain{Host: catalog.DomainName(h.domain), TenantID: "globex", Kind: "host", Verified: true}); err != nil {
		t.Fatal(err)
	}
	return h
}

// certificate makes a CA and a certificate of it for the names of .test.
func (h *hosts) certificate(t *testing.T) *tls.Config {
	t.Helper()
	now := time.Now()
	makeCert := func(serial int64, parent *x509.Certificate, signer *ecdsa.PrivateKey, names ...string) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "tenantgate tests"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			IsCA: parent == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: names,
		}
		if parent == nil {
			parent, signer = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	ca, caKey := makeCert(1, nil, nil)
	leaf, key := makeCert(2, ca, caKey, tlsPublic, "*."+tlsPublic, tlsDomain)
	h.roots = x509.NewCertPool()
	h.roots.AddCert(ca)
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	h.pin = base64.StdEncoding.EncodeToString(sum[:])
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw, ca.Raw}, PrivateKey: key}}}
}

// browser is Chromium, which finds all names of .test on loopback.
func (h *hosts) browser(t *testing.T) context.Context {
	t.Helper()
	flags := []browsertest.Flag{{Name: "host-resolver-rules", Value: "MAP *.test 127.0.0.1"}}
	if h.pin != "" {
		flags = append(flags, browsertest.Flag{Name: "ignore-certificate-errors-spki-list", Value: h.pin})
	}
	return browsertest.New(t, flags...)
}

// client is a browser without a screen that finds every name on loopback.
func (h *hosts) client(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: h.roots},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return (&net.Dialer{Timeout: time.Minute}).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		},
	}
	c := &http.Client{Jar: jar, Transport: transport, Timeout: patience}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// pick goes to a page, and where that leads to the provider's page is the person.
func (h *hosts) pick(t *testing.T, c *http.Client, target, subject string) *http.Response {
	t.Helper()
	res, _ := fetch(t, c, "GET", target, navigates)
	if !strings.HasPrefix(res.Request.URL.String(), h.world.Provider.Issuer()+"/login") {
		t.Fatalf("at %s instead of the provider's page", res.Request.URL)
	}
	form := url.Values{"id": {res.Request.URL.Query().Get("id")}, "subject": {subject}}
	res, _, err := do(c, "POST", res.Request.URL.String(), submits, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestCookiesOfEveryHostAreItsOwn(t *testing.T) {
	for _, withTLS := range []bool{true, false} {
		t.Run(map[bool]string{true: "TLS", false: "loopback"}[withTLS], func(t *testing.T) {
			h := newHosts(t, withTLS)
			c := h.client(t)
			var lines []string
			c.Transport = eyed{c.Transport, func(res *http.Response) {
				if res.Request.URL.Host != strings.TrimPrefix(h.world.Provider.Issuer(), "http://") {
					for _, l := range res.Header["Set-Cookie"] {
						lines = append(lines, res.Request.URL.Hostname()+" "+l)
					}
				}
			}}
			if res := h.pick(t, c, h.url(h.tenant("globex"), "/app"), "ada"); res.StatusCode != 200 || res.Request.URL.String() != h.url(h.tenant("globex"), "/app") {
				t.Fatalf("%s at %s", res.Status, res.Request.URL)
			}
			if res, _ := fetch(t, c, "GET", h.url(h.domain, "/app"), navigates); res.StatusCode != 200 || res.Request.URL.String() != h.url(h.domain, "/app") {
				t.Fatalf("%s at %s", res.Status, res.Request.URL)
			}
			prefix, secure := "", ""
			if withTLS {
				prefix, secure = "__Host-", "; Secure"
			}
			sessions := map[string]string{}
			for _, line := range lines {
				host, line, _ := strings.Cut(line, " ")
				c, err := http.ParseSetCookie(line)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(line, "Domain") || len(line) > 400 {
					t.Errorf("%s sets %s", host, line)
				}
				switch rest := strings.TrimPrefix(line, c.Name+"="+c.Value); {
				case c.Name == prefix+"tg_session":
					sessions[host] = c.Value
					if rest != "; Path=/; Max-Age=86400; HttpOnly"+secure+"; SameSite=Lax" && rest != "; Path=/; Max-Age=86399; HttpOnly"+secure+"; SameSite=Lax" {
						t.Errorf("%s: session cookie %s", host, rest)
					}
				case strings.HasPrefix(c.Name, prefix+"tg_flow_"):
					if rest != "; Path=/; Max-Age=600; HttpOnly"+secure+"; SameSite=Lax" && rest != "; Path=/; Max-Age=0"+secure {
						t.Errorf("%s: flow cookie %s", host, rest)
					}
				default:
					t.Errorf("%s sets %s", host, line)
				}
			}
			if len(sessions) != 3 {
				t.Errorf("sessions at %v, want public_url, the tenant's host and the domain", sessions)
			}
			still := *h.client(t)
			for of, value := range sessions {
				for on := range sessions {
					res, _ := fetch(t, &still, "GET", h.url(on, "/_gate/whoami"), map[string]string{"Cookie": prefix + "tg_session=" + value})
					if (res.StatusCode == 200) != (of == on) {
						t.Errorf("the cookie of %s on %s: %s", of, on, res.Status)
					}
				}
			}
		})
	}
}

// eyed is a transport whose answers are looked at.
type eyed struct {
	next http.RoundTripper
	look func(*http.Response)
}

func (w eyed) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := w.next.RoundTrip(r)
	if err == nil {
		w.look(res)
	}
	return res, err
}

func TestCustomDomainShowsAndReachesItsTenantAlone(t *testing.T) {
	h := newHosts(t, true)
	c := h.client(t)
	h.pick(t, c, h.url(h.domain, "/app"), "ada") // of acme and globex
	who := func() string {
		_, body := fetch(t, c, "GET", h.url(h.domain, "/_gate/whoami"), nil)
		return body
	}
	if body := who(); !strings.Contains(body, `"globex"`) || strings.Contains(body, "acme") || strings.Contains(strings.ToLower(body), "acme") {
		t.Errorf("whoami: %s", body)
	}
	if _, body := fetch(t, c, "GET", h.url(h.domain, "/_gate/tenants"), navigates); !strings.Contains(body, "GLOBEX") || strings.Contains(body, "ACME") {
		t.Errorf("picker: %s", body)
	}
	still := stays(c)
	for path, header := range map[string]map[string]string{"/app": {"X-Tenant": "acme"}, "/t/acme/app": nil} {
		if res, body := fetch(t, still, "GET", h.url(h.domain, path), header); res.StatusCode < 400 || strings.Contains(body, "pw-of-acme") {
			t.Errorf("%s %v: %s %s", path, header, res.Status, body)
		}
	}
	res, _, err := do(still, "POST", h.url(h.domain, "/_gate/tenants"), submits, strings.NewReader("tenant=acme"))
	if err != nil || res.StatusCode != 403 {
		t.Errorf("choosing another tenant: %v %v", res.Status, err)
	}
	// The domain is taken away: its session is good nowhere, whatever names a tenant.
	if err := h.world.Gate.Host().Domains.Update(t.Context(), &catalog.Domain{Host: catalog.DomainName(h.domain), TenantID: "globex", Kind: "host"}); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for {
		res, body := fetch(t, still, "GET", h.url(h.domain, "/app"), map[string]string{"X-Tenant": "globex"})
		if res.StatusCode == 401 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the session is good without its domain: %s %s", res.Status, body)
		}
	}
}

func TestPickerLeadsToHostsAndStoresNothing(t *testing.T) {
	h := newHosts(t, false)
	ctx := t.Context()
	host := h.world.Gate.Host()
	for _, err := range []error{
		host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: "Big Co", Name: new("Big"), DBURL: catalog.NewDBURI("postgresql://u:p@db/big"), IsActive: new(true)}),
		host.Domains.Insert(ctx, &catalog.Domain{Host: "bigco", TenantID: "Big Co", Kind: "slug"}),
		host.Memberships.Insert(ctx, &catalog.Membership{UserID: "id-ada", TenantID: "Big Co", Role: new("owner"), IsActive: new(true)}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c := h.client(t)
	h.pick(t, c, h.url(h.public, "/_gate/login?return_to=/_gate/tenants"), "ada")
	_, body := fetch(t, c, "GET", h.url(h.public, "/_gate/tenants?return_to=/app"), navigates)
	for _, want := range []string{h.url(h.tenant("acme"), "/app"), h.url(h.tenant("globex"), "/app"), h.url(h.tenant("bigco"), "/app")} {
		if !strings.Contains(body, `href="`+want+`"`) {
			t.Errorf("the picker lacks %s:\n%s", want, body)
		}
	}
	res, _, err := do(stays(c), "POST", h.url(h.public, "/_gate/tenants"), submits, strings.NewReader("tenant=Big+Co"))
	if err != nil || res.StatusCode != 303 || res.Header.Get("Location") != h.url(h.tenant("bigco"), "/") {
		t.Errorf("%v %v %v", res.Status, res.Header.Get("Location"), err)
	}
	if res, _ := fetch(t, stays(c), "GET", h.url(h.public, "/app"), navigates); res.StatusCode != 302 || !strings.Contains(res.Header.Get("Location"), "/_gate/tenants") {
		t.Errorf("a request without a tenant after choosing: %s %s", res.Status, res.Header.Get("Location"))
	}
}

func TestNobodySignsInAtOtherHostsAndPublicURLIsNamed(t *testing.T) {
	h := newHosts(t, false)
	c := stays(h.client(t))
	for _, host := range []string{"elsewhere.test", "a.b." + h.public, "127.0.0.1"} {
		for _, header := range []map[string]string{callsAPI, navigates} {
			res, body := fetch(t, c, "GET", h.url(host, "/_gate/login"), header)
			if res.StatusCode != 400 || !strings.Contains(body, "bad_host") || !strings.Contains(body, h.url(h.public, "")) {
				t.Errorf("%s: %s %s", host, res.Status, body)
			}
		}
	}
	res1, body1 := fetch(t, c, "GET", h.url(h.tenant("acme"), "/_gate/login"), navigates)
	res2, body2 := fetch(t, c, "GET", h.url(h.tenant("nobody"), "/_gate/login"), navigates)
	if res1.StatusCode != 302 || res2.StatusCode != 302 || body1 != body2 || len(res1.Header) != len(res2.Header) {
		t.Errorf("before sign-in a tenant can be told from none: %s %s", res1.Status, res2.Status)
	}
}
