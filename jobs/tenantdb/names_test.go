package tenantdb

import (
	"regexp"
	"strings"
	"testing"

	"github.com/tenantgate/tenantgate/catalog"
	"github.com/tenantgate/tenantgate/internal/pgtest"
	"github.com/tenantgate/tenantgate/sealing"
	"github.com/tenantgate/tenantgate/telemetry"
)

// strange are ids that a naive name would cut, fold, quote badly or find taken.
func strange() []catalog.TenantID {
	long := strings.Repeat("a", 200)
	return []catalog.TenantID{
		"acme", "ACME", "Acme", "ac-me", "ac_me", "ac me", "ac.me", `ac"me`, "ac'me", "ac;me", `a"; DROP DATABASE postgres; --`, "ac\\me", "ac/../me",
		"", " ", "  ", "-", "--", "postgres", "template0", "template1", "public", "pg_catalog", "tg_acme", "tga-acme-corporation", "x-tg-tg-tga-tg", "tgdb_tg", "tg", "tga", "user", "select", "tenantgate",
		"école", "東京", "e\u0301cole", "\u202eacme", "ac\tme", "ac\nme", "ac\x00me", "%2e%2e", "$1", "..", "/", "~",
		catalog.TenantID(long), catalog.TenantID(long + "b"), catalog.TenantID(long + "B"), catalog.TenantID(long[:63]), catalog.TenantID(long[:64]),
		catalog.TenantID(strings.Repeat("é", 40)), "123", "0", "0123456789abcdef0123456789abcdef",
	}
}

func TestEveryIDHasANameOfItsOwn(t *testing.T) {
	plain := regexp.MustCompile(`^tgdb_([a-z0-9_]{1,24}_?)?[a-z2-7]{24}$`)
	for _, installation := range []string{installation, "ffffffffffffffffffffffffffffffff"} {
		seen := map[string]catalog.TenantID{}
		for _, id := range strange() {
			name := nameOf(installation, id, "mark")
			if !plain.MatchString(name) || len(name) > 63 || strings.Contains(name, "__") {
				t.Errorf("%q is named %q", id, name)
			}
			for _, text := range []string{name, "role " + name + " owns: DROP OWNED BY " + name, `"` + name + `".`, "sqlite:////var/" + name + ".db"} {
				if got := telemetry.NewRedactor().String(text); got != text {
					t.Errorf("an operator reads %q for %q", got, text)
				}
			}
			if other, twice := seen[name]; twice {
				t.Errorf("%q and %q are both named %q", id, other, name)
			}
			seen[name] = id
			if name == nameOf(installation, id, "mark2") {
				t.Errorf("two records of %q have one name", id)
			}
		}
	}
	if nameOf(installation, "acme", "m") == nameOf("f"+installation[1:], "acme", "m") {
		t.Error("two installations share a name")
	}
}

// A server that is given the verifier alone lets the password in, and no other.
func TestAServerTakesOurVerifier(t *testing.T) {
	s := newServer(t, newURL(t))
	_, uri := made(t, s, "acme")
	connected(t, uri.Reveal())
	if _, err := connect(t, strings.Replace(uri.Reveal(), "@", "x@", 1)); err == nil {
		t.Error("another password is as good")
	}
	a, err := verifier(NewPassword())
	must(t, err)
	if !regexp.MustCompile(`^SCRAM-SHA-256\$4096:[A-Za-z0-9+/]{22}==\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$`).MatchString(a) {
		t.Errorf("verifier %q", a)
	}
}

// Through a socket the administrator's URL has no host; the tenant's has none either, and leads there all the same.
func TestATenantIsReachedTheWayTheAdministratorIs(t *testing.T) {
	server := pgtest.NewServer(t)
	admin := server.URL(t)
	for _, how := range []string{
		server.SocketURL(t, admin), strings.Replace(admin, "postgresql:", "postgresql+psycopg:", 1),
		admin + "&application_name=theirs&target_session_attrs=read-write&pool_max_conns=3",
	} {
		s := newServer(t, how)
		_, uri := made(t, s, "acme")
		must(t, Ping(t.Context(), uri))
		if err := sealing.CheckURI(uri.Reveal()); err != nil || strings.Contains(uri.Reveal(), "theirs") {
			t.Errorf("the tenant is given %q: %v", uri.Reveal(), err)
		}
	}
}
