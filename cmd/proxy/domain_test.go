package main

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/router"
)

// zone is a DNS server on loopback that knows TXT records and nothing else.
type zone struct {
	mu      sync.Mutex
	records map[string][]string // absolute name → texts; a name that is there without texts has none
	broken  bool                // answers SERVFAIL
}

func (z *zone) set(name string, texts ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records[name] = texts
}

// resolver starts the server and returns a resolver that asks it alone.
func (z *zone) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	z.records = map[string][]string{}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := z.answer(buf[:n]); answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (z *zone) fail(broken bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.broken = broken
}

func (z *zone) answer(query []byte) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	q := m.Questions[0]
	texts, found := z.records[strings.ToLower(q.Name.String())]
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	switch {
	case z.broken:
		m.RCode = dnsmessage.RCodeServerFailure
	case !found:
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, text := range texts {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET, TTL: 1},
			Body:   &dnsmessage.TXTResource{TXT: []string{text[:len(text)/2], text[len(text)/2:]}}, // in two parts, as one may
		})
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	return answer
}

func TestCustomHostIsProvenByItsTXTRecord(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		var z zone
		c.lookupTXT = z.resolver(t).LookupTXT
		c.ok("tenant", "create", "--id", "acme")
		c.ok("tenant", "create", "--id", "globex")
		made := c.object("domain", "create", "Portal.Acme.com", "--tenant", "acme")
		challenge, _ := made["challenge"].(string)
		if len(challenge) != 32 || made["verified"] != false {
			t.Fatalf("created: %v", made)
		}
		record := `_tenantgate.portal.acme.com. 300 IN TXT "tenantgate-verification=` + challenge + `"`
		c.fails(1, `create this record and try again once it is published: `+strings.ReplaceAll(record, `\`, ``), "domain", "verify", "portal.acme.com")
		z.set("_tenantgate.portal.acme.com.", "v=spf1 -all", "tenantgate-verification="+strings.Repeat("0", 32))
		c.fails(1, "holds other text: create this record beside it", "domain", "verify", "portal.acme.com")
		z.set("_tenantgate.portal.acme.com.", "v=spf1 -all", "tenantgate-verification="+challenge)
		z.fail(true)
		c.fails(1, "could not be looked up", "domain", "verify", "portal.acme.com")
		z.fail(false)
		if got := c.object("domain", "verify", "PORTAL.acme.com."); got["verified"] != true || got["challenge"] != challenge {
			t.Errorf("verified: %v", got)
		}
		c.ok("domain", "verify", "portal.acme.com") // again: nothing to do

		// Another tenant must prove it anew: the record that stands is the first one's.
		moved := c.object("domain", "update", "portal.acme.com", "--tenant", "globex")
		if moved["verified"] != false || moved["challenge"] == challenge || moved["tenant_id"] != "globex" {
			t.Errorf("transferred: %v", moved)
		}
		c.fails(1, "holds other text", "domain", "verify", "portal.acme.com")
		if got := c.object("domain", "verify", "portal.acme.com", "--confirm"); got["verified"] != true {
			t.Errorf("confirmed: %v", got)
		}
		rows := c.audit("domain.verified")
		all := encode(t, rows)
		if len(rows) != 2 || strings.Count(all, "txt") != 1 || strings.Count(all, "operator") != 1 {
			t.Errorf("audit: %s", all)
		}
		c.fails(1, "not found", "domain", "verify", "nobody.example.com")
	})
}

func TestLookupThatTimesOutProvesNothing(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	c.lookupTXT = func(ctx context.Context, _ string) ([]string, error) {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("a look-up without a deadline")
		}
		return nil, &net.DNSError{Err: "i/o timeout", IsTimeout: true}
	}
	c.ok("tenant", "create", "--id", "acme")
	c.ok("domain", "create", "portal.acme.com", "--tenant", "acme")
	c.fails(1, "no answer", "domain", "verify", "portal.acme.com")
	c.lookupTXT = func(context.Context, string) ([]string, error) { return nil, errors.New("anything") }
	c.fails(1, "could not be looked up", "domain", "verify", "portal.acme.com")
	if c.object("domain", "show", "portal.acme.com")["verified"] != false {
		t.Error("verified by a failure")
	}
}

func TestDomainsHaveOneSpelling(t *testing.T) {
	c := newCLI(t, sqliteURL(t))
	c.ok("tenant", "create", "--id", "acme")
	c.ok("domain", "create", "Bücher.Example.", "--tenant", "acme")
	for _, spelled := range []string{"bücher.example", "BÜCHER.example", "xn--bcher-kva.example.", "Xn--Bcher-Kva.EXAMPLE", "bu\u0308cher.example", "bücher。example", "ｂücher．ｅxample"} {
		if got := c.object("domain", "show", spelled); got["host"] != "xn--bcher-kva.example" {
			t.Errorf("%q: %v", spelled, got)
		}
		r := c.run("domain", "create", spelled, "--tenant", "acme")
		c.failed(r, 1, "conflict", "create", spelled)
	}
	for _, bad := range []string{
		"192.0.2.1", "1.2.3", "0x7f.1", "a.0x10", "[::1]", "::1", "xn--a.example", "xn--acme-.example", "xn--.example", "xn--a-ecp.ru", "a b.example", "a..b",
		"-a.example", "a-.example", "*.example.com", "a_b.example", "exa\u200dmple.com", "http://a.example", "a.example:8080", ".", "",
	} {
		r := c.run("domain", "create", bad, "--tenant", "acme")
		c.failed(r, 2, "tenantgate: ", "create", bad)
	}
}

func FuzzStoredDomainIsWhatAHostHeaderBecomes(f *testing.F) {
	for _, seed := range []string{"Portal.Acme.com.", "bücher.example", "xn--bcher-kva.example", "a。b", "xn--a.b", "１.２.３.４", "a_b", "ß.de", "faß.de", "\u0130.com"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := catalog.ParseDomainName(s)
		if err != nil {
			return
		}
		if host, ok := router.ParseHost(string(name)); !ok || host.String() != string(name) {
			t.Errorf("%q is stored as %q, which a request's Host never equals (%v, %v)", s, name, host, ok)
		}
		if again, err := catalog.ParseDomainName(string(name)); err != nil || again != name {
			t.Errorf("%q has two forms: %q, %q, %v", s, name, again, err)
		}
	})
}

func TestNamesOfTheProxyAreReserved(t *testing.T) {
	engines(t, func(t *testing.T, c *cli) {
		c.environ = append(c.environ, "TENANTGATE_PUBLIC_URL=https://login.example.com", "TENANTGATE_ADMIN_PUBLIC_URL=https://Admin.Example.org:8443",
			"TENANTGATE_TENANTS_BASE_DOMAIN=example.com")
		c.ok("tenant", "create", "--id", "acme")
		c.ok("tenant", "create", "--id", "two.labels")
		for name, want := range map[string]string{
			"login.example.com": "answers under", "admin.example.org": "answers under", "ADMIN.example.org.": "answers under",
			"example.com": "are slugs", "acme.example.com": "are slugs", "a.b.example.com": "are slugs",
			"login": "answers under", "acme": "tenant's id", "two.labels": "tenant's id",
		} {
			c.fails(1, want, "domain", "create", name, "--tenant", "acme")
		}
		for _, name := range []string{"example.org", "notexample.com", "login.example.com.au", "admin"} {
			c.ok("domain", "create", name, "--tenant", "acme")
		}
	})
}
