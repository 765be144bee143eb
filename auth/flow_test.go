package auth

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/internal/seal"
)

func TestFlowFitsIntoItsCookieAndStateIntoItsLimit(t *testing.T) { // CK-2
	k := testKeyset(t)
	now := newClock().Now()
	f := newFlow(strings.Repeat("p", 32), now)
	returnTo := "/" + strings.Repeat("a", maxReturnTo-1)
	a := &Auth{secrets: k}
	d := &door{scope: strings.Repeat("h", maxHost), names: namesFor(true)}
	w := httptest.NewRecorder()
	if err := a.setFlow(w, nil, d, f); err != nil {
		t.Fatal(err)
	}
	if line := w.Header().Get("Set-Cookie"); len(line) > maxFlowBytes || maxAgeOf(t, line) != 600 {
		t.Fatalf("%d bytes: %s", len(line), line)
	}
	long := &ask{issued: now, nonce: f.handoffNonce(), kind: domainDoor, host: strings.Repeat("h", maxHost)}
	state, err := f.state(k, journey{"https://" + strings.Repeat("h", maxHost) + ":65535" + returnTo, long})
	if err != nil || len(state) > maxState {
		t.Fatalf("state of %d bytes, %v", len(state), err)
	}
	id, tag, got, ok := openState(k, state)
	if !ok || id != f.id || !strings.HasSuffix(got.returnTo, returnTo) || got.ask == nil || got.ask.nonce != long.nonce || got.ask.host != long.host || !f.began(tag) {
		t.Fatalf("%v %v %v", ok, id, got)
	}
	if f.nonce() == f.verifier() || len(f.verifier()) != 43 || strings.Contains(state, "aaaa") {
		t.Fatal("nonce, verifier and state must not show each other")
	}
}

func TestFlowCookieOpensOnItsHostUnderItsNameAndInItsTime(t *testing.T) { // CRYPT-1
	k := testKeyset(t)
	now := newClock().Now()
	f, other := newFlow("main", now), newFlow("main", now)
	sealed, err := f.seal(k, "app.example.com")
	if err != nil {
		t.Fatal(err)
	}
	got, ok := openFlow(k, f.id, "app.example.com", sealed)
	if !ok || got.seed != f.seed || got.provider != "main" || got.issued.UnixMicro() != now.UnixMicro() {
		t.Fatalf("%+v %v", got, ok)
	}
	if _, ok := openFlow(k, other.id, "app.example.com", sealed); ok {
		t.Error("under another name")
	}
	if _, ok := openFlow(k, f.id, "evil.example.com", sealed); ok {
		t.Error("on another host")
	}
	if _, ok := openFlow(testKeyset(t, seal.GenerateSecret().Reveal()), f.id, "app.example.com", sealed); ok {
		t.Error("under another secret")
	}
	if _, ok := openFlow(k, f.id, "app.example.com", strings.Repeat("a", 10_000)); ok {
		t.Error("any text")
	}
	for age, want := range map[time.Duration]bool{0: true, flowLifetime - time.Second: true, flowLifetime + time.Second: false, -2 * time.Minute: false} {
		if got.live(now.Add(age)) != want {
			t.Errorf("after %v: live %v", age, !want)
		}
	}
	state, err := f.state(k, journey{returnTo: "/"})
	if err != nil {
		t.Fatal(err)
	}
	if _, tag, _, ok := openState(k, state); !ok || other.began(tag) {
		t.Error("state taken for another flow's")
	}
	moved := other.id.String() + state[len(f.id.String()):]
	if _, _, _, ok := openState(k, moved); ok {
		t.Error("state moved to another flow")
	}
}

func FuzzOpenState(f *testing.F) {
	k := testKeyset(f)
	fl := newFlow("main", newClock().Now())
	good, err := fl.state(k, journey{returnTo: "/x"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("AAAAAAAAAAAAAAAA.v1.x.y")
	f.Fuzz(func(t *testing.T, s string) {
		if _, _, to, ok := openState(k, s); ok && (to.returnTo != "/x" || to.ask != nil) { // nothing else was ever sealed
			t.Fatalf("opened %q", s)
		}
	})
}

func FuzzParseCallback(f *testing.F) { // CB-1
	f.Add("state=a&code=b")
	f.Add("state=a&error=access_denied&iss=https%3A%2F%2Fop")
	f.Add("state=a&state=b&code=c")
	f.Add("%zz;&&=&state")
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := parseCallback(raw)
		if err != nil {
			return
		}
		if got.state == "" || (got.code == "") == (got.fault == "") || len(got.state) > maxState || len(got.code) > maxCode {
			t.Fatalf("%q read as %+v", raw, got)
		}
	})
}

func TestAddressHasOneReading(t *testing.T) { // ID-1
	for address, want := range map[string]string{
		"a@example.com": "example.com", "A.b+c@Example.COM": "example.com", "o'neil@example.com": "example.com", "a@bücher.example": "xn--bcher-kva.example",
		"a@sub.example.com": "sub.example.com",
		"":                  "", "a": "", "@example.com": "", "a@": "", "a@b@example.com": "", "a@example.com@evil.com": "", `"a@evil.com"@example.com`: "",
		"a@example.com,b@evil.com": "", "a@example.com ": "", " a@example.com": "", "a b@example.com": "", "a@example.com\n": "", "a\x00@example.com": "",
		"<a@example.com>": "", "A <a@example.com>": "", "a(b)@example.com": "", ".a@example.com": "", "a.@example.com": "", "a..b@example.com": "",
		"a@example": "", "a@.example.com": "", "a@example..com": "", "a@example.com.": "", "a@[127.0.0.1]": "", "a@127.0.0.1": "", "a@-example.com": "",
		"ａ@example.com": "", "a@exam_ple.com": "", "a@example.com;b": "", "a%b@example.com": "example.com", "ä@example.com": "", "a@xn--a.com": "",
		strings.Repeat("a", 65) + "@example.com": "", "a@" + strings.Repeat("a", 64) + ".com": "", "a@" + strings.Repeat("a.", 130) + "com": "",
	} {
		if got, ok := emailDomain(address); got != want || ok != (want != "") {
			t.Errorf("%q: %q %v, want %q", address, got, ok, want)
		}
	}
}

func FuzzEmailDomain(f *testing.F) {
	f.Add("a@example.com")
	f.Add("a@b@c")
	f.Add("a@bücher.example")
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := emailDomain(s)
		if ok && (strings.Count(s, "@") != 1 || d != strings.ToLower(d) || !isDomainName(d)) {
			t.Fatalf("%q read as %q", s, d)
		}
	})
}

func TestWhatCountsAsOneClient(t *testing.T) {
	for a, b := range map[string]string{
		"192.0.2.1": "::ffff:192.0.2.1", "2001:db8::1": "2001:db8::ffff:2%eth0",
	} {
		if network(netip.MustParseAddr(a)) != network(netip.MustParseAddr(b)) {
			t.Errorf("%s and %s are two", a, b)
		}
	}
	seen := map[string]bool{network(netip.Addr{}): true}
	for _, a := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"} {
		n := network(netip.MustParseAddr(a))
		if seen[n] || n == "" {
			t.Errorf("%s is another's %q", a, n)
		}
		seen[n] = true
	}
}
