package auth

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/secret"
)

func trusting(g *rig) { g.cfg.Providers[0].TrustEmail = true }

func verifiedMail(address string) map[string]any {
	return map[string]any{"email": address, "email_verified": true}
}

func TestTrustEmailLinksTheOneUserWhoHasNoOtherWayIn(t *testing.T) { // LINK-1, LINK-2
	for name, tc := range map[string]struct {
		user   catalog.GlobalUser
		second bool
		claims map[string]any
		want   int
	}{
		"one row":             {claims: verifiedMail("alice@example.com"), want: 302},
		"ASCII case":          {claims: verifiedMail("ALICE@Example.com"), want: 302},
		"empty texts":         {user: catalog.GlobalUser{OAuthID: new(""), PasswordHash: new("")}, claims: verifiedMail("alice@example.com"), want: 302},
		"other oauth_id":      {user: catalog.GlobalUser{OAuthID: new("x|1")}, claims: verifiedMail("alice@example.com"), want: 403},
		"password":            {user: catalog.GlobalUser{PasswordHash: new("$2b$")}, claims: verifiedMail("alice@example.com"), want: 403},
		"system admin":        {user: catalog.GlobalUser{IsSysAdmin: new(true)}, claims: verifiedMail("alice@example.com"), want: 403},
		"two rows":            {second: true, claims: verifiedMail("alice@example.com"), want: 403},
		"not verified":        {claims: map[string]any{"email": "alice@example.com"}, want: 403},
		"verified false":      {claims: map[string]any{"email": "alice@example.com", "email_verified": false}, want: 403},
		"verified text":       {claims: map[string]any{"email": "alice@example.com", "email_verified": "true"}, want: 403},
		"verified number":     {claims: map[string]any{"email": "alice@example.com", "email_verified": 1}, want: 403},
		"xms_edov":            {claims: map[string]any{"email": "alice@example.com", "xms_edov": true}, want: 403},
		"two ats":             {claims: verifiedMail("alice@example.com@evil.com"), want: 403},
		"another address":     {claims: verifiedMail("alice@example.org"), want: 403},
		"other script's case": {claims: verifiedMail("alıce@example.com"), want: 403},
		"list":                {claims: map[string]any{"email": []string{"alice@example.com"}, "email_verified": true}, want: 403},
		"no address":          {claims: map[string]any{"email_verified": true}, want: 403},
	} {
		g := newRig(t, trusting)
		g.op.userInfo = map[string]any{"sub": "alice"}
		u := tc.user
		u.Email = new("Alice@example.com")
		if err := g.host.GlobalUsers.Insert(t.Context(), &u); err != nil {
			t.Fatal(err)
		}
		if tc.second {
			g.addUser("", "alice@EXAMPLE.com")
		}
		w := g.browser().signIn("alice", tc.claims)
		if w.Code != tc.want {
			t.Errorf("%s: %d, want %d", name, w.Code, tc.want)
		}
		row, err := g.host.GlobalUsers.Get(t.Context(), u.ID)
		if err != nil {
			t.Fatal(err)
		}
		if linked := text(row.OAuthID) == "main|alice"; linked != (tc.want == 302) {
			t.Errorf("%s: oauth_id %q", name, text(row.OAuthID))
		}
		updates := g.audits("user.updated")
		if tc.want == 302 && (len(updates) != 1 || text(updates[0].ActorUserID) != string(u.ID)) {
			t.Errorf("%s: audited %+v", name, updates)
		}
	}
}

func TestBlockedUserIsNotLinked(t *testing.T) {
	g := newRig(t, trusting)
	id := g.addUser("", "alice@example.com")
	if err := g.host.BlockUser(t.Context(), id, "test"); err != nil {
		t.Fatal(err)
	}
	if w := g.browser().signIn("alice", verifiedMail("alice@example.com")); w.Header().Get("X-Code") != codeUnknownUser {
		t.Fatal(w.Code)
	}
	row, err := g.host.GlobalUsers.Get(t.Context(), id)
	if err != nil || text(row.OAuthID) != "" {
		t.Fatalf("%q %v", text(row.OAuthID), err)
	}
}

func TestWithoutTrustOrSignUpStrangersStayStrangers(t *testing.T) {
	g := newRig(t)
	g.addUser("", "alice@example.com")
	b := g.browser()
	w := b.signIn("alice", verifiedMail("alice@example.com"))
	if w.Header().Get("X-Code") != codeUnknownUser || len(b.cookies) != 0 || len(g.audits("sign_in")) != 0 {
		t.Fatalf("%d %v", w.Code, b.cookies)
	}
}

func signingUp(g *rig) {
	g.cfg.SignUp = "create_user"
	g.cfg.SignUpLimit = 3
	g.cfg.Providers[0].EmailDomains = []string{"example.com", "BÜCHER.example"}
}

func TestSignUpMakesUsersOfVerifiedAddressesInTheDomains(t *testing.T) { // ID-1
	g := newRig(t, signingUp)
	g.op.userInfo = map[string]any{"sub": "x"}
	for address, want := range map[string]int{
		"new@example.com": 302, "x@bücher.example": 302, "b@sub.example.com": 403, "c@example.com.evil.com": 403, "d@evil.com": 403, "e@example.com@evil.com": 403, "f@evil.com@example.com": 403,
		"g@exampleXcom": 403, "h@example.com.": 403, "i@example.com\n": 403, "j@notexample.com": 403,
	} {
		subject := "sub of " + address
		if strings.ContainsRune(address, '\n') {
			subject = "x"
		}
		if w := g.browser().signIn(subject, verifiedMail(address)); w.Code != want {
			t.Errorf("%q: %d, want %d", address, w.Code, want)
		}
	}
	users, err := g.host.UsersByEmail(t.Context(), "new@example.com")
	if err != nil || len(users) != 1 || text(users[0].OAuthID) != "main|sub of new@example.com" {
		t.Fatalf("%+v %v", users, err)
	}
	created := g.audits("user.created")
	if len(created) != 2 {
		t.Fatalf("%d users made", len(created))
	}
	for _, row := range created {
		if text(row.ActorUserID) != text(row.TargetID) || text(row.IPAddress) != "192.0.2.1" {
			t.Errorf("%+v", row)
		}
	}
	if w := g.browser().signIn("unverified", map[string]any{"email": "u@example.com", "email_verified": "true"}); w.Code != 403 {
		t.Errorf("unverified: %d", w.Code)
	}
}

func TestEmailDomainsHoldForKnownUsersToo(t *testing.T) {
	g := newRig(t, func(g *rig) { g.cfg.Providers[0].EmailDomains = []string{"example.com"} })
	g.addUser("main|alice", "")
	g.op.userInfo = map[string]any{"sub": "alice"}
	for _, tc := range []struct {
		claims map[string]any
		want   int
	}{{verifiedMail("alice@example.com"), 302}, {verifiedMail("alice@evil.com"), 403}, {map[string]any{"email": "alice@example.com"}, 403}, {nil, 403}} {
		if w := g.browser().signIn("alice", tc.claims); w.Code != tc.want {
			t.Errorf("%v: %d, want %d", tc.claims, w.Code, tc.want)
		}
	}
}

func TestSignUpsAreLimitedByClientAddress(t *testing.T) {
	g := newRig(t, signingUp)
	sign := func(i int) int {
		return g.browser().signIn(fmt.Sprint("s", i), verifiedMail(fmt.Sprintf("u%d@example.com", i))).Code
	}
	for i := range 3 {
		if code := sign(i); code != 302 {
			t.Fatalf("%d: %d", i, code)
		}
	}
	if code := sign(3); code != http.StatusTooManyRequests {
		t.Fatalf("the fourth: %d", code)
	}
	if code := sign(0); code != 302 {
		t.Fatalf("who has signed up already: %d", code)
	}
	g.ip = "192.0.2.2"
	if code := sign(4); code != 302 {
		t.Fatalf("another address: %d", code)
	}
	g.ip = "192.0.2.1"
	g.clock.advance(time.Hour)
	if code := sign(5); code != 302 {
		t.Fatalf("after an hour: %d", code)
	}
}

func TestSignUpLimitHoldsOverAllReplicasTogether(t *testing.T) {
	onBothEngines(t, func(t *testing.T, engine rigOption) {
		g := newRig(t, signingUp, engine)
		replicas := []*Auth{g.auth, g.replica(), g.replica()}
		var group sync.WaitGroup
		codes := make([]int, 9)
		for i := range codes {
			b := g.browser()
			b.auth = replicas[i%len(replicas)]
			authorize := b.away("")
			group.Go(func() {
				codes[i] = b.back(g.op, "main", authorize, fmt.Sprint("s", i), verifiedMail(fmt.Sprintf("u%d@example.com", i))).Code
			})
		}
		group.Wait()
		count := map[int]int{}
		for _, code := range codes {
			count[code]++
		}
		if count[http.StatusFound] != 3 || count[http.StatusTooManyRequests] != 6 || len(g.audits("user.created")) != 3 {
			t.Fatalf("%v, %d users made", codes, len(g.audits("user.created")))
		}
		again := g.replica() // after a restart
		b := g.browser()
		b.auth = again
		if w := b.signIn("late", verifiedMail("late@example.com")); w.Code != http.StatusTooManyRequests {
			t.Errorf("after a restart: %d", w.Code)
		}
		g.ip = "192.0.2.9"
		if w := b.signIn("late", verifiedMail("late@example.com")); w.Code != http.StatusFound {
			t.Errorf("from elsewhere: %d", w.Code)
		}
	})
}

func TestSignUpThatFailsIsNotCounted(t *testing.T) {
	g := newRig(t, signingUp)
	for i := range 3 { // refused for what comes after the user is made: the provider has ended the session
		sub := fmt.Sprint("ended-", i)
		if w := g.backchannel(g.logoutToken(map[string]any{"sub": sub, "sid": nil})); w.Code != http.StatusOK {
			t.Fatal(w.Code)
		}
		if w := g.browser().signIn(sub, verifiedMail(sub+"@example.com")); w.Code != http.StatusBadRequest {
			t.Fatal(w.Code)
		}
	}
	for i := range 3 {
		if w := g.browser().signIn(fmt.Sprint("s", i), verifiedMail(fmt.Sprintf("u%d@example.com", i))); w.Code != http.StatusFound {
			t.Fatalf("%d: %d", i, w.Code)
		}
	}
}

func TestSubjectsOfProvidersAreNeverTakenForEachOther(t *testing.T) { // TEN-4
	g := newRig(t, func(g *rig) { g.cfg.InsecureEmptyPrefix = true })
	other := newIssuer(t, g.clock.Now)
	g.cfg.Providers = append(g.cfg.Providers, Provider{
		Name: "open", Issuer: other.url(), ClientID: clientID, ClientSecret: secret.New(clientSecret), Bearer: BearerConfig{Audiences: []string{"api"}},
	})
	g.auth = g.replica()
	g.addUser("main|alice", "")
	bob := g.addUser("bob", "")
	for subject, want := range map[string]int{"main|alice": 403, "main|": 403, "bob": 302, "alice": 403} {
		b := g.browser()
		if w := b.back(other, "open", b.away("?provider=open"), subject, nil); w.Code != want {
			t.Errorf("%s: %d, want %d", subject, w.Code, want)
		}
		id, err := g.bearer(other.sign(map[string]any{"iss": other.url(), "aud": "api", "sub": subject, "exp": g.clock.Now().Add(time.Minute).Unix()}, nil))
		if (err == nil) != (want == 302) || (err == nil && id.User != bob) {
			t.Errorf("bearer %s: %v %v", subject, id.User, err)
		}
	}
}
