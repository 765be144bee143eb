package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
)

func (a *Auth) present(host string, cookies ...string) (Identity, error) {
	return a.Authenticate(context.Background(), Credentials{Cookies: cookies, Host: host})
}

const sessionName = "__Host-tg_session="

func TestSignInOpensASessionOnItsHostAlone(t *testing.T) {
	g := newRig(t)
	user := g.addUser("main|alice", "alice@example.com")
	b := g.browser()
	token := b.mustSignIn("alice")
	if b.maxAge["__Host-tg_session"] != 86400 || len(b.cookies) != 1 {
		t.Fatalf("cookies %v, %v", b.cookies, b.maxAge)
	}
	for _, host := range []string{"app.example.com", "APP.example.com", "app.example.com:443", "app.example.com."} {
		id, err := g.auth.present(host, sessionName+token)
		if err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		now := g.clock.Now()
		if id.User != user || id.Kind != KindSession || id.Provider != "main" || id.Subject != "alice" || id.SessionTenant != "" ||
			!id.IssuedAt.Equal(now) || !id.Expires.Equal(now.Add(24*time.Hour)) || len(id.Session) != 32 {
			t.Fatalf("%+v", id)
		}
	}
	for _, host := range []string{"acme.app.example.com", "evil.com", "", "app.example.com.evil.com", "example.com"} { // CK-1: another host's
		if _, err := g.auth.present(host, sessionName+token); !errors.Is(err, ErrSessionExpired) {
			t.Errorf("on %q: %v", host, err)
		}
	}
}

func TestNoCookieAndBadCookiesAreToldApart(t *testing.T) { // FAIL-2
	g := newRig(t)
	g.addUser("main|alice", "")
	token := g.browser().mustSignIn("alice")
	strange := newSessionToken()
	sameID := append([]byte(nil), token...)
	sameID[40] ^= 1
	for cookie, want := range map[string]error{
		"": ErrUnauthenticated, "a=b": ErrUnauthenticated, "tg_session=" + token: ErrUnauthenticated, "__Host-tg_sessio=" + token: ErrUnauthenticated,
		sessionName: ErrSessionExpired, sessionName + "x": ErrSessionExpired, sessionName + strange.encode(): ErrSessionExpired, sessionName + string(sameID): ErrSessionExpired,
		sessionName + token[:63]: ErrSessionExpired, sessionName + token + "=": ErrSessionExpired, sessionName + `"` + token + `"`: ErrSessionExpired,
		sessionName + token:                                                        nil,
		sessionName + "junk; " + sessionName + token:                               nil,
		sessionName + token + "; " + sessionName + strange.encode():                nil,
		sessionName + strange.encode() + "; a=b; " + sessionName + token:           nil,
		sessionName + strange.encode() + "; " + sessionName + strange.encode():     ErrSessionExpired,
		strings.Repeat(sessionName+strange.encode()+"; ", 9) + sessionName + token: ErrSessionExpired, // more than a browser ever has
	} {
		if _, err := g.auth.present("app.example.com", cookie); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", cookie, err, want)
		}
	}
}

func TestRowWrittenByAnotherProgramOpensNothing(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	victim := g.addUser("main|victim", "")
	token := g.browser().mustSignIn("alice")
	id, err := g.auth.present("app.example.com", sessionName+token)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	row, _, _, err := g.host.SessionUser(ctx, id.Session)
	if err != nil {
		t.Fatal(err)
	}
	forged := newSessionToken()
	sum := sha256.Sum256(forged[:])
	guesses := map[string]catalog.Session{}
	for name, mac := range map[string]string{
		"hash of the token": hex.EncodeToString(sum[:]), "HMAC under no key": hex.EncodeToString(sessionMAC(nil, &forged, victim, row.Host, row.ExpiresAt)),
		"another row's MAC": row.MAC, "empty": "", "words": "mac", "zeros": strings.Repeat("0", 64),
	} {
		s := *row
		s.ID, s.UserID, s.MAC = sessionIDOf(forged.key()), victim, mac
		guesses[name] = s
	}
	for name, s := range guesses {
		if err := g.host.Sessions.Insert(ctx, &s); err != nil {
			t.Fatal(err)
		}
		a := g.replica()
		if _, err := a.present("app.example.com", sessionName+forged.encode()); !errors.Is(err, ErrSessionExpired) {
			t.Errorf("%s: %v", name, err)
		}
		if err := g.host.Sessions.Delete(ctx, s.ID); err != nil {
			t.Fatal(err)
		}
	}
	// A row of ours, changed.
	for name, change := range map[string]func(*catalog.Session){
		"another user": func(s *catalog.Session) { s.UserID = victim }, "another host": func(s *catalog.Session) { s.Host = "acme.app.example.com" },
		"a later end": func(s *catalog.Session) { s.ExpiresAt = "2099-01-01T00:00:00" }, "no end": func(s *catalog.Session) { s.ExpiresAt = "" },
		"no last use": func(s *catalog.Session) { s.LastSeen = "" },
	} {
		if err := g.host.Sessions.Delete(ctx, row.ID); err != nil {
			t.Fatal(err)
		}
		s := *row
		change(&s)
		if err := g.host.Sessions.Insert(ctx, &s); err != nil {
			t.Logf("%s: the database refuses it: %v", name, err)
			s = *row
			s.MAC = strings.Repeat("0", 64)
			if err := g.host.Sessions.Insert(ctx, &s); err != nil {
				t.Fatal(err)
			}
		}
		a := g.replica()
		for _, host := range []string{"app.example.com", "acme.app.example.com"} {
			if _, err := a.present(host, sessionName+token); !errors.Is(err, ErrSessionExpired) {
				t.Errorf("%s on %s: %v", name, host, err)
			}
		}
	}
}

func TestSessionEndsToTheSecondHoweverMuchItIsUsed(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	b.mustSignIn("alice")
	for range 47 {
		g.clock.advance(30 * time.Minute)
		if _, err := b.identity(); err != nil {
			t.Fatal(err)
		}
	}
	g.clock.advance(30*time.Minute - time.Microsecond)
	if _, err := b.identity(); err != nil {
		t.Fatalf("a microsecond before the end: %v", err)
	}
	g.clock.advance(time.Microsecond)
	if _, err := b.identity(); !errors.Is(err, ErrSessionExpired) {
		t.Fatalf("at the end: %v", err)
	}
}

func TestShorterAbsoluteTimeoutHoldsForSessionsThatAreThere(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	b.mustSignIn("alice")
	g.cfg.Session.AbsoluteTimeout = 30 * time.Minute
	b.auth = g.replica()
	if id := mustIdentity(t, b); !id.Expires.Equal(g.clock.Now().Add(30 * time.Minute)) {
		t.Fatalf("expires %v", id.Expires)
	}
	g.clock.advance(30 * time.Minute)
	if _, err := b.identity(); !errors.Is(err, ErrSessionExpired) {
		t.Fatal(err)
	}
}

func TestIdleSessionEndsAndUseKeepsItAlive(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	b.mustSignIn("alice")
	for range 5 {
		g.clock.advance(time.Hour - time.Second)
		if _, err := b.identity(); err != nil {
			t.Fatal(err)
		}
	}
	// A use that came too soon after the last written one is not written, and counts here all the same.
	g.clock.advance(30 * time.Second)
	if _, err := b.identity(); err != nil {
		t.Fatal(err)
	}
	g.clock.advance(time.Hour - time.Second)
	if _, err := b.identity(); err != nil {
		t.Fatalf("used less than an hour ago: %v", err)
	}
	g.clock.advance(time.Hour)
	if _, err := b.identity(); !errors.Is(err, ErrSessionExpired) {
		t.Fatalf("idle for an hour: %v", err)
	}
}

func TestRowIsReadAgainBeforeASessionIsRefusedAsIdle(t *testing.T) {
	g := newRig(t, func(g *rig) { g.cfg.Session.IdleTimeout = 4 * time.Second }) // shorter than facts are kept
	g.addUser("main|alice", "")
	b := g.browser()
	b.mustSignIn("alice")
	if _, err := b.identity(); err != nil {
		t.Fatal(err)
	}
	other := g.replica()
	g.clock.advance(3 * time.Second)
	id, err := other.present("app.example.com", b.cookieHeader()...)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil { // writes what is queued
		t.Fatal(err)
	}
	g.clock.advance(1100 * time.Millisecond)
	if _, err := b.identity(); err != nil {
		t.Fatalf("used a second ago on another replica (%s): %v", id.Session, err)
	}
	g.clock.advance(4 * time.Second)
	if _, err := b.identity(); !errors.Is(err, ErrSessionExpired) {
		t.Fatalf("idle everywhere: %v", err)
	}
}

func (g *rig) lastSeen(id catalog.SessionID) time.Time {
	g.t.Helper()
	row, _, _, err := g.host.SessionUser(context.Background(), id)
	if err != nil {
		g.t.Fatal(err)
	}
	at, err := catalog.ParseTimestamp(row.LastSeen)
	if err != nil {
		g.t.Fatal(err)
	}
	return at
}

func TestLastUseIsWrittenOnceAMinute(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	b.mustSignIn("alice")
	begun := g.clock.Now()
	id, err := b.identity()
	if err != nil {
		t.Fatal(err)
	}
	for range 59 {
		g.clock.advance(time.Second)
		if _, err := b.identity(); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.auth.Close(); err != nil {
		t.Fatal(err)
	}
	if got := g.lastSeen(id.Session); !got.Equal(begun) {
		t.Fatalf("written after %v", got.Sub(begun))
	}
	b.auth = g.replica()
	g.clock.advance(time.Second)
	if _, err := b.identity(); err != nil {
		t.Fatal(err)
	}
	g.clock.advance(time.Second)
	b.auth.Use(id) // bytes on an open stream
	if err := b.auth.Close(); err != nil {
		t.Fatal(err)
	}
	if got := g.lastSeen(id.Session); !got.Equal(begun.Add(time.Minute)) {
		t.Fatalf("last_seen is %v after the sign-in, want a minute", got.Sub(begun))
	}
}

func TestStreamThatIsUsedKeepsItsSessionAlive(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	b.mustSignIn("alice")
	id, err := b.identity()
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		g.clock.advance(50 * time.Minute)
		g.auth.Use(id)
	}
	if _, err := b.identity(); err != nil {
		t.Fatal(err)
	}
	g.auth.Use(Identity{Kind: KindBearer})
	g.auth.Use(Identity{Kind: KindSession, Session: "not an id"})
}

func TestBlockedOrDeletedUserIsUnknownWithinFiveSeconds(t *testing.T) { // FRESH-1, STATE-1
	g := newRig(t)
	ctx := context.Background()
	alice, bob := g.addUser("main|alice", ""), g.addUser("main|bob", "")
	a, b := g.browser(), g.browser()
	a.mustSignIn("alice")
	b.mustSignIn("bob")
	for _, br := range []*browser{a, b} {
		if _, err := br.identity(); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.host.BlockUser(ctx, alice, "test"); err != nil {
		t.Fatal(err)
	}
	if err := g.host.GlobalUsers.Delete(ctx, bob); err != nil {
		t.Fatal(err)
	}
	g.clock.advance(maxFactsAge)
	if _, err := a.identity(); err == nil {
		t.Error("blocked user passes")
	}
	if _, err := b.identity(); !errors.Is(err, ErrUnknownUser) && !errors.Is(err, ErrSessionExpired) {
		t.Errorf("deleted user: %v", err)
	}
	if w := a.signIn("alice", nil); w.Header().Get("X-Code") != codeUnknownUser {
		t.Errorf("blocked user signs in: %d", w.Code)
	}
}

func TestSignOutElsewhereIsSeenWithinFiveSecondsAndOwnAtOnce(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	one, other := g.browser(), g.browser()
	one.mustSignIn("alice")
	other.auth, other.cookies = g.replica(), map[string]string{"__Host-tg_session": one.cookies["__Host-tg_session"]}
	if _, err := other.identity(); err != nil {
		t.Fatal(err)
	}
	kept := one.cookieHeader()
	if w := one.do(http.MethodPost, logoutPath); w.Code != http.StatusSeeOther {
		t.Fatalf("sign-out: %d", w.Code)
	}
	if _, err := g.auth.present("app.example.com", kept...); !errors.Is(err, ErrSessionExpired) {
		t.Fatalf("where it was asked for: %v", err)
	}
	g.clock.advance(maxFactsAge)
	if _, err := other.identity(); !errors.Is(err, ErrSessionExpired) {
		t.Fatalf("elsewhere: %v", err)
	}
}

func TestHostDatabaseDownIsUnavailableNeverAPass(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	b.mustSignIn("alice")
	if _, err := b.identity(); err != nil {
		t.Fatal(err)
	}
	strange := newSessionToken()
	if _, err := g.auth.present("app.example.com", sessionName+strange.encode()); !errors.Is(err, ErrSessionExpired) {
		t.Fatal(err)
	}
	if err := g.host.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.identity(); err != nil {
		t.Fatalf("facts a moment old: %v", err)
	}
	if _, err := g.auth.present("app.example.com", sessionName+strange.encode()); !errors.Is(err, ErrSessionExpired) {
		t.Fatalf("known not to exist: %v", err)
	}
	g.clock.advance(maxFactsAge)
	if _, err := b.identity(); !errors.Is(err, catalog.ErrUnavailable) {
		t.Fatalf("facts too old: %v", err)
	}
	if _, err := g.auth.present("app.example.com", sessionName+strange.encode()); !errors.Is(err, catalog.ErrUnavailable) {
		t.Fatalf("unknown session: %v", err)
	}
	if _, err := g.auth.present("app.example.com", sessionName+"junk"); !errors.Is(err, ErrSessionExpired) {
		t.Fatalf("a cookie that cannot be a token needs no database: %v", err)
	}
	if _, err := g.auth.present("app.example.com", sessionName+"junk; "+b.cookieHeader()[0]); !errors.Is(err, catalog.ErrUnavailable) {
		t.Fatalf("a check that could not be made is told: %v", err)
	}
	if _, err := g.auth.present("app.example.com"); !errors.Is(err, ErrUnauthenticated) {
		t.Fatal(err)
	}
}

func TestWrongSecretWithAKnownIDLocksNobodyOut(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	token := b.mustSignIn("alice")
	good, _ := parseToken(token)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 50 {
				bad := good
				bad[47] = byte(i*50 + j + 1)
				bad[46] ^= 0xff
				if _, err := g.auth.present("app.example.com", sessionName+bad.encode()); !errors.Is(err, ErrSessionExpired) {
					t.Errorf("wrong secret: %v", err)
				}
				if _, err := b.identity(); err != nil {
					t.Errorf("right one: %v", err)
				}
			}
		})
	}
	group.Wait()
}

func TestTenantIsKeptWithTheSession(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	b.mustSignIn("alice")
	id, err := b.identity()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.auth.SetTenant(t.Context(), id, "acme"); err != nil {
		t.Fatal(err)
	}
	if id, err = b.identity(); err != nil || id.SessionTenant != "acme" {
		t.Fatalf("%q %v", id.SessionTenant, err)
	}
	if err := g.host.Sessions.Delete(t.Context(), id.Session); err != nil {
		t.Fatal(err)
	}
	if err := g.auth.SetTenant(t.Context(), id, "beta"); !errors.Is(err, ErrSessionExpired) {
		t.Fatal(err)
	}
	if err := g.auth.SetTenant(t.Context(), Identity{Kind: KindBearer}, "beta"); err == nil {
		t.Fatal("a bearer token keeps no tenant")
	}
}

func TestPlainSpellingIsReadOnPlainPublicURLAlone(t *testing.T) {
	g := newRig(t, plainHTTP)
	g.addUser("main|alice", "")
	b := g.browser()
	token := b.mustSignIn("alice")
	if _, plain := b.cookies["tg_session"]; !plain {
		t.Fatalf("cookies %v", b.cookies)
	}
	for _, host := range []string{"localhost:8080", "localhost"} {
		if _, err := g.auth.present(host, "tg_session="+token); err != nil {
			t.Fatalf("%s: %v", host, err)
		}
	}
	if _, err := g.auth.present("localhost:8080", sessionName+token); !errors.Is(err, ErrUnauthenticated) {
		t.Fatal(err)
	}
}

// Rows of what has ended are the clean-up job's to remove: no sign-in does, and nothing relies on their being gone.
func TestEndedSessionOpensNothingWhileItsRowStands(t *testing.T) {
	onBothEngines(t, func(t *testing.T, engine rigOption) {
		g := newRig(t, engine)
		user := g.addUser("main|alice", "")
		b := g.browser()
		token := b.mustSignIn("alice")
		g.clock.advance(25 * time.Hour)
		g.browser().mustSignIn("alice")
		for name, a := range map[string]*Auth{"here": g.auth, "on a replica that never saw it": g.replica()} {
			if _, err := a.present("app.example.com", sessionName+token); !errors.Is(err, ErrSessionExpired) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := g.auth.Close(); err != nil { // waits for whatever a sign-in left to do
			t.Fatal(err)
		}
		if n := g.sessionCount(user); n != 2 {
			t.Errorf("%d rows", n)
		}
	})
}

func TestWarmCookieReadsNothingAndAllocatesNothing(t *testing.T) {
	g := newRig(t)
	g.addUser("main|alice", "")
	b := g.browser()
	token := b.mustSignIn("alice")
	c := Credentials{Cookies: []string{"theme=dark; " + sessionName + token + "; lang=en"}, Host: "app.example.com"}
	ctx := context.Background()
	if _, err := g.auth.Authenticate(ctx, c); err != nil {
		t.Fatal(err)
	}
	if err := g.host.Close(); err != nil {
		t.Fatal(err)
	}
	allocs := math.Inf(1)
	for range 5 { // what else the process does is counted too
		allocs = min(allocs, testing.AllocsPerRun(200, func() {
			if _, err := g.auth.Authenticate(ctx, c); err != nil {
				t.Error(err)
			}
		}))
	}
	if allocs > 1 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestErrorsOfCredentialsHoldNoCredential(t *testing.T) { // LEAK-3
	g := newRig(t)
	g.addUser("main|alice", "")
	token := g.browser().mustSignIn("alice")
	for _, c := range []Credentials{
		{Cookies: []string{sessionName + token}, Host: "evil.com"},
		{Authorization: []string{"Bearer canary-token"}},
		{Authorization: []string{"Bearer " + g.op.sign(map[string]any{"iss": g.op.url(), "aud": "api", "sub": "canary-sub", "exp": 1}, nil)}},
	} {
		_, err := g.auth.Authenticate(context.Background(), c)
		if err == nil {
			t.Fatal("accepted")
		}
		for _, secret := range []string{token, "canary"} {
			if strings.Contains(fmt.Sprintf("%+v", err), secret) {
				t.Errorf("%v", err)
			}
		}
	}
}
