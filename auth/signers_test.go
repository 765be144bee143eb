package auth

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/assertion"
	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/seal"
	"github.com/tenantgate/tenantgate/sealing"
)

// wallClock starts a test's clock a little after the host database's, which dates the first keys.
func wallClock(g *rig) { g.clock.now = time.Now().UTC().Add(time.Minute) }

func publishedBy(t *testing.T, a *Auth) []string {
	t.Helper()
	w := httptest.NewRecorder()
	a.JWKS(w, httptest.NewRequest(http.MethodGet, "/_gate/jwks.json", nil))
	var doc struct{ Keys []jwk }
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	var kids []string
	for _, k := range doc.Keys {
		kids = append(kids, k.ID)
	}
	return kids
}

func (g *rig) look(replicas ...*Auth) {
	g.t.Helper()
	for _, a := range replicas {
		if err := a.lookForKeys(context.Background()); err != nil {
			g.t.Fatal(err)
		}
	}
}

func signedWith(t *testing.T, token string) string {
	t.Helper()
	parsed, err := parseJWS(token, maxBearer)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.kid
}

// Two replicas, an app that asks them in turn for keys and one that fetches every ten minutes and never in between: no
// assertion is refused, however long it lives, while a key is renewed.
func TestAssertionKeyIsRenewedAndNoAssertionIsRefused(t *testing.T) {
	g := newRig(t, wallClock)
	replicas := []*Auth{g.auth, g.replica()}
	var turn atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		replicas[turn.Add(1)%2].JWKS(w, r)
	}))
	t.Cleanup(server.Close)
	verifier := func() *assertion.Verifier {
		v, err := assertion.New(assertion.Config{JWKSURL: server.URL, Issuer: "https://app.example.com", Audience: "app", Clock: g.clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	app := verifier()
	var lazy []string // the kids that an app knows that fetches every ten minutes
	type sent struct {
		token string
		ends  time.Time
	}
	var open []sent
	first := g.auth.keys.signing.Load().kid
	renewed, err := RenewAssertionKey(t.Context(), g.host, g.deps.Secrets, g.clock.Now(), false)
	if err != nil || !renewed.Created || renewed.ID == first || renewed.Signs.Sub(g.clock.Now().Truncate(time.Microsecond)) != publishFor {
		t.Fatalf("%+v %v", renewed, err)
	}
	seen := map[string]bool{}
	for minute := range 120 {
		if minute%10 == 0 {
			lazy = publishedBy(t, replicas[minute/10%2])
		}
		for i, a := range replicas {
			g.clock.advance(30 * time.Second)
			token, err := a.Assert(AssertionInput{Audience: "app", User: "u", Lifetime: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, sent{token, g.clock.Now().Add(time.Hour)})
			kid := signedWith(t, token)
			seen[kid] = true
			if !slices.Contains(lazy, kid) {
				t.Fatalf("minute %d: replica %d signs with a key that was not published ten minutes ago", minute, i)
			}
			g.look(a)
		}
		open = slices.DeleteFunc(open, func(s sent) bool { return !g.clock.Now().Before(s.ends) })
		for _, s := range []sent{open[0], open[len(open)-1]} { // keys come in order: the oldest and the newest stand for all
			if _, err := app.Verify(t.Context(), s.token); err != nil {
				t.Fatalf("minute %d: an assertion of %s ago: %v", minute, g.clock.Now().Sub(s.ends.Add(-time.Hour)), err)
			}
		}
		if _, err := verifier().Verify(t.Context(), open[0].token); err != nil {
			t.Fatalf("minute %d: an app that has just started refuses an assertion that is still good: %v", minute, err)
		}
	}
	if !seen[first] || !seen[renewed.ID] || len(seen) != 2 {
		t.Errorf("signed with %v", seen)
	}
	for i, a := range replicas {
		if kids := publishedBy(t, a); !slices.Equal(kids, []string{renewed.ID}) {
			t.Errorf("replica %d still publishes %v", i, kids)
		}
	}
	rows, err := g.host.Keys.List(t.Context(), purposeAssertion)
	if err != nil || len(rows) != 2 || rows[0].RetiredAt != nil || rows[1].RetiredAt == nil || rows[1].ID != first {
		t.Errorf("%+v %v", rows, err)
	}
	if n := len(g.audits("key.retired")); n != 1 {
		t.Errorf("%d retirements in the audit, want one however many replicas", n)
	}
	if kid := g.replica().keys.signing.Load().kid; kid != renewed.ID {
		t.Error("a replica that starts now signs with another key")
	}
}

func TestKeysOfOneAgeAreRenewedOnceHoweverManyReplicas(t *testing.T) {
	onBothEngines(t, func(t *testing.T, engine rigOption) {
		g := newRig(t, wallClock, engine)
		replicas := []*Auth{g.auth, g.replica(), g.replica(), g.replica()}
		together := func() {
			var group sync.WaitGroup
			for _, a := range replicas {
				group.Go(func() {
					if err := a.lookForKeys(context.Background()); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
		}
		g.clock.advance(renewAfter - time.Minute)
		together()
		if n := len(publishedBy(t, g.auth)); n != 1 {
			t.Fatalf("%d keys before the time", n)
		}
		g.clock.advance(2 * time.Minute)
		together()
		together()
		rows, err := g.host.Keys.List(t.Context(), purposeAssertion)
		if err != nil || len(rows) != 2 {
			t.Fatalf("%d keys, %v", len(rows), err)
		}
		for _, a := range replicas {
			if kids := publishedBy(t, a); len(kids) != 2 || a.keys.signing.Load().kid != rows[1].ID {
				t.Errorf("publishes %v, signs with %s", kids, a.keys.signing.Load().kid)
			}
		}
		g.clock.advance(publishFor)
		together()
		for _, a := range replicas {
			if kid := a.keys.signing.Load().kid; kid != rows[0].ID {
				t.Errorf("signs with %s", kid)
			}
		}
		// While one is on its way another would only delay it.
		again, err := RenewAssertionKey(t.Context(), g.host, g.deps.Secrets, g.clock.Now(), false)
		if err != nil || !again.Created {
			t.Fatalf("%+v %v", again, err)
		}
		twice, err := RenewAssertionKey(t.Context(), g.host, g.deps.Secrets, g.clock.Now().Add(time.Minute), false)
		if err != nil || twice.Created || twice.ID != again.ID || !twice.Signs.Equal(again.Signs) {
			t.Fatalf("%+v %v", twice, err)
		}
	})
}

func TestKeyThatBecameKnownIsReplacedAtOnce(t *testing.T) {
	g := newRig(t, wallClock)
	first := g.auth.keys.signing.Load().kid
	pending, err := RenewAssertionKey(t.Context(), g.host, g.deps.Secrets, g.clock.Now(), false)
	if err != nil {
		t.Fatal(err)
	}
	g.look(g.auth)
	now, err := RenewAssertionKey(t.Context(), g.host, g.deps.Secrets, g.clock.Now(), true)
	if err != nil || !now.Created || !now.Signs.Equal(g.clock.Now()) {
		t.Fatalf("%+v %v", now, err)
	}
	g.look(g.auth)
	if kids := publishedBy(t, g.auth); !slices.Equal(kids, []string{now.ID}) || g.auth.keys.signing.Load().kid != now.ID {
		t.Fatalf("publishes %v; first %s, pending %s, new %s", kids, first, pending.ID, now.ID)
	}
	if n := len(g.audits("key.retired")); n != 2 {
		t.Errorf("%d retirements", n)
	}
}

func TestKeysAreUsedOnWhileTheyCannotBeFollowed(t *testing.T) {
	g := newRig(t, wallClock)
	second := g.replica()
	renewed, err := RenewAssertionKey(t.Context(), g.host, g.deps.Secrets, g.clock.Now(), false)
	if err != nil {
		t.Fatal(err)
	}
	g.look(g.auth, second)
	strange := testKeyset(t, seal.GenerateSecret().Reveal())
	if _, err := RenewAssertionKey(t.Context(), g.host, strange, g.clock.Now().Add(time.Hour), true); err == nil {
		t.Fatal("secrets that open none of the keys made one")
	}
	// A key that this replica cannot open: it says so and goes on.
	sealed, err := strange.Seal("sys_keys/"+purposeAssertion+"/x", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = g.host.Keys.Renew(t.Context(), purposeAssertion, g.clock.Now().Add(-time.Second), 0, false, func() (string, string, error) { return "x", sealed, nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := g.auth.lookForKeys(t.Context()); err == nil || !strings.Contains(err.Error(), "key x") {
		t.Fatalf("%v", err)
	}
	if err := g.host.Close(); err != nil {
		t.Fatal(err)
	}
	g.clock.advance(publishFor)
	if err := second.lookForKeys(t.Context()); err == nil {
		t.Fatal("no error without a database")
	}
	if kid := second.keys.signing.Load().kid; kid != renewed.ID { // the clock went on
		t.Errorf("signs with %s", kid)
	}
}

func TestSignerIsChosenByAgeAlone(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	plain, err := newAssertionKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		ages      []time.Duration // newest first; negative: in the future
		signer    int
		published int
	}{
		"the first key":               {[]time.Duration{0}, 0, 1},
		"of a clock that is ahead":    {[]time.Duration{-time.Hour}, 0, 1},
		"a successor too young":       {[]time.Duration{publishFor - time.Microsecond, 24 * time.Hour}, 1, 2},
		"a successor old enough":      {[]time.Duration{publishFor, 24 * time.Hour}, 0, 2},
		"while assertions may live":   {[]time.Duration{publishFor + maxAssertion, 24 * time.Hour}, 0, 2},
		"none lives any more":         {[]time.Duration{publishFor + maxAssertion + assertionSlack, 24 * time.Hour}, 0, 1},
		"two successors":              {[]time.Duration{time.Minute, time.Hour, 24 * time.Hour}, 1, 3},
		"both young":                  {[]time.Duration{0, time.Minute}, 1, 2},
		"a successor from the future": {[]time.Duration{-time.Hour, 24 * time.Hour}, 1, 2},
	} {
		var keys []sealing.Key
		for i, age := range tc.ages {
			keys = append(keys, sealing.Key{ID: string(rune('a' + i)), Created: catalog.Timestamp(now.Add(-age)), Plain: plain})
		}
		s, err := newSigners(keys, now)
		if err != nil {
			t.Fatal(err)
		}
		if s.kid != keys[tc.signer].ID || strings.Count(string(s.jwks), `"kid"`) != tc.published || len(s.past) != len(keys)-tc.published {
			t.Errorf("%s: signs with %s, publishes %s, past %v", name, s.kid, s.jwks, s.past)
		}
	}
	if s, err := newSigners([]sealing.Key{{ID: "new", Created: "no time", Plain: plain}, {ID: "old", Created: catalog.Timestamp(now), Plain: plain}}, now.Add(time.Hour)); err != nil || s.kid != "old" {
		t.Errorf("a row without a time: %v", err)
	}
}
