package auth

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/telemetry"
)

// mint makes a token as the command line does.
func (g *rig) mint(spec TokenSpec) (*catalog.APIToken, string) {
	g.t.Helper()
	ctx := context.Background()
	maker, err := NewTokenMaker(ctx, g.host, g.deps.Secrets)
	if err != nil {
		g.t.Fatal(err)
	}
	var row *catalog.APIToken
	var token string
	if err := g.host.InTx(ctx, func(tx *catalog.Tx) error {
		made, text, err := maker.Make(ctx, tx, spec)
		row, token = made, text.Reveal()
		return err
	}); err != nil {
		g.t.Fatal(err)
	}
	return row, token
}

func TestAPITokenStandsForItsUserAndTenant(t *testing.T) {
	onBothEngines(t, func(t *testing.T, engine rigOption) {
		g := newRig(t, engine)
		user := g.addUser("main|alice", "alice@example.com")
		if err := g.host.Tenants.Insert(context.Background(), &catalog.TenantCatalog{ID: "acme"}); err != nil {
			t.Fatal(err)
		}
		end := g.clock.Now().Add(time.Hour)
		row, token := g.mint(TokenSpec{User: user, Tenant: "acme", Name: "deploy", Expires: end})
		if !strings.HasPrefix(token, "tg_") || len(token) != 3+68 {
			t.Fatalf("a token of %d characters", len(token))
		}
		id, err := g.bearer(token)
		if err != nil {
			t.Fatal(err)
		}
		if id.User != user || id.Kind != KindAPIToken || id.Kind.String() != "token" || id.Token != row.ID || id.TokenTenant != "acme" ||
			!id.Expires.Equal(end) || !id.IssuedAt.Equal(*mustTime(t, row.CreatedAt)) {
			t.Fatalf("%+v", id)
		}
		if !id.Reaches("acme") || id.Reaches("globex") {
			t.Error("a token for one tenant reaches another")
		}
		_, forever := g.mint(TokenSpec{User: user})
		g.clock.advance(20 * 365 * 24 * time.Hour)
		if id, err := g.bearer(forever); err != nil || !id.Expires.IsZero() || !id.Reaches("globex") {
			t.Fatalf("%+v, %v", id, err)
		}
		if _, err := g.bearer(token); !errors.Is(err, ErrInvalidToken) {
			t.Fatalf("after its end: %v", err)
		}
	})
}

func mustTime(t testing.TB, s string) *time.Time {
	t.Helper()
	at, err := catalog.ParseTimestamp(s)
	if err != nil {
		t.Fatal(err)
	}
	return &at
}

func TestChecksumIsACRC32(t *testing.T) {
	token := apiToken(newSessionToken())
	sum := crc32.ChecksumIEEE(token[:])
	if checksum(&token) != [3]byte{byte(sum >> 16), byte(sum >> 8), byte(sum)} {
		t.Error("the checksum is another")
	}
}

func TestAPITokenEndsToTheMicrosecond(t *testing.T) {
	g := newRig(t)
	_, token := g.mint(TokenSpec{User: g.addUser("main|alice", ""), Expires: g.clock.Now().Add(time.Second)})
	g.clock.advance(time.Second - time.Microsecond)
	if _, err := g.bearer(token); err != nil {
		t.Fatal(err)
	}
	g.clock.advance(time.Microsecond)
	if _, err := g.bearer(token); !errors.Is(err, ErrInvalidToken) {
		t.Fatal(err)
	}
}

func TestOnlyTheTokenItselfIsGood(t *testing.T) { // BEAR-1
	g := newRig(t)
	g.addUser("main|alice", "")
	user := g.addUser("main|bob", "")
	_, token := g.mint(TokenSpec{User: user})
	_, other := g.mint(TokenSpec{User: user})
	_, admin := g.mint(TokenSpec{Admin: true})
	cookie := g.browser().mustSignIn("alice")
	var strange apiToken
	flipped := []byte(token)
	flipped[40] ^= 1
	bad := []string{
		admin, "tg_" + admin[4:], "tga_" + token[3:], "tg_" + token[4:], "TG_" + token[3:], "tg_", "tga_", "tg", token + "=", token + ".", token + " x", token[:70],
		token[:30] + other[30:], string(flipped), strange.encode("tg_"), "tg_" + cookie, cookie, "tg_" + strings.Repeat("A", 68), strings.ToUpper(token), "tg__" + token[3:],
		"tg_" + strings.Repeat("A", 1<<20), "tg_" + token, token + token[3:],
	}
	for i := 3; i < len(token); i += 5 { // each character counts
		b := []byte(token)
		b[i] = map[bool]byte{true: 'B', false: 'A'}[b[i] == 'A']
		bad = append(bad, string(b))
	}
	for _, a := range []*Auth{g.auth, g.replica()} { // remembered and not
		for _, warm := range []string{token, other} {
			if _, err := a.Authenticate(context.Background(), Credentials{Authorization: []string{"Bearer " + warm}}); err != nil {
				t.Fatal(err)
			}
		}
		for _, text := range bad {
			if _, err := a.Authenticate(context.Background(), Credentials{Authorization: []string{"Bearer " + text}}); !errors.Is(err, ErrInvalidToken) {
				t.Errorf("%.90q: %v", text, err)
			}
		}
	}
}

func TestAPITokenCountsAloneEvenBesideAGoodCookie(t *testing.T) {
	g := newRig(t, func(g *rig) { g.cfg.Providers[0].Bearer.Audiences = nil }) // tg_ is ours whatever the providers have
	alice, bob := g.addUser("main|alice", ""), g.addUser("main|bob", "")
	cookie := []string{sessionName + g.browser().mustSignIn("alice")}
	_, token := g.mint(TokenSpec{User: bob})
	for _, c := range []struct {
		authorization []string
		user          catalog.UserID
		err           error
	}{
		{[]string{"Bearer " + token}, bob, nil},
		{[]string{"bearer  " + token}, bob, nil},
		{[]string{"BEARER\t" + token}, bob, nil},
		{[]string{"Bearer " + token + "x"}, "", ErrInvalidToken},
		{[]string{"Bearer tga_x"}, "", ErrInvalidToken},
		{[]string{"Bearer " + token, "Bearer " + token}, "", ErrInvalidToken},
		{[]string{"Basic eA==", "Bearer " + token}, "", ErrInvalidToken},
		{[]string{"Bearer " + token[3:]}, alice, nil}, // not ours: passes to the app, and the cookie counts
		{[]string{"Basic " + token}, alice, nil},
		{[]string{token}, alice, nil},
	} {
		id, err := g.auth.Authenticate(context.Background(), Credentials{Cookies: cookie, Authorization: c.authorization, Host: "app.example.com"})
		if !errors.Is(err, c.err) || id.User != c.user {
			t.Errorf("%.20q: %s, %v", c.authorization, id.User, err)
		}
	}
	// In a cookie it opens nothing.
	for _, name := range []string{sessionName, "__Host-tg_admin=", "tg_session=", "token="} {
		if _, err := g.auth.present("app.example.com", name+token); err == nil {
			t.Errorf("a token in the cookie %s opens something", name)
		}
	}
}

func TestTokenRowWrittenByAnotherProgramOpensNothing(t *testing.T) {
	g := newRig(t)
	ctx := context.Background()
	user, victim := g.addUser("main|alice", ""), g.addUser("main|victim", "")
	for _, id := range []catalog.TenantID{"acme", "globex"} {
		if err := g.host.Tenants.Insert(ctx, &catalog.TenantCatalog{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func(*catalog.APIToken){
		"another user":   func(k *catalog.APIToken) { k.UserID = victim },
		"another tenant": func(k *catalog.APIToken) { k.TenantID = "globex" },
		"every tenant":   func(k *catalog.APIToken) { k.TenantID = "" },
		"a later end":    func(k *catalog.APIToken) { k.ExpiresAt = new("2099-01-01T00:00:00") },
		"no end":         func(k *catalog.APIToken) { k.ExpiresAt = nil },
		"a garbled end":  func(k *catalog.APIToken) { k.ExpiresAt = new("never") },
		"admin":          func(k *catalog.APIToken) { k.Kind, k.UserID, k.TenantID = catalog.TokenAdmin, "", "" },
		"another MAC":    func(k *catalog.APIToken) { k.MAC = strings.Repeat("0", 64) },
		"no hex":         func(k *catalog.APIToken) { k.MAC = "mac" },
		"MAC of no key": func(k *catalog.APIToken) {
			k.MAC = hex.EncodeToString(apiTokenMAC(nil, &apiToken{}, k))
		},
		"no creation": func(k *catalog.APIToken) { k.CreatedAt = "x" },
	} {
		row, token := g.mint(TokenSpec{User: user, Tenant: "acme", Expires: g.clock.Now().Add(time.Hour)})
		if _, err := g.replica().Authenticate(ctx, Credentials{Authorization: []string{"Bearer " + token}}); err != nil {
			t.Fatal(err)
		}
		if err := g.host.APITokens.Delete(ctx, row.ID); err != nil {
			t.Fatal(err)
		}
		change(row)
		if err := g.host.APITokens.Insert(ctx, row); err != nil {
			t.Fatal(err)
		}
		a := g.replica()
		if _, err := a.Authenticate(ctx, Credentials{Authorization: []string{"Bearer " + token}}); !errors.Is(err, ErrInvalidToken) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := a.AdminToken(ctx, []string{"Bearer tga_" + token[3:]}); !errors.Is(err, ErrInvalidToken) {
			t.Errorf("%s as admin: %v", name, err)
		}
	}
}

func TestAdminTokenOpensTheAdminListenerAlone(t *testing.T) {
	g := newRig(t)
	ctx := context.Background()
	row, admin := g.mint(TokenSpec{Admin: true, Name: "ops", Expires: g.clock.Now().Add(time.Hour)})
	_, user := g.mint(TokenSpec{User: g.addUser("main|root", "")})
	if _, err := g.bearer(admin); !errors.Is(err, ErrInvalidToken) {
		t.Errorf("on the public listener: %v", err)
	}
	id, err := g.auth.AdminToken(ctx, []string{"Bearer " + admin})
	if err != nil || id.Kind != KindAdminToken || id.User != "" || id.Token != row.ID {
		t.Fatalf("%+v, %v", id, err)
	}
	for _, values := range [][]string{{"Bearer " + user}, {"Bearer tga_" + user[3:]}, {"Bearer tg_" + admin[4:]}, {"Bearer " + admin, "Bearer " + admin}, {"Bearer tga_"}, {"Bearer x"}} {
		if _, err := g.auth.AdminToken(ctx, values); !errors.Is(err, ErrInvalidToken) {
			t.Errorf("%.20q: %v", values, err)
		}
	}
	for _, values := range [][]string{nil, {"Basic " + admin}, {admin}} {
		if _, err := g.auth.AdminToken(ctx, values); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%.20q: %v", values, err)
		}
	}
	g.clock.advance(time.Hour)
	if _, err := g.auth.AdminToken(ctx, []string{"Bearer " + admin}); !errors.Is(err, ErrInvalidToken) {
		t.Errorf("after its end: %v", err)
	}
}

func TestTokenOfABlockedOrDeletedUserAndOneRevoked(t *testing.T) { // STATE-1, FRESH-1
	g := newRig(t)
	ctx := context.Background()
	alice, bob, carol, dan := g.addUser("main|alice", ""), g.addUser("main|bob", ""), g.addUser("main|carol", ""), g.addUser("main|dan", "")
	tokens := map[catalog.UserID]string{}
	rows := map[catalog.UserID]*catalog.APIToken{}
	for _, u := range []catalog.UserID{alice, bob, carol, dan} {
		rows[u], tokens[u] = g.mint(TokenSpec{User: u})
		if _, err := g.bearer(tokens[u]); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.host.BlockUser(ctx, alice, "test"); err != nil {
		t.Fatal(err)
	}
	if err := g.host.GlobalUsers.Delete(ctx, bob); err != nil {
		t.Fatal(err)
	}
	if err := g.host.APITokens.Delete(ctx, rows[carol].ID); err != nil {
		t.Fatal(err)
	}
	g.clock.advance(maxFactsAge)
	for _, u := range []catalog.UserID{alice, bob, carol} {
		if _, err := g.bearer(tokens[u]); !errors.Is(err, ErrInvalidToken) {
			t.Errorf("%s: %v", u, err)
		}
	}
	if err := g.host.UnblockUser(ctx, alice); err != nil {
		t.Fatal(err)
	}
	g.clock.advance(maxFactsAge)
	if _, err := g.bearer(tokens[alice]); !errors.Is(err, ErrInvalidToken) {
		t.Errorf("a block ends tokens for good: %v", err)
	}
	if _, err := g.bearer(tokens[dan]); err != nil {
		t.Errorf("somebody else's: %v", err)
	}
	maker, err := NewTokenMaker(ctx, g.host, g.deps.Secrets)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.host.BlockUser(ctx, dan, "test"); err != nil {
		t.Fatal(err)
	}
	err = g.host.InTx(ctx, func(tx *catalog.Tx) error {
		_, _, err := maker.Make(ctx, tx, TokenSpec{User: dan})
		return err
	})
	if !errors.Is(err, ErrUnknownUser) {
		t.Errorf("a token for a blocked user: %v", err)
	}
}

func TestLastUseOfATokenIsWrittenOnceAMinute(t *testing.T) {
	g := newRig(t)
	row, token := g.mint(TokenSpec{User: g.addUser("main|alice", "")})
	used := func() string {
		r, err := g.host.APITokens.Get(context.Background(), row.ID)
		if err != nil {
			t.Fatal(err)
		}
		return text(r.LastUsed)
	}
	begun := g.clock.Now()
	use := func() {
		if _, err := g.bearer(token); err != nil {
			t.Fatal(err)
		}
	}
	for range 59 {
		use()
		g.clock.advance(time.Second)
	}
	if err := g.auth.Close(); err != nil { // writes what is queued
		t.Fatal(err)
	}
	if used() != catalog.Timestamp(begun) {
		t.Fatalf("last_used %s", used())
	}
	g.auth = g.replica() // which knows from the row when it was written
	use()
	g.clock.advance(time.Second)
	use()
	g.auth.Use(Identity{Kind: KindAPIToken, Token: row.ID})
	g.clock.advance(time.Hour)
	// What is open is judged anew: that is no use.
	if _, err := g.auth.Authenticate(t.Context(), Credentials{Authorization: []string{"Bearer " + token}, Recheck: true}); err != nil {
		t.Fatal(err)
	}
	if err := g.auth.Close(); err != nil {
		t.Fatal(err)
	}
	if want := catalog.Timestamp(begun.Add(time.Minute)); used() != want {
		t.Fatalf("last_used %s, want %s", used(), want)
	}
}

func TestTokenIsJudgedWithoutTheDatabaseOnceSeen(t *testing.T) {
	g := newRig(t)
	_, token := g.mint(TokenSpec{User: g.addUser("main|alice", "")})
	c := Credentials{Authorization: []string{"Bearer " + token}}
	if _, err := g.auth.Authenticate(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := g.auth.Authenticate(context.Background(), c); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if err := g.host.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := g.auth.Authenticate(context.Background(), c); err != nil {
		t.Errorf("remembered: %v", err)
	}
	g.clock.advance(maxFactsAge)
	if _, err := g.auth.Authenticate(context.Background(), c); !errors.Is(err, catalog.ErrUnavailable) {
		t.Errorf("not remembered any more: %v", err)
	}
}

func TestTokenNeverPrintsItselfAndStandsInNoRow(t *testing.T) {
	g := newRig(t)
	row, token := g.mint(TokenSpec{User: g.addUser("main|alice", ""), Name: "n", CreatedBy: "cli:root@box"})
	rows := fmt.Sprintf("%+v", g.audits("token.created")) + text(g.audits("token.created")[0].Details) + fmt.Sprintf("%+v", *row)
	if strings.Contains(rows, token[30:]) || strings.Contains(text(g.audits("token.created")[0].Details), row.MAC) {
		t.Error("the token or its MAC is in the audit")
	}
	if !strings.Contains(text(g.audits("token.created")[0].Details), "cli:root@box") {
		t.Error("nobody made it")
	}
}

// Whatever token is made, and wherever it is cut: eight characters of what follows the prefix are enough to be hidden.
func TestTokensAndWhatIsLeftOfThemAreRedacted(t *testing.T) {
	redactor := telemetry.NewRedactor()
	rapid.Check(t, func(t *rapid.T) {
		var token apiToken
		copy(token[:], rapid.SliceOfN(rapid.Byte(), tokenBytes, tokenBytes).Draw(t, "token"))
		prefix := rapid.SampledFrom([]string{userTokenPrefix, adminTokenPrefix}).Draw(t, "prefix")
		before := rapid.SampledFrom([]string{"", "Bearer ", "token ", `{"x":"`, "tgdb_", "role tgdb_acme_", "(", "a=", "x-", "tg_"}).Draw(t, "before")
		after := rapid.SampledFrom([]string{"", " is unknown", `"}`, ".", ",", ": x"}).Draw(t, "after")
		whole := token.encode(prefix)
		for cut := len(prefix) + 8; cut <= len(whole); cut++ {
			if got := redactor.String(before + whole[:cut] + after); strings.Contains(got, whole[len(prefix):][:8]) {
				t.Fatalf("%q shows as %q", before+whole[:cut]+after, got)
			}
		}
	})
}
